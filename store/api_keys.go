package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What an API key may be for.
const (
	ScopeEnrol    = "enrolments:create" // give people a token who have none
	ScopeAddUsers = "users:create"      // … and make the person, where they are not known
	ScopeValidate = "validate"          // have codes validated
	ScopeMetrics  = "metrics"           // read the metrics of a node
)

// Scopes are all of them.
var Scopes = []string{ScopeEnrol, ScopeAddUsers, ScopeValidate, ScopeMetrics}

// APIKey lets a program call what its scopes name, and nothing else.
type APIKey struct {
	ID            string
	Name          string   // unique
	Scopes        []string // ScopeEnrol or another of them
	Sources       []string // prefixes it may be used from; empty: from anywhere
	AssertsSource bool     // what it says about a person's address is believed
	PerMinute     int      // calls a minute; as many may come at once
	Created       time.Time
	LastUsed      time.Time
	LastSource    string
	Expires       time.Time // zero: never
}

// Allows tells whether k may be used for scope.
func (k APIKey) Allows(scope string) bool { return scope != "" && slices.Contains(k.Scopes, scope) }

// APIKeys is the table of API keys.
type APIKeys struct{ db *db }

const apiKeyColumns = "id, name, scopes, sources, asserts_source, per_minute, created, last_used, last_source, expires"

func apiKeyFields(k *APIKey) []any {
	return []any{
		&k.ID, &k.Name, jsonColumn{&k.Scopes}, jsonColumn{&k.Sources}, &k.AssertsSource, &k.PerMinute,
		timeColumn{&k.Created}, timeColumn{&k.LastUsed}, &k.LastSource, timeColumn{&k.Expires},
	}
}

// APIKeyPrefix is how the secret of every API key begins, so that scanners for leaked secrets know one.
const APIKeyPrefix = "sk_"

// ErrRateLimit is why a right API key may not be used now.
var ErrRateLimit = errors.New("there were too many calls with this key in the last minute")

// Add makes an API key of name, scopes, sources, AssertsSource, PerMinute and Expires. It returns its secret, which is
// not kept and cannot be shown again. The error is [ErrExists] if there is one of this name.
func (s APIKeys) Add(ctx context.Context, k APIKey) (made APIKey, secret string, err error) {
	what := "adding API key " + k.Name
	if k.Name == "" || len(k.Scopes) == 0 || k.PerMinute < 1 {
		return APIKey{}, "", fmt.Errorf("%s: %w", what, errors.New("name, scopes or calls a minute are missing"))
	}
	for _, scope := range k.Scopes {
		if !slices.Contains(Scopes, scope) {
			return APIKey{}, "", fmt.Errorf("%s: there is no scope %q", what, scope)
		}
	}
	id, err := newID()
	if err != nil {
		return APIKey{}, "", fmt.Errorf("%s: %w", what, err)
	}
	scopes, err := toJSON(groupSet(k.Scopes))
	if err != nil {
		return APIKey{}, "", fmt.Errorf("%s: %w", what, err)
	}
	sources, err := toJSON(groupSet(k.Sources))
	if err != nil {
		return APIKey{}, "", fmt.Errorf("%s: %w", what, err)
	}
	secret = APIKeyPrefix + randomText(32)
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) (err error) {
		made, err = one(ctx, q, apiKeyFields, `INSERT INTO api_keys (id, name, secret_hash, scopes, sources, asserts_source, per_minute, created, expires)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING `+apiKeyColumns,
			id, k.Name, hashSecret(secret), scopes, sources, k.AssertsSource, k.PerMinute, ms(s.db.now()), ms(k.Expires))
		return err
	})
	if err != nil {
		return APIKey{}, "", err
	}
	return made, secret, nil
}

// List returns all API keys, newest first, expired ones too.
func (s APIKeys) List(ctx context.Context) ([]APIKey, error) {
	var keys []APIKey
	err := s.db.reading(ctx, "listing API keys", func(ctx context.Context, q querier) (err error) {
		keys, err = all(ctx, q, apiKeyFields, "SELECT "+apiKeyColumns+" FROM api_keys ORDER BY id DESC")
		return err
	})
	return keys, err
}

// Delete makes an API key worthless, and returns what it was. The error is [ErrNotFound] if there is none.
func (s APIKeys) Delete(ctx context.Context, id string) (APIKey, error) {
	var k APIKey
	err := s.db.writing(ctx, "revoking API key "+id, func(ctx context.Context, q querier) (err error) {
		k, err = one(ctx, q, apiKeyFields, "DELETE FROM api_keys WHERE id = ? RETURNING "+apiKeyColumns, id)
		return err
	})
	return k, err
}

// Find returns the API key of a secret. The error is [ErrNotFound] if there is none or it has expired.
func (s APIKeys) Find(ctx context.Context, secret string) (APIKey, error) {
	var k APIKey
	err := s.db.briefly(ctx, "finding an API key", func(ctx context.Context, q querier) (err error) {
		k, err = one(ctx, q, apiKeyFields, "SELECT "+apiKeyColumns+" FROM api_keys WHERE secret_hash = ? AND (expires = 0 OR expires > ?)",
			hashSecret(secret), ms(s.db.now()))
		return err
	})
	return k, err
}

