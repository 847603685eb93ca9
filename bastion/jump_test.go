package bastion_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// jumper is alice with an ssh_config of her own, in which web* and down are behind the host bastion.
type jumper struct {
	*testenv.OpenSSH
	s      *system
	Config string // file
}

// jumper writes the ssh_config: with key, or with password and code if that is "". extra are lines of it.
func (s *system) jumper(key string, extra ...string) *jumper {
	s.t.Helper()
	c := s.ssh()
	identity := "PubkeyAuthentication no"
	if key != "" {
		identity, c.Password = "IdentityFile "+key, ""
	}
	_, port, _ := net.SplitHostPort(s.Addr)
	file := filepath.Join(s.t.TempDir(), "config")
	check(s.t, os.WriteFile(file, []byte(fmt.Sprintf(`%s
Host bastion
  HostName 127.0.0.1
  Port %s
  User alice
  HostKeyAlias bastion
Host web* vault* down
  ProxyJump bastion
Host *
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  LogLevel ERROR
  IdentitiesOnly yes
  IdentityAgent none
  NumberOfPasswordPrompts 1
  %s
`, strings.Join(extra, "\n"), port, identity)), 0o600))
	return &jumper{OpenSSH: c, s: s, Config: file}
}

// run runs a client program to its end.
func (j *jumper) run(program string, args ...string) (stdout, stderr string, status int) {
	j.s.t.Helper()
	return testenv.Finish(j.s.t, j.Command(j.s.t, program, append([]string{"-F", j.Config}, args...)...))
}

// at is what alice types to be herself at a target.
func (s *system) at(target string) string { return s.SSHD.Account + "@" + target }

// ssh -J and ProxyJump: with a key, or with password and code for the outer connection alone, the inner
// one is a session like any other: exit status, stderr apart, row, recording, events.
func TestJump(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		s := newSystem(t, o)
		key := s.userKey("alice")
		for name, c := range map[string]struct {
			key   string
			proof string
			args  []string
		}{
			"key":              {key, "key", []string{"-J", "bastion", s.at("web1")}},
			"password":         {"", "once", []string{"-J", "bastion", s.at("web1")}},
			"ProxyJump":        {key, "key", []string{s.at("web1")}},
			"ProxyCommand":     {"", "once", []string{"-o", "ProxyJump=none", "-o", "ProxyCommand=ssh -F %d/config -W %h:%p bastion", s.at("web1")}},
			"another bastion@": {"", "once", []string{"-o", "ProxyJump=alice@bastion", s.at("web1")}},
		} {
			j := s.jumper(c.key)
			for i := range c.args {
				c.args[i] = strings.ReplaceAll(c.args[i], "%d/config", j.Config)
			}
			out, errs, status := j.run("ssh", append(c.args, "echo to-stdout; echo to-stderr >&2; exit 7")...)
			if out != "to-stdout\n" || errs != "to-stderr\n" || status != 7 {
				t.Fatalf("%s: stdout %q, stderr %q, status %d", name, out, errs, status)
			}
			row := s.session()
			if row.User != "alice" || row.Target != "web1" || row.Account != s.SSHD.Account || row.Source != "127.0.0.1" || row.State != store.Ended || len(row.Channels) != 1 {
				t.Fatalf("%s: row %+v", name, row)
			}
			if got := s.recorded(row.Channels[0].Recording); !strings.Contains(got, "to-stdout\n") || !strings.Contains(got, "to-stderr\n") {
				t.Errorf("%s: recorded %q", name, got)
			}
			if (row.KeyFingerprint != "") != (c.key != "") {
				t.Errorf("%s: the row names the key %q", name, row.KeyFingerprint)
			}
			logins := s.details("login.accepted")
			outer, inner := logins[len(logins)-2], logins[len(logins)-1]
			if outer["inner"] != "" || inner["inner"] != c.proof || inner["outer-since"] == "" || inner["factors"] != outer["factors"] {
				t.Errorf("%s: events of outer %v and inner %v", name, outer, inner)
			}
		}
	})
}

