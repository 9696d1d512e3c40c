package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/seed342dcb2d/coalesce/fleet"
)

// Two processes ask for the same at the same moment. Here both are Groups in one, and the
// engine is memory.
func Example() {
	engine := new(fleet.Memory)
	a := fleet.Group[string, string]{Engine: engine, Name: "pages", Process: "a"}
	b := fleet.Group[string, string]{Engine: engine, Name: "pages", Process: "b"}
	render := func(context.Context) (string, error) {
		fmt.Println("rendering")
		time.Sleep(50 * time.Millisecond)
		return "<html>", nil
	}

	done := make(chan bool)
	for _, g := range []*fleet.Group[string, string]{&a, &b} {
		go func() {
			page, _, err := g.DoContext(context.Background(), "/index", render)
			done <- page == "<html>" && err == nil
		}()
	}
	fmt.Println(<-done, <-done)
	// Output:
	// rendering
	// true true
}

func ExampleGroup_DoContext() {
	users := fleet.Group[int, string]{Engine: new(fleet.Memory), Name: "users"}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	name, shared, err := users.DoContext(ctx, 7, func(context.Context) (string, error) {
		return "Ada", nil // from a database
	})
	fmt.Println(name, shared, err)
	// Output: Ada false <nil>
}

// A process has written what fn reads, and needs a result that has seen it.
func ExampleGroup_DoFresh() {
	name := "Ada"
	users := fleet.Group[int, string]{Engine: new(fleet.Memory), Name: "users", Linger: time.Minute}
	load := func(context.Context) (string, error) { return name, nil }
	users.DoContext(context.Background(), 7, load)

	name = "Grace"
	lingering, _, _ := users.DoContext(context.Background(), 7, load)
	fresh, _, _ := users.DoFresh(context.Background(), 7, load)
	fmt.Println(lingering, fresh)
	// Output: Ada Grace
}

func ExampleGroup_DoInfo() {
	g := fleet.Group[string, string]{Engine: new(fleet.Memory), Name: "pages", Process: "web-1"}
	_, info, _ := g.DoInfo(context.Background(), "/index", func(context.Context) (string, error) { return "<html>", nil })
	fmt.Println(info.Role, info.Process, info.Takeovers)
	// Output: led web-1 0
}

// What lingers is forgotten when it is wrong, in all processes.
func ExampleGroup_Forget() {
	engine := new(fleet.Memory)
	a := fleet.Group[string, string]{Engine: engine, Name: "pages", Linger: time.Minute}
	b := fleet.Group[string, string]{Engine: engine, Name: "pages", Linger: time.Minute}
	ctx := context.Background()
	a.DoContext(ctx, "/index", func(context.Context) (string, error) { return "old", nil })

	fmt.Println(b.Forget(ctx, "/index"))
	page, _, _ := a.DoContext(ctx, "/index", func(context.Context) (string, error) { return "new", nil })
	fmt.Println(page)
	// Output:
	// true <nil>
	// new
}

// A process that ends gives up its leases, so that others need not wait for them.
func ExampleGroup_Shutdown() {
	g := fleet.Group[string, string]{Engine: new(fleet.Memory), Name: "pages"}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	fmt.Println(g.Shutdown(ctx))
	_, _, err := g.DoContext(ctx, "/index", func(context.Context) (string, error) { return "", nil })
	fmt.Println(err == fleet.ErrClosed)
	// Output:
	// <nil>
	// true
}

// A process checks its engine when it starts.
func ExampleGroup_Check() {
	g := fleet.Group[string, string]{Engine: new(fleet.Memory), Name: "pages"}
	fmt.Println(g.Check(context.Background()))
	// Output: <nil>
}

func ExampleGroup_Flights() {
	g := fleet.Group[string, string]{Engine: new(fleet.Memory), Name: "pages", Process: "web-1"}
	g.DoContext(context.Background(), "/index", func(context.Context) (string, error) {
		for f := range g.Flights() {
			fmt.Println(f.Key, f.State, f.Process)
		}
		return "<html>", nil
	})
	// Output: /index leading web-1
}

