// Package costs tests what calls, flights and groups cost: allocations, bytes, stacks, time that others wait, and
// what is kept when all is over.
package costs
