package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	maxIdle     = 8                // idle search connections kept for each server
	idleTime    = 60 * time.Second // older ones are not trusted: a firewall may have forgotten them
	retryAfter  = 30 * time.Second // a server that failed is asked last for this long
	maxResponse = 16 << 20         // bytes that one operation may make a server send
)

// Steps of dial, as they read in errors.
const (
	doingConnect = "connecting"
	doingTLS     = "starting TLS"
)

// server is one directory server and the idle connections to it.
type server struct {
	url      string // as configured, for messages
	address  string // host:port
	ldaps    bool
	startTLS bool
	tls      *tls.Config // of ldaps and StartTLS; nil: plaintext
	bindDN   string
	bindPW   Password

	mu      sync.Mutex // guards the fields below
	idle    []*conn    // most recently used last
	retryAt time.Time  // when to treat a server that failed like the others again; zero: it works
}

// newServer reads one URL of the configuration.
func newServer(raw string, cfg LDAPConfig, tlsConfig *tls.Config) (*server, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("reading server %q: %w", raw, err)
	}
	if u.Host == "" || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("server %q: want ldaps://host[:port] or ldap://host[:port]", raw)
	}
	s := &server{url: raw, bindDN: cfg.BindDN, bindPW: cfg.BindPassword}
	port := u.Port()
	switch u.Scheme {
	case "ldaps":
		s.ldaps = true
		port = orDefault(port, ldap.DefaultLdapsPort)
	case "ldap":
		s.startTLS = cfg.StartTLS
		port = orDefault(port, ldap.DefaultLdapPort)
		if !cfg.StartTLS && !cfg.InsecurePlaintext && !loopback(u.Hostname()) {
			return nil, fmt.Errorf("server %q would receive passwords readable for everybody on the way: use ldaps://, or set start-tls: true", raw)
		}
	default:
		return nil, fmt.Errorf("server %q: want ldaps://host[:port] or ldap://host[:port]", raw)
	}
	s.address = net.JoinHostPort(u.Hostname(), port)
	if s.ldaps || s.startTLS {
		s.tls = tlsConfig.Clone()
		s.tls.ServerName = orDefault(cfg.ServerName, u.Hostname())
	}
	return s, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// conn is one connection, used by one operation at a time.
type conn struct {
	*ldap.Conn
	raw   *meteredConn
	spent bool      // an operation on it was cut short: what it would read next is unknown
	since time.Time // when it became idle
}

// dial connects and, if so configured, begins TLS; nothing else was sent when it returns. An error
// leaves no connection behind: one on which StartTLS was refused would work on in plaintext.
func (s *server) dial(ctx context.Context) (*conn, error) {
	tcp, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, unavailable(doingConnect, err)
	}
	c := &conn{raw: &meteredConn{Conn: tcp}}
	c.raw.left.Store(maxResponse)
	if !s.ldaps {
		c.Conn = ldap.NewConn(c.raw, false)
		c.Start()
		if !s.startTLS {
			return c, nil
		}
		err := c.during(ctx, func() error { return c.StartTLS(s.tls) })
		if _, ok := c.TLSConnectionState(); err == nil && !ok {
			err = errors.New("no TLS after StartTLS")
		}
		if err != nil {
			c.shut()
			return nil, unavailable(doingTLS, err)
		}
		return c, nil
	}
	secured := tls.Client(c.raw, s.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		tcp.Close()
		return nil, unavailable(doingTLS, err)
	}
	c.Conn = ldap.NewConn(secured, true)
	c.Start()
	return c, nil
}

// search runs f on a connection that is bound to search. An idle connection is tried first; it may
// have died unnoticed, so it gets half of the time and a new one the rest.
func (s *server) search(ctx context.Context, f func(*conn) error) error {
	if c := s.take(time.Now()); c != nil {
		half, cancel := context.WithTimeout(ctx, remaining(ctx)/2)
		err := c.during(half, func() error { return f(c) })
		cancel()
		died := c.dead()
		s.give(c, time.Now())
		if err == nil || !died || ctx.Err() != nil {
			return err
		}
	}
	c, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { s.give(c, time.Now()) }()
	return c.during(ctx, func() error {
		if s.bindDN != "" {
			if err := c.Bind(s.bindDN, string(s.bindPW)); err != nil {
				c.spent = true
				return unavailable("binding as "+s.bindDN, err)
			}
		}
		return f(c)
	})
}

// take returns the idle connection used last, or nil.
func (s *server) take(now time.Time) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		c := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if !c.dead() && now.Sub(c.since) < idleTime {
			return c
		}
		c.shut()
	}
	return nil
}

// give keeps c for the next operation or closes it.
func (s *server) give(c *conn, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.dead() || len(s.idle) >= maxIdle {
		c.shut()
		return
	}
	c.since = now
	s.idle = append(s.idle, c)
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.idle {
		c.shut()
	}
	s.idle = nil
}

// preferred tells whether the server is to be asked in its turn. When the rest after a failure is
// over, one operation finds out whether the server is back; the others keep away meanwhile.
func (s *server) preferred(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.retryAt) {
		return false
	}
	if !s.retryAt.IsZero() {
		s.retryAt = now.Add(retryAfter)
	}
	return true
}

func (s *server) worked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retryAt = time.Time{}
}

func (s *server) failed(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retryAt = now.Add(retryAfter)
}

// during runs f, whose requests all end when ctx does. go-ldap itself waits for an answer without
// end; the deadline below it wakes the reader and every waiting request.
func (c *conn) during(ctx context.Context, f func() error) error {
	c.raw.left.Store(maxResponse)
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.raw.SetDeadline(deadline) // fails only on a closed connection, which f will notice
	}
	stop := context.AfterFunc(ctx, func() { _ = c.raw.SetDeadline(time.Unix(1, 0)) })
	err := f()
	if !stop() {
		c.spent = true
	} else {
		_ = c.raw.SetDeadline(time.Time{})
	}
	if err != nil && ctx.Err() != nil {
		return unavailable("no answer in time", fmt.Errorf("%w (%w)", ctx.Err(), err))
	}
	return err
}

func (c *conn) dead() bool { return c.spent || c.IsClosing() }

// shut closes the connection without waiting for the peer: closing the socket first keeps TLS from
// waiting until it may say goodbye.
func (c *conn) shut() {
	_ = c.raw.Close()
	_ = c.Close()
}

// meteredConn bounds what one operation may read.
type meteredConn struct {
	net.Conn
	left atomic.Int64
}

func (m *meteredConn) Read(b []byte) (int, error) {
	if m.left.Load() <= 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes", maxResponse)
	}
	n, err := m.Conn.Read(b)
	m.left.Add(int64(-n))
	return n, err
}

func remaining(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return defaultTimeout
	}
	return time.Until(deadline)
}
