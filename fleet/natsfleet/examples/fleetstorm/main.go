// Fleetstorm shows three processes that share their work: it starts a NATS server and
// three copies of itself, lets them ask for the same keys at the same moments, kills one
// that leads, and loses the pushes to another. Nothing has to be installed, and nothing
// listens but on the loopback interface.
//
// usage: fleetstorm [-keys N] [-callers N] [-lease D]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed342dcb2d/coalesce/fleet"
	"github.com/seed342dcb2d/coalesce/fleet/internal/procs"
	"github.com/seed342dcb2d/coalesce/fleet/natsfleet"
	"github.com/seed342dcb2d/coalesce/fleet/natsfleet/embedded"
)

// childEnv is the address of the server, in the environment of a child.
const childEnv = "FLEETSTORM_SERVER"

var (
	keys    = flag.Int("keys", 60, "how many keys the storm has")
	callers = flag.Int("callers", 8, "how many goroutines of each process ask for a key at once")
	lease   = flag.Duration("lease", time.Second, "how long after the last sign of life of a leader another takes over")
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: fleetstorm [-keys N] [-callers N] [-lease D]")
		flag.PrintDefaults()
	}
	flag.Parse()
	var err error
	switch {
	case os.Getenv(childEnv) != "":
		err = child(os.Getenv(childEnv))
	case flag.NArg() > 0 || *keys < 1 || *callers < 1:
		flag.Usage()
		os.Exit(2)
	default:
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = run(ctx, os.Stdout)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleetstorm:", err)
		os.Exit(1)
	}
}

// child is one of the three processes.
func child(server string) error {
	nc, err := nats.Connect(server)
	if err != nil {
		return err
	}
	defer nc.Close()
	engine, err := natsfleet.New(context.Background(), nc, natsfleet.Options{})
	if err != nil {
		return err
	}
	defer engine.Close()
	group := &fleet.Group[string, string]{Engine: engine, Name: "storm", Lease: *lease}
	procs.Child(group, os.Stdin, os.Stdout)
	return nil
}

// A show is one run of the program.
type show struct {
	ctx   context.Context
	out   io.Writer
	fleet procs.Fleet
	procs []*procs.Process
	proxy *procs.Proxy // between the server and the last process
	ping  time.Duration
}

func run(ctx context.Context, out io.Writer) error {
	server, err := embedded.Start(embedded.Options{Listen: true})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	s := &show{ctx: ctx, out: out}
	if s.proxy, err = procs.NewProxy(strings.TrimPrefix(server.URL(), "nats://")); err != nil {
		return err
	}
	defer s.proxy.Close()
	var losing filter
	s.proxy.Filter = losing.reader
	defer s.fleet.EndAll()

	if err := s.measure(server.URL()); err != nil {
		return err
	}
	args := []string{"-lease", lease.String()}
	for i := range 3 {
		url := server.URL()
		if i == 2 {
			url = "nats://" + s.proxy.Addr()
		}
		p, err := s.fleet.Start(args, childEnv+"="+url)
		if err != nil {
			return err
		}
		s.procs = append(s.procs, p)
		fmt.Fprintf(out, "process %d: pid %d, %s\n", i, p.PID(), url)
	}
	steps := []func() error{s.storm, s.kill, func() error {
		losing.on.Store(true)
		return s.lost()
	}}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	return nil
}

// measure measures a round trip to the server.
func (s *show) measure(url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	var all []time.Duration
	for range 200 {
		begin := time.Now()
		if err := nc.Flush(); err != nil {
			return err
		}
		all = append(all, time.Since(begin))
	}
	s.ping = procs.Median(all)
	fmt.Fprintf(s.out, "NATS server %s: a round trip takes %v\n", url, s.ping.Round(time.Microsecond))
	return nil
}

// pings returns a time in round trips.
func (s *show) pings(d time.Duration) string {
	return fmt.Sprintf("%.1f round trips", float64(d)/float64(s.ping))
}

