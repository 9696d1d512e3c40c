package fleet

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// This file holds the records that processes exchange, and their bytes:
//
//	 0      format, 1
//	 1      kind
//	 2      failure
//	 3      attempt
//	 4-11   token
//	12-27   nonce
//	28-31   lease, in milliseconds
//	32-39   how long fn ran, in microseconds
//	40      n, the length of the name of the process
//	41-     the name, and then the payload
//
// Numbers are big-endian. With Secrets the payload is sealed, and all bytes before it are
// authenticated with it (seal.go).

// A kind says what a record is about.
type kind uint8

const (
	// lease says that a process runs fn, and will write the record again within a third
	// of the time that it is good for.
	lease kind = iota + 1

	result   // fn returned a value
	failed   // fn ended in another way, or cannot be run
	released // the lease was given up without a result, or the key was forgotten

	// unreadable stands for a record whose bytes cannot be understood: of a later
	// format, or sealed with another secret. It is treated as a lease of unknown length.
	unreadable kind = 0
)

// A failure says in a failed record how fn ended.
type failure uint8

const (
	failedError     failure = iota + 1 // fn returned an error
	failedPanic                        // fn panicked
	failedGoexit                       // fn called runtime.Goexit
	failedOversize                     // the value is too large for a record, or cannot be encoded
	failedTakeovers                    // one process after the other has died with the key
)

// A nonce is drawn for each attempt to lead, and tells its records from all others.
type nonce [16]byte

// A record is what the processes know about a key.
type record struct {
	kind    kind
	failure failure
	attempt uint8 // takeovers before this one

	// token is the revision of the swap that acquired the lease. That record itself has
	// 0 in its place, until decode is given the revision.
	token uint64

	nonce   nonce
	lease   time.Duration // from each write, if it is a lease
	ran     time.Duration // how long fn ran, if it is a result or a failure
	process string
	payload []byte // the value, or the error
}

const (
	format      = 1
	headerSize  = 41
	maxProcess  = 64
	maxOverhead = 256 // of a record over its payload, sealed or not

	// maxLease is the greatest lease that is believed.
	maxLease = time.Hour
)

var errRecord = errors.New("fleet: not a record of this format")

// appendHeader appends all of r but the payload.
func (r *record) appendHeader(b []byte) []byte {
	b = append(b, format, byte(r.kind), byte(r.failure), r.attempt)
	b = binary.BigEndian.AppendUint64(b, r.token)
	b = append(b, r.nonce[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(min(r.lease.Milliseconds(), math.MaxUint32)))
	b = binary.BigEndian.AppendUint64(b, uint64(max(0, r.ran.Microseconds())))
	b = append(b, byte(len(r.process)))
	return append(b, r.process...)
}

// parse returns the record with the given bytes and how many of them come before the
// payload. The payload is not opened, and not copied.
func parse(b []byte) (r record, header int, err error) {
	if len(b) < headerSize || b[0] != format {
		return record{}, 0, errRecord
	}
	r = record{kind: kind(b[1]), failure: failure(b[2]), attempt: b[3], token: binary.BigEndian.Uint64(b[4:])}
	copy(r.nonce[:], b[12:])
	r.lease = time.Duration(binary.BigEndian.Uint32(b[28:])) * time.Millisecond
	ran := binary.BigEndian.Uint64(b[32:])
	n := int(b[40])
	switch {
	case r.kind < lease || r.kind > released,
		(r.kind == failed) != (r.failure != 0), r.failure > failedTakeovers,
		r.kind == lease && (r.lease <= 0 || r.lease > maxLease),
		ran > uint64(math.MaxInt64/int64(time.Microsecond)),
		n > maxProcess, len(b) < headerSize+n:
		return record{}, 0, errRecord
	}
	r.ran = time.Duration(ran) * time.Microsecond
	header = headerSize + n
	r.process = string(b[headerSize:header])
	r.payload = b[header:]
	return r, header, nil
}
