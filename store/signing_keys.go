package store

import (
	"context"
	"time"
)

// SigningKey is a public key with which a node signs recordings and the audit chain, or once did.
type SigningKey struct {
	Public          string // base64 of the 32 bytes
	Node            string
	Added           time.Time
	CompromisedFrom time.Time // zero: never
}

// SigningKeys is the table of the public signing keys of all nodes that ever were, so that each node can verify
// what another has signed. Nothing is ever deleted from it.
type SigningKeys struct{ db *db }

// Publish adds a key. One that is there stays as it is.
func (s SigningKeys) Publish(ctx context.Context, public, node string) error {
	return s.db.writing(ctx, "publishing a signing key", func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "INSERT INTO signing_keys (public, node, added) VALUES (?, ?, ?) ON CONFLICT (public) DO NOTHING", public, node, ms(s.db.now()))
		return err
	})
}

// List returns all keys, newest first.
func (s SigningKeys) List(ctx context.Context) ([]SigningKey, error) {
	var keys []SigningKey
	err := s.db.reading(ctx, "listing signing keys", func(ctx context.Context, q querier) (err error) {
		keys, err = all(ctx, q, func(k *SigningKey) []any {
			return []any{&k.Public, &k.Node, timeColumn{&k.Added}, timeColumn{&k.CompromisedFrom}}
		}, "SELECT public, node, added, compromised FROM signing_keys ORDER BY added DESC, public")
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
