// Package natsfleet lets the processes of a fleet share a stream of NATS JetStream.
//
//	nc, err := nats.Connect(url)
//	…
//	engine, err := natsfleet.New(ctx, nc, natsfleet.Options{})
//	…
//	thumbnails := fleet.Group[string, []byte]{Engine: engine, Name: "thumbnails"}
//	err = thumbnails.Check(ctx)
//
// An administrator makes the stream once, with [Create]; [New] does so if it lacks and the
// connection may. Security, authentication and reconnection are the connection's. Package
// natsfleet/embedded runs a server within a process.
//
// # Durability
//
// FG6, one unexpired lease for a key, holds within the durability of the stream. A server
// syncs its files every two minutes by default: one that loses its power, and not only its
// process, may forget leases, and each costs an execution. With replicas that takes most
// of the servers at once.
//
// # Permissions
//
// With the default Options, a process needs these and no others:
//
//	publish    sf.k.>                     (or sf.k.NAME.>, for one Group.Name)
//	           $JS.API.STREAM.INFO.SF
//	           $JS.API.STREAM.MSG.GET.SF
//	subscribe  sf.w.>                     (or sf.w.NAME.>)
//	           _INBOX.>
//
// A subscription that is not permitted reports no error and gets nothing: Check finds it.
package natsfleet

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file holds the Engine.
//
// A key is a subject of the stream, which keeps one message of each, and its revision is
// the message's sequence number. The server compares, writes, and republishes to another
// subject in one step. The stream begins with the time in microseconds as its first
// number, so that revisions go on rising if it is lost and made again.
//
// A key-value bucket would not do: it reads from any replica, drops the time to live of an
// update, and notifies through a consumer, which takes longer.

// Options say which stream to use. All processes of a fleet have the same.
type Options struct {
	// Stream is the name of the stream. Empty means SF.
	Stream string

	// Prefix is the first part of all subjects. Empty means sf.
	Prefix string

	// Replicas is how many servers of a cluster keep the stream, if [New] or [Create]
	// makes it. Zero means 1. With three, one may fail.
	Replicas int

	// Memory keeps the stream in memory, if New or Create makes it: it is lost with its
	// server.
	Memory bool
}

func (o Options) withDefaults() Options {
	if o.Stream == "" {
		o.Stream = "SF"
	}
	if o.Prefix == "" {
		o.Prefix = "sf"
	}
	o.Replicas = max(o.Replicas, 1)
	return o
}

// Config returns the configuration of the stream.
func Config(o Options) jetstream.StreamConfig {
	o = o.withDefaults()
	storage := jetstream.FileStorage
	if o.Memory {
		storage = jetstream.MemoryStorage
	}
	return jetstream.StreamConfig{
		Name:              o.Stream,
		Description:       "leases and results of coalesce/fleet",
		Subjects:          []string{o.Prefix + ".k.>"},
		MaxMsgsPerSubject: 1,
		AllowMsgTTL:       true,
		Discard:           jetstream.DiscardOld,
		Storage:           storage,
		Replicas:          o.Replicas,
		FirstSeq:          uint64(time.Now().UnixMicro()),
		RePublish:         &jetstream.RePublish{Source: o.Prefix + ".k.>", Destination: o.Prefix + ".w.>"},
	}
}

// Create makes the stream. It returns an error if there is one with another configuration.
func Create(ctx context.Context, js jetstream.JetStream, o Options) (jetstream.Stream, error) {
	stream, err := js.CreateStream(ctx, Config(o))
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // FirstSeq differs
		stream, err = js.Stream(ctx, o.withDefaults().Stream)
		if err == nil {
			err = suits(stream.CachedInfo().Config, o)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("natsfleet: stream %s: %w", o.withDefaults().Stream, err)
	}
	return stream, nil
}

// suits returns an error that names the first setting which is wrong.
func suits(got jetstream.StreamConfig, o Options) error {
	want := Config(o)
	switch {
	case len(got.Subjects) != 1 || got.Subjects[0] != want.Subjects[0]:
		return fmt.Errorf("its subjects are %q, want %q", got.Subjects, want.Subjects)
	case got.MaxMsgsPerSubject != 1:
		return fmt.Errorf("it keeps %d messages of a subject, want 1", got.MaxMsgsPerSubject)
	case !got.AllowMsgTTL:
		return errors.New("its messages have no time to live")
	case got.AllowDirect:
		return errors.New("it may be read from any replica (AllowDirect)")
	case got.RePublish == nil || got.RePublish.Source != want.RePublish.Source ||
		got.RePublish.Destination != want.RePublish.Destination || got.RePublish.HeadersOnly:
		return fmt.Errorf("it republishes %+v, want %+v", got.RePublish, *want.RePublish)
	case got.FirstSeq < 1e15:
		return errors.New("its first sequence number is not the time in microseconds, so tokens fall if it is made again")
	case got.Retention != jetstream.LimitsPolicy:
		return fmt.Errorf("its retention is %v, want limits: a lease is no message to be consumed", got.Retention)
	case got.SubjectDeleteMarkerTTL != 0:
		return errors.New("it leaves a marker where a message has expired, which nobody can replace as if there were nothing")
	case got.MaxMsgs > 0 || got.MaxAge > 0:
		return errors.New("it has a limit of its own, of messages or their age, and may drop leases early")
	case got.Discard == jetstream.DiscardNew:
		return errors.New("it refuses messages when it is full")
	}
	return nil
}

