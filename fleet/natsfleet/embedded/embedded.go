// Package embedded runs a NATS server with JetStream within a process: for tests, for
// trying things out, and for a fleet of processes on one machine.
package embedded

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Options say how to run a server.
type Options struct {
	// Dir is where the server keeps its files. Empty means a temporary directory, which
	// Shutdown removes.
	Dir string

	// Listen makes the server listen on the loopback interface, so that other processes
	// of the machine can connect to URL. Without it, only [Server.Connect] can.
	Listen bool

	// Port is where it listens. Zero means any that is free.
	Port int
}

// A Server is one that runs within this process.
type Server struct {
	server *server.Server
	remove string
}

// readyFor is how long Start waits for the server.
var readyFor = 10 * time.Second

// Start starts a server and waits until it is ready.
func Start(o Options) (s *Server, err error) {
	s = new(Server)
	dir := o.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "natsfleet"); err != nil {
			return nil, err
		}
		s.remove = dir
	}
	port := o.Port
	if port == 0 {
		port = server.RANDOM_PORT
	}
	s.server, err = server.NewServer(&server.Options{
		ServerName: "embedded", Host: "127.0.0.1", Port: port, DontListen: !o.Listen,
		JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true,
	})
	if err != nil {
		s.cleanUp()
		return nil, fmt.Errorf("embedded: %w", err)
	}
	s.server.Start()
	if !s.server.ReadyForConnections(readyFor) {
		s.Shutdown()
		return nil, errors.New("embedded: the server is not ready")
	}
	return s, nil
}

// Connect returns a connection to the server that does not use the network.
func (s *Server) Connect(options ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append(options, nats.InProcessServer(s.server))...)
}

// URL returns the address at which the server listens, or nothing if it does not.
func (s *Server) URL() string {
	if s.server.Addr() == nil {
		return ""
	}
	return s.server.ClientURL()
}

// Shutdown ends the server, and waits for that.
func (s *Server) Shutdown() {
	s.server.Shutdown()
	s.server.WaitForShutdown()
	s.cleanUp()
}

func (s *Server) cleanUp() {
	if s.remove != "" {
		_ = os.RemoveAll(s.remove)
	}
}
