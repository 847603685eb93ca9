package bastion_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/bastion"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// A client that sends more than 64 KiB before it is authenticated is cut off: a user name of 250 KB
// would cost a megabyte, and the library has no bound of its own.
func TestHugeUserName(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	if c, err := s.dial(strings.Repeat("a", 250<<10)+"@down", answers("x", "y", nil)); err == nil {
		c.Close()
		t.Fatal("got in")
	}
	for _, e := range s.events("login.refused") {
		if len(e) > 10<<10 {
			t.Errorf("an audit event of %d bytes", len(e))
		}
	}
}

// Answers of a megabyte and of bytes that are no text end the connection, not the bastion. (Go's client gives as many as
// it was asked for; others are in TestWrongNumberOfAnswers.)
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, guard: bastion.Guard{Exempt: loopback()}})
	for name, reply := range map[string]func(questions []string) []string{
		"huge": func(q []string) []string { return []string{strings.Repeat("x", 1<<20)} },
		"NUL":  func(q []string) []string { return []string{"\x00"} },
	} {
		var rounds int
		_, err := s.dial("alice@down", ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) {
			if rounds++; rounds > 50 {
				return nil, errors.New("asked without end")
			}
			if len(q) == 0 {
				return nil, nil
			}
			return reply(q), nil
		}))
		if err == nil {
			t.Errorf("%s: got in", name)
		}
	}
	c, err := s.dial("alice@down", answers(alicePassword, s.code("alice"), nil))
	if err != nil {
		t.Fatalf("an honest login afterwards: %v", err)
	}
	c.Close()
}

// Three conversations a connection, however many a client asks for.
func TestTriesPerConnection(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	s.token("alice")
	asked := 0
	_, err := s.dial("alice@down", ssh.RetryableAuthMethod(ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) {
		asked += len(q)
		return make([]string, len(q)), nil
	}), 50))
	if err == nil {
		t.Fatal("got in")
	}
	if asked != 3*2 {
		t.Errorf("%d prompts were shown, want 3 conversations of 2", asked)
	}
}

// Connections that say nothing, or trickle, are cut at their stage's deadline; nobody else waits.
func TestSilentConnections(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, guard: bastion.Guard{Handshake: 500 * time.Millisecond, Prompt: 500 * time.Millisecond, PerSource: 100}})
	for name, first := range map[string]string{"nothing": "", "version": "SSH-2.0-x\r\n", "junk": strings.Repeat("x", 300), "half": "SSH-2.0"} {
		c, err := net.Dial("tcp", s.Addr)
		check(t, err)
		defer c.Close()
		io.WriteString(c, first)
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: not cut: %v", name, err)
		}
	}
	// At a prompt as well.
	_, err := s.dial("alice@down", ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) {
		time.Sleep(2 * time.Second) // the person does not answer: this is the thing under test
		return make([]string, len(q)), nil
	}))
	if err == nil {
		t.Error("got in after the deadline")
	}
}

// One source may have ten unauthenticated connections; others are served while it has them.
func TestPerSourceLimit(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, guard: bastion.Guard{Queue: 50 * time.Millisecond}})
	for range 60 {
		c, err := net.Dial("tcp", s.Addr)
		check(t, err)
		defer c.Close()
	}
	refused := func() bool {
		c, err := net.Dial("tcp", s.Addr)
		check(t, err)
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := c.Read(make([]byte, 1))
		return n == 0 && err != nil
	}
	testenv.WaitFor(t, "a refusal", refused)
	other := ssh.ClientConfig{User: "alice@down", Auth: []ssh.AuthMethod{answers(alicePassword, s.code("alice"), nil)},
		HostKeyCallback: ssh.FixedHostKey(s.HostKey)}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn, err := d.Dial("tcp", s.Addr)
	check(t, err)
	c, _, _, err := ssh.NewClientConn(conn, s.Addr, &other)
	if err != nil {
		t.Fatalf("a login from another source: %v", err)
	}
	c.Close()
}

