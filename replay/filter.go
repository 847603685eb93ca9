package replay

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Filter lets through what draws on a screen and nothing else. What a terminal is sent can make
// it answer (as if the auditor had typed), set the clipboard, the title or the keyboard, print, or draw
// pictures; a recording holds what an attacker chose. Sequences are those of ECMA-48, xterm and their
// relatives; what is not known to only draw is left out. The state goes on from chunk to chunk.
type Filter struct {
	state   screenState
	seq     []byte // sequence so far, without ESC
	dropped bool   // the sequence is too long to be one
}

// Reset brings a terminal back from whatever the output of a Filter left it in: attributes, character sets, scrolling
// region, modes, main screen, visible cursor, a new line.
const Reset = "\x1b[0m\x1b(B\x1b)B\x0f\x1b[r\x1b[4l\x1b[20l\x1b[?5l\x1b[?6l\x1b[?7h\x1b[?25h\x1b[?2026l\x1b[?1049l\r\n"

type screenState int

const (
	onGround  screenState = iota
	inEscape              // after ESC
	inCSI                 // after ESC [
	inString              // in a string that is left out (OSC, DCS, SOS, PM, APC)
	inStrTerm             // after ESC within such a string
)

// maxSequence bounds a control sequence in bytes; those that draw are shorter.
const maxSequence = 64

// Append appends to dst what of text may reach a terminal. Invalid UTF-8 becomes U+FFFD.
func (f *Filter) Append(dst []byte, text string) []byte {
	for len(text) > 0 {
		if f.state == onGround {
			n := 0
			for n < len(text) && text[n] >= ' ' && text[n] < 0x7f {
				n++
			}
			if n > 0 {
				dst, text = append(dst, text[:n]...), text[n:]
				continue
			}
		}
		r, size := utf8.DecodeRuneInString(text)
		dst, text = f.next(dst, r), text[size:]
	}
	return dst
}

// Carry is what a Filter knows between two pieces of text; the zero Carry is that of a new one.
type Carry struct {
	State    screenState `json:"state,omitempty"`
	Sequence []byte      `json:"sequence,omitempty"`
	Dropped  bool        `json:"dropped,omitempty"`
}

// Carry is the present state, for NewFilter.
func (f *Filter) Carry() Carry {
	return Carry{State: f.state, Sequence: bytes.Clone(f.seq), Dropped: f.dropped}
}

// NewFilter goes on where another has stopped.
func NewFilter(c Carry) *Filter {
	return &Filter{state: c.State, seq: bytes.Clone(c.Sequence), dropped: c.Dropped}
}

func (f *Filter) next(dst []byte, r rune) []byte {
	// ESC, CAN and SUB interrupt whatever was going on (ECMA-48; DEC STD 070).
	switch r {
	case 0x1b:
		if f.state == inString {
			f.state = inStrTerm
		} else {
			f.begin(inEscape)
		}
		return dst
	case 0x18, 0x1a:
		f.begin(onGround)
		return dst
	}
	if r >= 0x80 && r <= 0x9f {
		f.c1(r)
		return dst
	}
	switch f.state {
	case inEscape:
		return f.escape(dst, r)
	case inCSI:
		return f.csi(dst, r)
	case inString:
		if r == 0x07 {
			f.begin(onGround)
		}
		return dst
	case inStrTerm:
		if r == '\\' {
			f.begin(onGround)
			return dst
		}
		f.begin(inEscape)
		return f.escape(dst, r)
	}
	return ground(dst, r)
}

func (f *Filter) begin(s screenState) { f.state, f.seq, f.dropped = s, f.seq[:0], false }

// c1 handles control characters of eight bits, which some terminals obey like their ESC form. None is
// passed on; those that begin a sequence begin it here too.
func (f *Filter) c1(r rune) {
	switch r {
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f:
		f.begin(inString)
	case 0x9b:
		f.begin(inCSI)
	default:
		f.begin(onGround)
	}
}

// ground passes text, and of the control characters those that move the cursor or choose between the
// two character sets.
func ground(dst []byte, r rune) []byte {
	switch r {
	case '\b', '\t', '\n', '\v', '\f', '\r', 0x0e, 0x0f:
		return append(dst, byte(r))
	}
	if r < 0x20 || r == 0x7f || unicode.Is(bidi, r) {
		return dst
	}
	return utf8.AppendRune(dst, r)
}

