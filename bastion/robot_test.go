package bastion_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/bastion"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// robot makes a robot deploy-bot with a key made by ssh-keygen, whose file it returns. It may run commands on
// web1 as whoever runs the tests, from loopback.
func (s *system) robot(commands ...string) (file string) {
	s.t.Helper()
	file = filepath.Join(s.t.TempDir(), "robot")
	testenv.Run(s.t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file)
	key := readKey(s.t, file+".pub")
	account := "root"
	if s.SSHD != nil {
		account = s.SSHD.Account
	}
	_, err := s.Store.Robots.Add(context.Background(), store.Robot{
		Name: "deploy-bot", PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), Fingerprint: ssh.FingerprintSHA256(key), Enabled: true,
		Sources: []string{"127.0.0.0/8"}, Targets: []string{"web1"}, Accounts: []string{account}, Commands: commands,
	})
	check(s.t, err)
	return file
}

// changeRobot changes deploy-bot.
func (s *system) changeRobot(change func(*store.Robot)) {
	s.t.Helper()
	_, err := s.Store.Robots.Change(context.Background(), "deploy-bot", func(r *store.Robot) error { change(r); return nil })
	check(s.t, err)
}

// robotClient is the OpenSSH client of a robot; it can answer nothing.
func (s *system) robotClient(login, file string) *testenv.OpenSSH {
	return &testenv.OpenSSH{Addr: s.Addr, Login: login, KeyFile: file, Options: []string{"BatchMode=yes"}}
}

func rawSigner(t testing.TB, file string) ssh.Signer {
	t.Helper()
	text, err := os.ReadFile(file)
	check(t, err)
	key, err := ssh.ParsePrivateKey(text)
	check(t, err)
	return key
}

const noRules = "version: 1\nrules: []\n"

// A robot runs its command with its key alone, though no rule speaks of it, and is recorded (B16).
func TestRobot(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.rules = noRules
		s := newSystem(t, o)
		const command = `echo 'as it is' "$HOME" >/dev/null; echo done; exit 3`
		client := s.robotClient("deploy-bot@web1", s.robot(command, "cat"))
		out, errs, status := client.Output(t, command)
		if out != "done\n" || status != 3 {
			t.Fatalf("got %q %q %d", out, errs, status)
		}
		row := s.session()
		if row.User != "deploy-bot" || row.UserID != "" || row.Rule != "robot deploy-bot" || row.KeyFingerprint == "" || len(row.Channels) != 1 {
			t.Errorf("row %+v", row)
		}
		if got := s.recorded(row.Channels[0].Recording); got != "done\n" {
			t.Errorf("recorded %q", got)
		}
		r, err := s.Store.Robots.ByName(t.Context(), "deploy-bot")
		check(t, err)
		if r.LastUsed.IsZero() || r.LastSource != "127.0.0.1" {
			t.Errorf("last used %v from %q", r.LastUsed, r.LastSource)
		}
		account := s.robotClient("deploy-bot@"+s.SSHD.Account+"@web1", client.KeyFile)
		cmd := account.SSH(t, "cat")
		cmd.Stdin = strings.NewReader("through")
		if out, _, status := testenv.Finish(t, cmd); out != "through" || status != 0 {
			t.Errorf("cat with an account gave %q %d", out, status)
		}
		list, err := s.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginAccepted})
		check(t, err)
		if d := list[0].Detail; d["robot"] != r.ID || d["factors"] != "key" {
			t.Errorf("login.accepted has %v", d)
		}
	})
}

// Anything but the exact bytes of a listed command is refused, told on stderr with status 255, and audited.
func TestRobotCommandsAreExact(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{}) // here a rule allows everybody everything: it is not for robots
	marker := filepath.Join(t.TempDir(), "marker")
	listed := "echo " + marker
	key := rawSigner(t, s.robot(listed, "scp -t /srv/www"))
	c, err := s.dial("deploy-bot@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	for _, command := range []string{
		listed + "; touch " + marker, listed + " ", " " + listed, listed + "\n", listed + "\x00", listed + "\x00; id", strings.ToUpper(listed[:4]) + listed[4:],
		listed[:len(listed)-1], listed + "*", "ech? " + marker, "", "*", "sh -c '" + listed + "'", "scp -t /srv", "scp -t /srv/www/x", "scp -f /srv/www",
		"echo  " + marker, "echo\t" + marker, "touch " + marker, strings.Repeat("x", 200<<10),
	} {
		session, err := c.NewSession()
		check(t, err)
		var errs strings.Builder
		session.Stderr = &errs
		out, err := session.Output(command)
		exit, ok := err.(*ssh.ExitError)
		if !ok || exit.ExitStatus() != 255 || len(out) != 0 || !strings.Contains(errs.String(), "This robot may not do that") {
			t.Errorf("%.60q: %q %q %v", command, out, errs.String(), err)
		}
	}
	if _, err := os.Stat(marker); err == nil {
		t.Fatal("a command that is not listed ran")
	}
	session, err := c.NewSession()
	check(t, err)
	if out, err := session.Output(listed); err != nil || string(out) != marker+"\n" {
		t.Errorf("afterwards the listed command gave %q %v", out, err)
	}
	list, err := s.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.AccessDecided, Limit: 100})
	check(t, err)
	refused := 0
	for _, e := range list {
		if e.Result == audit.Refused && e.User == "deploy-bot" && e.Detail["command"] != "" {
			refused++
		}
	}
	if refused < 18 {
		t.Errorf("%d events of refused commands", refused)
	}
}

