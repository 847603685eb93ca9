// Package replay makes a recording seekable: it cuts it into segments that can be watched by
// themselves, each with the screen at its beginning, and finds the markers and pauses on the way. It
// also filters what a terminal may be sent.
//
// A segment is a part of the recording. Its screen cannot be told from its events alone, so the
// whole recording is printed once on a terminal without anybody before it (package screen), in the
// background, and the screen is kept every few parts. Screens are an aid: what is proved is the
// recording.
package replay

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/recorder"
	"sallyport/screen"
)

// Source gives the parts of one recording, as recorder.Recorder's methods of these names do.
type Source interface {
	Parts(context.Context) ([]recorder.Part, error)
	ReadPart(context.Context, recorder.Part) ([]byte, error)
	// Sealed tells whether the recording has ended.
	Sealed(context.Context) (bool, error)
}

const (
	// near is how many bytes of output are printed for a screen that is not kept.
	near = 256 << 10
	// apart is how many bytes of output are between two screens that are kept, unless they take more
	// than maxKept bytes: then every second one goes.
	apart   = 128 << 10
	maxKept = 16 << 20
	// exact is how many bytes of output are printed at most to keep screens, which takes half a
	// minute. Screens behind are put together from the output shortly before them.
	exact = 64 << 20
	// before is how many bytes of output such a screen is put together from, and little how many if
	// that takes too long.
	before = 1 << 20
	little = 2 << 10
)

// What is printed is a stranger's, and a few bytes can ask a terminal for much work: processor time is
// bounded, too. Honest output takes a tenth of this.
const (
	passTime   = 2 * time.Minute
	deriveTime = 3 * time.Second
)

// maxCells bounds the screens that are printed on: that of a wall of monitors in small print.
const maxCells = 120_000

// Replay is one recording being replayed. Its methods may be called from several goroutines.
type Replay struct {
	src  Source
	run  context.Context // ends with the Library, or Close
	stop context.CancelFunc
	busy chan struct{} // lent to whoever prints a whole recording
	side beside        // where screens are kept; nil: nowhere

	enough  time.Duration // processor time for a screen that is not kept
	reading chan struct{} // lent to whoever reads the outline

	mu       sync.Mutex // guards the fields below
	outline  outline
	sealed   bool
	known    bool // the outline of a sealed recording is whole
	screens  []atPart
	size     int           // bytes in screens
	apart    int64         // bytes of output between two screens
	printed  int           // parts that the pass has printed
	stopped  int           // part at which the pass gave up; 0: it did not
	passing  bool          // a pass runs
	failed   error         // why the pass has ended
	progress chan struct{} // closed when the pass has gone on
}

// atPart is the screen at the beginning of a part.
type atPart struct {
	Part int    `json:"part"` // index in the outline
	Init string `json:"init"` // paints it
}

// New returns a Replay of a recording. Close ends what it does in the background.
func New(src Source) *Replay {
	return newReplay(context.Background(), src, make(chan struct{}, 1), nil)
}

func newReplay(ctx context.Context, src Source, busy chan struct{}, side beside) *Replay {
	r := &Replay{src: src, busy: busy, side: side, apart: apart, enough: deriveTime, reading: make(chan struct{}, 1), progress: make(chan struct{})}
	r.run, r.stop = context.WithCancel(ctx)
	return r
}

// Close ends what is done in the background.
func (r *Replay) Close() { r.stop() }

