package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// waitFor blocks until the flight of key has n waiters.
func waitFor[K comparable, V any](g *coalesce.Group[K, V], key K, n int) {
	for {
		for f := range g.Flights() {
			if f.Key == key && f.Waiters == n {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// Ten goroutines want the same page at the same moment. It is fetched once.
func Example() {
	var pages coalesce.Group[string, string]
	fetched := 0
	fetch := func(url string) (string, error) {
		fetched++
		waitFor(&pages, url, 9) // a slow server: all ten have asked by now
		return "<html>" + url + "</html>", nil
	}

	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			page, shared, err := pages.Do("/index", func() (string, error) { return fetch("/index") })
			if page != "<html>/index</html>" || !shared || err != nil {
				fmt.Println("unexpected:", page, shared, err)
			}
		})
	}
	wg.Wait()
	fmt.Println("fetched", fetched, "time")
	// Output: fetched 1 time
}

func ExampleGroup_Do() {
	var g coalesce.Group[string, int]
	v, shared, err := g.Do("answer", func() (int, error) { return 42, nil })
	fmt.Println(v, shared, err)
	// Output: 42 false <nil>
}

// A caller that has lost its patience leaves; the flight goes on for the other.
func ExampleGroup_DoContext() {
	var g coalesce.Group[string, string]
	impatient, giveUp := context.WithCancel(context.Background())
	left := make(chan struct{})
	slow := func(ctx context.Context) (string, error) {
		waitFor(&g, "report", 1) // both have asked by now
		giveUp()
		<-left
		return "ready", ctx.Err()
	}

	go func() {
		_, _, err := g.DoContext(impatient, "report", slow)
		fmt.Println("impatient:", err)
		close(left)
	}()
	waitFor(&g, "report", 0)
	v, _, err := g.DoContext(context.Background(), "report", slow)
	fmt.Println("patient:", v, err)
	// Output:
	// impatient: context canceled
	// patient: ready <nil>
}

func ExampleGroup_DoChan() {
	var g coalesce.Group[string, int]
	results := g.DoChan(context.Background(), "answer", func(context.Context) (int, error) {
		return 42, nil
	})
	select {
	case r := <-results:
		fmt.Println(r.Val, r.Err, r.Shared)
	case <-time.After(time.Minute):
		fmt.Println("too slow")
	}
	// Output: 42 <nil> false
}

// Two pages need some of the same articles. Each article is loaded once.
func ExampleGroup_DoMulti() {
	var g coalesce.Group[string, string]
	started := make(chan struct{})
	load := func(_ context.Context, titles []string) (map[string]string, error) {
		fmt.Println("loads", titles)
		if titles[0] == "moon" {
			close(started)
			waitFor(&g, "sun", 1) // a slow database: both pages have asked by now
		}
		texts := map[string]string{}
		for _, title := range titles {
			if title != "atlantis" { // no site has it
				texts[title] = "About the " + title
			}
		}
		return texts, nil
	}

	var wg sync.WaitGroup
	wg.Go(func() { g.DoMulti(context.Background(), []string{"moon", "sun"}, load) })
	<-started
	page := g.DoMulti(context.Background(), []string{"atlantis", "sun", "sea"}, load)
	wg.Wait()
	for _, title := range []string{"atlantis", "sun", "sea"} {
		fmt.Printf("%s: %q, %v\n", title, page[title].Val, page[title].Err)
	}
	// Output:
	// loads [moon sun]
	// loads [atlantis sea]
	// atlantis: "", coalesce: fn returned no value for this key
	// sun: "About the sun", <nil>
	// sea: "About the sea", <nil>
}

// One bad key does not harm the others.
func ExampleKeyErrors() {
	users := coalesce.Group[int, string]{Linger: time.Minute}
	load := func(_ context.Context, ids []int) (map[int]string, error) {
		names, failed := map[int]string{}, coalesce.KeyErrors[int]{}
		for _, id := range ids {
			if id > 20 {
				failed[id] = errors.New("no such shard")
			} else {
				names[id] = fmt.Sprint("user ", id)
			}
		}
		return names, failed // no error, if it is empty
	}

	ids := []int{1, 2, 21}
	user := users.DoMulti(context.Background(), ids, load)
	for _, id := range ids {
		fmt.Printf("%d: %q, %v\n", id, user[id].Val, user[id].Err)
	}
	// Output:
	// 1: "user 1", <nil>
	// 2: "user 2", <nil>
	// 21: "", no such shard
}

// A writer must not get a value that was read before its write.
func ExampleGroup_DoFresh() {
	var g coalesce.Group[string, string]
	var stored atomic.Value
	stored.Store("old")
	read := func(context.Context) (string, error) { return stored.Load().(string), nil }

	var wg sync.WaitGroup
	wg.Go(func() {
		g.Do("row", func() (string, error) {
			v, err := read(context.Background())
			waitFor(&g, "row", 1) // the read is slow, the writer is queued by now
			return v, err
		})
	})
	waitFor(&g, "row", 0)
	stored.Store("new")
	v, _, err := g.DoFresh(context.Background(), "row", read)
	wg.Wait()
	fmt.Println(v, err)
	// Output: new <nil>
}

func ExampleGroup_TryDo() {
	var g coalesce.Group[string, int]
	g.Do("index", func() (int, error) {
		// Another goroutine is rebuilding the index. The others need not do it as well.
		_, err := g.TryDo("index", func() (int, error) { return 2, nil })
		fmt.Println(errors.Is(err, coalesce.ErrInFlight))
		return 1, nil
	})
	// Output: true
}

func ExampleGroup_Forget() {
	var g coalesce.Group[string, int]
	g.Do("config", func() (int, error) {
		// The file has changed while it was being read.
		fmt.Println("forgotten:", g.Forget("config"))
		v, _, _ := g.Do("config", func() (int, error) { return 2, nil })
		fmt.Println("fresh:", v)
		return 1, nil
	})
	fmt.Println("forgotten:", g.Forget("config"))
	// Output:
	// forgotten: true
	// fresh: 2
	// forgotten: false
}

func ExampleGroup_ForgetUnshared() {
	var g coalesce.Group[string, int]
	g.Do("host", func() (int, error) {
		fmt.Println("unshared:", g.ForgetUnshared("host"))
		return 1, nil
	})
	// Output: unshared: true
}

// The pages of a site are forgotten, whether they are being loaded or linger.
func ExampleGroup_ForgetFunc() {
	g := coalesce.Group[string, int]{Linger: time.Hour}
	for _, page := range []string{"shop/cart", "shop/list", "blog/today"} {
		g.Do(page, func() (int, error) { return 1, nil })
	}
	n := g.ForgetFunc(func(page string) bool { return strings.HasPrefix(page, "shop/") })
	fmt.Println("forgotten:", n)

	shop, _, _ := g.Do("shop/cart", func() (int, error) { return 2, nil })
	blog, _, _ := g.Do("blog/today", func() (int, error) { return 2, nil })
	fmt.Println("shop:", shop, "blog:", blog)
	// Output:
	// forgotten: 2
	// shop: 2 blog: 1
}

// Flights that have run for too long are forgotten. If one is over by then, and another
// runs for its key, that other one stays.
func ExampleGroup_ForgetFlight() {
	var g coalesce.Group[string, int]
	ctx := context.Background()
	g.DoFresh(ctx, "slow", func(context.Context) (int, error) {
		time.Sleep(2 * time.Millisecond)
		for f := range g.Flights() {
			if f.Age > time.Millisecond {
				fmt.Println("forgotten:", f.Key, g.ForgetFlight(f.ID))
			}
		}
		v, _, err := g.DoFresh(ctx, "slow", func(context.Context) (int, error) { return 2, nil })
		fmt.Println("the next call:", v, err)
		return 1, nil
	})
	// Output:
	// forgotten: slow true
	// the next call: 2 <nil>
}

func ExampleGroup_Len() {
	var g coalesce.Group[string, int]
	g.Do("outer", func() (int, error) {
		v, _, err := g.Do("inner", func() (int, error) { return g.Len(), nil })
		fmt.Println("in flight:", v)
		return v, err
	})
	fmt.Println("in flight:", g.Len())
	// Output:
	// in flight: 2
	// in flight: 0
}

func ExampleGroup_Stats() {
	var g coalesce.Group[string, int]
	one := func() (int, error) { return 1, nil }
	g.Do("a", one)
	g.Do("b", func() (int, error) {
		g.TryDo("b", one)
		return 1, nil
	})
	st := g.Stats()
	fmt.Println(st.Calls, "calls:", st.Led, "led,", st.Joined, "joined,", st.Rejected, "rejected")
	// Output: 3 calls: 2 led, 0 joined, 1 rejected
}

func ExampleGroup_Flights() {
	var g coalesce.Group[string, int]
	g.Do("a", func() (int, error) {
		g.Forget("a")
		v, _, err := g.Do("b", func() (int, error) {
			var lines []string
			for f := range g.Flights() {
				lines = append(lines, fmt.Sprintf("%s: %v, %d waiters, forgotten: %v",
					f.Key, f.State, f.Waiters, f.Forgotten))
			}
			slices.Sort(lines)
			fmt.Println(strings.Join(lines, "\n"))
			return 1, nil
		})
		return v, err
	})
	// Output:
	// a: running, 0 waiters, forgotten: true
	// b: running, 0 waiters, forgotten: false
}

// A server that stops waits for running flights, but not forever.
func ExampleGroup_Shutdown() {
	var g coalesce.Group[string, string]
	result := g.DoChan(context.Background(), "job", func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "stopped", context.Cause(ctx)
	})
	waitFor(&g, "job", 0)

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(g.Shutdown(ctx))
	r := <-result
	fmt.Println(r.Val, errors.Is(r.Err, coalesce.ErrClosed))
	_, _, err := g.Do("late", func() (string, error) { return "", nil })
	fmt.Println(err)
	// Output:
	// context deadline exceeded
	// stopped true
	// coalesce: group is shut down
}

