package replay

import (
	"context"
	"math"
	"runtime"
	"strings"
	"time"

	"sallyport/screen"
)

// screenAt returns the screen at the beginning of a part. It waits until the pass has come near.
func (r *Replay) screenAt(ctx context.Context, o *outline, n int) (*screen.Screen, error) {
	for {
		from, init, wait := r.nearest(o, n)
		if wait == nil {
			s, err := r.derive(ctx, o, from, init, n, math.MaxInt64, r.enough)
			if err != nil || s != nil {
				return s, err
			}
			// A few hundred characters take some milliseconds, whatever they are.
			for from = n; from > 0 && o.output(from, n) < little; from-- {
			}
			return r.derive(ctx, o, from, "", n, little, 0)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.run.Done():
			return nil, r.run.Err()
		}
	}
}

// nearest is the part and the screen from which the screen at part n can be derived, or what to wait
// for until there is one.
func (r *Replay) nearest(o *outline, n int) (from int, init string, wait <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.screens {
		if k.Part <= n {
			from, init = k.Part, k.Init
		}
	}
	if r.printed > n || o.output(from, n) <= near {
		return from, init, nil
	}
	if reach := r.reach(o); n > reach && o.output(reach, n) > near {
		for from = n; from > 0 && o.output(from, n) < before; from-- {
		}
		return from, "", nil // put together
	}
	if r.failed == nil && !r.passing {
		r.passing = true
		go r.pass(o)
	}
	if r.failed != nil { // nothing nearer will come
		return from, init, nil
	}
	return 0, "", r.progress
}

// output is how many bytes are printed from the beginning of one part to that of another.
func (o *outline) output(from, to int) (bytes int64) {
	for _, p := range o.Parts[from:to] {
		bytes += p.Output
	}
	return bytes
}

// reach is the last part of which the screen is kept at most.
func (o *outline) reach() int {
	var bytes int64
	for i, p := range o.Parts {
		if bytes += p.Output; bytes > exact {
			return i
		}
	}
	return len(o.Parts)
}

// reach is the last part of which the screen is kept at most. The mutex is held.
func (r *Replay) reach(o *outline) int {
	if r.stopped > 0 {
		return min(r.stopped, o.reach())
	}
	return o.reach()
}

// derive prints the last bytes of what is between two parts. The screen is nil if the processor time
// was not enough; 0 is as much as it takes.
func (r *Replay) derive(ctx context.Context, o *outline, from int, init string, n int, last int64, enough time.Duration) (*screen.Screen, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	deadline := enough
	if enough > 0 {
		deadline += threadTime()
	}
	s := newScreen(o.Parts[from].Place.Cols, o.Parts[from].Place.Rows)
	_, _ = s.Write([]byte(init))
	leave := o.output(from, n) - last // bytes that are not printed
	for i := from; i < n; i++ {
		part, err := r.segment(ctx, o, i)
		if err != nil {
			s.Close()
			return nil, err
		}
		for j := range part.Events {
			text := &part.Events[j].Output
			skip := max(min(leave, int64(len(*text))), 0)
			leave -= skip
			*text = strings.ToValidUTF8((*text)[skip:], "")
		}
		if !print(s, part.Events, deadline) {
			s.Close()
			return nil, nil
		}
	}
	return s, nil
}

// pass prints the whole recording once and keeps the screen every so many bytes. Of an open one it
// comes to what is packed; the next call prints that again from the last screen kept.
func (r *Replay) pass(o *outline) {
	err := r.printAll(o)
	r.mu.Lock()
	r.passing, r.failed = false, err
	whole := err == nil && r.known && len(o.Parts) == len(r.outline.Parts)
	done := kept{Version: keptVersion, Outline: r.outline, Screens: r.screens, Stopped: r.stopped}
	r.tell()
	r.mu.Unlock()
	if whole && r.side != nil {
		r.side.write(done)
	}
}

// tell wakes who waits for the pass. The mutex is held.
func (r *Replay) tell() {
	close(r.progress)
	r.progress = make(chan struct{})
}

func (r *Replay) printAll(o *outline) error {
	select {
	case r.busy <- struct{}{}:
	case <-r.run.Done():
		return r.run.Err()
	}
	defer func() { <-r.busy }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r.mu.Lock()
	from, init := 0, ""
	if n := len(r.screens); n > 0 {
		from, init = r.screens[n-1].Part, r.screens[n-1].Init
	}
	r.mu.Unlock()
	s := newScreen(o.Parts[from].Place.Cols, o.Parts[from].Place.Rows)
	defer s.Close()
	_, _ = s.Write([]byte(init))
	var since int64
	deadline := threadTime() + passTime
	for i := from; i < o.reach(); i++ {
		if since >= r.apart {
			since = 0
			r.add(atPart{i, string(s.Snapshot())})
		}
		if o.Parts[i].Part.Packed == 0 && i > 0 { // it will be cut otherwise
			break
		}
		part, err := r.segment(r.run, o, i)
		if err != nil {
			return err
		}
		if !print(s, part.Events, deadline) {
			r.mu.Lock()
			r.stopped = i + 1
			r.mu.Unlock()
			break
		}
		since += o.Parts[i].Output
		r.mu.Lock()
		r.printed = i + 1
		r.tell()
		r.mu.Unlock()
	}
	r.mu.Lock()
	r.printed = max(r.printed, len(o.Parts))
	r.mu.Unlock()
	return nil
}

// add keeps a screen. What is drawn is a stranger's: together they take so much memory and no more.
func (r *Replay) add(k atPart) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(k.Init) > maxKept/4 {
		return
	}
	r.screens, r.size = append(r.screens, k), r.size+len(k.Init)
	for r.size > maxKept {
		half := r.screens[:0:0]
		r.size = 0
		for i := 1; i < len(r.screens); i += 2 {
			half = append(half, r.screens[i])
			r.size += len(r.screens[i].Init)
		}
		r.screens = half
		r.apart *= 2
	}
}
