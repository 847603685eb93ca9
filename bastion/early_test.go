package bastion_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/bastion"
	"sallyport/internal/testenv"
)

// provedKey gives login a public key.
func (s *system) provedKey(login string) ssh.Signer {
	s.t.Helper()
	key := newSigner(s.t)
	s.addKey(login, key.PublicKey())
	return key
}

// atPrompts is a client that answers prompts and does something at each, before it answers.
func atPrompts(at func(prompt string), password, code string) ssh.AuthMethod {
	return ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		var out []string
		for _, q := range questions {
			at(q)
			out = append(out, map[string]string{"Password: ": password, "Code: ": code}[q])
		}
		return out, nil
	})
}

// While a person with a verified key types their code, the target is reached up to the key exchange and no
// further; after the verdict the same connection is authenticated.
func TestTargetIsDialledEarly(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: allowHostile})
	x := s.staged("early", "", nil, false, nil)
	key := s.provedKey("alice")
	prompts := 0
	c, err := s.dial("alice@early", ssh.PublicKeys(key), atPrompts(func(string) {
		prompts++
		x.reaches(t, "connection") // else the code is not typed
		x.reaches(t, "key exchange")
		if len(x.stages) != 0 {
			t.Errorf("before the code was typed the target saw %q too", <-x.stages)
		}
	}, "", s.code("alice")))
	check(t, err)
	defer c.Close()
	if prompts != 1 || len(x.stages) != 0 {
		t.Errorf("%d prompts; before a channel was asked for the target saw %d stages more", prompts, len(x.stages))
	}
	ch, err := c.NewSession()
	check(t, err)
	if out, err := ch.Output("x"); err != nil || !strings.Contains(string(out), "hello") {
		t.Errorf("got %q, %v", out, err)
	}
	x.reaches(t, "authentication")
	if !slices.Contains(s.events("session.started"), "ok alice root@early ") {
		t.Errorf("events: %q", s.events("session.started"))
	}
}

// Nothing is dialled for a password that was not verified; a code that matches is enough to begin, but with
// a wrong password nothing more comes of it.
func TestWrongPasswordAfterMatchingCode(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: allowHostile, guard: bastion.Guard{Tries: 1}})
	x := s.staged("early", "", nil, false, nil)
	none := func(prompt string) {
		if n := x.open.Load(); n != 0 {
			t.Errorf("at %q there are %d connections to the target", prompt, n)
		}
	}
	if _, err := s.dial("alice@early", atPrompts(none, "wrong", s.code("alice"))); err == nil {
		t.Fatal("a wrong password got in")
	}
	x.reaches(t, "connection")
	testenv.WaitFor(t, "the end of the connection to the target", func() bool { return x.open.Load() == 0 })
	for len(x.stages) > 0 {
		if got := <-x.stages; got != "key exchange" { // if it came that far
			t.Errorf("the target saw %q", got)
		}
	}
	if _, err := s.dial("alice@early", atPrompts(none, alicePassword, "000000")); err == nil {
		t.Fatal("a wrong code got in")
	}
	if len(x.stages) != 0 {
		t.Errorf("after a wrong code the target saw %q", <-x.stages)
	}
	if _, err := s.dial("alice@web1", atPrompts(func(string) {}, "wrong", s.code("alice"))); err == nil { // a real sshd
		t.Fatal("a wrong password got in")
	}
	testenv.WaitFor(t, "sshd to see the connection go", func() bool { return strings.Contains(s.SSHD.Log(), "[preauth]") })
	if log := s.SSHD.Log(); strings.Contains(log, "Accepted") || strings.Contains(log, "Failed") || strings.Contains(log, "user "+s.SSHD.Account) {
		t.Errorf("sshd saw an attempt to authenticate:\n%s", log)
	}
}

// A verified key of somebody whom no rule lets go there begins nothing; nor does a locked person's.
func TestNothingEarlyWithoutARule(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: "version: 1\nrules:\n  - {name: bob, users: [bob], targets: ['*']}\n"})
	x := s.staged("early", "", nil, false, nil)
	bob := s.addUser("bob", alicePassword)
	alicesKey, bobsKey := s.provedKey("alice"), s.provedKey("bob")
	check(t, s.Store.Users.Lock(context.Background(), bob.ID, "test", time.Time{}))
	for login, key := range map[string]ssh.Signer{"alice@early": alicesKey, "bob@early": bobsKey} {
		asked := false
		_, _ = s.dial(login, ssh.PublicKeys(key), atPrompts(func(string) { asked = true }, "", "000000"))
		if n := len(x.stages); n != 0 {
			t.Errorf("%s (asked: %v): the target saw %d stages", login, asked, n)
		}
	}
}

// BenchmarkEarlyDial measures what the early connection saves a person with a key and a code whose target is
// far: every byte to and from it takes 20 ms. Think is the time they take to type the code.
func BenchmarkEarlyDial(b *testing.B) {
	for _, think := range []time.Duration{0, 500 * time.Millisecond} {
		for name, early := range map[string]int{"early": 64, "late": -1} {
			b.Run(fmt.Sprintf("%s/think=%v", name, think), func(b *testing.B) {
				s := newSystem(b, options{rules: allowHostile, early: early, guard: bastion.Guard{Exempt: loopback()}})
				x, err := s.Store.Targets.ByName(context.Background(), "web1")
				check(b, err)
				x.Address = far(b, x.Address, 20*time.Millisecond)
				check(b, s.Store.Targets.Update(context.Background(), x))
				key := s.provedKey("alice")
				b.ResetTimer()
				for range b.N {
					b.StopTimer()
					code := s.code("alice")
					b.StartTimer()
					c, err := s.dial("alice@web1", ssh.PublicKeys(key), atPrompts(func(string) { time.Sleep(think) }, "", code))
					check(b, err)
					ch, err := c.NewSession()
					check(b, err)
					check(b, ch.Run("true"))
					b.StopTimer()
					c.Close()
					b.StartTimer()
				}
				b.ReportMetric(float64(b.Elapsed()-time.Duration(b.N)*think)/float64(b.N)/1e6, "ms/login")
			})
		}
	}
}

// far is addr behind a line on which everything takes delay each way.
func far(t testing.TB, addr string, delay time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	type chunk struct {
		due  time.Time
		data []byte
	}
	pass := func(to, from net.Conn, end *sync.WaitGroup) {
		line := make(chan chunk, 1000)
		go func() {
			defer end.Done()
			for c := range line {
				time.Sleep(time.Until(c.due))
				if _, err := to.Write(c.data); err != nil {
					break
				}
			}
			to.Close()
			for range line {
			}
		}()
		defer close(line)
		for {
			b := make([]byte, 16<<10)
			n, err := from.Read(b)
			if n > 0 {
				line <- chunk{time.Now().Add(delay), b[:n]}
			}
			if err != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				time.Sleep(2 * delay) // the handshake of TCP
				out, err := net.Dial("tcp", addr)
				if err != nil {
					in.Close()
					return
				}
				var end sync.WaitGroup
				end.Add(2)
				go pass(in, out, &end)
				go pass(out, in, &end)
				end.Wait()
			}()
		}
	}()
	return l.Addr().String()
}