// A flight that is stuck keeps its key for a minute at most.
func ExampleGroup_limits() {
	g := coalesce.Group[string, int]{MaxAge: time.Minute, MaxWaiters: 1}
	go func() {
		waitFor(&g, "key", 0)
		g.Do("key", func() (int, error) { return 0, nil })
	}()
	v, _, err := g.Do("key", func() (int, error) {
		waitFor(&g, "key", 1)
		_, _, err := g.Do("key", func() (int, error) { return 2, nil })
		fmt.Println(err) // one call waits already; and this call would wait for itself
		return 1, nil
	})
	fmt.Println(v, err)
	// Output:
	// coalesce: too many calls wait for this key
	// 1 <nil>
}

// With Clone, callers may change the values that they get.
func ExampleGroup_clone() {
	g := coalesce.Group[string, []int]{Clone: slices.Clone[[]int]}
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			v, _, _ := g.Do("list", func() ([]int, error) {
				waitFor(&g, "list", 2)
				return []int{0, 0, 0}, nil
			})
			v[i]++ // no data race
		})
	}
	wg.Wait()
	fmt.Println(g.Stats().Led, "execution")
	// Output: 1 execution
}

// With Linger, a value goes on answering for a while. An error does not, so
// that Forever makes a once for each key that retries errors.
func ExampleGroup_linger() {
	g := coalesce.Group[string, int]{Linger: coalesce.Forever}
	attempts := 0
	load := func() (int, error) {
		if attempts++; attempts == 1 {
			return 0, errors.New("not yet")
		}
		return 42, nil
	}
	for range 4 {
		fmt.Println(g.Do("key", load))
	}
	g.Forget("key")
	fmt.Println(g.Do("key", load))
	// Output:
	// 0 false not yet
	// 42 false <nil>
	// 42 true <nil>
	// 42 true <nil>
	// 42 false <nil>
}

