package bastion_test

import (
	"context"
	"crypto/rand"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// authority is a user CA made by ssh-keygen.
type authority struct {
	s    *system
	name string
	file string
}

// userCA makes a CA and lists it.
func (s *system) userCA(name string, arguments ...string) authority {
	s.t.Helper()
	ca := authority{s: s, name: name, file: filepath.Join(s.t.TempDir(), "ca")}
	if len(arguments) == 0 {
		arguments = []string{"-t", "ed25519"}
	}
	testenv.Run(s.t, "ssh-keygen", append([]string{"-q", "-N", "", "-C", "", "-f", ca.file}, arguments...)...)
	s.listCA(name, readKey(s.t, ca.file+".pub"))
	return ca
}

func (s *system) listCA(name string, key ssh.PublicKey) store.UserCA {
	s.t.Helper()
	ca, err := s.Store.UserCAs.Add(context.Background(), store.UserCA{
		Name: name, PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), Fingerprint: ssh.FingerprintSHA256(key), Enabled: true,
	})
	check(s.t, err)
	return ca
}

// issue makes a key and signs it by ssh-keygen -s with arguments, such as -n alice; the file of the private
// key is returned, and the certificate is beside it.
func (ca authority) issue(arguments ...string) string {
	ca.s.t.Helper()
	file := filepath.Join(ca.s.t.TempDir(), "id")
	testenv.Run(ca.s.t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file)
	ca.sign(file, arguments...)
	return file
}

func (ca authority) sign(file string, arguments ...string) {
	ca.s.t.Helper()
	arguments = append([]string{"-q", "-s", ca.file, "-I", "laptop of alice", "-z", "42"}, arguments...)
	testenv.Run(ca.s.t, "ssh-keygen", append(arguments, file+".pub")...)
}

func readKey(t testing.TB, file string) ssh.PublicKey {
	t.Helper()
	line, err := os.ReadFile(file)
	check(t, err)
	key, _, _, _, err := ssh.ParseAuthorizedKey(line)
	check(t, err)
	return key
}

// signer is the certificate beside a private key, with the key, for the Go client.
func signer(t testing.TB, file string) ssh.Signer {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	key, err := ssh.ParsePrivateKey(text)
	check(t, err)
	cert, ok := readKey(t, file+"-cert.pub").(*ssh.Certificate)
	if !ok {
		t.Fatal("there is no certificate")
	}
	s, err := ssh.NewCertSigner(cert, key)
	check(t, err)
	return s
}

// with is the OpenSSH client of alice with the key of a file (and the certificate beside it) and a code.
func (s *system) with(file string) *testenv.OpenSSH {
	c := s.ssh()
	c.KeyFile, c.Password = file, ""
	return c
}

// A certificate of a listed CA stands for the password, and the code follows. The audit log has whose it
// was, by the authority's words.
func TestCertificateThenCode(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		s := newSystem(t, o)
		ca := s.userCA("people")
		client := s.with(ca.issue("-n", "alice,root", "-V", "+1h"))
		out, errs, status := client.Output(t, "echo in")
		if out != "in\n" || status != 0 {
			t.Fatalf("certificate and code: %q %q %d", out, errs, status)
		}
		list, err := s.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginAccepted})
		check(t, err)
		if d := list[0].Detail; d["ca"] != "people" || d["key-id"] != "laptop of alice" || d["serial"] != "42" || d["factors"] != "certificate+code" {
			t.Errorf("login.accepted has %v", d)
		}
		if row := s.session(); row.KeyFingerprint != ssh.FingerprintSHA256(readKey(t, client.KeyFile+".pub")) {
			t.Errorf("the session names key %q", row.KeyFingerprint)
		}
		if used, err := s.Store.UserCAs.ByName(t.Context(), "people"); err != nil || used.LastUsed.IsZero() {
			t.Errorf("the CA was used and says %v, %v", used.LastUsed, err)
		}
		client.Code = nil
		if out, _, status := client.Output(t, "echo in"); status == 0 {
			t.Errorf("a certificate without code got in: %q", out)
		}
	})
}

