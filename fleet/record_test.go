package fleet

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
	"time"
)

// This file tests the bytes of records, failures, keys and values.

var someRecords = []record{
	{kind: lease, attempt: 3, token: 1 << 60, nonce: nonce{1, 2, 3}, lease: 3 * time.Second, process: "host-1"},
	{kind: result, token: 7, nonce: nonce{15: 9}, ran: 1500 * time.Microsecond, process: "", payload: []byte("value")},
	{kind: failed, failure: failedTakeovers, attempt: 255, token: 7, payload: []byte{0}},
	{kind: released, token: 7, process: "a"},
}

// TestRecord: a record is decoded to what was encoded.
func TestRecord(t *testing.T) {
	for _, secrets := range [][][]byte{nil, {secretA}} {
		b := (&vault{secrets: secrets}).box("name")
		for _, want := range someRecords {
			data := b.encode(&want)
			if over := len(data) - len(want.payload); over > maxOverhead {
				t.Errorf("%d bytes are added to the payload, more than %d", over, maxOverhead)
			}
			got, err := b.decode(data, 99)
			if len(got.payload) == 0 {
				got.payload = want.payload
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		}
	}
}

// TestRecord_Token: the token of an acquiring record is its revision.
func TestRecord_Token(t *testing.T) {
	got, err := box{}.decode(box{}.encode(&record{kind: lease, lease: time.Second}), 99)
	if err != nil || got.token != 99 {
		t.Errorf("got token %d, %v, want 99", got.token, err)
	}
}

// TestRecord_Overhead: the largest header and seal fit in what is added to MaxResult.
func TestRecord_Overhead(t *testing.T) {
	b := (&vault{secrets: [][]byte{secretA}}).box("name")
	rec := record{kind: result, process: string(make([]byte, maxProcess)), payload: make([]byte, 1000)}
	if over := len(b.encode(&rec)) - 1000; over > maxOverhead {
		t.Errorf("got %d bytes more, want at most %d", over, maxOverhead)
	}
	for _, most := range []int{0, 1, 2, 10, 300, 5000} {
		if n := len(encodeFailure(string(make([]byte, 1000)), string(make([]byte, 10000)), most)); n > max(most, 1) {
			t.Errorf("got %d bytes of a failure, want at most %d", n, most)
		}
	}
}

// TestRecord_Refused: what no process writes is refused.
func TestRecord_Refused(t *testing.T) {
	valid := box{}.encode(&record{kind: lease, lease: time.Second, process: "abc"})
	change := func(at int, with ...byte) []byte {
		b := bytes.Clone(valid)
		copy(b[at:], with)
		return b
	}
	for name, data := range map[string][]byte{
		"empty":               {},
		"short":               valid[:headerSize-1],
		"short name":          valid[:headerSize+2],
		"later format":        change(0, 2),
		"kind 0":              change(1, 0),
		"kind 5":              change(1, 5),
		"failure of a lease":  change(2, 1),
		"failed, no failure":  change(1, 3),
		"failure 6":           change(1, 3, 6),
		"no lease":            change(28, 0, 0, 0, 0),
		"lease of many weeks": change(28, 255, 255, 255, 255),
		"ran for ever":        change(32, 255),
		"long name":           change(40, 65),
	} {
		if got, err := (box{}).decode(data, 1); err == nil {
			t.Errorf("%s: got %+v, want an error", name, got)
		}
	}
	if _, err := (box{}).decode(valid, 1); err != nil {
		t.Error(err)
	}
}

// FuzzRecord: no bytes make decode panic, or allocate more than there are; what it accepts
// is encoded to the same bytes.
func FuzzRecord(f *testing.F) {
	sealed := (&vault{secrets: [][]byte{secretA}}).box("name")
	for _, r := range someRecords {
		f.Add(box{}.encode(&r))
		f.Add(sealed.encode(&r))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := (box{}).decode(data, 0); err == nil {
			if got := (box{}).encode(&r); !bytes.Equal(got, data) {
				t.Errorf("got %q from %q", got, data)
			}
			if cap(r.payload) > cap(data) || len(r.process) > maxProcess {
				t.Errorf("got a payload of %d bytes and a name of %d from %d", cap(r.payload), len(r.process), len(data))
			}
		}
		if r, err := sealed.decode(data, 0); err == nil && len(r.payload) > len(data) {
			t.Errorf("got a payload of %d bytes from %d", len(r.payload), len(data))
		}
	})
}

