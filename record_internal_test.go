package coalesce

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// TestRecord_UsedAgain: the leader returns the record of a flight that no call joined,
// which then holds only the fields of an unused record.
func TestRecord_UsedAgain(t *testing.T) {
	for name, lead := range map[string]func(ctx context.Context, g *Group[int, *int]){
		"DoContext": func(ctx context.Context, g *Group[int, *int]) {
			_, _, _ = g.DoContext(ctx, 1, func(ctx context.Context) (*int, error) {
				ctx.Done()
				return new(int), errors.New("failed")
			})
		},
		"DoContext, for long": func(ctx context.Context, g *Group[int, *int]) {
			_, _, _ = g.DoContext(ctx, 1, func(context.Context) (*int, error) {
				time.Sleep(time.Millisecond)
				return new(int), nil
			})
		},
		"DoFresh": func(ctx context.Context, g *Group[int, *int]) {
			_, _, _ = g.DoFresh(ctx, 1, func(context.Context) (*int, error) { return new(int), nil })
		},
		"refused": func(ctx context.Context, g *Group[int, *int]) {
			g.MaxWaiters = 1
			_, _, _ = g.DoContext(ctx, 1, func(ctx context.Context) (*int, error) {
				_, err := g.TryDo(1, func() (*int, error) { return nil, nil })
				if err != ErrInFlight {
					t.Error(err)
				}
				for range g.Flights() {
				}
				return new(int), nil
			})
		},
	} {
		g := Group[int, *int]{Shards: 1}
		ctx, cancel := context.WithCancel(t.Context())
		lead(ctx, &g)
		cancel()
		f := g.use().at(0).freeOwn
		if f == nil {
			t.Errorf("%s: got no record, want one", name)
			continue
		}
		c := f.cold
		if run := c.run; run != nil {
			c.run = nil
		} else {
			t.Errorf("%s: got no goroutine kept, want one", name)
		}
		if *f != (flight[int, *int]{cold: c}) || !reflect.ValueOf(*c).IsZero() {
			t.Errorf("%s: got %+v with %+v, want an unused record", name, f, c)
		}
	}
}

// TestRecord_LeftToOthers: a record that another call may have a pointer to, even one
// that has left, is not returned (R1).
func TestRecord_LeftToOthers(t *testing.T) {
	for name, other := range map[string]func(ctx context.Context, g *Group[int, int], again func(context.Context) (int, error)){
		"joined and left": func(ctx context.Context, g *Group[int, int], again func(context.Context) (int, error)) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() { _, _, _ = g.DoContext(ctx, 1, again) }()
			synctest.Wait()
		},
		"queued and left": func(ctx context.Context, g *Group[int, int], again func(context.Context) (int, error)) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() { _, _, _ = g.DoFresh(ctx, 1, again) }()
			synctest.Wait()
		},
		"a receiver that left": func(ctx context.Context, g *Group[int, int], again func(context.Context) (int, error)) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			g.DoChan(ctx, 1, again)
		},
		"one of many keys": func(ctx context.Context, g *Group[int, int], _ func(context.Context) (int, error)) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go g.DoMulti(ctx, []int{1}, func(context.Context, []int) (map[int]int, error) { return nil, nil })
			synctest.Wait()
		},
		"forgotten": func(_ context.Context, g *Group[int, int], _ func(context.Context) (int, error)) { g.Forget(1) },
	} {
		synctest.Test(t, func(t *testing.T) {
			g := Group[int, int]{Shards: 1}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			started, release := make(chan struct{}), make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _, err := g.DoContext(ctx, 1, func(context.Context) (int, error) {
					close(started)
					<-release
					return 1, nil
				})
				if err != nil {
					t.Errorf("%s: got %v, want nil", name, err)
				}
			}()
			<-started
			other(t.Context(), &g, func(context.Context) (int, error) { return 2, nil })
			synctest.Wait()
			close(release)
			<-done
			synctest.Wait()
			if f := g.use().at(0).freeOwn; f != nil {
				t.Errorf("%s: got the record returned, want it left", name)
			}
		})
	}
}

// kept returns the number of records that s keeps to be used again, and their size.
func (s *shard[K, V]) kept() (n int, size uintptr) {
	if s.lone != nil {
		n, size = 1, unsafe.Sizeof(*s.lone)
	}
	for f := s.free; f != nil; f = f.next {
		n, size = n+1, size+unsafe.Sizeof(*f)
	}
	for f := s.freeOwn; f != nil; f = f.next {
		n, size = n+1, size+unsafe.Sizeof(ownFlight[K, V]{})
	}
	return n, size
}

// records returns the number of records in a free list.
func records[K comparable, V any](f *flight[K, V]) (n int) {
	for ; f != nil; f = f.next {
		n++
	}
	return n
}

// TestRecord_Kept: a shard keeps few records, and little memory if it keeps more than
// one, after any load, and for any size of V (R3). It keeps one of the kind that was used
// last.
func TestRecord_Kept(t *testing.T) {
	t.Run("8", func(t *testing.T) { testKept[[8]byte](t, 4) })
	t.Run("130", func(t *testing.T) { testKept[[130]byte](t, 2) })
	t.Run("1000", func(t *testing.T) { testKept[[1000]byte](t, 1) })
	t.Run("32768", func(t *testing.T) { testKept[[32768]byte](t, 1) })
}

func testKept[V any](t *testing.T, most int) {
	g := Group[int, V]{Shards: 1}
	s := g.use().at(0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var zero V
	ways := map[string]func(n int){
		"Do": func(n int) {
			var nested func(key int) (V, error)
			nested = func(key int) (V, error) {
				if key < n {
					_, _, _ = g.Do(key, func() (V, error) { return nested(key + 1) })
				}
				return zero, nil
			}
			_, _ = nested(0)
		},
		"DoContext": func(n int) {
			var nested func(ctx context.Context, key int) (V, error)
			nested = func(ctx context.Context, key int) (V, error) {
				if key < n {
					_, _, _ = g.DoContext(Detach(ctx), key, func(context.Context) (V, error) { return nested(ctx, key+1) })
				}
				return zero, nil
			}
			_, _ = nested(ctx, 0)
		},
		"DoMulti": func(n int) {
			keys := make([]int, n)
			for i := range keys {
				keys[i] = i
			}
			g.DoMulti(ctx, keys, func(context.Context, []int) (map[int]V, error) { return nil, nil })
		},
	}
	ways["Do"](10)
	if kept, _ := s.kept(); kept != most {
		t.Errorf("got %d records kept after ten at once, want %d", kept, most)
	}
	for _, n := range []int{1, 2, 3, 10} {
		for range 3 {
			for name, way := range ways { // in a random order
				way(n)
				kept, size := s.kept()
				if kept > 4 || kept > 1 && size > 512 {
					t.Errorf("%d at once in %s: got %d records of %d bytes kept, want 4 of 512 bytes at most, or one", n, name, kept, size)
				}
				if free, own := records(s.free), records(s.freeOwn); free != int(s.nfree) || own != int(s.nfreeOwn) {
					t.Errorf("%d at once in %s: got counts %d and %d, want %d and %d", n, name, s.nfree, s.nfreeOwn, free, own)
				}
				own, plain := s.freeOwn != nil, s.free != nil
				if s.alone || name == "Do" && s.lone == nil || name == "DoMulti" && !plain || name == "DoContext" && !own {
					t.Errorf("%d at once in %s: got no record of that kind kept, want one", n, name)
				}
			}
		}
	}
}
