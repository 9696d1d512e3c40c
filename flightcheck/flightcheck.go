package flightcheck

import (
	_ "embed"
	"fmt"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
)

//go:embed doc.go
var docs string

// Analyzers are all analyzers of the package, in the order of their names. Like each of
// them, they are for a driver to run, and not to be changed.
var Analyzers = []*analysis.Analyzer{CallerCtx, CtxKey, FromResenje, FromXSync, SameKey, StringKey}

// CallerCtx reports an fn that uses the context of a caller.
var CallerCtx = analyzer("callerctx", callerCtx)

// CtxKey reports keys that hold a context or a request.
var CtxKey = analyzer("ctxkey", ctxKey)

// FromResenje replaces resenje.org/singleflight.
var FromResenje = analyzer("fromresenje", fromResenje)

// FromXSync replaces golang.org/x/sync/singleflight.
var FromXSync = analyzer("fromxsync", fromXSync)

// SameKey reports calls that wait for the flight they are made in.
var SameKey = analyzer("samekey", sameKey)

// StringKey reports keys that are formatted with %v or %p.
var StringKey = analyzer("stringkey", stringKey)

// analyzer returns the analyzer of that name. Its documentation is in doc.go.
func analyzer(name string, run func(*analysis.Pass)) *analysis.Analyzer {
	return &analysis.Analyzer{
		Name:     name,
		Doc:      doc(name),
		URL:      "https://pkg.go.dev/" + core + "/flightcheck#hdr-Analyzer_" + name,
		Requires: []*analysis.Analyzer{inspect.Analyzer, varsAnalyzer},
		Run: func(pass *analysis.Pass) (any, error) {
			run(pass)
			return nil, nil
		},
	}
}

// doc returns the section of doc.go that describes an analyzer, without its heading.
func doc(name string) string {
	_, text, found := strings.Cut(docs, "\n// # Analyzer "+name+"\n//\n")
	if !found {
		panic(fmt.Sprintf("doc.go does not describe %s", name))
	}
	text, _, _ = strings.Cut(text, "\n// # ")
	text, _, _ = strings.Cut(text, "\npackage ")
	text = strings.ReplaceAll("\n"+text, "\n//", "\n")
	return strings.TrimSpace(strings.ReplaceAll(text, "\n ", "\n"))
}
