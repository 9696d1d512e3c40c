package main

import (
	"context"
	"io"
	"log"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed342dcb2d/coalesce/internal/verify/history"
	"github.com/seed342dcb2d/coalesce/internal/verify/storm"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// brief returns a context that has ended: the soak makes as few rounds as it can.
func brief() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// TestSoak: a soak of some rounds finds no violation, and makes calls of all kinds.
func TestSoak(t *testing.T) {
	s := &soak{configurations: configurations(), out: io.Discard, every: time.Nanosecond, settle: settleTime, seed: 1}
	if err := s.run(brief()); err != nil {
		t.Fatal(err)
	}
	if min(s.calls, s.joined, s.lingered, s.left, s.rejected, s.panics, s.goexits) == 0 || len(s.heaps) != 8 {
		t.Errorf("got %+v, want some calls of each kind and 8 rounds", s)
	}
}

// A stale subject answers with its earlier results.
type stale struct {
	storm.Subject
	mu   *sync.Mutex
	last map[int]history.Token
}

func (s stale) Do(key int, fn func() (history.Token, error)) (history.Token, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.last[key]; ok {
		delete(s.last, key)
		return v, true, nil
	}
	v, shared, err := s.Subject.Do(key, fn)
	if err == nil {
		s.last[key] = v
	}
	return v, shared, err
}

// A busy subject leaves a key in flight.
type busy struct {
	storm.Subject
	once  *sync.Once
	block chan struct{}
}

func (s busy) Do(key int, fn func() (history.Token, error)) (history.Token, bool, error) {
	s.once.Do(func() {
		go s.Subject.Do(keys+1, func() (history.Token, error) { <-s.block; return history.Token{}, nil })
	})
	return s.Subject.Do(key, fn)
}

// TestSoak_Finds: a soak finds stale answers, a key that stays in flight, a heap that
// grows, and goroutines that stay.
func TestSoak_Finds(t *testing.T) {
	var kept [][]byte
	block := make(chan struct{})
	for _, tt := range []struct {
		name, want string
		plant      func(*soak)
	}{
		{"stale", "rule 3", func(s *soak) {
			s.wrap = func(g storm.Subject) storm.Subject { return stale{g, new(sync.Mutex), map[int]history.Token{}} }
		}},
		{"key", "1 keys in flight at rest", func(s *soak) {
			s.wrap = func(g storm.Subject) storm.Subject { return busy{g, new(sync.Once), block} }
		}},
		{"heap", "the heap at rest grew", func(s *soak) {
			s.after = func() { kept = append(kept, make([]byte, 400<<10)) }
		}},
		{"goroutines", "goroutines at rest", func(s *soak) {
			s.after = func() { go func() { <-block }() }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &soak{configurations: configurations()[:1], out: io.Discard, every: time.Hour, settle: time.Second, seed: 1}
			tt.plant(s)
			if err := s.run(brief()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	close(block)
	if len(kept) == 0 {
		t.Error("got nothing planted, want a leak")
	}
}
