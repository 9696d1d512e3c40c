package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree makes a module tree with that modules.dep, and a file of its own for each
// path in files.
func tree(t *testing.T, dep string, files ...string) (root string) {
	t.Helper()
	root = t.TempDir()
	write(t, filepath.Join(root, depFile), dep)
	for _, p := range files {
		write(t, filepath.Join(root, p), elfMagic+"content of "+p)
	}
	return root
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, root string) *moduleSet {
	t.Helper()
	set, err := openModules(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestTree_BadModulesDepExits2(t *testing.T) {
	for _, tt := range []struct {
		name, dep string
		want      string // in the message
	}{
		{"empty", "", "the file is empty"},
		{"cut in a line", "a.ko: b.ko\nb.ko:", "modules.dep:2: truncated"},
		{"cut between lines", "a.ko:\nb.ko: a.ko c.ko\n", "modules.dep:2: b.ko needs c.ko, which has no line"},
		{"no colon", "a.ko:\nb.ko\n", `modules.dep:2: no colon in "b.ko"`},
		{"garbage", "\x00\xff" + strings.Repeat("\x1b", 500) + "\n", `modules.dep:1: no colon in "\x00`},
		{"empty line", "a.ko:\n\n", `modules.dep:2: no colon in ""`},
		{"no path", ": a.ko\na.ko:\n", `modules.dep:1: "" is no module file`},
		{"no module", "a.ko: b.txt\n", `modules.dep:1: "b.txt" is no module file`},
		{"listed twice", "a.ko:\nb.ko:\na.ko:\n", "modules.dep:3: a.ko is listed twice, first in line 1"},
		{"needs itself", "a.ko: a.ko\n", "modules.dep:1: a.ko needs itself"},
		{"a cycle", "a.ko: b.ko\nb.ko: a.ko\n", "need each other in a cycle"},
		{"all compressed", "a.ko.xz:\nb.ko.zst: a.ko.xz\n", "all 2 modules are compressed"},
		{"a missing module", "a.ko:\nmissing.ko:\n", "missing.ko: no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, tt.dep, "a.ko", "b.ko")
			status, stdout, stderr := command(t, "-root", root, "-storm", "everything")
			if status != exitUsage || stdout != "" || !strings.Contains(stderr, tt.want) {
				t.Errorf("got status %d, stdout %q, stderr %q, want status 2 and %q in stderr",
					status, stdout, stderr, tt.want)
			}
		})
	}
}

func TestTree_BadRootExits2(t *testing.T) {
	root := tree(t, "a.ko:\n", "a.ko")
	if err := os.Mkdir(filepath.Join(root, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "odd", depFile), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ dir, want string }{
		{"missing", "no such file or directory"},
		{"a.ko", "is not a directory"},
		{"empty", "want a directory as /lib/modules/VERSION"},
		{"odd", "is not a regular file"},
	} {
		status, _, stderr := command(t, "-root", filepath.Join(root, tt.dir))
		if status != exitUsage || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: got status %d, stderr %q, want 2 and %q", tt.dir, status, stderr, tt.want)
		}
	}
}

func TestTree_PrereqsAreLoadedInReverse(t *testing.T) {
	set := open(t, tree(t, "k/a-b.ko: k/c.ko d.ko\nd.ko:\nk/c.ko: d.ko\n"))
	var paths []string
	for _, i := range set.withPrereqs(set.byPath["k/a-b.ko"]) {
		paths = append(paths, set.modules[i].path)
	}
	if !slices.Equal(paths, []string{"d.ko", "k/c.ko", "k/a-b.ko"}) {
		t.Errorf("got load order %v, want d.ko, k/c.ko, k/a-b.ko", paths)
	}
	if name := set.modules[0].name; name != "a_b" {
		t.Errorf("got name %q, want a_b", name)
	}
}

