package main

// This file writes the files of the embedded set, and examines the files of any set
// before a storm: their identities and their contents.

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/cespare/xxhash/v2"
)

// elfMagic begins every module, and every other ELF file.
const elfMagic = "\x7fELF"

// maxModule is the size of the largest file that is taken for a module, and
// maxBuffered of all buffers that the workers of a storm may hold at one time.
const (
	maxModule         = 1 << 30
	maxBuffered int64 = min(8<<30, math.MaxInt)
)

// writeFiles writes the given modules below the root of the set: files of the
// true sizes, with a content of their own each.
func (s *moduleSet) writeFiles(ctx context.Context, used []int, prog *progress) error {
	done := prog.begin("writing modules", len(used))
	defer done()
	for _, i := range used {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m := &s.modules[i]
		name := s.file(m)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return fmt.Errorf("cannot write the modules: %w", err)
		}
		if err := os.WriteFile(name, moduleContent(m.path, m.size), 0o600); err != nil {
			return fmt.Errorf("cannot write the modules: %w", err)
		}
		prog.step()
	}
	return nil
}

// moduleContent returns size bytes that begin as a module does and go on as
// noise: the same for the same path, and different for any other, so that no
// digest is right by accident.
func moduleContent(path string, size int64) []byte {
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("%016x", xxhash.Sum64String(path)))
	content := make([]byte, size)
	// ChaCha8 never fails to read.
	_, _ = rand.NewChaCha8(seed).Read(content)
	copy(content, elfMagic)
	return content
}

// inspectFiles reads identity, size and digest of the given modules from their files,
// which must be the same for the whole storm.
//
// A file has one name, as a module states it in its own header: modules whose paths are
// of one file, by a link or by a mount, get the name of the first.
func (s *moduleSet) inspectFiles(ctx context.Context, used []int, prog *progress) error {
	done := prog.begin("inspecting modules", len(used))
	defer done()
	names := make(map[fileID]string)
	for _, i := range used {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m := &s.modules[i]
		if err := m.inspect(ctx, s.file(m)); err != nil {
			return err
		}
		if name, ok := names[m.id]; ok {
			m.name = name
		} else {
			names[m.id] = m.name
		}
		prog.step()
	}
	return nil
}

// inspect reads the identity and the content of m's file.
func (m *module) inspect(ctx context.Context, name string) error {
	f, size, id, err := openModule(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := xxhash.New()
	piece := make([]byte, min(size, pieceSize))
	for offset := int64(0); ; {
		piece = piece[:min(size-offset, pieceSize)]
		if _, err := readFull(ctx, f, piece); err != nil {
			return readError(ctx, name, size, err)
		}
		if offset == 0 && !bytes.HasPrefix(piece, []byte(elfMagic)) {
			return fmt.Errorf("%s is not an ELF file", name)
		}
		_, _ = h.Write(piece) // it accepts everything
		if offset += int64(len(piece)); offset == size {
			break
		}
	}
	m.size, m.id, m.digest = size, id, h.Sum64()
	return nil
}

// openModule opens the file of a module and returns its size and identity, which
// hold for as long as the file is open.
func openModule(name string) (f *os.File, size int64, id fileID, err error) {
	f, info, err := openRegular(name, maxModule)
	if err != nil {
		return nil, 0, fileID{}, err
	}
	if id, err = identify(info); err != nil {
		f.Close()
		return nil, 0, fileID{}, err
	}
	return f, info.Size(), id, nil
}
