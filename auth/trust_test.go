package auth_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/testenv"
	"sallyport/otp"
	"sallyport/store"
	"sallyport/store/storetest"
)

const trusting = `version: 1
networks: {office: [192.0.2.0/24]}
rules:
  - {name: day, users: ["*"], targets: [web1], trust: {idle: 2h, max: 8h, uses: 5, sources: [office]}}
  - {name: few, users: ["*"], targets: [lab], trust: {idle: 2h, max: 8h, targets: 1, sources: [office]}}
  - {name: fresh, users: ["*"], targets: [safe], code: fresh}
  - {name: young, users: ["*"], targets: [db1], code: {younger-than: 10m}, trust: {idle: 2h, sources: [office]}}
  - {name: rest, users: ["*"], targets: [vault]}
`

var office = netip.MustParseAddr("192.0.2.7")

// trustWorld has dave with a token, a password and a key, and rules that remember codes.
type trustWorld struct {
	*world
	user   store.User
	secret otp.Secret
}

func newTrustWorld(t *testing.T, dsn string) *trustWorld {
	t.Helper()
	w := &trustWorld{world: newWorld(t, dsn)}
	_, err := w.Store.Rules.Put(t.Context(), trusting, "test", 1)
	check(t, err)
	w.user = w.local("dave", "dave's password")
	w.secret = w.token(w.user.ID)
	_, err = w.Store.UserKeys.Add(t.Context(), store.UserKey{UserID: w.user.ID, PublicKey: "k", Fingerprint: "SHA256:k"})
	check(t, err)
	return w
}

// enter signs dave in and tells whether a code was asked for.
func (w *trustWorld) enter(change func(*auth.Attempt, *auth.Conversation)) (*auth.Identity, bool) {
	w.t.Helper()
	a := auth.Attempt{Door: audit.DoorSSH, Login: "dave", Source: office, Target: "web1", Client: "SSH-2.0-OpenSSH_9.2"}
	if change == nil {
		change = func(*auth.Attempt, *auth.Conversation) {}
	}
	change(&a, w.Engine.Begin(a)) // what it changes of a
	c := w.Engine.Begin(a)
	change(&a, c)
	s := &script{answers: map[string]string{auth.PromptPassword: "dave's password", auth.PromptCode: w.code(w.secret)}}
	id, err := c.Run(w.t.Context(), s)
	if err != nil {
		w.t.Fatalf("%+v: %v", a, err)
	}
	return id, slices.Contains(s.asked, auth.PromptCode)
}

// asks fails the test unless a code is asked for, or spared.
func (w *trustWorld) asks(want bool, what string, change func(*auth.Attempt, *auth.Conversation)) *auth.Identity {
	w.t.Helper()
	id, asked := w.enter(change)
	if asked != want {
		w.t.Errorf("%s: a code was asked for: %v, want %v", what, asked, want)
	}
	if asked {
		w.pass(30 * time.Second)
	}
	return id
}

func (w *trustWorld) pass(d time.Duration) { w.now = w.now.Add(d) }

func at(target, from string) func(*auth.Attempt, *auth.Conversation) {
	return func(a *auth.Attempt, _ *auth.Conversation) { a.Target, a.Source = target, netip.MustParseAddr(from) }
}

func withKey(_ *auth.Attempt, c *auth.Conversation) { c.WithKey("SHA256:k") }

// A code is asked for once, and then not again while the rule remembers it, by the same person from the same place
// with the same first factor and client (B5).
func TestCodeIsRemembered(t *testing.T) {
	t.Parallel()
	w := newTrustWorld(t, "")
	first := w.asks(true, "first", nil)
	if first.Trusted == nil || first.Trusted.MaxUses != 5 || first.Trusted.Until.IsZero() {
		t.Errorf("remembered: %+v", first.Trusted)
	}
	id := w.asks(false, "again", nil)
	if id.Trusted == nil || id.Trusted.Uses != 1 || !id.CodeAt.IsZero() || !slices.Contains(id.Factors, "remembered-code") {
		t.Errorf("spared: %+v", id)
	}
	w.asks(true, "another address", at("web1", "192.0.2.8"))
	w.asks(true, "an address outside of trust.sources, after a password", at("web1", "203.0.113.7"))
	w.asks(true, "the same there again", at("web1", "203.0.113.7"))
	w.asks(true, "another client", func(a *auth.Attempt, _ *auth.Conversation) { a.Client = "SSH-2.0-PuTTY" })
	w.asks(true, "a key in the place of the password", withKey)
	w.asks(false, "the key again", withKey)
	w.asks(true, "a target whose rule remembers nothing", at("vault", "192.0.2.7"))
	w.asks(true, "the same again", at("vault", "192.0.2.7"))
	w.asks(true, "a target that wants a fresh code", at("safe", "192.0.2.7"))
}

