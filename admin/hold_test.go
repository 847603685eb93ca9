package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// sealed gives the channel of a session its sealed recording, as the engine does.
func (f *fixture) sealed(x store.Session, retention time.Duration) {
	f.t.Helper()
	ctx := context.Background()
	x, err := f.st.Sessions.Get(ctx, x.ID)
	noError(f.t, err)
	c := x.Channels[0]
	report, err := f.rec.Verify(c.Recording)
	noError(f.t, err)
	c.Retention = retention
	c.Sealed = &store.SealedRecording{Path: c.Recording, Root: report.Root, Bytes: report.Bytes, Packed: report.Summary.Packed, Parts: report.Parts}
	noError(f.t, f.st.Sessions.CloseChannel(ctx, x.ID, c))
}

// A session is held with a reason and released; both are in the audit log, and auditors may do neither.
func TestHold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.addSession("dave", "hello\r\n")
	f.sealed(x, 24*time.Hour)
	got := do[SessionRecordings](f, 200, "GET", "/sessions/"+x.ID+"/recordings", nil)
	if len(got.Recordings) != 1 || got.Recordings[0].State != "sealed" || got.Recordings[0].Root == "" || got.Recordings[0].DeleteAfter == nil || got.Hold != nil {
		t.Errorf("recordings: %+v", got)
	}
	f.refused(404, "POST", "/sessions/nothing/hold", NewHold{Reason: "x"})
	f.refused(422, "POST", "/sessions/"+x.ID+"/hold", NewHold{})
	f.refused(422, "POST", "/sessions/"+x.ID+"/hold", NewHold{Reason: "a\x1b[2J"})
	f.refused(404, "DELETE", "/sessions/"+x.ID+"/hold", nil)
	do[any](f, 204, "POST", "/sessions/"+x.ID+"/hold", NewHold{Reason: "case 4711"})
	got = do[SessionRecordings](f, 200, "GET", "/sessions/"+x.ID+"/recordings", nil)
	if got.Hold == nil || got.Hold.Reason != "case 4711" || got.Hold.By == "" || got.Hold.Since == nil {
		t.Errorf("held: %+v", got.Hold)
	}
	if st := do[RecordingStatus](f, 200, "GET", "/recordings", nil); st.Kept != 1 || st.HeldSessions != 1 || st.KeptBytes == 0 || st.FreeBytes == 0 || st.Store {
		t.Errorf("status: %+v", st)
	}
	do[any](f, 204, "DELETE", "/sessions/"+x.ID+"/hold", nil)
	if got = do[SessionRecordings](f, 200, "GET", "/sessions/"+x.ID+"/recordings", nil); got.Hold != nil {
		t.Errorf("released: %+v", got.Hold)
	}
	changes := f.changes()
	for _, change := range []string{"session.hold", "session.release"} {
		if !slices.ContainsFunc(changes, func(c string) bool { return strings.Contains(c, change) }) {
			t.Errorf("no event of %s among %v", change, changes)
		}
	}
}

// What was deleted says so, and what is on the disk of another node says where.
func TestNotReadable(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := context.Background()
	x := f.addSession("dave", "hello\r\n")
	f.sealed(x, time.Nanosecond)
	y, err := f.st.Sessions.Open(ctx, store.Session{User: "erin", Target: "web1", Node: "n9", State: store.Live})
	noError(t, err)
	noError(t, f.st.Sessions.OpenChannel(ctx, y.ID, store.Channel{ID: 1, Kind: "shell", Recording: "2026/11/25/" + y.ID + "/1.cast"}))
	if p := f.refused(404, "GET", "/sessions/"+y.ID+"/recording", nil); !strings.Contains(p.Detail+p.Hint, "n9") {
		t.Errorf("on another node: %+v", p)
	}
	if v := do[[]Verification](f, 200, "GET", "/sessions/"+y.ID+"/verification", nil); len(v) != 1 || v[0].Proved || !strings.Contains(v[0].Problem, "n9") {
		t.Errorf("verification: %+v", v)
	}
	var old []store.Recording
	for deadline := time.Now().Add(time.Minute); len(old) == 0 && time.Now().Before(deadline); {
		old, err = f.st.Recordings.ClaimExpired(ctx, "n1")
		noError(t, err)
	}
	if len(old) != 1 {
		t.Fatalf("to delete: %+v", old)
	}
	f.refused(409, "POST", "/sessions/"+x.ID+"/hold", NewHold{Reason: "too late"})
	noError(t, f.rec.Delete(ctx, old[0].Path))
	noError(t, f.st.Recordings.Removed(ctx, old[0]))
	if p := f.refused(404, "GET", "/sessions/"+x.ID+"/recording", nil); !strings.Contains(p.Detail, "deleted") {
		t.Errorf("what was deleted: %+v", p)
	}
	if got := do[SessionRecordings](f, 200, "GET", "/sessions/"+x.ID+"/recordings", nil); got.Recordings[0].State != "removed" || got.Recordings[0].Root == "" || got.Recordings[0].Removed == nil {
		t.Errorf("what is left: %+v", got)
	}
}