// ECDSA and RSA authorities and keys work as well.
func TestCertificateAlgorithms(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	for name, arguments := range map[string][]string{"ecdsa": {"-t", "ecdsa", "-b", "384"}, "rsa": {"-t", "rsa", "-b", "2048"}} {
		ca := s.userCA(name, arguments...)
		file := filepath.Join(t.TempDir(), "id")
		testenv.Run(t, "ssh-keygen", append([]string{"-q", "-N", "", "-f", file}, arguments...)...)
		ca.sign(file, "-n", "alice")
		c, err := s.dial("alice@down", ssh.PublicKeys(signer(t, file)), answers("", s.code("alice"), nil))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c.Close()
	}
}

// What is not in order is refused, at the offer; then the right answers by another method make the person
// of the other method, and nothing of the certificate is left.
func TestCertificatesRefused(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.addUser("bob", "bob's password")
	ca := s.userCA("people")
	rsa := s.userCA("old", "-t", "rsa", "-b", "2048")
	gone := s.userCA("gone")
	off := s.userCA("off")
	strange := authority{s: s, file: filepath.Join(t.TempDir(), "strange")}
	testenv.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", strange.file)
	removed, err := s.Store.UserCAs.ByName(t.Context(), "gone")
	check(t, err)
	check(t, s.Store.UserCAs.Delete(t.Context(), removed.ID))
	disabled, err := s.Store.UserCAs.ByName(t.Context(), "off")
	check(t, err)
	check(t, s.Store.UserCAs.SetEnabled(t.Context(), disabled.ID, false))
	serial := s.userCA("serial")
	keyID := s.userCA("keyid")
	for name, r := range map[string]store.Revocation{"serial": {Kind: store.RevokedSerial, Value: "42"}, "keyid": {Kind: store.RevokedKeyID, Value: "laptop of alice"}} {
		row, err := s.Store.UserCAs.ByName(t.Context(), name)
		check(t, err)
		check(t, s.Store.UserCAs.Revoke(t.Context(), row.ID, r))
	}
	// A CA whose listed "key" is a certificate: nobody can list one, and nobody can use one.
	nested := ca.issue("-n", "alice")

	for name, file := range map[string]string{
		"no principals":         ca.issue(),
		"other principal":       ca.issue("-n", "bob"),
		"principal of a case":   ca.issue("-n", "Alice"),
		"principal with blank":  ca.issue("-n", "alice "),
		"wildcard":              ca.issue("-n", "*"),
		"expired":               ca.issue("-n", "alice", "-V", "-2h:-1h"),
		"not yet valid":         ca.issue("-n", "alice", "-V", "+1h:+2h"),
		"host certificate":      ca.issue("-h", "-n", "alice"),
		"unknown option":        ca.issue("-n", "alice", "-O", "critical:verify-it=yes"),
		"verify-required":       ca.issue("-n", "alice", "-O", "critical:verify-required"),
		"SHA-1":                 rsa.issue("-t", "ssh-rsa", "-n", "alice"),
		"unlisted CA":           strange.issue("-n", "alice"),
		"removed CA":            gone.issue("-n", "alice"),
		"disabled CA":           off.issue("-n", "alice"),
		"revoked serial":        serial.issue("-n", "alice"),
		"revoked key id":        keyID.issue("-n", "alice"),
		"source":                ca.issue("-n", "alice", "-O", "source-address=192.0.2.0/24"),
		"malformed source":      ca.issue("-n", "alice", "-O", "critical:source-address=127.0.0.1/8"),
		"malformed source list": ca.issue("-n", "alice", "-O", "critical:source-address=127.0.0.0/8,x"),
		"empty command":         ca.issue("-n", "alice", "-O", "critical:force-command="),
	} {
		var asked []string
		if c, err := s.dial("alice@web1", ssh.PublicKeys(signer(t, file)), answers("", s.code("alice"), &asked)); err == nil {
			c.Close()
			t.Errorf("%s: got in", name)
		}
		if len(asked) == 0 || asked[0] != "Password: " {
			t.Errorf("%s: after the offer it was asked %q", name, asked)
		}
	}

	// The person passes by password after such an offer: their session does not know of it.
	c, err := s.dial("bob@web1", ssh.PublicKeys(signer(t, nested)), answers("bob's password", s.code("bob"), nil))
	check(t, err)
	defer c.Close()
	_, err = c.NewSession()
	check(t, err)
	if row := s.newest(); row.User != "bob" || row.KeyFingerprint != "" {
		t.Errorf("session of %s with key %q after an offer of alice's certificate", row.User, row.KeyFingerprint)
	}
}

