package bastion_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/auth"
	"sallyport/bastion"
	"sallyport/internal/testenv"
	"sallyport/store"
)

const freeRules = `version: 1
rules:
  - {name: fresh, users: ["*"], targets: [fresh], code: fresh, channels: [shell, exec]}
  - {name: token, users: ["*"], targets: [vault], token-only: true, channels: [shell, exec]}
  - {name: all, users: ["*"], targets: ["*"], channels: [shell, exec]}
`

// Somebody who never had a token comes in N times with the password alone, is told so with a link to set one up, and
// then not any more (T2).
func TestWithoutToken(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.free = auth.WithoutToken{Logins: 2, Within: time.Hour}
		s := newSystem(t, o)
		s.addUser("bob", "bob's password")
		for i, says := range []string{"This works one more time, until ", "This was the last time."} {
			client := s.ssh()
			client.Login = "bob@web1"
			term := s.terminal(client, "echo in-without-a-code")
			term.Expect("Password: ")
			term.Type("bob's password\n")
			shown := term.Expect("in-without-a-code")
			if !strings.Contains(shown, says) || !strings.Contains(shown, "https://bastion.example.org/enrol?ticket=") {
				t.Errorf("login %d was told\n%s", i, shown)
			}
			if strings.Contains(shown, "Code: ") {
				t.Errorf("login %d was asked for a code", i)
			}
			term.Wait()
		}
		var asked []string
		if c, err := s.dial("bob@down", answers("bob's password", "000000", &asked)); err == nil {
			c.Close()
			t.Error("a third login got in")
		}
		if !slices.Equal(asked[:2], []string{"Password: ", "Code: "}) {
			t.Errorf("the third was asked %q", asked)
		}
	})
}

// A wrong password, another source, a rule that demands a token and a person who had one are not let in, and none
// of them uses a login up. A key stands for the password as ever.
func TestWithoutTokenIsNarrow(t *testing.T) {
	t.Parallel()
	guard := bastion.Guard{Tries: 1, Exempt: loopback()}
	s := newSystem(t, options{noSSHD: true, rules: freeRules, guard: guard, free: auth.WithoutToken{Logins: 1, Sources: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	s.addUser("bob", "bob's password")
	for _, name := range []string{"fresh", "vault"} {
		s.add(name)
	}
	refuse := func(s *system, what, login, password string) {
		t.Helper()
		var asked []string
		if c, err := s.dial(login, answers(password, "000000", &asked)); err == nil {
			c.Close()
			t.Errorf("%s: got in", what)
		}
		if !slices.Equal(asked, []string{"Password: ", "Code: "}) {
			t.Errorf("%s: asked %q", what, asked)
		}
	}
	refuse(s, "a wrong password", "bob@down", "wrong")
	refuse(s, "code: fresh", "bob@fresh", "bob's password")
	refuse(s, "token-only", "bob@vault", "bob's password")
	refuse(s, "no such target", "bob@nowhere", "bob's password")
	s.token("alice")
	refuse(s, "somebody with a token", "alice@down", alicePassword)
	u, err := s.Store.Users.ByLogin(context.Background(), "bob")
	check(t, err)
	if u.FreeLogins != 0 {
		t.Errorf("%d logins are used up", u.FreeLogins)
	}
	other := newSystem(t, options{noSSHD: true, rules: freeRules, guard: guard, free: auth.WithoutToken{Logins: 1, Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}})
	other.addUser("bob", "bob's password")
	refuse(other, "another source", "bob@down", "bob's password")
	late := newSystem(t, options{noSSHD: true, rules: freeRules, guard: guard, ahead: aheadBy(2 * time.Hour), free: auth.WithoutToken{Logins: 1, Within: time.Nanosecond}})
	late.addUser("bob", "bob's password")
	refuse(late, "after the time", "bob@down", "bob's password")
}

// add adds a target that is never reached.
func (s *system) add(name string) {
	s.t.Helper()
	_, err := s.Store.Targets.Add(context.Background(), store.Target{Name: name, Address: "127.0.0.1:1", Accounts: []string{"root"}, HostKeyMode: store.TOFU})
	check(s.t, err)
}

func aheadBy(d time.Duration) *atomic.Int64 {
	a := new(atomic.Int64)
	a.Store(int64(d))
	return a
}

// From the menu such a person reaches what no rule guards by a token, and nothing else.
func TestWithoutTokenInTheMenu(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: freeRules, free: auth.WithoutToken{Logins: 5}})
	s.addUser("bob", "bob's password")
	for _, name := range []string{"fresh", "vault"} {
		s.add(name)
	}
	id, err := s.Engine.Begin(auth.Attempt{Door: "ssh", Login: "bob", Source: netip.MustParseAddr("192.0.2.1")}).Run(context.Background(), passwordOnly("bob's password"))
	check(t, err)
	if !slices.Equal(id.Factors, []string{"password", auth.FactorFree}) {
		t.Errorf("factors are %q", id.Factors)
	}
	for target, want := range map[string]bool{"down": true, "fresh": false, "vault": false} {
		d, err := s.Engine.Authorize(context.Background(), *id, auth.Request{Target: target, Source: id.Source})
		check(t, err)
		if d.Allow != want {
			t.Errorf("%s: allowed %t (%s), want %t", target, d.Allow, d.Refusal, want)
		}
	}
	if _, err := s.Engine.Begin(auth.Attempt{Door: "web", Login: "bob", Source: netip.MustParseAddr("192.0.2.1")}).Run(context.Background(), passwordOnly("bob's password")); err == nil {
		t.Error("a web page lets somebody in without a code")
	}
}

// passwordOnly is an auth.Asker that knows a password and no code.
type passwordOnly string

func (p passwordOnly) Ask(_ context.Context, _ string, prompts []auth.Prompt) ([]string, error) {
	out := make([]string, len(prompts))
	for i := range prompts {
		if prompts[i].Text == auth.PromptPassword {
			out[i] = string(p)
		}
	}
	return out, nil
}

func (passwordOnly) Show(context.Context, string) error { return nil }

// A hundred logins at once come in exactly as often as is allowed, through the whole door, and the right password
// leads to no lock.
func TestWithoutTokenIsExact(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.noSSHD, o.free, o.guard = true, auth.WithoutToken{Logins: 3}, bastion.Guard{Exempt: loopback(), Tries: 1, Total: 4096}
		s := newSystem(t, o)
		s.addUser("bob", "bob's password")
		var in atomic.Int64
		s.inParallel(100, func(int) bool {
			c, err := s.dial("bob@down", answers("bob's password", "", nil))
			if err == nil {
				in.Add(1)
				c.Close()
			}
			return err == nil
		})
		if in.Load() != 3 {
			t.Errorf("%d of 100 came in, want 3", in.Load())
		}
	})
}

