package goredis

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed342dcb2d/coalesce/fleet"
	"github.com/seed342dcb2d/coalesce/fleet/fleettest"
	"github.com/seed342dcb2d/coalesce/fleet/redisfleet"
	"github.com/seed342dcb2d/coalesce/fleet/redisfleet/internal/redistest"
)

// connect returns a Client with a client of its own, until the test ends.
func connect(t testing.TB, o *redis.Options) *Client {
	t.Helper()
	o.ContextTimeoutEnabled = true
	rdb := redis.NewClient(o)
	t.Cleanup(func() { rdb.Close() })
	c, err := New(rdb)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestEngine: a server passes.
func TestEngine(t *testing.T) {
	s := redistest.Start(t)
	fleettest.Engine(t, func(t testing.TB) fleet.Engine {
		return redisfleet.New(connect(t, &redis.Options{Addr: s.Addr}), redisfleet.Options{})
	}, s.Options())
}

// TestEngine_Permissions: the permissions of the package comment of redisfleet are enough.
func TestEngine_Permissions(t *testing.T) {
	s := redistest.Start(t)
	rules := "reset on >secret resetkeys resetchannels ~sf:* &sf:* -@all " +
		"+get +set +eval +evalsha +time +publish +subscribe +unsubscribe +info +hello +ping +client"
	s.Ask(t, append([]string{"ACL", "SETUSER", "app"}, strings.Fields(rules)...)...)
	fleettest.Engine(t, func(t testing.TB) fleet.Engine {
		return redisfleet.New(connect(t, &redis.Options{Addr: s.Addr, Username: "app", Password: "secret"}), redisfleet.Options{})
	}, s.Options())
}

// TestNew: clients whose operations do not end with their contexts are refused, and those
// that spread keys by themselves.
func TestNew(t *testing.T) {
	for name, c := range map[string]redis.UniversalClient{
		"no ContextTimeoutEnabled":            redis.NewClient(&redis.Options{}),
		"no ContextTimeoutEnabled, a cluster": redis.NewClusterClient(&redis.ClusterOptions{}),
		"a ring":                              redis.NewRing(&redis.RingOptions{}),
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: got no error", name)
		}
		c.Close()
	}
}

// TestClient_Private: a connection that leaves the machine is private if it is encrypted.
func TestClient_Private(t *testing.T) {
	for _, c := range []struct {
		options redis.Options
		want    bool
	}{
		{redis.Options{Addr: "127.0.0.1:1"}, true},
		{redis.Options{Addr: "localhost:1"}, true},
		{redis.Options{Addr: "10.0.0.1:1"}, false},
		{redis.Options{Addr: "redis.example.com:1"}, false},
		{redis.Options{Addr: "redis.example.com:1", TLSConfig: &tls.Config{}}, true},
	} {
		if got := connect(t, &c.options).private; got != c.want {
			t.Errorf("%s, TLS %t: got private %t, want %t", c.options.Addr, c.options.TLSConfig != nil, got, c.want)
		}
	}
}

// TestClient_Silent: a connection from which nothing comes any more, though it does not
// break, is made anew.
func TestClient_Silent(t *testing.T) {
	s := redistest.Start(t)
	p := swallow(t, s.Addr)
	c := connect(t, &redis.Options{Addr: p.addr})
	c.silence = 50 * time.Millisecond
	e := redisfleet.New(c, redisfleet.Options{})
	missed := make(chan struct{}, 100)
	stop, err := e.Notify(t.Context(), "k", func(rec fleet.Record) {
		if rec.Rev == 0 {
			missed <- struct{}{}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	p.drop()
	select {
	case <-missed:
	case <-time.After(10 * time.Second):
		t.Error("a connection from which nothing comes: got no record of revision 0 within 10 s")
	}
}

// A proxy passes on what comes, or drops it.
type proxy struct {
	addr string

	mu  sync.Mutex
	all []*atomic.Bool // whether to drop, of each connection
}

func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.all {
		b.Store(true)
	}
}

func swallow(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String()}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			dropped := new(atomic.Bool)
			p.mu.Lock()
			p.all = append(p.all, dropped)
			p.mu.Unlock()
			context.AfterFunc(ctx, func() {
				in.Close()
				out.Close()
			})
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					buf := make([]byte, 32<<10)
					for {
						n, err := pair[0].Read(buf)
						if n > 0 && !dropped.Load() {
							_, err = pair[1].Write(buf[:n])
						}
						if err == io.EOF && dropped.Load() {
							return
						}
						if err != nil {
							pair[0].Close()
							pair[1].Close()
							return
						}
					}
				})
			}
		}
	})
	return p
}
