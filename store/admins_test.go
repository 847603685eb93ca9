package store_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/store"
)

func addAdmin(t *testing.T, s *store.Store, login string) store.User {
	t.Helper()
	u := addUser(t, s, login)
	check(t, s.Admins.Set(t.Context(), u.ID, store.RoleAdmin))
	return u
}

func TestAdmins(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		if got := must[int](t)(s.Admins.Count(ctx)); got != 0 {
			t.Errorf("administrators at first: %d", got)
		}
		alice := addAdmin(t, s, "alice")
		e.clock.Move(time.Second)
		bob := addUser(t, s, "bob")
		check(t, s.Admins.Set(ctx, bob.ID, store.RoleAuditor))
		if got := must[int](t)(s.Admins.Count(ctx)); got != 1 {
			t.Errorf("administrators: got %d, want 1", got)
		}
		list := must[[]store.Admin](t)(s.Admins.List(ctx))
		if len(list) != 2 || list[0].Login != "bob" || list[0].Role != store.RoleAuditor || list[1].UserID != alice.ID {
			t.Errorf("got %+v", list)
		}
		wantError(t, "removing the last", s.Admins.Remove(ctx, alice.ID), store.ErrLastAdmin)
		wantError(t, "demoting the last", s.Admins.Set(ctx, alice.ID, store.RoleAuditor), store.ErrLastAdmin)
		wantError(t, "deleting the last", s.Users.Delete(ctx, alice.ID), store.ErrLastAdmin)
		wantError(t, "role for nobody", s.Admins.Set(ctx, "nobody", store.RoleAdmin), store.ErrNotFound)
		wantError(t, "removing nobody", s.Admins.Remove(ctx, "nobody"), store.ErrNotFound)
		if err := s.Admins.Set(ctx, bob.ID, "king"); err == nil {
			t.Error("bob became king")
		}
		check(t, s.Admins.Set(ctx, bob.ID, store.RoleAdmin))
		check(t, s.Admins.Remove(ctx, alice.ID))
		for id, want := range map[string]string{alice.ID: "", bob.ID: store.RoleAdmin, "nobody": ""} {
			if got := must[string](t)(s.Admins.Role(ctx, id)); got != want {
				t.Errorf("role of %s: got %q, want %q", id, got, want)
			}
		}
	})
}

// However they are taken away at once, one administrator stays.
func TestLastAdminStays(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := e.nodes()
		ids := make([]string, 21)
		for i := range ids {
			ids[i] = addAdmin(t, nodes[0], "admin"+string(rune('a'+i))).ID
		}
		var refused atomic.Int32
		parallel(len(ids), func(i int) {
			var err error
			switch s := nodes[i%2]; i % 3 {
			case 0:
				err = s.Admins.Remove(t.Context(), ids[i])
			case 1:
				err = s.Admins.Set(t.Context(), ids[i], store.RoleAuditor)
			default:
				err = s.Users.Delete(t.Context(), ids[i])
			}
			if errors.Is(err, store.ErrLastAdmin) {
				refused.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
		if got := must[int](t)(nodes[1].Admins.Count(t.Context())); got != 1 || refused.Load() != 1 {
			t.Errorf("%d are left and %d were refused, want 1 and 1", got, refused.Load())
		}
	})
}

func TestAPITokens(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		made, secret, err := s.APITokens.Add(ctx, "backup", store.RoleAuditor, start.Add(time.Hour))
		check(t, err)
		if !strings.HasPrefix(secret, "sp_") || len(secret) < 40 {
			t.Errorf("secret %q", secret)
		}
		_, _, err = s.APITokens.Add(ctx, "backup", store.RoleAdmin, time.Time{})
		wantError(t, "same name", err, store.ErrExists)
		if _, _, err := s.APITokens.Add(ctx, "x", "king", time.Time{}); err == nil {
			t.Error("a token for a king was made")
		}
		got := must[store.APIToken](t)(s.APITokens.Check(ctx, secret))
		if got.ID != made.ID || got.Role != store.RoleAuditor || !got.LastUsed.Equal(start) {
			t.Errorf("got %+v", got)
		}
		for _, wrong := range []string{"", "sp_", secret[:len(secret)-1], secret + "x", strings.ToUpper(secret)} {
			_, err := s.APITokens.Check(ctx, wrong)
			wantError(t, "wrong secret", err, store.ErrNotFound)
		}
		e.clock.Move(time.Hour)
		_, err = s.APITokens.Check(ctx, secret)
		wantError(t, "expired", err, store.ErrNotFound)

		lasting, secret, err := s.APITokens.Add(ctx, "lasting", store.RoleAdmin, time.Time{})
		check(t, err)
		e.clock.Move(10_000 * time.Hour)
		must[store.APIToken](t)(s.APITokens.Check(ctx, secret))
		list := must[[]store.APIToken](t)(s.APITokens.List(ctx))
		if len(list) != 2 || list[0].ID != lasting.ID || !list[0].LastUsed.Equal(e.clock.Now()) {
			t.Errorf("got %+v", list)
		}
		check(t, s.APITokens.Delete(ctx, lasting.ID))
		_, err = s.APITokens.Check(ctx, secret)
		wantError(t, "deleted", err, store.ErrNotFound)
	})
}
