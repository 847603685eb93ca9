package auth_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/otp"
	"sallyport/store"
)

// Whatever is wrong with a program's key, the error is the same and comes on the grid; ten of them lock the source, an
// IPv6 network as one, on every node.
func TestProveKey(t *testing.T) {
	t.Parallel()
	const grid = 30 * time.Millisecond
	w := newWorld(t, "", func(c *auth.Config) { c.Grid = grid })
	_, other := w.node()
	ctx, home := t.Context(), netip.MustParseAddr("2001:db8::1")
	add := func(name string, k store.APIKey) string {
		k.Name, k.Scopes, k.PerMinute = name, []string{store.ScopeValidate}, 100
		_, secret, err := w.Store.APIKeys.Add(ctx, k)
		check(t, err)
		return secret
	}
	anywhere, near := add("anywhere", store.APIKey{}), add("near", store.APIKey{Sources: []string{"192.0.2.0/24"}})
	old := add("old", store.APIKey{Expires: w.now.Add(time.Minute)})
	for secret, from := range map[string]netip.Addr{anywhere: home, near: netip.MustParseAddr("::ffff:192.0.2.7"), old: source} {
		if k, err := w.Engine.ProveKey(ctx, secret, from, "/x"); err != nil || !k.Allows(store.ScopeValidate) {
			t.Errorf("from %s: %+v, %v", from, k, err)
		}
	}
	w.now = w.now.Add(time.Minute)
	var wrong sync.WaitGroup
	for i, secret := range []string{"", "sk_x", near, old, anywhere + "x", strings.Repeat("x", 100_000), "\x00", "sk_y", "sk_z", "sp_x"} {
		wrong.Go(func() {
			begun := time.Now()
			_, err := []*auth.Engine{w.Engine, other}[i%2].ProveKey(ctx, secret, home, "/x")
			if !errors.Is(err, auth.ErrKey) || err.Error() != auth.ErrKey.Error() {
				t.Errorf("%.10q: %v", secret, err)
			}
			if took := time.Since(begun); took < grid {
				t.Errorf("%.10q: refused after %s", secret, took)
			}
		})
	}
	wrong.Wait()
	neighbour := netip.MustParseAddr("2001:db8::ffff")
	for _, e := range []*auth.Engine{w.Engine, other} {
		_, err := e.ProveKey(ctx, anywhere, neighbour, "/x")
		var locked *auth.LockedError
		if !errors.As(err, &locked) || locked.Wait < 29*time.Minute || locked.Lock.ID != "api-key:2001:db8::/64" {
			t.Errorf("after ten wrong keys: %v", err)
		}
	}
	if _, err := w.Engine.ProveKey(ctx, anywhere, source, "/x"); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
	if n := len(w.eventsOf(audit.LockoutSet)); n != 1 {
		t.Errorf("%d events of a lock", n)
	}
	about := 0
	for _, e := range w.eventsOf(audit.LoginRefused) {
		if strings.Contains(e.Reason, "x") && strings.Contains(e.Reason, "sk_") || e.Detail["path"] != "/x" {
			t.Errorf("event %+v", e)
		}
		if e.Actor == "api-key near" {
			about++
		}
	}
	if about != 1 {
		t.Errorf("%d events name the key that was used from elsewhere", about)
	}
	w.now = w.now.Add(30 * time.Minute)
	if _, err := w.Engine.ProveKey(ctx, anywhere, neighbour, "/x"); err != nil {
		t.Errorf("after the lock: %v", err)
	}
}

// Who gets a token from a program: people here and in the directory, and nobody who could not log in.
func TestPersonForProgram(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *auth.Config) { c.Directory = &countingDirectory{} })
	ctx := context.Background()
	u, err := w.Engine.Person(ctx, "Alice") // was never here
	if err != nil || u.Login != "alice" || u.Source != store.Directory || u.ExternalID != "1" {
		t.Errorf("from the directory: %+v, %v", u, err)
	}
	dave := w.local("dave", "pw")
	if got, err := w.Engine.Person(ctx, " dave"); !errors.Is(err, auth.ErrUnknownUser) {
		t.Errorf("a name that is none: %+v, %v", got, err)
	}
	if got, err := w.Engine.Person(ctx, "dave"); err != nil || got.ID != dave.ID {
		t.Errorf("local: %+v, %v", got, err)
	}
	_, err = w.Store.Robots.Add(ctx, store.Robot{Name: "robot", PublicKey: "r", Fingerprint: "SHA256:robot", Enabled: true, Targets: []string{"web1"}, Accounts: []string{"root"}, Sources: []string{"192.0.2.0/24"}, Commands: []string{"id"}})
	check(t, err)
	for login, want := range map[string]error{"nobody": auth.ErrUnknownUser, "robot": auth.ErrDisabled} {
		if _, err := w.Engine.Person(ctx, login); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", login, err, want)
		}
	}

	t1, en, again, err := w.Engine.EnrolForProgram(ctx, u, "shop", otp.DefaultParams(), store.Ask{})
	if err != nil || again || !t1.Enabled || !strings.Contains(en.URI, en.Secret.Base32()) {
		t.Fatalf("%+v, %v", t1, err)
	}
	ask := auth.Attempt{Door: audit.DoorAPI, Login: "alice", Peer: "api-key shop", Client: "api-key shop"}
	code := w.code(en.Secret)
	if id, err := w.Engine.Begin(ask).RunAnswers(ctx, auth.Answers{Elsewhere: true, Code: code}); err != nil || id.UserID != u.ID {
		t.Errorf("its code: %+v, %v", id, err)
	}
	_, err = w.Engine.Begin(ask).RunAnswers(ctx, auth.Answers{Elsewhere: true, Code: code})
	w.refused(err, auth.ErrReplay)
}
