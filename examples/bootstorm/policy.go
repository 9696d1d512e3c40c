package main

// This file holds the ways in which a loader can treat a file that another one is loading
// already. The port of the kernel's own answer is in seed.go.

import (
	"errors"

	"github.com/seed342dcb2d/coalesce"
)

// errBusy is the answer of a policy that sends a caller away (ETXTBSY).
var errBusy = errors.New("text file busy: another caller is loading it")

// A policy decides, for a load of the file with the given identity, whether fn,
// which reads the file and makes its module live, is called.
type policy interface {
	load(id fileID, fn func() (image, error)) (image, error)
}

// A watchable policy lets callers wait for a load in flight, and reports how many do, not
// counting the one that loads.
type watchable interface {
	policy
	followers(id fileID) int
}

// policyNames are the policies in the order in which history had them.
var policyNames = []string{"none", "etxtbsy", "seed", "coalesce"}

// newPolicy returns a fresh policy of that name.
func newPolicy(name string) policy {
	switch name {
	case "none":
		return readAll{}
	case "etxtbsy":
		return new(refuseSecond)
	case "seed":
		return new(seedTable)
	case "coalesce":
		return new(coalesced)
	}
	panic("bootstorm: no policy " + name)
}

// readAll is the policy none: every caller reads, and gets EEXIST afterwards.
type readAll struct{}

func (readAll) load(_ fileID, fn func() (image, error)) (image, error) { return fn() }

// refuseSecond is the policy etxtbsy, the first attempt of the kernel (May
// 2023): a file in flight is busy. It was reverted after days, for a caller
// takes the answer for a failure, while the module is about to be there.
type refuseSecond struct {
	group coalesce.Group[fileID, image]
}

func (p *refuseSecond) load(id fileID, fn func() (image, error)) (image, error) {
	img, err := p.group.TryDo(id, fn)
	if errors.Is(err, coalesce.ErrInFlight) {
		return image{}, errBusy
	}
	return img, err
}

// coalesced is the policy coalesce: callers of a file in flight share its load.
type coalesced struct {
	group coalesce.Group[fileID, image]
}

func (p *coalesced) load(id fileID, fn func() (image, error)) (image, error) {
	img, _, err := p.group.Do(id, fn)
	return img, err
}

func (p *coalesced) followers(id fileID) int {
	for flight := range p.group.Flights() {
		if flight.Key == id {
			return flight.Waiters
		}
	}
	return 0
}
