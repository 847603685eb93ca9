package portal_test

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
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/auditlog"
	"sallyport/internal/notify"
	"sallyport/internal/seal"
	"sallyport/internal/web"
	"sallyport/otp"
	"sallyport/portal"
	"sallyport/recorder"
	"sallyport/session"
	"sallyport/signin"
	"sallyport/store"
)

const password = "correct horse battery"

// world is the portal with real engines on a database in memory, with a clock that the test moves.
type world struct {
	t       *testing.T
	Store   *store.Store
	Engine  *auth.Engine
	URL     string
	ahead   atomic.Int64
	secrets map[string]otp.Secret
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func newWorld(t *testing.T, changes ...func(*auth.Config)) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t, secrets: map[string]otp.Secret{}}
	ring, err := seal.NewRing()
	must(t, err)
	w.Store, err = store.Open(ctx, store.Config{DSN: "sqlite::memory:", Ring: ring, Now: w.now})
	must(t, err)
	t.Cleanup(func() { w.Store.Close() })
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	alerts := notify.NewAlerts(notify.AlertsConfig{Store: w.Store, Name: "Test", People: true, Operators: []string{"ops@example.org"}, Events: []string{audit.AccountAlarm}, Log: quiet})
	log := auditlog.New(auditlog.Config{Sink: alerts, Logger: quiet, Now: w.now})
	cfg := auth.Config{Store: w.Store, Audit: log, Grid: time.Millisecond, Now: w.now}
	for _, change := range changes {
		change(&cfg)
	}
	w.Engine, err = auth.New(cfg)
	must(t, err)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	rec, err := recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: key, Node: "n1", Now: w.now})
	must(t, err)
	t.Cleanup(func() { rec.Close() })
	site, err := web.NewSite(web.Config{Log: quiet, Now: w.now})
	must(t, err)
	door, err := signin.New(signin.Config{Store: w.Store, Engine: w.Engine, Audit: log, Site: site, Log: quiet, Now: w.now})
	must(t, err)
	p, err := portal.New(portal.Config{
		Store: w.Store, Engine: w.Engine, Audit: log, Site: site, SignIn: door, Log: quiet, Now: w.now,
		Sessions: session.NewManager(session.Config{Store: w.Store, Recorder: rec, Audit: log, Node: "n1", Log: quiet}),
	})
	must(t, err)
	mux, own := http.NewServeMux(), http.NewServeMux()
	p.Routes(mux)
	site.Routes(own)
	door.Routes(own)
	own.HandleFunc("GET /", door.Require(func(w http.ResponseWriter, _ *http.Request, u signin.User) { io.WriteString(w, "operators only") }))
	mux.Handle("/", door.Wrap(own))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	w.URL = server.URL
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bare adds a local user without a token.
func (w *world) bare(login string) store.User {
	w.t.Helper()
	hash, err := identity.HashPassword(context.Background(), password)
	must(w.t, err)
	u, err := w.Store.Users.Add(context.Background(), store.User{Login: login, Email: login + "@example.org", Source: store.Local}, hash)
	must(w.t, err)
	return u
}

// person adds a local user with a token.
func (w *world) person(login string) store.User {
	w.t.Helper()
	u := w.bare(login)
	w.secrets[login] = otp.NewSecret()
	w.token(u, "phone", w.secrets[login])
	return u
}

func (w *world) token(u store.User, name string, secret otp.Secret) store.Token {
	w.t.Helper()
	t, err := w.Store.Tokens.Add(context.Background(), store.Token{UserID: u.ID, Name: name, Enabled: true}, secret)
	must(w.t, err)
	return t
}

// code is a code of login that was not used yet: the clock goes on by one step.
func (w *world) code(login string) string {
	w.ahead.Add(int64(30 * time.Second))
	return w.codeOf(w.secrets[login])
}

func (w *world) codeOf(secret otp.Secret) string {
	p := otp.DefaultParams()
	return p.Code(secret, p.StepAt(w.now()))
}

func (w *world) events(kind string) []audit.Event {
	w.t.Helper()
	list, err := w.Store.Audit.List(context.Background(), store.AuditFilter{Type: kind})
	must(w.t, err)
	return list
}

// mails are the kinds of messages in the outbox to an address.
func (w *world) mails(to string) []string {
	w.t.Helper()
	list, err := w.Store.Outbox.List(context.Background(), "", 1000)
	must(w.t, err)
	var kinds []string
	for _, m := range list {
		if m.Recipient == to {
			kinds = append(kinds, m.Kind)
		}
	}
	return kinds
}

type browser struct {
	*http.Client
	w *world
}

func (w *world) browser() *browser {
	jar, err := cookiejar.New(nil)
	must(w.t, err)
	return &browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, w}
}

// answer is a response with its body.
type answer struct {
	*http.Response
	body string
}

func (b *browser) send(method, path string, pairs ...string) answer {
	b.w.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	r, err := http.NewRequest(method, b.w.URL+path, strings.NewReader(form.Encode()))
	must(b.w.t, err)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.w.URL)
	}
	resp, err := b.Do(r)
	must(b.w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(b.w.t, err)
	return answer{resp, string(body)}
}

func (b *browser) get(path string) answer {
	b.w.t.Helper()
	return b.send(http.MethodGet, path)
}
func (b *browser) post(path string, pairs ...string) answer {
	b.w.t.Helper()
	return b.send(http.MethodPost, path, pairs...)
}

// want asserts a status and texts of a page.
func (a answer) want(t *testing.T, what string, status int, texts ...string) answer {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s: status %d, want %d\n%s", what, a.StatusCode, status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(html.UnescapeString(a.body), text) {
			t.Errorf("%s: the page has no %q\n%s", what, text, a.body)
		}
	}
	return a
}

// signedIn is a browser in which login has signed in.
func (w *world) signedIn(login string) *browser {
	w.t.Helper()
	b := w.browser()
	a := b.post("/signin", "login", login, "password", password, "code", w.code(login), "next", "/")
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/me" {
		w.t.Fatalf("signing in as %s: %d to %q\n%s", login, a.StatusCode, a.Header.Get("Location"), a.body)
	}
	return b
}

var (
	findSecret  = regexp.MustCompile(`class="secret">([A-Z2-7 ]{30,})<`)
	findPending = regexp.MustCompile(`name="pending" value="([^"]+)"`)
	findCodes   = regexp.MustCompile(`<li><span class="secret">([^<]+)<`)
)

// scanned is the secret and the pending ticket of a page that shows them.
func (a answer) scanned(t *testing.T) (otp.Secret, string) {
	t.Helper()
	secret, pending := findSecret.FindStringSubmatch(a.body), findPending.FindStringSubmatch(a.body)
	if secret == nil || pending == nil {
		t.Fatalf("the page shows no secret\n%s", a.body)
	}
	s, err := otp.ParseSecret(strings.ReplaceAll(secret[1], " ", ""))
	must(t, err)
	return s, pending[1]
}

// link makes the ticket of a one-time link.
func (w *world) link(u store.User) string {
	w.t.Helper()
	ticket, _, err := w.Engine.NewEnrolLink(context.Background(), u)
	must(w.t, err)
	return ticket
}