// storm lets all processes ask for the same keys, one key after the other.
func (s *show) storm() error {
	const fn = 20 * time.Millisecond
	fmt.Fprintf(s.out, "\nstorm: %d keys, each asked for by %d goroutines in each of 3 processes; fn takes %v\n", *keys, *callers, fn)
	for i := range *keys {
		for _, p := range s.procs {
			p.Tell(procs.Command{Op: "call", Key: fmt.Sprintf("key-%d", i), Callers: *callers, Fn: fn})
		}
		time.Sleep(5 * fn / 2)
		if i%20 == 19 {
			fmt.Fprintf(s.out, "\t%d keys\n", i+1)
		}
	}
	want := *keys * *callers * 3
	if !s.fleet.WaitN(10*time.Second, want, func(e procs.Event) bool { return e.Kind == "answer" }) {
		return fmt.Errorf("storm: not all of %d calls were answered", want)
	}
	log := s.fleet.Log()
	all := procs.Executions(log)
	ended := map[string]procs.Execution{}
	for _, e := range all {
		ended[e.Value] = e
	}
	var after []time.Duration // the end of fn, for calls of other processes
	answers := make([][3]int, 3)
	failed := 0
	for _, e := range log {
		if e.Kind != "answer" {
			continue
		}
		from, ok := ended[e.Value]
		if !ok || e.Err != "" {
			failed++
			continue
		}
		answers[e.Process][from.Process]++
		if from.Process != e.Process {
			after = append(after, e.Time.Sub(from.End))
		}
	}
	fmt.Fprintf(s.out, "\t%d calls, %d failed; %d executions of fn for %d keys, %d of them at the same time as another for the key\n",
		want, failed, len(all), *keys, len(procs.Overlaps(all)))
	m := procs.Median(after)
	fmt.Fprintf(s.out, "\ta call of another process has the value %v after the end of fn (median), %s\n", m.Round(time.Microsecond), s.pings(m))
	w := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\tanswered by\t0\t1\t2\t\n")
	for i, row := range answers {
		fmt.Fprintf(w, "\tcalls of process %d\t%d\t%d\t%d\t\n", i, row[0], row[1], row[2])
	}
	return w.Flush()
}

// kill kills the process that leads a key for which the others wait.
func (s *show) kill() error {
	fmt.Fprintf(s.out, "\nthe leader is killed: a lease lasts %v\n", *lease)
	const key = "killed"
	first := s.procs[0]
	first.Tell(procs.Command{Op: "call", Key: key, Fn: time.Minute})
	begun, ok := s.fleet.Wait(5*time.Second, func(e procs.Event) bool { return e.Kind == "begin" && e.Key == key })
	if !ok {
		return errors.New("kill: fn does not begin")
	}
	for _, p := range s.procs[1:] {
		p.Tell(procs.Command{Op: "call", Key: key, Callers: *callers, Fn: 50 * time.Millisecond})
	}
	time.Sleep(*lease / 2)
	first.Kill()
	killed := time.Now()
	next, ok := s.fleet.Wait(5**lease+time.Second, func(e procs.Event) bool {
		return e.Kind == "begin" && e.Key == key && e.Token != begun.Token
	})
	if !ok {
		return errors.New("kill: nobody has taken over")
	}
	took := next.Time.Sub(killed)
	fmt.Fprintf(s.out, "\tprocess %d takes over %v after the death of process %d, %.2f leases\n",
		next.Process, took.Round(time.Millisecond), begun.Process, took.Seconds()/lease.Seconds())
	n := 2 * *callers
	if !s.fleet.WaitN(5*time.Second, n, func(e procs.Event) bool { return e.Kind == "answer" && e.Key == key }) {
		return errors.New("kill: not all calls were answered")
	}
	values := map[string]int{}
	for _, e := range s.fleet.Log() {
		if e.Kind == "answer" && e.Key == key {
			values[e.Value+e.Err]++
		}
	}
	fmt.Fprintf(s.out, "\t%d calls of 2 processes have %d value\n", n, len(values))
	return nil
}

// lost loses the pushes to the last process.
func (s *show) lost() error {
	fmt.Fprintln(s.out, "\nno push reaches process 2: it finds the result by reading")
	for _, fn := range []time.Duration{30 * time.Millisecond, 2 * *lease} {
		key := fmt.Sprintf("lost-%v", fn)
		s.procs[1].Tell(procs.Command{Op: "call", Key: key, Fn: fn})
		begun, ok := s.fleet.Wait(5*time.Second, func(e procs.Event) bool { return e.Kind == "begin" && e.Key == key })
		if !ok {
			return errors.New("lost: fn does not begin")
		}
		s.procs[2].Tell(procs.Command{Op: "call", Key: key, Fn: fn})
		got, ok := s.fleet.Wait(10*time.Second+fn, func(e procs.Event) bool { return e.Kind == "answer" && e.Key == key && e.Process == 2 })
		if !ok || got.Err != "" {
			return fmt.Errorf("lost: no answer: %+v", got)
		}
		end, _ := s.fleet.Wait(time.Second, func(e procs.Event) bool { return e.Kind == "end" && e.Value == begun.Value })
		n := 0
		for _, e := range procs.Executions(s.fleet.Log()) {
			if e.Key == key {
				n++
			}
		}
		fmt.Fprintf(s.out, "\tfn takes %v: %d execution, and the value %v after its end\n", fn, n, got.Time.Sub(end.Time).Round(time.Millisecond))
	}
	return nil
}
