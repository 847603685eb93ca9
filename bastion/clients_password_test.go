package bastion_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/auth"
	"sallyport/internal/testenv"
	"sallyport/otp"
	"sallyport/store"
)

// passwordCodeRules let old clients send a code in the password field on the way to web1.
const passwordCodeRules = `version: 1
rules:
  - {name: old-clients, users: ["*"], targets: [web1], channels: [shell, exec, sftp, scp], password-code: true}
  - {name: others, users: ["*"], targets: [down]}
`

// Programs that know the method "password" only get in with a code in the password field, with a comma before it or
// without.
func TestPasswordOnlyClients(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.rules = passwordCodeRules
		s := newSystem(t, o)
		host, port, _ := strings.Cut(s.Addr, ":")
		dir := t.TempDir()
		src := filepath.Join(dir, "src")
		write(t, src, 100_000)
		field := func(separator string) string { return alicePassword + separator + s.code("alice") }
		inURL := func(password string) string {
			return strings.ReplaceAll(strings.ReplaceAll(password, " ", "%20"), ",", "%2C")
		}

		for _, separator := range []string{",", ""} {
			c := s.ssh() // as sshpass does
			c.Password, c.Options = field(separator), []string{"PreferredAuthentications=password", "LogLevel=ERROR"}
			if out, errs, status := testenv.Finish(t, asPassword(c.SSH(t, "echo in"))); out != "in\n" || status != 0 {
				t.Errorf("ssh, %q: %q %q %d", separator, out, errs, status)
			}
			client, err := s.dial("alice@web1", ssh.Password(field(separator)))
			check(t, err)
			check(t, says(client))
			check(t, client.Close())
		}

		succeed(t, exec.Command("curl", "-sS", "--insecure", "-o", dir+"/curl", "sftp://alice%40web1:"+inURL(field(","))+"@"+s.Addr+src))
		same(t, src, dir+"/curl")
		// PuTTY tries keyboard-interactive first, unless a saved session says otherwise.
		check(t, os.MkdirAll(dir+"/.putty/sessions", 0o700))
		check(t, os.WriteFile(dir+"/.putty/sessions/old", []byte("Protocol=ssh\nHostName="+host+"\nPortNumber="+port+"\nUserName=alice@web1\nAuthKI=0\n"), 0o600))
		plink := exec.Command("plink", "-batch", "-hostkey", ssh.FingerprintSHA256(s.HostKey), "-pw", field(","), "-load", "old", "echo in")
		plink.Env = append(os.Environ(), "HOME="+dir)
		if out := succeed(t, plink); out != "in\n" {
			t.Errorf("plink: %q", out)
		}
		lftp := exec.Command("lftp", "-e", `set cmd:fail-exit yes; set net:max-retries 1; set sftp:connect-program "ssh -a -x -o PreferredAuthentications=password -o PubkeyAuthentication=no -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"; `+
			`open -u "alice@web1,`+field("")+`" sftp://`+s.Addr+"; get "+src+" -o "+dir+"/lftp; bye")
		lftp.Env = append(os.Environ(), "HOME="+dir)
		succeed(t, lftp)
		same(t, src, dir+"/lftp")

		for _, e := range s.details("login.accepted") {
			if e["factors"] != "password+code" || e["inner"] != "" {
				t.Errorf("event %v", e)
			}
		}
	})
}

// asPassword makes an answering program give the password to OpenSSH's own prompt of the method "password".
func asPassword(cmd *exec.Cmd) *exec.Cmd {
	for i, v := range cmd.Env {
		if path, ok := strings.CutPrefix(v, "SSH_ASKPASS="); ok {
			dir := filepath.Dir(path)
			script := filepath.Join(dir, "password-only")
			if err := os.WriteFile(script, []byte(fmt.Sprintf("#!/bin/sh\nexec cat %s/password\n", dir)), 0o700); err != nil {
				panic(err)
			}
			cmd.Env[i] = "SSH_ASKPASS=" + script
		}
	}
	return cmd
}

// passwordThen tries the password field, and then answers what is asked.
func (s *system) passwordThen(login, field, code string) (asked []string, took time.Duration, err error) {
	s.t.Helper()
	begun := time.Now()
	c, err := s.dial(login, ssh.PasswordCallback(func() (string, error) { return field, nil }),
		ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			if took == 0 {
				took = time.Since(begun)
			}
			asked = append(asked, questions...)
			out := make([]string, len(questions))
			for i := range out {
				out[i] = code
			}
			return out, nil
		}))
	if err == nil {
		c.Close()
	}
	return asked, took, err
}

