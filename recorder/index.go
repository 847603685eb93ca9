package recorder

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// The index of a recording is a file of JSON lines: a head, one line for each part, and an end.
// The hash of the head begins the chain; each further line adds SHA-256(chain before, its record)
// and a signature over that. A line that is not byte for byte what this package would write is
// refused, so that there is nothing in the file that no hash covers.

// digest is a SHA-256 in hexadecimal.
type digest [sha256.Size]byte

func (d digest) String() string               { return hex.EncodeToString(d[:]) }
func (d digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d *digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) {
		return errors.New("not a SHA-256")
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// indexHead is the first line: it binds the chain to one channel of one session.
type indexHead struct {
	Index   int    `json:"index"` // version of the format
	Session string `json:"session"`
	Channel int    `json:"channel"`
	Node    string `json:"node"`

	Encrypted bool `json:"encrypted,omitempty"` // the parts can be read by recipients only
}

const indexVersion = 1

// partRecord is one part: a run of whole lines of the asciicast, and its frame in the packed file.
type partRecord struct {
	Part         int    `json:"part"` // from 1
	Time         int64  `json:"time"` // ms since 1970 at the node when the part was packed
	At           int64  `json:"at"`   // µs from the beginning to the last event before the part
	Offset       int64  `json:"offset"`
	Length       int64  `json:"length"`
	SHA256       digest `json:"sha256"`
	PackedOffset int64  `json:"packed_offset"`
	PackedLength int64  `json:"packed_length"`
	PackedSHA256 digest `json:"packed_sha256"`

	Sealed string `json:"sealed,omitempty"` // how the frame is encrypted; then SHA256 is zero: it would tell what is guessed right
}

// endRecord closes a recording.
type endRecord struct {
	Parts     int    `json:"parts"`
	Time      int64  `json:"time"` // ms since 1970 at the node
	Bytes     int64  `json:"bytes"`
	Packed    int64  `json:"packed"`
	Duration  int64  `json:"duration"` // µs
	Kept      int64  `json:"kept"`
	Counted   int64  `json:"counted"`
	Lost      int64  `json:"lost"`
	Input     int64  `json:"input"`
	SHA256    string `json:"sha256"`
	BLAKE3    string `json:"blake3,omitempty"`
	Truncated bool   `json:"truncated"`
	Recovered bool   `json:"recovered"`
	Torn      int64  `json:"torn"`
	Pending   bool   `json:"pending,omitempty"` // signed by another node for what had reached the store: more may follow
}

// pendingRecord is an end that another node signed when the node that recorded was lost. It follows
// the line of the part that it counts last, and stands in the finished index as a witness: what was
// sealed then is in the recording.
type pendingRecord struct {
	End   endRecord `json:"end"`
	Chain digest    `json:"chain"`
	Key   string    `json:"key"`
	Sig   []byte    `json:"sig"`
}

// indexEntry is a line after the head. Exactly one of Part, Pending and End is set.
type indexEntry struct {
	Part    *partRecord    `json:"part,omitempty"`
	Pending *pendingRecord `json:"pending,omitempty"`
	End     *endRecord     `json:"end,omitempty"`
	Chain   *digest        `json:"chain,omitempty"`
	Key     string         `json:"key,omitempty"`
	Sig     []byte         `json:"sig,omitempty"`
}

// kinds is how many of Part, Pending and End are set.
func (e indexEntry) kinds() (n int) {
	for _, set := range []bool{e.Part != nil, e.Pending != nil, e.End != nil} {
		if set {
			n++
		}
	}
	return n
}

// headLine is the first line of an index and the beginning of the chain.
func headLine(h indexHead) ([]byte, digest, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, digest{}, fmt.Errorf("encoding the head of an index: %w", err)
	}
	return append(line, '\n'), sha256.Sum256(line), nil
}

