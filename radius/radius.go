// Package radius is the RADIUS door (RFC 2865): VPN servers, gateways and the like ask here whether a person may come in.
//
// The codec is layeh.com/radius; the server loop is ours. A datagram passes these steps, and is silently discarded at
// the first it fails: form, client, Message-Authenticator (RFC 3579, section 3.2), duplicate, room for another one in
// work. Only then a conversation begins. An answer is kept for five seconds and sent again, byte for byte, to whoever
// repeats the request (RFC 5080, section 2.2.2): evaluated again, a right one-time code would be refused as used.
//
// What is discarded is counted, by client; `sallyport radius doctor` shows it.
package radius

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/auth"
	"sallyport/internal/auditlog"
	"sallyport/store"
)

// Bounds of the work that strangers can cause.
const (
	maxInWork   = 256  // requests of one client that are evaluated at once
	maxWaiting  = 1024 // datagrams that wait for the list of clients to be read
	maxReplies  = 32 << 10
	replyLife   = 5 * time.Second
	clientsLife = time.Second // how long the list of clients counts before it is read again
)

// flushEvery is how often what was counted is written down. Tests do not wait that long.
var flushEvery = 2 * time.Second

// Config of a [Server]. The Config must not be modified after New.
type Config struct {
	Engine   *auth.Engine
	Store    *store.Store
	Audit    *auditlog.Log
	Suffixes []string         // dropped from login names, such as "example.org"
	Log      *slog.Logger     // nil: slog.Default()
	Now      func() time.Time // nil: time.Now

	// Counted is told whatever is counted, by its name in docs/radius.md; it must not wait. May be nil.
	Counted func(kind string)

	// ClientCAs are the authorities by whose certificates clients are known by name. It is called for each connection by
	// TLS; nil: none are.
	ClientCAs func() (*x509.CertPool, error)
}

// Server answers RADIUS clients. It is safe for concurrent use.
type Server struct {
	cfg     Config
	clients clients
	replies replies
	counts  counts
	waiting chan struct{} // a place for each datagram that waits for the list of clients
	several atomic.Bool   // there may be other nodes that are asked the same

	stop        context.CancelFunc
	ctx         context.Context // ends with Shutdown
	loops, work sync.WaitGroup

	mu        sync.Mutex // guards the fields below
	ended     bool
	conns     []*net.UDPConn
	listeners []net.Listener
}

// New returns a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Engine == nil || cfg.Store == nil || cfg.Audit == nil {
		return nil, errors.New("radius: Config needs Engine, Store and Audit")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, waiting: make(chan struct{}, maxWaiting)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.clients.store, s.clients.log, s.counts.store = cfg.Store, cfg.Log, cfg.Store
	s.counts.told = cfg.Counted
	s.several.Store(true)
	s.work.Go(s.flush)
	s.work.Go(s.watchNodes)
	return s, nil
}

// Serve answers authentication requests that come to conn until Shutdown, or until conn fails.
func (s *Server) Serve(conn *net.UDPConn) error {
	return s.serve(conn, authentication)
}

// ServeAccounting does the same for accounting requests.
func (s *Server) ServeAccounting(conn *net.UDPConn) error {
	return s.serve(conn, accounting)
}

func (s *Server) serve(conn *net.UDPConn, k kind) error {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return conn.Close()
	}
	s.conns = append(s.conns, conn)
	s.loops.Add(1)
	s.mu.Unlock()
	defer s.loops.Done()
	askForAddress(conn)
	_ = conn.SetReadBuffer(4 << 20) // as much of it as the system gives: a burst is no reason to lose packets
	buffer, control := make([]byte, maxDatagram+1), make([]byte, 128)
	for {
		n, cn, _, from, err := conn.ReadMsgUDPAddrPort(buffer, control)
		if s.ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // an ICMP message about an answer of before, or a datagram that does not fit
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		local := append([]byte(nil), control[:cn]...) // sent back, it makes the answer leave from the address that was asked
		to := conn.LocalAddr()
		back := func(reply []byte) {
			if _, _, err := conn.WriteMsgUDPAddrPort(reply, local, sendable(to, from)); err != nil && s.ctx.Err() == nil {
				s.cfg.Log.Debug("sending a RADIUS answer", "to", from.String(), "error", err)
			}
		}
		s.receive(datagram{kind: k, socket: to.String(), from: from, bytes: append([]byte(nil), buffer[:n]...), back: back})
	}
}

// sendable is from in the form of the socket's family.
func sendable(local net.Addr, from netip.AddrPort) netip.AddrPort {
	if u, ok := local.(*net.UDPAddr); ok && u.IP.To4() == nil && from.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom16(from.Addr().As16()), from.Port())
	}
	return from
}

// kind is what a socket is for.
type kind int

const (
	authentication kind = iota
	accounting
	secured // both, inside of TLS
)

// datagram is a request as it came, and the way back.
type datagram struct {
	kind   kind
	socket string
	from   netip.AddrPort
	bytes  []byte
	back   func(reply []byte)

	shown *shown // by what certificate it came; nil: not by TLS
}

// receive finds out whose d is. While the list of clients is read, d waits, and others with it.
func (s *Server) receive(d datagram) {
	defer s.survive(nil, nil, d)
	if s.clients.fresh(s.cfg.Now()) {
		s.sort(d)
		return
	}
	select {
	case s.waiting <- struct{}{}:
	default:
		s.counts.add("", "busy", d.from.Addr().String(), s.cfg.Now())
		return
	}
	s.work.Go(func() {
		defer s.survive(nil, nil, d)
		err := func() error {
			defer func() { <-s.waiting }()
			return s.clients.read(s.ctx, s.cfg.Now)
		}()
		if err != nil && s.ctx.Err() == nil {
			s.cfg.Log.Warn("reading RADIUS clients; those of before count", "error", err)
		}
		s.sort(d)
	})
}

// Shutdown stops reading, and waits until what is in work is answered, or ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.ended = true
	conns, listeners := s.conns, s.listeners
	s.mu.Unlock()
	s.stop()
	for _, l := range listeners {
		_ = l.Close()
	}
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // answers still leave
	}
	done := make(chan struct{})
	go func() { s.loops.Wait(); s.work.Wait(); close(done) }()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	for _, c := range conns {
		_ = c.Close()
	}
	return err
}

// flush writes down what was counted, again and again.
func (s *Server) flush() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), time.Second)
			defer cancel()
			_ = s.counts.flush(last) // what is lost here is a number
			return
		case <-tick.C:
			_ = s.counts.flush(s.ctx) // kept for the next time
		}
	}
}
