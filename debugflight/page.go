package debugflight

import (
	"slices"
	"strconv"
	"strings"
)

// This file holds the page as its template has it.

// A page is the data of page.html.
type page struct {
	Nonce       string
	Time        string
	AllowForget bool

	One      bool // one flight, with its whole key
	Group    string
	Text     string
	State    string
	Min      string
	Sort     string
	Seconds  string
	Refresh  int
	Filtered bool

	States []string
	Orders []string
	Names  []string // of all groups, for the form

	Address string // of this page, for the form that forgets
	List    string // of the page with all rows
	Stop    string // of this page, without refresh
	JSON    string

	Groups   []pageGroup
	Counters []pageCounter // of the group, if there is one alone
	Rates    bool
	Flights  []pageFlight
	Found    string
	NotShown string // "" for none
}

type pageGroup struct {
	Name, Address            string
	Flights, Waiters, Oldest string
	Calls, Led, Rate         string
}

type pageCounter struct{ Name, Value, Rate string }

type pageFlight struct {
	Group, ID, Key, Age, Waiters, State, Detail, Address string

	KeyIsCut bool
}

func newPage(r *Registry, q query, report *Report, nonce string) page {
	p := page{
		Nonce: nonce, Time: report.Time.UTC().Format("2006-01-02 15:04:05 UTC"), AllowForget: r.AllowForget,
		One: q.id != 0, Group: printable(q.group), Text: strings.ToValidUTF8(q.text, "\uFFFD"), State: q.state, Sort: q.sort, Refresh: q.refresh,
		States: states, Orders: orders, Address: q.address(), Rates: report.Seconds > 0,
		Filtered: q.group != "" || q.text != "" || q.state != "" || q.min > 0 || q.sort != "age",
		Found:    thousands(uint64(report.Found)),
	}
	for _, s := range r.all() {
		p.Names = append(p.Names, printable(s.name))
	}
	if q.min > 0 {
		p.Min = q.min.String()
	}
	if q.seconds > 0 {
		p.Seconds = strconv.Itoa(q.seconds)
	}
	if report.NotShown > 0 {
		p.NotShown = thousands(uint64(report.NotShown))
	}
	list := q
	list.id = 0
	p.List = list.address()
	stop := q
	stop.refresh = 0
	p.Stop = stop.address()
	asJSON := stop
	asJSON.json = true
	p.JSON = asJSON.address()

	for _, g := range report.Groups {
		own := list
		own.group = g.Name
		p.Groups = append(p.Groups, pageGroup{
			Name: g.Name, Address: own.address(),
			Flights: thousands(uint64(g.Flights)), Waiters: thousands(uint64(g.Waiters)), Oldest: g.oldestText(),
			Calls: counter(g, "Calls"), Led: counter(g, "Led"), Rate: rate(g, "Calls"),
		})
	}
	if len(report.Groups) == 1 {
		for _, c := range report.Groups[0].counters {
			p.Counters = append(p.Counters, pageCounter{c.Name, thousands(c.Value), rate(report.Groups[0], c.Name)})
		}
	}
	for _, f := range report.Flights {
		own := list
		own.group, own.id, own.seconds = f.Group, f.ID, 0 // at once
		state := f.State
		if f.Forgotten {
			state += ", forgotten"
		}
		p.Flights = append(p.Flights, pageFlight{
			Group: f.Group, ID: strconv.FormatUint(f.ID, 10), Key: f.Key, KeyIsCut: f.KeyIsCut,
			Age: f.ageText(), Waiters: thousands(uint64(f.Waiters)), State: state, Detail: f.Detail, Address: own.address(),
		})
	}
	return p
}

// counter returns a counter of g as text, or "" if it has none of that name.
func counter(g GroupReport, name string) string {
	i := slices.IndexFunc(g.counters, func(c Counter) bool { return c.Name == name })
	if i < 0 {
		return ""
	}
	return thousands(g.counters[i].Value)
}

// rate is counter for its rate.
func rate(g GroupReport, name string) string {
	x, ok := g.Rates[name]
	if !ok {
		return ""
	}
	return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0") + "/s"
}
