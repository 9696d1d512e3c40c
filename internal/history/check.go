package history

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// This file holds the checker of histories; see history.go for the rules.

// A Violation is a rule that is broken, and how.
type Violation struct {
	Rule int
	Text string
}

// Error implements error.
func (v *Violation) Error() string { return fmt.Sprintf("rule %d: %s", v.Rule, v.Text) }

// findings keeps, of the violations that are found, one of the lowest rule: the
// others tend to follow from it.
type findings struct {
	first *Violation
}

func (f *findings) refuse(rule int, format string, args ...any) {
	if f.first == nil || rule < f.first.Rule {
		f.first = &Violation{rule, fmt.Sprintf(format, args...)}
	}
}

// Check returns a [*Violation], or nil if there is none. Nothing may still be
// writing h.
func (h *History) Check() error {
	var found findings
	keys := map[int]*keyHistory{}
	shut := Never // when somebody had ErrClosed
	of := func(key int) *keyHistory {
		if keys[key] == nil {
			keys[key] = &keyHistory{findings: &found, closing: h.Closing, lingering: h.Lingering, aging: h.Aging, runs: map[Token]*run{}}
		}
		return keys[key]
	}
	for _, client := range h.Calls {
		for i := range client {
			c := &client[i]
			if c.Inv == 0 {
				continue // nested in an fn that did not run
			}
			k := of(c.Key)
			k.calls = append(k.calls, c)
			if c.Got == GotClosed {
				shut = min(shut, c.Ret)
			}
			if c.Exec.Runs > 0 {
				k.runs[c.Token] = &run{Call: c, minRet: Never, lingers: h.Lingering && c.Exec.How == ExitReturn}
			}
		}
	}
	for _, client := range h.Forgets {
		for i := range client {
			k := of(client[i].Key)
			k.forgets = append(k.forgets, &client[i])
		}
	}
	for _, note := range h.Notes {
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
		forgotten := newSpans(k.forgets)
		for _, r := range k.runs {
			if r.Inv > shut {
				found.refuse(9, "fn of %v ran, whose call began at %d, and a call had ErrClosed at %d", r.Token, r.Inv, shut)
			}
			k.checkRun(r, forgotten)
		}
		k.checkOverlaps(forgotten)
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
	*Call // the leader's

	receivers      int
	told           int // of them, shared
	mute           int // of them, not in a position to be told
	maxInv, minRet Stamp
	until          Stamp // the last instant at which it can have been registered
	lingers        bool  // or may
}

// finish returns the earliest instant at which r can have finished.
func (r *run) finish() Stamp {
	if r.lingers {
		return r.Exec.End
	}
	return max(r.Exec.End, r.maxInv)
}

// A keyHistory is the part of a history that is about one key: keys do not
// disturb each other.
type keyHistory struct {
	*findings

	calls     []*Call
	runs      map[Token]*run
	forgets   []*Forget
	left      []*Call // got their own context's end
	closed    []*Call // got ErrClosed
	followers []*Call // of left, those whose fn did not run: they led nothing
	closing   Stamp

	lingering bool
	aging     bool
}

// attribute checks what c got by itself and adds it to the run that it got.
func (k *keyHistory) attribute(c *Call) {
	if c.Exec.Runs > 1 {
		k.refuse(1, "fn of %v ran %d times", c.Token, c.Exec.Runs)
	}
	if c.Exec.Runs == 1 && c.Exec.End == 0 {
		k.refuse(1, "fn of %v never ended", c.Token)
	}
	switch c.Got {
	case GotResult:
		r := k.runs[c.From]
		if r == nil || r.Exec.How != c.How {
			k.refuse(1, "%v got what no fn of its key ended with: exit %d of %v", c.Token, c.How, c.From)
			return
		}
		if c.Exec.Runs == 1 && r.Call != c {
			k.refuse(1, "%v led and got the result of %v", c.Token, c.From)
		}
		r.receivers++
		r.maxInv = max(r.maxInv, c.Inv)
		r.minRet = min(r.minRet, c.Ret)
		if c.Shared {
			r.told++
		} else if c.Try || c.Untold {
			r.mute++
		}
		if c.Fresh && r.Exec.Start < c.Inv {
			k.refuse(8, "DoFresh %v began at %d and got the execution of %v, which started at %d", c.Token, c.Inv, c.From, r.Exec.Start)
		}
	case GotGoexit:
		if c.Exec.Runs == 0 {
			return // see checkNameless
		}
		if c.Exec.How != ExitGoexit {
			k.refuse(1, "%v got ErrGoexit, and its own fn ended otherwise", c.Token)
		}
		r := k.runs[c.Token]
		r.receivers++
		r.maxInv, r.minRet = c.Inv, c.Ret
	case GotOwnEnd:
		k.left = append(k.left, c)
		if c.Exec.Runs == 0 {
			k.followers = append(k.followers, c)
		}
	case GotClosed:
		if c.Exec.Runs != 0 {
			k.refuse(1, "%v got ErrClosed, and its fn ran", c.Token)
		}
		if c.Ret < k.closing {
			k.refuse(9, "%v got ErrClosed before Shutdown was called", c.Token)
		}
		k.closed = append(k.closed, c)
	case GotFull:
		if c.Exec.Runs != 0 {
			k.refuse(1, "%v got ErrSaturated, and its fn ran", c.Token)
		}
	case GotInFlight:
		if c.Exec.Runs != 0 || !c.Try {
			k.refuse(9, "%v got ErrInFlight", c.Token)
		}
	case NoAnswer:
		k.refuse(9, "%v was never answered", c.Token)
	default:
		k.refuse(9, "%v got nonsense: %s", c.Token, c.Note)
	}
}

// checkRun checks an execution against its receivers. A flight that may have been
// detached by one of forgotten is another matter where successes linger.
func (k *keyHistory) checkRun(r *run, forgotten spans) {
	if r.Exec.Start < r.Inv {
		k.refuse(2, "fn of %v started before its call began", r.Token)
	}
	if r.Exec.End > r.minRet {
		k.refuse(2, "fn of %v ended at %d, and a receiver returned at %d", r.Token, r.Exec.End, r.minRet)
	}
	if r.lingers {
		k.checkNewest(r, forgotten)
	} else if r.maxInv > r.minRet {
		k.refuse(3, "the result of %v was had at %d and given to a call that began at %d", r.Token, r.minRet, r.maxInv)
	}
	if r.Exec.Canceled && r.receivers > 0 && r.Exec.End < k.closing {
		k.refuse(6, "the context of %v ended although %d calls received its result", r.Token, r.receivers)
	}
	if k.lingering {
		return
	}
	if r.receivers > 1 && r.told+r.mute < r.receivers {
		k.refuse(7, "%d calls received the result of %v, and %d of them were told that they shared it", r.receivers, r.Token, r.told)
	}
	if r.receivers == 1 && r.told == 1 && r.Got != GotOwnEnd && !anyOverlaps(k.followers, r.Inv, r.minRet) {
		k.refuse(7, "%v alone received its result and was told that it shared it", r.Token)
	}
}

// checkNewest checks rule 3 for r, which lingers: nobody gets it who began after
// somebody had a newer one, unless that one had been forgotten and lingers not.
func (k *keyHistory) checkNewest(r *run, forgotten spans) {
	for _, o := range k.runs {
		if o.lingers && o.Exec.Start >= r.Exec.End && o.minRet < r.maxInv && !forgotten.overlap(o.Inv, o.minRet) {
			k.refuse(3, "the result of %v was given to a call that began at %d, and that of %v, which is newer, was had at %d",
				r.Token, r.maxInv, o.Token, o.minRet)
		}
	}
}

// anyOverlaps reports whether one of calls overlaps [from, to].
func anyOverlaps(calls []*Call, from, to Stamp) bool {
	return slices.ContainsFunc(calls, func(c *Call) bool {
		return c.Inv <= to && c.Ret >= from
	})
}

// checkOverlaps checks rule 4 and sets the runs' until.
func (k *keyHistory) checkOverlaps(forgotten spans) {
	runs := make([]*run, 0, len(k.runs))
	for _, r := range k.runs {
		r.until = r.minRet
		runs = append(runs, r)
	}
	slices.SortFunc(runs, func(a, b *run) int {
		// Of those that start in one instant, the first has finished in it.
		return cmp.Or(cmp.Compare(a.Exec.Start, b.Exec.Start), cmp.Compare(a.finish(), b.finish()))
	})
	var open []*run // those that a Forget lets be followed before they end
	for _, r := range runs {
		open = slices.DeleteFunc(open, func(o *run) bool { return o.finish() <= r.Exec.Start })
		for _, o := range open {
			if !k.aging && !forgotten.overlap(min(o.Inv, r.Inv), r.Exec.Start) {
				k.refuse(4, "executions of key %d overlap: %v in [%d, %d], %v from %d on", r.Key,
					o.Token, o.Exec.Start, o.finish(), r.Token, r.Exec.Start)
			}
		}
		open = append(open, r)
	}
	for i := 1; i < len(runs); i++ {
		a, b := runs[i-1], runs[i]
		if !k.aging && !forgotten.overlap(min(a.Inv, b.Inv), b.Exec.Start) {
			a.until = min(a.until, b.Exec.Start)
		}
	}
}

// checkForgets checks rule 5.
func (k *keyHistory) checkForgets() {
	var fs []*Forget // those after which the key had no flight from before
	for _, f := range k.forgets {
		if f.Done || !f.Unshared {
			fs = append(fs, f)
		}
	}
	slices.SortFunc(fs, func(a, b *Forget) int { return cmp.Compare(a.Inv, b.Inv) })
	minRet := make([]Stamp, len(fs)+1) // over those from i on
	minRet[len(fs)] = Never
	for i := len(fs) - 1; i >= 0; i-- {
		minRet[i] = min(minRet[i+1], fs[i].Ret)
	}
	for _, c := range k.calls {
		if c.Got != GotResult {
			continue
		}
		start := k.runs[c.From].Exec.Start
		i := sort.Search(len(fs), func(i int) bool { return fs[i].Inv > start })
		if minRet[i] < c.Inv {
			k.refuse(5, "%v began at %d, after a Forget, and got %v, which started before that at %d", c.Token, c.Inv, c.From, start)
		}
	}
}

// checkNameless checks the answers that name no execution: there must be one
// that they can come from.
func (k *keyHistory) checkNameless() {
	for _, c := range k.calls {
		switch {
		case c.Got == GotGoexit && c.Exec.Runs == 0:
			if !k.anyRun(func(r *run) bool {
				return r.Exec.How == ExitGoexit && r.Exec.End <= c.Ret && c.Inv <= r.until && (!c.Fresh || c.Inv <= r.Exec.Start)
			}) {
				k.refuse(1, "%v got ErrGoexit, and no fn can have exited for it", c.Token)
			}
		case c.Got == GotInFlight && !k.inFlight(c):
			k.refuse(9, "%v got ErrInFlight, and nothing was in flight", c.Token)
		case c.Got == GotFull && !k.inFlight(c):
			k.refuse(9, "%v got ErrSaturated, and nothing was in flight", c.Token)
		}
	}
}

// inFlight reports whether something can have been in flight during c. That may
// never have run: all left it, or it was rejected.
func (k *keyHistory) inFlight(c *Call) bool {
	return anyOverlaps(k.left, c.Inv, c.Ret) || anyOverlaps(k.closed, c.Inv, c.Ret) ||
		k.anyRun(func(r *run) bool { return r.Inv <= c.Ret && c.Inv <= r.until })
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
	fs     []*Forget // by inv
	maxRet []Stamp   // over those up to i
}

func newSpans(forgets []*Forget) spans {
	var s spans
	for _, f := range forgets {
		if f.Done {
			s.fs = append(s.fs, f)
		}
	}
	slices.SortFunc(s.fs, func(a, b *Forget) int { return cmp.Compare(a.Inv, b.Inv) })
	m := Stamp(0)
	for _, f := range s.fs {
		m = max(m, f.Ret)
		s.maxRet = append(s.maxRet, m)
	}
	return s
}

func (s spans) overlap(from, to Stamp) bool {
	n := sort.Search(len(s.fs), func(i int) bool { return s.fs[i].Inv > to })
	return n > 0 && s.maxRet[n-1] >= from
}
