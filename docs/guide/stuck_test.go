package guide

import (
	"context"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/debugflight"
)

// This file holds the recipe for a key that is stuck.

// TestStuck: the page shows a flight that does not end, the form on it forgets that flight, and
// the next call leads.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pages coalesce.Group[string, string]
		admin := http.NewServeMux()

		registry := debugflight.Registry{AllowForget: true}
		if _, err := registry.Add("pages", debugflight.Of(&pages, nil)); err != nil {
			log.Fatal(err)
		}
		admin.Handle("/debug/flights", &registry)

		const key = "https://example.com/prices?page=7"
		ctx, cancel := context.WithCancel(t.Context())
		pages.DoChan(ctx, key, func(ctx context.Context) (string, error) {
			<-ctx.Done() // a server that does not answer
			return "", context.Cause(ctx)
		})
		synctest.Wait()
		w := httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/flights?q=page%3D7", nil))
		id := regexp.MustCompile(`name="forget" value="(\d+)"`).FindStringSubmatch(w.Body.String())
		if !strings.Contains(w.Body.String(), key) || id == nil {
			t.Fatalf("got no row of the stuck key, want one:\n%s", w.Body)
		}
		form := url.Values{"of": {"pages"}, "forget": id[1:]}.Encode()
		w = httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/debug/flights", strings.NewReader(form)))
		if w.Code != http.StatusSeeOther {
			t.Errorf("got status %d, %q, want 303", w.Code, w.Body)
		}
		page, shared, err := pages.Do(key, func() (string, error) { return "prices", nil })
		if page != "prices" || shared || err != nil {
			t.Errorf("got %q, %v, %v after Forget, want the page of a call that led", page, shared, err)
		}
		cancel()
	})
}
