package upstream

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// chain is n real SSH servers, each reached through the one before; the last is the target.
func (w *world) chain(n int) (servers []*testenv.SSHD, targets []store.Target) {
	w.t.Helper()
	for i := range n {
		s := testenv.StartSSHD(w.t)
		s.Authorize(w.d.AuthorizedKey())
		t := store.Target{Name: fmt.Sprintf("hop%d", i+1), Address: s.Addr, Accounts: []string{s.Account}, HostKeys: []string{s.HostKey}}
		if i > 0 {
			t.Via = targets[i-1].Name
		}
		servers, targets = append(servers, s), append(targets, w.target(t, nil))
	}
	return servers, targets
}

// A target behind two jump hosts is reached through both, each logged in to, and everything closes
// together from either end.
func TestJumpHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	servers, targets := w.chain(3)
	last := targets[2]
	u, err := w.d.Dial(t.Context(), last, last.Accounts[0], Who{User: "alice", Session: "s1"})
	noError(t, err)
	if out, err := run(u, `printf %s "${SSH_CONNECTION%% *}"`, time.Minute); err != nil || out != "127.0.0.1" {
		t.Errorf("a command printed %q, %v", out, err)
	}
	for i, s := range servers {
		if !strings.Contains(s.Log(), "Accepted publickey") {
			t.Errorf("nobody logged in to hop %d:\n%s", i+1, s.Log())
		}
	}
	noError(t, u.Close())
	<-u.Done()
	for i, s := range servers {
		testenv.WaitFor(t, fmt.Sprintf("the end of the connection to hop %d", i+1), func() bool {
			return strings.Contains(s.Log(), "Connection closed by") || strings.Contains(s.Log(), "Disconnected from") || strings.Contains(s.Log(), "Connection reset")
		})
	}
}

// The death of a jump host's connection ends what went through it.
func TestJumpHostDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, targets := w.chain(2)
	proxy := newProxy(t, targets[0].Address)
	noError(t, w.st.Targets.Update(t.Context(), withAddress(targets[0], proxy.addr)))
	u, err := w.d.Dial(t.Context(), targets[1], targets[1].Accounts[0], Who{})
	noError(t, err)
	proxy.cut()
	select {
	case <-u.Done():
	case <-time.After(time.Minute):
		t.Error("the connection to the target lives on")
	}
}

func withAddress(t store.Target, addr string) store.Target {
	t.Address = addr
	return t
}

// Each hop proves itself by its own key, in its own mode; the key of a jump host never becomes that of the
// target, or the other way round.
func TestJumpHostKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	jump, web := testenv.StartSSHD(t), testenv.StartSSHD(t)
	jump.Authorize(w.d.AuthorizedKey())
	web.Authorize(w.d.AuthorizedKey())
	w.target(store.Target{Name: "jump1", Address: jump.Addr, Accounts: []string{jump.Account}, HostKeyMode: store.TOFU}, nil)
	x := w.target(store.Target{Name: "web1", Address: web.Addr, Accounts: []string{web.Account}, HostKeyMode: store.TOFU, Via: "jump1"}, nil)
	w.accepted(x, web.Account)
	keyOf := func(name string) string {
		got, err := w.st.Targets.ByName(t.Context(), name)
		noError(t, err)
		return strings.Join(got.HostKeys, ",")
	}
	if keyOf("jump1") != jump.HostKey || keyOf("web1") != web.HostKey {
		t.Errorf("jump1 is known by %s, web1 by %s", keyOf("jump1"), keyOf("web1"))
	}

	other := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(newSigner(t).PublicKey())))
	x, err := w.st.Targets.ByName(t.Context(), "web1")
	noError(t, err)
	x.HostKeys = []string{jump.HostKey} // as if the jump host answered in the target's place
	if got := w.refused(x, web.Account); !strings.Contains(got, "HOST KEY OF web1") {
		t.Errorf("the person reads %q", got)
	}
	x.HostKeys = []string{web.HostKey}
	j, err := w.st.Targets.ByName(t.Context(), "jump1")
	noError(t, err)
	j.HostKeys = []string{other}
	noError(t, w.st.Targets.Update(t.Context(), j))
	if got := w.refused(x, web.Account); !strings.HasPrefix(got, "cannot reach web1 through jump1: HOST KEY OF jump1") {
		t.Errorf("the person reads %q", got)
	}
	waiting, err := w.st.HostKeys.List(t.Context(), "")
	noError(t, err)
	if len(waiting) != 2 || waiting[0].Target != "jump1" || waiting[0].Key != jump.HostKey || waiting[1].Target != "web1" || waiting[1].Key != web.HostKey {
		t.Errorf("waiting: %+v", waiting)
	}
}

