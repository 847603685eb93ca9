package bastion_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

const relayRules = `version: 1
rules:
  - {name: relaying, users: ["*"], targets: [asks, other], relay: true}
  - {name: silent, users: ["*"], targets: ["*"]}
`

const tokenAnswer = "tangerine-4711"

func rightAnswer(all string) bool { return all == tokenAnswer }

// A person who named a target with prompts of its own answers them after their own, in the same login, with
// OpenSSH at a terminal; what they typed is nowhere afterwards.
func TestRelayedPrompts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newSystem(t, options{noSSHD: true, rules: relayRules, dsn: "sqlite:" + filepath.Join(dir, "s.db"), recordings: filepath.Join(dir, "recordings")})
	x := s.staged("asks", store.CredentialRelayed, []string{"Token\x1b[2J: "}, false, rightAnswer)
	c := s.ssh()
	c.Login = "alice@asks"
	term := testenv.StartTerminal(t, c.Interactive(), 80, 24)
	term.Expect("Password: ")
	if n := x.open.Load(); n != 0 {
		t.Errorf("%d connections to the target before anything was proved", n)
	}
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect(`asks: Token\u{1b}[2J: `)
	if got := s.events("login.accepted"); len(got) != 1 || !slices.Contains(s.events("access.decided"), "ok alice root@asks ") {
		t.Errorf("the prompt came before the verdict: %q, %q", got, s.events("access.decided"))
	}
	term.Type(tokenAnswer + "\n")
	term.Expect("hello from the target")
	row := s.session()
	if row.Target != "asks" || row.Account != "root" || row.Rule != "relaying" {
		t.Errorf("session: %+v", row)
	}
	if strings.Contains(term.Screen(), "tangerine") {
		t.Errorf("the answer was shown: %q", term.Screen())
	}
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("tangerine")) {
			t.Errorf("%s has the answer", path)
		}
		return err
	}))
}

// Without relay: true in the rule, or without a way to ask, nothing is asked and the person reads why.
func TestRelayedRefusals(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: relayRules})
	s.staged("quiet", store.CredentialRelayed, []string{"Token: "}, false, rightAnswer)
	c := s.ssh()
	c.Login = "alice@quiet"
	if _, errs, status := c.Output(t, "true"); status != 255 || !strings.Contains(errs, "rule silent does not let people answer them") || !strings.Contains(errs, "relay: true") {
		t.Errorf("without the rule: status %d, %q", status, errs)
	}
	x := s.staged("asks", store.CredentialRelayed, []string{"Token: "}, false, rightAnswer)
	wrong := func(questions []string) (answers []string) {
		for _, q := range questions {
			answers = append(answers, map[string]string{"Password: ": alicePassword, "Code: ": s.code("alice")}[q])
		}
		return answers
	}
	rounds := 0
	client, err := s.dial("alice@asks", ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) {
		rounds++
		return wrong(q), nil
	}))
	check(t, err)
	defer client.Close()
	if rounds > 2+6 {
		t.Errorf("%d rounds", rounds)
	}
	for _, want := range []string{"refuses the answers to its prompts", "there is no way to show them here"} { // first what came of it, later what to do
		ch, err := client.NewSession()
		check(t, err)
		var errs bytes.Buffer
		ch.Stderr = &errs
		if err := ch.Run("true"); err == nil || !strings.Contains(errs.String(), want) {
			t.Errorf("got %v, %q, want %q", err, errs.String(), want)
		}
	}
	testenv.WaitFor(t, "the ends of connections to the target", func() bool { return x.open.Load() == 0 })
}

// A key without a code leads to the target's prompts by partial success; a client that answers none is told.
func TestRelayedAfterKey(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: "version: 1\nrules:\n  - {name: r, users: ['*'], targets: ['*'], from: [127.0.0.0/8], code: none, relay: true}\n"})
	s.staged("asks", store.CredentialRelayed, []string{"Token: "}, false, rightAnswer)
	c := s.ssh()
	c.Login, c.KeyFile = "alice@asks", s.userKey("alice")
	term := testenv.StartTerminal(t, c.Interactive(), 80, 24)
	term.Expect("asks: Token: ")
	if text := term.Screen(); strings.Contains(text, "Password:") || strings.Contains(text, "Code:") {
		t.Errorf("asked for more: %q", text)
	}
	term.Type(tokenAnswer + "\n")
	term.Expect("hello from the target")

	c.Options = []string{"BatchMode=yes"}
	term = testenv.StartTerminal(t, c.Interactive(), 80, 24)
	term.Expect("asks has prompts of its own")
	term.Expect("Permission denied")
}

