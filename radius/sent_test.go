package radius_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/notify"
	"sallyport/internal/testenv"
	"sallyport/policy"
	"sallyport/store"
	"sallyport/store/storetest"
)

var codeInMail = regexp.MustCompile(`(?m)^ {4}([0-9]{6})\r?$`)

// mailing is a world of two nodes where people without a token are sent codes, by a real mail server.
type mailing struct {
	*world
	sink *testenv.SMTP
}

func newMailing(t *testing.T, grid time.Duration, options ...option) *mailing {
	t.Helper()
	return newMailingOn(t, "sqlite:"+filepath.Join(t.TempDir(), "db"), grid, options...)
}

func newMailingOn(t *testing.T, dsn string, grid time.Duration, options ...option) *mailing {
	t.Helper()
	m := &mailing{world: &world{t: t, dsn: dsn, grid: grid, ahead: new(atomic.Int64)}}
	return m.open(func(c *auth.Config) {
		c.Sent = auth.SentCodes{By: store.ByMail, Mail: true, Limits: store.SendLimits{Person: 5, Recipient: 5, Source: 20, All: 200}}
	}, options...)
}

// open makes the nodes and the mail server.
func (m *mailing) open(change func(*auth.Config), options ...option) *mailing {
	t := m.t
	t.Helper()
	m.engine = change
	m.begin(append([]option{mode(store.RadiusChallenge)}, options...)...)
	m.node()
	m.sink = testenv.StartSMTP(t, testenv.SMTPConfig{User: "sallyport", Password: "pw"})
	text, err := os.ReadFile(m.sink.CAFile)
	check(t, err)
	ca := x509.NewCertPool()
	ca.AppendCertsFromPEM(text)
	mail, err := notify.NewMail(notify.MailConfig{Server: m.sink.Addr, CA: ca, User: "sallyport", Password: "pw", From: "sallyport@example.org"})
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	worker := notify.NewWorker(notify.WorkerConfig{Store: m.Store, Mail: mail, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	running.Go(func() { worker.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return m
}

// local adds a user with the password "pw", a mailbox and no token.
func (m *mailing) local(login string) store.User {
	m.t.Helper()
	u := m.world.local(login)
	check(m.t, m.Store.Users.SetContact(context.Background(), u, login+"@example.org", ""))
	return u
}

func (w *world) local(login string) store.User {
	w.t.Helper()
	hash, err := identity.HashPassword(context.Background(), "pw")
	check(w.t, err)
	u, err := w.Store.Users.Add(context.Background(), store.User{Login: login, Source: store.Local}, hash)
	check(w.t, err)
	return u
}

// mailed waits until login has got n codes, and returns the last of them.
func (m *mailing) mailed(login string, n int) string {
	m.t.Helper()
	var got []testenv.Mail
	testenv.WaitFor(m.t, fmt.Sprintf("code %d to %s", n, login), func() bool {
		got = m.sink.Mails(login + "@example.org")
		return len(got) >= n
	})
	code := codeInMail.FindStringSubmatch(got[n-1].Text)
	if len(got) > n || code == nil {
		m.t.Fatalf("%s got %d messages, the last\n%s", login, len(got), got[n-1].Text)
	}
	return code[1]
}

// events waits for n events of a type, oldest first.
func (w *world) events(kind string, n int) []audit.Event {
	w.t.Helper()
	var got []audit.Event
	testenv.WaitFor(w.t, fmt.Sprintf("%d events %s", n, kind), func() bool {
		var err error
		got, err = w.Store.Audit.List(context.Background(), store.AuditFilter{Type: kind})
		check(w.t, err)
		return len(got) >= n
	})
	slices.Reverse(got)
	return got
}

// dialog is a person at a VPN client, each of whose packets goes to the next node.
type dialog struct {
	w     *world
	login string
	more  []*codec.AVP
	state *codec.AVP // of the challenge that waits
	sent  int
}

func (w *world) dialog(login string, more ...*codec.AVP) *dialog {
	return &dialog{w: w, login: login, more: more}
}

// say types a password or an answer and returns what comes back.
func (d *dialog) say(typed string) *codec.Packet {
	d.w.t.Helper()
	request := access(d.login, typed, d.more...)
	if d.state != nil {
		request.Attributes = append(request.Attributes, d.state)
	}
	got := d.w.nodes[d.sent%len(d.w.nodes)].peer(d.w.t).ask(signed(request))
	d.sent++
	d.state = nil
	if got.Code == codec.CodeAccessChallenge {
		d.state = &codec.AVP{Type: rfc2865.State_Type, Attribute: rfc2865.State_Get(got)}
		if text := rfc2865.ReplyMessage_GetString(got); text != "Code: " {
			d.w.t.Errorf("the challenge says %q", text)
		}
	}
	return got
}

// want says something and examines the kind of answer.
func (d *dialog) want(what, typed string, want codec.Code) *codec.Packet {
	d.w.t.Helper()
	got := d.say(typed)
	if got.Code != want {
		d.w.t.Errorf("%s: %v, want %v", what, got.Code, want)
	}
	return got
}

const (
	challenge = codec.CodeAccessChallenge
	accept    = codec.CodeAccessAccept
	reject    = codec.CodeAccessReject
)

// radclientState runs radclient once and returns the State of the challenge that came.
func radclientState(t *testing.T, n *node, attributes string) string {
	t.Helper()
	out := n.radclient(t, "auth", attributes)
	_, rest, _ := strings.Cut(out, "Received Access-Challenge")
	_, state, found := strings.Cut(rest, "State = ")
	if !found || !strings.Contains(rest, `Reply-Message = "Code: "`) {
		t.Fatalf("no challenge: %s", out)
	}
	state, _, _ = strings.Cut(state, "\n")
	return state
}

// A person without a token types the password at a VPN, gets a code by mail, types it and is in: radclient, two nodes and
// a mail server. Asking for another one by "r" makes the one before void.
func TestSentCode(t *testing.T) {
	t.Parallel()
	for _, database := range []string{"sqlite", "postgres"} {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			dsn := "sqlite:" + filepath.Join(t.TempDir(), "db")
			if database == "postgres" {
				dsn = storetest.Postgres(t)
			}
			sentCode(t, dsn)
		})
	}
}

func sentCode(t *testing.T, dsn string) {
	const ma = ",Message-Authenticator=0x00"
	m := newMailingOn(t, dsn, time.Millisecond, func(c *store.RadiusClient) { c.AssertsSource = true })
	m.local("alice")
	one, other := m.nodes[0], m.nodes[1]
	const who = "User-Name=alice,Calling-Station-Id=203.0.113.9,User-Password="
	state := radclientState(t, one, who+"pw"+ma)
	first := m.mailed("alice", 1)
	text := m.sink.Mails("")[0].Text
	if !strings.Contains(text, "203.0.113.9 by vpn") {
		t.Errorf("the mail does not say from where:\n%s", text)
	}
	state = radclientState(t, other, who+"r,State="+state+ma) // too early: nothing is sent
	if e := m.events(audit.CodeSent, 2); e[1].Result != audit.Refused || e[0].Source != "203.0.113.9" || e[0].Target != "vpn" || e[0].Door != audit.DoorRADIUS {
		t.Errorf("events %+v", e)
	}
	m.ahead.Add(int64(31 * time.Second))
	state = radclientState(t, one, who+"R,State="+state+ma)
	second := m.mailed("alice", 2)
	out := other.radclient(t, "auth", who+first+",State="+state+ma)
	if !strings.Contains(out, "Received Access-Reject") || !strings.Contains(out, `Reply-Message = "Permission denied."`) {
		t.Errorf("the code before: %s", out)
	}
	// Back to the password: the code waits, and none is sent.
	state = radclientState(t, one, who+"pw"+ma)
	if out := other.radclient(t, "auth", who+second+",State="+state+ma); !strings.Contains(out, "Received Access-Accept") {
		t.Errorf("the code: %s", out)
	}
	state = radclientState(t, one, "User-Name=alice,Calling-Station-Id=203.0.113.10,User-Password=pw"+ma)
	if out := other.radclient(t, "auth", "User-Name=alice,Calling-Station-Id=203.0.113.10,User-Password="+second+",State="+state+ma); !strings.Contains(out, "Received Access-Reject") {
		t.Errorf("the code once more: %s", out)
	}
	accepted := m.events(audit.LoginAccepted, 1)
	if len(accepted) != 1 || accepted[0].Detail["factors"] != "password+sent" || accepted[0].Source != "203.0.113.9" {
		t.Errorf("accepted %+v", accepted)
	}
	for _, e := range append(m.events(audit.CodeSent, 1), m.events(audit.LoginRefused, 1)...) {
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, first) || strings.Contains(text, second) {
			t.Errorf("an event has the code: %s", text)
		}
	}
}

// pam_radius in a real sshd: the code comes by mail after the password, and "r" asks for another one.
func TestSentCodeByPAM(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	check(t, err)
	const shared = "without-blanks-for-pam-radius"
	m := newMailing(t, time.Millisecond, demands(store.AuthenticatorNo)) // pam_radius 2.0 signs nothing
	_, err = m.Store.RadiusClients.Change(t.Context(), "vpn", func(*store.RadiusClient) (store.SharedSecret, error) { return store.SharedSecret(shared), nil })
	check(t, err)
	m.putRules(strings.Replace(rules, "[alice, bob]", `["*"]`, 1))
	m.local(me.Username)
	login := pamSSHD(t, me.Username, m.nodes[0].addr+" "+shared+" 8")
	prompts, err := login(typed("pw"), func() string {
		m.mailed(me.Username, 1)
		m.ahead.Add(int64(31 * time.Second))
		return "r"
	}, func() string { return m.mailed(me.Username, 2) })
	if err != nil {
		t.Errorf("the second code: %v", err)
	}
	if want := []string{"Password: false", "Code: false", "Code: false"}; !slices.Equal(prompts, want) {
		t.Errorf("asked %q, want %q", prompts, want)
	}
}

func (w *world) putRules(text string) {
	w.t.Helper()
	_, version, err := w.rules()
	check(w.t, err)
	_, err = w.Store.Rules.Put(context.Background(), text, "test", version)
	check(w.t, err)
}

// Nothing is sent before the password was verified, and everybody meets the same challenges at the same times: people
// who are unknown, have a token, have a wrong password or no address.
func TestSentCodeNeedsThePassword(t *testing.T) {
	t.Parallel()
	const grid = 300 * time.Millisecond
	m := newMailing(t, grid)
	m.local("alice")
	m.world.local("bob") // without an address
	m.person("carol")
	m.local("dave")
	m.putRules(strings.Replace(rules, "[alice, bob]", "[alice, bob, carol]", 1))
	var all sync.WaitGroup
	for login, password := range map[string]string{"alice": "wrong", "nobody": "pw", "bob": "pw", "carol": "pw", "dave": "pw"} {
		d := m.dialog(login)
		all.Go(func() {
			began := time.Now()
			for range 5 { // the password, and four times "r"
				d.want(login, password, challenge)
				if took := time.Since(began); took < grid {
					t.Errorf("%s was asked for the code after %s", login, took)
				}
				password = "r"
			}
			if got := d.want(login, "r", reject); rfc2865.ReplyMessage_GetString(got) != "Permission denied." {
				t.Errorf("%s reads %q", login, rfc2865.ReplyMessage_GetString(got))
			}
		})
	}
	all.Wait()
	for _, e := range m.events(audit.CodeSent, 5) {
		if e.User != "bob" || e.Result != audit.Refused {
			t.Errorf("event %+v", e)
		}
	}
	if n := len(m.sink.Mails("")); n > 0 {
		t.Errorf("%d mails", n)
	}
	refused := map[string]int{}
	for _, e := range m.events(audit.LoginRefused, 5) {
		refused[e.User]++
	}
	if len(refused) != 5 || refused["alice"] != 1 {
		t.Errorf("events of refusals: %v", refused)
	}
}

// A code is for the client, the person and the Calling-Station-Id that it was sent for; there it has three tries, over
// which one begins anew with the password.
func TestSentCodeIsBound(t *testing.T) {
	t.Parallel()
	m := newMailing(t, time.Millisecond)
	m.local("alice")
	m.local("bob")
	_, err := m.Store.RadiusClients.Add(t.Context(), store.RadiusClient{
		Name: "other", Networks: []string{"127.0.0.1/32"}, NASIdentifier: "other", Mode: store.RadiusChallenge, MessageAuthenticator: store.AuthenticatorYes, SendsAuthenticator: true, Enabled: true,
	}, store.SharedSecret(secret))
	check(t, err)
	m.putRules(strings.Replace(rules, "[vpn]", "[vpn, other]", 1))
	at := func(station string) *codec.AVP { return attribute(rfc2865.CallingStationID_Type, station) }
	home := m.dialog("alice", at("home"))
	home.want("the password", "pw", challenge)
	code := m.mailed("alice", 1)
	for what, d := range map[string]*dialog{
		"another person":  m.dialog("bob", at("home")),
		"another station": m.dialog("alice", at("away")),
		"no station":      m.dialog("alice"),
		"another client":  m.dialog("alice", at("home"), attribute(rfc2865.NASIdentifier_Type, "other")),
	} {
		testenv.WaitFor(t, "the client to be known", func() bool { return d.say("pw").Code == challenge })
		d.want(what, code, reject)
	}
	if n := len(m.sink.Mails("alice@example.org")); n != 1 {
		t.Errorf("%d mails within 30 s", n)
	}
	home.want("a wrong code", wrong(code), reject)
	home.want("the password again", "pw", challenge)
	home.want("the code", code, accept)
	home.want("the password again", "pw", challenge)
	home.want("the code once more", code, reject)
}

// wrong is a code that is not code.
func wrong(code string) string {
	if code[0] == '0' {
		return "1" + code[1:]
	}
	return "0" + code[1:]
}

// Wrong codes and passwords lock, and while a lock holds no code is sent.
func TestSentCodeIsCounted(t *testing.T) {
	t.Parallel()
	m := newMailing(t, time.Millisecond)
	m.local("alice")
	d := m.dialog("alice")
	d.want("the password", "pw", challenge)
	code := m.mailed("alice", 1)
	d.want("a wrong code", wrong(code), reject)
	for i := range 4 {
		if i%2 == 0 {
			d.want("the password", "pw", challenge)
			d.want("a wrong code", fmt.Sprintf("9999%02d", i), reject)
			continue
		}
		d.want("a wrong password", "no", challenge)
		d.want("any code", code, reject)
	}
	m.events(audit.LockoutSet, 1)
	d.want("the password", "pw", challenge)
	d.want("the code, locked out", code, reject)
	if n := len(m.sink.Mails("")); n != 1 {
		t.Errorf("%d mails", n)
	}
}

// Where a rule demands a token none is sent, and a code that was sent, and is remembered, does not do there.
func TestSentCodeWhereATokenIsDemanded(t *testing.T) {
	t.Parallel()
	m := newMailing(t, time.Millisecond, func(c *store.RadiusClient) { c.Remember = time.Hour })
	m.local("alice")
	bob := m.person("bob")
	const strong = `version: 1
rules:
  - {name: vpn, users: [alice, bob], targets: [vpn], channels: [radius], token-only: true}
`
	at := attribute(rfc2865.CallingStationID_Type, "home")
	d := m.dialog("alice", at)
	d.want("the password", "pw", challenge)
	code := m.mailed("alice", 1)
	d.want("the code", code, accept)
	d.want("remembered", "pw", accept)
	m.putRules(strong)
	d.want("the rule demands a token", "pw", challenge)
	d.want("a code of before", code, reject)
	d = m.dialog("bob", at)
	d.want("a person with a token", "pw", challenge)
	d.want("its code", bob.code(), accept)
	d.want("remembered", "pw", accept)
	if n := len(m.events(audit.CodeSent, 1)); n != 1 {
		t.Errorf("%d codes were sent", n)
	}
}

// Whoever has a token types its codes and is sent none; a recovery code does in the place of either; somebody who gets a
// token while a code is on its way needs the token.
func TestTokenAndSentCode(t *testing.T) {
	t.Parallel()
	m := newMailing(t, time.Millisecond)
	both := m.person("alice")
	check(t, m.Store.Users.SetContact(t.Context(), both.User, "alice@example.org", ""))
	bob := m.local("bob")
	engine := m.nodes[0].engine
	recovery := func(u store.User) string {
		codes, err := engine.NewRecoveryCodes(t.Context(), u, u.Login)
		check(t, err)
		return codes[0]
	}
	d := m.dialog("alice")
	d.want("the password", "pw", challenge)
	d.want("the token's code", both.code(), accept)
	d.want("the password", "pw", challenge)
	d.want("another one is asked for", "r", challenge)
	d.want("a recovery code", recovery(both.User), accept)
	if n := len(m.sink.Mails("alice@example.org")); n != 0 {
		t.Errorf("a person with a token was sent %d codes", n)
	}
	d = m.dialog("bob")
	d.want("the password", "pw", challenge)
	m.mailed("bob", 1)
	d.want("a recovery code", recovery(bob), accept)
	d.want("the password", "pw", challenge)
	code := m.mailed("bob", 1) // the one that waits
	token := m.token(bob)
	d.want("the code, since there is a token", code, reject)
	d.want("the password", "pw", challenge)
	d.want("the token's code", token.code(), accept)
}

// In one field there is no place for a code that comes after the password.
func TestSentCodeNeedsAChallenge(t *testing.T) {
	t.Parallel()
	explained := func(m *mailing) string {
		d, err := m.nodes[0].engine.Explain(t.Context(), auth.ExplainRequest{User: "alice", Target: "vpn", Channel: policy.RADIUS})
		check(t, err)
		return d.SentBy
	}
	m := newMailing(t, time.Millisecond)
	m.local("alice")
	if by := explained(m); by != store.ByMail {
		t.Errorf("with a challenge explain says sent by %q", by)
	}
	for _, x := range []string{store.RadiusCode, store.RadiusPasswordCode} {
		t.Run(x, func(t *testing.T) {
			t.Parallel()
			m := newMailing(t, time.Millisecond, mode(x))
			m.local("alice")
			if by := explained(m); by != "" {
				t.Errorf("explain says sent by %q", by)
			}
			d := m.dialog("alice")
			for _, typed := range []string{"pw", "pw000000", "r"} {
				d.want(typed, typed, reject)
			}
			sent, err := m.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.CodeSent})
			check(t, err)
			if len(sent) > 0 {
				t.Errorf("sent %+v", sent)
			}
		})
	}
}