// With approval a token that is enrolled at SSH opens nothing, there and at the next login, until it is approved.
func TestEnrolmentAtLoginWaits(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, enrol: true, approve: true, guard: bastion.Guard{Tries: 1}})
	s.addUser("bob", "bob's password")
	client := s.ssh()
	client.Login = "bob@down"
	term := s.terminal(client)
	term.Expect("Password: ")
	term.Type("bob's password\n")
	_, after, _ := strings.Cut(term.Expect("New code: "), "6 digits):")
	secret := strings.Join(strings.Fields(strings.Split(after, "Then")[0]), "")
	term.Type(testenv.Oathtool(t, secret, time.Now()) + "\n")
	shown := term.Expect("An operator has to approve it")
	if strings.Contains(shown, "recovery codes") {
		t.Error("recovery codes were shown before the approval")
	}
	if term.Wait() == 0 {
		t.Error("got in before the approval")
	}
	code := testenv.Oathtool(t, secret, time.Now().Add(30*time.Second))
	if c, err := s.dial("bob@down", answers("bob's password", code, nil)); err == nil {
		c.Close()
		t.Error("the token was good before the approval")
	}
	waiting, err := s.Store.Tokens.Waiting(context.Background())
	check(t, err)
	if len(waiting) != 1 {
		t.Fatalf("waiting are %v", waiting)
	}
	check(t, s.Store.Tokens.Approve(context.Background(), waiting[0].ID))
	c, err := s.dial("bob@down", answers("bob's password", code, nil))
	if err != nil {
		t.Fatalf("after the approval: %v", err)
	}
	c.Close()
}

// Whoever was let in without a code was ended by the next look at what is open, within a quarter of an hour: it
// asked whether a code had been proved, and did not know of such logins. Only a rule that comes to demand a token ends
// them.
func TestWithoutTokenStays(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{free: auth.WithoutToken{Logins: 2, Within: time.Hour}})
	s.rules(freeRules)
	s.addUser("bob", "bob's password")
	c, err := s.dial("bob@web1", answers("bob's password", "", nil))
	check(t, err)
	defer c.Close()
	x := s.cat(c)
	check(t, s.Server.Recheck(context.Background(), true))
	check(t, x.echo("still here"))
	s.rules(strings.Replace(freeRules, "targets: [vault]", "targets: [vault, web1]", 1))
	check(t, s.Server.Recheck(context.Background(), false))
	if row := s.ends("bob"); !strings.Contains(row.Reason, "needs a one-time code now") {
		t.Errorf("a rule demands a token now; the session ended with %q", row.Reason)
	}
}
