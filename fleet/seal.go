package fleet

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
)

// This file holds the names of records and, with Secrets, the sealing of what they hold.
//
// A record is named by a hash of its key, so that a name has a bounded length and no
// characters that mean something to an engine. With a secret the hash is keyed: a reader
// of the engine can then not find out by guessing which keys there are.
//
// A payload is sealed with AES-256-GCM. The key is derived from the secret and the name
// of the record, and the header of the record is authenticated with the payload, so that
// neither can be moved to another key or another attempt.

const idSize = 20 // bytes of a hash in a name

// hexLower is base32hex with lower-case letters, without padding.
var hexLower = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// A vault makes names, and seals and opens records.
type vault struct {
	name, version string
	secrets       [][]byte
}

// recordName returns the name of the record of a key with the given bytes.
func (v *vault) recordName(key []byte) string {
	h := sha256.New()
	if len(v.secrets) > 0 {
		h = hmac.New(sha256.New, v.secrets[0])
	}
	for _, s := range []string{v.name, v.version} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		h.Write([]byte(s))
	}
	h.Write(key)
	version := v.version
	if version == "" {
		version = "-"
	}
	return v.name + "/" + version + "/" + hexLower.EncodeToString(h.Sum(nil)[:idSize])
}

// A box seals and opens the records of one name.
type box struct {
	aeads []cipher.AEAD // one for each secret; none without secrets
}

// box returns the box for a name.
func (v *vault) box(name string) box {
	var b box
	for _, secret := range v.secrets {
		key, err := hkdf.Key(sha256.New, secret, nil, "coalesce/fleet record "+name, 32)
		if err != nil {
			panic(err) // 32 bytes are not too many
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			panic(err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			panic(err)
		}
		b.aeads = append(b.aeads, aead)
	}
	return b
}

// encode returns the bytes of r.
func (b box) encode(r *record) []byte {
	buf := make([]byte, 0, headerSize+len(r.process)+len(r.payload)+32)
	buf = r.appendHeader(buf)
	if len(b.aeads) == 0 {
		return append(buf, r.payload...)
	}
	return b.aeads[0].Seal(buf, nil, r.payload, buf)
}

var errSealed = errors.New("fleet: a record that no secret opens")

// decode returns the record with the given bytes and revision.
func (b box) decode(data []byte, rev uint64) (record, error) {
	r, header, err := parse(data)
	if err != nil {
		return record{}, err
	}
	if len(b.aeads) > 0 {
		err = errSealed
		for _, aead := range b.aeads {
			if payload, e := aead.Open(nil, nil, r.payload, data[:header]); e == nil {
				r.payload, err = payload, nil
				break
			}
		}
		if err != nil {
			return record{}, err
		}
	}
	if r.token == 0 {
		r.token = rev
	}
	return r, nil
}

// newNonce returns a new nonce.
func newNonce() (n nonce) {
	_, _ = rand.Read(n[:]) // it never fails
	return n
}
