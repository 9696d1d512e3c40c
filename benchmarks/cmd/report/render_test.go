package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"flag"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed342dcb2d/coalesce/benchmarks"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

const (
	journalFile = "testdata/report.jsonl"
	goldenDir   = "testdata/golden"
)

// The same results give the same files, to the byte.
func TestRender_Golden(t *testing.T) {
	out := t.TempDir()
	if *update {
		out = goldenDir
		p := fakeProgram(t.Output())
		args := []string{"-fresh", "-count", "2", "-benchtime", "10ms", "-resume", journalFile, "-out", out}
		if code := p.main(context.Background(), args); code != exitOK {
			t.Fatalf("got exit code %d, want 0", code)
		}
	}
	readmeFile := filepath.Join(out, "README.md")
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	before := "# R\n\n" + readmeBegin + "\nold\n" + readmeEnd + "\nafter\n"
	if err := os.WriteFile(readmeFile, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"-render", "-resume", journalFile, "-out", out, "-readme", readmeFile}
	for range 2 { // the second time there is something to replace
		if code := fakeProgram(t.Output()).main(context.Background(), args); code != exitOK {
			t.Fatalf("got exit code %d, want 0", code)
		}
		want, got := readTree(t, goldenDir), readTree(t, out)
		for name, text := range want {
			if got[name] != text {
				t.Errorf("%s: got another text, want the golden one; after an intended change, go test -run Golden -update\n%s", name, got[name])
			}
		}
		for name := range got {
			if _, ok := want[name]; !ok {
				t.Errorf("got %s, want no such file", name)
			}
		}
	}
}

// readTree returns the files under dir by their names.
func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		rel, _ := filepath.Rel(dir, name)
		files[filepath.ToSlash(rel)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// testData is the results in testdata.
func testData(t *testing.T) *data {
	t.Helper()
	sessions, results, err := readJournal(journalFile)
	if err != nil {
		t.Fatal(err)
	}
	return newData(fakeWorkloads(), sessions, results)
}

// The charts are XML, all text is within the picture, and no two texts overlap.
func TestCharts_WellFormed(t *testing.T) {
	charts := testData(t).charts()
	if len(charts) != 4 {
		t.Errorf("got %d charts, want ratios, parallel, and two of fan-in", len(charts))
	}
	for _, c := range charts {
		checkSVG(t, c.file, c.svg)
	}
}

// The worst case of a run is named, and not drawn.
func TestRatioChart_Worst(t *testing.T) {
	d := testData(t)
	before, _ := d.ratioChart()
	d.workload("work=hot/keys=1").Worst = true
	after, _ := d.ratioChart()
	if !strings.Contains(before.svg, "hot/keys=1<") || strings.Contains(after.svg, "hot/keys=1<") {
		t.Error("got a row before and after, want one before")
	}
	if strings.Contains(before.sentence, "hot") || !strings.Contains(after.sentence, "`hot/keys=1` is in the tables only") {
		t.Errorf("got %q and then %q, want the workload named in the second", before.sentence, after.sentence)
	}
}

// A chart with all implementations is as readable.
func TestCharts_Crowded(t *testing.T) {
	lines := lineChart{title: "all < of & them", unit: "ns/op", xLabel: "waiters", xs: []float64{1, 10, 100}}
	dots := dotChart{title: "all", valueOf: benchmarks.Coalesce, rows: []dotRow{
		{label: "row"}, {label: strings.Repeat("x", 40)},
	}}
	for i, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range known {
			if !yield(name) {
				return
			}
		}
	}) {
		s := styleOf(name)
		dots.legend = append(dots.legend, s)
		dots.rows[0].dots = append(dots.rows[0].dots, dot{name: name, at: 1 + float64(i)/100, hollow: true})
		lines.curves = append(lines.curves, curve{
			style: s, wrong: true, points: []point{{1, 1}, {100, 100 + float64(i%3)}},
		})
	}
	dots.rows[1].dots = []dot{{name: benchmarks.Coalesce, at: 0.0001, low: 0.00009, high: 0.00012}}
	checkSVG(t, "lines", lines.draw())
	checkSVG(t, "dots", dots.draw())
}

// A svgText is one text of a chart.
type svgText struct {
	x, y, width float64 // from x on
	s           string
}

func checkSVG(t *testing.T, name, text string) {
	t.Helper()
	var width, height float64
	var texts []svgText
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: got %v, want XML", name, err)
		}
		e, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		attrs := map[string]string{}
		for _, a := range e.Attr {
			attrs[a.Name.Local] = a.Value
			if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
				t.Errorf("%s: got <%s %s=%q>, want numbers", name, e.Name.Local, a.Name.Local, a.Value)
			}
		}
		number := func(attr string) float64 {
			v, err := strconv.ParseFloat(attrs[attr], 64)
			if err != nil {
				t.Fatalf("%s: got <%s %s=%q>, want a number", name, e.Name.Local, attr, attrs[attr])
			}
			return v
		}
		switch e.Name.Local {
		case "svg":
			width, height = number("width"), number("height")
		case "text":
			tx := svgText{x: number("x"), y: number("y")}
			if err := d.DecodeElement(&tx.s, &e); err != nil {
				t.Fatalf("%s: got %v, want XML", name, err)
			}
			tx.width = textWidth(tx.s)
			switch attrs["text-anchor"] {
			case "middle":
				tx.x -= tx.width / 2
			case "end":
				tx.x -= tx.width
			}
			texts = append(texts, tx)
		}
	}
	for i, a := range texts {
		if a.x < 0 || a.x+a.width > width || a.y < fontSize || a.y > height-3 {
			t.Errorf("%s: got %q outside of the picture, want it inside", name, a.s)
		}
		for _, b := range texts[:i] {
			if math.Abs(a.y-b.y) < fontSize && a.x < b.x+b.width && b.x < a.x+a.width {
				t.Errorf("%s: got %q and %q that overlap, want them apart", name, a.s, b.s)
			}
		}
	}
}