// An Engine is a [fleet.Engine]. Close it after the Shutdown of its Groups.
type Engine struct {
	options Options
	nc      *nats.Conn
	js      jetstream.JetStream
	stream  jetstream.Stream
	status  chan nats.Status // of the connection; Close closes it
	most    int              // bytes of a record
	once    sync.Once

	mu       sync.Mutex
	watchers map[*watcher]struct{}
	clock    serverClock
}

var (
	_ fleet.Engine  = (*Engine)(nil)
	_ fleet.Checker = (*Engine)(nil)
)

// A watcher is one that is notified.
type watcher struct {
	f func(fleet.Record)
}

// New returns an Engine on a connection, which stays the caller's. It finds the stream, and
// makes it if there is none and the connection may.
func New(ctx context.Context, nc *nats.Conn, o Options) (*Engine, error) {
	if nc == nil {
		return nil, errors.New("natsfleet: the connection is nil")
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("natsfleet: %w", err)
	}
	o = o.withDefaults()
	stream, err := js.Stream(ctx, o.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = Create(ctx, js, o)
	}
	if err != nil {
		return nil, fmt.Errorf("natsfleet: stream %s: %w", o.Stream, err)
	}
	if err := suits(stream.CachedInfo().Config, o); err != nil {
		return nil, fmt.Errorf("natsfleet: stream %s: %w", o.Stream, err)
	}
	e := &Engine{
		options: o, nc: nc, js: js, stream: stream, watchers: map[*watcher]struct{}{},
		status: nc.StatusChanged(nats.CONNECTED),
	}
	e.most = int(nc.MaxPayload()) - headerSpace
	if most := int(stream.CachedInfo().Config.MaxMsgSize); most > 0 {
		e.most = min(e.most, most-headerSpace)
	}
	go e.reconnects()
	return e, nil
}

// Close ends the goroutine of e. The connection stays open.
func (e *Engine) Close() {
	e.once.Do(func() { e.nc.RemoveStatusListener(e.status) })
}

// reconnects notifies all watchers that they may have missed something, each time that the
// connection is there again and their subscriptions are in force.
func (e *Engine) reconnects() {
	for range e.status { // until Close
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_ = e.nc.FlushWithContext(ctx) // behind the subscriptions, which the client sends again
		cancel()
		e.mu.Lock()
		all := make([]*watcher, 0, len(e.watchers))
		for w := range e.watchers {
			all = append(all, w)
		}
		e.mu.Unlock()
		for _, w := range all {
			w.f(fleet.Record{})
		}
	}
}

// subject returns the subject of a key: "name/version/id" with dots. The kind is k for the
// record, and w for its push.
func subject(o Options, kind, key string) string {
	return o.withDefaults().Prefix + "." + kind + "." + strings.ReplaceAll(key, "/", ".")
}

// The codes of a conflict: a wrong revision, and one that is being written.
const (
	wrongSequence    = 10071
	sequenceInFlight = 10164
)

