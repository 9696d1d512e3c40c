package flightcheck

import "strings"

// A verb is a directive of a format, as %+v.
type verb struct {
	char  rune
	sharp bool
	arg   int // which operand it formats
}

// verbs returns the verbs of a format that have an operand. It returns nil if the format
// says which operands it means, as %[1]d.
func verbs(format string) []verb {
	var found []verb
	arg := 0
	for {
		_, after, ok := strings.Cut(format, "%")
		if !ok {
			return found
		}
		v := verb{}
		rest := strings.TrimLeftFunc(after, func(r rune) bool {
			switch {
			case r == '#':
				v.sharp = true
			case r == '*':
				arg++
			case !strings.ContainsRune("+- 0123456789.", r):
				return false
			}
			return true
		})
		for _, r := range rest {
			v.char = r
			break
		}
		switch v.char {
		case '[', 0:
			return nil
		case '%':
		default:
			v.arg = arg
			arg++
			found = append(found, v)
		}
		format = rest[len(string(v.char)):]
	}
}
