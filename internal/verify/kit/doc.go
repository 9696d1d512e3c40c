// Package kit is what the tests of several packages have in common: the forms of call with their differences evened
// out, functions that run until they are released, and looks at what is in flight.
package kit
