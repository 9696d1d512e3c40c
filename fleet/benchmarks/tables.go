package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis/rueidisaside"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file holds the tables.

// group returns a group on a connection of its own.
func (e *engine) group(ctx context.Context, name string, set func(*fleet.Group[string, []byte])) (*fleet.Group[string, []byte], func(), error) {
	eng, _, end, err := e.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	g := &fleet.Group[string, []byte]{Engine: eng, Name: name}
	if set != nil {
		set(g)
	}
	return g, end, nil
}

// latencies: how long a call takes beyond fn, as multiples of raw operations.
func latencies(ctx context.Context, engines []*engine) error {
	fmt.Println("| engine | before fn : acquire | follower has the value : raw delivery | whole call, empty fn : acquire + publish | ping | acquire | delivery |")
	fmt.Println("|---|--:|--:|--:|--:|--:|--:|")
	for _, e := range engines {
		eng, ping, end, err := e.open(ctx)
		if err != nil {
			return err
		}
		other, _, endOther, err := e.open(ctx)
		if err != nil {
			return err
		}
		var pings, acquire, publish, deliver, before, whole, after sample
		val := make([]byte, 300)
		for i := range *rounds {
			if err := pings.time(func() error { return ping(ctx) }); err != nil {
				return err
			}
			key := fmt.Sprintf("bench/-/raw%d", i)
			var rec fleet.Record
			if err := acquire.time(func() (err error) {
				rec, err = eng.Swap(ctx, key, 0, val, time.Minute)
				return err
			}); err != nil {
				return err
			}
			got := make(chan time.Time, 4)
			stop, err := other.Notify(ctx, key, func(fleet.Record) { got <- time.Now() })
			if err != nil {
				return err
			}
			time.Sleep(2 * time.Millisecond)
			begin := time.Now()
			if err := publish.time(func() error {
				_, err := eng.Swap(ctx, key, rec.Rev, val, time.Minute)
				return err
			}); err != nil {
				return err
			}
			deliver = append(deliver, (<-got).Sub(begin))
			stop()
		}
		leader := &fleet.Group[string, []byte]{Engine: eng, Name: "bench"}
		follower := &fleet.Group[string, []byte]{Engine: other, Name: "bench"}
		for i := range *rounds {
			key := fmt.Sprint("k", i)
			begin := time.Now()
			if _, _, err := leader.DoContext(ctx, key, func(context.Context) ([]byte, error) {
				before = append(before, time.Since(begin))
				return val, nil
			}); err != nil {
				return err
			}
			whole = append(whole, time.Since(begin))

			key = fmt.Sprint("f", i)
			var ended time.Time
			started := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				_, _, _ = leader.DoContext(ctx, key, func(context.Context) ([]byte, error) {
					close(started)
					time.Sleep(10 * time.Millisecond)
					ended = time.Now()
					return val, nil
				})
			})
			<-started
			_, _, err := follower.DoContext(ctx, key, func(context.Context) ([]byte, error) { return nil, nil })
			has := time.Now()
			wg.Wait()
			if err != nil {
				return err
			}
			after = append(after, has.Sub(ended))
		}
		end()
		endOther()
		fmt.Printf("| %s | %s | %s | %s | %v | %v | %v |\n", e.name, ratio(before.median(), acquire.median()),
			ratio(after.median(), deliver.median()), ratio(whole.median(), acquire.median()+publish.median()),
			pings.median(), acquire.median(), deliver.median())
	}
	return nil
}

