package debugflight_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce/debugflight"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

func escape(s string) string { return url.QueryEscape(s) }

// TestBadRequests: what is wrong with a request is answered 400, with what was wrong and what
// is allowed.
func TestBadRequests(t *testing.T) {
	r := debugflight.Registry{AllowForget: true}
	add(t, &r, "apples", debugflight.Of(new(kit.Group), nil))
	add(t, &r, "bananas", debugflight.Of(new(kit.Group), nil))
	for query, want := range map[string]string{
		"color=red":           `unknown parameter "color" (want format, group, id, min, q, refresh, seconds, sort, state)`,
		"state=stuck":         `state is "stuck" (want running, abandoned, queued, forgotten)`,
		"sort=key":            `sort is "key" (want age, waiters)`,
		"min=soon":            `min is "soon" (want a time like 1.5s or 2m)`,
		"min=-1s":             `min is "-1s" (want a time like 1.5s or 2m)`,
		"seconds=0":           `seconds is "0" (want a number from 1 to 300)`,
		"seconds=301":         `seconds is "301"`,
		"refresh=3601":        `refresh is "3601"`,
		"seconds=1e9":         `seconds is "1e9"`,
		"refresh=fast":        `refresh is "fast" (want a number from 1 to 3600)`,
		"format=xml":          `format is "xml" (want html, json)`,
		"group=cherries":      `group is "cherries" (registered are: "apples", "bananas")`,
		"group=%3Cb%3E":       `group is "<b>"`,
		"id=7":                `id needs group`,
		"group=apples&id=-1":  `id is "-1" (want the ID of a flight, a number from 1)`,
		"group=apples&id=0":   `id is "0"`,
		"q=a&q=b":             `q is given 2 times (want once)`,
		"q=%zz":               `the address cannot be read`,
		"state=%00%ff%3Cb%3E": `state is "\x00\xff<b>"`,
	} {
		w := get(t, &r, query)
		if w.Code != http.StatusBadRequest || !strings.HasPrefix(w.Body.String(), "debugflight: ") || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: got status %d, %q, want 400, %q", query, w.Code, w.Body, want)
		}
		if kind := w.Header().Get("Content-Type"); kind != "text/plain; charset=utf-8" {
			t.Errorf("%s: got type %q, want plain text", query, kind)
		}
	}
}

// TestLongValues: a value of any length makes no long answer. The text to search for is in the
// address of each row, so it is bounded, too.
func TestLongValues(t *testing.T) {
	var r debugflight.Registry
	add(t, &r, "g", debugflight.Of(new(kit.Group), nil))
	long := strings.Repeat("x", 1<<20)
	for _, query := range []string{"q=" + long[:1001], "state=" + long, "group=" + long, long + "=1", "min=" + long} {
		if w := get(t, &r, query); w.Code != http.StatusBadRequest || w.Body.Len() > 1000 {
			t.Errorf("%.10s: got status %d, %d bytes, want 400 and less than 1,000", query, w.Code, w.Body.Len())
		}
	}
	if w := get(t, &r, "q="+long[:1000]); w.Code != http.StatusOK {
		t.Errorf("got status %d for a text of 1,000 bytes, want 200: %.200s", w.Code, w.Body)
	}
}

// TestManyGroups: the error for an unknown group lists some that there are, not all.
func TestManyGroups(t *testing.T) {
	var r debugflight.Registry
	if w := get(t, &r, "group=x"); !strings.Contains(w.Body.String(), "registered are: none") {
		t.Errorf("got %q, want an answer that says that there is no group", w.Body)
	}
	for i := range 1000 {
		add(t, &r, strings.Repeat("g", i+1), debugflight.Of(new(kit.Group), nil))
		if w := get(t, &r, "group=x"); i == 19 && strings.Contains(w.Body.String(), "more") {
			t.Errorf("got %q, want all of 20 groups", w.Body)
		}
	}
	if w := get(t, &r, "group=x"); !strings.Contains(w.Body.String(), "and 980 more") || w.Body.Len() > 1000 {
		t.Errorf("got %d bytes, want less than 1,000 that say how many groups there are: %.200s", w.Body.Len(), w.Body)
	}
}

