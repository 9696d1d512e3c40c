// Package chaostest tests an engine with real processes, which are killed, stopped and cut
// off.
package chaostest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet/internal/procs"
)

// A Server is one that children connect to.
type Server struct {
	Addr string // host and port

	// Restart ends the server at once and starts it again at the same address, with its
	// data or without. It may be nil.
	Restart func(t *testing.T, keep bool)

	// Stop ends the server at once. It may be nil. Restart starts it again.
	Stop func(t *testing.T)
}

// Rounds is how often each scenario of a random kind is repeated.
const rounds = 3

const lease = 600 * time.Millisecond

// Run runs all scenarios. open starts a server for one of them.
func Run(t *testing.T, open func(t *testing.T) Server) {
	for _, s := range []struct {
		name string
		run  func(*testing.T, *scene)
	}{
		{"Storm", storm},
		{"Killed", killed},
		{"Stopped", stopped},
		{"StoppedForHalfALease", stoppedShortly},
		{"CutOff", cutOff},
		{"CutOneWay", cutOneWay},
		{"Slow", slow},
		{"FnEndsItsProcess", poison},
		{"ShutDown", shutDown},
		{"TwoVersions", twoVersions},
		{"RestartWithData", func(t *testing.T, s *scene) { restart(t, s, true) }},
		{"RestartWithoutData", func(t *testing.T, s *scene) { restart(t, s, false) }},
		{"Gone", gone},
	} {
		t.Run(s.name, func(t *testing.T) {
			sc := &scene{server: open(t)}
			t.Cleanup(sc.fleet.EndAll)
			s.run(t, sc)
		})
	}
}

// A scene is the server and the processes of a scenario.
type scene struct {
	server Server
	fleet  procs.Fleet
}

