package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/store"
)

// Moderation is the demand that somebody else watches a session all the time.
type Moderation struct {
	May    func(login string, groups []string) bool // tells who may moderate; never asked for the person themselves, by no login
	By     string                                   // who may, in words for the person
	Pause  bool                                     // without a moderator the session stands still; false: it ends
	Within time.Duration                            // how long it waits for one at the beginning, and while it stands still
}

// moderation is where the demand of a session stands. It is guarded by Session.mu but for paused.
type moderation struct {
	resumed chan struct{}       // closed when the session goes on; only moderate does it
	begun   bool                // a moderator has been there
	note    string              // what the person is told while the session stands still; "": nothing runs yet
	timer   *time.Timer         // ends a session that waits for too long
	runs    *channel            // the one that a moderator can watch; nil: none
	found   map[string]*channel // by the id of a watch that waits for a channel: the one that it will find; nil: none yet

	deciding sync.Mutex // held while it is decided whether the session goes on; taken before Session.mu
}

// alone makes c the one channel of a moderated session on which something runs. A moderator sees one at a time, and
// what runs beside it would be seen by nobody. It is false while another one has the place.
func (c *channel) alone() bool {
	s := c.s
	if s.p.Moderation == nil {
		return true
	}
	s.await(placeWait, func() bool { return s.ended || s.mod.runs == nil || s.mod.runs == c })
	s.mu.Lock()
	if s.mod.runs != nil || c.vacated { // nobody would free the place of what is over already
		defer s.mu.Unlock()
		return s.mod.runs == c
	}
	s.mod.runs = c
	again := s.mod.begun
	if again {
		s.lastObserved = time.Time{} // what was known holds no longer if nobody can say more
	}
	s.mu.Unlock()
	if again { // who watched what has ended need not see this
		s.m.lookAtWatches(context.Background())
	}
	return true
}

// errNotAlone is what people read who ask a moderated session for two things at once.
const errNotAlone = "this session is moderated: one shell or command at a time. End the other one first, or connect anew, without a shared connection"

// errModerated is what people read who ask a moderated session for what nobody could watch.
const errModerated = "this session is moderated: only what can be watched may run, a shell or a command"

// moderated holds what may be asked for to what a moderator can watch.
func (p *Params) moderated() {
	if p.Moderation == nil {
		return
	}
	ask := p.Authorize
	p.Authorize = func(ctx context.Context, kind, to, command string) (Grant, error) {
		switch kind {
		case "", kindShell, kindExec, kindSubsystem, "scp", "rsync", "git":
			return ask(ctx, kind, to, command)
		}
		return Grant{Refusal: errModerated, Denied: true}, nil
	}
}

// observed takes note of who watches, as the database said when it was asked at a time. It is called with each
// change, and every few seconds.
func (s *Session) observed(watches []store.Watch, asked time.Time) {
	s.mod.deciding.Lock()
	defer s.mod.deciding.Unlock()
	names := []string{}
	moderator := ""
	runs, found := s.found(watches)
	for _, w := range watches {
		if name := audit.Escape(w.Watcher); !slices.Contains(names, name) {
			names = append(names, name)
		}
		switch {
		case runs == nil:
		case w.Channel == 0 && found[w.ID] != runs, w.Channel != 0 && w.Channel != runs.row.ID:
			continue // they look at what has ended
		}
		if m := s.p.Moderation; m != nil && moderator == "" && s.another(w) && m.May(w.Login, w.Groups) {
			moderator = w.Login
		}
	}
	s.mu.Lock()
	changed := !slices.Equal(names, s.observers)
	s.observers = names
	s.lastObserved = asked
	channels := make([]*channel, 0, len(s.channels))
	for _, c := range s.channels {
		channels = append(channels, c)
	}
	s.mu.Unlock()
	if changed {
		for _, c := range channels {
			go c.tellObserved()
		}
	}
	if s.p.Moderation != nil {
		s.moderate(moderator)
	}
}