func TestTree_CompressedAreNotedAndSkipped(t *testing.T) {
	// e.ko needs a compressed module only by way of d.ko.
	root := tree(t, "a.ko:\nb.ko.xz:\nc.ko.zst: b.ko.xz\ne.ko: d.ko\nd.ko: b.ko.xz\n", "a.ko")
	status, stdout, stderr := command(t, "-root", root, "-storm", "everything")
	if want := "2 of 5 modules are compressed and were skipped, and so were 2 others"; status != exitOK ||
		!strings.Contains(stdout, want) || !strings.Contains(stdout, "1 worker, 1 step to load 1 file") {
		t.Errorf("got status %d, stdout %q, stderr %q, want %q", status, stdout, stderr, want)
	}
}

func TestTree_CPUStormAdapts(t *testing.T) {
	root := tree(t, "x/kvm.ko: y/irqbypass.ko\ny/irqbypass.ko:\nz/other.ko:\n",
		"x/kvm.ko", "y/irqbypass.ko", "z/other.ko")
	status, stdout, stderr := command(t, "-root", root, "-workers", "5")
	if status != exitOK || !strings.Contains(stdout, "The tree has 2 of the 22 modules of the cpu storm.") ||
		!strings.Contains(stdout, "5 workers, 15 steps to load 2 files") {
		t.Errorf("got status %d, stdout %q, stderr %q, want 5 workers and 15 steps for 2 files", status, stdout, stderr)
	}
	root = tree(t, "z/other.ko:\n", "z/other.ko")
	status, _, stderr = command(t, "-root", root)
	if status != exitUsage || !strings.Contains(stderr, "has none of the 22 modules of the cpu storm") {
		t.Errorf("got status %d, stderr %q, want 2 and that no module is there", status, stderr)
	}
	if status, _, stderr = command(t, "-root", root, "-modules", "other"); status != exitOK {
		t.Errorf("got status %d, stderr %q, want 0", status, stderr)
	}
}

// A load is of a file, not of a path: links to a file are the file, and a copy is
// another.
func TestTree_IdentityIsTheFile(t *testing.T) {
	root := tree(t, "a.ko:\nhard.ko:\nsoft.ko:\ncopy.ko:\n", "a.ko")
	content, err := os.ReadFile(filepath.Join(root, "a.ko"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "copy.ko"), string(content))
	err = errors.Join(
		os.Link(filepath.Join(root, "a.ko"), filepath.Join(root, "hard.ko")),
		os.Symlink("a.ko", filepath.Join(root, "soft.ko")))
	if err != nil {
		t.Skip(err)
	}
	rep := runStorm(t, open(t, root), "-storm", "everything", "-policy", "seed,coalesce")
	if rep.Files != 2 || rep.Workers != 4 {
		t.Errorf("got %d files, %d workers, want 2, 4", rep.Files, rep.Workers)
	}
	for _, r := range rep.Results {
		if r.Leaders != 2 || r.Joined != 2 || r.LiveModules != 2 {
			t.Errorf("got %+v, want 2 leaders, 2 joined, 2 live", r)
		}
	}
}

// Two files with the same name are two loads, but one module: the second is late or
// skipped, and no worker hangs.
func TestTree_TwoFilesOfOneName(t *testing.T) {
	set := open(t, tree(t, "k/a.ko:\nupdates/a.ko:\n", "k/a.ko", "updates/a.ko"))
	rep := runStorm(t, set, "-storm", "everything")
	for _, r := range rep.Results {
		if r.LiveModules != 1 || r.Late+r.Skipped != 1 {
			t.Errorf("got %+v, want 1 live and 1 late or skipped", r)
		}
	}
}

