package bastion

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// keyName is a key that is no letter.
type keyName int

const (
	keyNone keyName = iota // nothing that the menu knows
	keyEnter
	keyEscape
	keyInterrupt // Ctrl-C
	keyEOF       // Ctrl-D
	keyBackspace
	keyKill // Ctrl-U
	keyWord // Ctrl-W
	keyReload
	keyUp
	keyDown
	keyPageUp
	keyPageDown
	keyHome
	keyEnd
	keyPaste // what follows was pasted
	keyPasteEnd
)

// key is one key: a letter or a name.
type key struct {
	char rune
	name keyName
}

var controlKeys = map[byte]keyName{
	'\r': keyEnter, '\n': keyEnter, 3: keyInterrupt, 4: keyEOF, 8: keyBackspace, 127: keyBackspace, 21: keyKill, 23: keyWord,
	18: keyReload, 16: keyUp, 14: keyDown, 12: keyNone,
}

// finalKeys are the ends of control sequences, tildeKeys the numbers of those that end in "~" (ECMA-48
// CSI and the SS3 of application mode, as xterm sends them).
var (
	finalKeys = map[byte]keyName{'A': keyUp, 'B': keyDown, 'H': keyHome, 'F': keyEnd}
	tildeKeys = map[string]keyName{"1": keyHome, "7": keyHome, "4": keyEnd, "8": keyEnd, "5": keyPageUp, "6": keyPageDown, "200": keyPaste, "201": keyPasteEnd}
)

// maxSequence is how long a control sequence may be; what is longer is none.
const maxSequence = 64

// maxReport is how long an answer of the terminal may be.
const maxReport = 256

// nextKey takes the first key off b and says how many bytes it was: 0 if b may go on. With final there
// is nothing to come, and an ESC alone is the key of that name.
func nextKey(b []byte, final bool) (k key, n int) {
	switch c := b[0]; {
	case c == 0x1b:
		return escapeKey(b, final)
	case c < ' ' || c == 127:
		return key{name: controlKeys[c]}, 1
	case !utf8.FullRune(b) && !final:
		return key{}, 0
	}
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError || !unicode.IsPrint(r) {
		return key{}, n
	}
	return key{char: r}, n
}

// mouseReport is the length of CSI M and three bytes.
const mouseReport = 6

// answerOf takes a control string off b (ECMA-48, section 5.6), with which a terminal answers a question that a program
// asked before it was cut off: it is no key. What nothing ends was Esc and a letter.
func answerOf(b []byte, final bool) (k key, n int) {
	for i := 2; i < len(b) && i < maxReport; i++ {
		if b[i] == 7 || b[i] == '\\' && b[i-1] == 0x1b {
			return key{}, i + 1
		}
		if b[i] < ' ' && b[i] != 0x1b { // none has this in it
			return key{name: keyEscape}, 1
		}
	}
	if !final && len(b) < maxReport {
		return key{}, 0
	}
	return key{name: keyEscape}, 1
}

func escapeKey(b []byte, final bool) (k key, n int) {
	switch {
	case len(b) == 1 && final:
		return key{name: keyEscape}, 1
	case len(b) == 1:
		return key{}, 0
	case b[1] == 'O' && len(b) > 2:
		if b[2] == 'M' { // Enter of the keypad; after ESC [ it is the mouse
			return key{name: keyEnter}, 3
		}
		return key{name: finalKeys[b[2]]}, 3
	case bytes.IndexByte([]byte("]P_^X"), b[1]) >= 0:
		return answerOf(b, final)
	case b[1] == '[' && len(b) > 2 && b[2] == 'M': // the mouse of old: three bytes follow
		if len(b) < mouseReport && !final {
			return key{}, 0
		}
		return key{}, min(len(b), mouseReport)
	case b[1] == '[':
		for i := 2; i < len(b) && i < maxSequence; i++ {
			if b[i] == '~' {
				return key{name: tildeKeys[string(b[2:i])]}, i + 1
			}
			if b[i] >= 0x40 && b[i] <= 0x7e {
				return key{name: finalKeys[b[i]]}, i + 1
			}
		}
		if !final && len(b) < maxSequence {
			return key{}, 0
		}
		return key{}, min(len(b), maxSequence)
	case b[1] == 'O' && !final:
		return key{}, 0
	}
	return key{name: keyEscape}, 1 // followed by something else
}
