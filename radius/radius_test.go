package radius_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/auditlog"
	"sallyport/internal/seal"
	"sallyport/internal/testenv"
	"sallyport/otp"
	"sallyport/radius"
	"sallyport/store"
)

const (
	rules = `version: 1
rules:
  - {name: ssh, users: ["*"], targets: ["*"]}
  - {name: vpn, users: [alice, bob], targets: [vpn], channels: [radius]}
`
	secret = "a secret of enough length"
)

// world is an installation of some nodes, whose RADIUS doors are open, with the client vpn at 127.0.0.1.
type world struct {
	t     testing.TB
	ring  *seal.Ring
	dsn   string
	Store *store.Store
	nodes []*node
	grid  time.Duration
	clock func() time.Time // of engines that are made from here on; nil: that of the system

	engine func(*auth.Config) // what else they are like; nil: nothing
	ahead  *atomic.Int64      // nanoseconds by which engines and stores are ahead of the system; nil: none
}

type node struct {
	*radius.Server
	Store *store.Store
	addr  string
	acct  string

	engine *auth.Engine
}

type option func(*store.RadiusClient)

func mode(m string) option { return func(c *store.RadiusClient) { c.Mode = m } }
func demands(how string) option {
	return func(c *store.RadiusClient) { c.MessageAuthenticator = how }
}

func newWorld(t testing.TB, dsn string, options ...option) *world {
	t.Helper()
	return newWorldWithGrid(t, dsn, time.Millisecond, options...)
}

// newWorldWithGrid is a world where refusals take as long as grid.
func newWorldWithGrid(t testing.TB, dsn string, grid time.Duration, options ...option) *world {
	t.Helper()
	if dsn == "" {
		dsn = "sqlite:" + filepath.Join(t.TempDir(), "db")
	}
	w := &world{t: t, dsn: dsn, grid: grid}
	w.begin(options...)
	return w
}

// begin makes the database and the first node.
func (w *world) begin(options ...option) {
	t := w.t
	t.Helper()
	var err error
	w.ring, err = seal.NewRing()
	check(t, err)
	w.node()
	w.Store = w.nodes[0].Store
	_, err = w.Store.Rules.Put(t.Context(), rules, "test", 0)
	check(t, err)
	c := store.RadiusClient{
		Name: "vpn", Networks: []string{"127.0.0.1/32"}, Mode: store.RadiusCode, MessageAuthenticator: store.AuthenticatorYes, SendsAuthenticator: true,
		SourceAttribute: 31, Enabled: true,
	}
	for _, o := range options {
		o(&c)
	}
	_, err = w.Store.RadiusClients.Add(t.Context(), c, store.SharedSecret(secret))
	check(t, err)
}

// node opens one more door on the same database.
func (w *world) node() *node {
	t := w.t
	t.Helper()
	opened := store.Config{DSN: w.dsn, Ring: w.ring}
	if w.ahead != nil {
		w.clock = func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }
		opened.Now = w.clock
	}
	st, err := store.Open(t.Context(), opened)
	check(t, err)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	events := auditlog.New(auditlog.Config{Sink: st.Audit, Logger: log})
	cfg := auth.Config{Store: st, Audit: events, Grid: w.grid, Now: w.clock}
	if w.engine != nil {
		w.engine(&cfg)
	}
	engine, err := auth.New(cfg)
	check(t, err)
	s, err := radius.New(radius.Config{Engine: engine, Store: st, Audit: events, Suffixes: []string{"example.org"}, Log: log})
	check(t, err)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	acct, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(t, err)
	ended := make(chan error, 2)
	go func() { ended <- s.Serve(conn) }()
	go func() { ended <- s.ServeAccounting(acct) }()
	n := &node{s, st, conn.LocalAddr().String(), acct.LocalAddr().String(), engine}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-ended, <-ended, st.Close()); err != nil {
			t.Error(err)
		}
	})
	w.nodes = append(w.nodes, n)
	return n
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// person adds a user with the password "pw" and a token of codes by counter, so that no test waits for time.
func (w *world) person(login string) *person {
	w.t.Helper()
	hash, err := identity.HashPassword(context.Background(), "pw")
	check(w.t, err)
	u, err := w.Store.Users.Add(context.Background(), store.User{Login: login, Source: store.Local}, hash)
	check(w.t, err)
	return w.token(u)
}

