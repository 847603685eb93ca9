package main

import (
	"bufio"
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/internal/testenv"
)

// keyPair makes a key by ssh-keygen and returns its file.
func (o *operated) keyPair(name string) string {
	o.t.Helper()
	file := filepath.Join(o.dir, name)
	testenv.Run(o.t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file)
	return file
}

// behind puts a real sshd behind the bastion as web1.
func (o *operated) behind() *testenv.SSHD {
	o.t.Helper()
	sshd := testenv.StartSSHD(o.t)
	o.ok("target", "add", "web1", "--address", sshd.Addr, "--account", sshd.Account, "--host-key", sshd.HostKey)
	sshd.Authorize(strings.TrimPrefix(strings.TrimSpace(o.ok("target", "onboard", "web1")), `from="192.0.2.10",`)) // the test comes from elsewhere
	return sshd
}

// A robot from its making to its end, as an operator and a script see it (B16).
func TestOperatorRobots(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	sshd := o.behind()
	key := o.keyPair("deploy")
	add := []string{"robot", "add", "deploy-bot", "--key-file", key + ".pub", "--from", "127.0.0.1", "--target", "web1", "--account", sshd.Account,
		"--command", "echo restarted", "--command", "echo up; sleep 60", "--note", "build server", "--expires", "90d"}
	r := object[admin.Robot](o, add...)
	if r.Name != "deploy-bot" || r.State != "ok" || len(r.Commands) != 2 || r.Expires == nil || time.Until(*r.Expires) < 89*24*time.Hour {
		t.Errorf("robot add: %+v", r)
	}
	o.fails(1, add...)
	o.fails(2, "robot", "add", "x-bot")
	o.fails(2, "robot", "add", "x-bot", "--key-file", o.file("none", "no key\n"), "--from", "127.0.0.1", "--target", "web1", "--account", "a", "--command", "id")
	o.fails(1, "user", "add", "deploy-bot", "--no-password")

	client := &testenv.OpenSSH{Addr: o.node.ssh.Addr().String(), Login: "deploy-bot@web1", KeyFile: key, Options: []string{"BatchMode=yes"}}
	if out, errs, status := client.Output(t, "echo restarted"); out != "restarted\n" || errs != "" || status != 0 {
		t.Fatalf("ssh: %q %q %d", out, errs, status)
	}
	if out, errs, status := client.Output(t, "echo restarted; id"); out != "" || status != 255 || !strings.Contains(errs, "sallyport robot show deploy-bot") {
		t.Errorf("another command: %q %q %d", out, errs, status)
	}
	if out := o.ok("robot", "list"); !strings.Contains(out, "deploy-bot") || !strings.Contains(out, "127.0.0.1") {
		t.Errorf("robot list: %q", out)
	}
	if out := o.ok("robot", "show", "deploy-bot"); !strings.Contains(out, "echo restarted") || !strings.Contains(out, "build server") {
		t.Errorf("robot show: %q", out)
	}
	if out := o.ok("explain", "--user", "deploy-bot", "--target", "web1", "--from", "127.0.0.1"); !strings.Contains(out, "robot deploy-bot") {
		t.Errorf("explain: %q", out)
	}

	// Disabled while a command runs: the session ends, and nothing begins again.
	running := client.SSH(t, "echo up; sleep 60")
	var errs bytes.Buffer
	running.Stderr = &errs
	out, err := running.StdoutPipe()
	noError(t, err)
	noError(t, running.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		t.Fatalf("the command shows %q, %v", line, err)
	}
	o.ok("robot", "disable", "deploy-bot")
	ended := make(chan error, 1)
	go func() { ended <- running.Wait() }()
	select {
	case err := <-ended:
		// Whichever is first: the one who changed it, or the look at what is open that follows each change.
		if err == nil || !strings.Contains(errs.String(), "the robot was changed") && !strings.Contains(errs.String(), "this robot was disabled") {
			t.Errorf("the session ended with %v, %q", err, errs.String())
		}
	case <-time.After(time.Minute):
		_ = running.Process.Kill()
		t.Error("the session went on")
	}
	if out, _, status := client.Output(t, "echo restarted"); out != "" || status == 0 {
		t.Errorf("a disabled robot: %q %d", out, status)
	}
	o.ok("robot", "enable", "deploy-bot")
	o.fails(2, "robot", "update", "deploy-bot")
	r = object[admin.Robot](o, "robot", "update", "deploy-bot", "--command", "echo other", "--expires", "never", "--note", "")
	if len(r.Commands) != 1 || r.Expires != nil || r.Note != "" || len(r.Targets) != 1 {
		t.Errorf("robot update: %+v", r)
	}
	if out, errs, status := client.Output(t, "echo other"); out != "other\n" || status != 0 {
		t.Errorf("after the update: %q %q %d", out, errs, status)
	}
	o.ok("robot", "remove", "deploy-bot", "--yes")
	o.fails(1, "robot", "show", "deploy-bot")
	if out, _, status := client.Output(t, "echo other"); out != "" || status == 0 {
		t.Errorf("a removed robot: %q %d", out, status)
	}
}

