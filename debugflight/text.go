package debugflight

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"
)

// This file holds how keys and names become text.

const (
	// cutKey bounds the characters of a key in the table, and in JSON.
	cutKey = 200

	// cutWhole bounds the bytes of a key on its own page.
	cutWhole = 16 << 10
)

// keyOf returns the text of a flight's key. A panic of the formatter is part of it.
func keyOf(f Flight) (text string) {
	defer func() {
		if r := recover(); r != nil {
			reason, _ := cut(fmt.Sprint(r), 100)
			text = "(no text: the formatter panicked: " + reason + ")"
		}
	}()
	return f.Key()
}

// printable returns text as the page shows it. Text that is no valid UTF-8, or has control
// characters or marks that change how others look, is quoted as in Go.
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
