package admin

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/recorder"
	"sallyport/store"
)

func TestSessionsPageFilters(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	ctx := context.Background()
	bobs := w.openSession("bob", "vault")
	w.record(bobs, 0, "exec", "tar cz /var/secret", "x")
	must(t, w.Store.Sessions.End(ctx, bobs.ID, "idle for 15 min"))
	b := w.signedIn("ines")
	rows := func(query string) int {
		return strings.Count(b.shows("/sessions"+query), `data-label="State"`)
	}
	today := w.now().UTC().Format(time.DateOnly)
	for query, want := range map[string]int{
		"":                          13,
		"?state=live":               1,
		"?user=bob":                 1,
		"?user=bo":                  0,
		"?target=web1":              6,
		"?source=203.0.113.7":       13,
		"?text=SECRET":              1, // a command
		"?text=idle+for":            1, // a reason
		"?text=bob&state=live":      0,
		"?since=" + today:           13,
		"?until=" + today:           13, // takes in the day
		"?until=2020-01-01":         0,
		"?since=2020-01-01T00:00Z":  13, // not a moment: said so, and not filtered by
		"?state=ended&target=vault": 1,
	} {
		if got := rows(query); got != want {
			t.Errorf("GET /sessions%s shows %d sessions, want %d", query, got, want)
		}
	}
	b.shows("/sessions?since=yesterday", `class="notice bad"`)
	b.shows("/sessions?user=bob&text=tar", `value="bob"`, `value="tar"`) // the filter stays in the form
}

// TestSessionsPagerLosesNothing walks through all pages, with and without a search.
func TestSessionsPagerLosesNothing(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ada", store.RoleAdmin)
	for i := range 230 {
		x := w.openSession([]string{"alice", "bob"}[i%2], "web1")
		must(t, w.Store.Sessions.End(context.Background(), x.ID, ""))
	}
	b := w.signedIn("ada")
	for query, want := range map[string]int{"": 230, "?text=bob": 115, "?user=alice": 115} {
		seen := map[string]bool{}
		next, pages := "/sessions"+query, 0
		for ; next != "" && pages < 10; pages++ {
			page := b.shows(next)
			for _, m := range regexp.MustCompile(`class="main" href="/sessions/([^"]+)"`).FindAllStringSubmatch(page, -1) {
				if seen[m[1]] {
					t.Errorf("session %s is shown twice", m[1])
				}
				seen[m[1]] = true
			}
			m := regexp.MustCompile(`href="([^"]+)" rel="next"`).FindStringSubmatch(page)
			if next = ""; m != nil {
				next = strings.ReplaceAll(m[1], "&amp;", "&")
			}
		}
		if len(seen) != want {
			t.Errorf("GET /sessions%s: %d sessions on %d pages, want %d", query, len(seen), pages, want)
		}
	}
}