// A connection that was made with the person's answers ends with theirs, also if they never ask for a
// channel.
func TestRelayedIsNotKept(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: relayRules})
	x := s.staged("asks", store.CredentialRelayed, []string{"Token: "}, false, rightAnswer)
	code := s.code("alice")
	all := map[string]string{"Password: ": alicePassword, "Code: ": code, "asks: Token: ": tokenAnswer}
	client, err := s.dial("alice@asks", ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) {
		if len(q) == 0 {
			return nil, nil
		}
		return []string{all[q[0]]}, nil
	}))
	check(t, err)
	if n := x.open.Load(); n != 1 {
		t.Errorf("%d connections to the target", n)
	}
	client.Close()
	testenv.WaitFor(t, "the end of the connection to the target", func() bool { return x.open.Load() == 0 })
	if list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{Limit: 1}); err != nil || len(list) != 0 {
		t.Errorf("sessions: %+v, %v", list, err)
	}
}

// From the menu the prompts appear on the terminal, without echo unless the target says so, and Ctrl-C
// leads back.
func TestRelayedFromTheMenu(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: relayRules})
	s.staged("asks", store.CredentialRelayed, []string{"Token: "}, false, rightAnswer)
	s.staged("other", store.CredentialRelayed, []string{"Name: ", "Token: "}, true, func(all string) bool { return all == "alicex,"+tokenAnswer })
	term := s.menu()
	term.Type("\x15asks root\r")
	term.Expect("asks: Token: ")
	term.Type(tokenAnswer[:5] + "\x03")
	term.Expect("Stopped.")
	term.Type("\x15asks root\r")
	term.Expect("asks: Token: ")
	term.Type("x\x7f" + tokenAnswer + "\r")
	term.Expect("hello from the target")
	term.Expect("Ctrl-R reloads")
	if strings.Contains(term.Screen(), tokenAnswer[:5]) {
		t.Errorf("the answer was shown: %q", term.Screen())
	}
	term.Type("\x15other\r")
	term.Expect("other: Name: ")
	term.Type("bob\x15alicexy\x7f")
	term.Expect("alicexy")
	term.Type("\r")
	term.Expect("other: Token: ")
	term.Type(tokenAnswer + "\r")
	term.Expect("hello from the target")
	term.Expect("Ctrl-R reloads")
	term.Type("\x15asks root\r")
	term.Expect("asks: Token: ")
	term.Type("wrong\r")
	for range 2 {
		term.Expect("asks: Token: ")
		term.Type("wrong\r")
	}
	term.Expect("refuses the answers to its prompts")
	if got := fmt.Sprint(s.events("session.started")); strings.Count(got, "ok alice root@asks") != 1 || !strings.Contains(got, "error alice root@asks") {
		t.Errorf("events: %s", got)
	}
}

// ssh -J to a target with prompts of its own: they follow inside of the inner connection, whether that was let in
// at once, by the key of the outer one, or by a code.
func TestRelayedInside(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: relayRules})
	x := s.staged("asks", store.CredentialRelayed, []string{"Token: "}, false, rightAnswer)
	key := s.userKey("alice")
	for name, c := range map[string]struct {
		outer   []ssh.AuthMethod
		inner   []ssh.AuthMethod
		prompts string
	}{
		"once": {outer: nil, prompts: "asks: Token: "},
		"key":  {outer: []ssh.AuthMethod{ssh.PublicKeys(rawSigner(t, key)), answers("", s.code("alice"), nil)}, inner: []ssh.AuthMethod{ssh.PublicKeys(rawSigner(t, key))}, prompts: "asks: Token: "},
	} {
		outer := s.outer("alice", c.outer...)
		for i := range 2 { // the second one from a password is asked for a code first
			var asked []string
			code := s.code("alice")
			inner, err := s.insideAt(outer, "asks:22", "root", append(c.inner, ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) (out []string, _ error) {
				for _, prompt := range q {
					asked = append(asked, prompt)
					out = append(out, map[string]string{"Code: ": code, "asks: Token: ": tokenAnswer}[prompt])
				}
				return out, nil
			}))...)
			if err != nil {
				t.Fatalf("%s, connection %d: %v after %q", name, i+1, err, asked)
			}
			want := c.prompts
			if name == "once" && i == 1 {
				want = "Code: " + want
			}
			if got := strings.Join(asked, ""); got != want {
				t.Errorf("%s, connection %d: asked %q, want %q", name, i+1, got, want)
			}
			sess, err := inner.NewSession()
			check(t, err)
			if out, err := sess.Output("x"); err != nil || !strings.Contains(string(out), "hello") {
				t.Errorf("%s, connection %d: %q %v", name, i+1, out, err)
			}
			inner.Close()
		}
		outer.Close()
	}
	testenv.WaitFor(t, "the ends of connections to the target", func() bool { return x.open.Load() == 0 })

	// With OpenSSH, which proves the key of the outer connection once more; its prompts come one after the other.
	j := s.jumper(key, "Host asks", "  ProxyJump bastion")
	cmd := exec.Command("ssh", "-F", j.Config, "-tt", "root@asks")
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm")
	term := testenv.StartTerminal(t, cmd, 80, 24)
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("asks: Token: ")
	term.Type(tokenAnswer + "\n")
	term.Expect("hello from the target")
}
