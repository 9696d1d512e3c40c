package singleflight_test

import (
	"context"
	"fmt"
	"time"

	"github.com/seed342dcb2d/coalesce/singleflight"
)

func ExampleGroup_Do() {
	var g singleflight.Group
	v, err, shared := g.Do("https://example.com/", func() (any, error) {
		return "the page", nil // from a slow server
	})
	fmt.Println(v, err, shared)
	// Output: the page <nil> false
}

func ExampleGroup_DoChan() {
	var g singleflight.Group
	ch := g.DoChan("https://example.com/", func() (any, error) {
		return "the page", nil
	})
	r := <-ch
	fmt.Println(r.Val, r.Err, r.Shared)
	// Output: the page <nil> false
}

func ExampleGroup_Forget() {
	var g singleflight.Group
	started, release := make(chan bool), make(chan bool)
	before := g.DoChan("config", func() (any, error) {
		close(started)
		<-release
		return "before the change", nil
	})
	<-started
	g.Forget("config")
	v, _, _ := g.Do("config", func() (any, error) { return "after the change", nil })
	close(release)
	fmt.Println((<-before).Val)
	fmt.Println(v)
	// Output:
	// before the change
	// after the change
}

func ExampleGroup_ForgetUnshared() {
	var g singleflight.Group
	started, release := make(chan bool), make(chan bool)
	ch := g.DoChan("db.example.com", func() (any, error) {
		close(started)
		<-release
		return "192.0.2.1", nil
	})
	<-started
	fmt.Println(g.ForgetUnshared("db.example.com")) // nothing else waits for it
	close(release)
	fmt.Println((<-ch).Val)
	// Output:
	// true
	// 192.0.2.1
}

// One call after the other gets a context. Calls with and without one wait for each other.
func ExampleGroup_Coalesce() {
	var g singleflight.Group
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, _, err := g.Coalesce().DoContext(ctx, "https://example.com/", func(ctx context.Context) (any, error) {
		<-ctx.Done() // a request that is given up when no caller waits for it any more
		return nil, context.Cause(ctx)
	})
	fmt.Println(err)
	// Output: context deadline exceeded
}
