package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// asCommand in the environment makes the test binary behave like the command, for tests
// that need a process of their own.
const asCommand = "BOOTSTORM_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command runs the command in this process and checks that it leaves nothing in
// the directory for temporary files.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out, errOut bytes.Buffer
	status = run(ctx, func() {}, args, &out, &errOut, false)
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("got %v left behind, %v, want no file, nil", left, err)
	}
	return status, out.String(), errOut.String()
}

func TestRun_BadUsageExits2(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string // in the message
	}{
		{"-nonsense", "nonsense"},
		{"what", `unexpected argument "what"`},
		{"-storm tea", `unknown storm "tea"`},
		{"-arrivals never", `unknown arrivals "never"`},
		{"-workers 0", "-workers is 0"},
		{"-workers -3", "-workers is -3"},
		{"-workers 2049", "-workers is 2049"},
		{"-workers many", "workers"},
		{"-workers 1e3", "workers"},
		{"-workers 99999999999999999999", "workers"},
		{"-workers 9 -storm everything", "-workers needs -storm cpu"},
		{"-modules kvm -storm everything", "-modules needs -storm cpu"},
		{"-modules ,", "-modules names no module"},
		{"-modules nosuch", "no module nosuch"},
		{"-policy ,", "-policy names no policy"},
		{"-policy none,luck", `unknown policy "luck"`},
		{"-policy none,none", "policy none is named twice"},
		{"-rate 5", "-rate needs -arrivals poisson"},
		{"-seed 5", "-seed needs -arrivals poisson"},
		{"-init 5ms", "-init needs -arrivals burst or poisson"},
		{"-init -5ms -arrivals burst", "-init is -5ms"},
		{"-init 2540400h -arrivals burst", "-init is 2540400h"},
		{"-init 61s -arrivals burst", "-init is 1m1s (want 0s to 1m0s)"},
		{"-init 2562048h -arrivals burst", "init"},
		{"-seed -1 -arrivals poisson", "seed"},
		{"-seed 18446744073709551616 -arrivals poisson", "seed"},
		{"-rate -5 -arrivals poisson", "-rate is -5"},
		{"-rate Inf -arrivals poisson", "-rate is +Inf"},
		{"-rate -Inf -arrivals poisson", "-rate is -Inf"},
		{"-rate 1e-300 -arrivals poisson", "-rate is 1e-300"},
		{"-rate 1e400 -arrivals poisson", "rate"},
		{"-rate 0 -arrivals poisson", "-rate is 0"},
		{"-rate NaN -arrivals poisson", "-rate is NaN"},
		{"-rate 1e300 -arrivals poisson", "-rate is 1e+300"},
		{"-root=", "-root is empty"},
		{"-root /no/such/tree", "/no/such/tree"},
		{"-root /no\asuch\x1btree", "/no\uFFFDsuch\uFFFDtree"},
		{"-root /no\x00tree", "/no\uFFFDtree"},
		{"-cycle -workers 3", "-workers has no effect with -cycle"},
		{"-cycle -root /tmp -init 5ms", "-init has no effect with -cycle"},
		{"-cycle -policy none,luck", `unknown policy "luck"`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			status, stdout, stderr := command(t, strings.Fields(tt.args)...)
			if status != exitUsage || stdout != "" || !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("got status %d, stdout %q, stderr %q; want status 2 and one line with %q on stderr",
					status, stdout, stderr, tt.want)
			}
		})
	}
}

func TestRun_HelpExits0(t *testing.T) {
	status, stdout, stderr := command(t, "-h")
	if status != exitOK || stderr != "" {
		t.Errorf("got status %d, stderr %q, want 0 and none", status, stderr)
	}
	for _, name := range []string{"-root", "-storm", "-workers", "-arrivals", "-policy", "-json", "-cycle", "exit status"} {
		if !strings.Contains(stdout, name) {
			t.Errorf("got a help without %s, want it", name)
		}
	}
}

func TestRun_NoPlaceForFilesExits2(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	var out, errOut bytes.Buffer
	if status := run(t.Context(), func() {}, nil, &out, &errOut, false); status != exitUsage {
		t.Errorf("got status %d, want 2", status)
	}
	if !strings.Contains(errOut.String(), "cannot make a directory") {
		t.Errorf("got stderr %q, want an error about the directory", errOut.String())
	}
}

// The table is for people: it must have every policy with the exact bytes.
func TestRun_Table(t *testing.T) {
	status, stdout, stderr := command(t, "-workers", "3")
	if status != exitOK || stderr != "" {
		t.Fatalf("got status %d, stderr %q, want 0 and none", status, stderr)
	}
	for _, want := range []string{
		"none", "etxtbsy", "seed", "coalesce", "9,874,188", "22/22", "7.1 MB",
		"2 of 3 workers gave up", "(3.0 times as many)",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("got\n%s\nwant %q in it", stdout, want)
		}
	}
}

func TestRun_JSON(t *testing.T) {
	status, stdout, stderr := command(t, "-workers", "3", "-json", "-policy", "coalesce,none")
	if status != exitOK || stderr != "" {
		t.Fatalf("got status %d, stderr %q, want 0 and none", status, stderr)
	}
	var rep report
	dec := json.NewDecoder(strings.NewReader(stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rep); err != nil {
		t.Fatal(err)
	}
	if rep.Storm != "cpu" || rep.Arrivals != "overlap" || rep.Workers != 3 || rep.Steps != 99 ||
		rep.Files != 22 || rep.Bytes != 4_937_094 || len(rep.Results) != 2 {
		t.Errorf("got report %+v, want 22 files and 2 results", rep)
	}
	if r := rep.Results[0]; r.Policy != "coalesce" || r.BytesRead != 4_937_094 || r.Skipped != 33 {
		t.Errorf("got result %+v, want that of coalesce", r)
	}
}

// brokenPipe is a standard output that takes nothing.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestRun_UnwritableReportExits1(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var errOut bytes.Buffer
	status := run(t.Context(), func() {}, []string{"-workers", "1", "-policy", "none"}, brokenPipe{}, &errOut, false)
	if status != exitFailed || !strings.Contains(errOut.String(), "broken pipe") {
		t.Errorf("got status %d, stderr %q, want 1 and a broken pipe", status, errOut.String())
	}
}

func TestRun_CanceledExits130(t *testing.T) {
	t.Run("storm", func(t *testing.T) { testCanceled(t) })
	t.Run("cycle", func(t *testing.T) { testCanceled(t, "-cycle") })
}

func testCanceled(t *testing.T, args ...string) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("a key was pressed"))
	var out, errOut bytes.Buffer
	status := run(ctx, func() {}, args, &out, &errOut, false)
	if status != exitInterrupted || !strings.Contains(errOut.String(), "a key was pressed") {
		t.Errorf("got status %d, stderr %q, want 130 and the cause", status, errOut.String())
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("got %v left behind, want no file", left)
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := &progress{w: &b}
		end := p.begin("policy none", 5610)
		p.steps(1234)
		p.step()
		time.Sleep(150 * time.Millisecond)
		end()
		if got, want := b.String(), "\r\x1b[Kpolicy none: 1,235 of 5,610\r\x1b[K"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// Without a terminal there is no progress, and its methods do nothing.
func TestProgress_Nil(t *testing.T) {
	var p *progress
	end := p.begin("nothing", 1)
	p.step()
	end()
}
