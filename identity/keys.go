package identity

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/crypto/ssh"
)

// Bounds of the public keys of one entry; what is beyond them does not count.
const (
	maxKeys    = 50
	maxKeySize = 16 << 10 // bytes of a line of authorized_keys; RSA of 16384 bits needs 2.8 KiB
)

// minRSA is the least length of an RSA key, in bits.
const minRSA = 2048

// ParseUserKey reads a public key that may stand for a password: one line of authorized_keys. Options are
// refused, since nothing here would honour them; so are certificates, DSA, short RSA keys and anything of
// more than 16 KiB. The error says in words for an operator what is wrong.
func ParseUserKey(line string) (key ssh.PublicKey, comment string, err error) {
	line = strings.TrimSpace(line)
	switch {
	case len(line) > maxKeySize:
		return nil, "", fmt.Errorf("the line is longer than %d bytes", maxKeySize)
	case strings.ContainsAny(line, "\r\n\x00"):
		return nil, "", errors.New("this is more than one line")
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return nil, "", errors.New("this is not a public key")
	case len(options) > 0:
		return nil, "", errors.New("the key has options in front of it, which would not be honoured")
	}
	return key, comment, CheckUserKey(key)
}

// CheckUserKey tells what is wrong with a kind of key.
func CheckUserKey(key ssh.PublicKey) error {
	if _, ok := key.(*ssh.Certificate); ok {
		return errors.New("this is a certificate, not a key")
	}
	if key.Type() == ssh.InsecureKeyAlgoDSA {
		return errors.New("DSA keys are not safe any more")
	}
	if c, ok := key.(ssh.CryptoPublicKey); ok {
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() < minRSA {
			return fmt.Errorf("RSA keys of less than %d bits are not safe", minRSA)
		}
	}
	return nil
}

// keys gives the fingerprints of the public keys in an entry. What does not count is left out, and the log
// hears of it once a look-up.
func (l *LDAP) keys(e *ldap.Entry) []string {
	if l.cfg.KeyAttribute == "" {
		return nil
	}
	var list []string
	ignored, why := 0, ""
	ignore := func(n int, reason string) {
		if ignored += n; why == "" {
			why = reason
		}
	}
	values := e.GetEqualFoldAttributeValues(l.cfg.KeyAttribute)
	if len(values) > maxKeys {
		ignore(len(values)-maxKeys, fmt.Sprintf("more than %d values", maxKeys))
		values = values[:maxKeys]
	}
	for _, v := range values {
		key, _, err := ParseUserKey(v)
		if err != nil {
			ignore(1, err.Error())
			continue
		}
		if f := ssh.FingerprintSHA256(key); !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	if ignored > 0 {
		l.cfg.Log.Warn("public keys in the directory do not count", "entry", fmt.Sprintf("%.200q", e.DN),
			"attribute", l.cfg.KeyAttribute, "ignored", ignored, "reason", why)
	}
	return list
}