// A certificate whose key is not proved opens nothing: not as its owner, and not as who then answers.
func TestOfferedCertificateIsNotProved(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	s.addUser("mallory", "mallory's password")
	file := s.userCA("people").issue("-n", "alice,mallory")
	liar := forger{shown: readKey(t, file+"-cert.pub"), Signer: newSigner(t)}
	for _, login := range []string{"alice@down", "mallory@down"} {
		if c, err := s.dial(login, ssh.PublicKeys(liar), answers("mallory's password", s.code("mallory"), nil)); err == nil {
			c.Close()
			t.Errorf("%s got in with a certificate and no key for it", login)
		}
	}
}

// A certificate signed by another certificate's key, which is itself presented as the authority, is no
// certificate at all, whatever is listed.
func TestCertificateAsAuthority(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	file := s.userCA("people").issue("-n", "alice")
	text, err := os.ReadFile(file)
	check(t, err)
	key, err := ssh.ParsePrivateKey(text)
	check(t, err)
	inner := readKey(t, file+"-cert.pub").(*ssh.Certificate)
	mine := newSigner(t)
	cert := &ssh.Certificate{Key: mine.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"alice"}, ValidBefore: ssh.CertTimeInfinity, KeyId: "nested"}
	check(t, cert.SignCert(rand.Reader, key))
	cert.SignatureKey = inner // claims the certificate as its authority
	s.listCA("trap", key.PublicKey())
	if c, err := s.dial("alice@down", ssh.PublicKeys(forger{shown: cert, Signer: mine}), answers("", s.code("alice"), nil)); err == nil {
		c.Close()
		t.Error("a certificate as authority got in")
	}
	// And the key of a person's certificate is no authority either unless it is listed.
	other := newSystem(t, options{noSSHD: true})
	cert.SignatureKey = nil
	check(t, cert.SignCert(rand.Reader, key))
	signed, err := ssh.NewCertSigner(cert, mine)
	check(t, err)
	if c, err := other.dial("alice@down", ssh.PublicKeys(signed), answers("", other.code("alice"), nil)); err == nil {
		c.Close()
		t.Error("an unlisted key signed its way in")
	}
}

// What changes between certificate and code counts at the end: time, the list, revocations.
func TestCertificateIsJudgedAtTheEnd(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	ca := s.userCA("people")
	row, err := s.Store.UserCAs.ByName(t.Context(), "people")
	check(t, err)
	for name, c := range map[string]struct {
		validity string
		meantime func()
	}{
		"expired": {"-1m:+3s", func() { testenv.WaitFor(t, "the certificate to expire", expiry(t, 4*time.Second)) }},
		"revoked": {"+1h", func() {
			check(t, s.Store.UserCAs.Revoke(t.Context(), row.ID, store.Revocation{Kind: store.RevokedSerial, Value: "42"}))
		}},
		"disabled": {"+1h", func() { check(t, s.Store.UserCAs.SetEnabled(t.Context(), row.ID, false)) }},
	} {
		file := ca.issue("-n", "alice", "-V", c.validity)
		if name == "disabled" { // serial 42 may be revoked by now
			ca.sign(file, "-n", "alice", "-V", c.validity, "-z", "43")
		}
		asked := 0
		challenge := ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			if len(questions) == 0 {
				return nil, nil
			}
			if asked++; asked == 1 {
				c.meantime()
			}
			return []string{s.code("alice")}, nil
		})
		client, err := s.dial("alice@down", ssh.PublicKeys(signer(t, file)), challenge)
		if err == nil {
			client.Close()
			t.Errorf("%s meanwhile: got in", name)
		}
		if asked == 0 {
			t.Errorf("%s: no code was asked for, so that the test shows nothing", name)
		}
		check(t, s.Store.UserCAs.SetEnabled(t.Context(), row.ID, true))
	}
}

