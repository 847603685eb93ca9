package bastion_test

import (
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
)

// A target that never answers the opening of a channel: the person reads so after ten seconds, and nothing is left of it
// when they go. The library waits for ever.
func TestTargetNeverOpens(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: allowHostile})
	s.hostileTarget(func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		for range chans { // taken and never answered
		}
	})
	c, err := s.dial("alice@hostile", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	started := time.Now()
	_, _, err = c.OpenChannel("session", nil)
	if took := time.Since(started); err == nil || !strings.Contains(err.Error(), "does not answer") || took > time.Minute {
		t.Errorf("after %s: %v", took, err)
	}
	// Whoever leaves in the middle leaves nothing.
	go func() { _, _, _ = c.OpenChannel("session", nil) }()
	testenv.WaitFor(t, "the session", func() bool { return len(s.Sessions.Live()) == 1 })
	check(t, c.Close())
	testenv.WaitFor(t, "its end", func() bool { return len(s.Sessions.Live()) == 0 })
}

// A program that never reads its input, so that the target opens no window: only that channel stalls, with bounded memory, and
// its end can still be had.
func TestTargetReadsNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	sess, err := c.NewSession()
	check(t, err)
	in, err := sess.StdinPipe()
	check(t, err)
	check(t, sess.Start("sleep 600"))
	before := heap()
	wrote := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(in, io.LimitReader(zeros{}, 1<<30))
		wrote <- n
	}()
	for range 10 {
		if out, err := output(c, "echo quick"); err != nil || out != "quick\n" {
			t.Fatalf("another channel: %q %v", out, err)
		}
	}
	grownBy(t, before, 32<<20)
	check(t, sess.Close())
	if n := <-wrote; n > 16<<20 {
		t.Errorf("%d bytes were taken for a program that reads nothing", n)
	}
	if out, err := output(c, "echo still"); err != nil || out != "still\n" {
		t.Errorf("afterwards: %q %v", out, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func output(c *ssh.Client, command string) (string, error) {
	sess, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer sess.Close()
	out, err := sess.Output(command)
	return string(out), err
}

// A target that speaks before it was asked anything: what it sends right with its yes to the channel waits until the client has
// heard of the channel, and comes whole and once. A target that floods with output, requests and replies that nobody waits for
// costs a window of memory, and everything ends with the connection.
func TestTargetSpeaksFirstAndFloods(t *testing.T) {
	s := newSystem(t, options{noSSHD: true, rules: allowHostile})
	base := runtime.NumGoroutine()
	first := strings.Repeat("said first\n", 1000)
	s.hostileTarget(func(conn *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		for nc := range chans {
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(ch, first)
			go func() {
				for r := range reqs {
					if r.WantReply {
						_ = r.Reply(true, nil)
					}
					if r.Type != "exec" {
						continue
					}
					go func() {
						for range 20_000 {
							_, _ = ch.SendRequest("exit-status", false, []byte{1})
							_, _ = ch.SendRequest("no-such@example.org", false, nil)
						}
						_, _ = io.Copy(ch, io.LimitReader(zeros{}, 1<<30))
					}()
				}
			}()
		}
	})
	c, err := s.dial("alice@hostile", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	before := heap()
	sess, err := c.NewSession()
	check(t, err)
	out, err := sess.StdoutPipe()
	check(t, err)
	check(t, sess.Start("x"))
	got := make([]byte, len(first))
	if _, err := io.ReadFull(out, got); err != nil || string(got) != first {
		t.Errorf("what was said first: %.60q %v", got, err)
	}
	// From here on nobody reads.
	var last int64
	testenv.WaitFor(t, "the flood to stall", func() bool {
		live := s.Sessions.Live()
		was := last
		last = live[0].Channels[0].BytesOut
		return last > 1<<20 && last == was
	})
	grownBy(t, before, 48<<20)
	check(t, c.Close())
	testenv.WaitFor(t, "the end of the session", func() bool { return len(s.Sessions.Live()) == 0 })
	testenv.WaitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= base+8 })
}

// Floods of one client, and nothing is left when it goes: goroutines are as many as before.
func TestFloodsLeaveNothing(t *testing.T) {
	s := newSystem(t, options{})
	base := runtime.NumGoroutine()
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	for range 9 {
		ch, reqs, err := c.OpenChannel("session", nil)
		check(t, err)
		go ssh.DiscardRequests(reqs)
		for range 2000 {
			_, _ = ch.SendRequest("env", false, ssh.Marshal(struct{ Name, Value string }{"LC_X", strings.Repeat("x", 1000)}))
			_, _ = ch.SendRequest("window-change", false, ssh.Marshal(struct{ C, R, X, Y uint32 }{1 << 31, 24, 0, 0}))
			_, _ = ch.SendRequest("signal", false, ssh.Marshal(struct{ S string }{"HUP"}))
		}
		_, _, _ = c.SendRequest("no-such@example.org", false, nil)
	}
	if out, err := output(c, "echo served"); err != nil || out != "served\n" {
		t.Errorf("a command among them: %q %v", out, err)
	}
	check(t, c.Close())
	testenv.WaitFor(t, "the end of the session", func() bool { return len(s.Sessions.Live()) == 0 })
	testenv.WaitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= base+8 })
}
