package upstream

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// stagedServer tells of the stages that connections to it reach: "key exchange", "authentication".
func stagedServer(t *testing.T, w *world) (x store.Target, stages chan string, open *atomic.Int32) {
	t.Helper()
	key := newSigner(t)
	stages, open = make(chan string, 100), new(atomic.Int32)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	t.Cleanup(func() { l.Close() })
	cfg := &ssh.ServerConfig{
		AuthLogCallback:   func(ssh.ConnMetadata, string, error) { stages <- "authentication" },
		PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil },
	}
	cfg.AddHostKey(signing{key, stages})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Add(1)
			go func() {
				defer open.Add(-1)
				conn, chans, reqs, err := ssh.NewServerConn(c, cfg)
				if err != nil {
					c.Close()
					return
				}
				go ssh.DiscardRequests(reqs)
				for nc := range chans {
					_ = nc.Reject(ssh.Prohibited, "no")
				}
				_ = conn.Close()
			}()
		}
	}()
	return w.target(store.Target{Name: "web1", Address: l.Addr().String(), Accounts: []string{"root"}, HostKeyMode: store.TOFU}, nil), stages, open
}

// signing is a host key that tells when it is used: at the last step of a key exchange.
type signing struct {
	ssh.Signer
	stages chan<- string
}

func (s signing) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	s.stages <- "key exchange"
	return s.Signer.Sign(rand, data)
}

func stage(t *testing.T, stages chan string, want string) {
	t.Helper()
	select {
	case got := <-stages:
		if got != want {
			t.Fatalf("the target saw %q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("the target saw no %s", want)
	}
}

func (w *world) hostKeys(name string) int {
	w.t.Helper()
	x, err := w.st.Targets.ByName(w.t.Context(), name)
	noError(w.t, err)
	return len(x.HostKeys)
}

// A connection that was begun early waits after the key exchange: nothing is sent and no host key is
// trusted before it is wanted; then it goes on.
func TestEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	x, stages, _ := stagedServer(t, w)
	e := w.d.Early(t.Context(), x, "root")
	stage(t, stages, "key exchange")
	if len(stages) != 0 || w.hostKeys("web1") != 0 {
		t.Fatalf("before it is wanted: %d stages, %d host keys", len(stages), w.hostKeys("web1"))
	}
	u, err := e.Dial(t.Context(), x, "root", Who{User: "alice", Session: "s1"})
	noError(t, err)
	defer u.Close()
	stage(t, stages, "authentication") // of the same connection: no second key exchange came before
	if w.hostKeys("web1") != 1 {
		t.Error("the host key was not trusted")
	}
}

// One that is dropped leaves no attempt to authenticate, and nothing open.
func TestEarlyDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.Early = 1 })
	x, stages, open := stagedServer(t, w)
	e := w.d.Early(t.Context(), x, "root")
	stage(t, stages, "key exchange")
	if more := w.d.Early(t.Context(), x, "root"); more != nil {
		t.Error("there was a place for a second one")
	}
	e.Drop()
	e.Drop()
	testenv.WaitFor(t, "the end of the connection", func() bool { return open.Load() == 0 })
	if len(stages) != 0 || w.hostKeys("web1") != 0 {
		t.Errorf("after it was dropped: %d stages, %d host keys", len(stages), w.hostKeys("web1"))
	}
	var again *Early
	testenv.WaitFor(t, "its place", func() bool { again = w.d.Early(t.Context(), x, "root"); return again != nil })
	again.Drop()
	var none *Early
	none.Drop() // as when there was no place
}

// No more wait at one target than its sshd bears from people who do not authenticate.
func TestEarlyPerTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	x, stages, open := stagedServer(t, w)
	var all []*Early
	for e := w.d.Early(t.Context(), x, "root"); e != nil; e = w.d.Early(t.Context(), x, "root") {
		all = append(all, e)
		stage(t, stages, "key exchange")
	}
	if len(all) != earlyPerTarget || open.Load() != earlyPerTarget {
		t.Errorf("%d wait at one target", len(all))
	}
	for _, e := range all {
		e.Drop()
	}
	testenv.WaitFor(t, "the ends of all", func() bool { return open.Load() == 0 })
	for _, e := range all {
		<-e.done
	}
	if w.d.early.all != 0 || len(w.d.early.at) != 0 {
		t.Errorf("places are still taken: %d, %v", w.d.early.all, w.d.early.at)
	}
}

// If the decision is another one, a new connection is made for it, and the early one never authenticates.
func TestEarlyForAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	x, stages, open := stagedServer(t, w)
	for name, change := range map[string]func(*store.Target) string{
		"account":    func(*store.Target) string { return "deploy" },
		"credential": func(x *store.Target) string { x.Credential = store.CredentialCertificate; return "root" },
		"lockout":    func(x *store.Target) string { x.Lockout = 3; return "root" },
	} {
		e := w.d.Early(t.Context(), x, "root")
		stage(t, stages, "key exchange")
		y := x
		account := change(&y)
		u, err := e.Dial(t.Context(), y, account, Who{User: "alice", Session: "s1"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		stage(t, stages, "key exchange")
		stage(t, stages, "authentication")
		testenv.WaitFor(t, "the end of the early one", func() bool { return open.Load() == 1 })
		noError(t, u.Close())
		testenv.WaitFor(t, "the end of the other", func() bool { return open.Load() == 0 })
		for len(stages) > 0 { // none, then the key, as one login goes
			stage(t, stages, "authentication")
		}
	}
}

// A target that was away when the connection was begun, and is back, is reached.
func TestEarlyFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sshd := testenv.StartSSHD(t)
	sshd.Authorize(w.d.AuthorizedKey())
	x := w.target(store.Target{Name: "web1", Address: sshd.Addr, HostKeys: []string{sshd.HostKey}}, nil)
	sshd.Stop()
	e := w.d.Early(t.Context(), x, sshd.Account)
	<-e.done
	_, err := e.Dial(t.Context(), x, sshd.Account, Who{})
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("while it is away: %v", err)
	}
	e = w.d.Early(t.Context(), x, sshd.Account)
	<-e.done
	sshd.Start()
	u, err := e.Dial(t.Context(), x, sshd.Account, Who{})
	noError(t, err)
	noError(t, u.Close())
}

// Of a way through jump hosts only the first is begun, and nothing is sent to it.
func TestEarlyThroughJumpHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	servers, targets := w.chain(2)
	e := w.d.Early(t.Context(), targets[1], targets[1].Accounts[0])
	testenv.WaitFor(t, "the connection", func() bool { return strings.Contains(servers[0].Log(), "Connection from") })
	u, err := e.Dial(t.Context(), targets[1], targets[1].Accounts[0], Who{})
	noError(t, err)
	noError(t, u.Close())
	e = w.d.Early(t.Context(), targets[1], targets[1].Accounts[0])
	logins := strings.Count(servers[0].Log(), "Accepted publickey")
	e.Drop()
	<-e.done
	if got := strings.Count(servers[0].Log(), "Accepted publickey"); got != logins {
		t.Errorf("%d logins at the jump host, want %d", got, logins)
	}
}
