package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/recorder"
	"sallyport/store"
)

// record writes a session as the engine does: a shell with its recording, and an sftp without.
func (o *operated) record(write func(*recorder.Recording)) string {
	o.t.Helper()
	ctx := context.Background()
	x, err := o.node.Store.Sessions.Open(ctx, store.Session{
		UserID: "u", User: "dave", Target: "web1", Address: "10.0.0.5:22", Account: "root", Source: "192.0.2.7",
		Client: "SSH-2.0-Evil\x1b[2J", Node: "n1", Rule: "ops", Recording: "required", State: store.Live,
	})
	noError(o.t, err)
	w, err := o.node.Recorder.Create(recorder.Header{Session: x.ID, Channel: 1, Kind: "shell", Width: 80, Height: 24})
	noError(o.t, err)
	write(w)
	sum, err := w.Close()
	noError(o.t, err)
	status := 3
	noError(o.t, o.node.Store.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell", Term: true}))
	noError(o.t, o.node.Store.Sessions.CloseChannel(ctx, x.ID, store.Channel{
		ID: 1, Kind: "shell", Term: true, ExitStatus: &status, BytesOut: sum.Counted, Recording: sum.Path, SHA256: sum.SHA256,
	}))
	noError(o.t, o.node.Store.Sessions.End(ctx, x.ID, "logout"))
	return x.ID
}

// The objects have the fields that the contract names.
func TestOperatorSessions(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	id := o.record(func(w *recorder.Recording) { noError(t, w.Output([]byte("hello\r\n"))) })
	list := object[[]map[string]any](o, "session", "list")
	if len(list) != 1 || list[0]["id"] != id {
		t.Fatalf("session list: %v", list)
	}
	for _, field := range []string{"id", "user", "target", "account", "source", "state", "started", "ended", "reason", "channels"} {
		if _, ok := list[0][field]; !ok {
			t.Errorf("a session has no %s: %v", field, list[0])
		}
	}
	channel := list[0]["channels"].([]any)[0].(map[string]any)
	for _, field := range []string{"id", "kind", "command", "exit_status", "bytes_in", "bytes_out", "recording"} {
		if _, ok := channel[field]; !ok {
			t.Errorf("a channel has no %s: %v", field, channel)
		}
	}
	if channel["exit_status"] != float64(3) || channel["bytes_out"] != float64(7) {
		t.Errorf("channel %v", channel)
	}
	started, _ := list[0]["started"].(string)
	if when, err := time.Parse(time.RFC3339, started); err != nil || when.Location() != time.UTC || !strings.HasSuffix(started, "Z") {
		t.Errorf("started %q is not RFC 3339 in UTC: %v", started, err)
	}
	if out := o.ok("session", "show", id); strings.Contains(out, "\x1b") || !strings.Contains(out, `SSH-2.0-Evil\u{1b}[2J`) {
		t.Errorf("session show: %q", out)
	}
	if r := o.run("session", "list", "-o", "json"); strings.Contains(r.out, "\x1b") {
		t.Errorf("session list -o json has control characters: %q", r.out)
	}
	for _, args := range [][]string{{"--user", "erin"}, {"--only", "live"}, {"--until", "2000-01-01"}, {"--before", id}, {"--target", "web2"}} {
		if got := object[[]any](o, append([]string{"session", "list"}, args...)...); len(got) != 0 {
			t.Errorf("session list %q: %v", args, got)
		}
	}
	if got := object[[]any](o, "session", "list", "--since", "1h", "--source", "192.0.2.7", "--limit", "5"); len(got) != 1 {
		t.Errorf("session list of the last hour: %v", got)
	}
	o.fails(1, "session", "end", id, "--message", "bye")
}

func TestOperatorExportsAndVerifies(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	id := o.record(func(w *recorder.Recording) {
		for range 200 {
			noError(t, w.Output([]byte("hello \x1b[31mred\x1b[0m\r\n")))
		}
	})
	for format, want := range map[string]string{"asciicast3": `"version"`, "asciicast2": `"version"`, "text": "hello red", "json": "hello"} {
		if out := o.ok("session", "export", id, "--format", format, "--channel", "1"); !strings.Contains(out, want) || format == "text" && strings.Contains(out, "\x1b") {
			t.Errorf("format %s: %.200q", format, out)
		}
	}
	cast := o.ok("session", "export", id)
	if !json.Valid([]byte(cast[:strings.IndexByte(cast, '\n')])) {
		t.Errorf("the first line is not JSON: %.200q", cast)
	}
	if found := object[[]admin.Verification](o, "session", "verify", id); len(found) != 1 || !found[0].Proved {
		t.Errorf("verify by the server: %+v", found)
	}
	exported := o.file("export.cast", cast)
	keys := o.file("keys.pem", o.ok("session", "keys"))
	stored := filepath.Join(string(o.cfg.Recordings.Local), object[admin.Session](o, "session", "show", id).Channels[0].Recording)
	for _, args := range [][]string{{exported}, {exported, "--keys", keys}, {stored, "--keys", keys}, {id, stored, exported}} {
		o.ok(append([]string{"session", "verify"}, args...)...)
	}
	// Files are verified with the keys at hand, without any server.
	if r := command("", "session", "verify", stored, "--keys", keys, "--socket", "/nowhere"); r.code != 0 {
		t.Errorf("verify offline: %+v", r)
	}
	forged := o.file("forged.cast", strings.Replace(cast, "hello", "hallo", 1))
	if r := o.run("session", "verify", exported, forged, "--keys", keys); r.code != 1 || !strings.Contains(r.err, "not every byte") {
		t.Errorf("verify of a forgery: %+v", r)
	}
	other := o.file("other.pem", startOperated(t).ok("session", "keys"))
	if r := o.run("session", "verify", exported, "--keys", other); r.code != 1 {
		t.Errorf("verify with the key of another: %+v", r)
	}
	o.fails(2, "session", "verify", exported, "--keys", o.file("no.pem", "nothing"))
	o.fails(2, "session", "verify", filepath.Join(o.dir, "missing.cast"), "--keys", keys)
	o.fails(1, "session", "verify", "none")
	o.fails(1, "session", "export", id, "--channel", "7")
	damaged, err := os.ReadFile(stored)
	noError(t, err)
	damaged[len(damaged)/2] ^= 1
	noError(t, os.WriteFile(stored, damaged, 0o600))
	if r := o.run("session", "verify", id); r.code != 1 {
		t.Errorf("verify of a damaged recording: %+v", r)
	}
}

// A replay draws, and does nothing else to the auditor's terminal.
func TestOperatorPlays(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	id := o.record(func(w *recorder.Recording) {
		noError(t, w.Output([]byte("hello \x1b[31mred\x1b[0m \x1b[c\x1b[6n\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x1b\\")))
		noError(t, w.Input([]byte("typed")))
		noError(t, w.Output([]byte("\x1b[?1000h\x1bP$q\"p\x1b\\world\r\n")))
	})
	out := o.ok("session", "play", id, "--speed", "1000", "--idle-limit", "10ms")
	if want := "hello \x1b[31mred\x1b[0m world\r\n" + screenReset; out != want {
		t.Errorf("replay %q, want %q", out, want)
	}
	o.fails(2, "session", "play", id, "--speed", "0")
	o.fails(2, "session", "play", id, "--idle-limit", "-1s")
	o.fails(1, "session", "play", "none")
	events := object[[]admin.AuditEvent](o, "audit", "list", "--type", "operator.view", "--session", id)
	if len(events) != 1 || !strings.HasPrefix(events[0].Detail["view"], "replay") || events[0].Actor != "console" {
		t.Errorf("events of views: %+v", events)
	}
}

// An export that breaks off is never taken for the whole.
func TestOperatorExportBreaksOff(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	id := o.record(func(w *recorder.Recording) {
		noise, line := rand.NewChaCha8([32]byte{}), make([]byte, 4096)
		for range 400 { // several parts, more than what is sent at once
			_, _ = noise.Read(line)
			for i := range line {
				line[i] = 'a' + line[i]%26
			}
			noError(t, w.Output(line))
		}
	})
	stored := filepath.Join(string(o.cfg.Recordings.Local), object[admin.Session](o, "session", "show", id).Channels[0].Recording)
	info, err := os.Stat(stored)
	noError(t, err)
	noError(t, os.Truncate(stored, info.Size()*3/4))
	r := o.run("session", "export", id)
	if r.code != 1 || !strings.Contains(r.err, "broke off") || len(r.out) < 256<<10 {
		t.Errorf("export of a cut recording: exit %d, %d bytes, stderr %q", r.code, len(r.out), r.err)
	}
	if r := o.run("session", "play", id, "--speed", "1000"); r.code != 1 || r.out != "" {
		t.Errorf("play of a cut recording: exit %d, %d bytes, stderr %q", r.code, len(r.out), r.err)
	}
}