// source-address holds for whatever step comes last, here keyboard-interactive, and the address is the one
// that a listed proxy tells.
func TestCertificateSourceAddress(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	file := s.userCA("people").issue("-n", "alice", "-O", "source-address=127.0.0.0/8,::1/128")
	c, err := s.dial("alice@down", ssh.PublicKeys(signer(t, file)), answers("", s.code("alice"), nil))
	if err != nil {
		t.Fatalf("from a listed address: %v", err)
	}
	c.Close()

	// Past the offer, to the very end: a conversation that comes from elsewhere.
	cert := readKey(t, file+"-cert.pub").(*ssh.Certificate)
	conv := s.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "alice", Source: addr("192.0.2.9"), Target: "down"}).WithProof(cert)
	if _, err := conv.Run(t.Context(), answering{s.code("alice")}); err == nil {
		t.Error("the last step let somebody in from another address")
	}
	conv = s.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "alice", Source: addr("127.0.0.9"), Target: "down"}).WithProof(cert)
	if _, err := conv.Run(t.Context(), answering{s.code("alice")}); err != nil {
		t.Errorf("from a listed address: %v", err)
	}
}

// force-command runs in the place of whatever is asked for, on every channel, and forwards stay what the
// certificate permits.
func TestForceCommand(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{sshdConfig: []string{"AcceptEnv SSH_ORIGINAL_COMMAND"}, rules: `version: 1
rules:
  - {name: all, users: ["*"], targets: [web1, down], channels: [shell, exec, sftp, scp, local-forward, remote-forward, agent, x11]}
`})
	ca := s.userCA("people")
	forced := `echo "forced [$SSH_ORIGINAL_COMMAND]"; test -t 0 && echo tty`
	file := ca.issue("-n", "alice", "-O", "force-command="+forced)
	client := func(options ...string) *testenv.OpenSSH {
		c := s.with(file)
		c.Options = options
		return c
	}
	if out, errs, _ := client().Output(t, "cat /etc/shadow; id"); out != "forced [cat /etc/shadow; id]\n" {
		t.Errorf("exec ran %q %q", out, errs)
	}
	if out, errs, _ := client().Output(t); !strings.HasPrefix(out, "forced []") {
		t.Errorf("a shell was %q %q", out, errs)
	}
	if out, errs, _ := testenv.Finish(t, client().SSH(t, "-s", "sftp")); !strings.HasPrefix(out, "forced [internal-sftp]") {
		t.Errorf("the subsystem was %q %q", out, errs)
	}
	if out, _, _ := testenv.Finish(t, client("RequestTTY=force").SSH(t, "id")); !strings.Contains(out, "tty") {
		t.Errorf("the certificate permits a terminal: %q", out)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	check(t, os.WriteFile(secret, []byte("secret"), 0o600))
	for _, legacy := range [][]string{nil, {"-O"}} {
		got := filepath.Join(t.TempDir(), "got")
		if _, _, status := testenv.Finish(t, client().SCP(t, append(legacy, "REMOTE:"+secret, got)...)); status == 0 {
			t.Error("scp worked")
		}
		if _, err := os.Stat(got); err == nil {
			t.Error("scp brought a file")
		}
	}
	row := s.newest()
	if len(row.Channels) == 0 || row.Channels[0].Command != forced || row.Channels[0].Kind != "exec" {
		t.Errorf("the row says %+v", row.Channels)
	}

	// A second channel of the same connection.
	c, err := s.dial("alice@web1", ssh.PublicKeys(signer(t, file)), answers("", s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	for range 2 {
		session, err := c.NewSession()
		check(t, err)
		if out, _ := session.Output("id"); string(out) != "forced [id]\n" {
			t.Errorf("a channel ran %q", out)
		}
	}
	// The rules are asked for the command that runs, and auth refuses any other, whoever asks.
	for _, r := range []auth.Request{{Channel: "shell"}, {Channel: "sftp"}, {Channel: "exec", Command: "id"}, {Channel: "exec"}, {Channel: "scp", Command: "scp -t /"}} {
		id, err := s.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "alice", Source: addr("127.0.0.1"), Target: "web1"}).
			WithProof(readKey(t, file+"-cert.pub")).Run(t.Context(), answering{s.code("alice")})
		check(t, err)
		r.Target, r.Source = "web1", addr("127.0.0.1")
		if d, err := s.Engine.Authorize(t.Context(), *id, r); err != nil || d.Allow {
			t.Errorf("%+v was allowed: %v", r, err)
		}
		r.Channel, r.Command = "exec", forced
		if d, err := s.Engine.Authorize(t.Context(), *id, r); err != nil || !d.Allow {
			t.Errorf("the forced command was refused: %v, %v", d.Refusal, err)
		}
	}
	// Nobody gets a menu, or an answer of the bastion, in the place of the command.
	noTarget := client()
	noTarget.Login = "alice"
	for _, command := range [][]string{nil, {"whoami"}} {
		if out, errs, status := noTarget.Output(t, command...); status != 255 || out != "" || !strings.Contains(errs, "one command") {
			t.Errorf("without a target: %q %q %d", out, errs, status)
		}
	}
}

