package debugflight_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/debugflight"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// get requests the page with a query, without a network.
func get(t *testing.T, r *debugflight.Registry, query string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/debug/flights?"+query, nil))
	return w
}

// report requests the page as JSON. The report must have no fields that Report has not.
func report(t *testing.T, r *debugflight.Registry, query string) debugflight.Report {
	t.Helper()
	w := get(t, r, "format=json&"+query)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("got status %d, type %q, want 200 and JSON: %s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	var got debugflight.Report
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

func add(t *testing.T, r *debugflight.Registry, name string, s debugflight.Source) (remove func()) {
	t.Helper()
	remove, err := r.Add(name, s)
	if err != nil {
		t.Fatal(err)
	}
	return remove
}

// TestAdd: a name that is empty or taken, and a nil group, are errors that say so. What was
// removed can be added again, and two registries have nothing in common.
func TestAdd(t *testing.T) {
	var one, two debugflight.Registry
	s := debugflight.Of(new(kit.Group), nil)
	remove := add(t, &one, "pages", s)
	add(t, &two, "pages", s)
	for name, source := range map[string]debugflight.Source{
		"":      s,
		"pages": s,
		"nil":   debugflight.Of[string, int](nil, nil),
	} {
		remove, err := one.Add(name, source)
		if err == nil || remove != nil || !strings.Contains(err.Error(), "debugflight: ") || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: got error %v, want one that says what is wrong", name, err)
		}
	}
	remove()
	again := add(t, &one, "pages", s)
	remove() // of the first: without effect
	if n := len(report(t, &one, "").Groups); n != 1 {
		t.Errorf("got %d groups, want 1", n)
	}
	again()
	if n := len(report(t, &one, "").Groups); n != 0 {
		t.Errorf("got %d groups after remove, want 0", n)
	}
	if n := len(report(t, &two, "").Groups); n != 1 {
		t.Errorf("got %d groups in the other registry, want 1", n)
	}
}

// TestDefaultMux: importing the package serves nothing.
func TestDefaultMux(t *testing.T) {
	for _, path := range []string{"/debug/flights", "/debug/", "/debugflight"} {
		w := httptest.NewRecorder()
		http.DefaultServeMux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: got status %d, want 404", path, w.Code)
		}
	}
}

// TestReport: flights of groups with different keys, in all states, the oldest first, with
// what Flights and Stats say; a group without flights has a row, too.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r debugflight.Registry
		var pages kit.Group
		numbers := coalesce.Group[int, int]{MaxAge: time.Hour}
		add(t, &r, "pages", debugflight.Of(&pages, nil))
		add(t, &r, "numbers", debugflight.Of(&numbers, func(n int) string { return fmt.Sprintf("number %d", n) }))
		add(t, &r, "idle", debugflight.Of(new(kit.Group), nil))

		h := kit.Abandon(t, &pages, "abandoned")
		time.Sleep(time.Second)
		next := kit.Hold()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		kit.Go(ctx, kit.Forms[2], &pages, "abandoned", next.CtxFn(2)) // is queued
		synctest.Wait()
		time.Sleep(time.Second)
		numbers.DoChan(ctx, 7, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, nil })
		numbers.DoChan(ctx, 7, nil2)
		synctest.Wait()
		numbers.Forget(7)
		inline := kit.Lead(t, &pages) // its age is not known before the first look
		time.Sleep(500 * time.Millisecond)
		report(t, &r, "")
		time.Sleep(500 * time.Millisecond)

		got := report(t, &r, "")
		if got.Version != 1 || got.Found != 4 || got.NotShown != 0 || !got.Time.Equal(time.Now()) {
			t.Errorf("got version %d, %d found, %d not shown, at %v, want 1, 4, 0, now", got.Version, got.Found, got.NotShown, got.Time)
		}
		for i := range got.Flights {
			if got.Flights[i].ID == 0 {
				t.Errorf("flight %d: got ID 0, want another", i)
			}
			got.Flights[i].ID = 0
		}
		want := []debugflight.FlightReport{
			{Group: "pages", Key: "abandoned", Age: 3, State: "abandoned"},
			{Group: "pages", Key: "abandoned", Age: 2, State: "queued", Waiters: 1},
			{Group: "numbers", Key: "number 7", Age: 1, State: "running", Waiters: 1, Forgotten: true},
			{Group: "pages", Key: "k", Age: 0.5, State: "running", AtLeast: true},
		}
		if !reflect.DeepEqual(got.Flights, want) {
			t.Errorf("got flights\n%+v, want\n%+v", got.Flights, want)
		}
		for i, want := range []debugflight.GroupReport{
			{Name: "idle"},
			{Name: "numbers", Flights: 1, Waiters: 1, Oldest: 1},
			{Name: "pages", Flights: 3, Waiters: 1, Oldest: 3, AtLeast: true}, // the age of one is not known
		} {
			g := got.Groups[i]
			g.Counters = nil
			if !reflect.DeepEqual(g, want) {
				t.Errorf("group %d: got %+v, want %+v", i, g, want)
			}
		}
		wantCounters(t, got.Groups[2].Counters, pages.Stats())

		page := get(t, &r, "").Body.String()
		for _, want := range []string{"≥\u00a0500ms", "number 7", "running, forgotten", ">idle<", "<td class=\"n\">3s</td>"} {
			if !strings.Contains(page, want) {
				t.Errorf("got a page without %q, want it:\n%s", want, page)
			}
		}
		for _, h := range []*kit.Held{h, next, inline} {
			close(h.Release)
		}
		cancel()
		synctest.Wait()
		if got := report(t, &r, ""); got.Found != 0 || len(got.Groups) != 3 {
			t.Errorf("got %d flights of %d groups in the end, want 0 of 3", got.Found, len(got.Groups))
		}
	})
}

