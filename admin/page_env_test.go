package admin

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/auditlog"
	"sallyport/internal/seal"
	"sallyport/otp"
	"sallyport/recorder"
	"sallyport/session"
	"sallyport/store"
	"sallyport/upstream"
)

const pagePassword = "correct horse battery"

const pageRules = `version: 1
networks:
  office: [192.0.2.0/24]
rules:
  # The vault is for people in the office.
  - name: no-vault-from-outside
    deny: true
    targets: [vault]
    not-from: [office]
    message: vault is reached from the office only
  - name: ops
    users: [group:ops]
    targets: ["*"]
    channels: [shell, exec, sftp, scp]
`

// pageWorld is a whole server of pages on a database in memory, with a clock that the test moves.
type pageWorld struct {
	t       *testing.T
	Store   *store.Store
	Rec     *recorder.Recorder
	Server  *Server
	URL     string
	ahead   atomic.Int64 // nanoseconds that the clock is ahead
	secrets map[string]otp.Secret
}

func (w *pageWorld) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func newPageWorld(t *testing.T, changes ...func(*Config)) *pageWorld {
	t.Helper()
	ctx := context.Background()
	w := &pageWorld{t: t, secrets: map[string]otp.Secret{}}
	ring, err := seal.NewRing()
	must(t, err)
	w.Store, err = store.Open(ctx, store.Config{DSN: "sqlite::memory:", Ring: ring, Now: w.now})
	must(t, err)
	t.Cleanup(func() { w.Store.Close() })
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	log := auditlog.New(auditlog.Config{Sink: w.Store.Audit, Logger: quiet, Now: w.now})
	engine, err := auth.New(auth.Config{Store: w.Store, Audit: log, Grid: time.Millisecond, Now: w.now})
	must(t, err)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	w.Rec, err = recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: key, Node: "bastion-1", Now: w.now})
	must(t, err)
	t.Cleanup(func() { w.Rec.Close() })
	public, secret, err := upstream.NewCA()
	must(t, err)
	must(t, w.Store.CAKeys.Begin(ctx, public, secret))
	must(t, w.Store.HostAuthority.Begin(ctx, func() ([]byte, error) { return upstream.NewKey() }, func() ([]byte, error) { return make([]byte, store.HostSecretSize), nil }))
	cfg := Config{
		Store: w.Store, Engine: engine, Recorder: w.Rec, Audit: log, Search: true,
		Sessions:  session.NewManager(session.Config{Store: w.Store, Recorder: w.Rec, Audit: log, Node: "bastion-1", Log: quiet}),
		Dialer:    upstream.New(upstream.Config{Store: w.Store, Audit: log, Signer: signer, Log: quiet}),
		Addresses: []string{"192.0.2.10"}, SSHAddress: "bastion.example.org:2222", Version: "1.0-test", Node: "bastion-1", Log: quiet, Now: w.now,
	}
	for _, change := range changes {
		change(&cfg)
	}
	w.Server, err = New(cfg)
	must(t, err)
	web := httptest.NewServer(w.Server.Handler())
	t.Cleanup(web.Close)
	w.URL = web.URL
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// person adds a local user with a token and, if role is not empty, a role.
func (w *pageWorld) person(login, role string, groups ...string) store.User {
	w.t.Helper()
	ctx := context.Background()
	hash, err := identity.HashPassword(ctx, identity.Password(pagePassword))
	must(w.t, err)
	u, err := w.Store.Users.Add(ctx, store.User{Login: login, Source: store.Local, Groups: groups}, hash)
	must(w.t, err)
	secret := otp.NewSecret()
	_, err = w.Store.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "phone", Kind: "totp", Algorithm: "SHA1", Digits: 6, Period: 30, Enabled: true}, secret)
	must(w.t, err)
	w.secrets[login] = secret
	if role != "" {
		must(w.t, w.Store.Admins.Set(ctx, u.ID, role))
	}
	return u
}

