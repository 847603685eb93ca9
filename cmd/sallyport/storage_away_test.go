package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/internal/testenv"
)

// The bucket's server is gone for a while (with SALLYPORT_LONG for ten minutes) in the middle of a session, while
// others begin and end: nobody notices, and when it is back all recordings are complete in the bucket, nothing of them
// is left on the node, and they verify.
func TestBucketAway(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	s := prepare(t, "sqlite")
	s.withBucket(server)
	s.start()
	s.target()
	s.enrol("alice", "true")
	s.trustLoopback()
	client := &testenv.OpenSSH{Addr: s.ssh, Login: "alice@web1", KeyFile: s.userKey("alice")}

	stop := filepath.Join(t.TempDir(), "stop")
	cmd := client.SSH(t, "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo line $i of the beginning; done; "+
		"while [ ! -e "+stop+" ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo the end")
	out, err := cmd.StdoutPipe()
	noError(t, err)
	noError(t, cmd.Start())
	received := &lockedBuffer{}
	var copied sync.WaitGroup
	copied.Go(func() { _, _ = io.Copy(received, out) })
	testenv.WaitFor(t, "parts in the bucket", func() bool {
		for _, f := range files(t, server.Dir) {
			if strings.HasSuffix(f, ".zst") {
				return true
			}
		}
		return false
	})

	server.Stop()
	away := 3 * time.Second
	if os.Getenv("SALLYPORT_LONG") != "" {
		away = 10 * time.Minute
	}
	over := time.After(away)
	meanwhile := 0
	for going := true; going; meanwhile++ {
		text, err := client.SSH(t, "echo meanwhile").Output()
		if noError(t, err); string(text) != "meanwhile\n" {
			t.Fatalf("a session while the bucket is away: %q", text)
		}
		select {
		case <-over:
			going = false
		case <-time.After(away / 20):
		}
	}
	server.Start()

	noError(t, os.WriteFile(stop, nil, 0o600))
	copied.Wait()
	noError(t, cmd.Wait())
	if !strings.HasSuffix(received.String(), "\nthe end\n") {
		t.Fatalf("the client received %d bytes, without the end", len(received.String()))
	}
	back := time.Now()
	for len(files(t, filepath.Join(s.dir, "recordings"))) > 0 { // it is tried again after pauses of up to a minute
		if time.Since(back) > 5*time.Minute {
			t.Fatalf("still on the node: %s", files(t, filepath.Join(s.dir, "recordings")))
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Logf("away for %v; all there %v after it was back", away, time.Since(back).Round(time.Millisecond))
	want := map[string]int{"": 1, "meanwhile\n": meanwhile, received.String(): 1} // alice's enrolment ran "true"
	for _, x := range decode[[]admin.Session](t, s.ok("session", "list", "-o", "json")) {
		s.ok("session", "verify", x.ID)
		want[recordedOutput(t, s.ok("session", "export", x.ID))]--
	}
	for text, missing := range want {
		if missing != 0 {
			t.Errorf("%d recordings are missing of the session that showed %d bytes, %.40q", missing, len(text), text)
		}
	}
}
