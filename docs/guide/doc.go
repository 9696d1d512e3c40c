// Package guide holds the code of the guide in README.md: recipes of a few lines that use
// package coalesce, each with a test that shows that it works.
package guide
