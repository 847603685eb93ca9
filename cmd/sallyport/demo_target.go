package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	glssh "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"
)

// maxTargetSessions bounds how many sessions one connection to the demo target may have open.
const maxTargetSessions = 32

// demoTarget is the SSH server of target demo: the real shell of whoever started the demo. It lets in
// nobody but the bastion, by its upstream key, and only from loopback.
type demoTarget struct {
	person   person
	accounts []string // login names it answers to
	key      ssh.PublicKey
	files    string // folder that SFTP shows, and nothing else
	server   *glssh.Server

	mu       sync.Mutex // guards sessions
	sessions map[*targetSession]struct{}
	running  sync.WaitGroup // sessions whose process has not been waited for
}

// newDemoTarget returns a target that runs p's shell for whoever proves key. files must exist.
func newDemoTarget(p person, accounts []string, hostKey ssh.Signer, key ssh.PublicKey, files string) *demoTarget {
	if signal.Ignored(syscall.SIGHUP) {
		// A program that nohup has started hands that on, and what a person leaves running would never hear that its
		// terminal is gone. What a program waits for itself is what it does by default in those that it starts.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	t := &demoTarget{person: p, accounts: accounts, key: key, files: files, sessions: map[*targetSession]struct{}{}}
	t.server = &glssh.Server{
		Version:     "Sallyport_demo",
		HostSigners: []glssh.Signer{hostKey},
		// One handler of these must be set, or gliderlabs/ssh lets in everybody (server.go, config).
		PublicKeyHandler: t.accepts,
		ConnCallback:     loopbackOnly,
		ChannelHandlers: map[string]glssh.ChannelHandler{
			"session": func(_ *glssh.Server, conn *ssh.ServerConn, ch ssh.NewChannel, _ glssh.Context) { t.session(conn, ch) },
		},
	}
	return t
}

// accepts tells whether the key opens the target.
func (t *demoTarget) accepts(ctx glssh.Context, key glssh.PublicKey) bool {
	return glssh.KeysEqual(key, t.key) && slices.Contains(t.accounts, ctx.User())
}

// loopbackOnly hangs up on every peer that is not this machine. The listener is on loopback already; this
// holds if somebody ever changes that.
func loopbackOnly(_ glssh.Context, conn net.Conn) net.Conn {
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return nil
	}
	return conn
}

// Serve answers connections until Close; it returns nil then.
func (t *demoTarget) Serve(l net.Listener) error {
	if err := t.server.Serve(l); !errors.Is(err, glssh.ErrServerClosed) {
		return fmt.Errorf("serving target demo: %w", err)
	}
	return nil
}

// Close hangs up on everybody, ends their processes and waits for these.
func (t *demoTarget) Close() {
	_ = t.server.Close() // its only error is that a listener was closed already
	t.each((*targetSession).hangUp)
	done := make(chan struct{})
	go func() {
		t.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return
	case <-time.After(time.Second):
	}
	t.each((*targetSession).kill)
	<-done
}

func (t *demoTarget) each(do func(*targetSession)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.sessions {
		do(s)
	}
}

// enter registers a session unless its connection has too many.
func (t *demoTarget) enter(s *targetSession) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for other := range t.sessions {
		if other.conn == s.conn {
			n++
		}
	}
	if n >= maxTargetSessions {
		return false
	}
	t.sessions[s] = struct{}{}
	t.running.Add(1)
	return true
}

func (t *demoTarget) leave(s *targetSession) {
	t.mu.Lock()
	delete(t.sessions, s)
	t.mu.Unlock()
	t.running.Done()
}

// session serves one channel of type session (RFC 4254, section 6).
func (t *demoTarget) session(conn *ssh.ServerConn, offered ssh.NewChannel) {
	s := &targetSession{target: t, conn: conn}
	if !t.enter(s) {
		_ = offered.Reject(ssh.ResourceShortage, "too many sessions on this connection")
		return
	}
	defer t.leave(s)
	ch, requests, err := offered.Accept()
	if err != nil {
		return // the connection is gone
	}
	s.ch = ch
	s.serve(requests)
}

// person is whoever started the demo.
type person struct {
	Name  string
	Home  string
	Shell string
}

// whoStarted finds out who started this process. A container may not know its user; then the number
// serves as name and the temporary folder as home.
func whoStarted() person {
	p := person{Name: "uid" + strconv.Itoa(os.Getuid()), Home: os.TempDir(), Shell: os.Getenv("SHELL")}
	if u, err := user.Current(); err == nil {
		p.Name, p.Home = u.Username, u.HomeDir
	}
	if info, err := os.Stat(p.Home); err != nil || !info.IsDir() {
		p.Home = os.TempDir()
	}
	if _, err := exec.LookPath(p.Shell); err != nil || !filepath.IsAbs(p.Shell) {
		p.Shell = "/bin/sh"
	}
	return p
}

// loginEnv is the environment of a login, as login(1) makes it: nothing of the server's own but PATH.
func (p person) loginEnv(conn ssh.ConnMetadata) []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	env := []string{"HOME=" + p.Home, "USER=" + p.Name, "LOGNAME=" + p.Name, "SHELL=" + p.Shell, "PATH=" + path}
	for _, key := range []string{"LANG", "TZ"} {
		if v := os.Getenv(key); v != "" {
			env = append(env, key+"="+v)
		}
	}
	return append(env, "SSH_CONNECTION="+connectionVariable(conn))
}

// connectionVariable gives "client-address client-port server-address server-port", as sshd does.
func connectionVariable(conn ssh.ConnMetadata) string {
	parts := make([]string, 0, 4)
	for _, a := range []net.Addr{conn.RemoteAddr(), conn.LocalAddr()} {
		host, port, err := net.SplitHostPort(a.String())
		if err != nil {
			host, port = "UNKNOWN", "0"
		}
		parts = append(parts, host, port)
	}
	return strings.Join(parts, " ")
}

// listenLoopback listens on a free port of the loopback address.
func listenLoopback(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening on loopback: %w", err)
	}
	return l, nil
}
