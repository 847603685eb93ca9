package bastion_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// allowMenu lets everybody reach whatever begins with web, and down.
const allowMenu = `version: 1
rules:
  - name: everybody
    users: ["*"]
    targets: ["web*", down]
`

// menuSystem has the targets web1, which works, web2, web10 and down, which do not, and vault, which nobody may reach.
func menuSystem(t *testing.T, o options) *system {
	t.Helper()
	if o.rules == "" {
		o.rules = allowMenu
	}
	s := newSystem(t, o)
	for _, x := range []store.Target{
		{Name: "web10", Address: "127.0.0.1:1", Accounts: []string{"root", "deploy"}, Labels: map[string]string{"env": "prod", "site": "\x1b[31mred"}},
		{Name: "web2", Address: "127.0.0.1:1", Accounts: []string{"root"}, Labels: map[string]string{"env": "test"}},
		{Name: "vault", Address: "127.0.0.1:1", Accounts: []string{"root"}},
	} {
		x.HostKeyMode = store.TOFU
		_, err := s.Store.Targets.Add(context.Background(), x)
		check(t, err)
	}
	return s
}

// menu logs alice in on a terminal without naming a target.
func (s *system) menu(args ...string) *testenv.Terminal {
	s.t.Helper()
	c := s.ssh()
	c.Login = "alice"
	term := testenv.StartTerminal(s.t, c.Interactive(args...), 80, 24)
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("Ctrl-C leaves")
	return term
}

// Ensure the menu lists what the person may reach and nothing else, in natural order with labels, filters
// by what is typed, runs a session in the chosen target, and is there again when that ends, without a new
// code.
func TestMenu(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{})
	term := s.menu()
	shown := term.Screen()
	last := 0
	for _, want := range []string{"Sallyport  alice", "1 of 5", "Filter:", "down", "web1 ", "web2 ", "env=test", "web10", "env=prod", `\u{1b}[31mred`, "deploy"} {
		i := strings.Index(shown, want)
		if i < last {
			t.Errorf("%q is missing or out of order in %q", want, shown)
		}
		last = max(last, i)
	}
	if strings.Contains(shown, "vault") || strings.Contains(shown, "\x1b[31m") {
		t.Errorf("a target that no rule opens, or an escape sequence of a label, is shown: %q", shown)
	}
	if got := s.events("menu.opened"); len(got) != 1 || got[0] != "ok alice @ " {
		t.Errorf("events: %q", got)
	}

	// The line ends of what is pasted open nothing, and a window may be too small for anything.
	if !strings.Contains(shown, "\x1b[?2004h") {
		t.Errorf("the menu does not ask for bracketed paste: %q", shown)
	}
	term.Type("\x1b[200~web1\rtouch /tmp/x\r\x1b[201~")
	term.Expect(`No target matches "web1 touch /tmp/x ".`)
	term.Type("\x15")
	term.Expect("1 of 5")
	// Neither a click nor the answer to what a program asked is Enter, or typed.
	term.Type("\x1b[<0;10;10M\x1b[<0;10;10m\x1b[M !!\x1b]11;rgb:0000/0000/0000\x07z")
	term.Expect(`No target matches "z".`)
	term.Type("\x15")
	term.Expect("1 of 5")
	testenv.Resize(t, term, 1, 1)
	testenv.Resize(t, term, 18, 2)
	term.Expect("/\x1b[K\r\n> ")
	testenv.Resize(t, term, 80, 24)
	term.Expect("1 of 5")

	// j and k are letters like any other.
	term.Type("jk")
	term.Expect(`No target matches "jk". Esc clears the filter.`)
	term.Type("\x1b")
	term.Expect("1 of 5")
	term.Type("web1")
	term.Expect("1 of 3 (5 in all)")
	term.Type("\x7f2")
	term.Expect("1 of 1 (5 in all)")
	term.Type("\x15WEB1 " + s.SSHD.Account)
	term.Expect("Ctrl-C leaves")
	term.Type("\r")
	term.Expect("connecting to " + s.SSHD.Account + "@web1")
	term.Type("echo $TERM $((40+2)); stty size\n")
	term.Expect("xterm 42")
	term.Expect("24 80")
	testenv.Resize(t, term, 100, 30)
	term.Type("trap 'stty size' WINCH; sleep 0.2; stty size\n")
	term.Expect("30 100")
	term.Type("exit 3\n")
	term.Expect("was recorded")
	term.Expect("web1: the session is over, exit status 3.")
	term.Expect("Ctrl-R reloads")
	row := s.session()
	if row.Target != "web1" || row.User != "alice" || row.Reason != "the shell from the menu ended" || len(row.Channels) != 1 || *row.Channels[0].ExitStatus != 3 {
		t.Errorf("session: %+v", row)
	}
	if text := s.recorded(row.Channels[0].Recording); !strings.Contains(text, "xterm 42") || strings.Contains(text, "Filter:") {
		t.Errorf("recorded: %q", text)
	}

	// It is on top now, and one key away; the window is the one of now.
	term.Type("\r")
	term.Expect("connecting to ")
	term.Type("stty size; exit\n")
	term.Expect("30 100")
	term.Expect("exit status 0.")
	if got := s.events("login.accepted"); len(got) != 1 {
		t.Errorf("logins: %q", got)
	}

	term.Type("down\r")
	term.Expect("cannot reach down (127.0.0.1:1): connection refused")
	term.Type("\x03")
	if status := term.Wait(); status != 0 {
		t.Errorf("status %d", status)
	}
	testenv.WaitFor(t, "the end of everything", func() bool { return len(s.Sessions.Live()) == 0 })
}

