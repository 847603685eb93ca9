package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// lostOne is a session of a lost node with one recording, kept for a day.
func lostOne(t *testing.T, s *store.Store, node string) store.Recording {
	t.Helper()
	ctx := t.Context()
	check(t, s.Sessions.Alive(ctx, node))
	x := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{User: "alice", Target: "web1", Node: node}))
	check(t, s.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell", Recording: "day/" + x.ID + "/1.cast", Retention: 24 * time.Hour}))
	_, err := s.Sessions.MarkLostNodes(ctx, "n1", -time.Hour, func(x store.Session) (audit.Event, error) {
		return audit.Event{ID: "lost-" + x.ID, Time: start, Type: audit.SessionEnded}, nil
	})
	check(t, err)
	return recordingOf(t, s, x.ID)
}

// Sealing and removing said that all was well, and wrote their events, when there was no row to change: of two nodes
// that deleted both did, and one that came late to seal brought back what was deleted.
func TestRecordingsThatAreGone(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		events := 0
		event := func() audit.Event {
			events++
			return audit.Event{ID: fmt.Sprint("e", events), Time: start, Type: audit.RecordDeleted}
		}
		r := lostOne(t, s, "dead")
		wantError(t, "sealing what nobody knows", s.Recordings.Seal(ctx, r.SessionID, 7, *sealed(r.SessionID), event()), store.ErrNotFound)
		wantError(t, "removing what is not being removed", s.Recordings.Removed(ctx, r, event()), store.ErrConflict)
		check(t, s.Recordings.SealLost(ctx, r.SessionID, 1, *sealed(r.SessionID)))
		check(t, s.Recordings.Stored(ctx, r.SessionID, 1))
		e.clock.Move(25 * time.Hour)
		due := must[[]store.Recording](t)(s.Recordings.ClaimExpired(ctx, "n1"))
		if len(due) != 1 {
			t.Fatalf("due: %+v", due)
		}
		check(t, s.Recordings.Removed(ctx, due[0]))
		wantError(t, "removing it twice", s.Recordings.Removed(ctx, due[0], event()), store.ErrConflict)
		wantError(t, "sealing it late", s.Recordings.SealLost(ctx, r.SessionID, 1, *sealed(r.SessionID), event()), store.ErrConflict)
		if r := recordingOf(t, s, r.SessionID); r.State != store.RecordingRemoved {
			t.Errorf("%+v", r)
		}
		if got := must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{Type: audit.RecordDeleted})); len(got) != 0 {
			t.Errorf("events of nothing: %+v", got)
		}
	})
}

// What a node that never comes back had was waited for for ever, and so was the deletion of what others had of it.
func TestGiveUp(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		some, none := lostOne(t, s, "dead"), lostOne(t, s, "dead2")
		check(t, s.Recordings.SetPending(ctx, some, []byte(`{"end":1}`), *sealed(some.SessionID)))
		_, err := s.Recordings.GiveUp(ctx, none.SessionID, true)
		wantError(t, "before anybody has looked into the bucket", err, store.ErrConflict)
		e.clock.Move(48 * time.Hour)
		if due := must[[]store.Recording](t)(s.Recordings.ClaimExpired(ctx, "n1")); len(due) != 0 {
			t.Errorf("deleted while its tail is waited for: %+v", due)
		}
		for _, r := range []store.Recording{some, none} {
			if n, err := s.Recordings.GiveUp(ctx, r.SessionID, false, audit.Event{ID: "give-up " + r.SessionID, Time: start, Type: audit.OperatorChange}); err != nil || n != 1 {
				t.Errorf("%d, %v", n, err)
			}
			_, err := s.Recordings.GiveUp(ctx, r.SessionID, false)
			wantError(t, "twice", err, store.ErrNotFound)
		}
		if r := recordingOf(t, s, none.SessionID); r.State != store.RecordingRemoved || r.GivenUp.IsZero() || r.Removed.IsZero() {
			t.Errorf("of which nothing is left: %+v", r)
		}
		if r := recordingOf(t, s, some.SessionID); r.State != store.RecordingSealed || r.AtNode || !r.DeleteAfter.Equal(e.clock.Now().Add(24*time.Hour)) || r.GivenUp.IsZero() {
			t.Errorf("what was sealed: %+v", r)
		}
		if got := must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{Type: audit.OperatorChange})); len(got) != 2 {
			t.Errorf("events: %+v", got)
		}
		e.clock.Move(25 * time.Hour)
		due := must[[]store.Recording](t)(s.Recordings.ClaimExpired(ctx, "n1"))
		if len(due) != 1 || due[0].SessionID != some.SessionID {
			t.Fatalf("due: %+v", due)
		}
		check(t, s.Recordings.Removed(ctx, due[0]))
		// And yet it comes back.
		for _, r := range []store.Recording{some, none} {
			check(t, s.Recordings.Seal(ctx, r.SessionID, 1, *sealed(r.SessionID)))
			if r := recordingOf(t, s, r.SessionID); r.State != store.RecordingSealed || !r.AtNode || !r.GivenUp.IsZero() || !r.Removed.IsZero() || r.DeleteAfter.IsZero() {
				t.Errorf("it came back: %+v", r)
			}
		}
	})
}

