package main

import (
	"context"
	"errors"
	"io"
	"testing"
)

// An endless reader ends a context when that many bytes have been read.
type endless struct {
	after int
	end   context.CancelCauseFunc
	read  int
}

var errEnough = errors.New("enough")

func (r *endless) Read(p []byte) (int, error) {
	r.read += len(p)
	if r.read >= r.after {
		r.end(errEnough)
	}
	return len(p), nil
}

// TestReadFull_LooksAtContext: the end of the context is noticed within a piece,
// however much there is to read.
func TestReadFull_LooksAtContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := &endless{after: 5 << 20, end: cancel}
	n, err := readFull(ctx, r, make([]byte, 64<<20))
	if !errors.Is(err, errEnough) || n < 5<<20 || n > 5<<20+pieceSize || r.read != n {
		t.Errorf("got %d bytes of %d, %v; want at most %d, %v", n, r.read, err, 5<<20+pieceSize, errEnough)
	}
}

// TestReadFull_Short: a file that has become shorter is no whole file.
func TestReadFull_Short(t *testing.T) {
	for _, length := range []int64{0, 1, pieceSize, pieceSize + 1} {
		r := io.LimitReader(&endless{after: 1 << 30}, length)
		n, err := readFull(t.Context(), r, make([]byte, 3*pieceSize))
		if int64(n) != length || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("of %d bytes: got %d, %v; want all, %v", length, n, err, io.ErrUnexpectedEOF)
		}
	}
}
