package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/store"
)

func TestFoldLogin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ typed, want string }{
		{"bob", "bob"}, {"Bob", "bob"}, {" BOB ", "bob"}, {"bob\u00a0", "bob"}, {"ｂｏｂ", "bob"},
		{"ren\u00e9", "ren\u00e9"}, {"rene\u0301", "ren\u00e9"}, {"RENÉ", "ren\u00e9"}, {"Иван", "иван"},
		{"\u212aelvin", "kelvin"}, {"a\x00b", "a\ufffdb"}, {"", ""},
	} {
		got := store.FoldLogin(c.typed)
		if got != c.want {
			t.Errorf("FoldLogin(%q) = %q, want %q", c.typed, got, c.want)
		}
		if again := store.FoldLogin(got); again != got {
			t.Errorf("FoldLogin(%q) = %q: not stable", got, again)
		}
	}
}

func FuzzFoldLoginIsStable(f *testing.F) {
	f.Add("Bob ¨")
	f.Fuzz(func(t *testing.T, login string) {
		once := store.FoldLogin(login)
		if twice := store.FoldLogin(once); twice != once {
			t.Errorf("FoldLogin(%q) = %q, and of that %q", login, once, twice)
		}
	})
}

func TestUsers(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		added := must[store.User](t)(s.Users.Add(ctx, store.User{
			Login: "Alice", Name: "Алиса", Email: "alice@example.org", Groups: []string{"ops", "dba", "ops"},
		}, "$argon2id$…"))
		for name, got := range map[string]store.User{
			"ByID":    must[store.User](t)(s.Users.ByID(ctx, added.ID)),
			"ByLogin": must[store.User](t)(s.Users.ByLogin(ctx, " ALICE")),
		} {
			if got.ID != added.ID || got.Login != "alice" || got.Name != "Алиса" || got.Source != store.Local ||
				!slices.Equal(got.Groups, []string{"dba", "ops"}) || !got.HasPassword || got.Tokens != 0 ||
				!got.Created.Equal(start) || !got.LastLogin.IsZero() || got.Locked {
				t.Errorf("%s: got %+v", name, got)
			}
		}
		_, err := s.Users.Add(ctx, store.User{Login: "aLICE"}, "")
		wantError(t, "same login", err, store.ErrExists)
		for _, login := range []string{"", "  ", "a\x00", "a\nb", "a\u202eb", strings.Repeat("x", 300)} {
			if _, err := s.Users.Add(ctx, store.User{Login: login}, ""); err == nil {
				t.Errorf("the login %q was taken", login)
			}
		}
		check(t, s.Users.SetPassword(ctx, added.ID, "new"))
		if got := must[string](t)(s.Users.PasswordHash(ctx, added.ID)); got != "new" {
			t.Errorf("password hash: got %q, want %q", got, "new")
		}
		check(t, s.Users.SetGroups(ctx, added.ID, nil))
		check(t, s.Users.Touch(ctx, added.ID))
		got := must[store.User](t)(s.Users.ByID(ctx, added.ID))
		if len(got.Groups) != 0 || !got.LastLogin.Equal(start) {
			t.Errorf("after changes: got %+v", got)
		}
		check(t, s.Users.Delete(ctx, added.ID))
		_, err = s.Users.ByID(ctx, added.ID)
		wantError(t, "deleted user", err, store.ErrNotFound)
		for name, err := range map[string]error{
			"Delete": s.Users.Delete(ctx, added.ID), "SetPassword": s.Users.SetPassword(ctx, added.ID, "x"),
			"Lock": s.Users.Lock(ctx, added.ID, "", time.Time{}), "Touch": s.Users.Touch(ctx, added.ID),
		} {
			wantError(t, name+" of nobody", err, store.ErrNotFound)
		}
	})
}

