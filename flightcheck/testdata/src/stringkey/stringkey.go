package stringkey

import (
	"context"
	"fmt"
	"time"

	"github.com/seed342dcb2d/coalesce"
	"golang.org/x/sync/singleflight"
)

type (
	pair   struct{ tenant, name string }
	single struct {
		n    int
		name string
	}
	point   struct{ x, y int }
	holder  struct{ p *point }
	printed struct{ a, b string }
)

func (printed) String() string { return "" }

func fn() (any, error) { return nil, nil }

func alike[T comparable](g *singleflight.Group, tags []string, p pair, m map[string]int, v any, t T) {
	g.Do(fmt.Sprintf("%v", tags), fn)    // want `^key formatted by Sprintf with %v: different values of type \[\]string may print alike$`
	g.Do(fmt.Sprintf("%d/%v", 1, p), fn) // want `key formatted by Sprintf with %v: different values of type stringkey.pair may print alike`
	g.Do(fmt.Sprintf("%+v", &p), fn)     // want `key formatted by Sprintf with %v: different values of type \*stringkey.pair may print alike`
	g.DoChan(fmt.Sprint(m), fn)          // want `key formatted by Sprint: different values of type map\[string\]int may print alike`
	g.Do("x"+fmt.Sprintln(v), fn)        // want `key formatted by Sprintln: different values of type any may print alike`
	key := fmt.Sprint(t)                 // want `key formatted by Sprint: different values of type T may print alike`
	g.Do(key, fn)
	g.Do(key, fn)
}

func addresses(g *coalesce.Group[string, any], p *point, h holder, ch chan int, n *int) {
	g.Do(fmt.Sprintf("%p", p), fn)                                     // want `^key formatted by Sprintf with %p: it is an address, which differs for equal values$`
	g.Do(fmt.Sprintf("%v", h), fn)                                     // want `key formatted by Sprintf with %v: it is an address`
	g.Do(fmt.Sprintf("%#v", h), fn)                                    // want `key formatted by Sprintf with %#v: it is an address`
	g.Do(fmt.Sprint(ch), fn)                                           // want `key formatted by Sprint: it is an address`
	g.DoMulti(context.Background(), []string{"a", fmt.Sprint(n)}, nil) // want `key formatted by Sprint: it is an address`
}

type list []list

type wide struct {
	a, b, c list
	n       [4]complex128
}

func more(g *singleflight.Group, m map[any]int, f func(), w wide, format string, v any, tags []string) {
	g.Do(string(fmt.Sprintf("%s %v", "a", m)), fn) // want `different values of type map\[any\]int may print alike`
	g.Do(fmt.Sprint(&f), fn)                       // want `it is an address`
	g.Do(fmt.Sprintf("%v", w), fn)
	g.Do(fmt.Sprintf(format, v), fn)
	g.Do(fmt.Sprintf("%#v", v), fn)
	g.Do(fmt.Sprintf("%v %v", 1), fn)
	g.Do(fmt.Sprintf("%v", []any{v}...), fn)
	g.Do(strings(tags), fn)
}

type integer interface{ ~int | ~int64 }

type ordered interface {
	comparable
	integer
}

func numbers[I integer, O ordered, S ~string | ~[]string](g *singleflight.Group, i I, o O, s S) {
	g.Do(fmt.Sprint(i), fn)
	g.Do(fmt.Sprintf("%v/%v", i, o), fn)
	g.Do(fmt.Sprint(s), fn) // want `different values of type S may print alike`
}

func strings(tags []string) string { return fmt.Sprint(tags) }

func silent(g *singleflight.Group, n int, s string, d time.Duration, p printed, one single, xy point, tags []string, err error) {
	g.Do(fmt.Sprintf("%v/%v", n, s), fn)
	g.Do(fmt.Sprintf("%v", d), fn)
	g.Do(fmt.Sprintf("%v %v", p, err), fn)
	g.Do(fmt.Sprintf("%v", one), fn)
	g.Do(fmt.Sprintf("%v %v", xy, &xy), fn)
	g.Do(fmt.Sprintf("%q", tags), fn)
	g.Do(fmt.Sprintf("%#v", tags), fn)
	g.Do(fmt.Sprintf("%[1]v", tags), fn) // not looked at
	g.Do(fmt.Sprintf("%%v%s%*d", s, n, n), fn)
	g.Forget(s)
	key := fmt.Sprint(tags)
	key = s
	g.Do(key, fn) // key is assigned twice
}
