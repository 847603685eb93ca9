package signin_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/auditlog"
	"sallyport/internal/seal"
	"sallyport/internal/web"
	"sallyport/otp"
	"sallyport/signin"
	"sallyport/store"
)

const password = "correct horse battery"

// world is a site of one page behind the sign-in, on a database in memory, with a clock that the
// test moves.
type world struct {
	t      *testing.T
	Store  *store.Store
	URL    string
	ahead  atomic.Int64 // nanoseconds that the clock is ahead
	secret map[string]otp.Secret
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func newWorld(t *testing.T, changes ...func(*signin.Config)) *world {
	t.Helper()
	w := &world{t: t, secret: map[string]otp.Secret{}}
	ring, err := seal.NewRing()
	check(t, err)
	w.Store, err = store.Open(context.Background(), store.Config{DSN: "sqlite::memory:", Ring: ring, Now: w.now})
	check(t, err)
	t.Cleanup(func() { w.Store.Close() })
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	log := auditlog.New(auditlog.Config{Sink: w.Store.Audit, Logger: quiet, Now: w.now})
	engine, err := auth.New(auth.Config{Store: w.Store, Audit: log, Grid: time.Millisecond, EnrolAtLogin: true, Now: w.now})
	check(t, err)
	site, err := web.NewSite(web.Config{Log: quiet, Now: w.now})
	check(t, err)
	cfg := signin.Config{Store: w.Store, Engine: engine, Audit: log, Site: site, Log: quiet, Now: w.now}
	for _, c := range changes {
		c(&cfg)
	}
	service, err := signin.New(cfg)
	check(t, err)
	mux := http.NewServeMux()
	site.Routes(mux)
	service.Routes(mux)
	page := service.Require(func(w http.ResponseWriter, _ *http.Request, u signin.User) {
		io.WriteString(w, "hello "+u.Login+", "+u.Role)
	})
	mux.Handle("GET /{$}", page)
	mux.Handle("GET /users", page)
	mux.Handle("POST /users", page)
	server := httptest.NewServer(service.Wrap(mux))
	t.Cleanup(server.Close)
	w.URL = server.URL
	return w
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) person(login, role string) store.User {
	w.t.Helper()
	ctx := context.Background()
	hash, err := identity.HashPassword(ctx, password)
	check(w.t, err)
	u, err := w.Store.Users.Add(ctx, store.User{Login: login, Source: store.Local}, hash)
	check(w.t, err)
	w.secret[login] = otp.NewSecret()
	_, err = w.Store.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "phone", Kind: "totp", Algorithm: "SHA1", Digits: 6, Period: 30, Enabled: true}, w.secret[login])
	check(w.t, err)
	if role != "" {
		check(w.t, w.Store.Admins.Set(ctx, u.ID, role))
	}
	return u
}

// code is a code of login that was not used yet: the clock goes on by one step.
func (w *world) code(login string) string {
	w.ahead.Add(int64(30 * time.Second))
	p := otp.DefaultParams()
	return p.Code(w.secret[login], p.StepAt(w.now()))
}

type browser struct {
	*http.Client
	w *world
}

func (w *world) browser() *browser {
	jar, err := cookiejar.New(nil)
	check(w.t, err)
	return &browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, w}
}

// answer is a response with its body.
type answer struct {
	*http.Response
	body string
}

func (b *browser) do(method, path string, form url.Values, headers ...string) answer {
	b.w.t.Helper()
	r, err := http.NewRequest(method, b.w.URL+path, strings.NewReader(form.Encode()))
	check(b.w.t, err)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := b.Do(r)
	check(b.w.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(b.w.t, err)
	return answer{resp, string(body)}
}

func (b *browser) get(path string, headers ...string) answer {
	b.w.t.Helper()
	return b.do(http.MethodGet, path, nil, headers...)
}

func (b *browser) signIn(login, password, code, next string) answer {
	b.w.t.Helper()
	return b.do(http.MethodPost, "/signin", url.Values{"login": {login}, "password": {password}, "code": {code}, "next": {next}})
}

func (b *browser) cookie() string {
	u, _ := url.Parse(b.w.URL)
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == "sallyport" {
			return c.Value
		}
	}
	return ""
}

func TestSignInAndOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("ada", store.RoleAdmin)
	b := w.browser()
	got := b.get("/users?q=x")
	if got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != "/signin?next=%2Fusers%3Fq%3Dx" {
		t.Fatalf("without a session: %d to %q", got.StatusCode, got.Header.Get("Location"))
	}
	if form := b.get(got.Header.Get("Location")); form.StatusCode != http.StatusOK || !strings.Contains(form.body, `name="next" value="/users?q=x"`) {
		t.Fatalf("the form: %d\n%s", form.StatusCode, form.body)
	}
	got = b.signIn("Ada", password, w.code("ada"), "/users?q=x")
	if got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != "/users?q=x" {
		t.Fatalf("signing in: %d to %q\n%s", got.StatusCode, got.Header.Get("Location"), got.body)
	}
	cookie := got.Header.Get("Set-Cookie")
	for _, want := range []string{"sallyport=", "Path=/", "HttpOnly", "SameSite=Strict"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie %q has no %q", cookie, want)
		}
	}
	if strings.Contains(cookie, "Secure") || strings.Contains(cookie, "Max-Age") || strings.Contains(cookie, "Domain") {
		t.Errorf("the cookie is %q", cookie)
	}
	if page := b.get("/"); page.body != "hello ada, admin" {
		t.Errorf("the page: %d %q", page.StatusCode, page.body)
	}
	if again := b.get("/signin?next=/users"); again.Header.Get("Location") != "/users" {
		t.Errorf("the form for somebody signed in: %d to %q", again.StatusCode, again.Header.Get("Location"))
	}
	stolen := b.cookie()
	if out := b.do(http.MethodPost, "/signout", nil); out.StatusCode != http.StatusSeeOther {
		t.Errorf("signing out: %d", out.StatusCode)
	}
	if page := w.browser().get("/", "Cookie", "sallyport="+stolen); page.StatusCode != http.StatusSeeOther {
		t.Errorf("with the old cookie after signing out: %d %q", page.StatusCode, page.body)
	}
	if form := b.get("/signin?out=1"); !strings.Contains(form.body, "You are signed out") {
		t.Errorf("after signing out:\n%s", form.body)
	}
}

func TestSecureCookie(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *signin.Config) { c.Secure = true })
	w.person("ada", store.RoleAdmin)
	got := w.browser().signIn("ada", password, w.code("ada"), "")
	cookie := got.Header.Get("Set-Cookie")
	if !strings.HasPrefix(cookie, "__Host-sallyport=") || !strings.Contains(cookie, "; Secure") {
		t.Errorf("under TLS the cookie is %q", cookie)
	}
	if got.Header.Get("Strict-Transport-Security") == "" {
		t.Error("under TLS there is no Strict-Transport-Security")
	}
}

// TestRefusalsLookTheSame: nobody learns from the page what was wrong.
func TestRefusalsLookTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("ada", store.RoleAdmin)
	good := w.code("ada")
	cases := map[string]func() answer{
		"wrong password": func() answer { return w.browser().signIn("ada", "wrong horse", w.code("ada"), "/") },
		"wrong code":     func() answer { return w.browser().signIn("ada", password, "000000", "/") },
		"no code":        func() answer { return w.browser().signIn("ada", password, "", "/") },
		"unknown user":   func() answer { return w.browser().signIn("eve", password, good, "/") },
		"used code": func() answer {
			code := w.code("ada")
			if ok := w.browser().signIn("ada", password, code, "/"); ok.StatusCode != http.StatusSeeOther {
				t.Errorf("the first use of a code: %d", ok.StatusCode)
			}
			return w.browser().signIn("ada", password, code, "/")
		},
	}
	first := ""
	for name, try := range cases {
		got := try()
		if got.StatusCode != http.StatusForbidden || len(got.Cookies()) > 0 {
			t.Errorf("%s: status %d, cookies %v", name, got.StatusCode, got.Cookies())
		}
		page := strings.NewReplacer(`value="ada"`, "", `value="eve"`, "").Replace(got.body)
		if first == "" {
			first = page
		}
		if page != first {
			t.Errorf("%s: the page differs:\n%s", name, got.body)
		}
		if strings.Contains(got.body, "horse") || strings.Contains(got.body, "000000") {
			t.Errorf("%s: password or code come back in the page", name)
		}
	}
}