// Refusals name the hop.
func TestJumpRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	servers, targets := w.chain(2)
	account := targets[1].Accounts[0]
	at := func(addr string) store.Target { return withAddress(targets[1], addr) }
	for _, c := range []struct{ addr, want string }{
		{testenv.FreeAddr(t), "cannot reach hop2 through hop1: "},
		{"169.254.169.254:22", "cannot reach hop2 through hop1: 169.254.169.254 is not dialled: it is a link-local address"},
		{"[::ffff:169.254.169.254]:22", "is not dialled: it is a link-local address"},
		{"100.100.100.200:22", "give out credentials"},
		{"metadata.google.internal:22", "give out credentials"},
		{"does-not-exist.invalid:22", "cannot reach hop2 through hop1: "},
	} {
		if got := w.refused(at(c.addr), account); !strings.Contains(got, c.want) || strings.Contains(got, "\n") {
			t.Errorf("%s: the person reads %q, want %q", c.addr, got, c.want)
		}
	}
	servers[0].Authorize("")
	if got := w.refused(targets[1], account); !strings.HasPrefix(got, "cannot reach hop2 through hop1: hop1 (") || !strings.Contains(got, "refuses the bastion's key") {
		t.Errorf("the person reads %q", got)
	}
	servers[0].Authorize(`no-port-forwarding ` + w.d.AuthorizedKey())
	if got := w.refused(targets[1], account); !strings.HasPrefix(got, "cannot reach hop2 through hop1: it does not let the bastion connect from there") {
		t.Errorf("the person reads %q", got)
	}
	servers[0].Stop()
	if got := w.refused(targets[1], account); !strings.Contains(got, "through hop1: cannot reach hop1 (") || !strings.Contains(got, "connection refused") {
		t.Errorf("the person reads %q", got)
	}
}

// The bastion's own listeners are not reached from a jump host either, by whatever address but loopback,
// which is the jump host's own; what is listed is.
func TestOwnListenersFromAfar(t *testing.T) {
	t.Parallel()
	own := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 2222}
	w := newWorld(t, func(c *Config) { c.Listeners = func() []net.Addr { return []net.Addr{own} } })
	if err := w.d.judgeFar("192.0.2.7", 2222); err == nil || !strings.Contains(err.Error(), "the bastion itself") {
		t.Errorf("the bastion's own listener: %v", err)
	}
	noError(t, w.d.judgeFar("127.0.0.1", 2222))
	noError(t, w.d.judgeFar("192.0.2.7", 22))
}

// What the store refuses is refused at the dial too, should a row say otherwise.
func TestRouteIsJudgedAtDial(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	x := w.target(store.Target{Name: "web1", Address: "127.0.0.1:1", Accounts: []string{"root"}, HostKeyMode: store.TOFU}, nil)
	self := x
	self.Via = "web1"
	if got := w.refused(self, "root"); !strings.Contains(got, "circle") {
		t.Errorf("through itself: %q", got)
	}
	gone := x
	gone.Via = "nobody"
	if got := w.refused(gone, "root"); !strings.Contains(got, "no target nobody") {
		t.Errorf("through nobody: %q", got)
	}
}

// proxy passes TCP on and can cut all of it.
type proxy struct {
	addr string
	cut  func()
}
