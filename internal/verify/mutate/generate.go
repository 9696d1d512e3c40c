package mutate

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// This file holds the mutants of a source file.
//
// A mutant is an edit of the range of one node. Edits of one node apply in the order in
// which they were added, the first innermost.

// A source is a parsed file and its edits.
type source struct {
	name    string // base name
	text    string
	tokens  *token.File
	consts  map[string]bool // the package's constants
	errs    map[string]bool // the package's variables that are errors, by their names
	edits   []edit
	mutants []*Mutant
	skipped map[string]int // by reason

	fn    string            // the function that is being walked
	conds map[ast.Node]bool // the conditions in it
	links map[ast.Node]bool // the parts of its chains of && or || that are such chains
	next  *int              // the number of the next mutant
}

// An edit replaces a range of the source for the mutant with the number id.
type edit struct {
	from, to int
	id       int
	apply    func(text string) string
}

// parse reads the files of a package and finds their mutants.
func parse(paths []string, read func(string) (string, error)) ([]*source, error) {
	fset := token.NewFileSet()
	var files []*ast.File
	var sources []*source
	consts, errs := map[string]bool{}, map[string]bool{}
	next := 1
	for _, path := range paths {
		text, err := read(path)
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(fset, path, text, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			d, ok := d.(*ast.GenDecl)
			if !ok || d.Tok != token.CONST && d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if d.Tok == token.CONST {
						consts[name.Name] = true
					} else if strings.HasPrefix(strings.ToLower(name.Name), "err") {
						errs[name.Name] = true
					}
				}
			}
		}
		files = append(files, f)
		sources = append(sources, &source{
			name: filepath.Base(path), text: text, tokens: fset.File(f.Pos()),
			consts: consts, errs: errs, skipped: map[string]int{}, next: &next,
			conds: map[ast.Node]bool{}, links: map[ast.Node]bool{},
		})
	}
	var all []*Mutant
	for i, s := range sources {
		for _, d := range files[i].Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				s.fn = funcName(fn)
				ast.Inspect(fn.Body, s.visit)
			}
		}
		// The walk visits a whole list of statements before it visits their parts.
		slices.SortStableFunc(s.mutants, func(a, b *Mutant) int { return a.offset - b.offset })
		all = append(all, s.mutants...)
	}
	number(all)
	return sources, nil
}

// funcName returns the name of fn, after that of its receiver's type.
func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	t := fn.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name + "." + fn.Name.Name
		default:
			return fn.Name.Name
		}
	}
}

func (s *source) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BlockStmt:
		s.list(n.List)
	case *ast.CaseClause:
		s.list(n.Body)
	case *ast.CommClause:
		s.list(n.Body)
	case *ast.SwitchStmt:
		if n.Tag == nil {
			for _, c := range n.Body.List {
				for _, cond := range c.(*ast.CaseClause).List {
					s.condition(cond)
				}
			}
		}
	case *ast.IfStmt:
		s.condition(n.Cond)
	case *ast.ForStmt:
		if n.Cond != nil {
			s.condition(n.Cond)
		}
	case *ast.BinaryExpr:
		s.binary(n)
	case *ast.Ident:
		if s.errs[n.Name] {
			id := s.add(n, Nil, n.Name)
			s.edit(n, id, func(text string) string { return "unmutated(" + strconv.Itoa(id) + ", " + text + ")" })
		}
	}
	return true
}

// offset returns the place of p in the source text.
func (s *source) offset(p token.Pos) int { return s.tokens.Offset(p) }

// raw returns the text of n.
func (s *source) raw(n ast.Node) string { return s.text[s.offset(n.Pos()):s.offset(n.End())] }

// add adds a mutant of n, named by text, and returns its number.
func (s *source) add(n ast.Node, kind Kind, text string) int {
	id := *s.next
	*s.next++
	s.mutants = append(s.mutants, &Mutant{
		ID: id, File: s.name, Line: s.tokens.Line(n.Pos()), Func: s.fn, Kind: kind, Text: oneLine(text), offset: s.offset(n.Pos()),
	})
	return id
}

// edit adds an edit of n for the mutant with the given number.
func (s *source) edit(n ast.Node, id int, apply func(string) string) {
	s.edits = append(s.edits, edit{s.offset(n.Pos()), s.offset(n.End()), id, apply})
}

// list adds the mutants of a list of statements.
func (s *source) list(list []ast.Stmt) {
	for i, stmt := range list {
		s.statement(stmt)
		if i > 0 {
			s.swap(list[i-1], stmt)
			s.window(list[i-1], stmt)
		}
	}
}