// bidi are characters that make text appear in another order than it was written.
var bidi = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x061c, Hi: 0x061c, Stride: 1}, {Lo: 0x200e, Hi: 0x200f, Stride: 1},
	{Lo: 0x202a, Hi: 0x202e, Stride: 1}, {Lo: 0x2066, Hi: 0x2069, Stride: 1},
}}

// escape handles what follows ESC.
func (f *Filter) escape(dst []byte, r rune) []byte {
	if len(f.seq) == 0 {
		switch r {
		case '[':
			f.begin(inCSI)
			return dst
		case ']', 'P', 'X', '^', '_', 'k': // OSC, DCS, SOS, PM, APC, and the title of screen
			f.begin(inString)
			return dst
		}
	}
	switch {
	case r < 0x20:
		return ground(dst, r) // obeyed within a sequence
	case r <= 0x2f && len(f.seq) < 2:
		f.seq = append(f.seq, byte(r))
		return dst
	}
	dst = appendEscape(dst, string(f.seq), r)
	f.begin(onGround)
	return dst
}

// appendEscape passes cursor save and restore, line feeds, tab stops and the choice between ASCII,
// British and line drawing characters. A full reset becomes a clear screen.
func appendEscape(dst []byte, between string, final rune) []byte {
	switch {
	case between == "" && strings.ContainsRune("78DEMH", final):
		return append(dst, 0x1b, byte(final))
	case between == "" && final == 'c':
		return append(dst, "\x1b[0m\x1b[r\x1b[H\x1b[2J"...)
	case (between == "(" || between == ")") && strings.ContainsRune("0AB", final):
		return append(dst, 0x1b, between[0], byte(final))
	}
	return dst
}

// csi handles what follows ESC [.
func (f *Filter) csi(dst []byte, r rune) []byte {
	switch {
	case r < 0x20:
		return ground(dst, r)
	case r > 0x7e:
		f.begin(onGround)
		return dst
	case r < 0x40:
		if len(f.seq) >= maxSequence {
			f.dropped = true
			return dst
		}
		f.seq = append(f.seq, byte(r))
		return dst
	}
	if !f.dropped && drawsOnly(string(f.seq), r) {
		dst = append(dst, 0x1b, '[')
		dst = append(dst, f.seq...)
		dst = append(dst, byte(r))
	}
	f.begin(onGround)
	return dst
}

// drawsOnly tells whether a control sequence moves the cursor, erases, inserts, deletes, scrolls, sets
// colours, or one of the modes that concern the screen alone.
func drawsOnly(params string, final rune) bool {
	if final == 'h' || final == 'l' {
		return screenModes(params)
	}
	if (final == 'J' || final == 'K') && strings.HasPrefix(params, "?") {
		params = params[1:] // selective erase
	}
	if strings.Trim(params, "0123456789;:") != "" || tooLarge(params) {
		return false
	}
	switch final {
	case 'J':
		return params != "3" // would clear what the auditor can scroll back to
	case 'm', 'r', 's', 'u', '@', '`':
		return true
	}
	return strings.ContainsRune("ABCDEFGHIKLMPSTXZabdefg", final)
}

// tooLarge tells whether a number has more than four digits: no screen is that large, and a terminal
// may be busy for long repeating a character.
func tooLarge(params string) bool {
	for _, n := range strings.FieldsFunc(params, func(r rune) bool { return r == ';' || r == ':' }) {
		if len(n) > 4 {
			return true
		}
	}
	return false
}

// screenModes tells whether all modes of a set or reset are of the screen: insertion and new line, and
// of the private ones origin, wrap, reverse video, cursor, alternate screen, synchronised output.
func screenModes(params string) bool {
	private := strings.HasPrefix(params, "?")
	for _, mode := range strings.Split(strings.TrimPrefix(params, "?"), ";") {
		switch {
		case private && (mode == "5" || mode == "6" || mode == "7" || mode == "12" || mode == "25"):
		case private && (mode == "47" || mode == "1047" || mode == "1048" || mode == "1049" || mode == "2026"):
		case !private && (mode == "4" || mode == "20"):
		default:
			return false
		}
	}
	return true
}