// token gives u a token of codes by counter.
func (w *world) token(u store.User) *person {
	w.t.Helper()
	p := &person{User: u, secret: otp.NewSecret(), params: otp.Params{Kind: otp.HOTP, Algorithm: otp.SHA1, Digits: 6}}
	t, err := w.Store.Tokens.Add(context.Background(), store.Token{UserID: u.ID, Name: "t", Kind: "hotp", Algorithm: "SHA1", Digits: 6, Enabled: true}, p.secret)
	check(w.t, err)
	p.step = t.LastStep
	return p
}

type person struct {
	store.User
	secret otp.Secret
	params otp.Params
	step   int64
}

// code is the next one.
func (p *person) code() string {
	p.step++
	return p.params.Code(p.secret, p.step)
}

// access makes an Access-Request, without Message-Authenticator.
func access(login, password string, more ...*codec.AVP) *codec.Packet {
	p := codec.New(codec.CodeAccessRequest, []byte(secret))
	p.Add(rfc2865.UserName_Type, codec.Attribute(login))
	a, err := codec.NewUserPassword([]byte(password), p.Secret, p.Authenticator[:])
	if err != nil {
		panic(err)
	}
	p.Add(rfc2865.UserPassword_Type, a)
	p.Attributes = append(p.Attributes, more...)
	return p
}

func attribute(t codec.Type, v string) *codec.AVP {
	return &codec.AVP{Type: t, Attribute: codec.Attribute(v)}
}

// signed is the packet with a Message-Authenticator at its end.
func signed(p *codec.Packet) []byte {
	p.Add(rfc2869.MessageAuthenticator_Type, make(codec.Attribute, 16))
	b, err := p.MarshalBinary()
	if err != nil {
		panic(err)
	}
	h := hmac.New(md5.New, p.Secret)
	h.Write(b)
	copy(b[len(b)-16:], h.Sum(nil))
	return b
}

func plain(p *codec.Packet) []byte {
	b, err := p.MarshalBinary()
	if err != nil {
		panic(err)
	}
	return b
}

// patience is how long an answer may take, on a machine that has much else to do.
const patience = time.Minute

// peer is a client with one socket.
type peer struct {
	t    testing.TB
	conn net.Conn
}

func (n *node) peer(t testing.TB) *peer {
	t.Helper()
	conn, err := net.Dial("udp", n.addr)
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	return &peer{t, conn}
}

func (p *peer) send(b []byte) {
	p.t.Helper()
	_, err := p.conn.Write(b)
	check(p.t, err)
}

// receive returns the next answer, nil if there is none in time.
func (p *peer) receive(within time.Duration) []byte {
	p.t.Helper()
	check(p.t, p.conn.SetReadDeadline(time.Now().Add(within)))
	b := make([]byte, 4096)
	n, err := p.conn.Read(b)
	if err != nil {
		return nil
	}
	return b[:n]
}

// ask sends a request and examines the answer: its authenticator, and that Message-Authenticator comes first.
func (p *peer) ask(request []byte) *codec.Packet {
	p.t.Helper()
	p.send(request)
	b := p.receive(patience)
	for b != nil && b[1] != request[1] {
		b = p.receive(patience) // to one of before
	}
	if b == nil {
		p.t.Fatal("no answer")
	}
	if !codec.IsAuthenticResponse(b, request, []byte(secret)) {
		p.t.Fatalf("the answer % x is not authentic", b)
	}
	if len(b) < 38 || b[20] != 80 || b[21] != 18 {
		p.t.Fatalf("Message-Authenticator is not the first attribute of % x", b)
	}
	unsigned := append([]byte(nil), b...)
	copy(unsigned[4:20], request[4:20])
	clear(unsigned[22:38])
	h := hmac.New(md5.New, []byte(secret))
	h.Write(unsigned)
	if !hmac.Equal(h.Sum(nil), b[22:38]) {
		p.t.Fatal("Message-Authenticator of the answer is wrong")
	}
	answer, err := codec.Parse(b, []byte(secret))
	check(p.t, err)
	return answer
}

