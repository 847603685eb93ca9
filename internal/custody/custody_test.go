package custody

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/internal/seal"
	"sallyport/internal/testenv"
	"sallyport/recorder"
	"sallyport/recorder/blob"
	"sallyport/store"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node is a Keeper with all that it looks after.
type node struct {
	*Keeper
	t     *testing.T
	clock *testenv.Clock
	dir   string
}

// newNode opens one; bucket may be nil.
func newNode(t *testing.T, bucket blob.Store) *node {
	t.Helper()
	ring, err := seal.NewRing()
	must(t, err)
	c := testenv.NewClock(time.Now())
	st, err := store.Open(t.Context(), store.Config{DSN: "sqlite:" + filepath.Join(t.TempDir(), "x.db"), Ring: ring, Now: c.Now})
	must(t, err)
	t.Cleanup(func() { st.Close() })
	n := &node{t: t, clock: c, dir: t.TempDir()}
	cfg := recorder.Config{Dir: n.dir, SigningKey: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)), Node: "n1", Sync: time.Millisecond}
	if bucket != nil {
		cfg.Store = bucket
	}
	rec, err := recorder.New(cfg)
	must(t, err)
	t.Cleanup(func() { rec.Close() })
	log := auditlog.New(auditlog.Config{Sink: st.Audit, Logger: slog.New(slog.DiscardHandler), Node: "n1"})
	n.Keeper = New(Config{Store: st, Recorder: rec, Audit: log, Node: "n1", Log: slog.New(slog.DiscardHandler)})
	return n
}

// record records a session that has ended, and is kept for the given time.
func (n *node) record(keep time.Duration) store.Recording {
	n.t.Helper()
	ctx := n.t.Context()
	x, err := n.cfg.Store.Sessions.Open(ctx, store.Session{User: "alice", Target: "web1", Node: "n1"})
	must(n.t, err)
	w, err := n.cfg.Recorder.Create(recorder.Header{Session: x.ID, Channel: 1})
	must(n.t, err)
	must(n.t, w.Output(bytes.Repeat([]byte("what was shown\r\n"), 1000)))
	sum, err := w.Close()
	must(n.t, err)
	must(n.t, n.cfg.Store.Sessions.CloseChannel(ctx, x.ID, store.Channel{ID: 1, Recording: sum.Path, Retention: keep,
		Sealed: &store.SealedRecording{Path: sum.Path, Root: sum.Root, Bytes: sum.Bytes, Packed: sum.Packed, Parts: sum.Parts}}))
	must(n.t, n.cfg.Store.Sessions.End(ctx, x.ID, "done"))
	return n.row(x.ID)
}

func (n *node) row(session string) store.Recording {
	n.t.Helper()
	list, err := n.cfg.Store.Recordings.Of(n.t.Context(), session)
	if err != nil || len(list) != 1 {
		n.t.Fatalf("recordings %+v, %v", list, err)
	}
	return list[0]
}

// deletions are the events of deletions, by session.
func (n *node) deletions() map[string]audit.Event {
	n.t.Helper()
	list, err := n.cfg.Store.Audit.List(n.t.Context(), store.AuditFilter{Type: audit.RecordDeleted, Limit: 100})
	must(n.t, err)
	found := map[string]audit.Event{}
	for _, e := range list { // the newest first
		if _, later := found[e.Session]; !later {
			found[e.Session] = e
		}
	}
	return found
}

func (n *node) readable(r store.Recording) bool {
	return n.cfg.Recorder.Export(io.Discard, r.Path, recorder.Text) == nil
}

