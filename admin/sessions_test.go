package admin

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/recorder"
	"sallyport/store"
)

// addSession writes a session with one recorded channel that printed text, as the session engine does.
func (f *fixture) addSession(user, text string) store.Session {
	f.t.Helper()
	ctx := context.Background()
	x, err := f.st.Sessions.Open(ctx, store.Session{
		UserID: "u", User: user, Target: "web1", Address: "10.0.0.5:22", Account: "root", Source: "192.0.2.7",
		Client: "SSH-2.0-OpenSSH", Node: "n1", Rule: "ops", Recording: "required", State: store.Live,
	})
	noError(f.t, err)
	w, err := f.rec.Create(recorder.Header{Session: x.ID, Channel: 1, Kind: "shell", Term: "xterm"})
	noError(f.t, err)
	noError(f.t, w.Output([]byte(text)))
	sum, err := w.Close()
	noError(f.t, err)
	status := 0
	noError(f.t, f.st.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell", Term: true}))
	noError(f.t, f.st.Sessions.CloseChannel(ctx, x.ID, store.Channel{
		ID: 1, Kind: "shell", Term: true, ExitStatus: &status, BytesOut: int64(len(text)), Recording: sum.Path, SHA256: sum.SHA256,
	}))
	noError(f.t, f.st.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 2, Kind: "sftp"}))
	return x
}

func TestSessions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.addSession("dave", "hello\r\n")
	second := f.addSession("erin", "hello\r\n")
	noError(t, f.st.Sessions.End(context.Background(), first.ID, "logout"))
	list := do[[]Session](f, 200, "GET", "/sessions", nil)
	if len(list) != 2 || list[0].ID != second.ID || list[0].State != "live" || list[0].Ended != nil || list[1].State != "ended" || list[1].Ended == nil || list[1].Reason != "logout" {
		t.Fatalf("sessions %+v", list)
	}
	c := list[1].Channels[0]
	if c.Kind != "shell" || c.ExitStatus == nil || *c.ExitStatus != 0 || c.BytesOut != 7 || c.Recording == "" {
		t.Errorf("channel %+v", c)
	}
	for query, want := range map[string]string{"state=live": second.ID, "user=dave": first.ID, "before=" + second.ID: first.ID, "limit=1": second.ID} {
		if got := do[[]Session](f, 200, "GET", "/sessions?"+query, nil); len(got) != 1 || got[0].ID != want {
			t.Errorf("sessions with %s: %+v", query, got)
		}
	}
	if got := do[Session](f, 200, "GET", "/sessions/"+first.ID, nil); got.ID != first.ID || len(got.Channels) != 2 {
		t.Errorf("session %+v", got)
	}
	f.refused(404, "GET", "/sessions/none", nil)
	f.refused(409, "POST", "/sessions/"+first.ID+"/end", NewEnd{})
	f.refused(404, "POST", "/sessions/none/end", NewEnd{})
	f.refused(422, "POST", "/sessions/"+second.ID+"/end", NewEnd{Message: "a\x1b[2J"})
}

// An auditor may export, and the audit log says so before the first byte.
func TestExport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.addSession("dave", "hello \x1b[31mred\x1b[0m\r\n")
	for format, want := range map[string]string{
		"": `"hello \u001b[31mred`, "asciicast3": `"version":3`, "asciicast2": `"version":2`, "text": "hello red\n", "json": "[",
	} {
		path := "/sessions/" + x.ID + "/recording"
		if format != "" {
			path += "?format=" + format
		}
		w := f.request(f.auditor, "GET", path, nil)
		got := strings.ReplaceAll(strings.ReplaceAll(w.Body.String(), ": ", ":"), "\r\n", "\n")
		if w.Code != 200 || !strings.Contains(got, want) {
			t.Errorf("format %q: status %d, %.200s", format, w.Code, w.Body)
		}
		if d := w.Header().Get("Content-Disposition"); !strings.HasPrefix(d, "attachment;") {
			t.Errorf("format %q: disposition %q", format, d)
		}
	}
	events, err := f.st.Audit.List(context.Background(), store.AuditFilter{Type: audit.OperatorView, Limit: 100})
	noError(t, err)
	if len(events) != 5 || events[0].Actor != "api-token eyes" || events[0].Session != x.ID || events[0].User != "dave" || !strings.HasPrefix(events[0].Detail["view"], "export ") {
		t.Errorf("%d events of views: %+v", len(events), events)
	}
	f.refused(404, "GET", "/sessions/"+x.ID+"/recording?channel=2", nil)
	f.refused(404, "GET", "/sessions/"+x.ID+"/recording?channel=9", nil)
	f.refused(404, "GET", "/sessions/none/recording", nil)
	f.refused(422, "GET", "/sessions/"+x.ID+"/recording?format=gif", nil)
}

