package guide

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the recipes for keys.

// A sessionKey is a key with a secret. The text of a key is in a DeadlockError and in the log
// of a panic: by String, and by LogValue where the log is written as JSON.
type sessionKey struct {
	tenant string // the result depends on it
	token  string
}

func (k sessionKey) String() string { return k.tenant + "/…" }

func (k sessionKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// TestKeys_Secret: a key's token is in no error and in no log.
func TestKeys_Secret(t *testing.T) {
	var out bytes.Buffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewJSONHandler(&out, nil)))
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[sessionKey, int]
		key := sessionKey{"acme", "top secret"}
		r := <-g.DoChan(t.Context(), key, func(ctx context.Context) (int, error) {
			_, _, err := g.DoContext(ctx, key, func(context.Context) (int, error) { return 0, nil })
			return 0, err
		})
		if !errors.Is(r.Err, coalesce.ErrDeadlock) || !strings.Contains(r.Err.Error(), "acme/…") || strings.Contains(r.Err.Error(), "secret") {
			t.Errorf("got %v, want a deadlock without the token", r.Err)
		}
		g.DoChan(t.Context(), key, func(context.Context) (int, error) { panic("a bug") })
		time.Sleep(time.Second)
	})
	if s := out.String(); !strings.Contains(s, "acme/…") || strings.Contains(s, "secret") {
		t.Errorf("got log %q, want the key without its token", s)
	}
}

// TestKeys_Tenant: who may see a result is part of its key.
func TestKeys_Tenant(t *testing.T) {
	type pageKey struct{ tenant, path string }
	var pages coalesce.Group[pageKey, string]
	load := func(tenant string) string {
		page, _, _ := pages.Do(pageKey{tenant, "/prices"}, func() (string, error) { return "the prices of " + tenant, nil })
		return page
	}
	if a, b := load("acme"), load("umbrella"); a == b {
		t.Errorf("got %q for two tenants, want a page for each", a)
	}
}
