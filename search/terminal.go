package search

import (
	"bytes"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"sallyport/screen"
	"sallyport/store"
)

// How often the screen is looked at.
const (
	lookEvery    = 250 * time.Millisecond // of the recording
	lookEveryAlt = 2 * time.Second        // on the alternate screen, of programs that draw all the time
	quiet        = time.Second            // after which it is looked at in any case
	stood        = time.Second            // what stood so long was seen
	forcedLooks  = 32                     // before a clear, at most so many in lookEvery
	remembered   = 4096                   // lines that are not given again when they are overwritten again
)

// terminal finds the lines that were on the screen of a terminal.
//
// A line's time is that of the last change of it. Lines that leave the top of the screen are given as they go;
// the rows that stay are compared with what they were at the last look, and what was overwritten is given.
type terminal struct {
	screen *screen.Screen
	cols   int
	emit   func(stream, store.SearchLine) error
	err    error // the first of emit

	now    time.Duration // of the event at hand
	before time.Duration // of the one before
	looked time.Duration
	forced int // looks since looked
	alt    bool
	rows   [2][]row // of the main and of the alternate screen, as they were at the last look

	last    string // line that was given last by leaving the top
	joined  row    // lines so far that filled their rows and may be one
	parts   int    // … how many they are
	seed    maphash.Seed
	recent  map[uint64]bool
	ring    [remembered]uint64
	ringPos int

	finder
}

// row is what stands in a row of the screen.
type row struct {
	text  string
	since time.Duration
	looks int
	keep  bool // it is given when it goes, however short it stood
	given bool // it was given while it stands
}

func newTerminal(cols, rows, commands int, emit func(stream, store.SearchLine) error) *terminal {
	t := &terminal{screen: screen.New(cols, rows), cols: max(cols, 1), emit: emit, seed: maphash.MakeSeed(), recent: map[uint64]bool{}}
	t.finder = finder{most: commands}
	t.screen.OnScroll(t.scrolled)
	return t
}

// output draws the bytes of one event.
func (t *terminal) output(at time.Duration, p []byte) {
	t.step(at)
	for rest := p; len(rest) > 0; {
		n, kind := t.nextStop(rest)
		t.write(rest[:n])
		rest = rest[n:]
		skip := 1 // what was found is written with what follows it
		switch kind {
		case stopClear:
			if t.forced < forcedLooks {
				t.look(at, true)
				t.forced++
			}
			if bytes.HasPrefix(rest, exchange) {
				t.exchanged()
			}
		case stopLine:
			if !t.goesOn(rest) {
				t.entered(at)
			}
		case stopEdit:
			t.edits()
		case stopEdited:
			t.editingEnds(at)
		case stopMark:
			skip = t.mark(rest)
		case stopNone:
			skip = 0
		}
		skip = min(skip, len(rest))
		t.write(rest[:skip])
		rest = rest[skip:]
	}
	t.prompted(p)
	t.before = at
}

// step goes on to the time of the next event: what stands on the screen has stood until then.
func (t *terminal) step(at time.Duration) {
	every := lookEvery
	if t.screen.AltScreen() {
		every = lookEveryAlt
	}
	if at-t.looked >= every || at-t.before >= quiet {
		t.look(t.before, false)
		t.looked, t.forced = at, 0
	}
	t.now = at
}

func (t *terminal) write(p []byte) {
	if len(p) > 0 {
		_, _ = t.screen.Write(p)
	}
}

// stop is a place in the output at which the screen must be looked at.
type stop int

const (
	stopNone   stop = iota
	stopClear       // the screen is cleared, or exchanged for another
	stopLine        // a line that may have a command ends
	stopMark        // a mark of the shell
	stopEdit        // a line editor begins to read
	stopEdited      // it ends
)

var (
	markPrefix = []byte("\x1b]133;")
	exchange   = []byte("\x1b[?1049h")
	clearing   = [][]byte{
		[]byte("\x1b[J"), []byte("\x1b[0J"), []byte("\x1b[1J"), []byte("\x1b[2J"), []byte("\x1b[3J"), []byte("\x1bc"), []byte("\x1b[?1049"), []byte("\x1b[?1047"),
		[]byte("\x1b[?47"), []byte("\x1b[!p"),
	}
)

// nextStop finds the first place in p where to stop, or its end.
func (t *terminal) nextStop(p []byte) (int, stop) {
	for i, c := range p {
		switch {
		case c == '\n' && (t.waiting || t.editing):
			return i, stopLine
		case c != 0x1b:
		case bytes.HasPrefix(p[i:], editBegin):
			return i, stopEdit
		case t.editing && bytes.HasPrefix(p[i:], editEnd):
			return i, stopEdited
		case bytes.HasPrefix(p[i:], markPrefix):
			return i, stopMark
		default:
			for _, sequence := range clearing {
				if bytes.HasPrefix(p[i:], sequence) {
					return i, stopClear
				}
			}
		}
	}
	return len(p), stopNone
}

