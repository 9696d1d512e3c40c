package main

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
	"sync/atomic"
)

// This file holds what loses pushes: of all that a NATS server sends, the messages of the
// subjects that are watched.

// A filter loses these messages while it is on.
type filter struct{ on atomic.Bool }

// reader returns what is left of from.
func (f *filter) reader(from io.Reader) io.Reader {
	r, w := io.Pipe()
	go func() { w.CloseWithError(f.copy(w, bufio.NewReaderSize(from, 1<<20))) }()
	return r
}

func (f *filter) copy(to io.Writer, from *bufio.Reader) error {
	for {
		line, err := from.ReadBytes('\n')
		if err != nil {
			return err
		}
		message := line
		lose := false
		// MSG subject sid [reply] size; HMSG subject sid [reply] size-of-headers size
		if fields := bytes.Fields(line); len(fields) >= 4 && (string(fields[0]) == "MSG" || string(fields[0]) == "HMSG") {
			size, err := strconv.Atoi(string(fields[len(fields)-1]))
			if err != nil {
				return err
			}
			payload := make([]byte, size+2)
			if _, err := io.ReadFull(from, payload); err != nil {
				return err
			}
			message = append(message, payload...)
			lose = f.on.Load() && bytes.HasPrefix(fields[1], []byte("sf.w."))
		}
		if lose {
			continue
		}
		if _, err := to.Write(message); err != nil {
			return err
		}
	}
}
