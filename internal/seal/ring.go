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
)

// Ring holds the keys that open sealed values. The first one is active: it seals new values, the
// others only open old ones. A Ring never changes. The zero value has no keys and refuses to work.
type Ring struct {
	keys []key
	path string // file it was loaded from, empty if only in memory
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
	return &Ring{keys: []key{k}}, nil
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
	if r == nil || len(r.keys) == 0 {
		return key{}, errors.New("the key ring is empty")
	}
	return r.keys[0], nil
}

func (r *Ring) find(id string) (key, bool) {
	if r == nil {
		return key{}, false
	}
	for _, k := range r.keys {
		if k.id == id {
			return k, true
		}
	}
	return key{}, false
}

// where names the ring in messages.
func (r *Ring) where() string {
	if r == nil || r.path == "" {
		return "in memory"
	}
	return r.path
}

// String returns the ids of the keys, active first; keys themselves are never shown.
func (r *Ring) String() string {
	if r == nil {
		return "key ring without keys"
	}
	ids := make([]string, len(r.keys))
	for i, k := range r.keys {
		ids[i] = k.id
	}
	return fmt.Sprintf("key ring %s [%s]", r.where(), strings.Join(ids, " "))
}

// GoString returns the ids of the keys.
func (r *Ring) GoString() string { return r.String() }

// Format writes the ids of the keys for every verb of package fmt.
func (r *Ring) Format(f fmt.State, verb rune) { io.WriteString(f, r.String()) }

// LogValue returns the ids of the keys.
func (r *Ring) LogValue() slog.Value { return slog.StringValue(r.String()) }

// MarshalText returns the ids of the keys.
func (r *Ring) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
