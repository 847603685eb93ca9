package bastion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/session"
	"sallyport/store"
)

// menuIdle is how long the menu waits for a key: nobody is at a terminal that is left alone.
const menuIdle = 15 * time.Minute

// escapeWait is how long an ESC waits for the rest of a control sequence.
const escapeWait = 50 * time.Millisecond

// What the terminal is told when the menu comes and goes. A program that was cut off may have left it in
// any mode: mouse, bracketed paste, keypad, scrolling region, another screen. The menu asks for bracketed paste, so that
// a line end that was pasted is not taken for Enter, with the rest typed into whatever it opens.
const (
	enterMenu = "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?1l\x1b>\x1b7\x1b[r\x1b8\x1b[0m\x1b[?7h\x1b[?1049h\x1b[H\x1b[2J\x1b[?2004h"
	leaveMenu = "\x1b[?2004l\x1b[0m\x1b[?25h\x1b[?1049l"
)

// reasonShellEnded is why a session from the menu ends by itself.
const reasonShellEnded = "the shell from the menu ended"

// menu is the list that somebody without a target gets on a terminal, until they leave it.
type menu struct {
	*reception
	typed *typed
	list  picker
	news  <-chan struct{} // closed when the list may have changed
}

// menu shows the list and opens what is chosen, again and again; it returns the exit status.
func (r *reception) menu() uint32 {
	if err := r.c.s.cfg.Audit.Emit(context.Background(), r.opened("menu")); err != nil {
		return r.fail(statusGone, "the audit log cannot be written; try again in a minute.")
	}
	stop := make(chan struct{})
	defer close(stop)
	m := &menu{reception: r, typed: readTyped(r.ch, stop)}
	m.list.user, m.list.colour = r.c.id.Login, !r.noColour
	for {
		if text := m.load(); text != "" {
			return r.fail(statusGone, "%s", text)
		}
		chosen, why := m.choose()
		if chosen == nil {
			if why != "" {
				return r.fail(statusGone, "%s", why)
			}
			return statusOK
		}
		m.list.message = m.open(chosen.login)
	}
}

// load reads what the person may open now; the text says why they may stay no longer.
func (m *menu) load() string {
	m.news = m.c.newsNow()
	if over := m.c.ended(); over != "" {
		return over + "."
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reach, err := m.c.s.cfg.Engine.Reach(ctx, m.c.id, m.c.source)
	var refused *auth.Refused
	if errors.As(err, &refused) {
		return refused.Public
	}
	var sessions []store.Session
	if err == nil {
		sessions, err = m.c.s.cfg.Store.Sessions.List(ctx, store.SessionFilter{User: m.c.id.Login, Limit: 200})
	}
	if err != nil {
		m.c.s.cfg.Log.Error("listing what a person may reach", "user", m.c.id.Login, "error", err)
		m.list.message = "The list cannot be read just now. Try Ctrl-R in a minute."
	}
	m.list.now = time.Now()
	m.list.fill(choices(m.c.id.Login, reach, sessions))
	return ""
}

// choose lets the person choose. Without a choice they have left, or why says what ended the menu.
func (m *menu) choose() (chosen *choice, why string) {
	show, leave := m.enter()
	defer leave()
	idle := time.NewTimer(menuIdle)
	defer idle.Stop()
	keys := slices.Clone(m.typed.rest) // typed, not treated
	for final := false; ; {
		wish := m.press(&keys, final)
		final = false
		switch wish {
		case wishOpen:
			m.typed.rest = keys
			return &m.list.shown[m.list.cursor], ""
		case wishLeave:
			return nil, ""
		case wishReload:
			if text := m.load(); text != "" {
				return nil, text
			}
			continue
		}
		show(m.draw())
		var rest <-chan time.Time // of a control sequence; if none comes, it was the key Esc
		if len(keys) > 0 {
			rest = time.After(escapeWait)
		}
		select {
		case b, ok := <-m.typed.chunks:
			if !ok {
				return nil, ""
			}
			keys = append(keys, b...)
			idle.Reset(menuIdle)
		case <-rest:
			final = true
		case q, ok := <-m.reqs:
			if !ok {
				return nil, ""
			}
			m.note(q)
		case <-idle.C:
			return nil, "nothing was typed for " + span(menuIdle) + "."
		case <-m.c.s.stopping:
			return nil, textStopping
		case <-m.news:
			before := m.list.names()
			if text := m.load(); text != "" {
				return nil, text
			}
			if !slices.Equal(before, m.list.names()) {
				m.list.message = "What is open to you has changed."
			}
		}
	}
}

const textStopping = "this bastion stops; connect again in a moment."

// press treats keys in their order up to the first that asks for something, and takes them off.
func (m *menu) press(keys *[]byte, final bool) wish {
	for len(*keys) > 0 {
		k, n := nextKey(*keys, final)
		if n == 0 {
			break
		}
		*keys = (*keys)[n:]
		if w := m.list.key(k); w != wishNothing {
			return w
		}
	}
	return wishNothing
}

// enter turns the terminal to the menu. show brings a screen onto it, instead of one that is not on its
// way yet: a client that reads slowly, or not at all, holds nothing up. leave turns the terminal back.
func (m *menu) enter() (show func(screen string), leave func()) {
	screens, done := make(chan string, 1), make(chan struct{})
	write := func(s string) { _, _ = m.ch.Write([]byte(s)) }
	go func() {
		defer close(done)
		write(enterMenu)
		for s := range screens {
			write(s)
		}
		write(leaveMenu)
	}()
	show = func(screen string) {
		select {
		case <-screens:
		default:
		}
		screens <- screen
	}
	leave = func() {
		close(screens)
		for {
			select {
			case <-done:
				return
			case q, ok := <-m.reqs:
				if !ok { // the channel is closed, and so is the way of what is being written
					<-done
					return
				}
				m.note(q)
			}
		}
	}
	return show, leave
}

// draw gives the screen for the terminal of now.
func (m *menu) draw() string {
	m.list.cols, m.list.rows, m.list.now = int(m.pty.Cols), int(m.pty.Rows), time.Now()
	if m.list.cols == 0 || m.list.rows == 0 { // the client does not know (RFC 4254, section 6.2)
		m.list.cols, m.list.rows = 80, 24
	}
	return m.list.screen()
}

// note treats a request of the client that no session is there to treat.
func (m *menu) note(q *ssh.Request) {
	ok := q.Type == "window-change" && m.resize(q)
	if q.WantReply {
		_ = q.Reply(ok, nil)
	}
}

// open runs a session on the person's terminal and returns when it is over, with a line about it.
func (m *menu) open(to Login) string {
	name := audit.Escape(to.Account + "@" + to.Target)
	_, _ = m.ch.Write([]byte("sallyport: connecting to " + name + " ...\r\n"))
	l := newLent(m.ch, m.typed)
	s, refusal := m.connect(to, l)
	if s == nil {
		return refusal
	}
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		if !l.pass(m.reqs, func(q *ssh.Request) {
			if q.Type == "window-change" {
				m.resize(q)
			}
		}) {
			s.Close("the client closed the connection")
		}
	}()
	err := s.Attach(l, m.pending(), l.reqs)
	_ = l.Close()
	<-passed
	m.typed.settle()
	ended := s.Ended()
	s.End(reasonShellEnded) // an agent channel that the target keeps open does not keep the session
	s.Close(reasonShellEnded)
	m.list.setFilter(nil)
	switch status := l.exitStatus(); {
	case err != nil:
		return name + ": " + err.Error() + "."
	case ended != "":
		return name + ": session ended: " + audit.Escape(ended) + "."
	case status == nil:
		return name + ": the session is over."
	default:
		return fmt.Sprintf("%s: the session is over, exit status %d.", name, *status)
	}
}

