package guide

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the recipe for a server that stops.

// TestStop: first the server, whose requests wait for flights, then the group, whose
// held flights no request waits for. Both get the same context.
func TestStop(t *testing.T) {
	var g coalesce.Group[string, string]
	started, finish, filled := make(chan struct{}), make(chan struct{}), make(chan struct{})
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, _, err := g.DoContext(r.Context(), r.URL.Path, func(ctx context.Context) (string, error) {
			coalesce.Hold(ctx) // it fills a cache
			close(started)
			select {
			case <-finish:
				close(filled)
				return "page", nil
			case <-ctx.Done():
				return "", context.Cause(ctx) // ErrClosed, if the time to stop has run out
			}
		})
		if errors.Is(err, coalesce.ErrClosed) {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(page))
	})}
	stop := func(ctx context.Context) error {
		return errors.Join(server.Shutdown(ctx), g.Shutdown(ctx))
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	ctx, hangUp := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-started
		hangUp()
	}()
	if _, err := http.DefaultClient.Do(request); err == nil {
		t.Error("a client that hung up: got no error, want one")
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		close(finish)
	}()
	if err := stop(t.Context()); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	select {
	case <-filled:
	default:
		t.Error("got a held flight that has not finished after Shutdown, want it finished")
	}
	if _, _, err := g.DoContext(t.Context(), "/", nothing); !errors.Is(err, coalesce.ErrClosed) {
		t.Errorf("after the end: got %v, want ErrClosed", err)
	}
}

// TestStop_OutOfTime: if the time to stop has run out, contexts of fns end with ErrClosed
// as their cause, and an fn that returns the cause shows its callers why.
func TestStop_OutOfTime(t *testing.T) {
	var g coalesce.Group[string, string]
	r := g.DoChan(t.Context(), "k", func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", context.Cause(ctx)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := g.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of its context", err)
	}
	if got := <-r; !errors.Is(got.Err, coalesce.ErrClosed) {
		t.Errorf("the caller: got %v, want %v", got.Err, coalesce.ErrClosed)
	}
}

func nothing(context.Context) (string, error) { return "", nil }
