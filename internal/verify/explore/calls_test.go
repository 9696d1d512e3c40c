//go:build coalesceexplore

package explore

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/sched"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// This file holds the steps of the programs: the acts of a client, and those of the fns
// of its calls.

// A deed is an act of an fn.
type deed struct {
	how     history.Exit
	holds   bool  // it calls Hold
	failing []int // an fn of DoMulti returns KeyErrors for these keys
	wrapped bool  // and wraps them
}

var (
	returnsValue = deed{}
	returnsError = deed{how: history.ExitError}
	panicsInFn   = deed{how: history.ExitPanic}
	callsGoexit  = deed{how: history.ExitGoexit}
	holdsFlight  = deed{holds: true}
)

// enter and leave surround the acts of an fn for a key.
func (w *world) enter(of history.Token, ctx context.Context) {
	w.contexts[of], w.starts[of] = ctx, sched.Now()
	if w.running[of.Key]++; w.running[of.Key] > 1 && !w.forgot[of.Key] && !w.aging {
		w.note("%d executions of key %d at once", w.running[of.Key], of.Key)
	}
}

func (w *world) leave(of history.Token) { w.running[of.Key]-- }

// had notes that r has returned: its value may need the context of its fn for as long as
// it likes. A Shutdown may have ended that before.
func (w *world) had(r *history.Call) {
	ctx := w.contexts[r.From]
	if r.Got == history.GotResult && ctx != nil && (w.h.Closing == history.Never || ctx.Err() == nil) {
		w.lasting[r.From] = true
	}
}

// fn returns the fn of the call r, during which other clients can act.
func (w *world) fn(r *history.Call, does deed) func(context.Context) (history.Token, error) {
	me, e := r.Token, &r.Exec
	e.How = does.how
	return func(ctx context.Context) (history.Token, error) {
		e.Start, e.Ctx, e.Life = history.Now(), ctx, w.life(me, does.how)
		e.Runs++
		w.enter(me, ctx)
		w.heard.inFn(ctx)
		e.Held = does.holds && w.hold(ctx, me)
		sched.Point()
		if w.during != nil {
			w.during(w, me)
		}
		w.leave(me)
		e.Canceled = ctx.Err() != nil
		e.End = history.Now()
		switch does.how {
		case history.ExitError:
			return history.Token{}, &history.FnError{Of: me}
		case history.ExitPanic:
			panic(history.FnPanic{Of: me})
		case history.ExitGoexit:
			runtime.Goexit()
		}
		return me, nil
	}
}

// An endable is a context that a thread of a program ends. It has the values of its
// parent, and ends with it if that is an fn's.
type endable struct {
	context.Context
	done  chan struct{}
	ended bool
}

func newEndable(parent context.Context) *endable {
	c := &endable{Context: parent, done: make(chan struct{})}
	if fns, ok := parent.(interface {
		AfterFunc(func()) (stop func() bool)
	}); ok {
		fns.AfterFunc(c.close)
	}
	return c
}

func (c *endable) Done() <-chan struct{} { return c.done }

func (c *endable) Err() error {
	sched.Point()
	if c.ended {
		return context.Canceled
	}
	return nil
}

func (c *endable) close() {
	if !c.ended {
		c.ended = true
		close(c.done)
	}
}

// end ends c, as a client of its own.
func (c *endable) end() {
	sched.Go(func() {
		sched.Point()
		c.close()
	})
}

// begin returns a context for a call of the records, and notes that it begins. If cancel
// is set, the context may end at any time.
func (w *world) begin(cancel bool, records ...*history.Call) *endable {
	ctx := newEndable(context.Background())
	if cancel {
		ctx.end()
	}
	w.beginWith(ctx, records...)
	return ctx
}

// beginWith is begin for a call that has a context, or none if that is Background.
func (w *world) beginWith(ctx context.Context, records ...*history.Call) {
	w.heard.begin(ctx, records...)
	sched.Point()
	for _, r := range records {
		w.begins[r.Token] = sched.Now()
	}
}

// call returns a step that makes one call of a blocking form. If cancel is set, the
// call's context may end at any time.
func call(name string, form storm.Form, key int, does deed, cancel bool) step {
	return step{name, func(w *world, c *storm.Client) {
		r := c.NewRecord(key)
		r.Fresh, r.Try = form == storm.ByFresh, form == storm.ByTry
		ctx := context.Background()
		if form == storm.ByContext || form == storm.ByFresh {
			ctx = w.begin(cancel, r)
		} else {
			w.beginWith(ctx, r)
		}
		c.Block(form, ctx, r, w.fn(r, does))
		w.had(r)
		w.heard.returned(r)
	}}
}