// FuzzFailure: nor do those of a failure.
func FuzzFailure(f *testing.F) {
	f.Add(encodeFailure("name", "message", 100))
	f.Add(binary.AppendUvarint(nil, 1<<63))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		name, message, ok := decodeFailure(data)
		if !ok {
			return
		}
		if len(name)+len(message) >= len(data) {
			t.Errorf("got %q and %q from %q", name, message, data)
		}
		if len(name) > 255 {
			return
		}
		n, m, ok := decodeFailure(encodeFailure(name, message, len(data)+10))
		if !ok || n != name || m != message {
			t.Errorf("got %q, %q, %t, want %q, %q", n, m, ok, name, message)
		}
	})
}

type (
	text   string
	num    int16
	bytes4 [4]byte
	custom struct{ A, B string }
)

func (c custom) AppendBinary(b []byte) ([]byte, error) {
	return append(append(append(b, byte(len(c.A))), c.A...), c.B...), nil
}

// distinct fails the test unless the keys have different bytes.
func distinct[K comparable](t *testing.T, keys ...K) {
	t.Helper()
	g := Group[K, string]{Engine: new(Memory), Name: "n"}
	names := map[string]K{}
	for _, k := range keys {
		name := g.RecordName(k)
		if other, ok := names[name]; ok {
			t.Errorf("%v and %v have one name", k, other)
		}
		names[name] = k
		if name != g.RecordName(k) {
			t.Errorf("%v has two names", k)
		}
	}
}

// TestKey_Default: different keys have different records.
func TestKey_Default(t *testing.T) {
	distinct(t, "", "a", "b", "a\x00", "ab")
	distinct[text](t, "", "a")
	distinct(t, 0, 1, -1, 256, -1<<63)
	distinct[num](t, 0, 1, -1, 256)
	distinct[uint64](t, 0, 1, 1<<63, 1<<64-1)
	distinct[uintptr](t, 0, 1)
	distinct(t, bytes4{}, bytes4{1}, bytes4{0, 1})
	distinct(t, custom{"a", "b"}, custom{"", "ab"}, custom{"ab", ""})
	distinct(t, time.Unix(0, 0).UTC(), time.Unix(1, 0).UTC())
}

// TestKey_NoDefault: other types panic at first use.
func TestKey_NoDefault(t *testing.T) {
	for name, f := range map[string]func(){
		"float":     func() { new(Group[float64, string]).use() },
		"struct":    func() { (&Group[struct{ A, B string }, string]{Engine: new(Memory), Name: "n"}).use() },
		"interface": func() { (&Group[any, string]{Engine: new(Memory), Name: "n"}).use() },
		"bool":      func() { (&Group[bool, string]{Engine: new(Memory), Name: "n"}).use() },
		"pointer":   func() { (&Group[*int, string]{Engine: new(Memory), Name: "n"}).use() },
		"array":     func() { (&Group[[2]uint16, string]{Engine: new(Memory), Name: "n"}).use() },
	} {
		if panics(f) == nil {
			t.Errorf("%s: no panic", name)
		}
	}
}

// crosses fails the test unless a value is the same after it has crossed.
func crosses[V any](t *testing.T, want V) {
	t.Helper()
	var c defaultCodec[V]
	data, err := c.Encode(want)
	if err != nil {
		t.Errorf("%v: %v", want, err)
		return
	}
	got, err := c.Decode(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v, want %#v", got, err, want)
	}
}

// TestCodec_Default: values cross as they are.
func TestCodec_Default(t *testing.T) {
	crosses(t, "text\x00\xff")
	crosses(t, []byte("bytes\x00\xff"))
	crosses(t, text("text"))
	crosses(t, 42)
	crosses(t, custom{"a", "b"})
	crosses(t, map[string][]int{"a": {1}})
	crosses[any](t, "123") // JSON, as the type is not that of the value
	crosses[any](t, "text")
	crosses[*custom](t, nil)
}

// TestCodec_DefaultKeepsNothing: the bytes that are stored are not the caller's.
func TestCodec_DefaultKeepsNothing(t *testing.T) {
	var c defaultCodec[[]byte]
	v := []byte("value")
	data, _ := c.Encode(v)
	got, _ := c.Decode(data)
	v[0], data[1] = 'x', 'x'
	if string(got) != "value" || string(data) != "vxlue" {
		t.Errorf("got %q and %q, want memory of their own", got, data)
	}
}
