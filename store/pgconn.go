package store

import (
	"context"
	"database/sql/driver"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/lib/pq"

	"sallyport/internal/tcpend"
)

// grace is what the driver is given after the deadline of a call to cancel its statement in good
// order; then the socket gives up.
const grace = 100 * time.Millisecond

// pgConnector opens connections to PostgreSQL whose sockets have deadlines. The driver alone asks
// the server to cancel when a context ends and waits for its answer, for ever if the server or the
// way to it is dead.
type pgConnector struct {
	dsn     string
	cfg     pq.Config
	sockets sync.Map // driver.Conn → *pgSocket, as long as the socket is open
}

func newPGConnector(dsn string, cfg pq.Config) *pgConnector {
	cfg = cfg.Clone()
	timeout := strconv.FormatInt(patience.Milliseconds(), 10)
	runtime := map[string]string{
		"statement_timeout":                   timeout,
		"lock_timeout":                        timeout,
		"idle_in_transaction_session_timeout": "10000", // a node that freezes must not hold locks
		"default_transaction_isolation":       "read committed",
	}
	maps.Copy(runtime, cfg.Runtime) // what the URL says wins
	cfg.Runtime = runtime
	return &pgConnector{dsn: dsn, cfg: cfg}
}

// Driver is part of driver.Connector.
func (c *pgConnector) Driver() driver.Driver { return &pq.Driver{} }

// Connect is part of driver.Connector.
func (c *pgConnector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := pq.NewConnectorConfig(c.cfg)
	if err != nil {
		return nil, err
	}
	d := &pgSocketDialer{}
	inner.Dialer(d)
	conn, err := inner.Connect(ctx)
	if err != nil {
		return nil, err
	}
	s := d.take()
	c.sockets.Store(conn, s)
	s.whenClosed(func() { c.sockets.Delete(conn) })
	return conn, nil
}

// arm prepares a pooled connection for calls until deadline. The error is driver.ErrBadConn if the
// connection is dead.
func (c *pgConnector) arm(conn driver.Conn, deadline time.Time) error {
	s, ok := c.sockets.Load(conn)
	if !ok {
		return driver.ErrBadConn
	}
	return s.(*pgSocket).arm(deadline)
}

// farewell lets all sockets say goodbye, whose deadlines are those of what they were last used for.
func (c *pgConnector) farewell() {
	until := time.Now().Add(grace)
	c.sockets.Range(func(_, s any) bool {
		_ = s.(*pgSocket).Conn.SetDeadline(until)
		return true
	})
}

// pgSocketDialer dials for one connection. The driver may try several hosts; the last socket is the
// one that it keeps. Later it dials to ask for cancelling, which take has put an end to noting.
type pgSocketDialer struct {
	pgDialer

	mu    sync.Mutex // guards the fields below
	last  *pgSocket
	taken bool
}

// DialContext is part of pq.DialerContext.
func (d *pgSocketDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.pgDialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline() // connect_timeout is never 0, hence there is one
	s := &pgSocket{Conn: conn, connectBy: deadline}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.taken {
		d.last = s
	}
	return s, nil
}

func (d *pgSocketDialer) take() *pgSocket {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken = true
	return d.last
}

// pgSocket is the socket of a connection to PostgreSQL.
type pgSocket struct {
	net.Conn
	connectBy time.Time // the driver's own deadline for connecting may not be later

	mu      sync.Mutex // guards the fields below
	closed  bool
	onClose func()
}

// SetDeadline is what the driver calls before and, with the zero time, after its handshake.
func (s *pgSocket) SetDeadline(t time.Time) error {
	if !t.IsZero() && s.connectBy.Before(t) {
		t = s.connectBy
	}
	return s.Conn.SetDeadline(t)
}

// arm sets the deadline of the next calls, after a look whether the server has hung up.
func (s *pgSocket) arm(deadline time.Time) error {
	if err := s.Conn.SetDeadline(deadline.Add(grace)); err != nil {
		return driver.ErrBadConn
	}
	if hungUp(s.Conn) { // cannot look while the deadline of the last calls is in force
		return driver.ErrBadConn
	}
	return nil
}

func (s *pgSocket) whenClosed(f func()) {
	s.mu.Lock()
	closed := s.closed
	s.onClose = f
	s.mu.Unlock()
	if closed {
		f()
	}
}

// Close closes the socket.
func (s *pgSocket) Close() error {
	s.mu.Lock()
	f := s.onClose
	s.closed, s.onClose = true, nil
	s.mu.Unlock()
	if f != nil {
		f()
	}
	return s.Conn.Close()
}

// pgDialer dials PostgreSQL so that a peer or network which died without a word is noticed within
// seconds, and not after the quarter of an hour that is the kernel's default.
type pgDialer struct{}

// DialContext is part of pq.DialerContext.
func (pgDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
		Control:         tcpend.Unacknowledged(10 * time.Second),
	}
	return d.DialContext(ctx, network, address)
}

// Dial is part of pq.Dialer.
func (d pgDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout is part of pq.Dialer.
func (d pgDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}
