package embedded

import (
	"net"
	"net/url"
	"os"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// use makes a stream, or finds it.
func use(t *testing.T, nc *nats.Conn, wantMessages uint64) {
	t.Helper()
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.CachedInfo().State.Msgs; got != wantMessages {
		t.Errorf("got %d messages, want %d", got, wantMessages)
	}
	if _, err := js.Publish(t.Context(), "s", nil); err != nil {
		t.Fatal(err)
	}
}

// TestStart: a server works without a listener, and its files go with it.
func TestStart(t *testing.T) {
	s, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	use(t, nc, 0)
	if got := s.URL(); got != "" {
		t.Errorf("URL without a listener: got %q, want nothing", got)
	}
	dir := s.remove
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the directory of a running server: %v", err)
	}
	s.Shutdown()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory of a server that has ended: got %v, want that it does not exist", err)
	}
}

// TestStart_Listen: a server listens on loopback alone, and keeps what is in its directory.
func TestStart_Listen(t *testing.T) {
	dir := t.TempDir()
	for i := range uint64(2) {
		s, err := Start(Options{Dir: dir, Listen: true})
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(s.URL())
		if err != nil || !net.ParseIP(u.Hostname()).IsLoopback() {
			t.Errorf("got %q, %v, want an address of loopback", s.URL(), err)
		}
		nc, err := nats.Connect(s.URL())
		if err != nil {
			t.Fatal(err)
		}
		use(t, nc, i)
		s.Shutdown()
	}
}

// TestStart_Port: a port that is taken is an error.
func TestStart_Port(t *testing.T) {
	a, err := Start(Options{Listen: true})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Shutdown()
	u, _ := url.Parse(a.URL())
	port, _ := net.LookupPort("tcp", u.Port())
	before := readyFor
	readyFor = 200e6
	defer func() { readyFor = before }()
	if b, err := Start(Options{Listen: true, Port: port}); err == nil {
		b.Shutdown()
		t.Error("a server at a port that is taken: got no error")
	}
}
