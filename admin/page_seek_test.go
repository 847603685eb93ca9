package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/recorder"
	"sallyport/store"
)

// longSession adds a session with one channel of so many hours to a world of its own: a prompt, a
// command and what it prints every 30 seconds, an editor, sizes. What moment shows is the last
// "moment N" before it.
func newLongWorld(t *testing.T, hours int, mebibytes int, change ...func(*recorder.Config)) (*pageWorld, store.Session, int64) {
	t.Helper()
	clock := testenv.NewClock(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
	cfg := recorder.Config{
		Dir: t.TempDir(), SigningKey: testSigningKey, Node: "bastion-1", Now: clock.Now,
		Sync: 100 * time.Hour, // a clock that jumps must not be waited for
	}
	for _, f := range change {
		f(&cfg)
	}
	rec, err := recorder.New(cfg)
	must(t, err)
	t.Cleanup(func() { rec.Close() })
	w := newPageWorld(t, func(c *Config) { c.Recorder = rec })
	x := w.openSession("alice", "web1")
	r, err := rec.Create(recorder.Header{Session: x.ID, Channel: 1, Width: 100, Height: 28, Term: "xterm-256color", Kind: "shell"})
	must(t, err)
	steps := hours * 120
	for i := range steps {
		var b strings.Builder
		fmt.Fprintf(&b, "\x1b[01;32malice@web1\x1b[00m:\x1b[01;34m~\x1b[00m$ ls -l part-%d\r\n", i)
		for n := 0; b.Len() < mebibytes<<20/steps*9/10; n++ { // JSON takes a tenth
			fmt.Fprintf(&b, "-rw-r--r-- 1 \x1b[1malice\x1b[m %8d Nov 23 09:00 \x1b[38;5;%dmfile-%d-%d.txt\x1b[m\r\n", i*n*7919%1000000, n%256, i, n*i%977)
		}
		must(t, r.Output([]byte(b.String())))
		if i == steps/2 {
			must(t, r.Resize(90, 28))
		}
		clock.Move(25 * time.Second)
		must(t, r.Output(fmt.Appendf(nil, "moment %d\r\n", (i+1)*30-5)))
		clock.Move(5 * time.Second)
	}
	must(t, r.Mark("the session was ended: late"))
	must(t, r.ExitStatus(0))
	sum, err := r.Close()
	must(t, err)
	must(t, w.Store.Sessions.CloseChannel(context.Background(), x.ID, store.Channel{
		ID: 1, Kind: "shell", Term: true, BytesOut: sum.Kept, Recording: sum.Path, SHA256: sum.SHA256,
		Started: w.now().Add(-time.Duration(hours) * time.Hour), Ended: w.now(),
	}))
	parts, err := rec.Parts(context.Background(), sum.Path)
	must(t, err)
	last := parts[len(parts)-1]
	return w, x, last.Offset + last.Length
}

// TestReplayInSegments: an index and one segment are what a jump to the sixth hour costs, and who
// looked is in the audit log.
func TestReplayInSegments(t *testing.T) {
	t.Parallel()
	w, x, size := newLongWorld(t, 6, 8)
	w.person("ines", store.RoleAuditor)
	b := w.signedIn("ines")
	base := "/sessions/" + x.ID + "/channels/1/"
	page := b.shows("/sessions/"+x.ID+"?t=21590", `data-start="21590"`, `data-base="/sessions/`+x.ID+`/channels/1"`, "(of 6:00:00)", "90 × 28", "the session was ended: late", "exit status 0")
	if !strings.Contains(page, `href="/sessions/`+x.ID+`?channel=1&amp;t=10800"`) {
		t.Error("the marker of the new size is no link to it")
	}

	status, body, header := b.get(base + "replay.json")
	var index struct {
		Duration float64
		Segments []struct {
			Start float64
			URL   string
		}
	}
	if status != http.StatusOK {
		t.Fatalf("the index: status %d\n%s", status, body)
	}
	must(t, json.Unmarshal([]byte(body), &index))
	if header.Get("Content-Type") != "application/json" || header.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(header.Get("Content-Disposition"), "attachment") {
		t.Errorf("the headers of the index are %v", header)
	}
	if index.Duration != 21600 || len(index.Segments) < 20 {
		t.Errorf("%v seconds in %d segments", index.Duration, len(index.Segments))
	}
	last := index.Segments[len(index.Segments)-1]
	begun := time.Now()
	status, segment, _ := b.get(base + last.URL)
	if took := time.Since(begun); status != http.StatusOK || took > time.Minute {
		t.Errorf("the last segment: status %d after %v\n%.300s", status, took, segment)
	}
	begun = time.Now()
	if _, again, _ := b.get(base + last.URL); again != segment || time.Since(begun) > time.Minute {
		t.Errorf("the same once more took %v, or is another", time.Since(begun))
	}
	if !strings.Contains(segment, "moment 21595") || !strings.Contains(segment, `"init":"`) {
		t.Errorf("the last segment is\n%.300s", segment)
	}
	_, pauses, _ := b.get(base + "pauses.json?idle=2")
	if all := len(body) + len(segment) + len(pauses); int64(all) > size*6/100 {
		t.Errorf("a jump takes %d bytes, the recording has %d", all, size)
	}
	var list []int64
	must(t, json.Unmarshal([]byte(pauses), &list))
	if len(list) < 1000 || list[0] != 0 || list[1] != 25000 || list[2] != 0 || list[3] != 5000 {
		t.Errorf("the pauses begin with %v", list[:min(6, len(list))])
	}

	for _, address := range []string{"replay/99999.json", "replay/-1.json", "replay/x.json", "replay/0", "replay/0.json?until=x", "replay/0.json?until=-1", "pauses.json?idle=0", "pauses.json?idle=NaN", "../2/replay.json", "../x/replay.json"} {
		if status, _, _ := b.get(base + address); status != http.StatusNotFound && status != http.StatusTemporaryRedirect && status != http.StatusMovedPermanently {
			t.Errorf("%s: status %d, want 404", address, status)
		}
	}
	views := func() (n int) {
		events, err := w.Store.Audit.List(context.Background(), store.AuditFilter{Type: audit.OperatorView, Session: x.ID})
		must(t, err)
		return len(events)
	}
	if n := views(); n != 1 {
		t.Errorf("an index and two segments left %d events, want 1", n)
	}
	w.person("ada", store.RoleAdmin)
	w.signedIn("ada").get(base + "replay/3.json") // without asking for the index first
	if n := views(); n != 2 {
		t.Errorf("a segment for somebody else left %d events in all, want 2", n)
	}
}

// TestTranscriptPage: text with times that lead to the player, page by page, with the markers in it.
func TestTranscriptPage(t *testing.T) {
	t.Parallel()
	w, x, _ := newLongWorld(t, 1, 1)
	w.person("ines", store.RoleAuditor)
	b := w.signedIn("ines")
	next := "/sessions/" + x.ID + "?channel=1&view=transcript"
	var all strings.Builder
	pages := 0
	for ; next != "" && pages < 20; pages++ {
		page := b.shows(next, `aria-label="Transcript"`)
		all.WriteString(page)
		_, after, _ := strings.Cut(page, `class="btn" href="/sessions/`+x.ID+`?channel=1&amp;from=`)
		if next = ""; after != "" {
			more, _, _ := strings.Cut(after, `"`)
			next = "/sessions/" + x.ID + "?channel=1&from=" + strings.ReplaceAll(more, "&amp;", "&")
		}
	}
	text := all.String()
	if pages < 3 || pages > 6 {
		t.Errorf("%d pages", pages)
	}
	for i := 25; i < 3600; i += 30 {
		if n := strings.Count(text, fmt.Sprintf("moment %d\n", i)); n != 1 {
			t.Errorf("moment %d is there %d times", i, n)
		}
	}
	for _, want := range []string{`<section id="t25"`, `href="/sessions/` + x.ID + `?channel=1&amp;t=25">0:25`, `<p class="mark">90 × 28</p>`, `<p class="mark">the session was ended: late</p>`} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%d times %s", strings.Count(text, want), want)
		}
	}
}

