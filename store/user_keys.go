package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// UserKey is a public key with which a user may log in.
type UserKey struct {
	ID          string
	UserID      string
	Name        string
	PublicKey   string // line of an authorized_keys file
	Fingerprint string // SHA256:…, unique
	Created     time.Time
	LastUsed    time.Time
}

// UserKeys is the table of public keys.
type UserKeys struct{ db *db }

const userKeyColumns = "id, user_id, name, public_key, fingerprint, created, last_used"

func userKeyFields(k *UserKey) []any {
	return []any{
		&k.ID, &k.UserID, &k.Name, &k.PublicKey, &k.Fingerprint, timeColumn{&k.Created}, timeColumn{&k.LastUsed},
	}
}

// Add gives a user a key. The error is [ErrExists] if anybody, also a robot, has it already: a key names one
// person.
func (s UserKeys) Add(ctx context.Context, k UserKey) (UserKey, error) {
	what := "adding a key to user " + k.UserID
	if k.Fingerprint == "" || k.PublicKey == "" {
		return UserKey{}, fmt.Errorf("%s: %w", what, errors.New("key or fingerprint is missing"))
	}
	id, err := newID()
	if err != nil {
		return UserKey{}, fmt.Errorf("%s: %w", what, err)
	}
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) (err error) {
		if n, err := scalar[int64](ctx, q, "SELECT COUNT(*) FROM robots WHERE fingerprint = ?", k.Fingerprint); err != nil || n > 0 {
			return cmp.Or(err, ErrExists)
		}
		k, err = one(ctx, q, userKeyFields, `INSERT INTO user_keys (id, user_id, name, public_key, fingerprint, created)
			VALUES (?, ?, ?, ?, ?, ?) RETURNING `+userKeyColumns,
			id, k.UserID, k.Name, k.PublicKey, k.Fingerprint, ms(s.db.now()))
		return err
	})
	if err != nil {
		return UserKey{}, err
	}
	return k, nil
}

// List returns the keys of a user, newest first.
func (s UserKeys) List(ctx context.Context, userID string) ([]UserKey, error) {
	var keys []UserKey
	err := s.db.briefly(ctx, "listing the keys of user "+userID, func(ctx context.Context, q querier) (err error) {
		keys, err = all(ctx, q, userKeyFields,
			"SELECT "+userKeyColumns+" FROM user_keys WHERE user_id = ? ORDER BY id DESC", userID)
		return err
	})
	return keys, err
}

// ByFingerprint returns the key of a user with a fingerprint, or [ErrNotFound] if this user has no
// such key.
func (s UserKeys) ByFingerprint(ctx context.Context, userID, fingerprint string) (UserKey, error) {
	var k UserKey
	err := s.db.briefly(ctx, "reading a key of user "+userID, func(ctx context.Context, q querier) (err error) {
		k, err = one(ctx, q, userKeyFields,
			"SELECT "+userKeyColumns+" FROM user_keys WHERE fingerprint = ? AND user_id = ?", fingerprint, userID)
		return err
	})
	return k, err
}

// Delete takes a key away from a user.
func (s UserKeys) Delete(ctx context.Context, userID, id string) error {
	return s.db.withdrawing(ctx, "deleting key "+id, userID, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "DELETE FROM user_keys WHERE id = ? AND user_id = ?", id, userID)
	})
}

// Touch notes that a key was used now.
func (s UserKeys) Touch(ctx context.Context, id string) error {
	return s.db.writing(ctx, "noting the use of key "+id, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, touchKey, ms(s.db.now()), id)
	})
}

const touchKey = "UPDATE user_keys SET last_used = ? WHERE id = ?"
