package scenarios

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
)

// This file holds the scenarios about keys, and about nil arguments.

var keys = []Scenario{
	{
		Name: "9",
		Requires: "99,999 calls with NaN for a key, also inside structs and arrays: all run, and less than 1 MiB " +
			"is kept of them; Forget(NaN) does nothing.",
		Needs:   AnyKeys,
		Outside: true,
		Run:     nanKeys,
		Fails:   map[string]string{Resenje: "more than 1 MiB stays"},
	},
	{
		Name:     "10",
		Requires: "A key of type any holds a slice: the call panics, and when that is recovered the group works.",
		Needs:    AnyKeys,
		Outside:  true,
		Run:      unhashableKey,
		Fails:    map[string]string{Resenje: stuck},
	},
	{
		Name:     "11",
		Requires: "fn is nil, or the context: the call panics, and when that is recovered the key works.",
		Outside:  true,
		Run:      nilArguments,
		Fails:    map[string]string{Resenje: stuck},
	},
	{
		Name: "27",
		Requires: "Keys are the same if and only if == says so: +0 and -0, int(1) and int64(1), equal strings at " +
			"different addresses, structs of 1 KiB that differ in the last byte; also if all have one hash.",
		Needs: AnyKeys,
		Run:   equality,
	},
}

func nanKeys(_ *testing.T, p *Peer) error {
	g, nan := p.New(), math.NaN()
	var f faults
	before := heap()
	for range 33333 {
		for _, key := range []any{nan, struct{ x float64 }{nan}, [1]float64{nan}} {
			if v, shared, err := g.Do(key, value(1)); v != 1 || shared || err != nil {
				f.add("a call gets %v, %v and %v", v, shared, err)
			}
		}
	}
	g.Forget(nan)
	if heap() > before+1<<20 {
		f.add("more than 1 MiB stays")
	}
	f.usable(g, "k")
	return f.err()
}

// panics reports whether fn does.
func panics(fn func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	fn()
	return false
}

func unhashableKey(_ *testing.T, p *Peer) error {
	var f faults
	g := p.New()
	if !panics(func() { _, _, _ = g.Do([]int{1}, value(1)) }) {
		f.add("the call does not panic")
	}
	f.usable(g, "k")
	return f.err()
}

func nilArguments(_ *testing.T, p *Peer) error {
	var f faults
	g := p.New()
	if !panics(func() { _, _, _ = g.Do("k", nil) }) {
		f.add("nil fn: the call does not panic")
	}
	f.usable(g, "k")
	if p.Has&Contexts != 0 {
		var none context.Context
		if !panics(func() { _, _, _ = g.DoContext(none, "k", ctxValue(1)) }) {
			f.add("nil context: the call does not panic")
		}
		f.usable(g, "k")
	}
	return f.err()
}

func equality(_ *testing.T, p *Peer) error {
	type large struct{ text [1024]byte }
	var first, second large
	second.text[1023] = 1
	tests := []struct {
		name string
		a, b any
		same bool
	}{
		{"+0 and -0", 0.0, math.Copysign(0, -1), true},
		{"int(1) and int64(1)", int(1), int64(1), false},
		{"equal strings", strings.Repeat("ab", 20), strings.Repeat("abab", 10), true},
		{"equal structs", first, large{}, true},
		{"different structs", first, second, false},
	}
	groups := []func() *Group{p.New}
	if p.Colliding != nil {
		groups = append(groups, p.Colliding)
	}
	for _, newGroup := range groups {
		for _, tt := range tests {
			g, h := newGroup(), newGate()
			g.do(tt.a, h.then(value("a")))
			synctest.Wait()
			b := g.do(tt.b, h.then(value("b")))
			synctest.Wait()
			close(h.open)
			synctest.Wait()
			if want := map[bool]string{true: "a", false: "b"}[tt.same]; !b.got(want) {
				return errors.New("wrong about " + tt.name)
			}
		}
	}
	return nil
}
