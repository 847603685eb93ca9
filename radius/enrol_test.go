package radius_test

import (
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"layeh.com/radius/rfc2865"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// newTokenless is a world that differs from others in how people without a token are dealt with.
func newTokenless(t *testing.T, change func(*auth.Config), options ...option) *world {
	t.Helper()
	w := &world{t: t, dsn: "sqlite:" + filepath.Join(t.TempDir(), "db"), grid: time.Millisecond, engine: change}
	w.begin(append([]option{mode(store.RadiusChallenge)}, options...)...)
	return w
}

// Somebody who has to set up a token reads where, once the password has turned out to be right, and nobody else does; what
// they read is worth nothing to others.
func TestWhereToEnrol(t *testing.T) {
	t.Parallel()
	const told = `Reply-Message = "You have no token yet. Set up a token at https://bastion.example.org/enrol. Then sign in again."`
	const refused = `Reply-Message = "Permission denied."`
	for name, x := range map[string]struct {
		option   option
		right    string // what a person types whose password is pw
		wrong    string
		tokenful string // before a code
	}{
		"challenge":     {mode(store.RadiusChallenge), "pw", "no", ""},
		"password+code": {mode(store.RadiusPasswordCode), "pw", "pw123456", "pw"},
		"separator":     {func(c *store.RadiusClient) { c.Mode, c.Separator = store.RadiusPasswordCode, "/" }, "pw/000000", "no", "pw/"},
		"code":          {mode(store.RadiusCode), "", "pw", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTokenless(t, func(c *auth.Config) { c.EnrolAtLogin, c.URL = true, "https://bastion.example.org" }, x.option)
			w.local("alice")
			w.local("carol") // no rule lets her in
			bob := w.person("bob")
			n := w.nodes[0]
			ask := func(login, typed string) string {
				out := n.radclient(t, "auth", "User-Name="+login+",User-Password="+typed+",Message-Authenticator=0x00")
				if _, state, found := strings.Cut(out, "State = "); found && strings.Contains(out, "Received Access-Challenge") {
					state, _, _ = strings.Cut(state, "\n")
					out = "challenge " + n.radclient(t, "auth", "User-Name="+login+",User-Password="+bob.code()+",State="+state+",Message-Authenticator=0x00")
				}
				return out
			}
			if x.right != "" {
				if out := ask("alice", x.right); !strings.Contains(out, "Received Access-Reject") || !strings.Contains(out, told) || strings.Contains(out, "challenge") {
					t.Errorf("she is not told: %s", out)
				}
			}
			for _, who := range [][2]string{{"alice", x.wrong}, {"nobody", "pw"}, {"carol", "pw"}} {
				if out := ask(who[0], who[1]); !strings.Contains(out, refused) || strings.HasPrefix(out, "challenge") != (name == "challenge") {
					t.Errorf("%q: %s", who, out)
				}
			}
			with := x.tokenful
			if with += bob.code(); name == "challenge" {
				with = "pw"
			}
			if out := ask("bob", with); !strings.Contains(out, "Received Access-Accept") || strings.Contains(out, "Reply-Message") {
				t.Errorf("with a token: %s", out)
			}
			told, want := 0, 1
			for _, e := range w.events(audit.LoginRefused, 3) {
				if strings.Contains(e.Reason, "was told where to set one up") {
					told++
				}
			}
			if x.right == "" {
				want = 0
			}
			if told != want {
				t.Errorf("%d events say that somebody was told", told)
			}
		})
	}
}

