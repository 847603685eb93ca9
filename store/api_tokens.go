package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// APIToken lets a program use the JSON API.
type APIToken struct {
	ID       string
	Name     string // unique
	Role     string // RoleAdmin or RoleAuditor
	Created  time.Time
	LastUsed time.Time // to the minute
	Expires  time.Time // zero: never
}

// APITokens is the table of API tokens.
type APITokens struct{ db *db }

const apiTokenColumns = "id, name, role, created, last_used, expires"

func apiTokenFields(t *APIToken) []any {
	return []any{&t.ID, &t.Name, &t.Role, timeColumn{&t.Created}, timeColumn{&t.LastUsed}, timeColumn{&t.Expires}}
}

// apiTokenPrefix lets scanners for leaked secrets know one.
const apiTokenPrefix = "sp_"

// randomText returns n random bytes in URL-safe base64.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// hashSecret returns what is kept of a random secret. It has at least 128 bits, so that a plain
// hash cannot be guessed; and the database compares hashes, whose timing tells nothing of a secret.
func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Add makes an API token and returns its secret, which is not kept and cannot be shown again. The
// error is [ErrExists] if there is one of this name.
func (s APITokens) Add(ctx context.Context, name, role string, expires time.Time) (t APIToken, secret string, err error) {
	what := "adding API token " + name
	if name == "" {
		return APIToken{}, "", fmt.Errorf("%s: %w", what, errors.New("the name is missing"))
	}
	if err := checkRole(role); err != nil {
		return APIToken{}, "", fmt.Errorf("%s: %w", what, err)
	}
	id, err := newID()
	if err != nil {
		return APIToken{}, "", fmt.Errorf("%s: %w", what, err)
	}
	secret = apiTokenPrefix + randomText(32)
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) (err error) {
		t, err = one(ctx, q, apiTokenFields, `INSERT INTO api_tokens (id, name, role, secret_hash, created, expires)
			VALUES (?, ?, ?, ?, ?, ?) RETURNING `+apiTokenColumns,
			id, name, role, hashSecret(secret), ms(s.db.now()), ms(expires))
		return err
	})
	if err != nil {
		return APIToken{}, "", err
	}
	return t, secret, nil
}

// List returns all API tokens, newest first, expired ones too.
func (s APITokens) List(ctx context.Context) ([]APIToken, error) {
	var tokens []APIToken
	err := s.db.reading(ctx, "listing API tokens", func(ctx context.Context, q querier) (err error) {
		tokens, err = all(ctx, q, apiTokenFields, "SELECT "+apiTokenColumns+" FROM api_tokens ORDER BY id DESC")
		return err
	})
	return tokens, err
}

// Delete makes an API token worthless.
func (s APITokens) Delete(ctx context.Context, id string) error {
	return s.db.writing(ctx, "deleting API token "+id, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "DELETE FROM api_tokens WHERE id = ?", id)
	})
}

// Check returns the API token of a secret and notes its use. The error is [ErrNotFound] if there is
// none or it has expired.
func (s APITokens) Check(ctx context.Context, secret string) (APIToken, error) {
	const what = "checking an API token"
	var t APIToken
	now := s.db.now()
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		t, err = one(ctx, q, apiTokenFields, "SELECT "+apiTokenColumns+
			" FROM api_tokens WHERE secret_hash = ? AND (expires = 0 OR expires > ?)", hashSecret(secret), ms(now))
		return err
	})
	if err != nil {
		return APIToken{}, err
	}
	if now.Sub(t.LastUsed) < time.Minute {
		return t, nil
	}
	t.LastUsed = now
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "UPDATE api_tokens SET last_used = ? WHERE id = ?", ms(now), t.ID)
	})
	if err != nil {
		return APIToken{}, err
	}
	return t, nil
}
