// Benchmarks measures package fleet on NATS and on Redis, each with a server in a process of
// its own, in one run, and prints tables in Markdown. What takes time on the network is
// given in multiples of the same engine's own operations, as one ping varies fourfold with
// what else a machine does.
//
// usage: benchmarks [-rounds N] [-only TEXT]
//
//	-rounds N    measure each figure N times, for its median (default 300)
//	-only TEXT   only the tables whose title contains it
//
// It needs redis-server in the path; without it, it says so and measures NATS alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/rueidis"

	"github.com/seed342dcb2d/coalesce/fleet"
	"github.com/seed342dcb2d/coalesce/fleet/natsfleet"
	"github.com/seed342dcb2d/coalesce/fleet/natsfleet/embedded"
	"github.com/seed342dcb2d/coalesce/fleet/redisfleet"
)

var (
	rounds = flag.Int("rounds", 300, "how often each figure is measured, for its median")
	only   = flag.String("only", "", "only the tables whose title contains `text`")
)

// serverEnv makes this program the NATS server of another.
const serverEnv = "FLEET_BENCH_SERVER"

func main() {
	flag.Parse()
	if os.Getenv(serverEnv) != "" {
		serve()
		return
	}
	if flag.NArg() > 0 || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

// serve runs a NATS server until its input ends.
func serve() {
	s, err := embedded.Start(embedded.Options{Listen: true})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(strings.TrimPrefix(s.URL(), "nats://"))
	buf := make([]byte, 1)
	_, _ = os.Stdin.Read(buf)
	s.Shutdown()
}

// An engine is a server that has its own process.
type engine struct {
	name string
	addr string

	// open returns an engine on a connection of its own, a function that measures one
	// round trip, and one that closes the connection.
	open func(ctx context.Context) (e fleet.Engine, ping func(context.Context) error, end func(), err error)

	stop func()
}

// startNATS starts this program as a server.
func startNATS() (*engine, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), serverEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var addr string
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		return nil, err
	}
	return &engine{
		name: "NATS", addr: addr,
		open: func(ctx context.Context) (fleet.Engine, func(context.Context) error, func(), error) {
			nc, err := nats.Connect("nats://" + addr)
			if err != nil {
				return nil, nil, nil, err
			}
			e, err := natsfleet.New(ctx, nc, natsfleet.Options{})
			if err != nil {
				nc.Close()
				return nil, nil, nil, err
			}
			return e, func(context.Context) error { return nc.Flush() }, func() { e.Close(); nc.Close() }, nil
		},
		stop: func() {
			_ = in.Close()
			_ = cmd.Wait()
		},
	}, nil
}

// startRedis starts a redis-server.
func startRedis() (*engine, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	_ = l.Close()
	dir, err := os.MkdirTemp("", "fleetbench")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	for range 500 {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			return &engine{name: "Redis", addr: addr, open: openRedis(addr), stop: stop}, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return nil, errors.New("redis-server is not ready")
}

func redisClient(addr string) (rueidis.Client, error) {
	return rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true})
}

func asideOption(addr string) rueidis.ClientOption {
	return rueidis.ClientOption{InitAddress: []string{addr}}
}

func openRedis(addr string) func(context.Context) (fleet.Engine, func(context.Context) error, func(), error) {
	return func(context.Context) (fleet.Engine, func(context.Context) error, func(), error) {
		c, err := redisClient(addr)
		if err != nil {
			return nil, nil, nil, err
		}
		ping := func(ctx context.Context) error { return c.Do(ctx, c.B().Ping().Build()).Error() }
		return redisfleet.New(redisfleet.Rueidis(c), redisfleet.Options{}), ping, c.Close, nil
	}
}

func run(ctx context.Context) error {
	n, err := startNATS()
	if err != nil {
		return err
	}
	defer n.stop()
	engines := []*engine{n}
	if r, err := startRedis(); err == nil {
		defer r.stop()
		engines = append(engines, r)
	} else {
		fmt.Fprintln(os.Stderr, "benchmarks: no Redis:", err)
	}
	fmt.Printf("%s, %d processors, %s; each server has a process of its own; medians of %d\n",
		runtime.GOARCH, runtime.NumCPU(), runtime.Version(), *rounds)
	for _, t := range []struct {
		title string
		run   func(context.Context, []*engine) error
	}{
		{"one call, against the engine's own operations", latencies},
		{"executions, against others", executions},
		{"the size of a value", payloads},
		{"sealing", sealing},
		{"flights a second", saturation},
		{"a push that is lost", lostPush},
	} {
		if !strings.Contains(t.title, *only) {
			continue
		}
		fmt.Printf("\n## %s\n\n", t.title)
		if err := t.run(ctx, engines); err != nil {
			return fmt.Errorf("%s: %w", t.title, err)
		}
	}
	return nil
}

// A sample is what was measured, for its median.
type sample []time.Duration

func (s *sample) time(f func() error) error {
	begin := time.Now()
	err := f()
	*s = append(*s, time.Since(begin))
	return err
}

// at returns what a part p of the sample does not exceed.
func (s sample) at(p float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	s = slices.Clone(s)
	slices.Sort(s)
	return s[min(len(s)-1, int(p*float64(len(s))))]
}

func (s sample) median() time.Duration { return s.at(0.5) }

// ratio returns a : b.
func ratio(a, b time.Duration) string { return fmt.Sprintf("%.2f", float64(a)/float64(b)) }
