package bastion_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/testenv"
)

const glassRules = `version: 1
rules:
  - {name: emergency, users: [alice], targets: [web1], code: fresh, break-glass: true}
`

// Where no recording can begin, a break-glass rule lets a person in who typed a code of their own: they are told
// that nothing is recorded, and the event says why. With room for recordings they are recorded as anybody is.
func TestBreakGlass(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reserve int64
		broken  bool
	}{"there is room": {0, false}, "less than the reserve": {1 << 60, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{reserve: c.reserve, rules: glassRules})
			out, errs, status := s.ssh().Output(t, "echo through")
			if out != "through\n" || status != 0 {
				t.Fatalf("%d: %q %q", status, out, errs)
			}
			x := s.session()
			if x.Recording != "break-glass" {
				t.Errorf("the session's row says %q", x.Recording)
			}
			used := s.events("breakglass.used")
			if c.broken {
				if !strings.Contains(errs, "NOT recorded") {
					t.Errorf("the person reads %q", errs)
				}
				if len(used) != 1 || !strings.Contains(used[0], "less space is free than the reserve") || x.Channels[0].Recording != "" {
					t.Errorf("events %q, channels %+v", used, x.Channels)
				}
				return
			}
			if len(used) != 0 || strings.Contains(errs, "NOT recorded") || x.Channels[0].Recording == "" {
				t.Errorf("events %q, stderr %q, channels %+v", used, errs, x.Channels)
			}
		})
	}
}

// No event, no break-glass: what cannot be written down does not happen.
func TestBreakGlassNeedsItsEvent(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	s := newSystem(t, options{dsn: pg.DSN(), reserve: 1 << 60, rules: glassRules})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	pg.Stop()
	sess, err := c.NewSession()
	if err == nil {
		if out, err := sess.CombinedOutput("echo in"); err == nil || strings.Contains(string(out), "in\n") && !strings.Contains(string(out), "sallyport") {
			t.Errorf("an unrecorded channel ran without an event: %q", out)
		}
	}
}

// The disk fills up in the middle of a session: under a break-glass rule it goes on, and its recording has a gap; the
// bytes that are missing are told also if the recording never goes on.
func TestBreakGlassInTheMiddle(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a small file system and needs root")
	}
	for _, rules := range []string{strings.Replace(glassRules, "break-glass: true", "break-glass: true, record-limit: 2GiB", 1),
		"version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['*'], record-limit: 2GiB, recording: best-effort}\n"} {
		dir := filepath.Join(t.TempDir(), "recordings")
		check(t, os.Mkdir(dir, 0o700))
		check(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700"))
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		s := newSystem(t, options{recordings: dir, rules: rules})
		c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
		check(t, err)
		defer c.Close()
		sess, err := c.NewSession()
		check(t, err)
		var errs strings.Builder
		sess.Stderr = &errs
		started := time.Now()
		out, err := sess.Output("head -c 3000000 /dev/zero | tr '\\0' x; echo the end")
		if err != nil || !strings.HasSuffix(string(out), "the end\n") || len(out) != 3000000+len("the end\n") {
			t.Errorf("%d bytes, %v after %s; stderr %q", len(out), err, time.Since(started), &errs)
		}
		c.Close()
		s.session()
		failed := s.details("recording.failed")
		lost := 0
		for _, d := range failed {
			if d["lost"] != "" {
				lost++
			}
		}
		if len(failed) < 2 || lost != 1 {
			t.Errorf("recording.failed: %v", failed)
		}
		if n := len(s.events("breakglass.used")); strings.Contains(rules, "break-glass") != (n == 1) {
			t.Errorf("breakglass.used: %d events", n)
		}
	}
}
