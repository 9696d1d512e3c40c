package guide

import (
	"context"
	"errors"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the code of the project's README.

var pages coalesce.Group[string, *Page] // the zero Group is ready to use

func page(ctx context.Context, url string) (*Page, error) {
	page, _, err := pages.DoContext(ctx, url, func(ctx context.Context) (*Page, error) {
		return fetch(ctx, url) // runs once for all callers that come meanwhile
	})
	return page, err // the second result reports whether the page is shared
}

type (
	Page string
	User string
)

func fetch(_ context.Context, url string) (*Page, error) {
	p := Page("<html>" + url)
	return &p, nil
}

func (u *User) Clone() *User {
	if u == nil {
		return nil
	}
	v := *u
	return &v
}

var users = coalesce.Group[int, *User]{
	LingerFor: func(_ *User, err error) time.Duration { // how long a value or an error answers later calls
		if err != nil {
			return time.Second // a failure holds off others for a second; 0: it answers none
		}
		return time.Minute // for values alone, the field Linger: time.Minute is shorter
	},
	LingerMax:  10_000,          // of these; one more takes the place of that with the least time left
	MaxWaiters: 1_000,           // calls that wait for one execution; one more gets ErrSaturated
	MaxAge:     5 * time.Second, // then another execution may start beside a stuck one
	Clone:      (*User).Clone,   // for callers that change what they get; it gets nil beside an error
}

func load(ctx context.Context, ids []int) map[int]coalesce.Result[*User] { // each with Val, Err, Shared
	return users.DoMulti(ctx, ids, func(ctx context.Context, ids []int) (map[int]*User, error) {
		found, failed := map[int]*User{}, coalesce.KeyErrors[int]{}
		for id, row := range query(ctx, ids) {
			found[id], failed[id] = row.User, row.Err // nil is no error
		}
		return found, failed // a key in neither gets ErrAbsent
	})
}

func stop(ctx context.Context) error { return users.Shutdown(ctx) } // new calls get ErrClosed; waits for what runs

var errBad = errors.New("bad row")

type row struct {
	User *User
	Err  error
}

// query finds every user but 21, whose row is bad, and none above 100.
func query(_ context.Context, ids []int) iter.Seq2[int, row] {
	return func(yield func(int, row) bool) {
		for _, id := range ids {
			u := User("user")
			r := row{User: &u}
			if id == 21 {
				r = row{Err: errBad}
			}
			if id <= 100 && !yield(id, r) {
				return
			}
		}
	}
}

var frontDoor sync.Once // at the end of the test the group is shut down, for good

func TestFrontDoor(t *testing.T) {
	frontDoor.Do(func() { useFrontDoor(t) })
}

func useFrontDoor(t *testing.T) {
	if p, err := page(t.Context(), "/"); err != nil || *p != "<html>/" {
		t.Errorf("got %v, %v, want a page", p, err)
	}
	got := load(t.Context(), []int{1, 21, 101})
	if r := got[1]; r.Err != nil || *r.Val != "user" {
		t.Errorf("1: got %v, want a user", r)
	}
	if r := got[21]; r.Err != errBad {
		t.Errorf("21: got %v, want its own error", r)
	}
	if r := got[101]; r.Err != coalesce.ErrAbsent {
		t.Errorf("101: got %v, want ErrAbsent", r)
	}
	if err := stop(t.Context()); err != nil {
		t.Error(err)
	}
	if r := load(t.Context(), []int{2})[2]; r.Err != coalesce.ErrClosed {
		t.Errorf("after stop: got %v, want ErrClosed", r.Err)
	}
}
