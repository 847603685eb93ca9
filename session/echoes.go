package session

import (
	"bytes"
	"sync"
	"time"
)

// echoes finds out which of the typed lines a terminal has shown. The bastion cannot see whether echo is on:
// that is the target's terminal's own matter. So a line counts as shown only if every printable character of it
// came back as output, in order, soon, before the line break that follows Enter, with nothing between them
// that somebody else may have printed, and stood there until that line break. Whatever is typed where nothing comes back (a password), or where
// something else does (asterisks, a menu, most of a full-screen editor), is forgotten, the whole line. In
// doubt a line was not shown. It serves several goroutines.
type echoes struct {
	record func([]byte) // is given each line that was shown, exactly as it was typed
	now    func() time.Time

	mu     sync.Mutex // guards the fields below
	lines  []*typed   // oldest first; the last one has no end yet
	in     escapes    // of what is typed
	out    escapes    // of what is shown
	cr     bool       // the last thing shown was a carriage return
	match  *typed     // of which a character was shown on this line of the screen and in this write
	excess bool       // after it something else was
	back   bool       // … and the cursor went back: a line is drawn anew, around what was typed in its middle
	column int        // characters since the last line break or return
	spaces int        // … of them, spaces at the end that nobody typed
}

// typed is a line as somebody types it.
type typed struct {
	raw    []byte    // all of it
	hidden []byte    // printable characters that were not shown yet
	last   time.Time // when the last of these was typed
	ended  bool      // with Enter, or by a key that ends a line
	text   []byte    // its printable characters
	early  bool      // there are none: nothing of it has to be shown
	bad    bool      // something else was shown
	caret  []byte    // what is left of the ^C that a key shows by which it ended
	trace  trace
}

const (
	echoWithin = 5 * time.Second // from typing a character to seeing it
	maxTyped   = 4096            // bytes of one line
)

func newEchoes(record func([]byte)) *echoes { return &echoes{record: record, now: time.Now} }

// endsLine tells whether a key ends a line: Enter, Ctrl-C, Ctrl-D, Ctrl-Z, Ctrl-\.
func endsLine(b byte) bool {
	return b == '\r' || b == '\n' || b == 3 || b == 4 || b == 26 || b == 28
}

// typed takes what a person typed, before the target has it.
func (e *echoes) typed(p []byte) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	for _, b := range p {
		l := e.open()
		if l == e.lines[0] && !l.trace.intact() {
			l.fail()
		}
		within := e.in.state
		kind := e.in.next(b)
		l.raw = append(l.raw, b)
		switch {
		case unsure(within, kind, l.raw):
			l.fail()
			if endsLine(b) {
				e.in.state, kind = 0, control
			}
		case within == 0x1b && e.in.state == 0x1b: // Alt-. and the like: what follows it is typed
			e.in.state = 0
		}
		if kind == printable {
			l.hidden, l.text = append(l.hidden, b), append(l.text, b)
			l.last = now
		} else if !endsLine(b) || kind != control {
			l.trace.forget()
		}
		if len(l.raw) > maxTyped {
			l.fail()
		}
		if kind == control && endsLine(b) {
			l.ended, l.early = true, len(l.text) == 0
			if b != '\r' && b != '\n' {
				l.caret = []byte{'^', b ^ 0x40}
			}
			e.settle(false)
		}
	}
}

// unsure tells whether the last byte of raw, that was typed within a sequence, may be a character all the same.
// Alt with one of ] P _ ^ X [ sends what a sequence begins with, and then there is no end to it before the line
// that is typed ends; and some terminals send characters as sequences (CSI u, CSI _, CSI 27 ; … ~).
func unsure(within byte, kind byteKind, raw []byte) bool {
	b := raw[len(raw)-1]
	switch within {
	case 0:
		return false
	case '[':
		return endsLine(b) || b == 'u' || b == '_' || b == '~' && bytes.HasPrefix(raw[bytes.LastIndexByte(raw, 0x1b)+1:], []byte("[27;"))
	case 0x1b, 'O':
		return endsLine(b) && kind != control
	}
	return endsLine(b) || b >= 0x20 && b != 0x7f
}

// open is the line that is being typed.
func (e *echoes) open() *typed {
	if n := len(e.lines); n > 0 && !e.lines[n-1].ended {
		return e.lines[n-1]
	}
	if len(e.lines) > 64 { // typed ahead of a program that shows nothing
		e.lines = nil
	}
	l := &typed{}
	e.lines = append(e.lines, l)
	return l
}

// fail forgets a line.
func (l *typed) fail() {
	clear(l.raw)
	clear(l.hidden)
	clear(l.text)
	l.trace.forget()
	l.raw, l.hidden, l.text, l.bad = l.raw[:0], l.hidden[:0], l.text[:0], true
}

// settle decides on the lines at the front that can be decided on; line says that a line break was shown.
func (e *echoes) settle(line bool) {
	for len(e.lines) > 0 && e.lines[0].ended {
		l := e.lines[0]
		if !l.bad && len(l.hidden) > 0 || !l.bad && !l.early && !line {
			return
		}
		if !l.bad && l.trace.intact() && !masked(l.text) {
			e.record(l.raw)
		}
		l.fail()
		e.lines = e.lines[1:]
		line = false
	}
}

