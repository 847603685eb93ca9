package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/recorder"
	"sallyport/store"
)

// Config of a [Manager]. The Config must not be modified after NewManager.
type Config struct {
	Store    *store.Store
	Recorder *recorder.Recorder
	Audit    *auditlog.Log
	Node     string
	Log      *slog.Logger // nil: slog.Default()

	AliveEvery time.Duration // how often this node says that it lives; 0: 5 s
}

// Node is the name of this node.
func (m *Manager) Node() string { return m.cfg.Node }

// topicEnd is the bus topic on which nodes ask each other to end a session.
const topicEnd = "session.end"

// aliveEvery is how often a node says that it lives. Others take it for lost after store.LostAfter.
const aliveEvery = 5 * time.Second

// Manager knows the sessions that are open on this node.
type Manager struct {
	cfg    Config
	doubts doubts

	watching chan struct{} // holds one while the database is asked who watches
	looks    atomic.Int64  // how often that was begun
	flushing sync.Mutex    // held while what is pending is written

	mu       sync.Mutex // guards the fields below
	live     map[string]*Session
	draining bool
	idle     chan struct{} // closed when draining and the last session is gone
	pending  []func(context.Context) error
	hubs     map[hubKey]*hub // what is watched here
	views    map[*View]bool  // … and by whom
	sending  map[string]bool // streams that go to other nodes
}

// NewManager returns a Manager. Call [Manager.Run] beside it.
func NewManager(cfg Config) *Manager {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.AliveEvery <= 0 {
		cfg.AliveEvery = aliveEvery
	}
	return &Manager{cfg: cfg, live: map[string]*Session{}, idle: make(chan struct{}), watching: make(chan struct{}, 1)}
}

func (m *Manager) add(s *Session) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.draining {
		return false
	}
	m.live[s.row.ID] = s
	return true
}

func (m *Manager) remove(s *Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.live, s.row.ID)
	if m.draining && len(m.live) == 0 {
		closeOnce(m.idle)
	}
}

// Count counts the sessions that are open on this node, and those of them that stand still because no moderator
// watches.
func (m *Manager) Count() (open, paused int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.live {
		if s.paused.Load() {
			paused++
		}
	}
	return len(m.live), paused
}

// sessions gives the sessions that are open on this node, in no order.
func (m *Manager) sessions() []*Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.live))
}

// Live lists the sessions that are open on this node, oldest first.
func (m *Manager) Live() []Info {
	sessions := m.sessions()
	slices.SortFunc(sessions, func(a, b *Session) int { return a.row.Started.Compare(b.row.Started) })
	out := make([]Info, 0, len(sessions))
	for _, s := range sessions {
		out = append(out, s.info())
	}
	return out
}

// endOrder travels on the bus.
type endOrder struct {
	ID, By, Message string
}

// End closes both sides of a live session on whatever node and tells the person why.
// store.ErrNotFound if no live session has this id.
func (m *Manager) End(ctx context.Context, id, by, message string) error {
	order := endOrder{ID: id, By: by, Message: message}
	if m.endHere(order) {
		return nil
	}
	row, err := m.cfg.Store.Sessions.Get(ctx, id)
	if err != nil {
		return fmt.Errorf("ending session %s: %w", audit.Escape(id), err)
	}
	if row.State != store.Live {
		return fmt.Errorf("ending session %s: it is %s: %w", id, row.State, store.ErrNotFound)
	}
	payload, err := json.Marshal(order)
	if err != nil {
		return err
	}
	return m.cfg.Store.Bus.Publish(ctx, topicEnd, string(payload))
}

func (m *Manager) endHere(o endOrder) bool {
	s := m.find(o.ID)
	if s == nil {
		return false
	}
	text := "ended by " + o.By
	if o.Message != "" {
		text += ": " + o.Message
	}
	s.End(text)
	return true
}

// Drain tells every person that message, ends their sessions and waits until recordings are sealed
// or ctx ends. No session can be opened afterwards.
func (m *Manager) Drain(ctx context.Context, message string) {
	m.mu.Lock()
	m.draining = true
	if len(m.live) == 0 {
		closeOnce(m.idle)
	}
	sessions := make([]*Session, 0, len(m.live))
	for _, s := range m.live {
		sessions = append(sessions, s)
	}
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() { s.End(message) })
	}
	wg.Wait()
	select {
	case <-m.idle:
	case <-ctx.Done():
	}
	m.endViews(ctx)
	_ = m.flush(ctx)
}

