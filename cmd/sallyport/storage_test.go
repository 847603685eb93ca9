package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/internal/testenv"
	"sallyport/recorder"
	"sallyport/store/storetest"
)

// withBucket configures a bucket of a running server.
func (s *installed) withBucket(server *testenv.S3) {
	s.t.Helper()
	for name, text := range map[string]string{"access": server.AccessKey, "secret": server.SecretKey} {
		noError(s.t, os.WriteFile(filepath.Join(s.dir, "s3-"+name), []byte(text+"\n"), 0o600))
	}
	s.configure("reserve: 1MiB}", fmt.Sprintf("reserve: 1MiB, retention: 90d, s3: {endpoint: %q, bucket: %s, prefix: sallyport, region: us-east-1, path-style: true, access-key-file: %s/s3-access, secret-key-file: %s/s3-secret}}",
		server.URL, server.Bucket, s.dir, s.dir))
}

// files lists what is below a folder.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, strings.TrimPrefix(name, dir+"/"))
		}
		return nil
	})
	noError(t, err)
	return list
}

// Two nodes on PostgreSQL with a bucket, and kill -9 of the one that records: the other one shows the session
// as lost and seals what has reached the bucket. When the node is back the tail is added, and everything that
// the client received is there, signed by both. (With SALLYPORT_LONG the times are those of real life, and
// it must be seen within 60 s.)
func TestLostNodeWithBucket(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	s := prepare(t, storetest.Postgres(t))
	s.withBucket(server)
	if os.Getenv("SALLYPORT_LONG") == "" {
		s.env = []string{lostSoon + "=3s"}
	}
	s.start()
	s.ok("check", "-c", s.config)
	s.target()
	s.enrol("alice", "true")
	key := s.userKey("alice")
	s.trustLoopback()
	other := s.peer("n2")
	other.start()

	cmd := (&testenv.OpenSSH{Addr: s.ssh, Login: "alice@web1", KeyFile: key}).SSH(t,
		"i=0; while [ $i -lt 40000 ]; do i=$((i+1)); echo early line $i; done; while :; do i=$((i+1)); echo late line $i; sleep 0.01; done")
	out, err := cmd.StdoutPipe()
	noError(t, err)
	noError(t, cmd.Start())
	received := &lockedBuffer{}
	var copied sync.WaitGroup
	copied.Go(func() {
		_, _ = io.Copy(received, out)
		_ = cmd.Wait()
	})
	var id string
	testenv.WaitFor(t, "parts in the bucket, and output behind them", func() bool {
		parts := 0
		for _, f := range files(t, server.Dir) {
			if id == "" || strings.Contains(f, id) && strings.HasSuffix(f, ".zst") {
				parts++
			}
		}
		if id == "" {
			for _, x := range decode[[]admin.Session](t, other.ok("session", "list", "--only", "live", "-o", "json")) {
				id = x.ID
			}
			return false
		}
		return parts >= 2 && strings.Contains(received.String(), "late line")
	})
	s.kill()
	died := time.Now()
	copied.Wait()

	for decode[admin.Session](t, other.ok("session", "show", id, "-o", "json")).State != "lost" {
		if time.Since(died) > 3*time.Minute {
			t.Fatal("the other node does not take the session for lost")
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Logf("seen after %v", time.Since(died).Round(time.Millisecond))
	testenv.WaitFor(t, "the seal of the other node", func() bool {
		return strings.Contains(other.ok("audit", "list", "--type", "recording.sealed", "-o", "json"), `"pending"`)
	})
	out1, errs, status := other.run("session", "verify", id)
	if status == 0 || !strings.Contains(out1+errs, "tail pending") {
		t.Errorf("verify of what is pending: %d %s%s", status, out1, errs)
	}
	sealed := recordedOutput(t, other.ok("session", "export", id))
	if !strings.Contains(sealed, "early line 1000\n") || !strings.HasPrefix(received.String(), sealed) {
		t.Errorf("%d bytes are sealed of the %d that the client received", len(sealed), len(received.String()))
	}
	if show := other.ok("session", "show", id); !strings.Contains(show, "tail pending") {
		t.Errorf("show:\n%s", show)
	}

	s.start()
	var last string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("verify on the other node: %s\nstorage on the node: %s", last, files(t, s.dir+"/recordings"))
		}
	})
	testenv.WaitFor(t, "the tail", func() bool {
		out, errs, status := other.run("session", "verify", id)
		last = out + errs
		return status == 0
	})
	for _, node := range []*installed{s, other} {
		text := recordedOutput(t, node.ok("session", "export", id))
		if got := received.String(); !strings.HasPrefix(text, got) {
			t.Errorf("the client received %d bytes, the recording holds %d other ones", len(got), len(text))
		}
	}
	testenv.WaitFor(t, "nothing to be left on the node", func() bool { return len(files(t, filepath.Join(s.dir, "recordings"))) == 0 })
	testenv.WaitFor(t, "the row to say where it is", func() bool {
		return strings.Contains(other.ok("session", "show", id), "sealed, in the bucket, kept until ")
	})
	file := filepath.Join(t.TempDir(), "export.cast")
	noError(t, os.WriteFile(file, []byte(other.ok("session", "export", id)), 0o600))
	keys := filepath.Join(t.TempDir(), "keys.pem")
	noError(t, os.WriteFile(keys, []byte(other.ok("session", "keys")), 0o600))
	if out, errs, status := program(t, "session", "verify", file, "--keys", keys); status != 0 {
		t.Errorf("the export offline: %d %s%s", status, out, errs)
	}
	events := other.ok("audit", "list", "--type", "session.ended", "-o", "json")
	if n := strings.Count(events, `"lost: node n1 is silent"`); n != 1 {
		t.Errorf("%d events of the lost session:\n%s", n, events)
	}
}

