// Package cases has the shapes of code in which two projects had the bug: authzed/spicedb
// up to #2953, and buildbuddy-io/buildbuddy up to #7199.
package cases

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// A revision is computed once for all who ask, and kept for a while.

type revision int64

type revisions struct {
	sync.RWMutex
	group   singleflight.Group
	compute func(context.Context) (revision, time.Duration, error)
	last    revision
	valid   time.Time
}

func (r *revisions) optimized(ctx context.Context) (revision, error) {
	now := time.Now()
	r.RLock()
	if now.Before(r.valid) {
		defer r.RUnlock()
		return r.last, nil
	}
	r.RUnlock()

	computed, err, _ := r.group.Do("", func() (any, error) {
		slog.DebugContext(ctx, "computing the revision")
		rev, valid, err := r.compute(ctx) // want `function passed to Do uses its caller's ctx: if that ends, it fails for all callers`
		if err != nil {
			return nil, fmt.Errorf("no revision: %w", err)
		}
		r.Lock()
		r.last, r.valid = rev, now.Add(valid)
		r.Unlock()
		return rev, nil
	})
	if err != nil {
		return 0, err
	}
	return computed.(revision), nil
}

// In the same project, the context had been cut off elsewhere: nothing to report.

type reader func(ctx context.Context, name string) (string, error)

func (r *revisions) schema(ctx context.Context, name string, read reader) (string, error) {
	loaded, err, _ := r.group.Do(name, func() (any, error) {
		return read(context.WithoutCancel(ctx), name)
	})
	if err != nil {
		return "", err
	}
	return loaded.(string), nil
}

// A file is downloaded once for all actions of a group that need it.

var downloads singleflight.Group

type fetcher struct {
	ctx  context.Context
	blob func(ctx context.Context, name string, to *os.File) error
}

func groupOf(ctx context.Context) string { s, _ := ctx.Value("group").(string); return s }

func (f *fetcher) read(ctx context.Context, hash, path string) error {
	_, err, _ := downloads.Do(groupOf(ctx)+"-"+hash, func() (interface{}, error) {
		file, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		if err := f.blob(ctx, hash, file); err != nil { // want `function passed to Do uses its caller's ctx: if that ends, it fails for all callers`
			return nil, err
		}
		return path, file.Close()
	})
	if err != nil {
		return errors.Join(err, errors.New("try again"))
	}
	return nil
}

// And one that waits no longer than its caller, but downloads with the caller's context.

func (f *fetcher) readOrLeave(ctx context.Context, hash, path string) error {
	done := downloads.DoChan(hash, func() (interface{}, error) {
		return nil, f.blob(ctx, hash, nil) // want `function passed to DoChan uses its caller's ctx: if that ends, it fails for all callers`
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}