// A failure that will last for a while holds off others: for a second, calls get its
// error, and the next call after that tries again.
func ExampleGroup_lingerForFailure() {
	g := coalesce.Group[string, int]{
		LingerFor: func(_ int, err error) time.Duration {
			if err != nil {
				return time.Second
			}
			return time.Minute
		},
	}
	attempts := 0
	load := func() (int, error) {
		attempts++
		return 0, errors.New("the backend is down")
	}
	for range 100 {
		g.Do("feed", load)
	}
	_, shared, err := g.Do("feed", load)
	fmt.Println(attempts, "attempt:", err, shared)
	time.Sleep(time.Second)
	g.Do("feed", load)
	fmt.Println(attempts, "attempts")
	// Output:
	// 1 attempt: the backend is down true
	// 2 attempts
}

// The life of a token is in the token: it lingers until ten seconds before it expires.
// One that was refused is requested again after a second.
func ExampleGroup_lingerForToken() {
	type token struct {
		secret  string
		expires time.Time
	}
	g := coalesce.Group[string, token]{
		LingerFor: func(tok token, err error) time.Duration {
			if err != nil {
				return time.Second
			}
			return time.Until(tok.expires.Add(-10 * time.Second))
		},
	}
	issued := 0
	issue := func(context.Context) (token, error) {
		issued++
		return token{fmt.Sprint("secret ", issued), time.Now().Add(time.Hour)}, nil
	}
	for range 3 {
		tok, _, err := g.DoContext(context.Background(), "audience", issue)
		fmt.Println(tok.secret, err)
	}
	// Output:
	// secret 1 <nil>
	// secret 1 <nil>
	// secret 1 <nil>
}