// Two thousand connections from as many sources that say nothing do not keep a person out (N02): the
// silent make room.
func TestSilentFlood(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	dial := func(i int) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))}}
		return d.Dial("tcp", s.Addr)
	}
	for i := range 2000 {
		c, err := dial(i + 1)
		check(t, err)
		defer c.Close()
	}
	s.loginsIn(dial)
}

// loginsIn wants every one of three good logins to get in, and the quickest to take no longer than limit: what else
// the machine does must not count.
func (s *system) loginsIn(dial func(i int) (net.Conn, error)) {
	s.t.Helper()
	quickest := time.Hour
	for i := range 3 {
		code := s.code("alice")
		conn, err := dial(5000 + i)
		check(s.t, err)
		started := time.Now()
		c, _, _, err := ssh.NewClientConn(conn, s.Addr, &ssh.ClientConfig{User: "alice@down",
			Auth: []ssh.AuthMethod{answers(alicePassword, code, nil)}, HostKeyCallback: ssh.FixedHostKey(s.HostKey)})
		if err != nil {
			s.t.Fatalf("login %d, after %s: %v", i, time.Since(started), err)
		}
		c.Close()
		quickest = min(quickest, time.Since(started))
	}
	if quickest > 20*time.Second { // who waits for others to be cut at a prompt waits for two minutes
		s.t.Errorf("the quickest good login took %s", quickest)
	}
}

// Floods on one connection: rejected channels, environment, window changes, global requests. Memory
// and goroutines stay bounded, and others are served.
func TestFloods(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	before := heap()
	for i := range 20_000 {
		kind, want := "tun@openssh.com", "not allowed"
		if i%2 == 1 {
			kind, want = "direct-tcpip", "malformed"
		}
		if _, _, err := c.OpenChannel(kind, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	if n := len(s.events("channel.refused")); n > 100 {
		t.Errorf("%d audit events of refused channels", n)
	}
	ch, reqs, err := c.OpenChannel("session", nil)
	check(t, err)
	go ssh.DiscardRequests(reqs)
	accepted := 0
	for i := range 1000 {
		ok, err := ch.SendRequest("env", true, ssh.Marshal(struct{ Name, Value string }{fmt.Sprintf("LC_%d", i), "x"}))
		check(t, err)
		if ok {
			accepted++
		}
	}
	if accepted > 64 {
		t.Errorf("%d environment variables were taken, want at most 64", accepted)
	}
	for range 10_000 {
		_, err := ch.SendRequest("window-change", false, ssh.Marshal(struct{ C, R, X, Y uint32 }{80, 24, 0, 0}))
		check(t, err)
	}
	for range 10_000 {
		_, _, err := c.SendRequest("no-such-request@example.org", false, nil)
		check(t, err)
	}
	ok, _, err := c.SendRequest("keepalive@openssh.com", true, nil)
	check(t, err)
	_ = ok
	grownBy(t, before, 64<<20)
	if out, errs, status := s.ssh().Output(t, "echo served"); out != "served\n" {
		t.Errorf("another login: %q %q %d", out, errs, status)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// grownBy fails unless the heap has grown by at most that much since it was before. What other tests hold for
// a moment, such as 19 MiB for each password that is hashed, is waited for.
func grownBy(t *testing.T, before, most int64) {
	t.Helper()
	var grown int64
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if grown = heap() - before; grown <= most {
			return
		}
	}
	t.Errorf("the heap has grown by %d MiB", grown>>20)
}

// No more than ten session channels at once in one connection, and 64 channels in all.
func TestChannelLimits(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{sshdConfig: []string{"MaxSessions 100"}})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	for i := range 12 {
		_, reqs, err := c.OpenChannel("session", nil)
		if i < 10 {
			check(t, err)
			go ssh.DiscardRequests(reqs)
		} else if err == nil || !strings.Contains(err.Error(), "no more than 10") {
			t.Errorf("channel %d: %v", i+1, err)
		}
	}
}

// Everything a client hangs up in the middle of comes back: goroutines, channels, rows.
func TestHangUp(t *testing.T) {
	s := newSystem(t, options{})
	base := runtime.NumGoroutine()
	for range 20 {
		c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
		check(t, err)
		sess, err := c.NewSession()
		check(t, err)
		check(t, sess.Start("cat"))
		c.Conn.Close()
	}
	testenv.WaitFor(t, "the end of all sessions", func() bool {
		list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{State: store.Live})
		check(t, err)
		return len(list) == 0 && len(s.Sessions.Live()) == 0
	})
	testenv.WaitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= base+5 })
}

