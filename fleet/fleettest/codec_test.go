package fleettest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
	"github.com/seed342dcb2d/coalesce/fleet/fleettest"
)

// A recorder is a testing.TB that notes what fails.
type recorder struct {
	testing.TB
	failed []string
}

func (r *recorder) Helper() {}

func (r *recorder) Error(args ...any) { r.failed = append(r.failed, fmt.Sprint(args...)) }

func (r *recorder) Errorf(format string, args ...any) {
	r.failed = append(r.failed, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...) }

// raw is a codec of functions.
type raw struct {
	encode func([]byte) ([]byte, error)
	decode func([]byte) ([]byte, error)
}

func (c raw) Encode(v []byte) ([]byte, error)    { return c.encode(v) }
func (c raw) Decode(data []byte) ([]byte, error) { return c.decode(data) }

func clone(v []byte) ([]byte, error) { return append([]byte{}, v...), nil }

type hidden struct {
	Name string
	size int
}

// TestCodec: codecs that keep values pass.
func TestCodec(t *testing.T) {
	fleettest.Codec(t, nil, "", "text", "\x00\xff")
	fleettest.Codec(t, nil, []byte{}, []byte("text"))
	fleettest.Codec(t, nil, 1, -1)
	fleettest.Codec(t, nil, time.Now()) // equal by its method
	fleettest.Codec(t, nil, map[string][]int{"a": {1}})
	fleettest.Codec[[]byte](t, raw{clone, clone}, []byte("text"), []byte{})
}

// TestCodec_Broken: it finds codecs that do not.
func TestCodec_Broken(t *testing.T) {
	fails := func(name string, check func(t testing.TB)) {
		t.Helper()
		r := &recorder{TB: t}
		check(r)
		if len(r.failed) == 0 {
			t.Errorf("%s: got no failure", name)
		}
	}
	fails("no values", func(t testing.TB) { fleettest.Codec[int](t, nil) })
	fails("a field that JSON leaves out", func(t testing.TB) { fleettest.Codec(t, nil, hidden{"a", 1}) })
	fails("a value that JSON cannot encode", func(t testing.TB) { fleettest.Codec[any](t, nil, func() {}) })
	fails("a nil slice that becomes an empty one", func(t testing.TB) { fleettest.Codec(t, nil, []byte(nil)) })
	text := []byte("text")
	for name, c := range map[string]raw{
		"shares memory with the data": {clone, func(data []byte) ([]byte, error) { return data, nil }},
		"changes the data": {clone, func(data []byte) ([]byte, error) {
			v, _ := clone(data)
			clear(data)
			return v, nil
		}},
		"panics": {clone, func(data []byte) ([]byte, error) {
			_ = data[3]
			return clone(data)
		}},
		"cannot encode": {func([]byte) ([]byte, error) { return nil, errors.New("no") }, clone},
		"cannot decode": {clone, func([]byte) ([]byte, error) { return nil, errors.New("no") }},
		"loses":         {func(v []byte) ([]byte, error) { return clone(v[1:]) }, clone},
	} {
		fails(name, func(t testing.TB) { fleettest.Codec[[]byte](t, c, text) })
	}
}

// jsonOf is the codec of ExampleCodec.
type jsonOf[V any] struct{}

func (jsonOf[V]) Encode(v V) ([]byte, error) { return json.Marshal(v) }

func (jsonOf[V]) Decode(data []byte) (v V, err error) {
	err = json.Unmarshal(data, &v)
	return v, err
}

// The codec of a Group is checked with values that have all that values may have.
func ExampleCodec() {
	var t *testing.T // of func TestCodec(t *testing.T)
	type thumbnail struct {
		Width, Height int
		PNG           []byte
	}
	fleettest.Codec[thumbnail](t, jsonOf[thumbnail]{}, thumbnail{}, thumbnail{16, 9, []byte{0x89, 'P', 'N', 'G'}})
}

// An engine is checked by a test of its package. open connects to a store that was started
// for the test.
func ExampleEngine() {
	var t *testing.T // of func TestEngine(t *testing.T)
	store := new(fleet.Memory)
	fleettest.Engine(t, func(testing.TB) fleet.Engine { return store }, fleettest.Options{})
}
