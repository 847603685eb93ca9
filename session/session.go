// Package session carries a person's whole connection through the bastion between client and
// upstream, and knows all that are open. (This is not the RFC 4254 channel type "session"; that one is
// called a session channel here.)
//
// A byte reaches the person only after the recorder has it. Requests are decided before they are
// passed on, in the order of their arrival; bytes are moved without being understood.
package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/ledger"
	"sallyport/store"
)

// Upstream is an open connection to a target; *upstream.Upstream is the real one.
type Upstream interface {
	ssh.Conn
	// OnChannel sets who takes the channels that the target opens; those that take says no to are refused.
	// take must not wait for anything but the target.
	OnChannel(take func(ssh.NewChannel) bool)
	OnDone(f func()) // has f called in a goroutine of its own when the connection has ended
}

// Grant is what the rules allow for one channel.
type Grant struct {
	Allowed     bool
	Refusal     string        // one line for the person when not allowed
	Denied      bool          // a rule says no; false: merely no rule says yes
	Record      bool          // keep a recording
	Required    bool          // and end the session when that fails
	RecordLimit int64         // bytes kept of a channel without a terminal
	Unsearched  bool          // the recording is kept out of the search
	Input       bool          // record what is typed, as far as the terminal shows it
	BreakGlass  bool          // go on without a recording where Required cannot be had, and tell operators
	To          string        // of a forward: where it goes instead of the name that was asked for; "": there
	Retention   time.Duration // of the recording; 0: for ever
	Files       *Files        // paths that file transfers are held to; nil: none
	Decided     audit.Event   // of what is allowed, if that is not written yet
}

// Only is what a session is held to by who the person, or robot, is. The zero value holds to nothing.
type Only struct {
	Command    string // runs in the place of whatever is asked for; "": what is asked for
	Commands   bool   // channels run a command, after env at most, and take no other request
	NoTerminal bool   // no pseudo-terminal
}

// Params of a session to open.
type Params struct {
	Row        store.Session // UserID, User, Target, Address, Account, Source, Client, Rule, Recording, KeyFingerprint
	Client     ssh.Conn      // the person's connection, closed when the session is ended from here
	Upstream   Upstream
	Limits     Limits
	Only       Only
	Greeting   string                 // told on the first terminal on which a shell runs; "": nothing
	Quota      store.Quota            // sessions that may be open at once; its error is a *store.QuotaError
	Env        func(name string) bool // tells which environment variables the target may hear of
	ApprovedBy []string               // logins of those who have agreed to Row.Approval
	Closed     func()                 // called when the session is over; may be nil

	Decided audit.Event // that the session is allowed, to be written with it; zero: it was, or there is none

	// Authorize is asked for every channel; to is the destination of a forward, command what is to run. An
	// error refuses. What it allows is written by the session, see Grant.
	Authorize func(ctx context.Context, kind, to, command string) (Grant, error)
	Place     func() bool // takes a place among the connection's channels for one that the target opens
	Vacate    func()      // gives it back

	Silent     bool        // the person is not told who watches
	Moderation *Moderation // somebody has to watch; nil: nobody has to
}

// maxSessionChannels bounds the session channels that are open at once in one connection, as
// OpenSSH's MaxSessions does, where no rule says how many channels there may be.
const maxSessionChannels = 10

