package main

// This file reads a real module tree: a directory with a modules.dep, as depmod
// writes it.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// depFile lists the modules of a tree, each with all its prerequisites. That of
// a distribution kernel has some hundred thousand bytes.
const (
	depFile = "modules.dep"
	maxDep  = 16 << 20
)

// openTree returns the modules of the tree in root. Modules that are compressed, and
// modules that need one that is, are left out, and a note reports that.
func openTree(ctx context.Context, root string) (*moduleSet, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("module tree: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("module tree: %s is not a directory", root)
	}
	name := filepath.Join(root, depFile)
	text, err := readRegular(ctx, name, maxDep)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("module tree: %w (want a directory as /lib/modules/VERSION)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("module tree: %w", err)
	}
	entries, err := parseDep(name, string(text))
	if err != nil {
		return nil, err
	}
	// Before anything is left out, so that a truncated list is reported as one.
	if _, err := link(name, entries); err != nil {
		return nil, err
	}
	kept, notes := dropCompressed(entries)
	if len(kept) == 0 {
		return nil, fmt.Errorf("%s: all %d modules are compressed, or need one that is,"+
			" and only plain .ko files can be loaded here", name, len(entries))
	}
	set, err := link(name, kept)
	if err != nil {
		return nil, err
	}
	set.root, set.source, set.notes = root, root, notes
	return set, nil
}

// parseDep reads the text of a modules.dep, which is in the file of that name.
func parseDep(name, text string) ([]entry, error) {
	if text == "" {
		return nil, fmt.Errorf("%s: no modules: the file is empty", name)
	}
	var entries []entry
	line := 0
	for row := range strings.Lines(text) {
		line++
		trimmed, whole := strings.CutSuffix(row, "\n")
		if !whole {
			return nil, fmt.Errorf("%s:%d: truncated: the last line has no end", name, line)
		}
		file, prereqs, ok := strings.Cut(trimmed, ":")
		if !ok {
			return nil, fmt.Errorf("%s:%d: no colon in %s (want PATH: PREREQUISITES)",
				name, line, excerpt(trimmed))
		}
		e := entry{path: file, prereqs: strings.Fields(prereqs), line: line}
		// The file has the prerequisites in the order of unloading.
		slices.Reverse(e.prereqs)
		for _, p := range slices.Concat(e.prereqs, []string{e.path}) {
			if !isModule(p) && !isCompressed(p) {
				return nil, fmt.Errorf("%s:%d: %s is no module file (want .ko)", name, line, excerpt(p))
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// excerpt quotes the beginning of text, which may be anything.
func excerpt(text string) string {
	const most = 60
	if len(text) > most {
		return fmt.Sprintf("%q...", text[:most])
	}
	return fmt.Sprintf("%q", text)
}

// isModule reports whether the path is that of a module, and can be printed.
func isModule(p string) bool {
	return strings.HasSuffix(p, ".ko") && !strings.ContainsFunc(p, unicode.IsControl)
}

// isCompressed reports whether the path is that of a compressed module.
func isCompressed(p string) bool {
	return strings.HasSuffix(p, ".ko.xz") ||
		strings.HasSuffix(p, ".ko.zst") ||
		strings.HasSuffix(p, ".ko.gz")
}

// dropCompressed returns the entries that can be loaded without decompressing
// anything, and a note on the others.
func dropCompressed(entries []entry) (kept []entry, notes []string) {
	dropped := make(map[string]bool)
	var reached []string // the dropped whose users have yet to be dropped
	drop := func(p string) {
		if !dropped[p] {
			dropped[p] = true
			reached = append(reached, p)
		}
	}
	users := make(map[string][]string)
	for _, e := range entries {
		if isCompressed(e.path) {
			drop(e.path)
		}
		for _, p := range e.prereqs {
			users[p] = append(users[p], e.path)
		}
	}
	if len(dropped) == 0 {
		return entries, nil
	}
	compressed := len(dropped)
	for i := 0; i < len(reached); i++ {
		for _, user := range users[reached[i]] {
			drop(user)
		}
	}
	for _, e := range entries {
		if !dropped[e.path] {
			kept = append(kept, e)
		}
	}
	note := fmt.Sprintf("%d of %d modules are compressed and were skipped,"+
		" and so were %d others that need one of them.", compressed, len(entries), len(dropped)-compressed)
	return kept, []string{note}
}