// executions: N processes ask for M keys each, with an fn of 20 ms. A process is a group
// with a connection of its own.
func executions(ctx context.Context, engines []*engine) error {
	const fn = 20 * time.Millisecond
	keys := min(40, *rounds)
	fmt.Printf("%d keys, one after the other, fn takes %v; what each process does for a key it does once.\n\n", keys, fn)
	fmt.Println("| processes | coalesce alone | fleet, NATS | fleet, Redis | SET NX and poll | rueidisaside |")
	fmt.Println("|--:|--:|--:|--:|--:|--:|")
	for _, n := range []int{2, 8, 32} {
		row := []string{fmt.Sprint(n)}
		var ran atomic.Int32
		work := func(context.Context) ([]byte, error) {
			ran.Add(1)
			time.Sleep(fn)
			return []byte("value"), ctx.Err()
		}
		// count lets all processes ask for all keys, and returns the executions and how long
		// a call took.
		count := func(calls []func(key string) error) string {
			ran.Store(0)
			run := rand.Uint64()
			var mu sync.Mutex
			var took sample
			var failed error
			for i := range keys {
				key := fmt.Sprintf("%x-%d", run, i)
				var wg sync.WaitGroup
				for _, call := range calls {
					wg.Go(func() {
						begin := time.Now()
						err := call(key)
						mu.Lock()
						defer mu.Unlock()
						took = append(took, time.Since(begin))
						if err != nil {
							failed = err
						}
					})
				}
				wg.Wait()
			}
			if failed != nil {
				return failed.Error()
			}
			return fmt.Sprintf("%d, %v", ran.Load(), took.median().Round(10*time.Microsecond))
		}
		var alone []func(string) error
		for range n {
			g := new(coalesce.Group[string, []byte])
			alone = append(alone, func(key string) error {
				_, _, err := g.DoContext(ctx, key, work)
				return err
			})
		}
		row = append(row, count(alone))
		for _, e := range engines {
			var calls []func(string) error
			var ends []func()
			for range n {
				g, end, err := e.group(ctx, "executions", nil)
				if err != nil {
					return err
				}
				ends = append(ends, end)
				calls = append(calls, func(key string) error {
					_, _, err := g.DoContext(ctx, key, work)
					return err
				})
			}
			row = append(row, count(calls))
			for _, end := range ends {
				end()
			}
		}
		if len(engines) > 1 {
			for _, peer := range []func(context.Context, string, func(context.Context) ([]byte, error)) (func(string) error, func(), error){setAndPoll, aside} {
				var calls []func(string) error
				var ends []func()
				for range n {
					call, end, err := peer(ctx, engines[1].addr, work)
					if err != nil {
						return err
					}
					calls, ends = append(calls, call), append(ends, end)
				}
				row = append(row, count(calls))
				for _, end := range ends {
					end()
				}
			}
		}
		fmt.Print("|")
		for _, cell := range row {
			fmt.Printf(" %s |", cell)
		}
		fmt.Println()
	}
	fmt.Println("\nExecutions of fn in all processes, and the median of a call.")
	return nil
}

