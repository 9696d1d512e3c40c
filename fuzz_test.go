package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/model"
)

// FuzzGroup checks that a Group does what the sequential model does. The input
// is a program: a byte of configuration and two bytes for each step, a call, the
// end of an fn or of a context, a Forget or a Shutdown. Everything that follows
// from a step happens before the next, and then all that can be seen of the
// Group is compared with the model.
//
// If the configuration says batch, that happens only at certain steps, and what
// lies between two of them happens at once, in any order. Then what is checked
// is what must be true of all orders.
func FuzzGroup(f *testing.F) {
	silenceLog(f)
	for _, steps := range fuzzSeeds {
		f.Add(append([]byte{0}, steps...))
		f.Add(append([]byte{fuzzClone | fuzzOneShard | fuzzBlind}, steps...))
		f.Add(append([]byte{fuzzBatch | fuzzConstant}, steps...))
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		synctest.Test(t, func(t *testing.T) { runProgram(t, program) })
	})
}

// The configuration of a program.
const (
	fuzzBatch    = 1 << iota
	fuzzOneShard // not the default number
	fuzzConstant // hash: all keys in one bucket
	fuzzClone
	fuzzBlind // Flights is not called: a flight that was seen is not used again
)

// The steps of a program. A step is an op and an argument.
const (
	opDo             = byte(model.Do)
	opContext        = byte(model.DoContext)
	opChan           = byte(model.DoChan)
	opFresh          = byte(model.DoFresh)
	opTry            = byte(model.TryDo)
	opFinish         = byte(model.Forms)
	opCancel         = opFinish + byte(model.Exits)
	opForget         = opCancel + 1
	opForgetUnshared = opCancel + 2
	opShutdown       = opCancel + 3
	opOutOfTime      = opCancel + 4 // the end of the context of Shutdown
	opResume         = opCancel + 5 // of a slow context
	opWait           = opCancel + 6 // in a batch; and time passes
	ops              = opCancel + 7
)

// The argument of a call: two bits of key, two of context, and two more. That
// of a Forget has a key, too, and the others pick an fn or a call.
const (
	argBackground = iota << 2 // the kinds of context
	argCancel
	argTimeout // in a batch, else as argCancel
	argEnded

	argKey     = 3
	argContext = 3 << 2
	argHonors  = 1 << 4 // fn returns when its context ends
	argSlow    = 1 << 5 // a slow context, not in a batch
	argInside  = 1 << 2 // Forget is called from inside an fn
)

// maxSteps bounds a program, as long ones find nothing that short ones do not.
const maxSteps = 64

// A driver runs a program.
type driver struct {
	t     *testing.T
	g     *coalesce.Group[int, *fuzzBox]
	m     *model.Group // nil in batches
	clone bool
	blind bool
	trace []traceLine

	calls     []*fuzzCall
	batch     int // number of the current one
	forgotten int // how many Forgets have returned true
	maybe     int // ... ForgetUnshareds
	shutdown  *fuzzShutdown
	outOfTime bool
}

// A fuzzShutdown is a Shutdown that was called.
type fuzzShutdown struct {
	cancel   context.CancelFunc
	returned bool
	err      error
}

