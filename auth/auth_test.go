package auth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/auditlog"
	"sallyport/internal/seal"
	"sallyport/internal/testenv"
	"sallyport/otp"
	"sallyport/store"
)

const rules = `version: 1
networks: {office: [192.0.2.0/24]}
rules:
  - {name: vault-closed, deny: true, targets: [vault], not-from: [office], message: vault is reached from the office only}
  - {name: ops, users: ["group:ops"], targets: ["env=prod"], accounts: ["root", "{user}"], channels: [shell, exec]}
  - {name: trusted, users: [alice], targets: [lab], from: [office], code: none}
  - {name: fresh, users: ["*"], targets: [safe], code: {younger-than: 10m}}
  - {name: rest, users: ["*"], targets: [web1, vault]}
`

var source = netip.MustParseAddr("203.0.113.7")

// world is an engine on a real database, with a clock that the test moves.
type world struct {
	t      *testing.T
	Store  *store.Store
	Engine *auth.Engine
	now    time.Time

	dsn     string
	ring    *seal.Ring
	changes []change
}

type change func(*auth.Config)

func newWorld(t *testing.T, dsn string, changes ...change) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, now: time.Now()}
	if dsn == "" {
		dsn = "sqlite:" + filepath.Join(t.TempDir(), "db")
	}
	var err error
	w.ring, err = seal.NewRing()
	check(t, err)
	w.dsn, w.changes = dsn, changes
	w.Store, w.Engine = w.node()
	for name, labels := range map[string]map[string]string{"web1": nil, "vault": nil, "lab": nil, "safe": nil, "db1": {"env": "prod"}} {
		_, err := w.Store.Targets.Add(ctx, store.Target{Name: name, Address: "127.0.0.1:1", Accounts: []string{"postgres", "root", "alice"}, Labels: labels, HostKeyMode: store.TOFU})
		check(t, err)
	}
	_, err = w.Store.Rules.Put(ctx, rules, "test", 0)
	check(t, err)
	return w
}

// node opens the database once more, as another node does.
func (w *world) node() (*store.Store, *auth.Engine) {
	w.t.Helper()
	clock := func() time.Time { return w.now }
	st, err := store.Open(context.Background(), store.Config{DSN: w.dsn, Ring: w.ring, Now: clock})
	check(w.t, err)
	w.t.Cleanup(func() { st.Close() })
	log := auditlog.New(auditlog.Config{Sink: st.Audit, Logger: slog.New(slog.NewJSONHandler(io.Discard, nil)), Now: clock})
	cfg := auth.Config{Store: st, Audit: log, Grid: time.Millisecond, Now: clock}
	for _, c := range w.changes {
		c(&cfg)
	}
	e, err := auth.New(cfg)
	check(w.t, err)
	return st, e
}

// directoryTime is what a directory that is silent costs in tests, and long enough for one that has little of the machine.
const directoryTime = 5 * time.Second

func withDirectory(d *testenv.Directory) change {
	return func(c *auth.Config) {
		l, err := identity.NewLDAP(identity.LDAPConfig{
			Servers: []string{d.LDAPSURL}, CAFile: d.CAFile, BindDN: d.BindDN, BindPassword: identity.Password(d.BindPassword),
			Base: d.PeopleDN, GroupBase: d.GroupsDN, LoginGroup: "ssh-users", Timeout: directoryTime,
		})
		if err != nil {
			panic(err)
		}
		c.Directory = l
	}
}

func (w *world) local(login, password string, groups ...string) store.User {
	w.t.Helper()
	hash, err := identity.HashPassword(context.Background(), identity.Password(password))
	check(w.t, err)
	u, err := w.Store.Users.Add(context.Background(), store.User{Login: login, Source: store.Local, Groups: groups}, hash)
	check(w.t, err)
	return u
}

// token gives the user a token and returns its secret.
func (w *world) token(userID string) otp.Secret {
	w.t.Helper()
	secret := otp.NewSecret()
	_, err := w.Store.Tokens.Add(context.Background(), store.Token{UserID: userID, Name: "t", Kind: "totp", Algorithm: "SHA1", Digits: 6, Period: 30, Enabled: true}, secret)
	check(w.t, err)
	return secret
}

func (w *world) code(s otp.Secret) string {
	p := otp.DefaultParams()
	return p.Code(s, p.StepAt(w.now))
}

