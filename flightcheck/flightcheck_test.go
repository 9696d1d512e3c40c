package flightcheck_test

import (
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/seed342dcb2d/coalesce/flightcheck"
)

// The packages in testdata/src say in comments what is reported, and in golden files what
// they look like after the fixes. Beside them there are stubs of the packages with groups.

func TestCallerCtx_FnHasAContext(t *testing.T) { fixed(t, flightcheck.CallerCtx, "callerctx/own") }

func TestCallerCtx_FnHasNoContext(t *testing.T) { fixed(t, flightcheck.CallerCtx, "callerctx/plain") }

func TestCallerCtx_CodeOfOthers(t *testing.T) { fixed(t, flightcheck.CallerCtx, "callerctx/cases") }

func TestCtxKey(t *testing.T) { fixed(t, flightcheck.CtxKey, "ctxkey") }

func TestSameKey(t *testing.T) { fixed(t, flightcheck.SameKey, "samekey") }

func TestStringKey(t *testing.T) { fixed(t, flightcheck.StringKey, "stringkey") }

func TestFromXSync(t *testing.T) {
	fixed(t, flightcheck.FromXSync, "fromxsync/moved", "fromxsync/both", "other.org/cache")
}

// All imports of a file are moved, also those with a dot.
func TestFromXSync_OddImports(t *testing.T) {
	fixed(t, flightcheck.FromXSync, "fromxsync/twice", "fromxsync/dot")
}

// Types stay that another module has in its API, but not those that it keeps to itself.
func TestFromXSync_TypesThatStay(t *testing.T) {
	fixed(t, flightcheck.FromXSync, "fromxsync/exchanged", "fromxsync/deep", "fromxsync/doer", "fromxsync/constraint",
		"fromxsync/options", "fromxsync/private")
}

// No file moves where another one cannot, as it is generated or not in the build.
func TestFromXSync_FilesThatStay(t *testing.T) {
	fixed(t, flightcheck.FromXSync, "fromxsync/generated", "fromxsync/tags")
}

// The report says what changes silently: resenje cancels fn's context when Do returns.
func TestFromResenje(t *testing.T) { fixed(t, flightcheck.FromResenje, "fromresenje/moved") }

func TestFromResenje_NamesThatStay(t *testing.T) {
	fixed(t, flightcheck.FromResenje, "fromresenje/named", "fromresenje/twice")
}

func TestFromResenje_TypesThatStay(t *testing.T) {
	fixed(t, flightcheck.FromResenje, "fromresenje/value", "fromresenje/iface", "fromresenje/dot",
		"fromresenje/exchanged", "fromresenje/across", "fromresenje/both", "fromresenje/beside", "fromresenje/method")
}

func fixed(t *testing.T, a *analysis.Analyzer, packages ...string) {
	t.Parallel()
	analysistest.RunWithSuggestedFixes(t, analysistest.TestData(), a, packages...)
}

func TestAnalyzers(t *testing.T) {
	if err := analysis.Validate(flightcheck.Analyzers); err != nil {
		t.Error(err)
	}
	before := ""
	for _, a := range flightcheck.Analyzers {
		if a.Name <= before {
			t.Errorf("%s: got it after %s, want the order of the names", a.Name, before)
		}
		before = a.Name
		title, text, _ := strings.Cut(a.Doc, "\n\n")
		if !strings.HasPrefix(title, a.Name+": ") || strings.Contains(title, "\n") || len(text) < 100 {
			t.Errorf("%s: got %q, want a line with the name, and what it does", a.Name, a.Doc)
		}
		if strings.Contains(a.Doc, "\n//") || strings.Contains(a.Doc, "# ") {
			t.Errorf("%s: got %q, want one section without comment marks", a.Name, a.Doc)
		}
	}
}
