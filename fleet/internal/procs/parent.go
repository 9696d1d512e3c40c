package procs

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// This file holds what the parent does: it starts children, commands them, and keeps the
// log of what has happened in all of them.

// A Fleet is the children of a process, and their log.
type Fleet struct {
	mu       sync.Mutex
	children []*Process
	log      []Event
	changed  chan struct{} // closed when the log grows
	nextID   int
}

// A Process is a child.
type Process struct {
	Index int
	fleet *Fleet
	cmd   *exec.Cmd
	in    io.WriteCloser
	gone  chan struct{}
}

// Start starts the program itself as a child, with an environment of its own besides that
// of the parent, and waits until it is ready.
func (f *Fleet) Start(args []string, env ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	p := &Process{Index: len(f.children), fleet: f, cmd: cmd, in: in, gone: make(chan struct{})}
	f.children = append(f.children, p)
	f.mu.Unlock()
	go func() {
		defer close(p.gone)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e Event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				e.Process = p.Index
				f.add(e)
			}
		}
		_ = cmd.Wait()
	}()
	if _, ok := f.Wait(10*time.Second, func(e Event) bool { return e.Kind == "ready" && e.Process == p.Index }); !ok {
		p.Kill()
		return nil, fmt.Errorf("procs: process %d is not ready", p.Index)
	}
	return p, nil
}

func (f *Fleet) add(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, e)
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// Wait waits for an event, which may have happened already.
func (f *Fleet) Wait(most time.Duration, is func(Event) bool) (Event, bool) {
	timeout := time.After(most)
	for seen := 0; ; {
		f.mu.Lock()
		for ; seen < len(f.log); seen++ {
			if e := f.log[seen]; is(e) {
				f.mu.Unlock()
				return e, true
			}
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-timeout:
			return Event{}, false
		}
	}
}

// WaitN waits until there are n events of a kind, and returns whether that was in time.
func (f *Fleet) WaitN(most time.Duration, n int, is func(Event) bool) bool {
	_, ok := f.Wait(most, func(e Event) bool {
		if is(e) {
			n--
		}
		return n <= 0
	})
	return ok
}

// Log returns the events so far, in the order of their times.
func (f *Fleet) Log() []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	log := slices.Clone(f.log)
	slices.SortStableFunc(log, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return log
}

// Tell gives a command to a child, and returns the ID of its events.
func (p *Process) Tell(c Command) int {
	p.fleet.mu.Lock()
	p.fleet.nextID++
	c.ID = p.fleet.nextID
	p.fleet.mu.Unlock()
	line, err := json.Marshal(c)
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	_ = err // the child is gone, which its log shows
	return c.ID
}

// PID returns the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the child at once, and waits for that.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.gone
}

// End closes the child's input, and waits until it has ended; it kills it after a while.
func (p *Process) End(most time.Duration) {
	_ = p.in.Close()
	select {
	case <-p.gone:
	case <-time.After(most):
		p.Kill()
	}
}

// EndAll ends all children.
func (f *Fleet) EndAll() {
	f.mu.Lock()
	all := slices.Clone(f.children)
	f.mu.Unlock()
	for _, p := range all {
		p.End(time.Second)
	}
}

// An Execution is one of fn.
type Execution struct {
	Key, Value string
	Process    int
	Token      uint64
	Begin, End time.Time // End is zero if fn has not ended
}

// Executions returns the executions in a log, in the order in which they began.
func Executions(log []Event) []Execution {
	var all []Execution
	at := map[string]int{}
	for _, e := range log {
		switch e.Kind {
		case "begin":
			at[e.Value] = len(all)
			all = append(all, Execution{Key: e.Key, Value: e.Value, Process: e.Process, Token: e.Token, Begin: e.Time})
		case "end":
			if i, ok := at[e.Value]; ok {
				all[i].End = e.Time
			}
		}
	}
	return all
}

// Overlaps returns the pairs of executions of one key that ran at the same time. One that
// has not ended counts as one that ended as it began: its process is dead.
func Overlaps(all []Execution) (pairs [][2]Execution) {
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.Key == b.Key && b.Begin.Before(a.End) {
				pairs = append(pairs, [2]Execution{a, b})
			}
		}
	}
	return pairs
}

// Median returns the middle one of some durations, or 0.
func Median[T cmp.Ordered](all []T) (m T) {
	if len(all) == 0 {
		return m
	}
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}
