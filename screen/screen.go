// Package screen keeps what a terminal would show: bytes that a program printed go in, the lines on the
// screen and a sequence that paints it come out. It knows no recordings and no time.
//
// It is an aid for finding and showing, never for deciding: an emulator cannot know every terminal.
package screen

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"
)

// Bounds of a screen: each cell costs memory, and the size comes from a stranger.
const (
	maxSide    = 1000
	writeAtOne = 512  // bytes between two looks at what has scrolled off
	scrollback = 2048 // lines that may scroll off in one such piece; more are lost, the oldest first
)

// Screen is one terminal without anybody before it. It serves one goroutine.
type Screen struct {
	emu        *vt.Emulator
	cols, rows int
	onScroll   func(line string)

	pen      uv.Style     // of what is printed next
	saved    uv.Style     // … when the cursor was saved
	regions  [2]region    // of the main screen and the alternate one
	g0       byte         // character set, as in ESC ( 0
	modes    map[int]bool // DEC private modes that differ from a fresh terminal and change what is drawn
	insert   bool
	under    []byte // paints the main screen, while the alternate one is shown
	underPen uv.Style
}

// region is a scroll region, rows from 1; 0, 0: the whole screen.
type region struct{ top, bottom int }

// region is that of the screen that is shown.
func (s *Screen) region() *region {
	if s.AltScreen() {
		return &s.regions[1]
	}
	return &s.regions[0]
}

// drawing are the DEC private modes that a snapshot has to set again, with what a fresh terminal has: origin,
// wrap around, cursor shown.
var drawing = map[int]bool{6: false, 7: true, 25: true}

// New returns an empty screen of 1 to 1000 columns and rows; others become the nearest.
func New(cols, rows int) *Screen {
	s := &Screen{cols: side(cols), rows: side(rows)}
	s.reset()
	return s
}

func side(n int) int { return min(max(n, 1), maxSide) }

// reset begins with a fresh terminal.
func (s *Screen) reset() {
	if s.emu != nil {
		_ = s.emu.Close()
	}
	s.emu = vt.NewEmulator(s.cols, s.rows)
	s.emu.SetScrollbackSize(scrollback)
	// The emulator answers questions (where is the cursor?) into a pipe and waits for somebody who reads it.
	if answers, ok := s.emu.InputPipe().(io.Closer); ok {
		_ = answers.Close()
	}
	s.fresh()
	s.follow()
}

// fresh forgets what is kept beside the emulator.
func (s *Screen) fresh() {
	s.pen, s.saved, s.regions, s.g0, s.insert, s.under = uv.Style{}, uv.Style{}, [2]region{}, 'B', false, nil
	s.modes = map[int]bool{}
}

// follow notes what the emulator knows and does not tell. Handlers that return false leave the work to it.
func (s *Screen) follow() {
	e := s.emu
	for final := '@'; final <= '~'; final++ {
		e.RegisterCsiHandler(int(final), func(p ansi.Params) bool { s.clamp(p); return false })
	}
	e.RegisterCsiHandler('m', func(p ansi.Params) bool { uv.ReadStyle(p, &s.pen); return false })
	e.RegisterCsiHandler('r', func(p ansi.Params) bool {
		top, _, _ := p.Param(0, 1)
		bottom, _, _ := p.Param(1, s.rows)
		if top, bottom = max(top, 1), min(max(bottom, 0), s.rows); top < bottom {
			*s.region() = region{top, bottom}
			if top == 1 && bottom == s.rows {
				*s.region() = region{}
			}
		}
		return false
	})
	for _, set := range []bool{true, false} {
		final := byte('l')
		if set {
			final = 'h'
		}
		e.RegisterCsiHandler(ansi.Command('?', 0, final), func(p ansi.Params) bool { s.mode(p, set); return false })
		e.RegisterCsiHandler(int(final), func(p ansi.Params) bool {
			for _, x := range p {
				if x.Param(-1) == 4 {
					s.insert = set
				}
			}
			return false
		})
	}
	e.RegisterEscHandler('c', func() bool { s.fresh(); return false })
	e.RegisterEscHandler('7', func() bool { s.saved = s.pen; return false })
	e.RegisterEscHandler('8', func() bool { s.pen = s.saved; return false })
	for _, set := range []byte{'0', 'A', 'B'} {
		e.RegisterEscHandler(ansi.Command(0, '(', set), func() bool { s.g0 = set; return false })
	}
}

// clamp keeps a sequence from being carried out more often than a screen has places: CSI 999999999 b takes
// minutes otherwise. Handlers that were registered before get the same memory.
func (s *Screen) clamp(p ansi.Params) {
	for i, x := range p {
		if x.Param(0) > maxSide {
			p[i] = ansi.Param(ansi.Parameter(maxSide, x.HasMore()))
		}
	}
}

