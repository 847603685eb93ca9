package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/admin"
	"sallyport/internal/testenv"
)

// person adds alice, who comes with a key and needs no code from here, and returns her ssh.
func (o *operated) person(target string) *testenv.OpenSSH {
	o.t.Helper()
	key := filepath.Join(o.dir, "alice")
	testenv.Run(o.t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key)
	o.ok("user", "add", "alice", "--group", "ops", "--password-file", o.file("password", "correct horse battery\n"))
	pub, err := os.ReadFile(key + ".pub")
	noError(o.t, err)
	o.ok("user", "key", "add", "alice", strings.TrimSpace(string(pub)))
	o.ok("token", "add", "alice")
	o.ok("apply", "-f", o.file("rules.yaml", "version: 1\nrules:\n  - {name: ops, users: ['group:ops'], targets: ['*'], from: [127.0.0.1], code: none}\n"))
	return &testenv.OpenSSH{Addr: o.node.ssh.Addr().String(), Login: "alice@" + target, KeyFile: key}
}

// A person goes through the bastion to a target that trusts its CA, by what onboard prints, and the
// target's log tells who it was.
func TestCertificateTarget(t *testing.T) {
	t.Parallel()
	o := startOperatedAt(t, "127.0.0.1")
	ca := strings.TrimSpace(o.ok("ca", "show"))
	file := filepath.Join(t.TempDir(), "ca.pub")
	noError(t, os.WriteFile(file, []byte(ca+"\n"), 0o600))
	sshd := testenv.StartSSHD(t, "TrustedUserCAKeys "+file)
	o.ok("target", "add", "web1", "--address", sshd.Addr, "--account", sshd.Account, "--host-key", sshd.HostKey, "--credential", "certificate")
	c := o.person("web1")
	r := o.run("target", "onboard", "web1")
	if r.code != 0 || strings.TrimSpace(r.out) != ca || !strings.Contains(r.err, "TrustedUserCAKeys") {
		t.Errorf("onboard: %+v", r)
	}
	if out := o.ok("target", "check", "web1"); !strings.Contains(out, "the bastion's certificate opens account") {
		t.Errorf("check: %q", out)
	}
	out, errs, status := c.Output(t, "echo through; exit 7")
	if out != "through\n" || status != 7 {
		t.Fatalf("ssh: %q %q %d", out, errs, status)
	}
	sessions := object[[]admin.Session](o, "session", "list")
	if len(sessions) != 1 || !strings.Contains(sshd.Log(), "ID alice/"+sessions[0].ID) {
		t.Errorf("sessions %+v, the target's log:\n%s", sessions, sshd.Log())
	}
}

