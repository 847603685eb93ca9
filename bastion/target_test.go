package bastion_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// hostileTarget is an SSH server that lets anybody in and then does what the test says. There is no
// real one that would.
func (s *system) hostileTarget(behave func(conn *ssh.ServerConn, chans <-chan ssh.NewChannel)) {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(s.t, err)
	s.t.Cleanup(func() { l.Close() })
	key := newSigner(s.t)
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(key)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn, chans, reqs, err := ssh.NewServerConn(c, config)
				if err != nil {
					return
				}
				go ssh.DiscardRequests(reqs)
				behave(conn, chans)
			}()
		}
	}()
	_, err = s.Store.Targets.Add(context.Background(), store.Target{Name: "hostile", Address: l.Addr().String(), Accounts: []string{"root"},
		HostKeyMode: store.Pinned, HostKeys: []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))}})
	check(s.t, err)
}

const allowHostile = "version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['*']}\n"

// accept takes the one session channel and its exec request.
func accept(chans <-chan ssh.NewChannel) (ssh.Channel, bool) {
	nc, ok := <-chans
	if !ok {
		return nil, false
	}
	ch, reqs, err := nc.Accept()
	if err != nil {
		return nil, false
	}
	r, ok := <-reqs
	if !ok {
		return nil, false
	}
	go ssh.DiscardRequests(reqs)
	return ch, r.Reply(true, nil) == nil
}

// A target that opens channels nobody asked for is refused and audited, floods of its global requests
// cost nothing, and a short exit status breaks nothing.
func TestHostileTarget(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: allowHostile})
	rejected := make(chan error, 2)
	s.hostileTarget(func(conn *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		ch, ok := accept(chans)
		if !ok {
			return
		}
		for _, kind := range []string{"auth-agent@openssh.com", "forwarded-tcpip"} {
			_, _, err := conn.OpenChannel(kind, nil)
			rejected <- err
		}
		for range 10_000 {
			conn.SendRequest("flood@example.org", false, nil)
		}
		ch.Write([]byte("done\n"))
		ch.SendRequest("exit-status", false, []byte{1})
		ch.Close()
	})
	c := s.ssh()
	c.Login = "alice@hostile"
	out, _, _ := c.Output(t, "anything")
	if out != "done\n" {
		t.Errorf("got %q", out)
	}
	for range 2 {
		if err := <-rejected; err == nil || !strings.Contains(err.Error(), "not requested") {
			t.Errorf("a channel that the target opened: %v", err)
		}
	}
	testenv.WaitFor(t, "audit events", func() bool { return len(s.events("channel.refused")) == 2 })
}

// A target that accepts the connection and says nothing, or never answers a channel open, does not hold
// the person for ever, and nobody else at all.
func TestSilentTarget(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: allowHostile, dial: 2 * time.Second})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	_, err = s.Store.Targets.Add(context.Background(), store.Target{Name: "mute", Address: l.Addr().String(), Accounts: []string{"root"}, HostKeyMode: store.TOFU})
	check(t, err)
	c := s.ssh()
	c.Login = "alice@mute"
	started := time.Now()
	_, errs, status := c.Output(t, "true")
	if took := time.Since(started); status != 255 || took > time.Minute || !strings.Contains(errs, "timed out") {
		t.Errorf("after %s: status %d, %q", took, status, errs)
	}
}

// What a target sends after its exit status still arrives, and programs left running with the output
// open do not hold the status back.
func TestOutputAfterExit(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: allowHostile})
	s.hostileTarget(func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		ch, ok := accept(chans)
		if !ok {
			return
		}
		ch.Write([]byte("first "))
		ch.SendRequest("exit-status", false, []byte{0, 0, 0, 4})
		ch.Write([]byte("last\n"))
		ch.CloseWrite()
		ch.Close()
	})
	c := s.ssh()
	c.Login = "alice@hostile"
	if out, errs, status := c.Output(t, "x"); out != "first last\n" || status != 4 {
		t.Errorf("got %q %q %d", out, errs, status)
	}
}

// A target that will not run a command leaves a channel with an end in the session's row, not one that
// looks as if it went on for ever.
func TestTargetRefusesCommand(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: allowHostile})
	s.hostileTarget(func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		for nc := range chans {
			_, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			go ssh.DiscardRequests(reqs) // refuses each
		}
	})
	c := s.ssh()
	c.Login = "alice@hostile"
	if out, _, status := c.Output(t, "anything"); status == 0 || out != "" {
		t.Errorf("status %d, %q", status, out)
	}
	row := s.session()
	if len(row.Channels) != 1 || row.Channels[0].Ended.IsZero() {
		t.Errorf("channels: %+v", row.Channels)
	}
	recordings, err := s.Store.Recordings.Of(t.Context(), row.ID)
	if err != nil || len(recordings) != 1 || recordings[0].State != store.RecordingSealed || recordings[0].Root == "" {
		t.Errorf("the recording of what never ran is sealed, and goes when its time is over: %+v, %v", recordings, err)
	}
}
