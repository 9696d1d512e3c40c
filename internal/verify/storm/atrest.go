package storm

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// This file holds the check of the memory that a group may keep of its calls when all of
// them are over.

// AtRest returns an error if g, a pointer to a Group that is not in use, keeps
// anything of the calls that it has answered, except lingering outcomes: a flight that is
// not in a free list, one in there that refers to anything, an entry, a block of
// waiters, an edge, a batch. It follows every reference of the package's types; it does not
// see objects that only a function, a channel or another package's struct refers to.
//
// It knows no field and no type by its name. A pointer to a struct of the package is left
// over from a call, unless the tag of its field, rest, says otherwise:
//
//	stays        its target belongs to the group
//	spare,A,B    a record to use again, or a list of them, zero but for fields with tag A or B
//	zero         no pointer, but has to be zero, too
//	lock         a mutex that is taken while AtRest looks at the other fields of the struct
//
// In a record, the list's link is the field with the tag next.
func AtRest(g any) error {
	w := walk{seen: map[visit]bool{}}
	w.value(reflect.ValueOf(g), true)
	return w.err
}

// A visit is a place that a walk has been to.
type visit struct {
	at  uintptr
	typ reflect.Type
}

// A walk visits everything that is reachable from a group.
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

// into walks through v, which a field or an index leads to. stays is for the pointers
// that are v, or in it without another field.
func (w *walk) into(v reflect.Value, by any, stays bool) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Array, reflect.Slice, reflect.Struct:
		w.path = append(w.path, by)
		w.value(v, stays)
		w.path = w.path[:len(w.path)-1]
	}
}

func (w *walk) value(v reflect.Value, stays bool) {
	switch v.Kind() {
	case reflect.Pointer:
		w.pointer(v, stays)
	case reflect.Interface:
		if !v.IsNil() {
			w.value(v.Elem(), stays)
		}
	case reflect.Array, reflect.Slice:
		for i := range v.Len() {
			w.into(v.Index(i), i, stays)
		}
	case reflect.Struct:
		if p, ok := atomicPointer(v); ok {
			w.pointer(p, stays)
		} else if isOurs(v.Type()) {
			w.fields(v)
		}
	}
}

// pointer walks through what v points to.
func (w *walk) pointer(v reflect.Value, stays bool) {
	if v.IsNil() || w.seen[visit{v.Pointer(), v.Type()}] {
		return
	}
	w.seen[visit{v.Pointer(), v.Type()}] = true
	if isOurs(v.Type().Elem()) && !stays {
		name, _, _ := strings.Cut(v.Type().Elem().Name(), "[")
		w.fail("is a %s: %v", name, v.Elem())
		return
	}
	w.value(v.Elem(), stays)
}

// fields walks through the fields of a struct of the package.
func (w *walk) fields(v reflect.Value) {
	fields := fieldsOf(v.Type())
	for i, f := range fields {
		if f.rest != "lock" {
			continue
		}
		// A sweep may come at any time. (An explorer's lock has another type. Nothing runs
		// beside it.)
		if mu, ok := reflect.NewAt(v.Field(i).Type(), v.Field(i).Addr().UnsafePointer()).Interface().(*sync.Mutex); ok {
			mu.Lock()
			defer mu.Unlock()
		}
	}
	for i, f := range fields {
		switch f.rest {
		case "spare":
			w.path = append(w.path, f.name)
			w.spare(v.Field(i), f.but)
			w.path = w.path[:len(w.path)-1]
		case "zero":
			if !v.Field(i).IsZero() {
				w.fail("has %s = %v", f.name, v.Field(i))
			}
		default:
			w.into(v.Field(i), f.name, f.rest == "stays")
		}
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

// spare checks a record that is to be used again, or a list of them, which may be nil.
func (w *walk) spare(record reflect.Value, but []string) {
	for !record.IsNil() {
		r := record.Elem()
		record = reflect.Zero(record.Type())
		for i, f := range fieldsOf(r.Type()) {
			switch allowed := slices.Contains(but, f.rest); {
			case allowed && f.rest == "next":
				record = r.Field(i)
			case allowed && r.Field(i).Kind() == reflect.Pointer:
				w.spare(r.Field(i), but)
			case !allowed && !r.Field(i).IsZero():
				w.fail("has %s = %v", f.name, r.Field(i))
			}
		}
	}
}

// A field describes a field of the package's structs to a walk.
type field struct {
	name string
	rest string   // the tag, to its first comma
	but  []string // and after it
}

var known sync.Map // of []field, by reflect.Type

// fieldsOf returns the fields of a struct.
func fieldsOf(t reflect.Type) []field {
	if s, ok := known.Load(t); ok {
		return s.([]field)
	}
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		tags := strings.Split(f.Tag.Get("rest"), ",")
		fields = append(fields, field{f.Name, tags[0], tags[1:]})
	}
	known.Store(t, fields)
	return fields
}

// isOurs reports whether t is a struct of the package.
func isOurs(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && path.Base(t.PkgPath()) == "coalesce"
}