// What a certificate has no extension for is refused, though the rules allow it.
func TestCertificateExtensions(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: `version: 1
rules:
  - {name: all, users: ["*"], targets: [web1, down], channels: [shell, exec, sftp, local-forward, dynamic, remote-forward, unix-forward, agent, x11]}
`})
	ca := s.userCA("people")
	bare, err := s.dial("alice@web1", ssh.PublicKeys(signer(t, ca.issue("-n", "alice", "-O", "clear"))), answers("", s.code("alice"), nil))
	check(t, err)
	defer bare.Close()
	full, err := s.dial("alice@web1", ssh.PublicKeys(signer(t, ca.issue("-n", "alice"))), answers("", s.code("alice"), nil))
	check(t, err)
	defer full.Close()

	try := func(c *ssh.Client) (allowed []string) {
		session, err := c.NewSession()
		check(t, err)
		if session.RequestPty("xterm", 24, 80, nil) == nil {
			allowed = append(allowed, "pty")
		}
		for request, payload := range map[string][]byte{"auth-agent-req@openssh.com": nil, "x11-req": x11Request} {
			if ok, err := session.SendRequest(request, true, payload); err == nil && ok {
				allowed = append(allowed, request)
			}
		}
		if out, err := session.Output("echo runs"); err != nil || !strings.HasPrefix(string(out), "runs") {
			t.Errorf("a command: %q %v", out, err)
		}
		if conn, err := c.Dial("tcp", echoServer(t)); err == nil {
			allowed = append(allowed, "direct-tcpip")
			conn.Close()
		}
		if conn, err := c.Dial("unix", "/tmp/none"); err == nil || !strings.Contains(err.Error(), "permit") && !strings.Contains(err.Error(), "prohibited") {
			allowed = append(allowed, "unix")
			if conn != nil {
				conn.Close()
			}
		}
		if l, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
			allowed = append(allowed, "tcpip-forward")
			l.Close()
		}
		return allowed
	}
	if got := try(bare); len(got) != 0 {
		t.Errorf("without extensions it got %v", got)
	}
	if got := try(full); !slices.Contains(got, "pty") || !slices.Contains(got, "direct-tcpip") || !slices.Contains(got, "tcpip-forward") || !slices.Contains(got, "auth-agent-req@openssh.com") {
		t.Errorf("with extensions it got %v only", got)
	}
}

// The library lets a client ask about keys as often as it likes within its tries; a name is looked up once
// for it, and few names.
func TestKeyringIsBounded(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	s := newSystem(t, options{noSSHD: true, directory: ldapOf(t, d)})
	before := d.Searches("(uid=bob)")
	var keys []ssh.Signer
	for range 15 {
		keys = append(keys, newSigner(t))
	}
	if c, err := s.dial("bob@down", ssh.PublicKeys(keys...)); err == nil {
		c.Close()
		t.Fatal("got in")
	}
	if n := d.Searches("(uid=bob)") - before; n != 1 {
		t.Errorf("15 offered keys made %d searches, want 1", n)
	}
}

func expiry(t *testing.T, d time.Duration) func() bool {
	until := time.Now().Add(d)
	return func() bool { return time.Now().After(until) }
}

// echoServer is an address that takes connections.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l.Addr().String()
}
