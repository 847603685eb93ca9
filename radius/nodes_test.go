package radius_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/store"
	"sallyport/store/storetest"
)

// One code, a hundred requests at once, two nodes: one is let in.
func TestOneCodeTwoNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.Postgres(t))
	w.node()
	code := w.person("alice").code()
	var in, out atomic.Int64
	var all sync.WaitGroup
	for i := range 100 {
		p := w.nodes[i%2].peer(t)
		request := signed(access("alice", code)) // each with an authenticator of its own
		all.Go(func() {
			for range 30 {
				p.send(request)
				b := p.receive(time.Second)
				if b == nil {
					continue // a client asks again
				}
				switch codec.Code(b[0]) {
				case codec.CodeAccessAccept:
					in.Add(1)
				case codec.CodeAccessReject:
					out.Add(1)
				}
				return
			}
			t.Error("no answer")
		})
	}
	all.Wait()
	if in.Load() != 1 || out.Load() != 99 {
		t.Errorf("%d were let in and %d were not", in.Load(), out.Load())
	}
	events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginAccepted})
	check(t, err)
	if len(events) != 1 {
		t.Errorf("%d events of being let in", len(events))
	}
}

// lossy is a way between a client and a node that loses one packet in five, in each direction.
type lossy struct {
	front *net.UDPConn
	lost  atomic.Int64
}

func newLossy(t *testing.T, to string) *lossy {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	l := &lossy{front: front}
	backs := map[string]net.Conn{}
	drop := func() bool {
		if rand.N(5) == 0 {
			l.lost.Add(1)
			return true
		}
		return false
	}
	var work sync.WaitGroup
	work.Go(func() {
		b := make([]byte, 4096)
		for {
			n, from, err := front.ReadFromUDP(b)
			if err != nil {
				for _, back := range backs {
					back.Close()
				}
				return
			}
			back := backs[from.String()]
			if back == nil {
				if back, err = net.Dial("udp", to); err != nil {
					t.Error(err)
					return
				}
				backs[from.String()] = back
				work.Go(func() {
					b := make([]byte, 4096)
					for {
						n, err := back.Read(b)
						if err != nil {
							return
						}
						if !drop() {
							_, _ = front.WriteToUDP(b[:n], from)
						}
					}
				})
			}
			if !drop() {
				_, _ = back.Write(b[:n])
			}
		}
	})
	t.Cleanup(func() { front.Close(); work.Wait() })
	return l
}

// With one packet in five lost each way, everybody with a right code is let in: what is sent again is not taken for
// a used code.
func TestLossRefusesNobody(t *testing.T) {
	t.Parallel()
	logins := 60
	if os.Getenv("SALLYPORT_LONG") != "" {
		logins = 1000
	}
	w := newWorld(t, "")
	l := newLossy(t, w.nodes[0].addr)
	alice := w.person("alice")
	conn, err := net.Dial("udp", l.front.LocalAddr().String())
	check(t, err)
	defer conn.Close()
	p := &peer{t, conn}
	for i := range logins {
		request := access("alice", alice.code())
		request.Identifier = byte(i)
		b := signed(request)
		var answer []byte
		for end := time.Now().Add(patience); answer == nil; {
			if time.Now().After(end) {
				t.Fatal("no answer, however often it is sent")
			}
			p.send(b)
			for answer = p.receive(30 * time.Millisecond); answer != nil && answer[1] != byte(i); {
				answer = p.receive(30 * time.Millisecond) // one of before, sent twice
			}
		}
		if codec.Code(answer[0]) != codec.CodeAccessAccept {
			t.Fatalf("login %d: % x", i, answer)
		}
	}
	if l.lost.Load() == 0 {
		t.Error("nothing was lost")
	}
}