// The target dies in the middle: the person is told, the session ends, the recording is whole.
func TestTargetDies(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	sess, err := c.NewSession()
	check(t, err)
	in, err := sess.StdinPipe()
	check(t, err)
	out, err := sess.StdoutPipe()
	check(t, err)
	check(t, sess.Start("echo before; read x; kill -9 $PPID; sleep 600"))
	line := make([]byte, len("before\n"))
	_, err = io.ReadFull(out, line)
	check(t, err)
	io.WriteString(in, "\n")
	if err := sess.Wait(); err == nil {
		t.Error("the command ended well")
	}
	row := s.session()
	if got := s.recorded(row.Channels[0].Recording); got != "before\n" {
		t.Errorf("recorded %q", got)
	}
	if !strings.Contains(row.Reason, "target") {
		t.Errorf("the reason does not name the target: %q", row.Reason)
	}
}

// When the connection to the target was lost, OpenSSH's client once ended without a word, as if the person had closed the
// session, and the session's row said just that. The person reads why, as a terminal shows it or on stderr, and the row and the
// recording have it too. A target that closes a channel alone, without an exit status, is another thing.
func TestTargetDiesIsTold(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	const text = "session ended: the target closed the connection."
	_, errs, status := s.ssh().Output(t, "kill -9 $PPID; sleep 600")
	if !strings.Contains(errs, text) || status != 255 {
		t.Errorf("a command: %q %d", errs, status)
	}
	if row := s.session(); row.Reason != "the target closed the connection" {
		t.Errorf("row %+v", row)
	}
	term := s.terminal(s.ssh(), "PS1='ready> ' exec /bin/sh")
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("ready> ")
	term.Type("kill -9 $PPID\n")
	term.Expect(text)
	if status := term.Wait(); status != 255 {
		t.Errorf("on a terminal: status %d", status)
	}
}

func TestChannelClosedWithoutStatus(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: allowHostile})
	s.witness(func(ch ssh.Channel) {
		_, _ = ch.Write([]byte("before"))
		ch.Close()
	})
	c := s.ssh()
	c.Login = "alice@hostile"
	out, errs, status := c.Output(t, "x")
	if out != "before" || errs != "" || status != 255 {
		t.Errorf("%q %q %d", out, errs, status)
	}
	if row := s.session(); row.Reason != "the client closed the connection" {
		t.Errorf("reason %q", row.Reason)
	}
}

// The answer to a request, its output, exit status and close come in this order however fast the
// program is; a client must never see the end before the answer.
func TestFastCommands(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	n := 25
	if os.Getenv("SALLYPORT_LONG") != "" {
		n = 500
	}
	// All the places that a connection has: one that is given back must be free at once, though the
	// recording of the channel that had it is still being sealed.
	failed := s.inParallel(10, func(int) bool {
		for i := range n {
			sess, err := c.NewSession()
			if err != nil {
				t.Errorf("channel: %v", err)
				return true
			}
			out, err := sess.Output(fmt.Sprintf("echo %d", i))
			if err != nil || string(out) != fmt.Sprintf("%d\n", i) {
				t.Errorf("command %d: %q, %v", i, out, err)
				return true
			}
		}
		return false
	})
	if failed != 0 {
		t.Errorf("%d of 10 failed", failed)
	}
}
