package costs_test

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file holds tests that nothing is kept of outcomes that no call gets, or gets any
// more: of flights that were held and finished without a caller, and of outcomes that
// were forgotten or displaced, or that belong to other keys of a batch.

// A payloadGroup has keys and values that can be collected.
type payloadGroup = coalesce.Group[*kit.Payload, *kit.Payload]

// A traces has weak pointers to the parts of a call, by name.
type traces map[string]weak.Pointer[kit.Payload]

// payload returns a new payload, to which tr keeps a weak pointer.
func (tr traces) payload(name string) *kit.Payload {
	p := new(kit.Payload)
	tr[name] = weak.Make(p)
	return p
}

// wantCollected checks that the group keeps nothing of tr except the parts of the given
// names.
func (tr traces) wantCollected(t *testing.T, g *payloadGroup, but ...string) {
	t.Helper()
	left := maps.Clone(tr)
	for range 20 {
		runtime.GC()
		maps.DeleteFunc(left, func(name string, p weak.Pointer[kit.Payload]) bool {
			return !slices.Contains(but, name) && p.Value() == nil
		})
		if len(left) == len(but) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for name, p := range left {
		if kept := p.Value() != nil; kept != slices.Contains(but, name) {
			t.Errorf("%s: got kept %v, want %v", name, kept, !kept)
		}
	}
	runtime.KeepAlive(g)
}

// TestG12_HeldWithoutCallers: after a flight that was held has finished without a caller,
// the group keeps nothing of it, nor, apart from the values of the leader's context, does
// a context that fn got and that goes on; no matter whether another call had joined the
// flight and left, or it was forgotten, or it fails.
func TestG12_HeldWithoutCallers(t *testing.T) {
	type payloadKey struct{}
	for _, lead := range []string{"DoContext", "DoChan", "DoFresh", "DoMulti"} {
		for _, then := range []string{"", "join and leave", "ForgetFunc", "ForgetFlight", "panic", "Goexit"} {
			t.Run(lead+" "+then, func(t *testing.T) {
				storm.SilenceLog(t)
				var g payloadGroup
				tr := traces{}
				var given context.Context
				func() {
					key, val := tr.payload("key"), tr.payload("value")
					inErr, inFn, inCtx := tr.payload("error"), tr.payload("fn"), tr.payload("context")
					ctx, leave := context.WithCancel(context.WithValue(t.Context(), payloadKey{}, inCtx))
					defer leave()
					h := kit.Hold()
					called := make(chan struct{})
					go func() {
						defer close(called)
						callPayload(&g, lead, ctx, key, func(ctx context.Context) (*kit.Payload, error) {
							inFn[0]++
							given = ctx
							coalesce.Hold(ctx)
							h.Started <- struct{}{}
							<-h.Release
							switch then {
							case "panic":
								panic(&payloadError{inErr})
							case "Goexit":
								runtime.Goexit()
							}
							return val, &payloadError{inErr}
						})
					}()
					<-h.Started
					leave()
					<-called
					switch then {
					case "join and leave":
						ctx, leave := context.WithCancel(t.Context())
						left := g.DoChan(ctx, key, func(context.Context) (*kit.Payload, error) { return nil, nil })
						leave()
						<-left
					case "ForgetFunc":
						if n := g.ForgetFunc(kit.All); n != 1 {
							t.Errorf("got %d keys, want 1", n)
						}
					case "ForgetFlight":
						if !g.ForgetFlight(kit.IDOf(t, &g, key)) {
							t.Error("ForgetFlight: got false, want true")
						}
					}
					close(h.Release)
					kit.Await(t, func() bool { return quiet(&g) && given.Err() != nil })
				}()
				if err := storm.AtRest(&g); err != nil {
					t.Error(err)
				}
				tr.wantCollected(t, &g, "context")
				runtime.KeepAlive(given)
				given = nil
				tr.wantCollected(t, &g)
			})
		}
	}
}

// TestG12_DroppedOutcomes: values, errors and keys of outcomes that have lingered are not
// kept after a ForgetFunc, a Shutdown or, because of LingerMax, later outcomes have
// dropped them.
func TestG12_DroppedOutcomes(t *testing.T) {
	for name, drop := range map[string]func(t *testing.T, g *payloadGroup){
		"ForgetFunc": func(t *testing.T, g *payloadGroup) {
			if n := g.ForgetFunc(kit.All); n != 2 {
				t.Errorf("got %d keys, want 2", n)
			}
		},
		"LingerMax": func(_ *testing.T, g *payloadGroup) {
			for range 2 {
				_, _, _ = g.Do(new(kit.Payload), func() (*kit.Payload, error) { return nil, nil })
			}
		},
		"Shutdown": func(t *testing.T, g *payloadGroup) {
			if err := g.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := payloadGroup{LingerMax: 2, LingerFor: func(_ *kit.Payload, err error) time.Duration {
				if err != nil {
					return time.Hour
				}
				return coalesce.Forever
			}}
			tr := traces{}
			func() {
				key, val := tr.payload("key"), tr.payload("value")
				_, _, _ = g.Do(key, func() (*kit.Payload, error) { return val, nil })
				key2, inErr := tr.payload("other key"), tr.payload("error")
				g.DoMulti(t.Context(), []*kit.Payload{key2}, func(context.Context, []*kit.Payload) (map[*kit.Payload]*kit.Payload, error) {
					return nil, coalesce.KeyErrors[*kit.Payload]{key2: &payloadError{inErr}}
				})
			}()
			tr.wantCollected(t, &g, "key", "value", "other key", "error")
			drop(t, &g)
			tr.wantCollected(t, &g)
		})
	}
}

