package identity

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sallyport/internal/testenv"
)

// TestMain proves that no connection or request outlives its test.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// unusablePasswords are refused before anything is sent or computed.
var unusablePasswords = map[string]Password{
	"empty":    "",
	"blank":    " \t ",
	"NUL":      "\x00",
	"with NUL": "correct\x00horse",
	"too long": Password(strings.Repeat("x", maxPassword+1)),
	"100 KB":   Password(strings.Repeat("x", 100_000)),
}

// configFor returns a configuration for d without TLS.
func configFor(d *testenv.Directory) LDAPConfig {
	return LDAPConfig{
		Servers:      []string{d.URL},
		BindDN:       d.BindDN,
		BindPassword: Password(d.BindPassword),
		Base:         d.PeopleDN,
		GroupBase:    d.GroupsDN,
		Timeout:      6 * time.Second, // a machine may have much else to do
	}
}

func newLDAP(t *testing.T, cfg LDAPConfig) *LDAP {
	t.Helper()
	l, err := NewLDAP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// proxy passes TCP on to a server and keeps what clients sent.
type proxy struct {
	addr        string
	connections atomic.Int32

	mu   sync.Mutex // guards the fields below
	sent bytes.Buffer
}

// newProxy listens on a free port of ip.
func newProxy(t *testing.T, ip, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &proxy{addr: l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.connections.Add(1)
			go p.pass(client, target)
		}
	}()
	return p
}

func (p *proxy) pass(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(client, server)
		client.Close()
	}()
	_, _ = io.Copy(io.MultiWriter(p, server), client)
}

// Write keeps what a client sent.
func (p *proxy) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent.Write(b)
}

func (p *proxy) sentBytes() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.sent.Bytes())
}

// silent listens and never answers: the kernel takes the connections.
func silent(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// closedPort returns an address that refuses connections.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
