package storm

import (
	"fmt"

	"github.com/seed342dcb2d/coalesce"
	"github.com/seed342dcb2d/coalesce/internal/verify/history"
)

// This file holds the acts of clients between their calls: they look at the group, and
// forget.

// look reads everything that can be read of the group, and notes values that make no
// sense. The state that it sees is past already, but it sees a shard, and so a key, as a whole.
func (c *Client) look() {
	note := func(format string, args ...any) {
		c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
	}
	ran, seen := map[int]int{}, map[uint64]bool{}
	for f := range c.G.Flights() {
		if !f.Forgotten && f.State != coalesce.StateQueued {
			ran[f.Key]++
		}
		if f.ID == 0 || seen[f.ID] {
			note("%+v has the ID of another", f)
		}
		seen[f.ID] = true
	}
	for id := range c.seen {
		if !seen[id] && c.G.ForgetFlight(id) {
			note("flight %d was forgotten when it was over", id)
		}
	}
	c.seen = seen
	for key, n := range ran {
		if n > 1 {
			note("%d flights of key %d", n, key)
		}
	}
	if n := c.G.Len(); n < 0 || n > c.Keys {
		note("%d of %d keys in flight", n, c.Keys)
	}
	if st := c.G.Stats(); st.Calls != st.Led+st.Joined+st.Lingered+st.Rejected+st.EndedOnEntry {
		note("%+v", st)
	}
}

// forgetOne forgets key, in one of the four forms.
func (c *Client) forgetOne(key int) {
	switch c.rng.IntN(6) {
	case 0, 1:
		c.forget(history.Forget{Key: key, Unshared: true}, func() bool { return c.G.ForgetUnshared(key) })
	case 2:
		c.forgetSome(key)
	case 3:
		c.forgetFlights(key)
	default:
		c.forget(history.Forget{Key: key}, func() bool { return c.G.Forget(key) })
	}
}

// forget forgets in the given way, and records that in f.
func (c *Client) forget(f history.Forget, forget func() bool) (done bool) {
	f.Inv = history.Now()
	f.Done = forget()
	f.Ret = history.Now()
	c.Forgets = append(c.Forgets, f)
	return f.Done
}

// forgetSome makes a ForgetFunc for a few keys, key among them.
func (c *Client) forgetSome(key int) {
	last := min(key+c.rng.IntN(4), c.Keys-1)
	f := history.Forget{Func: true, Inv: history.Now()}
	f.Count = c.G.ForgetFunc(func(k int) bool { return key <= k && k <= last })
	f.Ret, f.Done = history.Now(), f.Count > 0
	if most := last - key + 1; f.Count > most {
		c.Notes = append(c.Notes, fmt.Sprintf("ForgetFunc has forgotten %d of %d keys", f.Count, most))
	}
	for f.Key = key; f.Key <= last; f.Key++ {
		c.Forgets = append(c.Forgets, f)
		f.Count = 0
	}
}

// forgetFlights makes a ForgetFlight for each flight of key.
func (c *Client) forgetFlights(key int) {
	for f := range c.G.Flights() {
		if f.Key != key {
			continue
		}
		if c.forget(history.Forget{Key: key, Flight: f.ID}, func() bool { return c.G.ForgetFlight(f.ID) }) && f.Forgotten {
			c.Notes = append(c.Notes, fmt.Sprintf("%+v was forgotten again", f))
		}
	}
}
