package browser

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/debugflight"
)

var write = flag.String("write", "", "the `directory` to write the guide's pictures to")

// hostile are keys, and the texts in which they are shown.
var hostile = map[string]string{
	`<script>alert("x")</script>`:     `<script>alert("x")</script>`,
	`"><img src=x onerror=alert(1)>`:  `"><img src=x onerror=alert(1)>`,
	`javascript:alert(1)`:             `javascript:alert(1)`,
	"nul \x00 in it":                  `"nul \x00 in it"`,
	"bad \xff utf":                    `"bad \xff utf"`,
	"right \u202eto left":             `"right \u202eto left"`,
	"שלום עולם":                       "שלום עולם",
	strings.Repeat("0123456789", 100): strings.Repeat("0123456789", 20) + "…",
}

// chromium returns the browser's path. Where the check of the project runs, it is installed.
func chromium(t *testing.T) string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("got no Chromium, want one")
	}
	t.Skip("there is no Chromium")
	return ""
}

// A site is a registry with groups in flight, served on loopback under several names.
type site struct {
	registry debugflight.Registry
	pages    coalesce.Group[string, int]
	idle     coalesce.Group[int, int]
	port     string
	posts    chan int // the status of each answer to a form
}

// serve starts a site in which the keys are in flight, each with one waiter more than the
// one before it.
func serve(t *testing.T, keys ...string) *site {
	s := &site{registry: debugflight.Registry{AllowForget: true}, posts: make(chan int, 10)}
	for name, source := range map[string]debugflight.Source{
		"pages": debugflight.Of(&s.pages, nil), `idle <b>"group"</b>`: debugflight.Of(&s.idle, nil),
	} {
		if _, err := s.registry.Add(name, source); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	for i, key := range keys {
		for range i + 1 {
			s.pages.DoChan(ctx, key, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, nil })
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/flights", func(w http.ResponseWriter, r *http.Request) {
		answer := &status{w, http.StatusOK}
		s.registry.ServeHTTP(answer, r)
		if r.Method == http.MethodPost {
			s.posts <- answer.code
		}
	})
	mux.HandleFunc("/attack", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!DOCTYPE html><form method="post" action="http://debug.test:%s/debug/flights"><input name="of" value="pages"><button name="forget" value="%s">x</button></form>`,
			s.port, r.FormValue("id"))
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		cancel()
	})
	return s
}

// A status notes the status of an answer.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// at returns an address of the site. Under a name other than localhost, browsers take it for
// a site without TLS, to which they do not send Sec-Fetch-Site.
func (s *site) at(host, query string) string {
	return "http://" + host + ":" + s.port + "/debug/flights" + query
}

// A tab is a page in a browser, with its complaints and its requests.
type tab struct {
	context.Context

	mu       sync.Mutex
	problems []string
	requests []string
}

// open starts a browser with one empty tab, in which no script runs.
func open(t *testing.T, width int64, scheme string) *tab {
	t.Helper()
	limit, cancelLimit := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancelLimit)
	allocator, cancelAllocator := chromedp.NewExecAllocator(limit,
		chromedp.ExecPath(chromium(t)), chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"))
	t.Cleanup(cancelAllocator)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	b := &tab{Context: ctx}
	call(t, b, log.Enable, cdp.Empty{})
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	call(t, b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	call(t, b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	do(t, b, chromedp.EmulateViewport(width, 900))
	return b
}

// hear notes the complaints and the requests of a page.
func (b *tab) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		b.problems = append(b.problems, e.Entry.Text)
	case *page.EventJavascriptDialogOpening:
		b.problems = append(b.problems, "a dialog: "+e.Message)
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	}
}

func call[P, R any](t *testing.T, b *tab, command cdp.Command[P, R], params P) {
	t.Helper()
	if _, err := chromedp.Call(b, command, params); err != nil {
		t.Fatal(err)
	}
}

func do(t *testing.T, b *tab, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(b, steps...); err != nil {
		t.Fatal(err)
	}
}

// eval returns the value of an expression. The browser evaluates it for us though the page
// can run no script.
func eval[T any](t *testing.T, b *tab, expression string) T {
	t.Helper()
	v, err := chromedp.Run(b, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestPage: in both color schemes, on a phone and on a desk, hostile keys and names are text;
// the page fits the width, asks for nothing else, and the browser has nothing to complain of.
func TestPage(t *testing.T) {
	keys := make([]string, 0, len(hostile))
	for key := range hostile {
		keys = append(keys, key)
	}
	s := serve(t, keys...)
	backgrounds := map[string]bool{}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{390, 1280} {
			t.Run(fmt.Sprintf("%s %d", scheme, width), func(t *testing.T) {
				b := open(t, width, scheme)
				address := s.at("localhost", "")
				do(t, b, chromedp.Navigate(address))
				got := eval[[]string](t, b, `Array.from(document.querySelectorAll("td.key"), e => e.textContent)`)
				var want []string
				for _, key := range hostile {
					want = append(want, key)
				}
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("got keys %q, want %q", got, want)
				}
				if text := eval[string](t, b, `document.body.innerText`); !strings.Contains(text, `idle <b>"group"</b>`) {
					t.Errorf("got no row of the idle group, want it as text:\n%s", text)
				}
				if is := eval[int64](t, b, `document.documentElement.scrollWidth`); is > width {
					t.Errorf("got a page %d px wide, want %d at most", is, width)
				}
				if n := eval[int](t, b, `document.querySelectorAll("script, img, iframe, object").length`); n != 0 {
					t.Errorf("got %d elements from keys, want 0", n)
				}
				backgrounds[scheme+eval[string](t, b, `getComputedStyle(document.body).backgroundColor`)] = true
				b.mu.Lock()
				defer b.mu.Unlock()
				if len(b.problems) > 0 {
					t.Errorf("got complaints %q, want none", b.problems)
				}
				for _, r := range b.requests {
					if r != address && !strings.HasSuffix(r, "/favicon.ico") {
						t.Errorf("got a request for %s, want none except for the page", r)
					}
				}
			})
		}
	}
	if len(backgrounds) != 2 {
		t.Errorf("got backgrounds %v, want one for each scheme", backgrounds)
	}
}

// TestTexts: a hostile text that is the name of a group, a key and a parameter at once is text
// on the list, in its form, and on the page of the flight, to which its link leads.
func TestTexts(t *testing.T) {
	s := serve(t)
	groups := map[string]*coalesce.Group[string, int]{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for text := range hostile {
		groups[text] = new(coalesce.Group[string, int])
		if _, err := s.registry.Add(text, debugflight.Of(groups[text], nil)); err != nil {
			t.Fatal(err)
		}
		groups[text].DoChan(ctx, text, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, nil })
	}
	b := open(t, 390, "light")
	for text, want := range hostile {
		whole := want
		if len(text) > 200 {
			whole = text
		}
		for _, query := range []string{"?q=" + url.QueryEscape(text), "?group=" + url.QueryEscape(text)} {
			do(t, b, chromedp.Navigate(s.at("localhost", query)))
			if got := eval[string](t, b, `document.querySelector("td.key").textContent`); got != want {
				t.Errorf("%s: got key %q, want %q", query, got, want)
			}
			if got := eval[string](t, b, `document.querySelector("table.rows td.key + td").textContent`); got != whole {
				t.Errorf("%s: got group %q, want %q", query, got, whole)
			}
			if is := eval[int64](t, b, `document.querySelector("table.rows").scrollWidth`); is > 390 {
				t.Errorf("%s: got rows %d px wide, want 390 at most", query, is)
			}
		}
		if got := eval[string](t, b, `document.querySelector("select[name=group]").value`); got != whole {
			t.Errorf("got the group %q chosen, want %q", got, whole)
		}
		if _, err := chromedp.RunResponse(b, chromedp.Click("td.key a")); err != nil {
			t.Fatal(err)
		}
		if got := eval[string](t, b, `document.querySelector("pre").textContent`); got != whole {
			t.Errorf("got the page of %q, want %q", got, whole)
		}
		if _, err := chromedp.RunResponse(b, chromedp.Click("button[name=forget]")); err != nil {
			t.Fatal(err)
		}
		for f := range groups[text].Flights() {
			if !f.Forgotten {
				t.Errorf("%q: got a flight that is not forgotten, want the form to find it", text)
			}
		}
		if n := eval[int](t, b, `document.querySelectorAll("script, img, iframe, object").length`); n != 0 {
			t.Errorf("got %d elements from %q, want 0", n, text)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.problems) > 0 {
		t.Errorf("got complaints %q, want none", b.problems)
	}
}

// TestForget: the button on the page of a key forgets its flight, even on a site without
// TLS, and shows the list.
func TestForget(t *testing.T) {
	for _, host := range []string{"localhost", "debug.test"} {
		t.Run(host, func(t *testing.T) {
			s := serve(t, "stuck", "other")
			b := open(t, 1280, "light")
			do(t, b, chromedp.Navigate(s.at(host, "?q=stuck")))
			if _, err := chromedp.RunResponse(b, chromedp.Click("td.key a")); err != nil {
				t.Fatal(err)
			}
			if text := eval[string](t, b, `document.querySelector("pre").textContent`); text != "stuck" {
				t.Errorf("got the page of %q, want that of the key stuck", text)
			}
			resp, err := chromedp.RunResponse(b, chromedp.Click("button[name=forget]"))
			if err != nil {
				t.Fatal(err)
			}
			if resp.Status != http.StatusOK {
				t.Errorf("got status %d, want the list", resp.Status)
			}
			for f := range s.pages.Flights() {
				if f.Forgotten != (f.Key == "stuck") {
					t.Errorf("%s: got forgotten %v, want that of stuck alone", f.Key, f.Forgotten)
				}
			}
			if text := eval[string](t, b, `document.querySelector("table.rows").innerText`); !strings.Contains(text, "running, forgotten") {
				t.Errorf("got the list %q, want the flight forgotten", text)
			}
		})
	}
}

// TestAttack: a form on another site forgets nothing.
func TestAttack(t *testing.T) {
	s := serve(t, "stuck")
	var id uint64
	for f := range s.pages.Flights() {
		id = f.ID
	}
	b := open(t, 1280, "light")
	do(t, b, chromedp.Navigate(fmt.Sprintf("http://attacker.test:%s/attack?id=%d", s.port, id)))
	do(t, b, chromedp.Click("button"))
	select {
	case got := <-s.posts:
		if got != http.StatusForbidden {
			t.Errorf("got status %d, want 403", got)
		}
	case <-b.Done():
		t.Fatal("got no form sent, want one")
	}
	for f := range s.pages.Flights() {
		if f.Forgotten {
			t.Error("got the flight forgotten, want it kept")
		}
	}
}

// TestPictures makes the two pictures of the guide, with -write.
func TestPictures(t *testing.T) {
	s := serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wait := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, nil }
	for range 38 {
		s.pages.DoChan(ctx, "https://example.com/prices?page=7", wait)
	}
	time.Sleep(4 * time.Second)
	for i, key := range []string{"https://example.com/", "https://example.com/about", "https://example.com/prices?page=1"} {
		for range 3 - i {
			s.pages.DoChan(ctx, key, wait)
		}
	}
	for _, c := range []struct{ file, query, scheme string }{
		{"stuck-list.png", "?group=pages", "light"},
		{"stuck-key.png", "", "dark"},
	} {
		b := open(t, 800, c.scheme)
		do(t, b, chromedp.EmulateViewport(800, 590), chromedp.Navigate(s.at("localhost", c.query)))
		if c.query == "" {
			if _, err := chromedp.RunResponse(b, chromedp.Click("td.key a")); err != nil {
				t.Fatal(err)
			}
			do(t, b, chromedp.EmulateViewport(800, 380))
		}
		picture, err := chromedp.Run(b, chromedp.CaptureScreenshot())
		if err != nil || len(picture) < 10_000 {
			t.Fatalf("got a picture of %d bytes, %v, want one of 10,000 at least, nil", len(picture), err)
		}
		if *write != "" {
			if err := os.WriteFile(filepath.Join(*write, c.file), picture, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