// Swap is the method of a [fleet.Engine].
func (e *Engine) Swap(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (fleet.Record, error) {
	if len(val) > e.most {
		return fleet.Record{}, fmt.Errorf("natsfleet: a record of %d bytes, more than %d", len(val), e.most)
	}
	msg := &nats.Msg{Subject: subject(e.options, "k", key), Data: val}
	ack, err := e.js.PublishMsg(ctx, msg,
		jetstream.WithExpectLastSequencePerSubject(prev),
		jetstream.WithMsgTTL(wholeSeconds(ttl)),
		jetstream.WithRetryAttempts(0))
	if err == nil {
		return fleet.Record{Rev: ack.Sequence, Age: -1}, nil
	}
	if c, ok := conflict(err); ok {
		return fleet.Record{}, c
	}
	return fleet.Record{}, err
}

// conflict returns err as a conflict, if it is one.
func conflict(err error) (c *fleet.Conflict, ok bool) {
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.ErrorCode != wrongSequence && api.ErrorCode != sequenceInFlight {
		return nil, false
	}
	c = &fleet.Conflict{Record: fleet.Record{Age: -1}}
	if rev, ok := lastSequence(api.Description); ok && api.ErrorCode == wrongSequence {
		c.Record.Rev = rev
	} else {
		c.Unnamed = true
	}
	return c, true
}

var sequenceAtEnd = regexp.MustCompile(`: (\d+)$`)

// lastSequence returns the number in a text such as "wrong last sequence: 7".
func lastSequence(text string) (uint64, bool) {
	m := sequenceAtEnd.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	rev, err := strconv.ParseUint(m[1], 10, 64)
	return rev, err == nil
}

// wholeSeconds rounds up: the server cuts off what is less than a second.
func wholeSeconds(d time.Duration) time.Duration {
	return max(time.Second, (d + time.Second - 1).Truncate(time.Second))
}

// Load is the method of a [fleet.Engine].
func (e *Engine) Load(ctx context.Context, key string) (fleet.Record, error) {
	msg, err := e.stream.GetLastMsgForSubject(ctx, subject(e.options, "k", key))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return fleet.Record{}, fleet.ErrAbsent
	case err != nil:
		return fleet.Record{}, err
	}
	return fleet.Record{Rev: msg.Sequence, Val: nonNil(msg.Data), Age: e.age(ctx, msg.Time)}, nil
}

// nonNil returns b, or no bytes for nil, which in a Record means that it is not known.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Notify is the method of a [fleet.Engine]. The subscription is one of the connection's.
func (e *Engine) Notify(_ context.Context, key string, f func(fleet.Record)) (stop func(), err error) {
	sub, err := e.nc.Subscribe(subject(e.options, "w", key), func(m *nats.Msg) {
		rev, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil {
			f(fleet.Record{}) // some other message
			return
		}
		f(fleet.Record{Rev: rev, Val: nonNil(m.Data), Age: -1})
	})
	if err != nil {
		return nil, err
	}
	w := &watcher{f}
	e.mu.Lock()
	e.watchers[w] = struct{}{}
	e.mu.Unlock()
	return func() {
		e.mu.Lock()
		delete(e.watchers, w)
		e.mu.Unlock()
		_ = sub.Unsubscribe()
	}, nil
}

// headerSpace is what the headers of a message take at most, of the server's limit for a
// message.
const headerSpace = 1024

// Caps is the method of a [fleet.Engine].
func (e *Engine) Caps() fleet.Caps {
	return fleet.Caps{Name: "NATS JetStream", MaxValue: e.most, TTLGrain: time.Second, Push: true}
}

// A serverClock is what is known about the clock of the server that leads the stream: that
// it showed a time not before asked, by the clock of this process, and not after answered.
type serverClock struct {
	showed          time.Time
	since           time.Time // when it has begun to lead, by its clock; zero if it always has
	asked, answered time.Time
}

// clockFor is how long that is good for: clocks drift, and another server may lead, after
// an election that takes longer than this.
const clockFor = 2 * time.Second

// age returns how long ago the server has written a message, at most, or a negative number
// if the server does not say how late it is, or the clock was that of another server.
func (e *Engine) age(ctx context.Context, written time.Time) time.Duration {
	e.mu.Lock()
	c := e.clock
	e.mu.Unlock()
	if time.Since(c.answered) > clockFor {
		asked := time.Now()
		info, err := e.stream.Info(ctx)
		if err != nil || info.TimeStamp.IsZero() {
			return -1
		}
		c = serverClock{showed: info.TimeStamp, asked: asked, answered: time.Now()}
		if info.Cluster != nil && info.Cluster.LeaderSince != nil {
			c.since = *info.Cluster.LeaderSince
		}
		e.mu.Lock()
		e.clock = c
		e.mu.Unlock()
	}
	if written.Before(c.since) {
		return -1
	}
	return max(-1, c.showed.Add(time.Since(c.asked)).Sub(written))
}

// Check is the method of a [fleet.Checker]. It reads the configuration of the stream, and
// returns an error for a connection to another machine that is not encrypted, unless the
// records are sealed.
func (e *Engine) Check(ctx context.Context, sealed bool) error {
	info, err := e.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("stream %s: %w", e.options.Stream, err)
	}
	if err := suits(info.Config, e.options); err != nil {
		return fmt.Errorf("stream %s: %w", e.options.Stream, err)
	}
	if sealed {
		return nil
	}
	return plain(e.nc)
}
