package bastion_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/internal/testenv"
	"sallyport/store"
	"sallyport/upstream"
)

// operators opens the operators' door of s, with carol, an auditor, and ada, an administrator.
func (s *system) operators() *httptest.Server {
	s.t.Helper()
	quiet := slog.New(slog.NewJSONHandler(io.Discard, nil))
	log := auditlog.New(auditlog.Config{Sink: s.Store.Audit, Logger: quiet, Node: "test"})
	door, err := admin.New(admin.Config{Store: s.Store, Engine: s.Engine, Sessions: s.Sessions, Recorder: s.Recorder, Audit: log, Log: quiet,
		Dialer: upstream.New(upstream.Config{Store: s.Store, Audit: log, Signer: s.key, Log: quiet}), Node: "test", SSHAddress: s.Addr})
	check(s.t, err)
	web := httptest.NewServer(door.Handler())
	s.t.Cleanup(web.Close)
	for login, role := range map[string]string{"carol": store.RoleAuditor, "ada": store.RoleAdmin, "bob": ""} {
		u := s.addUser(login, alicePassword)
		if role != "" {
			check(s.t, s.Store.Admins.Set(context.Background(), u.ID, role))
		}
	}
	return web
}

// signedIn is a client that holds the cookie of a web session.
func (s *system) signedIn(web *httptest.Server, login string) *http.Client {
	s.t.Helper()
	return s.signedInWith(web, url.Values{"login": {login}, "password": {alicePassword}, "code": {s.code(login)}})
}

func (s *system) signedInWith(web *httptest.Server, form url.Values) *http.Client {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	check(s.t, err)
	c := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.PostForm(web.URL+"/signin", form)
	check(s.t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		s.t.Fatalf("signing in as %s: status %d", form.Get("login"), resp.StatusCode)
	}
	return c
}

// A session is watched in a browser: its text and its size, the others who watch, without a complaint of the browser;
// it is ended from there, with a message that the person reads.
func TestWatchInBrowser(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: trustHere})
	web := s.operators()
	term := testenv.StartTerminal(t, s.withKey().Interactive(), 100, 28)
	// What is there when somebody comes late is a full-screen program.
	term.Type("vim -u NONE -n -c 'call setline(1, [\"alpha-\" . (40+2), \"<b>beta</b>\"])' /tmp/nothing-$$\n")
	term.Expect("alpha-42")
	id := s.liveID()
	s.watch(t, id, "dave")

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("/usr/bin/chromium"), chromedp.WSURLReadTimeout(2*time.Minute), chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true))...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	look := func(script string) string {
		t.Helper()
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string](script))
		check(t, err)
		return text
	}
	check(t, chromedp.Do(ctx, chromedp.Navigate(web.URL+"/signin"), chromedp.SendKeys("#login", "ada"),
		chromedp.SendKeys("#password", alicePassword), chromedp.SendKeys("#code", s.code("ada"))))
	_, err := chromedp.RunResponse(ctx, chromedp.Click("form.card button"))
	check(t, err)
	check(t, chromedp.Do(ctx, chromedp.Navigate(web.URL+"/sessions/"+id)))
	_, err = chromedp.RunResponse(ctx, chromedp.Click(`a[href$="/live"]`))
	check(t, err)
	look(`window.violations = []; document.addEventListener("securitypolicyviolation", (e) => window.violations.push(e.violatedDirective + " " + e.blockedURI)); ""`)
	shown := func(text string) {
		t.Helper()
		testenv.WaitFor(t, text+" in the browser", func() bool {
			return strings.Contains(look(`(document.querySelector(".ap-term")?.innerText ?? "").replace(/\u00a0/g, " ")`), text)
		})
	}
	shown("alpha-42")
	shown("<b>beta</b>")
	term.Expect("observed by ada.")
	// The person types; both see it.
	term.Type("ogamma\x1b")
	shown("gamma")
	if got := look(`document.getElementById("live-state").textContent`); got != "You see what the person sees." {
		t.Errorf("the page says %q", got)
	}
	testenv.WaitFor(t, "the others", func() bool {
		who := look(`document.getElementById("who-rows").innerText`)
		return strings.Contains(who, "dave") && strings.Contains(who, "ada")
	})
	if folder := os.Getenv("SALLYPORT_SHOTS"); folder != "" {
		png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(folder, "watching.png"), png, 0o600))
	}
	if got := look(`window.violations.join("; ")`); got != "" {
		t.Errorf("the policy was violated: %s", got)
	}
	check(t, chromedp.Do(ctx, chromedp.SendKeys("#message", "please call me")))
	_, err = chromedp.RunResponse(ctx, chromedp.Click("form.card button.danger"))
	check(t, err)
	term.Expect("session ended: ended by ada: please call me.")
	if got := look(`location.pathname`); got != "/sessions/"+id {
		t.Errorf("the page is %q", got)
	}
	testenv.WaitFor(t, "the events", func() bool { return len(s.events(audit.SessionWatched)) == 4 })
}