// start starts a child.
func (s *scene) start(t *testing.T, o procs.Options) *procs.Process {
	t.Helper()
	if o.Addr == "" {
		o.Addr = s.server.Addr
	}
	if o.Lease == 0 {
		o.Lease = lease
	}
	p, err := s.fleet.Start([]string{"-test.run=^$"}, o.Env())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// begins waits until fn begins for a key, the nth time.
func (s *scene) begins(t *testing.T, key string, n int) procs.Event {
	t.Helper()
	e, ok := s.fleet.Wait(10*time.Second, func(e procs.Event) bool {
		if e.Kind == "begin" && e.Key == key {
			n--
		}
		return n == 0 && e.Kind == "begin" && e.Key == key
	})
	if !ok {
		t.Fatalf("fn does not begin for %s", key)
	}
	return e
}

// answers waits for n answers for a key and returns them.
func (s *scene) answers(t *testing.T, key string, n int) (all []procs.Event) {
	t.Helper()
	ok := s.fleet.WaitN(20*time.Second, n, func(e procs.Event) bool { return e.Kind == "answer" && e.Key == key })
	for _, e := range s.fleet.Log() {
		if e.Kind == "answer" && e.Key == key {
			all = append(all, e)
		}
	}
	if !ok {
		t.Fatalf("%s: got %d answers, want %d: %+v", key, len(all), n, all)
	}
	return all
}

// executions returns those of a key.
func (s *scene) executions(key string) (all []procs.Execution) {
	for _, e := range procs.Executions(s.fleet.Log()) {
		if e.Key == key {
			all = append(all, e)
		}
	}
	return all
}

// values returns how many different values the answers have, and reports errors.
func values(t *testing.T, all []procs.Event) int {
	t.Helper()
	v := map[string]bool{}
	for _, e := range all {
		if e.Err != "" || e.Value == "" {
			t.Errorf("got %+v, want a value", e)
		}
		v[e.Value] = true
	}
	return len(v)
}

// storm: without a fault, each key has one execution and one value.
func storm(t *testing.T, s *scene) {
	const keys, callers = 30, 4
	fn := 15 * time.Millisecond
	all := []*procs.Process{s.start(t, procs.Options{}), s.start(t, procs.Options{}), s.start(t, procs.Options{})}
	for i := range keys {
		for _, p := range all {
			p.Tell(procs.Command{Op: "call", Key: fmt.Sprint("k", i), Callers: callers, Fn: fn})
		}
		time.Sleep(3 * fn)
	}
	extra := 0
	for i := range keys {
		key := fmt.Sprint("k", i)
		answers := s.answers(t, key, callers*len(all))
		n := len(s.executions(key))
		if n != values(t, answers) {
			t.Errorf("%s: got %d executions and %d values", key, n, values(t, answers))
		}
		extra += n - 1
	}
	if o := procs.Overlaps(procs.Executions(s.fleet.Log())); len(o) > 0 {
		t.Errorf("got executions at the same time: %+v", o)
	}
	if extra > keys/5 { // where the processes of a busy machine are late
		t.Errorf("got %d executions more than keys", extra)
	}
}

// killed: a leader that is killed has one successor, within 1.1 lease.
func killed(t *testing.T, s *scene) {
	follower := s.start(t, procs.Options{})
	third := s.start(t, procs.Options{})
	for i := range rounds {
		key := fmt.Sprint("killed", i)
		leader := s.start(t, procs.Options{})
		leader.Tell(procs.Command{Op: "call", Key: key, Fn: time.Minute})
		s.begins(t, key, 1)
		for _, p := range []*procs.Process{follower, third} {
			p.Tell(procs.Command{Op: "call", Key: key, Callers: 3, Fn: 50 * time.Millisecond})
		}
		time.Sleep(lease/2 + time.Duration(i)*lease/5)
		leader.Kill()
		at := time.Now()
		next := s.begins(t, key, 2)
		answers := s.answers(t, key, 6)
		if n, v := len(s.executions(key)), values(t, answers); n != 2 || v != 1 {
			t.Errorf("round %d: got %d executions and %d values, want 2 and 1", i, n, v)
		}
		if took := next.Time.Sub(at); took > lease*11/10+slack {
			t.Errorf("round %d: got a successor after %v, want 1.1 leases of %v", i, took, lease)
		}
	}
}

// slack is what a busy machine may take.
const slack = 300 * time.Millisecond

// stopped: a leader that is stopped for longer than its lease has one successor, whose
// value it adopts.
func stopped(t *testing.T, s *scene) {
	leader, follower := s.start(t, procs.Options{}), s.start(t, procs.Options{})
	for i := range rounds {
		key := fmt.Sprint("stopped", i)
		leader.Tell(procs.Command{Op: "call", Key: key, Callers: 2, Fn: lease})
		s.begins(t, key, 1)
		follower.Tell(procs.Command{Op: "call", Key: key, Callers: 2, Fn: lease / 2})
		time.Sleep(lease / 3)
		if !leader.Pause() {
			t.Skip("this system cannot stop a process")
		}
		time.Sleep(lease * 5 / 2)
		leader.Resume()
		answers := s.answers(t, key, 4)
		if n, v := len(s.executions(key)), values(t, answers); n != 2 || v != 1 {
			t.Errorf("round %d: got %d executions and %d values, want 2 and 1: %+v", i, n, v, answers)
		}
	}
}

// stoppedShortly: a leader that is stopped for half a lease has no successor.
func stoppedShortly(t *testing.T, s *scene) {
	leader, follower := s.start(t, procs.Options{Lease: 2 * lease}), s.start(t, procs.Options{Lease: 2 * lease})
	for i := range rounds {
		key := fmt.Sprint("stopped", i)
		leader.Tell(procs.Command{Op: "call", Key: key, Fn: lease})
		s.begins(t, key, 1)
		follower.Tell(procs.Command{Op: "call", Key: key, Callers: 2, Fn: lease})
		time.Sleep(lease / 3)
		if !leader.Pause() {
			t.Skip("this system cannot stop a process")
		}
		time.Sleep(lease)
		leader.Resume()
		answers := s.answers(t, key, 3)
		if n, v := len(s.executions(key)), values(t, answers); n != 1 || v != 1 {
			t.Errorf("round %d: got %d executions and %d values, want 1 and 1", i, n, v)
		}
	}
}

// behind starts a child behind a proxy.
func (s *scene) behind(t *testing.T, o procs.Options) (*procs.Process, *procs.Proxy) {
	t.Helper()
	proxy, err := procs.NewProxy(s.server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	o.Addr = proxy.Addr()
	return s.start(t, o), proxy
}

// cutOff: a leader whose packets are lost has one successor, and when it is connected
// again it adopts its value. While it is cut off, its callers get its own.
func cutOff(t *testing.T, s *scene) {
	leader, proxy := s.behind(t, procs.Options{})
	follower := s.start(t, procs.Options{})
	for i := range rounds {
		key := fmt.Sprint("cut", i)
		leader.Tell(procs.Command{Op: "call", Key: key, Fn: 5 * lease / 2})
		s.begins(t, key, 1)
		follower.Tell(procs.Command{Op: "call", Key: key, Fn: lease / 5})
		time.Sleep(lease / 3)
		proxy.Cut(true)
		next := s.begins(t, key, 2)
		time.Sleep(lease/5 + slack)
		proxy.Cut(false)
		answers := s.answers(t, key, 2)
		if n := len(s.executions(key)); n != 2 {
			t.Errorf("round %d: got %d executions, want 2", i, n)
		}
		for _, e := range answers {
			if e.Err != "" || e.Process == follower.Index && e.Value != next.Value {
				t.Errorf("round %d: got %+v, want the value of %+v", i, e, next)
			}
		}
	}
}

// cutOneWay: the same if only the answers are lost.
func cutOneWay(t *testing.T, s *scene) {
	leader, proxy := s.behind(t, procs.Options{})
	follower := s.start(t, procs.Options{})
	const key = "cut"
	leader.Tell(procs.Command{Op: "call", Key: key, Fn: 2 * lease})
	s.begins(t, key, 1)
	follower.Tell(procs.Command{Op: "call", Key: key, Fn: lease / 5})
	time.Sleep(lease / 3)
	proxy.Answers.Store(true)
	answers := s.answers(t, key, 2)
	proxy.Answers.Store(false)
	n, v := len(s.executions(key)), values(t, answers)
	// What the leader sends still arrives: it may keep the lease, and publish.
	if n > 2 || v > n {
		t.Errorf("got %d executions and %d values: %+v", n, v, answers)
	}
}

// slow: with 200 ms more for each round trip nothing is different.
func slow(t *testing.T, s *scene) {
	patient := procs.Options{Lease: 2 * time.Second, Grace: 5 * time.Second} // a try has a third of a lease, and 250 ms at most
	leader, proxy := s.behind(t, patient)
	follower, other := s.behind(t, patient)
	proxy.Delay.Store(int64(100 * time.Millisecond))
	other.Delay.Store(int64(100 * time.Millisecond))
	const key = "slow"
	leader.Tell(procs.Command{Op: "call", Key: key, Callers: 2, Fn: lease})
	s.begins(t, key, 1)
	follower.Tell(procs.Command{Op: "call", Key: key, Callers: 2, Fn: lease})
	v := values(t, s.answers(t, key, 4))
	if n := len(s.executions(key)); n != 1 || v != 1 {
		t.Errorf("got %d executions and %d values, want 1 and 1", n, v)
	}
}

// poison: a key whose fn ends its process is given up.
func poison(t *testing.T, s *scene) {
	const takeovers = 2
	var all []*procs.Process
	for range takeovers + 2 {
		all = append(all, s.start(t, procs.Options{MaxTakeovers: takeovers}))
	}
	const key = "poison"
	for _, p := range all {
		p.Tell(procs.Command{Op: "call", Key: key, Fn: 50 * time.Millisecond, Fail: "exit"})
	}
	answers := s.answers(t, key, 1)
	if n := len(s.executions(key)); n != takeovers+1 || !strings.Contains(answers[0].Err, "processes die with this key") {
		t.Errorf("got %d executions and the answer %+v, want %d and ErrTakeovers", n, answers[0], takeovers+1)
	}
}

// shutDown: a process that shuts down gives its leases up, and the next one leads at once.
func shutDown(t *testing.T, s *scene) {
	leader, follower := s.start(t, procs.Options{}), s.start(t, procs.Options{})
	const key = "shutdown"
	leader.Tell(procs.Command{Op: "call", Key: key, Fn: 20 * time.Second, Fail: "obey"})
	s.begins(t, key, 1)
	follower.Tell(procs.Command{Op: "call", Key: key, Fn: 10 * time.Millisecond})
	time.Sleep(lease / 4)
	at := time.Now()
	leader.Tell(procs.Command{Op: "shutdown", Fn: 20 * time.Millisecond})
	next := s.begins(t, key, 2)
	if took := next.Time.Sub(at); took > lease/2 {
		t.Errorf("got the next execution %v after the shutdown, want it at once", took)
	}
}

// twoVersions: processes of two versions do not read each other's records.
func twoVersions(t *testing.T, s *scene) {
	a, b := s.start(t, procs.Options{Version: "1"}), s.start(t, procs.Options{Version: "2"})
	const key = "versions"
	for _, p := range []*procs.Process{a, b} {
		p.Tell(procs.Command{Op: "call", Key: key, Callers: 2, Fn: lease / 2})
	}
	v := values(t, s.answers(t, key, 4))
	if n := len(s.executions(key)); n != 2 || v != 2 {
		t.Errorf("got %d executions and %d values, want 2 and 2", n, v)
	}
}

// restart: a server that is killed and started again loses no flight.
func restart(t *testing.T, s *scene, keep bool) {
	if s.server.Restart == nil {
		t.Skip("the server cannot be started again")
	}
	leader, follower := s.start(t, procs.Options{Grace: 5 * time.Second}), s.start(t, procs.Options{Grace: 5 * time.Second})
	const key = "restart"
	leader.Tell(procs.Command{Op: "call", Key: key, Fn: 2 * lease})
	s.begins(t, key, 1)
	follower.Tell(procs.Command{Op: "call", Key: key, Fn: lease / 2})
	time.Sleep(lease / 3)
	s.server.Restart(t, keep)
	answers := s.answers(t, key, 2)
	n, v := len(s.executions(key)), values(t, answers)
	if keep && (n > 2 || v != 1) || n > 3 || v > n {
		t.Errorf("got %d executions and %d values: %+v", n, v, answers)
	}
}

// gone: without a server each process runs fn itself, after Grace, and once it has found
// out, at once.
func gone(t *testing.T, s *scene) {
	if s.server.Stop == nil {
		t.Skip("the server cannot be stopped")
	}
	const grace = 500 * time.Millisecond
	p := s.start(t, procs.Options{Grace: grace})
	p.Tell(procs.Command{Op: "call", Key: "before"})
	s.answers(t, "before", 1)
	s.server.Stop(t)
	for i, most := range []time.Duration{grace + 150*time.Millisecond + slack, 50*time.Millisecond + slack} {
		key := fmt.Sprint("after", i)
		p.Tell(procs.Command{Op: "call", Key: key})
		if e := s.answers(t, key, 1)[0]; e.Err != "" || e.Took > most {
			t.Errorf("got %+v after %v, want a value within %v", e, e.Took, most)
		}
	}
}

// Main is the TestMain of a test binary whose children are made by child.
func Main(m *testing.M, child func(procs.Options)) {
	if o, ok := procs.IsChild(); ok {
		child(o)
		return
	}
	os.Exit(m.Run())
}
