package rules_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/kit"
)

// This file holds the text of keys in a DeadlockError and in the log of a panic.

type (
	secretString    struct{ user, token string }
	secretFormat    struct{ user, token string }
	secretLogValue  struct{ User, Token string }
	secretField     struct{ Token token }
	unexportedField struct{ token token }
	token           string
	panickingKey    struct{ name string }
	twicePanicking  struct{ name string }
	exitingKey      struct{ name string }
)

func (k secretString) String() string             { return "user " + k.user }
func (k secretFormat) Format(s fmt.State, _ rune) { fmt.Fprint(s, "user ", k.user) }
func (k secretLogValue) LogValue() slog.Value     { return slog.StringValue("hidden") }
func (token) String() string                      { return "hidden" }
func (panickingKey) String() string               { panic("no string") }
func (k twicePanicking) String() string           { panic(k) }
func (exitingKey) String() string                 { runtime.Goexit(); return "" }

// logText returns the text of a key in the log of a panic, with a handler that writes
// JSON.
func logText(t *testing.T, key any) (text string) {
	t.Helper()
	var log bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&log, nil)))
	defer slog.SetDefault(old)
	synctest.Test(t, func(t *testing.T) {
		var g coalesce.Group[any, int]
		r := <-g.DoChan(t.Context(), key, func(context.Context) (int, error) { panic("x") })
		synctest.Wait()
		if _, ok := r.Err.(*coalesce.PanicError); !ok || g.Stats().PanicsLogged != 1 || g.Len() != 0 {
			t.Errorf("got %v, %+v, Len %d, want one panic that is logged", r.Err, g.Stats(), g.Len())
		}
	})
	var line struct{ Level, Key, Panic, Stack string }
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatalf("got %v for the log %s, want valid JSON", err, &log)
	}
	if line.Level != "ERROR" || line.Panic != "x" || !strings.Contains(line.Stack, "keytext_test.go") {
		t.Errorf("got the log %s, want the panic with its stack", &log)
	}
	return line.Key
}

// TestG10_KeyTexts: in the log and in a DeadlockError, the text of a key is that of
// fmt.Print, cut at 256 bytes, at the end of a character. What a pointer points to is left
// to the goroutines that may write it.
func TestG10_KeyTexts(t *testing.T) {
	const limit = 256
	pointer := &struct{ token string }{"t0ken"}
	long := strings.Repeat("k", 1<<20)
	for _, c := range []struct {
		name string
		key  any
		want string
	}{
		{"string", "ape", "ape"},
		{"empty", "", ""},
		{"int", 7, "7"},
		{"nil", nil, "<nil>"},
		{"struct", struct{ A, B int }{1, 2}, "{1 2}"},
		{"as long as it may be", long[:limit], long[:limit]},
		{"longer by one", long[:limit+1], long[:limit] + "…"},
		{"a megabyte", long, long[:limit] + "…"},
		{"a megabyte of another type", [1]string{long}, "[" + long[:limit-1] + "…"},
		{"a megabyte from its method", secretString{user: long}, "user " + long[:limit-5] + "…"},
		{"two bytes at the cut", long[:limit-1] + "é" + long, long[:limit-1] + "…"},
		{"two bytes before it", long[:limit-2] + "é" + long, long[:limit-2] + "é…"},
		{"three bytes at the cut", long[:limit-2] + "→" + long, long[:limit-2] + "…"},
		{"four bytes at the cut", long[:limit-3] + "🐒" + long, long[:limit-3] + "…"},
		{"four bytes, one before it", long[:limit-1] + "🐒" + long, long[:limit-1] + "…"},
		{"a method String", secretString{"ape", "t0ken"}, "user ape"},
		{"a method Format", secretFormat{"ape", "t0ken"}, "user ape"},
		{"a method LogValue", secretLogValue{"ape", "t0ken"}, "{ape t0ken}"},
		{"a field that hides itself", secretField{"t0ken"}, "{hidden}"},
		{"a field that is not exported", unexportedField{"t0ken"}, "{t0ken}"},
		{"pointer", pointer, fmt.Sprintf("(%T)(%p)", pointer, pointer)},
		{"pointer with a method String", &secretString{"ape", "t0ken"}, "user ape"},
		{"a method that panics", panickingKey{"ape"}, "%!v(PANIC=String method: no string)"},
		{"a method that panics with itself", twicePanicking{"ape"}, "(no text: a method of the key panicked or exited)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := logText(t, c.key); got != c.want {
				t.Errorf("log: got %q, want %q", got, c.want)
			}
			e := &coalesce.DeadlockError{Keys: []any{c.key, "b", c.key}}
			if got, want := e.Error(), "coalesce: deadlock: "+c.want+" → b → "+c.want; got != want {
				t.Errorf("DeadlockError: got %q, want %q", got, want)
			}
		})
	}
}

// TestG10_KeyTextsInvalid: a key that is not valid UTF-8 is cut as well; the part that is
// left is no more valid than the key.
func TestG10_KeyTextsInvalid(t *testing.T) {
	for _, char := range []string{"\x80", "\xff", "\xe2", "\xe2\x86", "\xf0\x9f\x90"} {
		key := strings.Repeat(char, 1000)
		got := (&coalesce.DeadlockError{Keys: []any{key}}).Error()
		got = strings.TrimPrefix(got, "coalesce: deadlock: ")
		cut, ok := strings.CutSuffix(got, "…")
		if !ok || len(cut) > 256 || len(cut) <= 256-utf8.UTFMax || !strings.HasPrefix(key, cut) {
			t.Errorf("%q: got %q, want at most 256 bytes of the key", char, got)
		}
		if log := logText(t, key); len(log) == 0 || len(log) > 3*256+len("…") { // JSON has U+FFFD for each bad byte
			t.Errorf("%q: got %q in the log, want at most 256 bytes of the key", char, log)
		}
	}
}

// TestG10_KeyTextExits: a key whose method exits the goroutine keeps neither the panic
// from the log nor the results from the callers.
func TestG10_KeyTextExits(t *testing.T) {
	if got, want := logText(t, exitingKey{"ape"}), "(no text: a method of the key panicked or exited)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	synctest.Test(t, func(t *testing.T) {
		log := kit.CaptureLog(t)
		var g coalesce.Group[any, int]
		r := g.DoMulti(t.Context(), []any{exitingKey{"ape"}, "bee"}, func(context.Context, []any) (map[any]int, error) { panic("x") })
		synctest.Wait()
		if n := strings.Count(log.String(), "panic=x"); n != 1 || len(r) != 2 || g.Len() != 0 {
			t.Errorf("got %d panics in the log, %v, Len %d, want one, and a result for both keys", n, r, g.Len())
		}
	})
}
