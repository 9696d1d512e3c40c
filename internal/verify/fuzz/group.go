package fuzz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/model"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

// Group checks that a Group behaves like the sequential model. The input is a program: a
// configuration and steps, each a call, the end of an fn or of a context, a Hold, a
// Forget, a Shutdown, or some time that passes. All effects of a step happen before the
// next one, and then all visible state of the Group is compared with the model.
//
// If the configuration has batches, that happens only at certain steps, and the steps
// between two of them happen at once, in any order. Then the check covers the rules that
// hold for all orders.
func Group(f *testing.F) {
	storm.SilenceLog(f)
	for _, program := range fuzzPrograms() {
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		synctest.Test(t, func(t *testing.T) { runProgram(t, program, nil) })
	})
}

// fuzzPrograms returns the programs that FuzzGroup starts from: each with the
// configuration that it is meant for, and with others.
func fuzzPrograms() (programs [][]byte) {
	for _, seeds := range fuzzSeeds {
		for _, more := range []int{
			0, fuzzHooks | fuzzClone, fuzzClone | fuzzOneShard | fuzzBlind, fuzzBatch | fuzzConstant, fuzzBatch | fuzzHooks,
		} {
			conf := seeds.conf | more
			for _, steps := range seeds.steps {
				programs = append(programs, append([]byte{byte(conf), byte(conf >> 8)}, steps...))
			}
		}
	}
	return programs
}

// A driver runs a program.
type driver struct {
	t     *testing.T
	g     *fuzzGroup
	m     *model.Group // nil in batches
	conf  int
	hooks fuzzRecorder
	trace []traceLine

	reached map[string]bool // see reach; nil in fuzzing

	calls     []*fuzzCall
	runs      []*fuzzRun    // the executions that it has seen
	flights   []*fuzzFlight // the flights that Flights has reported
	batch     int           // number of the current one
	forgotten int           // the number of keys that were certainly forgotten
	maybe     int           // the number of ForgetUnshareds that have returned true
	shutdown  *fuzzShutdown
	outOfTime bool
	released  chan struct{}
}

// A fuzzShutdown is a Shutdown that was called.
type fuzzShutdown struct {
	cancel   context.CancelFunc
	returned bool
	err      error
}

// runProgram runs a program in a bubble and reports the first difference. It adds the
// states that the program reaches to reached, which may be nil.
func runProgram(t *testing.T, program []byte, reached map[string]bool) {
	if len(program) < 2 {
		return
	}
	conf, steps := int(program[0])|int(program[1])<<8, program[2:]
	d := &driver{
		t: t, g: new(fuzzGroup), m: new(model.Group),
		conf: conf, batch: 1, released: make(chan struct{}), reached: reached,
	}
	d.configure()
	if d.is(fuzzBatch) {
		d.m = nil
	}
	defer d.release()
	for i := 0; i+1 < min(len(steps), 2*maxSteps); i += 2 {
		d.step(steps[i]%ops, steps[i+1])
		if d.m != nil {
			d.settle()
		}
		if t.Failed() {
			return
		}
	}
	d.drain()
}

// step does one step.
func (d *driver) step(op, arg byte) {
	switch {
	case op < opFinish:
		d.begin(model.Form(op), arg)
	case op < opCancel, op == opKeyErrors:
		if r := pick(d.running(), arg&argRun); r != nil {
			end := fuzzEnd{keyErrors: op == opKeyErrors, arg: arg}
			if !end.keyErrors {
				end.exit = model.Exit(op - opFinish)
			}
			d.finish(r, end)
		}
	case op == opHold:
		d.hold(arg)
	case op == opCancel:
		if c := pick(d.cancelable(), arg); c != nil {
			d.tracef("cancel %d", c.id)
			c.cancel(c.Cause)
			if d.m != nil {
				d.m.Cancel(&c.Call)
			}
		}
	case op == opForget, op == opForgetUnshared:
		d.forget(op, arg)
	case op == opForgetFunc:
		d.forgetFunc(arg)
	case op == opForgetFlight:
		d.forgetFlight(arg)
	case op == opShutdown && d.shutdown == nil:
		d.tracef("shutdown")
		ctx, cancel := context.WithCancel(context.Background())
		s := &fuzzShutdown{cancel: cancel}
		d.shutdown = s
		go func() {
			s.err = d.g.Shutdown(ctx)
			s.returned = true
		}()
		if d.m != nil {
			d.m.Shutdown()
		}
	case op == opOutOfTime && d.shutdown != nil && !d.outOfTime:
		d.tracef("shutdown is out of time")
		d.outOfTime = true
		d.shutdown.cancel()
		if d.m != nil && !d.m.Drained() {
			d.m.OutOfTime()
		}
	case op == opResume:
		if c := pick(d.slow(), arg); c != nil {
			d.resume(c)
		}
	case op == opWait:
		d.wait(waitTicks[int(arg)%len(waitTicks)])
	}
}