func nil2(context.Context) (int, error) { return 0, nil }

// wantCounters checks that every field of Stats is a counter.
func wantCounters(t *testing.T, got map[string]uint64, stats coalesce.Stats) {
	t.Helper()
	v := reflect.ValueOf(stats)
	if len(got) != v.NumField() {
		t.Errorf("got %d counters, want %d", len(got), v.NumField())
	}
	for i := range v.NumField() {
		name, want := v.Type().Field(i).Name, v.Field(i).Uint()
		if n, ok := got[name]; !ok || n != want {
			t.Errorf("got counter %s = %d, want %d", name, n, want)
		}
	}
}

// TestRates: with seconds, the request takes that time, and says how fast each counter grew.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r debugflight.Registry
		g := kit.Group{Linger: time.Hour}
		add(t, &r, "g", debugflight.Of(&g, nil))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for i := 0; ctx.Err() == nil; i++ {
				time.Sleep(time.Second / 4)
				_, _, _ = g.Do(fmt.Sprint(i/2), kit.Value(1)) // each key twice
			}
		}()
		time.Sleep(time.Millisecond)
		began := time.Now()
		got := report(t, &r, "seconds=2")
		if took := time.Since(began); took != 2*time.Second || got.Seconds != 2 {
			t.Errorf("got rates of %v s after %v, want 2 s", got.Seconds, took)
		}
		for name, want := range map[string]float64{"Calls": 4, "Led": 2, "Lingered": 2, "Left": 0} {
			if rate, ok := got.Groups[0].Rates[name]; !ok || rate != want {
				t.Errorf("got rate %v of %s, want %v", rate, name, want)
			}
		}
		if _, ok := got.Groups[0].Rates["Lingering"]; ok {
			t.Error("got a rate of Lingering, want none: it goes up and down")
		}
		if page := get(t, &r, "seconds=1").Body.String(); !strings.Contains(page, "4/s") {
			t.Errorf("got a page without a rate, want 4/s:\n%s", page)
		}
		cancel()
		time.Sleep(time.Second)
	})
}