// script answers prompts and keeps what was asked and shown.
type script struct {
	answers map[string]string
	asked   []string
	shown   string
	onAsk   func(prompt string)
}

func (s *script) Ask(_ context.Context, _ string, prompts []auth.Prompt) ([]string, error) {
	var out []string
	for _, p := range prompts {
		s.asked = append(s.asked, p.Text)
		if s.onAsk != nil {
			s.onAsk(p.Text)
		}
		out = append(out, s.answers[p.Text])
	}
	return out, nil
}

func (s *script) Show(_ context.Context, text string) error {
	s.shown += text
	return nil
}

func (w *world) login(a auth.Attempt, password, code string) (*auth.Identity, error) {
	w.t.Helper()
	if a.Door == "" {
		a.Door = audit.DoorSSH
	}
	if !a.Source.IsValid() {
		a.Source = source
	}
	s := &script{answers: map[string]string{auth.PromptPassword: password, auth.PromptCode: code}}
	return w.Engine.Begin(a).Run(context.Background(), s)
}

// refused fails the test unless err is a refusal because of want.
func (w *world) refused(err error, want error) {
	w.t.Helper()
	var r *auth.Refused
	if !errors.As(err, &r) || !errors.Is(err, want) {
		w.t.Errorf("got %v, want a refusal because of %q", err, want)
	}
}

// A directory user signs in, and only then has a row, under the directory's immutable id (C2).
func TestDirectoryUser(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	w := newWorld(t, "", withDirectory(d), func(c *auth.Config) { c.EnrolAtLogin = true })
	ctx := context.Background()
	_, err := w.login(auth.Attempt{Login: "alice"}, "wrong", "000000")
	w.refused(err, auth.ErrPassword)
	if _, err := w.Store.Users.ByLogin(ctx, "alice"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a row appeared without a successful bind: %v", err)
	}
	var secret otp.Secret
	s := &script{answers: map[string]string{auth.PromptPassword: d.Password("alice")}}
	s.onAsk = func(prompt string) {
		if prompt == auth.PromptNewCode {
			_, after, _ := strings.Cut(s.shown, "6 digits):")
			secret, err = otp.ParseSecret(strings.Join(strings.Fields(strings.Split(after, "Then")[0]), ""))
			check(t, err)
			s.answers[auth.PromptNewCode] = w.code(secret)
		}
	}
	id, err := w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "Alice", Source: source}).Run(ctx, s)
	check(t, err)
	if id.Login != "alice" || !slices.Contains(id.Groups, "ops") || !slices.Equal(id.Factors, []string{"password", "enrolment"}) {
		t.Errorf("identity %+v", id)
	}
	u, err := w.Store.Users.ByLogin(ctx, "alice")
	check(t, err)
	if u.Source != store.Directory || u.ExternalID == "" {
		t.Errorf("row %+v", u)
	}
	w.now = w.now.Add(time.Minute)
	if _, err := w.login(auth.Attempt{Login: "alice", Target: "db1"}, d.Password("alice"), w.code(secret)); err != nil {
		t.Errorf("the second login: %v", err)
	}
	// The code is looked at before the directory is: no bind leaves without a right one.
	binds := d.Binds(d.UserDN("alice"))
	_, err = w.login(auth.Attempt{Login: "alice"}, d.Password("alice"), "000000")
	w.refused(err, auth.ErrCode)
	if n := d.Binds(d.UserDN("alice")); n != binds {
		t.Errorf("%d binds were sent for a wrong code", n-binds)
	}
	// Gone from the directory, disabled there, or in it and here under one name: refused.
	w.now = w.now.Add(time.Minute)
	d.Disable("alice")
	_, err = w.login(auth.Attempt{Login: "alice"}, d.Password("alice"), w.code(secret))
	w.refused(err, auth.ErrDisabled)
	d.Enable("alice")
	d.Delete(d.UserDN("alice"))
	w.now = w.now.Add(time.Minute)
	_, err = w.login(auth.Attempt{Login: "alice"}, "x", w.code(secret))
	w.refused(err, auth.ErrDisabled)
	carol := w.local("carol", "carol's own password")
	_, err = w.login(auth.Attempt{Login: "carol"}, "carol's own password", w.code(w.token(carol.ID)))
	w.refused(err, auth.ErrDisabled)
}

