package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Token is a device or program with a secret that makes one-time codes.
type Token struct {
	ID        string
	UserID    string
	Name      string
	Kind      string // "totp" or "hotp"; empty means "totp"
	Algorithm string // "SHA1", "SHA256" or "SHA512"; empty means SHA1
	Digits    int    // 6 or 8; 0 means 6
	Period    int    // seconds of a time step; 0 means 30 for "totp" and is kept for "hotp"
	Window    int    // steps that are accepted on each side of now; 0: the default
	LastStep  int64  // no step up to this one is accepted again; "hotp": the last counter used, -1 if none was
	Hardware  bool
	Serial    string // of a hardware token; no two tokens have the same; "": none
	Enabled   bool
	Lost      bool      // never together with Enabled
	Waiting   bool      // for an operator's approval; never together with Enabled
	Expires   time.Time // no code is accepted from then on; zero: never
	Created   time.Time
	LastUsed  time.Time

	Drift    int       // steps that the token's clock is ahead of ours, negative if behind
	Lean     int       // which way from Drift the last code was: -1, 0 or 1; twice the same way moves Drift
	Moved    time.Time // when Drift was last changed
	MovedWay int       // and which way; 0: by a resynchronisation, or never
}

// States of a token.
const (
	TokenEnabled  = "enabled"
	TokenDisabled = "disabled"
	TokenLost     = "lost"
	TokenExpired  = "expired"
	TokenWaiting  = "waiting"
)

// State is what a token is at now; codes are accepted only from one that is [TokenEnabled].
func (t Token) State(now time.Time) string {
	switch {
	case t.Lost:
		return TokenLost
	case t.Waiting:
		return TokenWaiting
	case !t.Enabled:
		return TokenDisabled
	case !t.Expires.IsZero() && !t.Expires.After(now):
		return TokenExpired
	}
	return TokenEnabled
}

// TokenSecret is a token with its secret. It prints without it.
type TokenSecret struct {
	Token
	Secret []byte
}

// String returns the id of the token.
func (t TokenSecret) String() string { return "token " + t.ID }

// Format writes the id of the token for every verb of package fmt.
func (t TokenSecret) Format(f fmt.State, _ rune) { io.WriteString(f, t.String()) }

// LogValue returns the id of the token.
func (t TokenSecret) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText returns the id of the token.
func (t TokenSecret) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// minSecret is in bytes: RFC 4226, section 4, requires 128 bits.
const minSecret = 16

// Tokens is the table of tokens.
type Tokens struct{ db *db }

const tokenColumns = `id, user_id, name, kind, algorithm, digits, period, window_steps, last_step, hardware, serial, enabled, lost,
	expires, created, last_used, drift, lean, moved, moved_way, waiting`

func tokenFields(t *Token) []any {
	return []any{
		&t.ID, &t.UserID, &t.Name, &t.Kind, &t.Algorithm, &t.Digits, &t.Period, &t.Window, &t.LastStep,
		&t.Hardware, &t.Serial, &t.Enabled, &t.Lost, timeColumn{&t.Expires}, timeColumn{&t.Created}, timeColumn{&t.LastUsed},
		&t.Drift, &t.Lean, timeColumn{&t.Moved}, &t.MovedWay, &t.Waiting,
	}
}

// Add gives a user a token, enabled or not as t says. The secret has at least 16 bytes. The error
// is [ErrNotFound] if there is no such user, and [ErrExists] if there is a token of the same serial, in stock too.
func (s Tokens) Add(ctx context.Context, t Token, secret []byte) (Token, error) {
	return s.add(ctx, t, secret, func(ctx context.Context, tx querier) error {
		return execOne(ctx, tx, "UPDATE users SET token_count = token_count + 1, free_over = TRUE WHERE id = ?", t.UserID)
	})
}