// code is a code of login that was not used yet: the clock goes on by one step.
func (w *pageWorld) code(login string) string {
	w.ahead.Add(int64(30 * time.Second))
	p := otp.DefaultParams()
	return p.Code(w.secrets[login], p.StepAt(w.now()))
}

// browser is an HTTP client that keeps cookies and follows no redirect by itself.
type browser struct {
	*http.Client
	w *pageWorld
}

func (w *pageWorld) browser() *browser {
	jar, err := cookiejar.New(nil)
	must(w.t, err)
	return &browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, w}
}

// signedIn is a browser in which login has signed in; "" is nobody.
func (w *pageWorld) signedIn(login string) *browser {
	w.t.Helper()
	b := w.browser()
	if login == "" {
		return b
	}
	status, body, _ := b.post("/signin", "login", login, "password", pagePassword, "code", w.code(login))
	if status != http.StatusSeeOther {
		w.t.Fatalf("signing in as %s: status %d\n%s", login, status, body)
	}
	return b
}

func (b *browser) do(r *http.Request) (status int, body string, header http.Header) {
	b.w.t.Helper()
	answer, err := b.Do(r)
	must(b.w.t, err)
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	must(b.w.t, err)
	return answer.StatusCode, string(data), answer.Header
}

func (b *browser) get(path string) (status int, body string, header http.Header) {
	b.w.t.Helper()
	r, err := http.NewRequest(http.MethodGet, b.w.URL+path, nil)
	must(b.w.t, err)
	return b.do(r)
}

// post sends a form of pairs of name and value.
func (b *browser) post(path string, pairs ...string) (status int, body string, header http.Header) {
	b.w.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	r, err := http.NewRequest(http.MethodPost, b.w.URL+path, strings.NewReader(form.Encode()))
	must(b.w.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.w.URL)
	return b.do(r)
}

// shows asserts that a page opens and holds each text.
func (b *browser) shows(path string, texts ...string) string {
	b.w.t.Helper()
	status, body, _ := b.get(path)
	if status != http.StatusOK {
		b.w.t.Fatalf("GET %s: status %d, want 200\n%s", path, status, body)
	}
	for _, text := range texts {
		if !strings.Contains(body, text) && !strings.Contains(html.UnescapeString(body), text) {
			b.w.t.Errorf("GET %s: the page has no %q\n%s", path, text, body)
		}
	}
	return body
}

// does asserts that a form is taken and leads on to a page, and returns that page.
func (b *browser) does(path string, pairs ...string) string {
	b.w.t.Helper()
	status, body, header := b.post(path, pairs...)
	if status != http.StatusSeeOther {
		b.w.t.Fatalf("POST %s: status %d, want 303\n%s", path, status, body)
	}
	return b.shows(header.Get("Location"))
}