// Without a bucket the session of a dead node is shown as lost, with its tail on the node, until that is back.
func TestLostNodeWithoutBucket(t *testing.T) {
	t.Parallel()
	s := prepare(t, storetest.Postgres(t))
	s.env = []string{lostSoon + "=3s"}
	s.start()
	s.target()
	s.enrol("alice", "true")
	key := s.userKey("alice")
	rules := filepath.Join(s.dir, "kept.yaml")
	noError(t, os.WriteFile(rules, []byte("version: 1\nrules:\n  - {name: ops, users: ['group:ops'], targets: ['*'], from: [127.0.0.1], code: none, retention: 30d}\n"), 0o600))
	s.ok("apply", "-f", rules)
	other := s.peer("n2")
	other.start()
	term := testenv.StartTerminal(t, (&testenv.OpenSSH{Addr: s.ssh, Login: "alice@web1", KeyFile: key}).Interactive("echo seen; sleep 60"), 80, 24)
	term.Expect("seen")
	s.kill()
	var x admin.Session
	testenv.WaitFor(t, "the other node to take the session for lost", func() bool {
		x = decode[[]admin.Session](t, other.ok("session", "list", "-o", "json"))[0]
		return x.State == "lost"
	})
	if show := other.ok("session", "show", x.ID); !strings.Contains(show, "tail pending") || !strings.Contains(show, "n1") {
		t.Errorf("show:\n%s", show)
	}
	if _, errs, status := other.run("session", "export", x.ID); status == 0 || !strings.Contains(errs, "n1") {
		t.Errorf("export from the other node: %d %s", status, errs)
	}
	s.start()
	testenv.WaitFor(t, "the sealed recording", func() bool {
		_, _, status := s.run("session", "verify", x.ID)
		return status == 0
	})
	if text := s.ok("session", "export", x.ID, "--format", "text"); !strings.Contains(text, "seen") {
		t.Errorf("the recording: %q", text)
	}
	until := time.Now().UTC().AddDate(0, 0, 30).Format(time.DateOnly)
	testenv.WaitFor(t, "the row to say that it is kept for the 30 days of the rule", func() bool { // the files are sealed a moment earlier
		return strings.Contains(s.ok("session", "show", x.ID), "sealed, on node n1, kept until "+until)
	})
}

