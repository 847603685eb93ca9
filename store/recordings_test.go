package store_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// recorded opens a session of a node with one channel that is recorded.
func recorded(t *testing.T, s *store.Store, node string, retention time.Duration) string {
	t.Helper()
	x := must[store.Session](t)(s.Sessions.Open(t.Context(), store.Session{User: "alice", Node: node}))
	check(t, s.Sessions.OpenChannel(t.Context(), x.ID, store.Channel{ID: 1, Kind: "shell", Recording: "day/" + x.ID + "/1.cast", Retention: retention}))
	return x.ID
}

func sealed(id string) *store.SealedRecording {
	return &store.SealedRecording{Path: "day/" + id + "/1.cast.zst", Root: "root-" + id, Bytes: 100, Packed: 40, Parts: 2}
}

func recordingOf(t *testing.T, s *store.Store, id string) store.Recording {
	t.Helper()
	list := must[[]store.Recording](t)(s.Recordings.Of(t.Context(), id))
	if len(list) != 1 {
		t.Fatalf("session %s has %d recordings", id, len(list))
	}
	return list[0]
}

func TestRecordings(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		id := recorded(t, s, "n1", 24*time.Hour)
		if r := recordingOf(t, s, id); r.State != store.RecordingOpen || r.Node != "n1" || !r.AtNode || r.Retention != 24*time.Hour || !r.DeleteAfter.IsZero() {
			t.Errorf("open: %+v", r)
		}
		check(t, s.Sessions.CloseChannel(ctx, id, store.Channel{ID: 1, Kind: "shell", Recording: "day/" + id + "/1.cast.zst", Retention: 24 * time.Hour, Sealed: sealed(id), Ended: start}))
		want := store.Recording{SessionID: id, Channel: 1, Node: "n1", Path: "day/" + id + "/1.cast.zst", State: store.RecordingSealed, AtNode: true,
			Bytes: 100, Packed: 40, Parts: 2, Root: "root-" + id, Retention: 24 * time.Hour, DeleteAfter: start.Add(24 * time.Hour)}
		if r := recordingOf(t, s, id); r != want {
			t.Errorf("sealed: %+v", r)
		}
		if list := must[[]store.Recording](t)(s.Recordings.AtNode(ctx, "n1")); len(list) != 1 {
			t.Errorf("on the disk of n1: %+v", list)
		}
		check(t, s.Recordings.Stored(ctx, id, 1))
		if list := must[[]store.Recording](t)(s.Recordings.AtNode(ctx, "n1")); len(list) != 0 {
			t.Errorf("on the disk of n1: %+v", list)
		}
		if u := must[store.RecordingUsage](t)(s.Recordings.Usage(ctx)); u != (store.RecordingUsage{Kept: 1, Packed: 40}) {
			t.Errorf("usage: %+v", u)
		}
		forever := recorded(t, s, "n1", 0)
		check(t, s.Sessions.CloseChannel(ctx, forever, store.Channel{ID: 1, Recording: "x", Sealed: sealed(forever)}))
		if r := recordingOf(t, s, forever); !r.DeleteAfter.IsZero() {
			t.Errorf("for ever: %+v", r)
		}
	})
}