// People come with certificates of an authority that an operator lists, until it is revoked, disabled or removed.
func TestOperatorUserCAs(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.behind()
	o.ok("user", "add", "alice", "--group", "ops", "--no-password")
	o.ok("apply", "-f", o.file("rules.yaml", "version: 1\nrules:\n  - {name: ops, users: ['group:ops'], targets: ['*'], from: [127.0.0.1], code: none}\n"))
	authority := o.keyPair("ca")
	ca := object[admin.LoginCA](o, "user-ca", "add", "people", "--key-file", authority+".pub")
	if ca.Name != "people" || !ca.Enabled || len(ca.Revoked) != 0 {
		t.Errorf("user-ca add: %+v", ca)
	}
	o.fails(2, "user-ca", "add", "people")
	o.fails(1, "user-ca", "add", "again", "--key-file", authority+".pub")
	issue := func(serial string) *testenv.OpenSSH {
		key := o.keyPair("alice-" + serial)
		testenv.Run(t, "ssh-keygen", "-q", "-s", authority, "-I", "alice@laptop-"+serial, "-z", serial, "-n", "alice", "-V", "+1h", key+".pub")
		return &testenv.OpenSSH{Addr: o.node.ssh.Addr().String(), Login: "alice@web1", KeyFile: key, Options: []string{"BatchMode=yes"}}
	}
	in := func(c *testenv.OpenSSH) bool {
		t.Helper()
		out, _, _ := c.Output(t, "echo in")
		return out == "in\n"
	}
	one, two, three := issue("1"), issue("2"), issue("3")
	if !in(one) || !in(two) || !in(three) {
		t.Fatal("certificates of a listed authority were refused")
	}
	if out := o.ok("audit", "list", "--type", "login.accepted", "-o", "json"); !strings.Contains(out, `"ca"`) || !strings.Contains(out, "alice@laptop-1") {
		t.Errorf("the audit log: %s", out)
	}
	o.fails(2, "user-ca", "revoke", "people")
	o.ok("user-ca", "revoke", "people", "--serial", "1")
	o.ok("user-ca", "revoke", "people", "--key-id", "alice@laptop-2")
	if in(one) || in(two) || !in(three) {
		t.Error("revoked: one and two, and nothing else")
	}
	if list := object[[]admin.LoginCA](o, "user-ca", "list"); len(list) != 1 || len(list[0].Revoked) != 2 || list[0].LastUsed == nil {
		t.Errorf("user-ca list: %+v", list)
	}
	if out := o.ok("user-ca", "list"); !strings.Contains(out, "people") || !strings.Contains(out, "SHA256:") {
		t.Errorf("user-ca list: %q", out)
	}
	o.ok("user-ca", "disable", "people")
	if in(three) {
		t.Error("a disabled authority counts")
	}
	o.ok("user-ca", "enable", "people")
	if in(one) || !in(three) {
		t.Error("after enabling again")
	}
	o.ok("user-ca", "remove", "people", "--yes")
	if in(three) {
		t.Error("a removed authority counts")
	}
	o.fails(1, "user-ca", "revoke", "people", "--serial", "3")
}
