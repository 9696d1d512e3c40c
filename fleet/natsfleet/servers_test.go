package natsfleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file holds the servers of the tests. They run in this process, on loopback.

// A bench is one or several servers, with a connection of an administrator.
type bench struct {
	servers []*server.Server
	admin   jetstream.JetStream
	options Options
	connect []nats.Option // of engines
	next    atomic.Int32
}

// serve starts a server, which ends with the test.
func serve(t testing.TB, change func(*server.Options)) *server.Server {
	t.Helper()
	o := &server.Options{
		ServerName: "one", Host: "127.0.0.1", Port: server.RANDOM_PORT,
		JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	}
	if change != nil {
		change(o)
	}
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("got a server that is not ready after 10 s")
	}
	return s
}

// connect connects to a server until the test ends.
func connect(t testing.TB, s *server.Server, options ...nats.Option) *nats.Conn {
	t.Helper()
	options = append([]nats.Option{nats.ReconnectWait(10 * time.Millisecond), nats.ReconnectJitter(0, 0), nats.MaxReconnects(-1)}, options...)
	nc, err := nats.Connect(s.ClientURL(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func administer(t testing.TB, s *server.Server, options ...nats.Option) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(connect(t, s, options...))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// one returns a server with a stream.
func one(t testing.TB) *bench {
	t.Helper()
	b := &bench{servers: []*server.Server{serve(t, nil)}}
	b.admin = administer(t, b.servers[0])
	if _, err := Create(t.Context(), b.admin, b.options); err != nil {
		t.Fatal(err)
	}
	return b
}

// three returns three servers of a cluster with a stream that each has.
func three(t testing.TB) *bench {
	t.Helper()
	b := &bench{options: Options{Replicas: 3}}
	var routes string
	ports := freePorts(t, 3)
	for _, port := range ports {
		routes += fmt.Sprintf("nats://127.0.0.1:%d,", port)
	}
	servers := make([]*server.Server, 3)
	for i := range servers {
		o := &server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: server.RANDOM_PORT,
			JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[i]},
			Routes:  server.RoutesFromStr(routes[:len(routes)-1]),
		}
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		servers[i] = s
		go s.Start()
	}
	t.Cleanup(func() {
		for _, s := range servers {
			s.Shutdown()
		}
		for _, s := range servers {
			s.WaitForShutdown()
		}
	})
	for _, s := range servers {
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("got a server that is not ready after 10 s")
		}
	}
	b.servers = servers
	b.admin = administer(t, servers[0])
	b.create(t)
	return b
}

// freePorts returns ports of loopback on which nothing listens.
func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// create makes the stream. A cluster may need a moment until it can.
func (b *bench) create(t testing.TB) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := Create(ctx, b.admin, b.options)
		cancel()
		if err == nil {
			return
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("Create: %v", err)
		}
	}
}

// open returns an engine on one of the servers, each in turn.
func (b *bench) open(t testing.TB) fleet.Engine {
	t.Helper()
	s := b.servers[int(b.next.Add(1))%len(b.servers)]
	nc := connect(t, s, append(b.connect, nats.IgnoreDiscoveredServers())...)
	return newEngine(t, nc)
}

func newEngine(t testing.TB, nc *nats.Conn) *Engine {
	t.Helper()
	e, err := New(t.Context(), nc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// remove removes a record as an administrator would.
func (b *bench) remove(t testing.TB, key string) {
	t.Helper()
	stream, err := b.admin.Stream(t.Context(), "SF")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetLastMsgForSubject(t.Context(), subject(b.options, "k", key))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), msg.Sequence); err != nil {
		t.Fatal(err)
	}
}

// lose deletes the stream and makes it again.
func (b *bench) lose(t testing.TB) {
	t.Helper()
	if err := b.admin.DeleteStream(t.Context(), "SF"); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Fatal(err)
	}
	b.create(t)
}

// disconnect breaks the connection of an engine.
func (b *bench) disconnect(t testing.TB, e fleet.Engine) {
	t.Helper()
	nc := e.(*Engine).nc
	id, err := nc.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range b.servers {
		if s.ID() == nc.ConnectedServerId() {
			if err := s.DisconnectClientByID(id); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("got a connection to no server of these")
}

// held returns what the servers have.
func (b *bench) held(testing.TB) (connections, subscriptions int) {
	for _, s := range b.servers {
		connections += s.NumClients()
		subscriptions += int(s.NumSubscriptions())
	}
	return connections, subscriptions
}