// TestFileMarkers: files that passed beside a shell are on its time line, and their names are text.
func TestFileMarkers(t *testing.T) {
	t.Parallel()
	w, x, _ := newLongWorld(t, 1, 1)
	w.person("ines", store.RoleAuditor)
	x, err := w.Store.Sessions.Get(context.Background(), x.ID)
	must(t, err)
	begun := x.Channels[0].Started
	must(t, w.Store.Transfers.Put(context.Background(), x.ID, 2, []store.Transfer{
		{Seq: 1, Op: "read", Path: "/etc/shadow", Started: begun.Add(90 * time.Second), Ended: begun.Add(91 * time.Second)},
		{Seq: 2, Op: "rename", Path: "/tmp/\x1b[6n<b>", NewPath: "/tmp/\u202eb", Started: begun.Add(2 * time.Hour), Ended: begun.Add(2 * time.Hour)},
		{Seq: 4, Op: "list", Path: "/", Started: begun.Add(time.Second), Ended: begun.Add(time.Second)},
		{Seq: 3, Op: "rename", Path: "/tmp/\x1b[6n<b>", NewPath: "/tmp/\u202eb", Started: begun.Add(100 * time.Second), Ended: begun.Add(100 * time.Second)},
	}))
	page := w.signedIn("ines").shows("/sessions/"+x.ID, `>1:30</a> <span class="badge">file</span> <span class="any">download /etc/shadow</span>`, `rename /tmp/\u{1b}[6n&lt;b&gt; → /tmp/\u{202e}b</span>`)
	if n := strings.Count(page, `<span class="badge">file</span>`); n != 2 {
		t.Errorf("%d files are marked, want 2", n)
	}
	_, index, _ := w.signedIn("ines").get("/sessions/" + x.ID + "/channels/1/replay.json")
	if !strings.Contains(index, `[90,"download /etc/shadow"]`) {
		t.Errorf("the player's markers are %.500s", index[strings.Index(index, `"markers"`):])
	}
}
