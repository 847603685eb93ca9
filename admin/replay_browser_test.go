package admin

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/chromedp/cdproto/input"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"sallyport/internal/testenv"
	"sallyport/recorder"
	"sallyport/store"
)

// shows waits until the player shows a text, and returns all that it shows.
func (c *chromium) shows(text string) string {
	c.t.Helper()
	quoted, err := json.Marshal(text)
	must(c.t, err)
	look := chromedp.Poll[string](`(() => {
		const shown = document.querySelector(".player .ap-term, .player .ap-terminal");
		return shown && shown.textContent.includes(`+string(quoted)+`) ? shown.textContent : "";
	})()`, chromedp.WithPollingTimeout(time.Minute))
	shown, err := chromedp.Run(c.ctx, look)
	if err != nil && strings.Contains(err.Error(), "context") { // of a page that has just been left
		shown, err = chromedp.Run(c.ctx, look)
	}
	if err != nil {
		c.t.Fatalf("the player does not show %q but %q: %v", text, ask[string](c, `document.querySelector(".player").textContent`), err)
	}
	return shown
}

// key presses a key on the player.
func (c *chromium) key(key string) {
	c.t.Helper()
	c.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[chromedp.Void](`document.querySelector(".player .ap-player").parentElement.focus(); void 0`)); err != nil {
			return err
		}
		for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
			p := input.DispatchKeyEventParams{Type: kind, Key: key}
			if kind == input.DispatchKeyEventTypeKeyDown && len(key) == 1 {
				p.Text = key
			}
			if _, err := chromedp.Call(ctx, input.DispatchKeyEvent, p); err != nil {
				return err
			}
		}
		return nil
	}))
}

// address waits until a parameter of the page's address has a value.
func (c *chromium) address(name, want string) {
	c.t.Helper()
	script := `new URL(location.href).searchParams.get("` + name + `") || "none"`
	_, err := chromedp.Run(c.ctx, chromedp.Poll[bool](`(`+script+`) === "`+want+`"`, chromedp.WithPollingTimeout(time.Minute)))
	if err != nil {
		c.t.Errorf("%s in the address is %s, want %s", name, ask[string](c, script), want)
	}
}

// fetched is how many bytes of a recording the page has asked for.
const fetched = `performance.getEntriesByType("resource").filter((e) => e.name.includes("/channels/") || e.name.includes("/recordings/")).reduce((sum, e) => sum + e.transferSize, 0)`

// accessible asserts that axe finds nothing serious on the page.
func (c *chromium) accessible(where string) {
	c.t.Helper()
	axe, err := os.ReadFile("../portal/testdata/axe.min.js")
	if err != nil {
		c.t.Fatalf("%v; fetch it: make assets", err)
	}
	c.do(chromedp.Evaluate[chromedp.Void](`window.found = undefined; ` + string(axe) + `; axe.run({resultTypes: ["violations"]}).then((r) => {
		window.passed = r.passes.length;
		window.found = r.violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => v.id + ": " + v.nodes.map((n) => n.target + " " + n.failureSummary).join("; "));
	}); void 0`))
	found, err := chromedp.Run(c.ctx, chromedp.Poll[[]string]("window.found", chromedp.WithPollingTimeout(time.Minute)))
	must(c.t, err)
	if n := ask[int](c, "window.passed"); n < 10 {
		c.t.Errorf("%s: axe has looked at %d things only", where, n)
	}
	for _, v := range found {
		c.t.Errorf("%s: axe finds %s", where, v)
	}
}

