package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/recorder"
	"sallyport/store"
)

// chained waits until every event has its place in the chain.
func (o *operated) chained() {
	o.t.Helper()
	testenv.WaitFor(o.t, "the audit log to be chained", func() bool {
		state, err := o.node.Store.Audit.ChainState(context.Background())
		noError(o.t, err)
		return state.Unchained == 0 && state.Last.Position > 0
	})
}

// ended waits until a session with recordings has ended, and returns it.
func (o *operated) ended() admin.Session {
	o.t.Helper()
	var list []admin.Session
	testenv.WaitFor(o.t, "the session to end", func() bool {
		list = object[[]admin.Session](o, "session", "list", "--only", "ended")
		return len(list) > 0 && list[0].Channels[0].Recording != ""
	})
	return list[0]
}

// The whole way of a proof: a person works on a real host, the session's root is in the audit log, the log proves
// itself here and offline, and whatever is done to the database or the files behind the server's back is found.
func TestProof(t *testing.T) {
	onBoth(t, func(t *testing.T, o *operated) {
		o.behind()
		c := o.person("web1")
		if out, errs, status := c.Output(t, "echo one"); out != "one\n" || status != 0 {
			t.Fatalf("ssh: %q %q %d", out, errs, status)
		}
		x := o.ended()
		o.chained()
		verified := object[[]admin.Verification](o, "session", "verify", x.ID)
		if len(verified) != 1 || !verified[0].Proved {
			t.Errorf("session verify: %+v", verified)
		}
		events := object[[]admin.AuditEvent](o, "audit", "list", "--type", "session.ended", "--session", x.ID)
		if len(events) != 1 || len(events[0].Detail["root"]) != 64 || events[0].Detail["recordings"] != "1" {
			t.Errorf("session.ended: %+v", events)
		}

		whole := object[[]admin.AuditVerification](o, "audit", "verify")
		if len(whole) != 1 || !whole[0].Proved || whole[0].First != 1 || whole[0].Last < 5 || whole[0].Node != "n1" {
			t.Fatalf("audit verify: %+v", whole)
		}
		head := fmt.Sprintf("%d:%s", whole[0].Last, whole[0].Head)
		keys := o.file("keys.pem", o.ok("session", "keys"))
		exported := o.ok("audit", "export")
		file := o.file("audit.jsonl", exported)
		if r := command("", "audit", "verify", file, "--keys", keys, "--head", head); r.code != 0 || !strings.Contains(r.out, "yes") {
			t.Errorf("offline: %+v", r)
		}
		if r := o.run("audit", "verify", "--keys", keys, "--head", head); r.code != 0 {
			t.Errorf("with keys: %+v", r)
		}
		o.fails(exitUsage, "audit", "verify", "--head", "7:x")
		late := object[[]admin.AuditVerification](o, "audit", "verify", "--since", "1s")
		if !late[0].Proved {
			t.Errorf("since: %+v", late)
		}
		// In the file: one letter, one line, two lines.
		lines := strings.SplitAfter(exported, "\n")
		for name, text := range map[string]string{
			"altered": strings.Replace(exported, `"user":"alice"`, `"user":"alicf"`, 1),
			"removed": strings.Join(append(append([]string{}, lines[:2]...), lines[3:]...), ""),
			"swapped": strings.Join(append([]string{lines[1], lines[0]}, lines[2:]...), ""),
			"cut":     strings.Join(lines[:3], ""),
		} {
			r := command("", "audit", "verify", o.file("bad.jsonl", text), "--keys", keys, "--head", head)
			if r.code != exitFailed {
				t.Errorf("%s: %+v", name, r)
			}
		}

		// Of a file in which nothing is signed, such as an empty one, nothing is proved: it counted as proved once.
		if r := command("", "audit", "verify", o.file("empty.jsonl", ""), "--keys", keys); r.code != exitFailed || !strings.Contains(r.out, "nothing is proved") {
			t.Errorf("empty: %+v", r)
		}

		// In the database.
		db := o.database()
		change := func(query string) {
			t.Helper()
			if _, err := db.ExecContext(t.Context(), query); err != nil {
				t.Fatal(err)
			}
		}
		change("UPDATE audit_events SET user_name = 'mallory' WHERE type = 'channel.ended'")
		if text := o.fails(exitFailed, "audit", "verify"); !strings.Contains(text, "the audit log is not proved") {
			t.Errorf("altered: %q", text)
		}
		bad := object2[[]admin.Verification](o, "session", "verify", x.ID)
		if bad[0].Proved || !strings.Contains(bad[0].Problem, "audit log") {
			t.Errorf("session verify with an altered event: %+v", bad)
		}
		change("UPDATE audit_events SET user_name = 'alice' WHERE type = 'channel.ended'")
		if !object[[]admin.Verification](o, "session", "verify", x.ID)[0].Proved {
			t.Error("undone, and not proved")
		}
		// A recording that is taken away, row and files.
		change("UPDATE session_channels SET recording = '' WHERE session_id = '" + x.ID + "'")
		if bad = object2[[]admin.Verification](o, "session", "verify", x.ID); bad[0].Proved || !strings.Contains(bad[0].Problem, "does not have it any more") {
			t.Errorf("a recording that is gone: %+v", bad)
		}
		// An event that is taken out of the chain to alter it is put in again by the server, and leaves a hole.
		change("UPDATE audit_events SET position = 0, detail = '{}' WHERE type = 'session.started'")
		o.chained()
		if text := o.fails(exitFailed, "audit", "verify"); !strings.Contains(text, "is not proved") {
			t.Errorf("taken out: %q", text)
		}
	})
}