// Hooks report the life of flights, here to count those that fail.
func ExampleHooks() {
	var running, failed atomic.Int64
	g := coalesce.Group[string, int]{Hooks: coalesce.Hooks[string]{
		Start: func(context.Context, coalesce.Event[string]) context.Context {
			running.Add(1)
			return nil // fn's context stays as it is
		},
		Finish: func(_ context.Context, e coalesce.Event[string]) {
			if e.Outcome != coalesce.OutcomeClosed { // otherwise it never started
				running.Add(-1)
			}
			if e.Err != nil {
				failed.Add(1)
				fmt.Println(e.Key, e.Outcome, e.Err, e.Waiters)
			}
		},
	}}
	g.Do("key", func() (int, error) {
		fmt.Println(running.Load(), "running")
		return 0, errors.New("no such key")
	})
	fmt.Println(running.Load(), "running,", failed.Load(), "failed")
	// Output:
	// 1 running
	// key returned no such key 0
	// 0 running, 1 failed
}

// A span stands for one of a tracer's.
type span struct{ path string }

type spanKey struct{}

// startSpan begins a span, as a child of that in ctx, and returns a context with it.
func startSpan(ctx context.Context, name string) context.Context {
	if parent, ok := ctx.Value(spanKey{}).(*span); ok {
		name = parent.path + " > " + name
	}
	return context.WithValue(ctx, spanKey{}, &span{name})
}

// endSpan ends the span in ctx.
func endSpan(ctx context.Context) {
	fmt.Println(ctx.Value(spanKey{}).(*span).path)
}

// A span for each execution begins in Start and ends in Finish. It is a child of the
// leader's span, and the parent of those that fn begins. (The flights of a DoMulti share
// one Start, and so one span: end it in the Finish with the FlightID of the Start.)
func ExampleHooks_span() {
	g := coalesce.Group[string, int]{Hooks: coalesce.Hooks[string]{
		Start: func(ctx context.Context, e coalesce.Event[string]) context.Context {
			return startSpan(ctx, "load "+e.Key)
		},
		Finish: func(ctx context.Context, e coalesce.Event[string]) { endSpan(ctx) },
	}}
	ctx := startSpan(context.Background(), "request")
	_, _, _ = g.DoContext(ctx, "user 1", func(ctx context.Context) (int, error) {
		endSpan(startSpan(ctx, "query"))
		return 1, nil
	})
	endSpan(ctx)
	// Output:
	// request > load user 1 > query
	// request > load user 1
	// request
}

// A histogram of how long followers wait. Leaders do not wait: at Finish, Event.Run is
// the time for which their fn ran.
func ExampleHooks_receive() {
	bounds := [...]time.Duration{time.Millisecond, 10 * time.Millisecond, time.Minute}
	var waits [len(bounds) + 1]atomic.Int64
	joined := make(chan struct{})
	g := coalesce.Group[string, int]{Hooks: coalesce.Hooks[string]{
		Join: func(context.Context, coalesce.Event[string]) { close(joined) },
		Receive: func(_ context.Context, e coalesce.Event[string]) {
			i := 0
			for i < len(bounds) && e.Wait > bounds[i] {
				i++
			}
			waits[i].Add(1)
		},
	}}
	var follower sync.WaitGroup
	g.Do("key", func() (int, error) {
		follower.Go(func() { g.Do("key", func() (int, error) { return 2, nil }) })
		<-joined
		time.Sleep(20 * time.Millisecond)
		return 1, nil
	})
	follower.Wait()
	for i, bound := range bounds {
		fmt.Println("up to", bound, waits[i].Load())
	}
	// Output:
	// up to 1ms 0
	// up to 10ms 0
	// up to 1m0s 1
}

func ExamplePanicError() {
	var g coalesce.Group[string, int]
	defer func() {
		var pe *coalesce.PanicError
		if err, ok := recover().(error); ok && errors.As(err, &pe) {
			fmt.Println("panic:", pe.Value)
		}
	}()
	g.Do("key", func() (int, error) { panic("out of cheese") })
	// Output: panic: out of cheese
}

