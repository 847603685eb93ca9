package upstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// Through all phases of a rotation, targets with the lines of the phase let the bastion in, those that were
// not brought up to date refuse as soon as they must, and a connection that is open goes on.
func TestRotateCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := New(w.d.cfg) // as another node on the same database
	trusting := func(name string) (lines func(), x store.Target, account string) {
		file := filepath.Join(t.TempDir(), "ca.pub")
		lines = func() { noError(t, os.WriteFile(file, []byte(w.caLines()), 0o600)) }
		lines()
		sshd := testenv.StartSSHD(t, "TrustedUserCAKeys "+file) // read at each login
		return lines, w.target(store.Target{Name: name, Address: sshd.Addr, HostKeys: []string{sshd.HostKey}, Credential: store.CredentialCertificate}, nil), sshd.Account
	}
	update, fresh, account := trusting("fresh") // gets every line in time
	_, stale, _ := trusting("stale")            // never does
	both := func(phase string, x store.Target, want bool) {
		t.Helper()
		for i, d := range []*Dialer{w.d, other} {
			u, err := d.Dial(t.Context(), x, account, Who{User: "alice", Session: "s1"})
			if err == nil {
				_ = u.Close()
			}
			if (err == nil) != want {
				t.Errorf("%s: node %d at %s: %v", phase, i+1, x.Name, err)
			}
		}
	}
	both("at first", fresh, true)
	open, err := w.d.Dial(t.Context(), fresh, account, Who{User: "alice", Session: "s1"})
	noError(t, err)
	defer open.Close()

	public, secret, err := NewCA()
	noError(t, err)
	_, err = w.st.CAKeys.Rotate(t.Context(), public, secret)
	noError(t, err)
	both("a next key is there", fresh, true)
	both("a next key is there", stale, true)
	update()
	both("targets trust both", fresh, true)

	_, err = w.st.CAKeys.Activate(t.Context())
	noError(t, err)
	both("the next key signs", fresh, true)
	both("the next key signs", stale, false)

	_, err = w.st.CAKeys.Retire(t.Context())
	noError(t, err)
	update()
	both("the old key is gone", fresh, true)
	if lines := w.caLines(); strings.Count(lines, "\n") != 1 || !strings.Contains(lines, public) {
		t.Errorf("targets should trust %q", lines)
	}
	if out, err := run(open, "printf %s abc", time.Minute); err != nil || out != "abc" {
		t.Errorf("the connection that was open all the time: %q, %v", out, err)
	}
}