// TestMethods: GET and HEAD are answered, and what is neither of these nor POST 405.
func TestMethods(t *testing.T) {
	var r debugflight.Registry
	for method, want := range map[string]int{
		http.MethodGet: 200, http.MethodHead: 200, http.MethodPost: 404, // AllowForget is not set
		http.MethodPut: 405, http.MethodDelete: 405, http.MethodOptions: 405, "BREW": 405,
	} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/", nil))
		if allow := w.Result().Header.Get("Allow"); w.Code != want || (want == 405) != (allow == "GET, HEAD, POST") {
			t.Errorf("%s: got status %d, Allow %q, want %d", method, w.Code, allow, want)
		}
	}
}

// TestHeaders: every answer has the headers that keep it from being stored, sniffed, framed, or
// told to other sites.
func TestHeaders(t *testing.T) {
	var r debugflight.Registry
	nonces := map[string]bool{}
	for _, query := range []string{"", "", "format=json", "bad=1"} {
		h := get(t, &r, query).Result().Header
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
			"Content-Type": map[string]string{
				"": "text/html; charset=utf-8", "format=json": "application/json", "bad=1": "text/plain; charset=utf-8",
			}[query],
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%q: got %s %q, want %q", query, name, got, want)
			}
		}
		policy := h.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%q: got policy %q, want a strict one", query, policy)
		}
		if _, nonce, ok := strings.Cut(policy, "'nonce-"); ok {
			nonces[nonce] = true
		}
	}
	if len(nonces) != 2 {
		t.Errorf("got %d nonces in two pages, want 2", len(nonces))
	}
}

// TestRefresh: the page is loaded again, with a link that stops that.
func TestRefresh(t *testing.T) {
	var r debugflight.Registry
	page := get(t, &r, "refresh=5&q=a%26b").Body.String()
	for _, want := range []string{`<meta http-equiv="refresh" content="5">`, `<a href="?q=a%26b">stop</a>`} {
		if !strings.Contains(page, want) {
			t.Errorf("got no %q, want it:\n%s", want, page)
		}
	}
	if page := get(t, &r, "").Body.String(); strings.Contains(page, "http-equiv") {
		t.Error("got a page that is loaded again, want one that stays")
	}
}

// TestWriteTimeout: seconds that the server would not survive are refused, as they would
// end in an empty answer.
func TestWriteTimeout(t *testing.T) {
	var r debugflight.Registry
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: &r, WriteTimeout: 3 * time.Second}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	for query, want := range map[string]int{"seconds=3": 400, "seconds=100": 400, "seconds=1": 200} {
		resp, err := http.Get("http://" + l.Addr().String() + "/?format=json&" + query)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want || err != nil || want == 400 && !strings.Contains(string(body), "WriteTimeout, 3s") {
			t.Errorf("%s: got status %d, error %v, %q, want %d", query, resp.StatusCode, err, body, want)
		}
	}
}

// TestRequestEnds: a request whose context ends before the answer is ready is answered with a
// sentence, and at once if seconds cannot be waited for; never with an empty page.
func TestRequestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r debugflight.Registry
		serve := func(ctx context.Context, query string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/?"+query, nil))
			return w
		}
		limited, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		if w := serve(limited, "seconds=10"); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `seconds is 10 (want less than the 10s`) || time.Since(began) != 0 {
			t.Errorf("got status %d, %q after %v, want 400 at once", w.Code, w.Body, time.Since(began))
		}
		if w := serve(limited, "seconds=9"); w.Code != http.StatusOK {
			t.Errorf("got status %d, %q, want 200", w.Code, w.Body)
		}
		time.Sleep(time.Second) // the end of limited
		if w := serve(limited, ""); strings.Contains(w.Body.String(), "seconds is") {
			t.Errorf("got %q, want nothing about seconds", w.Body)
		}
		canceled, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began = time.Now()
		if w := serve(canceled, "seconds=10"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "context canceled") || time.Since(began) != time.Second {
			t.Errorf("got status %d, %q after %v, want 503 and a sentence after 1s", w.Code, w.Body, time.Since(began))
		}
	})
}