// TestDeleteOld deletes what is old enough from the disk or the bucket, tells the audit log with the root,
// and leaves what is young, kept for ever or held.
func TestDeleteOld(t *testing.T) {
	t.Parallel()
	for _, withBucket := range []bool{false, true} {
		var bucket blob.Store
		var server *testenv.S3
		if withBucket {
			server = testenv.S3Server(t)
			bucket = newBucket(t, server, server.Bucket, "")
		}
		n := newNode(t, bucket)
		ctx := t.Context()
		forgotten := map[string]int{}
		n.cfg.Forget = func(_ context.Context, session string, channel int) error {
			if forgotten[session]++; forgotten[session] == 1 && !withBucket {
				return errors.New("the index does not answer")
			}
			return nil
		}
		old, young, forever, held := n.record(time.Hour), n.record(48*time.Hour), n.record(0), n.record(time.Hour)
		must(t, n.cfg.Store.Recordings.Hold(ctx, store.Hold{SessionID: held.SessionID, Reason: "case 7", Actor: "carol"}))
		if withBucket {
			testenv.WaitFor(t, "the bucket to have all", func() bool { s, _ := n.cfg.Recorder.Shipping(); return s.Recordings == 0 })
			must(t, n.noteStored(ctx))
			if n.row(old.SessionID).AtNode || len(filesBelow(t, n.dir)) > 0 {
				t.Errorf("on the node: %+v, %v", n.row(old.SessionID), filesBelow(t, n.dir))
			}
		}
		must(t, n.deleteOld(ctx))
		if d := n.deletions(); len(d) != 0 {
			t.Errorf("deleted too early: %+v", d)
		}
		n.clock.Move(2 * time.Hour)
		if err := n.deleteOld(ctx); (err != nil) == withBucket {
			t.Errorf("deleting: %v", err)
		}
		if !withBucket { // what could not be forgotten is there, and is tried again
			if !n.readable(old) {
				t.Error("deleted, and not forgotten")
			}
			n.clock.Move(failedLater + time.Minute)
			must(t, n.deleteOld(ctx))
		}
		e := n.deletions()
		if len(e) != 1 || e[old.SessionID].Detail["root"] != old.Root || e[old.SessionID].User != "alice" || e[old.SessionID].Result != audit.OK {
			t.Errorf("events: %+v", e)
		}
		if r := n.row(old.SessionID); r.State != store.RecordingRemoved || r.Root != old.Root || n.readable(r) {
			t.Errorf("the old one: %+v, readable %v", r, n.readable(r))
		}
		if states, err := n.cfg.Store.Search.States(ctx, old.SessionID); err != nil || len(states) != 1 || states[0].State != store.SearchOff {
			t.Errorf("the index of the old one: %+v, %v", states, err)
		}
		for _, r := range []store.Recording{young, forever, held} {
			if !n.readable(r) || n.row(r.SessionID).State != store.RecordingSealed {
				t.Errorf("%+v is not there", n.row(r.SessionID))
			}
		}
		left := filesBelow(t, n.dir)
		if withBucket {
			left = filesBelow(t, server.Dir)
		}
		for _, f := range left {
			if strings.Contains(f, old.SessionID) {
				t.Errorf("left: %s", f)
			}
		}
		must(t, n.cfg.Store.Recordings.Release(ctx, held.SessionID))
		forgotten[held.SessionID] = 1
		must(t, n.deleteOld(ctx))
		if n.readable(held) {
			t.Error("what was released is not deleted")
		}
	}
}

func newBucket(t *testing.T, s *testenv.S3, name, mode string) *blob.S3 {
	t.Helper()
	cfg := blob.S3Config{Endpoint: s.URL, Bucket: name, Region: "us-east-1", PathStyle: true, AccessKey: s.AccessKey, SecretKey: blob.Secret(s.SecretKey), LockMode: mode}
	if mode != "" {
		cfg.LockFor = time.Hour
	}
	b, err := blob.NewS3(cfg)
	must(t, err)
	return b
}

func filesBelow(t *testing.T, dir string) (list []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, name)
		}
		return err
	}))
	return list
}

