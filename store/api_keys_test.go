package store_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/store"
)

func TestAPIKeys(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		k, secret, err := s.APIKeys.Add(ctx, store.APIKey{
			Name: "shop", Scopes: []string{store.ScopeValidate, store.ScopeEnrol}, Sources: []string{"192.0.2.0/24"}, PerMinute: 60, Expires: start.Add(time.Hour),
		})
		check(t, err)
		if !k.Allows(store.ScopeEnrol) || k.Allows(store.ScopeAddUsers) || k.Allows("") {
			t.Errorf("scopes of %+v", k)
		}
		_, _, err = s.APIKeys.Add(ctx, store.APIKey{Name: "shop", Scopes: []string{store.ScopeEnrol}, PerMinute: 1})
		wantError(t, "second of a name", err, store.ErrExists)
		for _, bad := range []store.APIKey{{Name: "x", Scopes: []string{"all"}, PerMinute: 1}, {Name: "x", PerMinute: 1}, {Name: "x", Scopes: []string{store.ScopeEnrol}}} {
			if _, _, err := s.APIKeys.Add(ctx, bad); err == nil {
				t.Errorf("%+v was added", bad)
			}
		}
		if got, err := s.APIKeys.Find(ctx, secret); err != nil || got.ID != k.ID || got.Sources[0] != "192.0.2.0/24" {
			t.Errorf("found %+v, %v", got, err)
		}
		_, err = s.APIKeys.Find(ctx, secret+"x")
		wantError(t, "wrong secret", err, store.ErrNotFound)
		e.clock.Move(time.Hour)
		_, err = s.APIKeys.Find(ctx, secret)
		wantError(t, "expired", err, store.ErrNotFound)
		wantError(t, "use of an expired one", s.APIKeys.Use(ctx, k.ID, ""), store.ErrNotFound)
		if was, err := s.APIKeys.Delete(ctx, k.ID); err != nil || was.Name != "shop" {
			t.Errorf("deleted %+v, %v", was, err)
		}
		_, err = s.APIKeys.Delete(ctx, k.ID)
		wantError(t, "deleted twice", err, store.ErrNotFound)
	})
}

// Of many calls at once, at two nodes, exactly a minute's share passes; then one for each part of a minute.
func TestAPIKeyRate(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := []*store.Store{e.open(), e.open()}, t.Context()
		k, _, err := nodes[0].APIKeys.Add(ctx, store.APIKey{Name: "shop", Scopes: []string{store.ScopeEnrol}, PerMinute: 20})
		check(t, err)
		var passed, refused atomic.Int64
		parallel(60, func(i int) {
			switch err := nodes[i%2].APIKeys.Use(ctx, k.ID, "192.0.2.7"); {
			case err == nil:
				passed.Add(1)
			case errors.Is(err, store.ErrRateLimit):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
		if passed.Load() != 20 || refused.Load() != 40 {
			t.Errorf("%d passed and %d were refused, want 20 and 40", passed.Load(), refused.Load())
		}
		e.clock.Move(3 * time.Second)
		check(t, nodes[1].APIKeys.Use(ctx, k.ID, "192.0.2.8"))
		wantError(t, "a second one", nodes[0].APIKeys.Use(ctx, k.ID, ""), store.ErrRateLimit)
		if list := must[[]store.APIKey](t)(nodes[0].APIKeys.List(ctx)); list[0].LastSource != "192.0.2.8" || !list[0].LastUsed.Equal(start.Add(3*time.Second)) {
			t.Errorf("used %+v", list[0])
		}
	})
}

// Of a hundred requests at once, at two nodes, one makes the token; those marked as the same find it.
func TestTokenForProgram(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := []*store.Store{e.open(), e.open()}, t.Context()
		s := nodes[0]
		k, _, err := s.APIKeys.Add(ctx, store.APIKey{Name: "shop", Scopes: []string{store.ScopeEnrol}, PerMinute: 20})
		check(t, err)
		u := must[store.User](t)(s.Users.Add(ctx, store.User{Login: "alice"}, ""))
		secret := []byte("12345678901234567890")
		ask := store.Ask{KeyID: k.ID, Key: "1", Request: "alice"}
		var made, exists atomic.Int64
		parallel(100, func(i int) {
			switch _, err := nodes[i%2].Tokens.AddForProgram(ctx, store.Token{UserID: u.ID, Name: "shop"}, secret, ask); {
			case err == nil:
				made.Add(1)
			case errors.Is(err, store.ErrExists):
				exists.Add(1)
			default:
				t.Error(err)
			}
		})
		if made.Load() != 1 || exists.Load() != 99 {
			t.Errorf("%d were made, %d refused", made.Load(), exists.Load())
		}
		list := must[[]store.Token](t)(s.Tokens.List(ctx, u.ID))
		if len(list) != 1 || !list[0].Enabled {
			t.Fatalf("tokens %+v", list)
		}
		got := must[store.TokenSecret](t)(nodes[1].Tokens.Asked(ctx, ask))
		if got.ID != list[0].ID || string(got.Secret) != string(secret) {
			t.Errorf("the answer again is %v", got)
		}
		_, err = s.Tokens.Asked(ctx, store.Ask{KeyID: k.ID, Key: "1", Request: "bob"})
		wantError(t, "another request of the same key", err, store.ErrOtherAsk)
		for _, other := range []store.Ask{{KeyID: "x", Key: "1", Request: "alice"}, {KeyID: k.ID, Key: "2", Request: "alice"}, {KeyID: k.ID}} {
			_, err = s.Tokens.Asked(ctx, other)
			wantError(t, "nothing was asked", err, store.ErrNotFound)
		}
		bob := must[store.User](t)(s.Users.Add(ctx, store.User{Login: "bob"}, ""))
		_, err = s.Tokens.AddForProgram(ctx, store.Token{UserID: bob.ID}, secret, store.Ask{KeyID: k.ID, Key: "1", Request: "bob"})
		wantError(t, "the key of another request", err, store.ErrOtherAsk)
		if n := must[store.User](t)(s.Users.ByID(ctx, bob.ID)).Tokens; n != 0 {
			t.Errorf("bob has %d tokens", n)
		}
		check(t, s.Users.Lock(ctx, bob.ID, "", time.Time{}))
		_, err = s.Tokens.AddForProgram(ctx, store.Token{UserID: bob.ID}, secret, store.Ask{})
		wantError(t, "a locked person", err, store.ErrNotFound)

		ok, err := s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: got.ID, Step: 5, Door: "api"})
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		_, err = s.Tokens.Asked(ctx, ask)
		wantError(t, "once it was used", err, store.ErrNotFound)
		e.clock.Move(10 * time.Minute)
		check(t, s.Purge(ctx))
		_, err = s.Tokens.Asked(ctx, ask)
		wantError(t, "after ten minutes", err, store.ErrNotFound)
	})
}