func TestOperatorHolds(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	id := o.record(func(w *recorder.Recording) { noError(t, w.Output([]byte("hello\r\n"))) })
	o.fails(2, "session", "hold", id)
	o.ok("session", "hold", id, "--reason", "case 4711")
	if show := o.ok("session", "show", id); !strings.Contains(show, "case 4711") || !strings.Contains(show, "recording of channel 1") {
		t.Errorf("show:\n%s", show)
	}
	if st := object[map[string]any](o, "session", "storage"); st["kept"] != float64(1) || st["held_sessions"] != float64(1) || st["store"] != false {
		t.Errorf("storage: %v", st)
	}
	o.ok("session", "release", id)
	o.fails(1, "session", "release", id)
	if st := object[map[string]any](o, "session", "storage"); st["held_sessions"] != float64(0) {
		t.Errorf("storage: %v", st)
	}
}

// check tries the bucket, and says what to do if it cannot be used; the server starts all the same.
func TestCheckOfBucket(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	secrets := t.TempDir()
	for name, text := range map[string]string{"access": server.AccessKey, "secret": server.SecretKey, "wrong": "x"} {
		noError(t, os.WriteFile(filepath.Join(secrets, name), []byte(text), 0o600))
	}
	more := func(url, bucket, secret, extra string) string {
		return fmt.Sprintf("ssh: {listen: \"127.0.0.1:0\"}\nweb: {listen: \"127.0.0.1:0\"}\nrecordings:\n  reserve: 1MiB\n  s3: {endpoint: %q, bucket: %s, region: us-east-1, path-style: true, access-key-file: %s/access, secret-key-file: %s/%s%s}\n",
			url, bucket, secrets, secrets, secret, extra)
	}
	for _, tt := range []struct {
		name, more, fix string
	}{
		{"right", more(server.URL, server.Bucket, "secret", ""), ""},
		{"locks", more(server.URL, server.Locked, "secret", ", object-lock: {mode: governance, days: 1}"), ""},
		{"cannot lock", more(server.URL, server.Bucket, "secret", ", object-lock: {mode: governance, days: 1}"), "object lock"},
		{"no such bucket", more(server.URL, "nothing", "secret", ""), "recordings.s3.bucket"},
		{"wrong key", more(server.URL, server.Bucket, "wrong", ""), "access-key-file"},
		{"nobody there", more("http://127.0.0.1:1", server.Bucket, "secret", ""), "recordings.s3.endpoint"},
		{"no key file", more(server.URL, server.Bucket, "none", ""), "recordings.s3"},
	} {
		findings, status := checked(t, installation(t, tt.more))
		f, ok := findings["storage/s3"]
		if !ok || f.OK != (tt.fix == "") || !strings.Contains(f.Fix, tt.fix) || status == 0 != f.OK && tt.name != "no key file" {
			t.Errorf("%s: %+v, status %d", tt.name, f, status)
		}
		if strings.Contains(fmt.Sprint(findings), server.SecretKey) {
			t.Errorf("%s: the secret is shown", tt.name)
		}
	}
	o := startOperatedWith(t, "192.0.2.10", "recordings:\n  reserve: 1KiB\n  s3: {endpoint: \"http://127.0.0.1:1\", bucket: b, access-key-file: "+secrets+"/access, secret-key-file: "+secrets+"/secret}\n")
	id := o.record(func(w *recorder.Recording) { noError(t, w.Output([]byte("hello\r\n"))) })
	if text := o.ok("session", "export", id, "--format", "text"); !strings.Contains(text, "hello") {
		t.Errorf("while the bucket is away: %q", text)
	}
	testenv.WaitFor(t, "the problem to be told", func() bool {
		st := object[map[string]any](o, "session", "storage")
		return st["problem"] != "" && st["waiting"] == float64(1)
	})
}