// A challenge is for the client, the person and the station that it was made for, and for nobody else.
func TestChallengeIsBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", mode(store.RadiusChallenge))
	alice := w.person("alice")
	w.person("bob")
	p := w.nodes[0].peer(t)
	at := func(station string) *codec.AVP { return attribute(rfc2865.CallingStationID_Type, station) }
	state := func(got *codec.Packet) *codec.AVP {
		if got.Code != codec.CodeAccessChallenge {
			t.Fatalf("the password alone: %v", got.Code)
		}
		s := rfc2865.State_Get(got)
		if len(s) < 16 {
			t.Errorf("State has %d octets", len(s))
		}
		return &codec.AVP{Type: rfc2865.State_Type, Attribute: s}
	}
	first := state(p.ask(signed(access("alice", "pw", at("198.51.100.7")))))
	code := alice.code()
	for what, request := range map[string]*codec.Packet{
		"another person":  access("bob", code, first, at("198.51.100.7")),
		"another station": access("alice", code, first, at("198.51.100.8")),
		"no station":      access("alice", code, first),
		"another State":   access("alice", code, attribute(rfc2865.State_Type, "0123456789abcdef"), at("198.51.100.7")),
	} {
		if got := p.ask(signed(request)); got.Code != codec.CodeAccessReject {
			t.Errorf("%s: %v", what, got.Code)
		}
	}
	if got := p.ask(signed(access("alice", code, first, at("198.51.100.7")))); got.Code != codec.CodeAccessAccept {
		t.Errorf("the one it is for: %v", got.Code)
	}
	if got := p.ask(signed(access("alice", alice.code(), first, at("198.51.100.7")))); got.Code != codec.CodeAccessReject {
		t.Errorf("the same State with another code: %v", got.Code)
	}
	events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginRefused})
	check(t, err)
	if len(events) != 5 || !strings.Contains(events[0].Reason, "State is not known here") {
		t.Errorf("%d events, the last %+v", len(events), events[0])
	}
}

// Where a person is, is what a client says that is believed, and never where the client is; without it a rule that
// names addresses refuses.
func TestSource(t *testing.T) {
	t.Parallel()
	for _, asserts := range []bool{true, false} {
		t.Run(fmt.Sprint(asserts), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "", func(c *store.RadiusClient) { c.AssertsSource = asserts })
			_, version, err := w.rules()
			check(t, err)
			_, err = w.Store.Rules.Put(t.Context(), `version: 1
rules:
  - {name: from-home, users: [alice], targets: [vpn], channels: [radius], from: [203.0.113.0/24]}
  - {name: from-here, users: [bob], targets: [vpn], channels: [radius], from: [127.0.0.0/8]}
`, "test", version)
			check(t, err)
			alice, bob := w.person("alice"), w.person("bob")
			p := w.nodes[0].peer(t)
			home := attribute(rfc2865.CallingStationID_Type, "203.0.113.9")
			want := codec.CodeAccessReject
			if asserts {
				want = codec.CodeAccessAccept
			}
			if got := p.ask(signed(access("alice", alice.code(), home))); got.Code != want {
				t.Errorf("from home: %v, want %v", got.Code, want)
			}
			for what, request := range map[string]*codec.Packet{
				"no address":             access("alice", alice.code()),
				"what is no address":     access("alice", alice.code(), attribute(rfc2865.CallingStationID_Type, "00-11-22-33-44-55")),
				"the client's address":   access("bob", bob.code()),
				"from home, in a zone":   access("alice", alice.code(), attribute(rfc2865.CallingStationID_Type, "203.0.113.9%eth0")),
				"from somewhere else":    access("alice", alice.code(), attribute(rfc2865.CallingStationID_Type, "198.51.100.9")),
				"in another's attribute": access("alice", alice.code(), attribute(rfc2865.CalledStationID_Type, "203.0.113.9")),
			} {
				if got := p.ask(signed(request)); got.Code != codec.CodeAccessReject {
					t.Errorf("%s: %v", what, got.Code)
				}
			}
			events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginAccepted})
			check(t, err)
			if asserts && (len(events) != 1 || events[0].Source != "203.0.113.9") || !asserts && len(events) != 0 {
				t.Errorf("events %+v", events)
			}
		})
	}
}

// While the database is away nobody is let in and nobody is refused: there is no answer, so that the client asks
// another node, and no Status-Server says that all is well.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	alice := w.person("alice")
	p := w.nodes[0].peer(t)
	if got := p.ask(signed(access("alice", alice.code()))); got.Code != codec.CodeAccessAccept {
		t.Fatalf("before: %v", got.Code)
	}
	check(t, w.Store.Close())
	p.send(signed(access("alice", alice.code())))
	if b := p.receive(300 * time.Millisecond); b != nil {
		t.Errorf("answered by % x", b)
	}
	testenv.WaitFor(t, "Status-Server to be left without an answer", func() bool {
		p.send(signed(codec.New(codec.CodeStatusServer, []byte(secret))))
		return p.receive(200*time.Millisecond) == nil
	})
}

