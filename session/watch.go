package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// ErrNotWatchable is why a session cannot be watched; the text says why.
var ErrNotWatchable = errors.New("it cannot be watched")

// Watcher is who wants to watch. They only look: nothing that they do reaches the session.
type Watcher struct {
	Name   string // as the audit log names them; the person may read it
	UserID string // of a person, who may moderate; "" for programs, and for people of whom nobody can tell just now
	Login  string // … and their login and groups
	Groups []string
	Note   string      // what they read before anything else; "": nothing
	Began  audit.Event // written before anything is shown
	Ended  audit.Event // written when they leave
}

// View is one channel of an open session as somebody watches it: the present screen, and then what happens.
// It serves one goroutine, but for End.
type View struct {
	m       *Manager
	id      string // of the watch
	session string
	who     Watcher
	hub     *hub         // nil until there is something to see
	joined  *hub         // that has to be left
	waits   bool         // nothing runs yet, and that was told
	told    bool         // the end
	past    map[int]bool // the channels that were over when this began
	note    string       // what whoever watches reads first
	channel int          // guarded by mu
	begun   time.Time
	ctx     context.Context // ends with Close, and with the right to watch
	stop    context.CancelFunc
	closed  sync.Once
	lost    string // why the watch ended from here; guarded by mu

	mu     sync.Mutex  // guards the fields below; taken after hub.mu
	paint  []LiveEvent // the screen, before what is in queue
	queue  []LiveEvent
	queued int  // bytes that queue takes
	fresh  bool // the queue was dropped: the whole screen comes next
	wake   chan struct{}
}

// LiveEvent is one event of a live view, as in an asciicast.
type LiveEvent struct {
	Code string // "o" output, "r" new size as "80x24", "m" marker, "x" exit status
	Text string
}

// cost is about what e takes in memory.
func (e LiveEvent) cost() int { return len(e.Text) + 64 }

// maxQueued bounds what waits for a watcher who is slow, in bytes; with more, they get the screen anew.
const maxQueued = 256 << 10

// Watch begins to watch a channel of a live session, on whatever node it is; channel 0 is the first that runs
// something, and is waited for: what is over before the view looks is shown all the same. Nothing of it is on the way of the
// session's own bytes: a watcher who is slow is shown the screen anew. The error is store.ErrNotFound if there is no such session, or [ErrNotWatchable].
func (m *Manager) Watch(ctx context.Context, id string, channel int, who Watcher) (*View, error) {
	row, err := m.cfg.Store.Sessions.Get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("watching session %s: %w", audit.Escape(id), err)
	}
	if row.State != store.Live {
		return nil, fmt.Errorf("watching session %s: %w: it is over", row.ID, ErrNotWatchable)
	}
	if s := m.find(row.ID); s != nil && s.Ended() != "" { // its row says so in a moment
		return nil, fmt.Errorf("watching session %s: %w: it is over", row.ID, ErrNotWatchable)
	}
	if channel != 0 {
		if _, _, err := pick(row, channel); err != nil {
			return nil, fmt.Errorf("watching session %s: %w", row.ID, err)
		}
	}
	began, err := m.cfg.Audit.Complete(who.Began)
	if err != nil {
		return nil, err
	}
	v := &View{m: m, session: row.ID, who: who, channel: channel, begun: time.Now(), fresh: true, wake: make(chan struct{}, 1), past: map[int]bool{}}
	for _, c := range m.settled(row).Channels {
		v.past[c.ID] = !c.Ended.IsZero()
	}
	v.ctx, v.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := m.addView(v); err != nil {
		return nil, fmt.Errorf("watching session %s: %w", row.ID, err)
	}
	v.id, err = m.cfg.Store.Watching.Begin(ctx, store.Watch{
		SessionID: row.ID, Channel: channel, Node: m.cfg.Node, Watcher: who.Name, UserID: who.UserID, Login: who.Login, Groups: who.Groups}, began)
	if err != nil {
		m.removeView(v)
		return nil, err
	}
	m.cfg.Audit.Print(ctx, began)
	v.note = who.Note
	m.lookAtWatches(ctx) // where the session is here, its person is told before anything is shown
	go v.renew()
	return v, nil
}

// maxViews bounds how many watch at one node; each costs a connection, and up to maxQueued bytes.
const maxViews = 500

func (m *Manager) addView(v *View) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.draining:
		return fmt.Errorf("%w: this bastion stops", ErrNotWatchable)
	case len(m.views) >= maxViews:
		return fmt.Errorf("%w: %d watch at this node already", ErrNotWatchable, maxViews)
	case m.views == nil:
		m.views = map[*View]bool{}
	}
	m.views[v] = true
	return nil
}

func (m *Manager) removeView(v *View) {
	v.stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.views, v)
}

