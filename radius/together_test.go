package radius_test

import (
	"bytes"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	codec "layeh.com/radius"

	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/store"
	"sallyport/store/storetest"
)

// twoNodes is a world whose last two nodes know that there are several.
func twoNodes(t *testing.T, dsn string, options ...option) (w *world, a, b *node) {
	t.Helper()
	w = newWorld(t, dsn, options...)
	for _, name := range []string{"n1", "n2"} {
		check(t, w.Store.Sessions.Alive(t.Context(), name))
	}
	return w, w.node(), w.node()
}

// A request that comes to another node, while the first works on it or after it has answered, gets the same answer, to the
// byte, and there is one verdict. Another request with the same code is refused.
func TestRepeatedAtAnotherNode(t *testing.T) {
	t.Parallel()
	for _, database := range []string{"sqlite", "postgres"} {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			dsn := "sqlite:" + filepath.Join(t.TempDir(), "db")
			if database == "postgres" {
				dsn = storetest.Postgres(t)
			}
			w, a, b := twoNodes(t, dsn)
			alice := w.person("alice")
			peers := []*peer{a.peer(t), b.peer(t)}
			for round := range 5 {
				code := alice.code()
				request := signed(access("alice", code, attribute(33, "proxied")))
				answers := make([][]byte, len(peers))
				var both sync.WaitGroup
				for i, p := range peers {
					both.Go(func() { p.send(request); answers[i] = p.receive(20 * time.Second) })
				}
				both.Wait()
				if answers[0] == nil || codec.Code(answers[0][0]) != accept || !bytes.Equal(answers[0], answers[1]) {
					t.Fatalf("round %d: % x and % x", round, answers[0], answers[1])
				}
				later := b.peer(t)
				later.send(request)
				if got := later.receive(20 * time.Second); !bytes.Equal(got, answers[0]) {
					t.Errorf("after the verdict: % x", got)
				}
				if got := peers[1].ask(signed(access("alice", code))); got.Code != reject {
					t.Errorf("another request with the same code: %v", got.Code)
				}
			}
			events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginAccepted})
			check(t, err)
			if len(events) != 5 {
				t.Errorf("%d verdicts on 5 requests", len(events))
			}
			w.counted("retransmit", 10)
		})
	}
}

// An answer to a challenge is the same answer also in a new packet, since nobody else has its State; with another code it
// is another one.
func TestAnswerRepeatedAtAnotherNode(t *testing.T) {
	t.Parallel()
	w, a, b := twoNodes(t, "", mode(store.RadiusChallenge))
	alice := w.person("alice")
	first, second := a.peer(t), b.peer(t)
	w.nodes = []*node{a}
	d := w.dialog("alice")
	d.want("the password", "pw", challenge)
	code := alice.code()
	ask := func(p *peer, typed string, more ...*codec.AVP) codec.Code {
		return p.ask(signed(access("alice", typed, append(more, d.state)...))).Code
	}
	for i, p := range []*peer{first, second, second, first} {
		if got := ask(p, code); got != accept {
			t.Errorf("time %d: %v", i+1, got)
		}
	}
	if got := ask(second, code, attribute(31, "elsewhere")); got != reject {
		t.Errorf("from another station: %v", got)
	}
	if got := ask(second, alice.code()); got != reject {
		t.Errorf("the same State with another code: %v", got)
	}
	events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginAccepted})
	check(t, err)
	if len(events) != 1 {
		t.Errorf("%d verdicts", len(events))
	}
}