// signedLine completes the entry e that follows the given chain head.
func signedLine(e indexEntry, chain digest, key ed25519.PrivateKey) ([]byte, digest, error) {
	next, err := e.chained(chain)
	if err != nil {
		return nil, digest{}, err
	}
	e.Chain = &next
	e.Key = KeyID(key.Public().(ed25519.PublicKey))
	e.Sig = ed25519.Sign(key, signedText(next))
	line, err := json.Marshal(e)
	if err != nil {
		return nil, digest{}, fmt.Errorf("encoding a line of an index: %w", err)
	}
	return append(line, '\n'), next, nil
}

// chained is the chain head after e.
func (e indexEntry) chained(before digest) (digest, error) {
	record, err := json.Marshal(indexEntry{Part: e.Part, Pending: e.Pending, End: e.End})
	if err != nil {
		return digest{}, fmt.Errorf("encoding a record of an index: %w", err)
	}
	return sha256.Sum256(append(before[:], record...)), nil
}

// signedText is what is signed for a chain head; the words keep the signature from being taken for
// one of another kind by the same key.
func signedText(chain digest) []byte {
	return append([]byte("sallyport recording chain 1\n"), chain[:]...)
}

// parseHead reads the first line of an index.
func parseHead(line []byte) (indexHead, digest, error) {
	var h indexHead
	if err := json.Unmarshal(line, &h); err != nil {
		return h, digest{}, fmt.Errorf("%w: the head of its index is not JSON", ErrDamaged)
	}
	again, chain, err := headLine(h)
	if err != nil {
		return h, digest{}, err
	}
	if !bytes.Equal(line, again[:len(again)-1]) || h.Index != indexVersion {
		return h, digest{}, fmt.Errorf("%w: the head of its index was altered or is of an unknown version", ErrDamaged)
	}
	return h, chain, nil
}

// parseEntry reads a line after the head and checks its place in the chain and its signature, which must be that
// of the node that recorded. Only an end that says that the tail is missing may be another node's.
func parseEntry(line []byte, node string, chain digest, keys Keyring) (indexEntry, error) {
	var e indexEntry
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("%w: a line of its index is not JSON", ErrDamaged)
	}
	again, err := json.Marshal(e)
	if err != nil {
		return e, fmt.Errorf("%w: a line of its index was altered", ErrDamaged)
	}
	if !bytes.Equal(line, again) || e.kinds() != 1 || e.Chain == nil {
		return e, fmt.Errorf("%w: a line of its index was altered", ErrDamaged)
	}
	next, err := e.chained(chain)
	if err != nil {
		return e, err
	}
	if next != *e.Chain {
		return e, fmt.Errorf("%w: the chain of its index is broken", ErrDamaged)
	}
	if e.End != nil && e.End.Pending {
		return e, keys.checkAny(e.Key, e.time(), signedText(next), e.Sig)
	}
	return e, keys.Check(node, e.Key, e.time(), signedText(next), e.Sig)
}

// time is when the entry was signed, as it says; of a pending record not before that.
func (e indexEntry) time() time.Time {
	switch {
	case e.Part != nil:
		return time.UnixMilli(e.Part.Time)
	case e.Pending != nil:
		return time.UnixMilli(e.Pending.End.Time)
	}
	return time.UnixMilli(e.End.Time)
}

// KeyID is the short name of a key in indexes and reports: 16 hexadecimal digits.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

const pemType = "PUBLIC KEY"

// MarshalKey writes a public key as PEM (RFC 8410), for a file that ParseKeys reads.
func MarshalKey(key ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

// ParseKeys reads the Ed25519 public keys of a PEM file. Text between the blocks is ignored.
func ParseKeys(file []byte) ([]ed25519.PublicKey, error) {
	found, err := ParseKeyFile(file)
	if err != nil {
		return nil, err
	}
	keys := make([]ed25519.PublicKey, len(found))
	for i, k := range found {
		keys[i] = k.Public
	}
	return keys, nil
}

// partOf reads a line of an index that speaks of a part, without checking anything.
func partOf(line []byte) (partRecord, bool) {
	var e indexEntry
	if json.Unmarshal(line, &e) != nil || e.Part == nil {
		return partRecord{}, false
	}
	return *e.Part, true
}