// AddFirst gives a user a token, enabled unless it waits, only if the user has none at all; else the error is
// [ErrExists]. Of many at once exactly one is added. consumedStep is the step of the code by which
// the person has proved the token: that code is used.
func (s Tokens) AddFirst(ctx context.Context, t Token, secret []byte, consumedStep int64) (Token, error) {
	t.Enabled, t.LastStep = !t.Waiting, consumedStep
	return s.add(ctx, t, secret, func(ctx context.Context, tx querier) error {
		// The condition is on the row that is locked and not on the table of tokens: of two
		// statements that wait for each other PostgreSQL gives the second one the new version of
		// the row, but the old contents of all other tables.
		n, err := exec(ctx, tx, "UPDATE users SET token_count = 1, free_over = TRUE WHERE id = ? AND token_count = 0", t.UserID)
		if err != nil || n == 1 {
			return err
		}
		if _, err := scalar[int](ctx, tx, "SELECT 1 FROM users WHERE id = ?", t.UserID); err != nil {
			return err
		}
		return ErrExists
	})
}

// TicketUse is a one-time link that is used up with what is done by it.
type TicketUse struct{ Purpose, Secret, Browser string }

// AddByTicket gives a user a token for a ticket about them that is bound to a browser, enabled unless it waits,
// and makes the ticket worthless: both or neither, and of many at once exactly one. consumedStep is as for
// [Tokens.AddFirst]. The error is [ErrNotFound] if the ticket is gone or not this browser's, and [ErrExists] if
// the user has a token by now whose codes are accepted.
func (s Tokens) AddByTicket(ctx context.Context, t Token, secret []byte, consumedStep int64, use TicketUse) (Token, error) {
	if use.Browser == "" {
		return Token{}, fmt.Errorf("adding a token by ticket: %w", errors.New("the browser's secret is missing"))
	}
	t.Enabled, t.LastStep = !t.Waiting, consumedStep
	return s.add(ctx, t, secret, func(ctx context.Context, tx querier) error {
		// The row of the user is locked first; what is read after that is the newest there is.
		if err := execOne(ctx, tx, "UPDATE users SET token_count = token_count + 1, free_over = TRUE WHERE id = ?", t.UserID); err != nil {
			return err
		}
		if n, err := usableTokens(ctx, tx, t.UserID, "", ms(s.db.now())); err != nil || n > 0 {
			return cmp.Or(err, ErrExists)
		}
		return execOne(ctx, tx, "DELETE FROM tickets WHERE secret_hash = ? AND purpose = ? AND subject = ? AND browser = ? AND expires > ?",
			hashSecret(use.Secret), use.Purpose, t.UserID, hashSecret(use.Browser), ms(s.db.now()))
	})
}

// usableTokens counts the tokens of a user whose codes are accepted at now, without one of them.
func usableTokens(ctx context.Context, q querier, userID, without string, now int64) (int, error) {
	return scalar[int](ctx, q, "SELECT COUNT(*) FROM tokens WHERE user_id = ? AND id <> ? AND enabled AND (expires = 0 OR expires > ?)", userID, without, now)
}

// add runs claim, which locks and checks the user, and inserts the token in one transaction.
func (s Tokens) add(ctx context.Context, t Token, secret []byte, claim func(context.Context, querier) error) (Token, error) {
	what := "adding a token to user " + t.UserID
	if len(secret) < minSecret {
		return Token{}, fmt.Errorf("%s: the secret has %d bytes, fewer than %d", what, len(secret), minSecret)
	}
	t = withDefaults(t)
	id := t.ID
	if id == "" {
		var err error
		if id, err = newID(); err != nil {
			return Token{}, fmt.Errorf("%s: %w", what, err)
		}
	}
	sealed, err := s.db.ring.Seal("tokens", "secret", id, secret)
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w", what, err)
	}
	err = s.db.changing(ctx, what, func(ctx context.Context, tx querier) (err error) {
		if err := s.db.freeSerial(ctx, tx, t.Serial); err != nil {
			return err
		}
		if err := claim(ctx, tx); err != nil {
			return err
		}
		t, err = one(ctx, tx, tokenFields, `INSERT INTO tokens
			(id, user_id, name, kind, algorithm, digits, period, window_steps, last_step, hardware, serial, enabled, lost,
				expires, drift, secret, created, waiting)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING `+tokenColumns,
			id, t.UserID, t.Name, t.Kind, t.Algorithm, t.Digits, t.Period, t.Window, t.LastStep, t.Hardware, t.Serial, t.Enabled, t.Lost,
			ms(t.Expires), t.Drift, sealed, ms(s.db.now()), t.Waiting)
		return err
	})
	if err != nil {
		return Token{}, err
	}
	return t, nil
}

