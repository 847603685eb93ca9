package upstream

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// A changed key is refused and waits; once approved it is the only one taken.
func TestChangedKeyWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sshd := testenv.StartSSHD(t)
	sshd.Authorize(w.d.AuthorizedKey())
	old := keyLine(newSigner(t).PublicKey())
	x := w.target(store.Target{Name: "web1", Address: sshd.Addr, HostKeys: []string{old}}, nil)
	for range 2 {
		if text := w.refused(x, sshd.Account); !strings.Contains(text, "HAS CHANGED") || !strings.Contains(text, "sallyport hostkey approve web1") {
			t.Errorf("the person reads %q", text)
		}
	}
	waiting, err := w.st.HostKeys.List(t.Context(), x.ID)
	noError(t, err)
	if len(waiting) != 1 || waiting[0].Key != sshd.HostKey || waiting[0].Seen != 2 {
		t.Fatalf("waiting: %+v", waiting)
	}
	_, _, err = w.st.HostKeys.Approve(t.Context(), waiting[0].ID, false)
	noError(t, err)
	x, err = w.st.Targets.ByID(t.Context(), x.ID)
	noError(t, err)
	w.accepted(x, sshd.Account)
	if slices.Contains(x.HostKeys, old) {
		t.Error("the old key is still taken")
	}
	x.RevokedKeys = []string{sshd.HostKey}
	if text := w.refused(x, sshd.Account); !strings.Contains(text, "revoked") {
		t.Errorf("the person reads %q", text)
	}
	x.HostKeys, x.HostKeyMode = nil, store.TOFU
	w.refused(x, sshd.Account)
}

// hostCertificate signs the host key of sshd, and has it show the certificate.
func hostCertificate(t *testing.T, sshd *testenv.SSHD, ca, principals, validity string, extra ...string) {
	t.Helper()
	sshd.Stop()
	args := append([]string{"-q", "-s", ca, "-I", "web1", "-V", validity}, extra...)
	if principals != "" {
		args = append(args, "-n", principals)
	}
	testenv.Run(t, "ssh-keygen", append(args, filepath.Join(sshd.Dir, "host.pub"))...)
	config := filepath.Join(sshd.Dir, "config")
	text, err := os.ReadFile(config)
	noError(t, err)
	line := "HostCertificate " + filepath.Join(sshd.Dir, "host-cert.pub") + "\n"
	if !strings.Contains(string(text), line) {
		noError(t, os.WriteFile(config, append(text, line...), 0o600))
	}
	sshd.Start()
}

func TestHostCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	ca, other := filepath.Join(dir, "ca"), filepath.Join(dir, "other")
	var caLine string
	for _, file := range []string{ca, other} {
		testenv.Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file)
	}
	pub, err := os.ReadFile(ca + ".pub")
	noError(t, err)
	caLine = strings.TrimSpace(string(pub))
	sshd := testenv.StartSSHD(t)
	sshd.Authorize(w.d.AuthorizedKey())
	x := w.target(store.Target{Name: "web1", Address: sshd.Addr, HostKeyMode: store.HostCA, HostCAs: []string{caLine}, HostKeys: []string{sshd.HostKey}}, nil)

	if text := w.refused(x, sshd.Account); !strings.Contains(text, "shows no host certificate") {
		t.Errorf("without a certificate the person reads %q", text)
	}
	if steps := w.d.Check(t.Context(), x, sshd.Account); steps[len(steps)-1].OK || steps[len(steps)-1].Name != "host key" {
		t.Errorf("check without a certificate: %+v", steps)
	}
	for _, tc := range []struct{ name, ca, principals, validity, says string }{
		{"wrong principal", ca, "db1.example.org", "+1h", "not for 127.0.0.1"},
		{"no principal", ca, "", "+1h", "no host by name"},
		{"expired", ca, "127.0.0.1", "-2h:-1h", "expired"},
		{"not yet valid", ca, "127.0.0.1", "+1h:+2h", "not yet valid"},
		{"another CA", other, "127.0.0.1", "+1h", "not its CA"},
	} {
		hostCertificate(t, sshd, tc.ca, tc.principals, tc.validity, "-h")
		if text := w.refused(x, sshd.Account); !strings.Contains(text, tc.says) {
			t.Errorf("%s: the person reads %q, want %q in it", tc.name, text, tc.says)
		}
		if steps := w.d.Check(t.Context(), x, sshd.Account); steps[len(steps)-1].OK || !strings.Contains(steps[len(steps)-1].Detail, tc.says) {
			t.Errorf("%s: check says %+v", tc.name, steps)
		}
	}
	hostCertificate(t, sshd, ca, "web1,127.0.0.1", "+1h", "-h")
	w.accepted(x, sshd.Account)
	sshd.Authorize(`from="127.0.0.1" ` + w.d.AuthorizedKey())
	for _, s := range w.d.Check(t.Context(), x, sshd.Account) {
		if !s.OK {
			t.Errorf("check: %+v", s)
		}
	}
	waiting, err := w.st.HostKeys.List(t.Context(), "")
	noError(t, err)
	if len(waiting) != 0 {
		t.Errorf("keys of a target with a CA wait: %+v", waiting)
	}
	revoked := x
	revoked.RevokedKeys = []string{sshd.HostKey}
	w.refused(revoked, sshd.Account)
	revoked.RevokedKeys = []string{caLine}
	w.refused(revoked, sshd.Account)
	later := New(func() Config {
		c := w.d.cfg
		c.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
		return c
	}())
	if _, err := later.Dial(t.Context(), x, sshd.Account, Who{}); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("two hours later: %v", err)
	}
}

// Check says of each credential whether it works.
func TestCheckCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sshd, x := trustingSSHD(t, w)
	proof := func(x store.Target) string {
		steps := w.d.Check(t.Context(), x, sshd.Account)
		for _, s := range steps {
			if s.Name == "login" {
				return s.Detail + s.Fix
			}
		}
		return ""
	}
	if got := proof(x); !strings.HasPrefix(got, "the bastion's certificate opens account") {
		t.Errorf("certificate: %q", got)
	}
	x.Credential = store.CredentialKey
	if got := proof(x); !strings.Contains(got, "authorized_keys") {
		t.Errorf("key that is not there: %q", got)
	}
	sshd.Authorize(w.d.AuthorizedKey())
	if got := proof(x); !strings.HasPrefix(got, "the bastion's key opens account") {
		t.Errorf("key: %q", got)
	}
}

// A key that was trusted on first use is still good when keys are exchanged again in that connection.
func TestRekeyAfterFirstUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sshd := testenv.StartSSHD(t, "RekeyLimit 100K")
	sshd.Authorize(w.d.AuthorizedKey())
	u, err := w.d.Dial(t.Context(), w.target(store.Target{Name: "web1", Address: sshd.Addr, HostKeyMode: store.TOFU}, nil), sshd.Account, Who{})
	noError(t, err)
	defer u.Close()
	ch, reqs, err := u.OpenChannel("session", nil)
	noError(t, err)
	go ssh.DiscardRequests(reqs)
	const size = 2 << 20
	ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{fmt.Sprint("head -c ", size, " /dev/zero")}))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if n, err := io.Copy(io.Discard, ch); n != size || err != nil {
		t.Errorf("%d bytes came, want %d: %v", n, size, err)
	}
}