// TestSeekInChromium opens a link to the sixth hour of a recording with the real player, and goes on
// from there with keys, markers, speeds and pauses.
func TestSeekInChromium(t *testing.T) {
	t.Parallel()
	w, x, size := newLongWorld(t, 6, 8)
	w.needPlayer()
	w.person("ada", store.RoleAdmin)
	c := newChromium(t, w.URL)
	c.signIn("ada", pagePassword, w.code("ada"))
	c.open("/sessions/" + x.ID + "?t=19826")
	begun := time.Now()
	shown := c.shows("moment 19825")
	t.Logf("the screen of the sixth hour was there after %v", time.Since(begun))
	if strings.Contains(shown, "moment 19855") || !strings.Contains(shown, "file-660-") {
		t.Errorf("at second 19826 the screen is %q", shown)
	}
	if bytes := ask[int64](c, fetched); bytes < 1000 || bytes > size*6/100 {
		t.Errorf("the page has asked for %d bytes of %d", bytes, size)
	}
	c.accessible("replay")
	c.shoot("replay-seek-light")
	c.quiet("a link to the sixth hour")

	c.key("[") // the marker before: the new size
	c.address("t", "10800")
	c.shows("file-360-")
	c.key("9")
	c.address("t", "19440")
	c.shows("file-648-")
	c.key("ArrowLeft")
	c.address("t", "19435")
	c.key("]")
	c.address("t", "21600")
	c.do(chromedp.Click(`.markers a[data-second="10800"]`))
	c.address("t", "10800")
	if href := ask[string](c, `document.getElementById("replay-here").href`); !strings.Contains(href, "t=10800") || !strings.Contains(href, "channel=1") {
		t.Errorf("the link to this moment is %s", href)
	}
	c.do(chromedp.SetValue("#r-t", "1:00:26"), chromedp.Click("#replay-form button:not([type])"))
	c.address("t", "3626")
	c.shows("moment 3625")
	c.do(chromedp.Evaluate[chromedp.Void](`void (navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); })`), chromedp.Click("#replay-copy"))
	if copied := ask[string](c, "window.copied"); !strings.HasPrefix(copied, w.URL+"/sessions/"+x.ID+"?") || !strings.Contains(copied, "t=3626") {
		t.Errorf("copied is %s", copied)
	}
	for _, speed := range []string{"1.5", "2", "4", "8"} {
		c.key("+")
		c.address("speed", speed)
	}
	c.address("t", "3626")
	c.shows("moment 3625")
	c.quiet("keys and markers")

	// Eight times as fast and with pauses of a second, half a minute of the recording takes a quarter second.
	c.do(chromedp.Evaluate[chromedp.Void](`(() => { const e = document.getElementById("r-idle"); e.value = "1"; e.dispatchEvent(new Event("change", {bubbles: true})); })()`))
	c.address("idle", "1")
	begun = time.Now()
	c.key(" ")
	c.shows("moment 4045") // seven minutes later
	if took := time.Since(begun); took > 45*time.Second {
		t.Errorf("seven minutes took %v", took)
	}
	c.key(" ")
	if bytes := ask[int64](c, fetched); bytes > size/2 {
		t.Errorf("after all this the page has asked for %d bytes of %d", bytes, size)
	}
	c.quiet("played")

	c.open("/sessions/" + x.ID + "?view=transcript")
	c.accessible("transcript")
	c.fits("transcript")
	c.shoot("transcript-light")
	c.follow(chromedp.Click(`#t55 h3 a`))
	c.address("t", "55")
	c.shows("moment 55")
	c.open("/")
	c.follow(chromedp.Click(`.theme button[value="dark"]`))
	for _, p := range []struct{ name, path string }{{"replay-seek", "?t=10801"}, {"transcript", "?view=transcript"}} {
		c.open("/sessions/" + x.ID + p.path)
		if p.name != "transcript" {
			c.shows("file-360-")
		}
		c.accessible(p.name + " dark")
		c.shoot(p.name + "-dark")
	}
	c.quiet("dark")
}