// statement adds the mutants that leave stmt out or do not defer it.
func (s *source) statement(stmt ast.Stmt) {
	switch x := stmt.(type) {
	case *ast.DeferStmt:
		id := s.add(x, Undefer, s.raw(x))
		s.edit(x, id, func(text string) string {
			call := strings.TrimPrefix(text, "defer")
			return "if " + guard(id) + " {" + call + " } else { " + text + " }"
		})
	case *ast.ExprStmt, *ast.IncDecStmt, *ast.GoStmt, *ast.SendStmt:
	case *ast.AssignStmt:
		if x.Tok == token.DEFINE {
			s.skipped["declaration"]++
			return
		}
		if id, ok := x.Lhs[0].(*ast.Ident); ok && id.Name == "_" {
			s.skipped["assignment to _"]++
			return
		}
		if len(x.Rhs) > 1 {
			s.parts(x)
			return
		}
	case *ast.BranchStmt:
		if x.Tok != token.BREAK && x.Tok != token.CONTINUE {
			s.skipped[x.Tok.String()]++
			return
		}
	case *ast.ReturnStmt:
		s.skipped["return"]++
		return
	case *ast.DeclStmt:
		s.skipped["declaration"]++
		return
	case *ast.LabeledStmt:
		s.skipped["label"]++
		return
	default:
		return // its parts have mutants of their own
	}
	id := s.add(stmt, Delete, s.raw(stmt))
	s.edit(stmt, id, func(text string) string { return "if !" + guard(id) + " { " + text + " }" })
}

// parts adds the mutants that leave out one part of an assignment of several values.
func (s *source) parts(x *ast.AssignStmt) {
	for i := range x.Lhs {
		var to, values []string
		for j := range x.Lhs {
			if j != i {
				to, values = append(to, s.raw(x.Lhs[j])), append(values, s.raw(x.Rhs[j]))
			}
		}
		rest := strings.Join(to, ", ") + " = " + strings.Join(values, ", ")
		id := s.add(x, Delete, s.raw(x.Lhs[i])+" = "+s.raw(x.Rhs[i]))
		s.edit(x, id, func(text string) string { return "if " + guard(id) + " { " + rest + " } else { " + text + " }" })
	}
}

// swap adds the mutant in which b comes before a, the statement that precedes it.
func (s *source) swap(a, b ast.Stmt) {
	if !simple(a) || !simple(b) {
		return
	}
	if x, ok := b.(*ast.AssignStmt); ok && x.Tok == token.DEFINE {
		s.skipped["swap with a declaration"]++
		return
	}
	if x, ok := a.(*ast.AssignStmt); ok && x.Tok == token.DEFINE && mentions(b, x.Lhs) {
		s.skipped["swap with a declaration"]++
		return
	}
	if s.independent(a, b) {
		s.skipped["swap of independent statements"]++
		return
	}
	raw := s.raw(b)
	id := s.add(b, Swap, s.raw(a)+" ; "+raw)
	s.edit(b, id, func(text string) string { return "if !" + guard(id) + " { " + text + " }" })
	s.edit(a, id, func(text string) string { return "if " + guard(id) + " { " + raw + " }; " + text })
}

// window adds the mutant that opens a window before a, the last statement before unlock, if
// that releases a lock: it releases the lock, lets other goroutines run, and takes it again.
func (s *source) window(a, unlock ast.Stmt) {
	lock, ok := strings.CutSuffix(s.raw(unlock), ".Unlock()")
	if !ok || s.raw(a) == lock+".Lock()" {
		return
	}
	if _, deferred := unlock.(*ast.DeferStmt); deferred {
		return
	}
	id := s.add(a, Window, s.raw(a)+" ; "+s.raw(unlock))
	s.edit(a, id, func(text string) string {
		return "if " + guard(id) + " { " + lock + ".Unlock(); unlocked(); " + lock + ".Lock() }; " + text
	})
}

// simple reports whether stmt may be swapped with another.
func simple(stmt ast.Stmt) bool {
	switch stmt.(type) {
	case *ast.ExprStmt, *ast.AssignStmt, *ast.IncDecStmt, *ast.GoStmt, *ast.SendStmt, *ast.DeferStmt:
		return true
	}
	return false
}

// harmless are built-in functions and types: calls of them, or conversions, have no
// effect except their result.
var harmless = []string{
	"append", "cap", "len", "make", "max", "min", "new",
	"int", "int32", "int64", "uint", "uint8", "uint32", "uint64", "string",
}

// calls reports whether n has a call, a send or a receive. Harmless calls do not count.
func calls(n ast.Node) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			id, ok := n.Fun.(*ast.Ident)
			found = found || !ok || !slices.Contains(harmless, id.Name)
		case *ast.SendStmt:
			found = true
		case *ast.UnaryExpr:
			found = found || n.Op == token.ARROW
		}
		return true
	})
	return found
}

// mentions reports whether one of the names is used in n.
func mentions(n ast.Node, names []ast.Expr) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			for _, name := range names {
				if x, ok := name.(*ast.Ident); ok && x.Name == id.Name {
					found = true
				}
			}
		}
		return true
	})
	return found
}

