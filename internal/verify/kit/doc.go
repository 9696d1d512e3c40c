// Package kit holds the common parts of the tests of several packages: the forms of call
// behind one signature, functions that run until they are released, and helpers that look
// at flights.
package kit
