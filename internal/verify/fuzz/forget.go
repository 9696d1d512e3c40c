package fuzz

import (
	"fmt"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce/internal/verify/model"
)

// This file holds the steps of FuzzGroup that forget.

// A fuzzFlight is a flight that Flights has reported.
type fuzzFlight struct {
	id    uint64
	model *model.Flight // nil in batches
	last  int           // number of the last batch in which it was reported
}

// from calls forget, from inside r unless that is nil.
func (d *driver) from(r *fuzzRun, forget func()) {
	if r == nil {
		forget()
		return
	}
	r.commands <- fuzzCommand{do: forget}
	synctest.Wait()
}

// forget forgets a key, from inside an fn if arg says so.
func (d *driver) forget(op, arg byte) {
	var r *fuzzRun
	if arg&argInside != 0 && d.m != nil {
		r = pick(d.running(), arg>>3)
	}
	key := d.keyOf(arg)
	d.tracef("forget: op %d key %d inside %t", op, key, r != nil)
	forget, count := d.g.Forget, &d.forgotten
	if op == opForgetUnshared {
		forget, count = d.g.ForgetUnshared, &d.maybe
	}
	var got bool
	d.from(r, func() { got = forget(groupKey(key)) })
	if got {
		*count++
	}
	if d.m == nil {
		return
	}
	want := false
	if op == opForgetUnshared {
		want = d.m.ForgetUnshared(key)
	} else {
		want = d.m.Forget(key)
	}
	if got != want {
		d.errorf("forget returned %t, want %t", got, want)
	}
}

// forgetFunc forgets a set of keys, from inside an fn if arg says so.
func (d *driver) forgetFunc(arg byte) {
	var r *fuzzRun
	if arg&argMatchInside != 0 && d.m != nil {
		r = pick(d.running(), arg>>5)
	}
	d.tracef("forget the keys of the set %04b, inside %t", arg&argMatch, r != nil)
	matches := func(key int) bool { return arg>>(key&argKey)&1 != 0 } // NaN is the last
	asked := map[int]int{}
	got := 0
	d.from(r, func() {
		got = d.g.ForgetFunc(func(key float64) bool {
			asked[modelKey(key)]++
			d.g.Len() // if a lock were held, this would lock it twice
			return matches(modelKey(key))
		})
	})
	d.forgotten += got
	if d.m == nil {
		return
	}
	for _, f := range d.m.Flights() {
		if matches(f.Key) && f.State != model.Queued && !f.Forgotten {
			d.reach("ForgetFunc forgets", f)
		}
	}
	if n, _ := d.m.Lingering(); n > 0 && got > d.m.Len() {
		d.reach("ForgetFunc drops", nil)
	}
	has := map[int]int{} // the number of flights and outcomes
	want := d.m.ForgetFunc(func(key int) bool {
		has[key]++
		return matches(key)
	})
	if got != want {
		d.errorf("ForgetFunc returned %d, want %d", got, want)
	}
	for key := model.NaN; key <= argKey; key++ {
		// match may also be called for outcomes that have expired and are not freed.
		if n := asked[key]; n > 2 && key != model.NaN || has[key] > 0 && n == 0 || key == model.NaN && n != has[key] {
			d.errorf("match was called %d times for key %d, which had %d flights and outcomes", n, key, has[key])
		}
	}
}

// forgetFlight forgets a flight that Flights has reported, or tries to forget one that
// never was.
func (d *driver) forgetFlight(arg byte) {
	var among []*fuzzFlight
	for _, f := range d.flights {
		if f.last == d.batch-1 || arg&argPast != 0 {
			among = append(among, f)
		}
	}
	f := &fuzzFlight{} // with the ID 0
	if arg&argZero == 0 {
		among = append(among, &fuzzFlight{id: 1<<40 + uint64(arg)}) // the ID of no flight
		f = among[int(arg&argFlight)%len(among)]
	}
	id, of := f.id, f.model
	got := d.g.ForgetFlight(id)
	if got {
		d.forgotten++
	}
	d.tracef("forget flight %d: %t", id, got)
	if d.m == nil {
		return
	}
	d.reach(fmt.Sprintf("ForgetFlight is %t", got), of)
	if want := of != nil && d.m.ForgetFlight(of); got != want {
		d.errorf("ForgetFlight(%d) returned %t, want %t for %+v", id, got, want, of)
	}
}
