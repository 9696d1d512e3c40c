package model

import "testing"

// TestGroup_Linger checks which outcomes begin to linger, and which events end that.
func TestGroup_Linger(t *testing.T) {
	for _, test := range []struct {
		name  string
		do    func(g *Group)
		lasts bool
	}{
		{"nothing", func(*Group) {}, true},
		{"an error", func(g *Group) { g.Finish(begin(g, DoFresh).Flight, Error) }, false},
		{"a forgotten flight", func(g *Group) {
			g.Forget(0)
			f := begin(g, Do).Flight
			g.Finish(begin(g, DoFresh, 1).Flight, Return)
			g.Forget(0)
			g.Finish(f, Return)
		}, false},
		{"an abandoned flight", func(g *Group) {
			c := begin(g, DoFresh)
			g.Cancel(c)
			g.Finish(c.Flight, Return)
		}, false},
		{"a queue", func(g *Group) {
			f := begin(g, DoFresh).Flight
			begin(g, DoFresh)
			g.Finish(f, Return)
		}, false},
		{"one more than LingerMax", func(g *Group) {
			for key := 1; key <= g.LingerMax; key++ {
				g.Finish(begin(g, Do, key).Flight, Return)
			}
		}, false},
		{"one that lingered again", func(g *Group) {
			g.Finish(begin(g, Do, 1).Flight, Return)
			g.Finish(begin(g, DoFresh).Flight, Return)
			g.Finish(begin(g, Do, 2).Flight, Return)
		}, true},
		{"an absent key", func(g *Group) {
			g.Forget(0)
			c := newCall(DoMulti, 0)
			c.Absent = true
			g.Begin(c)
			g.Finish(c.Flight, Return)
		}, false},
		{"Shutdown", func(g *Group) { g.Shutdown() }, false},
	} {
		g := Group{Linger: Forever, LingerMax: 2}
		g.Finish(begin(&g, Do).Flight, Return)
		test.do(&g)
		if lasts := g.lingers(0) != nil; lasts != test.lasts {
			t.Errorf("after %s: got lingering %t, want %t", test.name, lasts, test.lasts)
		}
	}
}

// end makes a call of the key and ends its fn. Its outcome is to linger for the time
// life.
func end(g *Group, form Form, key int, how Exit, life int) *Call {
	c := begin(g, form, key)
	c.Life = life
	g.Finish(c.Flight, how)
	return c
}

// TestGroup_LingerFor checks which outcomes have a life of their own, and how long it is.
func TestGroup_LingerFor(t *testing.T) {
	for _, test := range []struct {
		name   string
		key    int
		how    Exit
		life   int
		absent bool
		fails  bool
		want   int // ticks for which it answers
	}{
		{name: "a value", how: Return, life: 3, want: 3},
		{name: "a value without a life", how: Return, want: 0},
		{name: "an error", how: Error, life: 2, want: 2},
		{name: "a key's own error", how: Return, fails: true, life: 2, want: 2},
		{name: "an absence", how: Return, absent: true, life: 1, want: 1},
		{name: "a panic", how: Panic, life: 3, want: 0},
		{name: "an exit", how: Goexit, life: 3, want: 0},
		{name: "NaN", key: NaN, how: Return, life: 3, want: 0},
	} {
		g := Group{Linger: 9, LingerFor: true, Slack: 2}
		c := newCall(DoMulti, test.key)
		c.Absent, c.Fails, c.Life = test.absent, test.fails, test.life
		g.Begin(c)
		g.Finish(c.Flight, test.how)
		got := 0
		for g.lingers(test.key) != nil {
			got++
			g.Tick()
		}
		if got != test.want {
			t.Errorf("%s: got %d ticks of lingering, want %d", test.name, got, test.want)
		}
		for i, want := range []int{min(1, got), min(1, got), 0} { // it is freed after two ticks
			if n, more := g.Lingering(); n != 0 || more != want {
				t.Errorf("%d ticks after the life of %s: got %d lingering and %d kept, want 0 and %d", i, test.name, n, more, want)
			}
			g.Tick()
		}
	}
}

// TestGroup_LingerMax checks which outcome is evicted when there is one too many: the one
// with the least time left, and of several the one that has lingered longest.
func TestGroup_LingerMax(t *testing.T) {
	for _, test := range []struct {
		name  string
		lives []int // of keys 0, 1, …, one tick after the other
		gone  int
	}{
		{"equal lives", []int{9, 9, 9}, 0},
		{"the first lives longest", []int{9, 3, 9}, 1},
		{"the third has less time left", []int{9, 9, 1}, 0},
		{"equal ends", []int{9, 8, 9}, 0},
		{"the first does not end", []int{Forever, 9, 9}, 1},
		{"none ends", []int{Forever, Forever, Forever}, 0},
	} {
		g := Group{LingerFor: true, LingerMax: 2}
		for key, life := range test.lives {
			end(&g, Do, key, Return, life)
			if key < len(test.lives)-1 {
				g.Tick()
			}
		}
		for key := range test.lives {
			if lingers := g.lingers(key) != nil; lingers == (key == test.gone) {
				t.Errorf("%s: key %d: got lingering %t, want only key %d gone", test.name, key, lingers, test.gone)
			}
		}
		if g.Stats.Evicted != 1 {
			t.Errorf("%s: got %d evicted, want 1", test.name, g.Stats.Evicted)
		}
	}
}
