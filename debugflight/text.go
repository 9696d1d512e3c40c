package debugflight

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// This file holds how keys and names become text.

const (
	// cutKey bounds the characters of a key in the table, and in JSON.
	cutKey = 200

	// cutWhole bounds the bytes of a key on its own page.
	cutWhole = 16 << 10

	// cutValue bounds the characters of a parameter in an error.
	cutValue = 100
)

// textOf is the formatter of a group that was given none. A pointer without methods for its
// text is shown as an address, as the program may be changing what it points to.
func textOf(key any) string {
	switch key := key.(type) {
	case string:
		return key
	case fmt.Formatter, fmt.Stringer, error:
	default:
		if reflect.ValueOf(key).Kind() == reflect.Pointer {
			return fmt.Sprintf("(%T)(%p)", key, key)
		}
	}
	return fmt.Sprint(key)
}

// keyOf returns the text of a flight's key. The formatter has a goroutine of its own, so that
// no more than this text is lost if it exits that.
func keyOf(f Flight) string {
	text := make(chan string, 1)
	go func() {
		shown := "(no text: the formatter exited its goroutine)"
		defer func() { text <- shown }()
		defer func() {
			defer func() { _ = recover() }() // of a method of the panic's value
			if r := recover(); r != nil {
				shown = "(no text: the formatter panicked)"
				reason, _ := cut(fmt.Sprint(r), cutValue)
				shown = "(no text: the formatter panicked: " + reason + ")"
			}
		}()
		shown = f.Key()
	}()
	return <-text
}

// printable returns text as the page shows it. Text that is no valid UTF-8, or has control
// characters or marks that change how others look, is quoted as in Go. So is text that looks
// like that, so that no two texts are shown alike.
func printable(text string) string {
	for i, r := range text {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return strconv.Quote(text)
			}
		}
		if !strconv.IsPrint(r) {
			return strconv.Quote(text)
		}
	}
	if strings.HasPrefix(text, `"`) {
		if quoted, err := strconv.Unquote(text); err == nil && printable(quoted) == text {
			return strconv.Quote(text)
		}
	}
	return text
}

// cut returns the first n characters of text, with an ellipsis if there are more.
func cut(text string, n int) (short string, wasCut bool) {
	if len(text) <= n {
		return text, false
	}
	for i := range text {
		if n--; n < 0 {
			return text[:i] + "…", true
		}
	}
	return text, false
}

// quote returns text quoted as in Go, and cut, for an error.
func quote(text string) string {
	short, _ := cut(text, cutValue)
	return strconv.Quote(short)
}

// cutBytes is cut for bytes. It cuts between characters.
func cutBytes(text string, n int) (short string, wasCut bool) {
	if len(text) <= n {
		return text, false
	}
	for back := 1; back < utf8.UTFMax && !utf8.RuneStart(text[n]); back++ {
		n--
	}
	return text[:n] + "…", true
}

// sortedKeys returns the keys of a map in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