// The directory is away: refused within 3 s, as an error and not as a failure of the person; local
// users do not depend on it.
func TestDirectoryAway(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*testenv.Directory){
		"stopped": func(d *testenv.Directory) { d.Stop() },
		"silent":  func(d *testenv.Directory) { d.Pause(); d.Log() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := testenv.Slapd(t)
			w := newWorld(t, "", withDirectory(d))
			ctx := context.Background()
			u, err := w.Store.Users.SeenInDirectory(ctx, "some-id", "alice", "", "", nil)
			check(t, err)
			secret := w.token(u.ID)
			dave := w.local("dave", "dave's password")
			daves := w.token(dave.ID)
			stop(d)
			for range 12 {
				started := time.Now()
				_, err := w.login(auth.Attempt{Login: "alice"}, "x", w.code(secret))
				w.refused(err, auth.ErrUnavailable)
				if took := time.Since(started); took > directoryTime+10*time.Second {
					t.Fatalf("refused after %s", took)
				}
				if name == "silent" {
					break // each takes its time
				}
			}
			locks, err := w.Store.Attempts.Locks(ctx)
			check(t, err)
			if len(locks) != 0 {
				t.Errorf("the outage was counted: %+v", locks)
			}
			events, err := w.Store.Audit.List(ctx, store.AuditFilter{Type: audit.LoginRefused, Limit: 100})
			check(t, err)
			for _, e := range events {
				if e.Result != audit.Error {
					t.Errorf("logged as %s, want error: %s", e.Result, e.Reason)
				}
			}
			if _, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", w.code(daves)); err != nil {
				t.Errorf("a local user: %v", err)
			}
			if name == "silent" {
				d.Resume()
			}
		})
	}
}

// The database is away: refused soon, nothing evaluated that would not be counted.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	w := newWorld(t, pg.DSN())
	u := w.local("dave", "dave's password")
	secret := w.token(u.ID)
	pg.Stop()
	started := time.Now()
	_, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", w.code(secret))
	w.refused(err, auth.ErrUnavailable)
	if took := time.Since(started); took > 15*time.Second {
		t.Errorf("refused after %s", took)
	}
	pg.Start()
	deadline := time.Now().Add(time.Minute)
	for {
		_, err = w.login(auth.Attempt{Login: "dave"}, "dave's password", w.code(secret))
		if err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Errorf("a minute after the database is back: %v", err)
	}
}

// wrong gives codes that are wrong, each another one.
func wrong(i int) string { return fmt.Sprintf("%06d", i) }

// While a lock holds, right answers and wrong ones are the same, and nothing is evaluated: the code
// is not consumed either.
func TestLockEvaluatesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", "dave's password")
	secret := w.token(u.ID)
	for i := range 5 {
		_, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", wrong(i))
		w.refused(err, auth.ErrCode)
	}
	_, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", w.code(secret))
	w.refused(err, auth.ErrLocked)
	// Another name for the same person is the same counter; another source is not hurt.
	_, err = w.login(auth.Attempt{Login: "DAVE"}, "dave's password", w.code(secret))
	w.refused(err, auth.ErrLocked)
	if _, err := w.login(auth.Attempt{Login: "dave", Source: netip.MustParseAddr("198.51.100.1")}, "dave's password", w.code(secret)); err != nil {
		t.Errorf("from another source, with the code that the lock must not have consumed: %v", err)
	}
}

// Ten failures of one source lock it for everybody there, whoever it tried to be, for half an hour.
func TestSourceLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", "dave's password")
	secret := w.token(u.ID)
	for i := range 10 {
		_, err := w.login(auth.Attempt{Login: fmt.Sprintf("nobody%d", i)}, "x", wrong(i))
		w.refused(err, auth.ErrUnknownUser)
	}
	_, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", w.code(secret))
	w.refused(err, auth.ErrLocked)
	w.now = w.now.Add(31 * time.Minute)
	if _, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", w.code(secret)); err != nil {
		t.Errorf("after half an hour: %v", err)
	}
}

