package admin

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	cdpnetwork "github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"sallyport/otp"
	"sallyport/signin"
	"sallyport/store"
)

// chromium is a real browser with one tab, which notes whatever the browser complains of.
type chromium struct {
	t   *testing.T
	ctx context.Context
	url string

	mu         sync.Mutex // guards the fields below
	complaints []string
	requests   []string // addresses that the browser asked for
}

func (w *pageWorld) needPlayer() {
	w.t.Helper()
	if !w.Server.web.player {
		w.t.Fatal("the player's scripts are not there; fetch them: make assets")
	}
}

// watchPolicy makes every document note violations of its policy, also those that no log shows.
const watchPolicy = `window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.violations.push(e.violatedDirective + " " + e.blockedURI + " " + e.sourceFile + ":" + e.lineNumber));`

func newChromium(t *testing.T, url string) *chromium {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("/usr/bin/chromium"), chromedp.WSURLReadTimeout(2*time.Minute), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-background-networking", true))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	c := &chromium{t: t, ctx: ctx, url: url}
	must(t, chromedp.Listen(ctx, c.note))
	c.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: watchPolicy})
		return err
	}))
	return c
}

func (c *chromium) note(event any) {
	text := ""
	switch e := event.(type) {
	case *log.EventEntryAdded:
		text = string(e.Entry.Level) + ": " + e.Entry.Text
	case *runtime.EventExceptionThrown:
		text = e.ExceptionDetails.Text
	case *cdpnetwork.EventRequestWillBeSent:
		c.mu.Lock()
		c.requests = append(c.requests, e.Request.URL)
		c.mu.Unlock()
	}
	if text != "" {
		c.mu.Lock()
		c.complaints = append(c.complaints, text)
		c.mu.Unlock()
	}
}

func (c *chromium) do(steps ...chromedp.Action[chromedp.Void]) {
	c.t.Helper()
	must(c.t, chromedp.Do(c.ctx, steps...))
}

// open goes to an address of the server and waits until the page has loaded.
func (c *chromium) open(path string) {
	c.t.Helper()
	c.do(chromedp.Navigate(c.url + path))
}

// follow does what leads to another page, and waits until that has loaded.
func (c *chromium) follow(step chromedp.Action[chromedp.Void]) {
	c.t.Helper()
	_, err := chromedp.RunResponse(c.ctx, step)
	must(c.t, err)
}

// signIn fills in the form as a person would.
func (c *chromium) signIn(login, password, code string) {
	c.t.Helper()
	c.open("/signin")
	c.do(
		chromedp.SendKeys("#login", login), chromedp.SendKeys("#password", password), chromedp.SendKeys("#code", code),
	)
	c.follow(chromedp.Click("form.card button"))
	c.do(chromedp.WaitVisible(".shell"))
}

