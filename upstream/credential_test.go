package upstream

import (
	"errors"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// A target's own key opens that target and no other.
func TestOwnKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := testenv.StartSSHD(t), testenv.StartSSHD(t)
	var targets []store.Target
	for i, sshd := range []*testenv.SSHD{one, two} {
		secret, err := NewKey()
		noError(t, err)
		x := w.target(store.Target{Name: []string{"one", "two"}[i], Address: sshd.Addr, HostKeys: []string{sshd.HostKey}, Credential: store.CredentialOwnKey}, secret)
		line, err := w.d.TargetKey(t.Context(), x)
		noError(t, err)
		if !strings.HasPrefix(line, "ssh-ed25519 ") || line == w.d.AuthorizedKey() {
			t.Errorf("key of %s: %q", x.Name, line)
		}
		sshd.Authorize(line)
		targets = append(targets, x)
	}
	w.accepted(targets[0], one.Account)
	w.accepted(targets[1], two.Account)
	swapped := targets[0]
	swapped.Address, swapped.HostKeys = two.Addr, []string{two.HostKey}
	if text := w.refused(swapped, two.Account); !strings.Contains(text, "refuses the key of this target") {
		t.Errorf("the person reads %q", text)
	}
	bastionKey := targets[0]
	bastionKey.Credential = store.CredentialKey
	w.refused(bastionKey, one.Account)
	if text := w.refused(bastionKey, one.Account); !strings.Contains(text, "target onboard one") {
		t.Errorf("the person reads %q", text)
	}
}

// The certificate opens the account it names, from the bastion's address, for a short time, and the
// target's log tells who came.
func TestCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sshd, x := trustingSSHD(t, w)
	w.accepted(x, sshd.Account)
	if log := sshd.Log(); !regexp.MustCompile(`Accepted (certificate|publickey).*ID alice/0195-session`).MatchString(log) {
		t.Errorf("the target's log does not tell who came:\n%s", log)
	}
	signer, err := w.d.certificate(t.Context(), store.Target{}, "deploy", Who{User: "alice\n", Session: "s1"}, time.Now())
	noError(t, err)
	cert := signer.PublicKey().(*ssh.Certificate)
	if cert.KeyId != `alice\n/s1` || len(cert.ValidPrincipals) != 1 || cert.ValidPrincipals[0] != "deploy" || cert.CriticalOptions["source-address"] != "127.0.0.1" {
		t.Errorf("certificate %q for %q with %v", cert.KeyId, cert.ValidPrincipals, cert.CriticalOptions)
	}
	if life := time.Until(time.Unix(int64(cert.ValidBefore), 0)); life > 5*time.Minute+time.Second || life < 4*time.Minute {
		t.Errorf("the certificate lives for %v", life)
	}
	again, err := w.d.certificate(t.Context(), store.Target{}, "deploy", Who{User: "alice", Session: "s1"}, time.Now())
	noError(t, err)
	if string(again.PublicKey().(*ssh.Certificate).Key.Marshal()) == string(cert.Key.Marshal()) {
		t.Error("two connections have one key")
	}
}

func TestCertificateRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sshd, x := trustingSSHD(t, w)
	refused := func(why string, d *Dialer, account, logged string) {
		t.Helper()
		u, err := d.Dial(t.Context(), x, account, Who{User: "alice", Session: "s1"})
		if err == nil {
			u.Close()
			t.Fatalf("%s: the target let the bastion in", why)
		}
		if !strings.Contains(err.Error(), "refuses the bastion's certificate") {
			t.Errorf("%s: the person reads %q", why, err)
		}
		if logged != "" && !strings.Contains(sshd.Log(), logged) {
			t.Errorf("%s: the target does not log %q:\n%s", why, logged, sshd.Log())
		}
	}
	change := func(f func(*Config)) *Dialer {
		cfg := w.d.cfg
		f(&cfg)
		return New(cfg)
	}
	refused("another source", change(func(c *Config) { c.Addresses = []string{"192.0.2.10"} }), sshd.Account, "source")
	refused("expired", change(func(c *Config) { c.Now = func() time.Time { return time.Now().Add(-time.Hour) } }), sshd.Account, "expired")
	refused("not yet valid", change(func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } }), sshd.Account, "not yet valid")
	refused("another CA", change(func(c *Config) { c.Store = newWorld(t).st }), sshd.Account, "")
	none := change(func(c *Config) { c.Store = newStore(t) })
	if _, err := none.Dial(t.Context(), x, sshd.Account, Who{}); err == nil || !strings.Contains(err.Error(), "no user CA") {
		t.Errorf("without a CA: %v", err)
	}
	signer, err := w.d.certificate(t.Context(), store.Target{}, "somebody-else", Who{User: "alice", Session: "s1"}, time.Now())
	noError(t, err)
	other := &ssh.ClientConfig{User: sshd.Account, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	if conn, err := ssh.Dial("tcp", sshd.Addr, other); err == nil {
		conn.Close()
		t.Error("a certificate for one account opened another")
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	const right = "correct horse"
	check := func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		if string(p) != right {
			return nil, errors.New("wrong")
		}
		return nil, nil
	}
	var leaked atomic.Int32
	prompts := func(echo bool, questions ...string) func(*ssh.ServerConfig) {
		return func(c *ssh.ServerConfig) {
			c.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				for _, q := range questions {
					list := strings.Split(q, "|")
					echos := make([]bool, len(list))
					for i := range echos {
						echos[i] = echo
					}
					answers, err := ask("", "", list, echos)
					if err != nil {
						return nil, err
					}
					if len(answers) != 1 || answers[0] != right {
						return nil, errors.New("wrong")
					}
					if echo || len(list) > 1 {
						leaked.Add(1)
					}
				}
				return nil, nil
			}
		}
	}
	for _, tc := range []struct {
		name      string
		configure func(*ssh.ServerConfig)
		password  string
		ok        bool
	}{
		{"method password", func(c *ssh.ServerConfig) { c.PasswordCallback = check }, right, true},
		{"wrong password", func(c *ssh.ServerConfig) { c.PasswordCallback = check }, "wrong", false},
		{"one prompt", prompts(false, "Password: "), right, true},
		{"prompt with echo", prompts(true, "Password: "), right, false},
		{"two prompts", prompts(false, "Password: |Again: "), right, false},
		{"second prompt", prompts(false, "Password: ", "New password: "), right, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			addr, key := passwordServer(t, tc.configure)
			x := w.target(store.Target{Name: "switch", Address: addr, HostKeys: []string{key}, Credential: store.CredentialPassword}, store.CredentialSecret(tc.password))
			if tc.ok {
				w.accepted(x, "admin")
				return
			}
			if text := w.refused(x, "admin"); strings.Contains(text, tc.password+" ") || !strings.Contains(text, "switch") {
				t.Errorf("the person reads %q", text)
			}
		})
	}
	t.Cleanup(func() {
		if n := leaked.Load(); n > 0 {
			t.Errorf("the password was given to %d prompts that must not get it", n)
		}
	})
}

// Nobody gets the password before the host key is known, or with a wrong one.
func TestPasswordOnlyToKnownHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var asked atomic.Int32
	addr, _ := passwordServer(t, func(c *ssh.ServerConfig) {
		c.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { asked.Add(1); return nil, nil }
	})
	other := keyLine(newSigner(t).PublicKey())
	if text := w.refused(w.target(store.Target{Name: "first", Address: addr, HostKeyMode: store.TOFU, Credential: store.CredentialPassword}, store.CredentialSecret("secret")), "admin"); !strings.Contains(text, "before its host key is known") {
		t.Errorf("the person reads %q", text)
	}
	if text := w.refused(w.target(store.Target{Name: "changed", Address: addr, HostKeys: []string{other}, Credential: store.CredentialPassword}, store.CredentialSecret("secret")), "admin"); !strings.Contains(text, "HAS CHANGED") {
		t.Errorf("the person reads %q", text)
	}
	if asked.Load() != 0 {
		t.Error("the password went to a host that was not known")
	}
}