// Begin marks the sessions that an earlier process of this node did not live to end as lost. It must
// have returned before the first session is opened.
func (m *Manager) Begin(ctx context.Context) error {
	if err := m.cfg.Store.Sessions.Alive(ctx, m.cfg.Node); err != nil {
		return err
	}
	lost, err := m.cfg.Store.Sessions.MarkLost(ctx, m.cfg.Node)
	if err != nil {
		return fmt.Errorf("marking lost sessions: %w", err)
	}
	for _, row := range lost {
		_ = m.emit(ctx, audit.Event{Type: audit.SessionEnded, Result: audit.Error, Door: audit.DoorSSH, User: row.User, Source: row.Source,
			Target: row.Target, Account: row.Account, Session: row.ID, Reason: "lost: the process of this node died"})
	}
	return nil
}

// Run seals the recordings that an earlier process left open, takes orders of other nodes and writes
// what the database could not take before, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	if err := m.sealLeft(ctx); err != nil {
		m.cfg.Log.Error("sealing recordings that a dead process left", "error", err)
	}
	messages, cancel := m.cfg.Store.Bus.Subscribe(topicEnd)
	defer cancel()
	go m.keepWatches(ctx)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	seal := time.NewTicker(10 * time.Minute)
	defer seal.Stop()
	alive := time.NewTicker(m.cfg.AliveEvery)
	defer alive.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case msg, ok := <-messages:
			if !ok {
				return errors.New("the bus has closed")
			}
			var o endOrder
			if msg.Topic == topicEnd && json.Unmarshal([]byte(msg.Payload), &o) == nil {
				m.endHere(o)
			}
		case <-seal.C:
			if err := m.sealLeft(ctx); err != nil {
				m.cfg.Log.Warn("sealing recordings that were left", "error", err)
			}
		case <-alive.C:
			if err := m.alive(ctx); err != nil {
				m.cfg.Log.Warn("telling other nodes that this one lives", "error", err)
			}
		case <-tick.C:
			if err := m.flush(ctx); err != nil {
				m.cfg.Log.Warn("the database still does not take what is waiting", "error", err)
			}
			m.settle(ctx)
			m.noteWaits(ctx)
		}
	}
}

// alive tells the other nodes that this one lives. Sessions that they took for lost meanwhile, while this
// node did not reach the database, are live again.
func (m *Manager) alive(ctx context.Context) error {
	if err := m.cfg.Store.Sessions.Alive(ctx, m.cfg.Node); err != nil {
		return err
	}
	m.mu.Lock()
	ids := make([]string, 0, len(m.live))
	for id := range m.live {
		ids = append(ids, id)
	}
	m.mu.Unlock()
	back, err := m.cfg.Store.Sessions.Revive(ctx, m.cfg.Node, ids)
	for _, row := range back {
		_ = m.emit(ctx, audit.Event{Type: audit.SessionStarted, Result: audit.OK, Door: audit.DoorSSH, User: row.User, Source: row.Source, Target: row.Target,
			Account: row.Account, Session: row.ID, Rule: row.Rule, Reason: "it was taken for lost while its node did not reach the database, and goes on"})
	}
	return err
}

// sealLeft completes recordings that nobody is writing any more: what a dead process left, and what
// could not be sealed at its end because the disk was full.
func (m *Manager) sealLeft(ctx context.Context) error {
	sealed, err := m.cfg.Recorder.Recover(ctx, m.isLive)
	for _, r := range sealed {
		e := audit.Event{Type: audit.RecordSealed, Result: audit.OK, Session: r.Session,
			Detail: map[string]string{"recording": r.Path, "root": r.Summary.Root}}
		if r.Err != nil {
			e.Result, e.Reason = audit.Error, r.Err.Error()
		}
		if r.Summary.Root == "" { // not sealed: it is tried again
			_ = m.emit(ctx, e)
			continue
		}
		m.sealed(r.Session, r.Channel, r.Summary, e)
	}
	return errors.Join(err, m.tellSealed(ctx))
}

