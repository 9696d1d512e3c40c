package main

// This file writes the outcome of a storm: a table with a few sentences for people, or
// one JSON document for machines.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is the outcome of one storm under one policy after another.
type report struct {
	Storm     string   `json:"storm"`
	Source    string   `json:"source"`
	Arrivals  string   `json:"arrivals"`
	Rate      float64  `json:"rate,omitempty"` // per second, for poisson
	Seed      *uint64  `json:"seed,omitempty"` // for poisson
	Init      float64  `json:"init_seconds,omitempty"`
	Workers   int      `json:"workers"`
	Steps     int64    `json:"steps"`      // of all workers
	StepBytes int64    `json:"step_bytes"` // read if every step read its file
	Files     int      `json:"files"`      // distinct
	Bytes     int64    `json:"bytes"`      // in distinct files
	Notes     []string `json:"notes,omitempty"`
	Results   []result `json:"results"`

	modules int // distinct names
}

// A result is the outcome of the storm under one policy. In each,
//
//	steps    = attempts + skipped + those that failed workers did not come to
//	attempts = leaders + joined + busy
//
// and the late are some of the leaders.
type result struct {
	Policy        string   `json:"policy"`
	Attempts      int64    `json:"attempts"`
	Leaders       int64    `json:"leaders"`
	Joined        int64    `json:"joined"`
	Busy          int64    `json:"busy"`
	Late          int64    `json:"late"`
	Skipped       int64    `json:"skipped"`
	FailedWorkers int      `json:"failed_workers"`
	LiveModules   int      `json:"live_modules"`
	BytesRead     int64    `json:"bytes_read"`
	BytesWasted   int64    `json:"bytes_wasted"`
	PeakBytesLive int64    `json:"peak_bytes_live"`
	WallSeconds   float64  `json:"wall_seconds"`
	Errors        []string `json:"errors,omitempty"` // of workers, each text once

	bytesLive int64 // read by loads that made their module live
}

// newReport describes the storm s; the results are yet to come.
func newReport(opts options, s *storm) report {
	rep := report{
		Storm:    opts.storm,
		Source:   s.set.source,
		Arrivals: opts.arrivals,
		Init:     s.init.Seconds(),
		Workers:  len(s.lists),
		Notes:    s.notes,
	}
	if opts.arrivals == arrivePoisson {
		rep.Rate, rep.Seed = opts.rate, &opts.seed
	}
	for _, list := range s.lists {
		rep.Steps += int64(len(list))
		for _, i := range list {
			rep.StepBytes += s.set.modules[i].size
		}
	}
	files, names := make(map[fileID]bool), make(map[string]bool)
	for _, i := range s.used {
		m := &s.set.modules[i]
		if !files[m.id] {
			files[m.id] = true
			rep.Bytes += m.size
		}
		names[m.name] = true
	}
	rep.Files, rep.modules = len(files), len(names)
	return rep
}

// write writes the report to w, at once.
func (rep report) write(w io.Writer, asJSON bool) error {
	return writeReport(w, rep, asJSON, rep.writeText)
}

// writeReport writes rep as one JSON document, or the output of text, at once.
func writeReport(w io.Writer, rep any, asJSON bool, text func(*bytes.Buffer)) error {
	var b bytes.Buffer
	if asJSON {
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		if err := enc.Encode(rep); err != nil {
			return err
		}
	} else {
		text(&b)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// writeText writes the table and its explanation.
func (rep report) writeText(b *bytes.Buffer) {
	fmt.Fprintf(b, "Boot storm %q on %s, arrivals %q:\n", rep.Storm, rep.Source, rep.Arrivals)
	fmt.Fprintf(b, "%s, %s to load %s of %s bytes; if each step read its file: %s bytes.\n",
		count(int64(rep.Workers), "worker"), count(rep.Steps, "step"),
		count(int64(rep.Files), "file"), grouped(rep.Bytes), grouped(rep.StepBytes))
	if rep.Init > 0 {
		fmt.Fprintf(b, "After its file was read, a module takes %v to come up.\n", seconds(rep.Init))
	}
	for _, note := range rep.Notes {
		fmt.Fprintln(b, note)
	}

	b.WriteByte('\n')
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	columns := []string{
		"policy  ", "attempts", "leaders", "joined", "busy", "late", "failed workers",
		"live", "bytes read", "bytes wasted", "peak live", "wall",
	}
	fmt.Fprintln(tw, strings.Join(columns, "\t")+"\t")
	for _, r := range rep.Results {
		fmt.Fprintln(tw, strings.Join([]string{
			// The columns are flush right; padding makes this one flush left.
			fmt.Sprintf("%-8s", r.Policy),
			grouped(r.Attempts), grouped(r.Leaders), grouped(r.Joined), grouped(r.Busy),
			grouped(r.Late), grouped(int64(r.FailedWorkers)),
			grouped(int64(r.LiveModules)) + "/" + grouped(int64(rep.modules)),
			grouped(r.BytesRead), grouped(r.BytesWasted),
			megabytes(r.PeakBytesLive), wallText(r.WallSeconds),
		}, "\t")+"\t")
	}
	_ = tw.Flush() // a bytes.Buffer accepts everything

	b.WriteString("\n" +
		"An attempt reads the file as a leader, joins the load of another, or is refused as busy.\n" +
		"A leader is late if the module turns out to be live after the reading: wasted bytes.\n" +
		"Live: modules loaded in the end. Peak live: most bytes held in buffers at any one time.\n\n")
	for _, r := range rep.Results {
		fmt.Fprintf(b, "%s: %s\n", r.Policy, rep.explain(r))
	}
	if text := rep.compare(); text != "" {
		fmt.Fprintf(b, "\n%s\n", text)
	}
}

// seconds returns the duration of that many seconds.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// wallText returns a wall time for people.
func wallText(s float64) string {
	d := seconds(s)
	if d < time.Second {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// grouped returns n with a comma between groups of three digits.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// count returns n and the noun, in the plural unless n is one.
func count(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return grouped(n) + " " + noun
}

// megabytes returns n bytes in millions of bytes.
func megabytes(n int64) string {
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