// TestHostileRecordingsInChromium plays every attack there is with the real player, and reads the
// transcript: what is shown is text, and the browser does nothing that it was not asked for by us.
func TestHostileRecordingsInChromium(t *testing.T) {
	t.Parallel()
	clock := testenv.NewClock(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
	rec, err := recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: testSigningKey, Node: "bastion-1", Sync: 100 * time.Hour, Now: clock.Now})
	must(t, err)
	t.Cleanup(func() { rec.Close() })
	w := newPageWorld(t, func(c *Config) { c.Recorder = rec })
	w.needPlayer()
	w.person("ada", store.RoleAdmin)
	x := w.openSession("zed", "web1")
	command := "\x1b]0;owned\x07<script>alert(1)</script>\u202e"
	r, err := rec.Create(recorder.Header{Session: x.ID, Channel: 1, Width: 80, Height: 24, Term: "<xterm>", Kind: "shell", Title: command, Command: command})
	must(t, err)
	list := testenv.HostileRecordings()
	for _, h := range list {
		clock.Move(time.Second)
		must(t, r.Mark(h.Name+" <img src=x onerror=alert(1)>\x1b[6n\u202e"))
		must(t, r.Output([]byte(h.Output)))
		for _, s := range h.Sizes {
			must(t, r.Resize(s.Cols, s.Rows))
		}
		clock.Move(500 * time.Millisecond)
		must(t, r.Output([]byte(testenv.HostileEnd+h.Name+" was shown\r\n")))
	}
	sum, err := r.Close()
	must(t, err)
	must(t, w.Store.Sessions.CloseChannel(context.Background(), x.ID, store.Channel{ID: 1, Kind: "shell", Command: command, Term: true, Recording: sum.Path}))
	must(t, w.Store.Sessions.End(context.Background(), x.ID, "logout"))

	c := newChromium(t, w.URL)
	c.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: `
			window.called = [];
			for (const name of ["alert", "confirm", "prompt", "open", "print", "eval"]) window[name] = () => { window.called.push(name); };
			window.addEventListener("beforeunload", () => window.called.push("left"));`})
		return err
	}))
	c.signIn("ada", pagePassword, w.code("ada"))
	c.open("/sessions/" + x.ID + "?speed=8&idle=1")
	for i, h := range list { // right after it, and when it was cleaned up
		if i%4 == 0 {
			c.do(chromedp.SetValue("#r-t", strconv.FormatFloat(1.5*float64(i)+1.2, 'f', -1, 64)), chromedp.Click("#replay-form button:not([type])"))
			c.address("t", strconv.FormatFloat(1.5*float64(i)+1.2, 'f', -1, 64))
		}
		c.do(chromedp.SetValue("#r-t", strconv.FormatFloat(1.5*float64(i)+1.9, 'f', -1, 64)), chromedp.Click("#replay-form button:not([type])"))
		c.shows(h.Name + " was shown")
	}
	c.key("0")
	c.key(" ")
	c.shows(list[len(list)-1].Name + " was shown") // played in order, too
	after := func(where string) {
		t.Helper()
		if called := ask[[]string](c, "window.called"); len(called) > 0 {
			t.Errorf("%s: the recording has called %v", where, called)
		}
		if title := ask[string](c, "document.title"); title != "Session of zed · Sallyport" {
			t.Errorf("%s: the title is %q", where, title)
		}
		if n := ask[int](c, `document.querySelectorAll(".player a[href], .player img, .player iframe, .player script, .transcript img, .transcript script, .transcript iframe, .transcript style, .markers img").length`); n != 0 {
			t.Errorf("%s: the recording has put %d elements into the page", where, n)
		}
		c.quiet(where)
	}
	after("player")
	for next := "/sessions/" + x.ID + "?view=transcript"; next != ""; {
		c.open(next)
		c.fits("transcript")
		after(next)
		text := ask[string](c, `document.querySelector("main").textContent`)
		if i := strings.IndexFunc(text, func(r rune) bool {
			return r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
		}); i >= 0 {
			t.Errorf("the transcript holds %q", text[i:min(i+20, len(text))])
		}
		next = ask[string](c, `(() => { const a = document.querySelector('a.btn[href*="from="]'); return a ? a.getAttribute("href") : ""; })()`)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, address := range c.requests {
		if !strings.HasPrefix(address, w.URL) && !strings.HasPrefix(address, "data:") {
			t.Errorf("the browser asked for %s", address)
		}
	}
}