// wait lets ticks pass, after everything that was begun in a batch. Steps that a batch
// begins next happen at the same time as the events that were due by then.
func (d *driver) wait(ticks int) {
	d.tracef("%d ticks", ticks)
	if d.m == nil {
		d.settle()
	}
	time.Sleep(time.Duration(ticks) * fuzzTick)
	if d.m == nil {
		return
	}
	for range ticks {
		d.m.Tick()
	}
}

// begin makes a call on a goroutine of its own.
func (d *driver) begin(form model.Form, arg byte) {
	c := &fuzzCall{
		id: len(d.calls), asks: d.is(fuzzLingerFor), began: d.batch, beganAt: time.Now(),
		ctx: context.Background(), released: d.released,
	}
	c.Key, c.Form, c.Honors = d.keyOf(arg), form, arg&argHonors != 0
	kind := byte(argBackground)
	if form != model.Do && form != model.TryDo && arg&argContext != argBackground {
		kind = arg & argContext
		c.Cause = fmt.Errorf("cause of call %d", c.id)
		c.ctx, c.cancel = context.WithCancelCause(context.Background())
		if c.Ended = kind == argEnded; c.Ended {
			c.cancel(c.Cause)
		}
		if kind == argTimeout && d.m == nil {
			ctx, cancel := context.WithTimeout(c.ctx, fuzzTick)
			c.ctx, c.cancel = ctx, func(error) { cancel() }
		}
	}
	if d.is(fuzzHooks) {
		c.ctx = context.WithValue(c.ctx, fuzzCallKey{}, c)
	}
	c.plain = c.ctx
	if arg&argSlow != 0 && d.m != nil && c.Cause != nil && !c.Ended && form != model.DoMulti {
		c.slow = &slowContext{Context: c.ctx, resume: make(chan struct{})}
		c.ctx = c.slow
	}
	c.all = []*fuzzCall{c}
	if form == model.DoMulti {
		var keys []int
		for _, n := range multiKeys[arg>>6] {
			keys = append(keys, d.keyOf(arg+byte(n)))
		}
		c.ask(keys, arg&argAbsent != 0)
	}
	d.tracef("call %d: form %d key %d %v ctx %d honors %t slow %t", c.id, form, c.Key, c.keys, kind>>2, c.Honors, c.slow != nil)
	d.calls = append(d.calls, c.all...)
	go c.do(d.g)
	if d.m == nil {
		return
	}
	synctest.Wait()
	var calls []*model.Call
	for _, c := range c.all {
		calls = append(calls, &c.Call)
	}
	d.m.Begin(calls...)
	if c.slow != nil { // from now on
		c.slow.armed.Store(true)
		c.Slow = true
	}
}

// resume makes the slow context of c answer.
func (d *driver) resume(c *fuzzCall) {
	d.tracef("resume %d", c.id)
	close(c.slow.resume)
	d.m.Resume(&c.Call)
}

// finish makes r end.
func (d *driver) finish(r *fuzzRun, end fuzzEnd) {
	d.tracef("fn of call %d ends: %+v", r.calls[0].id, end)
	r.ending = true
	r.commands <- fuzzCommand{end: end}
	if d.m == nil {
		return
	}
	for _, c := range r.calls {
		c.Fails, c.Life = end.fails(c.Key), end.life(r, c)
	}
	d.reachEnd(r, end)
	d.m.Finish(r.calls[0].Flight, end.of(r))
	d.reachKept(r)
}

