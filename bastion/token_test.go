package bastion_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// codeAt is the code of a token so many steps after a moment.
func (s *system) codeAt(secret string, at time.Time, later int) string {
	s.t.Helper()
	return testenv.Oathtool(s.t, secret, at.Add(time.Duration(later)*30*time.Second))
}

func (s *system) recoveryCodes() []string {
	s.t.Helper()
	u, err := s.Store.Users.ByLogin(context.Background(), "alice")
	check(s.t, err)
	codes, err := s.Engine.NewRecoveryCodes(context.Background(), u, "test")
	check(s.t, err)
	return codes
}

// A person whose token is a quarter of an hour off gets in by a recovery code, types two codes, and is back:
// with OpenSSH, without and on a terminal.
func TestResyncBySSH(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.noSSHD = true
		s := newSystem(t, o)
		secret, device := s.token("alice"), time.Now().Add(-15*time.Minute) // what the token takes for now
		recovery := s.recoveryCodes()
		client := &testenv.OpenSSH{Addr: s.Addr, Login: "alice", Password: alicePassword}
		with := func(code string) *testenv.OpenSSH {
			client.Code = func() string { return code }
			return client
		}
		if _, _, status := with(s.codeAt(secret, device, 0)).Output(t, "whoami"); status != 255 {
			t.Fatalf("a code that is a quarter of an hour old: status %d", status)
		}

		cmd := with(recovery[0]).SSH(t, "resync")
		cmd.Stdin = strings.NewReader(s.codeAt(secret, device, 0) + "\n" + s.codeAt(secret, device, 2) + "\n")
		if out, errs, status := testenv.Finish(t, cmd); status != 1 || out != "" || !strings.Contains(errs, "not two codes in a row") {
			t.Errorf("codes that are no pair: stdout %q, stderr %q, status %d", out, errs, status)
		}
		cmd = with(recovery[1]).SSH(t, "resync", "no-such-token")
		cmd.Stdin = strings.NewReader(s.codeAt(secret, device, 0) + "\n" + s.codeAt(secret, device, 1) + "\n")
		if _, errs, status := testenv.Finish(t, cmd); status != 1 {
			t.Errorf("another token: stderr %q, status %d", errs, status)
		}
		cmd = with(recovery[2]).SSH(t, "resync")
		cmd.Stdin = strings.NewReader(s.codeAt(secret, device, 0) + "\n" + s.codeAt(secret, device, 1) + "\n")
		out, errs, status := testenv.Finish(t, cmd)
		if status != 0 || out != "" || !strings.Contains(errs, "A code of the token: ") || !strings.Contains(errs, "The next one: ") || !strings.Contains(errs, "seconds off") {
			t.Fatalf("resync: stdout %q, stderr %q, status %d", out, errs, status)
		}
		if out, _, status := with(s.codeAt(secret, device, 1)).Output(t, "whoami"); status != 255 {
			t.Errorf("a code that was used up: %q, status %d", out, status)
		}
		if out, errs, status := with(s.codeAt(secret, device, 2)).Output(t, "whoami"); status != 0 || !strings.Contains(out, "password code") || !strings.Contains(out, "7 codes left") {
			t.Errorf("the next code: stdout %q, stderr %q, status %d", out, errs, status)
		}
		if got := s.events("token.resynced"); len(got) != 3 || !strings.HasPrefix(got[2], "ok alice") {
			t.Errorf("events %q", got)
		}

		client.Login = "alice"
		term := s.terminal(client, "resync")
		term.Expect("Password: ")
		term.Type(alicePassword + "\n")
		term.Expect("Code: ")
		term.Type(strings.ToUpper(recovery[3]) + "\n")
		term.Expect("You have 6 recovery codes left.")
		term.Expect("A code of the token: ")
		term.Type(s.codeAt(secret, device, 3) + "\n")
		term.Expect("The next one: ")
		term.Type(s.codeAt(secret, device, 4) + "\n")
		term.Expect("found your token")
		if status := term.Wait(); status != 0 {
			t.Errorf("status %d", status)
		}
	})
}

// Somebody who leaves in the middle, types a flood, or nothing, gets no further and holds nothing up.
func TestResyncHostile(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	for _, input := range []string{"", "123456\n", strings.Repeat("1", 1<<20), "\n\n", "123456\n" + strings.Repeat("2", 1<<20)} {
		client := s.ssh()
		client.Login = "alice"
		cmd := client.SSH(t, "resync")
		cmd.Stdin = strings.NewReader(input)
		if _, errs, status := testenv.Finish(t, cmd); status != 2 && status != 1 {
			t.Errorf("%.20q: stderr %q, status %d", input, errs, status)
		}
	}
}

// Of 50 who try one recovery code at the same moment, one gets in.
func TestSpareCodesBySSH(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.noSSHD, o.guard.Exempt, o.guard.Tries = true, loopback(), 1
		s := newSystem(t, o)
		code := s.recoveryCodes()[0]
		won := s.inParallel(50, func(int) bool {
			c, err := s.dial("alice@down", answers(alicePassword, code, nil))
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		if won != 1 {
			t.Errorf("%d of 50 got in with one recovery code, want 1", won)
		}
		if n := len(s.events("recovery.used")); n != 1 {
			t.Errorf("%d events, want 1", n)
		}
		u, err := s.Store.Users.ByLogin(context.Background(), "alice")
		check(t, err)
		if left, err := s.Store.SpareCodes.Left(context.Background(), u.ID); left != 9 || err != nil {
			t.Errorf("%d left, %v", left, err)
		}
		if got, err := s.Store.Attempts.Locks(context.Background()); err != nil || len(got) > 1 {
			t.Errorf("locks %+v, %v", got, err)
		}
	})
}

// A token with a button at the door: the counter goes on, nothing before it is good again.
func TestCounterTokenBySSH(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	u, err := s.Store.Users.ByLogin(context.Background(), "alice")
	check(t, err)
	_, err = s.Store.Tokens.Add(context.Background(), store.Token{UserID: u.ID, Name: "button", Kind: "hotp", LastStep: -1, Enabled: true}, []byte("12345678901234567890"))
	check(t, err)
	// RFC 4226, appendix D: counters 0, 3, 9; and 0 again.
	for _, tt := range []struct {
		code string
		want bool
	}{{"755224", true}, {"969429", true}, {"520489", true}, {"755224", false}, {"254676", false}} {
		c, err := s.dial("alice@down", answers(alicePassword, tt.code, nil))
		if err == nil {
			c.Close()
		}
		if (err == nil) != tt.want {
			t.Errorf("code %s: %v, want in %v", tt.code, err, tt.want)
		}
	}
	if n := len(s.events("code.replayed")); n < 2 {
		t.Errorf("%d alarms, want one for each used code", n)
	}
}
