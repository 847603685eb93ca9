package bastion_test

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/store"
)

// behind adds a target that is reached through web1, on web1's own loopback.
func (s *system) behind(name string) store.Target {
	s.t.Helper()
	t, err := s.Store.Targets.Add(s.t.Context(), store.Target{Name: name, Address: s.SSHD.Addr, Accounts: []string{s.SSHD.Account}, Via: "web1",
		HostKeyMode: store.Pinned, HostKeys: []string{s.SSHD.HostKey}})
	check(s.t, err)
	return t
}

// A target behind another one is reached by robots, whose connection is begun while they log in; by ssh -J, by its
// name and by its address; and a rule for the one is no rule for the other.
func TestTargetBehindAnother(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: inner, users: ['*'], targets: [inner]}\n"})
	s.behind("inner")
	robot := s.robot("echo in")
	s.changeRobot(func(r *store.Robot) { r.Targets = []string{"inner"} })
	if out, errs, status := s.robotClient("deploy-bot@inner", robot).Output(t, "echo in"); out != "in\n" || status != 0 {
		t.Errorf("a robot: %q %q %d", out, errs, status)
	}
	if out, _, status := s.robotClient("deploy-bot@web1", robot).Output(t, "echo in"); out != "" || status == 0 {
		t.Errorf("a robot at the jump host: %q %d", out, status)
	}
	key := s.provedKey("alice")
	outer := s.outer("alice", ssh.PublicKeys(key), answers("", s.code("alice"), nil))
	for _, to := range []string{"inner:22", s.SSHD.Addr} {
		c, err := s.insideAt(outer, to, s.SSHD.Account, ssh.PublicKeys(key))
		check(t, err)
		check(t, says(c))
		c.Close()
		if row := s.session(); row.Target != "inner" || row.Rule != "inner" {
			t.Errorf("%s led to %s by rule %s", to, row.Target, row.Rule)
		}
	}
	if c, err := s.insideAt(outer, "web1:22", s.SSHD.Account, ssh.PublicKeys(key)); err == nil {
		c.Close()
		t.Error("the jump host lets people in that no rule lets in there")
	}
	s.rules("version: 1\nrules:\n  - {name: all, users: ['*'], targets: [inner, web1]}\n")
	if _, err := s.insideAt(outer, s.SSHD.Addr, s.SSHD.Account, ssh.PublicKeys(key)); err == nil || !strings.Contains(err.Error(), "several have this address") {
		t.Errorf("an address of two targets: %v", err)
	}
}

// The changed host key of a target behind another one waits for approval like any other, and so does that of the
// jump host; people read which of the two it is, and get in when it was approved.
func TestChangedKeyBehindAnother(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['*'], from: [127.0.0.1], code: none}\n"})
	s.behind("inner")
	key := s.provedKey("alice")
	try := func() string {
		c, err := s.dial("alice@inner", ssh.PublicKeys(key))
		check(t, err)
		defer c.Close()
		sess, err := c.NewSession()
		if err != nil {
			return err.Error()
		}
		var errs said
		sess.Stderr = &errs
		_ = sess.Run("true")
		return errs.String()
	}
	other := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(newSigner(t).PublicKey())))
	for _, name := range []string{"inner", "web1"} {
		_, err := s.Store.Targets.Change(t.Context(), name, func(x *store.Target) (store.CredentialSecret, error) { x.HostKeys = []string{other}; return nil, nil })
		check(t, err)
		said := try()
		if !strings.Contains(said, "HOST KEY OF "+name+" ") || !strings.Contains(said, "hostkey approve "+name) {
			t.Errorf("the changed key of %s: %q", name, said)
		}
		waiting, err := s.Store.HostKeys.List(t.Context(), "")
		check(t, err)
		if len(waiting) != 1 || waiting[0].Target != name {
			t.Fatalf("after that of %s there wait %+v", name, waiting)
		}
		_, _, err = s.Store.HostKeys.Approve(t.Context(), waiting[0].ID, false)
		check(t, err)
		if said := try(); said != "" {
			t.Errorf("after the key of %s was approved: %q", name, said)
		}
	}
}