// silence fails if a request is answered. A request that is answered follows it, so that nothing has to be waited for.
func (p *peer) silence(what string, request []byte) {
	p.t.Helper()
	p.send(request)
	status := codec.New(codec.CodeStatusServer, []byte(secret))
	status.Identifier = request[1] + 1
	p.send(signed(status))
	b := p.receive(patience)
	if b == nil || b[1] != status.Identifier {
		p.t.Errorf("%s: answered by % x", what, b)
	}
	if b = p.receive(50 * time.Millisecond); b != nil {
		p.t.Errorf("%s: answered by % x", what, b)
	}
}

// counted waits until something was counted of the client vpn, or of nobody.
func (w *world) counted(kind string, want int64) {
	w.t.Helper()
	testenv.WaitFor(w.t, kind, func() bool { return w.has(kind, want) })
}

func (w *world) has(kind string, want int64) bool {
	w.t.Helper()
	counts, err := w.Store.RadiusClients.Counts(context.Background(), nil)
	check(w.t, err)
	return slices.ContainsFunc(counts, func(c store.RadiusCount) bool { return c.Kind == kind && c.Times >= want })
}

// radclient runs the program of FreeRADIUS and returns what it prints.
func (n *node) radclient(t *testing.T, command, attributes string) string {
	t.Helper()
	addr := n.addr
	if command == "acct" {
		addr = n.acct
	}
	// Again before the answer of before is forgotten, and for a minute.
	c := exec.Command("radclient", "-x", "-r", "15", "-t", "4", addr, command, secret)
	c.Stdin = strings.NewReader(attributes)
	out, _ := c.CombinedOutput() // its exit status tells Access-Reject
	return string(out)
}

// radclient of FreeRADIUS in all modes, and Status-Server.
func TestRadclient(t *testing.T) {
	t.Parallel()
	const ma = ",Message-Authenticator=0x00"
	for _, x := range []struct {
		mode     string
		password func(code string) string
	}{
		{store.RadiusCode, func(code string) string { return code }},
		{store.RadiusPasswordCode, func(code string) string { return "pw" + code }},
	} {
		t.Run(x.mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "", mode(x.mode))
			alice := w.person("alice")
			n := w.nodes[0]
			code := alice.code()
			if out := n.radclient(t, "auth", "User-Name=alice@example.org,User-Password="+x.password(code)+ma); !strings.Contains(out, "Received Access-Accept") {
				t.Errorf("a right code: %s", out)
			}
			for what, attributes := range map[string]string{
				"used":    "User-Name=alice,User-Password=" + x.password(code),
				"wrong":   "User-Name=alice,User-Password=" + x.password("000000"),
				"unknown": "User-Name=nobody,User-Password=" + x.password("000000"),
				"chap":    "User-Name=alice,CHAP-Password=x",
			} {
				if out := n.radclient(t, "auth", attributes+ma); !strings.Contains(out, "Received Access-Reject") || !strings.Contains(out, `Reply-Message = "Permission denied."`) {
					t.Errorf("%s: %s", what, out)
				}
			}
		})
	}
	t.Run("challenge", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "", mode(store.RadiusChallenge))
		other := w.node() // answers what the first has asked
		alice := w.person("alice")
		for _, x := range []struct{ login, password, code, want string }{
			{"alice", "pw", alice.code(), "Access-Accept"},
			{"alice", "wrong", alice.code(), "Access-Reject"},
			{"alice", "pw", "000000", "Access-Reject"},
			{"nobody", "pw", "000000", "Access-Reject"},
		} {
			out := w.nodes[0].radclient(t, "auth", "User-Name="+x.login+",User-Password="+x.password+ma)
			_, rest, _ := strings.Cut(out, "Received Access-Challenge")
			_, state, found := strings.Cut(rest, "State = ")
			if !found || !strings.Contains(rest, `Reply-Message = "Code: "`) || !strings.Contains(rest, "Prompt = No-Echo") {
				t.Fatalf("%+v: %s", x, out)
			}
			state, _, _ = strings.Cut(state, "\n")
			again := "User-Name=" + x.login + ",User-Password=" + x.code + ",State=" + state + ma
			if out := other.radclient(t, "auth", again); !strings.Contains(out, "Received "+x.want) {
				t.Errorf("%+v: %s", x, out)
			}
			if out := other.radclient(t, "auth", again); !strings.Contains(out, "Received Access-Reject") {
				t.Errorf("%+v: the same State once more: %s", x, out)
			}
		}
	})
	t.Run("status", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "")
		if out := w.nodes[0].radclient(t, "status", "Message-Authenticator=0x00"); !strings.Contains(out, "Received Access-Accept") {
			t.Errorf("%s", out)
		}
	})
}

