package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kinds of spare codes.
const (
	RecoveryCode = "recovery" // one of ten that a person keeps on paper
	BypassCode   = "bypass"   // one that an operator gave out
)

// SpareCode is what a code that stands for a token's stands for, once.
type SpareCode struct {
	ID      string // names it and opens nothing
	UserID  string
	Kind    string
	Reason  string // of a bypass code
	Issuer  string // who made it
	Created time.Time
	Expires time.Time // zero: never
}

// SpareCodes is the table of recovery and bypass codes. Of a code only a hash is kept, together with its
// owner; it has 80 random bits.
type SpareCodes struct{ db *db }

const spareColumns = "user_id, kind, reason, issuer, created, expires"

// spareResult begins with the part of the hash that serves as the id.
const spareResult = "substr(code_hash, 1, 16), " + spareColumns

func spareFields(c *SpareCode) []any {
	return []any{&c.ID, &c.UserID, &c.Kind, &c.Reason, &c.Issuer, timeColumn{&c.Created}, timeColumn{&c.Expires}}
}

func hashSpare(userID, code string) string { return hashSecret(userID + "\x00" + code) }

// ReplaceRecovery makes codes, in their canonical form, the recovery codes of a user in the place of all
// before; without codes the user has none. The error is [ErrNotFound] if there is no such user.
func (s SpareCodes) ReplaceRecovery(ctx context.Context, userID, issuer string, codes []string) error {
	return s.db.changing(ctx, "replacing the recovery codes of user "+userID, func(ctx context.Context, tx querier) error {
		// The user first, as everything does: two that do this at once come one after the other.
		if err := execOne(ctx, tx, "UPDATE users SET token_count = token_count WHERE id = ?", userID); err != nil {
			return err
		}
		if _, err := exec(ctx, tx, "DELETE FROM spare_codes WHERE user_id = ? AND kind = ?", userID, RecoveryCode); err != nil {
			return err
		}
		for _, code := range codes {
			if err := s.insert(ctx, tx, SpareCode{UserID: userID, Kind: RecoveryCode, Issuer: issuer}, code); err != nil {
				return err
			}
		}
		return nil
	})
}

// AddBypass gives a user a bypass code, in its canonical form. It must expire.
func (s SpareCodes) AddBypass(ctx context.Context, c SpareCode, code string) error {
	what := "adding a bypass code for user " + c.UserID
	if !c.Expires.After(s.db.now()) {
		return fmt.Errorf("%s: %w", what, errors.New("it has expired"))
	}
	c.Kind = BypassCode
	return s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		return s.insert(ctx, q, c, code)
	})
}

func (s SpareCodes) insert(ctx context.Context, q querier, c SpareCode, code string) error {
	_, err := exec(ctx, q, "INSERT INTO spare_codes (code_hash, "+spareColumns+") VALUES (?, ?, ?, ?, ?, ?, ?)",
		hashSpare(c.UserID, code), c.UserID, c.Kind, c.Reason, c.Issuer, ms(s.db.now()), ms(c.Expires))
	return err
}

// Take makes a code of a user worthless and returns what it was: of any number of tries on any number of
// nodes one gets it, the others get [ErrNotFound], as do those with another code or too late.
func (s SpareCodes) Take(ctx context.Context, userID, code string) (SpareCode, error) {
	var c SpareCode
	err := s.db.writing(ctx, "taking a spare code of user "+userID, func(ctx context.Context, q querier) (err error) {
		c, err = one(ctx, q, spareFields, `DELETE FROM spare_codes
			WHERE code_hash = ? AND user_id = ? AND (expires = 0 OR expires > ?) RETURNING `+spareResult,
			hashSpare(userID, code), userID, ms(s.db.now()))
		return err
	})
	return c, err
}

// Left counts the unused recovery codes of a user.
func (s SpareCodes) Left(ctx context.Context, userID string) (int, error) {
	var n int
	err := s.db.briefly(ctx, "counting the recovery codes of user "+userID, func(ctx context.Context, q querier) (err error) {
		n, err = scalar[int](ctx, q, "SELECT COUNT(*) FROM spare_codes WHERE user_id = ? AND kind = ?", userID, RecoveryCode)
		return err
	})
	return n, err
}

// Bypasses returns the bypass codes of a user that still hold, newest first.
func (s SpareCodes) Bypasses(ctx context.Context, userID string) ([]SpareCode, error) {
	var list []SpareCode
	err := s.db.reading(ctx, "listing the bypass codes of user "+userID, func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, spareFields, "SELECT "+spareResult+` FROM spare_codes
			WHERE user_id = ? AND kind = ? AND expires > ? ORDER BY created DESC, code_hash`, userID, BypassCode, ms(s.db.now()))
		return err
	})
	return list, err
}

// DropBypasses makes all bypass codes of a user worthless and returns how many still held.
func (s SpareCodes) DropBypasses(ctx context.Context, userID string) (int, error) {
	var n int64
	err := s.db.writing(ctx, "dropping the bypass codes of user "+userID, func(ctx context.Context, q querier) (err error) {
		n, err = exec(ctx, q, "DELETE FROM spare_codes WHERE user_id = ? AND kind = ? AND expires > ?", userID, BypassCode, ms(s.db.now()))
		return err
	})
	return int(n), err
}
