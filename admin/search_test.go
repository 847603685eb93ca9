package admin

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sallyport/audit"
	"sallyport/recorder"
	"sallyport/search"
	"sallyport/store"
)

// index does what the node does in the background.
func (w *pageWorld) index() {
	w.t.Helper()
	must(w.t, search.NewIndexer(search.Config{Store: w.Store, Recorder: w.Rec, Node: "bastion-1"}).Once(context.Background()))
}

func (f *fixture) index() {
	f.t.Helper()
	noError(f.t, search.NewIndexer(search.Config{Store: f.st, Recorder: f.rec, Node: "n1"}).Once(context.Background()))
}

// typedSession is a session in whose shell commands were typed.
func (w *pageWorld) typedSession(commands ...string) store.Session {
	w.t.Helper()
	ctx := context.Background()
	x := w.openSession("alice", "web1")
	r, err := w.Rec.Create(recorder.Header{Session: x.ID, Channel: 1, Started: w.now(), Width: 100, Height: 28, Term: "xterm", Kind: "shell"})
	must(w.t, err)
	for _, command := range commands {
		must(w.t, r.Output([]byte("alice@web1:~$ ")))
		must(w.t, r.Output([]byte(command)))
		must(w.t, r.Output([]byte("\r\n")))
	}
	must(w.t, r.Output([]byte("logout\r\n")))
	sum, err := r.Close()
	must(w.t, err)
	must(w.t, w.Store.Sessions.CloseChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell", Term: true, BytesOut: 1, Recording: sum.Path, Started: w.now(), Ended: w.now()}))
	must(w.t, w.Store.Sessions.End(ctx, x.ID, "logout"))
	return x
}

func (f *fixture) found(query string) SearchResult {
	f.t.Helper()
	return do[SearchResult](f, http.StatusOK, "GET", "/search?"+query, nil)
}

func TestSearch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.addSession("dave", "$ \x1b[31mrm\x1b[0m -rf /srv/old\r\n")
	second := f.addSession("erin", "$ rm -rf /tmp/x\r\nevil \u202etext\r\n")
	if got := f.found("text=rm"); got.Hits == nil || len(got.Hits) != 0 || got.Next != "" {
		t.Errorf("before anything is indexed: %+v", got)
	}
	f.index()
	got := f.found("text=" + url.QueryEscape("rm -rf"))
	if len(got.Hits) != 2 || got.Hits[0].Session != second.ID && got.Hits[1].Session != second.ID {
		t.Fatalf("hits %+v", got)
	}
	h := f.found("user=dave&text=" + url.QueryEscape("rm -rf")).Hits[0]
	if h.Session != first.ID || h.Channel != 1 || h.Line != "$ rm -rf /srv/old" || h.Line[h.From:h.To] != "rm -rf" || h.User != "dave" || h.Target != "web1" || h.Account != "root" ||
		h.Time == nil || time.Since(*h.Time) > time.Minute || h.Second < 0 || h.Second > 5 {
		t.Errorf("hit %+v", h)
	}
	for query, want := range map[string]int{
		"text=evil+text": 1, "text=rm&target=web1": 2, "text=rm&target=web2": 0, "text=rm&session=" + first.ID: 1, "text=rm&since=2000-01-01T00:00:00Z": 2, "text=rm&until=2000-01-01T00:00:00Z": 0, "text=31mrm": 0,
	} {
		if got := f.found(query); len(got.Hits) != want {
			t.Errorf("%s: %+v", query, got.Hits)
		}
	}
	page := f.found("text=rm&limit=1")
	if next := f.found("text=rm&limit=1&before=" + page.Next); page.Next == "" || len(next.Hits) != 1 || next.Hits[0].ID == page.Hits[0].ID || next.Next != "" {
		t.Errorf("page by page: %+v, then %+v", page, next)
	}
	for _, query := range []string{"", "text=%7C%7C", "text=rm&before=';", "text=rm&limit=0", "text=" + strings.Repeat("x", 501)} {
		if p := f.refused(http.StatusUnprocessableEntity, "GET", "/search?"+query, nil); p.Hint == "" {
			t.Errorf("%s: no hint", query)
		}
	}
	if w := f.request("", "GET", "/search?text=rm", nil); w.Code != http.StatusUnauthorized {
		t.Errorf("a stranger gets status %d", w.Code)
	}
	if w := f.request(f.auditor, "GET", "/search?text=rm", nil); w.Code != http.StatusOK {
		t.Errorf("an auditor gets status %d", w.Code)
	}
	events, err := f.st.Audit.List(context.Background(), store.AuditFilter{Type: audit.OperatorView, Limit: 1000})
	noError(t, err)
	if !slices.ContainsFunc(events, func(e audit.Event) bool {
		return e.Detail["view"] == "search" && e.Detail["query"] == "rm -rf" && e.Detail["of-user"] == "dave" && e.Actor == "api-token robot"
	}) {
		t.Errorf("events %+v", events)
	}
}

