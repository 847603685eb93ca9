// Package bastion is the SSH door: it accepts connections, lets people prove who they are, finds the
// target they named, and hands the connection to package session.
package bastion

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	gliderssh "github.com/gliderlabs/ssh"
	"github.com/pires/go-proxyproto"
	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/auditlog"
	"sallyport/internal/tcpend"
	"sallyport/session"
	"sallyport/store"
	"sallyport/upstream"
)

// Config of a [Server]. The Config must not be modified after New.
type Config struct {
	Engine   *auth.Engine
	Store    *store.Store
	Sessions *session.Manager
	Dialer   *upstream.Dialer
	Audit    *auditlog.Log
	HostKeys []ssh.Signer
	HostCA   func(context.Context) (*HostCA, error) // host keys in the place of targets (ssh -J), as of now; nil: nobody is answered there
	Guard    Guard

	Suffixes          []string       // UPN suffixes that are dropped from login names, such as "example.org"
	Retention         time.Duration  // of recordings whose rule does not say; 0: for ever
	ProxyProtocolFrom []netip.Prefix // peers that must send a PROXY header; nobody else may
	RekeyAfter        uint64         // bytes after which the keys of a connection are changed from here; 0: as the cipher demands
	Log               *slog.Logger   // nil: slog.Default()

	// Refused is told of every connection that the guard turns away; it must not wait. May be nil.
	Refused func()
}

// Server is the SSH door.
type Server struct {
	cfg       Config
	gate      *gate
	names     names // of hosts that somebody wants a forward to
	inventory inventory

	// listener accepts; every connection is taken over in its ConnCallback and run on
	// x/crypto/ssh, because gliderlabs/ssh reads global requests and channel opens in separate
	// goroutines and, without handlers of its own, would let clients in without credentials.
	listener *gliderssh.Server // of takenOver

	changes   atomic.Int64  // of rights that Watch has heard of
	lookEvery time.Duration // how often Watch looks at the version of the rules, in case a message was lost

	mu     sync.Mutex // guards the fields below
	conns  map[*connection]struct{}
	closed bool
	done   sync.WaitGroup

	stopping chan struct{} // closed when Shutdown begins
}

// New returns a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Engine == nil || cfg.Store == nil || cfg.Sessions == nil || cfg.Dialer == nil || cfg.Audit == nil || len(cfg.HostKeys) == 0 {
		return nil, errors.New("bastion: Config needs Engine, Store, Sessions, Dialer, Audit and a host key")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	cfg.Guard = cfg.Guard.withDefaults()
	s := &Server{cfg: cfg, gate: newGate(cfg.Guard), conns: map[*connection]struct{}{}, stopping: make(chan struct{}), lookEvery: time.Minute}
	s.listener = &gliderssh.Server{
		ConnCallback: func(_ gliderssh.Context, conn net.Conn) net.Conn {
			s.serve(conn.(callers).Conn)
			return nil // taken over: there is nothing left for the library to serve
		},
	}
	for _, k := range cfg.HostKeys {
		s.listener.AddHostKey(k) // else it would make one of its own at start
	}
	return s, nil
}

// Serve accepts connections from l until Shutdown, also one that came before it.
func (s *Server) Serve(l net.Listener) error {
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-s.stopping: // the library closes what it knows, and may not know l yet
			_ = l.Close()
		case <-over:
		}
	}()
	err := s.listener.Serve(takenOver{l})
	select {
	case <-s.stopping:
		return nil
	default:
		if errors.Is(err, gliderssh.ErrServerClosed) {
			return nil
		}
	}
	return fmt.Errorf("accepting SSH connections: %w", err)
}

// Shutdown stops accepting, cuts connections whose people are not authenticated yet, and waits until
// the others have ended (session.Manager.Drain and Dismiss end them) or ctx is over; then it cuts those too.
func (s *Server) Shutdown(ctx context.Context) error {
	stopped, cancel := context.WithCancel(ctx)
	cancel() // gliderlabs/ssh closes its listeners at once and then waits for what it never tracked
	_ = s.listener.Shutdown(stopped)
	s.mu.Lock()
	if !s.closed {
		close(s.stopping)
	}
	s.closed = true
	for c := range s.conns {
		if !c.guarded.open.Load() {
			_ = c.guarded.Close()
		}
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.done.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.guarded.Close()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}

// Dismiss tells everybody who is connected why, and ends their connections within seconds, also those in which nothing
// runs: a menu, or what OpenSSH's ControlPersist keeps.
func (s *Server) Dismiss(reason string) {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	var told sync.WaitGroup
	for _, c := range conns {
		if _, ok := c.person(); ok {
			told.Go(func() { c.end(reason) })
		}
	}
	told.Wait()
}

// takenOver accepts for a library that closes each connection when its callback returns, although others run it by
// then.
type takenOver struct{ net.Listener }

// Accept implements net.Listener.
func (l takenOver) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return callers{conn}, nil
}

