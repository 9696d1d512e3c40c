package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce"
)

// This file tests what the calls get when fn, or what runs after it, fails.

// failing returns an fn that fails with err when a second has passed.
func (w *work) failing(err error) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		w.n.Add(1)
		time.Sleep(time.Second)
		return "", err
	}
}

// TestError_OneForAll: an error answers the calls of all processes, which do not run fn
// one by one. Later calls do.
func TestError_OneForAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(4, nil)
		var w work
		own := errors.New("it failed")
		leader := call(t.Context(), g[0], "k", w.failing(own))
		later(0)
		var followers []*outcome
		for _, g := range g[1:] {
			followers = append(followers, call(t.Context(), g, "k", w.failing(own)))
		}
		if leader.get(); leader.err != own || leader.info.Role != Led {
			t.Errorf("got %v, %+v, want the error itself", leader.err, leader.info)
		}
		for _, f := range followers {
			var remote *RemoteError
			if f.get(); !errors.As(f.err, &remote) {
				t.Fatalf("got %v, want a RemoteError", f.err)
			}
			want := RemoteError{Message: "it failed", Kind: "error", Process: "a", Token: leader.info.Token}
			if *remote != want || remote.Error() != "it failed (in a)" || f.info.Role != Followed || errors.Is(f.err, own) {
				t.Errorf("got %+v, %v, %+v, want %+v", *remote, remote, f.info, want)
			}
		}
		w.ran(t, 1)
		call(t.Context(), g[1], "k", w.after(time.Second, "v")).is(t, "v", Led)
		left(t, e[0], g...)
	})
}

// TestError_Sentinels: errors that the ErrorCodec knows are those errors in each process.
func TestError_Sentinels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, func(g *group) {
			g.Errors = Sentinels(map[string]error{"eof": io.EOF, "unexpected": io.ErrUnexpectedEOF})
		})
		var w work
		call(t.Context(), g[0], "k", w.failing(fmt.Errorf("reading x: %w", io.EOF)))
		later(0)
		f := call(t.Context(), g[1], "k", w.failing(nil)).get()
		if !errors.Is(f.err, io.EOF) || errors.Is(f.err, io.ErrUnexpectedEOF) || !strings.Contains(f.err.Error(), "reading x: EOF") {
			t.Errorf("got %v, want one that is EOF", f.err)
		}
		w.ran(t, 1)
	})
}

// secretive is an ErrorCodec that keeps messages at home.
type secretive struct{}

func (secretive) Encode(error) (name, message string) { return "", "" }
func (secretive) Decode(string, string) error         { return nil }

// TestError_Blank: an ErrorCodec may keep the message from the engine.
func TestError_Blank(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.Errors = secretive{} })
		e[0].swap = func(_ context.Context, _ uint64, rec record, do func() (Record, error)) (Record, error) {
			if strings.Contains(string(rec.payload), "password") {
				t.Errorf("the engine gets %q", rec.payload)
			}
			return do()
		}
		var w work
		call(t.Context(), g[0], "k", w.failing(errors.New("password 123")))
		later(0)
		if f := call(t.Context(), g[1], "k", w.failing(nil)).get(); f.err == nil || f.err.Error() != " (in a)" {
			t.Errorf("got %v, want an error without a message", f.err)
		}
	})
}

// TestError_Long: a long message is cut.
func TestError_Long(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, func(g *group) { g.MaxResult = 100 })
		var w work
		call(t.Context(), g[0], "k", w.failing(errors.New(strings.Repeat("m", 1000))))
		later(0)
		if f := call(t.Context(), g[1], "k", w.failing(nil)).get(); f.err == nil || len(f.err.Error()) > 110 {
			t.Errorf("got %v, want 99 bytes of the message", f.err)
		}
	})
}

// TestPanic: the calls of the leader's process panic, with the stack of fn, and others get
// an error and do not run fn. The key is free.
func TestPanic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		leader := call(t.Context(), g[0], "k", func(context.Context) (string, error) {
			time.Sleep(time.Second)
			return explode()
		})
		later(0)
		f := call(t.Context(), g[1], "k", w.after(time.Second, "v")).get()
		var remote *RemoteError
		if !errors.As(f.err, &remote) || remote.Kind != "panic" || remote.Message != "boom" || f.err.Error() != "panic in a: boom" {
			t.Errorf("got %v, want a RemoteError of a panic", f.err)
		}
		p, ok := leader.get().panicked.(*coalesce.PanicError)
		if !ok || p.Value != "boom" || !strings.Contains(string(p.Stack), "explode") {
			t.Errorf("got panic %v, want a PanicError with the stack of fn", leader.panicked)
		}
		w.ran(t, 0)
		call(t.Context(), g[0], "k", w.after(time.Second, "v")).is(t, "v", Led)
		left(t, e[0], g...)
	})
}