// object2 is object for a command that fails with what is wrong.
func object2[T any](o *operated, args ...string) T {
	o.t.Helper()
	r := o.run(append(args, "-o", "json")...)
	if r.code != exitFailed {
		o.t.Errorf("sallyport %q: exit %d, want 1; %q", args, r.code, r.err)
	}
	return decode[T](o.t, r.out)
}

// A recording with a root of its own, made by whoever has the node's key, is no match for the audit log.
func TestProofOfAnotherRecording(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.behind()
	c := o.person("web1")
	c.Output(t, "echo the truth")
	x := o.ended()
	o.chained()
	dir := filepath.Join(string(o.cfg.Recordings.Local), filepath.Dir(x.Channels[0].Recording))
	noError(t, os.RemoveAll(dir))
	w, err := o.node.Recorder.Create(recorder.Header{Session: x.ID, Channel: 1, Kind: "exec", Started: *x.Started})
	noError(t, err)
	noError(t, w.Output([]byte("a lie\n")))
	if sum, err := w.Close(); err != nil || sum.Path != x.Channels[0].Recording {
		t.Fatalf("%+v, %v", sum, err)
	}
	bad := object2[[]admin.Verification](o, "session", "verify", x.ID)
	if bad[0].Proved || !strings.Contains(bad[0].Problem, "another recording was put in its place") {
		t.Errorf("%+v", bad)
	}
}