// TestLostNodes has several nodes look for a dead one at once: each of its sessions is taken by one of
// them, with one event, and so is each recording.
func TestLostNodes(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		if e.name == "memory" {
			return // its clock cannot be turned back from outside
		}
		s, ctx := e.open(), t.Context()
		var ids []string
		for range 20 {
			ids = append(ids, recorded(t, s, "dead", time.Hour))
		}
		alive, silentEver := recorded(t, s, "alive", 0), recorded(t, s, "never told", 0)
		for _, node := range []string{"dead", "alive"} {
			check(t, s.Sessions.Alive(ctx, node))
		}
		note := func(x store.Session) (audit.Event, error) {
			return audit.Event{ID: "e-" + x.ID, Time: start, Type: audit.SessionEnded, Result: audit.Error, Session: x.ID}, nil
		}
		if lost := must[[]store.Session](t)(s.Sessions.MarkLostNodes(ctx, "n0", time.Minute, note)); len(lost) != 0 {
			t.Errorf("lost too early: %+v", lost)
		}
		if _, err := raw(t, e.dsn).ExecContext(ctx, "UPDATE nodes SET seen = seen - 61000 WHERE name = 'dead'"); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		got, claims := map[string]int{}, map[string]int{}
		var wg sync.WaitGroup
		for i := range 4 {
			own := e.open()
			wg.Go(func() {
				node := fmt.Sprintf("n%d", i)
				lost, err := own.Sessions.MarkLostNodes(ctx, node, time.Minute, note)
				if err != nil {
					t.Error(err)
				}
				for range 3 {
					list, err := own.Recordings.ClaimPending(ctx, node)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					for _, r := range list {
						claims[r.SessionID]++
					}
					mu.Unlock()
				}
				mu.Lock()
				defer mu.Unlock()
				for _, x := range lost {
					got[x.ID]++
				}
			})
		}
		wg.Wait()
		for _, r := range must[[]store.Recording](t)(s.Recordings.ClaimPending(ctx, "n0")) {
			claims[r.SessionID]++
		}
		for _, id := range ids {
			r := recordingOf(t, s, id)
			if got[id] != 1 || claims[id] != 1 || r.State != store.RecordingPending {
				t.Errorf("session %s was lost %d times, its recording was given out %d times and is %s", id, got[id], claims[id], r.State)
			}
		}
		events := must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{Type: audit.SessionEnded, Limit: 100}))
		if len(events) != len(ids) {
			t.Errorf("%d events for %d sessions", len(events), len(ids))
		}
		for _, id := range []string{alive, silentEver} {
			if x := must[store.Session](t)(s.Sessions.Get(ctx, id)); x.State != store.Live {
				t.Errorf("session of %s: %s", x.Node, x.State)
			}
		}

		// What was sealed is there for the node that comes back, which seals the rest.
		r := recordingOf(t, s, ids[0])
		check(t, s.Recordings.SetPending(ctx, r, []byte(`{"end":1}`), *sealed(r.SessionID)))
		wantError(t, "sealing it again", s.Recordings.SetPending(ctx, r, []byte(`{"end":2}`), *sealed(r.SessionID)), store.ErrConflict)
		if line, err := s.Recordings.Pending(ctx, r.SessionID, 1); err != nil || string(line) != `{"end":1}` {
			t.Errorf("pending: %q, %v", line, err)
		}
		check(t, s.Recordings.SetPending(ctx, recordingOf(t, s, ids[1]), nil, store.SealedRecording{}))
		for _, id := range []string{ids[1], ids[2], "no such session"} {
			if line, err := s.Recordings.Pending(ctx, id, 1); err != nil || line != nil {
				t.Errorf("pending of %s: %q, %v", id, line, err)
			}
		}
		check(t, s.Recordings.Seal(ctx, r.SessionID, 1, *sealed(r.SessionID)))
		if r := recordingOf(t, s, ids[0]); r.State != store.RecordingSealed || r.Root == "" || r.DeleteAfter.IsZero() {
			t.Errorf("sealed by its own node: %+v", r)
		}

		// A node that was taken for lost, and was not.
		back := must[[]store.Session](t)(s.Sessions.Revive(ctx, "dead", []string{ids[3], alive}))
		if len(back) != 1 || back[0].ID != ids[3] || back[0].State != store.Live || recordingOf(t, s, ids[3]).State != store.RecordingOpen {
			t.Errorf("revived %+v", back)
		}
	})
}