// What cannot be logged is not searched; nothing is where the search is off.
func TestSearchRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addSession("dave", "needle\r\n")
	f.index()
	f.s.cfg.Search = false
	if p := f.refused(http.StatusConflict, "GET", "/search?text=needle", nil); !strings.Contains(p.Detail, "switched off") || p.Hint == "" {
		t.Errorf("problem %+v", p)
	}
	f.s.cfg.Search = true
	noError(t, f.st.Close())
	if w := f.request(f.admin, "GET", "/search?text=needle", nil); w.Code < 500 && w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "needle\"") {
		t.Errorf("without a database: status %d, %s", w.Code, w.Body)
	}
}

func TestSessionCommands(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ines", store.RoleAuditor)
	x := w.typedSession("id", "echo '<b>' \u00a7", "exit")
	w.record(x, 2, "exec", "true "+strings.Repeat("x", 5000), "")
	w.index()
	_, commands, err := w.Server.commands(context.Background(), x.ID)
	must(t, err)
	var got []string
	for _, c := range commands {
		got = append(got, c.FoundBy+" "+c.Command)
	}
	if want := []string{"prompt id", "prompt echo '<b>' \u00a7", "prompt exit", "request true " + strings.Repeat("x", 5000)}; !slices.Equal(got, want) {
		t.Errorf("commands %q", got)
	}
	b := w.signedIn("ines")
	status, body, _ := b.get("/sessions/" + x.ID)
	for _, want := range []string{"an aid: found from the screen", "echo &#39;&lt;b&gt;&#39; §", "/sessions/" + x.ID + "?channel=1&amp;t=0"} {
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("status %d, no %q on the page", status, want)
		}
	}
	if _, index, _ := b.get("/sessions/" + x.ID + "/channels/1/replay.json"); !strings.Contains(index, `"echo '\u003cb\u003e' §"]`) { // a marker of the player
		t.Errorf("the player's index is %s", index)
	}
	events, err := w.Store.Audit.List(context.Background(), store.AuditFilter{Type: audit.OperatorView, Session: x.ID})
	must(t, err)
	events = slices.DeleteFunc(events, func(e audit.Event) bool { return e.Detail["view"] == "replay" })
	if len(events) != 1 || events[0].Actor != "ines" || events[0].Detail["view"] != "commands" {
		t.Errorf("events %+v", events)
	}
}

