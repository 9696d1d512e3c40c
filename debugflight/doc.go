// Package debugflight serves a page that shows the flights of groups: their keys, their ages,
// and how many calls wait for each, with the counters of each group.
//
//	var registry debugflight.Registry
//
//	remove, err := registry.Add("pages", debugflight.Of(&pages, nil))
//	…
//	mux.Handle("/debug/flights", &registry)
//
// The page needs no script and nothing from elsewhere. With format=json it is JSON. The
// parameters of its address, all of which may be left out, are:
//
//	group=NAME   only this group
//	q=TEXT       only keys whose text contains TEXT, of 1,000 bytes at most
//	state=STATE  only flights in this state: running, abandoned or queued, or forgotten ones
//	min=TIME     only flights that are known to be at least so old, as in 1.5s or 2m
//	sort=ORDER   age, oldest first, or waiters, most first; age without it
//	seconds=N    wait N seconds, 300 at most, and show the rates of the counters in that time
//	refresh=N    load the page again every N seconds, 3,600 at most
//	id=ID        only the flight with that ID, and its whole key; needs group, and ignores
//	             q, state and min
//	format=json  as JSON: see [Report]
//
// A key that is stuck is found by sorting by age, which is the default. An age with “≥” is
// a lower bound (see [coalesce.Flight]). With [Registry.AllowForget] each flight has a button
// that forgets it, so that the next call for its key runs fn again.
//
// Importing the package has no effect: the program serves the page. It may show secrets,
// keys above all, and Forget changes the course of the program. So
// mount the registry where the program's own access control applies. Requests from
// pages of other sites cannot forget anything ([http.CrossOriginProtection]). They can make
// the program draw the page, though, and DNS rebinding lets them read it, unless the program
// checks the Host header of requests.
package debugflight
