package bastion_test

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
)

// limits.channels counts what the target opens (agent) with the session's own channels, and holds inside of an inner
// connection (ssh -J) by itself.
func TestChannelsOfAllKinds(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: `version: 1
rules:
  - {name: all, users: ["*"], targets: ["*"], from: [127.0.0.1], code: none, channels: [exec, agent], limits: {channels: 3}}
`})
	results := make(chan error, 10)
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
		for range 4 {
			_, reqs, err := conn.OpenChannel("auth-agent@openssh.com", nil)
			if err == nil {
				go ssh.DiscardRequests(reqs)
			}
			results <- err
		}
		ch.Close()
	})
	_, key := s.person("mia")
	outer, err := s.dial("mia@hostile", ssh.PublicKeys(key))
	check(t, err)
	defer outer.Close()
	inner, err := s.insideAt(outer, "hostile:22", "root", ssh.PublicKeys(key))
	check(t, err)
	defer inner.Close()
	for _, c := range []*ssh.Client{outer, inner} {
		agents := c.HandleChannelOpen("auth-agent@openssh.com")
		go func() {
			for nc := range agents {
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
		for i := range 4 { // with the session channel three
			err := <-results
			if full := err != nil && strings.Contains(err.Error(), "limits.channels of rule all"); full != (i >= 2) {
				t.Errorf("agent channel %d: %v", i+1, err)
			}
		}
		_ = sess.Wait()
	}
	testenv.WaitFor(t, "the events", func() bool {
		return strings.Count(strings.Join(s.events("channel.refused"), "\n"), "limits.channels") == 4
	})
}
