package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// This file finds out the conditions of the measurements.

// conditions are the conditions on which results depend besides the workload. Results of
// different conditions are not compared.
type conditions struct {
	OS        string            `json:"os"`  // and the architecture
	CPU       string            `json:"cpu"` // the model
	Cores     int               `json:"cores"`
	Procs     int               `json:"gomaxprocs"` // of workloads that do not set it
	MemoryGiB int               `json:"memory_gib"` // rounded
	Kernel    string            `json:"kernel"`
	Machine   string            `json:"machine_id"` // a hash; "" if the system gives none
	Go        string            `json:"go"`
	Build     map[string]string `json:"build"` // the settings that change the code
	Code      string            `json:"code"`  // a hash of the sources
	Benchtime string            `json:"benchtime"`
	Version   string            `json:"version"` // of package coalesce, for readers; not compared
	Modules   map[string]string `json:"modules"` // the versions of all modules; compared through Code
}

// here returns the conditions of this process. Benchtime is the caller's.
func here() (conditions, error) {
	c := conditions{
		OS:        runtime.GOOS + "/" + runtime.GOARCH,
		CPU:       cpuModel(),
		Cores:     runtime.NumCPU(),
		Procs:     runtime.GOMAXPROCS(0),
		MemoryGiB: int(math.Round(memoryBytes() / (1 << 30))),
		Kernel:    output("uname", "-sr"),
		Machine:   machineID(),
		Go:        runtime.Version(),
		Build:     map[string]string{},
		Modules:   map[string]string{},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "-race", "-msan", "-asan", "-tags", "-gcflags", "-pgo", "CGO_ENABLED",
				"GOAMD64", "GOARM64", "GOARM", "GO386", "GOEXPERIMENT", "GORISCV64", "GOPPC64":
				c.Build[s.Key] = s.Value
			}
		}
		for _, d := range info.Deps {
			if d.Replace == nil {
				c.Modules[d.Path] = d.Version
			}
		}
	}
	var err error
	c.Code, c.Version, err = codeVersion()
	return c, err
}

// machine is the fingerprint of everything but the code.
func (c conditions) machine() string {
	c.Code, c.Benchtime, c.Version, c.Modules = "", "", "", nil
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // there is nothing in c that JSON does not have
	}
	return shortHash(text)
}

// diff lists for a reader the differences of c and other, "" if none of them matters.
func (c conditions) diff(other conditions) string {
	var b strings.Builder
	compare := func(what string, there, here any) {
		if !reflect.DeepEqual(there, here) {
			fmt.Fprintf(&b, "\t%s: %v there, %v here\n", what, there, here)
		}
	}
	compare("system", c.OS, other.OS)
	compare("CPU", c.CPU, other.CPU)
	compare("cores", c.Cores, other.Cores)
	compare("GOMAXPROCS", c.Procs, other.Procs)
	compare("memory in GiB", c.MemoryGiB, other.MemoryGiB)
	compare("kernel", c.Kernel, other.Kernel)
	compare("machine", c.Machine, other.Machine)
	compare("Go version", c.Go, other.Go)
	compare("build settings", c.Build, other.Build)
	compare("benchtime", c.Benchtime, other.Benchtime)
	if c.Code != other.Code {
		compare("code", c.Version+", sources "+c.Code, other.Version+", sources "+other.Code)
	}
	return b.String()
}

// shortHash returns the first 12 digits of a hash of text.
func shortHash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

// output returns the output of a command, "" if there is no such command or it fails.
func output(name string, args ...string) string {
	text, err := exec.Command(name, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// The lines of Linux's /proc that are read.
var (
	cpuinfoModel  = regexp.MustCompile(`(?m)^(?:model name|Model|cpu model)\s*: *(.+)$`)
	meminfoMemory = regexp.MustCompile(`(?m)^MemTotal:\s*(\d+) kB$`)
)

func cpuModel() string {
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := cpuinfoModel.FindSubmatch(text); m != nil {
			return string(m[1])
		}
	}
	if model := output("sysctl", "-n", "machdep.cpu.brand_string"); model != "" {
		return model
	}
	if model := output("sysctl", "-n", "hw.model"); model != "" {
		return model
	}
	return "unknown"
}

// memoryBytes returns 0 where it cannot find out.
func memoryBytes() float64 {
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if m := meminfoMemory.FindSubmatch(text); m != nil {
			kib, err := strconv.ParseFloat(string(m[1]), 64)
			if err == nil {
				return kib * 1024
			}
		}
	}
	for _, name := range []string{"hw.memsize", "hw.physmem"} {
		if v, err := strconv.ParseFloat(output("sysctl", "-n", name), 64); err == nil {
			return v
		}
	}
	return 0
}

// machineID distinguishes machines of one kind. It is a hash, as systemd requires for
// publication.
func machineID() string {
	text, err := os.ReadFile("/etc/machine-id")
	if text = bytes.TrimSpace(text); err != nil || len(text) == 0 {
		return ""
	}
	return shortHash(append([]byte("coalesce/benchmarks/report "), text...))
}

// measured is the package that everything that is measured belongs to, or is imported by;
// parent is the module of package coalesce.
const (
	measured = "github.com/seed342dcb2d/coalesce/benchmarks"
	parent   = "github.com/seed342dcb2d/coalesce"
)

// codeVersion returns a hash of the sources that are compiled into the measured code, and
// their description by git.
//
// The description of git is not enough, since it is the same for every state that has not
// been committed. The command's own sources and tests do not count, nor does anything
// that another system or build tag would take.
func codeVersion() (code, version string, err error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Standard,Module,"+
		"GoFiles,CgoFiles,HFiles,SFiles,SysoFiles,EmbedFiles", measured)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	list, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("finding the sources (is this the directory of module benchmarks?): %w: %s",
			err, strings.TrimSpace(stderr.String()))
	}
	h := sha256.New()
	for d := json.NewDecoder(bytes.NewReader(list)); ; {
		var p struct {
			ImportPath, Dir string
			Standard        bool
			Module          *struct {
				Path, Version string
				Main          bool
				Replace       *struct{ Path string }
			}
			GoFiles, CgoFiles, HFiles, SFiles, SysoFiles, EmbedFiles []string
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return "", "", fmt.Errorf("go list: %w", err)
		}
		if p.Standard || p.Module == nil {
			continue // the version of Go says which
		}
		fmt.Fprintf(h, "package %s\n", p.ImportPath)
		if !p.Module.Main && p.Module.Replace == nil {
			fmt.Fprintf(h, "%s@%s\n", p.Module.Path, p.Module.Version)
			continue
		}
		for _, files := range [][]string{p.GoFiles, p.CgoFiles, p.HFiles, p.SFiles, p.SysoFiles, p.EmbedFiles} {
			for _, name := range files {
				text, err := os.ReadFile(filepath.Join(p.Dir, name))
				if err != nil {
					return "", "", err
				}
				fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
			}
		}
		if p.ImportPath == parent {
			version = output("git", "-C", p.Dir, "describe", "--tags", "--always", "--dirty")
		}
	}
	if version == "" {
		version = "unknown version"
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), version, nil
}