// independent reports whether the order of two statements certainly makes no difference:
// two assignments, or an assignment and a defer, or a lock and the defer that unlocks it. It
// counts on assignments and locks not to panic.
func (s *source) independent(a, b ast.Stmt) bool {
	lock, locks := a.(*ast.ExprStmt)
	deferred, ok := b.(*ast.DeferStmt)
	if locks && ok && strings.Replace(s.raw(lock), "Lock()", "Unlock()", 1) == s.raw(deferred.Call) {
		return true
	}
	_, both := a.(*ast.DeferStmt)
	both = both && ok
	return !both && !effective(a) && !effective(b) && !s.sets(a, b) && !s.sets(b, a)
}

// effective reports whether stmt, in its place, has an effect other than to set or defer
// something.
func effective(stmt ast.Stmt) bool {
	x, ok := stmt.(*ast.DeferStmt)
	if !ok {
		return calls(stmt)
	}
	_, literal := x.Call.Fun.(*ast.FuncLit)
	return !literal && calls(x.Call.Fun) || slices.ContainsFunc(x.Call.Args, func(arg ast.Expr) bool { return calls(arg) })
}

// sets reports whether a variable that a sets, if it is an assignment, occurs in b.
func (s *source) sets(a, b ast.Stmt) bool {
	var targets []ast.Expr
	switch x := a.(type) {
	case *ast.AssignStmt:
		targets = x.Lhs
	case *ast.IncDecStmt:
		targets = []ast.Expr{x.X}
	}
	for _, t := range targets {
		if strings.Contains(s.raw(b), s.raw(t)) {
			return true
		}
	}
	return false
}

// condition adds the mutants of the condition of an if, for or case.
func (s *source) condition(cond ast.Expr) {
	s.conds[cond] = true
	text := s.raw(cond)
	negate, always, never := s.add(cond, Negate, text), s.add(cond, True, text), s.add(cond, False, text)
	s.edit(cond, negate, func(text string) string { return guard(negate) + " != (" + text + ")" })
	s.edit(cond, always, func(text string) string { return "(" + text + ") || " + guard(always) })
	s.edit(cond, never, func(text string) string { return "(" + text + ") && !" + guard(never) })
}

// binary adds the mutants of an operator.
func (s *source) binary(x *ast.BinaryExpr) {
	switch x.Op {
	case token.LOR, token.LAND:
		if !s.links[x] {
			s.chain(x, x.Op)
		}
	case token.EQL, token.NEQ:
		if !s.conds[x] { // this is its negation
			id := s.add(x, Equality, s.raw(x))
			s.edit(x, id, func(text string) string { return "(" + guard(id) + " != (" + text + "))" })
		}
		if !s.named(x.X) && !s.named(x.Y) { // these are more often one of several than a number
			s.constants(x)
		}
	case token.LSS, token.LEQ, token.GTR, token.GEQ:
		other := map[token.Token]string{token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">"}[x.Op]
		s.replace(x, Boundary, s.raw(x.X)+" "+other+" "+s.raw(x.Y))
		s.constants(x)
	}
}

// chain adds the mutants that leave out an operand of a chain of && or of ||. The operand
// is evaluated, and its result ignored.
func (s *source) chain(x ast.Expr, op token.Token) {
	if b, ok := x.(*ast.BinaryExpr); ok && b.Op == op {
		s.links[b] = true
		s.chain(b.X, op)
		s.chain(b.Y, op)
		return
	}
	id := s.add(x, Ignore, s.raw(x))
	s.edit(x, id, func(text string) string {
		if op == token.LAND {
			return "((" + text + ") || " + guard(id) + ")"
		}
		return "((" + text + ") && !" + guard(id) + ")"
	})
}

// constants adds the mutants of a comparison with a constant.
func (s *source) constants(x *ast.BinaryExpr) {
	op := " " + x.Op.String() + " "
	a, b := s.raw(x.X), s.raw(x.Y)
	switch {
	case s.constant(x.Y):
		s.replace(x, PlusOne, a+op+"("+b+"+1)")
		s.replace(x, MinusOne, a+op+"("+b+"-1)")
	case s.constant(x.X):
		s.replace(x, PlusOne, "("+a+"+1)"+op+b)
		s.replace(x, MinusOne, "("+a+"-1)"+op+b)
	}
}

// constant reports whether x is an integer or a constant of the package.
func (s *source) constant(x ast.Expr) bool {
	lit, ok := x.(*ast.BasicLit)
	return ok && lit.Kind == token.INT || s.named(x)
}

// named reports whether x is a constant of the package, and no variable of its name.
func (s *source) named(x ast.Expr) bool {
	id, ok := x.(*ast.Ident)
	return ok && s.consts[id.Name] && (id.Obj == nil || id.Obj.Kind == ast.Con)
}

// replace adds a mutant with another comparison in the place of x.
func (s *source) replace(x *ast.BinaryExpr, kind Kind, other string) {
	id := s.add(x, kind, s.raw(x))
	s.edit(x, id, func(text string) string {
		return "(!" + guard(id) + " && (" + text + ") || " + guard(id) + " && (" + other + "))"
	})
}
