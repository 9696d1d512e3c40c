// Package costs tests the costs of calls, flights and groups: allocations, bytes, stacks,
// the time that others wait, and the memory that is kept when all calls are over.
package costs