// endViews ends what is watched here, and waits for a second at most until that is noted.
func (m *Manager) endViews(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for {
		m.mu.Lock()
		views := slices.Collect(maps.Keys(m.views))
		m.mu.Unlock()
		if len(views) == 0 {
			return
		}
		for _, v := range views {
			v.End("this bastion stops")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// pick chooses the channel to watch. ok is false if there is none yet.
func pick(row store.Session, channel int) (c store.Channel, ok bool, err error) {
	for _, c := range row.Channels {
		open := c.Ended.IsZero() && watchable(c.Kind)
		switch {
		case channel == 0 && open && (!ok || c.Term):
			return c, true, nil
		case channel != c.ID || channel == 0:
		case !c.Ended.IsZero():
			return c, false, fmt.Errorf("%w: channel %d is over", ErrNotWatchable, channel)
		case !open:
			return c, false, fmt.Errorf("%w: channel %d carries %s, which shows nothing", ErrNotWatchable, channel, c.Kind)
		default:
			return c, true, nil
		}
	}
	if channel != 0 {
		return c, false, fmt.Errorf("%w: there is no channel %d", ErrNotWatchable, channel)
	}
	return c, false, nil
}

// settled is row with the channels that this node knows to be over, though their recordings may still be sealed.
func (m *Manager) settled(row store.Session) store.Session {
	s := m.find(row.ID)
	if s == nil {
		return row
	}
	row.Channels = slices.Clone(row.Channels)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range row.Channels {
		if c := s.channels[x.ID]; x.Ended.IsZero() && (c == nil || c.sides.Load() > 0) {
			row.Channels[i].Ended = time.Now()
		}
	}
	return row
}

// first chooses the channel for a view that asked for none. ok is false if there is none yet. Something that has run since
// the view began, and is over already, counts: under the eyes of a moderator nothing runs unseen.
func (v *View) first(row store.Session) (c store.Channel, ok bool) {
	row = v.m.settled(row)
	c, ok, _ = pick(row, 0)
	if ok && !v.waits {
		return c, true
	}
	for _, x := range row.Channels {
		if !x.Ended.IsZero() && watchable(x.Kind) && !v.past[x.ID] {
			return x, true
		}
	}
	return c, ok
}

// watchable tells whether a channel of this kind prints anything.
func watchable(kind string) bool {
	switch kind {
	case kindShell, kindExec, kindSubsystem, "scp", "rsync", "git":
		return true
	}
	return false
}

// Channel is the channel that is watched; 0 while it is waited for.
func (v *View) Channel() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.channel
}

// renew says every few seconds that the session is still watched. Nobody watches unknown to the person: when
// that cannot be said for too long, the view ends.
func (v *View) renew() {
	last := time.Now()
	tick := time.NewTicker(store.LiveRenew)
	defer tick.Stop()
	for {
		select {
		case <-v.ctx.Done():
			return
		case <-tick.C:
		}
		err := v.m.cfg.Store.Watching.Renew(v.ctx, v.id, v.Channel())
		switch {
		case err == nil:
			last = time.Now()
		case errors.Is(err, store.ErrNotFound), time.Since(last) > 3*store.LiveRenew:
			v.End("the database cannot be told any more who watches")
			return
		}
	}
}

// Watcher is who watches, as they were when they began.
func (v *View) Watcher() Watcher { return v.who }

// End ends the view from here; whoever watches reads why.
func (v *View) End(why string) {
	v.mu.Lock()
	if v.lost == "" {
		v.lost = why
	}
	v.mu.Unlock()
	v.stop()
}

// Close ends the view and writes the event of it.
func (v *View) Close() {
	v.closed.Do(func() {
		v.stop()
		if v.joined != nil {
			v.m.leaveHub(v.joined, v)
		}
		e := v.who.Ended
		if e.Detail == nil {
			e.Detail = map[string]string{}
		}
		e.Detail["channel"] = strconv.Itoa(v.Channel())
		e.Detail["seconds"] = strconv.Itoa(int(time.Since(v.begun).Seconds()))
		v.m.over([]audit.Event{e}, func(ctx context.Context, events ...audit.Event) error {
			return v.m.cfg.Store.Watching.End(ctx, v.id, v.session, events[0])
		})
		v.m.lookAtWatches(context.Background())
		v.m.removeView(v)
	})
}

// Next returns what happens next. But for a marker with the note of the watcher, the first event is the size, the second the present screen; while nothing runs yet,
// these say so. At the end there is a marker that says why, and then io.EOF; ctx may end it too, with its error. What the channel
// printed before its end comes before that; of what waited when [View.End] was called nothing is shown.
func (v *View) Next(ctx context.Context) (LiveEvent, error) {
	if v.told {
		return LiveEvent{}, io.EOF
	}
	if err := v.ctx.Err(); err != nil { // before what waits, of which a session that prints without end has ever more
		return v.finish(err)
	}
	if v.note != "" {
		e := LiveEvent{Code: "m", Text: audit.Escape(v.note)}
		v.note = ""
		return e, nil
	}
	for v.hub == nil {
		if len(v.paint) > 0 {
			e := v.paint[0]
			v.paint = v.paint[1:]
			return e, nil
		}
		found, err := v.join(ctx)
		switch {
		case err != nil && ctx.Err() != nil && v.ctx.Err() == nil:
			return LiveEvent{}, ctx.Err()
		case err != nil:
			return v.finish(err)
		case !found && !v.waits:
			v.waits = true
			v.paint = []LiveEvent{{"r", "80x24"}, {"o", "\x1bcNothing runs in this session yet; what begins will be shown here.\r\n"}}
		case !found:
			select {
			case <-ctx.Done():
				return LiveEvent{}, ctx.Err()
			case <-v.ctx.Done():
				return v.finish(v.ctx.Err())
			case <-time.After(waitEvery):
			}
		}
	}
	for {
		e, ok, over := v.hub.next(v)
		switch {
		case over:
			return v.finish(errors.New(e.Text))
		case ok:
			return e, nil
		}
		select {
		case <-v.wake:
		case <-v.ctx.Done():
			return v.finish(v.ctx.Err())
		case <-ctx.Done():
			return LiveEvent{}, ctx.Err()
		}
	}
}

// finish gives the marker that says why the view ends; io.EOF follows.
func (v *View) finish(err error) (LiveEvent, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	why := err.Error()
	if v.lost != "" {
		why = v.lost
	}
	v.told = true
	return LiveEvent{Code: "m", Text: audit.Escape(why)}, nil
}

// waitEvery is how often a watcher who waits for a channel looks whether there is one.
const waitEvery = 250 * time.Millisecond

// join looks for the channel, and begins to follow it if it is there.
func (v *View) join(ctx context.Context) (found bool, err error) {
	row, err := v.m.cfg.Store.Sessions.Get(ctx, v.session)
	switch {
	case errors.Is(err, store.ErrUnavailable):
		return false, nil // it may be back in a moment
	case err != nil:
		return false, err
	}
	var c store.Channel
	switch {
	case v.channel == 0 && row.State != store.Lost:
		c, found = v.first(row)
	case row.State == store.Live:
		c, found, err = pick(row, v.channel)
	}
	switch {
	case err != nil:
		return false, err
	case !found && row.State != store.Live:
		return false, errors.New("the session has ended: " + row.Reason)
	case !found:
		return false, nil
	}
	v.mu.Lock()
	v.channel = c.ID
	v.mu.Unlock()
	v.joined = v.m.joinHub(row, c, v)
	v.hub = v.joined
	go func() { _ = v.m.cfg.Store.Watching.Renew(v.ctx, v.id, c.ID) }() // which others may read; renew does it again
	return true, nil
}

// push gives v an event, or has the screen shown anew if too much waits already. It never waits. hub.mu is held.
func (v *View) push(e LiveEvent) {
	v.mu.Lock()
	if !v.fresh {
		if v.queued += e.cost(); v.queued > maxQueued {
			v.queue, v.queued, v.fresh = nil, 0, true
		} else {
			v.queue = append(v.queue, e)
		}
	}
	v.mu.Unlock()
	v.awake()
}

func (v *View) awake() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

func formatSize(cols, rows int) string { return strconv.Itoa(cols) + "x" + strconv.Itoa(rows) }

func parseSize(s string) (cols, rows int, ok bool) {
	a, b, _ := strings.Cut(s, "x")
	cols, err1 := strconv.Atoi(a)
	rows, err2 := strconv.Atoi(b)
	return cols, rows, err1 == nil && err2 == nil && cols > 0 && rows > 0
}

// CastWriter makes lines of an asciicast v3 of the events of a view: the header first, then one for each event,
// at the time at which it came.
type CastWriter struct{ last time.Time }

// Lines returns the lines for e, without newlines.
func (w *CastWriter) Lines(e LiveEvent) [][]byte {
	now := time.Now()
	if w.last.IsZero() {
		w.last = now
		cols, rows, ok := parseSize(e.Text)
		if e.Code != "r" || !ok {
			cols, rows = 80, 24
		}
		header := fmt.Appendf(nil, `{"version":3,"term":{"cols":%d,"rows":%d},"timestamp":%d}`, cols, rows, now.Unix())
		if e.Code == "r" {
			return [][]byte{header}
		}
		return [][]byte{header, w.event(now, e)}
	}
	return [][]byte{w.event(now, e)}
}

func (w *CastWriter) event(now time.Time, e LiveEvent) []byte {
	interval := now.Sub(w.last)
	w.last = now
	line, err := json.Marshal([]any{json.RawMessage(strconv.FormatFloat(interval.Seconds(), 'f', 6, 64)), e.Code, e.Text})
	if err != nil { // a number and two strings
		panic(err)
	}
	return line
}
