package radius_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	codec "layeh.com/radius"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// pair is a certificate that signs itself, in files too.
type pair struct {
	tls.Certificate
	cert, key, fingerprint string
}

func newPair(t *testing.T, name string) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	p := pair{cert: filepath.Join(t.TempDir(), name+".pem")}
	p.key = p.cert + ".key"
	check(t, os.WriteFile(p.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	check(t, os.WriteFile(p.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	p.Certificate, err = tls.LoadX509KeyPair(p.cert, p.key)
	check(t, err)
	sum := sha256.Sum256(der)
	p.fingerprint = hex.EncodeToString(sum[:])
	return p
}

// secured opens the door of a node for TLS.
func (n *node) secured(t *testing.T, server pair) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	ended := make(chan error, 1)
	go func() { ended <- n.ServeTLS(l, &tls.Config{Certificates: []tls.Certificate{server.Certificate}}) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		check(t, n.Shutdown(ctx))
		check(t, <-ended)
	})
	return l.Addr().String()
}

// radsecproxy takes RADIUS by UDP and brings it by TLS; who has no certificate that is listed gets no answer.
func TestRadSec(t *testing.T) {
	t.Parallel()
	server, client, stranger := newPair(t, "bastion"), newPair(t, "proxy"), newPair(t, "stranger")
	w := newWorld(t, "", func(c *store.RadiusClient) { c.Certificate = client.fingerprint })
	alice := w.person("alice")
	addr := w.nodes[0].secured(t, server)

	// By TLS, spoken here.
	dial := func(p pair) *tls.Conn {
		conn, err := tls.Dial("tcp", addr, &tls.Config{Certificates: []tls.Certificate{p.Certificate}, InsecureSkipVerify: true})
		check(t, err)
		t.Cleanup(func() { conn.Close() })
		check(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		return conn
	}
	request := func(password string) []byte {
		p := codec.New(codec.CodeAccessRequest, []byte("radsec"))
		p.Add(1, codec.Attribute("alice"))
		a, err := codec.NewUserPassword([]byte(password), p.Secret, p.Authenticator[:])
		check(t, err)
		p.Add(2, a)
		return plain(p)
	}
	conn := dial(client)
	first, second := request(alice.code()), request("000000")
	second[1] = first[1] + 1
	_, err := conn.Write(append(first, second...)) // two at once
	check(t, err)
	got := map[byte]codec.Code{}
	for range 2 {
		header := make([]byte, 4)
		_, err := io.ReadFull(conn, header)
		check(t, err)
		_, err = io.CopyN(io.Discard, conn, int64(header[2])<<8+int64(header[3])-4)
		check(t, err)
		got[header[1]] = codec.Code(header[0])
	}
	if got[first[1]] != codec.CodeAccessAccept || got[second[1]] != codec.CodeAccessReject {
		t.Errorf("answers %v", got)
	}
	other := dial(stranger)
	_, _ = other.Write(request(alice.code())) // it may be closed already
	w.counted("unknown-client", 1)
	check(t, other.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := other.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("a stranger is answered")
	}
	if _, err := conn.Write([]byte{1, 1, 255, 255}); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a connection that cannot be read on is not closed: %v", err)
	}
	// Its certificate is what makes it a client: by UDP it is none.
	p := w.nodes[0].peer(t)
	p.send(signed(access("alice", alice.code())))
	w.counted("unknown-client", 2)

	proxy := radsecproxy(t, addr, server.cert, client)
	code := alice.code()
	out := proxy.radclient(t, "auth", "User-Name=alice,User-Password="+code+",Message-Authenticator=0x00")
	if !strings.Contains(out, "Received Access-Accept") {
		t.Errorf("by radsecproxy: %s", out)
	}
	if out := proxy.radclient(t, "auth", "User-Name=alice,User-Password="+code+",Message-Authenticator=0x00"); !strings.Contains(out, "Received Access-Reject") {
		t.Errorf("the same code by radsecproxy: %s", out)
	}
}

// radsecproxy starts a proxy that takes RADIUS by UDP and brings it to the address to by TLS, as client, and returns it.
// The server's certificate has to come from the authorities in the file ca.
func radsecproxy(t *testing.T, to, ca string, client pair) *node {
	t.Helper()
	udp := testenv.FreePort(t)
	conf := filepath.Join(t.TempDir(), "radsecproxy.conf")
	_, port, err := net.SplitHostPort(to)
	check(t, err)
	check(t, os.WriteFile(conf, fmt.Appendf(nil, `ListenUDP 127.0.0.1:%d
LogLevel 1
tls default {
	CACertificateFile %s
	CertificateFile %s
	CertificateKeyFile %s
}
client nas {
	host 127.0.0.1
	type udp
	secret "%s"
}
server bastion {
	host 127.0.0.1
	port %s
	type tls
	secret radsec
	CertificateNameCheck off
}
realm * {
	server bastion
}
`, udp, ca, client.cert, client.key, secret, port), 0o600))
	run := exec.Command("/usr/sbin/radsecproxy", "-f", "-c", conf)
	log, err := os.Create(conf + ".log")
	check(t, err)
	defer log.Close()
	run.Stdout, run.Stderr = log, log
	check(t, run.Start())
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(conf + ".log")
			t.Logf("%s", text)
		}
	})
	proxy := &node{addr: fmt.Sprintf("127.0.0.1:%d", udp)}
	knock := proxy.peer(t)
	testenv.WaitFor(t, "radsecproxy", func() bool {
		_, err := knock.conn.Write([]byte{0}) // which it leaves unanswered
		check(t, errors.Join(err, knock.conn.SetReadDeadline(time.Now().Add(20*time.Millisecond))))
		_, err = knock.conn.Read(make([]byte, 1))
		return !errors.Is(err, syscall.ECONNREFUSED)
	})
	return proxy
}

// TestRadSecStrangers: a place for a connection is held for a quarter of an hour by who says nothing, and there are
// 512 of them. Anybody can make a certificate; so a stranger could take all places, and those who are listed would
// find none. Who is not listed is sent away when the certificate is known, before anything is asked.
func TestRadSecStrangers(t *testing.T) {
	t.Parallel()
	server, client, stranger := newPair(t, "bastion"), newPair(t, "proxy"), newPair(t, "stranger")
	w := newWorld(t, "", func(c *store.RadiusClient) { c.Certificate = client.fingerprint })
	addr := w.nodes[0].secured(t, server)
	silent := func(p pair, wait time.Duration) error {
		conn, err := tls.Dial("tcp", addr, &tls.Config{Certificates: []tls.Certificate{p.Certificate}, InsecureSkipVerify: true})
		check(t, err)
		defer conn.Close()
		check(t, conn.SetDeadline(time.Now().Add(wait)))
		_, err = conn.Read(make([]byte, 1))
		return err
	}
	if err := silent(stranger, 30*time.Second); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a stranger's connection is kept")
	}
	if err := silent(client, 300*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection of a client that is listed was closed: %v", err)
	}
}
