package bastion

import (
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
	finalKeys = map[byte]keyName{'A': keyUp, 'B': keyDown, 'H': keyHome, 'F': keyEnd, 'M': keyEnter}
	tildeKeys = map[string]keyName{"1": keyHome, "7": keyHome, "4": keyEnd, "8": keyEnd, "5": keyPageUp, "6": keyPageDown, "200": keyPaste, "201": keyPasteEnd}
)

// maxSequence is how long a control sequence may be; what is longer is none.
const maxSequence = 64

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

func escapeKey(b []byte, final bool) (k key, n int) {
	switch {
	case len(b) == 1 && final:
		return key{name: keyEscape}, 1
	case len(b) == 1:
		return key{}, 0
	case b[1] == 'O' && len(b) > 2:
		return key{name: finalKeys[b[2]]}, 3
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
