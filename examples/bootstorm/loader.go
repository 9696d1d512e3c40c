package main

// This file loads modules: one attempt of one worker, and the one load that the
// attempts may share.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cespare/xxhash/v2"
)

// An image is the content that a load has found in the file of a module.
type image struct {
	size   int64
	digest uint64
}

// A loader loads the modules of a set under a policy.
type loader struct {
	set    *moduleSet
	policy policy
	init   time.Duration // the time that a module takes to come up
	live   registry
	meter  meter
}

// load makes m live, and returns errExist if it was already; the policy has to do so with
// as few reads as it can. asking is called when the attempt has passed the checks that
// are the caller's own, just before it calls the policy; g holds the load.
func (l *loader) load(ctx context.Context, m *module, g *gate, asking func()) error {
	// Open, and so the caller's right to read, comes before the policy: an
	// attempt that fails here must not answer for others. The file stays open
	// until the attempt is over, so that no other file gets its identity.
	f, size, id, err := openModule(l.set.file(m))
	if err != nil {
		return err
	}
	defer f.Close()
	if id != m.id {
		return fmt.Errorf("%s was replaced while the storm ran", m.path)
	}

	l.meter.attempts.Add(1)
	asking()
	led := false
	img, err := l.policy.load(id, func() (image, error) {
		led = true
		return l.read(ctx, f, size, m, g)
	})
	switch {
	case led:
		l.meter.leaders.Add(1)
	case errors.Is(err, errBusy):
		l.meter.busy.Add(1)
		g.refuse()
	default:
		l.meter.joined.Add(1)
	}
	if err != nil && !errors.Is(err, errExist) {
		return fmt.Errorf("%s: %w", m.path, err)
	}
	// The bytes must be those of the requested file, whichever attempt has read it.
	if verifyErr := m.verify(img); verifyErr != nil {
		return verifyErr
	}
	return err
}

// read reads the whole file of m into a buffer of its own, checks the content and makes m
// live, unless it is live already: then the read was wasted.
func (l *loader) read(ctx context.Context, f *os.File, size int64, m *module, g *gate) (image, error) {
	l.meter.buffer(size)
	defer l.meter.unbuffer(size)
	buf := make([]byte, size)
	n, err := readFull(ctx, f, buf)
	l.meter.bytesRead.Add(int64(n))
	img := image{size: size, digest: xxhash.Sum64(buf)}

	// A failed load is held like any other: it answers all callers that have joined.
	l.hold(ctx, m.id, g)
	if l.init > 0 {
		sleep(ctx, l.init)
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err != nil:
		err = fmt.Errorf("cannot read all %d bytes: %w", size, err)
	default:
		if err = m.verify(img); err == nil {
			err = l.live.publish(m.name)
		}
	}
	if errors.Is(err, errExist) {
		l.meter.late.Add(1)
	}
	if err != nil {
		l.meter.bytesWasted.Add(int64(n))
	} else {
		l.meter.bytesLive.Add(int64(n))
	}
	return img, err
}

// hold keeps the load of the file id at its gate.
func (l *loader) hold(ctx context.Context, id fileID, g *gate) {
	if w, ok := l.policy.(watchable); ok {
		g.hold(ctx, func() int { return w.followers(id) })
		return
	}
	g.hold(ctx, nil)
}

// verify returns an error if img is not the content of m's file.
func (m *module) verify(img image) error {
	if img.size != m.size || img.digest != m.digest {
		return fmt.Errorf("%s: digest mismatch: %d bytes with digest %016x instead of %d with %016x",
			m.path, img.size, img.digest, m.size, m.digest)
	}
	return nil
}