// Session is one open session.
type Session struct {
	m   *Manager
	p   Params
	row store.Session

	active    atomic.Int64 // unix nanoseconds of the last byte in either direction
	typed     atomic.Int64 // … of the last byte that was typed on a terminal
	terminals atomic.Int64 // on which something runs
	checks    atomic.Int64 // how often Recheck was called
	envTold   atomic.Bool  // the audit log knows of a variable that did not pass
	refused   atomic.Int64 // channels and requests that were turned away
	silent    atomic.Int64 // channels that the target did not answer the opening of in time
	paused    atomic.Bool  // nothing passes: a moderator is waited for
	unnoted   atomic.Bool  // whether it does is not in the row yet
	closing   chan struct{}

	agent, x11 atomic.Bool  // granted to the target
	listens    atomic.Int64 // how many listeners there are

	listening sync.Mutex          // guards listeners; held while the target is asked to listen
	listeners map[listener]string // what the target may open channels for, with its kind

	endsWritten sync.Mutex // held while ends are written, so that the last one is the session's; taken before mu

	mu        sync.Mutex       // guards the fields below
	channels  map[int]*channel // both sides are open
	forwards  map[int]*forward
	ends      []channelEnd // that are not written yet
	endsTimer *time.Timer  // writes them; nil: there are none
	notices   []string     // for the next channel on which something runs
	greeted   bool
	files     ledger.Summary
	taken     int  // channels that count against the limit
	open      int  // channels that are not done, attached or not
	next      int  // id of the next channel
	root      Root // of the recordings that have ended
	ended     bool
	closed    bool // Close was called
	lost      bool // the target has closed the connection
	reason    string
	timers    []*time.Timer
	gone      *sync.Cond // a channel has ended

	observers    []string // who watches, escaped
	lastObserved time.Time
	mod          moderation
}

// Open registers a session, writes its row and its audit event, and ends it when the upstream goes.
func (m *Manager) Open(ctx context.Context, p Params) (*Session, error) {
	p.Row.Node, p.Row.State = m.cfg.Node, store.Live
	if p.Moderation != nil {
		p.Row.Waits = store.WaitsModerator
	}
	p.moderated()
	if p.Row.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("making an id: %w", err)
		}
		p.Row.ID = id.String()
	}
	decided := p.Decided
	p.Decided = audit.Event{}
	s := &Session{m: m, p: p, row: p.Row, channels: map[int]*channel{}, forwards: map[int]*forward{}, listeners: map[listener]string{}, closing: make(chan struct{}), next: 1}
	s.gone = sync.NewCond(&s.mu)
	s.touch()
	err := m.begun(ctx, decided, s.started(), func(ctx context.Context, events ...audit.Event) error {
		row, err := m.cfg.Store.Sessions.OpenWithin(ctx, p.Row, p.Quota, events...)
		if err == nil {
			s.row = row
		}
		return err
	})
	if err != nil {
		var full *store.QuotaError
		if !errors.As(err, &full) {
			m.doubt(s)
		}
		return nil, fmt.Errorf("writing the session: %w", err)
	}
	s.waitForModerator()
	if !m.add(s) {
		for _, t := range s.timers {
			t.Stop()
		}
		s.noteEnd("the bastion is shutting down")
		return nil, errors.New("the bastion is shutting down")
	}
	s.startTimers()
	p.Upstream.OnChannel(s.fromTarget)
	p.Upstream.OnDone(s.upstreamGone)
	return s, nil
}

// started is the event of the session's begin.
func (s *Session) started() audit.Event {
	e := s.event(audit.SessionStarted, audit.OK, "")
	if s.row.Approval != "" {
		e.Detail = map[string]string{"approval": s.row.Approval, "approved-by": strings.Join(s.p.ApprovedBy, ",")}
	}
	return e
}

// ID is the session's id.
func (s *Session) ID() string { return s.row.ID }

// upstreamClosed is why a session ends whose target is gone.
const upstreamClosed = "the target closed the connection"

// aliveTime is how long a target may take to answer whether it is there.
const aliveTime = 2 * time.Second

// upstreamLost tells whether the connection to the target has ended. If so, that is why the session ends, whatever the client
// does next.
func (s *Session) upstreamLost() bool {
	lost := make(chan bool, 1)
	go func() {
		// Any answer is a sign of life.
		_, _, err := s.p.Upstream.SendRequest("keepalive@openssh.com", true, nil)
		lost <- err != nil
	}()
	t := time.NewTimer(aliveTime)
	defer t.Stop()
	select {
	case gone := <-lost:
		if gone {
			s.loseUpstream()
		}
		return gone
	case <-t.C:
		return false
	case <-s.closing:
		return false
	}
}