// TestRetention has several nodes delete what is old enough, and nothing else: each recording is given
// to one node, and a hold and a deletion of the same recording never both succeed.
func TestRetention(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		end := func(id string, retention time.Duration) {
			check(t, s.Sessions.CloseChannel(ctx, id, store.Channel{ID: 1, Recording: "r", Retention: retention, Sealed: sealed(id), Ended: start}))
		}
		young, forever, held, open := recorded(t, s, "n1", 0), recorded(t, s, "n1", 0), recorded(t, s, "n1", 0), recorded(t, s, "n1", time.Hour)
		elsewhere := recorded(t, s, "n9", 0)
		end(young, 48*time.Hour)
		end(forever, 0)
		end(held, time.Hour)
		end(elsewhere, time.Hour)
		check(t, s.Recordings.Hold(ctx, store.Hold{SessionID: held, Reason: "case 7", Actor: "carol"}, audit.Event{ID: "h", Time: start, Type: audit.OperatorChange}))
		wantError(t, "holding nothing", s.Recordings.Hold(ctx, store.Hold{SessionID: "none"}), store.ErrNotFound)
		var old []string
		for range 10 {
			id := recorded(t, s, "n1", 0)
			end(id, time.Hour)
			old = append(old, id)
		}
		if list := must[[]store.Recording](t)(s.Recordings.ClaimExpired(ctx, "n1")); len(list) != 0 {
			t.Errorf("deleted too early: %+v", list)
		}
		e.clock.Move(2 * time.Hour)
		if list := must[[]store.Recording](t)(s.Recordings.ClaimExpired(ctx, "n2")); len(list) != 0 {
			t.Errorf("a node was given what is on the disk of another one: %+v", list)
		}

		var mu sync.Mutex
		given, kept := map[string]store.Recording{}, map[string]bool{}
		var wg sync.WaitGroup
		for range 3 {
			own := e.open()
			wg.Go(func() {
				list, err := own.Recordings.ClaimExpired(ctx, "n1")
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, r := range list {
					if _, twice := given[r.SessionID]; twice {
						t.Errorf("%s was given out twice", r.SessionID)
					}
					given[r.SessionID] = r
				}
			})
		}
		for _, id := range old[:5] {
			own := e.open()
			wg.Go(func() {
				err := own.Recordings.Hold(ctx, store.Hold{SessionID: id, Reason: "race"})
				if err != nil && !errors.Is(err, store.ErrBeingRemoved) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				kept[id] = err == nil
			})
		}
		wg.Wait()
		for i, id := range old {
			if _, gone := given[id]; gone == kept[id] {
				t.Errorf("recording %d: given out to be deleted %v, held %v", i, gone, kept[id])
			}
		}
		for _, id := range []string{young, forever, held, open, elsewhere} {
			if _, gone := given[id]; gone {
				t.Errorf("%+v was given out", recordingOf(t, s, id))
			}
		}

		// Whoever began and died: another one is given it later. What is locked in the store comes later, too.
		r := given[old[9]]
		if list := must[[]store.Recording](t)(s.Recordings.ClaimExpired(ctx, "n1")); len(list) != 0 {
			t.Errorf("given out again at once: %+v", list)
		}
		e.clock.Move(11 * time.Minute)
		if list := must[[]store.Recording](t)(s.Recordings.ClaimExpired(ctx, "n1")); len(list) != len(given) {
			t.Errorf("%d of %d were given out again", len(list), len(given))
		}
		check(t, s.Recordings.Postpone(ctx, r, e.clock.Now().Add(time.Hour)))
		for _, id := range []string{old[8], old[9]} {
			check(t, s.Transfers.Put(ctx, id, 2, []store.Transfer{{SessionID: id, Channel: 2, Seq: 1, Op: "read", Path: "/x", Result: "ok", Started: start}}))
		}
		check(t, s.Recordings.Removed(ctx, given[old[8]], audit.Event{ID: "d", Time: start, Type: audit.RecordDeleted}))
		if r := recordingOf(t, s, old[8]); r.State != store.RecordingRemoved || r.Root == "" || r.Removed.IsZero() || r.AtNode {
			t.Errorf("removed: %+v", r)
		}
		if r := recordingOf(t, s, old[9]); r.State != store.RecordingSealed {
			t.Errorf("postponed: %+v", r)
		}
		for id, want := range map[string]int{old[8]: 0, old[9]: 1} { // the ledger goes with the last recording of a session
			if lines := must[[]store.Transfer](t)(s.Transfers.List(ctx, store.TransferFilter{SessionID: id})); len(lines) != want {
				t.Errorf("%d lines of the ledger, want %d", len(lines), want)
			}
		}

		holds := must[map[string]store.Hold](t)(s.Recordings.Holds(ctx, held, young))
		if len(holds) != 1 || holds[held].Reason != "case 7" || holds[held].Actor != "carol" {
			t.Errorf("holds: %+v", holds)
		}
		check(t, s.Recordings.Release(ctx, held))
		wantError(t, "releasing it again", s.Recordings.Release(ctx, held), store.ErrNotFound)
		if list := must[[]store.Recording](t)(s.Recordings.ClaimExpired(ctx, "n1")); len(list) != 1 || list[0].SessionID != held {
			t.Errorf("after the release: %+v", list)
		}
		check(t, s.Recordings.Stored(ctx, elsewhere, 1))
		if list := must[[]store.Recording](t)(s.Recordings.ClaimExpired(ctx, "n1")); len(list) != 1 || list[0].SessionID != elsewhere {
			t.Errorf("in the store: %+v", list)
		}
	})
}
