package recorder

import (
	"bytes"
	"unicode/utf8"
)

// Codes of events as they stand in the file. That of exact bytes never leaves the package.
const (
	codeOutput byte = 'o'
	codeStderr byte = 'e'
	codeInput  byte = 'i'
	codeResize byte = 'r'
	codeMark   byte = 'm'
	codeExit   byte = 'x'
	codeSignal byte = 's'
	codeGap    byte = 'g'
	codeLimit  byte = 'l'
	codeExact  byte = 'b'
)

// maxPiece is how many bytes of a chunk go into one event.
const maxPiece = 32 << 10

// minBinary is the length from which a chunk can be binary, and binaryHead how much of it is looked
// at for control characters.
const (
	minBinary  = 64
	binaryHead = 512
)

// isBinary tells whether p is data that nobody could read, such as an archive: an eighth of it are
// NULs or, at its beginning, control characters, or it holds NULs and is not UTF-8. Names ended by
// NULs (find -print0) are text.
func isBinary(p []byte) bool {
	if len(p) < minBinary {
		return false
	}
	nuls := bytes.Count(p, []byte{0})
	if nuls > len(p)/8 || nuls > 0 && !utf8.Valid(p) {
		return true
	}
	head := p[:min(len(p), binaryHead)]
	controls := 0
	for _, c := range head {
		if c < ' ' && (c < '\a' || c > '\r') && c != 0x1b {
			controls++
		}
	}
	return controls > len(head)/8
}

// tail holds the first bytes of a rune of which the rest has not come yet. The bytes themselves are
// in the file already; they are remembered so that the player is shown the rune when it is whole.
type tail struct {
	n int
	b [utf8.UTFMax]byte
}

// joined is room for a tail and the bytes that complete it.
type joined [2 * utf8.UTFMax]byte

// complete takes from p the bytes that end the rune begun in t. It returns how many it took, what
// is to be shown for t and them together, and the tail if p was too short to end it.
func (t tail) complete(p []byte, room *joined) (used int, shown []byte, rest tail) {
	n := copy(room[:], t.b[:t.n])
	n += copy(room[n:], p[:min(len(p), utf8.UTFMax)])
	all := room[:n]
	pos := 0
	for pos < t.n {
		if !utf8.FullRune(all[pos:]) { // then all of p is in it
			rest.n = copy(rest.b[:], all[pos:])
			return len(p), all[:pos], rest
		}
		_, size := utf8.DecodeRune(all[pos:])
		pos += size
	}
	return pos - t.n, all[:pos], tail{}
}

// wholeRunes is the length of p without a rune at its end that is only begun.
func wholeRunes(p []byte) int {
	for i := 1; i < utf8.UTFMax && i <= len(p); i++ {
		if start := len(p) - i; utf8.RuneStart(p[start]) {
			if utf8.FullRune(p[start:]) {
				return len(p)
			}
			return start
		}
	}
	return len(p)
}

// appendChunk appends the events for a chunk of a stream. What is text goes into one event as it
// is. The ends of a rune that was cut by the chunks' borders, and a middle that is not UTF-8, get
// their exact bytes in an event before.
func appendChunk(dst []byte, micros int64, code byte, t tail, p []byte) ([]byte, tail) {
	if t.n > 0 {
		var room joined
		used, shown, rest := t.complete(p, &room)
		dst = appendData(dst, micros, code, p[:used], shown, true)
		p, t, micros = p[used:], rest, 0
	}
	whole := wholeRunes(p)
	if body := p[:whole]; len(body) > 0 {
		dst = appendData(dst, micros, code, body, body, !utf8.Valid(body))
		micros = 0
	}
	if begun := p[whole:]; len(begun) > 0 {
		dst = appendData(dst, micros, code, begun, nil, true)
		t.n = copy(t.b[:], begun)
	}
	return dst, t
}

// appendBinary appends the events for a chunk that is kept, and not to be shown. As text it would be
// up to six times as long.
func appendBinary(dst []byte, micros int64, code byte, p []byte) []byte {
	return appendData(dst, micros, code, p, nil, true)
}

// appendData appends the event of one run of bytes with the events that announce it.
func appendData(dst []byte, micros int64, code byte, exact, shown []byte, differ bool) []byte {
	if code == codeStderr {
		dst = appendEvent(dst, micros, codeStderr, nil)
		code, micros = codeOutput, 0
	}
	if differ {
		dst = appendExact(dst, micros, exact)
		micros = 0
	}
	return appendEvent(dst, micros, code, shown)
}
