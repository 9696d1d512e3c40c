package fleet

import (
	"fmt"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds how the record of another process becomes the result of a call.

// answer returns the result in the latest sight; or why the run has to run fn itself.
func (r *run[K, V]) answer() (v V, cause localCause, err error) {
	s, rec := r.s, &r.latest.rec
	if rec.failure != failedTakeovers {
		s.hints.put(r.name, r.latest.rev, r.latest.at)
	}
	r.info = Info{
		Role: Followed, Token: rec.token, Process: rec.process, Takeovers: int(rec.attempt),
		Wait: s.clock.now() - r.began,
	}
	refuse := func(err error) (V, localCause, error) {
		r.info = Info{}
		return v, notLocal, err
	}
	if rec.kind == result {
		if v, err = s.codec.Decode(rec.payload); err != nil {
			return v, localUnread, nil
		}
		return v, notLocal, nil
	}
	name, message, ok := decodeFailure(rec.payload)
	remote := &RemoteError{Message: message, Kind: "error", Process: rec.process, Token: rec.token}
	switch {
	case !ok:
		return v, localUnread, nil
	case rec.failure == failedOversize && s.oversize == RunLocally:
		return v, localOversize, nil
	case rec.failure == failedOversize:
		return refuse(ErrOversize)
	case rec.failure == failedTakeovers:
		return refuse(fmt.Errorf("%w: %d in a row", ErrTakeovers, rec.attempt))
	case rec.failure == failedPanic:
		remote.Kind = "panic"
	case rec.failure == failedGoexit:
		remote.Kind, remote.err = "goexit", coalesce.ErrGoexit
	default:
		remote.err = s.errors.Decode(name, message)
	}
	return v, notLocal, remote
}
