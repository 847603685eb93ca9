package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"
)

// cost of one argon2id hash (RFC 9106, section 3.1). The default is the smallest that OWASP calls
// equal to the larger ones; 20 to 40 ms of CPU keeps a flood of logins from being a flood of work.
type cost struct {
	memory  uint32 // KiB
	time    uint32 // passes
	threads uint8
}

var defaultCost = cost{memory: 19 * 1024, time: 2, threads: 1}

const (
	saltLen = 16
	keyLen  = 32

	// What a stored hash may ask for at most; a row that somebody altered must not stop the server.
	maxMemory  = 64 * 1024
	maxTime    = 10
	maxThreads = 4
)

// hashing bounds how many hashes are computed at once, and with it their memory: one for each
// processor does the work as fast as more would.
var hashing = make(chan struct{}, max(2, runtime.GOMAXPROCS(0)))

// dummyHash is verified for people who do not exist. It belongs to a random password.
var dummyHash = sync.OnceValue(func() hash {
	h := hash{cost: defaultCost, salt: make([]byte, saltLen), key: make([]byte, keyLen)}
	_, _ = rand.Read(h.salt) // never fails (crypto/rand)
	_, _ = rand.Read(h.key)
	return h
})

// HashPassword returns the argon2id hash of p as a PHC string with a salt of its own. It waits its
// turn until ctx ends. A password that is empty, blank, longer than 1024 bytes or contains a NUL is
// an error.
func HashPassword(ctx context.Context, p Password) (string, error) {
	if err := p.usable(); err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	h := hash{cost: defaultCost, salt: make([]byte, saltLen)}
	_, _ = rand.Read(h.salt) // never fails (crypto/rand)
	key, err := h.derive(ctx, p, keyLen)
	if err != nil {
		return "", err
	}
	h.key = key
	return h.String(), nil
}

// VerifyPassword tells whether p is the password of the PHC string phc. An error means that no
// comparison was made: phc is no argon2id hash within bounds, or ctx ended in the queue.
func VerifyPassword(ctx context.Context, phc string, p Password) (bool, error) {
	h, err := parseHash(phc)
	if err != nil {
		return false, fmt.Errorf("reading a password hash: %w", err)
	}
	return h.verify(ctx, p)
}

// VerifyDummy costs what [VerifyPassword] costs and never succeeds. It is called for people who do
// not exist or have no password, so that time does not tell them apart.
func VerifyDummy(ctx context.Context, p Password) error {
	_, err := dummyHash().verify(ctx, p)
	return err
}

// hash is a parsed PHC string: $argon2id$v=19$m=19456,t=2,p=1$salt$key.
type hash struct {
	cost
	salt, key []byte
}

func (h hash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.key))
}

func (h hash) verify(ctx context.Context, p Password) (bool, error) {
	if p.usable() != nil {
		return false, nil
	}
	key, err := h.derive(ctx, p, uint32(len(h.key)))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(key, h.key) == 1, nil
}

func (h hash) derive(ctx context.Context, p Password, length uint32) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("waiting to hash a password: %w", err)
	}
	select {
	case hashing <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting to hash a password: %w", ctx.Err())
	}
	defer func() { <-hashing }()
	return argon2.IDKey([]byte(p), h.salt, h.time, h.memory, h.threads, length), nil
}

func parseHash(phc string) (hash, error) {
	var h hash
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return h, errors.New("not an argon2id PHC string")
	}
	if parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errors.New("unknown argon2 version")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); err != nil {
		return h, errors.New("malformed parameters")
	}
	if h.memory < 8*uint32(h.threads) || h.memory > maxMemory || h.time < 1 || h.time > maxTime || h.threads < 1 || h.threads > maxThreads {
		return h, errors.New("parameters out of bounds")
	}
	var err error
	if h.salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return h, errors.New("malformed salt")
	}
	if h.key, err = base64.RawStdEncoding.Strict().DecodeString(parts[5]); err != nil || len(h.key) < 16 || len(h.key) > 64 {
		return h, errors.New("malformed key")
	}
	if h.String() != phc {
		return h, errors.New("not in canonical form")
	}
	return h, nil
}
