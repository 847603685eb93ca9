package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/recorder"
	"sallyport/store"
)

// The ledger of a session as an operator reads it: as a table, as one JSON value however long, as CSV.
func TestOperatorFiles(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	id := o.record(func(*recorder.Recording) {})
	if r := o.run("session", "files", id); r.code != 0 || !strings.Contains(r.err, "No files were transferred.") {
		t.Errorf("without files: %+v", r)
	}
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	list := []store.Transfer{{Seq: 1, Op: "rename", Path: "/evil\x1b[2J", NewPath: "/b", Result: "ok", Started: at, Ended: at}}
	for i := range 1200 {
		list = append(list, store.Transfer{Seq: i + 2, Op: "write", Path: fmt.Sprint("/f", i), Bytes: 2048, SHA256: "ab", InOrder: true, Result: "ok", Started: at, Ended: at})
	}
	noError(t, o.node.Store.Transfers.Put(context.Background(), id, 2, list))
	out := o.ok("session", "files", id)
	if strings.Contains(out, "\x1b") || !strings.Contains(out, `/evil\u{1b}[2J -> /b`) || !strings.Contains(out, "/f1199") {
		t.Errorf("session files: %.500q", out)
	}
	if files := object[[]admin.File](o, "session", "files", id); len(files) != 1201 || files[1200].ID != "2.1201" || files[1200].Path != "/f1199" {
		t.Errorf("%d files in JSON", len(files))
	}
	if files := object[[]admin.File](o, "session", "files", id, "--channel", "1"); len(files) != 0 {
		t.Errorf("channel 1: %v", files)
	}
	if out := o.ok("session", "files", id, "--csv"); strings.Count(out, "\n") != 1202 || !strings.HasPrefix(out, "id,started,") {
		t.Errorf("as CSV: %.300q", out)
	}
}

// What a rule holds files to is explained.
func TestOperatorExplainFiles(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.ok("user", "add", "dave", "--no-password")
	o.addTarget("web1")
	o.ok("apply", "-f", o.file("files.yaml", "version: 1\nrules:\n  - {name: files, users: ['*'], targets: ['*'], sftp: {read: [/srv/**]}}\n"))
	if out := o.ok("explain", "--user", "dave", "--target", "web1", "--channel", "sftp"); !strings.Contains(out, `files: read: ["/srv/**"]`) {
		t.Errorf("explain: %s", out)
	}
}