// callForever returns a step that makes a DoContext whose context never ends: if it
// leads, it runs fn itself.
func callForever(name string, key int) step {
	return step{name, func(w *world, c *storm.Client) {
		r := c.NewRecord(key)
		w.beginWith(context.Background(), r)
		c.Block(storm.ByContext, context.Background(), r, w.fn(r, returnsValue))
		w.had(r)
		w.heard.returned(r)
	}}
}

// callChan returns a step that makes a DoChan and receives from it.
func callChan(name string, key int, does deed, cancel bool) step {
	return step{name, func(w *world, c *storm.Client) {
		r := c.NewRecord(key)
		ctx := w.begin(cancel, r)
		r.Inv = history.Now()
		ch := c.G.DoChan(ctx, key, w.fn(r, does))
		sched.Await("receive", func() bool { return len(ch) > 0 })
		res := <-ch
		r.Ret = history.Now()
		w.record(r, ctx, res)
		if len(ch) > 0 {
			w.note("%v received twice", r.Token)
		}
	}}
}

// record records the answer of a call that does not block.
func (w *world) record(r *history.Call, ctx context.Context, res coalesce.Result[history.Token]) {
	r.Shared = res.Shared
	if pe, ok := res.Err.(*coalesce.PanicError); ok {
		r.RecordPanic(pe)
	} else {
		r.Record(ctx, res.Val, res.Err)
	}
	w.had(r)
}

// callMulti returns a step that makes a DoMulti.
func callMulti(name string, does deed, cancel bool, keys ...int) step {
	return step{name, func(w *world, c *storm.Client) {
		records := map[int]*history.Call{}
		var all []*history.Call
		for _, key := range keys {
			records[key] = c.NewRecord(key)
			all = append(all, records[key])
		}
		ctx := w.begin(cancel, all...)
		for _, r := range all {
			r.Inv = history.Now()
		}
		results := c.G.DoMulti(ctx, keys, w.multiFn(records, does))
		ret := history.Now()
		if len(results) != len(keys) {
			w.note("%d results for %d keys", len(results), len(keys))
		}
		for _, r := range all {
			r.Ret = ret
			w.record(r, ctx, results[r.Key])
			if r.Got == history.GotResult {
				w.heard.returned(r)
			}
		}
	}}
}

// multiFn returns the fn of a DoMulti for which there are the given records.
func (w *world) multiFn(records map[int]*history.Call, does deed) func(context.Context, []int) (map[int]history.Token, error) {
	return func(ctx context.Context, keys []int) (map[int]history.Token, error) {
		of := map[int]history.Token{}
		failed := coalesce.KeyErrors[int]{}
		first := records[keys[0]].Token
		for _, key := range keys {
			x := &records[key].Exec
			x.Start, x.How, x.Batch, x.Ctx = history.Now(), does.how, first, ctx
			x.Runs++
			me := records[key].Token
			if slices.Contains(does.failing, key) {
				failed[key], x.How = &history.FnError{Of: me}, history.ExitError
			} else {
				of[key] = me
			}
			x.Life = w.life(me, x.How)
			w.batches[me] = first
			w.enter(me, ctx)
		}
		w.heard.inFn(ctx)
		var all []history.Token
		for _, key := range keys {
			all = append(all, records[key].Token)
		}
		held := does.holds && w.hold(ctx, all...)
		sched.Point()
		for _, key := range keys {
			w.leave(records[key].Token)
			x := &records[key].Exec
			x.Held, x.Canceled, x.End = held, ctx.Err() != nil, history.Now()
		}
		switch does.how {
		case history.ExitError:
			return nil, &history.BatchError{Of: of}
		case history.ExitPanic:
			panic(history.BatchPanic{Of: of})
		case history.ExitGoexit:
			runtime.Goexit()
		}
		switch {
		case does.failing == nil:
			return of, nil
		case does.wrapped:
			failed[0] = context.Canceled // an error for a key that was not passed to fn, so that failed is not empty
			return of, fmt.Errorf("some keys: %w", failed)
		}
		return of, failed // perhaps without a key
	}
}