func TestHoldPage(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	ctx := context.Background()
	list, err := w.Store.Sessions.List(ctx, store.SessionFilter{State: store.Ended})
	must(t, err)
	path := "/sessions/" + list[0].ID
	b := w.signedIn("ada")
	b.shows(path+"/hold", "Hold the recordings of this session?", "Why")
	b.does(path+"/hold", "reason", "case <4711>")
	b.shows(path, "case &lt;4711&gt;", path+"/release")
	if status, body, _ := b.post(path+"/hold", "reason", ""); status != http.StatusUnprocessableEntity || !strings.Contains(body, "reason") {
		t.Errorf("without a reason: status %d", status)
	}
	b.shows(path+"/release", "Release this session?", "case &lt;4711&gt;")
	b.does(path + "/release")
	if status, _, _ := b.get(path + "/release"); status != http.StatusConflict {
		t.Errorf("releasing what is not held: status %d", status)
	}
}

// An operator who lives in the pages had no way to say that a node is gone for good: its recordings stayed pending for ever.
func TestGiveUpPage(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	ctx := context.Background()
	must(t, w.Store.Sessions.Alive(ctx, "n9"))
	y, err := w.Store.Sessions.Open(ctx, store.Session{User: "erin", Target: "web1", Node: "n9", State: store.Live})
	must(t, err)
	must(t, w.Store.Sessions.OpenChannel(ctx, y.ID, store.Channel{ID: 1, Kind: "shell", Recording: "2026/11/25/" + y.ID + "/1.cast"}))
	path := "/sessions/" + y.ID
	b := w.signedIn("ada")
	if status, _, _ := b.get(path + "/give-up"); status != http.StatusConflict {
		t.Errorf("while its node is there: status %d", status)
	}
	_, err = w.Store.Sessions.MarkLostNodes(ctx, "n1", -time.Hour, func(store.Session) (audit.Event, error) {
		return audit.Event{ID: "lost", Time: time.Now(), Type: audit.SessionEnded}, nil
	})
	must(t, err)
	b.shows(path, "tail pending: all of it is on node n9", path+"/give-up")
	b.shows(path+"/give-up", "Wait no longer", "node n9 was lost", "Why")
	if status, body, _ := b.post(path+"/give-up", "reason", ""); status != http.StatusUnprocessableEntity || !strings.Contains(body, "reason") {
		t.Errorf("without a reason: status %d", status)
	}
	b.does(path+"/give-up", "reason", "the disk is <burnt>")
	b.shows(path, "given up on")
	if _, body, _ := b.get(path); strings.Contains(body, path+"/give-up") {
		t.Error("it is offered once more")
	}
}

// What a node that never comes back has is given up with a reason, by administrators, and the audit log says so.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := context.Background()
	noError(t, f.st.Sessions.Alive(ctx, "n9"))
	y, err := f.st.Sessions.Open(ctx, store.Session{User: "erin", Target: "web1", Node: "n9", State: store.Live})
	noError(t, err)
	noError(t, f.st.Sessions.OpenChannel(ctx, y.ID, store.Channel{ID: 1, Kind: "shell", Recording: "2026/11/25/" + y.ID + "/1.cast"}))
	path := "/sessions/" + y.ID + "/give-up"
	if p := f.refused(409, "POST", path, GiveUp{Reason: "burnt"}); !strings.Contains(p.Detail, "waits for a lost node") {
		t.Errorf("while its node is there: %+v", p)
	}
	_, err = f.st.Sessions.MarkLostNodes(ctx, "n1", -time.Hour, func(store.Session) (audit.Event, error) {
		return audit.Event{ID: "lost", Time: time.Now(), Type: audit.SessionEnded}, nil
	})
	noError(t, err)
	f.refused(404, "POST", "/sessions/nothing/give-up", GiveUp{Reason: "x"})
	f.refused(422, "POST", path, GiveUp{})
	f.refused(422, "POST", path, GiveUp{Reason: "a\x1b[2J"})
	if got := do[GivenUp](f, 200, "POST", path, GiveUp{Reason: "the disk is burnt"}); got.Recordings != 1 {
		t.Errorf("%+v", got)
	}
	got := do[SessionRecordings](f, 200, "GET", "/sessions/"+y.ID+"/recordings", nil)
	if r := got.Recordings[0]; r.State != "removed" || r.GivenUp == nil || !strings.Contains(RecordingInWords(r, false), "given up on") {
		t.Errorf("%+v", r)
	}
	if p := f.refused(404, "GET", "/sessions/"+y.ID+"/recording", nil); !strings.Contains(p.Detail, "never came back") {
		t.Errorf("replay: %+v", p)
	}
	if !slices.ContainsFunc(f.changes(), func(c string) bool { return strings.Contains(c, "session.give-up") }) {
		t.Errorf("no event among %v", f.changes())
	}
}
