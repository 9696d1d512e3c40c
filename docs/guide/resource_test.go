package guide

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds recipes for values that have to be closed. The context that fn gets
// ends if no caller will have the value, and not because fn has returned:
// context.AfterFunc(ctx, v.Close), which is never stopped, closes the values that went to
// no caller, and no others. A look at ctx.Err before the return is not enough: the last
// caller may leave after it.

// A resource counts how often it was closed.
type resource struct{ closed atomic.Int64 }

func (r *resource) close() { r.closed.Add(1) }

// TestCloseIfNoCaller: in each order of the end of fn and the end of its only caller's
// context, the value is delivered or closed, once. If the flight is held, it is closed
// when fn has returned.
func TestCloseIfNoCaller(t *testing.T) {
	const takes = time.Second
	for _, held := range []bool{false, true} {
		for _, leaves := range []time.Duration{time.Millisecond, takes - 1, takes, takes + 1} {
			synctest.Test(t, func(t *testing.T) {
				var g coalesce.Group[string, *resource]
				var r resource
				ctx, cancel := context.WithTimeout(t.Context(), leaves)
				defer cancel()
				got, _, err := g.DoContext(ctx, "host", func(ctx context.Context) (*resource, error) {
					if held {
						coalesce.Hold(ctx)
					}
					time.Sleep(takes) // a dial that does not look at ctx
					context.AfterFunc(ctx, r.close)
					return &r, nil
				})
				delivered := err == nil && got == &r
				if delivered != (leaves > takes) && leaves != takes {
					t.Errorf("held %t, leaves after %v: got %v, %v, want the value only if fn was faster", held, leaves, got, err)
				}
				time.Sleep(time.Minute)
				if closed := r.closed.Load(); (closed == 0) != delivered || closed > 1 {
					t.Errorf("held %t, leaves after %v: got delivered %t, closed %d times, want one or the other, once", held, leaves, delivered, closed)
				}
			})
		}
	}
}

// TestCloseIfNoReceiver: a receiver that no longer reads its channel has to end the
// context of its call. Otherwise the value stays in the channel.
func TestCloseIfNoReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[string, *resource]
		var r resource
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		results := g.DoChan(ctx, "host", func(ctx context.Context) (*resource, error) {
			time.Sleep(time.Second)
			context.AfterFunc(ctx, r.close)
			return &r, nil
		})
		select {
		case <-results:
			t.Fatal("got a result before there was one, want none")
		case <-time.After(10 * time.Millisecond):
			cancel()
		}
		time.Sleep(time.Minute)
		if r.closed.Load() != 1 {
			t.Errorf("got %d closes, want 1", r.closed.Load())
		}
	})
}

// TestCloseOfABatch: the values of a batch, held or not, are closed if none of its keys
// has a caller left. As long as one has, none is closed: values that have to be closed
// one by one need a call each.
func TestCloseOfABatch(t *testing.T) {
	for _, tt := range []struct{ held, joined bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		synctest.Test(t, func(t *testing.T) {
			var g coalesce.Group[string, *resource]
			var a, b resource
			ctx, cancel := context.WithCancel(t.Context())
			go g.DoMulti(ctx, []string{"a", "b"}, func(ctx context.Context, _ []string) (map[string]*resource, error) {
				if tt.held {
					coalesce.Hold(ctx)
				}
				time.Sleep(time.Second)
				context.AfterFunc(ctx, func() { a.close(); b.close() })
				return map[string]*resource{"a": &a, "b": &b}, nil
			})
			synctest.Wait()
			var other <-chan coalesce.Result[*resource]
			if tt.joined {
				other = g.DoChan(t.Context(), "b", func(context.Context) (*resource, error) { return nil, nil })
			}
			cancel()
			time.Sleep(time.Minute)
			want := int64(1)
			if tt.joined {
				want = 0
				if r := <-other; r.Val != &b || r.Err != nil {
					t.Errorf("%+v: got %+v, want b", tt, r)
				}
			}
			if a.closed.Load() != want || b.closed.Load() != want {
				t.Errorf("%+v: got %d and %d closes, want %d each", tt, a.closed.Load(), b.closed.Load(), want)
			}
		})
	}
}