// scp in both protocols, sftp and rsync work through ProxyJump as they do directly.
func TestJumpTransfers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	key := s.userKey("alice")
	dir := t.TempDir()
	from := filepath.Join(dir, "from")
	write(t, from, 3<<20)
	want, err := os.ReadFile(from)
	check(t, err)
	batch := filepath.Join(dir, "batch")
	check(t, os.WriteFile(batch, []byte("put "+from+" "+filepath.Join(dir, "sftp")+"\n"), 0o600))
	for name, args := range map[string][]string{
		"scp":    {"scp", from, s.at("web1") + ":" + filepath.Join(dir, "scp")},
		"scp -O": {"scp", "-O", from, s.at("web1") + ":" + filepath.Join(dir, "scp-O")},
		"sftp":   {"sftp", "-o", "BatchMode=no", "-b", batch, s.at("web1")},
		"rsync":  {"rsync", from, s.at("web1") + ":" + filepath.Join(dir, "rsync")},
	} {
		j := s.jumper(key)
		var cmd *exec.Cmd
		if name == "rsync" {
			cmd = j.Command(t, "rsync", append([]string{"-e", "ssh -F " + j.Config}, args[1:]...)...)
		} else {
			cmd = j.Command(t, args[0], append([]string{"-F", j.Config}, args[1:]...)...)
		}
		if _, errs, status := testenv.Finish(t, cmd); status != 0 {
			t.Errorf("%s: status %d, %s", name, status, errs)
			continue
		}
		got, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(name, " ", "")))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes came, %v", name, len(got), err)
		}
		if row := s.session(); row.User != "alice" || len(row.Channels) != 1 || row.Channels[0].Recording == "" && row.Channels[0].Kind == "exec" {
			t.Errorf("%s: row %+v", name, row)
		}
	}
}

// A target is found by its name and by its address, at its port whatever that is.
func TestJumpByAddress(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['web*']}\n"})
	key := s.userKey("alice")
	_, port, _ := net.SplitHostPort(s.SSHD.Addr)
	for _, args := range [][]string{
		{s.at("web1")}, {"-p", port, s.at("web1")}, {s.at("WEB1")}, {"-p", port, s.at("127.0.0.1")}, {"-p", port, s.at("localhost")},
		{"-p", port, s.at("::ffff:127.0.0.1")},
	} {
		out, errs, status := s.jumper(key).run("ssh", append(append([]string{"-J", "bastion"}, args...), "echo in")...)
		if out != "in\n" || status != 0 || s.session().Target != "web1" {
			t.Errorf("%v: %q %q %d", args, out, errs, status)
		}
	}
	sessions := len(s.events("session.started"))
	for _, c := range []struct {
		want string
		args []string
	}{
		{"no target web9, or no rule", []string{s.at("web9")}},
		{"no target down, or no rule", []string{"-p", "1", s.at("down")}},
		{"no target 127.0.0.1, or no rule", []string{s.at("127.0.0.1")}},
		{"no target 127.0.0.1, or no rule", []string{"-p", "1", s.at("127.0.0.1")}},
		{"no target was named", []string{"-p", "8080", s.at("web1")}},
		{"web1:1 is not the SSH port of web1", []string{"-p", "1", s.at("web1")}},
	} {
		_, errs, status := s.jumper(key, "LogLevel INFO").run("ssh", append(append([]string{"-J", "bastion"}, c.args...), "echo in")...)
		if status != 255 || !strings.Contains(errs, c.want) {
			t.Errorf("%v: %q %d", c.args, errs, status)
		}
	}
	_, err := s.Store.Targets.Add(context.Background(), store.Target{Name: "web2", Address: s.SSHD.Addr, Accounts: []string{"root"}, HostKeyMode: store.TOFU})
	check(t, err)
	if _, errs, status := s.jumper(key, "LogLevel INFO").run("ssh", "-J", "bastion", "-p", port, s.at("127.0.0.1"), "echo in"); status != 255 || !strings.Contains(errs, "no target was named: several have this address") {
		t.Errorf("two targets at one address: %q %d", errs, status)
	}
	if n := len(s.events("session.started")); n != sessions {
		t.Errorf("%d sessions were started", n-sessions)
	}
}

