package mutate

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
)

// This file holds the journal, by which a run goes on where another stopped.

// A Journal is a file of results. A result is the test that killed a mutant, "" if it
// survived.
type Journal struct {
	mu      sync.Mutex
	file    *os.File
	results map[string]string // by key
}

// OpenJournal opens the journal at path for a package with the given sum. One of other
// sources is begun anew. Mutants that were killed stay so, as tests are seldom removed;
// those that survived are run again.
func OpenJournal(path, sum string) (*Journal, error) {
	j := &Journal{results: map[string]string{}}
	header := "# sources " + sum
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	if lines.Scan() && lines.Text() == header {
		for lines.Scan() {
			if by, key, ok := strings.Cut(lines.Text(), "\t"); ok && by != "" {
				j.results[key] = by
			}
		}
	}
	// The results that were read are written again, without half a line at the end.
	if j.file, err = os.Create(path); err != nil {
		return nil, err
	}
	fmt.Fprintln(j.file, header)
	for key, by := range j.results {
		fmt.Fprintf(j.file, "%s\t%s\n", by, key)
	}
	return j, nil
}

// Killed returns the test that killed the mutant, if the journal has it.
func (j *Journal) Killed(m *Mutant) (by string, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	by, ok = j.results[m.Key()]
	return by, ok && by != ""
}

// Record enters a result.
func (j *Journal) Record(m *Mutant, by string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.results[m.Key()] = by
	_, err := fmt.Fprintf(j.file, "%s\t%s\n", by, m.Key())
	return err
}

// Close closes the journal's file.
func (j *Journal) Close() error { return j.file.Close() }