// shown takes what the target shows, before the person sees it.
func (e *echoes) shown(p []byte) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.lines {
		if len(l.hidden) > 0 && e.now().Sub(l.last) > echoWithin {
			l.fail()
		}
	}
	e.settle(false)
	for _, b := range p {
		kind := e.out.next(b)
		if e.cr && b != '\n' {
			e.back = true                              // back to the beginning of the line, and it goes on there
			if e.spaces != 1 || e.column < narrowest { // else it goes on in the next row (readline)
				e.moved(func(t *trace) { t.away() })
			}
			e.column, e.spaces = 0, 0
		}
		e.cr = kind == control && b == '\r'
		switch {
		case kind == printable:
			if b < 0x80 || b >= 0xc0 {
				e.column++
			}
			e.spaces++
			if b != ' ' {
				e.spaces = 0
			}
			e.character(b)
		case kind == control && b == '\n':
			e.column, e.spaces = 0, 0
			e.lineBreak()
		case kind == control && b == '\b':
			e.back = true
			e.moved(func(t *trace) { t.move(-1) })
		case kind == control && (b == '\t' || b == '\v' || b == '\f'):
			e.moved(func(t *trace) { t.away() })
		case kind == goesBack:
			e.back = true
		}
		if final, args := e.out.end(); final != 0 {
			e.moved(func(t *trace) { t.sequence(final, args) })
		}
	}
	if !e.cr { // else what follows tells whether the line goes on or breaks
		e.endOfWrite()
	}
}

// narrowest is the narrowest terminal at which a line goes on in the next row.
const narrowest = 20

// moved is for what is not printed, and changes where the line stands that is shown.
func (e *echoes) moved(f func(*trace)) {
	if len(e.lines) > 0 && !e.lines[0].bad {
		f(&e.lines[0].trace)
	}
}

// character is one printable byte on the screen.
func (e *echoes) character(b byte) {
	for len(e.lines) > 0 {
		l := e.lines[0]
		if l.bad && !l.ended {
			return
		}
		if len(l.hidden) == 0 {
			if e.match != nil {
				e.excess = true
			}
			if l.ended && len(l.caret) > 0 && l.caret[0] == b {
				l.caret = l.caret[1:]
				return
			}
			l.trace.put(b, false)
			if l.ended && !l.bad && !l.early {
				l.fail() // something else follows what was to be the end of an echo
				e.settle(false)
			}
			return
		}
		if l.hidden[0] == b && !(e.match == l && e.excess && !e.back) {
			l.hidden = l.hidden[1:]
			l.trace.put(b, true)
			e.match, e.excess, e.back = l, false, false
			return
		}
		l.fail()
		if !l.ended {
			return
		}
		e.settle(false) // what is shown may belong to the line that was typed next
	}
}

// lineBreak is a new line on the screen: what was typed before the Enter that caused it has been shown by now,
// or is not shown at all.
func (e *echoes) lineBreak() {
	e.endOfWrite()
	if len(e.lines) > 0 && (len(e.lines[0].hidden) > 0 || !e.lines[0].trace.intact()) {
		e.lines[0].fail()
	}
	e.settle(true)
	e.moved(func(t *trace) { t.away() }) // for a line that is still being typed
}

// endOfWrite judges what stood beside the characters that were found.
func (e *echoes) endOfWrite() {
	if e.match != nil && e.excess && !e.back {
		e.match.fail()
		e.settle(false)
	}
	e.match, e.excess, e.back = nil, false, false
}

// kindOf a byte in the stream of a terminal.
type byteKind int

const (
	printable byteKind = iota
	control            // a control character that is no part of a sequence
	sequence           // part of an escape sequence
	goesBack           // the end of a sequence that moves the cursor back or elsewhere
)

// escapes follows escape sequences (ECMA-48) through a stream.
type escapes struct {
	state byte // 0, or the character that the sequence began with
	args  []byte
	final byte // of the sequence that has just ended
}

// end is the last character of the sequence that ended with the last byte, and what stood before it; 0 if none did.
// Sequences without arguments that move the cursor (ESC 8 and the like) count as one that goes elsewhere.
func (s *escapes) end() (final byte, args string) {
	final, args = s.final, string(s.args)
	if final != 0 {
		s.final, s.args = 0, s.args[:0]
	}
	return final, args
}

func (s *escapes) next(b byte) byteKind {
	switch s.state {
	case 0:
		switch {
		case b == 0x1b:
			s.state = 0x1b
			return sequence
		case b < 0x20 || b == 0x7f:
			return control
		}
		return printable
	case 0x1b:
		switch b {
		case '[', ']', 'P', '_', '^', 'X', 'O':
			s.state = b
			return sequence
		}
		if b >= 0x20 && b < 0x30 { // intermediate characters
			return sequence
		}
		s.state = 0
		if b == '\r' || b == '\n' || b == 3 || b == 4 {
			return control // Escape, and then that key
		}
		if bytes.IndexByte([]byte("78MDEc"), b) >= 0 {
			s.final, s.args = 'H', s.args[:0]
		}
		return sequence
	case 'O':
		s.state = 0
		return sequence
	case '[':
		if b < 0x40 && len(s.args) < 16 {
			s.args = append(s.args, b)
		}
		if b >= 0x40 && b <= 0x7e {
			s.state, s.final = 0, b
			switch b {
			case 'D', 'G', 'H', 'f', 'd', 'A', 'u', '`':
				return goesBack
			}
		}
		return sequence
	default: // a string, up to BEL or ESC \
		switch b {
		case 0x07:
			s.state = 0
		case 0x1b:
			s.state = 0x1b
		}
		return sequence
	}
}

// listenInput begins to record what is typed, if the rule wants that and there is a terminal.
func (c *channel) listenInput() {
	if c.grant.Input && c.term != nil {
		rec := c.rec
		c.input = newEchoes(func(p []byte) { _ = rec.Input(p) }) // an error is met again by the output that follows
	}
}
