package samekey

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/seed342dcb2d/coalesce"
	"golang.org/x/sync/singleflight"
)

type id struct{ tenant, name string }

type loader struct {
	group coalesce.Group[string, int]
	pages coalesce.Group[id, int]
	old   singleflight.Group
	name  string
}

func one() (int, error) { return 1, nil }

func with(context.Context) (int, error) { return 1, nil }

func (l *loader) blocking(ctx context.Context, key string) {
	l.group.Do(key, func() (int, error) {
		v, _, err := l.group.Do(key, one) // want `^Do inside the function passed to Do has the same group and key: it waits for itself$`
		return v, err
	})
	l.group.DoContext(ctx, "k", func(ctx context.Context) (int, error) {
		v, _, err := l.group.DoFresh(ctx, "k", with) // want `DoFresh inside the function passed to DoContext has the same group and key`
		return v, err
	})
	l.group.DoMulti(ctx, []string{"a", key}, func(ctx context.Context, _ []string) (map[string]int, error) {
		v, _, err := l.group.DoContext(ctx, key, with) // want `DoContext inside the function passed to DoMulti has`
		return map[string]int{"a": v}, err
	})
	<-l.group.DoChan(ctx, l.name, func(ctx context.Context) (int, error) {
		r := <-l.group.DoChan(ctx, l.name, with) // want `DoChan inside the function passed to DoChan has`
		return r.Val, r.Err
	})
	l.old.Do(key, func() (any, error) {
		v, err, _ := l.old.Do(key, func() (any, error) { return 1, nil }) // want `Do inside the function passed to Do has`
		return v, err
	})
}

func (l *loader) expressions(ctx context.Context, tenant, name string, n int) {
	l.pages.DoContext(ctx, id{tenant, name}, func(ctx context.Context) (int, error) {
		v, _, err := l.pages.DoContext(ctx, id{tenant, name}, with) // want `DoContext inside the function passed to DoContext has`
		return v, err
	})
	l.pages.DoContext(ctx, id{tenant: tenant}, func(ctx context.Context) (int, error) {
		v, _, err := l.pages.DoContext(ctx, id{tenant: tenant}, with) // want `DoContext inside the function passed to DoContext has`
		return v, err
	})
	l.group.Do(fmt.Sprintf("%d", n), func() (int, error) {
		v, _, err := l.group.Do(fmt.Sprintf("%d", n), one) // want `Do inside the function passed to Do has`
		return v, err
	})
	key := tenant + "/" + name
	l.group.Do(key, func() (int, error) {
		v, _, err := l.group.Do(tenant+"/"+name, one) // want `Do inside the function passed to Do has`
		return v, err
	})
}

func (l *loader) deeper(ctx context.Context, other *coalesce.Group[string, int]) {
	l.group.Do("k", func() (int, error) {
		return func() (int, error) {
			v, _, err := other.Do("x", func() (int, error) {
				v, _, err := l.group.Do("k", one) // want `Do inside the function passed to Do has`
				return v, err
			})
			return v, err
		}()
	})
	l.group.Do("a", func() (int, error) {
		v, _, err := l.group.Do("a", func() (int, error) { // want `Do inside the function passed to Do has`
			v, _, err := l.group.Do("a", one) // want `Do inside the function passed to Do has`
			return v, err
		})
		return v, err
	})
	fn := func() (int, error) {
		v, _, err := other.Do("k", one) // want `Do inside the function passed to Do has`
		return v, err
	}
	other.Do("k", fn)
}

func (l *loader) silent(ctx context.Context, other *loader, key, name string) {
	l.group.Do(key, func() (int, error) {
		l.group.Do(name, one)
		other.group.Do(key, one)
		l.group.TryDo(key, one) // ErrInFlight
		l.group.DoChan(ctx, key, with)
		go l.group.Do(key, one)
		later(func() { l.group.Do(key, one) })
		return 1, nil
	})
	l.group.Do(key, func() (int, error) {
		l.group.Forget(key)
		v, _, err := l.group.Do(key, one)
		return v, err
	})
	l.group.Do(key, func() (int, error) {
		key = key[1:]
		v, _, err := l.group.Do(key, one)
		return v, err
	})
	l.group.Do(l.next(), func() (int, error) {
		v, _, err := l.group.Do(l.next(), one)
		return v, err
	})
	l.group.Do("k", func() (int, error) {
		l := &loader{}
		v, _, err := l.group.Do("k", one)
		return v, err
	})
	l.pages.DoContext(ctx, id{name: name}, func(ctx context.Context) (int, error) {
		v, _, err := l.pages.DoContext(ctx, id{tenant: name}, with)
		return v, err
	})
}