// loseUpstream keeps why the session ends.
func (s *Session) loseUpstream() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
}

// upstreamGone lets the channels that are open bring home what the target had still sent, then ends.
func (s *Session) upstreamGone() {
	s.loseUpstream()
	s.wait(lastWords)
	s.End(upstreamClosed)
}

// End tells the person why, and closes both sides. Bookkeeping is done by [Session.Close], which the
// door calls when the person's connection is gone.
func (s *Session) End(reason string) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.ended, s.reason = true, reason
	for _, t := range s.timers {
		t.Stop()
	}
	channels := make([]*channel, 0, len(s.channels))
	for _, c := range s.channels {
		channels = append(channels, c)
	}
	forwards := slices.Collect(maps.Values(s.forwards))
	s.mu.Unlock()
	close(s.closing)

	var wg sync.WaitGroup
	for _, c := range channels {
		wg.Go(func() { c.end(reason) })
	}
	for _, f := range forwards {
		wg.Go(f.end)
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(500 * time.Millisecond): // a client that reads nothing does not delay its end
	}
	_ = s.p.Upstream.Close()
	_ = s.p.Client.Close()
}

// Close waits until every channel is done and writes the end of the session. The door calls it when the
// person's connection has ended; reason is used unless the session was ended before. A second call does
// nothing.
func (s *Session) Close(reason string) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	if !s.ended {
		if s.lost {
			reason = upstreamClosed
		}
		s.ended, s.reason = true, reason
		for _, t := range s.timers {
			t.Stop()
		}
		close(s.closing)
	}
	reason = s.reason
	s.mu.Unlock()
	s.wait(lastWords)
	_ = s.p.Upstream.Close()
	_ = s.p.Client.Close()
	s.wait(0)
	s.noteEnd(reason)
	s.m.remove(s)
	if s.p.Closed != nil {
		s.p.Closed()
	}
}

// noteEnd writes the end of the session, and of its channels that are not written yet.
func (s *Session) noteEnd(reason string) {
	e := s.withRoot(s.event(audit.SessionEnded, audit.OK, reason))
	s.mu.Lock()
	if s.files != (ledger.Summary{}) {
		if e.Detail == nil {
			e.Detail = map[string]string{}
		}
		filesDetail(s.files, e.Detail)
	}
	s.mu.Unlock()
	s.endsWritten.Lock()
	defer s.endsWritten.Unlock()
	rows, events := s.takeEnds()
	s.m.over(append(events, e), func(ctx context.Context, events ...audit.Event) error {
		err := s.m.cfg.Store.Sessions.EndWith(ctx, s.row.ID, reason, rows, events...)
		if err != nil && !errors.Is(err, store.ErrUnavailable) && len(rows) > 0 {
			// A channel is no reason to leave the session open for good.
			err = errors.Join(err, s.m.cfg.Store.Sessions.End(ctx, s.row.ID, reason, events...))
		}
		return err
	})
}

// endsWithin is how long the end of a channel waits for that of its session, which mostly follows at once, and for those
// of other channels: what ends together is written in one transaction.
const endsWithin = 50 * time.Millisecond

// channelEnd is the end of a channel that is not written yet.
type channelEnd struct {
	row   store.Channel
	event audit.Event
}

// noteChannelEnd has the end of a channel written, soon.
func (s *Session) noteChannelEnd(row store.Channel, e audit.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = append(s.ends, channelEnd{row, e})
	if s.endsTimer == nil {
		s.endsTimer = time.AfterFunc(endsWithin, s.writeEnds)
	}
}

func (s *Session) writeEnds() {
	s.endsWritten.Lock()
	defer s.endsWritten.Unlock()
	rows, events := s.takeEnds()
	if len(rows) == 0 {
		return
	}
	s.m.over(events, func(ctx context.Context, events ...audit.Event) error {
		return s.m.cfg.Store.Sessions.CloseChannels(ctx, s.row.ID, rows, events...)
	})
}

