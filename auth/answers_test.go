package auth_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/otp"
	"sallyport/policy"
	"sallyport/store"
)

// vpn adds a RADIUS client and a rule that lets alice through it.
func (w *world) vpn() store.RadiusClient {
	w.t.Helper()
	ctx := context.Background()
	_, version, err := w.Engine.Rules(ctx)
	check(w.t, err)
	_, err = w.Store.Rules.Put(ctx, rules+"  - {name: vpn, users: [alice, dave], targets: [vpn], channels: [radius]}\n", "test", version)
	check(w.t, err)
	c, err := w.Store.RadiusClients.Add(ctx, store.RadiusClient{
		Name: "vpn", Networks: []string{"192.0.2.1/32"}, Mode: store.RadiusPasswordCode, MessageAuthenticator: store.AuthenticatorYes, Enabled: true,
	}, store.SharedSecret("0123456789abcdef"))
	check(w.t, err)
	return c
}

func (w *world) ask(login string, in auth.Answers, from ...netip.Addr) (*auth.Identity, error) {
	a := auth.Attempt{Door: audit.DoorRADIUS, Login: login, Target: "vpn", Channel: policy.RADIUS, Peer: "vpn", Detail: map[string]string{"nas": "192.0.2.1"}}
	if len(from) > 0 {
		a.Source = from[0]
	}
	return w.Engine.Begin(a).RunAnswers(context.Background(), in)
}

// The three forms in which a machine sends what a person typed, and what is wrong with each.
func TestAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.vpn()
	u := w.local("alice", "pw123456")
	short, long := w.token(u.ID), otp.NewSecret()
	_, err := w.Store.Tokens.Add(t.Context(), store.Token{UserID: u.ID, Name: "long", Kind: "totp", Algorithm: "SHA1", Digits: 8, Period: 30, Enabled: true}, long)
	check(t, err)
	eight := func() string {
		p := otp.DefaultParams()
		p.Digits = 8
		return p.Code(long, p.StepAt(w.now))
	}
	six := func() string { return w.code(short) }
	for _, x := range []struct {
		name  string
		in    func() auth.Answers
		want  error
		proof string
	}{
		{"code", func() auth.Answers { return auth.Answers{Elsewhere: true, Code: six()} }, nil, "code"},
		{"wrong code", func() auth.Answers { return auth.Answers{Elsewhere: true, Code: "000000"} }, auth.ErrCode, ""},
		{"no code", func() auth.Answers { return auth.Answers{Elsewhere: true} }, auth.ErrCode, ""},
		{"nothing", func() auth.Answers { return auth.Answers{} }, auth.ErrCode, ""},
		{"in no form", func() auth.Answers { return auth.Answers{Code: six()} }, auth.ErrPassword, ""},
		{"joined", func() auth.Answers { return auth.Answers{Joined: identity.Password("pw123456" + six())} }, nil, "password+code"},
		{"joined, eight digits", func() auth.Answers { return auth.Answers{Joined: identity.Password("pw123456" + eight())} }, nil, "password+code"},
		{"joined, wrong password", func() auth.Answers { return auth.Answers{Joined: identity.Password("pw12345" + six())} }, auth.ErrPassword, ""},
		{"joined, no code", func() auth.Answers { return auth.Answers{Joined: "pw123456"} }, auth.ErrCode, ""},
		{"joined, no password", func() auth.Answers { return auth.Answers{Joined: identity.Password(six())} }, auth.ErrCode, ""},
		{"separator", func() auth.Answers {
			return auth.Answers{Joined: identity.Password("pw123456," + six()), Separator: ","}
		}, nil, "password+code"},
		{"separator, not there", func() auth.Answers {
			return auth.Answers{Joined: identity.Password("pw123456" + six()), Separator: ","}
		}, auth.ErrCode, ""},
		{"both", func() auth.Answers { return auth.Answers{Both: &auth.Both{Password: "pw123456", Code: six()}} }, nil, "password+code"},
		{"both, wrong password", func() auth.Answers { return auth.Answers{Both: &auth.Both{Password: "x", Code: six()}} }, auth.ErrPassword, ""},
		{"both, empty password", func() auth.Answers { return auth.Answers{Both: &auth.Both{Code: six()}} }, auth.ErrPassword, ""},
		{"proved", func() auth.Answers {
			code := six()
			return auth.Answers{Elsewhere: true, Matches: func(c string) bool { return c == code }}
		}, nil, "code"},
		{"proved, another", func() auth.Answers { return auth.Answers{Elsewhere: true, Matches: func(string) bool { return false }} }, auth.ErrCode, ""},
	} {
		w.now = w.now.Add(time.Minute) // a fresh code for each
		in := x.in()
		id, err := w.ask("alice", in)
		if x.want != nil {
			w.refused(err, x.want)
			check(t, w.clear())
		} else if err != nil || strings.Join(id.Factors, "+") != x.proof || id.Login != "alice" {
			t.Errorf("%s: %+v, %v", x.name, id, err)
		} else if d, err := w.Engine.Authorize(t.Context(), *id, auth.Request{Target: "vpn", Channel: policy.RADIUS}); err != nil || !d.Allow || d.Rule != "vpn" {
			t.Errorf("%s: %+v, %v", x.name, d, err)
		}
		// Whatever became of the attempt, a code that matched is used up.
		if x.want == nil || errors.Is(x.want, auth.ErrPassword) {
			_, err := w.ask("alice", in)
			w.refused(err, auth.ErrReplay)
			check(t, w.clear())
		}
	}

	// A recovery code does where the separator tells what it is.
	codes, err := w.Engine.NewRecoveryCodes(t.Context(), u, "test")
	check(t, err)
	if id, err := w.ask("alice", auth.Answers{Joined: identity.Password("pw123456 " + codes[0]), Separator: " "}); err != nil || !slices.Contains(id.Factors, "recovery") {
		t.Errorf("with a recovery code: %+v, %v", id, err)
	}
	events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginAccepted})
	check(t, err)
	if e := events[0]; e.Door != audit.DoorRADIUS || e.Target != "vpn" || e.Source != "" || e.Detail["nas"] != "192.0.2.1" {
		t.Errorf("event %+v", e)
	}
}