func withDefaults(t Token) Token {
	if t.Kind == "" {
		t.Kind = "totp"
	}
	if t.Algorithm == "" {
		t.Algorithm = "SHA1"
	}
	if t.Digits == 0 {
		t.Digits = 6
	}
	if t.Period == 0 && t.Kind == "totp" {
		t.Period = 30
	}
	return t
}

// List returns the tokens of a user, newest first.
func (s Tokens) List(ctx context.Context, userID string) ([]Token, error) {
	var tokens []Token
	err := s.db.briefly(ctx, "listing the tokens of user "+userID, func(ctx context.Context, q querier) (err error) {
		tokens, err = all(ctx, q, tokenFields,
			"SELECT "+tokenColumns+" FROM tokens WHERE user_id = ? ORDER BY id DESC", userID)
		return err
	})
	return tokens, err
}

// Get returns a token, or [ErrNotFound].
func (s Tokens) Get(ctx context.Context, id string) (Token, error) {
	var t Token
	err := s.db.briefly(ctx, "reading token "+id, func(ctx context.Context, q querier) (err error) {
		t, err = one(ctx, q, tokenFields, "SELECT "+tokenColumns+" FROM tokens WHERE id = ?", id)
		return err
	})
	return t, err
}

// Delete takes a token away from its user.
func (s Tokens) Delete(ctx context.Context, id string) error {
	return s.remove(ctx, id, "", false)
}

// ErrLastToken is why a person cannot remove a token: it is the last whose codes are accepted.
var ErrLastToken = errors.New("it is the last token that can be used")

// DeleteOwn is [Tokens.Delete] by the person: the error is [ErrLastToken] if no other token would be left whose
// codes are accepted, and [ErrNotFound] if it is not theirs.
func (s Tokens) DeleteOwn(ctx context.Context, userID, id string) error {
	return s.remove(ctx, id, userID, true)
}

// Clear takes all tokens of a user away and tells how many there were. What was remembered of the user's codes
// is forgotten, and recovery codes are worthless.
func (s Tokens) Clear(ctx context.Context, userID string) (int, error) {
	n := int64(0)
	err := s.db.changing(ctx, "deleting the tokens of user "+userID, func(ctx context.Context, tx querier) error {
		if err := execOne(ctx, tx, "UPDATE users SET token_count = 0 WHERE id = ?", userID); err != nil {
			return err
		}
		if _, err := endGrants(ctx, tx, userID); err != nil {
			return err
		}
		if _, err := exec(ctx, tx, "DELETE FROM spare_codes WHERE user_id = ?", userID); err != nil {
			return err
		}
		var err error
		n, err = exec(ctx, tx, "DELETE FROM tokens WHERE user_id = ?", userID)
		return err
	})
	return int(n), err
}

func (s Tokens) remove(ctx context.Context, id, owner string, keepOne bool) error {
	return s.db.changing(ctx, "deleting token "+id, func(ctx context.Context, tx querier) error {
		userID, err := scalar[string](ctx, tx, "SELECT user_id FROM tokens WHERE id = ?", id)
		if err != nil {
			return err
		}
		if owner != "" && owner != userID {
			return ErrNotFound
		}
		// The user first, as in add: two transactions never wait for each other crosswise.
		if err := execOne(ctx, tx, "UPDATE users SET token_count = token_count - 1 WHERE id = ?", userID); err != nil {
			return err
		}
		if keepOne {
			if n, err := usableTokens(ctx, tx, userID, id, ms(s.db.now())); err != nil || n == 0 {
				return cmp.Or(err, ErrLastToken)
			}
		}
		if _, err := endGrants(ctx, tx, userID); err != nil {
			return err
		}
		return execOne(ctx, tx, "DELETE FROM tokens WHERE id = ?", id) // else somebody was faster: undo
	})
}

