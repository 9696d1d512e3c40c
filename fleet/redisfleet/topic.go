package redisfleet

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file holds subscriptions. The watches of a key share one, as a client that ends a
// subscription ends all those of the channel.

// A topic is a channel with its watches.
type topic struct {
	users int // watches, and goroutines that end one; guarded by the engine's mu

	change chan struct{} // holds a token while the subscription begins or ends
	stop   func()        // ends it; nil if there is none

	mu        sync.Mutex
	listeners map[*listener]struct{}
}

type listener struct{ f func(fleet.Record) }

// hold returns the topic of a channel. release gives it back.
func (e *Engine) hold(channel string) *topic {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.topics[channel]
	if t == nil {
		t = &topic{change: make(chan struct{}, 1), listeners: map[*listener]struct{}{}}
		e.topics[channel] = t
	}
	t.users++
	return t
}

func (e *Engine) release(channel string, t *topic) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(e.topics, channel)
	}
}

// Notify is the method of a [fleet.Engine]. It returns when the subscription is in force.
func (e *Engine) Notify(ctx context.Context, key string, f func(fleet.Record)) (stop func(), err error) {
	channel := e.key(key)
	t := e.hold(channel)
	l := &listener{f}
	t.add(l)
	leave := func() {
		if !t.remove(l) {
			e.release(channel, t)
			return
		}
		go func() { // as it waits for the server
			t.unsubscribe()
			e.release(channel, t)
		}()
	}
	if err := t.subscribe(ctx, e, channel); err != nil {
		leave()
		return nil, err
	}
	return sync.OnceFunc(leave), nil
}

func (t *topic) add(l *listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listeners[l] = struct{}{}
}

// remove removes a listener, and reports whether none is left.
func (t *topic) remove(l *listener) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.listeners, l)
	return len(t.listeners) == 0
}

// subscribe begins the subscription, unless there is one.
func (t *topic) subscribe(ctx context.Context, e *Engine, channel string) (err error) {
	select {
	case t.change <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.change }()
	if t.stop != nil {
		return nil
	}
	t.stop, err = e.client.Subscribe(ctx, channel, e.options.Sharded, t.confirmed(), t.message)
	return err
}

// unsubscribe ends the subscription, unless a listener has come meanwhile.
func (t *topic) unsubscribe() {
	t.change <- struct{}{}
	defer func() { <-t.change }()
	t.mu.Lock()
	needed := len(t.listeners) > 0
	t.mu.Unlock()
	if !needed && t.stop != nil {
		t.stop()
		t.stop = nil
	}
}

// confirmed returns what is called when the subscription is in force. After the first
// time, something may have been missed.
func (t *topic) confirmed() func() {
	var again atomic.Bool
	return func() {
		if again.Swap(true) {
			t.each(fleet.Record{})
		}
	}
}

// message is called with each message.
func (t *topic) message(text string) {
	rec, ok := parse(text)
	if !ok {
		rec = fleet.Record{}
	}
	t.each(rec)
}

func (t *topic) each(rec fleet.Record) {
	t.mu.Lock()
	all := make([]*listener, 0, len(t.listeners))
	for l := range t.listeners {
		all = append(all, l)
	}
	t.mu.Unlock()
	for _, l := range all {
		l.f(rec)
	}
}
