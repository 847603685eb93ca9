package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// Ring holds the keys that open sealed values. The first one is active: it seals new values, the
// others only open old ones. It changes only by [Ring.Reload]. The zero value has no keys and refuses to
// work.
type Ring struct {
	source string // where it was loaded from, see [Load]; empty if only in memory
	keys   *atomic.Pointer[[]key]
	tried  *atomic.Int64 // when a key was last looked for in the source and not found, in ns since 1970
}

// key is one AES-256 key. Its id is derived from it, so that a damaged line of the key file is
// noticed when it is read, not when the first value does not open.
type key struct {
	id   string
	aead cipher.AEAD
}

const (
	keySize = 32 // bytes, AES-256
	idSize  = 8  // hexadecimal digits
)

// NewRing returns a ring with one random key that is kept in memory only.
func NewRing() (*Ring, error) {
	k, err := newKey(randomSecret())
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return newRing("", []key{k}), nil
}

func newRing(source string, keys []key) *Ring {
	r := &Ring{source: source, keys: new(atomic.Pointer[[]key]), tried: new(atomic.Int64)}
	r.keys.Store(&keys)
	return r
}

// list returns the keys, active first.
func (r *Ring) list() []key {
	if r == nil || r.keys == nil {
		return nil
	}
	return *r.keys.Load()
}

// IDs returns the ids of the keys, active first.
func (r *Ring) IDs() []string {
	ids := []string{}
	for _, k := range r.list() {
		ids = append(ids, k.id)
	}
	return ids
}

func randomSecret() []byte {
	secret := make([]byte, keySize)
	rand.Read(secret) // never fails: the program ends if the system has no random source
	return secret
}

func newKey(secret []byte) (key, error) {
	if len(secret) != keySize {
		return key{}, fmt.Errorf("a key has %d bytes, not %d", keySize, len(secret))
	}
	aead, err := newAEAD(secret)
	if err != nil {
		return key{}, err
	}
	return key{id: keyID(secret), aead: aead}, nil
}

// keyID returns the public name of a key: a hash that tells nothing of 256 random bits.
func keyID(secret []byte) string {
	h := sha256.New()
	io.WriteString(h, "sallyport key id\x00")
	h.Write(secret)
	return hex.EncodeToString(h.Sum(nil))[:idSize]
}

// isKeyID tells whether s has the form of a key id, and so may stand in a message.
func isKeyID(s string) bool {
	return len(s) == idSize && strings.Trim(s, "0123456789abcdef") == ""
}

// parse reads the text of a key file. Errors name the line and never repeat what is in it.
func parse(text string) ([]key, error) {
	var keys []key
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		for _, other := range keys {
			if other.id == k.id {
				return nil, fmt.Errorf("line %d: key %s is there twice", i+1, k.id)
			}
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no key: restore it from the backup of the keys (if nothing was ever sealed with it, remove the file and a new one is made)")
	}
	return keys, nil
}

func parseLine(line string) (key, error) {
	fields := strings.Fields(line)
	if len(fields) != 2 || !isKeyID(fields[0]) {
		return key{}, errors.New("it does not read KEYID BASE64")
	}
	id := fields[0]
	secret, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil {
		return key{}, fmt.Errorf("key %s is not base64", id)
	}
	k, err := newKey(secret)
	if err != nil {
		return key{}, err
	}
	if k.id != id {
		return key{}, fmt.Errorf("the key does not belong to the id %s before it: restore the line from the backup of the keys", id)
	}
	return k, nil
}

// format returns the text of a new key file.
func format(secret []byte) string {
	return "# Keys that open the secrets in Sallyport's database; without them those are lost.\n" +
		"# Keep a copy apart from the database's backups. One key a line: id, then base64.\n" +
		"# The first key seals new values, the others open older ones.\n" +
		keyID(secret) + " " + base64.StdEncoding.EncodeToString(secret) + "\n"
}

func (r *Ring) active() (key, error) {
	keys := r.list()
	if len(keys) == 0 {
		return key{}, errors.New("the key ring is empty")
	}
	return keys[0], nil
}

// find returns a key. One that is not here may have been added to the source meanwhile.
func (r *Ring) find(id string) (key, bool) {
	if k, ok := r.get(id); ok || r == nil || r.keys == nil {
		return k, ok
	}
	now := time.Now().UnixNano()
	if now-r.tried.Load() < int64(time.Second) {
		return key{}, false
	}
	_, err := r.Reload()
	k, ok := r.get(id)
	if err != nil || !ok {
		r.tried.Store(now)
	}
	return k, ok
}

func (r *Ring) get(id string) (key, bool) {
	for _, k := range r.list() {
		if k.id == id {
			return k, true
		}
	}
	return key{}, false
}

// where names the ring in messages.
func (r *Ring) where() string {
	if r == nil || r.source == "" {
		return "in memory"
	}
	return r.source
}

// String returns the ids of the keys, active first; keys themselves are never shown.
func (r *Ring) String() string {
	if r == nil {
		return "key ring without keys"
	}
	return fmt.Sprintf("key ring %s [%s]", r.where(), strings.Join(r.IDs(), " "))
}

// GoString returns the ids of the keys.
func (r *Ring) GoString() string { return r.String() }

// Format writes the ids of the keys for every verb of package fmt.
func (r *Ring) Format(f fmt.State, verb rune) { io.WriteString(f, r.String()) }

// LogValue returns the ids of the keys.
func (r *Ring) LogValue() slog.Value { return slog.StringValue(r.String()) }

// MarshalText returns the ids of the keys.
func (r *Ring) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
