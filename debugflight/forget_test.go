package debugflight_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/debugflight"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// post sends the form that forgets a flight.
func post(t *testing.T, r *debugflight.Registry, query, form string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://example.com/debug/flights?"+query, strings.NewReader(form))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

// TestForget: the form forgets the very flight, once. Its callers get its result, and the next
// call leads. The answer leads back to the list, as it was.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := debugflight.Registry{AllowForget: true}
		var g kit.Group
		add(t, &r, "my group", debugflight.Of(&g, nil))
		h := kit.Lead(t, &g)
		id := report(t, &r, "").Flights[0].ID
		form := fmt.Sprintf("forget=%d&of=my+group", id)
		w := post(t, &r, fmt.Sprintf("group=my+group&sort=waiters&id=%d", id), form)
		if at := w.Result().Header.Get("Location"); w.Code != http.StatusSeeOther || at != "?group=my+group&sort=waiters" {
			t.Errorf("got status %d, Location %q, want 303 and the list", w.Code, at)
		}
		if f := report(t, &r, "").Flights; len(f) != 1 || !f[0].Forgotten {
			t.Errorf("got %+v, want one flight, forgotten", f)
		}
		if v, shared, err := g.Do("k", kit.Value(2)); v != 2 || shared || err != nil {
			t.Errorf("got %v, %v, %v of the next call, want 2, not shared", v, shared, err)
		}
		if w := post(t, &r, "", form); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "no longer there") {
			t.Errorf("got status %d, %q the second time, want 409 and a sentence", w.Code, w.Body)
		}
		close(h.Release)
	})
}

// TestForget_NaN: a flight whose key equals nothing is forgotten by its ID, and no other.
func TestForget_NaN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := debugflight.Registry{AllowForget: true}
		var g coalesce.Group[float64, int]
		add(t, &r, "g", debugflight.Of(&g, nil))
		h := kit.Hold()
		for range 2 {
			go g.Do(math.NaN(), h.Fn(1))
			<-h.Started
		}
		id := report(t, &r, "").Flights[1].ID
		if w := post(t, &r, "", fmt.Sprintf("forget=%d&of=g", id)); w.Code != http.StatusSeeOther {
			t.Errorf("got status %d, want 303", w.Code)
		}
		if got := report(t, &r, "state=forgotten"); got.Found != 1 || got.Flights[0].ID != id {
			t.Errorf("got %+v, want the flight %d", got.Flights, id)
		}
		close(h.Release)
	})
}

// TestForget_Refused: nothing is forgotten by a GET, from another site, without AllowForget, or
// by a form that makes no sense.
func TestForget_Refused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, off := debugflight.Registry{AllowForget: true}, debugflight.Registry{}
		var g kit.Group
		add(t, &r, "g", debugflight.Of(&g, nil))
		add(t, &off, "g", debugflight.Of(&g, nil))
		h := kit.Lead(t, &g)
		id := report(t, &r, "").Flights[0].ID
		form := fmt.Sprintf("forget=%d&of=g", id)
		for _, c := range []struct {
			name string
			w    *httptest.ResponseRecorder
			want int
			says string
		}{
			{"a GET with the form", get(t, &r, form), 400, "unknown parameter"},
			{"without AllowForget", post(t, &off, "", form), 404, "AllowForget"},
			{"from another site", post(t, &r, "", form, "Sec-Fetch-Site", "cross-site"), 403, "another site"},
			{"from another origin", post(t, &r, "", form, "Origin", "https://attacker.example"), 403, "another site"},
			{"from a page without origin", post(t, &r, "", form, "Origin", "null"), 403, "another site"},
			{"from a name that resolves here", post(t, &r, "", form, "Origin", "http://example.com.attacker.example"), 403, "another site"},
			{"no ID", post(t, &r, "", "of=g"), 400, `forget is "" (want`},
			{"no number", post(t, &r, "", "of=g&forget=first"), 400, `forget is "first" (want`},
			{"ID 0", post(t, &r, "", "of=g&forget=0"), 400, `forget is "0"`},
			{"no group", post(t, &r, "", fmt.Sprintf("forget=%d", id)), 400, `group is "" (registered are: "g")`},
			{"another group", post(t, &r, "", fmt.Sprintf("forget=%d&of=h", id)), 400, `group is "h"`},
			{"another flight", post(t, &r, "", fmt.Sprintf("forget=%d&of=g", id+1)), 409, "no longer there"},
			{"bad parameters", post(t, &r, "sort=x", form), 400, "sort is"},
			{"a form that is too long", post(t, &r, "", form+"&x="+strings.Repeat("x", 1<<17)), 400, "too large"},
			{"no form", post(t, &r, "", "%zz"), 400, "cannot be read"},
		} {
			if c.w.Code != c.want || !strings.Contains(c.w.Body.String(), c.says) {
				t.Errorf("%s: got status %d, %q, want %d, %q", c.name, c.w.Code, c.w.Body, c.want, c.says)
			}
		}
		if f := report(t, &r, "").Flights; len(f) != 1 || f[0].Forgotten {
			t.Errorf("got %+v, want a flight that is not forgotten", f)
		}
		if page := get(t, &off, "").Body.String(); strings.Contains(page, "post") || strings.Contains(page, "Forget<") {
			t.Error("got a form to forget without AllowForget, want none")
		}
		// A form of the same site, where browsers send no Sec-Fetch-Site.
		if w := post(t, &r, "", form, "Origin", "http://example.com"); w.Code != http.StatusSeeOther {
			t.Errorf("got status %d for the page's own form, want 303", w.Code)
		}
		close(h.Release)
	})
}