func TestSearchPage(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ines", store.RoleAuditor)
	x := w.openSession("zed", "web1")
	w.record(x, 3, "shell", "", "<script>alert(1)</script> needle\r\n")
	w.index()
	for i := range 55 {
		w.record(w.openSession("yan", "web1"), 1, "exec", "", "haystack "+strings.Repeat("x", i)+"\n")
	}
	b := w.signedIn("ines")
	if _, body, _ := b.get("/search"); !strings.Contains(body, "Find the moment") {
		t.Error("the empty page does not say what it is for")
	}
	w.index()
	status, body, _ := b.get("/search?text=needle&user=zed")
	if status != http.StatusOK || !strings.Contains(body, "&lt;script&gt;alert(1)&lt;/script&gt; <mark>needle</mark>") || !strings.Contains(body, "/sessions/"+x.ID+"?channel=3&amp;t=0") {
		t.Errorf("status %d, page %s", status, body)
	}
	status, body, _ = b.get("/search?text=haystack")
	_, rest, ok := strings.Cut(body, `href="/search?before=`)
	if status != http.StatusOK || !ok || strings.Count(body, "<mark>") != 50 {
		t.Errorf("status %d, %d hits, next %v", status, strings.Count(body, "<mark>"), ok)
	}
	next, _, _ := strings.Cut(rest, `"`)
	if _, body, _ = b.get("/search?before=" + strings.ReplaceAll(next, "&amp;", "&")); strings.Count(body, "<mark>") != 5 {
		t.Errorf("%d hits on the second page", strings.Count(body, "<mark>"))
	}
	if status, body, _ = b.get("/search?text=%7C"); status != http.StatusUnprocessableEntity || !strings.Contains(body, "no word to search for") || !strings.Contains(body, `value="|"`) {
		t.Errorf("status %d for punctuation", status)
	}
	if status, body, _ = b.get("/search?text=x&since=yesterday"); status != http.StatusUnprocessableEntity || !strings.Contains(body, "is not a time") {
		t.Errorf("status %d for a wrong time", status)
	}
}

// A hit opens the player at that second, in a real browser.
func TestHitOpensThePlayer(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ada", store.RoleAdmin)
	w.needPlayer()
	x := w.openSession("zed", "web1")
	ctx := context.Background()
	r, err := w.Rec.Create(recorder.Header{Session: x.ID, Channel: 1, Started: w.now(), Width: 80, Height: 24, Term: "xterm", Kind: "shell"})
	must(t, err)
	must(t, r.Output([]byte("early\r\nneedle\r\n"))) // at one moment: the player stands at its first screen
	sum, err := r.Close()
	must(t, err)
	must(t, w.Store.Sessions.CloseChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell", Term: true, BytesOut: 1, Recording: sum.Path, Started: w.now(), Ended: w.now()}))
	w.index()
	c := newChromium(t, w.URL)
	c.signIn("ada", pagePassword, w.code("ada"))
	c.open("/search")
	c.usable("search")
	c.do(chromedp.SendKeys("#f-text", "needle"))
	c.follow(chromedp.Click("form[role=search] button"))
	c.quiet("hits")
	c.usable("hits")
	c.follow(chromedp.Click("table.hits a.btn"))
	if address := ask[string](c, "location.pathname + location.search"); address != "/sessions/"+x.ID+"?channel=1&t=0" {
		t.Errorf("the hit leads to %s", address)
	}
	c.do(chromedp.WaitVisible(".ap-terminal, .ap-term"))
	_, err = chromedp.Run(c.ctx, chromedp.Poll[bool](`document.querySelector(".ap-terminal, .ap-term").textContent.includes("needle")`, chromedp.WithPollingTimeout(time.Minute)))
	must(t, err)
	c.quiet("player")
	typed := w.typedSession("id", "exit")
	w.index()
	c.open("/sessions/" + typed.ID + "?view=transcript")
	c.do(chromedp.WaitVisible("#commands"))
	c.usable("commands")
}

// usable asserts that axe finds nothing serious on the page.
func (c *chromium) usable(where string) {
	c.t.Helper()
	axe, err := os.ReadFile("../portal/testdata/axe.min.js")
	if err != nil {
		c.t.Fatalf("axe is not there; fetch it: make assets (%v)", err)
	}
	c.do(chromedp.Evaluate[chromedp.Void](string(axe) + `; axe.run({resultTypes: ["violations"]}).then((r) => {
		window.passed = r.passes.length;
		window.found = r.violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => v.id + ": " + v.nodes.map((n) => n.target + " " + n.failureSummary).join("; "));
	}); void 0`))
	found, err := chromedp.Run(c.ctx, chromedp.Poll[[]string]("window.found", chromedp.WithPollingTimeout(time.Minute)))
	must(c.t, err)
	if n := ask[int](c, "window.passed"); n < 10 || len(found) > 0 {
		c.t.Errorf("%s: axe has looked at %d things and finds %q", where, n, found)
	}
}
