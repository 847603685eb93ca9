package radius_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	codec "layeh.com/radius"

	"sallyport/auth"
	"sallyport/internal/auditlog"
	"sallyport/internal/testenv"
	"sallyport/radius"
	"sallyport/store"
)

// signed makes a certificate that p has signed, for a new key. change alters it before.
func (p pair) signed(t *testing.T, name string, change func(*x509.Certificate)) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.Leaf, &key.PublicKey, p.PrivateKey)
	check(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	out := pair{cert: filepath.Join(t.TempDir(), "certificate.pem")}
	out.key = out.cert + ".key"
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for _, c := range p.Certificate.Certificate { // what has signed it comes along
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	check(t, os.WriteFile(out.cert, chain, 0o600))
	check(t, os.WriteFile(out.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	out.Certificate, err = tls.LoadX509KeyPair(out.cert, out.key)
	check(t, err)
	return out
}

// authority opens a door by TLS that knows clients by the certificates of cas, and returns its address.
func (w *world) authority(server pair, clock func() time.Time, cas func() (*x509.CertPool, error)) string {
	t, st := w.t.(*testing.T), w.Store
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	events := auditlog.New(auditlog.Config{Sink: st.Audit, Logger: log})
	engine, err := auth.New(auth.Config{Store: st, Audit: events, Grid: w.grid})
	check(t, err)
	s, err := radius.New(radius.Config{Engine: engine, Store: st, Audit: events, Log: log, Now: clock, ClientCAs: cas})
	check(t, err)
	return (&node{Server: s, Store: st}).secured(t, server)
}

// knocks connects with a certificate, sends a request and returns the verdict; 0: it is sent away.
func knocks(t *testing.T, addr string, p pair, request []byte) codec.Code {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{Certificates: []tls.Certificate{p.Certificate}, InsecureSkipVerify: true})
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, _ = conn.Write(request) // it may be closed already
	header := make([]byte, 1)
	switch _, err := io.ReadFull(conn, header); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.Error("neither answered nor sent away")
	case err != nil:
		return 0
	}
	return codec.Code(header[0])
}

func byTLS(t *testing.T, code string) []byte {
	t.Helper()
	p := codec.New(codec.CodeAccessRequest, []byte("radsec"))
	p.Add(1, codec.Attribute("alice"))
	a, err := codec.NewUserPassword([]byte(code), p.Secret, p.Authenticator[:])
	check(t, err)
	p.Add(2, a)
	return plain(p)
}

// A client may be known by a name in a certificate of an authority (RFC 6614, section 2.3). The same name counts for
// nothing in a certificate of anybody else, that is over, or that is not for clients.
func TestRadSecByName(t *testing.T) {
	t.Parallel()
	server, ca, stranger := newPair(t, "bastion"), newPair(t, "authority"), newPair(t, "proxy.example.org")
	w := newWorld(t, "", func(c *store.RadiusClient) { c.CertificateName = "dns:proxy.example.org" })
	alice := w.person("alice")
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	addr := w.authority(server, nil, func() (*x509.CertPool, error) { return pool, nil })
	between := ca.signed(t, "between", func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.DNSNames = true, true, x509.KeyUsageCertSign, nil
	})
	good := ca.signed(t, "Proxy.Example.org", nil)
	code := alice.code()
	for what, x := range map[string]struct {
		client pair
		in     bool
	}{
		"the name":              {good, true},
		"… of a chain":          {between.signed(t, "proxy.example.org", nil), true},
		"… among others":        {ca.signed(t, "x", func(c *x509.Certificate) { c.DNSNames = []string{"x.example.org", "proxy.example.org"} }), true},
		"… signed by itself":    {stranger, false},
		"… signed by another":   {stranger.signed(t, "proxy.example.org", nil), false},
		"… expired":             {ca.signed(t, "proxy.example.org", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), false},
		"… for servers":         {ca.signed(t, "proxy.example.org", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), false},
		"… as common name":      {ca.signed(t, "proxy.example.org", func(c *x509.Certificate) { c.DNSNames = nil }), false},
		"… as URI":              {ca.signed(t, "x", func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "proxy.example.org"}} }), false},
		"a wildcard":            {ca.signed(t, "*.example.org", nil), false},
		"another name":          {ca.signed(t, "other.example.org", nil), false},
		"the authority's own":   {ca, false},
		"the name, with a tail": {ca.signed(t, "proxy.example.org.evil.example", nil), false},
	} {
		want := codec.Code(0)
		if x.in {
			want = codec.CodeAccessAccept
		}
		if got := knocks(t, addr, x.client, byTLS(t, code)); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		if x.in {
			code = alice.code() // whoever is sent away has used none
		}
	}
	// radsecproxy, with a certificate of the authority.
	proxy := radsecproxy(t, addr, server.cert, good)
	out := ""
	testenv.WaitFor(t, "radsecproxy to be connected", func() bool {
		out = proxy.radclient(t, "auth", "User-Name=alice,User-Password="+alice.code()+",Message-Authenticator=0x00") // one of before may have been used
		return strings.Contains(out, "Received Access-")
	})
	if !strings.Contains(out, "Received Access-Accept") {
		t.Errorf("by radsecproxy: %s", out)
	}
	// The operator reads why somebody was sent away, and by UDP there is no such client.
	testenv.WaitFor(t, "strangers to be counted", func() bool {
		counts, err := w.Store.RadiusClients.Counts(context.Background(), nil)
		check(t, err)
		return len(counts) > 0 && strings.Contains(counts[0].Detail, "by TLS, certificate ")
	})
	p := w.nodes[0].peer(t)
	p.send(signed(access("alice", alice.code())))
	if b := p.receive(100 * time.Millisecond); b != nil {
		t.Errorf("by UDP: % x", b)
	}
}