func ExampleGroup_Stats() {
	g := fleet.Group[string, string]{Engine: new(fleet.Memory), Name: "pages"}
	for range 3 {
		g.DoContext(context.Background(), "/index", func(context.Context) (string, error) { return "<html>", nil })
	}
	s := g.Stats()
	fmt.Println(s.Runs, s.Led, s.Local)
	// Output: 3 3 0
}

// An operator finds out which process leads a key.
func ExampleGroup_Peek() {
	engine := new(fleet.Memory)
	web := fleet.Group[string, string]{Engine: engine, Name: "pages", Process: "web-1"}
	operator := fleet.Group[string, string]{Engine: engine, Name: "pages"}
	_, err := operator.Peek(context.Background(), "/index")
	fmt.Println(err == fleet.ErrAbsent)
	web.DoContext(context.Background(), "/index", func(ctx context.Context) (string, error) {
		holder, _ := operator.Peek(ctx, "/index")
		fmt.Println(holder.Leads, holder.Process)
		return "<html>", nil
	})
	// Output:
	// true
	// true web-1
}

func ExampleGroup_RecordName() {
	g := fleet.Group[string, string]{Engine: new(fleet.Memory), Name: "pages", Version: "2"}
	fmt.Println(g.RecordName("/index"))
	// Output: pages/2/6idt9kid7hbqh1e5qsdp3ljbhj7n6227
}

// A resource that refuses lower tokens is safe from a leader that was replaced, and does
// not know it yet.
func ExampleToken() {
	written := uint64(0)
	write := func(token uint64) error {
		if token < written {
			return errors.New("refused")
		}
		written = token
		return nil
	}
	g := fleet.Group[string, string]{Engine: new(fleet.Memory), Name: "reports"}
	_, _, err := g.DoContext(context.Background(), "today", func(ctx context.Context) (string, error) {
		token, ok := fleet.Token(ctx)
		if !ok {
			return "", errors.New("not without a lease")
		}
		return "written", write(token)
	})
	fmt.Println(err)
	// Output: <nil>
}

// A goroutine that fn starts, and that outlives it, is no part of the execution.
func ExampleDetach() {
	g := fleet.Group[string, string]{Engine: new(fleet.Memory), Name: "pages"}
	done := make(chan error)
	g.DoContext(context.Background(), "/index", func(ctx context.Context) (string, error) {
		ctx = fleet.Detach(ctx)
		go func() {
			_, _, err := g.DoContext(ctx, "/index", func(context.Context) (string, error) { return "again", nil })
			done <- err
		}()
		return "<html>", nil
	})
	fmt.Println(<-done)
	// Output: <nil>
}

// The sentinels that callers compare with are the same in each process.
func ExampleSentinels() {
	engine := new(fleet.Memory)
	codec := fleet.Sentinels(map[string]error{"not-exist": fs.ErrNotExist})
	a := fleet.Group[string, string]{Engine: engine, Name: "files", Process: "a", Errors: codec}
	b := fleet.Group[string, string]{Engine: engine, Name: "files", Process: "b", Errors: codec}
	began := make(chan bool)
	go a.DoContext(context.Background(), "x", func(context.Context) (string, error) {
		close(began)
		time.Sleep(50 * time.Millisecond)
		return "", &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}
	})
	<-began
	_, _, err := b.DoContext(context.Background(), "x", nothing)
	fmt.Println(err)
	fmt.Println(errors.Is(err, fs.ErrNotExist), strings.Contains(err.Error(), "in a"))
	// Output:
	// open x: file does not exist (in a)
	// true true
}

func nothing(context.Context) (string, error) { return "", nil }

// Codecs of other formats are a few lines.
type upper struct{}

func (upper) Encode(v string) ([]byte, error)    { return []byte(strings.ToUpper(v)), nil }
func (upper) Decode(data []byte) (string, error) { return strings.ToLower(string(data)), nil }

func ExampleCodec() {
	g := fleet.Group[string, string]{Engine: new(fleet.Memory), Name: "pages", Codec: upper{}}
	v, _, _ := g.DoContext(context.Background(), "k", func(context.Context) (string, error) { return "v", nil })
	fmt.Println(v)
	// Output: v
}