// A rebuilt host: refused with the reason, approved from the inbox, reachable again.
func TestRebuiltTarget(t *testing.T) {
	t.Parallel()
	o := startOperatedAt(t, "127.0.0.1")
	sshd := testenv.StartSSHD(t)
	o.ok("target", "add", "web1", "--address", sshd.Addr, "--account", sshd.Account, "--host-key", testHostKey, "--label", "env=prod", "--credential", "own-key")
	c := o.person("web1")
	line := strings.TrimSpace(o.ok("target", "onboard", "web1"))
	if !strings.Contains(line, `from="127.0.0.1",restrict,pty ssh-ed25519 `) || !strings.HasSuffix(line, " sallyport-web1") {
		t.Errorf("onboard prints %q", line)
	}
	sshd.Authorize(line)
	if out, errs, status := c.Output(t, "echo in"); out != "" || status != 255 || !strings.Contains(errs, "HAS CHANGED") || !strings.Contains(errs, "sallyport hostkey approve web1") {
		t.Errorf("ssh to a changed host: %q %q %d", out, errs, status)
	}
	if out := o.ok("hostkey", "list", "--label", "env=prod"); !strings.Contains(out, "web1") {
		t.Errorf("hostkey list: %q", out)
	}
	if out := o.ok("hostkey", "list", "--label", "env=test"); strings.Contains(out, "web1") {
		t.Errorf("hostkey list of another label: %q", out)
	}
	o.fails(2, "hostkey", "approve")
	o.fails(1, "hostkey", "approve", "db1", "--yes")
	o.fails(1, "hostkey", "approve", "web1") // nobody at a terminal says yes
	o.ok("hostkey", "approve", "--label", "env=prod", "--yes")
	if out, errs, status := c.Output(t, "echo in"); out != "in\n" || status != 0 {
		t.Errorf("ssh after the approval: %q %q %d", out, errs, status)
	}
	o.ok("target", "check", "web1")
	x := object[admin.Target](o, "target", "update", "web1", "--host-key", testHostKey, "--account", sshd.Account, "--label", "env=test")
	if len(x.HostKeys) != 1 || x.Labels["env"] != "test" || x.Credential != "own-key" {
		t.Errorf("target update: %+v", x)
	}
	o.fails(2, "target", "update", "web1")
	o.fails(1, "target", "check", "web1")
	waiting := object[[]admin.WaitingHostKey](o, "hostkey", "list")
	if len(waiting) != 1 {
		t.Fatalf("waiting: %+v", waiting)
	}
	o.ok("hostkey", "reject", waiting[0].Fingerprint, "--yes")
	if _, errs, status := c.Output(t, "echo in"); status != 255 || !strings.Contains(errs, "revoked") && !strings.Contains(errs, "HAS CHANGED") {
		t.Errorf("ssh after the rejection: %q %d", errs, status)
	}
	if left := object[[]admin.WaitingHostKey](o, "hostkey", "list"); len(left) != 0 {
		t.Errorf("a rejected key waits again: %+v", left)
	}
	report := object[[]admin.ImportedKey](o, "hostkey", "import", o.file("known_hosts", knownHost(t, sshd.Addr)+" "+testHostKey+"\n"))
	if len(report) != 1 || report[0].Result != "known" || report[0].Target != "web1" {
		t.Errorf("hostkey import: %+v", report)
	}
}

// knownHost is addr as ssh writes it into known_hosts.
func knownHost(t *testing.T, addr string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	noError(t, err)
	return fmt.Sprintf("[%s]:%s", host, port)
}

// A device that knows only passwords: the bastion has it, people do not.
func TestPasswordTarget(t *testing.T) {
	t.Parallel()
	o := startOperatedAt(t, "127.0.0.1")
	const secret = "bench-of-oak"
	addr, hostKey := device(t, secret)
	args := []string{"target", "add", "switch1", "--address", addr, "--account", "admin", "--host-key", hostKey}
	o.fails(2, append(args, "--credential", "password")...)
	o.fails(2, append(args, "--credential", "key", "--password-file", o.file("p", secret+"\n"))...)
	o.ok(append(args, "--password-file", o.file("p", secret+"\n"))...)
	if x := object[admin.Target](o, "target", "show", "switch1"); x.Credential != "password" {
		t.Errorf("target show: %+v", x)
	}
	// A password works from anywhere, unless something on the way or the device says otherwise.
	if r := o.run("target", "check", "switch1"); r.code != 1 || !strings.Contains(r.out, "the target's password opens account admin") || !strings.Contains(r.err, "firewall") {
		t.Errorf("check: %+v", r)
	}
	r := o.run("target", "onboard", "switch1")
	if r.code != 0 || r.out != "" || !strings.Contains(r.err, "nothing has to be put there") {
		t.Errorf("onboard: %+v", r)
	}
	o.ok("target", "update", "switch1", "--password-file", o.file("p2", "wrong\n"))
	if text := o.fails(1, "target", "check", "switch1"); strings.Contains(text, "wrong\n") {
		t.Errorf("check with a wrong password: %q", text)
	}
	all := o.ok("-o", "json", "audit", "list") + o.ok("-o", "json", "target", "list")
	if strings.Contains(all, secret) {
		t.Error("the password is in what operators read")
	}
}

// device is an SSH server that takes a password by one prompt, as network devices do.
func device(t *testing.T, password string) (addr, hostKey string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	noError(t, err)
	key, err := ssh.NewSignerFromKey(private)
	noError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	t.Cleanup(func() { l.Close() })
	cfg := &ssh.ServerConfig{KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := ask("", "", []string{"Password: "}, []bool{false})
		if err != nil || len(answers) != 1 || answers[0] != password {
			return nil, errors.Join(err, errors.New("wrong"))
		}
		return nil, nil
	}}
	cfg.AddHostKey(key)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, chans, reqs, err := ssh.NewServerConn(c, cfg)
				if err != nil {
					return
				}
				go ssh.DiscardRequests(reqs)
				for nc := range chans {
					_ = nc.Reject(ssh.Prohibited, "no shell here")
				}
			}()
		}
	}()
	return l.Addr().String(), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
}