//go:noinline
func explode() (string, error) { panic("boom") }

// nilError is an error whose method panics for nil.
type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

// TestPanic_Text: a value of a panic whose text cannot be had frees the key all the same.
func TestPanic_Text(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, nil)
		var w work
		call(t.Context(), g[0], "k", func(context.Context) (string, error) {
			time.Sleep(time.Second)
			panic((*nilError)(nil))
		})
		later(0)
		f := call(t.Context(), g[1], "k", w.after(time.Second, "v")).get()
		var remote *RemoteError
		if !errors.As(f.err, &remote) || remote.Kind != "panic" || f.took != time.Second {
			t.Errorf("got %v after %v, want a RemoteError of a panic", f.err, f.took)
		}
	})
}

// TestGoexit: an fn that exits its goroutine is ErrGoexit in other processes.
func TestGoexit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		var w work
		leader := call(t.Context(), g[0], "k", func(ctx context.Context) (string, error) {
			time.Sleep(time.Second)
			return exit(ctx)
		})
		later(0)
		f := call(t.Context(), g[1], "k", w.after(time.Second, "v")).get()
		if !errors.Is(f.err, coalesce.ErrGoexit) || !strings.HasPrefix(f.err.Error(), "goexit in a") {
			t.Errorf("got %v, want %v", f.err, coalesce.ErrGoexit)
		}
		if leader.get(); !leader.exited && !errors.Is(leader.err, coalesce.ErrGoexit) {
			t.Errorf("got %v, want a Goexit", leader.err)
		}
		w.ran(t, 0)
		left(t, e[0], g...)
	})
}

// A badCodec fails in one way.
type badCodec struct {
	Codec[string]
	encode func(string) ([]byte, error)
	decode func([]byte) (string, error)
}

func (c badCodec) Encode(v string) ([]byte, error) {
	if c.encode != nil {
		return c.encode(v)
	}
	return []byte(v), nil
}

func (c badCodec) Decode(data []byte) (string, error) {
	if c.decode != nil {
		return c.decode(data)
	}
	return string(data), nil
}

// badErrors is an ErrorCodec that panics.
type badErrors struct{ plainErrors }

func (badErrors) Encode(error) (name, message string) { panic("no text") }

// TestPanic_AfterFn: a panic of what runs after fn is one of fn: it frees the key, and
// ends the renewals.
func TestPanic_AfterFn(t *testing.T) {
	tests := map[string]func(g *group) func(context.Context) (string, error){
		"Encode": func(g *group) func(context.Context) (string, error) {
			g.Codec = badCodec{encode: func(string) ([]byte, error) { panic("no bytes") }}
			return new(work).after(time.Second, "v")
		},
		"Errors": func(g *group) func(context.Context) (string, error) {
			g.Errors = badErrors{}
			return new(work).failing(io.EOF)
		},
		"Error": func(*group) func(context.Context) (string, error) {
			return new(work).failing((*nilError)(nil))
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var fn func(context.Context) (string, error)
				g, e := processes(2, func(g *group) { fn = test(g) })
				leader := call(t.Context(), g[0], "k", fn)
				later(0)
				f := call(t.Context(), g[1], "k", fn).get()
				var remote *RemoteError
				if !errors.As(f.err, &remote) || remote.Kind != "panic" || f.took != time.Second {
					t.Errorf("got %v after %v, want a RemoteError of a panic", f.err, f.took)
				}
				if leader.get().panicked == nil {
					t.Errorf("got %v, want a panic", leader.err)
				}
				later(10 * time.Second)
				left(t, e[0], g...)
				if st := g[0].Stats(); st.Renewals > 1 {
					t.Errorf("the lease was renewed %d times", st.Renewals)
				}
			})
		})
	}
}

// TestPanic_Clone: a Clone that panics frees the key, and others have the value.
func TestPanic_Clone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, nil)
		g[0].Clone = func(string) string { panic("no clone") }
		var w work
		a, b := call(t.Context(), g[0], "k", w.after(time.Second, "v")), call(t.Context(), g[0], "k", w.after(time.Second, "v"))
		later(0)
		call(t.Context(), g[1], "k", w.after(time.Second, "v")).is(t, "v", Followed)
		if a.get().panicked == nil || b.get().panicked == nil {
			t.Errorf("got %v and %v, want panics", a.err, b.err)
		}
		left(t, e[0], g...)
	})
}

