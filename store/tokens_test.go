package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"sallyport/store"
)

var secret = []byte("0123456789-not-so-secret")

func TestTokens(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		token := must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "phone", Enabled: true}, secret))
		if token.Kind != "totp" || token.Algorithm != "SHA1" || token.Digits != 6 || token.Period != 30 || token.LastStep != 0 {
			t.Errorf("got %+v", token)
		}
		other := must[store.Token](t)(s.Tokens.Add(ctx, store.Token{
			UserID: u.ID, Algorithm: "SHA512", Digits: 8, Period: 60, Window: 2, LastStep: 77,
		}, secret))
		if got := must[store.Token](t)(s.Tokens.Get(ctx, other.ID)); got != other || got.Enabled || got.Window != 2 || got.LastStep != 77 {
			t.Errorf("got %+v, want %+v", got, other)
		}
		_, err := s.Tokens.Add(ctx, store.Token{UserID: "nobody"}, secret)
		wantError(t, "token for nobody", err, store.ErrNotFound)
		if _, err := s.Tokens.Add(ctx, store.Token{UserID: u.ID}, secret[:15]); err == nil {
			t.Error("a secret of 120 bits was taken")
		}

		usable := must[[]store.TokenSecret](t)(s.Tokens.Usable(ctx, u.ID))
		if len(usable) != 1 || usable[0].Token != token || !bytes.Equal(usable[0].Secret, secret) {
			t.Errorf("usable: got %d tokens, want the enabled one with its secret", len(usable))
		}
		check(t, s.Tokens.SetState(ctx, other.ID, store.TokenEnabled))
		if got := must[[]store.TokenSecret](t)(s.Tokens.Usable(ctx, u.ID)); len(got) != 2 {
			t.Errorf("usable after enabling: %d, want 2", len(got))
		}

		if got := must[store.User](t)(s.Users.ByID(ctx, u.ID)).Tokens; got != 2 {
			t.Errorf("the user has %d tokens, want 2", got)
		}
		check(t, s.Tokens.Delete(ctx, other.ID))
		wantError(t, "second deletion", s.Tokens.Delete(ctx, other.ID), store.ErrNotFound)
		if got := must[store.User](t)(s.Users.ByID(ctx, u.ID)).Tokens; got != 1 {
			t.Errorf("after deletion the user has %d tokens, want 1", got)
		}
	})
}

func TestTokenSecretDoesNotPrint(t *testing.T) {
	t.Parallel()
	ts := store.TokenSecret{Token: store.Token{ID: "id"}, Secret: []byte("ABCDEFGHIJKLMNOP")}
	encoded, err := json.Marshal(map[string]any{"t": ts})
	check(t, err)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", ts)
	text := fmt.Sprintf("%v %+v %#v %s %q %x %d %v", ts, ts, ts, ts, ts, ts, ts, &ts) + string(encoded) + log.String()
	for _, leak := range []string{"ABCDEF", "65 66", "414243", "QUJD"} {
		if strings.Contains(text, leak) {
			t.Errorf("the secret is printed (%s): %s", leak, text)
		}
	}
}

// A sealed secret that was copied into another row by somebody who may write to the database must
// not open there.
func TestMovedSecretDoesNotOpen(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // nobody else can write to it
		}
		s, ctx := e.open(), t.Context()
		alice, mallory := addUser(t, s, "alice"), addUser(t, s, "mallory")
		must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: alice.ID, Enabled: true}, secret))
		must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: mallory.ID, Enabled: true}, secret))
		db := raw(t, e.dsn)
		_, err := db.ExecContext(ctx, "UPDATE tokens SET secret = (SELECT secret FROM tokens WHERE user_id = '"+
			mallory.ID+"') WHERE user_id = '"+alice.ID+"'")
		check(t, err)
		if got, err := s.Tokens.Usable(ctx, alice.ID); err == nil {
			t.Errorf("mallory's secret opens as alice's: %v", got)
		}
		var stored string
		check(t, db.QueryRowContext(ctx, "SELECT secret FROM tokens LIMIT 1").Scan(&stored))
		if strings.Contains(stored, string(secret)) {
			t.Error("the secret is stored in the clear")
		}
	})
}