func (w *world) clear() error {
	_, err := w.Store.Attempts.ClearAll(context.Background())
	return err
}

// The rules are part of the verdict: who proves everything and is not let in by them is refused like anybody, has
// used the code, and has guessed nothing.
func TestAnswersAndRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	bob := w.local("bob", "pw")
	secret := w.token(bob.ID)
	for range 7 { // more than would lock
		_, err := w.ask("bob", auth.Answers{Both: &auth.Both{Password: "pw", Code: w.code(secret)}}, source)
		w.refused(err, auth.ErrDenied) // there is no such client
		w.now = w.now.Add(time.Minute)
	}
	w.vpn()
	code := w.code(secret)
	_, err := w.ask("bob", auth.Answers{Elsewhere: true, Code: code}, source)
	w.refused(err, auth.ErrDenied) // rules that let bob into every target of SSH do not let him through here
	_, err = w.ask("bob", auth.Answers{Elsewhere: true, Code: code}, source)
	w.refused(err, auth.ErrReplay)
	// What lets alice through the client is no way to a target.
	alice := w.local("alice", "pw")
	id, err := w.ask("alice", auth.Answers{Elsewhere: true, Code: w.code(w.token(alice.ID))}, source)
	check(t, err)
	if d, err := w.Engine.Authorize(t.Context(), *id, auth.Request{Target: "vpn", Channel: policy.Shell, Source: source}); err != nil || d.Allow {
		t.Errorf("a shell at a RADIUS client: %+v, %v", d, err)
	}
	if d, err := w.Engine.Explain(t.Context(), auth.ExplainRequest{User: "alice", Target: "vpn", Channel: policy.RADIUS}); err != nil || !d.Allow || d.Rule != "vpn" {
		t.Errorf("explain: %+v, %v", d, err)
	}
	if _, err := w.Engine.Explain(t.Context(), auth.ExplainRequest{User: "alice", Target: "web1", Channel: policy.RADIUS}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("explain of a target as RADIUS client: %v", err)
	}
}

// Failures count by person and client, and by the person's address where that is known. One person at one client
// locks out nobody else there.
func TestAnswersLockout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.vpn()
	alice, dave := w.local("alice", "pw"), w.local("dave", "pw")
	secret, other := w.token(alice.ID), w.token(dave.ID)
	for _, login := range []string{"alice", "nobody"} { // alike
		for range 5 {
			_, err := w.ask(login, auth.Answers{Joined: "pw-and-no-code"})
			if errors.Is(err, auth.ErrLocked) {
				t.Errorf("%s is locked too early", login)
			}
		}
		_, err := w.ask(login, auth.Answers{Elsewhere: true, Code: w.code(secret)})
		w.refused(err, auth.ErrLocked)
		_, err = w.ask(login, auth.Answers{Elsewhere: true, Code: w.code(secret)}, source)
		w.refused(err, auth.ErrLocked) // from wherever
	}
	if _, err := w.ask("dave", auth.Answers{Elsewhere: true, Code: w.code(other)}); err != nil {
		t.Errorf("somebody else at the same client: %v", err)
	}
	if _, err := w.login(auth.Attempt{Login: "alice", Target: "web1"}, "pw", w.code(secret)); err != nil {
		t.Errorf("the same person at another door: %v", err)
	}
	locks, err := w.Store.Attempts.Locks(t.Context())
	check(t, err)
	if len(locks) != 2 || !strings.HasPrefix(locks[0].ID, "user+client:") {
		t.Errorf("locks %+v", locks)
	}
	// With an address, that is locked as well.
	check(t, w.clear())
	for range 5 {
		_, _ = w.ask("alice", auth.Answers{Joined: "pw-and-no-code"}, source)
	}
	_, err = w.login(auth.Attempt{Login: "alice", Target: "web1"}, "pw", "000000")
	w.refused(err, auth.ErrLocked)
}