// resize gives the screen another size.
func (t *terminal) resize(at time.Duration, cols, rows int) {
	t.step(at)
	t.look(at, true)
	t.screen.Resize(cols, rows)
	t.cols = max(cols, 1)
	t.before = at
}

// look compares the screen with what it was. With keep, what stands on it now is given even if it goes at once.
func (t *terminal) look(at time.Duration, keep bool) {
	alt := t.screen.AltScreen()
	if t.alt && !alt {
		t.leave(t.rows[1], at, true)
		t.rows[1] = nil
	}
	t.alt = alt
	which := 0
	if alt {
		which = 1
	}
	lines := t.screen.Lines()
	if alt {
		t.statusRow(lines)
	}
	old := t.rows[which]
	if len(old) > len(lines) {
		t.leave(old[len(lines):], at, false)
		old = old[:len(lines)]
	}
	for y, text := range lines {
		if y == len(old) {
			old = append(old, row{text: text, since: at})
		} else if r := &old[y]; r.text != text {
			if !strings.HasPrefix(text, r.text) {
				t.leave(old[y:y+1], at, false)
			}
			*r = row{text: text, since: at}
		}
		old[y].looks++
		old[y].keep = old[y].keep || keep
	}
	t.rows[which] = old
}

// leave gives rows that are on the screen no more, if they stood long enough to be seen.
func (t *terminal) leave(rows []row, at time.Duration, all bool) {
	for _, r := range rows {
		if r.text != "" && !r.given && (all || r.keep || r.looks > 1 || at-r.since >= stood) {
			t.once(r)
		}
	}
}

// once gives a line that was overwritten, unless it was given lately.
func (t *terminal) once(r row) {
	h := maphash.String(t.seed, r.text)
	if t.recent[h] {
		return
	}
	delete(t.recent, t.ring[t.ringPos])
	t.ring[t.ringPos] = h
	t.recent[h] = true
	t.ringPos = (t.ringPos + 1) % remembered
	t.give(overwritten, r)
}

func (t *terminal) give(s stream, r row) {
	if t.err == nil {
		t.err = t.emit(s, store.SearchLine{At: r.since, Text: r.text})
	}
}

// scrolled is told of each line that leaves the top of the main screen.
func (t *terminal) scrolled(text string) {
	t.gone++
	r := row{text: text, since: t.now}
	if rows := t.rows[0]; len(rows) > 0 {
		if rows[0].text == text {
			r.since, r.given = rows[0].since, rows[0].given
		} else if !strings.HasPrefix(text, rows[0].text) {
			t.leave(rows[:1], t.now, false)
		}
		copy(rows, rows[1:])
		t.rows[0] = rows[:len(rows)-1]
	}
	t.top(r)
}

// top gives a line that left the top of the screen, once if it is the same as the one before. Where lines filled
// their rows, they may be one line that was wrapped: that is given as well.
func (t *terminal) top(r row) {
	if r.text != t.last && !r.given {
		t.give(scrolledOff, r)
	}
	t.last = r.text
	full := r.text != "" && ansi.StringWidth(r.text) >= t.cols
	if t.parts == 0 && !full {
		return
	}
	if t.parts == 0 {
		t.joined = r
	} else {
		t.joined.text += r.text
		t.joined.since = r.since
	}
	if t.parts++; !full || len(t.joined.text) >= maxLine {
		t.unwrap()
	}
}

func (t *terminal) unwrap() {
	if t.parts > 1 {
		t.give(scrolledOff, t.joined)
	}
	t.joined, t.parts = row{}, 0
}

// standing gives what stands on the screen, but for the row of the cursor, which is not ended.
func (t *terminal) standing() {
	t.look(t.before, false)
	which := 0
	if t.alt {
		which = 1
	}
	_, cursor := t.screen.Cursor()
	for y := range t.rows[which] {
		if r := &t.rows[which][y]; y != cursor && r.text != "" && !r.given {
			t.give(overwritten, *r)
			r.given = true
		}
	}
}

// end gives what is still on the screen.
func (t *terminal) end() {
	t.look(t.before, false)
	t.completed("")
	t.guess()
	t.commands = slices.DeleteFunc(t.commands, func(c store.Command) bool { return c.Text == "" })
	if t.alt {
		t.leave(t.rows[1], t.before, true)
	}
	for _, r := range t.rows[0] {
		t.top(r)
	}
	t.unwrap()
}
