// Package redisfleet lets the processes of a fleet share a Redis server, or a cluster, of
// version 6.2 or later. A cluster needs 7.
//
//	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}})
//	…
//	engine := redisfleet.New(redisfleet.Rueidis(client), redisfleet.Options{})
//	thumbnails := fleet.Group[string, []byte]{Engine: engine, Name: "thumbnails"}
//	err = thumbnails.Check(ctx)
//
// Package goredis, a module of its own, has an adapter for go-redis. Other clients need one
// of three methods, a [Client]. Security, authentication and reconnection are the client's.
//
// # Durability
//
// FG6, one unexpired lease for a key, holds until a failover loses a write: replication is
// asynchronous. FG7, tokens rise, holds unless the clock of the new server is behind that
// of the old one. Each costs an execution, and nothing else. A server without an
// append-only file forgets all leases when it is started again, and one that evicts keys when
// its memory is full (maxmemory-policy) may forget any.
//
// # Permissions
//
// With the default Options, a process needs these and no others:
//
//	resetkeys resetchannels ~sf:* &sf:* -@all
//	+get +set +eval +evalsha +time +publish +subscribe +unsubscribe +info +hello +ping +client
//
// In a cluster, +spublish +ssubscribe +sunsubscribe in the place of the last three, and
// +cluster.
package redisfleet

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file holds the Engine.
//
// A record is a string: its revision, a colon, and the value. A script compares, writes
// and publishes in one step, and names no key but the one that it is given. The revision
// is the server's time in microseconds, or one more than the one before if that is later;
// so the age of a record follows from its revision and the server's time.

// swapScript swaps ARGV[2] in for the revision ARGV[1], for ARGV[3] milliseconds.
// ARGV[4] is the command that publishes.
const swapScript = `
local old = redis.call('GET', KEYS[1])
local rev, val = '0', ''
if old then
	local colon = string.find(old, ':', 1, true)
	rev, val = string.sub(old, 1, colon - 1), string.sub(old, colon + 1)
end
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
if rev ~= ARGV[1] then
	return {'0', rev, val, string.format('%.0f', now)}
end
local new = string.format('%.0f', math.max(now, tonumber(rev) + 1))
redis.call('SET', KEYS[1], new .. ':' .. ARGV[2], 'PX', ARGV[3])
redis.call(ARGV[4], KEYS[1], new .. ':' .. ARGV[2])
return {'1', new}
`

// loadScript returns the record and the time.
const loadScript = `
local t = redis.call('TIME')
return {redis.call('GET', KEYS[1]) or '', string.format('%.0f', t[1] * 1000000 + t[2])}
`

// A Client is what an Engine needs of a client of Redis. Its methods may be called
// concurrently, and return when their ctx ends.
type Client interface {
	// Eval runs a script with one key, and returns its reply, which is a list of strings.
	Eval(ctx context.Context, script, key string, args ...string) ([]string, error)

	// Subscribe calls message for each message of a channel, until stop is called, and
	// confirmed each time when the subscription is in force: at first, and after each
	// reconnect, which is the Client's to do. It returns when confirmed has been called, or
	// with an error. sharded asks for SSUBSCRIBE. There is one subscription of a channel at
	// a time. All share a connection. stop may block; when it returns, the server has ended
	// the subscription, if it answers.
	Subscribe(ctx context.Context, channel string, sharded bool, confirmed func(), message func(string)) (stop func(), err error)

	// Info returns what the server says about its replication (INFO replication), and
	// whether it is known that others on the network cannot read what the connection
	// carries: it is encrypted, or does not leave the machine.
	Info(ctx context.Context) (replication string, private bool, err error)
}

// Options say how to use the server. All processes of a fleet have the same.
type Options struct {
	// Prefix is the first part of all keys and channels. Empty means sf.
	Prefix string

	// Sharded publishes within the shard of a key alone, by SPUBLISH. It needs Redis 7, and
	// is for clusters: without it, a cluster sends each push to all its servers.
	Sharded bool

	// Private says that others on the network cannot read what the connections carry, as
	// they are encrypted, or the network is trusted. Otherwise Check returns an error for a
	// server on another machine, unless the Client knows better or the records are sealed.
	// The adapter for rueidis cannot know.
	Private bool

	// MaxValue is the most bytes of a record. Zero means 8 MiB. The server's own limit is
	// 512 MB, but it does nothing else while it sends one.
	MaxValue int
}

// An Engine is a [fleet.Engine].
type Engine struct {
	client  Client
	options Options

	mu     sync.Mutex
	topics map[string]*topic
}

