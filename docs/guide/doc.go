// Package guide holds the code of the guide in README.md: what a program builds
// from package coalesce in a few lines, each with a test that shows that it works.
package guide