// setAndPoll is what is often written: SET NX, and those who lose read every 10 ms.
func setAndPoll(ctx context.Context, addr string, work func(context.Context) ([]byte, error)) (func(string) error, func(), error) {
	c, err := redisClient(addr)
	if err != nil {
		return nil, nil, err
	}
	return func(key string) error {
		lock, val := "lock:"+key, "val:"+key
		for {
			won := c.Do(ctx, c.B().Set().Key(lock).Value("1").Nx().Px(3*time.Second).Build()).Error() == nil
			if won {
				v, err := work(ctx)
				if err != nil {
					return err
				}
				return c.Do(ctx, c.B().Set().Key(val).Value(string(v)).Px(3*time.Second).Build()).Error()
			}
			for range 300 {
				if _, err := c.Do(ctx, c.B().Get().Key(val).Build()).ToString(); err == nil {
					return nil
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
	}, c.Close, nil
}

// aside is rueidisaside.
func aside(ctx context.Context, addr string, work func(context.Context) ([]byte, error)) (func(string) error, func(), error) {
	c, err := rueidisaside.NewClient(rueidisaside.ClientOption{ClientOption: asideOption(addr)})
	if err != nil {
		return nil, nil, err
	}
	return func(key string) error {
		_, err := c.Get(ctx, 3*time.Second, "aside:"+key, func(ctx context.Context, _ string) (string, error) {
			v, err := work(ctx)
			return string(v), err
		})
		return err
	}, c.Close, nil
}

// payloads: how long after the end of fn a follower has a value, by its size.
func payloads(ctx context.Context, engines []*engine) error {
	sizes := []int{256, 4 << 10, 64 << 10, 512 << 10}
	fmt.Println("| engine | 256 B | 4 KiB | 64 KiB | 512 KiB |")
	fmt.Println("|---|--:|--:|--:|--:|")
	for _, e := range engines {
		set := func(g *fleet.Group[string, []byte]) { g.MaxResult = 600 << 10 }
		leader, end, err := e.group(ctx, "payloads", set)
		if err != nil {
			return err
		}
		follower, endOther, err := e.group(ctx, "payloads", set)
		if err != nil {
			return err
		}
		fmt.Printf("| %s |", e.name)
		for _, size := range sizes {
			var after sample
			val := make([]byte, size)
			for i := range max(1, *rounds/5) {
				d, err := follow(ctx, leader, follower, fmt.Sprintf("%d-%d", size, i), val)
				if err != nil {
					return err
				}
				after = append(after, d)
			}
			fmt.Printf(" %v |", after.median().Round(time.Microsecond))
		}
		fmt.Println()
		end()
		endOther()
	}
	fmt.Println("\nFrom the end of fn to the return of the call in another process.")
	return nil
}

// follow returns the time from the end of fn, in one group, until the other has the value.
func follow(ctx context.Context, leader, follower *fleet.Group[string, []byte], key string, val []byte) (time.Duration, error) {
	var ended time.Time
	started := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _, _ = leader.DoContext(ctx, key, func(context.Context) ([]byte, error) {
			close(started)
			time.Sleep(10 * time.Millisecond)
			ended = time.Now()
			return val, nil
		})
	})
	<-started
	_, _, err := follower.DoContext(ctx, key, func(context.Context) ([]byte, error) { return nil, nil })
	has := time.Now()
	wg.Wait()
	return has.Sub(ended), err
}

// sealing: what Secrets cost a call with an empty fn and a value of 256 bytes.
func sealing(ctx context.Context, engines []*engine) error {
	fmt.Println("| engine | with Secrets : without |")
	fmt.Println("|---|--:|")
	val := make([]byte, 256)
	for _, e := range engines {
		plain, end, err := e.group(ctx, "plain", nil)
		if err != nil {
			return err
		}
		sealed, endOther, err := e.group(ctx, "sealed", func(g *fleet.Group[string, []byte]) {
			g.Secrets = [][]byte{[]byte("a secret of 32 bytes, or longer.")}
		})
		if err != nil {
			return err
		}
		var with, without sample
		fn := func(ctx context.Context) ([]byte, error) { return val, ctx.Err() }
		for i := range 2 * *rounds {
			key := fmt.Sprint(i)
			for g, s := range map[*fleet.Group[string, []byte]]*sample{plain: &without, sealed: &with} {
				if err := s.time(func() error {
					_, _, err := g.DoContext(ctx, key, fn)
					return err
				}); err != nil {
					return err
				}
			}
		}
		end()
		endOther()
		fmt.Printf("| %s | %s |\n", e.name, ratio(with.median(), without.median()))
	}
	return nil
}

// saturation: how many calls for different keys one process leads in a second.
func saturation(ctx context.Context, engines []*engine) error {
	fmt.Println("| engine | 1 goroutine | 8 | 32 | 128 |")
	fmt.Println("|---|--:|--:|--:|--:|")
	for _, e := range engines {
		g, end, err := e.group(ctx, "saturation", nil)
		if err != nil {
			return err
		}
		fmt.Printf("| %s |", e.name)
		for _, n := range []int{1, 8, 32, 128} {
			var done atomic.Int64
			var wg sync.WaitGroup
			stop := time.Now().Add(time.Second)
			run := rand.Uint64()
			for i := range n {
				wg.Go(func() {
					for j := 0; time.Now().Before(stop); j++ {
						_, _, err := g.DoContext(ctx, fmt.Sprintf("%x-%d-%d", run, i, j), func(context.Context) ([]byte, error) { return nil, nil })
						if err == nil {
							done.Add(1)
						}
					}
				})
			}
			wg.Wait()
			fmt.Printf(" %d |", done.Load())
		}
		fmt.Println()
		end()
	}
	return nil
}

// deaf is an engine whose pushes are lost.
type deaf struct{ fleet.Engine }

func (d deaf) Notify(ctx context.Context, key string, _ func(fleet.Record)) (func(), error) {
	return d.Engine.Notify(ctx, key, func(fleet.Record) {})
}

// lostPush: how long after the end of fn a call has the value if its push is lost.
func lostPush(ctx context.Context, engines []*engine) error {
	fmt.Println("| engine | median | 99 % |")
	fmt.Println("|---|--:|--:|")
	val := make([]byte, 256)
	for _, e := range engines {
		leader, end, err := e.group(ctx, "lost", nil)
		if err != nil {
			return err
		}
		follower, endOther, err := e.group(ctx, "lost", func(g *fleet.Group[string, []byte]) { g.Engine = deaf{g.Engine} })
		if err != nil {
			return err
		}
		var after sample
		for i := range max(1, *rounds/2) {
			d, err := follow(ctx, leader, follower, fmt.Sprint(i), val)
			if err != nil {
				return err
			}
			after = append(after, d)
		}
		end()
		endOther()
		fmt.Printf("| %s | %v | %v |\n", e.name, after.median().Round(time.Microsecond), after.at(0.99).Round(time.Microsecond))
	}
	fmt.Println("\nfn takes 10 ms and ends right after the other process has subscribed. A call reads again 50 ms after that.")
	return nil
}
