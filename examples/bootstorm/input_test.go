//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestInput_NoRegularFileExits2: the type of a file is checked before it is read, so that
// nothing hangs or reads without end.
func TestInput_NoRegularFileExits2(t *testing.T) {
	for _, tt := range []struct {
		name string
		put  func(t *testing.T, name string) // puts it there
		want string                          // in the message, after the name
	}{
		{"pipe", mkfifo, "not a regular file"},
		{"link to a pipe", func(t *testing.T, name string) {
			pipe := filepath.Join(t.TempDir(), "pipe")
			mkfifo(t, pipe)
			symlink(t, pipe, name)
		}, "not a regular file"},
		{"endless device", func(t *testing.T, name string) { symlink(t, "/dev/zero", name) }, "not a regular file"},
		{"empty device", func(t *testing.T, name string) { symlink(t, "/dev/null", name) }, "not a regular file"},
		{"terminal", func(t *testing.T, name string) { symlink(t, "/dev/tty", name) }, "not a regular file"},
		{"socket", func(t *testing.T, name string) {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer syscall.Close(fd)
			// A socket's name is short: it gets the right one later.
			short := filepath.Join(os.TempDir(), fmt.Sprint("socket-", os.Getpid(), "-", filepath.Base(name)))
			if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: short}); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(short, name); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"directory", func(t *testing.T, name string) {
			if err := os.Mkdir(name, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"link to itself", func(t *testing.T, name string) { symlink(t, filepath.Base(name), name) }, "symbolic links"},
		{"link to nothing", func(t *testing.T, name string) { symlink(t, "nothing", name) }, "no such file"},
		{"empty file", func(t *testing.T, name string) { write(t, name, "") }, ""},
		{"40 GiB", func(t *testing.T, name string) { sparse(t, name, 40<<30) }, "too large"},
		{"no right to read", func(t *testing.T, name string) {
			write(t, name, elfMagic)
			if err := os.Chmod(name, 0); err != nil {
				t.Fatal(err)
			}
		}, "permission denied"},
	} {
		for _, place := range []string{"a.ko", depFile} {
			t.Run(tt.name+" as "+place, func(t *testing.T) {
				t.Parallel()
				root := tree(t, "a.ko:\nb.ko: a.ko\n", "a.ko", "b.ko")
				name := filepath.Join(root, place)
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
				tt.put(t, name)
				temp := t.TempDir()
				p := newProcess(temp, os.Args[0], "-root", root, "-storm", "everything")
				if tt.want == "permission denied" {
					p.Env = append(p.Env, asNobody+"=1")
					if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				p.start(t)
				status := p.wait(t)
				wantRefused(t, p, status, tt.want)
				if stderr := p.stderr.String(); !strings.Contains(stderr, place) {
					t.Errorf("got stderr %q, want the name %s in it", stderr, place)
				}
			})
		}
	}
}

// TestInput_BadTreeExits2: a tree that cannot be loaded is refused before anything is
// loaded.
func TestInput_BadTreeExits2(t *testing.T) {
	for _, tt := range []struct {
		name string
		dep  string
		file string // the content of a.ko and b.ko
		size int64  // and their sizes, if larger
		args string // besides -root
		want string
	}{
		{"no ELF file", "a.ko:\nb.ko: a.ko\n", "#!/bin/sh\n", 0, "", "a.ko is not an ELF file"},
		{"less than an ELF file begins with", "a.ko:\n", elfMagic[:3], 0, "", "a.ko is not an ELF file"},
		{"control characters", "\x1b[2J\x1b]0;title\x07.ko:\n", elfMagic, 0, "", `\x1b[2J`},
		{"many compressed modules", compressedChain(100_000), elfMagic, 0, "", "all 100001 modules are compressed"},
		{"more buffers than memory", "a.ko:\n", elfMagic, 5 << 20, "-workers 2000 -modules a", "in buffers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := tree(t, tt.dep)
			for _, name := range []string{"a.ko", "b.ko"} {
				write(t, filepath.Join(root, name), tt.file)
				if tt.size > 0 {
					sparse(t, filepath.Join(root, name), tt.size)
				}
			}
			args := strings.Fields(tt.args)
			if tt.args == "" {
				args = []string{"-storm", "everything"}
			}
			refused(t, tt.want, append(args, "-root", root)...)
		})
	}
}

// compressedChain lists n modules, each of which needs the next.
func compressedChain(n int) string {
	var b strings.Builder
	for i := range n - 1 {
		fmt.Fprintf(&b, "%d.ko: %d.ko\n", i, i+1)
	}
	fmt.Fprintf(&b, "%d.ko: x.ko.xz\nx.ko.xz:\n", n-1)
	return b.String()
}

func symlink(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

// sparse makes a module file of that size, which takes no room on the disk.
func sparse(t *testing.T, name string, size int64) {
	t.Helper()
	write(t, name, elfMagic)
	if err := os.Truncate(name, size); err != nil {
		t.Skip(err)
	}
}

// TestInput_TreeChangesMeanwhile: a tree that vanishes, or whose files are replaced after
// they have been inspected, makes workers fail, and none hang.
func TestInput_TreeChangesMeanwhile(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, root string)
		want   string
	}{
		{"vanishes", func(t *testing.T, root string) {
			if err := os.RemoveAll(root); err != nil {
				t.Fatal(err)
			}
		}, "no such file"},
		{"becomes a pipe", func(t *testing.T, root string) {
			name := filepath.Join(root, "a.ko")
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
			mkfifo(t, name)
		}, "not a regular file"},
		{"becomes large", func(t *testing.T, root string) {
			sparse(t, filepath.Join(root, "a.ko"), 40<<30)
		}, "too large"},
		{"becomes short", func(t *testing.T, root string) {
			if err := os.Truncate(filepath.Join(root, "a.ko"), 1); err != nil {
				t.Fatal(err)
			}
		}, "digest mismatch"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, "a.ko:\nb.ko: a.ko\n", "a.ko", "b.ko")
			rep := runStormUnchecked(t, open(t, root), func() { tt.change(t, root) }, "-storm", "everything")
			for _, r := range rep.Results {
				if r.FailedWorkers != 2 || r.LiveModules != 0 || len(r.Errors) == 0 || !strings.Contains(r.Errors[0], tt.want) {
					t.Errorf("got %+v, want 2 workers that failed with %q", r, tt.want)
				}
			}
		})
	}
}
