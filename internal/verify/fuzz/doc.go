// Package fuzz runs programs of all operations on a Group and on a sequential model of
// the contract, and compares the two. The targets are in fuzz_test.go at the root.
package fuzz