// A robot gets no shell, no subsystem, no terminal, no forward of any kind, no agent, no X11, no menu and no
// answer of the bastion, and each is audited.
func TestRobotGetsNothingElse(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: `version: 1
rules:
  - {name: all, users: ["*", deploy-bot], targets: [web1], channels: [shell, exec, sftp, scp, local-forward, dynamic, remote-forward, unix-forward, agent, x11]}
`})
	file := s.robot("env; test -t 0 && echo tty; true")
	c, err := s.dial("deploy-bot@web1", ssh.PublicKeys(rawSigner(t, file)))
	check(t, err)
	defer c.Close()
	if conn, err := c.Dial("tcp", echoServer(t)); err == nil {
		conn.Close()
		t.Error("a forward was opened")
	}
	if conn, err := c.Dial("unix", "/run/x"); err == nil {
		conn.Close()
		t.Error("a forward to a socket was opened")
	}
	if l, err := c.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
		t.Error("the target listens for a robot")
	}
	for _, kind := range []string{"tun@openssh.com", "x11", "auth-agent@openssh.com", "direct-tcpip"} {
		if ch, _, err := c.OpenChannel(kind, nil); err == nil {
			ch.Close()
			t.Errorf("a channel %s was opened", kind)
		}
	}
	if n := len(s.events(audit.SessionStarted)); n != 0 {
		t.Errorf("for that %d sessions were opened at the target", n)
	}
	if events := strings.Join(s.events(audit.ChannelRefused), "\n"); strings.Count(events, "\n") != 6 {
		t.Errorf("refused channels are audited as\n%s", events)
	}

	// One channel that asks for everything before its command.
	session, err := c.NewSession()
	check(t, err)
	for _, request := range []string{"pty-req", "auth-agent-req@openssh.com", "x11-req", "signal", "break", "window-change", "xyz"} {
		payload := []byte(nil)
		if request == "pty-req" {
			payload = ssh.Marshal(struct {
				Term       string
				C, R, W, H uint32
				Modes      string
			}{"xterm", 80, 24, 0, 0, ""})
		}
		if ok, err := session.SendRequest(request, true, payload); err != nil || ok {
			t.Errorf("%s: %v %v", request, ok, err)
		}
	}
	for range 500 { // a flood is bounded, and what is not on the list does not arrive
		if err := session.Setenv("LD_PRELOAD", "/tmp/evil.so"); err == nil {
			t.Fatal("LD_PRELOAD was taken")
		}
	}
	out, err := session.Output("env; test -t 0 && echo tty; true")
	if err != nil || strings.Contains(string(out), "tty\n") || strings.Contains(string(out), "evil") {
		t.Errorf("the command gave %q %v", out, err)
	}

	// Not to a command that runs, either.
	s.changeRobot(func(r *store.Robot) { r.Commands = append(r.Commands, "echo up; cat") })
	session, err = c.NewSession()
	check(t, err)
	output, err := session.StdoutPipe()
	check(t, err)
	input, err := session.StdinPipe()
	check(t, err)
	check(t, session.Start("echo up; cat"))
	if line, err := bufio.NewReader(output).ReadString('\n'); line != "up\n" {
		t.Fatalf("the command shows %q, %v", line, err)
	}
	for request, payload := range map[string][]byte{"signal": ssh.Marshal(struct{ Name string }{"TERM"}), "break": ssh.Marshal(struct{ Length uint32 }{500})} {
		if ok, err := session.SendRequest(request, true, payload); err != nil || ok {
			t.Errorf("%s to a command: %v %v", request, ok, err)
		}
	}
	input.Close()
	check(t, session.Wait())
	list, err := s.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.ChannelRefused, Limit: 1000})
	check(t, err)
	for _, request := range []string{"pty-req", "auth-agent-req@openssh.com", "x11-req", "window-change", "xyz", "signal", "break", "tcpip-forward"} {
		if !slices.ContainsFunc(list, func(e audit.Event) bool { return e.Detail["request"] == request && e.User == "deploy-bot" }) {
			t.Errorf("the audit log does not know that %s was refused", request)
		}
	}

	for what, cmd := range map[string][]string{"shell": nil, "subsystem": {"-s", "sftp"}, "a subsystem called as a command": {"-s", "echo up; cat"}} {
		if out, errs, status := testenv.Finish(t, s.robotClient("deploy-bot@web1", file).SSH(t, cmd...)); status == 0 || out != "" || !strings.Contains(errs, "may not") {
			t.Errorf("%s: %q %q %d", what, out, errs, status)
		}
	}
	for _, command := range [][]string{nil, {"targets"}, {"whoami"}, {"help"}} {
		if out, errs, status := s.robotClient("deploy-bot", file).Output(t, command...); status != 255 || out != "" || !strings.Contains(errs, "no target") {
			t.Errorf("without a target %v: %q %q %d", command, out, errs, status)
		}
	}
	for _, login := range []string{"deploy-bot@down", "deploy-bot@nowhere", "deploy-bot@nobody@web1"} {
		if out, errs, status := s.robotClient(login, file).Output(t, "env; test -t 0 && echo tty; true"); status != 255 || out != "" || !strings.Contains(errs, "This robot may not") {
			t.Errorf("%s: %q %q %d", login, out, errs, status)
		}
	}
}

