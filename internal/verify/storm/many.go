package storm

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
)

// This file holds the calls of DoMulti in a storm.

// many makes a DoMulti for the key of r and others, with a record for each key.
func (c *Client) many(ctx context.Context, r *history.Call, p plan) {
	records := map[int]*history.Call{r.Key: r}
	keys := []int{r.Key}
	for n := 1 << c.rng.IntN(5); n > 1 && len(c.Calls) < cap(c.Calls); n-- {
		key := c.rng.IntN(c.Keys)
		keys = append(keys, key)
		if records[key] == nil {
			records[key] = c.NewRecord(key)
		}
	}
	c.rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, r := range records {
		r.Inv = history.Now()
	}
	results := c.G.DoMulti(ctx, keys, c.manyFn(records, p))
	ret := history.Now()
	for key, r := range records {
		res := results[key]
		r.Ret, r.Shared = ret, res.Shared
		if pe, ok := res.Err.(*coalesce.PanicError); ok {
			r.RecordPanic(pe)
		} else {
			r.Record(ctx, res.Val, res.Err)
		}
		if len(results) != len(records) {
			r.Got, r.Note = history.GotNonsense, fmt.Sprintf("%d results for %d keys", len(results), len(records))
		}
	}
}

// exitOf returns the exit of the fn of a DoMulti for the i-th of its keys.
func (p plan) exitOf(i int) history.Exit {
	if !p.partly {
		return p.how
	}
	return []history.Exit{history.ExitError, history.ExitReturn, history.ExitAbsent}[(i+p.yields)%3]
}

// manyFn returns the fn of a DoMulti for which there are the given records. It may run
// more than once, but once for each key.
func (c *Client) manyFn(records map[int]*history.Call, p plan) func(context.Context, []int) (map[int]history.Token, error) {
	return func(ctx context.Context, keys []int) (map[int]history.Token, error) {
		of := make(map[int]history.Token, len(keys))
		for i, key := range keys {
			r := records[key]
			e := &r.Exec
			e.Start, e.How, e.Batch, e.Ctx = history.Now(), p.exitOf(i), records[keys[0]].Token, ctx
			e.Runs++
			if c.Runs != nil {
				c.Runs[key]++
			}
			of[key] = r.Token
			if c.Lives {
				e.Life = history.Stamp(otherLife)
				if e.How == history.ExitReturn || e.How == history.ExitError && p.partly {
					e.Life = history.Stamp(lifeOf(r.Token))
				}
			}
		}
		held := p.hold(ctx, atFirst)
		p.work(ctx)
		held = held || p.hold(ctx, atLast)
		for _, key := range keys {
			e := &records[key].Exec
			e.Held, e.Canceled = held, ctx.Err() != nil
			e.End = history.Now()
		}
		if p.partly {
			return p.part(keys, of)
		}
		switch p.how {
		case history.ExitError:
			return nil, &history.BatchError{Of: of}
		case history.ExitPanic:
			panic(history.BatchPanic{Of: of})
		case history.ExitGoexit:
			runtime.Goexit()
		}
		return of, nil
	}
}

// part returns the results of the fn of a DoMulti that fails for some of its keys: values
// for some, and errors for others.
func (p plan) part(keys []int, of map[int]history.Token) (map[int]history.Token, error) {
	failed := coalesce.KeyErrors[int]{}
	for i, key := range keys {
		switch p.exitOf(i) {
		case history.ExitError:
			failed[key] = &history.FnError{Of: of[key]}
			delete(of, key)
		case history.ExitReturn:
			failed[key] = nil // no error
		case history.ExitAbsent:
			delete(of, key)
		}
	}
	if p.honors && len(failed) > 0 {
		failed[-1] = errNotAsked // keeps it from being empty
		return of, fmt.Errorf("some keys failed: %w", failed)
	}
	return of, failed
}

// errNotAsked is the error of a key that fn did not get.
var errNotAsked = errors.New("not a key of fn's")