func (s *Session) takeEnds() (rows []store.Channel, events []audit.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.ends {
		rows, events = append(rows, x.row), append(events, x.event)
	}
	if s.endsTimer != nil {
		s.endsTimer.Stop()
	}
	s.ends, s.endsTimer = nil, nil
	return rows, events
}

// authorize asks the rules, and writes what they allow.
func (s *Session) authorize(kind, to, command string) (Grant, error) {
	g, err := s.p.Authorize(context.Background(), kind, to, command)
	if err == nil {
		err = s.decided(g.Decided)
	}
	return g, err
}

// decided writes that something is allowed, unless that is zero: nothing is begun with which it could be written.
func (s *Session) decided(e audit.Event) error {
	if e.Type == "" {
		return nil
	}
	return s.m.emit(context.Background(), e)
}

// lastWords is how long channels may take to pass on what one side has sent before it went.
const lastWords = 5 * time.Second

// wait returns when no channel is open any more, or after limit unless that is 0.
func (s *Session) wait(limit time.Duration) {
	s.await(limit, func() bool { return s.open == 0 })
}

// await returns when done says so, which it is asked under mu whenever a channel ends, or after limit
// unless that is 0.
func (s *Session) await(limit time.Duration, done func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if done() {
		return
	}
	over := false
	if limit > 0 {
		t := time.AfterFunc(limit, func() {
			s.mu.Lock()
			over = true
			s.mu.Unlock()
			s.gone.Broadcast()
		})
		defer t.Stop()
	}
	for !over && !done() {
		s.gone.Wait()
	}
}

// event fills in what every event of this session has.
func (s *Session) event(kind string, result audit.Result, reason string) audit.Event {
	return audit.Event{
		Type: kind, Result: result, Door: audit.DoorSSH, User: s.row.User, Source: s.row.Source, Target: s.row.Target,
		Account: s.row.Account, Session: s.row.ID, Rule: s.row.Rule, Reason: reason,
	}
}

// placeWait is how long a new channel waits for a place when all are taken: the client may have
// closed one just before, and the goroutine that has to notice may not have run yet.
const placeWait = 500 * time.Millisecond

// reserve takes a place for c and gives it a number, or says why there may be no more channels.
func (s *Session) reserve(c *channel) error {
	s.await(placeWait, func() bool { return s.ended || s.full() == "" && s.taken < s.sessionChannels() })
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return errors.New("the session has ended")
	case s.full() != "":
		return errors.New(s.full())
	case s.taken >= s.sessionChannels():
		return fmt.Errorf("no more than %d session channels at once in one connection", s.sessionChannels())
	}
	c.row.ID = s.next
	s.next++
	s.taken++
	s.open++
	return nil
}

// vacate gives the place of c back, before the client hears that the channel is closed: it may open
// the next one at once, while the recording of this one is still being sealed.
func (s *Session) vacate(c *channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.vacated {
		c.vacated = true
		s.taken--
		if s.mod.runs == c {
			s.mod.runs = nil
		}
		s.gone.Broadcast()
	}
}

// attach makes c known to End and Live. It is false when the session has ended meanwhile.
func (s *Session) attach(c *channel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.channels[c.row.ID] = c
	}
	return !s.ended
}

func (s *Session) release(c *channel) {
	s.vacate(c)
	s.mu.Lock()
	delete(s.channels, c.row.ID)
	s.open--
	s.mu.Unlock()
	s.gone.Broadcast()
}

// Info is what is known of an open session now.
type Info struct {
	ID, User, Target, Account, Source string
	Started                           time.Time
	Channels                          []store.Channel // with the counters as of now
}

func (s *Session) info() Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := Info{ID: s.row.ID, User: s.row.User, Target: s.row.Target, Account: s.row.Account, Source: s.row.Source, Started: s.row.Started}
	for id := 1; id < s.next; id++ {
		if c, ok := s.channels[id]; ok {
			i.Channels = append(i.Channels, c.snapshot())
		} else if f, ok := s.forwards[id]; ok {
			i.Channels = append(i.Channels, f.snapshot())
		}
	}
	return i
}