// Who is refused: another key, a password and a code, from elsewhere, disabled, expired, by a certificate, and
// under a name that somebody has as well. A robot is never asked for anything beyond what a stranger is.
func TestRobotsRefused(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: noRules, guard: bastion.Guard{Tries: 1}})
	file := s.robot("true")
	key := rawSigner(t, file)
	in := func(methods ...ssh.AuthMethod) bool {
		c, err := s.dial("deploy-bot@web1", methods...)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	if !in(ssh.PublicKeys(key)) {
		t.Fatal("the robot itself was refused")
	}
	var asked []string
	if in(answers("x", "000000", &asked)) || strings.Join(asked, "") != "Password: Code: " {
		t.Errorf("without a key it was asked %q", asked)
	}
	if in(ssh.PublicKeys(newSigner(t))) || in(ssh.PublicKeys(forger{shown: key.PublicKey(), Signer: newSigner(t)})) {
		t.Error("another key got in")
	}
	ca := s.userCA("people")
	ca.sign(file, "-n", "deploy-bot")
	if in(ssh.PublicKeys(signer(t, file))) {
		t.Error("a certificate made a robot")
	}
	if c, err := s.dial("alice@down", ssh.PublicKeys(key), answers(alicePassword, s.code("alice"), nil)); err != nil {
		t.Errorf("alice after a robot's key: %v", err)
	} else {
		c.Close()
	}
	if c, err := s.dial("alice@down", ssh.PublicKeys(key)); err == nil {
		c.Close()
		t.Error("the key of a robot opened a person")
	}
	for what, change := range map[string]func(*store.Robot){
		"from elsewhere": func(r *store.Robot) { r.Sources = []string{"192.0.2.0/24", "::1"} },
		"disabled":       func(r *store.Robot) { r.Enabled = false },
		"expired":        func(r *store.Robot) { r.Expires = time.Now().Add(-time.Second) },
	} {
		before, err := s.Store.Robots.ByName(t.Context(), "deploy-bot")
		check(t, err)
		s.changeRobot(change)
		if in(ssh.PublicKeys(key)) {
			t.Errorf("%s: got in", what)
		}
		s.changeRobot(func(r *store.Robot) { *r = before })
	}
	if refused := strings.Join(s.events(audit.LoginRefused), "\n"); !strings.Contains(refused, "may not come from 127.0.0.1") || strings.Count(refused, "disabled or has expired") != 2 {
		t.Errorf("the log says\n%s", refused)
	}
}

