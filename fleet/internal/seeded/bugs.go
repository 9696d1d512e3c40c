package main

// A bug is one that is planted.
type bug struct {
	name  string
	edits []edit

	// equivalent says why the bug cannot be seen, if it cannot.
	equivalent string
}

// An edit replaces text that a file has once.
type edit struct{ file, old, new string }

var bugs = []bug{
	// What was made, though it was not answered.
	{name: "no nonce check: a swap does not know its own record", edits: []edit{{
		"swap.go", "if seen.read && seen.rec.nonce == own &&", "if false && seen.rec.nonce == own &&",
	}}},
	{name: "no nonce check: a follower does not know its own lease", edits: []edit{{
		"sight.go", "return t.nonce == rec.nonce })", "return false && t.nonce == rec.nonce })",
	}}},
	{name: "an acquire that was not answered is left", edits: []edit{{
		"release.go", "if len(r.tries) == 0 || r.budget.misses == 0 {", "if true {",
	}}},
	{name: "a renewal that was cut off is left unresolved", edits: []edit{{
		"publish.go", "t.setRevision(got.rev)\n", "return dropped, sight{}, nil\n",
	}}},
	{name: "a renewal that was made and not answered is a loss", edits: []edit{{
		"renew.go", "		t.setRevision(seen.rev) // acked stays, as it is not known which try that was\n		t.retry()\n", "		t.end(ErrLeaseLost)\n",
	}}},

	// What answers a call.
	{name: "no joined check", edits: []edit{
		{"sight.go", "	case rec.token < r.joined: // R3\n		return false\n", ""},
		{"sight.go", "		case rec.token < r.joined:\n			return next{}\n", ""},
	}},
	{name: "any result answers", edits: []edit{{
		"sight.go", "	case r.joined != 0 || r.hasFloor && seen.rev > r.floor:", "	case true:",
	}}},
	{name: "a result that was there before answers", edits: []edit{{
		"sight.go", "r.hasFloor && seen.rev > r.floor:", "r.hasFloor && seen.rev >= r.floor:",
	}}},
	{name: "a fresh call takes what has begun before", edits: []edit{{
		"sight.go", "	case r.fresh:\n		return r.hasFloor && rec.token > r.floor\n", "",
	}}},
	{name: "a fresh call joins what has begun before", edits: []edit{
		{"sight.go", "	if r.fresh && (!r.hasFloor || rec.token <= r.floor) {", "	if false {"},
		{"sight.go", "		return r.hasFloor && rec.token > r.floor\n", "		return r.joined != 0 || r.hasFloor && rec.token > r.floor\n"},
	}},
	{name: "the floor of a fresh call comes from a read", edits: []edit{{
		"run.go", "if !r.hasFloor && !seen.maybe && seen.rev > 0 {", "if !r.hasFloor && seen.rev > 0 {",
	}}},
	{name: "the Linger counts twice", edits: []edit{{
		"sight.go", "seen.age > 0 && seen.age < r.s.linger:", "seen.age > 0 && seen.age < 2*r.s.linger:",
	}}},
	{name: "rule T from the beginning of the run, not the last call", edits: []edit{{
		"sight.go", "		called = time.Duration(r.activity.called.Load())\n", "		_ = 0\n",
	}}},
	{name: "rule T without a margin", edits: []edit{{
		"sight.go", "seen.age < (seen.at-called)*19/20", "seen.age < (seen.at-called)*11/10",
	}}},
	{name: "what is older than the latest sight counts", edits: []edit{{
		"sight.go", "	case seen.rev < r.latest.rev: // R1\n		return next{}\n	case seen.rev > r.latest.rev:", "	case seen.rev != r.latest.rev:",
	}}},
	{name: "a replaced leader adopts what was there before a call", edits: []edit{{
		"publish.go", "return called <= t.ackedAt() || seen.age > 0 && seen.at-seen.age >= called", "return true || called == 0",
	}}},
	{name: "a cancellation is published", edits: []edit{{
		"lead.go", "			return record{kind: released}\n", "			_ = 0\n",
	}}},

	// When a lease is taken over.
	{name: "expiry at a third", edits: []edit{{
		"sight.go", "r.expiry = seen.at + d + d/20 +", "r.expiry = seen.at + d/3 + d/20 +",
	}}},
	{name: "expiry after nine tenths", edits: []edit{{
		"sight.go", "r.expiry = seen.at + d + d/20 +", "r.expiry = seen.at + d*9/10 +",
	}}},
	{name: "expiry without a margin", edits: []edit{{
		"sight.go", "r.expiry = seen.at + d + d/20 + r.s.clock.random(d/20+1) // C3", "r.expiry = seen.at + d",
	}}},
	{name: "no expiry", edits: []edit{{
		"follow.go", "		case now >= r.expiry:\n", "		case false:\n",
	}}},
	{name: "who has joined and finds nothing acquires at once", edits: []edit{{
		"sight.go", "case seen.rev == 0 && (r.latest.rev == 0 || !r.latest.read && r.joined == 0):", "case seen.rev == 0:",
	}}},
	{name: "a hint is trusted for a lease", edits: []edit{{
		"sight.go", "	r.activity.set(Following, rec.token, rec.process, int(rec.attempt))\n", "	r.activity.set(Following, rec.token, rec.process, int(rec.attempt))\n	r.s.hints.put(r.name, r.latest.rev, r.latest.at)\n",
	}}},
	{name: "squatters stay", edits: []edit{{
		"follow.go", "	if r.s.maxAge == 0 {", "	if true {",
	}}},
	{name: "the answer to an acquire may come too late", edits: []edit{{
		"run.go", "if r.late() || fctx.Err() != nil {", "if fctx.Err() != nil {",
	}}},
	{name: "the answer to an acquire may come too late by the wall clock", edits: []edit{{
		"run.go", " || c.wall().Sub(r.held.wall) >= r.s.lease", "",
	}}},
	{name: "a lease is released that is another's by now, and swapped for", edits: []edit{{
		"release.go", "			return 0, nil\n		}\n		rev = got.rev", "			return got.rev, nil\n		}\n		rev = got.rev",
	}}},
	{name: "no read before a takeover", edits: []edit{{
		"follow.go", "			seen, n := r.read(fctx, true)\n			if n.step != stepWait || seen.rev > r.latest.rev || s.clock.now() < r.expiry {\n				return seen, n\n			}\n", "",
	}}, equivalent: "the swap finds the same, and so it costs a swap at most"},
	{name: "an acquire for no caller leads", edits: []edit{{
		"run.go", "if r.late() || fctx.Err() != nil {", "if r.late() {",
	}}},

	// The leader.
	{name: "renewal without a comparison", edits: []edit{{
		"renew.go", "	prev := t.rev\n	t.mu.Unlock()\n", "	prev := t.rev\n	t.mu.Unlock()\n	if rec, err := s.engine.Load(ctx, t.r.name); err == nil {\n		prev = rec.Rev\n	}\n",
	}}},
	{name: "the TTL is below the lease", edits: []edit{
		{"run.go", "got, err := r.swapWith(b, fctx, n.attempt > 0, n.prev, val, s.ttl(), mine.nonce)", "got, err := r.swapWith(b, fctx, n.attempt > 0, n.prev, val, s.lease/2, mine.nonce)"},
		{"renew.go", "t.r.box.encode(&t.own), s.ttl())", "t.r.box.encode(&t.own), s.lease/2)"},
	}},
	{name: "the TTL of a result is below a heartbeat", edits: []edit{{
		"publish.go", "	ttl := t.r.s.ttl()\n", "	ttl := t.r.s.lease / 4\n",
	}}},
	{name: "no renewal", edits: []edit{{
		"renew.go", "	t.stop = c.after(", "	_ = c.after\n	t.stop = func(time.Duration, func()) func() bool { return func() bool { return true } }(",
	}}},
	{name: "renewal stops after one error", edits: []edit{{
		"renew.go", "	t.schedule(now + firstWait)\n", "	_ = firstWait\n",
	}}},
	{name: "renewal goes on after MaxAge", edits: []edit{{
		"renew.go", "if m := t.r.s.maxAge; m > 0 && at-t.began >= m {", "if m := t.r.s.maxAge; m < 0 {",
	}}},
	{name: "renewal goes on after fn", edits: []edit{{
		"renew.go", "	t.over = true\n	if t.stop != nil {\n		t.stop()\n	}\n	if t.cut != nil {\n		t.cut()\n	}\n", "",
	}}},
	{name: "a replaced leader does not notice", edits: []edit{{
		"renew.go", "		t.lost = true\n", "		t.rev = c.Record.Rev\n",
	}}},
	{name: "a forgotten leader renews", edits: []edit{{
		"renew.go", "		t.drop(seen.written())\n", "		t.setRevision(seen.rev)\n		t.retry()\n",
	}}},
	{name: "a lost record is not written again", edits: []edit{{
		"renew.go", "			t.rev = 0\n", "			t.void = true\n",
	}}},
	{name: "a lost record is written again however late", edits: []edit{
		{"swap.go", "		if prev == 0 && r.tenure != nil && !r.tenure.mayWrite() {", "		if false {"},
		{"renew.go", "	if t.rev == 0 && !t.holds() {", "	if false {"},
		{"renew.go", "		if t.holds() { // the engine", "		if true { // the engine"},
	}},
	{name: "a result is written for whatever is there", edits: []edit{{
		"publish.go", "		got, err := r.swapWith(b, context.Background(), true, prev, val, ttl, t.own.nonce)\n",
		"		if rec, err := s.engine.Load(context.Background(), r.name); err == nil {\n			prev = rec.Rev\n		}\n		got, err := r.swapWith(b, context.Background(), true, prev, val, ttl, t.own.nonce)\n",
	}}},
	{name: "Released on a conflict", edits: []edit{{
		"publish.go", "			s.stats.lost.Add(1)\n			return what, got.sight, nil\n", "			s.stats.lost.Add(1)\n			r.release(got.rec.nonce, got.rec.token, got.rev)\n			return what, got.sight, nil\n",
	}}},
	{name: "no Released when fn ends with its context, as on Shutdown", edits: []edit{{
		"lead.go", "			r.release(t.own.nonce, t.own.token, t.revision())\n", "			_ = 0\n",
	}}},
	{name: "an unpublished result is given up", edits: []edit{{
		"publish.go", "			_, _, _ = t.store(s.ownBudget(t.ackedAt()+s.lease-s.clock.now()), rec.kind, val, ttl)\n", "",
	}}},
	{name: "no Hold", edits: []edit{{
		"lead.go", "		coalesce.Hold(fctx)\n", "		_ = coalesce.Hold\n",
	}}},

	// Waiting.
	{name: "no read after silence", edits: []edit{{
		"follow.go", "due := min(r.expiry, r.news+s.heartbeat(&r.latest)*5/4)", "due := r.expiry",
	}}},
	{name: "no second read", edits: []edit{{
		"follow.go", "r.armed, r.again = r.s.clock.now(), true", "r.armed, r.again = r.s.clock.now(), false",
	}}},
	{name: "the read comes before the subscription", edits: []edit{{
		"follow.go", "	w := newWatch()\n", "	w := newWatch()\n	if n, err := r.load(&r.budget, fctx); err == nil {\n		if n := r.judge(n); n.step != stepWait {\n			r.watch = w\n			return n\n		}\n	}\n",
	}}, equivalent: "a second read follows, so that it costs time only"},
	{name: "a subscription is left", edits: []edit{{
		"follow.go", "		r.watch.stop()\n", "		_ = 0\n",
	}}},
	{name: "a push without its value is dropped", edits: []edit{{
		"follow.go", "			return r.read(fctx, false) // a hint, or a reconnect\n", "			continue\n",
	}}},

	// Outages.
	{name: "a budget for each operation", edits: []edit{{
		"budget.go", "	for wait := firstWait; ; wait", "	left := b.left\n	defer func() { b.left = left }()\n	for wait := firstWait; ; wait",
	}}},
	{name: "no limit of a try", edits: []edit{{
		"budget.go", "		limit := min(b.tryFor, b.left)\n", "		limit := b.left\n",
	}}},
	{name: "the breaker does not open", edits: []edit{{
		"budget.go", "	return k.isSet\n", "	return false\n",
	}}},
	{name: "the breaker does not close", edits: []edit{{
		"budget.go", "	k.isSet, k.silent = false, false\n", "	k.silent = false\n",
	}}},

	// Forget.
	{name: "Forget without a swap", edits: []edit{{
		"forget.go", "	forgotten, err := s.forget(ctx, key)\n", "	forgotten, err := false, error(nil)\n",
	}}},
	{name: "Forget only in this process", edits: []edit{{
		"forget.go", "		got, err := r.swap(ctx, seen.rev, r.box.encode(&rec), 2*s.lease, own)\n", "		got, err := swapped{mine: true}, error(nil)\n		_ = rec\n",
	}}},
	{name: "Forget not in this process", edits: []edit{{
		"forget.go", "	return s.core.Forget(key) || forgotten, endOr(ctx, err)\n", "	return forgotten, endOr(ctx, err)\n",
	}}},
	{name: "a call joins a forgotten leader", edits: []edit{{
		"lead.go", "	return t.dropped && time.Duration(", "	return false && time.Duration(",
	}}},
}
