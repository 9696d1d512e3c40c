package storm

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// This file holds what a group may keep of its calls when all of them are over.

// AtRest returns an error if g, a pointer to a Group that is not in use, keeps
// anything of the calls that it has answered, but what lingers: a flight that is
// not in a free list, one in there that refers to anything, an entry, a block of
// waiters, an edge, a batch. It goes through all that the package's types refer to; what
// only a function, a channel or another package's struct refers to, it does not see.
func AtRest(g any) error {
	w := walk{seen: map[visit]bool{}}
	w.value(reflect.ValueOf(g))
	return w.err
}

// permanent are the types of the package that a group may point to at any time.
// What else it points to are records of calls.
var permanent = map[string]bool{
	"Group": true, "groupState": true, "shard": true, "lingerers": true, "lingerer": true, "hooks": true,
}

// A visit is a place that a walk has been to.
type visit struct {
	at  uintptr
	typ reflect.Type
}

// A walk goes through all that is reachable from a group.
type walk struct {
	seen map[visit]bool
	path []any // fields and indexes that lead to where it is
	err  error // the first that was found
}

func (w *walk) fail(format string, args ...any) {
	if w.err != nil {
		return
	}
	var at strings.Builder
	for _, p := range w.path {
		if name, ok := p.(string); ok {
			at.WriteString("." + name)
		} else {
			fmt.Fprintf(&at, "[%d]", p)
		}
	}
	w.err = fmt.Errorf("g%s %s", &at, fmt.Sprintf(format, args...))
}

// into walks through v, which a field or an index leads to.
func (w *walk) into(v reflect.Value, by any) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Array, reflect.Slice, reflect.Struct:
		w.path = append(w.path, by)
		w.value(v)
		w.path = w.path[:len(w.path)-1]
	}
}

func (w *walk) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		w.pointer(v)
	case reflect.Interface:
		if !v.IsNil() {
			w.value(v.Elem())
		}
	case reflect.Array, reflect.Slice:
		for i := range v.Len() {
			w.into(v.Index(i), i)
		}
	case reflect.Struct:
		w.fields(v)
	}
}

// pointer walks through what v points to.
func (w *walk) pointer(v reflect.Value) {
	if v.IsNil() || w.seen[visit{v.Pointer(), v.Type()}] {
		return
	}
	w.seen[visit{v.Pointer(), v.Type()}] = true
	if typ := about(v.Type().Elem()).name; typ != "" && !permanent[typ] {
		w.fail("is a %s: %v", typ, v.Elem())
		return
	}
	w.value(v.Elem())
}

// fields walks through the fields of a struct of the package.
func (w *walk) fields(v reflect.Value) {
	if p, ok := atomicPointer(v); ok {
		w.value(p)
		return
	}
	typ := about(v.Type())
	if typ.name == "" {
		return // another package's
	}
	if mu := v.FieldByName("mu"); typ.name == "lingerers" {
		// A sweep may come at any time. (An explorer's lock has another type. Nothing runs
		// beside it.)
		if mu, ok := reflect.NewAt(mu.Type(), mu.Addr().UnsafePointer()).Interface().(*sync.Mutex); ok {
			mu.Lock()
			defer mu.Unlock()
		}
	}
	kept := []string{} // records to use again
	if typ.name == "shard" {
		kept = []string{"lone", "free", "freeOwn"}
	}
	for i, field := range typ.fields {
		if !slices.Contains(kept, field) {
			w.into(v.Field(i), field)
		}
	}
	if typ.name == "shard" {
		w.lone(v)
		w.free(v)
		w.freeOwn(v)
	}
}

// atomicPointer returns the pointer in v, if v is a struct that consists of an
// atomic.Pointer, or one itself. That keeps an unsafe.Pointer, and the type in an
// array without elements.
func atomicPointer(v reflect.Value) (p reflect.Value, ok bool) {
	if v.NumField() == 1 && v.Field(0).Kind() == reflect.Struct {
		v = v.Field(0)
	}
	if v.Type().PkgPath() != "sync/atomic" || !strings.HasPrefix(v.Type().Name(), "Pointer[") {
		return p, false
	}
	return reflect.NewAt(v.Type().Field(0).Type.Elem().Elem(), v.FieldByName("v").UnsafePointer()), true
}

// lone checks the record that a shard keeps for a flight that is alone.
func (w *walk) lone(shard reflect.Value) {
	if shard.FieldByName("alone").Bool() {
		w.fail("has a lone flight")
	} else if f := shard.FieldByName("lone"); !f.IsNil() {
		w.clean(f.Elem(), "lone flight", "hash", "callers", "leading")
	}
}

// free checks the free list of a shard.
func (w *walk) free(shard reflect.Value) {
	var n uint64
	for f := shard.FieldByName("free"); !f.IsNil(); f = f.Elem().FieldByName("next") {
		n++
		w.clean(f.Elem(), "free list", "next", "hash", "callers", "leading") // refer to nothing, but next
	}
	if kept := shard.FieldByName("nfree").Uint(); n != kept {
		w.fail("has %d records in its free list, and counts %d", n, kept)
	}
}

// freeOwn checks the records that leaders have given back.
func (w *walk) freeOwn(shard reflect.Value) {
	var n uint64
	for f := shard.FieldByName("freeOwn"); !f.IsNil(); f = f.Elem().FieldByName("next") {
		n++
		w.clean(f.Elem(), "list of given back", "next", "cold")
		w.clean(f.Elem().FieldByName("cold").Elem(), "list of given back", "run") // which refers to the record
	}
	if kept := shard.FieldByName("nfreeOwn").Uint(); n != kept {
		w.fail("has %d records that were given back, and counts %d", n, kept)
	}
}

// clean checks that a record that is to be used again, or a part of it, has nothing in
// it but the fields named.
func (w *walk) clean(record reflect.Value, where string, but ...string) {
	for i, field := range about(record.Type()).fields {
		if !slices.Contains(but, field) && !record.Field(i).IsZero() {
			w.fail("has %s = %v in a record of its %s", field, record.Field(i), where)
		}
	}
}

// A structure is what a walk needs to know of a struct type.
type structure struct {
	name   string // without parameters; "" if it is not the package's
	fields []string
}

var structures sync.Map // of structure, by reflect.Type

func about(t reflect.Type) structure {
	if s, ok := structures.Load(t); ok {
		return s.(structure)
	}
	var s structure
	if t.Kind() == reflect.Struct && path.Base(t.PkgPath()) == "coalesce" {
		s.name, _, _ = strings.Cut(t.Name(), "[")
		for i := range t.NumField() {
			s.fields = append(s.fields, t.Field(i).Name)
		}
	}
	structures.Store(t, s)
	return s
}
