package procs

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// This file holds a proxy between a child and a server, which loses and delays what it is
// told to. A connection that is cut stays open, as one does over a network.

// A Proxy passes on what comes to its address.
type Proxy struct {
	// Requests and Answers lose what goes to the server, and what comes back, while they
	// are set.
	Requests, Answers atomic.Bool

	// Delay is how long each piece takes, in nanoseconds.
	Delay atomic.Int64

	// Filter, if it is not nil, returns a reader of what comes back from the server. Set
	// it before the first connection.
	Filter func(io.Reader) io.Reader

	listener net.Listener
	target   string

	mu    sync.Mutex
	conns []net.Conn
}

// NewProxy returns a proxy for a server, on the loopback interface.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target}
	go p.accept()
	return p, nil
}

// Addr returns the address of the proxy.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut loses everything, in both directions, or passes it on again.
func (p *Proxy) Cut(lose bool) {
	p.Requests.Store(lose)
	p.Answers.Store(lose)
}

// Close closes the proxy and its connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.Drop()
}

// Drop closes all connections.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *Proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		var back io.Reader = out
		if p.Filter != nil {
			back = p.Filter(out)
		}
		go p.pump(out, in, &p.Requests, out)
		go p.pump(in, back, &p.Answers, in)
	}
}

// pump copies until either end is closed.
func (p *Proxy) pump(to io.Writer, from io.Reader, lose *atomic.Bool, end net.Conn) {
	type piece struct {
		due  time.Time
		data []byte
	}
	queue := make(chan piece, 1024)
	go func() {
		defer func() { _ = end.Close() }()
		for next := range queue {
			time.Sleep(time.Until(next.due))
			if lose.Load() {
				continue
			}
			if _, err := to.Write(next.data); err != nil {
				break
			}
		}
		for range queue { // until its sender has ended
		}
	}()
	defer close(queue)
	for {
		buf := make([]byte, 32<<10)
		n, err := from.Read(buf)
		if n > 0 {
			queue <- piece{time.Now().Add(time.Duration(p.Delay.Load())), buf[:n]}
		}
		if err != nil {
			return
		}
	}
}