// Two templates include each other. The call that would wait for itself gets an error,
// and all callers get an answer.
func ExampleDeadlockError() {
	var templates coalesce.Group[string, string]
	includes := map[string]string{"page": "header", "header": "page"}

	var render func(ctx context.Context, name string) (string, error)
	render = func(ctx context.Context, name string) (string, error) {
		text, _, err := templates.DoContext(ctx, name, func(ctx context.Context) (string, error) {
			inner, err := render(ctx, includes[name]) // with the context of the flight
			return "<" + inner + ">", err
		})
		return text, err
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := render(ctx, "page")
	fmt.Println(errors.Is(err, coalesce.ErrDeadlock))
	fmt.Println(err)

	var cycle *coalesce.DeadlockError
	if errors.As(err, &cycle) {
		fmt.Println(len(cycle.Keys)-1, "templates, starting with", cycle.Keys[0])
	}
	// Output:
	// true
	// coalesce: deadlock: header → page → header
	// 2 templates, starting with header
}

// A page is loaded and starts to load the next page, for which it does not wait. That one
// asks for the page before it.
func ExampleDetach() {
	var pages coalesce.Group[int, string]
	ahead := make(chan string, 1)
	unused := func(context.Context) (string, error) { return "", nil }
	load := func(ctx context.Context) (string, error) {
		go func() {
			ctx := coalesce.Detach(ctx) // with ctx itself, the last call would get ErrDeadlock
			next, _, err := pages.DoContext(ctx, 2, func(ctx context.Context) (string, error) {
				before, _, err := pages.DoContext(ctx, 1, unused)
				return "page 2, after " + before, err
			})
			ahead <- fmt.Sprint(next, " ", err)
		}()
		waitFor(&pages, 1, 1) // the other page has asked for this one
		return "page 1", nil
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	page, _, err := pages.DoContext(ctx, 1, load)
	fmt.Println(page, err)
	fmt.Println(<-ahead)
	// Output:
	// page 1 <nil>
	// page 2, after page 1 <nil>
}

// A client hangs up while its report is being made. As the next client will want the same
// report, the work goes on: that client joins it.
func ExampleHold() {
	var reports coalesce.Group[string, string]
	started, finish := make(chan struct{}), make(chan struct{})
	report := func(ctx context.Context) (string, error) {
		coalesce.Hold(ctx) // without it, ctx ends when the first client hangs up
		close(started)
		select {
		case <-finish: // the work
			return "made once", nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}

	first, hangUp := context.WithCancel(context.Background())
	go func() {
		<-started
		hangUp()
	}()
	_, _, err := reports.DoContext(first, "yearly", report)
	fmt.Println("first client:", err)

	go func() {
		waitFor(&reports, "yearly", 1) // the second client has joined
		close(finish)
	}()
	r, _, err := reports.DoContext(context.Background(), "yearly", report)
	fmt.Println("second client:", r, err)
	// Output:
	// first client: context canceled
	// second client: made once <nil>
}

func ExampleHashString() {
	g := coalesce.Group[string, int]{Hash: coalesce.HashString}
	v, _, err := g.Do("short key", func() (int, error) { return 1, nil })
	fmt.Println(v, err)
	// Output: 1 <nil>
}

// A handler whose fn may panic with http.ErrAbortHandler restores that value, which
// net/http compares with ==. Otherwise net/http would log the panic with its stack.
func ExamplePanicError_abortHandler() {
	var group coalesce.Group[string, string]
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			r := recover()
			if e, ok := r.(*coalesce.PanicError); ok && errors.Is(e, http.ErrAbortHandler) {
				r = http.ErrAbortHandler
			}
			if r != nil {
				panic(r)
			}
		}()
		page, _, _ := group.DoContext(r.Context(), r.URL.Path, func(context.Context) (string, error) {
			panic(http.ErrAbortHandler) // the backend has hung up in the middle
		})
		fmt.Fprint(w, page)
	})

	var logged strings.Builder
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(&logged, "", 0)
	server.Start()
	_, err := http.Get(server.URL)
	server.Close()
	fmt.Println("the request failed:", err != nil)
	fmt.Printf("the server logged %q\n", logged.String())
	// Output:
	// the request failed: true
	// the server logged ""
}