var (
	_ fleet.Engine  = (*Engine)(nil)
	_ fleet.Checker = (*Engine)(nil)
)

// New returns an Engine. It panics if client is nil.
func New(client Client, o Options) *Engine {
	if client == nil {
		panic("redisfleet: the client is nil")
	}
	if o.Prefix == "" {
		o.Prefix = "sf"
	}
	if o.MaxValue <= 0 {
		o.MaxValue = 8 << 20
	}
	return &Engine{client: client, options: o, topics: map[string]*topic{}}
}

// key returns the name of a record, which is that of its channel, too.
func (e *Engine) key(key string) string { return e.options.Prefix + ":{" + key + "}" }

var errReply = errors.New("redisfleet: the reply of the script is not one of it")

// Swap is the method of a [fleet.Engine].
func (e *Engine) Swap(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
	publish := "PUBLISH"
	if e.options.Sharded {
		publish = "SPUBLISH"
	}
	if len(val) > e.options.MaxValue {
		return fleet.Record{}, fmt.Errorf("redisfleet: a record of %d bytes, more than %d", len(val), e.options.MaxValue)
	}
	reply, err := e.client.Eval(ctx, swapScript, e.key(key), strconv.FormatUint(prev, 10), string(val),
		strconv.FormatInt(milliseconds(ttl), 10), publish)
	if err != nil {
		return fleet.Record{}, err
	}
	if len(reply) < 2 {
		return fleet.Record{}, errReply
	}
	rev, err := strconv.ParseUint(reply[1], 10, 64)
	switch {
	case err != nil:
		return fleet.Record{}, errReply
	case reply[0] == "1":
		return fleet.Record{Rev: rev, Age: -1}, nil
	case len(reply) != 4:
		return fleet.Record{}, errReply
	case rev == 0:
		return fleet.Record{}, &fleet.Conflict{Record: fleet.Record{Age: -1}}
	}
	return fleet.Record{}, &fleet.Conflict{Record: fleet.Record{Rev: rev, Val: []byte(reply[2]), Age: age(rev, reply[3])}}
}

// milliseconds rounds up.
func milliseconds(d time.Duration) int64 {
	return max(1, int64((d+time.Millisecond-1)/time.Millisecond))
}

// age returns how long ago a revision was written, by the server's clock.
func age(rev uint64, now string) time.Duration {
	t, err := strconv.ParseUint(now, 10, 64)
	if err != nil || t < rev {
		return -1
	}
	return time.Duration(t-rev) * time.Microsecond
}

// Load is the method of a [fleet.Engine].
func (e *Engine) Load(ctx context.Context, key string) (fleet.Record, error) {
	reply, err := e.client.Eval(ctx, loadScript, e.key(key))
	if err != nil {
		return fleet.Record{}, err
	}
	if len(reply) != 2 {
		return fleet.Record{}, errReply
	}
	if reply[0] == "" {
		return fleet.Record{}, fleet.ErrAbsent
	}
	rec, ok := parse(reply[0])
	if !ok {
		return fleet.Record{}, errReply
	}
	rec.Age = age(rec.Rev, reply[1])
	return rec, nil
}

// parse returns the record with the given text.
func parse(text string) (fleet.Record, bool) {
	number, val, ok := strings.Cut(text, ":")
	rev, err := strconv.ParseUint(number, 10, 64)
	return fleet.Record{Rev: rev, Val: []byte(val), Age: -1}, ok && err == nil && rev > 0
}

// Caps is the method of a [fleet.Engine].
func (e *Engine) Caps() fleet.Caps {
	return fleet.Caps{Name: "Redis", MaxValue: e.options.MaxValue, TTLGrain: time.Millisecond, Push: true}
}

// Check is the method of a [fleet.Checker]. It refuses a server that is one of several
// masters, as both would let a process lead, and a connection to another machine that is
// not encrypted, unless the records are sealed.
func (e *Engine) Check(ctx context.Context, sealed bool) error {
	info, private, err := e.client.Info(ctx)
	if err != nil {
		return fmt.Errorf("INFO: %w", err)
	}
	if role := roleOf(info); role != "master" {
		return fmt.Errorf("the server's role is %q, want master: with several, two processes would lead at once", role)
	}
	if !private && !sealed && !e.options.Private {
		return errors.New("the connection leaves the machine, perhaps not encrypted, and the records are not sealed (see Options.Private)")
	}
	return nil
}

// roleOf returns the role in what a server says about its replication.
func roleOf(info string) string {
	for line := range strings.Lines(info) {
		if role, ok := strings.CutPrefix(strings.TrimSpace(line), "role:"); ok {
			return role
		}
	}
	return ""
}
