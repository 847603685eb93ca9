package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"sallyport/audit"
	"sallyport/store"
)

// acceptable returns a user's login that has all that Accept writes.
func acceptable(t *testing.T, s *store.Store, login string, step int64) store.Acceptance {
	t.Helper()
	u, err := s.Users.ByLogin(t.Context(), login)
	if errors.Is(err, store.ErrNotFound) {
		u, err = addUser(t, s, login), nil
		must[store.Token](t)(s.Tokens.Add(t.Context(), store.Token{UserID: u.ID, Enabled: true}, secret))
		must[store.UserKey](t)(s.UserKeys.Add(t.Context(), store.UserKey{UserID: u.ID, PublicKey: "k " + login, Fingerprint: "SHA256:" + login}))
	}
	check(t, err)
	token := must[[]store.Token](t)(s.Tokens.List(t.Context(), u.ID))[0]
	key := must[[]store.UserKey](t)(s.UserKeys.List(t.Context(), u.ID))[0]
	r, _ := reserve(t, s, five(login), store.Reserved)
	return store.Acceptance{
		Reservation: r, Reset: []string{"source"}, UserID: u.ID, Source: addr("192.0.2.7"), TokenID: token.ID, Step: step,
		KeyID: key.ID, Event: &audit.Event{Type: audit.LoginAccepted, User: login},
	}
}

// traces is what there is of a user's logins.
type traces struct {
	failures, events, places int
	step                     int64
	login, key               bool
}

func tracesOf(t *testing.T, s *store.Store, a store.Acceptance) traces {
	t.Helper()
	ctx := t.Context()
	u := must[store.User](t)(s.Users.ByID(ctx, a.UserID))
	got := traces{
		events: len(must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{User: u.Login}))),
		places: len(must[[]store.Place](t)(s.Places.List(ctx, u.ID))),
		login:  !u.LastLogin.IsZero(),
	}
	for _, token := range must[[]store.Token](t)(s.Tokens.List(ctx, u.ID)) {
		got.step = token.LastStep
	}
	for _, k := range must[[]store.UserKey](t)(s.UserKeys.List(ctx, u.ID)) {
		got.key = !k.LastUsed.IsZero()
	}
	return got
}

// A login is accepted with all its traces, or leaves none and the reservation as it was.
func TestAccept(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		for name, c := range map[string]struct {
			spoil func(*store.Acceptance) error
			want  error
		}{
			"used step": {func(a *store.Acceptance) error {
				_, err := s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: a.TokenID, Step: 7})
				return err
			}, store.ErrStepUsed},
			"disabled":    {func(a *store.Acceptance) error { return s.Tokens.SetState(ctx, a.TokenID, store.TokenDisabled) }, store.ErrStepUsed},
			"key removed": {func(a *store.Acceptance) error { return s.UserKeys.Delete(ctx, a.UserID, a.KeyID) }, store.ErrNotFound},
			"too late":    {func(a *store.Acceptance) error { _, err := s.Attempts.Fail(ctx, a.Reservation); return err }, store.ErrNotFound},
		} {
			a := acceptable(t, s, name, 7)
			check(t, c.spoil(&a))
			before := tracesOf(t, s, a)
			wantError(t, name, s.Attempts.Accept(ctx, &a), c.want)
			if got := tracesOf(t, s, a); got != before || got.events != 0 || got.places != 0 {
				t.Errorf("%s: traces before %+v, after %+v", name, before, got)
			}
			if c.want == store.ErrStepUsed {
				check(t, s.Attempts.Cancel(ctx, a.Reservation)) // it is still open
				wantFailures(t, s, "source", name, 0)
			}
		}

		fail(t, s, five("alice"))
		a := acceptable(t, s, "alice", 7)
		check(t, s.Attempts.Accept(ctx, &a))
		if got, want := tracesOf(t, s, a), (traces{events: 1, places: 1, step: 7, login: true, key: true}); got != want {
			t.Errorf("traces %+v, want %+v", got, want)
		}
		wantFailures(t, s, "source", "alice", 0)
		wantError(t, "a second time", s.Attempts.Accept(ctx, &a), store.ErrStepUsed)
	})
}

// Of many who show one code at once, on several nodes, one is accepted, and one event says so.
func TestAcceptParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := []*store.Store{e.open(), e.open()}
		tries := make([]store.Acceptance, 5)
		for i := range tries {
			tries[i] = acceptable(t, nodes[0], "alice", 7)
		}
		var accepted atomic.Int64
		parallel(len(tries), func(i int) {
			switch err := nodes[i%2].Attempts.Accept(context.Background(), &tries[i]); {
			case err == nil:
				accepted.Add(1)
			case !errors.Is(err, store.ErrStepUsed):
				t.Error(err)
			}
		})
		if got := tracesOf(t, nodes[0], tries[0]); accepted.Load() != 1 || got.events != 1 {
			t.Errorf("%d accepted, %+v", accepted.Load(), got)
		}
	})
}

// Statements that a connection keeps outlive a change of the schema by another process.
func TestKeptStatements(t *testing.T) {
	t.Parallel()
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "store.db")
	s := open(t, store.Config{DSN: dsn, Ring: newRing(t)})
	u := addUser(t, s, "alice")
	for _, change := range []string{"", "ALTER TABLE users ADD COLUMN more TEXT", "CREATE INDEX more ON users (email)", "VACUUM"} {
		if change != "" {
			_, err := raw(t, dsn).ExecContext(t.Context(), change)
			check(t, err)
		}
		for range 2 {
			check(t, s.Users.Touch(t.Context(), u.ID))
			if got := must[store.User](t)(s.Users.ByLogin(t.Context(), "alice")); got.ID != u.ID {
				t.Errorf("after %q: %+v", change, got)
			}
		}
	}
	// More texts than are kept: one for each number of types.
	for i := range 500 {
		must[[]store.HourCount](t)(s.Audit.PerHour(t.Context(), make([]string, i+1), start))
	}
	check(t, s.Users.Touch(t.Context(), u.ID))
}
