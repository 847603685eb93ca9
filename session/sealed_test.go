package session

import (
	"context"
	"crypto/ed25519"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/internal/seal"
	"sallyport/recorder"
	"sallyport/store"
)

// disk is what a node keeps on its disk: it outlives the process.
type disk struct {
	st  *store.Store
	rec *recorder.Recorder
	m   *Manager
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	ring, err := seal.NewRing()
	check(t, err)
	st, err := store.Open(t.Context(), store.Config{DSN: "sqlite:" + filepath.Join(t.TempDir(), "s.db"), Ring: ring})
	check(t, err)
	_, key, err := ed25519.GenerateKey(nil)
	check(t, err)
	rec, err := recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: key, Node: "n"})
	check(t, err)
	t.Cleanup(func() {
		check(t, rec.Close())
		check(t, st.Close())
	})
	p := &disk{st: st, rec: rec}
	p.boot()
	return p
}

// boot is a new process on the same disk.
func (p *disk) boot() {
	quiet := slog.New(slog.NewJSONHandler(io.Discard, nil))
	p.m = NewManager(Config{Store: p.st, Recorder: p.rec, Node: "n", Log: quiet, Audit: auditlog.New(auditlog.Config{Sink: p.st.Audit, Logger: quiet, Node: "n"})})
}

func (p *disk) recording(t *testing.T, session string) store.Recording {
	t.Helper()
	list, err := p.st.Recordings.Of(t.Context(), session)
	check(t, err)
	if len(list) != 1 {
		t.Fatalf("%d recordings of session %s", len(list), session)
	}
	return list[0]
}

// A process that died between sealing a recording and noting so left a row that said for ever that the rest of the recording
// was on a lost node: it was never deleted, and the console waited for it. The next process of the node notes what is
// sealed; what still runs, or is not there, it leaves alone.
func TestSealedAndNotNoted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := newDisk(t)
	begun := func() (store.Session, *recorder.Recording) {
		row, err := p.st.Sessions.Open(ctx, store.Session{UserID: "u", User: "alice", Target: "web1", Node: "n", Recording: "required"})
		check(t, err)
		rec, err := p.rec.Create(recorder.Header{Session: row.ID, Channel: 1, Started: time.Now(), Kind: "exec"})
		check(t, err)
		check(t, rec.Output([]byte("hello")))
		check(t, p.st.Sessions.OpenChannel(ctx, row.ID, store.Channel{ID: 1, Kind: "exec", Recording: rec.Path(), Retention: time.Hour}))
		return row, rec
	}
	died, rec := begun()
	sum, err := rec.Close() // … and then the process died
	check(t, err)
	open, stillOpen := begun()
	gone, err := p.st.Sessions.Open(ctx, store.Session{UserID: "u", User: "alice", Target: "web1", Node: "n"})
	check(t, err)
	check(t, p.st.Sessions.OpenChannel(ctx, gone.ID, store.Channel{ID: 1, Kind: "exec", Recording: "2026/11/26/" + gone.ID + "/1.cast"}))

	p.boot()
	check(t, p.m.Begin(ctx))
	for range 2 {
		check(t, p.m.sealLeft(ctx))
	}
	if r := p.recording(t, died.ID); r.State != store.RecordingSealed || r.Root != sum.Root || r.Path != sum.Path || r.Bytes != sum.Bytes || r.Packed != sum.Packed || r.Parts != 1 || r.DeleteAfter.IsZero() {
		t.Errorf("%+v, want what was sealed: %+v", r, sum)
	}
	for _, id := range []string{open.ID, gone.ID} {
		if r := p.recording(t, id); r.State != store.RecordingPending || r.Root != "" {
			t.Errorf("%+v, want it untouched", r)
		}
	}
	events, err := p.st.Audit.List(ctx, store.AuditFilter{Type: audit.RecordSealed})
	check(t, err)
	if len(events) != 1 || events[0].Session != died.ID || events[0].Detail["root"] != sum.Root {
		t.Errorf("events %+v", events)
	}
	_, err = stillOpen.Close()
	check(t, err)
}
