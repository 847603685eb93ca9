package admin

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/store"
)

// transfers adds a channel on which files were transferred to a session.
func (w *pageWorld) transfers(x store.Session, channel int) {
	w.t.Helper()
	ctx := context.Background()
	at := w.now()
	sum := "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
	must(w.t, w.Store.Sessions.CloseChannel(ctx, x.ID, store.Channel{ID: channel, Kind: "sftp", Started: at, Ended: at.Add(time.Minute), FilesRead: 1, FilesWritten: 2}))
	must(w.t, w.Store.Transfers.Put(ctx, x.ID, channel, []store.Transfer{
		{Seq: 1, Op: "write", Path: "/srv/in/report-2026-11.csv.part", Bytes: 73 << 20, SHA256: sum, InOrder: true, Result: "ok", Detail: "mode 0640", Started: at, Ended: at.Add(9 * time.Second)},
		{Seq: 2, Op: "rename", Path: "/srv/in/report-2026-11.csv.part", NewPath: "/srv/in/report-2026-11.csv", Result: "ok", Started: at, Ended: at},
		{Seq: 3, Op: "read", Path: "/etc/shadow", Result: "refused", Detail: "rule files does not allow reading /etc/shadow", Started: at, Ended: at},
		{Seq: 4, Op: "write", Path: "=1+1\x1b[2J\xff<script>", Bytes: 12, Result: "failed", Detail: "not in order, so without a SHA-256", Started: at, Ended: at.Add(time.Second)},
		{Seq: 5, Op: "read", Path: "/var/backups/" + strings.Repeat("a-very-long-name-", 12), Result: "open", Started: at},
	}))
}

// A session's page shows its files, another one all of them in pages, and the CSV is safe for spreadsheets.
func TestFilesPages(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ines", store.RoleAuditor)
	x, many := w.openSession("alice", "web1"), w.openSession("alice", "web1")
	w.transfers(x, 1)
	b := w.signedIn("ines")
	page := b.shows("/sessions/"+x.ID, "report-2026-11.csv", "73.0 MiB", "2d711642b726", "refused", `=1&#43;1\u{1b}[2J\xff&lt;script&gt;`, "under way", "/sessions/"+x.ID+"/files.csv")
	if strings.Contains(page, "<script>\"") || strings.Contains(page, "\x1b") {
		t.Error("a path is not escaped")
	}
	b.shows("/sessions", "2 files up, 1 down")
	must(t, w.Store.Sessions.End(t.Context(), x.ID, "lost"))
	if page := b.shows("/sessions/"+x.ID, "the node stopped before it was over"); strings.Contains(page, "under way") {
		t.Error("of a session that is over a file is under way")
	}
	b.shows("/sessions/"+many.ID+"/files", "No files")
	if page := b.shows("/sessions/" + many.ID); strings.Contains(page, ">Files<") {
		t.Error("a session without files has a table of them")
	}

	var list []store.Transfer
	for i := range 450 {
		list = append(list, store.Transfer{Seq: i + 1, Op: "write", Path: fmt.Sprint("/f", i), Result: "ok", Started: w.now(), Ended: w.now()})
	}
	must(t, w.Store.Transfers.Put(t.Context(), many.ID, 1, list))
	b.shows("/sessions/"+many.ID, "All files", "/f19<")
	b.shows("/sessions/"+many.ID+"/files", "/f0<", "/f199<", "after=1.200")
	b.shows("/sessions/"+many.ID+"/files?after=1.400", "/f449<", ">First<")
	if status, _, _ := b.get("/sessions/" + many.ID + "/files?after=x"); status != http.StatusBadRequest && status != http.StatusUnprocessableEntity {
		t.Errorf("after=x: status %d", status)
	}
	if status, _, _ := b.get("/sessions/none/files"); status != http.StatusNotFound {
		t.Errorf("files of no session: status %d", status)
	}

	_, text, header := b.get("/sessions/" + x.ID + "/files.csv")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	must(t, err)
	if len(rows) != 6 || rows[4][5] != `'=1+1\u{1b}[2J\xff<script>` || rows[4][13] != "PTErMRtbMkr/PHNjcmlwdD4=" || rows[1][13] != "" || !strings.Contains(header.Get("Content-Disposition"), "files.csv") {
		t.Errorf("%v: %q", header, rows)
	}
	_, text, _ = b.get("/sessions/" + many.ID + "/files.csv")
	if rows, err := csv.NewReader(strings.NewReader(text)).ReadAll(); err != nil || len(rows) != 451 {
		t.Errorf("%d lines, %v", len(rows), err)
	}
}

// The API gives exact bytes, and pages that follow each other.
func TestFilesAPI(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x, err := f.st.Sessions.Open(t.Context(), store.Session{User: "alice"})
	noError(t, err)
	at := time.Now()
	noError(t, f.st.Transfers.Put(t.Context(), x.ID, 2, []store.Transfer{
		{Seq: 1, Op: "read", Path: "/a\xff", Bytes: 5, First: 3, SHA256: "ab", InOrder: true, Result: "ok", Started: at, Ended: at.Add(1500 * time.Millisecond)},
		{Seq: 2, Op: "rename", Path: "/a", NewPath: "/b", Result: "failed", Started: at, Ended: at},
	}))
	ask := func(query string) (list []File) {
		w := f.request(f.auditor, http.MethodGet, "/sessions/"+x.ID+"/files"+query, nil)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: status %d: %s", query, w.Code, w.Body)
		}
		noError(t, json.Unmarshal(w.Body.Bytes(), &list))
		return list
	}
	list := ask("")
	if len(list) != 2 || list[0].ID != "2.1" || list[0].PathBase64 != "L2H/" || list[0].Duration != 1.5 || list[0].Offset != 3 || list[1].NewPath != "/b" || list[1].PathBase64 != "" {
		t.Errorf("got %+v", list)
	}
	if list := ask("?after=2.1&limit=1"); len(list) != 1 || list[0].ID != "2.2" {
		t.Errorf("after the first: %+v", list)
	}
	if list := ask("?channel=1"); len(list) != 0 {
		t.Errorf("channel 1: %+v", list)
	}
	if w := f.request(f.auditor, http.MethodGet, "/sessions/none/files.csv", nil); w.Code != http.StatusNotFound {
		t.Errorf("CSV of no session: status %d", w.Code)
	}
	if w := f.request("", http.MethodGet, "/sessions/"+x.ID+"/files", nil); w.Code != http.StatusUnauthorized {
		t.Errorf("without a token: status %d", w.Code)
	}
}
