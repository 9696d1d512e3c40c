package flightcheck

import (
	"fmt"
	"strconv"

	"golang.org/x/tools/go/analysis"
)

func fromXSync(pass *analysis.Pass) {
	if compares(pass, xsync) {
		return
	}
	for _, file := range pass.Files {
		spec := importOf(file, xsync)
		if spec == nil {
			continue
		}
		d := analysis.Diagnostic{Pos: spec.Path.Pos(), End: spec.Path.End()}
		if obj := exchanged(pass, xsync); obj != nil {
			d.Message = fmt.Sprintf("%s cannot be replaced by %s: %s", xsync, dropIn, whyExchanged(obj))
		} else {
			d.Message = fmt.Sprintf("%s can be replaced by %s", xsync, dropIn)
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