func numbers(g *coalesce.Group[float64, int], x float64) {
	g.Do(0.5, func() (int, error) {
		v, _, err := g.Do(0.5, one) // want `Do inside the function passed to Do has`
		return v, err
	})
	g.Do(x, func() (int, error) {
		v, _, err := g.Do(x, one) // x may be NaN
		return v, err
	})
}

type name string

func (l *loader) more(names *[]string, p *string, i int, named name, byKey map[string]*coalesce.Group[string, int]) {
	l.group.Do(*p, func() (int, error) {
		v, _, err := l.group.Do(*p, one) // want `Do inside the function passed to Do has`
		return v, err
	})
	byKey["a"].Do((*names)[i], func() (int, error) {
		v, _, err := byKey["a"].Do((*names)[i], one) // want `Do inside the function passed to Do has`
		return v, err
	})
	(&l.group).Do(string(named), func() (int, error) {
		v, _, err := (&l.group).Do(string(named), one) // want `Do inside the function passed to Do has`
		return v, err
	})
	l.group.Do(strings.ToLower(*p)+strconv.Itoa(-i), func() (int, error) {
		v, _, err := l.group.Do(strings.ToLower(*p)+strconv.Itoa(-i), one) // want `Do inside the function passed to Do has`
		return v, err
	})
	l.group.Do(os.DevNull, func() (int, error) {
		v, _, err := l.group.Do(os.DevNull, one) // want `Do inside the function passed to Do has`
		return v, err
	})
	l.group.Do(os.Args[0], func() (int, error) {
		v, _, err := l.group.Do(os.Args[0], one) // want `Do inside the function passed to Do has`
		return v, err
	})
}

func (l *loader) silentToo(p, q *string, i, j int, byKey map[string]*coalesce.Group[string, int], m map[int]int) {
	l.group.Do(*p, func() (int, error) {
		l.group.Do(*q, one)
		l.group.Do(os.Args[0], one)
		l.group.Do(os.Getenv("k"), one)
		byKey["a"].Do(*p, one)
		return 1, nil
	})
	l.group.Do(os.Getenv("k"), func() (int, error) { // it may change
		v, _, err := l.group.Do(os.Getenv("k"), one)
		return v, err
	})
	byKey["a"].Do("k", func() (int, error) {
		v, _, err := byKey["b"].Do("k", one)
		return v, err
	})
	l.group.Do(strconv.Itoa(i), func() (int, error) {
		v, _, err := l.group.Do(strconv.Itoa(j), one)
		return v, err
	})
	l.group.Do(strconv.Itoa(i), func() (int, error) {
		i++
		v, _, err := l.group.Do(strconv.Itoa(i), one)
		return v, err
	})
	l.group.Do(strconv.Itoa(j), func() (int, error) {
		for _, j = range m {
			l.group.Do(strconv.Itoa(j), one)
		}
		return 1, nil
	})
	l.group.Do(*p, func() (int, error) {
		l.group.ForgetFunc(func(string) bool { return true })
		v, _, err := l.group.Do(*p, one)
		return v, err
	})
}

// fn may change what a key is read from.
func (l *loader) changed(p *string, names []string, i int) {
	l.group.Do(l.name, func() (int, error) {
		l.name = l.name[1:]
		v, _, err := l.group.Do(l.name, one)
		return v, err
	})
	l.group.Do(*p, func() (int, error) {
		*p += "x"
		v, _, err := l.group.Do(*p, one)
		return v, err
	})
	l.group.Do(names[i], func() (int, error) {
		names[i] = "x"
		v, _, err := l.group.Do(names[i], one)
		return v, err
	})
	l.group.Do(l.name, func() (int, error) {
		scan(&l.name)
		v, _, err := l.group.Do(l.name, one)
		return v, err
	})
	l.group.Do(l.name, func() (int, error) {
		names[i] = "x"
		v, _, err := l.group.Do(l.name, one) // want `Do inside the function passed to Do has`
		return v, err
	})
}

func scan(...any) {}

func (l *loader) next() string { l.name += "x"; return l.name }

func later(func()) {}
