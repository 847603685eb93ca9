// Package seal encrypts the secrets that the database keeps, so that a copy of the database alone
// opens nothing and a sealed value works only in the place it was sealed for.
//
// A sealed value is text, "v1.KEYID.BASE64": AES-256-GCM with a random 96-bit nonce before the
// ciphertext. Table, column and row are authenticated with it, hence a value that is moved to
// another row, even by somebody who may write to the database, does not open. KEYID names the key
// of the ring that sealed it; new values are always sealed with the ring's first key.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrUnknownKey is the error for a value sealed with a key that the ring does not have.
	ErrUnknownKey = errors.New("the key is not in the key ring")
	// ErrDamaged is the error for a value that was changed, cut or moved to another place.
	ErrDamaged = errors.New("the sealed value was changed or moved here from another place")
)

// version starts every sealed value and is authenticated with it.
const version = "v1"

// base64Text is strict, so that a value has one spelling only.
var base64Text = base64.RawURLEncoding.Strict()

// Seal encrypts plain for one place in the database. The three names must not be empty; row is what
// identifies the row for ever, such as its id. It is safe for concurrent use.
func (r *Ring) Seal(table, column, row string, plain []byte) (string, error) {
	k, err := r.active()
	if err != nil {
		return "", fmt.Errorf("sealing %s.%s: %w", table, column, err)
	}
	place, err := additionalData(k.id, table, column, row)
	if err != nil {
		return "", fmt.Errorf("sealing %s.%s: %w", table, column, err)
	}
	return version + "." + k.id + "." + base64Text.EncodeToString(k.aead.Seal(nil, nil, plain, place)), nil
}

// Open decrypts what [Ring.Seal] made for the same table, column and row. Its errors are
// [ErrUnknownKey] and [ErrDamaged], with the place and what to do; they never hold any plaintext.
// It is safe for concurrent use.
func (r *Ring) Open(table, column, row, sealed string) ([]byte, error) {
	plain, err := r.open(table, column, row, sealed)
	if err != nil {
		return nil, fmt.Errorf("opening %s.%s of row %q: %w", table, column, row, err)
	}
	return plain, nil
}

func (r *Ring) open(table, column, row, sealed string) ([]byte, error) {
	parts := strings.Split(sealed, ".")
	if len(parts) != 3 || parts[0] != version || !isKeyID(parts[1]) {
		return nil, fmt.Errorf("%w: it does not read %s.KEY.BASE64", ErrDamaged, version)
	}
	k, ok := r.find(parts[1])
	if !ok {
		return nil, fmt.Errorf("sealed with key %s: %w %s: put the line of that key back into the file, below the first line, and start again",
			parts[1], ErrUnknownKey, r.where())
	}
	if strings.ContainsAny(parts[2], "\r\n") { // the decoder would skip them
		return nil, ErrDamaged
	}
	box, err := base64Text.DecodeString(parts[2])
	if err != nil {
		return nil, ErrDamaged
	}
	place, err := additionalData(k.id, table, column, row)
	if err != nil {
		return nil, err
	}
	plain, err := k.aead.Open(nil, nil, box, place)
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// additionalData encodes the place of a sealed value for authentication. Each part is preceded by
// its length, so that no two places have the same encoding ("ab","c" is not "a","bc").
func additionalData(keyID, table, column, row string) ([]byte, error) {
	if table == "" || column == "" || row == "" {
		return nil, errors.New("table, column and row must all be named")
	}
	var b []byte
	for _, part := range []string{version, keyID, table, column, row} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b, nil
}

// newAEAD returns AES-256-GCM that draws a random nonce for each message and puts it in front. With
// random nonces one key is good for 2^32 messages (NIST SP 800-38D, section 8.3).
func newAEAD(secret []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