// What a node does not answer, because of a fault there or because the database is away, another one judges at once.
func TestUnansweredIsJudgedElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	for _, name := range []string{"n1", "n2"} {
		check(t, w.Store.Sessions.Alive(t.Context(), name))
	}
	var broken atomic.Bool
	w.clock = func() time.Time {
		if broken.Load() {
			panic("a clock that stands")
		}
		return time.Now()
	}
	a := w.node()
	w.clock = nil
	b := w.node()
	alice := w.person("alice")
	broken.Store(true)
	request := signed(access("alice", alice.code()))
	a.peer(t).send(request)
	w.counted("failed", 1)
	if got := b.peer(t).ask(request); got.Code != accept {
		t.Errorf("after a fault: %v", got.Code)
	}
	check(t, a.Store.Close())
	request = signed(access("alice", alice.code()))
	a.peer(t).send(request)
	if got := b.peer(t).ask(request); got.Code != accept {
		t.Errorf("while the database is away for the first: %v", got.Code)
	}
}

// forgetful is a way to a node that loses all answers but the first.
func forgetful(t *testing.T, to string) (addr string, lost func() int64) {
	t.Helper()
	var n atomic.Int64
	addr = between(t, to, func(b []byte) []byte { return b }, func(b []byte) []byte {
		if n.Add(1) > 1 {
			return nil
		}
		return b
	})
	return addr, func() int64 { return n.Load() - 1 }
}

// radclient behind a balancer: the answer of the first node is lost, and what is sent again goes to the second one.
func TestRadclientBehindABalancer(t *testing.T) {
	t.Parallel()
	w, a, b := twoNodes(t, "")
	alice := w.person("alice")
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	nodes := [2]net.Conn{}
	for i, n := range []*node{a, b} {
		nodes[i], err = net.Dial("udp", n.addr)
		check(t, err)
	}
	times := 0
	var work sync.WaitGroup
	work.Go(func() {
		packet := make([]byte, 4096)
		for {
			n, from, err := front.ReadFromUDP(packet)
			if err != nil {
				return
			}
			to := nodes[min(times, 1)]
			times++
			_, _ = to.Write(packet[:n])
			if to == nodes[0] {
				continue
			}
			answer := make([]byte, 4096)
			if n, err = to.Read(answer); err == nil {
				_, _ = front.WriteToUDP(answer[:n], from)
			}
		}
	})
	t.Cleanup(func() { front.Close(); nodes[0].Close(); nodes[1].Close(); work.Wait() })
	c := exec.Command("radclient", "-x", "-r", "10", "-t", "1", front.LocalAddr().String(), "auth", secret)
	c.Stdin = strings.NewReader("User-Name=alice,User-Password=" + alice.code() + ",Message-Authenticator=0x00")
	out, _ := c.CombinedOutput()
	if !strings.Contains(string(out), "Received Access-Accept") || times < 2 {
		t.Errorf("%d packets: %s", times, out)
	}
}

// A gateway with two servers: the first one's answer to the code is lost, and the gateway asks the second, in a new packet of
// another socket. The person is let in with the code that the first has used up.
func TestRadclientAsksTheSecondServer(t *testing.T) {
	t.Parallel()
	w, a, b := twoNodes(t, "", mode(store.RadiusChallenge))
	alice := w.person("alice")
	lossy, lost := forgetful(t, a.addr)
	const ma = ",Message-Authenticator=0x00"
	first := &node{addr: lossy}
	state := radclientState(t, first, "User-Name=alice,User-Password=pw"+ma)
	code := "User-Name=alice,User-Password=" + alice.code() + ",State=" + state + ma
	c := exec.Command("radclient", "-r", "1", "-t", "1", first.addr, "auth", secret)
	c.Stdin = strings.NewReader(code)
	if out, err := c.CombinedOutput(); err == nil {
		t.Errorf("the answer was not lost: %s", out)
	}
	testenv.WaitFor(t, "the first server's answer", func() bool { return lost() == 1 })
	if out := b.radclient(t, "auth", code); !strings.Contains(out, "Received Access-Accept") {
		t.Errorf("the second server: %s", out)
	}
	events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginAccepted})
	check(t, err)
	if len(events) != 1 {
		t.Errorf("%d verdicts", len(events))
	}
}