// forget returns a step that forgets a key.
func forget(name string, key int, unshared bool) step {
	return step{name, func(w *world, c *storm.Client) {
		sched.Point()
		w.forgot[key] = true
		f := history.Forget{Key: key, Unshared: unshared, Inv: history.Now()}
		if unshared {
			f.Done = c.G.ForgetUnshared(key)
			w.maybe += btou(f.Done) // true also if there was no flight
		} else {
			f.Done = c.G.Forget(key)
			w.forgotten += btou(f.Done)
		}
		f.Ret = history.Now()
		c.Forgets = append(c.Forgets, f)
	}}
}

func btou(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// shutdown returns a step that shuts the group down. After that no fn runs.
func shutdown(name string, cancel bool) step {
	return step{name, func(w *world, c *storm.Client) {
		e := newEndable(context.Background())
		if cancel {
			e.end()
		}
		sched.Point()
		w.h.Closing = min(w.h.Closing, history.Now())
		err := w.g.Shutdown(e)
		switch {
		case err == nil:
			for key, n := range w.running {
				if n > 0 {
					w.note("%d executions of key %d after Shutdown", n, key)
				}
			}
		case !cancel || err != context.Canceled:
			w.note("Shutdown returned %v", err)
		}
		if w.lingers() {
			if n := w.g.Stats().Lingering; n != 0 {
				w.note("%d outcomes linger after Shutdown", n)
			}
		}
	}}
}

// elapse returns a step that lets time pass, after which running flights may be taken
// over, and outcomes may have expired.
func elapse(name string, d time.Duration) step {
	return step{name, func(w *world, c *storm.Client) {
		sched.Point()
		for key := 1; w.g.MaxAge > 0 && key <= 2; key++ {
			w.forgot[key] = true
			c.Forgets = append(c.Forgets, history.Forget{Key: key, Inv: history.Now(), Ret: history.Never, Done: true})
		}
		sched.Advance(int64(d))
	}}
}

// alphabet returns the steps of the small programs, all for key 1 except for the second
// key of a DoMulti.
func alphabet() []step {
	return []step{
		call("Do", storm.ByDo, 1, returnsValue, false),
		call("Do/other", storm.ByDo, 2, returnsValue, false),
		call("Do/error", storm.ByDo, 1, returnsError, false),
		call("Do/panic", storm.ByDo, 1, panicsInFn, false),
		call("Do/Goexit", storm.ByDo, 1, callsGoexit, false),
		call("DoContext", storm.ByContext, 1, returnsValue, false),
		callForever("DoContext/never", 1),
		call("DoContext/ends", storm.ByContext, 1, returnsValue, true),
		call("DoContext/panic/ends", storm.ByContext, 1, panicsInFn, true),
		call("DoContext/Goexit", storm.ByContext, 1, callsGoexit, false),
		call("DoFresh", storm.ByFresh, 1, returnsValue, false),
		call("DoFresh/ends", storm.ByFresh, 1, returnsValue, true),
		callChan("DoChan", 1, returnsValue, false),
		callChan("DoChan/ends", 1, returnsValue, true),
		callChan("DoChan/Goexit", 1, callsGoexit, false),
		call("TryDo", storm.ByTry, 1, returnsValue, false),
		callMulti("DoMulti", returnsValue, false, 1, 2),
		callMulti("DoMulti/ends", returnsValue, true, 2, 1),
		callMulti("DoMulti/panic", panicsInFn, false, 1, 2),
		forget("Forget", 1, false),
		forget("ForgetUnshared", 1, true),
		shutdown("Shutdown", false),
		shutdown("Shutdown/ends", true),
	}
}

// features returns the steps of single features. They are not in the alphabet, whose
// pairs are all explored.
func features() []step {
	return []step{
		call("DoContext/hold/ends", storm.ByContext, 1, holdsFlight, true),
		call("DoContext/hold/panic/ends", storm.ByContext, 1, deed{how: history.ExitPanic, holds: true}, true),
		call("DoFresh/hold/ends", storm.ByFresh, 1, holdsFlight, true),
		callChan("DoChan/hold/ends", 1, holdsFlight, true),
		callMulti("DoMulti/hold/ends", holdsFlight, true, 2, 1),
		call("Do/hold", storm.ByDo, 1, holdsFlight, false),
		callMulti("DoMulti/keys", deed{failing: []int{2}}, false, 1, 2),
		callMulti("DoMulti/keys/ends", deed{failing: []int{1}, wrapped: true}, true, 2, 1),
		call("DoContext/other/ends", storm.ByContext, 2, returnsValue, true),
		forgetFlight("ForgetFlight", 1),
		forgetFunc("ForgetFunc", 1),
		forgetFunc("ForgetFunc/both", 1, 2),
		elapse("a second", time.Second),
	}
}
