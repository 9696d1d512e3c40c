package fleetdebug_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/debugflight"
	"github.com/seed342dcb2d/coalesce/fleet"
	"github.com/seed342dcb2d/coalesce/fleet/fleetdebug"
)

// TestOf: the page of a process that follows shows which process leads; to forget the
// flight there forgets it in the engine.
func TestOf(t *testing.T) {
	m := new(fleet.Memory)
	leader := &fleet.Group[string, string]{Engine: m, Name: "g", Process: "leader"}
	follower := &fleet.Group[string, string]{Engine: m, Name: "g", Process: "follower"}
	started, release := make(chan struct{}), make(chan struct{})
	done := make(chan struct{}, 3)
	go func() {
		_, _, _ = leader.DoContext(context.Background(), "the key", func(context.Context) (string, error) {
			close(started)
			<-release
			return "v", nil
		})
		done <- struct{}{}
	}()
	<-started
	for range 2 {
		go func() {
			_, _, _ = follower.DoContext(context.Background(), "the key", func(context.Context) (string, error) { return "w", nil })
			done <- struct{}{}
		}()
	}
	page := debugflight.Registry{AllowForget: true}
	if _, err := page.Add("thumbnails", fleetdebug.Of(follower, nil)); err != nil {
		t.Fatal(err)
	}
	var body string
	for range 200 {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest("GET", "/?format=json", nil))
		if body = w.Body.String(); strings.Contains(body, "led by leader") && strings.Contains(body, `"waiters": 1`) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, want := range []string{"led by leader, token 1", "the key", "following", `"waiters": 1`} {
		if !strings.Contains(body, want) {
			t.Errorf("got %s, want %q in it", body, want)
		}
	}
	id := uint64(0)
	for f := range follower.Flights() {
		id = f.ID
	}
	if !fleetdebug.Of(follower, nil).ForgetFlight(id) || fleetdebug.Of(follower, nil).ForgetFlight(id+1) {
		t.Error("got the wrong results of ForgetFlight, want true for the flight and false for none")
	}
	h, err := leader.Peek(t.Context(), "the key")
	if err != nil || h.Process != "follower" {
		t.Errorf("got %+v, %v from Peek, want the record of the process that has forgotten the key", h, err)
	}
	close(release)
	for range 3 {
		<-done
	}
}
