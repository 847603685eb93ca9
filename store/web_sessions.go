package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alexedwards/scs/v2"
)

// Keys of values in a web session that this package reads, all strings: a web session is listed and
// ended by the user it belongs to.
const (
	WebUser   = "user_id" // set when somebody has signed in
	WebSource = "source"
	WebClient = "client"
)

// WebSession is somebody's being signed in to web pages.
type WebSession struct {
	ID      string // hash of the token in the cookie, of no use in its place
	UserID  string
	Source  string
	Client  string
	Created time.Time
	Expires time.Time
}

// WebSessions is the table of web sessions, a scs.CtxStore. Tokens are kept hashed and contents
// sealed. A session that was ended stays so, even if a request that had begun before puts it back.
type WebSessions struct{ db *db }

var _ scs.CtxStore = WebSessions{}

// endWebSessions keeps the row, empty, until it expires.
const endWebSessions = "UPDATE web_sessions SET ended = TRUE, data = ''"

// FindCtx returns the content of the session of a token, if there is one.
func (s WebSessions) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	const what = "reading a web session"
	hash := hashSecret(token)
	var sealed string
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		sealed, err = scalar[string](ctx, q,
			"SELECT data FROM web_sessions WHERE token_hash = ? AND expires > ? AND NOT ended", hash, ms(s.db.now()))
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	data, err := s.db.ring.Open("web_sessions", "data", hash, sealed)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", what, err)
	}
	return data, true, nil
}

// CommitCtx keeps the content of the session of a token until expiry. If the session was ended
// meanwhile, nothing is kept.
func (s WebSessions) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	const what = "writing a web session"
	_, values, err := scs.GobCodec{}.Decode(data)
	if err != nil { // a session that cannot be attributed could not be ended either
		return fmt.Errorf("%s: %w", what, err)
	}
	userID, _ := values[WebUser].(string)
	source, _ := values[WebSource].(string)
	client, _ := values[WebClient].(string)
	hash := hashSecret(token)
	sealed, err := s.db.ring.Seal("web_sessions", "data", hash, data)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, `INSERT INTO web_sessions (token_hash, user_id, source, client, data, ended, created, expires)
			VALUES (?, ?, ?, ?, ?, FALSE, ?, ?)
			ON CONFLICT (token_hash) DO UPDATE SET user_id = excluded.user_id, source = excluded.source,
				client = excluded.client, data = excluded.data, expires = excluded.expires
			WHERE NOT web_sessions.ended`,
			hash, userID, source, client, sealed, ms(s.db.now()), ms(expiry))
		return err
	})
}

// DeleteCtx ends the session of a token, if there is one.
func (s WebSessions) DeleteCtx(ctx context.Context, token string) error {
	return s.db.writing(ctx, "ending a web session", func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, endWebSessions+" WHERE token_hash = ?", hashSecret(token))
		return err
	})
}

// Find is FindCtx without a context, as package scs asks for.
func (s WebSessions) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit is CommitCtx without a context, as package scs asks for.
func (s WebSessions) Commit(token string, data []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, data, expiry)
}

// Delete is DeleteCtx without a context, as package scs asks for.
func (s WebSessions) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }

// List returns the web sessions of a user, newest first.
func (s WebSessions) List(ctx context.Context, userID string) ([]WebSession, error) {
	var sessions []WebSession
	err := s.db.reading(ctx, "listing web sessions of user "+userID, func(ctx context.Context, q querier) (err error) {
		sessions, err = all(ctx, q, func(w *WebSession) []any {
			return []any{&w.ID, &w.UserID, &w.Source, &w.Client, timeColumn{&w.Created}, timeColumn{&w.Expires}}
		}, `SELECT token_hash, user_id, source, client, created, expires FROM web_sessions
			WHERE user_id = ? AND expires > ? AND NOT ended ORDER BY created DESC, token_hash`, userID, ms(s.db.now()))
		return err
	})
	return sessions, err
}

// End ends a web session of a user. The error is [ErrNotFound] if the user has no such one.
func (s WebSessions) End(ctx context.Context, userID, id string) error {
	return s.db.writing(ctx, "ending a web session of user "+userID, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, endWebSessions+" WHERE token_hash = ? AND user_id = ? AND NOT ended", id, userID)
	})
}

// EndAll ends all web sessions of a user and returns how many there were.
func (s WebSessions) EndAll(ctx context.Context, userID string) (int, error) {
	var ended int64
	err := s.db.writing(ctx, "ending the web sessions of user "+userID, func(ctx context.Context, q querier) (err error) {
		ended, err = exec(ctx, q, endWebSessions+" WHERE user_id = ? AND expires > ? AND NOT ended", userID, ms(s.db.now()))
		return err
	})
	return int(ended), err
}