func TestListUsers(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		for _, u := range []store.User{
			{Login: "alice", Name: "Алиса"}, {Login: "bob", Email: "Bob_1@example.org"}, {Login: "carol", Name: "100%"},
		} {
			must[store.User](t)(s.Users.Add(ctx, u, ""))
		}
		for _, c := range []struct {
			filter store.UserFilter
			want   string
		}{
			{store.UserFilter{}, "carol bob alice"},
			{store.UserFilter{Limit: 2}, "carol bob"},
			{store.UserFilter{Query: "АЛИС"}, "alice"},
			{store.UserFilter{Query: "bob_1@EXAMPLE"}, "bob"},
			{store.UserFilter{Query: "_"}, "bob"},
			{store.UserFilter{Query: "%"}, "carol"},
			{store.UserFilter{Query: `\`}, ""},
		} {
			var got []string
			for _, u := range must[[]store.User](t)(s.Users.List(ctx, c.filter)) {
				got = append(got, u.Login)
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("%+v: got %q, want %q", c.filter, got, c.want)
			}
		}
	})
}

func TestUserLock(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		until := start.Add(time.Hour)
		check(t, s.Users.Lock(ctx, u.ID, "left the company", until))
		u = must[store.User](t)(s.Users.ByID(ctx, u.ID))
		if u.LockReason != "left the company" || !u.LockedUntil.Equal(until) {
			t.Errorf("got %+v", u)
		}
		if !u.LockedNow(until.Add(-1)) || u.LockedNow(until) {
			t.Error("the lock does not end when it should")
		}
		check(t, s.Users.Lock(ctx, u.ID, "", time.Time{}))
		if u = must[store.User](t)(s.Users.ByID(ctx, u.ID)); !u.LockedNow(until.Add(1e6 * time.Hour)) {
			t.Error("a lock without end has ended")
		}
		check(t, s.Users.Unlock(ctx, u.ID))
		if u = must[store.User](t)(s.Users.ByID(ctx, u.ID)); u.LockedNow(start) || u.Locked {
			t.Error("the user is still locked")
		}
	})
}

func TestSeenInDirectory(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		first := must[store.User](t)(s.Users.SeenInDirectory(ctx, "uuid-1", "Carol", "Carol", "c@example.org", []string{"ops"}))
		if first.Source != store.Directory || first.Login != "carol" || first.ExternalID != "uuid-1" || first.HasPassword {
			t.Errorf("got %+v", first)
		}
		again := must[store.User](t)(s.Users.SeenInDirectory(ctx, "uuid-1", "caroline", "Caroline", "", []string{"dba"}))
		if again.ID != first.ID || again.Login != "caroline" || again.Name != "Caroline" || !slices.Equal(again.Groups, []string{"dba"}) {
			t.Errorf("after a change in the directory: got %+v", again)
		}
		if found := must[store.User](t)(s.Users.ByExternalID(ctx, "uuid-1")); found.Login != "caroline" {
			t.Errorf("ByExternalID: got %+v", found)
		}
		addUser(t, s, "alice")
		_, err := s.Users.SeenInDirectory(ctx, "uuid-2", "ALICE", "", "", nil)
		wantError(t, "login of a local user", err, store.ErrNameTaken)
		_, err = s.Users.SeenInDirectory(ctx, "uuid-2", "caroline", "", "", nil)
		wantError(t, "login of another entry", err, store.ErrNameTaken)
		_, err = s.Users.SeenInDirectory(ctx, "uuid-1", "alice", "", "", nil)
		wantError(t, "renamed to a local user", err, store.ErrNameTaken)
		if _, err := s.Users.SeenInDirectory(ctx, "", "dave", "", "", nil); err == nil {
			t.Error("an entry without id was taken")
		}
		_, err = s.Users.Add(ctx, store.User{Login: "caroline"}, "")
		wantError(t, "local user of a directory user's login", err, store.ErrExists)
	})
}

func TestFirstLoginsOfOneDirectoryUserAtOnce(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s := e.open()
		ids, errs := make([]string, 50), make([]error, 50)
		parallel(len(ids), func(i int) {
			u, err := s.Users.SeenInDirectory(t.Context(), "uuid-1", "carol", "Carol", "", nil)
			ids[i], errs[i] = u.ID, err
		})
		check(t, errors.Join(errs...))
		if slices.Sort(ids); ids[0] != ids[len(ids)-1] || ids[0] == "" {
			t.Errorf("different users: %v", slices.Compact(ids))
		}
	})
}

func TestDeleteUserTakesEverythingAlong(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		addAdmin(t, s, "root")
		u := addAdmin(t, s, "alice")
		must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: u.ID, Enabled: true}, make([]byte, 20)))
		must[store.UserKey](t)(s.UserKeys.Add(ctx, store.UserKey{UserID: u.ID, PublicKey: "ssh-ed25519 A", Fingerprint: "SHA256:A"}))
		ticket := must[string](t)(s.Tickets.Create(ctx, "enrol", u.ID, nil, time.Hour))
		check(t, s.WebSessions.CommitCtx(ctx, "token", webSession(t, u.ID), start.Add(time.Hour)))

		check(t, s.Users.Delete(ctx, u.ID))
		if got := must[[]store.Token](t)(s.Tokens.List(ctx, u.ID)); len(got) != 0 {
			t.Errorf("tokens left: %v", got)
		}
		if got := must[[]store.UserKey](t)(s.UserKeys.List(ctx, u.ID)); len(got) != 0 {
			t.Errorf("keys left: %v", got)
		}
		if got := must[string](t)(s.Admins.Role(ctx, u.ID)); got != "" {
			t.Errorf("role left: %q", got)
		}
		_, err := s.Tickets.Take(ctx, "enrol", ticket)
		wantError(t, "ticket", err, store.ErrNotFound)
		if _, found, err := s.WebSessions.FindCtx(ctx, "token"); found || err != nil {
			t.Errorf("web session: found %v, error %v", found, err)
		}
	})
}

func TestUserKeys(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		alice, bob := addUser(t, s, "alice"), addUser(t, s, "bob")
		k := must[store.UserKey](t)(s.UserKeys.Add(ctx, store.UserKey{
			UserID: alice.ID, Name: "laptop", PublicKey: "ssh-ed25519 AAAA", Fingerprint: "SHA256:x",
		}))
		_, err := s.UserKeys.Add(ctx, store.UserKey{UserID: bob.ID, PublicKey: "ssh-ed25519 AAAA", Fingerprint: "SHA256:x"})
		wantError(t, "alice's key for bob", err, store.ErrExists)
		_, err = s.UserKeys.Add(ctx, store.UserKey{UserID: "nobody", PublicKey: "ssh-ed25519 B", Fingerprint: "SHA256:y"})
		wantError(t, "key for nobody", err, store.ErrNotFound)
		if _, err := s.UserKeys.Add(ctx, store.UserKey{UserID: bob.ID, PublicKey: "ssh-ed25519 B"}); err == nil {
			t.Error("a key without fingerprint was taken")
		}
		_, err = s.UserKeys.ByFingerprint(ctx, bob.ID, "SHA256:x")
		wantError(t, "alice's key as bob's", err, store.ErrNotFound)
		check(t, s.UserKeys.Touch(ctx, k.ID))
		if got := must[store.UserKey](t)(s.UserKeys.ByFingerprint(ctx, alice.ID, "SHA256:x")); got.ID != k.ID || !got.LastUsed.Equal(start) {
			t.Errorf("got %+v", got)
		}
		wantError(t, "bob deletes alice's key", s.UserKeys.Delete(ctx, bob.ID, k.ID), store.ErrNotFound)
		check(t, s.UserKeys.Delete(ctx, alice.ID, k.ID))
		if got := must[[]store.UserKey](t)(s.UserKeys.List(ctx, alice.ID)); len(got) != 0 {
			t.Errorf("keys left: %v", got)
		}
	})
}
