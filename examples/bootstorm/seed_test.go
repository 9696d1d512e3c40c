package main

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// neighbors returns three cookies that share a bucket.
func neighbors(t *testing.T) [3]fileID {
	t.Helper()
	var found [3]fileID
	n := 0
	for ino := uint64(1); n < len(found); ino++ {
		if id := (fileID{dev: 1, ino: ino}); idemBucket(id) == 0 {
			found[n] = id
			n++
		}
	}
	return found
}

// cookies returns the cookies on the list of the bucket, and checks its links.
func (t *seedTable) cookies(tb testing.TB, bucket uint64) []fileID {
	tb.Helper()
	var ids []fileID
	link := &t.hash[bucket]
	for pos := *link; pos != nil; pos = pos.next {
		if pos.pprev != link {
			tb.Fatal("got an entry that does not point back, want it linked")
		}
		ids = append(ids, pos.cookie)
		link = &pos.next
	}
	return ids
}

// finish removes the entries of its cookie from the middle of a list, gives each the
// result, and leaves the others alone.
func TestSeed_FinishLeavesNeighborsAlone(t *testing.T) {
	var table seedTable
	ids := neighbors(t)
	order := []int{0, 1, 0, 2, 1, 0}
	entries := make([]idempotent, len(order))
	for k, n := range order {
		waits := table.enter(&entries[k], ids[n])
		if first := k == 0 || k == 1 || k == 3; waits == first {
			t.Errorf("entry %d: got waits %v, want %v", k, waits, !first)
		}
	}
	failure := errors.New("no such file")
	table.finish(&entries[0], image{size: 7}, failure)
	want := []fileID{ids[1], ids[2], ids[1]}
	if got := table.cookies(t, 0); !slices.Equal(got, want) {
		t.Errorf("got %v left on the list, want %v", got, want)
	}
	for k, n := range order {
		select {
		case <-entries[k].complete:
			if n != 0 || entries[k].err != failure || entries[k].img.size != 7 {
				t.Errorf("entry %d: got it completed with %v, %v, want only those of the cookie, with its result", k, entries[k].img, entries[k].err)
			}
		default:
			if n == 0 {
				t.Errorf("entry %d: got it not completed, want it completed", k)
			}
		}
	}
	table.finish(&entries[1], image{}, nil)
	table.finish(&entries[3], image{}, nil)
	if got := table.cookies(t, 0); len(got) != 0 {
		t.Errorf("got %v left on the list, want none", got)
	}
}

func TestSeed_BucketsAreSpread(t *testing.T) {
	used := make(map[uint64]bool)
	for ino := range uint64(4096) {
		b := idemBucket(fileID{dev: 66306, ino: 131_072 + ino})
		if b >= 1<<idemHashBits {
			t.Fatalf("got bucket %d, want less than %d", b, 1<<idemHashBits)
		}
		used[b] = true
	}
	if len(used) < 200 {
		t.Errorf("got %d buckets for 4,096 files in a row, want 200 at least", len(used))
	}
	if idemBucket(fileID{1, 2}) == idemBucket(fileID{2, 2}) &&
		idemBucket(fileID{1, 3}) == idemBucket(fileID{2, 3}) {
		t.Error("got one bucket for two devices, want two")
	}
}

// The policies that share a load run it once while callers overlap, report the followers,
// give every caller its result, and keep nothing.
func TestPolicies_ShareOneLoad(t *testing.T) {
	for _, name := range []string{"seed", "coalesce"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPolicy(name).(watchable)
				ids := neighbors(t)
				failure := errors.New("broken")
				var loads atomic.Int64
				var callers sync.WaitGroup
				call := func(id fileID, d time.Duration, want image, wantErr error) {
					callers.Go(func() {
						got, err := p.load(id, func() (image, error) {
							loads.Add(1)
							time.Sleep(d)
							return want, wantErr
						})
						if got != want || err != wantErr {
							t.Errorf("got %v, %v, want %v, %v", got, err, want, wantErr)
						}
					})
				}
				for range 50 {
					call(ids[0], time.Second, image{digest: 1}, nil)
					call(ids[1], time.Hour, image{digest: 2}, failure)
				}
				time.Sleep(time.Minute)
				if n := p.followers(ids[0]); n != 0 {
					t.Errorf("got %d followers of a load that is over, want none", n)
				}
				if n := p.followers(ids[1]); n != 49 {
					t.Errorf("got %d followers, want 49", n)
				}
				call(ids[0], time.Second, image{digest: 3}, nil) // a late one starts over
				callers.Wait()
				if n := loads.Load(); n != 3 {
					t.Errorf("got %d loads, want 3", n)
				}
				if n := p.followers(ids[1]); n != 0 {
					t.Errorf("got %d followers at the end, want none", n)
				}
			})
		})
	}
}

func TestPolicies_EtxtbsyRefusesTheSecond(t *testing.T) {
	p := newPolicy("etxtbsy")
	id := fileID{1, 2}
	unwanted := func() (image, error) {
		t.Error("got a load of the second caller, want a refusal")
		return image{}, nil
	}
	_, err := p.load(id, func() (image, error) {
		if _, err := p.load(id, unwanted); !errors.Is(err, errBusy) {
			t.Errorf("the second: got %v, want %v", err, errBusy)
		}
		if _, err := p.load(fileID{1, 3}, func() (image, error) { return image{}, nil }); err != nil {
			t.Errorf("another file: got %v, want nil", err)
		}
		return image{}, nil
	})
	if err != nil {
		t.Error(err)
	}
}
