package redisfleet

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// A stub is a Client of functions.
type stub struct {
	Client
	info      func() (string, bool, error)
	subscribe func(ctx context.Context, channel string) (func(), error)
	eval      func(args []string) ([]string, error)
}

func (s stub) Info(context.Context) (string, bool, error) { return s.info() }

func (s stub) Subscribe(ctx context.Context, channel string, _ bool, confirmed func(), _ func(string)) (func(), error) {
	stop, err := s.subscribe(ctx, channel)
	if err == nil {
		confirmed()
	}
	return stop, err
}

func (s stub) Eval(_ context.Context, _, _ string, args ...string) ([]string, error) {
	return s.eval(args)
}

// TestCheck: a server that is one of several masters is refused, and one that is none, and a
// connection that others may read.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name    string
		text    string
		private bool
		err     error
		options Options
		sealed  bool
		want    string // in the error; empty for none
	}{
		{name: "a master", text: "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n", private: true},
		{name: "several masters", text: "# Replication\r\nrole:active-replica\r\n", private: true, want: "active-replica"},
		{name: "a replica", text: "# Replication\r\nrole:slave\r\n", private: true, want: "slave"},
		{name: "no role", text: "# Replication\r\n", private: true, want: "role"},
		{name: "no answer", err: errors.New("no answer"), want: "no answer"},
		{name: "in the clear", text: "role:master", want: "not encrypted"},
		{name: "in the clear, sealed", text: "role:master", sealed: true},
		{name: "encrypted, as the user says", text: "role:master", options: Options{Private: true}},
	} {
		e := New(stub{info: func() (string, bool, error) { return c.text, c.private, c.err }}, c.options)
		err := e.Check(t.Context(), c.sealed)
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
}

// TestOnThisMachine: addresses of loopback and of Unix sockets are this machine's.
func TestOnThisMachine(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:6379": true, "[::1]:6379": true, "localhost:6379": true, "/run/redis.sock": true,
		"10.0.0.1:6379": false, "redis.example.com:6379": false, "localhost.example.com:6379": false, ":6379": false, "": false,
	} {
		if got := OnThisMachine(addr); got != want {
			t.Errorf("%q: got %t, want %t", addr, got, want)
		}
	}
}

// TestCheck_Permissions: a subscription that is not permitted is an error, and Check finds
// what else is not permitted. Beyond the permissions of the package comment, everything is
// refused.
func TestCheck_Permissions(t *testing.T) {
	for lacks, want := range map[string]string{
		"+subscribe": "Notify", "&sf:*": "Notify", "+eval": "Swap", "+publish": "Swap", "+info": "INFO", "~sf:*": "Swap",
	} {
		b := serve(t)
		b.restrict(t, strings.Replace(rules, lacks, "", 1))
		g := fleet.Group[string, string]{Engine: b.open(t), Name: "name"}
		if lacks == "+eval" { // EVALSHA needs the script
			b.Ask(t, "SCRIPT", "FLUSH")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		err := g.Check(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check without %s: got %v, want an error with %q", lacks, err, want)
		}
	}

	b := serve(t)
	b.restrict(t, rules)
	c := b.connect(t)
	const elsewhere = "redis.call('SET', 'elsewhere', '1')"
	for _, command := range [][]string{
		{"FLUSHALL"},
		{"CONFIG", "GET", "*"},
		{"DEL", "sf:{k}"},
		{"GET", "elsewhere"},
		{"PUBLISH", "elsewhere", "m"},
		{"EVAL", elsewhere, "0"},
		{"EVAL", "redis.call('PUBLISH', 'elsewhere', 'm')", "0"},
		{"KEYS", "*"},
	} {
		err := c.Do(t.Context(), c.B().Arbitrary(command...).Build()).Error()
		if err == nil || !notPermitted.MatchString(err.Error()) {
			t.Errorf("%v: got %v, want that it is not permitted", command, err)
		}
	}
}

var notPermitted = regexp.MustCompile("no permissions|can't access|can't publish")

// TestNotify_Deadline: a watch does not wait longer than its context for a server that does
// not answer, nor for one before it.
func TestNotify_Deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(stub{subscribe: func(ctx context.Context, _ string) (func(), error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}, Options{})
		begin := time.Now()
		for range 10 {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
				defer cancel()
				_, err := e.Notify(ctx, "k", func(fleet.Record) {})
				if d := time.Since(begin); err == nil || d != 250*time.Millisecond {
					t.Errorf("got %v after %v, want an error after 250 ms", err, d)
				}
			}()
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(e.topics) != 0 {
			t.Errorf("got %d channels that are left, want none", len(e.topics))
		}
	})
}

