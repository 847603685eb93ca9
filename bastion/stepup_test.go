package bastion_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/auth"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// stepUpRules remember a code at web1; webfresh wants one of the connection, webtoken one of a token.
const stepUpRules = `version: 1
networks: {here: [127.0.0.0/8]}
rules:
  - {name: trusting, users: ["*"], targets: [web1], trust: {idle: 2h, max: 8h, sources: [here]}}
  - {name: fresh, users: ["*"], targets: [webfresh], code: fresh}
  - {name: token, users: ["*"], targets: [webtoken], token-only: true}
  - {name: newest, users: ["*"], targets: [webnew], code: {younger-than: 30m}}
`

// stepUpTargets adds the targets of stepUpRules, which are all the one host.
func (s *system) stepUpTargets() {
	s.t.Helper()
	for _, name := range []string{"webfresh", "webtoken", "webnew"} {
		_, err := s.Store.Targets.Add(context.Background(), store.Target{Name: name, Address: s.SSHD.Addr, Accounts: []string{s.SSHD.Account},
			HostKeyMode: store.Pinned, HostKeys: []string{s.SSHD.HostKey}})
		check(s.t, err)
	}
}

// Ensure the menu asks for a code where the remembered one does not do, as often as three times, and that the new
// code is good for that session alone.
func TestMenuStepUp(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.rules = stepUpRules
		s := newSystem(t, o)
		s.stepUpTargets()
		if _, errs, status := s.ssh().Output(t, "true"); status != 0 {
			t.Fatalf("the login that is remembered: %d %s", status, errs)
		}
		c := s.ssh()
		c.Login = "alice"
		term := testenv.StartTerminal(t, c.Interactive(), 80, 24)
		term.Expect("Password: ")
		term.Type(alicePassword + "\n")
		term.Expect("Ctrl-C leaves") // no code

		term.Type("webfresh\r")
		term.Expect("webfresh needs a new one-time code.")
		term.Expect("Code: ")
		term.Type("000000\r")
		term.Expect("Permission denied.")
		term.Expect("Code: ")
		code := s.code("alice")
		term.Type(code + "\r")
		term.Type("echo in-$((40+2)); exit\n")
		term.Expect("in-42")
		term.Expect("webfresh: the session is over, exit status 0.")
		if strings.Contains(term.Screen(), code) {
			t.Error("the code is shown on the terminal")
		}

		term.Type("\x15webfresh\r") // asked again, and a person may change their mind
		term.Expect("Code: ")
		term.Type("12\x03")
		term.Expect("Stopped.")
		term.Type("\x15webfresh\r")
		for range 3 {
			term.Expect("Code: ")
			term.Type(code + "\r") // used
			term.Expect("Permission denied.")
		}
		term.Expect("none that was typed is good")

		term.Type("\x15web1\r")
		term.Type("echo still-$((1+1)); exit\n")
		term.Expect("still-2")
		term.Expect("web1: the session is over, exit status 0.")
		term.Type("\x03")
		if status := term.Wait(); status != 0 {
			t.Errorf("status %d", status)
		}

		logins := s.details("login.accepted")
		if len(logins) != 3 || logins[2]["inner"] != "code" || logins[2]["factors"] != "password+code" || logins[1]["factors"] != "password+remembered-code" {
			t.Errorf("logins: %v", logins)
		}
		if refused, replayed := len(s.events("login.refused")), len(s.events("code.replayed")); refused != 4 || replayed != 3 {
			t.Errorf("%d refusals and %d of a used code, want 4 and 3", refused, replayed)
		}
	})
}

// Ensure wrong codes in the menu lock as they do anywhere, and a right one opens nothing then.
func TestMenuStepUpLocks(t *testing.T) {
	t.Parallel()
	ahead := new(atomic.Int64)
	s := newSystem(t, options{rules: stepUpRules, ahead: ahead})
	s.stepUpTargets()
	term := s.menu()
	ahead.Add(int64(31 * time.Minute))
	for i := range 5 {
		if i%3 == 0 {
			term.Type("\x15webnew\r")
		}
		term.Expect("Code: ")
		term.Type(fmt.Sprintf("00000%d\r", i))
		term.Expect("Permission denied.")
	}
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\r")
	term.Expect("Permission denied.")
	if got := s.events("lockout.set"); len(got) != 1 || len(s.events("session.started")) != 0 {
		t.Errorf("locks: %q", got)
	}
}

