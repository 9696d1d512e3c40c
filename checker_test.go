package coalesce_test

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// This file holds the checker of histories; see history_test.go for the rules.

// A violation is what the checker finds.
type violation struct {
	rule int
	text string
}

func (v *violation) Error() string { return fmt.Sprintf("rule %d: %s", v.rule, v.text) }

// findings keeps, of the violations that are found, one of the lowest rule: the
// others tend to follow from it.
type findings struct {
	first *violation
}

func (f *findings) refuse(rule int, format string, args ...any) {
	if f.first == nil || rule < f.first.rule {
		f.first = &violation{rule, fmt.Sprintf(format, args...)}
	}
}

// check returns a violation, or nil if there is none. Nothing may still be
// writing h.
func (h *history) check() error {
	var found findings
	keys := map[int]*keyHistory{}
	of := func(key int) *keyHistory {
		if keys[key] == nil {
			keys[key] = &keyHistory{findings: &found, closing: h.closing, lingering: h.lingering, runs: map[token]*run{}}
		}
		return keys[key]
	}
	for _, client := range h.calls {
		for i := range client {
			c := &client[i]
			if c.inv == 0 {
				continue // nested in an fn that did not run
			}
			k := of(c.key)
			k.calls = append(k.calls, c)
			if c.exec.runs > 0 {
				k.runs[c.token] = &run{callRecord: c, minRet: never, lingers: h.lingering && c.exec.how == exitReturn}
			}
		}
	}
	for _, client := range h.forgets {
		for i := range client {
			k := of(client[i].key)
			k.forgets = append(k.forgets, &client[i])
		}
	}
	for _, note := range h.notes {
		found.refuse(10, "%s", note)
	}
	for _, k := range keys {
		for _, c := range k.calls {
			k.attribute(c)
		}
	}
	if found.first != nil {
		return found.first // the rest builds on it
	}
	for _, k := range keys {
		for _, r := range k.runs {
			k.checkRun(r)
		}
		k.checkOverlaps()
		k.checkForgets()
		k.checkNameless()
	}
	if found.first != nil {
		return found.first
	}
	return nil
}

// A run is an execution as those who received it saw it.
type run struct {
	*callRecord // the leader's

	receivers      int
	told           int // of them, shared
	mute           int // of them, not in a position to be told
	maxInv, minRet stamp
	until          stamp // the last instant at which it can have been registered
	lingers        bool  // or may
}

// finish returns the earliest instant at which r can have finished.
func (r *run) finish() stamp {
	if r.lingers {
		return r.exec.end
	}
	return max(r.exec.end, r.maxInv)
}

// A keyHistory is the part of a history that is about one key: keys do not
// disturb each other.
type keyHistory struct {
	*findings

	calls   []*callRecord
	runs    map[token]*run
	forgets []*forgetRecord
	left    []*callRecord // got their own context's end
	closed  []*callRecord // got ErrClosed
	closing stamp

	lingering bool
}

// attribute checks what c got by itself and adds it to the run that it got.
func (k *keyHistory) attribute(c *callRecord) {
	if c.exec.runs > 1 {
		k.refuse(1, "fn of %v ran %d times", c.token, c.exec.runs)
	}
	if c.exec.runs == 1 && c.exec.end == 0 {
		k.refuse(1, "fn of %v never ended", c.token)
	}
	switch c.got {
	case gotResult:
		r := k.runs[c.from]
		if r == nil || r.exec.how != c.how {
			k.refuse(1, "%v got what no fn of its key ended with: exit %d of %v", c.token, c.how, c.from)
			return
		}
		if c.exec.runs == 1 && r.callRecord != c {
			k.refuse(1, "%v led and got the result of %v", c.token, c.from)
		}
		r.receivers++
		r.maxInv = max(r.maxInv, c.inv)
		r.minRet = min(r.minRet, c.ret)
		if c.shared {
			r.told++
		} else if c.try || c.untold {
			r.mute++
		}
		if c.fresh && r.exec.start < c.inv {
			k.refuse(8, "DoFresh %v began at %d and got the execution of %v, which started at %d", c.token, c.inv, c.from, r.exec.start)
		}
	case gotGoexit:
		if c.exec.runs == 0 {
			return // see checkNameless
		}
		if c.exec.how != exitGoexit {
			k.refuse(1, "%v got ErrGoexit, and its own fn ended otherwise", c.token)
		}
		r := k.runs[c.token]
		r.receivers++
		r.maxInv, r.minRet = c.inv, c.ret
	case gotOwnEnd:
		k.left = append(k.left, c)
	case gotClosed:
		if c.exec.runs != 0 {
			k.refuse(1, "%v got ErrClosed, and its fn ran", c.token)
		}
		if c.ret < k.closing {
			k.refuse(9, "%v got ErrClosed before Shutdown was called", c.token)
		}
		k.closed = append(k.closed, c)
	case gotInFlight:
		if c.exec.runs != 0 || !c.try {
			k.refuse(9, "%v got ErrInFlight", c.token)
		}
	case noAnswer:
		k.refuse(9, "%v was never answered", c.token)
	default:
		k.refuse(9, "%v got nonsense: %s", c.token, c.note)
	}
}

