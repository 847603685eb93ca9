package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sallyport/screen"
)

// ErrNoSegment is the error for a segment that the recording does not have.
var ErrNoSegment = errors.New("the recording has no such segment")

// Contents tells what there is in a recording, as far as it is there.
type Contents struct {
	Cols, Rows int             // at the beginning
	Duration   time.Duration   // to the last event
	Starts     []time.Duration // of the segments, each later than the one before
	Markers    []Marker        // in order
	Pauses     []Pause         // of a second and more, in order
	Shown      time.Duration   // when there was something to see first; -1: never
	Exact      time.Duration   // screens of segments that start later are put together from what was printed shortly before
	Open       bool            // more may come
}

// Contents reads the recording once, or what was added since it was read.
func (r *Replay) Contents(ctx context.Context) (Contents, error) {
	o, err := r.look(ctx)
	if err != nil {
		return Contents{}, err
	}
	if len(o.Parts) == 0 {
		return Contents{}, fmt.Errorf("reading its parts: %w", ErrNoSegment)
	}
	r.mu.Lock()
	open, reach := !r.sealed, r.reach(&o)
	r.mu.Unlock()
	starts := o.starts()
	c := Contents{
		Cols: o.Parts[0].Place.Cols, Rows: o.Parts[0].Place.Rows, Duration: o.lasts(starts), Starts: starts,
		Markers: o.Markers, Pauses: o.Pauses, Shown: o.Shown, Exact: o.Duration, Open: open,
	}
	if reach < len(starts) {
		c.Exact = starts[reach]
	}
	return c, nil
}

// At is the number of the segment that shows the given moment.
func (c Contents) At(t time.Duration) int {
	n := 0
	for n+1 < len(c.Starts) && c.Starts[n+1] <= t {
		n++
	}
	return n
}

// Segment returns a segment by its number, from 0. It is there at once, or when the background pass
// has come near; ctx ends the waiting. With until not zero it is the last one of a recording that was
// still open: everything from its start up to that moment.
func (r *Replay) Segment(ctx context.Context, n int, until time.Duration) (Segment, error) {
	o, err := r.having(ctx, n, until > 0)
	if err != nil {
		return Segment{}, err
	}
	s, at, err := r.watch(ctx, o, n)
	if err != nil {
		return Segment{}, err
	}
	defer at.Close()
	s.Init = string(NewFilter(Carry{}).Append(nil, string(at.Snapshot())))
	if until == 0 {
		return s, nil
	}
	// What was the last part then may be several now.
	for n++; n < len(o.Parts) && o.Parts[n].Place.At < until; n++ {
		next, err := r.segment(ctx, o, n)
		if err != nil {
			return Segment{}, err
		}
		s.Events = append(s.Events, next.Events...)
	}
	for i, e := range s.Events {
		if e.At > until {
			s.Events = s.Events[:i]
			break
		}
	}
	return s, nil
}

// having is an outline in which there is a part: the last one that was read, or a new one.
func (r *Replay) having(ctx context.Context, n int, now bool) (*outline, error) {
	r.mu.Lock()
	o := r.outline
	r.mu.Unlock()
	if now || n < 0 || n >= len(o.Parts) {
		var err error
		if o, err = r.look(ctx); err != nil {
			return nil, err
		}
	}
	if n < 0 || n >= len(o.Parts) {
		return nil, ErrNoSegment
	}
	return &o, nil
}

// Watch returns a segment without Init, and the screen at its beginning, to print its events on; it
// is the caller's to close.
func (r *Replay) Watch(ctx context.Context, n int) (Segment, *screen.Screen, error) {
	o, err := r.having(ctx, n, false)
	if err != nil {
		return Segment{}, nil, err
	}
	return r.watch(ctx, o, n)
}

func (r *Replay) watch(ctx context.Context, o *outline, n int) (Segment, *screen.Screen, error) {
	s, err := r.segment(ctx, o, n)
	if err != nil {
		return Segment{}, nil, err
	}
	at, err := r.screenAt(ctx, o, n)
	if err != nil {
		return Segment{}, nil, err
	}
	return s, at, nil
}
