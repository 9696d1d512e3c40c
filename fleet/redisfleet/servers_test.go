package redisfleet

import (
	"testing"

	"github.com/redis/rueidis"

	"github.com/seed342dcb2d/coalesce/fleet"
	"github.com/seed342dcb2d/coalesce/fleet/redisfleet/internal/redistest"
)

// A bench is a server, and how engines connect to it.
type bench struct {
	*redistest.Server
	options Options
	client  func(*rueidis.ClientOption) // changes how engines connect; may be nil
}

func serve(t testing.TB, args ...string) *bench {
	t.Helper()
	return &bench{Server: redistest.Start(t, args...)}
}

// connect returns a client, which is closed when the test ends.
func (b *bench) connect(t testing.TB) rueidis.Client {
	t.Helper()
	o := rueidis.ClientOption{InitAddress: []string{b.Addr}, DisableCache: true}
	if b.client != nil {
		b.client(&o)
	}
	c, err := rueidis.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (b *bench) open(t testing.TB) fleet.Engine {
	t.Helper()
	return New(Rueidis(b.connect(t)), b.options)
}