// Keys that sign rotate beside a running server: what the key before signed stays proved, here and offline; what
// it signs after it was compromised proves nothing.
func TestSigningKeysRotate(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	first := o.node.Recorder.Keys()[0]
	id := o.record(func(w *recorder.Recording) { noError(t, w.Output([]byte("before"))) })
	o.chained()
	file := o.file("rotate.yaml", "node: n1\ndata: "+string(o.cfg.Data)+"\ndatabase: "+string(o.cfg.Database)+"\nkeys: {ring: "+string(o.cfg.Keys.Ring)+"}\n")
	secret, err := os.ReadFile(string(o.cfg.Keys.Signing))
	noError(t, err)
	o.fails(exitFailed, "keys", "compromised", first.ID(), "--since", "1h", "-c", file)
	var made signingKey
	made = decode[signingKey](t, o.ok("keys", "rotate-signing", "-c", file, "-o", "json"))
	testenv.WaitFor(t, "the server to take its new key", func() bool { return o.node.Recorder.Keys()[0].ID() == made.ID })
	at := time.Now().UTC() // from here on whoever signs with the old key is a thief
	o.ok("user", "add", "erin", "--generate")
	later := o.record(func(w *recorder.Recording) { noError(t, w.Output([]byte("after"))) })
	o.chained()
	for _, s := range []string{id, later} {
		if v := object[[]admin.Verification](o, "session", "verify", s); !v[0].Proved {
			t.Errorf("session verify: %+v", v)
		}
	}
	if v := object[[]admin.AuditVerification](o, "audit", "verify"); !v[0].Proved || v[0].Key != made.ID {
		t.Errorf("audit verify: %+v", v)
	}
	if keys := object[[]admin.RecordingKey](o, "session", "keys"); len(keys) != 2 || keys[0].ID != made.ID || keys[1].ID != first.ID() || keys[1].Node != "n1" {
		t.Errorf("session keys: %+v", keys)
	}

	// The thief of the old key signs something now.
	block, err := recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: mustKey(t, secret), Node: "n1"})
	noError(t, err)
	defer block.Close()
	w, err := block.Create(recorder.Header{Session: "forged", Channel: 1})
	noError(t, err)
	noError(t, w.Output([]byte("x")))
	sum, err := w.Close()
	noError(t, err)
	var forged bytes.Buffer
	noError(t, block.Export(&forged, sum.Path, recorder.Asciicast3))
	lie := o.file("forged.cast", forged.String())
	o.ok("session", "verify", lie)
	o.ok("keys", "compromised", first.ID(), "--since", at.Format(time.RFC3339Nano), "-c", file)
	testenv.WaitFor(t, "the server to hear of it", func() bool {
		return !o.node.Recorder.Keys()[1].CompromisedFrom.IsZero()
	})
	if text := o.run("session", "verify", lie); text.code != exitFailed || !strings.Contains(text.out, "compromised") {
		t.Errorf("what the thief signed: %+v", text)
	}
	keys := o.file("keys.pem", o.ok("session", "keys"))
	if r := command("", "session", "verify", lie, "--keys", keys); r.code != exitFailed || !strings.Contains(r.out, "compromised") {
		t.Errorf("offline: %+v", r)
	}
	if v := object[[]admin.Verification](o, "session", "verify", id); !v[0].Proved {
		t.Errorf("what it signed before: %+v", v)
	}
	list := o.ok("keys", "signing", "-c", file)
	if !strings.Contains(list, "signs here") || !strings.Contains(list, "compromised from") {
		t.Errorf("keys signing: %s", list)
	}
	all, err := o.node.Store.SigningKeys.List(t.Context())
	noError(t, err)
	// What was doubtful once stays so.
	for _, k := range all {
		if k.Public == base64.StdEncoding.EncodeToString(first.Public) {
			noError(t, o.node.Store.SigningKeys.Compromise(t.Context(), k.Public, at.Add(time.Hour)))
		}
	}
	again, err := o.node.Store.SigningKeys.List(t.Context())
	noError(t, err)
	if fmt.Sprint(all) != fmt.Sprint(again) {
		t.Errorf("%v became %v", all, again)
	}
	wantErr(t, o.node.Store.SigningKeys.Compromise(t.Context(), "nobody's", at), store.ErrNotFound)
}

