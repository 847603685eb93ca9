package recorder

import (
	"fmt"
	"path"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// From how many recordings on the whole file system is synced instead of each file. A thousand
// files take more than 60 ms one by one and 7 ms together; an ended recording has several.
const (
	syncTogether = 32
	sealTogether = 4
)

// markDirty puts w into the next sync. Recording.mu is held.
func (r *Recorder) markDirty(w *Recording) {
	r.mu.Lock()
	r.dirty = append(r.dirty, w)
	r.mu.Unlock()
	wake(r.syncWake)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// syncLoop brings what was written to the disk. It sleeps while nothing is written.
func (r *Recorder) syncLoop() {
	defer r.loops.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var batch []*Recording
	for {
		select {
		case <-r.syncWake:
			timer.Reset(r.cfg.Sync)
		case <-r.stop:
			r.syncDirty(batch)
			return
		}
		select {
		case <-timer.C:
		case <-r.stop:
		}
		batch = r.syncDirty(batch)
	}
}

// syncDirty syncs all recordings written to since the last time. It takes and returns memory to use
// again.
func (r *Recorder) syncDirty(batch []*Recording) []*Recording {
	r.mu.Lock()
	batch, r.dirty = r.dirty, batch[:0]
	r.mu.Unlock()

	batch = slices.DeleteFunc(batch, func(w *Recording) bool { return !w.beginSync() })
	together := len(batch) >= syncTogether && r.syncAll() == nil
	if !together {
		for _, w := range batch {
			w.startWriting()
		}
	}
	for i, w := range batch {
		var err error
		if together {
			w.placed.Store(true)
		} else {
			err = w.syncFile()
		}
		if w.endSync(err); err != nil {
			r.cfg.OnError(w.path, err)
		}
		batch[i] = nil
	}
	return batch[:0]
}

// beginSync notes that what is in the file now is on its way to the disk. A recording that is being
// sealed is left out: sealing brings it there.
func (w *Recording) beginSync() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.syncingSince, w.dirtySince = w.dirtySince, clean
	return !w.closed || w.abandoned
}

// endSync notes that it has arrived, or ends the recording.
func (w *Recording) endSync(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.syncingSince = clean
	if err != nil && !w.closed {
		w.fail(err)
	}
	w.synced.Broadcast()
}

// startWriting tells the kernel to begin, so that the files of a batch are written side by side.
func (w *Recording) startWriting() {
	// Errors are those that fdatasync reports next.
	_ = w.raw.Control(func(fd uintptr) { _ = unix.SyncFileRange(int(fd), 0, 0, unix.SYNC_FILE_RANGE_WRITE) })
}

// syncFile brings the asciicast, and the first time the folders it was made in, to the disk.
// Close may have closed the file in the meantime: then it has synced what it left.
func (w *Recording) syncFile() error {
	if err := w.r.fault("fdatasync", w.path); err != nil {
		return err
	}
	var err error
	if closed := w.raw.Control(func(fd uintptr) { err = unix.Fdatasync(int(fd)) }); closed != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("syncing %s: %w", w.path, err)
	}
	if w.placed.Load() {
		return nil
	}
	if err := w.r.syncDirs(w.place); err != nil {
		return err
	}
	w.placed.Store(true)
	return nil
}

// syncDirs brings the entries that lead to a recording to the disk. Those above the day are new
// only once a day.
func (r *Recorder) syncDirs(p place) error {
	day := path.Dir(p.dir())
	r.mu.Lock()
	known := r.dayOnDisk == day
	r.mu.Unlock()
	for dir := p.dir(); ; dir = path.Dir(dir) {
		if err := r.syncPath(dir); err != nil {
			return err
		}
		if dir == "." || known && dir == day {
			break
		}
	}
	r.mu.Lock()
	r.dayOnDisk = day
	r.mu.Unlock()
	return nil
}

// sealing is a recording whose packed files wait for the disk.
type sealing struct {
	sync func() error // of these files alone
	done bool
	err  error
}

// syncSealed brings the packed file and the index of a recording to the disk. Of several callers
// the first one does it for all that wait: many short channels that end together cost one sync.
func (r *Recorder) syncSealed(sync func() error) error {
	s := &sealing{sync: sync}
	r.mu.Lock()
	r.sealing = append(r.sealing, s)
	r.mu.Unlock()

	r.sealMu.Lock()
	defer r.sealMu.Unlock()
	if s.done {
		return s.err
	}
	r.mu.Lock()
	batch := r.sealing
	r.sealing = nil
	r.mu.Unlock()
	together := len(batch) >= sealTogether && r.syncAll() == nil
	for _, b := range batch {
		if !together {
			b.err = b.sync()
		}
		b.done = true
	}
	return s.err
}

// syncAll brings the whole file system to the disk.
func (r *Recorder) syncAll() error {
	if err := r.fault("syncfs", "."); err != nil {
		return err
	}
	return unix.Syncfs(int(r.rootDir.Fd()))
}

// markFull has the closed parts of w packed. Recording.mu is held.
func (r *Recorder) markFull(w *Recording) {
	r.mu.Lock()
	r.full = append(r.full, w)
	r.mu.Unlock()
	wake(r.packWake)
}

// packLoop packs closed parts, and closes old ones.
func (r *Recorder) packLoop() {
	defer r.loops.Done()
	ticker := time.NewTicker(max(r.cfg.PartAge/4, time.Millisecond))
	defer ticker.Stop()
	for {
		var batch []*Recording
		select {
		case <-ticker.C:
			batch = r.list()
		case <-r.packWake:
			r.mu.Lock()
			batch, r.full = r.full, nil
			r.mu.Unlock()
		case <-r.stop:
			return
		}
		for _, w := range batch {
			if err := w.packOld(); err != nil {
				r.cfg.OnError(w.path, err)
			}
		}
	}
}

// list is the recordings open now.
func (r *Recorder) list() []*Recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Recording, 0, len(r.active))
	for _, w := range r.active {
		all = append(all, w)
	}
	return all
}

// packOld closes the part if it is old and packs what is closed. A panic ends the recording, not
// the server with all its sessions.
func (w *Recording) packOld() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("packing %s: panic: %v\n%s", w.path, v, debug.Stack())
			w.mu.Lock()
			w.fail(err)
			w.mu.Unlock()
		}
	}()
	w.closeOldPart()
	return w.pack()
}

func (w *Recording) closeOldPart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.micros()-w.partSince >= w.r.cfg.PartAge.Microseconds() {
		w.closePart()
	}
}

// pack packs the parts that are closed. What could not be packed stays for the next time.
func (w *Recording) pack() error {
	w.packMu.Lock()
	defer w.packMu.Unlock()
	return w.packLocked()
}

func (w *Recording) packLocked() error {
	for {
		w.mu.Lock()
		if w.abandoned || len(w.cuts) == 0 {
			w.mu.Unlock()
			return nil
		}
		next := w.cuts[0]
		w.mu.Unlock()
		if err := w.packer.add(next); err != nil {
			return err
		}
		w.mu.Lock()
		w.cuts = append(w.cuts[:0], w.cuts[1:]...)
		w.mu.Unlock()
	}
}
