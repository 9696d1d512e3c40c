package natsfleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// TestNew_Settings: a stream that does not suit is refused, by New and by Create.
func TestNew_Settings(t *testing.T) {
	b := &bench{}
	s := serve(t, nil)
	b.admin = administer(t, s)
	nc := connect(t, s)
	for i, c := range []struct {
		want   string
		change func(*jetstream.StreamConfig)
	}{
		{"subjects", func(s *jetstream.StreamConfig) { s.Subjects = append(s.Subjects, "more") }},
		{"messages of a subject", func(s *jetstream.StreamConfig) { s.MaxMsgsPerSubject = 2 }},
		{"time to live", func(s *jetstream.StreamConfig) { s.AllowMsgTTL = false }},
		{"AllowDirect", func(s *jetstream.StreamConfig) { s.AllowDirect = true }},
		{"republishes", func(s *jetstream.StreamConfig) { s.RePublish = nil }},
		{"republishes", func(s *jetstream.StreamConfig) { s.RePublish.HeadersOnly = true }},
		{"republishes", func(s *jetstream.StreamConfig) { s.RePublish.Destination = "elsewhere.>" }},
		{"first sequence number", func(s *jetstream.StreamConfig) { s.FirstSeq = 0 }},
		{"retention", func(s *jetstream.StreamConfig) { s.Retention = jetstream.InterestPolicy }},
		{"marker", func(s *jetstream.StreamConfig) { s.SubjectDeleteMarkerTTL, s.AllowRollup = time.Minute, true }},
		{"limit of its own", func(s *jetstream.StreamConfig) { s.MaxAge = time.Minute }},
		{"limit of its own", func(s *jetstream.StreamConfig) { s.MaxMsgs = 10 }},
		{"refuses messages", func(s *jetstream.StreamConfig) { s.Discard = jetstream.DiscardNew }},
	} {
		o := Options{Stream: fmt.Sprint("S", i), Prefix: fmt.Sprint("s", i)}
		config := Config(o)
		c.change(&config)
		if _, err := b.admin.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if _, err := New(t.Context(), nc, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New on a wrong stream: got %v, want an error with %q", err, c.want)
		}
		if _, err := Create(t.Context(), b.admin, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Create of a stream that there is, a wrong one: got %v, want an error with %q", err, c.want)
		}
	}
}

// TestCheck_Settings: Check finds a setting that was changed since, and that the stream is gone.
func TestCheck_Settings(t *testing.T) {
	b := one(t)
	e := newEngine(t, connect(t, b.servers[0]))
	if err := e.Check(t.Context(), false); err != nil {
		t.Errorf("Check: got %v, want no error", err)
	}
	config := Config(Options{})
	stream, err := b.admin.Stream(t.Context(), "SF")
	if err != nil {
		t.Fatal(err)
	}
	config.FirstSeq = stream.CachedInfo().Config.FirstSeq
	config.AllowDirect = true
	if _, err := b.admin.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := e.Check(t.Context(), false); err == nil || !strings.Contains(err.Error(), "AllowDirect") {
		t.Errorf("Check of a stream that may be read from any replica: got %v, want an error with AllowDirect", err)
	}
	if err := b.admin.DeleteStream(t.Context(), "SF"); err != nil {
		t.Fatal(err)
	}
	if err := e.Check(t.Context(), false); err == nil {
		t.Error("Check of no stream: got no error")
	}
}

// TestNew_Creates: New makes the stream if there is none, and takes the one that there is.
func TestNew_Creates(t *testing.T) {
	s := serve(t, nil)
	nc := connect(t, s)
	before := uint64(time.Now().UnixMicro())
	for range 2 {
		e, err := New(t.Context(), nc, Options{})
		if err != nil {
			t.Fatal(err)
		}
		e.Close()
	}
	info, err := administer(t, s).Stream(t.Context(), "SF")
	if err != nil {
		t.Fatal(err)
	}
	if got := info.CachedInfo().Config.FirstSeq; got < before {
		t.Errorf("got the first sequence number %d, want the time in microseconds, %d at least", got, before)
	}
	if _, err := New(t.Context(), nil, Options{}); err == nil {
		t.Error("New without a connection: got no error")
	}
}

