package recorder

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrCompromised is the cause when a key made a signature at a time from which on it proves nothing.
var ErrCompromised = errors.New("signed with a key after it was compromised")

// Key is a public key by which recordings are proved. A key stays good when another one has taken its place:
// what it signed is as true as before.
type Key struct {
	Public          ed25519.PublicKey
	Nodes           []string  // names of the node whose key it is; none: nobody knows, and it is taken for any node's
	CompromisedFrom time.Time // what it signed from this time on proves nothing; zero: never
}

// ID is the short name of the key.
func (k Key) ID() string { return KeyID(k.Public) }

// Keyring is keys by [KeyID].
type Keyring map[string]Key

// NewKeyring returns a ring of keys. Keys of another length are left out.
func NewKeyring(keys ...Key) Keyring {
	ring := make(Keyring, len(keys))
	for _, k := range keys {
		if len(k.Public) == ed25519.PublicKeySize {
			ring[k.ID()] = k
		}
	}
	return ring
}

// Check tells whether sig is the signature of the key of that id over text, which speaks for the node, made at
// the given time as the signed text itself says. The errors are ErrUnknownKey, also for the key of another node,
// ErrCompromised and ErrDamaged.
func (r Keyring) Check(node, id string, at time.Time, text, sig []byte) error {
	if key := r[id]; len(key.Nodes) > 0 && !slices.Contains(key.Nodes, node) {
		return fmt.Errorf("%w: key %s is that of node %s, and this is of node %q", ErrUnknownKey, id, strings.Join(key.Nodes, ", "), node)
	}
	return r.checkAny(id, at, text, sig)
}

// checkAny is Check for what any node may sign.
func (r Keyring) checkAny(id string, at time.Time, text, sig []byte) error {
	key, ok := r[id]
	switch {
	case !ok:
		return fmt.Errorf("%w: key %q", ErrUnknownKey, id)
	case !ed25519.Verify(key.Public, text, sig):
		return fmt.Errorf("%w: a signature of key %s is false", ErrDamaged, id)
	case !key.CompromisedFrom.IsZero() && !at.Before(key.CompromisedFrom):
		return fmt.Errorf("%w: key %s, compromised from %s on, signed at %s", ErrCompromised, id, key.CompromisedFrom.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
	}
	return nil
}

// signer is the key that signs now, and those that signatures are checked with.
type signer struct {
	private ed25519.PrivateKey
	ring    Keyring
	list    []Key // the own one first
}

func newSigner(private ed25519.PrivateKey, node string, trusted []Key) (*signer, error) {
	if len(private) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("the signing key has %d bytes, not %d", len(private), ed25519.PrivateKeySize)
	}
	own := Key{Public: private.Public().(ed25519.PublicKey)}
	if node != "" {
		own.Nodes = []string{node}
	}
	list := []Key{own}
	for _, k := range trusted {
		if k.Public.Equal(own.Public) {
			list[0].CompromisedFrom = k.CompromisedFrom
			for _, name := range k.Nodes { // it was called otherwise before
				if !slices.Contains(list[0].Nodes, name) {
					list[0].Nodes = append(list[0].Nodes, name)
				}
			}
		} else if !slices.ContainsFunc(list, func(o Key) bool { return o.Public.Equal(k.Public) }) {
			list = append(list, k)
		}
	}
	return &signer{private, NewKeyring(list...), list}, nil
}

// SetKeys replaces the key that signs from now on, and the keys that are trusted beside it. What is being
// recorded goes on with the new key.
func (r *Recorder) SetKeys(private ed25519.PrivateKey, trusted []Key) error {
	s, err := newSigner(private, r.cfg.Node, trusted)
	if err != nil {
		return fmt.Errorf("taking over another signing key: %w", err)
	}
	r.signer.Store(s)
	return nil
}

// Trust replaces the keys that are trusted beside the one that signs.
func (r *Recorder) Trust(keys []Key) {
	if s, err := newSigner(r.signer.Load().private, r.cfg.Node, keys); err == nil {
		r.signer.Store(s)
	}
}

// Keys are the keys that recordings are proved with, the one that signs now first.
func (r *Recorder) Keys() []Key { return slices.Clone(r.signer.Load().list) }

// Check is [Keyring.Check] with the keys of now.
func (r *Recorder) Check(node, id string, at time.Time, text, sig []byte) error {
	return r.signer.Load().ring.Check(node, id, at, text, sig)
}

// Sign signs a text that begins with a label of its own kind, and returns the id of the key.
func (r *Recorder) Sign(text []byte) (id string, sig []byte) {
	s := r.signer.Load()
	return s.list[0].ID(), ed25519.Sign(s.private, text)
}

// Words before the block of a key.
const (
	nodeWord        = "Node: "
	compromisedWord = "Compromised-From: "
)

// MarshalPEM writes the key as PEM (RFC 8410) for a file that ParseKeyFile reads. Nodes and compromise stand
// in lines before the block, where other programs look for nothing.
func (k Key) MarshalPEM() ([]byte, error) {
	block, err := MarshalKey(k.Public)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, name := range k.Nodes {
		if name == "" || name != strings.TrimSpace(name) || strings.ContainsAny(name, "\r\n") || strings.Contains(name, "-----BEGIN") {
			return nil, fmt.Errorf("encoding public key %s: %q is no name of a node", k.ID(), name) // left out, the key would be any node's
		}
		text.WriteString(nodeWord + name + "\n")
	}
	if !k.CompromisedFrom.IsZero() {
		text.WriteString(compromisedWord + k.CompromisedFrom.UTC().Format(time.RFC3339Nano) + "\n")
	}
	text.Write(block)
	return text.Bytes(), nil
}

// ParseKeyFile reads the Ed25519 public keys of a PEM file, with what MarshalPEM wrote before them.
func ParseKeyFile(file []byte) ([]Key, error) {
	var keys []Key
	for {
		before, _, _ := bytes.Cut(file, []byte("-----BEGIN"))
		block, rest := pem.Decode(file)
		if block == nil {
			break
		}
		file = rest
		any, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading public key %d: %w", len(keys)+1, err)
		}
		public, ok := any.(ed25519.PublicKey)
		if !ok || block.Type != pemType {
			return nil, fmt.Errorf("reading public key %d: not an Ed25519 public key", len(keys)+1)
		}
		k := Key{Public: public}
		for line := range strings.Lines(string(before)) {
			line = strings.TrimSpace(line)
			if name, ok := strings.CutPrefix(line, nodeWord); ok {
				k.Nodes = append(k.Nodes, name)
			}
			if text, ok := strings.CutPrefix(line, compromisedWord); ok {
				if k.CompromisedFrom, err = time.Parse(time.RFC3339, text); err != nil {
					return nil, fmt.Errorf("reading public key %d: from when on it is compromised: %w", len(keys)+1, err)
				}
			}
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("reading public keys: no PEM block of a public key")
	}
	return keys, nil
}

// plainKeys are keys of which nothing more is known.
func plainKeys(public []ed25519.PublicKey) []Key {
	keys := make([]Key, len(public))
	for i, k := range public {
		keys[i].Public = k
	}
	return keys
}