// What is not signed as it should be is not answered, and counted.
func TestSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	alice := w.person("alice")
	p := w.nodes[0].peer(t)
	code := alice.code()
	flip := func(b []byte, at int) []byte { b[at] ^= 1; return b }
	bad := signed(access("alice", code))
	p.silence("a wrong Message-Authenticator", flip(bad, len(bad)-1))
	p.silence("another User-Name", flip(signed(access("alice", code)), 22))
	p.silence("no Message-Authenticator", plain(access("alice", code)))
	two := access("alice", code)
	two.Add(rfc2869.MessageAuthenticator_Type, make(codec.Attribute, 16))
	p.silence("two Message-Authenticators", signed(two))
	other := access("alice", code)
	other.Secret = []byte("another secret of enough length")
	p.silence("another secret", signed(other))
	p.silence("Status-Server without Message-Authenticator", plain(codec.New(codec.CodeStatusServer, []byte(secret))))
	accounting := codec.New(codec.CodeAccountingRequest, []byte(secret))
	p.silence("a packet of another port", signed(accounting))
	p.silence("a length that lies", flip(signed(access("alice", code)), 2))
	many := access("alice", code)
	for range 200 {
		many.Add(rfc2865.Class_Type, codec.Attribute("x"))
	}
	p.silence("too many attributes", signed(many))
	p.silence("two names", signed(access("alice", code, attribute(rfc2865.UserName_Type, "bob"))))
	p.silence("no name", signed(access("", code)))
	if got := p.ask(signed(access("alice", code))); got.Code != codec.CodeAccessAccept {
		t.Errorf("and the code after all that: %v", got.Code)
	}
	for kind, want := range map[string]int64{"message-authenticator-wrong": 3, "message-authenticator-missing": 2, "malformed": 5} {
		w.counted(kind, want)
	}
}

// What a client that need not sign may send, and what not.
func TestUnsigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", demands(store.AuthenticatorNo))
	alice := w.person("alice")
	p := w.nodes[0].peer(t)
	if got := p.ask(plain(access("alice", alice.code()))); got.Code != codec.CodeAccessAccept {
		t.Errorf("unsigned: %v", got.Code)
	}
	code := alice.code()
	p.silence("Proxy-State without Message-Authenticator", plain(access("alice", code, attribute(rfc2865.ProxyState_Type, "x"))))
	wrong := access("alice", code)
	a, err := codec.NewUserPassword([]byte(code), []byte("another secret of enough length"), wrong.Authenticator[:])
	check(t, err)
	wrong.Set(rfc2865.UserPassword_Type, a)
	p.silence("a password made with another secret", plain(wrong))
	if got := p.ask(plain(access("alice", code))); got.Code != codec.CodeAccessAccept {
		t.Errorf("and the code after that: %v", got.Code)
	}
	w.counted("proxy-state-discarded", 1)
	w.counted("secret-suspect", 1)
	w.counted("no-message-authenticator", 3)
}

// With auto the first valid Message-Authenticator makes it compulsory.
func TestAuto(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", demands(store.AuthenticatorAuto))
	alice := w.person("alice")
	p := w.nodes[0].peer(t)
	for _, request := range [][]byte{plain(access("alice", alice.code())), signed(access("alice", alice.code()))} {
		if got := p.ask(request); got.Code != codec.CodeAccessAccept {
			t.Errorf("%v", got.Code)
		}
	}
	p.silence("unsigned, after a signed one", plain(access("alice", alice.code())))
	testenv.WaitFor(t, "all nodes to know", func() bool {
		c, err := w.Store.RadiusClients.ByName(t.Context(), "vpn")
		return err == nil && c.DemandsAuthenticator()
	})
}