// Every key of every node used to prove every recording and every checkpoint: whoever had got hold of one node's key
// could write the past of all the others, and the list of keys that auditors keep did not help. Here the key is n2's.
func TestKeyOfAnotherNode(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	public, private, err := ed25519.GenerateKey(nil)
	noError(t, err)
	noError(t, o.node.Store.SigningKeys.Publish(t.Context(), base64.StdEncoding.EncodeToString(public), "n2"))
	testenv.WaitFor(t, "the server to know the key", func() bool { return len(o.node.Recorder.Keys()) == 2 })
	keys := o.file("keys.pem", o.ok("session", "keys"))
	forge := func(node string) string {
		other, err := recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: private, Node: node})
		noError(t, err)
		defer other.Close()
		w, err := other.Create(recorder.Header{Session: "forged", Channel: 1})
		noError(t, err)
		noError(t, w.Output([]byte("x")))
		sum, err := w.Close()
		noError(t, err)
		var text bytes.Buffer
		noError(t, other.Export(&text, sum.Path, recorder.Asciicast3))
		return o.file(node+".cast", text.String())
	}
	own, lie := forge("n2"), forge("n1")
	for _, args := range [][]string{{}, {"--keys", keys}} {
		if r := o.run(append([]string{"session", "verify", own}, args...)...); r.code != 0 {
			t.Errorf("its own, %v: %+v", args, r)
		}
		if r := o.run(append([]string{"session", "verify", lie}, args...)...); r.code != exitFailed || !strings.Contains(r.out, "is that of node n2") {
			t.Errorf("another's, %v: %+v", args, r)
		}
	}

	// A checkpoint in n1's name.
	o.chained()
	noError(t, o.node.Audit.Emit(t.Context(), audit.Event{Type: audit.NodeStopped, Result: audit.OK, Door: audit.DoorNode}))
	for n := 0; n == 0; { // whoever chains first
		n, _, err = o.node.Store.Audit.Chain(t.Context(), "n1", func(c *audit.Checkpoint) error {
			c.Key = recorder.KeyID(public)
			text, err := c.SignedText()
			c.Sig = ed25519.Sign(private, text)
			return err
		})
		noError(t, err)
		if n == 0 {
			noError(t, o.node.Audit.Emit(t.Context(), audit.Event{Type: audit.NodeStopped, Result: audit.OK, Door: audit.DoorNode}))
		}
	}
	for _, args := range [][]string{{}, {"--keys", keys}} {
		if r := o.run(append([]string{"audit", "verify"}, args...)...); r.code != exitFailed || !strings.Contains(r.out, "is that of node n2") {
			t.Errorf("checkpoint, %v: %+v", args, r)
		}
	}
}

