package session

import (
	"bytes"
	"strconv"
)

// trace follows what stands on the screen of a line that is being typed, as far as it was shown since the last key
// that edits: fields that show a character for a moment and then a star, or one character at a time, have shown what
// was typed, and hide it. It knows one row, in places from where it began. What it cannot follow must be drawn anew,
// whole, or nothing of the line counts as shown. The zero value is ready.
type trace struct {
	want   []place
	cells  map[int]string
	pos    int
	far    bool   // the cursor is somewhere else
	drawn  []byte // … and this was printed there
	erased bool   // something was erased that may be of the line
}

// place is a character where it was shown.
type place struct {
	pos  int
	text string
}

// put is a printable byte on the screen; typed says that it is the echo of one that was typed.
func (t *trace) put(b byte, typed bool) {
	if t.cells == nil {
		t.cells = map[int]string{}
	}
	goesOn := b >= 0x80 && b < 0xc0 // of a character of many bytes
	n := len(t.want)
	switch {
	case t.far:
		t.drawn = append(t.drawn, b)
		if typed && !goesOn {
			t.want = append(t.want, place{text: string([]byte{b})})
		} else if typed && n > 0 {
			t.want[n-1].text += string([]byte{b})
		}
		return
	case goesOn:
		t.cells[t.pos-1] += string([]byte{b})
		if typed && n > 0 {
			t.want[n-1].text += string([]byte{b})
		}
		return
	}
	t.cells[t.pos] = string([]byte{b})
	if typed {
		t.want = append(t.want, place{t.pos, string([]byte{b})})
	}
	t.pos++
}

// move takes the cursor along the row, by columns. Characters that may take two of them are not followed.
func (t *trace) move(n int) {
	if t.far {
		return
	}
	for _, w := range t.want {
		if w.text[0] >= 0xe1 {
			t.away()
			return
		}
	}
	t.pos += n
}

// away takes the cursor where it cannot be followed.
func (t *trace) away() {
	if !t.far {
		t.far, t.drawn = true, nil
	}
}

// erase clears from place to place.
func (t *trace) erase(from, to int) {
	for pos := range t.cells {
		if pos >= from && pos < to {
			delete(t.cells, pos)
		}
	}
}

const rowEnd = 1 << 20

// sequence is the end of a control sequence.
func (t *trace) sequence(final byte, args string) {
	n, err := strconv.Atoi(args)
	count := max(n, 1)
	if err != nil {
		count = 1
	}
	switch final {
	case 'm', 'n', 'c', 'q', 't':
	case 'h', 'l':
		if args == "?47" || args == "?1047" || args == "?1049" {
			t.away()
			t.erased = true
		}
	case 'D':
		t.move(-min(count, rowEnd))
	case 'C':
		t.move(min(count, rowEnd))
	case 'K', 'J':
		if t.far || n != 0 {
			t.erased = true
		}
		t.erase(t.pos, rowEnd)
	case 'X':
		t.erased = t.erased || t.far
		t.erase(t.pos, t.pos+count)
	case 'P', '@':
		for _, w := range t.want {
			t.erased = t.erased || t.far || w.pos >= t.pos
		}
	default: // it goes elsewhere, or shifts what is there
		t.away()
		if bytes.IndexByte([]byte("LMSTr"), final) >= 0 {
			t.erased = true
		}
	}
}

// intact tells whether all that was shown of the line still stands there.
func (t *trace) intact() bool {
	if len(t.want) == 0 {
		return true
	}
	if t.far {
		if len(t.drawn) == 0 {
			return !t.erased
		}
		var whole []byte
		for _, w := range t.want {
			whole = append(whole, w.text...)
		}
		if !bytes.Contains(t.drawn, whole) {
			return false
		}
		// From here on it is as if the cursor stood behind it.
		t.far, t.drawn, t.erased, t.pos = false, nil, false, 0
		clear(t.cells)
		for i := range t.want {
			t.want[i].pos = t.pos
			t.cells[t.pos] = t.want[i].text
			t.pos++
		}
		return true
	}
	for _, w := range t.want {
		if t.cells[w.pos] != w.text {
			return false
		}
	}
	return !t.erased
}

// forget begins anew: a key that edits may change anything.
func (t *trace) forget() {
	clear(t.drawn)
	*t = trace{}
}

// masked tells whether typed characters may be the very ones by which a field hides others.
func masked(text []byte) bool {
	runes := []rune(string(text))
	for _, r := range runes {
		if r != runes[0] {
			return false
		}
	}
	return len(runes) > 0 && bytes.ContainsRune([]byte("*•●∗·#xX.-_"), runes[0])
}
