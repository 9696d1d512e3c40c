// Package flightcheck holds analyzers for programs that share executions: with
// github.com/seed342dcb2d/coalesce, with its package singleflight, or with a library
// that programs move from. Three of them suggest fixes.
//
// The command runs them all, under the go command:
//
//	go install github.com/seed342dcb2d/coalesce/flightcheck/cmd/flightcheck@latest
//	go vet -vettool=$(which flightcheck) ./...
//	go fix -fixtool=$(which flightcheck) ./...
//
// vet reports and fix fixes, each in place of the go command's own analyzers. A program that
// moves has to require coalesce first:
//
//	go get github.com/seed342dcb2d/coalesce@latest
//
// As far as one package shows, a package compiles after the fixes, and they change no more than
// the report and the section of the analyzer say. If it has the types of a library in its own
// API, a move changes that, too, for all modules that use it. go fix does not change files that
// are generated, use cgo, or are left out of the build by their tags; where a move would have
// to change one of them, nothing in the package is fixed.
//
// A flag with an analyzer's name, as in -vettool=$(which flightcheck) -callerctx, runs
// that one alone, and one like -fromxsync=false all but that one.
//
// Other drivers of package [golang.org/x/tools/go/analysis], such as multichecker, take
// [Analyzers].
//
// In what follows, a flight is one execution of a function fn, for all calls with the
// same key that wait for it. All of the analyzers but fromxsync and fromresenje know the
// calls of four packages: coalesce, coalesce/singleflight, golang.org/x/sync/singleflight
// and resenje.org/singleflight. They look at one package at a time, and see an fn that is
// a function literal in the call, or in a variable that is assigned once.
//
// # Analyzer callerctx
//
// callerctx: check that fn does not depend on the context of the call that runs it
//
// A flight is for all of its callers, and the context of a caller ends when that one
// leaves. An fn that uses it fails for the others:
//
//	v, _, err := group.DoContext(ctx, key, func(context.Context) (*Page, error) {
//		return load(ctx, key) // context canceled, for all, when the leader has left
//	})
//
// DoContext, DoFresh, DoMulti and DoChan of coalesce, and Do of resenje, give fn a context
// that ends when the last caller has left. In their fn, each use of a caller's context is
// reported, and the fix puts fn's own in its place, with a name if it has none. That one has the
// values of the call's context, but not its deadline: an fn that is to end in time has to set
// itself one. There is no fix for a context of which the call's is not made, as fn's own may lack
// its values, nor for one of another type.
//
// Do of coalesce and of x/sync, and TryDo, have no context for fn. There the first use is
// reported that can fail: an argument of a call that returns an error or a context, and
// Done and Err. There is no fix; the remedy is DoContext, or [context.WithoutCancel].
//
// A caller's context is a parameter of a function around the call, or the Context of an
// *http.Request that is one, or what was made of it: by package context, or by a function
// that returns it beside a value that is no function, as tracers and errgroup do. In a
// DoContext, its ctx is one, too.
//
// The analyzer is silent about contexts in fields and package variables, about what other
// functions return (they may have cut it off), about arguments of [context.WithoutCancel]
// and of coalesce.Detach, about Value, and about methods and fields that a context of another
// type has beside those of [context.Context]. In an fn that has no context, it is silent about
// arguments of functions that only read a value, as their name says: claimsFromContext.
//
// # Analyzer ctxkey
//
// ctxkey: check for contexts and requests in types of keys
//
// Calls share a flight if their keys are equal. Contexts and requests are equal if they
// are the same one, so that calls of different requests never share:
//
//	type key struct {
//		ctx context.Context
//		id  int
//	}
//	var group coalesce.Group[key, *Page]
//
// Reported is the type argument of a Group, if it is or has, in a field or an array, a type
// with the methods of [context.Context], or an *http.Request; and the key of a call, if the
// Group's keys are an interface.
//
// # Analyzer fromresenje
//
// fromresenje: replace resenje.org/singleflight by coalesce
//
// Its Do is DoContext, with the same arguments and results in the same order. The fix
// changes the import, the name of the package, and that of the method:
//
//	-import "resenje.org/singleflight"
//	+import "github.com/seed342dcb2d/coalesce"
//
//	-var group singleflight.Group[string, *Page]
//	+var group coalesce.Group[string, *Page]
//
//	-v, shared, err := group.Do(ctx, key, load)
//	+v, shared, err := group.DoContext(ctx, key, load)
//
// One thing changes that no compiler sees, and so the report says it. In resenje, fn's
// context ends when Do returns. In coalesce it ends only if no caller waits for fn any
// more, so that work in the background that was bound to it runs on. If that is not
// wanted, fn makes a context of its own and cancels it:
//
//	ctx, cancel := context.WithCancel(ctx)
//	defer cancel()
//
// Nothing is fixed, and the report says why, if the types do not allow it: if the package
// gives a group to another module, or takes one; if it uses a group as an interface with Do
// or Forget, or Forget as a function value (coalesce's reports whether there was something
// to forget); if it imports the package with a dot; or if it embeds a group where a name would
// be there twice. Packages of the same module are looked at one by one; the compiler finds what
// they exchange in another way, as where one of two cannot move.
//
// The analyzer is silent in a package of which a file imports both.
//
// # Analyzer fromxsync
//
// fromxsync: replace golang.org/x/sync/singleflight by coalesce/singleflight
//
// That package has the same names and signatures. The fix changes the import, and nothing
// else:
//
//	-import "golang.org/x/sync/singleflight"
//	+import "github.com/seed342dcb2d/coalesce/singleflight"
//
// A panic or a Goexit of an fn that DoChan runs changes. In x/sync the one ends the process, and
// after the other nothing is sent; in coalesce each is the Err of the Result. The report says so
// if the package uses DoChan. A panic that a caller of Do recovers is a *coalesce.PanicError.
//
// Nothing is fixed, and the report says why, if the package gives a Group or a Result to
// another module, or takes one, also by an interface or a field. The analyzer is silent in a
// package of which a file imports both, or coalesce beside the former.
//
// # Analyzer samekey
//
// samekey: check for calls that wait for their own flight
//
// A call inside fn that has the group and the key of fn's own flight waits for fn:
//
//	group.Do(key, func() (int, error) {
//		v, _, err := group.Do(key, load) // waits forever
//		return v + 1, err
//	})
//
// Reported are calls that wait: those that block, and a DoChan that is received from in the
// same expression. Group and key are the same if they are the same expression, of constants,
// of variables, fields and elements that fn does not assign, and of functions of fmt, strconv
// and strings.
//
// The analyzer is silent about what fn does not wait for (go statements, functions that it
// only passes on), and about calls after a Forget of the key, which start another flight.
//
// # Analyzer stringkey
//
// stringkey: check for keys that are formatted with %v or %p
//
// What prints alike shares a flight, and gets the result of another key:
//
//	key := fmt.Sprint(tags) // the same for {"a b"} and {"a", "b"}
//	v, err, _ := group.Do(key, load)
//
// Reported are the operands of %v and %+v (in Sprintf, Sprint and Sprintln) that hold strings
// within a slice, an array, a map or a struct, or values of any type. Reported are also those
// that print an address, by %p, or by %v or %#v of a pointer: equal values have different
// ones. A struct or an array as the key needs no format; where the key has to be a string, %q
// keeps strings apart.
//
// The analyzer is silent about types with a method String, Error or Format, about basic
// types, about all other verbs, and about formats that number their operands, as %[1]v.
package flightcheck