// A hundred failures in a row, from ever new sources, stop a user from new sources; the place they
// have been signing in from goes on working: nobody can lock somebody else out.
func TestHardStopSparesKnownPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", "dave's password")
	secret := w.token(u.ID)
	home := netip.MustParseAddr("198.51.100.1")
	if _, err := w.login(auth.Attempt{Login: "dave", Source: home}, "dave's password", w.code(secret)); err != nil {
		t.Fatal(err)
	}
	at := address
	for i := range 100 {
		_, err := w.login(auth.Attempt{Login: "dave", Source: at(i)}, "x", "000000")
		w.refused(err, auth.ErrCode)
	}
	w.now = w.now.Add(time.Minute)
	_, err := w.login(auth.Attempt{Login: "dave", Source: at(150)}, "dave's password", w.code(secret))
	w.refused(err, auth.ErrLocked)
	if _, err := w.login(auth.Attempt{Login: "dave", Source: home}, "dave's password", w.code(secret)); err != nil {
		t.Errorf("from home: %v", err)
	}
}

// A target may be stricter than the rest (C4).
func TestStricterTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	ctx := context.Background()
	target, err := w.Store.Targets.ByName(ctx, "vault")
	check(t, err)
	target.Lockout = 2
	check(t, w.Store.Targets.Update(ctx, target))
	u := w.local("dave", "dave's password")
	secret := w.token(u.ID)
	for i := range 2 {
		_, err := w.login(auth.Attempt{Login: "dave", Target: "vault"}, "x", wrong(i))
		w.refused(err, auth.ErrCode)
	}
	_, err = w.login(auth.Attempt{Login: "dave", Target: "vault"}, "dave's password", w.code(secret))
	w.refused(err, auth.ErrLocked)
	if _, err := w.login(auth.Attempt{Login: "dave", Target: "web1"}, "dave's password", w.code(secret)); err != nil {
		t.Errorf("another target: %v", err)
	}
}

// A client that sends its person's wrong code again and again by itself does not lock them out, and the same holds
// for names that nobody has: counting must not tell who exists. A wrong password counts each time.
func TestSameWrongCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", "dave's password")
	secret := w.token(u.ID)
	for range 20 {
		_, err := w.login(auth.Attempt{Login: "dave"}, "x", "000000")
		w.refused(err, auth.ErrCode)
		_, err = w.login(auth.Attempt{Login: "nobody"}, "x", "000000")
		w.refused(err, auth.ErrUnknownUser)
	}
	if _, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", w.code(secret)); err != nil {
		t.Errorf("after the same wrong code twenty times: %v", err)
	}
	for range 5 {
		w.now = w.now.Add(30 * time.Second)
		_, err := w.login(auth.Attempt{Login: "dave", Source: netip.MustParseAddr("203.0.113.8")}, "wrong", w.code(secret))
		w.refused(err, auth.ErrPassword)
	}
	w.now = w.now.Add(30 * time.Second)
	_, err := w.login(auth.Attempt{Login: "dave", Source: netip.MustParseAddr("203.0.113.8")}, "dave's password", w.code(secret))
	w.refused(err, auth.ErrLocked)
}

// A rule or a setting of one person may be stricter than the rest, never less strict (J6).
func TestStricterRuleAndUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	ctx := context.Background()
	_, err := w.Store.Rules.Put(ctx, `version: 1
rules:
  - {name: strict, users: ["*"], targets: [vault], lockout: {failures: 2, lock: 1h}}
  - {name: rest, users: ["*"], targets: [web1], lockout: {failures: 50}}
`, "test", 1)
	check(t, err)
	u := w.local("dave", "dave's password")
	secret := w.token(u.ID)
	try := func(target, from string, i int, want error) {
		t.Helper()
		_, err := w.login(auth.Attempt{Login: "dave", Target: target, Source: netip.MustParseAddr(from)}, "x", wrong(i))
		w.refused(err, want)
	}
	for i := range 2 {
		try("vault", "203.0.113.1", i, auth.ErrCode)
	}
	try("vault", "203.0.113.1", 3, auth.ErrLocked)
	try("web1", "203.0.113.1", 4, auth.ErrCode)
	w.now = w.now.Add(59 * time.Minute)
	try("vault", "203.0.113.1", 5, auth.ErrLocked)
	for i := range 5 {
		try("web1", "203.0.113.2", i, auth.ErrCode)
	}
	try("web1", "203.0.113.2", 6, auth.ErrLocked)

	check(t, w.Store.Users.SetLockout(ctx, u.ID, store.UserLockout{Failures: 1}))
	try("web1", "203.0.113.3", 0, auth.ErrCode)
	try("web1", "203.0.113.3", 1, auth.ErrLocked)
	if _, err := w.login(auth.Attempt{Login: "dave", Target: "web1", Source: netip.MustParseAddr("203.0.113.4")}, "dave's password", w.code(secret)); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
}