// Ensure arrows and pages move, keys typed before the session is open reach it, and a small window works
// and can grow.
func TestMenuKeys(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{})
	term := s.menu()
	testenv.Resize(t, term, 40, 10)
	term.Expect("Enter opens  Esc clears  Ctrl-C leaves")
	for _, k := range []struct{ keys, want string }{
		{"\x1b[B", "2 of 5"}, {"\x1bOB", "3 of 5"}, {"\x1b[A", "2 of 5"}, {"\x1b[6~", "5 of 5"}, {"\x1b[5~", "1 of 5"}, {"\x1b[F", "5 of 5"},
		{"\x1b[H", "1 of 5"}, {"\x0e", "2 of 5"}, {"\x10", "1 of 5"},
	} {
		term.Type(k.keys)
		term.Expect(k.want)
	}
	testenv.Resize(t, term, 120, 40)
	term.Expect("Ctrl-R reloads")
	term.Type("web1 " + s.SSHD.Account + "\recho typed-$((1+1))-ahead; exit\n")
	term.Expect("typed-2-ahead")
	term.Expect("exit status 0.")
	term.Type("\x04")
	if status := term.Wait(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// Ensure rights that are withdrawn while the menu is open are asked for again: the choice is refused in the
// menu, and a person who is locked is put out.
func TestMenuRightsWithdrawn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := menuSystem(t, options{noWatch: true})
	term := s.menu()
	_, err := s.Store.Rules.Put(ctx, "version: 1\nrules:\n  - {name: no, deny: true, targets: [web2], message: web2 is closed}\n", "test", 1)
	check(t, err)
	term.Type("web2\r")
	term.Expect("No target is open to you from here.")
	term.Expect("Access to web2 is refused: web2 is closed (rule no).")
	if list, err := s.Store.Sessions.List(ctx, store.SessionFilter{}); err != nil || len(list) != 0 {
		t.Errorf("sessions: %v %v", list, err)
	}
	if got := s.events("access.decided"); len(got) != 1 || !strings.HasPrefix(got[0], "refused alice") {
		t.Errorf("decisions: %q", got)
	}
	u, err := s.Store.Users.ByLogin(ctx, "alice")
	check(t, err)
	check(t, s.Store.Users.Lock(ctx, u.ID, "left", time.Time{}))
	term.Type("\x12")
	term.Expect("Your account is locked. Ask an operator.")
	if status := term.Wait(); status != 255 {
		t.Errorf("status %d", status)
	}
}

