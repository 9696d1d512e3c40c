package natsfleet

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/seed342dcb2d/coalesce/fleet/internal/procs"
	"github.com/seed342dcb2d/coalesce/fleet/internal/procs/chaostest"
	"github.com/seed342dcb2d/coalesce/fleet/natsfleet/embedded"
)

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(serverEnv); ok {
		serveCluster(text)
		return
	}
	chaostest.Main(m, func(o procs.Options) {
		nc, err := nats.Connect("nats://"+o.Addr, nats.MaxReconnects(-1), nats.ReconnectWait(20e6))
		if err == nil {
			defer nc.Close()
			var e *Engine
			if e, err = New(context.Background(), nc, Options{}); err == nil {
				defer e.Close()
				procs.Child(o.Group(e), os.Stdin, os.Stdout)
				return
			}
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	})
}

// TestChaos: real processes are killed, stopped and cut off, and so is their server.
func TestChaos(t *testing.T) {
	chaostest.Run(t, func(t *testing.T) chaostest.Server {
		dir := t.TempDir()
		port := 0
		var s *embedded.Server
		start := func(t *testing.T) {
			t.Helper()
			var err error
			if s, err = embedded.Start(embedded.Options{Dir: dir, Listen: true, Port: port}); err != nil {
				t.Fatal(err)
			}
		}
		start(t)
		addr := strings.TrimPrefix(s.URL(), "nats://")
		_, text, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		port, _ = strconv.Atoi(text)
		t.Cleanup(func() { s.Shutdown() })
		return chaostest.Server{
			Addr: addr,
			Restart: func(t *testing.T, keep bool) {
				s.Shutdown()
				if !keep {
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
				}
				start(t)
			},
			Stop: func(*testing.T) { s.Shutdown() },
		}
	})
}