// Whoever is no client is not answered; one that is added is, without a restart; NAS-Identifier chooses among those
// whom the address allows, and never lets in another.
func TestClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *store.RadiusClient) { c.Networks = []string{"192.0.2.1/32"} })
	alice, bob := w.person("alice"), w.person("bob")
	p := w.nodes[0].peer(t)
	p.send(signed(access("alice", alice.code())))
	w.counted("unknown-client", 1)
	if b := p.receive(time.Millisecond); b != nil {
		t.Errorf("a stranger got % x", b)
	}
	add := func(name, network, nas, shared string) {
		_, err := w.Store.RadiusClients.Add(t.Context(), store.RadiusClient{
			Name: name, Networks: []string{network}, NASIdentifier: nas, Mode: store.RadiusCode, MessageAuthenticator: store.AuthenticatorYes, SendsAuthenticator: true, Enabled: true,
		}, store.SharedSecret(shared))
		check(t, err)
	}
	_, version, err := w.rules()
	check(t, err)
	_, err = w.Store.Rules.Put(t.Context(), strings.Replace(rules, "[vpn]", "[named, any]", 1), "test", version)
	check(t, err)
	add("named", "127.0.0.0/8", "gw1", secret)
	add("any", "127.0.0.0/8", "", secret)
	add("elsewhere", "192.0.2.0/24", "gw2", secret)
	for _, x := range []struct{ nas, want string }{{"gw1", "named"}, {"gw2", "any"}, {"", "any"}} {
		request := access("bob", bob.code())
		if x.nas != "" {
			request.Add(rfc2865.NASIdentifier_Type, codec.Attribute(x.nas))
		}
		b := signed(request)
		testenv.WaitFor(t, "the client to be known", func() bool {
			p.send(b)
			answer := p.receive(200 * time.Millisecond)
			for answer != nil && !codec.IsAuthenticResponse(answer, b, []byte(secret)) {
				answer = p.receive(200 * time.Millisecond) // to the one of before, which was sent more than once
			}
			return answer != nil
		})
		events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginAccepted})
		check(t, err)
		if events[0].Target != x.want {
			t.Errorf("NAS-Identifier %q made it the client %s, want %s", x.nas, events[0].Target, x.want)
		}
	}
}

func (w *world) rules() (string, int64, error) {
	r, err := w.Store.Rules.Current(context.Background())
	return r.Text, r.Version, err
}

// A request that is repeated gets the answer of before, byte for byte, and the code is not taken for a used one; one
// that is still in work is worked on once.
func TestRetransmit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	alice := w.person("alice")
	p := w.nodes[0].peer(t)
	request := access("alice", alice.code(), attribute(rfc2865.ProxyState_Type, "one"), attribute(rfc2865.ProxyState_Type, "two"))
	b := signed(request)
	for range 3 {
		p.send(b) // two of them while the first is in work
	}
	first := p.receive(patience)
	if first == nil || first[0] != byte(codec.CodeAccessAccept) {
		t.Fatalf("answered by % x", first)
	}
	for range 5 {
		p.send(b)
		if again := p.receive(patience); !bytes.Equal(again, first) {
			t.Errorf("the answer was % x and is % x", first, again)
		}
	}
	answer, err := codec.Parse(first, []byte(secret))
	check(t, err)
	var proxies []string
	for _, a := range answer.Attributes {
		if a.Type == rfc2865.ProxyState_Type {
			proxies = append(proxies, string(a.Attribute))
		}
	}
	if strings.Join(proxies, ",") != "one,two" {
		t.Errorf("Proxy-State came back as %q", proxies)
	}
	// The same identifier for something else is a new request.
	other := access("alice", "000000")
	other.Identifier = request.Identifier
	p.send(signed(other))
	again := p.receive(patience)
	for bytes.Equal(again, first) {
		again = p.receive(patience) // those sent at the beginning may have come when the first was answered already
	}
	if again == nil || again[0] != byte(codec.CodeAccessReject) {
		t.Errorf("another request with the same identifier is answered by % x", again)
	}
	events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginAccepted})
	check(t, err)
	if len(events) != 1 {
		t.Errorf("%d verdicts for one request", len(events))
	}
	w.counted("retransmit", 5)
}

