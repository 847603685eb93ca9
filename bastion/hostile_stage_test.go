package bastion_test

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/bastion"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// mute is a connection of which only the first writes arrive. Go's client writes once for each message.
type mute struct {
	net.Conn
	left atomic.Int32
}

func (m *mute) Write(p []byte) (int, error) {
	if m.left.Add(-1) < 0 {
		return len(p), nil
	}
	return m.Conn.Write(p)
}

// trickle is a connection that takes its time for each byte.
type trickle struct{ net.Conn }

func (c trickle) Write(p []byte) (int, error) {
	for i := range p {
		time.Sleep(20 * time.Millisecond) // the slowness is what is tested
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// A client stops at each message of a login in turn: after the version, in the middle of key exchange, after NEWKEYS, after the
// service request, at each step of authentication. x/crypto/ssh has no deadline of its own at any of them; each would hold its
// place for ever. Those that go on byte by byte are cut as well.
func TestSlowAtEveryStage(t *testing.T) {
	t.Parallel()
	limits := bastion.Guard{Handshake: 10 * time.Second, Prompt: 10 * time.Second, Exempt: loopback()} // enough for those who are honest, on a busy machine
	s := newSystem(t, options{noSSHD: true, guard: limits})
	login := func(wrap func(net.Conn) net.Conn) (error, time.Duration) {
		code := s.code("alice")
		conn, err := net.Dial("tcp", s.Addr)
		if err != nil {
			return err, 0
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Minute)) // of the test
		started := time.Now()
		c, _, _, err := ssh.NewClientConn(wrap(conn), s.Addr, &ssh.ClientConfig{User: "alice@down",
			Auth: []ssh.AuthMethod{answers(alicePassword, code, nil)}, HostKeyCallback: ssh.FixedHostKey(s.HostKey)})
		if err == nil {
			c.Close()
		}
		return err, time.Since(started)
	}
	const stages = 14
	var in [stages]bool
	var all sync.WaitGroup
	for n := range stages {
		all.Go(func() {
			err, took := login(func(c net.Conn) net.Conn {
				m := &mute{Conn: c}
				m.left.Store(int32(n))
				return m
			})
			in[n] = err == nil
			var timeout net.Error
			if err != nil && (took > time.Minute || strings.Contains(err.Error(), "i/o timeout")) {
				t.Errorf("silent after %d messages: not cut after %s: %v %v", n, took, err, timeout)
			}
		})
	}
	all.Go(func() {
		if err, took := login(func(c net.Conn) net.Conn { return trickle{c} }); err == nil || took > time.Minute {
			t.Errorf("byte by byte: %v after %s", err, took)
		}
	})
	all.Go(func() {
		if err, took := login(func(c net.Conn) net.Conn { return c }); err != nil || took > time.Minute {
			t.Errorf("an honest login meanwhile: %v after %s", err, took)
		}
	})
	all.Wait()
	if !in[stages-1] || in[0] || in[6] {
		t.Errorf("got in after so many messages: %v; all stages must have been seen, and the last ones get in", in)
	}
}

// Connections from 600 sources finish key exchange and then stay at the prompt, until all places are theirs. Whoever has been
// at a prompt for long makes room, else 52 sources could keep everybody out for two minutes with what costs them nothing.
func TestPromptFlood(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, guard: bastion.Guard{Patience: time.Second}})
	dial := func(i int) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, byte(i>>8), byte(i))}}
		return d.Dial("tcp", s.Addr)
	}
	release := make(chan struct{})
	asked := make(chan struct{}, 600)
	var all sync.WaitGroup
	places := make(chan struct{}, 16)
	for i := range 600 {
		places <- struct{}{}
		all.Go(func() {
			conn, err := dial(i + 1)
			if err != nil {
				t.Error(err)
				<-places
				return
			}
			defer conn.Close()
			once := sync.OnceFunc(func() { <-places })
			defer once()
			_, _, _, _ = ssh.NewClientConn(conn, s.Addr, &ssh.ClientConfig{User: "nobody@down", HostKeyCallback: ssh.FixedHostKey(s.HostKey),
				Auth: []ssh.AuthMethod{ssh.KeyboardInteractive(func(_, _ string, _ []string, _ []bool) ([]string, error) {
					once()
					asked <- struct{}{}
					<-release
					return nil, fmt.Errorf("never")
				})}})
		})
	}
	testenv.WaitFor(t, "prompts", func() bool { return len(asked) > 64 })
	time.Sleep(time.Second) // of patience, which is what is tested
	s.loginsIn(dial)
	close(release)
	all.Wait()
}