// Whoever could write to the database could cut off the end of the log, checkpoints and all, and nothing in it told of that,
// unless somebody had noted a head by hand. Nodes keep heads in their data folder by themselves, and a proof asks for them.
func TestAuditLogIsCutOff(t *testing.T) {
	onBoth(t, func(t *testing.T, o *operated) {
		o.chained() // so that something is left when the rest is cut off
		o.ok("user", "add", "erin", "--generate")
		o.chained()
		state, err := o.node.Store.Audit.ChainState(t.Context())
		noError(t, err)
		file := filepath.Join(string(o.cfg.Data), headsFile)
		testenv.WaitFor(t, "the head to be kept", func() bool {
			list, err := o.node.heads.all(t.Context())
			return err == nil && len(list) > 0 && list[len(list)-1].Position >= state.Last.Position
		})
		if v := object[[]admin.AuditVerification](o, "audit", "verify"); !v[0].Proved || v[0].Heads == 0 || v[0].HeadsProblem != "" {
			t.Errorf("as it is: %+v", v)
		}
		keys := o.file("keys.pem", o.ok("session", "keys"))
		whole := o.file("whole.jsonl", o.ok("audit", "export"))
		if r := command("", "audit", "verify", whole, "--keys", keys, "--heads", file); r.code != 0 {
			t.Errorf("offline: %+v", r)
		}
		late := object[[]admin.AuditVerification](o, "audit", "verify", "--since", "1ms")
		if !late[0].Proved {
			t.Errorf("since a moment ago: %+v", late)
		}

		db := o.database()
		// More may have been chained since than the head that is kept tells of.
		var before int64
		noError(t, db.QueryRowContext(t.Context(), fmt.Sprintf("SELECT MAX(after) FROM audit_checkpoints WHERE position <= %d", state.Last.Position)).Scan(&before))
		for _, query := range []string{"DELETE FROM audit_events WHERE position > %d OR position = 0", "DELETE FROM audit_checkpoints WHERE position > %d"} {
			_, err := db.ExecContext(t.Context(), fmt.Sprintf(query, before))
			noError(t, err)
		}
		if text := o.fails(exitFailed, "audit", "verify"); !strings.Contains(text, "lost events") || !strings.Contains(text, "accept-restore") {
			t.Errorf("cut off: %q", text)
		}
		cut := o.file("cut.jsonl", o.ok("audit", "export"))
		if r := command("", "audit", "verify", cut, "--keys", keys, "--heads", file); r.code != exitFailed {
			t.Errorf("offline, cut off: %+v", r)
		}
		if r := command("", "audit", "verify", cut, "--keys", keys, "--heads", keys); r.code == 0 {
			t.Errorf("heads that are none: %+v", r)
		}

		// If it was a backup, an administrator answers for it, for good: it is told with every proof.
		if text := o.fails(exitUsage, "audit", "accept-restore"); !strings.Contains(text, "reason") {
			t.Errorf("without a reason: %q", text)
		}
		o.ok("audit", "accept-restore", "--reason", "the disk <was> burnt")
		o.chained()
		v := object[[]admin.AuditVerification](o, "audit", "verify")
		if !v[0].Proved || len(v[0].Restores) != 1 || v[0].Restores[0].Reason != "the disk <was> burnt" || v[0].Restores[0].After != before {
			t.Errorf("answered for: %+v", v)
		}
		if r := o.run("audit", "verify"); r.code != 0 || !strings.Contains(r.out+r.err, "were lost with a database that came from a backup") {
			t.Errorf("answered for: %+v", r)
		}
		if o.node.chain.Problem() != "" {
			t.Errorf("the overview says %q", o.node.chain.Problem())
		}
		answered := o.file("answered.jsonl", o.ok("audit", "export"))
		if r := command("", "audit", "verify", answered, "--keys", keys, "--heads", file); r.code != 0 {
			t.Errorf("offline, answered for: %+v", r)
		}
		if text := o.fails(exitFailed, "audit", "accept-restore", "--reason", "again"); !strings.Contains(text, "lost nothing") {
			t.Errorf("when nothing is lost: %q", text)
		}
		// What is lost later is not excused by it.
		state, err = o.node.Store.Audit.ChainState(t.Context())
		noError(t, err)
		o.ok("user", "add", "frank", "--generate")
		o.chained()
		testenv.WaitFor(t, "the next head to be kept", func() bool {
			list, err := o.node.heads.all(t.Context())
			return err == nil && list[len(list)-1].Position > state.Last.Position && list[len(list)-1].Time.After(state.Last.Time)
		})
		for _, query := range []string{"DELETE FROM audit_events WHERE position > %d OR position = 0", "DELETE FROM audit_checkpoints WHERE position > %d"} {
			_, err := db.ExecContext(t.Context(), fmt.Sprintf(query, state.Last.Position))
			noError(t, err)
		}
		if text := o.fails(exitFailed, "audit", "verify"); !strings.Contains(text, "lost events") {
			t.Errorf("cut off once more: %q", text)
		}
	})
}

func mustKey(t *testing.T, text []byte) ed25519.PrivateKey {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	noError(t, os.WriteFile(file, text, 0o600))
	key, err := readSigningKey(file)
	noError(t, err)
	return key
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// database opens the server's database beside it, as somebody does who should not.
func (o *operated) database() *sql.DB {
	o.t.Helper()
	driver, dsn := "postgres", string(o.cfg.Database)
	if strings.HasPrefix(dsn, "sqlite") {
		driver, dsn = "sqlite", "file:"+filepath.Join(o.dir, "sallyport.db")+"?_pragma=busy_timeout(60000)" // the server writes too
	}
	db, err := sql.Open(driver, dsn)
	noError(o.t, err)
	o.t.Cleanup(func() { db.Close() })
	return db
}