// The list of files of a session without recordings was never deleted, whatever the rules said.
func TestLedgerIsDeleted(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		open := func(retention time.Duration, end bool) string {
			x := must[store.Session](t)(s.Sessions.Open(ctx, store.Session{User: "alice", Target: "web1", Node: "n1"}))
			for channel, kept := range map[int]time.Duration{1: retention, 2: 0} {
				check(t, s.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: channel, Kind: "sftp", Retention: kept}))
				check(t, s.Transfers.Put(ctx, x.ID, channel, []store.Transfer{{SessionID: x.ID, Channel: channel, Seq: 1, Op: "read", Path: "/x", Result: "ok", Started: start}}))
			}
			if end {
				check(t, s.Sessions.End(ctx, x.ID, "done"))
			}
			return x.ID
		}
		due, young, live, held, ever := open(24*time.Hour, true), open(72*time.Hour, true), open(24*time.Hour, false), open(24*time.Hour, true), open(0, true)
		recorded := open(24*time.Hour, true)
		check(t, s.Sessions.CloseChannel(ctx, recorded, store.Channel{ID: 3, Kind: "shell", Recording: "day/x/3.cast", Sealed: sealed(recorded)}))
		check(t, s.Recordings.Hold(ctx, store.Hold{SessionID: held, Reason: "case 7", Actor: "carol"}))
		e.clock.Move(25 * time.Hour)
		list := must[[]store.ExpiredLedger](t)(s.Transfers.Expired(ctx))
		if len(list) != 1 || list[0] != (store.ExpiredLedger{SessionID: due, Channel: 1, Lines: 1, Retention: 24 * time.Hour}) {
			t.Fatalf("due: %+v", list)
		}
		late := list[0]
		late.SessionID = held
		wantError(t, "who was held meanwhile", s.Transfers.Remove(ctx, late, audit.Event{ID: "late", Time: start, Type: audit.RecordDeleted}), store.ErrConflict)
		check(t, s.Transfers.Remove(ctx, list[0], audit.Event{ID: "e", Time: start, Type: audit.RecordDeleted}))
		wantError(t, "twice", s.Transfers.Remove(ctx, list[0]), store.ErrConflict)
		for id, want := range map[string]int{due: 1, young: 2, live: 2, held: 2, ever: 2, recorded: 2} {
			if lines := must[[]store.Transfer](t)(s.Transfers.List(context.Background(), store.TransferFilter{SessionID: id})); len(lines) != want {
				t.Errorf("%d lines, want %d", len(lines), want)
			}
		}
		if got := must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{Type: audit.RecordDeleted})); len(got) != 1 {
			t.Errorf("events: %+v", got)
		}
	})
}