// furnish fills the database with what an installation has after a while.
func (w *pageWorld) furnish() {
	w.t.Helper()
	ctx := context.Background()
	w.person("ada", store.RoleAdmin, "ops")
	w.person("ines", store.RoleAuditor)
	alice := w.person("alice", "", "ops", "dba")
	_, err := w.Store.UserKeys.Add(ctx, store.UserKey{UserID: alice.ID, Name: "laptop", PublicKey: "ssh-ed25519 AAAA", Fingerprint: "SHA256:Jq8p0G3xkQ2v7mYwTz5bN1rEoKfLhVdCsUaXi9Zt4eM"})
	must(w.t, err)
	bob, err := w.Store.Users.Add(ctx, store.User{Login: "bob", Name: "Robert Ó Súilleabháin", Email: "bob@example.org", Source: store.Directory, ExternalID: "6f1c…", Groups: []string{"ops"}}, "")
	must(w.t, err)
	must(w.t, w.Store.Users.Lock(ctx, bob.ID, "laptop was stolen", time.Time{}))
	_, err = w.Store.Rules.Put(ctx, strings.Replace(pageRules, "vault", "safe", 1), "ada", 0)
	must(w.t, err)
	_, err = w.Store.Rules.Put(ctx, pageRules, "console", 1)
	must(w.t, err)
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(w.Server.cfg.Dialer.PublicKey())))
	for _, t := range []store.Target{
		{Name: "web1", Address: "10.0.0.5:22", Accounts: []string{"root", "deploy"}, Labels: map[string]string{"env": "prod", "role": "web"}, HostKeyMode: store.Pinned, HostKeys: []string{key}},
		{Name: "web2", Address: "10.0.0.6:22", Accounts: []string{"root", "deploy"}, Labels: map[string]string{"env": "prod", "role": "web"}, HostKeyMode: store.Pinned, HostKeys: []string{key}, Note: "replaces web0 in spring"},
		{Name: "down", Address: "127.0.0.1:1", Accounts: []string{"root"}, HostKeyMode: store.Pinned, HostKeys: []string{key}},
		{Name: "vault", Address: "[2001:db8::17]:22", Labels: map[string]string{"env": "prod"}, HostKeyMode: store.TOFU},
	} {
		added, err := w.Store.Targets.Add(ctx, t)
		must(w.t, err)
		if t.Name == "web2" {
			must(w.t, w.Store.HostKeys.Wait(ctx, added.ID, waitingKey, added.Address))
		}
	}
	_, err = w.Store.Robots.Add(ctx, store.Robot{Name: "deploy-bot", PublicKey: "ssh-ed25519 BBBB", Fingerprint: "SHA256:k3vJ0GxQkQ2v7mYwTz5bN1rEoKfLhVdCsUaXi9Zt4eM", Enabled: true,
		Sources: []string{"192.0.2.0/28"}, Targets: []string{"env=prod"}, Accounts: []string{"deploy"}, Commands: []string{"systemctl restart app", "uptime"}, Note: "from the build server"})
	must(w.t, err)
	vpn, err := w.Store.RadiusClients.Add(ctx, store.RadiusClient{Name: "office-vpn", Networks: []string{"192.0.2.20/32"}, Mode: store.RadiusChallenge,
		MessageAuthenticator: store.AuthenticatorYes, SendsAuthenticator: true, SourceAttribute: 31, Note: "of the office", Enabled: true}, store.SharedSecret("0123456789abcdef"))
	must(w.t, err)
	must(w.t, w.Store.RadiusClients.Count(ctx, []store.RadiusCount{
		{ClientID: vpn.ID, Kind: "request", Times: 7, Last: time.Now(), Detail: "192.0.2.20:1"}, {ClientID: vpn.ID, Kind: "message-authenticator-wrong", Times: 2, Last: time.Now(), Detail: "192.0.2.20:1"},
		{ClientID: "", Kind: "unknown-client", Times: 3, Last: time.Now(), Detail: "198.51.100.7"},
	}))
	for _, k := range []store.APIKey{
		{Name: "shop", Scopes: []string{store.ScopeEnrol, store.ScopeAddUsers, store.ScopeValidate}, Sources: []string{"192.0.2.0/24", "2001:db8::/64"}, PerMinute: 60, AssertsSource: true},
		{Name: "prometheus", Scopes: []string{store.ScopeMetrics}, PerMinute: 60, Expires: w.now().Add(90 * 24 * time.Hour)},
		{Name: "old portal", Scopes: []string{store.ScopeValidate}, PerMinute: 6000, Expires: w.now().Add(-time.Hour)},
	} {
		k, _, err := w.Store.APIKeys.Add(ctx, k)
		must(w.t, err)
		if k.Name == "shop" {
			must(w.t, w.Store.APIKeys.Use(ctx, k.ID, "192.0.2.9"))
		}
	}
	ca, err := w.Store.UserCAs.Add(ctx, store.UserCA{Name: "people", PublicKey: "ssh-ed25519 CCCC", Fingerprint: "SHA256:Zp8p0G3xkQ2v7mYwTz5bN1rEoKfLhVdCsUaXi9Zt4eM", Enabled: true})
	must(w.t, err)
	must(w.t, w.Store.UserCAs.Revoke(ctx, ca.ID, store.Revocation{Kind: store.RevokedKeyID, Value: "lost \x1b[2J laptop"}))
	w.pastSessions()
	w.lockouts()
	askApproval(w.t, w.Store, "alice", false)
	askApproval(w.t, w.Store, "bob", true)
}

