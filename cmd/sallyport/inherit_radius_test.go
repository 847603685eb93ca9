package main

import (
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// packets is a UDP socket that is bound.
func packets(t *testing.T) *os.File {
	t.Helper()
	f, _ := udpSocket(t, "127.0.0.1:0")
	return f
}

func udpSocket(t *testing.T, address string) (*os.File, string) {
	t.Helper()
	c, err := net.ListenPacket("udp", address)
	noError(t, err)
	defer c.Close()
	f, err := c.(*net.UDPConn).File()
	noError(t, err)
	t.Cleanup(func() { f.Close() })
	return f, c.LocalAddr().String()
}

func unbound(t *testing.T) *os.File {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	noError(t, err)
	f := os.NewFile(uintptr(fd), "unbound")
	t.Cleanup(func() { f.Close() })
	return f
}

func unixPackets(t *testing.T) *os.File {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(t.TempDir(), "s")})
	noError(t, err)
	t.Cleanup(func() { c.Close() })
	f, err := c.File()
	noError(t, err)
	return f
}

func devNull(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	noError(t, err)
	return f
}

const radiusTestSecret = "a secret of enough length"

// client adds a RADIUS client at 127.0.0.1 to the installation, before a server runs.
func (b *bare) client(certificate string) {
	b.t.Helper()
	cfg, err := loadConfig(b.config())
	noError(b.t, err)
	ring, err := loadRing(cfg)
	noError(b.t, err)
	st, err := openStore(b.t.Context(), cfg, ring)
	noError(b.t, err)
	defer st.Close()
	_, err = st.RadiusClients.Add(b.t.Context(), store.RadiusClient{
		Name: "gw" + certificate[:min(len(certificate), 4)], Networks: []string{"127.0.0.1/32", "::1/128"}, Mode: store.RadiusCode, MessageAuthenticator: store.AuthenticatorYes,
		SendsAuthenticator: true, Certificate: certificate, Enabled: true,
	}, store.SharedSecret(radiusTestSecret))
	noError(b.t, err)
}

// radclient asks with the program of FreeRADIUS, and returns what it prints.
func radclientAt(t *testing.T, addr, command, attributes, secret string) string {
	t.Helper()
	c := exec.Command("radclient", "-x", "-r", "20", "-t", "2", addr, command, secret)
	c.Stdin = strings.NewReader(attributes)
	out, _ := c.CombinedOutput()
	return string(out)
}

// Sockets for RADIUS that systemd opened are taken, by UDP and TLS: what radclient has sent before the server ran is
// answered, and between two servers the ports stay open.
func TestRADIUSSockets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	testenv.Run(t, "openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", filepath.Join(dir, "key"), "-out", filepath.Join(dir, "cert"), "-subj", "/CN=radius", "-days", "2")
	configured, configuredWeb := testenv.FreeAddr(t), testenv.FreeAddr(t)
	b := newBare(t, testenv.FreeAddr(t), configuredWeb, "}\nradius: {listen: \""+configured+"\", radsec: {certificate: "+filepath.Join(dir, "cert")+", key: "+filepath.Join(dir, "key")+"}")
	b.client("")
	auth, authAddr := udpSocket(t, "[::]:0") // as ListenDatagram=1812 is
	acct, acctAddr := udpSocket(t, "127.0.0.1:0")
	radsec, radsecAddr := socket(t, "127.0.0.1:0")
	_, port, err := net.SplitHostPort(authAddr)
	noError(t, err)
	early := make(chan string, 1)
	go func() {
		early <- radclientAt(t, "127.0.0.1:"+port, "status", "Message-Authenticator=0x00", radiusTestSecret)
	}()
	cmd := b.withSockets("radius:radius-accounting:radsec", auth, acct, radsec)
	_, exited := b.start(cmd)
	if out := <-early; !strings.Contains(out, "Received Access-Accept") {
		t.Errorf("what waited for the server: %s", out)
	}
	for what, out := range map[string]string{
		"by IPv6":    radclientAt(t, "[::1]:"+port, "status", "Message-Authenticator=0x00", radiusTestSecret),
		"accounting": radclientAt(t, acctAddr, "acct", "User-Name=alice,Acct-Status-Type=Start,Acct-Session-Id=1", radiusTestSecret),
	} {
		if !strings.Contains(out, "Received Acc") {
			t.Errorf("%s: %s", what, out)
		}
	}
	testenv.WaitFor(t, "RADIUS by TLS", func() bool {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", radsecAddr, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if c, err := net.ListenPacket("udp", configured); err != nil {
		t.Errorf("the configured port is open too: %v", err)
	} else {
		c.Close()
	}
	noError(t, cmd.Process.Signal(syscall.SIGTERM))
	if status := <-exited; status != 0 {
		t.Errorf("exit status %d", status)
	}
	again := make(chan string, 1)
	go func() {
		again <- radclientAt(t, "127.0.0.1:"+port, "status", "Message-Authenticator=0x00", radiusTestSecret)
	}()
	b.start(b.withSockets("radius:radius-accounting:radsec", auth, acct, radsec))
	if out := <-again; !strings.Contains(out, "Received Access-Accept") {
		t.Errorf("between two servers: %s", out)
	}
}

// The same by the program of systemd that does it: the first request starts the server, which answers it. The
// configuration knows nothing of RADIUS.
func TestSystemdSocketActivateRADIUS(t *testing.T) {
	t.Parallel()
	b := newBare(t, testenv.FreeAddr(t), "", "")
	b.client("")
	addr := testenv.FreeAddr(t)
	cmd := exec.Command("systemd-socket-activate", "--datagram", "--listen="+addr, "--fdname=radius", "--setenv="+asProgram, b.exe, "serve", "-c", b.config())
	b.start(cmd)
	if out := radclientAt(t, addr, "status", "Message-Authenticator=0x00", radiusTestSecret); !strings.Contains(out, "Received Access-Accept") {
		t.Errorf("%s", out)
	}
}
