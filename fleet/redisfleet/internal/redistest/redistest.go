// Package redistest starts Redis servers for tests: real ones, on loopback, each ended by its
// pid.
package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
	"github.com/seed342dcb2d/coalesce/fleet/fleettest"
)

// A Server is one that runs until its test ends.
type Server struct {
	Addr string
}

// Options returns what fleettest.Engine is to know of a server.
func (s *Server) Options() fleettest.Options {
	return fleettest.Options{Delete: s.remove, Lose: s.lose, Disconnect: s.disconnect, Held: s.Held}
}

// Start starts a server with arguments of its own, which ends with the test. If there is no
// redis-server, it skips the test, or fails it where CI is set.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no redis-server, and CI is set")
		}
		t.Skip("there is no redis-server")
	}
	for range 5 { // another process may take the port
		if s := try(t, path, args); s != nil {
			return s
		}
	}
	t.Fatal("got a server that is not ready, five times")
	return nil
}

func try(t testing.TB, path string, args []string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: l.Addr().String()}
	_, port, _ := net.SplitHostPort(s.Addr)
	_ = l.Close()
	cmd := exec.Command(path, append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir()}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for range 500 {
		select {
		case <-ended:
			return nil
		case <-time.After(10 * time.Millisecond):
		}
		if reply, err := ask(s.Addr, "PING"); err == nil && reply == "PONG" {
			return s
		}
	}
	return nil
}

// ask sends one command on a connection of its own, and returns the reply as text, a line
// for each element of a list.
func ask(addr string, command ...string) (string, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "*%d\r\n", len(command))
	for _, word := range command {
		fmt.Fprintf(c, "$%d\r\n%s\r\n", len(word), word)
	}
	return reply(bufio.NewReader(c))
}

func reply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	rest := strings.TrimSpace(line[1:])
	n, _ := strconv.Atoi(rest)
	switch line[0] {
	case '-':
		return "", fmt.Errorf("the server says %s", rest)
	case '$':
		if n < 0 {
			return "", nil
		}
		text := make([]byte, n+2)
		_, err := io.ReadFull(r, text)
		return string(text[:n]), err
	case '*':
		var all []string
		for range n {
			one, err := reply(r)
			if err != nil {
				return "", err
			}
			all = append(all, one)
		}
		return strings.Join(all, "\n"), nil
	}
	return rest, nil
}

// Ask sends one command, and returns the reply as text, a line for each element of a list.
func (s *Server) Ask(t testing.TB, command ...string) string {
	t.Helper()
	text, err := ask(s.Addr, command...)
	if err != nil {
		t.Fatalf("%s: %v", command[0], err)
	}
	return text
}

func (s *Server) remove(t testing.TB, key string) {
	t.Helper()
	if n := s.Ask(t, "DEL", "sf:{"+key+"}"); n != "1" {
		t.Fatalf("DEL: got %s, want 1", n)
	}
}

func (s *Server) lose(t testing.TB) {
	t.Helper()
	s.Ask(t, "FLUSHALL")
}

// disconnect breaks the connections of all engines.
func (s *Server) disconnect(t testing.TB, _ fleet.Engine) {
	t.Helper()
	s.Ask(t, "CLIENT", "KILL", "SKIPME", "yes", "TYPE", "pubsub")
	s.Ask(t, "CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal")
}

var subs = regexp.MustCompile(` s?sub=(\d+)`)

// Held returns what the server has, without the connection that asks.
func (s *Server) Held(t testing.TB) (connections, subscriptions int) {
	t.Helper()
	list := strings.TrimSpace(s.Ask(t, "CLIENT", "LIST"))
	for _, m := range subs.FindAllStringSubmatch(list, -1) {
		n, _ := strconv.Atoi(m[1])
		subscriptions += n
	}
	return strings.Count(list, "\n"), subscriptions
}
