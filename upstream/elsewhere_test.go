package upstream

import (
	"strings"
	"testing"

	"sallyport/internal/testenv"
	"sallyport/store"
)

func stepOf(t *testing.T, steps []Step, name string) Step {
	t.Helper()
	for _, s := range steps {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no step %q in %+v", name, steps)
	return Step{}
}

// The check finds out whether the credential works from elsewhere.
func TestOtherAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sshd := testenv.StartSSHD(t)
	x := w.target(store.Target{Name: "web1", Address: sshd.Addr, HostKeys: []string{sshd.HostKey}}, nil)
	found := func(d *Dialer) Step { return stepOf(t, d.Check(t.Context(), x, sshd.Account), "other addresses") }

	sshd.Authorize(w.d.AuthorizedKey())
	if s := found(w.d); s.OK || !strings.Contains(s.Detail, "works from 127.0.0.2") || !strings.Contains(s.Fix, `from="127.0.0.1"`) {
		t.Errorf("without from=: %+v", s)
	}
	sshd.Authorize(`from="127.0.0.1" ` + w.d.AuthorizedKey())
	if s := found(w.d); !s.OK || s.Detail != "the same login is refused from 127.0.0.2" {
		t.Errorf("with from=: %+v", s)
	}
	if log := sshd.Log(); !strings.Contains(log, "127.0.0.2") {
		t.Errorf("nobody came from 127.0.0.2:\n%s", log)
	}
	cfg := w.d.cfg
	cfg.Addresses = nil
	if s := found(New(cfg)); !s.OK || !strings.Contains(s.Detail, "cannot be tried from here") {
		t.Errorf("without addresses: %+v", s)
	}
	cfg.Addresses = []string{"192.0.2.10"}
	if s := stepOf(t, New(cfg).Check(t.Context(), x, sshd.Account), "source address"); s.OK || !strings.Contains(s.Detail, "127.0.0.1, which is not one of ssh: addresses") {
		t.Errorf("another address: %+v", s)
	}
}

// A certificate that names the bastion's address is refused from elsewhere without anything on the target.
func TestOtherAddressesCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sshd, x := trustingSSHD(t, w)
	if s := stepOf(t, w.d.Check(t.Context(), x, sshd.Account), "other addresses"); !s.OK || !strings.Contains(s.Detail, "refused from 127.0.0.2") {
		t.Errorf("%+v", s)
	}
}

// Each hop has its steps, and the target sees the jump host.
func TestCheckThroughJumpHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	servers, targets := w.chain(2)
	steps := w.d.Check(t.Context(), targets[1], targets[1].Accounts[0])
	var names []string
	for _, s := range steps {
		names = append(names, s.Name)
		if !s.OK {
			t.Errorf("%+v", s)
		}
	}
	if got := strings.Join(names, ", "); got != "hop1: reach, hop1: host key, hop1: login, reach, host key, login, source address, other addresses" {
		t.Errorf("steps: %s", got)
	}
	if s := stepOf(t, steps, "source address"); !strings.Contains(s.Detail, "sees hop1 as 127.0.0.1") {
		t.Errorf("%+v", s)
	}
	servers[1].Stop()
	steps = w.d.Check(t.Context(), targets[1], targets[1].Accounts[0])
	if last := steps[len(steps)-1]; last.Name != "reach" || last.OK || !strings.Contains(last.Detail, "through hop1") {
		t.Errorf("%+v", steps)
	}
	servers[0].Authorize("")
	steps = w.d.Check(t.Context(), targets[1], targets[1].Accounts[0])
	if last := steps[len(steps)-1]; last.Name != "hop1: login" || last.OK {
		t.Errorf("%+v", steps)
	}
}
