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
			tb.Fatal("an entry does not point back at what points at it")
		}
		ids = append(ids, pos.cookie)
		link = &pos.next
	}
	return ids
}

// finish takes the entries of its cookie out of the middle of a list, gives each
// the result, and leaves the others alone.
func TestSeed_FinishLeavesNeighboursAlone(t *testing.T) {
	var table seedTable
	ids := neighbors(t)
	order := []int{0, 1, 0, 2, 1, 0}
	entries := make([]idempotent, len(order))
	for k, n := range order {
		waits := table.enter(&entries[k], ids[n])
		if first := k == 0 || k == 1 || k == 3; waits == first {
			t.Errorf("entry %d: waits is %v", k, waits)
		}
	}
	failure := errors.New("no such file")
	table.finish(&entries[0], image{size: 7}, failure)
	want := []fileID{ids[1], ids[2], ids[1]}
	if got := table.cookies(t, 0); !slices.Equal(got, want) {
		t.Errorf("left on the list: %v, want %v", got, want)
	}
	for k, n := range order {
		select {
		case <-entries[k].complete:
			if n != 0 || entries[k].err != failure || entries[k].img.size != 7 {
				t.Errorf("entry %d was completed with %v, %v", k, entries[k].img, entries[k].err)
			}
		default:
			if n == 0 {
				t.Errorf("entry %d was not completed", k)
			}
		}
	}
	table.finish(&entries[1], image{}, nil)
	table.finish(&entries[3], image{}, nil)
	if got := table.cookies(t, 0); len(got) != 0 {
		t.Errorf("left on the list: %v", got)
	}
}

func TestSeed_BucketsAreSpread(t *testing.T) {
	used := make(map[uint64]bool)
	for ino := range uint64(4096) {
		b := idemBucket(fileID{dev: 66306, ino: 131_072 + ino})
		if b >= 1<<idemHashBits {
			t.Fatalf("bucket %d", b)
		}
		used[b] = true
	}
	if len(used) < 200 {
		t.Errorf("4,096 files in a row use only %d buckets", len(used))
	}
	if idemBucket(fileID{1, 2}) == idemBucket(fileID{2, 2}) &&
		idemBucket(fileID{1, 3}) == idemBucket(fileID{2, 3}) {
		t.Error("the device does not matter")
	}
}

// The policies that share a load run it once while callers overlap, tell who
// follows, give everybody its result, and keep nothing.
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
							t.Errorf("got %v, %v", got, err)
						}
					})
				}
				for range 50 {
					call(ids[0], time.Second, image{digest: 1}, nil)
					call(ids[1], time.Hour, image{digest: 2}, failure)
				}
				time.Sleep(time.Minute)
				if n := p.followers(ids[0]); n != 0 {
					t.Errorf("%d follow a load that is over", n)
				}
				if n := p.followers(ids[1]); n != 49 {
					t.Errorf("%d follow, want 49", n)
				}
				call(ids[0], time.Second, image{digest: 3}, nil) // a late one starts over
				callers.Wait()
				if n := loads.Load(); n != 3 {
					t.Errorf("%d loads, want 3", n)
				}
				if n := p.followers(ids[1]); n != 0 {
					t.Errorf("%d still follow", n)
				}
			})
		})
	}
}

func TestPolicies_EtxtbsyRefusesTheSecond(t *testing.T) {
	p := newPolicy("etxtbsy")
	id := fileID{1, 2}
	unwanted := func() (image, error) {
		t.Error("the second loads")
		return image{}, nil
	}
	_, err := p.load(id, func() (image, error) {
		if _, err := p.load(id, unwanted); !errors.Is(err, errBusy) {
			t.Errorf("the second got %v", err)
		}
		if _, err := p.load(fileID{1, 3}, func() (image, error) { return image{}, nil }); err != nil {
			t.Errorf("another file got %v", err)
		}
		return image{}, nil
	})
	if err != nil {
		t.Error(err)
	}
}