// Neighbours in one /64 are one source.
func TestIPv6IsCountedByNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", "dave's password")
	secret := w.token(u.ID)
	for i := range 5 {
		_, err := w.login(auth.Attempt{Login: "dave", Source: netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1))}, "x", wrong(i))
		w.refused(err, auth.ErrCode)
	}
	_, err := w.login(auth.Attempt{Login: "dave", Source: netip.MustParseAddr("2001:db8::ffff")}, "dave's password", w.code(secret))
	w.refused(err, auth.ErrLocked)
}

// A code of the step before, of now and of the one after is good; the second before is not; nothing
// at or before a used step is (RFC 6238, section 5.2).
func TestWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", "dave's password")
	p := otp.DefaultParams()
	for offset, good := range map[int64]bool{-2: false, -1: true, 0: true, 1: true, 2: false} {
		secret := w.token(u.ID)
		_, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", p.Code(secret, p.StepAt(w.now)+offset))
		if good && err != nil {
			t.Errorf("step %+d: %v", offset, err)
		} else if !good {
			w.refused(err, auth.ErrCode)
		}
	}
	secret := w.token(u.ID)
	if _, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", p.Code(secret, p.StepAt(w.now)+1)); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{1, 0, -1} {
		_, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", p.Code(secret, p.StepAt(w.now)+offset))
		w.refused(err, auth.ErrReplay)
	}
}

// What people type around a code is forgiven; other alphabets' digits and words are not.
func TestCodeAsTyped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", "dave's password")
	secret := w.token(u.ID)
	code := w.code(secret)
	for _, typed := range []string{"", " ", "+" + code, "-" + code, code + "0", "٠١٢٣٤٥", code + "\x00", strings.Repeat("1", 1<<16)} {
		if _, err := w.login(auth.Attempt{Login: "dave", Source: netip.MustParseAddr("198.51.100.9")}, "dave's password", typed); err == nil {
			t.Errorf("%.20q was accepted", typed)
		}
		check(t, w.Store.Attempts.Clear(context.Background(), "source:198.51.100.9"))
		check(t, w.Store.Attempts.Clear(context.Background(), "user+source:user:"+u.ID+"|198.51.100.9"))
	}
	if _, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", code[:3]+" "+code[3:]+" "); err != nil {
		t.Errorf("with a space: %v", err)
	}
}

