//go:build ignore

// Not of the package.
package main

func main() {}
