package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What a key of the user CA is for now. There is at most one of each.
const (
	CANext   = "next"   // targets come to trust it; it signs nothing yet
	CAActive = "active" // signs
	CAOld    = "old"    // has signed; targets still trust it
)

// CAKey is a key that signs certificates with which the bastion logs in to targets.
type CAKey struct {
	ID        string
	State     string // CANext, CAActive or CAOld
	PublicKey string // form of authorized_keys without comment
	Created   time.Time
}

// CAKeys is the table of the keys of the user CA. Every node reads it for each certificate.
type CAKeys struct{ db *db }

// FirstCAKey is the name under which [Secrets] kept the only key before there was a table.
const FirstCAKey = "user-ca/ed25519"

const caKeyColumns = "id, state, public_key, created"

func caKeyFields(c *CAKey) []any {
	return []any{&c.ID, &c.State, &c.PublicKey, timeColumn{&c.Created}}
}

// Begin makes the first key, which signs at once, unless there is one that signs. Of several nodes that
// do so, one is the first.
func (s CAKeys) Begin(ctx context.Context, publicKey string, secret CredentialSecret) error {
	_, err := s.insert(ctx, "making the user CA", CAActive, publicKey, secret, func(context.Context, querier) error { return nil })
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// Rotate adds the key that is to follow. The error is [ErrExists] if one waits already, [ErrConflict]
// while an old one was not retired.
func (s CAKeys) Rotate(ctx context.Context, publicKey string, secret CredentialSecret) (CAKey, error) {
	return s.insert(ctx, "adding a key of the user CA", CANext, publicKey, secret, func(ctx context.Context, q querier) error {
		return s.noOld(ctx, q)
	})
}

func (s CAKeys) insert(ctx context.Context, what, state, publicKey string, secret CredentialSecret, may func(context.Context, querier) error) (CAKey, error) {
	if publicKey == "" || len(secret) == 0 {
		return CAKey{}, fmt.Errorf("%s: the key is missing", what)
	}
	id, err := newID()
	if err != nil {
		return CAKey{}, fmt.Errorf("%s: %w", what, err)
	}
	sealed, err := s.db.ring.Seal("ca_keys", "secret", id, secret)
	if err != nil {
		return CAKey{}, fmt.Errorf("%s: %w", what, err)
	}
	var made CAKey
	err = s.db.changing(ctx, what, func(ctx context.Context, q querier) (err error) {
		if err := errors.Join(s.db.lock(ctx, q, lockCAKeys), may(ctx, q)); err != nil {
			return err
		}
		made, err = one(ctx, q, caKeyFields, "INSERT INTO ca_keys (id, state, public_key, secret, created) VALUES (?, ?, ?, ?, ?) RETURNING "+caKeyColumns,
			id, state, publicKey, sealed, ms(s.db.now()))
		return err
	})
	return made, err
}

func (s CAKeys) noOld(ctx context.Context, q querier) error {
	n, err := scalar[int](ctx, q, "SELECT COUNT(*) FROM ca_keys WHERE state = ?", CAOld)
	if err == nil && n > 0 {
		err = ErrConflict
	}
	return err
}

// Activate has the next key sign from now on, on all nodes, and makes the one that did an old one. The
// error is [ErrNotFound] if there is no next one, [ErrConflict] while an old one was not retired.
func (s CAKeys) Activate(ctx context.Context) (CAKey, error) {
	var active CAKey
	err := s.db.changing(ctx, "changing the key of the user CA", func(ctx context.Context, q querier) (err error) {
		if err := errors.Join(s.db.lock(ctx, q, lockCAKeys), s.noOld(ctx, q)); err != nil {
			return err
		}
		if _, err := exec(ctx, q, "UPDATE ca_keys SET state = ? WHERE state = ?", CAOld, CAActive); err != nil {
			return err
		}
		active, err = one(ctx, q, caKeyFields, "UPDATE ca_keys SET state = ? WHERE state = ? RETURNING "+caKeyColumns, CAActive, CANext)
		return err
	})
	return active, err
}

// Drop removes the next key, so that another one can be made. check sees it before and may refuse. The error is
// [ErrNotFound] if there is no next key.
func (s CAKeys) Drop(ctx context.Context, check func(next CAKey) error) (CAKey, error) {
	var next CAKey
	err := s.db.changing(ctx, "dropping a key of the user CA", func(ctx context.Context, q querier) (err error) {
		if err := s.db.lock(ctx, q, lockCAKeys); err != nil {
			return err
		}
		if next, err = one(ctx, q, caKeyFields, "DELETE FROM ca_keys WHERE state = ? RETURNING "+caKeyColumns, CANext); err != nil {
			return err
		}
		return check(next) // an error brings the row back
	})
	return next, err
}

// Retire removes the old key for ever, or returns [ErrNotFound].
func (s CAKeys) Retire(ctx context.Context) (CAKey, error) {
	var old CAKey
	err := s.db.changing(ctx, "retiring a key of the user CA", func(ctx context.Context, q querier) (err error) {
		if err := s.db.lock(ctx, q, lockCAKeys); err != nil {
			return err
		}
		if old, err = one(ctx, q, caKeyFields, "DELETE FROM ca_keys WHERE state = ? RETURNING "+caKeyColumns, CAOld); err != nil {
			return err
		}
		_, err = exec(ctx, q, "DELETE FROM secrets WHERE name = ?", FirstCAKey)
		return err
	})
	return old, err
}

// List returns the keys that targets should trust now: the one that signs first, then the next one, then
// the old one.
func (s CAKeys) List(ctx context.Context) ([]CAKey, error) {
	var list []CAKey
	err := s.db.reading(ctx, "listing the keys of the user CA", func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, caKeyFields, "SELECT "+caKeyColumns+" FROM ca_keys")
		return err
	})
	order := []string{CAActive, CANext, CAOld}
	slices.SortFunc(list, func(a, b CAKey) int { return slices.Index(order, a.State) - slices.Index(order, b.State) })
	return list, err
}

// Active returns the private key that signs now, or [ErrNotFound].
func (s CAKeys) Active(ctx context.Context) (CredentialSecret, error) {
	const what = "reading the key of the user CA"
	type row struct{ id, secret string }
	var r row
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		r, err = one(ctx, q, func(r *row) []any { return []any{&r.id, &r.secret} }, "SELECT id, secret FROM ca_keys WHERE state = ?", CAActive)
		return err
	})
	if err != nil {
		return nil, err
	}
	secret, err := s.db.ring.Open("ca_keys", "secret", r.id, r.secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return secret, nil
}