// What people typed at a VPN reaches the log escaped, and secrets do not reach it.
func TestLogOfAttempts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", mode(store.RadiusChallenge))
	w.person("alice")
	p := w.nodes[0].peer(t)
	vendor := append([]byte{0, 0, 1, 55, 12, 6}, "KEYS"...) // MS-CHAP-MPPE-Keys of Microsoft
	got := p.ask(signed(access("ali\x1b[2Jce", "pw", attribute(26, string(vendor)), attribute(4, "\xc0\x00\x02\x01"), attribute(61, "\x00\x00\x00\x05"), attribute(30, "gw\r\nx"))))
	p.ask(signed(access("ali\x1b[2Jce", "hunter2-code", &codec.AVP{Type: 24, Attribute: rfc2865.State_Get(got)},
		attribute(26, string(vendor)), attribute(4, "\xc0\x00\x02\x01"), attribute(61, "\x00\x00\x00\x05"), attribute(30, "gw\r\nx"), attribute(249, "\x00odd"),
		attribute(84, "\x00arap-secret"), attribute(103, "digest-secret"), attribute(26, "\x00\x00\x02\x11\xd6\x10ascend-secret"))))
	events, err := w.Store.Audit.List(context.Background(), store.AuditFilter{Type: audit.LoginRefused})
	check(t, err)
	text := fmt.Sprintf("%+v", events)
	for _, want := range []string{"NAS-IP-Address=192.0.2.1", "NAS-Port-Type=5", "Called-Station-Id=0x67770d0a78", "Attr-249 (4 octets)", "Attr-84 (12 octets)", "Attr-103 (13 octets)", "Vendor-529 (15 octets)", "Vendor-311", "State,", `\u{1b}[2J`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not have %q: %s", want, text)
		}
	}
	for _, not := range []string{"\x1b", "\r", "arap-secret", "digest-secret", "ascend-secret", hex.EncodeToString([]byte("secret")), "KEYS", "4b455953", "hunter2"} {
		if strings.Contains(text, not) {
			t.Errorf("the log has %q: %s", not, text)
		}
	}
}

// One client has 256 requests in work at the most, and has to send the others again; another client is answered
// meanwhile.
func TestBoundedWork(t *testing.T) {
	t.Parallel()
	w := newWorldWithGrid(t, "", 2*time.Second, func(c *store.RadiusClient) { c.NASIdentifier = "greedy" })
	alice := w.person("alice")
	_, err := w.Store.RadiusClients.Add(t.Context(), store.RadiusClient{
		Name: "other", Networks: []string{"127.0.0.1/32"}, Mode: store.RadiusCode, MessageAuthenticator: store.AuthenticatorYes, SendsAuthenticator: true, Enabled: true,
	}, store.SharedSecret(secret))
	check(t, err)
	_, version, err := w.rules()
	check(t, err)
	_, err = w.Store.Rules.Put(t.Context(), strings.Replace(rules, "[vpn]", "[other]", 1), "test", version)
	check(t, err)
	modest := w.nodes[0].peer(t)
	began := time.Now()
	var flooded time.Time
	flood := func() {
		flooded = time.Now()
		var greedy *peer
		for i := range 3 * 256 {
			if i%256 == 0 {
				greedy = w.nodes[0].peer(t) // an identifier has eight bits
			}
			request := access("nobody", "000000", attribute(rfc2865.NASIdentifier_Type, "greedy"))
			request.Identifier = byte(i)
			greedy.send(signed(request))
		}
	}
	flood()
	request := signed(access("alice", alice.code()))
	answer := []byte(nil)
	for end := time.Now().Add(patience); answer == nil && time.Now().Before(end); { // the system may have had no room for one more packet
		modest.send(request)
		answer = modest.receive(500 * time.Millisecond)
	}
	if answer == nil || codec.Code(answer[0]) != codec.CodeAccessAccept {
		t.Errorf("another client: % x", answer)
	}
	// Of one flood the system may have had no room for as much as makes a client busy, or time enough to answer it.
	testenv.WaitFor(t, "the client that sends too much to be busy", func() bool {
		if w.has("busy", 1) {
			return true
		}
		if time.Since(flooded) > 5*time.Second {
			flood()
		}
		return false
	})
	if took := time.Since(began); took > 2*time.Second {
		t.Logf("no proof: the first were answered already, after %s", took)
	}
	counts, err := w.Store.RadiusClients.Counts(t.Context(), nil)
	check(t, err)
	for _, c := range counts {
		if c.Kind == "reject" && c.Times > 256 && time.Since(began) < 4*time.Second {
			t.Errorf("%d were in work at once", c.Times)
		}
	}
}