// runProgram runs a program in a bubble and reports the first difference.
func runProgram(t *testing.T, program []byte) {
	if len(program) == 0 {
		return
	}
	conf, steps := program[0], program[1:]
	d := &driver{t: t, g: new(coalesce.Group[int, *fuzzBox]), batch: 1}
	if conf&fuzzOneShard != 0 {
		d.g.Shards = 1
	}
	if conf&fuzzConstant != 0 {
		d.g.Hash = func(int) uint64 { return 1 }
	}
	if conf&fuzzClone != 0 {
		d.clone = true
		d.g.Clone = func(b *fuzzBox) *fuzzBox { return &fuzzBox{of: b.of, cloned: true} }
	}
	d.blind = conf&fuzzBlind != 0
	if conf&fuzzBatch == 0 {
		d.m = new(model.Group)
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
	switch key := int(arg & argKey); {
	case op < opFinish:
		d.begin(model.Form(op), key, arg)
	case op < opCancel:
		if c := pick(d.running(), arg); c != nil {
			d.finish(c, model.Exit(op-opFinish))
		}
	case op == opCancel:
		if c := pick(d.cancelable(), arg); c != nil {
			d.tracef("cancel %d", c.id)
			c.cancel(c.Cause)
			if d.m != nil {
				d.m.Cancel(&c.Call)
			}
		}
	case op == opForget, op == opForgetUnshared:
		d.forget(op, key, pick(d.running(), arg>>3), arg&argInside != 0)
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
	case op == opWait && d.m == nil:
		d.settle()
		if arg&1 != 0 {
			time.Sleep(time.Millisecond)
			d.settle()
		}
	}
}

// begin makes a call on a goroutine of its own.
func (d *driver) begin(form model.Form, key int, arg byte) {
	c := &fuzzCall{
		id: len(d.calls), began: d.batch, ctx: context.Background(),
		commands: make(chan fuzzCommand, maxSteps+1),
	}
	c.Key, c.Form, c.Honors = key, form, arg&argHonors != 0
	kind := byte(argBackground)
	if form != model.Do && form != model.TryDo && arg&argContext != argBackground {
		kind = arg & argContext
		c.Cause = fmt.Errorf("cause of call %d", c.id)
		c.ctx, c.cancel = context.WithCancelCause(context.Background())
		if c.Ended = kind == argEnded; c.Ended {
			c.cancel(c.Cause)
		}
		if kind == argTimeout && d.m == nil {
			ctx, cancel := context.WithTimeout(c.ctx, time.Millisecond)
			c.ctx, c.cancel = ctx, func(error) { cancel() }
		}
	}
	c.plain = c.ctx
	if arg&argSlow != 0 && d.m != nil && c.Cause != nil && !c.Ended {
		c.Slow = true
		c.slow = &slowContext{Context: c.ctx, resume: make(chan struct{})}
		c.ctx = c.slow
	}
	d.tracef("call %d: form %d key %d ctx %d honors %t slow %t", c.id, form, key, kind>>2, c.Honors, c.Slow)
	d.calls = append(d.calls, c)
	go c.run(d.g)
	if d.m != nil {
		synctest.Wait()
		if c.Slow {
			c.slow.armed.Store(true)
		}
		d.m.Begin(&c.Call)
	}
}

// resume makes the slow context of c answer.
func (d *driver) resume(c *fuzzCall) {
	d.tracef("resume %d", c.id)
	close(c.slow.resume)
	d.m.Resume(&c.Call)
}

// finish makes the fn of c end.
func (d *driver) finish(c *fuzzCall, how model.Exit) {
	d.tracef("fn of call %d ends: exit %d", c.id, how)
	c.told = true
	c.commands <- fuzzCommand{exit: how}
	if d.m != nil {
		d.m.Finish(c.Flight, how)
	}
}

// forget forgets key, from inside the fn of c if that is wanted.
func (d *driver) forget(op byte, key int, c *fuzzCall, inside bool) {
	inside = inside && c != nil && d.m != nil
	d.tracef("forget: op %d key %d inside %t", op, key, inside)
	forget, count := d.g.Forget, &d.forgotten
	if op == opForgetUnshared {
		forget, count = d.g.ForgetUnshared, &d.maybe
	}
	var got bool
	if inside {
		c.commands <- fuzzCommand{do: func() { got = forget(key) }}
		synctest.Wait()
	} else {
		got = forget(key)
	}
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

// running returns the calls whose fn ran when the driver last looked and has
// not been told to end.
func (d *driver) running() (cs []*fuzzCall) {
	for _, c := range d.calls {
		if c.started != 0 && c.finish == 0 && !c.told {
			cs = append(cs, c)
		}
	}
	return cs
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

// pick returns one of cs, nil if there is none.
func pick(cs []*fuzzCall, arg byte) *fuzzCall {
	if len(cs) == 0 {
		return nil
	}
	return cs[int(arg)%len(cs)]
}

// settle lets everything happen that follows from the steps so far, and checks
// it.
func (d *driver) settle() {
	synctest.Wait()
	for _, c := range d.calls {
		if c.starts > 0 && c.started == 0 {
			c.started = d.batch
		}
		if c.ended && c.finish == 0 {
			c.finish = d.batch
		}
	}
	d.checkReplies()
	if d.m == nil {
		d.checkCounts()
	} else if !d.t.Failed() {
		d.compare()
	}
	d.batch++
}

// drain ends all that runs, until nothing does, and checks that all calls have
// been answered.
func (d *driver) drain() {
	for d.settle(); !d.t.Failed(); d.settle() {
		rs, slow := d.running(), d.slow()
		if len(slow) > 0 {
			d.resume(slow[0])
		} else if len(rs) > 0 {
			d.finish(rs[0], model.Return)
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
		close(c.commands)
	}
	if d.shutdown != nil {
		d.shutdown.cancel()
	}
}

// A traceLine tells of a step. It is formatted only if something fails.
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