// What cannot be logged is not shown.
func TestExportNeedsTheAuditLog(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.addSession("dave", "hello\r\n")
	noError(t, f.st.Close())
	r := newRequest(t, "GET", "/sessions/"+x.ID+"/recording", nil)
	w := httptest.NewRecorder()
	f.socket.ServeHTTP(w, r)
	if w.Code != 503 || strings.Contains(w.Body.String(), "hello") {
		t.Errorf("export without database: status %d, %s", w.Code, w.Body)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.addSession("dave", strings.Repeat("hello\r\n", 1000))
	path := "/sessions/" + x.ID + "/verification"
	found := do[[]Verification](f, 200, "GET", path, nil)
	if len(found) != 1 || !found[0].Proved || found[0].ID != x.ID+"/1" || found[0].Bytes == 0 || found[0].Bytes != found[0].ProvedBytes || found[0].Problem != "" {
		t.Fatalf("verification %+v", found)
	}
	keys := do[[]RecordingKey](f, 200, "GET", "/recording-keys", nil)
	if len(keys) != 1 || !slices.Contains(found[0].Keys, keys[0].ID) || !strings.Contains(keys[0].PEM, "PUBLIC KEY") {
		t.Errorf("keys %+v, signed by %q", keys, found[0].Keys)
	}
	f.refused(404, "GET", "/sessions/none/verification", nil)
}

// TestVerificationOfARenamedFile: a file is proved by itself, whatever its name; the proof did not say whose
// recording it is, so that the export of one session could be handed over as that of another.
func TestVerificationOfARenamedFile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.addSession("dave", "hello\r\n")
	x, err := f.st.Sessions.Get(context.Background(), x.ID)
	noError(t, err)
	file := filepath.Join(t.TempDir(), "session-of-erin.cast")
	out, err := os.Create(file)
	noError(t, err)
	noError(t, f.rec.Export(out, x.Channels[0].Recording, recorder.Asciicast3))
	noError(t, out.Close())
	keys := recorder.NewKeyring(f.rec.Keys()...)
	report, err := recorder.VerifyFileWith(file, keys)
	if v := VerificationOf(file, report, err); !v.Proved || v.Session != x.ID || v.Channel != 1 {
		t.Errorf("%+v", v)
	}
	report, err = recorder.VerifyFileWith(file, recorder.NewKeyring())
	if v := VerificationOf(file, report, err); v.Proved || v.Session != "" {
		t.Errorf("without a key: %+v", v)
	}
}

// TestVerifyOfAnotherSession: a recording was proved by its own path alone. Who can write into the database, and names
// the recording of another session as that of one whose root is in no event (a node died), had it called proved.
func TestVerifyOfAnotherSession(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := context.Background()
	x, y := f.addSession("dave", "what dave did\r\n"), f.addSession("erin", "what erin did\r\n")
	other, err := f.st.Sessions.Get(ctx, y.ID)
	noError(t, err)
	swapped := other.Channels[0]
	noError(t, f.st.Sessions.CloseChannel(ctx, x.ID, swapped))
	found := do[[]Verification](f, 200, "GET", "/sessions/"+x.ID+"/verification", nil)
	if len(found) != 1 || found[0].Proved || !strings.Contains(found[0].Problem, y.ID) {
		t.Errorf("the recording of another session: %+v", found)
	}
	swapped.ID = 2 // the right session, and another channel
	noError(t, f.st.Sessions.CloseChannel(ctx, y.ID, swapped))
	found = do[[]Verification](f, 200, "GET", "/sessions/"+y.ID+"/verification", nil)
	if len(found) != 2 || !found[0].Proved || found[1].Proved {
		t.Errorf("the recording of another channel: %+v", found)
	}
}

// Whoever is locked, deleted or loses the target is out at once, on whatever node the session is.
func TestChangesEndSessions(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*fixture){
		"user locked":    func(f *fixture) { do[User](f, 200, "PUT", "/users/dave/lock", NewLock{}) },
		"user deleted":   func(f *fixture) { do[any](f, 204, "DELETE", "/users/dave", nil) },
		"target deleted": func(f *fixture) { do[any](f, 204, "DELETE", "/targets/web1", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.addUser("dave")
			do[Target](f, 200, "POST", "/targets", NewTarget{Name: "web1", Address: "10.0.0.5", HostKeyMode: "tofu"})
			over := f.addSession("dave", "x")
			noError(t, f.st.Sessions.End(context.Background(), over.ID, "logout"))
			want := map[string]bool{f.addSession("dave", "x").ID: true, f.addSession("dave", "x").ID: true}
			orders, cancel := f.st.Bus.Subscribe("session.end")
			defer cancel()
			change(f)
			for len(want) > 0 {
				select {
				case m := <-orders:
					var order struct{ ID, By, Message string }
					noError(t, json.Unmarshal([]byte(m.Payload), &order))
					if !want[order.ID] || order.By != "api-token robot" || order.Message == "" {
						t.Errorf("order to end %+v, want %v", order, want)
					}
					delete(want, order.ID)
				case <-time.After(time.Minute):
					t.Fatalf("nobody was told to end %v", want)
				}
			}
		})
	}
}

func TestEndSession(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.addSession("dave", "x")
	orders, cancel := f.st.Bus.Subscribe("session.end")
	defer cancel()
	do[any](f, 204, "POST", "/sessions/"+x.ID+"/end", NewEnd{Message: "maintenance"})
	if m := <-orders; !strings.Contains(m.Payload, x.ID) || !strings.Contains(m.Payload, "maintenance") {
		t.Errorf("order %q", m.Payload)
	}
	if got := f.changes(); !slices.Equal(got, []string{"session.end api-token robot api dave web1"}) {
		t.Errorf("changes %q", got)
	}
}
