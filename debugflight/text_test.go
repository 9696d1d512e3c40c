package debugflight_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/debugflight"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// A nasty error panics with itself when its text is asked for.
type nasty struct{}

func (nasty) Error() string { panic(nasty{}) }

// An exiting key exits the goroutine that asks for its text.
type exiting struct{}

func (exiting) String() string { runtime.Goexit(); return "" }

// TestHostileFormatters: a formatter that panics, though with a value that panics itself, or
// that exits its goroutine, costs its row, not the page.
func TestHostileFormatters(t *testing.T) {
	for _, c := range []struct {
		name   string
		format func(string) string
		want   string
	}{
		{"panics", func(string) string { panic("no such <key>") }, "panicked: no such &lt;key&gt;)"},
		{"panics with a value that panics", func(string) string { panic(nasty{}) }, "panicked)"},
		{"panics with a value that exits", func(string) string { panic(exiting{}) }, "panicked)"},
		{"exits", func(string) string { runtime.Goexit(); return "" }, "exited its goroutine)"},
		{"is String, which exits", func(string) string { return fmt.Sprint(exiting{}) }, "exited its goroutine)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r debugflight.Registry
				var g kit.Group
				add(t, &r, "g", debugflight.Of(&g, func(key string) string {
					if key == "bad" {
						return c.format(key)
					}
					return key
				}))
				h := kit.Hold()
				for _, key := range []string{"good", "bad"} {
					kit.Go(t.Context(), kit.Forms[0], &g, key, h.CtxFn(1))
					<-h.Started
				}
				for _, query := range []string{"", "q=o"} {
					done := make(chan bool)
					go func() {
						defer close(done)
						page := get(t, &r, query).Body.String()
						if !strings.Contains(page, "good") || !strings.Contains(page, "(no text: the formatter "+c.want) {
							t.Errorf("%q: got a page without the good row, or without %q, want both:\n%s", query, c.want, page)
						}
						done <- true
					}()
					if !<-done {
						t.Errorf("%q: got an exit of the handler's goroutine, want a page", query)
					}
				}
				close(h.Release)
			})
		})
	}
}

// TestPointerKeys: a key that is a pointer is shown as one. What it points to may change while
// the page is made, and is not looked at.
func TestPointerKeys(t *testing.T) {
	type request struct{ headers map[string]string }
	synctest.Test(t, func(t *testing.T) {
		var r debugflight.Registry
		var g coalesce.Group[any, int]
		add(t, &r, "g", debugflight.Of(&g, nil))
		key := &request{map[string]string{"Authorization": "secret"}}
		named := &named{"with a name"}
		h := kit.Hold()
		for _, key := range []any{key, named, nil, 7} {
			go g.Do(key, h.Fn(1))
			<-h.Started
		}
		stop, stopped := make(chan bool), make(chan bool)
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					key.headers["X"] = fmt.Sprint(i)
				}
			}
		}()
		var got []string
		for range 10 {
			got = nil
			for _, f := range report(t, &r, "").Flights {
				got = append(got, f.Key)
			}
		}
		close(stop)
		<-stopped
		want := map[string]bool{fmt.Sprintf("(%T)(%p)", key, key): true, "named with a name": true, "<nil>": true, "7": true}
		for _, k := range got {
			if !want[k] {
				t.Errorf("got key %q, want one of %v", k, want)
			}
			delete(want, k)
		}
		if len(want) > 0 {
			t.Errorf("got no key %v, want it", want)
		}
		close(h.Release)
	})
}

type named struct{ name string }

func (n *named) String() string { return "named " + n.name }

// TestAlike: what is shown of two names or two keys is different if they are, so that the name
// on the page means one group.
func TestAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := debugflight.Registry{AllowForget: true}
		names := []string{"a\x00b", `"a\x00b"`, `"\"a\\x00b\""`, `"quoted"`, `"`, `""`}
		groups := make([]kit.Group, len(names))
		h := kit.Hold()
		for i, name := range names {
			add(t, &r, name, debugflight.Of(&groups[i], nil))
			kit.Go(t.Context(), kit.Forms[0], &groups[i], name, h.CtxFn(1))
			<-h.Started
		}
		shown, keys := map[string]bool{}, map[string]bool{}
		for _, f := range report(t, &r, "").Flights {
			shown[f.Group], keys[f.Key] = true, true
			w := post(t, &r, "", fmt.Sprintf("forget=%d&of=%s", f.ID, escape(f.Group)))
			if w.Code != http.StatusSeeOther {
				t.Errorf("%s: got status %d, want 303: %s", f.Group, w.Code, w.Body)
			}
		}
		if len(shown) != len(names) || len(keys) != len(names) {
			t.Errorf("got %d names and %d keys, want %d of each: %v", len(shown), len(keys), len(names), shown)
		}
		if !shown[`"quoted"`] || !shown[`"`] || !shown[`""`] {
			t.Errorf("got %v, want quotes that mean nothing as they are", shown)
		}
		close(h.Release)
	})
}

// TestSearchAsShown: a key is found by its text, and by what is shown of it.
func TestSearchAsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r debugflight.Registry
		var g kit.Group
		add(t, &r, "g", debugflight.Of(&g, nil))
		h := kit.Hold()
		for _, key := range []string{"nul \x00 in it", "other"} {
			kit.Go(t.Context(), kit.Forms[0], &g, key, h.CtxFn(1))
			<-h.Started
		}
		for _, text := range []string{"nul \x00", `"nul \x00 in it"`} {
			if got := report(t, &r, "q="+escape(text)); got.Found != 1 || got.Flights[0].Key != `"nul \x00 in it"` {
				t.Errorf("%q: got %+v, want the key that contains it", text, got.Flights)
			}
		}
		close(h.Release)
	})
}
