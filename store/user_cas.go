package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// UserCA is an authority whose certificates stand for the password of the users they name.
type UserCA struct {
	ID          string
	Name        string // unique
	PublicKey   string // form of authorized_keys without comment
	Fingerprint string // SHA256:…, unique
	Enabled     bool
	Created     time.Time
	LastUsed    time.Time
}

// Kinds of revocation.
const (
	RevokedSerial = "serial" // of one certificate; decimal
	RevokedKeyID  = "key-id" // of all certificates with this key id
)

// Revocation takes certificates of one CA back.
type Revocation struct {
	Kind    string // RevokedSerial or RevokedKeyID
	Value   string
	Created time.Time
}

// UserCAs is the table of certificate authorities of users.
type UserCAs struct{ db *db }

const userCAColumns = "id, name, public_key, fingerprint, enabled, created, last_used"

func userCAFields(c *UserCA) []any {
	return []any{&c.ID, &c.Name, &c.PublicKey, &c.Fingerprint, &c.Enabled, timeColumn{&c.Created}, timeColumn{&c.LastUsed}}
}

// Add lists a CA. The error is [ErrExists] if there is one of this name or with this key.
func (s UserCAs) Add(ctx context.Context, c UserCA) (UserCA, error) {
	what := "adding user CA " + c.Name
	if c.Name == "" || c.PublicKey == "" || c.Fingerprint == "" {
		return UserCA{}, fmt.Errorf("%s: %w", what, errors.New("name, key or fingerprint is missing"))
	}
	id, err := newID()
	if err != nil {
		return UserCA{}, fmt.Errorf("%s: %w", what, err)
	}
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) (err error) {
		c, err = one(ctx, q, userCAFields, `INSERT INTO user_cas (id, name, public_key, fingerprint, enabled, created)
			VALUES (?, ?, ?, ?, ?, ?) RETURNING `+userCAColumns, id, c.Name, c.PublicKey, c.Fingerprint, c.Enabled, ms(s.db.now()))
		return err
	})
	if err != nil {
		return UserCA{}, err
	}
	return c, nil
}

// List returns all CAs, newest first.
func (s UserCAs) List(ctx context.Context) ([]UserCA, error) {
	var list []UserCA
	err := s.db.reading(ctx, "listing user CAs", func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, userCAFields, "SELECT "+userCAColumns+" FROM user_cas ORDER BY id DESC")
		return err
	})
	return list, err
}

// ByName returns the CA of a name, or [ErrNotFound].
func (s UserCAs) ByName(ctx context.Context, name string) (UserCA, error) {
	return s.by(ctx, "name = ?", name)
}

// Trusted returns the CA whose key has this fingerprint, or [ErrNotFound] if it is not listed or is
// disabled.
func (s UserCAs) Trusted(ctx context.Context, fingerprint string) (UserCA, error) {
	return s.by(ctx, "enabled AND fingerprint = ?", fingerprint)
}

func (s UserCAs) by(ctx context.Context, condition, value string) (UserCA, error) {
	var c UserCA
	err := s.db.briefly(ctx, "reading user CA "+value, func(ctx context.Context, q querier) (err error) {
		c, err = one(ctx, q, userCAFields, "SELECT "+userCAColumns+" FROM user_cas WHERE "+condition, value)
		return err
	})
	return c, err
}

// SetEnabled says whether the certificates of a CA count.
func (s UserCAs) SetEnabled(ctx context.Context, id string, enabled bool) error {
	return s.db.withdrawing(ctx, "changing user CA "+id, "", func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "UPDATE user_cas SET enabled = ? WHERE id = ?", enabled, id)
	})
}

// Delete forgets a CA and all that it has revoked.
func (s UserCAs) Delete(ctx context.Context, id string) error {
	return s.db.withdrawing(ctx, "deleting user CA "+id, "", func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "DELETE FROM user_cas WHERE id = ?", id)
	})
}

// Revoke takes certificates of a CA back. Revoking twice is no error; [ErrNotFound] if the CA is gone.
func (s UserCAs) Revoke(ctx context.Context, id string, r Revocation) error {
	what := "revoking certificates of user CA " + id
	if r.Value == "" {
		return fmt.Errorf("%s: %w", what, errors.New("the value is empty"))
	}
	return s.db.withdrawing(ctx, what, "", func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "INSERT INTO revoked_certificates (ca_id, kind, value, created) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
			id, r.Kind, r.Value, ms(s.db.now()))
		return err
	})
}

// Revocations lists what was revoked of a CA, newest first.
func (s UserCAs) Revocations(ctx context.Context, id string) ([]Revocation, error) {
	var list []Revocation
	err := s.db.reading(ctx, "listing the revocations of user CA "+id, func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, func(r *Revocation) []any { return []any{&r.Kind, &r.Value, timeColumn{&r.Created}} },
			"SELECT kind, value, created FROM revoked_certificates WHERE ca_id = ? ORDER BY created DESC, kind, value", id)
		return err
	})
	return list, err
}

// Revoked tells whether a certificate of a CA was taken back, by its serial number or its key id.
func (s UserCAs) Revoked(ctx context.Context, id string, serial uint64, keyID string) (bool, error) {
	var n int64
	err := s.db.briefly(ctx, "looking for a revocation", func(ctx context.Context, q querier) (err error) {
		n, err = scalar[int64](ctx, q, revokedCount, id, RevokedSerial, strconv.FormatUint(serial, 10), RevokedKeyID, keyID)
		return err
	})
	return n > 0, err
}

const revokedCount = `SELECT COUNT(*) FROM revoked_certificates
	WHERE ca_id = ? AND (kind = ? AND value = ? OR kind = ? AND value = ?)`

// useCertificate notes a login, and only by a certificate that still counts.
func useCertificate(ctx context.Context, tx querier, u CertificateUse, now int64) error {
	if err := execOne(ctx, tx, "UPDATE user_cas SET last_used = ? WHERE id = ? AND enabled", now, u.CAID); err != nil {
		return err
	}
	n, err := scalar[int64](ctx, tx, revokedCount, u.CAID, RevokedSerial, strconv.FormatUint(u.Serial, 10), RevokedKeyID, u.KeyID)
	if err == nil && n > 0 {
		err = ErrNotFound
	}
	return err
}