// TestConflict: both codes of the server are conflicts, and only one of them names the
// revision.
func TestConflict(t *testing.T) {
	for _, c := range []struct {
		err  error
		want *fleet.Conflict
	}{
		{
			&jetstream.APIError{ErrorCode: 10071, Description: "wrong last sequence: 17"},
			&fleet.Conflict{Record: fleet.Record{Rev: 17, Age: -1}},
		},
		{
			&jetstream.APIError{ErrorCode: 10071, Description: "wrong last sequence: 0"},
			&fleet.Conflict{Record: fleet.Record{Age: -1}},
		},
		{
			&jetstream.APIError{ErrorCode: 10164, Description: "wrong last sequence"},
			&fleet.Conflict{Record: fleet.Record{Age: -1}, Unnamed: true},
		},
		{
			&jetstream.APIError{ErrorCode: 10071, Description: "in other words"},
			&fleet.Conflict{Record: fleet.Record{Age: -1}, Unnamed: true},
		},
		{
			fmt.Errorf("nats: %w", &jetstream.APIError{ErrorCode: 10071, Description: "wrong last sequence: 3"}),
			&fleet.Conflict{Record: fleet.Record{Rev: 3, Age: -1}},
		},
		{&jetstream.APIError{ErrorCode: 10077, Description: "maximum messages exceeded: 1"}, nil},
		{nats.ErrNoResponders, nil},
		{context.DeadlineExceeded, nil},
	} {
		got, ok := conflict(c.err)
		if ok != (c.want != nil) || ok && (got.Unnamed != c.want.Unnamed || got.Record.Rev != c.want.Record.Rev || got.Record.Val != nil || got.Record.Age != c.want.Record.Age) {
			t.Errorf("%v: got %+v, %t, want %+v", c.err, got, ok, c.want)
		}
	}
}

// TestAge_OtherClock: the age of a record from before the server began to lead is not known,
// as its clock did not tell the time then.
func TestAge_OtherClock(t *testing.T) {
	now := time.Now()
	e := &Engine{clock: serverClock{showed: now, since: now.Add(-time.Minute), asked: now, answered: now}}
	if got := e.age(t.Context(), now.Add(-time.Hour)); got >= 0 {
		t.Errorf("written before the server led: got the age %v, want a negative one", got)
	}
	if got := e.age(t.Context(), now.Add(-time.Second)); got < time.Second || got > 2*time.Second {
		t.Errorf("written a second ago: got the age %v, want a second", got)
	}
	if got := e.age(t.Context(), now.Add(time.Hour)); got >= 0 {
		t.Errorf("written in the future: got the age %v, want a negative one", got)
	}
}

// TestPlain: Check returns an error for a connection that leaves the machine in the clear,
// unless the records are sealed.
func TestPlain(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:4222": false, "[::1]:4222": false, "10.0.0.1:4222": true, "[2001:db8::1]:4222": true, "": false, "pipe": false,
	} {
		if err := plainAddr(addr); (err != nil) != want {
			t.Errorf("%q: got %v, want an error: %t", addr, err, want)
		}
	}
}

// TestClose: Close may be called before and after the connection's, and twice. Operations on
// a closed connection return errors.
func TestClose(t *testing.T) {
	b := one(t)
	for _, first := range []bool{true, false} {
		nc := connect(t, b.servers[0])
		e := newEngine(t, nc)
		if first {
			e.Close()
		}
		nc.Close()
		e.Close()
		e.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := e.Load(ctx, "k"); err == nil || errors.Is(err, fleet.ErrAbsent) {
			t.Errorf("Load on a closed connection: got %v, want another error", err)
		}
		if _, err := e.Swap(ctx, "k", 0, nil, time.Second); err == nil {
			t.Error("Swap on a closed connection: got no error")
		}
		if _, err := e.Notify(ctx, "k", func(fleet.Record) {}); err == nil {
			t.Error("Notify on a closed connection: got no error")
		}
		cancel()
	}
}