// look brings the outline up to date and returns it. The parts of it are never changed afterwards.
func (r *Replay) look(ctx context.Context) (outline, error) {
	select {
	case r.reading <- struct{}{}:
	case <-ctx.Done():
		return outline{}, ctx.Err()
	}
	defer func() { <-r.reading }()
	r.mu.Lock()
	o, known := r.outline, r.known
	r.mu.Unlock()
	if known {
		return o, nil
	}
	sealed, err := r.src.Sealed(ctx)
	if err != nil {
		return outline{}, err
	}
	list, err := r.src.Parts(ctx)
	if err != nil {
		return outline{}, err
	}
	if sealed && len(o.Parts) == 0 && r.side != nil && r.load(list) {
		return r.outline, nil
	}
	// Earlier callers may still read what is cut off.
	o.Parts, o.Markers, o.Pauses = slices.Clone(o.Parts), slices.Clone(o.Markers), slices.Clone(o.Pauses)
	n := o.keep(list)
	o.cut(n)
	for _, p := range list[n:] {
		if err := ctx.Err(); err != nil {
			r.mu.Lock()
			r.outline = o // what was read need not be read again
			r.mu.Unlock()
			return outline{}, err
		}
		if err := o.add(ctx, r.src, p); err != nil {
			return outline{}, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outline, r.sealed, r.known = o, sealed, sealed
	return o, nil
}

// Segment is a part of a recording that can be watched by itself.
type Segment struct {
	Start      time.Duration
	Cols, Rows int    // at its beginning
	Init       string // paints the screen at its beginning on an empty one
	Events     []Event
}

// Event is something to be shown. Only Output and Resize are.
type Event struct {
	At     time.Duration // since the recording began; never before the segment's start
	Output string        // harmless on a terminal: it has passed a Filter
	Cols   int           // 0: this is output
	Rows   int
}

// starts are the beginnings of the segments: the time of the last event before each part, but each
// later than the one before, if only by a microsecond, as the player wants it.
func (o *outline) starts() []time.Duration {
	starts := make([]time.Duration, len(o.Parts))
	for i := 1; i < len(starts); i++ {
		starts[i] = max(o.Parts[i].Place.At, starts[i-1]) + time.Microsecond
	}
	return starts
}

// lasts is the duration of the recording as the player is told it: behind the start of every segment.
func (o *outline) lasts(starts []time.Duration) time.Duration {
	if n := len(starts); n > 0 {
		return max(o.Duration, starts[n-1]+time.Microsecond)
	}
	return o.Duration
}

// segment reads the events of a part.
func (r *Replay) segment(ctx context.Context, o *outline, n int) (Segment, error) {
	starts := o.starts()
	p := o.Parts[n]
	s := Segment{Start: starts[n], Cols: p.Place.Cols, Rows: p.Place.Rows}
	end := o.lasts(starts)
	if n+1 < len(starts) {
		end = starts[n+1] - time.Microsecond
	}
	got, err := readEvents(ctx, r.src, p.Part)
	if err != nil {
		return Segment{}, err
	}
	filter := NewFilter(p.Place.Filter)
	for _, e := range got.list {
		if n+1 == len(o.Parts) && e.At > o.Duration { // added since the outline was read
			break
		}
		out := Event{At: min(max(e.At, s.Start), end)}
		switch e.Code {
		case recorder.CodeOutput, recorder.CodeStderr:
			if out.Output = string(filter.Append(nil, e.Text)); out.Output == "" {
				continue
			}
		case recorder.CodeResize:
			var ok bool
			if out.Cols, out.Rows, ok = size(e.Text); !ok {
				continue
			}
		default:
			continue
		}
		s.Events = append(s.Events, out)
	}
	return s, nil
}

// print shows events on a screen, and tells whether it came to the end in time.
// The deadline is a time of threadTime; 0 is none.
func print(s *screen.Screen, events []Event, deadline time.Duration) bool {
	for _, e := range events {
		if e.Cols > 0 {
			s.Resize(bounded(e.Cols, e.Rows))
		}
		for text := e.Output; len(text) > 0; {
			n := min(len(text), 1024)
			_, _ = s.Write([]byte(text[:n])) // never fails
			if text = text[n:]; deadline > 0 && threadTime() > deadline {
				return false
			}
		}
	}
	return true
}

// threadTime is the processor time of this thread, to which the caller has locked itself.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// Show prints an event on a screen that Watch has returned.
func Show(s *screen.Screen, e Event) { print(s, []Event{e}, 0) }

// bounded is a size at which a screen is printed on.
func bounded(cols, rows int) (int, int) {
	return cols, max(min(rows, maxCells/cols), 1)
}

func newScreen(cols, rows int) *screen.Screen { return screen.New(bounded(cols, rows)) }