// Who may read recordings may watch, nobody else, and from no other site; a web session that ends takes the view with it.
func TestWatchRights(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: trustHere})
	web := s.operators()
	term := testenv.StartTerminal(t, s.withKey().Interactive(), 80, 24)
	term.Type("echo first-$((40+2))\n")
	term.Expect("first-42")
	id := s.liveID()
	socket := web.URL + "/api/v1/sessions/" + id + "/live/socket"
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dial := func(c *http.Client, origin string) (*websocket.Conn, int) {
		conn, resp, err := websocket.Dial(ctx, socket, &websocket.DialOptions{HTTPClient: c, Subprotocols: []string{"v3.asciicast"},
			HTTPHeader: http.Header{"Origin": {origin}}})
		if err == nil {
			t.Cleanup(func() { conn.CloseNow() })
		} else if resp == nil {
			t.Fatal(err)
		}
		return conn, resp.StatusCode
	}
	carol := s.signedIn(web, "carol")
	for name, c := range map[string]struct {
		client *http.Client
		origin string
		want   int
	}{
		"nobody":                {&http.Client{}, web.URL, http.StatusUnauthorized},
		"somebody without role": {s.signedIn(web, "bob"), web.URL, http.StatusUnauthorized},
		"another site's page":   {carol, "https://evil.example", http.StatusForbidden},
		"a page without origin": {carol, "null", http.StatusForbidden},
	} {
		if _, status := dial(c.client, c.origin); status != c.want {
			t.Errorf("%s: status %d, want %d", name, status, c.want)
		}
	}
	for _, path := range []string{"/api/v1/sessions/" + id + "/live", "/api/v1/sessions/" + id + "/watchers"} {
		resp, err := http.Get(web.URL + path)
		check(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
	if got := s.events(audit.SessionWatched); len(got) != 0 {
		t.Errorf("somebody who may not was let in: %q", got)
	}
	if strings.Contains(term.Screen(), "observed") {
		t.Errorf("the person was told of who may not: %q", term.Screen())
	}

	conn, status := dial(carol, web.URL)
	if status != http.StatusSwitchingProtocols || conn.Subprotocol() != "v3.asciicast" {
		t.Fatalf("status %d, protocol %q", status, conn.Subprotocol())
	}
	term.Expect("observed by carol.")
	var text strings.Builder
	read := func() ([]byte, error) { _, line, err := conn.Read(ctx); return line, err }
	line, err := read()
	check(t, err)
	if string(line[:len(`{"version":3,"term":{"cols":80,"rows":24}`)]) != `{"version":3,"term":{"cols":80,"rows":24}` {
		t.Errorf("the first message is %s", line)
	}
	for !strings.Contains(text.String(), "first-42") {
		line, err := read()
		check(t, err)
		text.Write(line)
	}
	// Nothing may come in: it ends the view, and reaches nothing.
	second, _ := dial(carol, web.URL)
	_, _, err = second.Read(ctx)
	check(t, err)
	check(t, second.Write(ctx, websocket.MessageText, []byte("exit\n")))
	for err == nil {
		_, _, err = second.Read(ctx)
	}
	resp, err := carol.Post(web.URL+"/signout", "application/x-www-form-urlencoded", nil)
	check(t, err)
	resp.Body.Close()
	for err == nil {
		if line, err = read(); err == nil {
			text.Write(line)
		}
	}
	if websocket.CloseStatus(err) != websocket.StatusNormalClosure || !strings.Contains(text.String(), "you are signed out, or may not watch any more") {
		t.Errorf("the view ended by %v: %s", err, text.String())
	}
	term.Expect("no longer observed.")
	term.Type("echo still-$((40+2))\n")
	term.Expect("still-42")

	// By API token, as a stream; it ends with the session, and says why.
	_, token, err := s.Store.APITokens.Add(ctx, "eyes", store.RoleAuditor, time.Time{})
	check(t, err)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL+"/api/v1/sessions/"+id+"/live", nil)
	check(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err = http.DefaultClient.Do(req)
	check(t, err)
	defer resp.Body.Close()
	term.Expect("observed by api-token eyes.")
	req, err = http.NewRequestWithContext(ctx, http.MethodGet, web.URL+"/api/v1/sessions/"+id+"/watchers", nil)
	check(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	var watching []admin.Watching
	answer, err := http.DefaultClient.Do(req)
	check(t, err)
	check(t, json.NewDecoder(answer.Body).Decode(&watching))
	answer.Body.Close()
	if len(watching) != 1 || watching[0].Watcher != "api-token eyes" || watching[0].Node != "test" || watching[0].Since == nil {
		t.Errorf("watchers: %+v", watching)
	}
	check(t, s.Sessions.End(ctx, id, "ada", ""))
	all, err := io.ReadAll(resp.Body)
	check(t, err)
	lines := strings.Split(strings.TrimSpace(string(all)), "\n")
	if last := lines[len(lines)-1]; !strings.HasSuffix(last, `,"m","the session has ended: ended by ada"]`) || !strings.Contains(string(all), "still-42") {
		t.Errorf("the last line is %s", last)
	}
	if got := s.events(audit.SessionWatched); len(got) != 6 {
		t.Errorf("events: %q", got)
	}
	if fmt.Sprint(s.events(audit.OperatorView)) != "[]" {
		t.Error("watching is not a view of a recording")
	}
}

// Somebody who was a moderator when they began to watch stayed one for as long as they watched, whatever became of
// their groups.
func TestModeratorLosesGroup(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: strings.Replace(trustHere, "code: none", "code: none, moderator: {by: [group:eyes], leaving: pause}", 1)})
	web := s.operators()
	carol := mustUser(s, "carol")
	check(t, s.Store.Users.SetGroups(context.Background(), carol.ID, []string{"eyes"}))
	client := s.signedIn(web, "carol")
	term := testenv.StartTerminal(t, s.withKey().Interactive(), 80, 24)
	term.Expect("waiting for a moderator")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, web.URL+"/api/v1/sessions/"+s.liveID()+"/live/socket", &websocket.DialOptions{HTTPClient: client,
		Subprotocols: []string{"v3.asciicast"}, HTTPHeader: http.Header{"Origin": {web.URL}}})
	check(t, err)
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	term.Expect("a moderator watches; the session begins.")
	check(t, s.Store.Users.SetGroups(context.Background(), carol.ID, []string{"others"}))
	var text strings.Builder
	for err == nil {
		var line []byte
		_, line, err = conn.Read(ctx)
		text.Write(line)
	}
	if !strings.Contains(text.String(), "your groups have changed; watch again") {
		t.Errorf("the view ended by %v: %s", err, text.String())
	}
	term.Expect("the moderator has left")
}