// TestFilters: each parameter leaves the rows that it says, and none of them the counts of
// the groups.
func TestFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := debugflight.Registry{MaxRows: 3}
		var a, b kit.Group
		add(t, &r, "a", debugflight.Of(&a, nil))
		add(t, &r, "b", debugflight.Of(&b, nil))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wait := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, nil }
		for i := range 10 {
			for range i + 1 {
				a.DoChan(ctx, fmt.Sprintf("apple %d", i), wait)
			}
			b.DoChan(ctx, fmt.Sprintf("banana %d", i), wait)
			synctest.Wait()
			time.Sleep(time.Second)
		}
		a.Forget("apple 4")
		for query, want := range map[string][]string{
			"":                        {"apple 0", "banana 0", "apple 1"},
			"group=b":                 {"banana 0", "banana 1", "banana 2"},
			"q=na+3":                  {"banana 3"},
			"q=3&sort=waiters":        {"apple 3", "banana 3"},
			"sort=waiters":            {"apple 9", "apple 8", "apple 7"},
			"min=9.5s":                {"apple 0", "banana 0"},
			"state=forgotten":         {"apple 4"},
			"state=queued":            {},
			"state=running&min=&q=":   {"apple 0", "banana 0", "apple 1"},
			"group=a&state=abandoned": {},
		} {
			got := report(t, &r, query)
			keys := []string{}
			for _, f := range got.Flights {
				keys = append(keys, f.Key)
			}
			if !reflect.DeepEqual(keys, want) {
				t.Errorf("%s: got %q, want %q", query, keys, want)
			}
			if got.NotShown != got.Found-len(keys) {
				t.Errorf("%s: got %d not shown of %d found, want %d", query, got.NotShown, got.Found, got.Found-len(keys))
			}
			if n := got.Groups[0].Flights; n != 10 {
				t.Errorf("%s: got %d flights of the group, want 10", query, n)
			}
		}
		if got := report(t, &r, ""); got.Found != 20 || got.NotShown != 17 {
			t.Errorf("got %d found, %d not shown, want 20 and 17", got.Found, got.NotShown)
		}
		if page := get(t, &r, "").Body.String(); !strings.Contains(page, "(20, 17 of them not shown)") {
			t.Errorf("got a page without the number of missing rows, want 17:\n%s", page)
		}
	})
}

// TestOwnPage: with its ID, a flight has a page of its own, with its whole key, until it is
// over.
func TestOwnPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r debugflight.Registry
		var g kit.Group
		add(t, &r, "g", debugflight.Of(&g, nil))
		ctx, cancel := context.WithCancel(t.Context())
		long := strings.Repeat("0123456789", 50)
		huge := "x" + strings.Repeat("é", 20_000) // its byte 16,384 is in a character
		for _, key := range []string{long, huge} {
			g.DoChan(ctx, key, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, nil })
		}
		for _, f := range report(t, &r, "").Flights {
			key, own := long, long
			if strings.HasPrefix(f.Key, "x") {
				key, own = huge, huge[:16<<10-1]+"…"
			}
			if short := string([]rune(key)[:200]) + "…"; f.Key != short || !f.KeyIsCut {
				t.Errorf("got key %q, cut %v, want %q, cut", f.Key, f.KeyIsCut, short)
			}
			query := fmt.Sprintf("group=g&id=%d", f.ID)
			got := report(t, &r, query)
			if got.Found != 1 || got.Flights[0].Key != own || got.Flights[0].KeyIsCut != (own != key) {
				t.Errorf("got %d flights, want one with the whole key of %d bytes", got.Found, len(own))
			}
			if page := get(t, &r, query).Body.String(); !strings.Contains(page, own) {
				t.Error("got a page without the whole key, want it")
			}
		}
		id := report(t, &r, "").Flights[0].ID
		cancel()
		synctest.Wait()
		if w := get(t, &r, fmt.Sprintf("group=g&id=%d", id)); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "no longer there") {
			t.Errorf("got status %d, %q of a flight that is over, want 404 and a sentence", w.Code, w.Body)
		}
	})
}

// TestOwnPage_Filters: the other parameters do not hide a flight from its own page, though it
// has changed since they selected it; the way back to the list has them.
func TestOwnPage_Filters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := debugflight.Registry{AllowForget: true}
		var g kit.Group
		add(t, &r, "g", debugflight.Of(&g, nil))
		h := kit.Lead(t, &g)
		id := report(t, &r, "").Flights[0].ID
		w := get(t, &r, fmt.Sprintf("group=g&id=%d&state=queued&min=1h&q=other", id))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `<a href="?group=g&amp;min=1h0m0s&amp;q=other&amp;state=queued">all flights</a>`) {
			t.Errorf("got status %d, want the page of the flight, and a way back: %s", w.Code, w.Body)
		}
		close(h.Release)
	})
}

// TestOwnPage_Seconds: neither the page of a flight nor the list after Forget takes the time of
// the rates that were asked for before.
func TestOwnPage_Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := debugflight.Registry{AllowForget: true}
		var g kit.Group
		add(t, &r, "g", debugflight.Of(&g, nil))
		h := kit.Lead(t, &g)
		id := report(t, &r, "").Flights[0].ID
		page := get(t, &r, "seconds=10&sort=waiters").Body.String()
		if want := fmt.Sprintf(`<a href="?group=g&amp;id=%d&amp;sort=waiters">`, id); !strings.Contains(page, want) {
			t.Errorf("got a list without the link %s, want it:\n%s", want, page)
		}
		w := post(t, &r, "seconds=10&sort=waiters", fmt.Sprintf("forget=%d&of=g", id))
		if at := w.Header().Get("Location"); at != "?sort=waiters" {
			t.Errorf("got Location %q after Forget, want the list without seconds", at)
		}
		close(h.Release)
	})
}