// Ensure a person without a token is sent a code from the menu and inside of ssh -J, and is told where none does.
func TestStepUpBySentCode(t *testing.T) {
	t.Parallel()
	s := newMailing(t, options{rules: stepUpRules})
	s.stepUpTargets()
	first, err := s.dial("alice@web1", typing(alicePassword, func(int) string { return s.mailed("alice", 1) }, nil))
	check(t, err)
	check(t, first.Close())
	s.later()
	term := s.terminal(s.ssh(), "true")
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.mailed("alice", 2) + "\n")
	term.Wait()
	s.later()

	c := s.ssh()
	c.Login = "alice"
	term = testenv.StartTerminal(t, c.Interactive(), 80, 24)
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Ctrl-C leaves")
	term.Type("webfresh\r")
	term.Expect("Code: ")
	term.Type(s.mailed("alice", 3) + "\r")
	term.Type("echo in-$((40+2)); exit\n")
	term.Expect("in-42")
	term.Expect("exit status 0.")
	term.Type("\x15webtoken\r")
	term.Expect("webtoken needs a code from a token; one that was sent by mail or SMS")
	term.Type("\x03")
	term.Wait()
	s.later()

	outer := s.outer("alice", typing(alicePassword, func(int) string { t.Error("asked for a code outside"); return "" }, nil))
	var asked []string
	in, err := s.insideAt(outer, "webfresh:22", s.SSHD.Account, typing("", func(int) string { return s.mailed("alice", 4) }, &asked))
	check(t, err)
	check(t, says(in))
	if len(asked) != 1 || asked[0] != auth.PromptCode {
		t.Errorf("asked %q", asked)
	}
	if _, err := outer.Dial("tcp", "webtoken:22"); err == nil || !strings.Contains(err.Error(), "needs a code from a token") {
		t.Errorf("where a token is demanded: %v", err)
	}
}

// later is when a further code may be sent.
func (m *mailing) later() { m.ahead.Add(int64(5 * time.Minute)) }

// Ensure ssh -J asks for a code inside where the one remembered outside does not do, with OpenSSH, once; and does
// not where it does.
func TestJumpStepUp(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.rules, o.ahead = stepUpRules, new(atomic.Int64)
		s := newSystem(t, o)
		s.stepUpTargets()
		j := s.jumper("")
		if _, errs, status := j.run("ssh", s.at("web1"), "true"); status != 0 {
			t.Fatalf("with a code outside: %d %s", status, errs)
		}
		if _, errs, status := s.ssh().Output(t, "true"); status != 0 { // remembered by a target, not by the way to the menu alone
			t.Fatalf("the login that is remembered: %d %s", status, errs)
		}
		o.ahead.Add(int64(31 * time.Minute))
		logins := len(s.events("login.accepted"))
		for _, target := range []string{"webfresh", "webnew", "webtoken"} {
			out, errs, status := s.jumper("").run("ssh", s.at(target), "echo in")
			if out != "in\n" || status != 0 {
				t.Fatalf("%s: %q %q %d", target, out, errs, status)
			}
			got := s.details("login.accepted")[logins:]
			logins += len(got)
			if len(got) != 2 || got[0]["factors"] != "password+remembered-code" || got[1]["inner"] != "code" || got[1]["factors"] != "password+code" {
				t.Errorf("%s: %v", target, got)
			}
		}
		j = s.jumper("")
		j.Code = nil
		if out, errs, status := j.run("ssh", s.at("web1"), "echo in"); out != "in\n" || status != 0 {
			t.Errorf("where the remembered code does: %q %q %d", out, errs, status)
		}
		if _, _, status := j.run("ssh", s.at("webfresh"), "true"); status != 255 {
			t.Errorf("without a code: status %d", status)
		}
	})
}
