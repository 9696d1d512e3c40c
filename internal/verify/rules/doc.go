// Package rules tests the rules of the contract, and each feature crossed with the others.
package rules