// A name that is in the directory too is nobody's.
func TestRobotInTheDirectory(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	s := newSystem(t, options{noSSHD: true, rules: noRules, directory: ldapOf(t, d)})
	key := rawSigner(t, s.robot("true"))
	c, err := s.dial("deploy-bot@web1", ssh.PublicKeys(key))
	check(t, err)
	c.Close()
	d.AddUser("deploy-bot", "a password", "ssh-users")
	if c, err := s.dial("deploy-bot@web1", ssh.PublicKeys(key)); err == nil {
		c.Close()
		t.Error("the robot got in beside a person of its name")
	}
	if c, err := s.dial("deploy-bot@down", answers("a password", "000000", nil)); err == nil {
		c.Close()
		t.Error("the person got in")
	}
	d.Delete(d.UserDN("deploy-bot"))
	d.Stop()
	if c, err := s.dial("deploy-bot@web1", ssh.PublicKeys(key)); err != nil {
		t.Errorf("without the directory: %v", err)
	} else {
		c.Close()
	}
}

// Every channel reads the row afresh: disabled, expired, held to another source, command, target or key.
func TestRobotIsReadAfresh(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: noRules})
	key := rawSigner(t, s.robot("true"))
	connect := func() *ssh.Client {
		t.Helper()
		c, err := s.dial("deploy-bot@web1", ssh.PublicKeys(key))
		check(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	run := func(c *ssh.Client) error {
		session, err := c.NewSession()
		if err != nil {
			return err
		}
		return session.Run("true")
	}
	before, err := s.Store.Robots.ByName(t.Context(), "deploy-bot")
	check(t, err)
	for what, change := range map[string]func(*store.Robot){
		"disabled": func(r *store.Robot) { r.Enabled = false },
		"expired":  func(r *store.Robot) { r.Expires = time.Now() },
		"source":   func(r *store.Robot) { r.Sources = []string{"192.0.2.1"} },
		"command":  func(r *store.Robot) { r.Commands = []string{"false"} },
		"target":   func(r *store.Robot) { r.Targets = []string{"web2"} },
		"account":  func(r *store.Robot) { r.Accounts = []string{"nobody"} },
		"key":      func(r *store.Robot) { r.Fingerprint = "SHA256:new" },
	} {
		c := connect()
		check(t, run(c))
		s.changeRobot(change)
		if run(c) == nil {
			t.Errorf("%s changed, and it ran", what)
		}
		s.changeRobot(func(r *store.Robot) { *r = before })
	}
	c := connect()
	check(t, run(c))
	_, err = s.Store.Rules.Put(t.Context(), `version: 1
rules:
  - {name: all, users: ["*"], targets: ["*"]}
  - {name: freeze, deny: true, targets: [web1], message: nothing changes this week}
`, "test", 1)
	check(t, err)
	if run(c) == nil {
		t.Error("a rule that denies did not hold for an open connection")
	}
	session, err := connect().NewSession()
	check(t, err)
	errs, err := session.StderrPipe()
	check(t, err)
	if session.Run("true") == nil {
		t.Error("a rule that denies did not hold for it")
	}
	if text, _ := io.ReadAll(errs); !strings.Contains(string(text), "nothing changes this week (rule freeze)") {
		t.Errorf("it read %q", text)
	}
	c = connect()
	check(t, s.Store.Robots.Delete(t.Context(), "deploy-bot"))
	if run(c) == nil {
		t.Error("removed, and it ran")
	}
}

// Failures under a robot's name are counted like anybody's, and cannot lock it out where it comes from.
func TestRobotLockout(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: noRules, guard: bastion.Guard{Exempt: loopback()}})
	key := rawSigner(t, s.robot("true"))
	from := func(source string, n int) error {
		_, err := s.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "deploy-bot", Source: addr(source), Target: "web1"}).
			Run(t.Context(), answering{fmt.Sprintf("%06d", n)})
		return err
	}
	for n := range 5 {
		if from("192.0.2.7", n) == nil {
			t.Fatal("got in")
		}
	}
	locks, err := s.Store.Attempts.Locks(t.Context())
	check(t, err)
	if len(locks) != 1 || !strings.Contains(locks[0].ID, "robot:") {
		t.Errorf("locks %+v", locks)
	}
	// The lock after a hundred failures in a row, from all over the world.
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() { _ = from(fmt.Sprintf("198.51.100.%d", i), i) })
	}
	all.Wait()
	locks, err = s.Store.Attempts.Locks(t.Context())
	check(t, err)
	if !slices.ContainsFunc(locks, func(l store.Lock) bool { return strings.HasPrefix(l.ID, "user:robot:") }) {
		t.Fatalf("a hundred failures set no lock: %+v", locks)
	}
	c, err := s.dial("deploy-bot@web1", ssh.PublicKeys(key))
	if err != nil {
		t.Fatalf("strangers locked the robot out: %v", err)
	}
	c.Close()
}