// callers is a connection that only who was called closes.
type callers struct{ net.Conn }

// Close implements net.Conn, and does nothing.
func (callers) Close() error { return nil }

// serve runs one connection from its first byte on, and returns when the person is logged in, or the connection over.
func (s *Server) serve(accepted net.Conn) {
	conn, source, err := s.origin(accepted)
	var held *place
	if err == nil {
		held, err = s.gate.enter(source, conn)
	}
	if err != nil {
		s.refuse(source, err)
		_ = accepted.Close()
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(tcpend.KeepAlive)
	}
	c := &connection{s: s, source: source, nonce: rand.Text(), guarded: newGuardedConn(conn, s.cfg.Guard), held: held, changes: s.changes.Load()}
	gone := func() { held.leave(); _ = accepted.Close() }
	if !s.track(c) {
		gone()
		return
	}
	c.speak(c.serverConfig(), func() { s.untrack(c); gone() })
}

// speak runs the connection from key exchange on, returns when channels can come, and calls over when it is over.
func (c *connection) speak(cfg *ssh.ServerConfig, over func()) {
	done := func() {
		c.ahead.drop()
		c.kept.drop()
		over()
	}
	chans := c.handshake(cfg)
	if chans == nil {
		done()
		return
	}
	c.serve(chans, done)
}

// handshake runs the connection until channels can come, and gives what they come by; nil: it is over.
func (c *connection) handshake(cfg *ssh.ServerConfig) <-chan ssh.NewChannel {
	sc, chans, reqs, err := ssh.NewServerConn(c.guarded, cfg)
	if err != nil {
		if c.guarded.overdrew.Load() {
			c.s.refuse(c.source, errByteBudget)
		}
		c.s.cfg.Log.Debug("connection ended before authentication", "source", c.source, "error", audit.Escape(err.Error()))
		return nil
	}
	v := verdictOf(sc)
	if v == nil || c.guarded.authenticated() != nil {
		_ = sc.Close()
		return nil
	}
	if c.held != nil {
		c.held.leave()
	}
	sc.Permissions = nil // v has it all, and the connection lasts for hours
	c.authenticated(sc, v, reqs)
	return chans
}

// verdictOf is what authentication left with the connection; nil: nothing. It is a pointer so that no copy of it
// stands on the stack of a connection for as long as that lasts.
func verdictOf(sc *ssh.ServerConn) *verdict {
	v, ok := sc.Permissions.ExtraData[identityKey{}].(verdict)
	if !ok {
		return nil
	}
	return &v
}

// origin finds the client's address: the socket's, or the one that a listed proxy tells.
func (s *Server) origin(conn net.Conn) (net.Conn, netip.Addr, error) {
	peer, err := address(conn)
	if err != nil {
		return conn, peer, err
	}
	for _, p := range s.cfg.ProxyProtocolFrom {
		if !p.Contains(peer) {
			continue
		}
		pc := proxyproto.NewConn(conn, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(2*time.Second))
		if pc.ProxyHeader() == nil {
			return conn, peer, errors.New("a listed proxy sent no PROXY header")
		}
		source, err := address(pc)
		return pc, source, err
	}
	return conn, peer, nil
}

func address(conn net.Conn) (netip.Addr, error) {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("connection without an IP address: %v", conn.RemoteAddr())
	}
	a, ok := netip.AddrFromSlice(tcp.IP)
	if !ok {
		return netip.Addr{}, fmt.Errorf("connection with a malformed address: %v", tcp)
	}
	return a.Unmap(), nil
}

// Unauthenticated tells how many connections are here whose people have not proved who they are.
func (s *Server) Unauthenticated() int { return s.gate.held() }

// refuse notes a connection that was turned away. The log line is all: a flood must not fill the database.
func (s *Server) refuse(source netip.Addr, err error) {
	if s.cfg.Refused != nil {
		s.cfg.Refused()
	}
	s.cfg.Log.Warn("connection refused", "event", audit.ConnRefused, "source", source, "reason", audit.Escape(err.Error()))
}

func (s *Server) track(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	s.done.Add(1)
	return true
}

func (s *Server) untrack(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.done.Done()
}