// Lists that contradict each other would close the gates forever: they are sorted into
// one order, even if only a link makes them contradict.
func TestTree_ContradictingLists(t *testing.T) {
	t.Run("paths", func(t *testing.T) {
		root := tree(t, "x.ko:\ny.ko:\na.ko: x.ko y.ko\nb.ko: y.ko x.ko\n", "x.ko", "y.ko", "a.ko", "b.ko")
		rep := runStorm(t, open(t, root), "-storm", "everything")
		if len(rep.Notes) != 1 || !strings.Contains(rep.Notes[0], "1 of 4 workers load theirs in another order") {
			t.Errorf("got notes %q, want one about 1 of 4 workers", rep.Notes)
		}
	})
	t.Run("links", func(t *testing.T) {
		root := tree(t, "x.ko:\ny.ko:\nz.ko:\na.ko: x.ko y.ko\nb.ko: z.ko x.ko\n",
			"x.ko", "y.ko", "a.ko", "b.ko")
		if err := os.Link(filepath.Join(root, "y.ko"), filepath.Join(root, "z.ko")); err != nil {
			t.Skip(err)
		}
		rep := runStorm(t, open(t, root), "-storm", "everything")
		if len(rep.Notes) != 1 {
			t.Errorf("got notes %q, want one", rep.Notes)
		}
	})
	t.Run("a file needs itself", func(t *testing.T) {
		root := tree(t, "x.ko:\ny.ko: x.ko\n", "x.ko")
		if err := os.Link(filepath.Join(root, "x.ko"), filepath.Join(root, "y.ko")); err != nil {
			t.Skip(err)
		}
		status, _, stderr := command(t, "-root", root, "-storm", "everything")
		if status != exitOK {
			t.Errorf("got status %d, stderr %q, want 0", status, stderr)
		}
	})
}

// Bytes that are not those of the file are reported, whether they were read wrong or
// given to the wrong caller.
func TestLoad_DigestMismatch(t *testing.T) {
	root := tree(t, "a.ko:\nb.ko: a.ko\n", "a.ko", "b.ko")
	name := filepath.Join(root, "a.ko")
	rep := runStormUnchecked(t, open(t, root), func() {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)-1] ^= 1
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}, "-storm", "everything", "-policy", "coalesce")
	r := rep.Results[0]
	if r.FailedWorkers != 2 || r.LiveModules != 0 || len(rep.problems()) == 0 ||
		len(r.Errors) != 1 || !strings.Contains(r.Errors[0], "a.ko: digest mismatch") {
		t.Errorf("got %+v, want a digest mismatch", r)
	}
}

// mixedUp is a policy that answers with the result of another file.
type mixedUp struct{}

func (mixedUp) load(fileID, func() (image, error)) (image, error) { return image{digest: 1}, nil }

func TestLoad_ChecksSharedImages(t *testing.T) {
	set := open(t, tree(t, "a.ko:\n", "a.ko"))
	if err := set.inspectFiles(t.Context(), []int{0}, nil); err != nil {
		t.Fatal(err)
	}
	l := &loader{set: set, policy: mixedUp{}}
	err := l.load(t.Context(), &set.modules[0], nil, func() {})
	if err == nil || !strings.Contains(err.Error(), "digest mismatch") {
		t.Errorf("got %v, want a digest mismatch", err)
	}
}

// A caller that may not or cannot open the file fails alone: the policy, which would make
// others share the failure, is not even called.
func TestLoad_CallersOwnChecksComeFirst(t *testing.T) {
	root := tree(t, "a.ko:\nb.ko:\n", "a.ko", "b.ko")
	set := open(t, root)
	if err := set.inspectFiles(t.Context(), []int{0, 1}, nil); err != nil {
		t.Fatal(err)
	}
	// Renaming puts another file, with another identity, in b.ko's place.
	if err := os.Rename(filepath.Join(root, "a.ko"), filepath.Join(root, "b.ko")); err != nil {
		t.Fatal(err)
	}
	l := &loader{set: set, policy: mixedUp{}}
	asking := func() { t.Error("got a call of the policy, want none") }
	if err := l.load(t.Context(), &set.modules[0], nil, asking); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: got %v, want %v", err, os.ErrNotExist)
	}
	err := l.load(t.Context(), &set.modules[1], nil, asking)
	if err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("a replaced file: got %v, want an error about that", err)
	}
	if n := l.meter.attempts.Load(); n != 0 {
		t.Errorf("got %d attempts, want none", n)
	}
}
