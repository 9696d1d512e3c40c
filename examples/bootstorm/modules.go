package main

// This file holds the set of modules that a storm loads from: its parts, and the embedded
// set.

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed" // the module set
	"encoding/json"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// The module tree of a distribution kernel: names, sizes and prerequisites, and the list
// that one CPU makes a worker load. data/README.md describes them.
var (
	//go:embed data/modules.tsv.gz
	embeddedModules []byte
	//go:embed data/cpu-storm.json.gz
	embeddedCPUStorm []byte
)

// A fileID is the identity of a file: two paths are of one file if and only if these are
// equal. It is never a path: a link has another path, and a copy may have the same one a
// moment later.
type fileID struct {
	dev, ino uint64
}

// A module is one file of a moduleSet.
type module struct {
	path    string // relative to the root of the set, with slashes
	name    string // as in kmod: no directory, no suffix, '_' for '-'
	prereqs []int  // the modules to load before it, in load order

	// Known once the file has been looked at, and not changed after.
	size   int64
	id     fileID
	digest uint64 // of the whole content
}

// A moduleSet is a tree of modules that know their prerequisites.
type moduleSet struct {
	root    string // the directory that the paths are relative to
	source  string // where the set comes from, for people
	modules []module
	byPath  map[string]int
	notes   []string // notes for the reader of the report
}

// An entry is a module before its prerequisites have been resolved.
type entry struct {
	path    string
	prereqs []string // paths, in load order
	size    int64
	line    int // of the list that it was read from
}

// openModules returns the module tree in root, or the embedded set if root is
// empty.
func openModules(ctx context.Context, root string) (*moduleSet, error) {
	if root != "" {
		return openTree(ctx, root)
	}
	text, err := gunzip(embeddedModules)
	if err != nil {
		return nil, fmt.Errorf("embedded module set: %w", err)
	}
	entries, err := parseTable(text)
	if err != nil {
		return nil, err
	}
	set, err := link("embedded module set", entries)
	if err != nil {
		return nil, err
	}
	set.source = "the module set of a distribution kernel"
	return set, nil
}

// gunzip returns the content of a compressed file.
func gunzip(data []byte) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zr)
}

// parseTable reads the embedded set: path, size, direct dependencies and
// prerequisites in load order, separated by tabs.
func parseTable(text []byte) ([]entry, error) {
	var entries []entry
	line := 0
	for row := range strings.Lines(string(text)) {
		line++
		if strings.HasPrefix(row, "#") {
			continue
		}
		fields := strings.Split(strings.TrimSuffix(row, "\n"), "\t")
		if len(fields) != 4 {
			return nil, fmt.Errorf("embedded module set:%d: %d fields instead of 4", line, len(fields))
		}
		size, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("embedded module set:%d: size: %w", line, err)
		}
		entries = append(entries, entry{
			path: fields[0], prereqs: splitList(fields[3]), size: size, line: line,
		})
	}
	return entries, nil
}

// link makes a set of entries, which were read from the file named source, and
// fails if it would not be one that every storm can end on: a path is listed
// twice, a prerequisite is not listed, or modules need each other.
func link(source string, entries []entry) (*moduleSet, error) {
	set := &moduleSet{
		modules: make([]module, len(entries)),
		byPath:  make(map[string]int, len(entries)),
	}
	for i, e := range entries {
		if first, ok := set.byPath[e.path]; ok {
			return nil, fmt.Errorf("%s:%d: %s is listed twice, first in line %d",
				source, e.line, e.path, entries[first].line)
		}
		set.byPath[e.path] = i
		set.modules[i] = module{path: e.path, name: moduleName(e.path), size: e.size}
	}
	for i, e := range entries {
		for _, p := range e.prereqs {
			j, ok := set.byPath[p]
			if !ok {
				return nil, fmt.Errorf("%s:%d: %s needs %s,"+
					" which has no line of its own (is the file truncated?)", source, e.line, e.path, p)
			}
			if j == i {
				return nil, fmt.Errorf("%s:%d: %s needs itself", source, e.line, e.path)
			}
			set.modules[i].prereqs = append(set.modules[i].prereqs, j)
		}
	}
	if _, ok := commonOrder(set.dependencyChains(), len(entries)); !ok {
		return nil, fmt.Errorf("%s: some modules need each other in a cycle", source)
	}
	return set, nil
}

// dependencyChains returns the pairs of a prerequisite and the module that needs
// it: the least that a load order must keep.
func (s *moduleSet) dependencyChains() [][]int {
	var pairs [][]int
	for i := range s.modules {
		for _, p := range s.modules[i].prereqs {
			pairs = append(pairs, []int{p, i})
		}
	}
	return pairs
}

// withPrereqs returns the modules to load for module i, in load order: its prerequisites,
// and itself last.
func (s *moduleSet) withPrereqs(i int) []int {
	prereqs := s.modules[i].prereqs
	list := make([]int, 0, len(prereqs)+1)
	return append(append(list, prereqs...), i)
}

// file returns the path under which the file of m can be opened.
func (s *moduleSet) file(m *module) string {
	if path.IsAbs(m.path) {
		return filepath.FromSlash(m.path)
	}
	return filepath.Join(s.root, filepath.FromSlash(m.path))
}

// moduleName returns the name of the module in the file at p: the name that it
// goes by once it is live.
func moduleName(p string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(p), ".ko"), "-", "_")
}

// cpuOrder returns the paths that one worker of the embedded cpu storm loads.
func cpuOrder() ([]string, error) {
	text, err := gunzip(embeddedCPUStorm)
	if err != nil {
		return nil, fmt.Errorf("embedded cpu storm: %w", err)
	}
	var list struct {
		Order []string `json:"order"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("embedded cpu storm: %w", err)
	}
	return list.Order, nil
}
