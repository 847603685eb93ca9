package bastion_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/testenv"
)

// ldapOf is the directory of a slapd as the bastion sees it.
func ldapOf(t *testing.T, d *testenv.Directory) *identity.LDAP {
	t.Helper()
	l, err := identity.NewLDAP(identity.LDAPConfig{
		Servers: []string{d.LDAPSURL}, CAFile: d.CAFile, BindDN: d.BindDN, BindPassword: identity.Password(d.BindPassword),
		Base: d.PeopleDN, GroupBase: d.GroupsDN, LoginGroup: "ssh-users", Timeout: time.Minute,
	})
	check(t, err)
	t.Cleanup(l.Close)
	return l
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// answering is an Asker that gives one answer to every prompt.
type answering struct{ answer string }

func (a answering) Ask(_ context.Context, _ string, prompts []auth.Prompt) ([]string, error) {
	out := make([]string, len(prompts))
	for i := range out {
		out[i] = a.answer
	}
	return out, nil
}

func (answering) Show(context.Context, string) error { return nil }

// A key in the directory stands for the password, from the moment it is there until it is gone, for a person
// who has a row here, and with their code.
func TestDirectoryKey(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		d := testenv.Slapd(t)
		o.directory = ldapOf(t, d)
		s := newSystem(t, options{postgres: o.postgres, directory: o.directory})
		check(t, s.Store.Users.Delete(t.Context(), s.user("alice"))) // she comes from the directory here
		file := filepath.Join(t.TempDir(), "id")
		testenv.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file)
		line, err := os.ReadFile(file + ".pub")
		check(t, err)
		d.SetKeys("alice", string(line))
		client := &testenv.OpenSSH{Addr: s.Addr, Login: "alice@web1", KeyFile: file}

		// Never seen before: nobody here knows a password of hers, and she has no token.
		if out, _, status := client.Output(t, "echo in"); status == 0 {
			t.Fatalf("a person without a row got in: %q", out)
		}
		if _, err := s.Store.Users.ByLogin(t.Context(), "alice"); err == nil {
			t.Fatal("a key made a row")
		}
		entry, err := o.directory.Lookup(t.Context(), "alice")
		check(t, err)
		_, err = s.Store.Users.SeenInDirectory(t.Context(), entry.ID, "alice", entry.Name, entry.Email, entry.Groups)
		check(t, err)
		if out, _, status := client.Output(t, "echo in"); status == 0 {
			t.Fatalf("the key alone got in: %q", out)
		}
		client.Code = func() string { return s.code("alice") }
		if out, errs, status := client.Output(t, "echo in"); out != "in\n" || status != 0 {
			t.Fatalf("key of the directory and code: %q %q %d", out, errs, status)
		}

		d.SetKeys("alice", "no-pty "+string(line))
		if out, _, status := client.Output(t, "echo in"); status == 0 {
			t.Errorf("a key with options got in: %q", out)
		}
		d.SetKeys("alice")
		if out, _, status := client.Output(t, "echo in"); status == 0 {
			t.Errorf("a key that was taken away got in: %q", out)
		}
		d.SetKeys("bob", string(line))
		if out, _, status := client.Output(t, "echo in"); status == 0 {
			t.Errorf("somebody else's key got in: %q", out)
		}
	})
}

// What the directory says counts at the verdict: a key or an account that went while the code was typed.
func TestDirectoryKeyIsJudgedAtTheEnd(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	l := ldapOf(t, d)
	s := newSystem(t, options{noSSHD: true, directory: l, rules: `version: 1
rules:
  - {name: near, users: ["group:ops"], targets: [down], from: [127.0.0.0/8], code: none}
  - {name: all, users: ["*"], targets: [down]}
`})
	check(t, s.Store.Users.Delete(t.Context(), s.user("alice")))
	key := newSigner(t)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	for _, login := range []string{"alice", "bob", "carol"} {
		d.SetKeys(login, line)
		p, err := l.Lookup(t.Context(), login)
		check(t, err)
		_, err = s.Store.Users.SeenInDirectory(t.Context(), p.ID, login, p.Name, p.Email, p.Groups)
		check(t, err)
	}
	for login, meantime := range map[string]func(){"carol": func() { d.SetKeys("carol") }, "bob": nil} {
		if meantime == nil {
			meantime = func() { d.Leave("ssh-users", d.UserDN("bob")) }
			d.Leave("oncall", d.UserDN("bob")) // out of ops, so that a code is asked for
		}
		asked := 0
		c, err := s.dial(login+"@down", ssh.PublicKeys(key), ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) {
			if len(q) == 0 {
				return nil, nil
			}
			if asked++; asked == 1 {
				meantime()
			}
			return []string{s.code(login)}, nil
		}))
		if err == nil {
			c.Close()
			t.Errorf("%s got in with what was no longer so", login)
		}
		if asked == 0 {
			t.Errorf("%s was asked nothing", login)
		}
	}
	// A rule that asks for no code: the key alone, for somebody with a row, and not without.
	c, err := s.dial("alice@down", ssh.PublicKeys(key))
	if err != nil {
		t.Fatalf("a trusted source: %v", err)
	}
	c.Close()
	check(t, s.Store.Users.Delete(t.Context(), s.user("alice")))
	if c, err := s.dial("alice@down", ssh.PublicKeys(key)); err == nil {
		c.Close()
		t.Error("a key of the directory let in somebody without a row")
	}
	if _, err := s.Store.Users.ByLogin(t.Context(), "alice"); err == nil {
		t.Error("a key made a row")
	}
}

// user is the id of a login.
func (s *system) user(login string) string {
	s.t.Helper()
	u, err := s.Store.Users.ByLogin(context.Background(), login)
	check(s.t, err)
	return u.ID
}
