// Package procs runs processes of a fleet, for tests and for an example: a program starts
// itself several times, tells these children by lines of JSON what to do, and reads what
// happens in them.
package procs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file holds what a child does.

// A Command is what a child is told.
type Command struct {
	Op      string // call, fresh, forget, stats or shutdown
	ID      int    // in the events that follow
	Key     string
	Callers int           // how many goroutines make the call at once; 0 means 1
	Fn      time.Duration // how long fn takes
	Bytes   int           // of the value, beyond its name
	Fail    string        // how fn ends: error, panic, exit with its process, or obey its context
	Leave   time.Duration // when the callers leave; 0 for never
}

// An Event is what happens in a child. Its Time is of the machine's clock, which all
// children share.
type Event struct {
	Kind    string // ready, begin, end, answer, forgotten, stats or closed
	Process int    // set by the parent
	ID      int
	Time    time.Time
	Key     string
	Token   uint64
	Value   string // its name, for begin and answer
	Info    *fleet.Info
	Took    time.Duration // of a call
	Err     string
	Stats   *fleet.Stats
}

// A child reads commands and writes events.
type child struct {
	group *fleet.Group[string, string]
	mu    sync.Mutex // guards out, and n
	out   *json.Encoder
	n     int
}

// Child makes this process a child with a group, until its input ends or it is told to
// shut down.
func Child(group *fleet.Group[string, string], in io.Reader, out io.Writer) {
	c := &child{group: group, out: json.NewEncoder(out)}
	c.emit(Event{Kind: "ready"})
	var calls sync.WaitGroup
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var cmd Command
		if err := json.Unmarshal(lines.Bytes(), &cmd); err != nil {
			c.emit(Event{Kind: "closed", Err: err.Error()})
			return
		}
		switch cmd.Op {
		case "stats":
			st := group.Stats()
			c.emit(Event{Kind: "stats", ID: cmd.ID, Stats: &st})
		case "forget":
			_, err := group.Forget(context.Background(), cmd.Key)
			c.emit(Event{Kind: "forgotten", ID: cmd.ID, Err: textOf(err)})
		case "shutdown":
			ctx, cancel := context.WithTimeout(context.Background(), cmd.Fn)
			err := group.Shutdown(ctx)
			cancel()
			c.emit(Event{Kind: "closed", ID: cmd.ID, Err: textOf(err)})
			return
		default:
			for range max(1, cmd.Callers) {
				calls.Go(func() { c.call(cmd) })
			}
		}
	}
	calls.Wait()
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (c *child) emit(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.Time = time.Now()
	_ = c.out.Encode(e) // the parent is gone
}

// call makes one call.
func (c *child) call(cmd Command) {
	ctx := context.Background()
	if cmd.Leave > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cmd.Leave)
		defer cancel()
	}
	begin := time.Now()
	e := Event{Kind: "answer", ID: cmd.ID, Key: cmd.Key}
	defer func() {
		if p := recover(); p != nil {
			e.Err = fmt.Sprintf("panic: %v", p)
		}
		e.Took = time.Since(begin)
		c.emit(e)
	}()
	var v string
	var err error
	fn := func(ctx context.Context) (string, error) { return c.run(ctx, cmd) }
	if cmd.Op == "fresh" {
		v, _, err = c.group.DoFresh(ctx, cmd.Key, fn)
	} else {
		var info fleet.Info
		v, info, err = c.group.DoInfo(ctx, cmd.Key, fn)
		e.Info = &info
	}
	e.Value, e.Err = nameOf(v), textOf(err)
}

// run is fn. Its value is a name that no other execution has, and as many bytes as asked
// for.
func (c *child) run(ctx context.Context, cmd Command) (string, error) {
	token, _ := fleet.Token(ctx)
	c.mu.Lock()
	c.n++
	name := fmt.Sprintf("%d.%d.%s", os.Getpid(), c.n, cmd.Key)
	c.mu.Unlock()
	c.emit(Event{Kind: "begin", ID: cmd.ID, Key: cmd.Key, Token: token, Value: name})
	var done <-chan struct{}
	if cmd.Fail == "obey" {
		done = ctx.Done()
	}
	select {
	case <-done:
		return "", context.Cause(ctx)
	case <-time.After(cmd.Fn):
	}
	switch cmd.Fail {
	case "exit":
		if p, err := os.FindProcess(os.Getpid()); err == nil {
			_ = p.Kill()
		}
	case "panic":
		panic("fn has panicked")
	}
	c.emit(Event{Kind: "end", ID: cmd.ID, Key: cmd.Key, Token: token, Value: name})
	if cmd.Fail == "error" {
		return "", errors.New("fn has failed")
	}
	return name + "\n" + string(make([]byte, cmd.Bytes)), nil
}

// nameOf returns the name in a value.
func nameOf(v string) string {
	for i := range len(v) {
		if v[i] == '\n' {
			return v[:i]
		}
	}
	return v
}