// A rule tells the client what to do with the person.
func TestReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	_, version, err := w.rules()
	check(t, err)
	_, err = w.Store.Rules.Put(t.Context(), `version: 1
rules:
  - {name: vpn, users: [alice], targets: [vpn], channels: [radius], reply: [Filter-Id=staff, "Class=of {user}", Session-Timeout=28800, "Cisco-AVPair=shell:priv-lvl=15", Tunnel-Type=13, Tunnel-Private-Group-Id=20]}
`, "test", version)
	check(t, err)
	alice := w.person("alice")
	out := w.nodes[0].radclient(t, "auth", "User-Name=Alice,User-Password="+alice.code()+",Message-Authenticator=0x00")
	for _, want := range []string{
		"Received Access-Accept", `Filter-Id = "staff"`, "Class = 0x" + hex.EncodeToString([]byte("of alice")), "Session-Timeout = 28800",
		`Cisco-AVPair = "shell:priv-lvl=15"`, "Tunnel-Type:0 = VLAN", `Tunnel-Private-Group-Id:0 = "20"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
	if out := w.nodes[0].radclient(t, "auth", "User-Name=alice,User-Password=000000,Message-Authenticator=0x00"); strings.Contains(out, "Filter-Id") {
		t.Errorf("a refusal tells what an acceptance would: %s", out)
	}
}

// A request with CHAP or MS-CHAP says nothing of the shared secret: to a client of which no Message-Authenticator was
// demanded anybody could put codes to the test who sends from its address, which UDP lets anybody write. What carries no
// User-Password is signed, or gets no answer.
func TestCHAPNeedsAuthenticator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *store.RadiusClient) {
		c.CHAP, c.LegacyMSCHAPv2, c.MessageAuthenticator = true, true, store.AuthenticatorNo
	})
	alice := w.person("alice")
	n := w.nodes[0]
	p := n.peer(t)
	for name, sent := range map[string]*codec.AVP{
		"CHAP": attribute(3, strings.Repeat("x", 17)), "EAP": attribute(79, "\x02\x01\x00\x0a\x01alice"),
		"MS-CHAPv2": attribute(26, "\x00\x00\x01\x37\x19\x34"+strings.Repeat("x", 50)), "nothing": attribute(4, "\xc0\x00\x02\x01"),
	} {
		r := codec.New(codec.CodeAccessRequest, []byte(secret))
		r.Add(rfc2865.UserName_Type, codec.Attribute("alice"))
		r.Attributes = append(r.Attributes, sent)
		b, err := r.MarshalBinary()
		check(t, err)
		p.silence(name+" without a signature", b)
	}
	if out := n.radclient(t, "auth", "User-Name=alice,CHAP-Password="+alice.code()+",Message-Authenticator=0x00"); !strings.Contains(out, "Received Access-Accept") {
		t.Errorf("signed: %s", out)
	}
	if out := n.radclient(t, "auth", "User-Name=alice,User-Password="+alice.code()); !strings.Contains(out, "Received Access-Accept") {
		t.Errorf("a password without a signature, which no is for: %s", out)
	}
}

// CHAP is answered where the clear text can be computed, and where an operator has switched it on.
func TestCHAP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *store.RadiusClient) { c.CHAP = true })
	alice := w.person("alice")
	n := w.nodes[0]
	const ma = ",Message-Authenticator=0x00"
	code := alice.code()
	for _, x := range []struct{ what, attributes, want string }{
		{"wrong", "CHAP-Password=000000", "Reject"},
		{"right", "CHAP-Password=" + code, "Accept"},
		{"used", "CHAP-Password=" + code, "Reject"},
		{"with a challenge of its own", "CHAP-Password=" + alice.code() + ",CHAP-Challenge=0x0102030405060708090a0b0c0d0e0f10", "Accept"},
		{"PAP too", "User-Password=" + alice.code(), "Accept"},
	} {
		if out := n.radclient(t, "auth", "User-Name=alice,"+x.attributes+ma); !strings.Contains(out, "Received Access-"+x.want) {
			t.Errorf("%s: %s", x.what, out)
		}
	}
	events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.CodeReplayed})
	check(t, err)
	if len(events) != 1 {
		t.Errorf("a code that was used by CHAP raises %d events", len(events))
	}
	short := codec.New(codec.CodeAccessRequest, []byte(secret))
	short.Add(rfc2865.UserName_Type, codec.Attribute("alice"))
	short.Add(rfc2865.CHAPPassword_Type, make(codec.Attribute, 16))
	n.peer(t).silence("a CHAP-Password that is too short", signed(short))
}