// ssh -J through a server with what hostca prints as all that the client knows of the target.
func TestHostCA(t *testing.T) {
	t.Parallel()
	o := startOperatedAt(t, "127.0.0.1")
	o.fails(1, "hostca")
	if line := o.ok("hostca", "--hosts", "*.example.org"); !strings.HasPrefix(line, "@cert-authority *.example.org ssh-ed25519 ") {
		t.Errorf("with patterns: %q", line)
	}
	o.fails(2, "hostca", "--hosts", "a b")
	sshd := testenv.StartSSHD(t)
	o.ok("target", "add", "web1", "--address", sshd.Addr, "--account", sshd.Account, "--host-key", sshd.HostKey)
	sshd.Authorize(o.node.Dialer.AuthorizedKey())
	c := o.person("web1")
	o.ok("apply", "-f", o.file("rules.yaml", "version: 1\nrules:\n  - {name: ops, users: ['group:ops'], targets: ['*']}\n"))
	issued := object[admin.IssuedToken](o, "token", "add", "alice", "--name", "phone")
	line := strings.TrimSpace(o.ok("hostca"))
	if ca := object[admin.HostCA](o, "hostca"); ca.KnownHosts != line || !strings.HasPrefix(line, "@cert-authority 127.0.0.1,web1 ") {
		t.Errorf("%q, %+v", line, ca)
	}
	dir := t.TempDir()
	known := filepath.Join(dir, "known_hosts")
	_, port, _ := net.SplitHostPort(c.Addr)
	host := fmt.Sprintf("[127.0.0.1]:%s %s", port, ssh.MarshalAuthorizedKey(o.node.HostKey.PublicKey()))
	noError(t, os.WriteFile(known, []byte(host+line+"\n"), 0o600))
	file := filepath.Join(dir, "config")
	noError(t, os.WriteFile(file, []byte("UserKnownHostsFile "+known+"\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nIdentitiesOnly yes\nIdentityAgent none\nIdentityFile "+c.KeyFile+"\n"), 0o600))
	c.Code = func() string { return testenv.Oathtool(t, issued.Secret, time.Now()) }
	out, errs, status := testenv.Finish(t, c.Command(t, "ssh", "-F", file, "-J", "alice@"+c.Addr, sshd.Account+"@web1", "echo in; exit 7"))
	if out != "in\n" || status != 7 {
		t.Errorf("ssh -J: %q %q %d", out, errs, status)
	}
}

