package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progressEvery is how often a line is written where there is no terminal.
const progressEvery = 30 * time.Second

// A progress shows the current step: on a terminal in one line that changes, elsewhere in
// a line now and then.
type progress struct {
	w        io.Writer
	now      func() time.Time
	terminal bool
	last     time.Time // when the last line was written
}

func newProgress(w io.Writer, now func() time.Time) *progress {
	p := &progress{w: w, now: now}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// show shows the step that begins now.
func (p *progress) show(line string) {
	if p.terminal {
		if r := []rune(line); len(r) > 79 { // a line that wraps cannot be replaced
			line = string(r[:78]) + "…"
		}
		fmt.Fprint(p.w, "\r\x1b[K", line)
		return
	}
	if now := p.now(); now.Sub(p.last) >= progressEvery {
		p.last = now
		fmt.Fprintln(p.w, "report:", line)
	}
}

// end makes room for later output.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// formatLeft writes an estimate of time, no more precisely than it can be known.
func formatLeft(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Round(time.Second).Seconds()))
	case d < 90*time.Minute:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	default:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
}
