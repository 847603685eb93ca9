package recorder

// OnWait has f called by Next, in its goroutine, each time before it waits for the next event: all there was
// has been read. Of a Reader that [Recorder.Follow] did not give, or whose recording was sealed already, f is
// never called.
func (r *Reader) OnWait(f func()) {
	if r.follow != nil {
		r.follow.idle = f
	}
}

// SkipTo leaves out all but the last bytes of what is there of a recording that is followed, for whoever wants
// to know the present and not how it came about. It must be called before the first Next; the times of events
// then count from the first that is left.
func (r *Reader) SkipTo(bytes int64) error {
	if r.follow == nil {
		return nil
	}
	size, _, _ := r.follow.w.watch()
	if size-bytes <= r.end {
		return nil
	}
	r.follow.pos = size - bytes
	r.src.Reset(r.follow)
	_, err := r.readLine() // probably half of one
	return err
}
