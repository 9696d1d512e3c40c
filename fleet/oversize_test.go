package fleet

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// This file tests values that cannot be stored.

// TestOversize: the callers of the leader's process have such a value. Those of others run
// fn themselves, at once and not one by one, or get ErrOversize.
func TestOversize(t *testing.T) {
	big := strings.Repeat("v", 1001)
	for name, set := range map[string]func(*group){
		"size": func(g *group) { g.MaxResult = 1000 },
		"encode": func(g *group) {
			g.Codec = badCodec{encode: func(string) ([]byte, error) { return nil, errors.New("no bytes") }}
		},
	} {
		for _, policy := range []Policy{RunLocally, Fail} {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					g, e := processes(4, func(g *group) {
						g.Oversize = policy
						set(g)
					})
					var w work
					a := call(t.Context(), g[0], "k", w.after(time.Second, big))
					later(0)
					var calls []*outcome
					for _, g := range g[1:] {
						calls = append(calls, call(t.Context(), g, "k", w.after(time.Second, big)))
					}
					a.is(t, big, Led)
					for _, o := range calls {
						if policy == RunLocally {
							o.is(t, big, Local)
							o.between(t, 2*time.Second, 2*time.Second)
						} else if o.get(); !errors.Is(o.err, ErrOversize) || o.took != time.Second {
							t.Errorf("got %v after %v, want %v", o.err, o.took, ErrOversize)
						}
					}
					w.ran(t, map[Policy]int32{RunLocally: 4, Fail: 1}[policy])
					left(t, e[0], g...)
				})
			})
		}
	}
}

// TestOversize_Fits: a value of MaxResult bytes is stored, sealed or not.
func TestOversize_Fits(t *testing.T) {
	big := strings.Repeat("v", 1000)
	for _, secrets := range [][][]byte{nil, {[]byte("a secret of 24 bytes....")}} {
		bubble(t, func(t *testing.T) {
			g, _ := processes(2, func(g *group) { g.MaxResult, g.Secrets = 1000, secrets })
			var w work
			call(t.Context(), g[0], "k", w.after(time.Second, big))
			later(0)
			call(t.Context(), g[1], "k", w.after(time.Second, big)).is(t, big, Followed)
		})
	}
}
