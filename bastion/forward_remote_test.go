package bastion_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// ssh -R, with a port of the client's choice and one of the target's; what is cancelled is gone.
func TestRemoteForward(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.rules = forwardRules
		s := newSystem(t, o)
		near := echo(t, listen(t, "tcp", "127.0.0.1:0")).Addr().String()
		far := testenv.FreeAddr(t)
		running(t, s.ssh(), "-R", far+":"+near)
		bounce(t, connect(t, "tcp", far), strings.Repeat("abc", 10_000))
		if row := s.channelOf("remote-forward"); row.Command != far || row.BytesIn != 30_000 || row.BytesOut != 30_000 {
			t.Errorf("row: %+v", row)
		}
		c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
		check(t, err)
		defer c.Close()
		l, err := c.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		echo(t, l)
		bounce(t, connect(t, "tcp", l.Addr().String()), "by a port of the target's choice")
		check(t, l.Close())
		testenv.WaitFor(t, "the end of listening", func() bool {
			x, err := net.Dial("tcp", l.Addr().String())
			if err == nil {
				x.Close()
			}
			return err != nil
		})
	})
}

// A remote forward that no rule allows is refused, and the person reads why on the next channel.
func TestRemoteForwardRefused(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	far := testenv.FreeAddr(t)
	cmd := s.ssh().SSH(t)
	cmd.Args = append(cmd.Args[:len(cmd.Args)-1], "-R", far+":127.0.0.1:1", "127.0.0.1", "true")
	_, errs, status := testenv.Finish(t, cmd)
	if status != 0 || !strings.Contains(errs, "remote-forward to "+far+" is not allowed through web1") {
		t.Errorf("status %d, %q", status, errs)
	}
	if got := s.events("channel.refused"); len(got) != 1 {
		t.Errorf("events: %q", got)
	}
}

// Unix sockets both ways.
func TestUnixForward(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: forwardRules})
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	s.permit("restrict,port-forwarding")
	echo(t, listen(t, "unix", at("far")))
	echo(t, listen(t, "unix", at("home")))
	running(t, s.ssh(), "-L", at("near")+":"+at("far"), "-R", at("there")+":"+at("home"))
	bounce(t, connect(t, "unix", at("near")), "to a socket of the target")
	if row := s.channelOf("unix-forward"); row.Command != at("far") || row.BytesIn != 25 || row.BytesOut != 25 {
		t.Errorf("row: %+v", row)
	}
	bounce(t, connect(t, "unix", at("there")), "to a socket at home")
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	for _, path := range []string{"relative", "/run//ssh-unix-local/socket", "/var/run/ssh-unix-local/socket"} {
		if _, err := c.Dial("unix", path); err == nil || !strings.Contains(err.Error(), "socket") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// ssh -A: a real agent, asked ten times at once by programs on the target; without -A, or without the word
// in the rule, the target has none.
func TestAgentForward(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: forwardRules})
	s.permit("restrict,agent-forwarding")
	dir := t.TempDir()
	socket := filepath.Join(dir, "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	check(t, agent.Start())
	t.Cleanup(func() { agent.Process.Kill(); agent.Wait() })
	connect(t, "unix", socket).Close()
	key := filepath.Join(dir, "key")
	testenv.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "from-home", "-f", key)
	add := exec.Command("ssh-add", "-q", key)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	check(t, add.Run())
	run := func(s *system, forward string) (string, string) {
		cmd := s.ssh().SSH(t)
		cmd.Args = append(cmd.Args[:len(cmd.Args)-1], "-o", "ForwardAgent="+forward, "127.0.0.1", "for i in 1 2 3 4 5 6 7 8 9 10; do ssh-add -l & done; wait")
		for i, a := range cmd.Args {
			if a == "IdentityAgent=none" {
				cmd.Args[i] = "IdentityAgent=" + socket
			}
		}
		out, errs, _ := testenv.Finish(t, cmd)
		return out, errs
	}
	if out, errs := run(s, socket); strings.Count(out, "from-home") != 10 {
		t.Errorf("ten uses at once: %q %q", out, errs)
	}
	n := 0
	for _, c := range s.session().Channels {
		if c.Kind == "agent" && c.BytesIn > 0 && c.BytesOut > 0 && !c.Ended.IsZero() {
			n++
		}
	}
	if n != 10 {
		t.Errorf("%d rows of agent channels, want 10", n)
	}
	if out, _ := run(s, "no"); strings.Contains(out, "from-home") {
		t.Error("an agent that was not asked for")
	}
	if out, _ := run(newSystem(t, options{}), socket); strings.Contains(out, "from-home") {
		t.Error("an agent that no rule allows")
	}
}

// x11Request asks for X11.
var x11Request = ssh.Marshal(struct {
	Single           bool
	Protocol, Cookie string
	Screen           uint32
}{false, "MIT-MAGIC-COOKIE-1", "00112233445566778899aabbccddeeff", 0})

// x11Open is a connection of an X11 program on the target.
var x11Open = ssh.Marshal(struct {
	Origin string
	Port   uint32
}{"127.0.0.1", 6010})

