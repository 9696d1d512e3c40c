package debugflight

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file holds reports: the flights and counters that a query selects.

// A Report is the answer of a Registry with format=json. Fields will be added to it, and none
// changed without a new Version. Times are in RFC 3339, ages in seconds, and IDs strings, as not
// all readers of JSON have numbers of 64 bits.
//
// Its groups are looked at one after another, and so are the shards of each: the numbers agree
// with each other only while nothing changes.
type Report struct {
	Version int       `json:"version"`           // 1
	Time    time.Time `json:"time"`              // when it was begun, or when the seconds were over
	Seconds float64   `json:"seconds,omitempty"` // how long rates were counted; 0 without them

	Groups []GroupReport `json:"groups"` // by name; all, or the one that was asked for

	// Flights are those that were found, in the order that was asked for, at most
	// Registry.MaxRows.
	Flights []FlightReport `json:"flights"`

	// Found is the number of flights that were found, and NotShown of those among them for
	// which there was no room.
	Found    int `json:"found"`
	NotShown int `json:"not_shown"`
}

// A GroupReport is the part of a Report about one source.
type GroupReport struct {
	Name    string  `json:"name"`
	Flights int     `json:"flights"`                   // in flight, those that the query does not select included
	Waiters int     `json:"waiters"`                   // calls that wait for them
	Oldest  float64 `json:"oldest_seconds"`            // the greatest known age; 0 without flights
	AtLeast bool    `json:"oldest_at_least,omitempty"` // Oldest is only a lower bound, as is the age of a flight

	Counters map[string]uint64  `json:"counters"`        // by name
	Rates    map[string]float64 `json:"rates,omitempty"` // growth per second of those that only grow; nil without seconds

	counters []Counter
}

// A FlightReport is the part of a Report about one flight: see [Flight] for what the fields mean.
// Texts that cannot be shown as they are, for they have control characters or are no valid UTF-8,
// are quoted as in Go.
type FlightReport struct {
	Group     string  `json:"group"`
	ID        uint64  `json:"id,string"`
	Key       string  `json:"key"`
	KeyIsCut  bool    `json:"key_is_cut,omitempty"` // at 200 characters; with id, at 16 KiB
	Age       float64 `json:"age_seconds"`
	AtLeast   bool    `json:"age_at_least,omitempty"` // Age is only a lower bound
	Waiters   int     `json:"waiters"`
	State     string  `json:"state"`
	Forgotten bool    `json:"forgotten,omitempty"`
	Detail    string  `json:"detail,omitempty"`

	age time.Duration
}

// A row is a flight that was found, with the name of its group.
type row struct {
	Flight
	group string
}

// rows is a heap of those to show. Its root is the first that would have to go.
type rows struct {
	all    []row
	before func(a, b row) int
}

func (h *rows) Len() int           { return len(h.all) }
func (h *rows) Less(i, j int) bool { return h.before(h.all[i], h.all[j]) > 0 }
func (h *rows) Swap(i, j int)      { h.all[i], h.all[j] = h.all[j], h.all[i] }
func (h *rows) Push(x any)         { h.all = append(h.all, x.(row)) }
func (h *rows) Pop() any {
	x := h.all[len(h.all)-1]
	h.all = h.all[:len(h.all)-1]
	return x
}

// add keeps r if it is among the first most.
func (h *rows) add(r row, most int) {
	switch {
	case len(h.all) < most:
		heap.Push(h, r)
	case h.before(r, h.all[0]) < 0:
		h.all[0] = r
		heap.Fix(h, 0)
	}
}

// byAge and byWaiters say which of two rows comes first. Rows that are alike keep their order
// from one page to the next.
func byAge(a, b row) int {
	return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.group, b.group), cmp.Compare(a.ID, b.ID))
}

func byWaiters(a, b row) int {
	return cmp.Or(cmp.Compare(b.Waiters, a.Waiters), byAge(a, b))
}

