package redisfleet

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed342dcb2d/coalesce/fleet/fleettest"
	"github.com/seed342dcb2d/coalesce/fleet/internal/enginetest"
)

func (b *bench) check(t *testing.T) {
	t.Helper()
	fleettest.Engine(t, b.open, b.Options())
}

// TestEngine: a server passes.
func TestEngine(t *testing.T) { serve(t).check(t) }

// rules returns the line of permissions of the package comment.
const rules = "resetkeys resetchannels ~sf:* &sf:* -@all " +
	"+get +set +eval +evalsha +time +publish +subscribe +unsubscribe +info +hello +ping +client"

// restrict makes engines connect as a user with the permissions of the package comment.
func (b *bench) restrict(t *testing.T, rules string) {
	t.Helper()
	b.Ask(t, append([]string{"ACL", "SETUSER", "app", "reset", "on", ">secret"}, strings.Fields(rules)...)...)
	b.client = func(o *rueidis.ClientOption) { o.Username, o.Password = "app", "secret" }
}

// TestEngine_Permissions: the permissions of the package comment are enough.
func TestEngine_Permissions(t *testing.T) {
	b := serve(t)
	b.restrict(t, rules)
	b.check(t)
}

// TestEngine_Cluster: a cluster passes, with the permissions of the package comment.
func TestEngine_Cluster(t *testing.T) {
	b := serve(t, "--cluster-enabled", "yes")
	b.Ask(t, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	for begin := time.Now(); !strings.Contains(b.Ask(t, "CLUSTER", "INFO"), "cluster_state:ok"); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("got a cluster that is not ready after 10 s")
		}
	}
	b.options.Sharded = true
	b.restrict(t, strings.NewReplacer("+publish", "+spublish", "+subscribe", "+ssubscribe", "+unsubscribe", "+sunsubscribe").Replace(rules)+" +cluster")
	b.check(t)
}

// TestGroup: processes share executions, also while connections break, after the server has
// lost its records, and where a process leads a thousand keys.
func TestGroup(t *testing.T) {
	b := serve(t)
	enginetest.Group(t, b.open, b.Options())
}