// The key that vouches for hosts changes while people use ssh -J, who trust only what hostca prints: rotate, give them both
// lines, activate. Nobody is asked anything; whoever did not get the new line is refused, and so is the old key where its
// line says @revoked. With other host keys, the certificates are for those.
func TestOperatorRotatesHostCA(t *testing.T) {
	t.Parallel()
	o := startOperatedAt(t, "127.0.0.1")
	sshd := testenv.StartSSHD(t)
	o.ok("target", "add", "web1", "--address", sshd.Addr, "--account", sshd.Account, "--host-key", sshd.HostKey)
	sshd.Authorize(o.node.Dialer.AuthorizedKey())
	c := o.person("web1")
	o.ok("apply", "-f", o.file("rules.yaml", "version: 1\nrules:\n  - {name: ops, users: ['group:ops'], targets: ['*']}\n"))
	_, port, _ := net.SplitHostPort(c.Addr)
	host := fmt.Sprintf("[127.0.0.1]:%s %s", port, ssh.MarshalAuthorizedKey(o.node.HostKey.PublicKey()))
	dir := t.TempDir()
	known, file := filepath.Join(dir, "known_hosts"), filepath.Join(dir, "config")
	noError(t, os.WriteFile(file, []byte("UserKnownHostsFile "+known+"\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nIdentitiesOnly yes\nIdentityAgent none\nIdentityFile "+c.KeyFile+"\n"), 0o600))
	trusts := func(lines string, want bool) {
		t.Helper()
		noError(t, os.WriteFile(known, []byte(host+lines), 0o600))
		issued := object[admin.IssuedToken](o, "token", "add", "alice", "--name", "for one login")
		c.Code = func() string { return testenv.Oathtool(t, issued.Secret, time.Now()) }
		out, errs, status := testenv.Finish(t, c.Command(t, "ssh", "-F", file, "-J", "alice@"+c.Addr, sshd.Account+"@web1", "echo in"))
		if got := out == "in\n" && status == 0; got != want || !want && !strings.Contains(errs, "Host key verification failed") {
			t.Errorf("with %q: %q %q %d", lines, out, errs, status)
		}
	}
	first := o.ok("hostca")
	o.fails(1, "hostca", "activate")
	o.ok("hostca", "rotate")
	o.fails(1, "hostca", "rotate")
	both := o.run("hostca").out
	if !strings.HasPrefix(both, first) || strings.Count(both, "\n") != 2 {
		t.Errorf("hostca: %q", both)
	}
	trusts(first, true)
	if dropped := o.run("hostca", "drop"); !strings.HasPrefix(dropped.out, "@revoked * ssh-ed25519 ") || strings.Fields(dropped.out)[3] != strings.Fields(both)[8] || o.run("hostca").out != first {
		t.Errorf("hostca drop: %+v", dropped)
	}
	o.fails(1, "hostca", "drop", "--yes")
	o.ok("hostca", "rotate")
	if again := o.run("hostca").out; again == both || !strings.HasPrefix(again, first) {
		t.Errorf("hostca, after another rotate: %q", again)
	}
	both = o.run("hostca").out
	revoked := o.run("hostca", "activate").out
	second := o.run("hostca").out
	if strings.Count(second, "\n") != 1 || second == first || !strings.HasPrefix(revoked, "@revoked * ssh-ed25519 ") || strings.Fields(revoked)[3] != strings.Fields(first)[3] {
		t.Errorf("after the change: %q, %q", second, revoked)
	}
	trusts(both, true)
	trusts(first, false)
	trusts(revoked+second, true)
	o.ok("hostca", "rotate")
	o.run("hostca", "activate", "--host-keys")
	trusts(second, false)
	trusts(o.run("hostca").out, true)
	log := o.ok("-o", "json", "audit", "list", "--type", "operator.change")
	for _, want := range []string{"hostca.rotate", "hostca.activate", "hostca.drop", `"host-keys"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the audit log does not tell of %s", want)
		}
	}
}

// The keys of the CA change while the target is there: rotate, put both lines there, activate, retire.
func TestOperatorRotatesCA(t *testing.T) {
	t.Parallel()
	o := startOperatedAt(t, "127.0.0.1")
	file := filepath.Join(t.TempDir(), "ca.pub")
	rollOut := func() string {
		t.Helper()
		r := o.run("ca", "show")
		noError(t, os.WriteFile(file, []byte(r.out), 0o600))
		return r.out
	}
	first := rollOut()
	sshd := testenv.StartSSHD(t, "TrustedUserCAKeys "+file)
	o.ok("target", "add", "web1", "--address", sshd.Addr, "--account", sshd.Account, "--host-key", sshd.HostKey, "--credential", "certificate")
	o.ok("target", "check", "web1")
	o.fails(1, "ca", "activate")
	o.fails(1, "ca", "retire")
	o.ok("ca", "rotate")
	o.fails(1, "ca", "rotate")
	waits := object[admin.UserCA](o, "ca", "show").Keys[1]
	if r := o.run("ca", "drop"); r.code != 0 || rollOut() != first {
		t.Errorf("ca drop: %+v", r)
	}
	o.fails(1, "ca", "drop", "--yes")
	o.ok("ca", "rotate")
	if again := object[admin.UserCA](o, "ca", "show").Keys[1]; waits.State != "next" || again.State != "next" || again.PublicKey == waits.PublicKey {
		t.Errorf("ca show: %+v, then %+v", waits, again)
	}
	o.ok("target", "check", "web1")
	if both := rollOut(); strings.Count(both, "\n") != 2 || !strings.HasPrefix(both, first) || !strings.Contains(both, "sallyport-user-ca-next") {
		t.Errorf("ca show: %q", both)
	}
	if r := o.run("target", "onboard", "web1"); strings.Count(r.out, "\n") != 2 {
		t.Errorf("onboard: %+v", r)
	}
	o.ok("ca", "activate")
	o.ok("target", "check", "web1")
	o.ok("ca", "retire")
	if left := rollOut(); strings.Count(left, "\n") != 1 || left == first {
		t.Errorf("ca show: %q", left)
	}
	o.ok("target", "check", "web1")
	ca := object[admin.UserCA](o, "ca", "show")
	if len(ca.Keys) != 1 || ca.Keys[0].State != "active" || ca.PublicKey != ca.Keys[0].PublicKey {
		t.Errorf("ca show: %+v", ca)
	}
	log := o.ok("-o", "json", "audit", "list")
	for _, want := range []string{"ca.rotate", "ca.drop", "ca.activate", "ca.retire", ca.Fingerprint} {
		if !strings.Contains(log, want) {
			t.Errorf("the audit log does not tell of %s:\n%s", want, log)
		}
	}
}

// A target behind another one, from the first command to a session with OpenSSH.
func TestOperatorJumpHost(t *testing.T) {
	t.Parallel()
	o := startOperatedAt(t, "127.0.0.1")
	jump, web := testenv.StartSSHD(t), testenv.StartSSHD(t)
	o.ok("target", "add", "jump1", "--address", jump.Addr, "--account", jump.Account, "--host-key", jump.HostKey)
	via := jump.Account + "@jump1"
	o.ok("target", "add", "web1", "--address", web.Addr, "--account", web.Account, "--via", via, "--host-key", testHostKey)
	c := o.person("web1")
	if line := strings.TrimSpace(o.run("target", "onboard", "jump1").out); !strings.Contains(line, ",port-forwarding ") {
		t.Errorf("onboard of the jump host: %q", line)
	} else {
		jump.Authorize(line)
	}
	r := o.run("target", "onboard", "web1")
	if !strings.HasPrefix(r.out, `from="127.0.0.1",restrict,pty ssh-`) || !strings.Contains(r.err, "is reached through jump1") {
		t.Errorf("onboard: %+v", r)
	}
	web.Authorize(strings.TrimSpace(r.out))
	o.ok("target", "delete", "web1", "--yes")
	o.ok("target", "add", "web1", "--address", web.Addr, "--account", web.Account, "--via", via, "--tofu", "--yes") // looked at through jump1
	if out := o.ok("target", "check", "web1"); !strings.Contains(out, "jump1: login") || !strings.Contains(out, "the target sees jump1 as 127.0.0.1") {
		t.Errorf("check: %q", out)
	}
	x := object[admin.Target](o, "target", "show", "web1")
	if x.Via != via || !slices.ContainsFunc(x.HostKeys, func(k admin.HostKey) bool { return k.Key == web.HostKey }) {
		t.Errorf("show: %+v", x)
	}
	if out, errs, status := c.Output(t, "echo through; exit 7"); out != "through\n" || status != 7 {
		t.Errorf("ssh: %q %q %d", out, errs, status)
	}
	jump.Authorize("")
	if out, errs, status := c.Output(t, "true"); status != 255 || !strings.Contains(errs, "cannot reach web1 through jump1: jump1 (") {
		t.Errorf("ssh: %q %q %d", out, errs, status)
	}
	if text := o.fails(1, "target", "delete", "jump1", "--yes"); !strings.Contains(text, "other targets go through jump1: web1") {
		t.Errorf("delete: %q", text)
	}
	if text := o.fails(1, "target", "update", "jump1", "--via", "web1"); !strings.Contains(text, "goes round in a circle") {
		t.Errorf("update: %q", text)
	}
	o.fails(1, "target", "add", "web2", "--address", web.Addr, "--via", "nobody", "--host-key", web.HostKey)
	o.ok("target", "update", "web1", "--via", "-")
	o.ok("target", "delete", "jump1", "--yes")
}
