package kit

import (
	"runtime"
	"time"
	"weak"
)

// Payload is big enough to have an allocation of its own.
type Payload [64]byte

// Heap returns the bytes that are reachable, after two collections.
func Heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Collected reports whether p can be collected.
func Collected(p weak.Pointer[Payload]) bool {
	for range 20 {
		if runtime.GC(); p.Value() == nil {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}
