package redisfleet

import (
	"context"
	"crypto/sha1" //nolint:gosec // what EVALSHA asks for
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// This file holds the adapter for rueidis.

// Rueidis returns a [Client] on a client of package rueidis, which stays the caller's. It
// subscribes on the connection that the client has for everything else. It cannot see
// whether that is encrypted: see Options.Private.
func Rueidis(c rueidis.Client) Client {
	return &rueidisClient{c: c, hashes: map[string]string{}}
}

type rueidisClient struct {
	c rueidis.Client

	mu     sync.Mutex
	hashes map[string]string // of the scripts that the server knows
}

func (r *rueidisClient) Eval(ctx context.Context, script, key string, args ...string) ([]string, error) {
	r.mu.Lock()
	hash, known := r.hashes[script]
	r.mu.Unlock()
	if known {
		reply, err := r.c.Do(ctx, r.c.B().Evalsha().Sha1(hash).Numkeys(1).Key(key).Arg(args...).Build()).AsStrSlice()
		if e, ok := rueidis.IsRedisErr(err); !ok || !e.IsNoScript() {
			return reply, err
		}
	}
	reply, err := r.c.Do(ctx, r.c.B().Eval().Script(script).Numkeys(1).Key(key).Arg(args...).Build()).AsStrSlice()
	if err == nil { // the server knows it from now on
		sum := sha1.Sum([]byte(script)) //nolint:gosec // as above
		r.mu.Lock()
		r.hashes[script] = hex.EncodeToString(sum[:])
		r.mu.Unlock()
	}
	return reply, err
}

const (
	leaveFor  = time.Second            // how long the end of a subscription may take
	againWait = 100 * time.Millisecond // before a subscription that has failed is begun again
)

func (r *rueidisClient) Subscribe(ctx context.Context, channel string, sharded bool, confirmed func(), message func(string)) (stop func(), err error) {
	subscribe := func() rueidis.Completed { return r.c.B().Subscribe().Channel(channel).Build() }
	unsubscribe := func() rueidis.Completed { return r.c.B().Unsubscribe().Channel(channel).Build() }
	if sharded {
		subscribe = func() rueidis.Completed { return r.c.B().Ssubscribe().Channel(channel).Build() }
		unsubscribe = func() rueidis.Completed { return r.c.B().Sunsubscribe().Channel(channel).Build() }
	}
	first, ended := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(first) })
	hook := func(s rueidis.PubSubSubscription) {
		if !strings.HasSuffix(s.Kind, "unsubscribe") {
			confirmed()
			once()
		}
	}
	own, cancel := context.WithCancel(rueidis.WithOnSubscriptionHook(context.Background(), hook))
	var failed error // of the first subscription; read when ended
	go func() {
		defer close(ended)
		for own.Err() == nil {
			err := r.c.Receive(own, subscribe(), func(m rueidis.PubSubMessage) { message(m.Message) })
			select {
			case <-first:
			default:
				failed = errors.Join(err, errEnded)
				return
			}
			if errors.Is(err, rueidis.ErrClosing) {
				return
			}
			select {
			case <-own.Done():
			case <-time.After(againWait):
			}
		}
	}()
	stop = func() {
		cancel()
		<-ended
		// The client leaves it to its user to end a subscription of the server. Another of
		// the same channel begins after this, on the same connection.
		ctx, done := context.WithTimeout(context.Background(), leaveFor)
		defer done()
		_ = r.c.Do(ctx, unsubscribe()).Error()
	}
	select {
	case <-first:
		return stop, nil
	case <-ended:
		cancel()
		return nil, failed
	case <-ctx.Done():
		stop()
		return nil, ctx.Err()
	}
}

// errEnded is part of the error of a subscription that has ended before it began.
var errEnded = errors.New("redisfleet: the subscription has ended")

func (r *rueidisClient) Info(ctx context.Context) (replication string, private bool, err error) {
	replication, err = r.c.Do(ctx, r.c.B().Info().Section("replication").Build()).ToString()
	private = true
	for addr := range r.c.Nodes() {
		private = private && OnThisMachine(addr)
	}
	return replication, private, err
}

// OnThisMachine reports whether an address is one of this machine's: of its loopback
// interface, or of a Unix socket. It is for those who write a [Client].
func OnThisMachine(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return strings.HasPrefix(addr, "/")
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
