package bastion_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// shell is a running `cat` through the bastion: what goes in comes out.
type shell struct {
	t    testing.TB
	sess *ssh.Session
	in   io.WriteCloser
	out  *bufio.Reader
	errs *strings.Builder
}

func (s *system) cat(c *ssh.Client) *shell {
	s.t.Helper()
	sess, err := c.NewSession()
	check(s.t, err)
	x := &shell{t: s.t, sess: sess, errs: &strings.Builder{}}
	x.in, err = sess.StdinPipe()
	check(s.t, err)
	out, err := sess.StdoutPipe()
	check(s.t, err)
	x.out = bufio.NewReader(out)
	sess.Stderr = x.errs
	check(s.t, sess.Start("cat"))
	return x
}

// echo sends a line and reads it back.
func (x *shell) echo(line string) error {
	if _, err := io.WriteString(x.in, line+"\n"); err != nil {
		return err
	}
	got, err := x.out.ReadString('\n')
	if err == nil && got != line+"\n" {
		x.t.Errorf("echo of %q is %q", line, got)
	}
	return err
}

// The database goes away in the middle (D01): live sessions go on, new logins and new channels are
// refused within 3 s, and when it is back everything that happened is in it.
func TestDatabaseGoesAway(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	s := newSystem(t, options{dsn: pg.DSN()})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	x := s.cat(c)
	check(t, x.echo("before"))
	code := s.code("alice")
	pg.Stop()
	check(t, x.echo("the database is away"))
	started := time.Now()
	if other, err := s.dial("alice@web1", answers(alicePassword, code, nil)); err == nil {
		other.Close()
		t.Error("a login got in without a database")
	}
	// Three tries of one connection, each refused in time.
	if took := time.Since(started); took > time.Minute {
		t.Errorf("refused after %s", took)
	}
	sess, err := c.NewSession()
	if err == nil {
		if out, err := sess.CombinedOutput("echo in"); err == nil {
			t.Errorf("a new channel ran without a database: %q", out)
		}
	}
	check(t, x.echo("still here"))
	x.in.Close()
	if err := x.sess.Wait(); err != nil {
		t.Errorf("the session's end: %v", err)
	}
	c.Close()
	pg.Start()
	testenv.WaitFor(t, "the end of the session to be written", func() bool {
		list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{Limit: 1})
		return err == nil && len(list) == 1 && list[0].State == store.Ended && list[0].Channels[0].Recording != ""
	})
	row := s.newest()
	if got := s.recorded(row.Channels[0].Recording); !strings.Contains(got, "still here") {
		t.Errorf("recorded %q", got)
	}
	testenv.WaitFor(t, "the audit event of its end", func() bool {
		check(t, s.Engine.Housekeeping(context.Background()))
		return len(s.events("session.ended")) == 1
	})
}

// The rows and events of channels, forwards and a session that ended while the database was away are written when it
// is back, together and once each; what could not begin meanwhile left neither.
func TestRowsOfAnOutage(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	s := newSystem(t, options{dsn: pg.DSN(), rules: forwardRules})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	x := s.cat(c)
	check(t, x.echo("before"))
	to := echo(t, listen(t, "tcp", "127.0.0.1:0")).Addr().String()
	conn, err := c.Dial("tcp", to)
	check(t, err)
	pg.Stop()
	_, err = io.WriteString(conn, "while it is away")
	check(t, err)
	_, err = io.ReadFull(conn, make([]byte, len("while it is away")))
	check(t, err)
	check(t, conn.Close())
	if more, err := c.Dial("tcp", to); err == nil {
		more.Close()
		t.Error("a forward began without a row")
	}
	check(t, x.in.Close())
	check(t, x.sess.Wait())
	check(t, c.Close())
	testenv.WaitFor(t, "the end of the session here", func() bool { return len(s.Sessions.Live()) == 0 })
	pg.Start()
	var row store.Session
	testenv.WaitFor(t, "the rows", func() bool {
		list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{Limit: 2})
		if err != nil || len(list) != 1 || list[0].State != store.Ended {
			return false
		}
		row = list[0]
		return true
	})
	if len(row.Channels) != 2 || row.Channels[0].Ended.IsZero() || row.Channels[1].Ended.IsZero() || row.Channels[1].BytesIn != int64(len("while it is away")) {
		t.Errorf("rows of channels: %+v", row.Channels)
	}
	check(t, s.Engine.Housekeeping(context.Background()))
	for kind, n := range map[string]int{"channel.started": 2, "channel.ended": 2, "session.started": 1, "session.ended": 1} {
		if got := s.events(kind); len(got) != n {
			t.Errorf("%s: %q, want %d", kind, got, n)
		}
	}
}

