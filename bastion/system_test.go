package bastion_test

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/auth"
	"sallyport/bastion"
	"sallyport/identity"
	"sallyport/internal/auditlog"
	"sallyport/internal/seal"
	"sallyport/internal/testenv"
	"sallyport/otp"
	"sallyport/recorder"
	"sallyport/session"
	"sallyport/store"
	"sallyport/store/storetest"
	"sallyport/upstream"
)

// options of a system under test. The zero value is SQLite with local users.
type options struct {
	postgres   bool
	dsn        string // overrides postgres
	directory  auth.Directory
	enrol      bool
	sent       auth.SentCodes
	free       auth.WithoutToken
	approve    bool
	ahead      *atomic.Int64 // how far the clock is set forward, as a time.Duration; nil: not at all
	guard      bastion.Guard
	rules      string
	suffixes   []string
	noSSHD     bool
	sshdConfig []string
	recordings string // folder; "": a new one
	reserve    int64
	join       *system       // be a second node beside this one, on its database and with its target
	noWatch    bool          // hear of no change of rights
	early      int           // as in upstream.Config
	rekey      uint64        // as RekeyAfter, on both sides
	dial       time.Duration // how long a target may take; 0: a minute, for a busy machine
}

// system is a whole bastion in this process, with a real sshd as target.
type system struct {
	t        testing.TB
	Store    *store.Store
	Engine   *auth.Engine
	Sessions *session.Manager
	Recorder *recorder.Recorder
	Server   *bastion.Server
	SSHD     *testenv.SSHD
	Addr     string
	HostKey  ssh.PublicKey
	HostCA   *bastion.HostCA
	dsn      string
	ring     *seal.Ring
	key      ssh.Signer // that targets trust
	counter  atomic.Int64
	ahead    *atomic.Int64
}

const allowAll = `version: 1
rules:
  - name: everybody
    users: ["*"]
    targets: [web1, down]
`

const alicePassword = "correct horse battery"

func newSystem(t testing.TB, o options) *system {
	t.Helper()
	ctx := context.Background()
	s := &system{t: t, ahead: cmp.Or(o.ahead, new(atomic.Int64))}
	dsn := o.dsn
	if dsn == "" {
		dsn = "sqlite:" + filepath.Join(t.TempDir(), "sallyport.db")
		if o.postgres {
			dsn = storetest.Postgres(t)
		}
	}
	ring, err := seal.NewRing()
	check(t, err)
	var now func() time.Time // nil: time.Now
	if o.ahead != nil {
		now = func() time.Time { return time.Now().Add(time.Duration(o.ahead.Load())) }
	}
	node, upstreamKey := "test", newSigner(t)
	if o.join != nil {
		node, dsn, ring, upstreamKey = "test-2", o.join.dsn, o.join.ring, o.join.key
	}
	s.dsn, s.ring, s.key = dsn, ring, upstreamKey
	s.Store, err = store.Open(ctx, store.Config{DSN: dsn, Ring: ring, Now: now})
	check(t, err)
	t.Cleanup(func() { s.Store.Close() })
	quiet := slog.New(slog.NewJSONHandler(io.Discard, nil))
	log := auditlog.New(auditlog.Config{Sink: s.Store.Audit, Logger: quiet, Node: node})
	s.Engine, err = auth.New(auth.Config{Store: s.Store, Directory: o.directory, Audit: log, EnrolAtLogin: o.enrol, Sent: o.sent, Now: now, WithoutToken: o.free,
		ApproveEnrolments: o.approve, URL: "https://bastion.example.org"})
	check(t, err)
	dir := o.recordings
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "recordings")
	}
	_, signing, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	s.Recorder, err = recorder.New(recorder.Config{Dir: dir, SigningKey: signing, Node: node, Reserve: o.reserve})
	check(t, err)
	t.Cleanup(func() { s.Recorder.Close() })
	s.Sessions = session.NewManager(session.Config{Store: s.Store, Recorder: s.Recorder, Audit: log, Node: node, Log: quiet})
	check(t, s.Sessions.Begin(ctx))
	running, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	t.Cleanup(func() {
		stop()
		background.Wait() // what writes still would write into folders that are being removed
	})
	background.Go(func() { s.Sessions.Run(running) })
	dialer := upstream.New(upstream.Config{Store: s.Store, Audit: log, Signer: upstreamKey, Early: o.early, RekeyAfter: o.rekey, Timeout: cmp.Or(o.dial, time.Minute), Log: quiet})
	hostKey := newSigner(t)
	s.HostKey = hostKey.PublicKey()
	s.HostCA, err = bastion.NewHostCA(newSigner(t), []byte("a secret of thirty-two bytes or more"))
	check(t, err)
	// A busy machine must not make logins and inner connections too late.
	o.guard.Jump = cmp.Or(o.guard.Jump, time.Minute)
	o.guard.Handshake = cmp.Or(o.guard.Handshake, time.Minute)
	s.Server, err = bastion.New(bastion.Config{Engine: s.Engine, Store: s.Store, Sessions: s.Sessions, Dialer: dialer, Audit: log,
		HostKeys: []ssh.Signer{hostKey}, HostCA: s.hostCA, Guard: o.guard, Suffixes: o.suffixes, RekeyAfter: o.rekey, Log: quiet})
	check(t, err)
	if !o.noWatch {
		background.Go(func() { s.Server.Watch(running) })
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	s.Addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s.Sessions.Drain(ctx, "the test is over")
		ended, cancelEnded := context.WithTimeout(ctx, time.Second)
		defer cancelEnded()
		s.Server.Shutdown(ended)
		check(t, <-served)
	})
	if o.join != nil {
		s.SSHD = o.join.SSHD
		return s
	}
	if !o.noSSHD {
		s.SSHD = testenv.StartSSHD(t, o.sshdConfig...)
		s.SSHD.Authorize(dialer.AuthorizedKey())
		_, err = s.Store.Targets.Add(ctx, store.Target{Name: "web1", Address: s.SSHD.Addr, Accounts: []string{s.SSHD.Account},
			HostKeyMode: store.Pinned, HostKeys: []string{s.SSHD.HostKey}})
		check(t, err)
	}
	_, err = s.Store.Targets.Add(ctx, store.Target{Name: "down", Address: "127.0.0.1:1", Accounts: []string{"root"}, HostKeyMode: store.TOFU})
	check(t, err)
	rules := o.rules
	if rules == "" {
		rules = allowAll
	}
	_, err = s.Store.Rules.Put(ctx, rules, "test", 0)
	check(t, err)
	s.addUser("alice", alicePassword)
	return s
}