// found tells what runs, and what those will see who wait for something to run: the first that does, and nothing after it,
// however soon that is over.
func (s *Session) found(watches []store.Watch) (runs *channel, found map[string]*channel) {
	found = map[string]*channel{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range watches {
		if w.Channel != 0 {
			continue
		}
		c := s.mod.found[w.ID]
		if c == nil || c.vacated && !c.ran() { // the rules, or the target, would not have it
			c = s.mod.runs
		}
		found[w.ID] = c
	}
	s.mod.found = found
	return s.mod.runs, found
}

// ran tells whether something has begun to run on c. It is known when c has been vacated.
func (c *channel) ran() bool {
	select {
	case <-c.started:
		return true
	default:
		return false
	}
}

// another tells whether somebody who watches is a person, and not the one whose session it is. Logins change: one
// whose name is another in the directory by now is still the same.
func (s *Session) another(w store.Watch) bool {
	return w.UserID != "" && w.UserID != s.row.UserID && w.Login != s.row.User
}

// unobserved has a moderated session not rely on who watched, if nobody could say for longer than limit who does.
func (s *Session) unobserved(limit time.Duration) {
	if s.p.Moderation == nil || !s.mod.deciding.TryLock() {
		return // it is being decided, with what is known now; this is called again
	}
	defer s.mod.deciding.Unlock()
	s.mu.Lock()
	late := time.Since(s.lastObserved) > limit
	s.mu.Unlock()
	if late {
		s.moderate("")
	}
}

// tellObserved tells the person on this channel who watches, if that is not what they were told last, and marks
// it in the recording. What is told is always the present state, so that nobody is left with an old one.
func (c *channel) tellObserved() {
	select {
	case <-c.started:
	default:
		return // start calls again
	}
	c.telling.Lock()
	defer c.telling.Unlock()
	c.s.mu.Lock()
	now := c.s.observers
	c.s.mu.Unlock()
	var joined, left []string
	for _, name := range now {
		if !slices.Contains(c.told, name) {
			joined = append(joined, name)
		}
	}
	for _, name := range c.told {
		if !slices.Contains(now, name) {
			left = append(left, name)
		}
	}
	c.told = now
	if c.rec != nil {
		if len(joined) > 0 {
			_ = c.rec.Mark("observed by " + strings.Join(joined, ", "))
		}
		if len(left) > 0 {
			_ = c.rec.Mark("no longer observed by " + strings.Join(left, ", "))
		}
	}
	if c.s.p.Silent || c.term == nil {
		return
	}
	switch {
	case len(joined) > 0:
		say(c.down, true, "observed by "+strings.Join(joined, ", ")+".")
	case len(left) > 0 && len(now) == 0:
		say(c.down, true, "no longer observed.")
	}
}

// waitForModerator begins a moderated session.
func (s *Session) waitForModerator() {
	if s.p.Moderation == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastObserved = time.Now()
	within := s.p.Moderation.Within
	s.pause(within, "no moderator came within "+audit.Short(within))
}

// pause makes the session stand still, and ends it after a time. s.mu is held.
func (s *Session) pause(within time.Duration, reason string) {
	s.paused.Store(true)
	s.mod.resumed = make(chan struct{})
	s.mod.timer = time.AfterFunc(within, func() {
		if s.paused.Load() {
			s.End(reason)
		}
	})
	s.timers = append(s.timers, s.mod.timer)
}

// moderate lets the session go on, stand still or end; moderator is "" if none watches. s.mod.deciding is held.
func (s *Session) moderate(moderator string) {
	s.mu.Lock()
	paused := s.paused.Load()
	switch {
	case s.ended, paused == (moderator == ""):
		s.mu.Unlock()
		return
	case moderator != "":
		again := s.mod.begun
		s.mod.begun = true
		s.mod.timer.Stop()
		channels := slices.Collect(maps.Values(s.channels))
		s.mu.Unlock()
		_ = s.m.emit(context.Background(), s.event(audit.Moderation, audit.OK, "goes on: "+audit.Escape(moderator)+" moderates"))
		if again {
			warnFirst(channels, "a moderator watches; the session goes on.")
		}
		s.paused.Store(false)
		close(s.mod.resumed)
		s.unnoted.Store(true)
		return
	}
	within, reason := moderatorBack, "its moderator has left"
	if s.p.Moderation.Pause {
		within = s.p.Moderation.Within
		reason = "no moderator came within " + audit.Short(within)
	}
	s.pause(within, reason)
	note := fmt.Sprintf("the moderator has left. The session stands still until one watches again (%s), and ends in %s.",
		s.p.Moderation.By, audit.Short(within))
	s.mod.note = note
	s.mu.Unlock()
	_ = s.m.emit(context.Background(), s.event(audit.Moderation, audit.OK, "stands still: no moderator watches"))
	s.warn(note)
	s.unnoted.Store(true)
}

// noteWaits tells operators, by the rows, which sessions wait for a moderator since the last time. It is nothing to
// wait for where sessions are made to stand still.
func (m *Manager) noteWaits(ctx context.Context) {
	for _, s := range m.sessions() {
		if !s.unnoted.CompareAndSwap(true, false) {
			continue
		}
		waits := ""
		if s.paused.Load() {
			waits = store.WaitsModerator
		}
		if err := m.cfg.Store.Sessions.Waits(ctx, s.row.ID, waits); err != nil {
			s.unnoted.Store(true)
			m.cfg.Log.Warn("telling what a session waits for", "session", s.row.ID, "error", err)
			return
		}
	}
}

// tellPaused tells the person on a channel that begins just when the moderator leaves.
func (c *channel) tellPaused() {
	if !c.s.paused.Load() {
		return
	}
	c.s.mu.Lock()
	note := c.s.mod.note
	c.s.mu.Unlock()
	if note != "" {
		c.warn(note)
	}
}

// moderatorBack is how long a session whose moderator has left waits before it ends, where the rule does not let
// it stand still for longer: a page that is loaded again is no reason.
const moderatorBack = 10 * time.Second

// warnFirst tells people something before what is held back comes, unless a client reads nothing.
func warnFirst(channels []*channel, text string) {
	var wg sync.WaitGroup
	for _, c := range channels {
		wg.Go(func() { c.warn(text) })
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(200 * time.Millisecond):
	}
}

// hold waits while the session stands still. It is false if nothing may pass any more.
func (c *channel) hold() bool {
	s := c.s
	for s.paused.Load() {
		s.mu.Lock()
		resumed := s.mod.resumed
		s.mu.Unlock()
		select {
		case <-resumed:
		case <-c.left:
			return false
		case <-s.closing:
			return false
		}
	}
	return true
}

// errHeld is that the session ended before anything ran. End has told the person.
var errHeld = errors.New("the session has ended")

// admit has what the target printed recorded, and shown to who watches without a recording, before the person gets
// it. It waits while the session stands still, and is false if p may not pass.
func (c *channel) admit(which stream, p []byte) bool {
	if !c.hold() || !c.record(which, p) {
		return false
	}
	if t := c.tapped.Load(); t != nil {
		t.output(p)
	}
	return true
}

// awaitModerator keeps what the person wants to run back until a moderator watches. The client has its answer
// then, and the person reads what they wait for. The error says why nothing may run.
func (c *channel) awaitModerator(r *ssh.Request) error {
	if !c.s.paused.Load() {
		return nil
	}
	c.answer(r, true)
	c.replay = true // the target's answer is wanted all the same
	term := c.term != nil
	c.holding.Store(&term) // End tells the person by it as long as nothing runs
	m := c.s.p.Moderation
	text := fmt.Sprintf("waiting for a moderator: one of %s has to watch this session (%s), for %s at most.", m.By, c.s.row.ID, audit.Short(m.Within))
	c.s.mu.Lock()
	if c.s.mod.note != "" {
		text = c.s.mod.note
	}
	c.s.mu.Unlock()
	say(c.down, term, text)
	for c.s.paused.Load() {
		c.s.mu.Lock()
		resumed := c.s.mod.resumed
		c.s.mu.Unlock()
		select {
		case <-resumed:
		case <-c.s.closing:
			return errHeld
		case next, ok := <-c.reqs:
			if !ok {
				return errors.New("the client has left")
			}
			known := next.Type == "window-change" || next.Type == "signal"
			answer := known && c.clientRequest(next)
			if next.WantReply {
				_ = next.Reply(answer, nil)
			}
		}
	}
	say(c.down, term, "a moderator watches; the session begins.")
	return nil
}