// TestPanic_Key: a Key that panics does so in each method, and nothing is left.
func TestPanic_Key(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(1, func(g *group) { g.Key = func([]byte, string) []byte { panic("no key") } })
		for name, f := range map[string]func(){
			"DoContext":  func() { g[0].DoContext(t.Context(), "k", nil0) },
			"Forget":     func() { g[0].Forget(t.Context(), "k") },
			"Peek":       func() { g[0].Peek(t.Context(), "k") },
			"RecordName": func() { g[0].RecordName("k") },
		} {
			if panics(f) == nil {
				t.Errorf("%s does not panic", name)
			}
		}
		left(t, e[0], g...)
	})
}

// TestPanic_Decode: a Decode that panics does so in the calls of its process alone.
func TestPanic_Decode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(3, nil)
		g[1].Codec = badCodec{decode: func([]byte) (string, error) { panic("no value") }}
		var w work
		leader := call(t.Context(), g[0], "k", w.after(time.Second, "v"))
		later(0)
		b, c := call(t.Context(), g[1], "k", w.after(time.Second, "v")), call(t.Context(), g[2], "k", w.after(time.Second, "v"))
		leader.is(t, "v", Led)
		c.is(t, "v", Followed)
		if b.get().panicked == nil {
			t.Errorf("got %v, want a panic", b.err)
		}
		left(t, e[0], g...)
	})
}

// TestDecode_Error: a process that cannot decode the value runs fn itself.
func TestDecode_Error(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, nil)
		g[1].Codec = badCodec{decode: func([]byte) (string, error) { return "", errors.New("no value") }}
		var w work
		leader := call(t.Context(), g[0], "k", w.after(time.Second, "v"))
		later(0)
		b := call(t.Context(), g[1], "k", w.after(time.Second, "own"))
		leader.is(t, "v", Led)
		b.is(t, "own", Local)
		if st := g[1].Stats(); st.LocalUnread != 1 {
			t.Errorf("got %+v, want one local run", st)
		}
	})
}

// TestCancellation_NoResult: that all callers of the leader's process have left is no
// result: a call that waits elsewhere leads at once.
func TestCancellation_NoResult(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, e := processes(2, func(g *group) { g.CancelAbandoned = true })
		var w work
		ctx, cancel := context.WithCancel(t.Context())
		call(ctx, g[0], "k", w.obeying(time.Hour, "never"))
		later(0)
		f := call(t.Context(), g[1], "k", w.after(time.Second, "v"))
		later(100 * time.Millisecond)
		cancel()
		f.is(t, "v", Led)
		f.between(t, 1100*time.Millisecond, 1100*time.Millisecond)
		if f.info.Takeovers != 0 {
			t.Errorf("got %+v, want no takeover", f.info)
		}
		left(t, e[0], g...)
	})
}

// TestCancellation_WhileAcquiring: a process whose callers leave while it acquires leaves
// no lease behind, be it that the engine is slow or does not answer.
func TestCancellation_WhileAcquiring(t *testing.T) {
	for _, silent := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			g, e := processes(2, nil)
			e[0].swap = func(ctx context.Context, _ uint64, rec record, do func() (Record, error)) (Record, error) {
				if rec.kind == lease && rec.token == 0 {
					rec, err := do()
					time.Sleep(100 * time.Millisecond)
					if silent {
						return Record{}, errCut
					}
					return rec, err
				}
				return do()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			var w work
			o := call(ctx, g[0], "k", w.after(time.Second, "never")).get()
			if o.err != context.DeadlineExceeded || o.took != 50*time.Millisecond {
				t.Errorf("got %v after %v, want %v", o.err, o.took, context.DeadlineExceeded)
			}
			later(250 * time.Millisecond)
			f := call(t.Context(), g[1], "k", w.after(time.Second, "v"))
			f.is(t, "v", Led)
			f.between(t, time.Second, time.Second)
			w.ran(t, 1)
			left(t, e[0], g...)
		})
	}
}

// TestCancellation_OwnTimeout: an error of a context that fn has made itself is a result.
func TestCancellation_OwnTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, _ := processes(2, func(g *group) { g.Errors = Sentinels(map[string]error{"late": context.DeadlineExceeded}) })
		var w work
		call(t.Context(), g[0], "k", func(ctx context.Context) (string, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			<-ctx.Done()
			return "", ctx.Err()
		})
		later(0)
		if f := call(t.Context(), g[1], "k", w.after(time.Second, "v")).get(); !errors.Is(f.err, context.DeadlineExceeded) {
			t.Errorf("got %q, %v, want %v", f.v, f.err, context.DeadlineExceeded)
		}
		w.ran(t, 0)
	})
}
