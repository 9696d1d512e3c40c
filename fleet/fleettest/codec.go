package fleettest

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// Codec checks that a codec keeps the given values, and that it keeps the contract of
// [fleet.Codec]. A nil c is that of a Group without one. The calls of the leader's process
// get what fn has returned, and only those of others what was decoded, so what a codec
// loses does not show in a test with one process. Values are compared by their method
// Equal(V) bool, if they have one, and otherwise by [reflect.DeepEqual].
func Codec[V any](t testing.TB, c fleet.Codec[V], values ...V) {
	t.Helper()
	if len(values) == 0 {
		t.Error("Codec: got no values")
	}
	memory := new(fleet.Memory)
	leader := &fleet.Group[int, V]{Engine: memory, Name: "codec", Codec: c, Linger: time.Hour, MaxResult: 32 << 20}
	follower := &fleet.Group[int, V]{Engine: memory, Name: "codec", Codec: c, Linger: time.Hour, MaxResult: 32 << 20}
	for i, v := range values {
		cross(t, leader, follower, i, v)
		if c != nil {
			direct(t, c, i, v)
		}
	}
	if c == nil {
		return
	}
	var wg sync.WaitGroup
	for range 4 { // for the race detector
		wg.Go(func() {
			for _, v := range values {
				if data, err := c.Encode(v); err == nil {
					_, _ = c.Decode(data)
				}
			}
		})
	}
	wg.Wait()
}

// errDecode is what fn of the follower returns.
var errDecode = errors.New("its process did not get the value of the leader")

// cross lets a value cross to another process.
func cross[V any](t testing.TB, leader, follower *fleet.Group[int, V], i int, v V) {
	t.Helper()
	ctx := context.Background()
	if _, _, err := leader.DoContext(ctx, i, func(context.Context) (V, error) { return v, nil }); err != nil {
		t.Fatalf("value %d: %v", i, err)
	}
	got, info, err := follower.DoInfo(ctx, i, func(context.Context) (V, error) { return v, errDecode })
	switch {
	case err != nil || info.Role != fleet.Followed:
		t.Errorf("value %d, %+v: got %v by another process, which was %v, want the value", i, v, err, info.Role)
	case !equal(got, v):
		t.Errorf("value %d: got %+v in another process, want %+v", i, got, v)
	}
}

// direct uses a codec as a Group does, and then its bytes for something else.
func direct[V any](t testing.TB, c fleet.Codec[V], i int, v V) {
	t.Helper()
	data, err := c.Encode(v)
	if err != nil {
		t.Errorf("value %d, %+v: Encode: %v", i, v, err)
		return
	}
	kept := bytes.Clone(data)
	got, err := c.Decode(data)
	if err != nil {
		t.Errorf("value %d, %+v: Decode: %v", i, v, err)
		return
	}
	if !bytes.Equal(data, kept) {
		t.Errorf("value %d, %+v: Decode has changed its data", i, v)
	}
	for n := range data {
		data[n] ^= 0xff
	}
	if !equal(got, v) {
		t.Errorf("value %d: got %+v after the data was used for something else, want %+v: they share memory", i, got, v)
	}
	// What cannot be decoded is an error, or some other value, but no panic.
	for n := range min(len(kept), 64) {
		for _, bad := range [][]byte{kept[:n], flipped(kept, n)} {
			if p := decodePanic(c, bad); p != nil {
				t.Errorf("value %d, %+v: Decode of %s: got the panic %v, want an error", i, v, short(bad), p)
				return
			}
		}
	}
}

func flipped(data []byte, n int) []byte {
	data = bytes.Clone(data)
	data[n] ^= 0xff
	return data
}

func decodePanic[V any](c fleet.Codec[V], data []byte) (p any) {
	defer func() { p = recover() }()
	_, _ = c.Decode(data)
	return nil
}

func equal[V any](a, b V) bool {
	if e, ok := any(a).(interface{ Equal(V) bool }); ok {
		return e.Equal(b)
	}
	return reflect.DeepEqual(a, b)
}