// TestG12_ForgottenWhileItRuns: the result of a flight that ForgetFunc or ForgetFlight
// has detached is not kept when its callers have it, nor is its key.
func TestG12_ForgottenWhileItRuns(t *testing.T) {
	for name, forget := range map[string]func(t *testing.T, g *payloadGroup, key *kit.Payload){
		"ForgetFunc": func(_ *testing.T, g *payloadGroup, _ *kit.Payload) { g.ForgetFunc(kit.All) },
		"ForgetFlight": func(t *testing.T, g *payloadGroup, key *kit.Payload) {
			g.ForgetFlight(kit.IDOf(t, g, key))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := payloadGroup{Linger: coalesce.Forever}
			tr := traces{}
			func() {
				key, val := tr.payload("key"), tr.payload("value")
				done := make(chan struct{})
				h := kit.Hold()
				go func() {
					defer close(done)
					_, _, _ = g.Do(key, func() (*kit.Payload, error) {
						h.Started <- struct{}{}
						<-h.Release
						return val, nil
					})
				}()
				<-h.Started
				forget(t, &g, key)
				close(h.Release)
				<-done
				kit.Await(t, func() bool { return quiet(&g) })
			}()
			tr.wantCollected(t, &g)
		})
	}
}

// TestG12_KeyErrorsOfABatch: when a batch is over, the result of its fn for one key is
// kept neither by another key, whose outcome lingers, nor by fn's context, nor by a call
// for that key; nor is the KeyErrors kept.
func TestG12_KeyErrorsOfABatch(t *testing.T) {
	g := payloadGroup{LingerFor: func(_ *kit.Payload, err error) time.Duration {
		if err == nil {
			return coalesce.Forever
		}
		return 0
	}}
	tr := traces{}
	var given context.Context
	key, slowKey, slow := new(kit.Payload), new(kit.Payload), make(chan struct{})
	other := g.DoChan(context.Background(), slowKey, func(context.Context) (*kit.Payload, error) { <-slow; return nil, nil })
	followed := make(chan struct{})
	func() {
		bad, lacking := tr.payload("bad key"), tr.payload("absent key")
		val, inErr, inUnasked := tr.payload("value"), tr.payload("error"), tr.payload("error of a key that was not asked for")
		started, release := make(chan struct{}), make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.DoMulti(t.Context(), []*kit.Payload{key, bad, lacking}, func(ctx context.Context, _ []*kit.Payload) (map[*kit.Payload]*kit.Payload, error) {
				given = ctx
				close(started)
				<-release
				return map[*kit.Payload]*kit.Payload{key: val}, coalesce.KeyErrors[*kit.Payload]{
					bad: &payloadError{inErr}, new(kit.Payload): &payloadError{inUnasked},
				}
			})
		}()
		<-started
		go func() { // follows in the flight of key, and waits for another
			defer close(followed)
			g.DoMulti(context.Background(), []*kit.Payload{key, slowKey}, func(context.Context, []*kit.Payload) (map[*kit.Payload]*kit.Payload, error) {
				return nil, nil
			})
		}()
		kit.Await(t, func() bool { return g.Stats().Joined == 2 })
		close(release)
		<-done
	}()
	tr.wantCollected(t, &g, "value") // it lingers
	close(slow)
	<-followed
	<-other
	runtime.KeepAlive(given)
	runtime.KeepAlive(key)
	runtime.KeepAlive(&g)
}