// TestLockHolds: after five failures even the right answers are refused, in the same words.
func TestLockHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("ada", store.RoleAdmin)
	for i := range 5 {
		w.browser().signIn("ada", password, fmt.Sprintf("%06d", i), "/")
	}
	if got := w.browser().signIn("ada", password, w.code("ada"), "/"); got.StatusCode != http.StatusForbidden || !strings.Contains(got.body, "That did not work.") {
		t.Errorf("while the lock holds: %d\n%s", got.StatusCode, got.body)
	}
}

func TestOnlyThoseWithARole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("alice", "")
	b := w.browser()
	got := b.signIn("alice", password, w.code("alice"), "/users")
	if got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != signin.OwnPages {
		t.Errorf("without a role: %d to %q\n%s", got.StatusCode, got.Header.Get("Location"), got.body)
	}
	if got = b.get("/"); got.Header.Get("Location") != signin.OwnPages {
		t.Errorf("the first page: %d to %q", got.StatusCode, got.Header.Get("Location"))
	}
	for _, try := range []answer{b.get("/users"), b.do(http.MethodPost, "/users", nil)} {
		if try.StatusCode != http.StatusForbidden || strings.Contains(try.body, "hello") {
			t.Errorf("an operators' page: %d\n%s", try.StatusCode, try.body)
		}
	}
	events, err := w.Store.Audit.List(context.Background(), store.AuditFilter{Type: audit.AccessDecided})
	check(t, err)
	if len(events) != 2 || events[0].Result != audit.Refused || events[0].User != "alice" {
		t.Errorf("events: %+v", events)
	}
}

// TestNoEnrolmentByForm: somebody without a token is told where to get one, and gets no session.
func TestNoEnrolmentByForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := context.Background()
	hash, err := identity.HashPassword(ctx, password)
	check(t, err)
	u, err := w.Store.Users.Add(ctx, store.User{Login: "bob", Source: store.Local}, hash)
	check(t, err)
	check(t, w.Store.Admins.Set(ctx, u.ID, store.RoleAdmin))
	b := w.browser()
	if got := b.signIn("bob", password, "000000", "/"); got.StatusCode != http.StatusForbidden || !strings.Contains(got.body, "no token yet") || b.cookie() != "" {
		t.Errorf("without a token: %d\n%s", got.StatusCode, got.body)
	}
	if got := b.signIn("bob", "wrong horse", "000000", "/"); strings.Contains(got.body, "no token yet") {
		t.Errorf("with a wrong password the page tells of the token:\n%s", got.body)
	}
}

// TestSessionIDIsNew: an id that somebody planted, or that was in use before, is not the one that
// signing in gives rights to.
func TestSessionIDIsNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("ada", store.RoleAdmin)
	w.person("eve", store.RoleAuditor)
	b := w.browser()
	planted := strings.Repeat("A", 43)
	got := b.do(http.MethodPost, "/signin", url.Values{"login": {"ada"}, "password": {password}, "code": {w.code("ada")}}, "Cookie", "sallyport="+planted)
	if got.StatusCode != http.StatusSeeOther || b.cookie() == planted {
		t.Errorf("with a planted id: %d, id %q", got.StatusCode, b.cookie())
	}
	if page := w.browser().get("/", "Cookie", "sallyport="+planted); page.StatusCode != http.StatusSeeOther {
		t.Errorf("the planted id opens the page: %q", page.body)
	}
	first := b.cookie()
	if got := b.signIn("eve", password, w.code("eve"), "/"); got.StatusCode != http.StatusSeeOther || b.cookie() == first {
		t.Errorf("signing in as somebody else: %d, same id %t", got.StatusCode, b.cookie() == first)
	}
	if page := b.get("/"); page.body != "hello eve, auditor" {
		t.Errorf("afterwards: %q", page.body)
	}
	if page := w.browser().get("/", "Cookie", "sallyport="+first); page.StatusCode != http.StatusSeeOther {
		t.Errorf("the id before opens the page: %q", page.body)
	}
}

func TestSessionEndsByTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("ada", store.RoleAdmin)
	idle := w.browser()
	idle.signIn("ada", password, w.code("ada"), "/")
	w.ahead.Add(int64(29 * time.Minute))
	if page := idle.get("/"); page.StatusCode != http.StatusOK {
		t.Errorf("after 29 min: %d", page.StatusCode)
	}
	w.ahead.Add(int64(31 * time.Minute))
	if page := idle.get("/"); page.StatusCode != http.StatusSeeOther {
		t.Errorf("31 min after the last page: %d", page.StatusCode)
	}
	w.ahead.Add(int64(-60 * time.Minute))
	if page := idle.get("/"); page.StatusCode != http.StatusSeeOther {
		t.Errorf("a session that ended is back when the clock is: %d", page.StatusCode)
	}

	w = newWorld(t)
	w.person("ada", store.RoleAdmin)
	busy := w.browser()
	busy.signIn("ada", password, w.code("ada"), "/")
	for range 12*60/20 - 1 {
		w.ahead.Add(int64(20 * time.Minute))
		if page := busy.get("/"); page.StatusCode != http.StatusOK {
			t.Fatalf("somebody who works was signed out: %d", page.StatusCode)
		}
	}
	w.ahead.Add(int64(25 * time.Minute))
	if page := busy.get("/"); page.StatusCode != http.StatusSeeOther {
		t.Errorf("after more than 12 h: %d", page.StatusCode)
	}
}

func TestNextStaysHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("ada", store.RoleAdmin)
	for _, next := range []string{"https://evil.example/", "//evil.example/", `/\evil.example`, "javascript:alert(1)", "/\tx", "/ok\r\nSet-Cookie: a=b", ""} {
		got := w.browser().signIn("ada", password, w.code("ada"), next)
		if got.StatusCode != http.StatusSeeOther || got.Header.Get("Location") != "/" {
			t.Errorf("next %q: %d to %q, want 303 to /", next, got.StatusCode, got.Header.Get("Location"))
		}
	}
}

// TestLinkFromElsewhere: the cookie is withheld when another site's link is followed, and the page
// asks once more from here.
func TestLinkFromElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.browser().get("/users?q=%22%3E", "Sec-Fetch-Site", "cross-site")
	if got.StatusCode != http.StatusOK || !strings.Contains(got.body, `http-equiv="refresh" content="0"`) || strings.Contains(got.body, `q=">`) {
		t.Errorf("from elsewhere: %d\n%s", got.StatusCode, got.body)
	}
	if got = w.browser().get("/users", "Sec-Fetch-Site", "same-origin"); got.StatusCode != http.StatusSeeOther {
		t.Errorf("from here: %d", got.StatusCode)
	}
}

func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("ada", store.RoleAdmin)
	b := w.browser()
	code := w.code("ada")
	b.signIn("ada", password, code, "/")
	check(t, w.Store.Close())
	if got := b.get("/"); got.StatusCode != http.StatusServiceUnavailable || !strings.Contains(got.body, "cannot reach its database") {
		t.Errorf("a page: %d\n%s", got.StatusCode, got.body)
	}
	if got := w.browser().signIn("ada", password, code, "/"); got.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("signing in: %d\n%s", got.StatusCode, got.body)
	}
	if got := b.get("/static/app.css"); got.StatusCode != http.StatusOK {
		t.Errorf("the style: %d", got.StatusCode)
	}
}

// TestParallelUseOfOneCode: of twenty browsers that send the same right answers, one is let in.
func TestParallelUseOfOneCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("ada", store.RoleAdmin)
	code := w.code("ada")
	var in atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Add(1)
		b := w.browser()
		go func() {
			defer wg.Done()
			r, err := b.PostForm(w.URL+"/signin", url.Values{"login": {"ada"}, "password": {password}, "code": {code}})
			if err != nil {
				t.Error(err)
				return
			}
			r.Body.Close()
			if r.StatusCode == http.StatusSeeOther {
				in.Add(1)
			}
		}()
	}
	wg.Wait()
	if got := in.Load(); got != 1 {
		t.Errorf("%d browsers were let in by one code, want 1", got)
	}
}
