package store

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
)

// Message is what somebody published.
type Message struct {
	Topic   string // empty if there is nothing but Missed to tell
	Payload string
	Missed  bool // messages before this one may have been lost: look at the database
}

// Bus carries short messages between nodes: in this process with SQLite, by LISTEN and NOTIFY with
// PostgreSQL. It promises speed, not delivery: what must not be lost is written into the database
// first, and a message only says where to look.
type Bus struct {
	db     *db
	origin string     // tells this process's own notifications, which were delivered already
	remote *busRemote // nil for SQLite

	mu            sync.Mutex // guards the fields below
	subscriptions map[*subscription]bool
	closed        bool
}

// subscription is one receiver. Its channel is written and closed under Bus.mu.
type subscription struct {
	topics []string
	c      chan Message
	missed bool // a message did not fit
}

// Limits: a NOTIFY carries fewer than 8000 bytes; a receiver may be maxWaiting messages late before
// it misses some.
const (
	maxEnvelope = 7900
	maxWaiting  = 256
	busChannel  = "sallyport"
	busPing     = 5 * time.Second
	busSilence  = 15 * time.Second // without any answer: the connection is dead
	busRetryMin = 100 * time.Millisecond
	busRetryMax = 2 * time.Second
)

func newBus(ctx context.Context, d *db) (*Bus, error) {
	b := &Bus{db: d, origin: uuid.NewString(), subscriptions: make(map[*subscription]bool)}
	if d.postgres() {
		r, err := listen(ctx, b, d.pg.dsn)
		if err != nil {
			return nil, err
		}
		b.remote = r
	}
	return b, nil
}

// TopicRights is where the store tells every node that people may have lost rights: rules, targets, a user,
// groups or keys have changed. The payload is the id of the one user whom it concerns, "" for anybody.
const TopicRights = "rights"

// publishWith sends a message to other nodes when tx is committed, and not if it is rolled back.
func (b *Bus) publishWith(ctx context.Context, tx querier, topic, payload string) error {
	if b.remote == nil {
		return nil
	}
	e, err := json.Marshal(envelope{b.origin, topic, payload})
	if err != nil {
		return err
	}
	_, err = exec(ctx, tx, "SELECT pg_notify(?, ?)", busChannel, string(e))
	return err
}

// Publish sends a short text, up to some 7000 bytes, to everybody who subscribed to topic on any
// node, this one included. If the database does not answer, this process has got the message all
// the same.
func (b *Bus) Publish(ctx context.Context, topic, payload string) error {
	what := "publishing on " + topic
	e, err := json.Marshal(envelope{b.origin, topic, payload})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if len(e) > maxEnvelope {
		return fmt.Errorf("%s: the message has %d bytes, more than %d", what, len(e), maxEnvelope)
	}
	b.deliver(Message{Topic: topic, Payload: payload})
	if b.remote == nil {
		return nil
	}
	return b.notify(ctx, what, string(e))
}

func (b *Bus) notify(ctx context.Context, what, text string) error {
	return b.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "SELECT pg_notify(?, ?)", busChannel, text)
		return err
	})
}

// Subscribe returns the messages on topics from now on. cancel ends the subscription and closes the
// channel, as closing the store does. A receiver that is too slow loses messages and is told so by
// Message.Missed.
func (b *Bus) Subscribe(topics ...string) (messages <-chan Message, cancel func()) {
	s := &subscription{topics: slices.Clone(topics), c: make(chan Message, maxWaiting)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		close(s.c)
		return s.c, func() {}
	}
	b.subscriptions[s] = true
	return s.c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.drop(s)
	}
}

// drop ends s. b.mu is held.
func (b *Bus) drop(s *subscription) {
	if b.subscriptions[s] {
		delete(b.subscriptions, s)
		close(s.c)
	}
}

// deliver gives m to who wants it, without waiting for anybody.
func (b *Bus) deliver(m Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subscriptions {
		if m.Topic != "" && !slices.Contains(s.topics, m.Topic) {
			continue
		}
		own := m
		own.Missed = m.Missed || s.missed
		select {
		case s.c <- own:
			s.missed = false
		default:
			s.missed = true
		}
	}
}

// close may be called again.
func (b *Bus) close() {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	for s := range b.subscriptions {
		b.drop(s)
	}
	b.mu.Unlock()
	if first && b.remote != nil {
		b.remote.close()
	}
}

// envelope is a message on its way through PostgreSQL.
type envelope struct {
	Origin  string `json:"o"`
	Topic   string `json:"t"`
	Payload string `json:"p"`
}

// busRemote listens to other nodes.
type busRemote struct {
	listener *pq.Listener
	dialer   *busDialer
	stop     chan struct{} // closed by close
	running  sync.WaitGroup
}

// listen returns when the connection listens.
func listen(ctx context.Context, b *Bus, dsn string) (*busRemote, error) {
	r := &busRemote{dialer: &busDialer{}, stop: make(chan struct{})}
	r.listener = pq.NewDialListener(r.dialer, dsn, busRetryMin, busRetryMax, nil)
	listening := make(chan error, 1)
	go func() { listening <- r.listener.Listen(busChannel) }()
	select {
	case err := <-listening:
		if err != nil {
			r.close()
			return nil, fmt.Errorf("listening for messages of other nodes: %w", err)
		}
	case <-ctx.Done():
		r.close()
		return nil, fmt.Errorf("listening for messages of other nodes: %w: %w", ErrUnavailable, ctx.Err())
	}
	r.running.Go(func() { r.receive(b) })
	r.running.Go(func() { r.ping(b) })
	return r, nil
}

// receive runs until the listener is closed.
func (r *busRemote) receive(b *Bus) {
	for n := range r.listener.Notify {
		if n == nil { // the connection was lost and is back
			b.deliver(Message{Missed: true})
			continue
		}
		var e envelope
		if err := json.Unmarshal([]byte(n.Extra), &e); err != nil || e.Topic == "" || e.Origin == b.origin {
			continue // anybody who may use the database can notify: what is not ours says nothing
		}
		b.deliver(Message{Topic: e.Topic, Payload: e.Payload})
	}
}

// ping sends a notification that says nothing, so that silence means that the connection is dead.
// (pq.Listener.Ping is no use here: it blocks all others and may panic.)
func (r *busRemote) ping(b *Bus) {
	tick := time.NewTicker(busPing)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
			// Without an answer there is no notification either, and the connection is replaced.
			_ = b.notify(context.Background(), "looking whether the bus is alive", "")
		}
	}
}

func (r *busRemote) close() {
	close(r.stop)
	// The listener cannot be closed while it connects to a server that does not answer.
	impatient := time.AfterFunc(100*time.Millisecond, r.dialer.close)
	defer impatient.Stop()
	_ = r.listener.Close() // says no more than that it was closed
	r.running.Wait()
}

// busDialer dials for the listener, which has one connection at a time.
type busDialer struct {
	pgDialer

	mu     sync.Mutex // guards the fields below
	conn   net.Conn
	closed bool
}

// DialContext is part of pq.DialerContext.
func (d *busDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := d.pgDialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	d.conn = &busSocket{conn}
	return d.conn, nil
}

// close frees whoever waits for the connection.
func (d *busDialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.conn != nil {
		d.conn.Close()
	}
}

// busSocket gives up when nothing was heard for busSilence.
type busSocket struct{ net.Conn }

func (s *busSocket) Read(b []byte) (int, error) {
	if err := s.Conn.SetReadDeadline(time.Now().Add(busSilence)); err != nil {
		return 0, err
	}
	return s.Conn.Read(b)
}