// What the rules say of the inner connection is told where the person reads it.
func TestJumpRefusals(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: `version: 1
rules:
  - {name: no-vault, deny: true, targets: [vault], message: vault is reached from the office only}
  - {name: exec-only, users: ["*"], targets: [web1], channels: [exec]}
  - {name: down, users: ["*"], targets: [down]}
`})
	_, err := s.Store.Targets.Add(context.Background(), store.Target{Name: "vault", Address: "10.9.8.7:22", Accounts: []string{"root"}, HostKeyMode: store.TOFU})
	check(t, err)
	key := s.userKey("alice")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"vault is reached from the office only (rule no-vault)", []string{"root@vault", "true"}},
		{"You asked for account nobody2 of web1; open to you: " + s.SSHD.Account, []string{"nobody2@web1", "true"}},
		{"cannot reach down", []string{"root@down", "true"}},
	} {
		out, errs, status := s.jumper(key, "LogLevel INFO").run("ssh", c.args...)
		if out != "" || status != 255 || !strings.Contains(errs, c.want) {
			t.Errorf("%v: %q %q %d", c.args, out, errs, status)
		}
	}
	j := s.jumper(key)
	if out, errs, status := testenv.Finish(t, j.Command(t, "sftp", "-F", j.Config, "-b", "/dev/null", s.at("web1"))); status == 0 {
		t.Errorf("sftp passes a rule for exec: %q %q", out, errs)
	}
	if out, _, status := s.jumper(key).run("ssh", s.at("web1"), "echo in"); out != "in\n" || status != 0 {
		t.Errorf("exec: %q %d", out, status)
	}
}

// Host keys: clients that trust the CA, and those that have the plain key, are content under strict
// checking; others refuse.
func TestJumpHostKeys(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	key := s.userKey("alice")
	_, port, _ := net.SplitHostPort(s.SSHD.Addr)
	outer := "bastion " + string(ssh.MarshalAuthorizedKey(s.HostKey))
	ca := string(ssh.MarshalAuthorizedKey(s.HostCA.PublicKey()))
	strict := func(lines string) *jumper {
		file := filepath.Join(t.TempDir(), "known_hosts")
		check(t, os.WriteFile(file, []byte(outer+lines), 0o600))
		return s.jumper(key, "StrictHostKeyChecking yes", "UserKnownHostsFile "+file)
	}
	c := s.outer("alice")
	defer c.Close()
	plain := s.plainKey(c, "web1:22")
	for name, j := range map[string]*jumper{
		"CA":        strict("@cert-authority web* " + ca),
		"plain key": strict("web1 " + string(ssh.MarshalAuthorizedKey(plain))),
	} {
		if out, errs, status := j.run("ssh", s.at("web1"), "echo in"); out != "in\n" || status != 0 {
			t.Errorf("%s: %q %q %d", name, out, errs, status)
		}
	}
	for _, args := range [][]string{{"-p", port, s.at("web1")}, {"-p", port, "-J", "bastion", s.at("127.0.0.1")}, {"-J", "bastion", s.at("WEB1")}} {
		if out, errs, status := strict("@cert-authority web1,127.0.0.1 "+ca).run("ssh", append(args, "echo in")...); out != "in\n" || status != 0 {
			t.Errorf("CA for %v: %q %q %d", args, out, errs, status)
		}
	}
	for name, lines := range map[string]string{
		"nothing known": "", "CA of other hosts": "@cert-authority db* " + ca, "another CA": "@cert-authority web* " + string(ssh.MarshalAuthorizedKey(newSigner(t).PublicKey())),
	} {
		if _, errs, status := strict(lines).run("ssh", s.at("web1"), "echo in"); status != 255 || !strings.Contains(errs, "Host key verification failed") {
			t.Errorf("%s: %q %d", name, errs, status)
		}
	}
}

// plainKey is the host key that is shown in the place of a target inside of c.
func (s *system) plainKey(c *ssh.Client, to string) (plain ssh.PublicKey) {
	s.t.Helper()
	conn, err := c.Dial("tcp", to)
	check(s.t, err)
	defer conn.Close()
	_, _, _, err = ssh.NewClientConn(conn, to, &ssh.ClientConfig{User: s.SSHD.Account, HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { plain = k; return io.EOF }})
	if err == nil || plain == nil {
		s.t.Fatalf("no plain key: %v", err)
	}
	return plain
}

