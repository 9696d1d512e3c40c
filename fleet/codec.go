package fleet

import (
	"encoding"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"reflect"
)

// This file holds how keys and values become bytes.

// A Codec turns values into bytes and back. The leader of a flight and those calls of its
// process that it answers get the value that fn returned; the calls of other processes
// get one that Decode has made. So a Codec that loses something shows there alone:
// fleettest.Codec looks for that.
//
// The methods may be called concurrently. Encode must not keep v, nor Decode data, and
// the value must not share memory with data.
type Codec[V any] interface {
	Encode(v V) ([]byte, error)
	Decode(data []byte) (V, error)
}

// defaultCodec is that of a Group without a Codec: the bytes themselves of strings and
// []byte, and JSON for all else.
type defaultCodec[V any] struct{}

func (defaultCodec[V]) Encode(v V) ([]byte, error) {
	switch p := any(&v).(type) { // not any(v): V may be an interface
	case *[]byte:
		return append([]byte(nil), *p...), nil
	case *string:
		return []byte(*p), nil
	}
	return json.Marshal(v)
}

func (defaultCodec[V]) Decode(data []byte) (v V, err error) {
	switch p := any(&v).(type) {
	case *[]byte:
		*p = append([]byte{}, data...)
	case *string:
		*p = string(data)
	default:
		err = json.Unmarshal(data, &v)
	}
	return v, err
}

// defaultKey returns the Key of a Group that has none. Different keys have different
// bytes. It panics if there is none for K.
func defaultKey[K comparable]() func([]byte, K) []byte {
	t := reflect.TypeFor[K]()
	switch {
	case t.Implements(reflect.TypeFor[encoding.BinaryAppender]()):
		return func(dst []byte, k K) []byte {
			b, err := any(k).(encoding.BinaryAppender).AppendBinary(dst)
			if err != nil {
				panic(fmt.Sprintf("fleet: AppendBinary of a key: %v", err))
			}
			return b
		}
	case t.Kind() == reflect.String:
		return func(dst []byte, k K) []byte { return append(dst, reflect.ValueOf(k).String()...) }
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		return func(dst []byte, k K) []byte {
			return binary.BigEndian.AppendUint64(dst, uint64(reflect.ValueOf(k).Int()))
		}
	case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uintptr:
		return func(dst []byte, k K) []byte { return binary.BigEndian.AppendUint64(dst, reflect.ValueOf(k).Uint()) }
	case t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Uint8:
		return func(dst []byte, k K) []byte {
			v := reflect.ValueOf(k)
			for i := range v.Len() {
				dst = append(dst, byte(v.Index(i).Uint()))
			}
			return dst
		}
	}
	panic(fmt.Sprintf("fleet: Group.Key is nil, and %s is no string, integer, byte array or encoding.BinaryAppender", t))
}