// Ensure a rule that allows the target but no shell, asked when the channel starts, and a session that an
// operator ends lead back to the menu, which says why.
func TestMenuSessionEndedFromOutside(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{})
	term := s.menu()
	term.Type("web1 " + s.SSHD.Account + "\r")
	term.Type("echo ready-$((1+1))\n")
	term.Expect("ready-2")
	live := s.Sessions.Live()
	if len(live) != 1 {
		t.Fatalf("live: %+v", live)
	}
	check(t, s.Sessions.End(context.Background(), live[0].ID, "root", "lunch"))
	term.Expect("session ended: ended by root: lunch.")
	term.Expect("web1: session ended: ended by root: lunch.")
	term.Expect("Ctrl-C leaves")
	// The connection is still good.
	term.Type("\r")
	term.Type("echo again-$((1+1)); exit\n")
	term.Expect("again-2")
	term.Expect("exit status 0.")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	check(t, s.Server.Shutdown(ctx))
	term.Expect("this bastion stops")
}

// Ensure the client that vanishes ends its session.
func TestMenuClientVanishes(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{})
	term := s.menu()
	term.Type("web1 " + s.SSHD.Account + "\r")
	term.Type("echo ready-$((1+1))\n")
	term.Expect("ready-2")
	check(t, term.Cmd.Process.Kill())
	testenv.WaitFor(t, "the end of the session", func() bool { return len(s.Sessions.Live()) == 0 })
	if row := s.session(); row.Reason != "the client closed the connection" && row.Reason != "the shell from the menu ended" {
		t.Errorf("reason %q", row.Reason)
	}
}

// Ensure somebody without rights reads what to do.
func TestMenuEmpty(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{noSSHD: true, rules: "version: 1\nrules: []\n"})
	term := s.menu()
	if shown := term.Screen(); !strings.Contains(shown, "No target is open to you from here.") || !strings.Contains(shown, "sallyport explain") {
		t.Errorf("shown: %q", shown)
	}
	term.Type("\r\x03")
	if status := term.Wait(); status != 0 {
		t.Errorf("status %d", status)
	}
}

// Ensure NO_COLOR, which a client sends with SendEnv, leaves the menu without styles.
func TestMenuNoColour(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{noSSHD: true})
	c := s.ssh()
	c.Login, c.Options = "alice", []string{"SetEnv=NO_COLOR=1"}
	term := testenv.StartTerminal(t, c.Interactive(), 80, 24)
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("Ctrl-C leaves")
	for _, style := range []string{"\x1b[1m", "\x1b[2m", "\x1b[7m", "\x1b[33m"} {
		if strings.Contains(term.Screen(), style) {
			t.Errorf("%q in %q", style, term.Screen())
		}
	}
	term.Type("\x03")
	term.Wait()
}

// Ensure that without a terminal, or on one that cannot show it, one line on stderr and status 2 come
// instead of the menu.
func TestMenuNeedsTerminal(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{noSSHD: true})
	c := s.ssh()
	c.Login = "alice"
	cmd := c.SSH(t)
	cmd.Stdin, _ = os.Open(os.DevNull)
	out, errs, status := testenv.Finish(t, cmd)
	if out != "" || status != 2 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "ssh alice@TARGET@bastion") {
		t.Errorf("stdout %q, stderr %q, status %d", out, errs, status)
	}
	out, errs, status = testenv.Finish(t, c.SFTP(t, "ls\n"))
	if status == 0 || !strings.Contains(errs, "sftp alice@TARGET@bastion") {
		t.Errorf("stdout %q, stderr %q, status %d", out, errs, status)
	}
	dumb := c.Interactive()
	for i, v := range dumb.Env {
		if strings.HasPrefix(v, "TERM=") {
			dumb.Env[i] = "TERM=dumb"
		}
	}
	term := testenv.StartTerminal(t, dumb, 80, 24)
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("cannot show the menu (TERM=dumb)")
	if status := term.Wait(); status != 2 {
		t.Errorf("status %d", status)
	}
}

// Ensure a code is always asked for where no target is named, whatever rules spare it for some target.
func TestMenuAlwaysAsksCode(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{noSSHD: true, rules: "version: 1\nrules:\n  - {name: t, users: ['*'], targets: ['*'], from: [127.0.0.0/8], code: none}\n"})
	c := s.ssh()
	c.Login, c.Code = "alice", nil
	if out, _, status := c.Output(t, "whoami"); status != 255 || out != "" {
		t.Errorf("password alone: %q, status %d", out, status)
	}
	c.KeyFile = s.userKey("alice")
	if out, _, status := c.Output(t, "whoami"); status != 255 || out != "" {
		t.Errorf("key alone: %q, status %d", out, status)
	}
}

