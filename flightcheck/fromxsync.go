package flightcheck

import (
	"fmt"
	"go/types"
	"strconv"

	"golang.org/x/tools/go/analysis"
)

func fromXSync(pass *analysis.Pass) {
	if compares(pass, xsync) {
		return
	}
	var message string
	var fixed bool
	for _, file := range pass.Files {
		for _, spec := range importsOf(file, xsync) {
			if message == "" {
				message, fixed = xsyncMessage(pass)
			}
			d := analysis.Diagnostic{Pos: spec.Path.Pos(), End: spec.Path.End(), Message: message}
			if fixed {
				d.SuggestedFixes = []analysis.SuggestedFix{{
					Message: "Import " + dropIn,
					TextEdits: []analysis.TextEdit{
						{Pos: spec.Path.Pos(), End: spec.Path.End(), NewText: []byte(strconv.Quote(dropIn))},
					},
				}}
			}
			pass.Report(d)
		}
	}
}

// xsyncMessage returns what is reported for each import, and whether it is to be fixed.
func xsyncMessage(pass *analysis.Pass) (message string, fixed bool) {
	if why := whyStays(pass, xsync); why != "" {
		return fmt.Sprintf("%s cannot be replaced by %s: %s", xsync, dropIn, why), false
	}
	for _, obj := range pass.TypesInfo.Uses {
		if method, ok := obj.(*types.Func); ok && method.Name() == "DoChan" && method.Pkg() != nil && method.Pkg().Path() == xsync {
			return fmt.Sprintf("%s can be replaced by %s, where a panic or Goexit of DoChan's fn is a Result", xsync, dropIn), true
		}
	}
	return fmt.Sprintf("%s can be replaced by %s", xsync, dropIn), true
}