// A forward of the client to a target's SSH port is answered by the bastion, which asks whoever comes
// through it for a code: no byte reaches the target raw, with a target outside or without.
func TestJumpThroughListener(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	s := newSystem(t, options{})
	c := s.ssh()
	c.Login = "alice"
	running(t, c, "-L", socket+":web1:22")
	connect(t, "unix", socket).Close()
	proxied := &testenv.OpenSSH{Addr: s.Addr, Login: s.SSHD.Account, Options: []string{"ProxyCommand=perl -MIO::Socket::UNIX -e '" +
		`$s = IO::Socket::UNIX->new(shift) or die; if (fork) { print STDOUT $b while sysread $s, $b, 9999 and $| = 1 } else { print $s $b while sysread STDIN, $b, 9999 and $s->autoflush }' ` + socket}}
	if out, errs, status := proxied.Output(t, "echo in"); status != 255 || out != "" || !strings.Contains(errs, "Permission denied") {
		t.Errorf("a listening socket, without a code: %q %q %d", out, errs, status)
	}
	for _, login := range []string{"alice", "alice@web1"} {
		s := newSystem(t, options{rules: forwardRules})
		near := testenv.FreeAddr(t)
		c := s.ssh()
		c.Login = login
		running(t, c, "-L", near+":web1:22")
		conn := connect(t, "tcp", near)
		line := make([]byte, 17)
		check(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		if _, err := io.ReadFull(conn, line); err != nil || string(line) != "SSH-2.0-Sallyport" {
			t.Fatalf("%s: %q %v answers", login, line, err)
		}
		conn.Close()
		other := &testenv.OpenSSH{Addr: near, Login: s.SSHD.Account}
		if out, errs, status := other.Output(t, "echo in"); status != 255 || out != "" || !strings.Contains(errs, "Permission denied") {
			t.Errorf("%s: another program without a code: %q %q %d", login, out, errs, status)
		}
		other.Code = func() string { return s.code("alice") }
		out, errs, status := other.Output(t, "echo in")
		if out != "in\n" || status != 0 {
			t.Fatalf("%s: another program with a code: %q %q %d", login, out, errs, status)
		}
		row := s.session()
		if row.User != "alice" || row.Account != s.SSHD.Account || len(row.Channels) != 1 || !strings.Contains(s.recorded(row.Channels[0].Recording), "in\n") {
			t.Errorf("%s: row %+v", login, row)
		}
		if n := len(s.details("channel.ended")); n != 1 {
			t.Errorf("%s: %d channels have ended, want the recorded one", login, n)
		}
	}
}

// One ControlMaster connection carries many inner ones: with a key as many as one likes, with a password
// the first one; the next is asked for a code.
func TestJumpControlMaster(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for _, key := range []string{"", s.userKey("alice")} {
		control := filepath.Join(t.TempDir(), "m")
		extra := []string{"Host bastion", "ControlPath " + control, "Host *"}
		master := s.jumper(key, extra...)
		cmd := master.Command(t, "ssh", "-F", master.Config, "-M", "-N", "bastion")
		check(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		testenv.WaitFor(t, "the control socket", func() bool { _, err := os.Stat(control); return err == nil })
		j := s.jumper(key, extra...)
		j.Code = nil
		for i := range 3 {
			out, errs, status := j.run("ssh", s.at("web1"), "echo in")
			in := out == "in\n" && status == 0
			if in != (key != "" || i == 0) {
				t.Errorf("key %v, inner connection %d: %q %q %d", key != "", i, out, errs, status)
			}
		}
		j.Code = func() string { return s.code("alice") }
		if out, errs, status := j.run("ssh", s.at("web1"), "echo in"); out != "in\n" || status != 0 {
			t.Errorf("key %v, with a code: %q %q %d", key != "", out, errs, status)
		}
	}
}

// ssh -J over two hosts is answered by the bastion both times: the session is at the second, and nothing
// runs on the first.
func TestJumpOverTwo(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['web*']}\n"})
	_, err := s.Store.Targets.Add(context.Background(), store.Target{Name: "web2", Address: "127.0.0.2:1", Accounts: []string{"root"}, HostKeyMode: store.TOFU})
	check(t, err)
	for _, key := range []string{"", s.userKey("alice")} {
		out, errs, status := s.jumper(key).run("ssh", "-J", "bastion,root@web2", s.at("web1"), "echo in; exit 3")
		if out != "in\n" || status != 3 {
			t.Fatalf("key %v: %q %q %d", key != "", out, errs, status)
		}
		if row := s.session(); row.Target != "web1" || row.User != "alice" {
			t.Errorf("row %+v", row)
		}
	}
	if n := len(s.events("session.started")); n != 2 {
		t.Errorf("%d sessions, want the two at web1", n)
	}
}

// Dropbear's way over several hosts.
func TestJumpDropbear(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	_, port, _ := net.SplitHostPort(s.Addr)
	cmd := exec.Command("/usr/bin/dbclient", "-y", "-y", "alice@127.0.0.1^"+port+","+s.at("web1"), "echo out-$((40+2)); exit 5")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "TERM=xterm")
	term := testenv.StartTerminal(t, cmd, 100, 30)
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("out-42")
	if status := term.Wait(); status != 5 || s.session().User != "alice" {
		t.Errorf("exit status %d; screen:\n%s", status, term.Screen())
	}
}
