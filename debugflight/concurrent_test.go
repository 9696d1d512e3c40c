package debugflight_test

import (
	"context"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/debugflight"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// TestConcurrent: groups come and go, and their flights, while pages are drawn and flights are
// forgotten. Each answer is one of those that are documented, and lists the groups by name.
func TestConcurrent(t *testing.T) {
	const perKind = 4
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	r := debugflight.Registry{AllowForget: true, MaxRows: 5}
	groups := make([]coalesce.Group[int, int], perKind)
	add(t, &r, "stays", debugflight.Of(&groups[0], nil))
	var wg sync.WaitGroup
	for i := range perKind {
		g := &groups[i]
		wg.Go(func() {
			for range rounds {
				remove, err := r.Add(fmt.Sprint("group ", i), debugflight.Of(g, nil))
				if err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				for key := range 10 {
					g.DoChan(ctx, key, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, nil })
				}
				cancel()
				remove()
			}
		})
		wg.Go(func() {
			for range rounds {
				got := report(t, &r, "")
				if !slices.IsSortedFunc(got.Groups, func(a, b debugflight.GroupReport) int { return strings.Compare(a.Name, b.Name) }) {
					t.Errorf("got groups %+v, want them by name", got.Groups)
				}
				if len(got.Flights) > 5 || got.Found != len(got.Flights)+got.NotShown {
					t.Errorf("got %d flights of %d, %d not shown, want 5 at most, and the right sum", len(got.Flights), got.Found, got.NotShown)
				}
				for _, f := range got.Flights {
					if w := get(t, &r, "group="+escape(f.Group)+fmt.Sprint("&id=", f.ID)); !slices.Contains([]int{200, 400, 404}, w.Code) {
						t.Errorf("got status %d for the page of a flight, want 200, 400 or 404: %s", w.Code, w.Body)
					}
					if w := post(t, &r, "", fmt.Sprintf("forget=%d&of=%s", f.ID, escape(f.Group))); !slices.Contains([]int{303, 400, 409}, w.Code) {
						t.Errorf("got status %d for the form, want 303, 400 or 409: %s", w.Code, w.Body)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := report(t, &r, ""); len(got.Groups) != 1 || got.Groups[0].Name != "stays" {
		t.Errorf("got groups %+v in the end, want the one that stays", got.Groups)
	}
}

// A stuck writer is a client that reads nothing.
type stuck struct {
	*httptest.ResponseRecorder
	release chan struct{}
}

func (s stuck) Write(p []byte) (int, error) {
	<-s.release
	return len(p), nil
}

// TestSlowClient: a client that does not read its page, and a formatter that does not return,
// hold up neither calls, nor other requests, nor changes of the registry.
func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := debugflight.Registry{AllowForget: true}
		var slow, g kit.Group
		release := make(chan struct{})
		remove := add(t, &r, "slow", debugflight.Of(&slow, func(string) string { <-release; return "late" }))
		add(t, &r, "g", debugflight.Of(&g, nil))
		h := kit.Lead(t, &slow)
		for _, query := range []string{"group=g", "group=slow"} {
			go r.ServeHTTP(stuck{httptest.NewRecorder(), release}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?"+query, nil))
		}
		synctest.Wait()
		for _, g := range []*kit.Group{&slow, &g} {
			if v, _, err := g.Do("other", kit.Value(1)); v != 1 || err != nil {
				t.Errorf("got %v, %v, want 1, nil", v, err)
			}
		}
		if n := len(report(t, &r, "group=g").Groups); n != 1 {
			t.Errorf("got %d groups, want 1", n)
		}
		remove()
		add(t, &r, "slow", debugflight.Of(&slow, nil))
		if got := report(t, &r, ""); got.Found != 1 || got.Flights[0].Key != "k" {
			t.Errorf("got %+v, want the flight", got.Flights)
		}
		close(release)
		close(h.Release)
	})
}

// TestClientGone: a client that goes away ends its request, also in the middle of a search.
func TestClientGone(t *testing.T) {
	var r debugflight.Registry
	began, ended := make(chan bool), make(chan bool)
	var once sync.Once
	add(t, &r, "endless", endless(func() string {
		once.Do(func() { close(began) })
		return "key"
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		defer close(ended)
		r.ServeHTTP(w, req)
	})}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Addr().String()+"/?q=x", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-began
		cancel()
	}()
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Error("got an answer, want none")
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("got a request that goes on without a client, want its end")
	}
}

// An endless source has flights without end, with the text of each key from a function.
type endless func() string

func (e endless) Flights() iter.Seq[debugflight.Flight] {
	return func(yield func(debugflight.Flight) bool) {
		for id := uint64(1); yield(debugflight.Flight{ID: id, State: "running", Key: e}); id++ {
		}
	}
}

func (endless) Counters() []debugflight.Counter { return nil }
func (endless) ForgetFlight(uint64) bool        { return false }