// A person who is let in and asks without end for what the rules refuse costs a hundred events and no memory: session channels
// to a target that no rule allows, forwards to where none may go, commands where only shells are allowed, a target that is down.
// Each decision was once an event of its own, so that one connection could fill the database.
func TestRefusalFlood(t *testing.T) {
	s := newSystem(t, options{rules: `version: 1
rules:
  - {name: shells, users: ["*"], targets: [web1], channels: [shell]}
  - {name: all, users: ["*"], targets: [down]}
`})
	base := runtime.NumGoroutine()
	n := 400
	for _, x := range []struct {
		login string
		ask   func(c *ssh.Client) string
		want  string
	}{
		{"alice@hidden", func(c *ssh.Client) string { return runs(c, "x") }, "There is no target hidden"},
		{"alice@web1", func(c *ssh.Client) string { return runs(c, "x") }, "exec is not allowed"},
		{"alice@down", func(c *ssh.Client) string { return runs(c, "x") }, "connection refused"},
		{"alice@web1", func(c *ssh.Client) string { _, err := c.Dial("tcp", "127.0.0.1:80"); return fmt.Sprint(err) }, "is not allowed through web1"},
		{"alice@web1", func(c *ssh.Client) string {
			_, _, err := c.OpenChannel("direct-streamlocal@openssh.com", ssh.Marshal(struct {
				P, R string
				N    uint32
			}{"/run/x", "", 0}))
			return fmt.Sprint(err)
		}, "unix-forward"},
	} {
		t.Run(x.login+" "+x.want, func(t *testing.T) {
			count := func() (total int, kinds map[string]int) {
				kinds = map[string]int{}
				for _, kind := range []string{"access.decided", "channel.refused", "session.started"} {
					list, err := s.Store.Audit.List(context.Background(), store.AuditFilter{Type: kind, Limit: 10_000})
					check(t, err)
					total += len(list)
					kinds[kind] = len(list)
				}
				return total, kinds
			}
			before, was := count()
			c, err := s.dial(x.login, answers(alicePassword, s.code("alice"), nil))
			check(t, err)
			defer c.Close()
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range n / 8 {
						if got := x.ask(c); !strings.Contains(got, x.want) && !strings.Contains(got, "too much was refused") {
							t.Errorf("%q, want %q", got, x.want)
							return
						}
					}
				})
			}
			all.Wait()
			// 100 each of decisions and of refusals, those under way at both moments, and the session itself.
			if after, is := count(); after-before > 2*100+4*8+3 || after-before < 50 {
				t.Errorf("%d refusals left %d events: %v, then %v", n, after-before, was, is)
			}
		})
	}
	testenv.WaitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= base+8 })
}

// runs runs a command and gives what is said on stderr, or the error.
func runs(c *ssh.Client, command string) string {
	sess, err := c.NewSession()
	if err != nil {
		return err.Error()
	}
	defer sess.Close()
	var errs strings.Builder
	sess.Stderr = &errs
	if err := sess.Run(command); err != nil && errs.Len() == 0 {
		return err.Error()
	}
	return errs.String()
}

// What looks like scp and is a shell passes neither as scp nor, where a rule allows scp only, as anything else.
func TestSCPWithMore(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: files, users: ['*'], targets: ['*'], channels: [scp]}\n"})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	dir := t.TempDir()
	for _, command := range []string{"scp -t x; bash", "scp -t $(touch " + dir + "/ran)", "scp -t x\ntouch " + dir + "/ran", "scp -t x | touch " + dir + "/ran", "scp -S /bin/sh -t x", "bash"} {
		if got := runs(c, command); !strings.Contains(got, "exec is not allowed") {
			t.Errorf("%q: %q", command, got)
		}
	}
	if got := runs(c, "scp -t "+dir); strings.Contains(got, "not allowed") {
		t.Errorf("scp itself: %q", got)
	}
}
