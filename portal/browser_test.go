package portal_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"sallyport/auth"
	"sallyport/otp"
	"sallyport/store"
)

// chromium is a real browser with one tab, which notes whatever the browser complains of.
type chromium struct {
	t   *testing.T
	ctx context.Context
	url string
	axe string // the script that looks for what keeps people from using a page

	mu         sync.Mutex // guards complaints
	complaints []string
}

const watchPolicy = `window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.violations.push(e.violatedDirective + " " + e.blockedURI));`

func newChromium(t *testing.T, url string) *chromium {
	t.Helper()
	axe, err := os.ReadFile("testdata/axe.min.js")
	if err != nil {
		t.Fatalf("%v; fetch it: make assets", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("/usr/bin/chromium"), chromedp.WSURLReadTimeout(2*time.Minute), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-background-networking", true))...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	c := &chromium{t: t, ctx: ctx, url: url, axe: string(axe)}
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

func (c *chromium) open(path string) {
	c.t.Helper()
	c.do(chromedp.Navigate(c.url + path))
}

// press clicks on what leads to another page, and waits until that has loaded.
func (c *chromium) press(selector string) {
	c.t.Helper()
	_, err := chromedp.RunResponse(c.ctx, chromedp.Click(selector))
	must(c.t, err)
}

func ask[T any](c *chromium, script string) T {
	c.t.Helper()
	answer, err := chromedp.Run(c.ctx, chromedp.Evaluate[T](script))
	must(c.t, err)
	return answer
}

// good asserts that the page can be used: nothing broke the policy, nothing is wider than the window, and axe finds
// nothing serious. It keeps a picture if SALLYPORT_SHOTS names a folder.
func (c *chromium) good(name string) {
	c.t.Helper()
	if folder := os.Getenv("SALLYPORT_SHOTS"); folder != "" {
		png, err := chromedp.Run(c.ctx, chromedp.FullScreenshot(100))
		must(c.t, err)
		must(c.t, os.WriteFile(filepath.Join(folder, name+".png"), png, 0o600))
	}
	for _, v := range ask[[]string](c, "window.violations") {
		c.t.Errorf("%s: the policy was violated: %s", name, v)
	}
	if wide := ask[int](c, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
		c.t.Errorf("%s: %d pixels wider than the window", name, wide)
	}
	c.do(chromedp.Evaluate[chromedp.Void](c.axe + `; axe.run({resultTypes: ["violations"]}).then((r) => {
		window.passed = r.passes.length;
		window.found = r.violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => v.id + ": " + v.nodes.map((n) => n.target + " " + n.failureSummary).join("; "));
	}); void 0`))
	found, err := chromedp.Run(c.ctx, chromedp.Poll[[]string]("window.found", chromedp.WithPollingTimeout(time.Minute)))
	must(c.t, err)
	if n := ask[int](c, "window.passed"); n < 10 {
		c.t.Errorf("%s: axe has looked at %d things only", name, n)
	}
	for _, v := range found {
		c.t.Errorf("%s: axe finds %s", name, v)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range c.complaints {
		c.t.Errorf("%s: the browser says %s", name, text)
	}
	c.complaints = nil
}

// TestPortalInChromium goes from the link in the mail to all the pages in a real browser, and looks at each.
func TestPortalInChromium(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.bare("bob")
	ticket := w.link(bob)
	c := newChromium(t, w.URL)
	c.do(chromedp.EmulateViewport(390, 844))
	c.open(auth.EnrolPath(ticket))
	c.good("enrol-1-phone-light")
	c.press("form.card button")
	c.good("enrol-2-phone-light")
	c.do(chromedp.SendKeys("#password", password))
	c.press("form.card button")
	c.do(chromedp.Click("summary"))
	c.good("enrol-3-phone-light")
	secret, err := otp.ParseSecret(strings.ReplaceAll(ask[string](c, `document.querySelector(".secret").textContent`), " ", ""))
	must(t, err)
	w.secrets["bob"] = secret
	c.do(chromedp.SendKeys("#code", w.codeOf(secret)))
	c.press("form.card button")
	c.good("enrol-4-phone-light")
	if n := ask[int](c, `document.querySelectorAll(".secret").length`); n != 10 {
		t.Errorf("%d recovery codes are shown", n)
	}
	c.press("a.primary")
	c.do(chromedp.SendKeys("#login", "bob"), chromedp.SendKeys("#password", password), chromedp.SendKeys("#code", w.code("bob")))
	c.press("form.card button")
	c.do(chromedp.WaitVisible(".shell"))

	w.grant(bob)
	other := w.token(bob, "old <telephone>", otp.NewSecret())
	must(t, w.Store.Tokens.SetState(context.Background(), other.ID, store.TokenLost))
	_, err = w.Store.UserKeys.Add(context.Background(), store.UserKey{UserID: bob.ID, Name: "laptop", PublicKey: "ssh-ed25519 AAAA", Fingerprint: "SHA256:Jq8p0G3xkQ2v7mYwTz5bN1rEoKfLhVdCsUaXi9Zt4eM"})
	must(t, err)
	_, err = w.Engine.Begin(auth.Attempt{Door: "ssh", Login: "bob", Source: netip.MustParseAddr("2001:db8::17"), Client: "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3"}).Run(context.Background(), typist{password, "000000"})
	if err == nil {
		t.Fatal("a wrong code got in")
	}
	_, err = w.Store.Sessions.Open(context.Background(), store.Session{UserID: bob.ID, User: "bob", Target: "web1", Address: "10.0.0.5:22", Account: "root", Source: "203.0.113.7", Node: "n1", Rule: "ops", Recording: "required"})
	must(t, err)
	for _, l := range []struct {
		name, theme   string
		width, height int64
	}{{"phone-dark", "dark", 390, 844}, {"phone-light", "light", 390, 844}, {"light", "light", 1280, 800}, {"dark", "dark", 1280, 800}} {
		c.do(chromedp.EmulateViewport(l.width, l.height))
		c.open("/me")
		c.press(`.theme button[value="` + l.theme + `"]`)
		for _, p := range []struct{ name, path string }{
			{"tokens", "/me"}, {"token", "/me/tokens/" + other.ID}, {"places", "/me/places"}, {"keys", "/me/keys"}, {"activity", "/me/activity"}, {"not-me", "/me/not-me"},
		} {
			c.open(p.path)
			c.good(p.name + "-" + l.name)
		}
	}
	c.open("/me")
	c.do(chromedp.SendKeys("#add-code", w.code("bob")))
	c.press(`form[action="/me/tokens/new"] button`)
	c.do(chromedp.WaitVisible("svg.qr"))
	c.good("scan-dark")
	c.open("/me")
	c.do(chromedp.SendKeys("#recovery-code", w.code("bob")))
	c.press(`form[action="/me/recovery-codes"] button`)
	c.good("codes-dark")
}

// TestPortalWithoutScriptsInChromium changes things in a browser that runs no scripts, to the end.
func TestPortalWithoutScriptsInChromium(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.person("alice")
	c := newChromium(t, w.URL)
	c.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
	c.open("/me")
	c.do(chromedp.SendKeys("#login", "alice"), chromedp.SendKeys("#password", password), chromedp.SendKeys("#code", w.code("alice")))
	c.press("form.card button")
	c.do(chromedp.WaitVisible("#add-code"))
	c.do(chromedp.SendKeys("#recovery-code", w.code("alice")))
	c.press(`form[action="/me/recovery-codes"] button`)
	c.do(chromedp.WaitVisible(".secret"))
	c.open("/me/activity")
	c.press(`a[href="/me/not-me"]`)
	c.press("button.danger")
	if text := ask[string](c, `document.querySelector("main").textContent`); !strings.Contains(text, "Your account is locked") {
		t.Errorf("the page says %q", text)
	}
}