// TestDoMulti_NothingIsKept: when a batch is over, keys, values, errors, fn and ctx can
// be collected, except for the parts that its results hold: a value that holds fn's
// context, as a response does, does not keep the other keys and values.
func TestDoMulti_NothingIsKept(t *testing.T) {
	type request struct {
		ctx context.Context
		p   *kit.Payload
	}
	for _, how := range []string{"all receive", "all leave", "forgotten", "queued"} {
		t.Run(how, func(t *testing.T) {
			var g coalesce.Group[*kit.Payload, *request]
			held, ptrs := func() (*request, map[string]weak.Pointer[kit.Payload]) {
				ps := map[string]*kit.Payload{}
				ptrs := map[string]weak.Pointer[kit.Payload]{}
				for _, name := range []string{"key a", "key b", "value b", "fn", "caller's slice"} {
					ps[name] = new(kit.Payload)
					ptrs[name] = weak.Make(ps[name])
				}
				inFn := ps["fn"]
				h := kit.Hold()
				var held *request
				var mu sync.Mutex
				fn := func(ctx context.Context, keys []*kit.Payload) (map[*kit.Payload]*request, error) {
					mu.Lock()
					inFn[0]++
					held = &request{ctx: ctx}
					r := held
					mu.Unlock()
					_, _ = h.Fn(0)()
					return map[*kit.Payload]*request{ps["key a"]: r, ps["key b"]: {p: ps["value b"]}}, nil
				}
				keys := []*kit.Payload{ps["key a"], ps["key b"], ps["caller's slice"]}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var old sync.WaitGroup
				if how == "queued" {
					other, leave := context.WithCancel(t.Context())
					stuck := kit.Hold()
					old.Go(func() {
						g.DoMulti(other, keys, func(context.Context, []*kit.Payload) (map[*kit.Payload]*request, error) {
							_, _ = stuck.Fn(0)()
							return nil, nil
						})
					})
					<-stuck.Started
					leave()
					old.Wait()
					defer close(stuck.Release)
				}
				var calls sync.WaitGroup
				calls.Go(func() { g.DoMulti(ctx, keys, fn) })
				switch how {
				case "queued":
					kit.Await(t, func() bool { return kit.Waiting(&g) == 3 })
					cancel()
				case "all leave":
					<-h.Started
					cancel()
					calls.Wait()
				case "forgotten":
					<-h.Started
					g.Forget(keys[0])
				default:
					<-h.Started
				}
				close(h.Release)
				calls.Wait()
				return held, ptrs
			}()
			kit.Await(t, func() bool {
				for range g.Flights() {
					return false
				}
				return true
			})
			for name, p := range ptrs {
				for range 20 {
					if runtime.GC(); p.Value() == nil {
						break
					}
					time.Sleep(time.Millisecond)
				}
				if p.Value() != nil {
					t.Errorf("%s: got it kept, want it collected", name)
				}
			}
			if held != nil && held.ctx.Value(kit.CtxKey{}) != nil {
				t.Error("got a value in fn's context, want none")
			}
			runtime.KeepAlive(held)
			runtime.KeepAlive(&g)
		})
	}
}