// TestNotify_Stop: the last watch of a key that is stopped ends the subscription, though it is
// stopped twice, and one that comes while the subscription ends begins another.
func TestNotify_Stop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		subscribed := 0
		e := New(stub{subscribe: func(context.Context, string) (func(), error) {
			if subscribed++; subscribed > 1 {
				t.Errorf("got %d subscriptions of a channel at once, want 1", subscribed)
			}
			return func() {
				time.Sleep(time.Second)
				subscribed--
			}, nil
		}}, Options{})
		watch := func() func() {
			stop, err := e.Notify(t.Context(), "k", func(fleet.Record) {})
			if err != nil {
				t.Fatal(err)
			}
			return stop
		}
		first, second := watch(), watch()
		first()
		first()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if subscribed != 1 {
			t.Errorf("one of two watches is stopped twice: got %d subscriptions, want 1", subscribed)
		}
		second()
		third := watch()
		synctest.Wait()
		if subscribed != 1 {
			t.Errorf("a watch while the last ends: got %d subscriptions, want 1", subscribed)
		}
		third()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if subscribed != 0 || len(e.topics) != 0 {
			t.Errorf("at the end: got %d subscriptions and %d channels, want none", subscribed, len(e.topics))
		}
	})
}

// TestReply: what is no reply of the scripts is an error, and a ttl is rounded up.
func TestReply(t *testing.T) {
	var reply, args []string
	e := New(stub{eval: func(a []string) ([]string, error) {
		args = a
		return reply, nil
	}}, Options{})
	for _, reply = range [][]string{nil, {"1"}, {"1", "x"}, {"0", "1"}, {"0", "x", "", "1"}, {"0", "7", "v"}} {
		_, err := e.Swap(t.Context(), "k", 0, nil, time.Second)
		var c *fleet.Conflict
		if err == nil || errors.As(err, &c) {
			t.Errorf("Swap with the reply %q: got %v, want an error that is no conflict", reply, err)
		}
	}
	for _, reply = range [][]string{nil, {"7:v"}, {"7", "1"}, {"x:v", "1"}, {"0:v", "1"}, {"7:v", "1", "2"}} {
		if rec, err := e.Load(t.Context(), "k"); err == nil || errors.Is(err, fleet.ErrAbsent) {
			t.Errorf("Load with the reply %q: got %v, %v, want another error", reply, rec, err)
		}
	}
	reply = []string{"1", "7"}
	for ttl, want := range map[time.Duration]string{time.Second: "1000", 1: "1", 1500 * time.Microsecond: "2", 0: "1"} {
		if _, err := e.Swap(t.Context(), "k", 0, nil, ttl); err != nil || args[2] != want {
			t.Errorf("a ttl of %v: got %s ms, %v, want %s", ttl, args[2], err, want)
		}
	}
	reply = []string{"7:v", "1000007"}
	if rec, err := e.Load(t.Context(), "k"); err != nil || rec.Rev != 7 || string(rec.Val) != "v" || rec.Age != time.Second {
		t.Errorf("Load: got %+v, %v, want revision 7, a second old", rec, err)
	}
	reply = []string{"7:v", "6"}
	if rec, err := e.Load(t.Context(), "k"); err != nil || rec.Age >= 0 {
		t.Errorf("Load of a record from the future: got %+v, %v, want a negative age", rec, err)
	}
}

// TestSwap_Clock: revisions rise though the server's clock does not, as after a failover to
// one whose clock is behind; and a record from the future blocks nothing.
func TestSwap_Clock(t *testing.T) {
	b := serve(t)
	e := b.open(t)
	future := uint64(time.Now().Add(time.Hour).UnixMicro())
	b.Ask(t, "SET", "sf:{k}", strconv.FormatUint(future, 10)+":v", "PX", "60000")
	if rec, err := e.Load(t.Context(), "k"); err != nil || rec.Rev != future || rec.Age >= 0 {
		t.Errorf("Load of a record from the future: got %+v, %v, want revision %d and a negative age", rec, err, future)
	}
	for i := range uint64(3) {
		rec, err := e.Swap(t.Context(), "k", future+i, nil, time.Minute)
		if err != nil || rec.Rev != future+i+1 {
			t.Errorf("Swap for revision %d, of the future: got %d, %v, want one more", future+i, rec.Rev, err)
		}
	}
}