func TestSessionPageAndItsRecordings(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	x := w.openSession("alice", "web1")
	w.record(x, 1, "shell", "", "$ \x1b[31mhello\x1b[0m <b>\u202ebold\r\n\x07\x1b]52;c;ZXZpbA==\x07")
	w.record(x, 2, "exec", "id; printf '\x1b[2J'", "uid=0\n")
	path := "/sessions/" + x.ID
	b := w.signedIn("ines")
	b.shows(path, `data-base="`+path+`/channels/1"`, path+"/recordings/1.v2.cast?download=1", path+"/recordings/1.json?download=1", `data-speed="1"`, `data-idle="2"`, `id; printf &#39;\u{1b}[2J&#39;`, "shown above", "The player needs scripts")
	b.shows(path+"?channel=2&speed=4&idle=&t=73.9", path+"/recordings/2.cast", `data-speed="4"`, `data-idle=""`, `data-start="73.9"`, `value="1:13"`, `>Link to 1:13<`, `printf &#39;\u{1b}`)
	b.shows(path+"?channel=9&speed=999&idle=x&t=-1", "Nothing was recorded")
	page := b.shows(path+"?view=transcript", "$ hello &lt;b&gt;bold")
	if strings.ContainsAny(page, "\x1b\x07\u202e") {
		t.Errorf("the transcript has controls in it:\n%q", page)
	}

	status, cast, header := b.get(path + "/recordings/1.cast")
	if status != http.StatusOK || !strings.HasPrefix(cast, `{"version":3,`) || header.Get("Content-Type") != "application/x-asciicast" {
		t.Errorf("the recording: status %d, type %s\n%s", status, header.Get("Content-Type"), cast)
	}
	status, text, header := b.get(path + "/recordings/2.txt?download=1")
	if want := fmt.Sprintf(`attachment; filename="%s-2.txt"`, x.ID); status != http.StatusOK || !strings.Contains(text, "uid=0") || header.Get("Content-Disposition") != want {
		t.Errorf("the transcript as a file: status %d, %s\n%s", status, header.Get("Content-Disposition"), text)
	}
	for _, file := range []string{"3.cast", "1.exe", "1", ".cast", "-1.cast", "..%2f..%2fsigning.key", "1.cast.index"} {
		if status, _, _ := b.get(path + "/recordings/" + file); status != http.StatusNotFound {
			t.Errorf("GET recordings/%s: status %d, want 404", file, status)
		}
	}
	if status, _, _ := b.get("/sessions/nothing"); status != http.StatusNotFound {
		t.Errorf("a session that is none: status %d, want 404", status)
	}

	events, err := w.Store.Audit.List(context.Background(), store.AuditFilter{Type: audit.OperatorView, Session: x.ID})
	must(t, err)
	defer func() {
		// A recording whose file is gone is a fault, not an empty recording.
		must(t, w.Store.Sessions.OpenChannel(context.Background(), x.ID, store.Channel{ID: 3, Kind: "shell", Recording: "2026/01/01/gone/3.cast"}))
		status, body, header := b.get(path + "/recordings/3.cast?download=1")
		if status < 500 || header.Get("Content-Disposition") != "" || !strings.Contains(body, "</html>") {
			t.Errorf("a recording that is gone: status %d\n%s", status, body)
		}
	}()
	var views []string
	for _, e := range events {
		if e.Actor != "ines" || e.Source != "127.0.0.1" || e.Door != audit.DoorWeb {
			t.Errorf("the event of a view is %+v", e)
		}
		views = append(views, e.Detail["view"])
	}
	if got := strings.Join(views, ", "); got != "download txt, replay, transcript" {
		t.Errorf("views in the audit log: %s", got)
	}
}

// TestReplayOfALiveSession: what has been recorded so far can be seen.
func TestReplayOfALiveSession(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ines", store.RoleAuditor)
	x := w.openSession("alice", "web1")
	r, err := w.Rec.Create(recorder.Header{Session: x.ID, Channel: 1, Started: w.now(), Width: 80, Height: 24, Kind: "shell"})
	must(t, err)
	defer r.Close()
	must(t, w.Store.Sessions.OpenChannel(context.Background(), x.ID, store.Channel{ID: 1, Kind: "shell", Term: true, Recording: r.Path()}))
	must(t, r.Output([]byte("still typing")))
	b := w.signedIn("ines")
	b.shows("/sessions/"+x.ID, "recordings/1.cast", "open")
	b.shows("/sessions/"+x.ID+"/recordings/1.cast", "still typing")
	b.shows("/sessions/"+x.ID+"?view=transcript", "still typing")
	b.shows("/sessions/"+x.ID, "This recording goes on")
	base := "/sessions/" + x.ID + "/channels/1/"
	_, index, _ := b.get(base + "replay.json")
	_, address, _ := strings.Cut(index, `"url":"`)
	address, _, _ = strings.Cut(address, `"`)
	must(t, r.Output([]byte(", and more")))
	if status, segment, _ := b.get(base + address); status != http.StatusOK || !strings.Contains(segment, "still typing") || strings.Contains(segment, "more") {
		t.Errorf("the segment %s of an open recording: status %d\n%s", address, status, segment)
	}
}

// TestNoViewWithoutAudit: who watched is part of the proof, so that nothing is shown when it cannot
// be written.
func TestNoViewWithoutAudit(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	list, err := w.Store.Sessions.List(context.Background(), store.SessionFilter{Limit: 1})
	must(t, err)
	b := w.signedIn("ines")
	must(t, w.Store.Close())
	status, body, _ := b.get("/sessions/" + list[0].ID + "/recordings/0.cast")
	if status != http.StatusServiceUnavailable || strings.Contains(body, "uptime") {
		t.Errorf("without a database: status %d, want 503\n%s", status, body)
	}
	if status, body, _ := w.browser().get("/signin"); status != http.StatusOK {
		t.Errorf("the sign-in without a database: status %d, want 200\n%s", status, body)
	}
}