// quiet asserts that the browser has found nothing to complain of since it was asked last.
func (c *chromium) quiet(where string) {
	c.t.Helper()
	for _, v := range ask[[]string](c, "window.violations") {
		c.t.Errorf("%s: the policy was violated: %s", where, v)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range c.complaints {
		c.t.Errorf("%s: the browser says %s", where, text)
	}
	c.complaints = nil
}

// fits asserts that no part of the page is wider than the window.
func (c *chromium) fits(where string) {
	c.t.Helper()
	c.do(chromedp.WaitReady("main")) // a long page may still come in
	if wide := ask[string](c, findWide); wide != "" {
		c.t.Errorf("%s: wider than the window: %s", where, wide)
	}
}

const findWide = `(() => {
  const root = document.documentElement;
  if (root.scrollWidth <= root.clientWidth) return "";
  const wide = [...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1 && !e.closest("pre, .diff, .sr, .player"));
  return root.scrollWidth + " > " + root.clientWidth + ": " + wide.slice(0, 3).map((e) => e.tagName + "." + e.className + " " + e.textContent.trim().slice(0, 40)).join("; ");
})()`

// shoot keeps a picture of the page if SALLYPORT_SHOTS names a folder.
func (c *chromium) shoot(name string) {
	c.t.Helper()
	folder := os.Getenv("SALLYPORT_SHOTS")
	if folder == "" {
		return
	}
	png, err := chromedp.Run(c.ctx, chromedp.FullScreenshot(100))
	must(c.t, err)
	must(c.t, os.WriteFile(filepath.Join(folder, name+".png"), png, 0o600))
}

func ask[T any](c *chromium, script string) T {
	c.t.Helper()
	answer, err := chromedp.Run(c.ctx, chromedp.Evaluate[T](script))
	must(c.t, err)
	return answer
}

// look is one way to look at the pages.
type look struct {
	name   string
	theme  string
	width  int64
	height int64
}

// TestPagesInChromium opens every page in a real browser, light and dark, wide and narrow.
func TestPagesInChromium(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.needPlayer()
	w.furnish()
	list, err := w.Store.Sessions.List(context.Background(), store.SessionFilter{})
	must(t, err)
	live, past := list[len(list)-1], list[0]
	alice, err := w.Store.Users.ByLogin(context.Background(), "alice")
	must(t, err)
	tokens, err := w.Store.Tokens.List(context.Background(), alice.ID)
	must(t, err)
	must(t, w.Store.SpareCodes.AddBypass(context.Background(), store.SpareCode{
		UserID: alice.ID, Reason: "telephone is being repaired", Issuer: "ada", Expires: time.Now().Add(time.Hour)}, "any"))
	typed := w.typedSession("systemctl restart nginx", "journalctl -u nginx --since '5 min ago' | grep -i error | tail -n 50", "exit")
	w.index()
	must(t, w.Store.Recordings.Hold(context.Background(), store.Hold{SessionID: live.ID, Reason: "case 4711, asked for by the police on Friday", Actor: "ada"}))
	keys, err := w.Store.APIKeys.List(context.Background())
	must(t, err)
	_, err = w.Server.rotateHostCA(context.Background(), Caller{Actor: "ada", Role: Role(store.RoleAdmin)})
	must(t, err)
	pages := []struct{ name, path string }{
		{"overview", "/"},
		{"sessions", "/sessions"},
		{"sessions-none", "/sessions?text=nothing+like+it"},
		{"session-live", "/sessions/" + live.ID},
		{"session", "/sessions/" + past.ID + "?t=0"},
		{"transcript", "/sessions/" + live.ID + "?view=transcript"},
		{"session-watch", "/sessions/" + live.ID + "/live"},
		{"files", "/sessions/" + live.ID + "/files"},
		{"session-end", "/sessions/" + live.ID + "/end"},
		{"search", "/search"},
		{"search-hits", "/search?text=load+average&user=alice"},
		{"search-no-hits", "/search?text=nothing+like+it"},
		{"search-refused", "/search?text=%7C%7C"},
		{"session-commands", "/sessions/" + typed.ID},
		{"hold", "/sessions/" + past.ID + "/hold"},
		{"release", "/sessions/" + live.ID + "/release"},
		{"users", "/users"},
		{"user-new", "/users/new"},
		{"import", "/import"},
		{"user", "/users/alice"},
		{"token", "/users/alice/tokens/" + tokens[0].ID},
		{"user-locked", "/users/bob"},
		{"user-delete", "/users/bob/delete"},
		{"targets", "/targets"},
		{"api-keys", "/api-keys"},
		{"api-key-revoke", "/api-keys/" + keys[0].ID + "/revoke"},
		{"radius", "/radius"},
		{"radius-new", "/radius/new"},
		{"radius-edit", "/radius/office-vpn/edit"},
		{"bastion-keys", "/bastion-keys"},
		{"target-new", "/targets/new"},
		{"target", "/targets/web1"},
		{"target-any", "/targets/vault"},
		{"rules", "/rules"},
		{"rules-draft", "/rules?from=1"},
		{"rules-history", "/rules/history"},
		{"rules-version", "/rules/history/2"},
		{"explain", "/explain"},
		{"explain-yes", "/explain?user=alice&target=web1&account=root&from=192.0.2.7&channel=shell"},
		{"explain-no", "/explain?user=alice&target=vault&from=203.0.113.7"},
		{"lockouts", "/lockouts"},
		{"approvals", "/approvals"},
		{"audit", "/audit"},
		{"audit-verify", "/audit/verify"},
		{"administrators", "/administrators"},
		{"nothing", "/nothing-here"},
	}
	c := newChromium(t, w.URL)
	c.open("/signin")
	c.quiet("sign-in")
	c.shoot("signin-light")
	c.signIn("ada", pagePassword, w.code("ada"))
	looks := []look{{"light", "light", 1280, 800}, {"phone-dark", "dark", 390, 844}}
	if os.Getenv("SALLYPORT_SHOTS") != "" {
		looks = append(looks, look{"dark", "dark", 1280, 800}, look{"phone-light", "light", 390, 844})
	}
	for _, l := range looks {
		c.do(chromedp.EmulateViewport(l.width, l.height))
		c.open("/")
		c.follow(chromedp.Click(`.theme button[value="` + l.theme + `"]`))
		if got := ask[string](c, "document.documentElement.dataset.theme"); got != l.theme {
			t.Errorf("after choosing %s the theme is %q", l.theme, got)
		}
		for _, p := range pages {
			where := p.name + " " + l.name
			c.open(p.path)
			if strings.HasPrefix(p.name, "session") && !strings.Contains(p.name, "s-none") && p.name != "sessions" && p.name != "session-end" {
				c.do(chromedp.WaitVisible(".ap-terminal, .ap-term, .ap-player"))
			}
			c.fits(where)
			c.shoot(p.name + "-" + l.name)
			if l.width > 1000 {
				c.do(chromedp.EmulateViewport(720, 800))
				c.fits(where + " in half a window")
				c.do(chromedp.EmulateViewport(l.width, l.height))
			}
			if p.name == "nothing" || p.name == "search-refused" { // their status is 404 and 422, which the browser's log mentions
				c.mu.Lock()
				c.complaints = nil
				c.mu.Unlock()
				continue
			}
			c.quiet(where)
			if strings.HasPrefix(p.name, "api-key") || strings.HasPrefix(p.name, "radius") || p.name == "sessions" {
				c.usable(where)
			}
		}
	}
}

// TestReplayInChromium plays a recording that tries what a hostile target can: the text is shown, and
// the browser asks nobody for anything.
func TestReplayInChromium(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ada", store.RoleAdmin)
	w.needPlayer()
	x := w.openSession("zed", "web1")
	w.record(x, 0, "shell", "", hostileOutput)
	c := newChromium(t, w.URL)
	c.signIn("ada", pagePassword, w.code("ada"))
	c.open("/sessions/" + x.ID + "?t=1&speed=8&idle=1")
	c.do(chromedp.WaitVisible(".ap-terminal, .ap-term"))
	text, err := chromedp.Run(c.ctx, chromedp.Poll[string](`(() => {
		const shown = document.querySelector(".ap-terminal, .ap-term").textContent;
		return shown.includes("the last line") ? shown : "";
	})()`, chromedp.WithPollingTimeout(time.Minute)))
	must(t, err)
	if !strings.Contains(text, "click here") {
		t.Errorf("the player shows %q", text)
	}
	if title := ask[string](c, "document.title"); title != "Session of zed · Sallyport" {
		t.Errorf("the recording has changed the title to %q", title)
	}
	if n := ask[int](c, `document.querySelectorAll(".player a[href], .player img, .player iframe, .player script").length`); n != 0 {
		t.Errorf("the recording has put %d elements into the page", n)
	}
	c.quiet("hostile recording")
	c.mu.Lock()
	if len(c.requests) < 5 {
		t.Errorf("only %d requests were seen", len(c.requests))
	}
	for _, address := range c.requests {
		if !strings.HasPrefix(address, w.URL) && !strings.HasPrefix(address, "data:") {
			t.Errorf("the browser asked for %s", address)
		}
	}
	c.mu.Unlock()

	// A change of speed keeps the moment, in the address.
	must(t, func() error {
		_, err := chromedp.RunResponse(c.ctx, chromedp.Evaluate[chromedp.Void](`(() => {
			const speed = document.getElementById("r-speed");
			speed.value = "2";
			speed.dispatchEvent(new Event("change", {bubbles: true}));
		})()`))
		return err
	}())
	if address := ask[string](c, "location.search"); !strings.Contains(address, "speed=2") || !strings.Contains(address, "idle=1") || !strings.Contains(address, "t=") {
		t.Errorf("after choosing a speed the address is %s", address)
	}
	c.quiet("another speed")
}

const hostileOutput = "\x1b]0;owned\x07\x1b]2;owned\x07\r\n" + // titles
	"\x1b]8;;javascript:alert(1)\x07click here\x1b]8;;\x07 \x1b]8;;https://evil.example/\x1b\\or here\x1b]8;;\x1b\\\r\n" + // links
	"\x1b]52;c;ZXZpbA==\x07\x1b]52;c;?\x07\x1b]50;?\x07\x1b[c\x1b[>c\x1b[6n\x1b[21t\x1bP$q\"p\x1b\\\x1bP+q544e\x1b\\" + // clipboard, questions
	"\x1b]1337;File=inline=1:aGVsbG8=\x07\x1b_Ga=T,f=100;AAAA\x1b\\\x1bPq#0;2;0;0;0~-\x1b\\" + // pictures
	"<script>alert(1)</script><img src=https://evil.example/x.png>\r\n" +
	"\x9b31m\xff\xfe\xc0\x80\u202e\x1b[99999;99999H\x1b[2J\x1b[H" + // C1, bytes that are no text, far away
	"click here\r\nhttps://evil.example/\r\nthe last line\r\n"

// TestLiveRowsInChromium: a session that opens appears on the page by itself.
func TestLiveRowsInChromium(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ada", store.RoleAdmin)
	c := newChromium(t, w.URL)
	c.signIn("ada", pagePassword, w.code("ada"))
	c.open("/sessions")
	c.do(chromedp.Evaluate[chromedp.Void]("void (window.sameDocument = true)"))
	w.openSession("zed", "web1")
	_, err := chromedp.Run(c.ctx, chromedp.Poll[bool](`document.getElementById("rows").textContent.includes("zed")`, chromedp.WithPollingTimeout(time.Minute)))
	must(t, err)
	if !ask[bool](c, "window.sameDocument === true") {
		t.Error("the page was loaded anew")
	}
	c.quiet("live rows")
	// When the session of the browser is over, the page says so instead of standing still.
	w.ahead.Add(int64(time.Hour))
	c.do(chromedp.WaitVisible("#password"))
}

// TestLinkFromAnotherSiteInChromium: the cookie is withheld then, and one is signed in all the same.
func TestLinkFromAnotherSiteInChromium(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ada", store.RoleAdmin)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		io.WriteString(rw, `<a id="link" href="`+w.URL+`/users?q=ada">look</a>
			<form id="form" method="post" action="`+w.URL+`/signout"><button id="out">win a prize</button></form>`)
	}))
	t.Cleanup(elsewhere.Close)
	c := newChromium(t, w.URL)
	c.signIn("ada", pagePassword, w.code("ada"))
	c.do(chromedp.Navigate(strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)), chromedp.Click("#link"), chromedp.WaitVisible(".shell"))
	if got := ask[string](c, "location.pathname + location.search"); got != "/users?q=ada" {
		t.Errorf("the link led to %s", got)
	}
	c.quiet("link from another site")
	c.do(chromedp.Navigate(strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)))
	c.follow(chromedp.Click("#out"))
	if got := ask[string](c, "document.body.textContent"); !strings.Contains(got, "another site") {
		t.Errorf("another site's form got %q", got)
	}
	c.open("/")
	c.do(chromedp.WaitVisible(".shell")) // still signed in
}

// TestFirstAdministratorInChromium walks through set-up, with pictures of what is shown only once.
func TestFirstAdministratorInChromium(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t, func(c *Config) { c.Demo = true })
	ticket, err := w.Store.Tickets.Create(context.Background(), signin.PurposeFirstAdmin, "", nil, time.Hour)
	must(t, err)
	c := newChromium(t, w.URL)
	c.do(chromedp.EmulateViewport(390, 844))
	c.open("/setup?ticket=" + ticket)
	c.do(chromedp.SendKeys("#password", "short"), chromedp.SendKeys("#again", "short"))
	c.fits("setup")
	c.shoot("setup-1")
	c.do(chromedp.SetValue("#password", pagePassword), chromedp.SetValue("#again", pagePassword))
	c.follow(chromedp.Click("form.card button"))
	c.do(chromedp.Click("summary"))
	c.fits("setup, second step")
	c.shoot("setup-2")
	secret, err := otp.ParseSecret(strings.ReplaceAll(ask[string](c, `document.querySelector(".secret").textContent`), " ", ""))
	must(t, err)
	w.secrets["admin"] = secret
	p := otp.DefaultParams()
	c.do(chromedp.SendKeys("#code", p.Code(secret, p.StepAt(w.now()))))
	c.follow(chromedp.Click("form.card button"))
	c.do(chromedp.WaitVisible(".shell"))
	c.fits("first page")
	c.shoot("setup-3")
	c.quiet("setup")
	c.do(chromedp.EmulateViewport(1280, 800))
	for _, p := range []struct{ name, path string }{{"empty-overview", "/"}, {"empty-sessions", "/sessions"}, {"empty-targets", "/targets"}, {"empty-rules", "/rules"}, {"empty-lockouts", "/lockouts"}, {"empty-history", "/rules/history"}} {
		c.open(p.path)
		c.shoot(p.name)
		c.quiet(p.name)
	}
}

// TestWithoutScriptsInChromium signs in, filters and fills in a form in a browser that runs no scripts.
func TestWithoutScriptsInChromium(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	c := newChromium(t, w.URL)
	c.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
	c.signIn("ada", pagePassword, w.code("ada"))
	c.open("/sessions")
	c.do(chromedp.SendKeys("#f-text", "systemctl"))
	c.follow(chromedp.Click(".filter .primary"))
	if n := ask[int](c, `document.querySelectorAll("#rows tbody tr").length`); n != 4 {
		t.Errorf("the filter finds %d sessions, want 4", n)
	}
	c.follow(chromedp.Click("#rows tbody a.main"))
	if text := ask[string](c, `document.querySelector(".player").textContent`); !strings.Contains(text, "The player needs scripts") {
		t.Errorf("in the place of the player: %q", text)
	}
	c.follow(chromedp.Click(".tabs a:nth-child(2)"))
	if text := ask[string](c, `document.querySelector(".transcript").textContent`); !strings.Contains(text, "load average") {
		t.Errorf("the transcript: %q", text)
	}
	c.open("/rules")
	c.do(chromedp.SetValue("#text", "version: 1\nrules:\n  - name: ops\n    userz: [a]\n"))
	c.follow(chromedp.Click(`button[value="apply"]`))
	c.shoot("rules-wrong")
	if text := ask[string](c, `document.querySelector("main").textContent`); !strings.Contains(text, "line 4, column 5") {
		t.Errorf("wrong rules: %q", text)
	}
	c.open("/users/alice")
	c.do(chromedp.SendKeys("#token-name", "tablet"))
	c.follow(chromedp.Click(`form[action$="/tokens"] button`))
	c.do(chromedp.WaitVisible("svg.qr"))
	c.shoot("token")
	c.open("/targets/down")
	c.follow(chromedp.Click(`form[action$="/check"] button`))
	c.do(chromedp.WaitVisible("#checked"))
	c.shoot("target-checked")
}
