package session

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/internal/seal"
	"sallyport/store"
)

// A commit whose answer was lost: the session was refused and its row is there. It would take a place of its limit until
// the node ends. The row is ended as soon as it is seen, also if that is after the database said that it has none; where
// there never was one nothing is left.
func TestSessionInDoubt(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	ring, err := seal.NewRing()
	check(t, err)
	st, err := store.Open(ctx, store.Config{DSN: "sqlite:" + filepath.Join(t.TempDir(), "s.db"), Ring: ring})
	check(t, err)
	defer st.Close()
	quiet := slog.New(slog.NewJSONHandler(io.Discard, nil))
	m := NewManager(Config{Store: st, Node: "n", Log: quiet, Audit: auditlog.New(auditlog.Config{Sink: st.Audit, Logger: quiet, Node: "n"})})

	gone, cancel := context.WithCancel(ctx)
	cancel()
	p := Params{Row: store.Session{ID: "there", UserID: "u", User: "alice", Target: "web1", Started: time.Now()}}
	late := p
	late.Row.ID = "late"
	never := p
	never.Row.ID = "never"
	for _, p := range []Params{p, late, never} {
		if _, err := m.Open(gone, p); err == nil {
			t.Fatal("a session was opened without an answer of the database")
		}
	}
	write := func(p Params) {
		row := p.Row
		row.Node = "n"
		_, err := st.Sessions.Open(ctx, row)
		check(t, err)
	}
	write(p)
	m.settle(ctx)
	write(late)
	for range maxNo + 1 {
		m.settle(ctx)
	}
	for _, id := range []string{"there", "late"} {
		row, err := st.Sessions.Get(ctx, id)
		check(t, err)
		if row.State != store.Ended || row.Reason == "" {
			t.Errorf("%s is %s: %q", id, row.State, row.Reason)
		}
	}
	events, err := st.Audit.List(ctx, store.AuditFilter{Type: audit.SessionEnded})
	check(t, err)
	if len(events) != 2 || len(m.doubts.list) != 0 {
		t.Errorf("%d ends were written and %d doubts are left", len(events), len(m.doubts.list))
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
