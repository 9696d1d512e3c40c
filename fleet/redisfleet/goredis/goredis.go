// Package goredis lets an engine of package redisfleet use a client of go-redis.
//
//	rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
//	client, err := goredis.New(rdb)
//	…
//	engine := redisfleet.New(client, redisfleet.Options{})
//
// It is a module of its own, as a program that uses rueidis does not need go-redis.
package goredis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed342dcb2d/coalesce/fleet/redisfleet"
)

// A Client is a [redisfleet.Client]. Close it after the Shutdown of its Groups.
//
// One connection has all subscriptions. It is made when the first begins, and stays until
// Close.
type Client struct {
	c        redis.UniversalClient
	private  bool
	scripts  sync.Map      // *redis.Script of texts
	silence  time.Duration // after which the connection is asked, and again: made anew
	closed   chan struct{}
	receiver sync.WaitGroup

	mu      sync.Mutex
	ps      *redis.PubSub // nil before the first subscription, and after Close
	ended   bool          // Close was called
	heard   time.Time     // when something has come last
	watched map[string]*watch
}

var _ redisfleet.Client = (*Client)(nil)

// A watch is a subscription.
type watch struct {
	confirmed func()
	message   func(string)
	once      sync.Once
	first     chan struct{} // closed when it is in force
}

const (
	silence  = 2 * time.Second
	leaveFor = time.Second // how long the end of a subscription may take
)

// New returns a Client on a client of go-redis, which stays the caller's: a *[redis.Client]
// or a *[redis.ClusterClient], with ContextTimeoutEnabled, as operations have to end with
// their contexts.
func New(c redis.UniversalClient) (*Client, error) {
	var (
		ends  bool
		addrs []string
		tls   bool
	)
	switch c := c.(type) {
	case *redis.Client:
		o := c.Options()
		ends, addrs, tls = o.ContextTimeoutEnabled, []string{o.Addr}, o.TLSConfig != nil
	case *redis.ClusterClient:
		o := c.Options()
		ends, addrs, tls = o.ContextTimeoutEnabled, o.Addrs, o.TLSConfig != nil
	default: // A ring spreads keys as each process sees its servers: two would lead.
		return nil, fmt.Errorf("goredis: the client is a %T, want a *redis.Client or a *redis.ClusterClient", c)
	}
	if !ends {
		return nil, errors.New("goredis: ContextTimeoutEnabled is not set in the options of the client")
	}
	private := true
	for _, addr := range addrs {
		private = private && redisfleet.OnThisMachine(addr)
	}
	return &Client{
		c: c, private: private || tls, silence: silence, closed: make(chan struct{}), watched: map[string]*watch{},
	}, nil
}

// Close ends the connection of the subscriptions, and all of them. The client of go-redis
// stays open.
func (c *Client) Close() {
	c.mu.Lock()
	ps := c.ps
	if !c.ended {
		c.ended, c.ps = true, nil
		close(c.closed)
	}
	c.mu.Unlock()
	if ps != nil {
		_ = ps.Close()
	}
	c.receiver.Wait()
}

// Eval is the method of a [redisfleet.Client].
func (c *Client) Eval(ctx context.Context, script, key string, args ...string) ([]string, error) {
	s, ok := c.scripts.Load(script)
	if !ok {
		s, _ = c.scripts.LoadOrStore(script, redis.NewScript(script))
	}
	list := make([]any, len(args))
	for i, arg := range args {
		list[i] = arg
	}
	return s.(*redis.Script).Run(ctx, c.c, []string{key}, list...).StringSlice()
}

// Info is the method of a [redisfleet.Client].
func (c *Client) Info(ctx context.Context) (replication string, private bool, err error) {
	replication, err = c.c.Info(ctx, "replication").Result()
	return replication, c.private, err
}

// Subscribe is the method of a [redisfleet.Client]. It does not subscribe within a shard, as
// that would take a connection for each.
func (c *Client) Subscribe(ctx context.Context, channel string, sharded bool, confirmed func(), message func(string)) (stop func(), err error) {
	if sharded {
		return nil, errors.New("goredis: Options.Sharded is set, which this client does not support")
	}
	w := &watch{confirmed: confirmed, message: message, first: make(chan struct{})}
	ps, err := c.watch(channel, w)
	if err != nil {
		return nil, err
	}
	stop = func() { c.leave(channel, w) }
	if err := ps.Subscribe(ctx, channel); err != nil {
		stop()
		return nil, err
	}
	select {
	case <-w.first:
		return stop, nil
	case <-c.closed:
		return nil, errClosed
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

var errClosed = errors.New("goredis: the client is closed")

// watch notes a watch, and returns the connection.
func (c *Client) watch(channel string, w *watch) (*redis.PubSub, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil, errClosed
	}
	c.watched[channel] = w
	if c.ps == nil {
		c.ps = c.c.Subscribe(context.Background())
		c.heard = time.Now()
		c.receiver.Go(c.receive)
		c.receiver.Go(c.ask)
	}
	return c.ps, nil
}

// leave ends a watch.
func (c *Client) leave(channel string, w *watch) {
	c.mu.Lock()
	ps := c.ps
	mine := c.watched[channel] == w
	if mine {
		delete(c.watched, channel)
	}
	c.mu.Unlock()
	if ps != nil && mine {
		ctx, done := context.WithTimeout(context.Background(), leaveFor)
		defer done()
		_ = ps.Unsubscribe(ctx, channel)
	}
}

// current returns the connection, or nil after Close.
func (c *Client) current() *redis.PubSub {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ps
}

// receive takes what comes. The client of go-redis connects again and subscribes again when
// a connection breaks.
func (c *Client) receive() {
	for ps := c.current(); ps != nil; ps = c.current() {
		message, err := ps.Receive(context.Background())
		if err != nil {
			select {
			case <-c.closed:
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		c.mu.Lock()
		c.heard = time.Now()
		c.mu.Unlock()
		switch m := message.(type) {
		case *redis.Subscription:
			if w := c.watching(m.Channel); w != nil && m.Kind == "subscribe" {
				w.confirmed()
				w.once.Do(func() { close(w.first) })
			}
		case *redis.Message:
			if w := c.watching(m.Channel); w != nil {
				w.message(m.Payload)
			}
		}
	}
}

func (c *Client) watching(channel string) *watch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watched[channel]
}

// ask finds out whether the connection is one that nothing comes from, as of a network that
// drops all, and makes it anew.
func (c *Client) ask() {
	for {
		select {
		case <-c.closed:
			return
		case <-time.After(c.silence):
		}
		c.mu.Lock()
		ps, silent := c.ps, time.Since(c.heard)
		c.mu.Unlock()
		switch {
		case ps == nil:
			return
		case silent > 3*c.silence:
			c.renew(ps)
		case silent > c.silence/2:
			ctx, done := context.WithTimeout(context.Background(), c.silence)
			_ = ps.Ping(ctx)
			done()
		}
	}
}

// renew subscribes to everything on a new connection.
func (c *Client) renew(old *redis.PubSub) {
	c.mu.Lock()
	if c.ps != old {
		c.mu.Unlock()
		return
	}
	ps := c.c.Subscribe(context.Background())
	c.ps, c.heard = ps, time.Now()
	channels := make([]string, 0, len(c.watched))
	for channel := range c.watched {
		channels = append(channels, channel)
	}
	c.mu.Unlock()
	_ = old.Close()
	if len(channels) > 0 {
		ctx, done := context.WithTimeout(context.Background(), c.silence)
		defer done()
		_ = ps.Subscribe(ctx, channels...)
	}
}
