package admin

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/auditlog"
	"sallyport/internal/seal"
	"sallyport/recorder"
	"sallyport/session"
	"sallyport/store"
	"sallyport/upstream"
)

// fixture is a whole server with real engines on a database in memory. Requests do not go over the
// network, but through everything else.
type fixture struct {
	t      testing.TB
	s      *Server
	st     *store.Store
	rec    *recorder.Recorder
	signer ssh.Signer
	web    http.Handler
	socket http.Handler

	admin, auditor string // API tokens
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	ctx := context.Background()
	quiet := slog.New(slog.NewJSONHandler(io.Discard, nil))
	ring, err := seal.NewRing()
	noError(t, err)
	st, err := store.Open(ctx, store.Config{DSN: "sqlite::memory:", Ring: ring})
	noError(t, err)
	t.Cleanup(func() { st.Close() })
	log := auditlog.New(auditlog.Config{Sink: st.Audit, Logger: quiet, Node: "n1"})
	engine, err := auth.New(auth.Config{Store: st, Audit: log, Grid: time.Millisecond})
	noError(t, err)
	_, signing, err := ed25519.GenerateKey(rand.Reader)
	noError(t, err)
	rec, err := recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: signing, Node: "n1"})
	noError(t, err)
	t.Cleanup(func() { rec.Close() })
	_, own, err := ed25519.GenerateKey(rand.Reader)
	noError(t, err)
	signer, err := ssh.NewSignerFromKey(own)
	noError(t, err)
	public, secret, err := upstream.NewCA()
	noError(t, err)
	noError(t, st.CAKeys.Begin(ctx, public, secret))
	noError(t, st.HostAuthority.Begin(ctx, func() ([]byte, error) { return upstream.NewKey() }, func() ([]byte, error) { return make([]byte, store.HostSecretSize), nil }))
	s, err := New(Config{
		Store: st, Engine: engine, Audit: log, Recorder: rec, Log: quiet, Version: "test", Node: "n1", Search: true,
		Sessions:  session.NewManager(session.Config{Store: st, Recorder: rec, Audit: log, Node: "n1", Log: quiet}),
		Dialer:    upstream.New(upstream.Config{Store: st, Audit: log, Signer: signer, Timeout: 30 * time.Second, Log: quiet}),
		Addresses: []string{"192.0.2.10", "2001:db8::10"}, SSHAddress: "bastion.example.org:2222",
	})
	noError(t, err)
	f := &fixture{t: t, s: s, st: st, rec: rec, signer: signer, web: s.Handler(), socket: s.SocketHandler()}
	_, f.admin, err = st.APITokens.Add(ctx, "robot", store.RoleAdmin, time.Time{})
	noError(t, err)
	_, f.auditor, err = st.APITokens.Add(ctx, "eyes", store.RoleAuditor, time.Time{})
	noError(t, err)
	return f
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// request sends a request to the web listener with an API token ("": none). in is marshalled unless it
// is a string, which is sent as it is.
func (f *fixture) request(token, method, path string, in any) *httptest.ResponseRecorder {
	f.t.Helper()
	r := newRequest(f.t, method, path, in)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	f.web.ServeHTTP(w, r)
	return w
}

func newRequest(t testing.TB, method, path string, in any) *http.Request {
	t.Helper()
	var body io.Reader
	switch v := in.(type) {
	case nil:
	case string:
		body = strings.NewReader(v)
	default:
		text, err := json.Marshal(in)
		noError(t, err)
		body = bytes.NewReader(text)
	}
	r := httptest.NewRequest(method, apiPath+path, body)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// do calls the API as administrator, expects a status and reads the answer.
func do[T any](f *fixture, status int, method, path string, in any) T {
	f.t.Helper()
	w := f.request(f.admin, method, path, in)
	if w.Code != status {
		f.t.Fatalf("%s %s: status %d, want %d: %s", method, path, w.Code, status, w.Body)
	}
	var out T
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			f.t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
		}
	}
	return out
}

// refused calls the API as administrator and expects a refusal that says what to do.
func (f *fixture) refused(status int, method, path string, in any) Problem {
	f.t.Helper()
	w := f.request(f.admin, method, path, in)
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		f.t.Errorf("%s %s: content type %q", method, path, got)
	}
	var p Problem
	noError(f.t, json.Unmarshal(w.Body.Bytes(), &p))
	if w.Code != status || p.Status != status {
		f.t.Errorf("%s %s: status %d, want %d: %s", method, path, w.Code, status, w.Body)
	}
	if p.Detail == "" || p.Hint == "" {
		f.t.Errorf("%s %s: a refusal without detail or hint: %s", method, path, w.Body)
	}
	return p
}

// changes lists what the audit log says was changed, newest first, as "change actor door user target".
func (f *fixture) changes() []string {
	f.t.Helper()
	events, err := f.st.Audit.List(context.Background(), store.AuditFilter{Type: audit.OperatorChange, Limit: 1000})
	noError(f.t, err)
	var found []string
	for _, e := range events {
		found = append(found, strings.Join([]string{e.Detail["change"], e.Actor, e.Door, e.User, e.Target}, " "))
	}
	return found
}

func (f *fixture) addUser(login string) User {
	f.t.Helper()
	return do[User](f, 200, "POST", "/users", NewUser{Login: login, Password: "correct horse"})
}

// hostKey makes a public key as a line of authorized_keys.
func hostKey(t testing.TB) string {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	noError(t, err)
	key, err := ssh.NewPublicKey(pub)
	noError(t, err)
	return keyLine(key)
}