// TestDeleteLocked leaves a recording whole that the bucket has locked, and tries again later.
func TestDeleteLocked(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	n := newNode(t, newBucket(t, server, server.Locked, "COMPLIANCE"))
	r := n.record(time.Minute)
	testenv.WaitFor(t, "the bucket to have it", func() bool { s, _ := n.cfg.Recorder.Shipping(); return s.Recordings == 0 })
	must(t, n.noteStored(t.Context()))
	n.clock.Move(time.Hour)
	must(t, n.deleteOld(t.Context()))
	row := n.row(r.SessionID)
	if row.State != store.RecordingSealed || !row.DeleteAfter.After(n.clock.Now()) || len(n.deletions()) != 0 {
		t.Errorf("%+v", row)
	}
	if report, err := n.cfg.Recorder.Verify(r.Path); err != nil || !report.Complete() {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// stubborn is a bucket that does not delete objects whose names hold a word.
type stubborn struct {
	blob.Store
	word string
}

func (b *stubborn) Delete(ctx context.Context, key string) error {
	if b.word != "" && strings.Contains(key, b.word) {
		return errors.New("503 Slow Down")
	}
	return b.Store.Delete(ctx, key)
}

// TestHoldAfterHalfADeletion: when a deletion failed on the way the index was gone, and the recording could be neither
// proved nor replayed. But it went back to "sealed" until the next try, and whoever held it meanwhile was told that it
// is kept. Now it stays "being deleted", and the rest goes later. Where nothing was deleted it can be held.
func TestHoldAfterHalfADeletion(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	bucket := &stubborn{Store: newBucket(t, server, server.Bucket, "")}
	n := newNode(t, bucket)
	ctx := t.Context()
	half, whole := n.record(time.Minute), n.record(3*time.Hour)
	testenv.WaitFor(t, "the bucket to have both", func() bool { s, _ := n.cfg.Recorder.Shipping(); return s.Recordings == 0 })
	must(t, n.noteStored(ctx))
	hold := func(r store.Recording) error {
		return n.cfg.Store.Recordings.Hold(ctx, store.Hold{SessionID: r.SessionID, Reason: "case 7", Actor: "carol"})
	}

	bucket.word = "/part-"
	n.clock.Move(time.Hour)
	if err := n.deleteOld(ctx); !errors.Is(err, recorder.ErrPartlyDeleted) {
		t.Errorf("deleting: %v", err)
	}
	if err := hold(half); !errors.Is(err, store.ErrBeingRemoved) {
		t.Errorf("holding what is half deleted: %v; readable: %v", err, n.readable(half))
	}
	bucket.word = ""
	must(t, n.deleteOld(ctx))
	if r := n.row(half.SessionID); r.State != store.RecordingRemoving {
		t.Errorf("tried again at once: %+v", r)
	}
	n.clock.Move(failedLater + time.Minute)
	must(t, n.deleteOld(ctx))
	if r := n.row(half.SessionID); r.State != store.RecordingRemoved {
		t.Errorf("not tried again: %+v", r)
	}
	for _, f := range filesBelow(t, server.Dir) {
		if strings.Contains(f, half.SessionID) {
			t.Errorf("left: %s", f)
		}
	}

	bucket.word = "/index"
	n.clock.Move(3 * time.Hour)
	if err := n.deleteOld(ctx); err == nil || errors.Is(err, recorder.ErrPartlyDeleted) {
		t.Errorf("deleting: %v", err)
	}
	if err := hold(whole); err != nil || !n.readable(whole) {
		t.Errorf("holding what is whole: %v; readable: %v", err, n.readable(whole))
	}
}

// TestQuota has no recording begun while more is kept than the quota, and again when there is room.
func TestQuota(t *testing.T) {
	t.Parallel()
	n := newNode(t, nil)
	n.cfg.Quota = 50
	r := n.record(time.Minute)
	must(t, n.lookAtQuota(t.Context()))
	_, err := n.cfg.Recorder.Create(recorder.Header{Session: "full"})
	if !errors.Is(err, recorder.ErrQuota) || !strings.Contains(err.Error(), "recordings.quota") {
		t.Errorf("beyond the quota: %v", err)
	}
	n.clock.Move(time.Hour)
	must(t, n.deleteOld(t.Context()))
	must(t, n.lookAtQuota(t.Context()))
	w, err := n.cfg.Recorder.Create(recorder.Header{Session: "room"})
	must(t, err)
	_, err = w.Close()
	must(t, err)
	if n.readable(r) {
		t.Error("it is still there")
	}
}

// TestSure: a node that could not reach the database itself says of nobody that they are silent.
func TestSure(t *testing.T) {
	t.Parallel()
	k := New(Config{Silence: time.Second})
	if k.sure() {
		t.Error("sure at once")
	}
	begun := time.Now()
	testenv.WaitFor(t, "being sure", func() bool { _ = k.beat(nil); return k.sure() })
	if d := time.Since(begun); d < time.Second {
		t.Errorf("sure after %v", d)
	}
	_ = k.beat(context.DeadlineExceeded)
	if k.sure() {
		t.Error("sure after an error")
	}
	_ = k.beat(nil)
	if k.sure() {
		t.Error("sure as soon as the database is back")
	}
}

// TestWithinAMinute: what the constants promise together.
func TestWithinAMinute(t *testing.T) {
	t.Parallel()
	if worst := store.LostAfter + lostEvery; worst > 55*time.Second {
		t.Errorf("a node is seen to be lost after up to %v", worst)
	}
}

// A recording of a lost node that was signed with a compromised key was tried again every ten minutes for ever, and nobody
// heard of it. It is told, once, and left as it is.
func TestSealPendingCompromised(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := testenv.S3Server(t)
	n := newNode(t, newBucket(t, server, server.Bucket, ""))
	must(t, n.cfg.Store.Sessions.Alive(ctx, "n1"))
	x, err := n.cfg.Store.Sessions.Open(ctx, store.Session{User: "alice", Target: "web1", Node: "n1"})
	must(t, err)
	w, err := n.cfg.Recorder.Create(recorder.Header{Session: x.ID, Channel: 1})
	must(t, err)
	must(t, n.cfg.Store.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell", Recording: w.Path()}))
	must(t, w.Output(bytes.Repeat([]byte("what was shown\r\n"), 40_000)))
	testenv.WaitFor(t, "a part in the bucket", func() bool {
		parts, err := n.cfg.Recorder.Parts(ctx, w.Path())
		return err == nil && len(parts) > 0
	})
	own := n.cfg.Recorder.Keys()[0]
	own.CompromisedFrom = time.Now().Add(-time.Hour)
	rec, err := recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32)), Node: "n2",
		Keys: []recorder.Key{own}, Store: newBucket(t, server, server.Bucket, "")})
	must(t, err)
	t.Cleanup(func() { rec.Close() })
	other := New(Config{Store: n.cfg.Store, Recorder: rec, Audit: n.cfg.Audit, Node: "n2", Log: slog.New(slog.DiscardHandler),
		Keys: func(context.Context) ([]recorder.Key, error) { return []recorder.Key{own}, nil }})
	testenv.WaitFor(t, "the index in the bucket", func() bool {
		_, err := rec.SealPending(ctx, w.Path())
		return errors.Is(err, recorder.ErrCompromised)
	})
	_, err = n.cfg.Store.Sessions.MarkLostNodes(ctx, "n2", -time.Hour, other.lostEvent)
	must(t, err)
	pending, err := n.cfg.Store.Recordings.ClaimPending(ctx, "n2")
	if err != nil || len(pending) != 1 {
		t.Fatalf("%+v, %v", pending, err)
	}
	must(t, other.sealPending(ctx, pending[0]))
	events, err := n.cfg.Store.Audit.List(ctx, store.AuditFilter{Type: audit.RecordSealed})
	if err != nil || len(events) != 1 || events[0].Result != audit.Error || !strings.Contains(events[0].Reason, "compromised") {
		t.Errorf("events %+v, %v", events, err)
	}
	n.clock.Move(time.Hour)
	if pending, err := n.cfg.Store.Recordings.ClaimPending(ctx, "n2"); err != nil || len(pending) != 0 || n.row(x.ID).State != store.RecordingPending {
		t.Errorf("tried again: %+v, %v", pending, err)
	}
	_, err = w.Close()
	must(t, err)
}

