package procs

import (
	"encoding/json"
	"os"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// This file holds how a parent configures its children.

// Options are those of a child's group. A field that is zero is one of the group's.
type Options struct {
	Addr         string // of the server, or of a proxy for it
	Version      string
	Lease        time.Duration
	MaxAge       time.Duration
	Grace        time.Duration
	MaxTakeovers int
	MaxResult    int
	OnOutage     fleet.Policy
	Strict       bool
	Secret       string
}

// optionsEnv has the Options, in the environment of a child.
const optionsEnv = "FLEET_CHILD"

// IsChild returns the Options of this process, and whether it is a child.
func IsChild() (o Options, ok bool) {
	text, ok := os.LookupEnv(optionsEnv)
	if !ok {
		return o, false
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	return o, true
}

// Env returns what a child has in its environment for o.
func (o Options) Env() string {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return optionsEnv + "=" + string(text)
}

// Group returns the group of a child.
func (o Options) Group(engine fleet.Engine) *fleet.Group[string, string] {
	g := &fleet.Group[string, string]{
		Engine: engine, Name: "chaos", Version: o.Version, Lease: o.Lease, MaxAge: o.MaxAge, Grace: o.Grace,
		MaxTakeovers: o.MaxTakeovers, MaxResult: o.MaxResult, OnOutage: o.OnOutage, Strict: o.Strict,
	}
	if o.Secret != "" {
		g.Secrets = [][]byte{[]byte(o.Secret)}
	}
	return g
}
