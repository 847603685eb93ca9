package bastion_test

import (
	"strings"
	"testing"

	"sallyport/internal/testenv"
)

const trustingRules = `version: 1
networks: {here: [127.0.0.0/8]}
rules:
  - {name: trusting, users: ["*"], targets: [web1], trust: {idle: 2h14m, max: 8h, uses: 50, sources: [here]}}
  - {name: strict, users: ["*"], targets: [down]}
`

// The complaint heard most about one-time passwords is that they are asked for too often. A person types one, and
// then works; what is remembered they see, and end by a word (B5).
func TestTrust(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.rules = trustingRules
		s := newSystem(t, o)
		s.token("alice")
		run := func(login, command string, code func() string) (stdout, stderr string, status int) {
			t.Helper()
			c := s.ssh()
			c.Login, c.Code = login, code
			return c.Output(t, command)
		}
		asked := func(login string) {
			t.Helper()
			if _, errs, status := run(login, "true", nil); status != 255 || !strings.Contains(errs, "Permission denied") {
				t.Errorf("%s without a code: status %d, %s", login, status, errs)
			}
		}
		code := func() string { return s.code("alice") }

		asked("alice@web1")
		if _, errs, status := run("alice@web1", "true", code); status != 0 {
			t.Fatalf("with a code: %d %s", status, errs)
		}
		for range 2 {
			if out, errs, status := run("alice@web1", "echo done", nil); out != "done\n" || errs != "" || status != 0 {
				t.Errorf("a command: stdout %q, stderr %q, status %d", out, errs, status)
			}
		}
		asked("alice@down")
		if out, errs, _ := run("alice", "whoami", nil); !strings.Contains(out, "password remembered-code") || !strings.Contains(out, "trusted until  20") {
			t.Errorf("whoami: %s%s", out, errs)
		}

		c := s.ssh()
		term := testenv.StartTerminal(t, c.Interactive(), 100, 30)
		term.Expect("Password: ")
		term.Type(alicePassword + "\n")
		term.Expect("trusted here for 2 h 14 min, 4 of 50 logins. To end that: ssh alice@BASTION forget")
		term.Type("exit\n")
		term.Wait()

		if _, errs, status := run("alice", "forget", nil); status != 0 || !strings.Contains(errs, "forgotten: one place is no longer trusted") {
			t.Errorf("forget: %d %s", status, errs)
		}
		asked("alice@web1")
		asked("alice")
		if got := s.events("grants.revoked"); len(got) != 1 {
			t.Errorf("events %q", got)
		}
	})
}