// mode notes DEC private modes before the emulator sets them.
func (s *Screen) mode(p ansi.Params, set bool) {
	for _, x := range p {
		switch n := x.Param(-1); n {
		case 47, 1047, 1049:
			if alt := s.emu.IsAltScreen(); set && !alt {
				s.under, s.underPen = s.paint(nil), s.pen
			} else if !set && alt {
				s.under, s.pen = nil, s.underPen
			}
		default:
			if normal, ok := drawing[n]; ok {
				if delete(s.modes, n); set != normal {
					s.modes[n] = set
				}
			}
		}
	}
}

// Write prints p, which may begin and end anywhere, inside of a sequence too. It takes all of it and never
// fails: where the emulator cannot go on, the screen is empty from there.
func (s *Screen) Write(p []byte) (int, error) {
	all := len(p)
	for len(p) > 0 {
		n := min(len(p), writeAtOne)
		s.write(p[:n])
		p = p[n:]
	}
	return all, nil
}

func (s *Screen) write(p []byte) {
	defer func() {
		if v := recover(); v != nil { // what was printed is a stranger's
			s.reset()
		}
	}()
	_, _ = s.emu.Write(p)
	lines := s.emu.Scrollback()
	if s.onScroll != nil {
		for _, l := range lines.Lines() {
			s.onScroll(text(l))
		}
	}
	lines.Clear()
}

// Resize gives the screen another size, as New.
func (s *Screen) Resize(cols, rows int) {
	defer func() {
		if v := recover(); v != nil {
			s.reset()
		}
	}()
	s.cols, s.rows = side(cols), side(rows)
	s.regions = [2]region{}
	s.emu.Resize(s.cols, s.rows)
}

// Size is the number of columns and rows.
func (s *Screen) Size() (cols, rows int) { return s.cols, s.rows }

// OnScroll has f called with each line that leaves the main screen at its top, without spaces at its end and
// without sequences. It is called from within Write.
func (s *Screen) OnScroll(f func(line string)) { s.onScroll = f }

// AltScreen tells whether the alternate screen is shown, which full-screen programs use.
func (s *Screen) AltScreen() bool { return s.emu.IsAltScreen() }

// Cursor is where the next character goes, from 0.
func (s *Screen) Cursor() (x, y int) {
	p := s.emu.CursorPosition()
	return p.X, p.Y
}

// Lines are the lines on the screen, from the top, all rows, without spaces at their ends and without sequences.
func (s *Screen) Lines() []string {
	lines := make([]string, s.rows)
	for y := range lines {
		lines[y] = text(s.line(y))
	}
	return lines
}

func (s *Screen) line(y int) uv.Line {
	line := make(uv.Line, 0, s.cols)
	for x := range s.cols {
		if c := s.emu.CellAt(x, y); c != nil {
			cell := *c
			cell.Link = uv.Link{} // an address that a stranger chose is nothing to click on
			line = append(line, cell)
		}
	}
	return line
}

// text is a line as people read it. Control characters cannot be in a cell; those that reorder text can.
func text(l uv.Line) string {
	var b strings.Builder
	for _, c := range l {
		b.WriteString(c.Content)
	}
	return strings.TrimRight(b.String(), " \u00a0")
}

// Snapshot is a sequence that paints the present screen on a fresh terminal of the same size, and leaves the
// cursor, its colours and the modes that change what is drawn as they are.
func (s *Screen) Snapshot() []byte {
	var b []byte
	if s.AltScreen() {
		b = append(b, s.under...)
		b = append(b, "\x1b[?1049h"...)
	}
	return s.paint(b)
}

// paint appends the sequence for the screen that is shown.
func (s *Screen) paint(b []byte) []byte {
	b = append(b, "\x1b(B\x1b[4l\x1b[?6l\x1b[?25h\x1b[r\x1b[?7l\x1b[m\x1b[H\x1b[2J"...)
	for y := range s.rows {
		line := bytes.TrimRight([]byte(s.line(y).Render()), " ")
		if len(line) > 0 {
			b = append(fmt.Appendf(b, "\x1b[%d;1H", y+1), line...)
			b = append(b, "\x1b[m"...)
		}
	}
	b = append(b, "\x1b[?7h"...)
	if r := s.region(); r.top != 0 {
		b = fmt.Appendf(b, "\x1b[%d;%dr", r.top, r.bottom)
	}
	x, y := s.Cursor()
	b = fmt.Appendf(b, "\x1b[%d;%dH", y+1, x+1)
	b = append(b, s.pen.String()...)
	if s.g0 != 'B' {
		b = append(b, '\x1b', '(', s.g0)
	}
	if s.insert {
		b = append(b, "\x1b[4h"...)
	}
	for _, n := range slices.Sorted(maps.Keys(s.modes)) {
		final := 'l'
		if s.modes[n] {
			final = 'h'
		}
		b = fmt.Appendf(b, "\x1b[?%d%c", n, final)
	}
	return b
}

// Close gives the memory back. The screen must not be used afterwards.
func (s *Screen) Close() { _ = s.emu.Close() }
