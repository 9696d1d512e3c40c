package fleet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed342dcb2d/coalesce"
)

// This file holds the errors of calls, and how errors of fn cross to other processes.

var (
	// ErrClosed is the error of calls after Shutdown. It is that of package coalesce.
	ErrClosed = coalesce.ErrClosed

	// ErrEngine is the error of a call that the engine has not answered within Grace, in
	// a Group with OnOutage set to Fail.
	ErrEngine = errors.New("fleet: the engine does not answer")

	// ErrLeaseLost is the cause with which fn's context ends when another process has
	// taken over.
	ErrLeaseLost = errors.New("fleet: another process has taken over")

	// ErrTakeovers is the error of calls for a key with which MaxTakeovers processes have
	// taken over and died. It holds for 30 seconds.
	ErrTakeovers = errors.New("fleet: processes die with this key")

	// ErrOversize is the error of a call whose value another process has, and cannot hand
	// on because it is larger than MaxResult or cannot be encoded, in a Group with
	// Oversize set to Fail.
	ErrOversize = errors.New("fleet: the value cannot be handed to other processes")
)

// A RemoteError is the error of fn in another process.
type RemoteError struct {
	Message string
	Kind    string // "error", "panic" or "goexit"
	Process string
	Token   uint64

	err error // that the ErrorCodec has made of it, or nil
}

// Error returns the message, with the process.
func (e *RemoteError) Error() string {
	if e.Kind == "error" {
		return fmt.Sprintf("%s (in %s)", e.Message, e.Process)
	}
	return fmt.Sprintf("%s in %s: %s", e.Kind, e.Process, e.Message)
}

// Unwrap returns the error that Errors has made of the message. A Goexit is
// [coalesce.ErrGoexit].
func (e *RemoteError) Unwrap() error { return e.err }

// An ErrorCodec lets errors cross to other processes.
type ErrorCodec interface {
	// Encode returns the message of a non-nil error of fn and, if there is one, the name
	// of the error, by which Decode knows it. The message may be blank: it is stored in
	// the engine.
	Encode(err error) (name, message string)

	// Decode returns the error with that name, or nil. The RemoteError of the call wraps
	// it.
	Decode(name, message string) error
}

// plainErrors is the ErrorCodec of a Group that has none.
type plainErrors struct{}

func (plainErrors) Encode(err error) (name, message string) { return "", err.Error() }
func (plainErrors) Decode(string, string) error             { return nil }

// Sentinels returns an [ErrorCodec] that carries the messages of errors and, of those for
// which [errors.Is] reports one of the given, that one.
func Sentinels(byName map[string]error) ErrorCodec { return sentinels(byName) }

type sentinels map[string]error

func (s sentinels) Encode(err error) (name, message string) {
	for n, is := range s {
		if errors.Is(err, is) && (name == "" || n < name) {
			name = n
		}
	}
	return name, err.Error()
}

func (s sentinels) Decode(name, _ string) error { return s[name] }

// encodeFailure returns the payload of a record of failure: a name and a message, cut
// to what a record may hold.
func encodeFailure(name, message string, most int) []byte {
	name = name[:max(0, min(len(name), 255, most-2))]
	b := append(binary.AppendUvarint(nil, uint64(len(name))), name...)
	return append(b, message[:max(0, min(len(message), most-len(b)))]...)
}

// decodeFailure returns the name and the message.
func decodeFailure(payload []byte) (name, message string, ok bool) {
	n, used := binary.Uvarint(payload)
	if used <= 0 || n > uint64(len(payload)-used) {
		return "", "", false
	}
	return string(payload[used : used+int(n)]), string(payload[used+int(n):]), true
}

// isEnd reports whether err is no result of fn, but the end of the context that fn got:
// that is no other caller's result.
func isEnd(ctx context.Context, err error) bool {
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrLeaseLost) {
		return true
	}
	if ctx.Err() == nil {
		return false
	}
	return errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))
}
