package main

// This file describes the figures of a report in words, and checks them.

import (
	"fmt"
	"strings"
)

// explain describes in a sentence or two the figures of r.
func (rep report) explain(r result) string {
	var b strings.Builder
	if r.BytesWasted == 0 {
		fmt.Fprintf(&b, "no byte was wasted: %s read %s bytes",
			count(r.Leaders, "load"), grouped(r.BytesRead))
	} else {
		fmt.Fprintf(&b, "%s of the %s bytes read were wasted,"+
			" by %s whose module was live when the file had been read",
			grouped(r.BytesWasted), grouped(r.BytesRead), count(r.Late, "load"))
	}
	if r.Joined > 0 {
		fmt.Fprintf(&b, ", and %s joined a load in flight instead of reading", count(r.Joined, "attempt"))
	}
	b.WriteByte('.')
	switch {
	case r.FailedWorkers == 0:
		b.WriteString(" Every worker succeeded.")
	case r.Busy > 0:
		fmt.Fprintf(&b, " But %s of %s gave up, refused as \"busy\" for a file whose module was about to be live",
			grouped(int64(r.FailedWorkers)), count(int64(rep.Workers), "worker"))
		if missing := rep.modules - r.LiveModules; missing > 0 {
			fmt.Fprintf(&b, ", and %s of %s never came up",
				grouped(int64(missing)), count(int64(rep.modules), "module"))
		}
		b.WriteByte('.')
	default:
		fmt.Fprintf(&b, " %s failed.", count(int64(r.FailedWorkers), "worker"))
	}
	return b.String()
}

// compare describes how much the policy coalesce saved against the policy none, if both
// were run.
func (rep report) compare() string {
	var none, coalesced *result
	for i := range rep.Results {
		switch rep.Results[i].Policy {
		case "none":
			none = &rep.Results[i]
		case "coalesce":
			coalesced = &rep.Results[i]
		}
	}
	if none == nil || coalesced == nil || coalesced.BytesRead == 0 || coalesced.PeakBytesLive == 0 {
		return ""
	}
	text := fmt.Sprintf("Coalescing read %s bytes where none read %s (%.1f times as many),"+
		" and held %s at most where none held %s.",
		grouped(coalesced.BytesRead), grouped(none.BytesRead),
		float64(none.BytesRead)/float64(coalesced.BytesRead),
		megabytes(coalesced.PeakBytesLive), megabytes(none.PeakBytesLive))
	if coalesced.Late > 0 {
		text += fmt.Sprintf(" The %s bytes that it still wasted are of %s: they had not seen the module live,"+
			" and asked when its load was over.",
			grouped(coalesced.BytesWasted), count(coalesced.Late, "late arrival"))
	}
	return text
}

// problems returns the checks that the results fail: each has to hold for every storm, or
// for the policy and the arrivals of this one.
func (rep report) problems() []string {
	var problems []string
	for _, r := range rep.Results {
		for _, text := range rep.check(r) {
			problems = append(problems, r.Policy+": "+text)
		}
	}
	return problems
}

// check returns the checks that r fails.
func (rep report) check(r result) []string {
	const most = 5 // errors of workers in the text
	var wrong []string
	claim := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	for i, text := range r.Errors {
		if i == most {
			claim(false, "and %s", count(int64(len(r.Errors)-most), "other error"))
			break
		}
		claim(false, "%s", text)
	}
	claim(r.Attempts == r.Leaders+r.Joined+r.Busy,
		"%d attempts are not %d leaders, %d joined and %d busy",
		r.Attempts, r.Leaders, r.Joined, r.Busy)
	claim(r.BytesRead == r.bytesLive+r.BytesWasted,
		"%d bytes read are not %d of live modules and %d wasted",
		r.BytesRead, r.bytesLive, r.BytesWasted)

	switch r.Policy {
	case "etxtbsy":
		claim(int64(r.FailedWorkers) >= r.Busy, "%d attempts were refused, but only %d workers failed",
			r.Busy, r.FailedWorkers)
		claim(int64(r.FailedWorkers) == r.Busy || len(r.Errors) > 0,
			"%d workers failed, but only %d were refused", r.FailedWorkers, r.Busy)
		return wrong
	case "seed", "coalesce":
		// Two files with one name do not overlap: the second is late.
		if rep.Arrivals == arriveOverlap && rep.modules == rep.Files {
			claim(r.BytesWasted == 0, "%d bytes were wasted although all loads overlapped", r.BytesWasted)
		}
	}
	claim(r.FailedWorkers == 0, "%d of %d workers failed", r.FailedWorkers, rep.Workers)
	claim(r.LiveModules == rep.modules, "%d of %d modules are live", r.LiveModules, rep.modules)
	return wrong
}