// Use takes one call of a key's share, and notes it. Of any number at once, on all nodes together, as many pass as
// the key allows: a minute's share at once, and after that evenly. The error is [ErrRateLimit], or [ErrNotFound] if
// the key has gone or expired meanwhile.
func (s APIKeys) Use(ctx context.Context, id, source string) error {
	return s.db.writing(ctx, "using API key "+id, func(ctx context.Context, q querier) error {
		now := s.db.now()
		micro := now.UnixMicro()
		n, err := exec(ctx, q, `UPDATE api_keys SET
				full_at = CASE WHEN full_at > ? THEN full_at ELSE ? END + 60000000 / per_minute, last_used = ?, last_source = ?
			WHERE id = ? AND (expires = 0 OR expires > ?) AND full_at + 60000000 / per_minute <= ?`,
			micro, micro, ms(now), source, id, ms(now), micro+60_000_000)
		if err != nil || n == 1 {
			return err
		}
		if _, err := scalar[int](ctx, q, "SELECT 1 FROM api_keys WHERE id = ? AND (expires = 0 OR expires > ?)", id, ms(now)); err != nil {
			return err
		}
		return ErrRateLimit
	})
}

// Ask is how a program marks a request for a token that it may have to send again, because the answer was lost.
type Ask struct {
	KeyID   string // of its API key
	Key     string // of its choice; "": it does not ask again
	Request string // what is asked for, in one form
}

// askLife is how long the same answer is given again.
const askLife = 10 * time.Minute

// AddForProgram gives a user a token as [Tokens.AddFirst] does, without a code that proves it. The user must not be
// locked at that moment: [ErrNotFound]. The answer to ask can be found by [Tokens.Asked] for ten minutes; both or
// neither. [ErrOtherAsk] if the same key of the program's choice marks another request.
func (s Tokens) AddForProgram(ctx context.Context, t Token, secret []byte, ask Ask) (Token, error) {
	id, err := newID()
	if err != nil {
		return Token{}, fmt.Errorf("adding a token to user %s: %w", t.UserID, err)
	}
	t.ID, t.Enabled, t.LastStep = id, !t.Waiting, 0
	return s.add(ctx, t, secret, func(ctx context.Context, tx querier) error {
		now := s.db.now()
		n, err := exec(ctx, tx, `UPDATE users SET token_count = 1, free_over = TRUE
			WHERE id = ? AND token_count = 0 AND NOT (locked AND (locked_until = 0 OR locked_until > ?))`, t.UserID, ms(now))
		if err != nil {
			return err
		}
		if n == 0 {
			if _, err := scalar[int](ctx, tx, "SELECT 1 FROM users WHERE id = ? AND token_count > 0", t.UserID); err != nil {
				return err
			}
			return ErrExists
		}
		if ask.Key == "" {
			return nil
		}
		n, err = exec(ctx, tx, `INSERT INTO api_enrolments (key_id, ask, request, token_id, expires) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (key_id, ask) DO UPDATE SET request = excluded.request, token_id = excluded.token_id, expires = excluded.expires
			WHERE api_enrolments.expires <= ?`,
			ask.KeyID, hashSecret(ask.Key), hashSecret(ask.Request), id, ms(now.Add(askLife)), ms(now))
		if err == nil && n == 0 {
			err = ErrOtherAsk
		}
		return err
	})
}

// ErrOtherAsk is why a request is not answered again: the key of its choice marked another one before.
var ErrOtherAsk = errors.New("another request had this key")

// Asked returns the token that was made for ask. The error is [ErrNotFound] if none was, or its code was used
// since, or its time is over, and [ErrOtherAsk].
func (s Tokens) Asked(ctx context.Context, ask Ask) (TokenSecret, error) {
	const what = "looking for the answer to an earlier request"
	if ask.Key == "" {
		return TokenSecret{}, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	type row struct{ request, token string }
	var r row
	err := s.db.reading(ctx, what, func(ctx context.Context, q querier) (err error) {
		r, err = one(ctx, q, func(r *row) []any { return []any{&r.request, &r.token} },
			"SELECT request, token_id FROM api_enrolments WHERE key_id = ? AND ask = ? AND expires > ?", ask.KeyID, hashSecret(ask.Key), ms(s.db.now()))
		return err
	})
	switch {
	case err != nil:
		return TokenSecret{}, err
	case r.request != hashSecret(ask.Request):
		return TokenSecret{}, fmt.Errorf("%s: %w", what, ErrOtherAsk)
	}
	t, err := s.WithSecret(ctx, r.token)
	if err == nil && !t.LastUsed.IsZero() {
		return TokenSecret{}, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return t, err
}

// Locked tells whether a lock is in force under one of counters, and which holds longest.
func (s Attempts) Locked(ctx context.Context, counters []Counter) (Lock, bool, error) {
	counters, err := canonical(counters)
	if err != nil {
		return Lock{}, false, fmt.Errorf("looking for locks: %w", err)
	}
	outcome, lock, err := s.look(ctx, counters)
	return lock, outcome == Locked && err == nil, err
}
