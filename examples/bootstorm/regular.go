package main

// This file opens and reads regular files, and nothing else: what lies in a tree
// may be a pipe that has no writer, a device without end or a file larger than
// memory.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// pieceSize is how much is read between two looks at the context.
const pieceSize = 1 << 20

// openRegular opens a file of at most that many bytes. Its caller does it with
// its own rights: what fails here is the caller's failure alone.
//
// A device may do something when it is opened: thus the look before. What holds
// is the look at the opened file; and to open a pipe that has taken its place in
// between does not block.
func openRegular(name string, most int64) (*os.File, fs.FileInfo, error) {
	info, err := os.Stat(name)
	if err == nil {
		err = checkRegular(name, info, most)
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err = f.Stat()
	if err == nil {
		err = checkRegular(name, info, most)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// checkRegular reports an error unless info is of a regular file of at most that
// many bytes.
func checkRegular(name string, info fs.FileInfo, most int64) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", name)
	}
	if info.Size() > most {
		return fmt.Errorf("%s is too large: %s bytes (want at most %s)",
			name, grouped(info.Size()), grouped(most))
	}
	return nil
}

// readRegular returns the content of a file of at most that many bytes.
func readRegular(ctx context.Context, name string, most int64) ([]byte, error) {
	f, info, err := openRegular(name, most)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content := make([]byte, info.Size())
	if _, err := readFull(ctx, f, content); err != nil {
		return nil, readError(ctx, name, info.Size(), err)
	}
	return content, nil
}

// readFull fills buf from r and returns the number of bytes read. If ctx ends
// before, it returns the cause.
func readFull(ctx context.Context, r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		var read int
		read, err = io.ReadFull(r, buf[n:min(n+pieceSize, len(buf))])
		n += read
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// readError returns the error of who could not read a whole file: the cause, if
// it is that ctx has ended.
func readError(ctx context.Context, name string, size int64, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%s: cannot read all %d bytes: %w", name, size, err)
}
