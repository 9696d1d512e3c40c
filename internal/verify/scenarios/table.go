package scenarios

import (
	"errors"
	"fmt"
	"strings"
)

// This file holds the output of the record for readers.

// The lines between which it stands.
const (
	beginMark = "<!-- scenarios:begin -->"
	endMark   = "<!-- scenarios:end -->"
)

// Replace returns doc with the tables, as they are now, between the marks.
func Replace(doc string) (string, error) {
	before, rest, ok := strings.Cut(doc, beginMark)
	_, after, found := strings.Cut(rest, endMark)
	if !ok || !found {
		return "", errors.New("no " + beginMark + " and " + endMark)
	}
	return before + beginMark + "\n\n" + Markdown() + "\n" + endMark + after, nil
}

// Markdown returns the tables.
func Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | required | coalesce | x/sync %s | resenje.org %s |\n|--|--|--|--|--|\n", XSyncVersion, ResenjeVersion)
	for _, s := range All() {
		fmt.Fprintf(&b, "| %s | %s |", s.Name, s.Requires)
		for _, p := range Peers() {
			fmt.Fprintf(&b, " %s |", s.outcome(p))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n| | bug | kept out by |\n|--|--|--|\n")
	for _, bug := range Catalog {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", bug.Name, bug.What, bug.keptOutBy())
	}
	return b.String()
}

// outcome returns the recorded outcome of p in s.
func (s *Scenario) outcome(p *Peer) string {
	switch how := s.Fails[p.Name]; {
	case !s.Applies(p):
		return "–"
	case how != "":
		return "**fails**: " + how
	}
	return "pass"
}

func (b *Bug) keptOutBy() string {
	if b.Not != "" {
		return "does not apply: " + b.Not
	}
	var by []string
	for _, s := range b.Scenarios() {
		by = append(by, "scenario "+s)
	}
	for _, t := range b.Tests() {
		by = append(by, "`"+t+"`")
	}
	return strings.Join(by, ", ")
}
