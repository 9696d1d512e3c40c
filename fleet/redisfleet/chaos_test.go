package redisfleet

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed342dcb2d/coalesce/fleet/internal/procs"
	"github.com/seed342dcb2d/coalesce/fleet/internal/procs/chaostest"
)

func TestMain(m *testing.M) {
	chaostest.Main(m, func(o procs.Options) {
		c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{o.Addr}, DisableCache: true})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		defer c.Close()
		procs.Child(o.Group(New(Rueidis(c), Options{})), os.Stdin, os.Stdout)
	})
}

// TestChaos: real processes are killed, stopped and cut off, and so is their server.
func TestChaos(t *testing.T) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("there is no redis-server")
	}
	chaostest.Run(t, func(t *testing.T) chaostest.Server {
		dir := t.TempDir()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		_, port, _ := net.SplitHostPort(addr)
		_ = l.Close()
		var cmd *exec.Cmd
		start := func(t *testing.T) {
			t.Helper()
			cmd = exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes",
				"--appendfsync", "everysec", "--dir", dir)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for range 500 {
				if c, err := net.Dial("tcp", addr); err == nil {
					_ = c.Close()
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Fatal("the server is not ready")
		}
		stop := func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		start(t)
		t.Cleanup(func() { stop() })
		return chaostest.Server{
			Addr: addr,
			Restart: func(t *testing.T, keep bool) {
				stop()
				if !keep {
					files, _ := filepath.Glob(dir + "/*")
					for _, f := range files {
						_ = os.RemoveAll(f)
					}
				}
				start(t)
			},
			Stop: func(*testing.T) { stop() },
		}
	})
}
