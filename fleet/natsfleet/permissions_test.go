package natsfleet

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// permissions returns those of the package comment.
func permissions() *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"sf.k.>", "$JS.API.STREAM.INFO.SF", "$JS.API.STREAM.MSG.GET.SF"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"sf.w.>", "_INBOX.>"}},
	}
}

// restricted returns a server with a stream, and engines that connect with permissions.
func restricted(t testing.TB, p *server.Permissions) *bench {
	t.Helper()
	b := new(bench)
	b.servers = []*server.Server{serve(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "admin", Password: "a"}, {Username: "app", Password: "b", Permissions: p}}
	})}
	b.admin = administer(t, b.servers[0], nats.UserInfo("admin", "a"))
	b.connect = []nats.Option{nats.UserInfo("app", "b"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}
	b.create(t)
	return b
}

// TestPermissions_Rest: with the permissions of the package comment, the stream cannot be
// deleted, nor written to by the way that pushes take.
func TestPermissions_Rest(t *testing.T) {
	b := restricted(t, permissions())
	refused := make(chan error, 10)
	nc := connect(t, b.servers[0], append(b.connect, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		refused <- err
	}))...)
	for _, subject := range []string{
		"$JS.API.STREAM.DELETE.SF", "$JS.API.STREAM.PURGE.SF", "$JS.API.STREAM.UPDATE.SF", "$JS.API.STREAM.CREATE.SF",
		"$JS.API.STREAM.MSG.DELETE.SF", "$JS.API.CONSUMER.CREATE.SF", "sf.w.name.v.id", "other",
	} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-refused:
			if !strings.Contains(err.Error(), "ermissions") || !strings.Contains(err.Error(), subject) {
				t.Errorf("publish to %s: got %v, want a violation of permissions", subject, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("publish to %s: got no refusal within 5 s", subject)
		}
	}
	for _, subject := range []string{"sf.k.>", ">"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		select {
		case <-refused:
		case <-time.After(5 * time.Second):
			t.Errorf("subscribe to %s: got no refusal within 5 s", subject)
		}
	}
}

// TestCheck_Subscription: a subscription that is not permitted reports no error. Check finds
// it, and that writing or reading is not permitted.
func TestCheck_Permissions(t *testing.T) {
	for _, c := range []struct {
		lacks string
		want  string
		take  func(*server.Permissions)
	}{
		{"sf.w.>", "pushed", func(p *server.Permissions) { p.Subscribe.Allow = []string{"_INBOX.>"} }},
		{"sf.w of that name", "pushed", func(p *server.Permissions) { p.Subscribe.Allow = []string{"sf.w.another.>", "_INBOX.>"} }},
		{"sf.k.>", "Swap", func(p *server.Permissions) { p.Publish.Allow = p.Publish.Allow[1:] }},
		{"MSG.GET", "Load", func(p *server.Permissions) { p.Publish.Allow = p.Publish.Allow[:2] }},
	} {
		t.Run(c.lacks, func(t *testing.T) {
			t.Parallel()
			p := permissions()
			c.take(p)
			b := restricted(t, p)
			e := b.open(t)
			if stop, err := e.Notify(t.Context(), "name/v/id", func(fleet.Record) {}); err != nil {
				t.Errorf("Notify: got %v, want no error, as the server answers later", err)
			} else {
				stop()
			}
			g := fleet.Group[string, string]{Engine: e, Name: "name"}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := g.Check(ctx); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Check without the permission for %s: got %v, want an error with %q", c.lacks, err, c.want)
			}
		})
	}
}