// After a verified key it does not matter whether the place is listed; it has to be the same one.
func TestRememberedAfterAKey(t *testing.T) {
	t.Parallel()
	w := newTrustWorld(t, "")
	enter := func(from string) bool {
		t.Helper()
		a := auth.Attempt{Door: audit.DoorSSH, Login: "dave", Source: netip.MustParseAddr(from), Target: "web1", Client: "x"}
		c := w.Engine.Begin(a).WithKey("SHA256:k")
		id, err := c.Run(t.Context(), mute{})
		if err == nil {
			return id.CodeAt.IsZero() && id.Trusted != nil
		}
		if !errors.Is(err, errMute) {
			t.Fatal(err)
		}
		_, err = c.Run(t.Context(), &script{answers: map[string]string{auth.PromptCode: w.code(w.secret)}})
		check(t, err)
		w.pass(30 * time.Second)
		return false
	}
	for i, c := range []struct {
		from string
		want bool
	}{
		{"203.0.113.7", false}, {"203.0.113.7", true}, {"203.0.113.8", false},
		{"2001:db8::1", false}, {"2001:db8::2", true}, {"2001:db8:0:1::1", false},
	} {
		if got := enter(c.from); got != c.want {
			t.Errorf("%d: from %s spared: %v, want %v", i, c.from, got, c.want)
		}
	}
}

// What ends a grant: time, uses, targets, and whatever changes of the person, the password, the tokens or the rule.
func TestGrantEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]func(w *trustWorld){
		"idle": func(w *trustWorld) { w.pass(2 * time.Hour) },
		"max": func(w *trustWorld) {
			for range 4 {
				w.pass(110 * time.Minute)
				w.asks(false, "within max", nil)
			}
			w.pass(41 * time.Minute)
		},
		"uses": func(w *trustWorld) {
			for range 4 {
				w.asks(false, "within uses", nil)
			}
		},
		"password": func(w *trustWorld) {
			hash, err := identity.HashPassword(context.Background(), "dave's password")
			check(w.t, err)
			check(w.t, w.Store.Users.SetPassword(context.Background(), w.user.ID, hash))
		},
		"lock": func(w *trustWorld) {
			check(w.t, w.Store.Users.Lock(context.Background(), w.user.ID, "", time.Time{}))
			check(w.t, w.Store.Users.Unlock(context.Background(), w.user.ID))
		},
		"token": func(w *trustWorld) {
			other, err := w.Store.Tokens.Add(context.Background(), store.Token{UserID: w.user.ID, Name: "x", Enabled: true}, otp.NewSecret())
			check(w.t, err)
			check(w.t, w.Store.Tokens.Delete(context.Background(), other.ID))
		},
		"rule": func(w *trustWorld) {
			_, err := w.Store.Rules.Put(context.Background(), strings.Replace(trusting, "max: 8h, uses: 5", "max: 9h, uses: 50", 1), "test", 2)
			check(w.t, err)
		},
		"forget": func(w *trustWorld) {
			n, err := w.Store.Grants.RevokeAll(context.Background(), w.user.ID)
			if check(w.t, err); n != 1 {
				w.t.Errorf("%d grants", n)
			}
		},
		"clock": func(w *trustWorld) { w.pass(-time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTrustWorld(t, "")
			if name == "clock" {
				w.pass(time.Hour)
			}
			w.asks(true, "first", nil)
			if name != "max" && name != "clock" {
				w.asks(false, "second", nil)
			}
			c(w)
			if name == "clock" { // no code of an hour ago is accepted either
				a := auth.Attempt{Door: audit.DoorSSH, Login: "dave", Source: office, Target: "web1", Client: "SSH-2.0-OpenSSH_9.2"}
				_, err := w.login(a, "dave's password", w.code(w.secret))
				w.refused(err, auth.ErrReplay)
				return
			}
			w.asks(true, "after", nil)
		})
	}
}

