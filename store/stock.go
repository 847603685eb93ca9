package store

import (
	"context"
	"errors"
	"fmt"
)

// Stock is the table of tokens that belong to nobody yet, such as a box of hardware from a vendor. No code
// of theirs is accepted anywhere: to sign in with one, a person must first be given it.
type Stock struct{ db *db }

const stockColumns = `id, name, kind, algorithm, digits, period, last_step, serial, drift, created`

func stockFields(t *Token) []any {
	return []any{&t.ID, &t.Name, &t.Kind, &t.Algorithm, &t.Digits, &t.Period, &t.LastStep, &t.Serial, &t.Drift, timeColumn{&t.Created}}
}

// List returns at most limit (0: all) tokens in stock, newest first.
func (s Stock) List(ctx context.Context, limit int) ([]Token, error) {
	query, args := "SELECT "+stockColumns+" FROM stock_tokens WHERE import_id IS NULL ORDER BY id DESC", []any(nil)
	if limit > 0 {
		query, args = query+" LIMIT ?", []any{limit}
	}
	var tokens []Token
	err := s.db.reading(ctx, "listing tokens in stock", func(ctx context.Context, q querier) (err error) {
		tokens, err = all(ctx, q, stockFields, query, args...)
		return err
	})
	for i := range tokens {
		tokens[i].Hardware = true
	}
	return tokens, err
}

// BySerial returns the token in stock of a serial with its secret, or [ErrNotFound].
func (s Stock) BySerial(ctx context.Context, serial string) (TokenSecret, error) {
	const what = "reading a token in stock"
	type row struct {
		Token
		sealed string
	}
	var r row
	err := s.db.reading(ctx, what, func(ctx context.Context, q querier) (err error) {
		r, err = one(ctx, q, func(r *row) []any { return append(stockFields(&r.Token), &r.sealed) },
			"SELECT "+stockColumns+", secret FROM stock_tokens WHERE import_id IS NULL AND serial = ? AND serial <> ''", serial)
		return err
	})
	if err != nil {
		return TokenSecret{}, err
	}
	secret, err := s.db.ring.Open("tokens", "secret", r.ID, r.sealed)
	if err == nil && len(secret) < minSecret {
		err = errors.New("a secret is too short")
	}
	if err != nil {
		return TokenSecret{}, fmt.Errorf("%s: %w", what, err)
	}
	r.Hardware = true
	return TokenSecret{r.Token, secret}, nil
}

// Assign gives a token in stock to a user, enabled: no step up to lastStep is accepted, and drift is how far
// its clock is ahead. Of many at once one gets it; for the others, and if there is no such user, the error is
// [ErrNotFound].
func (s Stock) Assign(ctx context.Context, id, userID string, lastStep int64, drift int) (Token, error) {
	var t Token
	err := s.db.changing(ctx, "giving token "+id+" to user "+userID, func(ctx context.Context, tx querier) error {
		if err := s.db.lock(ctx, tx, lockSerials); err != nil {
			return err
		}
		if err := execOne(ctx, tx, "UPDATE users SET token_count = token_count + 1, free_over = TRUE WHERE id = ?", userID); err != nil {
			return err
		}
		err := execOne(ctx, tx, intoTokens("?", "?", "?")+" WHERE id = ? AND import_id IS NULL AND last_step <= ?", userID, lastStep, drift, id, lastStep)
		if err != nil {
			return err
		}
		if err := execOne(ctx, tx, "DELETE FROM stock_tokens WHERE id = ? AND import_id IS NULL", id); err != nil {
			return err
		}
		t, err = one(ctx, tx, tokenFields, "SELECT "+tokenColumns+" FROM tokens WHERE id = ?", id)
		return err
	})
	return t, err
}

// intoTokens is the statement that makes rows of stock_tokens tokens of somebody, up to its condition.
func intoTokens(userID, lastStep, drift string) string {
	return `INSERT INTO tokens
		(id, user_id, name, kind, algorithm, digits, period, window_steps, last_step, hardware, serial, enabled, lost, expires, drift, secret, created)
		SELECT id, ` + userID + `, name, kind, algorithm, digits, period, 0, ` + lastStep + `, serial <> '', serial, TRUE, FALSE, 0, ` + drift + `, secret, created
		FROM stock_tokens`
}

// Delete takes a token out of the stock for good, or returns [ErrNotFound].
func (s Stock) Delete(ctx context.Context, id string) error {
	return s.db.writing(ctx, "deleting token "+id+" from the stock", func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "DELETE FROM stock_tokens WHERE id = ? AND import_id IS NULL", id)
	})
}

// standing is the condition on a row of stock_tokens that is in stock, or on its way to its place.
const standing = "(import_id IS NULL OR import_id IN (SELECT id FROM imports WHERE committed))"

// freeSerial fails with ErrExists if a token in stock has the serial. Until the end of tx none gets it.
func (d *db) freeSerial(ctx context.Context, tx querier, serial string) error {
	if serial == "" {
		return nil
	}
	if err := d.lock(ctx, tx, lockSerials); err != nil {
		return err
	}
	n, err := scalar[int64](ctx, tx, "SELECT COUNT(*) FROM stock_tokens WHERE serial = ? AND "+standing, serial)
	if err == nil && n > 0 {
		err = ErrExists
	}
	return err
}
