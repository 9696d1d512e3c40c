package debugflight_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed342dcb2d/coalesce/debugflight"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// wantIn checks which texts a page contains. One that begins with "not " must not be there.
func wantIn(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		unwanted, not := strings.CutPrefix(text, "not ")
		switch {
		case not && strings.Contains(page, unwanted):
			t.Errorf("got a page with %q, want it without:\n%s", unwanted, page)
		case !not && !strings.Contains(page, text):
			t.Errorf("got a page without %q, want it:\n%s", text, page)
		}
	}
}

// TestForm: the form has the values that were asked for, and the links of the page keep them.
func TestForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r debugflight.Registry
		add(t, &r, "one", debugflight.Of(new(kit.Group), nil))
		add(t, &r, "two", debugflight.Of(new(kit.Group), nil))
		wantIn(
			t, get(t, &r, "group=two&q=a+b&state=queued&min=90s&sort=waiters&seconds=2&refresh=3600").Body.String(),
			`<option value="two" selected>`, `<option value="one">`, `name="q" value="a b"`, `<option selected>queued</option>`,
			`name="min" value="1m30s"`, `<option value="waiters" selected>`, `name="seconds" value="2"`, `name="refresh" value="3600"`,
			`<a href="?">all</a>`, "Nothing that was asked for is in flight", "<th class=\"n\">Calls/s</th>", "<th class=\"n\">Rate</th>",
			`<a href="?format=json&amp;group=two&amp;min=1m30s&amp;q=a&#43;b&amp;seconds=2&amp;sort=waiters&amp;state=queued">JSON</a>`,
			`<a href="?group=two&amp;min=1m30s&amp;q=a&#43;b&amp;seconds=2&amp;sort=waiters&amp;state=queued">stop</a>`,
			`<a href="?group=two&amp;min=1m30s&amp;q=a&#43;b&amp;refresh=3600&amp;seconds=2&amp;sort=waiters&amp;state=queued"><bdi`,
		)
		wantIn(
			t, get(t, &r, "min=0s&format=html").Body.String(),
			"not selected>queued", `name="q" value=""`, `name="min" value=""`, `<option value="age" selected>`,
			`name="seconds" value=""`, `name="refresh" value=""`, "not >all</a>", "Nothing is in flight", "not Calls/s", "not >stop<",
			`<a href="?format=json">JSON</a>`, `<a href="?group=two"><bdi`, "not <h2>Counters",
		)
		for _, query := range []string{"group=one", "q=x", "state=running", "min=1ns", "sort=waiters"} {
			wantIn(t, get(t, &r, query).Body.String(), `<a href="?">all</a>`, "Nothing that was asked for is in flight")
		}
		for _, query := range []string{"seconds=1", "refresh=1"} {
			wantIn(t, get(t, &r, query).Body.String(), "not >all</a>", "Nothing is in flight")
		}
		wantIn(t, get(t, &r, "min=1ns&seconds=1&refresh=1").Body.String(),
			`name="min" value="1ns"`, `<a href="?group=one&amp;min=1ns&amp;refresh=1&amp;seconds=1"><bdi`)
	})
}

// TestNumbers: an age has as many digits as are of interest, and a number groups of three.
func TestNumbers(t *testing.T) {
	for age, want := range map[time.Duration]string{
		0:                            "0s",
		1_499 * time.Nanosecond:      "1µs",
		999_400 * time.Nanosecond:    "999µs",
		12_345_678:                   "12ms",
		time.Second - 1_000_000:      "999ms",
		time.Second:                  "1s",
		1_234_567_890:                "1.23s",
		59*time.Second + 990*1e6:     "59.99s",
		time.Minute + 1_600*1e6:      "1m2s",
		26*time.Hour + 3_456_789*1e3: "26h0m3s",
	} {
		var r debugflight.Registry
		key := func() string { return "key" }
		add(t, &r, "fixed", fixed{{ID: 1, Age: age, State: "running", Waiters: 1_234_567, Key: key}})
		wantIn(t, get(t, &r, "").Body.String(),
			fmt.Sprintf(`<td class="n">%s</td><td class="n waiters">1,234,567</td><td>running</td>`, want),
			fmt.Sprintf(`<td class="n">1</td><td class="n">1,234,567</td><td class="n">%s</td>`, want), "not ≥")
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1_000: "1,000", 123_456: "123,456"} {
		var r debugflight.Registry
		add(t, &r, "fixed", fixed{{ID: 1, State: "running", Waiters: n, Key: func() string { return "key" }}})
		wantIn(t, get(t, &r, "").Body.String(), fmt.Sprintf(`<td class="n waiters">%s</td>`, want))
	}
}

// TestCells: a group's row has what its source counts, and an empty cell for what it does not
// count. A counter has a rate if that was asked for; one that goes up and down has none.
func TestCells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r debugflight.Registry
		g := kit.Group{Linger: time.Hour}
		for range 3 {
			_, _, _ = g.Do("k", kit.Value(1)) // leads, and is answered twice
		}
		add(t, &r, "group", debugflight.Of(&g, nil))
		add(t, &r, "other", fixed{})
		empty := strings.Repeat(`<td class="n"></td>`, 2)
		wantIn(t, get(t, &r, "").Body.String(),
			`<bdi class="name">group</bdi></a></td><td class="n">0</td><td class="n">0</td><td class="n"></td><td class="n">3</td><td class="n">1</td></tr>`,
			`<bdi class="name">other</bdi></a></td><td class="n">0</td><td class="n">0</td><td class="n"></td>`+empty+`</tr>`)
		wantIn(t, get(t, &r, "group=group&seconds=1").Body.String(),
			`<td>Lingered</td><td class="n">2</td><td class="n">0/s</td>`, `<td>Lingering</td><td class="n">1</td><td class="n"></td>`)
	})
}

// TestMaxRows: one row is one row, and the page says how many are missing only if some are.
func TestMaxRows(t *testing.T) {
	r := debugflight.Registry{MaxRows: 1}
	var flights fixed
	for id := range uint64(3) {
		add(t, &r, fmt.Sprint("source ", id), flights)
		flights = append(flights, debugflight.Flight{ID: id + 1, State: "running", Key: func() string { return "key" }})
	}
	wantIn(t, get(t, &r, "group=source+0").Body.String(), "(0)", "not not shown")
	wantIn(t, get(t, &r, "group=source+1").Body.String(), "(1)", "not not shown")
	wantIn(t, get(t, &r, "group=source+2").Body.String(), "(2, 1 of them not shown)")
	r.MaxRows = -1
	if got := report(t, &r, ""); len(got.Flights) != 3 || got.NotShown != 0 {
		t.Errorf("got %d flights, %d not shown, want 3 and 0", len(got.Flights), got.NotShown)
	}
}