// Whatever is wrong, who may not use the form, and who is nobody: the answer to the password field is the same, at the
// same time of the grid, and a code is asked for. A failure counts, and a code that was right is used up.
func TestPasswordFieldTellsNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: passwordCodeRules})
	ctx := context.Background()
	s.token("alice")
	locked := s.addUser("locked", alicePassword)
	s.token("locked")
	check(t, s.Store.Users.Lock(ctx, locked.ID, "left", time.Time{}))
	s.addUser("bob", alicePassword) // has no token
	good := s.code("alice")
	for name, x := range map[string]struct{ login, field string }{
		"wrong code":           {"alice@web1", alicePassword + ",000000"},
		"wrong password":       {"alice@web1", "nonsense," + good},
		"no code":              {"alice@web1", alicePassword},
		"nothing but a code":   {"alice@web1", "," + s.code("alice")},
		"rule does not say so": {"alice@down", alicePassword + "," + s.code("alice")},
		"no target":            {"alice", alicePassword + "," + s.code("alice")},
		"no such target":       {"alice@nowhere", alicePassword + "," + s.code("alice")},
		"no such person":       {"nobody@web1", alicePassword + ",123456"},
		"locked":               {"locked@web1", alicePassword + "," + s.code("locked")},
		"no token":             {"bob@web1", alicePassword + ",123456"},
		"recovery code":        {"alice@web1", alicePassword + ",abcd-efgh-jkmn-pqrs"},
	} {
		asked, took, err := s.passwordThen(x.login, x.field, "999999")
		if err == nil || len(asked) == 0 || asked[0] != auth.PromptCode || len(asked) > 20 {
			t.Errorf("%s: asked %q, %v", name, asked, err)
		}
		if took < 500*time.Millisecond {
			t.Errorf("%s: answered after %s, before the grid", name, took)
		}
		s.forgetFailures("alice")
	}
	if n := len(s.events("code.replayed")); n != 0 {
		t.Errorf("%d codes were found used", n)
	}
	// The code beside the wrong password is used up.
	if _, _, err := s.passwordThen("alice@web1", alicePassword+","+good, "999999"); err == nil {
		t.Error("a used code opened")
	}
	if n := len(s.events("code.replayed")); n != 1 {
		t.Errorf("%d codes were found used, want 1", n)
	}
	s.forgetFailures("alice")
	// The whole of what was typed is the password that goes with the code that follows.
	if _, _, err := s.passwordThen("alice@web1", alicePassword, s.code("alice")); err != nil {
		t.Errorf("password, then code: %v", err)
	}
}

// forgetFailures clears what was counted of login and of this machine.
func (s *system) forgetFailures(login string) {
	s.t.Helper()
	u, err := s.Store.Users.ByLogin(context.Background(), login)
	check(s.t, err)
	for _, id := range []string{"source:127.0.0.1", "user+source:user:" + u.ID + "|127.0.0.1", "user:user:" + u.ID} {
		if err := s.Store.Attempts.Clear(context.Background(), id); err != nil && !errors.Is(err, store.ErrNotFound) {
			s.t.Fatal(err)
		}
	}
}

// Tokens of eight digits and of six beside each other; failures lock.
func TestPasswordCodeDigitsAndLock(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: passwordCodeRules})
	ctx := context.Background()
	u, err := s.Store.Users.ByLogin(ctx, "alice")
	check(t, err)
	secret := otp.NewSecret()
	_, err = s.Store.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "eight", Kind: "totp", Algorithm: "SHA1", Digits: 8, Period: 30, Enabled: true}, secret)
	check(t, err)
	eight := strings.TrimSpace(testenv.Run(t, "oathtool", "--totp", "--base32", "--digits=8", secret.Base32()))
	for _, code := range []string{s.code("alice"), eight} {
		c, err := s.dial("alice@web1", ssh.Password(alicePassword+code))
		check(t, err)
		c.Close()
	}
	for i := range 5 {
		if _, err := s.dial("alice@web1", ssh.Password(fmt.Sprintf("%s,00000%d", alicePassword, i))); err == nil {
			t.Fatal("got in")
		}
	}
	if n := len(s.events("lockout.set")); n != 1 {
		t.Errorf("%d locks", n)
	}
	if _, err := s.dial("alice@web1", ssh.Password(alicePassword+","+s.code("alice"))); err == nil {
		t.Error("got in while locked")
	}
}
