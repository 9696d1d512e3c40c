package sched

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// A Counter counts events outside of locks. It is spread over cache lines, so that
// goroutines rarely write the same one. The zero Counter is 0; it allocates its memory,
// 64 bytes for each P, when it is first increased.
//
// No operation is a point for an explorer: the order of additions makes no difference.
type Counter struct{ stripes atomic.Pointer[[]stripe] }

// A stripe is a part of a counter, with a cache line of its own.
type stripe struct {
	n atomic.Uint64
	_ [56]byte
}

// Inc adds 1.
//
// The stack of a goroutine has an address of its own, so two goroutines rarely choose the
// same stripe. Which one it is does not matter for the sum.
func (c *Counter) Inc() {
	stripes := c.stripes.Load()
	if stripes == nil {
		stripes = c.spread()
	}
	var here byte
	h := uint64(uintptr(unsafe.Pointer(&here))>>11) * 0x9e3779b97f4a7c15 >> 40
	(*stripes)[h&uint64(len(*stripes)-1)].n.Add(1)
}

// spread makes the stripes: a power of two, at least one for each P.
func (c *Counter) spread() *[]stripe {
	n := 1
	for n < runtime.GOMAXPROCS(0) {
		n <<= 1
	}
	stripes := make([]stripe, n)
	if !c.stripes.CompareAndSwap(nil, &stripes) {
		return c.stripes.Load() // another goroutine was first
	}
	return &stripes
}

// Value returns the sum of all additions that have returned, and of some that run now.
func (c *Counter) Value() (sum uint64) {
	if stripes := c.stripes.Load(); stripes != nil {
		for i := range *stripes {
			sum += (*stripes)[i].n.Load()
		}
	}
	return sum
}
