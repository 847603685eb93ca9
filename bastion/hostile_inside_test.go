package bastion_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
)

// Floods inside of inner connections (ssh -J), on channels and as global requests, are bounded there as on the
// network, do not stop the connection beside them, and leave nothing behind.
func TestFloodsInside(t *testing.T) {
	s := newSystem(t, options{})
	key := s.provedKey("alice")
	base := runtime.NumGoroutine()
	outer := s.outer("alice", ssh.PublicKeys(key), answers("", s.code("alice"), nil))
	var floods sync.WaitGroup
	for range 4 {
		floods.Go(func() {
			inner, err := s.inside(outer, ssh.PublicKeys(key))
			if err != nil {
				t.Error(err)
				return
			}
			defer inner.Close()
			for range 3 {
				ch, reqs, err := inner.OpenChannel("session", nil)
				if err != nil {
					t.Error(err)
					return
				}
				go ssh.DiscardRequests(reqs)
				for range 1000 {
					_, _ = ch.SendRequest("env", false, ssh.Marshal(struct{ Name, Value string }{"LC_X", strings.Repeat("x", 1000)}))
					_, _ = ch.SendRequest("window-change", false, ssh.Marshal(struct{ C, R, X, Y uint32 }{1 << 31, 24, 0, 0}))
					_, _, _ = inner.SendRequest("no-such@example.org", false, nil)
				}
			}
			for range 200 { // more than leave an event
				if _, reqs, err := inner.OpenChannel("no-such-channel", nil); err == nil {
					go ssh.DiscardRequests(reqs)
					t.Error("a channel of no kind was opened")
				}
			}
		})
	}
	beside, err := s.inside(outer, ssh.PublicKeys(key))
	check(t, err)
	for range 5 {
		check(t, says(beside))
	}
	floods.Wait()
	check(t, says(beside))
	beside.Close()
	outer.Close()
	testenv.WaitFor(t, "the end of the sessions", func() bool { return len(s.Sessions.Live()) == 0 })
	testenv.WaitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= base+8 })
	if n := len(s.events("channel.refused")); n > 4*100 {
		t.Errorf("%d events", n)
	}
}

// Certificates of unlisted authorities with as many principals as a packet has room for are read and refused, and end
// the connection by the bound of bytes before authentication; a good login beside them is not delayed.
func TestHugeCertificates(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	ca := newSigner(t)
	huge := func(size int) ssh.Signer {
		key := newSigner(t)
		c := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
		for i := 0; i*10 < size; i++ {
			c.ValidPrincipals = append(c.ValidPrincipals, fmt.Sprintf("p%05d", i))
		}
		check(t, c.SignCert(rand.Reader, ca))
		signer, err := ssh.NewCertSigner(c, key)
		check(t, err)
		return signer
	}
	for _, size := range []int{20 << 10, 60 << 10, 1 << 20} {
		for range 5 {
			signer := huge(size)
			if c, err := s.dial("alice@web1", ssh.PublicKeys(signer, signer, signer, signer)); err == nil {
				c.Close()
				t.Fatalf("%d bytes got in", size)
			}
		}
	}
	begun := time.Now()
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	c.Close()
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("a good login took %s", took)
	}
	if n := len(s.events("login.refused")); n != 0 {
		t.Errorf("%d failures were counted for keys that nobody has", n)
	}
}

// A robot that logs in many times at once gets in each time, and each run is a session of its own.
func TestRobotInParallel(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.rules = noRules
		s := newSystem(t, o)
		robot := rawSigner(t, s.robot("echo in"))
		run := func() (string, error) {
			c, err := s.dial("deploy-bot@web1", ssh.PublicKeys(robot))
			if err != nil {
				return "", err
			}
			defer c.Close()
			sess, err := c.NewSession()
			if err != nil {
				return "", err
			}
			var out bytes.Buffer
			sess.Stdout = &out
			err = sess.Run("echo in")
			return out.String(), err
		}
		var runs sync.WaitGroup
		for range 6 { // at once; more only measure how busy the machine is
			runs.Go(func() {
				for range 4 {
					if out, err := run(); err != nil || out != "in\n" {
						t.Errorf("got %q, %v", out, err)
					}
				}
			})
		}
		runs.Wait()
		if n := len(s.events("login.accepted")); n != 24 {
			t.Errorf("%d logins were written, want 24", n)
		}
		if n := len(s.kinds()); n != 24 {
			t.Errorf("%d channels, want 24", n)
		}
	})
}
