package bastion_test

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
)

// forwardHere is forwardRules for people with a key and no code.
var forwardHere = strings.Replace(forwardRules, "targets: [\"*\"]", "targets: [\"*\"]\n    from: [127.0.0.1]\n    code: none", 1)

// A target that never answers the opening of a forward keeps no place when the right to the forward is gone:
// the client hears at once why, and the row has its end.
func TestSilentForwardWithdrawn(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: forwardHere})
	asked := make(chan string, 10)
	s.hostileTarget(func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		for nc := range chans {
			asked <- nc.ChannelType() // and no answer
		}
	})
	_, key := s.person("fay")
	c, err := s.dial("fay@hostile", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	failed := make(chan error, 1)
	go func() {
		_, err := c.Dial("tcp", "127.0.0.1:7")
		failed <- err
	}()
	if kind := <-asked; kind != "direct-tcpip" {
		t.Fatalf("the target was asked for %s", kind)
	}
	s.rules("version: 1\nrules:\n  - {name: less, users: ['*'], targets: ['*'], from: [127.0.0.1], code: none}\n")
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "no longer allowed by any rule") {
		t.Errorf("the forward's end: %v", err)
	}
	if row := s.channelOf("local-forward"); row.Command != "127.0.0.1:7" {
		t.Errorf("row %+v", row)
	}
	testenv.WaitFor(t, "the event", func() bool {
		return strings.Contains(strings.Join(s.events("channel.ended"), "\n"), "refused fay root@hostile local-forward to 127.0.0.1:7")
	})
}

// Agent and X11 that were granted and are not allowed any more: what is open of them ends, the target may open
// nothing further, and the person reads it. The program goes on.
func TestAgentAndX11Withdrawn(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: forwardHere})
	again := make(chan struct{})
	type opened struct {
		kind string
		err  error
	}
	results := make(chan opened, 10)
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
		go ssh.DiscardRequests(reqs)
		open := func() {
			for kind, extra := range map[string][]byte{"auth-agent@openssh.com": nil, "x11": x11Open} {
				x, reqs, err := conn.OpenChannel(kind, extra)
				if err == nil {
					go ssh.DiscardRequests(reqs)
					go io.Copy(io.Discard, x)
				}
				results <- opened{kind, err}
			}
		}
		open()
		<-again
		open()
		io.Copy(ch, ch)
		ch.Close()
	})
	_, key := s.person("fay")
	c, err := s.dial("fay@hostile", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	ends := make(chan string, 2)
	for _, kind := range []string{"auth-agent@openssh.com", "x11"} {
		channels := c.HandleChannelOpen(kind)
		go func() {
			for nc := range channels {
				ch, reqs, err := nc.Accept()
				if err != nil {
					return
				}
				go ssh.DiscardRequests(reqs)
				go func() {
					io.Copy(io.Discard, ch)
					ends <- kind
				}()
			}
		}()
	}
	sess, err := c.NewSession()
	check(t, err)
	var errs said
	sess.Stderr = &errs
	in, err := sess.StdinPipe()
	check(t, err)
	for request, payload := range map[string][]byte{"auth-agent-req@openssh.com": nil, "x11-req": x11Request} {
		if ok, err := sess.SendRequest(request, true, payload); !ok || err != nil {
			t.Fatalf("%s: %v %v", request, ok, err)
		}
	}
	check(t, sess.Start("x"))
	for range 2 {
		if r := <-results; r.err != nil {
			t.Fatalf("%s: %v", r.kind, r.err)
		}
	}
	s.rules("version: 1\nrules:\n  - {name: less, users: ['*'], targets: ['*'], from: [127.0.0.1], code: none}\n")
	for range 2 {
		<-ends
	}
	close(again)
	for range 2 {
		if r := <-results; r.err == nil || !strings.Contains(r.err.Error(), "not requested") {
			t.Errorf("%s after the right was gone: %v", r.kind, r.err)
		}
	}
	for _, kind := range []string{"agent", "x11"} {
		testenv.WaitFor(t, "the words about "+kind, func() bool { return strings.Contains(errs.String(), kind+" was taken back: ") })
	}
	check(t, in.Close())
	_ = sess.Wait()
}
