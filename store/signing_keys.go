package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"time"
)

// SigningKey is a public key with which a node signs recordings and the audit chain, or once did.
type SigningKey struct {
	Public          string   // base64 of the 32 bytes
	Nodes           []string // names of the node whose key it is, the first one first
	Added           time.Time
	CompromisedFrom time.Time // zero: never
}

// SigningKeys is the table of the public signing keys of all nodes that ever were, so that each node can verify
// what another has signed. Nothing is ever deleted from it.
type SigningKeys struct{ db *db }

const addSigningName = "INSERT INTO signing_key_nodes (signer, node, added) VALUES (?, ?, ?) ON CONFLICT (signer, node) DO NOTHING"

// signerOf is the id of a key, as checkpoints name it.
func signerOf(public string) string {
	key, err := base64.StdEncoding.DecodeString(public)
	if err != nil {
		return public
	}
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// Publish adds a key, or a further name of the node whose key it is.
func (s SigningKeys) Publish(ctx context.Context, public, node string) error {
	return s.db.changing(ctx, "publishing a signing key", func(ctx context.Context, q querier) error {
		now := ms(s.db.now())
		if _, err := exec(ctx, q, "INSERT INTO signing_keys (public, node, added) VALUES (?, ?, ?) ON CONFLICT (public) DO NOTHING", public, node, now); err != nil {
			return err
		}
		_, err := exec(ctx, q, addSigningName, signerOf(public), node, now)
		return err
	})
}

// Succeed adds a key that takes the place of another one: it is good for the same names.
func (s SigningKeys) Succeed(ctx context.Context, public, was string) error {
	return s.db.changing(ctx, "publishing a signing key", func(ctx context.Context, q querier) error {
		now := ms(s.db.now())
		if err := execOne(ctx, q, "INSERT INTO signing_keys (public, node, added) SELECT CAST(? AS TEXT), node, CAST(? AS BIGINT) FROM signing_keys WHERE public = ?", public, now, was); err != nil {
			return err
		}
		_, err := exec(ctx, q, "INSERT INTO signing_key_nodes (signer, node, added) SELECT CAST(? AS TEXT), node, CAST(? AS BIGINT) FROM signing_key_nodes WHERE signer = ?", signerOf(public), now, signerOf(was))
		return err
	})
}

// List returns all keys, newest first.
func (s SigningKeys) List(ctx context.Context) ([]SigningKey, error) {
	type name struct{ signer, node string }
	var keys []SigningKey
	err := s.db.reading(ctx, "listing signing keys", func(ctx context.Context, q querier) error {
		names, err := all(ctx, q, func(n *name) []any { return []any{&n.signer, &n.node} }, "SELECT signer, node FROM signing_key_nodes ORDER BY added, node")
		if err != nil {
			return err
		}
		keys, err = all(ctx, q, func(k *SigningKey) []any {
			k.Nodes = make([]string, 1)
			return []any{&k.Public, &k.Nodes[0], timeColumn{&k.Added}, timeColumn{&k.CompromisedFrom}}
		}, "SELECT public, node, added, compromised FROM signing_keys ORDER BY added DESC, public")
		for i, k := range keys {
			for _, n := range names {
				if n.signer == signerOf(k.Public) && !slices.Contains(keys[i].Nodes, n.node) {
					keys[i].Nodes = append(keys[i].Nodes, n.node)
				}
			}
		}
		return err
	})
	return keys, err
}

// Compromise notes that what a key signed from a time on proves nothing. A time that was noted before is only
// moved backwards, never forwards: what was doubtful once stays so.
func (s SigningKeys) Compromise(ctx context.Context, public string, from time.Time) error {
	return s.db.writing(ctx, "noting that a signing key is compromised", func(ctx context.Context, q querier) error {
		return execOne(ctx, q, `UPDATE signing_keys SET compromised = CASE WHEN compromised = 0 OR compromised > ? THEN ? ELSE compromised END WHERE public = ?`,
			ms(from), ms(from), public)
	})
}