// Decisions: first match, default deny, account choice, freshness of the code, and the person's lock.
func TestAuthorize(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	ctx := context.Background()
	u := w.local("alice", "alice's password", "ops")
	id := auth.Identity{UserID: u.ID, Login: "alice", Groups: nil, Door: audit.DoorSSH, CodeAt: w.now}
	office := netip.MustParseAddr("192.0.2.9")
	for _, c := range []struct {
		name    string
		id      auth.Identity
		r       auth.Request
		allow   bool
		account string
	}{
		{"rest", id, auth.Request{Target: "web1", Source: source}, true, "postgres"},
		{"unknown target", id, auth.Request{Target: "nowhere", Source: source}, false, ""},
		{"no target", id, auth.Request{Source: source}, false, ""},
		{"deny rule first", id, auth.Request{Target: "vault", Source: source}, false, "postgres"},
		{"deny rule not from office", id, auth.Request{Target: "vault", Source: office}, true, "postgres"},
		{"group as of now, first allowed account", id, auth.Request{Target: "db1", Source: source}, true, "root"},
		{"own account", id, auth.Request{Target: "db1", Account: "alice", Source: source}, true, "alice"},
		{"account the rule lacks", id, auth.Request{Target: "db1", Account: "postgres", Source: source}, false, "postgres"},
		{"account the target lacks", id, auth.Request{Target: "db1", Account: "mallory", Source: source}, false, "mallory"},
		{"channel the rule names", id, auth.Request{Target: "db1", Account: "root", Channel: "exec", Source: source}, true, "root"},
		{"channel the rule lacks", id, auth.Request{Target: "db1", Account: "root", Channel: "sftp", Source: source}, false, "root"},
		{"fresh code", id, auth.Request{Target: "safe", Source: source}, true, "postgres"},
		{"old code", with(id, w.now.Add(-11*time.Minute)), auth.Request{Target: "safe", Source: source}, false, "postgres"},
		{"no code where one is needed", with(id, time.Time{}), auth.Request{Target: "web1", Source: source}, false, "postgres"},
		{"no code where none is needed", with(id, time.Time{}), auth.Request{Target: "lab", Source: office}, true, "postgres"},
		{"no code from elsewhere", with(id, time.Time{}), auth.Request{Target: "lab", Source: source}, false, "postgres"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := w.Engine.Authorize(ctx, c.id, c.r)
			check(t, err)
			if d.Allow != c.allow || d.Account != c.account || (d.Refusal == "") != c.allow {
				t.Errorf("allow %v, account %q, refusal %q; want %v, %q", d.Allow, d.Account, d.Refusal, c.allow, c.account)
			}
		})
	}
	check(t, w.Store.Users.Lock(ctx, u.ID, "test", time.Time{}))
	if d, err := w.Engine.Authorize(ctx, id, auth.Request{Target: "web1", Source: source}); err != nil || d.Allow {
		t.Errorf("a locked person: %v %v", d.Allow, err)
	}
	check(t, w.Store.Users.Unlock(ctx, u.ID))
	_, err := w.Store.Rules.Put(ctx, "version: 1\nrules: []\n", "test", 1)
	check(t, err)
	if d, err := w.Engine.Authorize(ctx, id, auth.Request{Target: "web1", Source: source}); err != nil || d.Allow {
		t.Errorf("without rules: %v %v", d.Allow, err)
	}
}

// address is the i-th of many sources.
func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{203, 0, byte(113 + i/200), byte(i % 200)})
}

func with(id auth.Identity, codeAt time.Time) auth.Identity {
	id.CodeAt = codeAt
	return id
}

// Explain gives the verdict of each rule in order.
func TestExplain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.local("alice", "alice's password", "ops")
	d, err := w.Engine.Explain(context.Background(), auth.ExplainRequest{User: "alice", Target: "db1", Account: "root", Channel: "shell", Source: source})
	check(t, err)
	if !d.Allow || d.Rule != "ops" || len(d.Trace) != 2 || d.Trace[0].Matched || !d.Trace[1].Matched {
		t.Errorf("decision %+v", d)
	}
	if _, err := w.Engine.Explain(context.Background(), auth.ExplainRequest{User: "nobody", Target: "db1"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown user: %v", err)
	}
	if _, err := w.Engine.Explain(context.Background(), auth.ExplainRequest{User: "alice", Target: "nowhere"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown target: %v", err)
	}
}

// Two who enrol at the same moment: one token.
func TestEnrolmentOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("bob", "bob's password")
	results := make(chan error, 20)
	for range 20 {
		go func() {
			en := w.Engine.NewEnrolment("bob")
			_, err := w.Engine.ConfirmEnrolment(context.Background(), u, en, "phone", w.code(en.Secret))
			results <- err
		}()
	}
	won := 0
	for range 20 {
		if err := <-results; err == nil {
			won++
		} else if !errors.Is(err, store.ErrExists) {
			t.Errorf("loser: %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of 20 enrolled, want 1", won)
	}
}

// Failures come on the grid, whatever was wrong.
func TestFailuresComeOnTheGrid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *auth.Config) { c.Grid, c.Now = 300*time.Millisecond, nil })
	w.now = time.Now()
	u := w.local("dave", "dave's password")
	secret := w.token(u.ID)
	for name, try := range map[string]func() error{
		"unknown user": func() error { _, err := w.login(auth.Attempt{Login: "nobody"}, "x", "000000"); return err },
		"wrong code":   func() error { _, err := w.login(auth.Attempt{Login: "dave"}, "dave's password", "000000"); return err },
		"wrong password": func() error {
			_, err := w.login(auth.Attempt{Login: "dave"}, "x", w.code(secret))
			return err
		},
	} {
		started := time.Now()
		if try() == nil {
			t.Errorf("%s got in", name)
		}
		if took := time.Since(started); took < 300*time.Millisecond {
			t.Errorf("%s: answered after %s, want not before the grid", name, took)
		}
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