// TestDeleteLedgers: the lists of files of sessions without recordings go in their time, and leave an event.
func TestDeleteLedgers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n := newNode(t, nil)
	x, err := n.cfg.Store.Sessions.Open(ctx, store.Session{User: "alice", Target: "web1", Node: "n1"})
	must(t, err)
	must(t, n.cfg.Store.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "sftp", Retention: time.Hour}))
	must(t, n.cfg.Store.Transfers.Put(ctx, x.ID, 1, []store.Transfer{{SessionID: x.ID, Channel: 1, Seq: 1, Op: "read", Path: "/x", Result: "ok", Started: time.Now()}}))
	must(t, n.cfg.Store.Sessions.End(ctx, x.ID, "done"))
	must(t, n.deleteOld(ctx))
	if len(n.deletions()) != 0 {
		t.Error("too early")
	}
	n.clock.Move(2 * time.Hour)
	must(t, n.deleteOld(ctx))
	must(t, n.deleteOld(ctx))
	if e := n.deletions()[x.ID]; e.Detail["ledger"] != "1" || e.Detail["channel"] != "1" || e.User != "alice" || e.Reason != "kept for 1h0m0s" {
		t.Errorf("event %+v", e)
	}
	if list, err := n.cfg.Store.Transfers.List(ctx, store.TransferFilter{SessionID: x.ID}); err != nil || len(list) != 0 {
		t.Errorf("left: %+v, %v", list, err)
	}
}
