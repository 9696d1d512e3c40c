package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file runs the callers.

// A scene is a picture: callers of one key, and what fn does for them.
type scene struct {
	file    string
	callers []caller
	fns     []fn // what the first execution does, the second, …
}

// A caller is a call. Times are in tenths of those of the first fn.
type caller struct {
	name     string
	at, stay int    // when it calls, and after how long its context ends
	began    string // what becomes of it as it calls
	form     string // "" for DoContext
}

// An fn is one execution.
type fn struct {
	takes  int
	panics bool
	began  string
}

var scenes = []scene{
	{
		file: "flight.svg",
		callers: []caller{
			{name: "first caller", at: 0, stay: 4, began: "leads"},
			{name: "second caller", at: 2, stay: 20, began: "joins"},
			{name: "third caller", at: 7, stay: 20, began: "joins late"},
		},
		fns: []fn{{takes: 10, began: "runs once"}},
	},
	{
		file: "guide/abandoned.svg",
		callers: []caller{
			{name: "first caller", at: 0, stay: 3, began: "leads"},
			{name: "second caller", at: 1, stay: 4, began: "joins"},
			{name: "third caller", at: 7, stay: 20, began: "waits, then leads"},
		},
		fns: []fn{{takes: 10, began: "runs, and ignores that its context ends"}, {takes: 4, began: "runs"}},
	},
	{
		file: "guide/fresh.svg",
		callers: []caller{
			{name: "DoContext", at: 0, stay: 30, began: "leads"},
			{name: "DoFresh", at: 4, stay: 30, began: "waits, then leads", form: "DoFresh"},
			{name: "DoFresh", at: 6, stay: 30, began: "waits with it", form: "DoFresh"},
			{name: "DoContext", at: 8, stay: 30, began: "joins what runs"},
		},
		fns: []fn{{takes: 10, began: "runs"}, {takes: 4, began: "runs on what was written since"}},
	},
	{
		file: "guide/panic.svg",
		callers: []caller{
			{name: "DoContext", at: 0, stay: 30, began: "leads"},
			{name: "DoContext", at: 2, stay: 30, began: "joins"},
			{name: "DoChan", at: 4, stay: 30, began: "joins", form: "DoChan"},
			{name: "DoContext", at: 12, stay: 30, began: "leads"},
		},
		fns: []fn{{takes: 8, panics: true, began: "runs"}, {takes: 4, began: "runs"}},
	},
}

// A lane is the course of one caller, or of an fn. Times are in tenths.
type lane struct {
	name     string
	from, to int
	began    string // its act at from
	ended    string // its result at to
	left     bool   // the caller left before fn returned
	isFn     bool
	fn       int // a caller's: the lane of the fn whose result it got, or -1
}

// A stage is a scene that is being run.
type stage struct {
	scene
	tenth time.Duration
	start time.Time
	group coalesce.Group[string, int] // the value is the number of the execution

	mu  sync.Mutex
	fns []lane
}

func (s *stage) now() int { return int((time.Since(s.start) + s.tenth/2) / s.tenth) }

// record runs the callers of a scene, and returns a lane for each fn, and then for each of
// them.
func record(sc scene, tenth time.Duration) []lane {
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.DiscardHandler)) // panics that only a receiver gets
	s := &stage{scene: sc, tenth: tenth, start: time.Now()}
	lanes := make([]lane, len(s.callers))
	var wg sync.WaitGroup
	for i, c := range s.callers {
		wg.Go(func() {
			time.Sleep(time.Duration(c.at) * tenth)
			lanes[i] = s.call(c)
		})
	}
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(s.fns, lanes...)
}

// load is fn.
func (s *stage) load(ctx context.Context) (int, error) {
	s.mu.Lock()
	i := len(s.fns)
	f := s.scene.fns[i]
	s.fns = append(s.fns, lane{name: "fn", from: s.now(), began: f.began, isFn: true, fn: i})
	s.mu.Unlock()
	time.Sleep(time.Duration(f.takes) * s.tenth)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.fns[i]
	l.to, l.ended = s.now(), "returns "+value(i)
	if f.panics {
		l.ended = "panics"
		panic("panic")
	}
	return i, nil
}

// value returns the name of the value of an execution.
func value(i int) string {
	if i == 0 {
		return "v"
	}
	return "w"
}

// call makes one call, and returns its lane.
func (s *stage) call(c caller) (l lane) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.stay)*s.tenth)
	defer cancel()
	l = lane{name: c.name, from: s.now(), began: c.began, fn: -1}
	defer func() {
		l.to = s.now()
		if recover() != nil {
			l.ended, l.fn = "panics with it", 0
		}
	}()
	var v int
	var err error
	switch c.form {
	case "DoFresh":
		v, _, err = s.group.DoFresh(ctx, "key", s.load)
	case "DoChan":
		r := <-s.group.DoChan(ctx, "key", s.load)
		v, err = r.Val, r.Err
	default:
		v, _, err = s.group.DoContext(ctx, "key", s.load)
	}
	var panicked *coalesce.PanicError
	switch {
	case errors.As(err, &panicked):
		l.ended, l.fn = "has it in Result.Err", 0
	case err != nil:
		l.ended, l.left = "leaves: ctx ended", true
	default:
		l.ended, l.fn = fmt.Sprintf("has %s", value(v)), v
	}
	return l
}