// SetState makes a token [TokenEnabled], [TokenDisabled] or [TokenLost]. What was remembered of the user's
// codes is forgotten.
func (s Tokens) SetState(ctx context.Context, id, state string) error {
	what := "changing token " + id
	if state != TokenEnabled && state != TokenDisabled && state != TokenLost {
		return fmt.Errorf("%s: %w", what, fmt.Errorf("state %q is not one of enabled, disabled, lost", state))
	}
	return s.db.changing(ctx, what, func(ctx context.Context, tx querier) error {
		err := execOne(ctx, tx, "UPDATE tokens SET enabled = ?, lost = ?, waiting = FALSE WHERE id = ?", state == TokenEnabled, state == TokenLost, id)
		if err != nil {
			return err
		}
		owner, err := scalar[string](ctx, tx, "SELECT user_id FROM tokens WHERE id = ?", id)
		if err != nil {
			return err
		}
		_, err = endGrants(ctx, tx, owner)
		return err
	})
}

// Approve enables a token that waits for it; of several operators one does. The error is [ErrNotFound] if there
// is no such token, or it does not wait.
func (s Tokens) Approve(ctx context.Context, id string) error {
	return s.db.writing(ctx, "approving token "+id, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "UPDATE tokens SET enabled = TRUE, waiting = FALSE WHERE id = ? AND waiting", id)
	})
}

// Waiting returns the tokens that wait for an operator's approval, oldest first.
func (s Tokens) Waiting(ctx context.Context) ([]Token, error) {
	var tokens []Token
	err := s.db.reading(ctx, "listing tokens that wait", func(ctx context.Context, q querier) (err error) {
		tokens, err = all(ctx, q, tokenFields, "SELECT "+tokenColumns+" FROM tokens WHERE waiting ORDER BY id LIMIT 1000")
		return err
	})
	return tokens, err
}

// Rename gives a token another name.
func (s Tokens) Rename(ctx context.Context, id, name string) error {
	return s.db.writing(ctx, "renaming token "+id, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "UPDATE tokens SET name = ? WHERE id = ?", name, id)
	})
}

// Usable returns the tokens of a user that are enabled and have not expired, with their secrets, oldest
// first. A secret that does not open is an error: it was damaged, or moved here from another row.
func (s Tokens) Usable(ctx context.Context, userID string) ([]TokenSecret, error) {
	return s.secrets(ctx, "reading the secrets of user "+userID,
		"user_id = ? AND enabled AND (expires = 0 OR expires > ?) ORDER BY id", userID, ms(s.db.now()))
}

// WithSecret returns a token with its secret, whatever its state, or [ErrNotFound].
func (s Tokens) WithSecret(ctx context.Context, id string) (TokenSecret, error) {
	what := "reading the secret of token " + id
	list, err := s.secrets(ctx, what, "id = ?", id)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	if err != nil {
		return TokenSecret{}, err
	}
	return list[0], nil
}

func (s Tokens) secrets(ctx context.Context, what, where string, args ...any) ([]TokenSecret, error) {
	type row struct {
		Token
		sealed string
	}
	var rows []row
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		rows, err = all(ctx, q, func(r *row) []any { return append(tokenFields(&r.Token), &r.sealed) },
			"SELECT "+tokenColumns+", secret FROM tokens WHERE "+where, args...)
		return err
	})
	if err != nil {
		return nil, err
	}
	var opened []TokenSecret
	for _, r := range rows {
		secret, err := s.db.ring.Open("tokens", "secret", r.ID, r.sealed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if len(secret) < minSecret {
			return nil, fmt.Errorf("%s: %w", what, errors.New("a secret is too short"))
		}
		opened = append(opened, TokenSecret{r.Token, secret})
	}
	return opened, nil
}