// checkRun checks an execution against its receivers.
func (k *keyHistory) checkRun(r *run) {
	if r.exec.start < r.inv {
		k.refuse(2, "fn of %v started before its call began", r.token)
	}
	if r.exec.end > r.minRet {
		k.refuse(2, "fn of %v ended at %d, and a receiver returned at %d", r.token, r.exec.end, r.minRet)
	}
	if r.lingers {
		k.checkNewest(r)
	} else if r.maxInv > r.minRet {
		k.refuse(3, "the result of %v was had at %d and given to a call that began at %d", r.token, r.minRet, r.maxInv)
	}
	if r.exec.canceled && r.receivers > 0 && k.closing == never {
		k.refuse(6, "the context of %v ended although %d calls received its result", r.token, r.receivers)
	}
	if k.lingering {
		return
	}
	if r.receivers > 1 && r.told+r.mute < r.receivers {
		k.refuse(7, "%d calls received the result of %v, and %d of them were told that they shared it", r.receivers, r.token, r.told)
	}
	if r.receivers == 1 && r.told == 1 && !anyOverlaps(k.left, r.inv, r.minRet) {
		k.refuse(7, "%v alone received its result and was told that it shared it", r.token)
	}
}

// checkNewest checks rule 3 for r, which lingers: nobody gets it who began after
// somebody had a newer one.
func (k *keyHistory) checkNewest(r *run) {
	for _, o := range k.runs {
		if o.lingers && o.exec.start >= r.exec.end && o.minRet < r.maxInv {
			k.refuse(3, "the result of %v was given to a call that began at %d, and that of %v, which is newer, was had at %d",
				r.token, r.maxInv, o.token, o.minRet)
		}
	}
}

// anyOverlaps reports whether one of calls overlaps [from, to].
func anyOverlaps(calls []*callRecord, from, to stamp) bool {
	return slices.ContainsFunc(calls, func(c *callRecord) bool {
		return c.inv <= to && c.ret >= from
	})
}

// checkOverlaps checks rule 4 and sets the runs' until.
func (k *keyHistory) checkOverlaps() {
	forgotten := newSpans(k.forgets)
	runs := make([]*run, 0, len(k.runs))
	for _, r := range k.runs {
		r.until = r.minRet
		runs = append(runs, r)
	}
	slices.SortFunc(runs, func(a, b *run) int { return cmp.Compare(a.exec.start, b.exec.start) })
	var open []*run // those that a Forget lets be followed before they end
	for _, r := range runs {
		open = slices.DeleteFunc(open, func(o *run) bool { return o.finish() <= r.exec.start })
		for _, o := range open {
			if !forgotten.overlap(min(o.inv, r.inv), r.exec.start) {
				k.refuse(4, "executions of key %d overlap: %v in [%d, %d], %v from %d on", r.key,
					o.token, o.exec.start, o.finish(), r.token, r.exec.start)
			}
		}
		open = append(open, r)
	}
	for i := 1; i < len(runs); i++ {
		a, b := runs[i-1], runs[i]
		if !forgotten.overlap(min(a.inv, b.inv), b.exec.start) {
			a.until = min(a.until, b.exec.start)
		}
	}
}

// checkForgets checks rule 5.
func (k *keyHistory) checkForgets() {
	var fs []*forgetRecord // those after which the key had no flight from before
	for _, f := range k.forgets {
		if f.done || !f.unshared {
			fs = append(fs, f)
		}
	}
	slices.SortFunc(fs, func(a, b *forgetRecord) int { return cmp.Compare(a.inv, b.inv) })
	minRet := make([]stamp, len(fs)+1) // over those from i on
	minRet[len(fs)] = never
	for i := len(fs) - 1; i >= 0; i-- {
		minRet[i] = min(minRet[i+1], fs[i].ret)
	}
	for _, c := range k.calls {
		if c.got != gotResult {
			continue
		}
		start := k.runs[c.from].exec.start
		i := sort.Search(len(fs), func(i int) bool { return fs[i].inv > start })
		if minRet[i] < c.inv {
			k.refuse(5, "%v began at %d, after a Forget, and got %v, which started before that at %d", c.token, c.inv, c.from, start)
		}
	}
}

// checkNameless checks the answers that name no execution: there must be one
// that they can come from.
func (k *keyHistory) checkNameless() {
	for _, c := range k.calls {
		switch {
		case c.got == gotGoexit && c.exec.runs == 0:
			if !k.anyRun(func(r *run) bool {
				return r.exec.how == exitGoexit && r.exec.end <= c.ret && c.inv <= r.until && (!c.fresh || c.inv <= r.exec.start)
			}) {
				k.refuse(1, "%v got ErrGoexit, and no fn can have exited for it", c.token)
			}
		case c.got == gotInFlight:
			// What was in flight may never have run: all left it, or it was
			// rejected.
			if !anyOverlaps(k.left, c.inv, c.ret) && !anyOverlaps(k.closed, c.inv, c.ret) &&
				!k.anyRun(func(r *run) bool { return r.inv <= c.ret && c.inv <= r.until }) {
				k.refuse(9, "%v got ErrInFlight, and nothing was in flight", c.token)
			}
		}
	}
}

func (k *keyHistory) anyRun(ok func(*run) bool) bool {
	for _, r := range k.runs {
		if ok(r) {
			return true
		}
	}
	return false
}

// spans answers which intervals a successful Forget overlaps.
type spans struct {
	fs     []*forgetRecord // by inv
	maxRet []stamp         // over those up to i
}

func newSpans(forgets []*forgetRecord) spans {
	var s spans
	for _, f := range forgets {
		if f.done {
			s.fs = append(s.fs, f)
		}
	}
	slices.SortFunc(s.fs, func(a, b *forgetRecord) int { return cmp.Compare(a.inv, b.inv) })
	m := stamp(0)
	for _, f := range s.fs {
		m = max(m, f.ret)
		s.maxRet = append(s.maxRet, m)
	}
	return s
}

func (s spans) overlap(from, to stamp) bool {
	n := sort.Search(len(s.fs), func(i int) bool { return s.fs[i].inv > to })
	return n > 0 && s.maxRet[n-1] >= from
}
