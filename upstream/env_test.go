package upstream

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/auditlog"
	"sallyport/internal/seal"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// world is a Dialer on a store in memory.
type world struct {
	t  *testing.T
	st *store.Store
	d  *Dialer
}

func newWorld(t *testing.T, changes ...func(*Config)) *world {
	t.Helper()
	st := newStore(t)
	quiet := slog.New(slog.NewJSONHandler(io.Discard, nil))
	cfg := Config{
		Store: st, Audit: auditlog.New(auditlog.Config{Sink: st.Audit, Logger: quiet}), Log: quiet,
		Signer: newSigner(t), Addresses: []string{"127.0.0.1"}, Timeout: 30 * time.Second,
	}
	for _, change := range changes {
		change(&cfg)
	}
	public, secret, err := NewCA()
	noError(t, err)
	noError(t, st.CAKeys.Begin(t.Context(), public, secret))
	return &world{t: t, st: st, d: New(cfg)}
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	ring, err := seal.NewRing()
	noError(t, err)
	st, err := store.Open(t.Context(), store.Config{DSN: "sqlite::memory:", Ring: ring})
	noError(t, err)
	t.Cleanup(func() { st.Close() })
	return st
}

func (w *world) target(t store.Target, secret store.CredentialSecret) store.Target {
	w.t.Helper()
	added, err := w.st.Targets.AddWithSecret(w.t.Context(), t, secret)
	noError(w.t, err)
	return added
}

// refused dials and returns what the person reads.
func (w *world) refused(t store.Target, account string) string {
	w.t.Helper()
	u, err := w.d.Dial(w.t.Context(), t, account, Who{User: "alice", Session: "s1"})
	if err == nil {
		u.Close()
		w.t.Fatalf("%s let the bastion in", t.Name)
	}
	return err.Error()
}

// accepted dials, and returns what a command prints there.
func (w *world) accepted(t store.Target, account string) {
	w.t.Helper()
	u, err := w.d.Dial(w.t.Context(), t, account, Who{User: "alice", Session: "0195-session"})
	if err != nil {
		w.t.Fatalf("dialling %s: %v", t.Name, err)
	}
	noError(w.t, u.Close())
}

// caLines are the keys that targets should trust now.
func (w *world) caLines() string {
	w.t.Helper()
	list, err := w.st.CAKeys.List(w.t.Context())
	noError(w.t, err)
	lines := ""
	for _, k := range list {
		lines += k.PublicKey + "\n"
	}
	return lines
}

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	noError(t, err)
	s, err := ssh.NewSignerFromKey(key)
	noError(t, err)
	return s
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// trustingSSHD is an sshd that takes certificates of the bastion's CA, and nothing else.
func trustingSSHD(t *testing.T, w *world) (*testenv.SSHD, store.Target) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pub")
	noError(t, os.WriteFile(file, []byte(w.caLines()), 0o600))
	sshd := testenv.StartSSHD(t, "TrustedUserCAKeys "+file)
	return sshd, w.target(store.Target{
		Name: "web1", Address: sshd.Addr, HostKeys: []string{sshd.HostKey}, Credential: store.CredentialCertificate,
	}, nil)
}

// passwordServer is an SSH server in this process that takes a password by the methods that configure
// sets. OpenSSH's own needs a password in the system's files, or PAM.
func passwordServer(t *testing.T, configure func(*ssh.ServerConfig)) (addr, hostKey string) {
	t.Helper()
	key := newSigner(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(func() { stop(); l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer context.AfterFunc(ctx, func() { c.Close() })()
				cfg := &ssh.ServerConfig{}
				configure(cfg)
				cfg.AddHostKey(key)
				sc, chans, reqs, err := ssh.NewServerConn(c, cfg)
				if err != nil {
					c.Close()
					return
				}
				go ssh.DiscardRequests(reqs)
				for nc := range chans {
					_ = nc.Reject(ssh.Prohibited, "no")
				}
				_ = sc.Close()
			}()
		}
	}()
	return l.Addr().String(), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
}