func TestReplayWithoutScripts(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	w.Server.web.player = false
	list, err := w.Store.Sessions.List(context.Background(), store.SessionFilter{Limit: 1})
	must(t, err)
	page := w.signedIn("ines").shows("/sessions/"+list[0].ID, "make assets", "Read the transcript", "recordings/0.cast?download=1")
	if strings.Contains(page, "replay.js") {
		t.Error("the page loads scripts for a player that is not there")
	}
}

func TestEndSessionPage(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	ctx := context.Background()
	list, err := w.Store.Sessions.List(ctx, store.SessionFilter{State: store.Live})
	must(t, err)
	path := "/sessions/" + list[0].ID
	b := w.signedIn("ada")
	b.shows(path+"/end", "End this session?", "alice on root@web1")
	orders, stop := w.Store.Bus.Subscribe("session.end")
	defer stop()
	b.does(path+"/end", "message", "maintenance")
	select {
	case m := <-orders: // the node that has it, which is none here, would end it
		if !strings.Contains(m.Payload, list[0].ID) || !strings.Contains(m.Payload, "maintenance") || !strings.Contains(m.Payload, "ada") {
			t.Errorf("the order is %s", m.Payload)
		}
	case <-time.After(time.Minute):
		t.Fatal("no order to end the session went out")
	}
	must(t, w.Store.Sessions.End(ctx, list[0].ID, "ended by ada"))
	if status, body, _ := b.get(path + "/end"); status != http.StatusConflict || !strings.Contains(body, "over already") {
		t.Errorf("ending what is over: status %d\n%s", status, body)
	}
}

// Sessions that stand still for want of a moderator are marked, and who waits for an approval stands above them.
func TestSessionsThatWait(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newPageWorld(t)
	w.person("ada", store.RoleAdmin)
	b := w.signedIn("ada")
	const mark, asking = "waits for a moderator", "Waiting for an approval"
	if body := b.shows("/sessions"); strings.Contains(body, mark) || strings.Contains(body, asking) {
		t.Errorf("nobody waits\n%s", body)
	}
	x, err := w.Store.Sessions.Open(ctx, store.Session{User: "zed", Target: "web1", Waits: store.WaitsModerator})
	must(t, err)
	a := askApproval(t, w.Store, "alice", false)
	askApproval(t, w.Store, "dave", true) // is decided
	for _, path := range []string{"/sessions", "/sessions?user=alice", "/"} {
		body := b.shows(path, asking, "alice", "root@web1", "0 of 1 agreed", a.Code, "/approvals/"+a.ID+"/refuse")
		if strings.Contains(body, "<strong>dave</strong>") || strings.Contains(body, "\x1b") || strings.Contains(body, "<4711>") {
			t.Errorf("GET %s:\n%s", path, body)
		}
	}
	for _, path := range []string{"/sessions?user=bob", "/sessions?state=ended", "/sessions?text=x"} {
		if body := b.shows(path); strings.Contains(body, asking) {
			t.Errorf("GET %s shows who waits", path)
		}
	}
	for _, path := range []string{"/sessions", "/", "/sessions/" + x.ID} {
		b.shows(path, mark)
	}
	if got := wireSession(x); got.Waits != "moderator" {
		t.Errorf("the API says that it waits for %q", got.Waits)
	}
	must(t, w.Store.Sessions.End(ctx, x.ID, "nobody came"))
	if body := b.shows("/sessions/" + x.ID); strings.Contains(body, mark) {
		t.Error("a session that is over waits")
	}
	for range askingRows + 2 {
		askApproval(t, w.Store, "u"+rand.Text(), false)
	}
	b.shows("/sessions", "3 more wait")
}

// The first page tells how full the quota is, and why no recording is begun.
func TestOverviewShowsTheQuota(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t, func(c *Config) { c.Quota = 1 << 20 })
	w.person("ada", store.RoleAdmin)
	w.record(w.openSession("zed", "web1"), 0, "shell", "", "hello\r\n")
	b := w.signedIn("ada")
	if body := b.shows("/", "of 1.0 MiB allowed"); strings.Contains(body, "no recording is begun") || strings.Contains(body, "nine tenths") {
		t.Errorf("there is room\n%s", body)
	}
	w.Rec.Refuse(fmt.Errorf("%w: 1 MiB are kept", recorder.ErrQuota))
	b.shows("/", "no recording is begun: more recordings are kept than the quota allows: 1 MiB are kept")
	st, err := w.Server.recordingStatus(context.Background())
	if err != nil || st.QuotaBytes != 1<<20 || !strings.Contains(st.Refusing, "quota allows") {
		t.Errorf("the API says %+v, %v", st, err)
	}
}