// Somebody who never had a token comes in as often as is allowed, of however many at once, and reads how often that still
// works; then it is over. Rules that demand a token, other places and the mode code know nothing of it.
func TestWithoutToken(t *testing.T) {
	t.Parallel()
	free := func(c *auth.Config) {
		c.WithoutToken = auth.WithoutToken{Logins: 2, Within: time.Hour, Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
	}
	at := attribute(rfc2865.CallingStationID_Type, "203.0.113.9")
	for name, x := range map[string]struct{ mode string }{"challenge": {store.RadiusChallenge}, "password+code": {store.RadiusPasswordCode}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTokenless(t, free, mode(x.mode), func(c *store.RadiusClient) { c.AssertsSource = true })
			w.local("alice")
			w.local("bob")
			over := func(what string, d *dialog, typed string) {
				t.Helper()
				got := d.say(typed)
				if got.Code == challenge {
					got = d.say("000000")
				}
				if got.Code != reject || rfc2865.ReplyMessage_GetString(got) != "Permission denied." {
					t.Errorf("%s: %v, %q", what, got.Code, rfc2865.ReplyMessage_GetString(got))
				}
			}
			over("from elsewhere", w.dialog("alice", attribute(rfc2865.CallingStationID_Type, "198.51.100.9")), "pw")
			over("from nowhere", w.dialog("alice"), "pw")
			over("a wrong password", w.dialog("alice", at), "no")
			for _, want := range []string{"This works one more time, until ", "This was the last time."} {
				out := w.nodes[0].radclient(t, "auth", "User-Name=alice,User-Password=pw,Calling-Station-Id=203.0.113.9,Message-Authenticator=0x00")
				_, text, _ := strings.Cut(out, `Reply-Message = "`)
				text, _, _ = strings.Cut(text, `"`)
				if !strings.Contains(out, "Received Access-Accept") || !strings.HasPrefix(text, "You have no token yet, and were let in without a code. "+want) || !strings.HasSuffix(text, "Ask an operator for a token.") {
					t.Errorf("she reads %q: %s", text, out)
				}
			}
			over("the third time", w.dialog("alice", at), "pw")
			if e := w.events(audit.LoginAccepted, 2); len(e) != 2 || e[0].Detail["factors"] != "password+without-token" {
				t.Errorf("events %+v", e)
			}
			var in atomic.Int64
			var all sync.WaitGroup
			for range 12 {
				d := w.dialog("bob", at)
				all.Go(func() {
					if d.say("pw").Code == accept {
						in.Add(1)
					}
				})
			}
			all.Wait()
			if in.Load() != 2 {
				t.Errorf("%d of 12 at once were let in", in.Load())
			}
		})
	}
	t.Run("rules", func(t *testing.T) {
		t.Parallel()
		w := newTokenless(t, free, func(c *store.RadiusClient) { c.AssertsSource = true })
		w.local("alice")
		for _, demand := range []string{"token-only: true", "code: fresh", "code: {younger-than: 1h}"} {
			w.putRules(strings.Replace(rules, "channels: [radius]", "channels: [radius], "+demand, 1))
			w.dialog("alice", at).want(demand, "pw", challenge)
		}
	})
	t.Run("code", func(t *testing.T) {
		t.Parallel()
		w := newTokenless(t, free, mode(store.RadiusCode), func(c *store.RadiusClient) { c.AssertsSource = true })
		w.local("alice")
		w.dialog("alice", at).want("the mode code", "pw", reject)
	})
}

// Where nobody enrols by a password alone the link that a terminal would show is mailed to the address on file, and the
// Reply-Message says so and no more.
func TestWithoutTokenMailsTheLink(t *testing.T) {
	t.Parallel()
	m := &mailing{world: &world{t: t, dsn: "sqlite:" + filepath.Join(t.TempDir(), "db"), grid: time.Millisecond, ahead: new(atomic.Int64)}}
	m.open(func(c *auth.Config) {
		c.WithoutToken, c.URL, c.Sent.Mail = auth.WithoutToken{Logins: 1}, "https://bastion.example.org", true
	})
	m.local("alice")
	m.world.local("bob") // without an address
	const told = `Reply-Message = "You have no token yet, and were let in without a code. This was the last time. `
	for login, want := range map[string]string{"alice": `A link to set up a token was mailed to a***@example.org."`, "bob": `Ask an operator for a token."`} {
		out := m.nodes[0].radclient(t, "auth", "User-Name="+login+",User-Password=pw,Message-Authenticator=0x00")
		if !strings.Contains(out, "Received Access-Accept") || !strings.Contains(out, told+want) || strings.Contains(out, "ticket") {
			t.Errorf("%s: %s", login, out)
		}
	}
	testenv.WaitFor(t, "the mail", func() bool { return len(m.sink.Mails("alice@example.org")) > 0 })
	if mails := m.sink.Mails(""); len(mails) != 1 || !strings.Contains(mails[0].Text, "https://bastion.example.org/enrol?ticket=") {
		t.Errorf("mails %+v", mails)
	}
}
