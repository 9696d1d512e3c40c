package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file runs the callers.

// A lane is the course of one caller, or of fn. Times are in tenths of fn's.
type lane struct {
	name     string
	from, to int
	began    string // its act at from
	ended    string // its result at to
	left     bool   // the caller left before fn returned
}

// record runs three callers and fn, and returns a lane for each of them, fn's first.
// The leader leaves while fn runs, another caller stays, and one comes late.
func record(tenth time.Duration) []lane {
	var (
		g     coalesce.Group[string, string]
		start = time.Now()
		now   = func() int { return int((time.Since(start) + tenth/2) / tenth) }
		fn    lane
		lanes = make([]lane, 3)
		wg    sync.WaitGroup
	)
	load := func(ctx context.Context) (string, error) {
		fn = lane{name: "fn", from: now(), began: "runs once"}
		select {
		case <-time.After(10 * tenth):
			fn.to, fn.ended = now(), "returns v"
			return "v", nil
		case <-ctx.Done(): // no caller is left, which does not happen
			return "", context.Cause(ctx)
		}
	}
	for i, c := range []struct {
		name     string
		at, stay int
		began    string
	}{
		{"first caller", 0, 4, "leads"},
		{"second caller", 2, 20, "joins"},
		{"third caller", 7, 20, "joins late"},
	} {
		wg.Go(func() {
			time.Sleep(time.Duration(c.at) * tenth)
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.stay)*tenth)
			defer cancel()
			l := lane{name: c.name, from: now(), began: c.began}
			v, _, err := g.DoContext(ctx, "key", load)
			l.to, l.left = now(), err != nil
			if l.ended = fmt.Sprintf("has %s", v); l.left {
				l.ended = "leaves: ctx ended"
			}
			lanes[i] = l
		})
	}
	wg.Wait()
	return append([]lane{fn}, lanes...)
}
