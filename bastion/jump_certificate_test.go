package bastion_test

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// What a certificate says holds inside of the connection that it opened as well: ssh -J.
func TestJumpWithCertificate(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	ca := s.userCA("people")
	j := s.jumper(ca.issue("-n", "alice"))
	if out, errs, status := j.run("ssh", "-J", "bastion", s.at("web1"), "echo in"); out != "in\n" || status != 0 {
		t.Fatalf("a certificate: %q %q %d", out, errs, status)
	}
	logins := s.details("login.accepted")
	if inner := logins[len(logins)-1]; inner["inner"] != "key" || inner["ca"] != "people" || inner["serial"] != "42" {
		t.Errorf("the event of the inner connection: %v", inner)
	}
	j = s.jumper(ca.issue("-n", "alice", "-O", "force-command=echo forced"))
	for _, command := range [][]string{{"id"}, nil} {
		if out, errs, status := j.run("ssh", append([]string{"-T", "-J", "bastion", s.at("web1")}, command...)...); out != "forced\n" || status != 0 {
			t.Errorf("a forced command: %q %q %d", out, errs, status)
		}
	}
	j = s.jumper(ca.issue("-n", "alice", "-O", "no-port-forwarding"))
	if out, errs, status := j.run("ssh", "-J", "bastion", s.at("web1"), "echo in"); out != "" || status == 0 || !strings.Contains(strings.Join(s.events("channel.refused"), "\n"), "permit-port-forwarding") {
		t.Errorf("without permit-port-forwarding: %q %q %d", out, errs, status)
	}

	// Taken back between the outer connection and the inner one.
	file := ca.issue("-n", "alice", "-z", "7")
	outer := s.outer("alice", ssh.PublicKeys(signer(t, file)), answers("", s.code("alice"), nil))
	inner, err := s.inside(outer, ssh.PublicKeys(rawSigner(t, file)))
	check(t, err)
	check(t, says(inner))
	if c, err := s.inside(outer, ssh.PublicKeys(newSigner(t))); err == nil {
		c.Close()
		t.Error("another key got in inside")
	}
	row, err := s.Store.UserCAs.ByName(t.Context(), "people")
	check(t, err)
	check(t, s.Store.UserCAs.Revoke(t.Context(), row.ID, store.Revocation{Kind: store.RevokedSerial, Value: "7"}))
	if c, err := s.inside(outer, ssh.PublicKeys(rawSigner(t, file))); err == nil {
		c.Close()
		t.Error("a revoked certificate got in inside")
	}
}

// A key of the directory opens an inner connection while it is there, and a robot opens none.
func TestJumpWithOtherKeys(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	l := ldapOf(t, d)
	s := newSystem(t, options{directory: l})
	check(t, s.Store.Users.Delete(t.Context(), s.user("alice")))
	p, err := l.Lookup(t.Context(), "alice")
	check(t, err)
	_, err = s.Store.Users.SeenInDirectory(t.Context(), p.ID, "alice", p.Name, p.Email, p.Groups)
	check(t, err)
	file := filepath.Join(t.TempDir(), "id")
	testenv.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file)
	key := rawSigner(t, file)
	d.SetKeys("alice", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))))
	if out, errs, status := s.jumper(file).run("ssh", "-J", "bastion", s.at("web1"), "echo in"); out != "in\n" || status != 0 {
		t.Fatalf("a key of the directory: %q %q %d", out, errs, status)
	}
	outer := s.outer("alice", ssh.PublicKeys(key), answers("", s.code("alice"), nil))
	d.SetKeys("alice")
	if c, err := s.inside(outer, ssh.PublicKeys(key)); err == nil {
		c.Close()
		t.Error("a key that is gone from the directory got in inside")
	}

	robot := rawSigner(t, s.robot("true"))
	for _, login := range []string{"deploy-bot", "deploy-bot@web1"} {
		if c, err := s.inside(s.outer(login, ssh.PublicKeys(robot)), ssh.PublicKeys(robot)); err == nil {
			c.Close()
			t.Errorf("%s got to a target from inside", login)
		}
	}
}