// Charts that are no longer drawn are removed, files of others are not.
func TestWriteCharts_Old(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"old.svg": "<svg>" + signature + "</svg>", "others.svg": "<svg></svg>"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeCharts(dir, []chart{{file: "new.svg", svg: "new"}}); err != nil {
		t.Fatal(err)
	}
	files := readTree(t, dir)
	if files["new.svg"] != "new" || files["others.svg"] == "" || files["old.svg"] != "" {
		t.Errorf("got %v, want the new chart and the file of others", files)
	}
}

// All colors can be seen on a white page and on a nearly black one.
func TestStyle_Contrast(t *testing.T) {
	colors := slices.Clone(spare)
	colors = append(colors, inkColor)
	looks := map[string]string{}
	for name := range known {
		s := styleOf(name)
		colors = append(colors, s.color)
		look := s.color + strconv.Itoa(int(s.shape)) + s.dash
		if other, ok := looks[look]; ok {
			t.Errorf("got one look for %s and %s, want two", name, other)
		}
		looks[look] = name
	}
	for _, c := range colors {
		for _, page := range []string{"#ffffff", "#0d1117"} {
			if r := contrast(t, c, page); r < 3 {
				t.Errorf("got a contrast of %.2f of %s on %s, want 3 at least", r, c, page)
			}
		}
	}
}

// contrast is that of WCAG 2.
func contrast(t *testing.T, a, b string) float64 {
	luminance := func(color string) float64 {
		if !regexp.MustCompile(`^#[0-9a-f]{6}$`).MatchString(color) {
			t.Fatalf("got color %q, want #rrggbb", color)
		}
		sum := 0.0
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, _ := strconv.ParseUint(color[1+2*i:3+2*i], 16, 8)
			v := float64(n) / 255
			if v <= 0.03928 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += weight * v
		}
		return sum
	}
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

// An unknown implementation has a look as well.
func TestStyle_Unknown(t *testing.T) {
	if s := styleOf("newcomer"); s.color == "" || s.width == 0 || s.name != "newcomer" || s != styleOf("newcomer") {
		t.Errorf("got %+v, want a look", s)
	}
	if s := styleOf("floor-new"); s.dash == "" {
		t.Errorf("got %+v, want a dash", s)
	}
}

func TestSpread(t *testing.T) {
	for _, places := range [][]float64{
		{}, {50}, {50, 50}, {300, 10, 12, 11, 299}, {0, 0, 0, 0}, {400, 400, 400}, {100, 116, 131},
	} {
		got := spread(places, 10, 400)
		for i := range places {
			if len(places) > 1 && (got[i] < 10 || got[i] > 400) {
				t.Errorf("%v: got %v, want places within bounds", places, got)
			}
			for j := range i {
				if math.Abs(got[i]-got[j]) < labelGap-0.01 || places[i] < places[j] && got[i] > got[j] {
					t.Errorf("%v: got %v, want the same order and gaps", places, got)
				}
			}
		}
	}
	if got := spread([]float64{100, 200}, 10, 400); got[0] != 100 || got[1] != 200 {
		t.Errorf("got %v, want 100 and 200, which have room", got)
	}
}

func TestLogAxis_Ticks(t *testing.T) {
	for _, values := range [][]float64{{1}, {3, 4}, {90, 110}, {1, 100}, {0.0001, 30}, {20, 5e8}} {
		a := newLogAxis(values, 0, 100)
		ts := a.ticks()
		if len(ts) < 1 || len(ts) > 12 {
			t.Errorf("%v: got ticks %v, want 1 to 12", values, ts)
		}
		for _, tick := range ts {
			if at := a.at(tick); at < 0 || at > 100 {
				t.Errorf("%v: got tick %v at %v, want 0 to 100", values, tick, at)
			}
		}
	}
}

func TestRewriteReadme(t *testing.T) {
	name := filepath.Join(t.TempDir(), "README.md")
	for _, text := range []string{"", readmeBegin, readmeEnd + "\n" + readmeBegin} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := rewriteReadme(name, "table\n"); err == nil {
			t.Errorf("%q: got no error, want one", text)
		}
		if after, _ := os.ReadFile(name); !bytes.Equal(after, []byte(text)) {
			t.Errorf("%q: got %q, want it unchanged", text, after)
		}
	}
}