// countingDirectory counts how often it is asked for a password.
type countingDirectory struct{ binds atomic.Int64 }

func (d *countingDirectory) Lookup(_ context.Context, login string) (identity.Person, error) {
	if login != "alice" {
		return identity.Person{}, identity.ErrUnknown
	}
	return identity.Person{ID: "1", Login: "alice", Name: "Alice"}, nil
}

func (d *countingDirectory) Bind(_ context.Context, _ identity.Person, p identity.Password) error {
	d.binds.Add(1)
	if p != "pw" {
		return identity.ErrPassword
	}
	return nil
}

// The directory hears of no password without a right code; what a client remembers spares the code, and never the
// password.
func TestAnswersAndDirectory(t *testing.T) {
	t.Parallel()
	d := &countingDirectory{}
	w := newWorld(t, "", func(c *auth.Config) { c.Directory = d })
	vpn := w.vpn()
	u, err := w.Store.Users.SeenInDirectory(t.Context(), "1", "alice", "Alice", "", nil)
	check(t, err)
	secret := w.token(u.ID)
	_, err = w.ask("alice", auth.Answers{Both: &auth.Both{Password: "pw", Code: "000000"}})
	w.refused(err, auth.ErrCode)
	_, err = w.ask("alice", auth.Answers{Joined: "pw000000"})
	w.refused(err, auth.ErrCode)
	if n := d.binds.Load(); n != 0 {
		t.Errorf("the directory was asked %d times without a code", n)
	}
	in := auth.Answers{Joined: identity.Password("pw" + w.code(secret)), Remember: time.Hour, Station: "198.51.100.7"}
	_, err = w.ask("alice", in)
	check(t, err)
	for what, x := range map[string]struct {
		in   auth.Answers
		want error
	}{
		"the same again":  {in, nil},
		"without a code":  {auth.Answers{Joined: "pw", Remember: time.Hour, Station: "198.51.100.7"}, nil},
		"both, no code":   {auth.Answers{Both: &auth.Both{Password: "pw"}, Remember: time.Hour, Station: "198.51.100.7"}, nil},
		"wrong password":  {auth.Answers{Joined: "pX", Remember: time.Hour, Station: "198.51.100.7"}, auth.ErrPassword},
		"another station": {auth.Answers{Joined: in.Joined, Remember: time.Hour, Station: "198.51.100.8"}, auth.ErrReplay},
		"no station":      {auth.Answers{Joined: in.Joined, Remember: time.Hour}, auth.ErrReplay},
		"the code alone":  {auth.Answers{Elsewhere: true, Code: "000000", Remember: time.Hour, Station: "198.51.100.7"}, auth.ErrCode},
		"not remembered":  {auth.Answers{Joined: in.Joined, Station: "198.51.100.7"}, auth.ErrReplay},
	} {
		id, err := w.ask("alice", x.in)
		switch {
		case x.want != nil:
			w.refused(err, x.want)
		case err != nil || strings.Join(id.Factors, "+") != "password+remembered-code":
			t.Errorf("%s: %+v, %v", what, id, err)
		default:
			if d, err := w.Engine.Authorize(t.Context(), *id, auth.Request{Target: "vpn", Channel: policy.RADIUS}); err != nil || !d.Allow {
				t.Errorf("%s: %+v, %v", what, d, err)
			}
		}
		check(t, w.clear())
	}
	check(t, w.Store.RadiusGrants.End(t.Context(), u.ID, vpn.ID, "198.51.100.7"))
	_, err = w.ask("alice", auth.Answers{Joined: "pw", Remember: time.Hour, Station: "198.51.100.7"})
	w.refused(err, auth.ErrCode)
}

// What a rule asks that has no place in RADIUS refuses: nobody is let in with less than the rule says.
func TestAnswersWhereNobodyCanWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.vpn()
	alice := w.local("alice", "pw")
	secret := w.token(alice.ID)
	for _, more := range []string{"approval: {by: [bob]}", "moderator: {by: [bob]}"} {
		_, version, err := w.Engine.Rules(t.Context())
		check(t, err)
		_, err = w.Store.Rules.Put(t.Context(), "version: 1\nrules:\n  - {name: vpn, users: [alice], targets: [vpn], channels: [radius], "+more+"}\n", "test", version)
		check(t, err)
		w.now = w.now.Add(time.Minute)
		_, err = w.ask("alice", auth.Answers{Elsewhere: true, Code: w.code(secret)})
		w.refused(err, auth.ErrDenied)
	}
}