// connect opens the session. Meanwhile the person can change their mind.
func (m *menu) connect(to Login, l *lent) (*session.Session, string) {
	type result struct {
		s       *session.Session
		refusal string
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done, asked := make(chan result, 1), make(chan *question)
	go func() {
		id, refusal := m.stepUp(ctx, to, askAt(asked))
		if refusal != "" {
			done <- result{nil, refusal}
			return
		}
		ap, refusal := m.approval(ctx, id, to, askAt(asked))
		if refusal != "" {
			done <- result{nil, refusal}
			return
		}
		ctx, cancel := context.WithTimeout(ctx, openAskTime)
		defer cancel()
		s, refusal, changed := m.c.openAsking(ctx, id, to, lentConn{Conn: m.c.conn, terminal: l}, askAt(asked), ap)
		if changed != nil {
			refusal = "what the rules ask for has changed just now; try again."
		}
		done <- result{s, refusal}
	}()
	var now *question                  // for the person to answer; nil: none
	keys := slices.Clone(m.typed.rest) // goes to the target
	stopped := false
	stop := func() { stopped = true; cancel() }
	chunks, reqs := m.typed.chunks, m.reqs
	for {
		select {
		case r := <-done:
			m.typed.rest = keys
			if stopped && r.s != nil {
				r.s.Close("the person changed their mind")
				r.s = nil
			}
			if stopped {
				m.typed.rest, r.refusal = nil, "Stopped."
			}
			return r.s, r.refusal
		case now = <-asked:
			keys = nil // typed before they knew what for
			if _, _ = m.ch.Write([]byte(now.begin())); now.over() {
				now = nil
			}
		case b, ok := <-chunks:
			if ok && now != nil {
				keys = append(keys, b...)
				show, more := now.press(&keys)
				_, _ = m.ch.Write([]byte(show))
				if !more {
					close(now.answered)
					stop()
				}
				if !more || now.over() {
					now = nil
				}
				break
			}
			if !ok || bytes.IndexByte(b, 3) >= 0 {
				stop()
			}
			if keys = append(keys, b...); !ok || len(keys) > typedBuffer {
				chunks = nil // it keeps until there is somebody to read it
			}
		case q, ok := <-reqs:
			if !ok {
				reqs = nil
				stop()
				break
			}
			m.note(q)
		}
	}
}