// TestTexts: keys, names and parameters that hold markup, quotes, control characters, marks of
// direction or no valid UTF-8 are text, in HTML and in JSON.
func TestTexts(t *testing.T) {
	keys := map[string]string{ // and how they are shown
		`<script>alert("x")</script>`:    `<script>alert("x")</script>`,
		`"><img src=x onerror=alert(1)>`: `"><img src=x onerror=alert(1)>`,
		`' onmouseover='x`:               `' onmouseover='x`,
		"nul \x00 in it":                 `"nul \x00 in it"`,
		"bad \xff utf":                   `"bad \xff utf"`,
		"right \u202eto left":            `"right \u202eto left"`,
		"line\nbreak":                    `"line\nbreak"`,
		"שלום":                           "שלום",
		"&amp; {{.Nonce}}":               "&amp; {{.Nonce}}",
		"\uFFFD is a character":          "\uFFFD is a character",
	}
	for key, want := range keys {
		synctest.Test(t, func(t *testing.T) {
			r := debugflight.Registry{AllowForget: true}
			var g kit.Group
			add(t, &r, key, debugflight.Of(&g, nil))
			h := kit.Hold()
			kit.Go(t.Context(), kit.Forms[0], &g, key, h.CtxFn(1))
			<-h.Started
			got := report(t, &r, "")
			if got.Flights[0].Key != want || got.Flights[0].Group != want || got.Groups[0].Name != want {
				t.Errorf("got %q, group %q, %q, want %q", got.Flights[0].Key, got.Flights[0].Group, got.Groups[0].Name, want)
			}
			for _, query := range []string{"", "q=" + escape(key), "group=" + escape(key), "group=" + escape(want)} {
				w := get(t, &r, query)
				if w.Code != http.StatusOK {
					t.Fatalf("%q: got status %d, want 200: %s", query, w.Code, w.Body)
				}
				page := w.Body.String()
				for _, bad := range []string{"<script", "<img", "\x00", "\xff", "\u202e", "onmouseover='x", "http://", "https://", "//www", "xmlns"} {
					if bad == "\u202e" && strings.HasPrefix(query, "q=") {
						continue // in the field of the form, where it was typed
					}
					if strings.Contains(page, bad) {
						t.Errorf("%q: got a page of %q with %q, want it as text only", query, key, bad)
					}
				}
			}
			close(h.Release)
		})
	}
}

// A fixed source has what it is given.
type fixed []debugflight.Flight

func (f fixed) Flights() iter.Seq[debugflight.Flight] {
	return func(yield func(debugflight.Flight) bool) {
		for _, x := range f {
			if !yield(x) {
				return
			}
		}
	}
}

func (fixed) Counters() []debugflight.Counter {
	return []debugflight.Counter{{Name: "Requests", Value: 1234567}}
}
func (fixed) ForgetFlight(uint64) bool { return false }

// TestSource: something else than a group is shown, with its own counters and details.
func TestSource(t *testing.T) {
	var r debugflight.Registry
	add(t, &r, "fleet", fixed{{
		ID: 1, Age: 90 * time.Second, State: "running", Key: func() string { return "key" }, Detail: "led by process <7>",
	}})
	page := get(t, &r, "").Body.String()
	for _, want := range []string{"led by process &lt;7&gt;", "1,234,567", "1m30s"} {
		if !strings.Contains(page, want) {
			t.Errorf("got a page without %q, want it:\n%s", want, page)
		}
	}
}

// TestRemove_Frees: a group that was removed is kept neither by the registry nor by remove.
func TestRemove_Frees(t *testing.T) {
	var r debugflight.Registry
	group, remove := func() (weak.Pointer[kit.Group], func()) {
		g := new(kit.Group)
		return weak.Make(g), add(t, &r, "g", debugflight.Of(g, nil))
	}()
	report(t, &r, "")
	if runtime.GC(); group.Value() == nil {
		t.Error("got a group freed that is registered, want it kept")
	}
	remove()
	if !kit.Eventually(func() bool { runtime.GC(); return group.Value() == nil }) {
		t.Error("got a group that is kept, want it freed")
	}
	remove()
	runtime.KeepAlive(&r)
}
