package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// This file holds the journal: the file in which every single result is written down as
// soon as it is there. Each line is a JSON object, either a session, which has the
// conditions of the results after it, or a result.

// A session is one start of the command.
type session struct {
	Conditions conditions `json:"conditions"`
	Command    string     `json:"command"`
	Began      time.Time  `json:"began"`
	LeftOut    []string   `json:"left_out,omitempty"` // workloads, and why
}

// A result is the result of one run of one implementation.
type result struct {
	Workload string             `json:"workload"`
	Impl     string             `json:"impl"`
	Round    int                `json:"round"` // from 1
	N        int                `json:"n"`     // operations
	Metrics  map[string]float64 `json:"metrics"`
	Seconds  float64            `json:"seconds"` // the process, from start to end
	At       time.Time          `json:"at"`
	Machine  string             `json:"machine"` // conditions.machine
	Code     string             `json:"code"`    // conditions.Code
}

// A line is one line of the journal: a session or a result.
type line struct {
	Session *session `json:"session,omitempty"`
	result
}

// A journal is open for results to be added.
type journal struct {
	name    string
	file    *os.File
	machine string // of the results that are added
	code    string
	results []result // those that were there, and those added
}

// openJournal opens the file of that name, or makes it. Its results must have been
// measured under the conditions given. If fresh is set, its content is removed in any
// case.
func openJournal(name string, cond conditions, fresh bool) (*journal, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	j := &journal{name: name, machine: cond.machine(), code: cond.Code}
	size := int64(0)
	if !fresh {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		sessions, results, whole, err := parseJournal(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(sessions) > 0 {
			if diff := sessions[0].Conditions.diff(cond); diff != "" {
				return nil, fmt.Errorf("%s holds results that were measured under other conditions,"+
					" and is not added to:\n%s"+
					"-fresh throws them away, -resume keeps these in another file, -render draws those that are there",
					name, diff)
			}
		}
		j.results = results
		size = int64(whole)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(size), seekEnd(f)); err != nil {
		f.Close()
		return nil, err
	}
	j.file = f
	return j, nil
}

func seekEnd(f *os.File) error {
	_, err := f.Seek(0, 2)
	return err
}

// begin writes that a session begins.
func (j *journal) begin(s session) error {
	return j.write(struct {
		Session session `json:"session"`
	}{s})
}

// add writes a result.
func (j *journal) add(r result) error {
	r.Machine, r.Code = j.machine, j.code
	if err := j.write(r); err != nil {
		return err
	}
	j.results = append(j.results, r)
	return nil
}

// write writes v as one line, in one piece.
func (j *journal) write(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(text, '\n'))
	return err
}

// close may be called more than once.
func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// readJournal reads the file of that name.
func readJournal(name string) ([]session, []result, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, nil, err
	}
	sessions, results, _, err := parseJournal(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return sessions, results, nil
}

// parseJournal reads a journal and returns how many bytes of it are whole lines. A last
// line without an end is the rest of a crash; it is no error, and not read. The results
// must all be of the same conditions.
func parseJournal(text []byte) (sessions []session, results []result, whole int, err error) {
	for n := 1; ; n++ {
		end := bytes.IndexByte(text[whole:], '\n')
		if end < 0 {
			return sessions, results, whole, nil
		}
		var l line
		d := json.NewDecoder(bytes.NewReader(text[whole : whole+end]))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil {
			return nil, nil, 0, fmt.Errorf("line %d: %w", n, err)
		}
		whole += end + 1
		switch {
		case l.Session != nil:
			if len(sessions) > 0 {
				if diff := sessions[0].Conditions.diff(l.Session.Conditions); diff != "" {
					return nil, nil, 0, fmt.Errorf("line %d: the conditions change:\n%s", n,
						strings.TrimSuffix(diff, "\n"))
				}
			}
			sessions = append(sessions, *l.Session)
		case len(sessions) == 0:
			return nil, nil, 0, fmt.Errorf("line %d: a result without the conditions of its measurement", n)
		case l.Workload == "" || l.Impl == "" || l.Round < 1:
			return nil, nil, 0, fmt.Errorf("line %d is neither a session nor a result", n)
		case l.Machine != sessions[0].Conditions.machine() || l.Code != sessions[0].Conditions.Code:
			return nil, nil, 0, fmt.Errorf("line %d: a result of machine %s and code %s"+
				" among those of machine %s and code %s", n, l.Machine, l.Code, sessions[0].Conditions.machine(), sessions[0].Conditions.Code)
		default:
			results = append(results, l.result)
		}
	}
}