// x11-req passes if the rules allow it, and then the target's x11 channels do; not before.
func TestX11Forward(t *testing.T) {
	t.Parallel()
	opens := func(rules string) (granted bool, opened error) {
		s := newSystem(t, options{noSSHD: true, rules: rules})
		result := make(chan error, 1)
		s.hostileTarget(func(conn *ssh.ServerConn, chans <-chan ssh.NewChannel) {
			ch, reqs, err := (<-chans).Accept()
			if err != nil {
				return
			}
			for r := range reqs {
				r.Reply(true, nil)
				if r.Type == "exec" {
					break
				}
			}
			x, xreqs, err := conn.OpenChannel("x11", x11Open)
			if err == nil {
				go ssh.DiscardRequests(xreqs)
				io.WriteString(x, "draw")
				x.CloseWrite()
				io.ReadAll(x)
				x.Close()
			}
			result <- err
			ch.Close()
		})
		c, err := s.dial("alice@hostile", answers(alicePassword, s.code("alice"), nil))
		check(t, err)
		defer c.Close()
		go func() {
			for nc := range c.HandleChannelOpen("x11") {
				ch, reqs, err := nc.Accept()
				if err != nil {
					return
				}
				go ssh.DiscardRequests(reqs)
				io.Copy(ch, ch)
				ch.Close()
			}
		}()
		sess, err := c.NewSession()
		check(t, err)
		granted, err = sess.SendRequest("x11-req", true, x11Request)
		check(t, err)
		check(t, sess.Start("xclock"))
		return granted, <-result
	}
	if granted, err := opens(forwardRules); !granted || err != nil {
		t.Errorf("allowed: granted %v, %v", granted, err)
	}
	if granted, err := opens(allowHostile); granted || err == nil || !strings.Contains(err.Error(), "not requested") {
		t.Errorf("not allowed: granted %v, %v", granted, err)
	}
}

// What a target opens for something else than was granted is refused and audited; a request for a remote
// forward is never overtaken by a channel that was opened after it.
func TestForwardOrder(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: forwardRules})
	const rounds = 30
	var mu sync.Mutex
	var heard []string
	l := listen(t, "tcp", "127.0.0.1:0")
	t.Cleanup(func() { l.Close() })
	key := newSigner(t)
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(key)
	wrong := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		conn, chans, reqs, err := ssh.NewServerConn(c, config)
		if err != nil {
			return
		}
		go func() {
			for nc := range chans {
				mu.Lock()
				heard = append(heard, "open")
				mu.Unlock()
				nc.Reject(ssh.Prohibited, "noted")
			}
		}()
		n := 0
		for r := range reqs {
			time.Sleep(time.Millisecond) // a channel that does not wait for the answer comes now
			mu.Lock()
			heard = append(heard, r.Type)
			mu.Unlock()
			r.Reply(true, nil)
			if n++; n == rounds {
				go func() {
					_, _, err := conn.OpenChannel("forwarded-tcpip", ssh.Marshal(struct {
						Addr   string
						Port   uint32
						Origin string
						From   uint32
					}{"127.0.0.1", 999, "127.0.0.1", 5}))
					wrong <- err
				}()
			}
		}
	}()
	_, err := s.Store.Targets.Add(context.Background(), store.Target{Name: "hostile", Address: l.Addr().String(), Accounts: []string{"root"},
		HostKeyMode: store.Pinned, HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))}})
	check(t, err)
	c, err := s.dial("alice@hostile", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	for i := range rounds {
		_, _, err := c.SendRequest("tcpip-forward", false, ssh.Marshal(struct {
			Addr string
			Port uint32
		}{"127.0.0.1", uint32(2000 + i)}))
		check(t, err)
		openTCP(c, "127.0.0.1", "7")
	}
	if err := <-wrong; err == nil || !strings.Contains(err.Error(), "not requested") {
		t.Errorf("a port nobody asked for: %v", err)
	}
	testenv.WaitFor(t, "its event", func() bool { return len(s.events("channel.refused")) == 1 })
	mu.Lock()
	defer mu.Unlock()
	for i := range rounds {
		if heard[2*i] != "tcpip-forward" || heard[2*i+1] != "open" {
			t.Fatalf("the target heard %v", heard)
		}
	}
}

// A target that was granted the agent opens no more channels than there are places.
func TestForwardsOfTarget(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: forwardRules})
	result := make(chan error, 1)
	s.hostileTarget(func(conn *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		ch, reqs, err := (<-chans).Accept()
		if err != nil {
			return
		}
		for r := range reqs {
			r.Reply(true, nil)
			if r.Type == "exec" {
				break
			}
		}
		n := 0
		for ; err == nil && n < 100; n++ {
			var more <-chan *ssh.Request
			if _, more, err = conn.OpenChannel("auth-agent@openssh.com", nil); err == nil {
				go ssh.DiscardRequests(more)
			}
		}
		result <- fmt.Errorf("%d: %w", n, err)
		ch.Close()
	})
	c, err := s.dial("alice@hostile", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	go func() {
		for nc := range c.HandleChannelOpen("auth-agent@openssh.com") {
			if _, reqs, err := nc.Accept(); err == nil {
				go ssh.DiscardRequests(reqs)
			}
		}
	}()
	sess, err := c.NewSession()
	check(t, err)
	if ok, err := sess.SendRequest("auth-agent-req@openssh.com", true, nil); !ok || err != nil {
		t.Fatalf("asking for the agent: %v %v", ok, err)
	}
	check(t, sess.Start("x"))
	if err := <-result; !strings.HasPrefix(err.Error(), "64: ") || !strings.Contains(err.Error(), "too many channels") {
		t.Errorf("the target's channels: %v", err)
	}
}
