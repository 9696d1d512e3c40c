package natsfleet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file holds the death of a server of a cluster. Each server has a process of its
// own, as one that ends in an orderly way hands its leadership on.

// serverEnv makes this program a server of a cluster, with the options in it.
const serverEnv = "NATSFLEET_SERVER"

type clusterServer struct {
	Name, Dir, Routes string
	Port, ClusterPort int
}

// serveCluster runs a server until the input ends.
func serveCluster(text string) {
	var c clusterServer
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		var s *server.Server
		s, err = server.NewServer(&server.Options{
			ServerName: c.Name, Host: "127.0.0.1", Port: c.Port, JetStream: true, StoreDir: c.Dir, NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: c.ClusterPort},
			Routes:  server.RoutesFromStr(c.Routes),
		})
		if err == nil {
			go s.Start()
			_, _ = io.Copy(io.Discard, os.Stdin) // until the parent ends
			return
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// startCluster starts three servers and returns their processes by name, and their URLs.
func startCluster(t *testing.T) (servers map[string]*exec.Cmd, urls string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 6)
	var all, routes []string
	for i := range 3 {
		all = append(all, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[3+i]))
	}
	servers = map[string]*exec.Cmd{}
	for i := range 3 {
		c := clusterServer{fmt.Sprint("s", i), t.TempDir(), strings.Join(routes, ","), ports[i], ports[3+i]}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), serverEnv+"="+string(text))
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = in.Close()
			_ = cmd.Wait()
		})
		servers[c.Name] = cmd
	}
	return servers, strings.Join(all, ",")
}

// dial connects to any of the servers.
func dial(t *testing.T, urls string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.Timeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// TestReplicas_LeaderKilled: the server that leads a stream of three replicas is killed
// while fn runs. With a Grace that outlasts the election there is one execution of each
// flight, none without a lease, and every call has its value.
func TestReplicas_LeaderKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("an election takes four to nine seconds")
	}
	servers, urls := startCluster(t)
	js, err := jetstream.New(dial(t, urls))
	if err != nil {
		t.Fatal(err)
	}
	var stream jetstream.Stream
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		stream, err = Create(ctx, js, Options{Replicas: 3})
		cancel()
		if err == nil {
			break
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatal(err)
		}
	}
	const keys, grace = 5, 10 * time.Second
	groups := make([]*fleet.Group[string, string], 3)
	for i := range groups {
		e, err := New(t.Context(), dial(t, urls), Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Close)
		groups[i] = &fleet.Group[string, string]{Engine: e, Name: "g", Process: fmt.Sprint(i), Grace: grace}
	}
	var executions [keys]atomic.Int32
	var slowest atomic.Int64
	var started, calls sync.WaitGroup
	for k := range keys {
		started.Add(1)
		var once sync.Once
		for _, g := range groups {
			calls.Go(func() {
				begin := time.Now()
				v, info, err := g.DoInfo(t.Context(), fmt.Sprint("key", k), func(context.Context) (string, error) {
					executions[k].Add(1)
					t.Logf("key %d, group %s executes after %v", k, g.Process, time.Since(begin))
					once.Do(started.Done)
					time.Sleep(2 * time.Second)
					return "v", nil
				})
				t.Logf("key %d, group %s after %v: %+v %v", k, g.Process, time.Since(begin), info, err)
				if v != "v" || err != nil || info.Role == fleet.Local {
					t.Errorf("key %d: got %q, %v, %+v", k, v, err, info)
				}
				for took := int64(time.Since(begin)); took > slowest.Load(); {
					slowest.Store(took)
				}
			})
		}
	}
	started.Wait()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leader := servers[info.Cluster.Leader]
	if leader == nil {
		t.Fatalf("got the leader %q, want one of the servers", info.Cluster.Leader)
	}
	_ = leader.Process.Kill()
	calls.Wait()
	for k := range executions {
		if n := executions[k].Load(); n != 1 {
			t.Errorf("key %d: got %d executions, want 1", k, n)
		}
	}
	for _, g := range groups {
		t.Logf("%+v", g.Stats())
	}
	t.Logf("the slowest call took %v", time.Duration(slowest.Load()).Round(time.Millisecond))
	if took := time.Duration(slowest.Load()); took > grace+5*time.Second {
		t.Errorf("got a call of %v, want Grace and fn at most", took)
	}
}