// Names of the other kinds, and what becomes of a connection: it ends with the certificate, and new ones go by the
// authorities as they are then. Without any, or when they cannot be read, no name counts.
func TestRadSecNames(t *testing.T) {
	t.Parallel()
	server, ca := newPair(t, "bastion"), newPair(t, "authority")
	w := newWorld(t, "", func(c *store.RadiusClient) { c.CertificateName = "ip:2001:db8::7" })
	alice := w.person("alice")
	_, err := w.Store.RadiusClients.Add(t.Context(), store.RadiusClient{
		Name: "vpn2", Networks: []string{"127.0.0.1/32"}, CertificateName: "uri:https://example.org/vpn", Mode: store.RadiusCode,
		MessageAuthenticator: store.AuthenticatorYes, SendsAuthenticator: true, Enabled: true,
	}, store.SharedSecret(secret))
	check(t, err)
	var ahead atomic.Int64
	var which atomic.Pointer[x509.CertPool]
	failing := errors.New("no such file")
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	which.Store(pool)
	addr := w.authority(server, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }, func() (*x509.CertPool, error) {
		if p := which.Load(); p != nil {
			return p, nil
		}
		return nil, failing
	})
	client := ca.signed(t, "x", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("2001:db8::7")} })
	if got := knocks(t, addr, client, byTLS(t, alice.code())); got != codec.CodeAccessAccept {
		t.Errorf("by address: %v", got)
	}
	other := ca.signed(t, "x", func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "https", Host: "example.org", Path: "/vpn"}} })
	if got := knocks(t, addr, other, byTLS(t, alice.code())); got != codec.CodeAccessReject { // no rule lets alice through vpn2
		t.Errorf("by URI: %v", got)
	}

	conn, err := tls.Dial("tcp", addr, &tls.Config{Certificates: []tls.Certificate{client.Certificate}, InsecureSkipVerify: true})
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	answered := func() bool {
		_, err := conn.Write(byTLS(t, alice.code()))
		if err == nil {
			_, err = conn.Read(make([]byte, 4096))
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("neither answered nor ended")
		}
		return err == nil
	}
	if !answered() {
		t.Error("a connection is not answered")
	}
	ahead.Store(int64(2 * time.Hour))
	if answered() {
		t.Error("a connection outlives its certificate")
	}
	ahead.Store(0)

	which.Store(nil)
	if got := knocks(t, addr, client, byTLS(t, alice.code())); got != 0 {
		t.Errorf("without authorities: %v", got)
	}
	which.Store(x509.NewCertPool())
	if got := knocks(t, addr, client, byTLS(t, alice.code())); got != 0 {
		t.Errorf("with no authority: %v", got)
	}
	none := w.authority(server, nil, nil)
	if got := knocks(t, none, client, byTLS(t, alice.code())); got != 0 {
		t.Errorf("where no authority is configured: %v", got)
	}
}