// sealed writes that the recording of a channel that is over was sealed.
func (m *Manager) sealed(session string, channel int, sum recorder.Summary, e audit.Event) {
	m.over([]audit.Event{e}, func(ctx context.Context, events ...audit.Event) error {
		return m.cfg.Store.Recordings.Seal(ctx, session, channel, *sealedRow(sum), events...)
	})
}

// tellSealed writes what a process sealed that died before it could say so.
func (m *Manager) tellSealed(ctx context.Context) error {
	rows, err := m.cfg.Store.Recordings.Unsealed(ctx, m.cfg.Node)
	for _, x := range rows {
		if m.isLive(x.SessionID) {
			continue
		}
		sum, failed := m.cfg.Recorder.Ended(x.Path)
		switch {
		case failed != nil:
			err = errors.Join(err, failed)
		case sum.Root != "":
			m.sealed(x.SessionID, x.Channel, sum, audit.Event{Type: audit.RecordSealed, Result: audit.OK, Session: x.SessionID,
				Detail: map[string]string{"recording": sum.Path, "root": sum.Root}})
		}
	}
	return err
}

func (m *Manager) isLive(id string) bool { return m.find(id) != nil }

// find gives a session that is open on this node; nil: there is none of this id.
func (m *Manager) find(id string) *Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live[id]
}

func (m *Manager) emit(ctx context.Context, e audit.Event) error { return m.cfg.Audit.Emit(ctx, e) }

// begun writes a row and the event of what begins, all or nothing, with the decision that it rests on unless that is zero
// or was written before. An error means that it must not begin; the decision was made all the same, and is kept.
func (m *Manager) begun(ctx context.Context, decided, e audit.Event, write func(context.Context, ...audit.Event) error) error {
	events := []audit.Event{e}
	if decided.Type != "" {
		events = []audit.Event{decided, e}
	}
	if err := m.complete(events); err != nil {
		return err
	}
	err := write(ctx, events...)
	if err != nil {
		if events = events[:len(events)-1]; len(events) > 0 {
			_ = m.cfg.Audit.Write(ctx, events[0])
		}
	}
	for _, e := range events {
		m.cfg.Audit.Print(ctx, e)
	}
	return err
}

// over writes rows and the events of what has ended, together, now or when the database is back.
func (m *Manager) over(events []audit.Event, write func(context.Context, ...audit.Event) error) {
	if err := m.complete(events); err != nil {
		m.cfg.Log.Error("noting an end", "error", err)
		return
	}
	for _, e := range events {
		m.cfg.Audit.Print(context.Background(), e)
	}
	m.later(func(ctx context.Context) error {
		err := write(ctx, events...)
		if err != nil && !errors.Is(err, store.ErrUnavailable) {
			for _, e := range events {
				_ = m.cfg.Audit.Write(ctx, e) // the row is no reason to lose the event
			}
		}
		return err
	})
}

func (m *Manager) complete(events []audit.Event) (err error) {
	for i, e := range events {
		if events[i], err = m.cfg.Audit.Complete(e); err != nil {
			return err
		}
	}
	return nil
}

// later does write now, or keeps it for when the database is back: the end of a session that goes on
// while the database is away must not be forgotten.
func (m *Manager) later(write func(context.Context) error) {
	m.mu.Lock()
	waiting := len(m.pending) > 0
	if waiting {
		m.pending = append(m.pending, write)
	}
	m.mu.Unlock()
	if waiting {
		return
	}
	if err := write(context.Background()); errors.Is(err, store.ErrUnavailable) {
		m.mu.Lock()
		m.pending = append(m.pending, write)
		m.mu.Unlock()
	} else if err != nil {
		m.cfg.Log.Error("writing about a session", "error", err)
	}
}

// flush writes what waits, in order, until the database refuses. Two at once would write the first of it
// twice and lose the second.
func (m *Manager) flush(ctx context.Context) error {
	m.flushing.Lock()
	defer m.flushing.Unlock()
	for {
		m.mu.Lock()
		if len(m.pending) == 0 {
			m.mu.Unlock()
			return nil
		}
		write := m.pending[0]
		m.mu.Unlock()
		err := write(ctx)
		if errors.Is(err, store.ErrUnavailable) {
			return err
		}
		if err != nil {
			m.cfg.Log.Error("writing about a session", "error", err)
		}
		m.mu.Lock()
		m.pending = m.pending[1:]
		m.mu.Unlock()
	}
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}