// The person was kept from moderating themselves by their login alone: with another one in the directory (a marriage)
// they were somebody else. And the groups of a moderator were those of their last sign-in: who had left the group in
// the directory since then could still begin to moderate, and went on for as long as they watched.
func TestModeratorInDirectory(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	d := testenv.Slapd(t)
	directory := ldapOf(t, d)
	s := newSystem(t, options{directory: directory, rules: "version: 1\nrules:\n  - {name: seen, users: [\"*\"], targets: [web1], moderator: {by: [group:eyes], leaving: pause}}\n"})
	web := s.operators()
	for _, login := range []string{"maiden", "dora"} {
		d.AddUser(login, alicePassword, "ssh-users")
		_, err := s.Store.Users.SeenInDirectory(ctx, entryUUID(t, directory, login), login, "", "", nil)
		check(t, err)
		check(t, s.Store.Admins.Set(ctx, mustUser(s, login).ID, store.RoleAuditor))
	}
	d.AddGroup("eyes", d.UserDN("maiden"), d.UserDN("dora"))
	term := testenv.StartTerminal(t, (&testenv.OpenSSH{Addr: s.Addr, Login: "maiden@web1"}).Interactive(), 80, 24)
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("maiden") + "\n")
	term.Expect("waiting for a moderator")
	id := s.liveID()
	row := mustUser(s, "maiden")

	d.Rename("maiden", "married")
	testenv.WaitFor(t, "the directory to have another name", func() bool { _, err := directory.Lookup(ctx, "married"); return err == nil })
	form := url.Values{"login": {"married"}, "password": {alicePassword}, "code": {s.code("maiden")}}
	client := s.signedInWith(web, form)
	if now := mustUser(s, "married"); now.ID != row.ID {
		t.Fatalf("another row: %+v", now)
	}
	open := func(client *http.Client) (*websocket.Conn, *strings.Builder) {
		t.Helper()
		conn, _, err := websocket.Dial(ctx, web.URL+"/api/v1/sessions/"+id+"/live/socket", &websocket.DialOptions{HTTPClient: client,
			Subprotocols: []string{"v3.asciicast"}, HTTPHeader: http.Header{"Origin": {web.URL}}})
		check(t, err)
		t.Cleanup(func() { conn.CloseNow() })
		conn.SetReadLimit(1 << 20)
		return conn, &strings.Builder{}
	}
	watching := func(n int) {
		t.Helper()
		testenv.WaitFor(t, "somebody to watch", func() bool {
			list, err := s.Store.Watching.Watches(ctx, id)
			return err == nil && len(list) == n
		})
		if got := s.events(audit.Moderation); len(got) != 0 {
			t.Fatalf("the session goes on: %q", got)
		}
	}
	own, _ := open(client)
	watching(1)
	own.CloseNow()
	watching(0)

	// What the directory said when they signed in does not count.
	client = s.signedIn(web, "dora")
	d.Leave("eyes", d.UserDN("dora"))
	left, _ := open(client)
	watching(1)
	left.CloseNow()
	watching(0)
	d.Stop()
	doubtful, text := open(client)
	for !strings.Contains(text.String(), "whether you may moderate cannot be told just now") {
		_, line, err := doubtful.Read(ctx)
		check(t, err)
		text.Write(line)
	}
	watching(1)
	doubtful.CloseNow()
	d.Start()
	testenv.WaitFor(t, "the directory to be back", func() bool { _, err := directory.Lookup(ctx, "dora"); return err == nil })

	d.Join("eyes", d.UserDN("dora"))
	conn, text := open(client)
	term.Expect("a moderator watches; the session begins.")
	d.Leave("eyes", d.UserDN("dora"))
	for {
		_, line, err := conn.Read(ctx)
		if err != nil {
			break
		}
		text.Write(line)
	}
	if !strings.Contains(text.String(), "your groups have changed; watch again") {
		t.Errorf("the view ended by %s", text.String())
	}
	term.Expect("the moderator has left")
}