func TestConsumeStep(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		token := must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: u.ID, Enabled: true}, secret))
		consume := func(id string, step int64, want bool) {
			t.Helper()
			if got := must[bool](t)(s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: id, Step: step})); got != want {
				t.Errorf("step %d: got %v, want %v", step, got, want)
			}
		}
		consume(token.ID, 100, true)
		consume(token.ID, 100, false)
		consume(token.ID, 99, false)
		consume(token.ID, 0, false)
		consume(token.ID, -1, false)
		consume(token.ID, 101, true)
		consume("no such token", 1000, false)
		check(t, s.Tokens.SetState(ctx, token.ID, store.TokenDisabled))
		consume(token.ID, 102, false)
		check(t, s.Tokens.SetState(ctx, token.ID, store.TokenEnabled))
		consume(token.ID, 102, true)
		got := must[store.Token](t)(s.Tokens.Get(ctx, token.ID))
		if got.LastStep != 102 || !got.LastUsed.Equal(start) {
			t.Errorf("got %+v", got)
		}
	})
}

// nodes returns two stores on the same PostgreSQL database, as two nodes have them. SQLite has one
// node: twice the same store.
func (e *engine) nodes() [2]*store.Store {
	e.t.Helper()
	first := e.open()
	if e.name == "postgres" {
		return [2]*store.Store{first, e.open()}
	}
	return [2]*store.Store{first, first}
}

func TestConsumeStepInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := e.nodes()
		u := addUser(t, nodes[0], "alice")
		token := must[store.Token](t)(nodes[0].Tokens.Add(t.Context(), store.Token{UserID: u.ID, Enabled: true}, secret))
		var consumed, failed atomic.Int32
		parallel(1000, func(i int) {
			ok, err := nodes[i%2].Tokens.ConsumeStep(t.Context(), store.TokenUse{TokenID: token.ID, Step: 4711})
			if err != nil {
				failed.Add(1)
			}
			if ok {
				consumed.Add(1)
			}
		})
		if consumed.Load() != 1 {
			t.Errorf("consumed %d times (%d calls failed), want once", consumed.Load(), failed.Load())
		}
		t.Logf("%d of 1000 calls failed", failed.Load())
	})
}

func TestAddFirst(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "bob")
		token := must[store.Token](t)(s.Tokens.AddFirst(ctx, store.Token{UserID: u.ID}, secret, 55))
		if !token.Enabled || token.LastStep != 55 {
			t.Errorf("got %+v", token)
		}
		if must[bool](t)(s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: token.ID, Step: 55})) {
			t.Error("the code that proved the token is accepted again")
		}
		_, err := s.Tokens.AddFirst(ctx, store.Token{UserID: u.ID}, secret, 56)
		wantError(t, "second first token", err, store.ErrExists)
		_, err = s.Tokens.AddFirst(ctx, store.Token{UserID: "nobody"}, secret, 56)
		wantError(t, "first token of nobody", err, store.ErrNotFound)
		check(t, s.Tokens.Delete(ctx, token.ID))
		must[store.Token](t)(s.Tokens.AddFirst(ctx, store.Token{UserID: u.ID}, secret, 57))
	})
}

func TestAddFirstInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := e.nodes()
		u := addUser(t, nodes[0], "bob")
		errs := make([]error, 100)
		parallel(len(errs), func(i int) {
			_, errs[i] = nodes[i%2].Tokens.AddFirst(t.Context(), store.Token{UserID: u.ID}, secret, int64(i))
		})
		added := 0
		for _, err := range errs {
			if err == nil {
				added++
			} else if !errors.Is(err, store.ErrExists) {
				t.Errorf("got error %v, want %v", err, store.ErrExists)
			}
		}
		tokens := must[[]store.Token](t)(nodes[1].Tokens.List(t.Context(), u.ID))
		if added != 1 || len(tokens) != 1 {
			t.Errorf("%d were added and there are %d, want one", added, len(tokens))
		}
	})
}