// matches reports whether q asks for f.
func (q query) matches(f Flight) bool {
	switch {
	case q.id != 0:
		return f.ID == q.id
	case f.Age < q.min,
		q.state == "forgotten" && !f.Forgotten,
		q.state != "" && q.state != "forgotten" && f.State != q.state:
		return false
	}
	if q.text == "" {
		return true
	}
	key := keyOf(f)
	return strings.Contains(key, q.text) || strings.Contains(printable(key), q.text)
}

// report looks at the sources, and returns the flights that q selects. With q.seconds it takes that time. It
// returns the error of ctx if that ends before.
func (q query) report(ctx context.Context, sources []registered, most int) (*Report, error) {
	rates, seconds, err := q.rates(ctx, sources)
	if err != nil {
		return nil, err
	}
	r := &Report{Version: 1, Time: time.Now(), Seconds: seconds, Groups: []GroupReport{}, Flights: []FlightReport{}}
	found := rows{before: byAge}
	if q.sort == "waiters" {
		found.before = byWaiters
	}
	for i, s := range sources {
		g := GroupReport{Name: printable(s.name), Counters: map[string]uint64{}, counters: s.source.Counters()}
		for _, c := range g.counters {
			g.Counters[c.Name] = c.Value
		}
		if rates != nil {
			g.Rates = rates[i]
		}
		var oldest time.Duration
		for f := range s.source.Flights() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			g.Flights++
			g.Waiters += f.Waiters
			oldest = max(oldest, f.Age)
			g.AtLeast = g.AtLeast || f.AtLeast // that one may be the oldest
			if q.matches(f) {
				r.Found++
				found.add(row{f, s.name}, most)
			}
		}
		g.Oldest = oldest.Seconds()
		r.Groups = append(r.Groups, g)
	}
	slices.SortFunc(found.all, found.before)
	for _, f := range found.all {
		r.Flights = append(r.Flights, q.describe(f))
	}
	r.NotShown = r.Found - len(r.Flights)
	return r, nil
}

// describe returns the report of a flight.
func (q query) describe(f row) FlightReport {
	d := FlightReport{
		Group: printable(f.group), ID: f.ID, Age: f.Age.Seconds(), AtLeast: f.AtLeast, Waiters: f.Waiters,
		State: f.State, Forgotten: f.Forgotten,
		age: f.Age,
	}
	detail, _ := cut(f.Detail, cutKey)
	d.Detail = printable(detail)
	if q.id != 0 {
		d.Key, d.KeyIsCut = cutBytes(keyOf(f.Flight), cutWhole)
	} else {
		d.Key, d.KeyIsCut = cut(keyOf(f.Flight), cutKey)
	}
	d.Key = printable(d.Key)
	return d
}

// rates waits q.seconds and returns how fast the counters of each source have grown in that
// time, or nil if q does not ask for it.
func (q query) rates(ctx context.Context, sources []registered) (rates []map[string]float64, seconds float64, err error) {
	if q.seconds == 0 {
		return nil, 0, nil
	}
	before := make([][]Counter, len(sources))
	began := time.Now()
	for i, s := range sources {
		before[i] = s.source.Counters()
	}
	timer := time.NewTimer(time.Duration(q.seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	for i, s := range sources {
		after := s.source.Counters()
		seconds = time.Since(began).Seconds()
		grown := map[string]float64{}
		for j, c := range after {
			if !c.Gauge && j < len(before[i]) && before[i][j].Name == c.Name && c.Value >= before[i][j].Value {
				grown[c.Name] = float64(c.Value-before[i][j].Value) / seconds
			}
		}
		rates = append(rates, grown)
	}
	return rates, seconds, nil
}

func (f FlightReport) ageText() string { return bound(f.AtLeast) + duration(f.age) }

func (g GroupReport) oldestText() string {
	if g.Flights == 0 {
		return ""
	}
	return bound(g.AtLeast) + duration(time.Duration(g.Oldest*float64(time.Second)))
}

// bound returns the sign before a number that is a lower bound, if it is one.
func bound(atLeast bool) string {
	if atLeast {
		return "≥\u00a0"
	}
	return ""
}

// duration returns d with as many digits as are of interest.
func duration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// thousands returns n with its digits in groups of three.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
