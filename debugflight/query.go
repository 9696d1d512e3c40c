package debugflight

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file holds the parameters of a request.

// A query has the parameters of a request.
type query struct {
	group   string // "" for all
	text    string // q
	state   string // "" for all
	min     time.Duration
	sort    string
	id      uint64 // 0 for all
	json    bool
	seconds int
	refresh int
}

// The values of parameters that have few of them.
var (
	states = []string{"running", "abandoned", "queued", "forgotten"}
	orders = []string{"age", "waiters"}
)

const (
	mostText    = 1000 // bytes: the address of each row has the text
	mostSeconds = 300
	mostRefresh = 3600
)

// parameters sets a field of a query from a parameter, by its name.
var parameters = map[string]func(q *query, value string) error{
	"group": func(q *query, value string) error { q.group = value; return nil },
	"q": func(q *query, value string) error {
		if q.text = value; len(value) > mostText {
			return fmt.Errorf("want %d bytes at most", mostText)
		}
		return nil
	},
	"state": func(q *query, value string) error { return oneOf(&q.state, value, states...) },
	"sort":  func(q *query, value string) error { return oneOf(&q.sort, value, orders...) },
	"min": func(q *query, value string) (err error) {
		if q.min, err = time.ParseDuration(value); err != nil || q.min < 0 {
			return errors.New("want a time like 1.5s or 2m")
		}
		return nil
	},
	"id": func(q *query, value string) (err error) {
		if q.id, err = strconv.ParseUint(value, 10, 64); err != nil || q.id == 0 {
			return errors.New("want the ID of a flight, a number from 1")
		}
		return nil
	},
	"format": func(q *query, value string) error {
		q.json = value == "json"
		return oneOf(&value, value, "html", "json")
	},
	"seconds": func(q *query, value string) error { return number(&q.seconds, value, mostSeconds) },
	"refresh": func(q *query, value string) error { return number(&q.refresh, value, mostRefresh) },
}

// oneOf sets a field to value, if that is one of those that are allowed.
func oneOf(field *string, value string, allowed ...string) error {
	if !slices.Contains(allowed, value) {
		return errors.New("want " + strings.Join(allowed, ", "))
	}
	*field = value
	return nil
}

// number sets a field to value, which must be a number from 1 to most.
func number(field *int, value string, most int) (err error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		return fmt.Errorf("want a number from 1 to %d", most)
	}
	*field = n
	return nil
}

// parse returns the query in the address of a request. An error says which parameter is
// wrong, and lists the values that are allowed. A parameter without a value counts as absent,
// as a form sends one for each field that was left empty.
func parse(r *http.Request) (q query, err error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, fmt.Errorf("the address cannot be read: %w", err)
	}
	q.sort = "age"
	for _, name := range sortedKeys(values) {
		set, known := parameters[name]
		given := values[name]
		switch {
		case !known:
			return q, fmt.Errorf("unknown parameter %s (want %s)", quote(name), strings.Join(sortedKeys(parameters), ", "))
		case len(given) > 1:
			return q, fmt.Errorf("%s is given %d times (want once)", name, len(given))
		case given[0] == "":
			continue
		}
		if err := set(&q, given[0]); err != nil {
			return q, fmt.Errorf("%s is %s (%w)", name, quote(given[0]), err)
		}
	}
	if q.id != 0 && q.group == "" {
		return q, errors.New("id needs group: an ID is unique in its group alone")
	}
	return q, q.inTime(r.Context())
}

// inTime returns an error if the request with ctx ends before q.seconds are over.
func (q query) inTime(ctx context.Context) error {
	wait := time.Duration(q.seconds) * time.Second
	server, _ := ctx.Value(http.ServerContextKey).(*http.Server)
	if server != nil && server.WriteTimeout > 0 && wait >= server.WriteTimeout {
		return fmt.Errorf("seconds is %d (want less than the server's WriteTimeout, %v)", q.seconds, server.WriteTimeout)
	}
	if end, ok := ctx.Deadline(); ok && wait > 0 && wait >= time.Until(end) {
		return fmt.Errorf("seconds is %d (want less than the %v that the request has)", q.seconds, time.Until(end).Round(time.Millisecond))
	}
	return nil
}

// address returns the relative address of the page that q asks for.
func (q query) address() string {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("group", q.group)
	set("q", q.text)
	set("state", q.state)
	if q.min > 0 {
		set("min", q.min.String())
	}
	if q.sort != "age" {
		set("sort", q.sort)
	}
	if q.id > 0 {
		set("id", strconv.FormatUint(q.id, 10))
	}
	if q.json {
		set("format", "json")
	}
	if q.seconds > 0 {
		set("seconds", strconv.Itoa(q.seconds))
	}
	if q.refresh > 0 {
		set("refresh", strconv.Itoa(q.refresh))
	}
	return "?" + v.Encode()
}
