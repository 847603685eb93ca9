package bastion

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/store"
)

// HostCA makes the host keys that the bastion shows where it answers in the place of a target (ssh -J),
// and vouches for them. Nodes with the same secret and the same CA show the same keys. It is safe for
// concurrent use.
type HostCA struct {
	ca  ssh.Signer
	key func(target string) (ssh.Signer, error) // of a target's id

	mu    sync.Mutex // guards the field below
	certs map[string]hostCert
}

// hostCert is a certificate that was made, and until when it is shown.
type hostCert struct {
	signer ssh.Signer
	until  time.Time
}

// How long a host certificate is valid, how much of that is in the past for clocks that differ, and when
// another one is shown.
const (
	hostCertTime  = 24 * time.Hour
	hostCertSkew  = time.Hour
	hostCertShown = 12 * time.Hour
)

// maxHostCerts bounds the certificates that are kept.
const maxHostCerts = 1000

// HostSecretSize is the length in bytes of the secret that [NewHostCA] derives keys from.
const HostSecretSize = store.HostSecretSize

// NewHostCA returns a HostCA that signs with ca and derives the key of each target from secret.
func NewHostCA(ca ssh.Signer, secret []byte) (*HostCA, error) {
	if len(secret) < HostSecretSize {
		return nil, errors.New("bastion: the secret for host keys of targets is too short")
	}
	secret = slices.Clone(secret)
	return &HostCA{ca: ca, certs: map[string]hostCert{}, key: func(target string) (ssh.Signer, error) {
		seed, err := hkdf.Key(sha256.New, secret, nil, "sallyport host key of target "+target, ed25519.SeedSize)
		if err != nil {
			return nil, fmt.Errorf("deriving the host key of target %s: %w", target, err)
		}
		return ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
	}}, nil
}

// PublicKey is the key by which clients know that a host key is the bastion's for a target.
func (h *HostCA) PublicKey() ssh.PublicKey { return h.ca.PublicKey() }

// signers are the certificate and the plain key for t, for a client that knows it as host.
func (h *HostCA) signers(t store.Target, host string, now time.Time) ([]ssh.Signer, error) {
	key, err := h.key(t.ID)
	if err != nil {
		return nil, err
	}
	cert, err := h.certificate(key, t, host, now)
	if err != nil {
		return nil, err
	}
	return []ssh.Signer{cert, key}, nil
}

// certificate vouches for key under all names of t. OpenSSH looks for the host as it was typed, in lower
// case.
func (h *HostCA) certificate(key ssh.Signer, t store.Target, host string, now time.Time) (ssh.Signer, error) {
	at, _ := splitAddress(t.Address)
	var names []string
	for _, n := range []string{t.Name, at, host} {
		names = append(names, n, strings.ToLower(n))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	id := t.ID + " " + strings.Join(names, " ")
	h.mu.Lock()
	defer h.mu.Unlock()
	if c, ok := h.certs[id]; ok && now.Before(c.until) {
		return c.signer, nil
	}
	var serial [8]byte
	rand.Read(serial[:]) // never fails
	cert := &ssh.Certificate{
		Key: key.PublicKey(), Serial: binary.BigEndian.Uint64(serial[:]), CertType: ssh.HostCert,
		KeyId: audit.Escape("sallyport/" + t.Name), ValidPrincipals: names,
		ValidAfter: uint64(now.Add(-hostCertSkew).Unix()), ValidBefore: uint64(now.Add(hostCertTime).Unix()),
	}
	if err := cert.SignCert(rand.Reader, h.ca); err != nil {
		return nil, fmt.Errorf("signing a host certificate for target %s: %w", t.Name, err)
	}
	signer, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		return nil, fmt.Errorf("signing a host certificate for target %s: %w", t.Name, err)
	}
	if len(h.certs) >= maxHostCerts {
		clear(h.certs)
	}
	h.certs[id] = hostCert{signer, now.Add(hostCertShown)}
	return signer, nil
}