// Ensure the agent that the client offers reaches the target that is chosen, that it does not keep the
// session when the shell has ended, and that other forwards are refused without a target.
func TestMenuForwards(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{rules: forwardRules})
	socket := filepath.Join(t.TempDir(), "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	check(t, agent.Start())
	t.Cleanup(func() { agent.Process.Kill(); agent.Wait() })
	connect(t, "unix", socket).Close()
	c := s.ssh()
	c.Login = "alice"
	c.Options = []string{"ForwardAgent=" + socket}
	client := c.Interactive()
	for i, a := range client.Args {
		if a == "IdentityAgent=none" {
			client.Args[i] = "IdentityAgent=" + socket
		}
	}
	term := testenv.StartTerminal(t, client, 80, 24)
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("Ctrl-C leaves")
	term.Type("web1 " + s.SSHD.Account + "\rssh-add -l\n")
	term.Expect("The agent has no identities.")
	term.Type("perl -MIO::Socket::UNIX -e '$SIG{HUP} = q(IGNORE); $s = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die; print qq(holds-) . (1+1) . qq(\\n); sleep 10' & sleep 1; exit\n")
	term.Expect("holds-2")
	term.Expect("exit status 0.")
	term.Type("\x03")
	if status := term.Wait(); status != 0 {
		t.Errorf("status %d", status)
	}
	if row := s.session(); row.Reason != "the shell from the menu ended" || !slices.ContainsFunc(row.Channels, func(c store.Channel) bool { return c.Kind == "agent" }) {
		t.Errorf("session: %+v", row)
	}

	c.Options = nil
	cmd := c.SSH(t)
	cmd.Args = slices.Insert(cmd.Args, 1, "-o", "LogLevel=INFO", "-W", "127.0.0.1:1") // the first value of an option counts
	if out, errs, status := testenv.Finish(t, cmd); status == 0 || out != "" || !strings.Contains(errs, "no target was named") {
		t.Errorf("stdout %q, stderr %q, status %d", out, errs, status)
	}
}

// Ensure many menus in one connection are bounded, that a client which floods its menu with keys and sizes
// and reads nothing holds up only that channel, and that nothing is left when it goes.
func TestMenuFlood(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{noSSHD: true})
	c, err := s.dial("alice", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	for i := range 10 {
		ch, reqs, err := c.OpenChannel("session", nil)
		check(t, err)
		go ssh.DiscardRequests(reqs)
		pty := ssh.Marshal(struct {
			Term                          string
			Cols, Rows, WidthPx, HeightPx uint32
			Modes                         string
		}{"xterm", 1 << 31, 1 << 31, 0, 0, ""})
		if ok, err := ch.SendRequest("pty-req", true, pty); !ok || err != nil {
			t.Fatalf("menu %d: pty-req: %v %v", i, ok, err)
		}
		if ok, err := ch.SendRequest("shell", true, nil); !ok || err != nil {
			t.Fatalf("menu %d: shell: %v %v", i, ok, err)
		}
		if i > 0 {
			continue
		}
		for range 100 { // more than a window of output, were all of it shown
			_, _ = ch.Write([]byte("a\x7f\x1b[200~"))
			_, _ = ch.SendRequest("window-change", false, ssh.Marshal(struct{ Cols, Rows, WidthPx, HeightPx uint32 }{400, 190, 0, 0}))
		}
	}
	if _, _, err := c.OpenChannel("session", nil); err == nil || !strings.Contains(err.Error(), "no more than 10") {
		t.Errorf("the eleventh: %v", err)
	}
	check(t, c.Close())
	again, err := s.dial("alice", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	session, err := again.NewSession()
	check(t, err)
	if out, err := session.Output("whoami"); err != nil || !strings.Contains(string(out), "alice") {
		t.Errorf("%v, %q", err, out)
	}
	check(t, again.Close())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	check(t, s.Server.Shutdown(ctx)) // returns when every connection is done
}