// A password that was changed in the directory ends what was remembered, though nothing here knows of it.
func TestGrantEndsWithThePasswordOfTheDirectory(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	w := newWorld(t, "", withDirectory(d), func(c *auth.Config) { c.EnrolAtLogin = true })
	_, err := w.Store.Rules.Put(t.Context(), trusting, "test", 1)
	check(t, err)
	var secret otp.Secret
	enter := func(password string) []string {
		t.Helper()
		w.now = w.now.Add(30 * time.Second)
		s := &script{answers: map[string]string{auth.PromptPassword: password, auth.PromptCode: w.code(secret)}}
		s.onAsk = func(prompt string) {
			if prompt == auth.PromptNewCode {
				_, after, _ := strings.Cut(s.shown, "6 digits):")
				var err error
				secret, err = otp.ParseSecret(strings.Join(strings.Fields(strings.Split(after, "Then")[0]), ""))
				check(t, err)
				s.answers[auth.PromptNewCode] = w.code(secret)
			}
		}
		_, err := w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "alice", Source: office, Target: "web1"}).Run(t.Context(), s)
		check(t, err)
		return s.asked
	}
	enter(d.Password("alice")) // enrols
	if asked := enter(d.Password("alice")); len(asked) != 2 {
		t.Errorf("first: %q", asked)
	}
	if asked := enter(d.Password("alice")); len(asked) != 1 {
		t.Errorf("remembered: %q", asked)
	}
	d.Modify(d.UserDN("alice"), "userPassword", "another password 7")
	d.Modify(d.UserDN("alice"), "shadowLastChange", "20000")
	if asked := enter("another password 7"); len(asked) != 2 {
		t.Errorf("after the password was changed: %q", asked)
	}
}

// The password is looked at as ever: a remembered code lets nobody in by itself, and failures count.
func TestRememberedCodeNeedsTheFirstFactor(t *testing.T) {
	t.Parallel()
	w := newTrustWorld(t, "")
	w.asks(true, "first", nil)
	a := auth.Attempt{Door: audit.DoorSSH, Login: "dave", Source: office, Target: "web1", Client: "SSH-2.0-OpenSSH_9.2"}
	for range 5 {
		_, err := w.login(a, "wrong", "")
		w.refused(err, auth.ErrPassword)
	}
	_, err := w.login(a, "dave's password", "")
	w.refused(err, auth.ErrLocked)
	list, err := w.Store.Grants.List(t.Context(), w.user.ID)
	check(t, err)
	if len(list) != 1 || list[0].Uses != 0 {
		t.Errorf("grants %+v: a wrong password uses none", list)
	}
}

// Authorize asks again for each target: what the login was spared for one may be demanded for another.
func TestRememberedCodeAtOtherTargets(t *testing.T) {
	t.Parallel()
	w := newTrustWorld(t, "")
	menu := func(a *auth.Attempt, _ *auth.Conversation) { a.Target = "" }
	w.asks(true, "menu", menu)
	id := w.asks(false, "menu again", menu)
	authorize := func(target string, allow, needs bool) {
		t.Helper()
		d, err := w.Engine.Authorize(t.Context(), *id, auth.Request{Target: target, Source: office})
		check(t, err)
		if d.Allow != allow || d.NeedsCode != needs {
			t.Errorf("%s: allowed %v, needs a code %v: %s", target, d.Allow, d.NeedsCode, d.Refusal)
		}
	}
	authorize("web1", true, false)
	authorize("safe", false, true)
	authorize("vault", false, true)
	authorize("db1", true, false)
	authorize("lab", false, true) // good for one target, and there were two
	w.pass(11 * time.Minute)
	authorize("db1", false, true)
	authorize("web1", true, false)
	_, err := w.Store.Grants.RevokeAll(t.Context(), w.user.ID)
	check(t, err)
	authorize("web1", false, true)
}

// onlyPassword answers the password and leaves when a code is asked for.
type onlyPassword string

func (p onlyPassword) Ask(_ context.Context, _ string, prompts []auth.Prompt) ([]string, error) {
	if prompts[0].Text != auth.PromptPassword {
		return nil, errMute
	}
	return []string{string(p)}, nil
}

func (onlyPassword) Show(context.Context, string) error { return nil }

// Five uses are five uses: of twenty logins at once at two nodes five are spared the code, and all get in.
func TestGrantUsedInParallel(t *testing.T) {
	t.Parallel()
	w := newTrustWorld(t, storetest.Postgres(t))
	w.asks(true, "first", nil)
	var spared, asked atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			a := auth.Attempt{Door: audit.DoorSSH, Login: "dave", Source: office, Target: "web1", Client: "SSH-2.0-OpenSSH_9.2"}
			id, err := w.Engine.Begin(a).Run(context.Background(), onlyPassword("dave's password"))
			switch {
			case err == nil && id.Trusted != nil:
				spared.Add(1)
			case errors.Is(err, errMute):
				asked.Add(1)
			default:
				t.Errorf("neither spared nor asked: %v", err)
			}
		})
	}
	wg.Wait()
	if spared.Load() != 5 || asked.Load() != 15 {
		t.Errorf("%d spared, %d asked", spared.Load(), asked.Load())
	}
}