// The disk of the recordings is full (R03): where the rule requires a recording the session ends within
// a second and says why, what was shown before is kept, and the next one is refused; where it is
// best effort the session goes on, the alarm is raised, and the loss stands in the audit log.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a small file system and needs root")
	}
	for _, mode := range []string{"required", "best-effort"} {
		t.Run(mode, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "recordings")
			check(t, os.Mkdir(dir, 0o700))
			check(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700"))
			t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
			s := newSystem(t, options{recordings: dir, rules: "version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['*'], record-limit: 2GiB, recording: " + mode + "}\n"})
			c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
			check(t, err)
			defer c.Close()
			sess, err := c.NewSession()
			check(t, err)
			var errs strings.Builder
			sess.Stderr = &errs
			out, err := sess.StdoutPipe()
			check(t, err)
			seconds := 5
			if mode == "required" {
				seconds = 90
			}
			check(t, sess.Start(fmt.Sprintf("while :; do head -c 30000 /dev/zero | tr '\\0' x; done & sleep %d; kill $!; echo the end", seconds)))
			started := time.Now()
			if mode == "best-effort" {
				go func() { // somebody makes room
					for len(s.events("recording.failed")) == 0 {
						time.Sleep(10 * time.Millisecond)
					}
					_ = syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=200m")
				}()
			}
			n, _ := io.Copy(io.Discard, out)
			took := time.Since(started)
			err = sess.Wait()
			c.Close()
			if mode == "best-effort" {
				if err != nil || took < 4*time.Second || n < 2<<20 {
					t.Errorf("ended after %s and %d bytes: %v", took, n, err)
				}
				row := s.session()
				if got := s.recorded(row.Channels[0].Recording); !strings.Contains(got, "the end\n") || !row.Channels[0].Truncated && int64(len(got)) >= n {
					t.Errorf("after the gap the recording does not go on: %d bytes of %d, %.40q", len(got), n, got[max(0, len(got)-40):])
				}
				if e := s.events("recording.failed"); len(e) < 2 || !strings.Contains(e[len(e)-1], "goes on after a gap") {
					t.Errorf("audit: %q", e)
				}
			} else {
				if took > time.Minute || !strings.Contains(errs.String(), "recording could not be written") {
					t.Errorf("went on for %s after the disk was full; stderr %q", took, errs.String())
				}
				if n > 1<<20 {
					t.Errorf("%d bytes were shown, more than the disk can hold", n)
				}
			}
			if len(s.events("recording.failed")) == 0 {
				t.Error("no audit event")
			}
		})
	}
}

// Less than the reserve is free: new sessions are refused, with the reason.
func TestReserve(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{reserve: 1 << 60})
	_, errs, status := s.ssh().Output(t, "true")
	if status != 255 || !strings.Contains(errs, "has to be recorded") {
		t.Errorf("status %d: %q", status, errs)
	}
}

// Drain (D14): people are told, sessions end, recordings are whole, nobody new gets in.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	var shells []*shell
	for range 3 {
		c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
		check(t, err)
		defer c.Close()
		x := s.cat(c)
		check(t, x.echo("here"))
		shells = append(shells, x)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.Sessions.Drain(ctx, "the bastion is restarted")
	for _, x := range shells {
		_ = x.sess.Wait()
		if !strings.Contains(x.errs.String(), "the bastion is restarted") {
			t.Errorf("the person reads %q", x.errs)
		}
	}
	list, err := s.Store.Sessions.List(ctx, store.SessionFilter{})
	check(t, err)
	for _, row := range list {
		if row.State != store.Ended || len(row.Channels) != 1 {
			t.Fatalf("row %+v", row)
		}
		r, err := s.Recorder.Verify(row.Channels[0].Recording)
		if err != nil || !r.Complete() {
			t.Errorf("recording %s: %+v %v", row.Channels[0].Recording, r, err)
		}
	}
	if _, errs, status := s.ssh().Output(t, "true"); status != 255 || !strings.Contains(errs, "could not be opened") {
		t.Errorf("a session while draining: %d %q", status, errs)
	}
}

// A connection in which nothing runs, such as OpenSSH's ControlPersist keeps for hours, once held a server that stops up for as
// long as it waits at most. It ends when the sessions have, with an event that says why.
func TestDismiss(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	idle, err := s.dial("alice", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer idle.Close()
	used, err := s.dial("alice", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer used.Close()
	sess, err := used.NewSession()
	check(t, err)
	check(t, sess.Run("whoami"))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.Sessions.Drain(ctx, "the bastion is restarted")
	s.Server.Dismiss("the bastion is restarted")
	check(t, s.Server.Shutdown(ctx)) // nil: nothing had to be cut
	_, _ = idle.Wait(), used.Wait()
	if got := s.events(audit.ConnEnded); !slices.Equal(got, []string{"ok alice @ the bastion is restarted", "ok alice @ the bastion is restarted"}) {
		t.Errorf("events: %q", got)
	}
}

// A client that reads nothing stalls its own channel and nothing else.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	ch, reqs, err := c.OpenChannel("session", nil)
	check(t, err)
	go ssh.DiscardRequests(reqs)
	ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"head -c 100000000 /dev/zero"}))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	before := heap()
	for range 20 {
		sess, err := c.NewSession()
		check(t, err)
		if out, err := sess.Output("echo quick"); err != nil || string(out) != "quick\n" {
			t.Fatalf("another channel: %q %v", out, err)
		}
	}
	grownBy(t, before, 32<<20)
}