func (s *system) hostCA(context.Context) (*bastion.HostCA, error) { return s.HostCA, nil }

// addUser makes a local user.
func (s *system) addUser(login, password string) store.User {
	s.t.Helper()
	hash, err := identity.HashPassword(context.Background(), identity.Password(password))
	check(s.t, err)
	u, err := s.Store.Users.Add(context.Background(), store.User{Login: login, Source: store.Local}, hash)
	check(s.t, err)
	return u
}

// token gives login a further token and returns its secret in base32.
func (s *system) token(login string) string {
	s.t.Helper()
	ctx := context.Background()
	u, err := s.Store.Users.ByLogin(ctx, login)
	check(s.t, err)
	secret := otp.NewSecret()
	_, err = s.Store.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: fmt.Sprintf("test %d", s.counter.Add(1)), Kind: "totp",
		Algorithm: "SHA1", Digits: 6, Period: 30, Enabled: true}, secret)
	check(s.t, err)
	return secret.Base32()
}

// code returns a code that login has not used yet, computed by oathtool from the secret of a token
// of its own, so that a test may log in as often as it likes.
func (s *system) code(login string) string {
	s.t.Helper()
	return testenv.Oathtool(s.t, s.token(login), time.Now().Add(time.Duration(s.ahead.Load())))
}

// ssh is the OpenSSH client of alice on her way to web1.
func (s *system) ssh() *testenv.OpenSSH {
	return &testenv.OpenSSH{Addr: s.Addr, Login: "alice@web1", Password: alicePassword, Code: func() string { return s.code("alice") }}
}

// events returns the audit events of a type, oldest first.
func (s *system) events(kind string) []string {
	s.t.Helper()
	list, err := s.Store.Audit.List(context.Background(), store.AuditFilter{Type: kind, Limit: 1000})
	check(s.t, err)
	var out []string
	for i := len(list) - 1; i >= 0; i-- {
		e := list[i]
		out = append(out, fmt.Sprintf("%s %s %s@%s %s", e.Result, e.User, e.Account, e.Target, e.Reason))
	}
	return out
}

// session waits until the newest session has ended and returns it.
func (s *system) session() store.Session {
	s.t.Helper()
	var got store.Session
	testenv.WaitFor(s.t, "the end of the session", func() bool {
		list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{Limit: 1})
		check(s.t, err)
		if len(list) == 0 {
			return false
		}
		got = list[0]
		return got.State != store.Live
	})
	return got
}

// recorded returns the output bytes of a recording, stdout and stderr in order.
func (s *system) recorded(path string) string {
	s.t.Helper()
	r, err := s.Recorder.Open(path)
	check(s.t, err)
	defer r.Close()
	var b strings.Builder
	for {
		e, err := r.Next()
		if err == io.EOF {
			return b.String()
		}
		check(s.t, err)
		if e.Code == recorder.CodeOutput || e.Code == recorder.CodeStderr {
			b.Write(e.Data)
		}
	}
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	check(t, err)
	return signer
}

// answers is a keyboard-interactive client that gives these answers to these prompts, and counts
// how often it was asked.
func answers(password, code string, asked *[]string) ssh.AuthMethod {
	return ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		var out []string
		for _, q := range questions {
			if asked != nil {
				*asked = append(*asked, q)
			}
			switch q {
			case auth.PromptPassword:
				out = append(out, password)
			default:
				out = append(out, code)
			}
		}
		return out, nil
	})
}

// dial connects with the Go client.
func (s *system) dial(login string, methods ...ssh.AuthMethod) (*ssh.Client, error) {
	return ssh.Dial("tcp", s.Addr, &ssh.ClientConfig{User: login, Auth: methods, HostKeyCallback: ssh.FixedHostKey(s.HostKey), Timeout: time.Minute})
}

func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
