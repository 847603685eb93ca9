package recorder

import (
	"bufio"
	"strings"
	"unicode"
	"unicode/utf8"
)

// transcript turns what a terminal was sent into plain text. Escape sequences (ECMA-48) are left
// out whole, a carriage return that does not end a line begins a new one, a backspace takes the
// last character back. It is an aid for reading: what a full-screen program painted is not laid out.
type transcript struct {
	out   *bufio.Writer
	line  []byte // the last line, as far as it is known
	state escapeState
	cr    bool // the last character was a carriage return
	text  bool // the line, also what of it was written out, has text
}

// escapeState is where in an escape sequence the next character stands.
type escapeState int

const (
	plainText     escapeState = iota
	afterESC                  // ESC was seen
	inSequence                // ESC and intermediate bytes: ends at the final byte
	inCSI                     // control sequence: ends at 0x40 to 0x7e
	inString                  // OSC, DCS, SOS, PM, APC: ends at ST or BEL
	inStringAtESC             // in a string ESC was seen: with \ it is ST
)

// maxLineText is how much of a line is held back for backspaces.
const maxLineText = 4096

// write takes text in valid UTF-8. A sequence may be cut anywhere between two calls.
func (t *transcript) write(s string) {
	for _, c := range s {
		t.rune(c)
	}
}

func (t *transcript) rune(c rune) {
	switch {
	case c == 0x18 || c == 0x1a: // CAN and SUB end any sequence
		t.state = plainText
		return
	case c == 0x1b && t.state == inString:
		t.state = inStringAtESC
		return
	case c == 0x1b:
		t.state = afterESC
		return
	}
	switch t.state {
	case plainText:
		t.plain(c)
	case afterESC:
		t.state = afterEscape(c)
	case inSequence:
		if c >= 0x30 {
			t.state = plainText
		}
	case inCSI:
		if c >= 0x40 && c <= 0x7e || c > 0x9f {
			t.state = plainText
		}
	case inString:
		if c == 0x07 || c == 0x9c {
			t.state = plainText
		}
	case inStringAtESC:
		if t.state = plainText; c != '\\' { // the string is broken off by another sequence
			t.state = afterEscape(c)
		}
	}
}

// afterEscape is the state after ESC and c.
func afterEscape(c rune) escapeState {
	switch {
	case c == '[':
		return inCSI
	case c == ']' || c == 'P' || c == 'X' || c == '^' || c == '_' || c == 'k': // k is the title of screen and tmux
		return inString
	case c >= 0x20 && c <= 0x2f:
		return inSequence
	}
	return plainText
}

// plain takes a character outside of sequences.
func (t *transcript) plain(c rune) {
	if t.cr && c != '\n' && c != '\r' && t.text {
		t.newline()
	}
	t.cr = c == '\r' || t.cr && c < ' ' && c != '\n'
	switch {
	case c == '\n':
		t.newline()
	case c == '\b':
		_, size := utf8.DecodeLastRune(t.line)
		t.line = t.line[:len(t.line)-size]
	case c == 0x9b:
		t.state = inCSI
	case c == 0x90 || c == 0x98 || c >= 0x9d && c <= 0x9f:
		t.state = inString
	case c == '\t' || !unicode.IsControl(c) && !reorders(c):
		t.line = utf8.AppendRune(t.line, c)
		t.text = true
		if len(t.line) >= maxLineText {
			t.flush()
		}
	}
}

// reorders tells whether c changes the direction of the text around it.
func reorders(c rune) bool {
	return unicode.Is(unicode.Bidi_Control, c) || c == '\u2028' || c == '\u2029'
}

func (t *transcript) newline() {
	t.line = append(t.line, '\n')
	t.flush()
	t.text, t.cr = false, false
}

// flush writes out what is held back. The Writer keeps the first error for the Flush of Export.
func (t *transcript) flush() {
	t.out.Write(t.line)
	t.line = t.line[:0]
}

// end ends the last line.
func (t *transcript) end() {
	if t.text {
		t.newline()
	}
	t.flush()
}

// note writes a line of our own.
func (t *transcript) note(s string) {
	t.state = plainText
	t.end()
	t.write("[" + printable(s) + "]\n")
}

// printable returns s as plain text.
func printable(s string) string {
	var b strings.Builder
	t := &transcript{out: bufio.NewWriter(&b)}
	t.write(s)
	t.flush()
	t.out.Flush()
	return b.String()
}