// waitingKey is what web2 shows since it was rebuilt.
const waitingKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"

func (w *pageWorld) pastSessions() {
	ctx := context.Background()
	for i := range 12 {
		x := w.openSession("alice", []string{"web1", "web2"}[i%2])
		w.record(x, 0, "shell", "", "alice@web1:~$ uptime\r\n 12:00:01 up 41 days,  2 users,  load average: 0.08\r\nalice@web1:~$ \x1b[32mexit\x1b[0m\r\nlogout\r\n")
		if i%3 == 0 {
			w.record(x, 1, "exec", "systemctl restart nginx && journalctl -u nginx --since '5 min ago'", "● nginx.service restarted\r\n")
		}
		if i == 0 {
			w.transfers(x, 2)
			must(w.t, w.Store.Recordings.Hold(ctx, store.Hold{SessionID: x.ID, Reason: "case 7", Actor: "ada"}))
		}
		if i > 0 {
			must(w.t, w.Store.Sessions.End(ctx, x.ID, "the client disconnected"))
		}
	}
	for i := range 40 {
		e := audit.Event{Type: audit.LoginAccepted, Result: audit.OK, Door: audit.DoorSSH, User: "alice", Source: "203.0.113.7", Target: "web1"}
		if i%5 == 0 {
			e.Type, e.Result, e.Reason = audit.LoginRefused, audit.Refused, "wrong code"
		}
		must(w.t, w.Store.Audit.Append(ctx, e))
	}
}

func (w *pageWorld) openSession(user, target string) store.Session {
	w.t.Helper()
	x, err := w.Store.Sessions.Open(context.Background(), store.Session{
		User: user, Target: target, Address: "10.0.0.5:22", Account: "root", Source: "203.0.113.7", Client: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3",
		Node: "bastion-1", Rule: "ops", Recording: "required",
	})
	must(w.t, err)
	return x
}

// record adds a channel with a recording of output to a session.
func (w *pageWorld) record(x store.Session, channel int, kind, command, output string) {
	w.t.Helper()
	ctx := context.Background()
	r, err := w.Rec.Create(recorder.Header{Session: x.ID, Channel: channel, Started: w.now(), Width: 100, Height: 28, Term: "xterm-256color", Kind: kind, Command: command})
	must(w.t, err)
	for line := range strings.Lines(output) {
		must(w.t, r.Output([]byte(line)))
	}
	sum, err := r.Close()
	must(w.t, err)
	status := channel
	must(w.t, w.Store.Sessions.CloseChannel(ctx, x.ID, store.Channel{
		ID: channel, Kind: kind, Command: command, Term: kind == "shell", ExitStatus: &status, BytesIn: 42, BytesOut: int64(len(output)),
		Recording: sum.Path, SHA256: sum.SHA256, Started: w.now().Add(-3 * time.Minute), Ended: w.now(),
	}))
}

// lockouts makes one lock of a person and one of an address.
func (w *pageWorld) lockouts() {
	ctx := context.Background()
	for _, c := range []store.Counter{
		{Kind: "user+source", Key: "name:mallory|198.51.100.9", Limit: 1, Window: time.Minute, Lock: 15 * time.Minute},
		{Kind: "source", Key: "198.51.100.0/24", Limit: 1, Window: time.Minute, Lock: 30 * time.Minute},
	} {
		r, _, _, err := w.Store.Attempts.Reserve(ctx, []store.Counter{c})
		must(w.t, err)
		_, err = w.Store.Attempts.Fail(ctx, r)
		must(w.t, err)
	}
}

// testSigningKey signs recordings that a test makes before there is a world.
var testSigningKey = ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))