// hold calls Hold with the context of an fn, or with one that is derived from it.
func (d *driver) hold(arg byte) {
	runs := d.running()
	if arg&argPast != 0 {
		runs = d.runs
	}
	r := pick(runs, arg&argRun)
	if r == nil {
		return
	}
	first, ctx, detached := r.calls[0], r.ctx, false
	switch arg & argHolder {
	case argUncanceled:
		ctx = context.WithoutCancel(ctx)
	case argDetached:
		ctx, detached = coalesce.Detach(ctx), true
	case argDerived:
		derived, cancel := context.WithTimeout(context.WithValue(ctx, first, nil), time.Hour)
		defer cancel()
		ctx = derived
	}
	got := coalesce.Hold(ctx)
	d.tracef("hold the flight of call %d, argument %#x: %t", first.id, arg, got)
	if first.Own() && !detached {
		r.held, r.unheld = r.held || got, r.unheld || !got
	}
	if d.m == nil {
		if got && (detached || !first.Own()) {
			d.errorf("Hold returned true for a context that is no flight's")
		}
		return
	}
	if !detached {
		d.reach(fmt.Sprintf("Hold is %t", got), first.Flight)
	}
	if want := !detached && d.m.Hold(first.Flight); got != want {
		d.errorf("Hold returned %t, want %t", got, want)
	}
}

// running returns the executions that ran when the driver last looked and have no command
// to end.
func (d *driver) running() (rs []*fuzzRun) {
	for _, r := range d.runs {
		if r.finish == 0 && !r.ending {
			rs = append(rs, r)
		}
	}
	return rs
}

// slow returns the calls whose contexts are slow.
func (d *driver) slow() (cs []*fuzzCall) {
	for _, c := range d.calls {
		if c.Slow {
			cs = append(cs, c)
		}
	}
	return cs
}

// cancelable returns the calls whose contexts can be made to end.
func (d *driver) cancelable() (cs []*fuzzCall) {
	for _, c := range d.calls {
		if c.cancel != nil && !c.Ended {
			cs = append(cs, c)
		}
	}
	return cs
}

// pick returns one of some calls or executions, nil if there is none.
func pick[T any](of []*T, arg byte) *T {
	if len(of) == 0 {
		return nil
	}
	return of[int(arg)%len(of)]
}

// settle lets all effects of the steps so far happen, and checks them.
func (d *driver) settle() {
	synctest.Wait()
	for _, c := range d.calls {
		if r := c.run; r != nil && r.started == 0 {
			r.started = d.batch
			d.runs = append(d.runs, r)
		}
	}
	for _, r := range d.runs {
		if r.ended && r.finish == 0 {
			r.finish = d.batch
		}
	}
	d.checkReplies()
	if d.is(fuzzHooks) && len(d.slow()) == 0 { // otherwise some hooks may have to wait
		d.checkEvents()
	}
	if d.m == nil {
		d.checkCounts()
	} else if !d.t.Failed() {
		d.compare()
	}
	d.batch++
}

// drain ends all executions, until none runs, and checks that all calls have been
// answered.
func (d *driver) drain() {
	for d.settle(); !d.t.Failed(); d.settle() {
		rs, slow := d.running(), d.slow()
		if len(slow) > 0 {
			d.resume(slow[0])
		} else if len(rs) > 0 {
			d.finish(rs[0], fuzzEnd{})
		} else {
			break
		}
	}
	if d.t.Failed() {
		return
	}
	for _, c := range d.calls {
		if c.replies == 0 {
			d.errorf("call %d was never answered", c.id)
		}
		if len(c.ch) != 0 {
			d.errorf("call %d has a second Result", c.id)
		}
	}
	if n := d.g.Len(); n != 0 {
		d.errorf("Len() = %d at the end", n)
	}
	for f := range d.g.Flights() {
		d.errorf("%+v is left", f)
	}
	if err := storm.AtRest(d.g); err != nil {
		d.errorf("%v", err)
	}
	if s := d.shutdown; s != nil && !s.returned {
		d.errorf("Shutdown has not returned")
	}
}

// release ends everything after a failure, so that the bubble can end.
func (d *driver) release() {
	for _, c := range d.calls {
		if c.cancel != nil {
			c.cancel(errors.New("released"))
		}
		if c.Slow {
			close(c.slow.resume)
		}
	}
	close(d.released)
	if d.shutdown != nil {
		d.shutdown.cancel()
	}
}

// A traceLine describes a step. It is formatted only if something fails.
type traceLine struct {
	format string
	args   []any
}

func (d *driver) tracef(format string, args ...any) {
	d.trace = append(d.trace, traceLine{format, args})
}

func (d *driver) errorf(format string, args ...any) {
	d.t.Helper()
	var b strings.Builder
	for _, l := range d.trace {
		fmt.Fprintf(&b, l.format+"\n", l.args...)
	}
	d.t.Errorf("after\n%s%s", &b, fmt.Sprintf(format, args...))
}
