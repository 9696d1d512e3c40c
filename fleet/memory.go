package fleet

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"
)

// This file holds an Engine in memory.

// Memory is an Engine for the Groups of one process, for tests and for trying things out.
// The zero Memory is empty and ready to use. It must not be copied after first use.
type Memory struct {
	mu      sync.Mutex
	rev     uint64
	records map[string]entry
	next    int // how many records there are when they are swept next
	watches map[string]map[*func(Record)]struct{}
}

// An entry is a record with its times.
type entry struct {
	Record
	written, expires time.Time
}

// Swap is the method of an Engine.
func (m *Memory) Swap(ctx context.Context, key string, prev uint64, val []byte, ttl time.Duration) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	if len(val) > memoryMost {
		return Record{}, fmt.Errorf("fleet: a record of %d bytes, more than %d", len(val), memoryMost)
	}
	m.mu.Lock()
	old := m.get(key)
	if old.Rev != prev {
		m.mu.Unlock()
		return Record{}, &Conflict{Record: Record{Rev: old.Rev, Age: -1}}
	}
	if m.records == nil {
		m.records = map[string]entry{}
	}
	now := time.Now()
	m.sweep(now)
	m.rev++
	rec := Record{Rev: m.rev, Val: bytes.Clone(val), Age: -1}
	m.records[key] = entry{rec, now, now.Add(ttl)}
	var notify []func(Record)
	for f := range m.watches[key] {
		notify = append(notify, *f)
	}
	m.mu.Unlock()
	for _, f := range notify {
		f(rec)
	}
	return Record{Rev: rec.Rev, Age: -1}, nil
}

// get returns the record of a key, and removes it if it has expired. m.mu must be held.
func (m *Memory) get(key string) entry {
	s, ok := m.records[key]
	if ok && !time.Now().Before(s.expires) {
		delete(m.records, key)
		return entry{}
	}
	return s
}

// sweep removes what has expired, each time that the number of records has doubled.
// m.mu must be held.
func (m *Memory) sweep(now time.Time) {
	if len(m.records) < m.next {
		return
	}
	for key, s := range m.records {
		if !now.Before(s.expires) {
			delete(m.records, key)
		}
	}
	m.next = 2*len(m.records) + 64
}

// Load is the method of an Engine.
func (m *Memory) Load(ctx context.Context, key string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.get(key)
	if s.Rev == 0 {
		return Record{}, ErrAbsent
	}
	s.Age = time.Since(s.written)
	return s.Record, nil
}

// Notify is the method of an Engine.
func (m *Memory) Notify(ctx context.Context, key string, f func(Record)) (stop func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watches == nil {
		m.watches = map[string]map[*func(Record)]struct{}{}
	}
	if m.watches[key] == nil {
		m.watches[key] = map[*func(Record)]struct{}{}
	}
	m.watches[key][&f] = struct{}{}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watches[key], &f)
		if len(m.watches[key]) == 0 {
			delete(m.watches, key)
		}
	}, nil
}

const memoryMost = 64 << 20 // bytes of a record

// Caps is the method of an Engine.
func (m *Memory) Caps() Caps { return Caps{Name: "memory", MaxValue: memoryMost, Push: true} }
