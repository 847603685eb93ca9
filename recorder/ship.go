package recorder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// How parts are brought to the store.
const (
	shipWorkers  = 4 // recordings at once; each holds one part in memory
	shipPauseMin = 500 * time.Millisecond
	shipPauseMax = time.Minute
)

// Shipping tells how it stands with what is to be brought to the store.
type Shipping struct {
	Recordings int       // of which something is not in the store yet, or not proved to be
	Bytes      int64     // of packed parts of these on this node
	Oldest     time.Time // since when the first of them waits; zero if none does
	Failures   int64     // requests that failed since the start
	Stored     int64     // recordings that were brought to the store since the start
	Err        error     // why the last request failed; nil if it did not
}

// shipper brings closed parts to the store while recordings are written, and the rest when they are
// sealed. What was sealed is removed from this node only when all of it was read back from the store
// and proved. Nothing is remembered on the disk: what is there is what is to be brought away.
type shipper struct {
	r *Recorder

	mu       sync.Mutex        // guards the fields below
	changed  *sync.Cond        // on mu
	waiting  map[string]*cargo // by the path without suffix
	deleting map[string]bool   // being deleted: nothing of these is brought away
	pause    time.Time         // the store failed: nobody asks it before
	failing  int               // requests that failed in a row
	failures int64
	stored   int64
	err      error
	stopped  bool
}

// cargo is a recording of which something is to be brought away.
type cargo struct {
	where place
	since time.Time // when this began
	next  time.Time // not before
	tries int       // in a row that failed
	busy  bool      // a worker has it
	again bool      // more has come since

	asked bool // parts is known
	parts int  // so many are in the store
}

func newShipper(r *Recorder) *shipper {
	s := &shipper{r: r, waiting: map[string]*cargo{}, deleting: map[string]bool{}}
	s.changed = sync.NewCond(&s.mu)
	r.loops.Add(shipWorkers + 1)
	go s.begin()
	for range shipWorkers {
		go s.work()
	}
	context.AfterFunc(r.ctx, func() {
		s.mu.Lock()
		s.stopped = true
		s.mu.Unlock()
		s.changed.Broadcast()
	})
	return s
}

// ship has what is packed of a recording brought to the store, if there is one.
func (r *Recorder) ship(where place) {
	if r.shipper != nil {
		r.shipper.mark(where)
	}
}

// Shipping tells how it stands; false if there is no store.
func (r *Recorder) Shipping() (Shipping, bool) {
	s := r.shipper
	if s == nil {
		return Shipping{}, false
	}
	s.mu.Lock()
	sum := Shipping{Recordings: len(s.waiting), Failures: s.failures, Stored: s.stored, Err: s.err}
	var places []place
	for _, c := range s.waiting {
		if places = append(places, c.where); sum.Oldest.IsZero() || c.since.Before(sum.Oldest) {
			sum.Oldest = c.since
		}
	}
	s.mu.Unlock()
	for _, where := range places {
		if st, err := r.root.Lstat(where.packed()); err == nil {
			sum.Bytes += st.Size()
		}
	}
	return sum, true
}

func (s *shipper) mark(where place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deleting[where.base] {
		return
	}
	c := s.waiting[where.base]
	if c == nil {
		s.waiting[where.base] = &cargo{where: where, since: time.Now()}
	} else {
		c.again = true
	}
	s.changed.Signal()
}

// begin finds what an earlier process left to be brought away.
func (s *shipper) begin() {
	defer s.r.loops.Done()
	old := time.Now().UTC().AddDate(0, 0, -2).Format("2006/01/02")
	var folders []string
	err := fs.WalkDir(s.r.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		case s.r.ctx.Err() != nil:
			return s.r.ctx.Err()
		case d.IsDir() && strings.Count(name, "/") == 3 && name < old:
			folders = append(folders, name)
			return nil
		case d.IsDir():
			return nil
		}
		base, isIndex := strings.CutSuffix(name, indexSuffix)
		if !isIndex {
			base, isIndex = strings.CutSuffix(name, packedSuffix)
		}
		if where, err := parsePath(base + castSuffix); isIndex && err == nil {
			s.mark(where)
		}
		return nil
	})
	if err != nil && s.r.ctx.Err() == nil {
		s.r.cfg.OnError(".", fmt.Errorf("looking for recordings to bring to the store: %w", err))
	}
	for _, name := range folders {
		_ = s.r.root.Remove(name) // those that are empty
	}
}

// work brings away one recording after the other.
func (s *shipper) work() {
	defer s.r.loops.Done()
	for {
		c := s.take()
		if c == nil {
			return
		}
		s.done(c, s.safely(c))
	}
}

// take waits for the recording that has waited longest. It returns nil when the Recorder is closed.
func (s *shipper) take() *cargo {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.stopped {
			return nil
		}
		now := time.Now()
		var best *cargo
		soon := now.Add(time.Hour)
		for _, c := range s.waiting {
			if c.busy {
				continue
			}
			if c.next.After(now) {
				if c.next.Before(soon) {
					soon = c.next
				}
			} else if best == nil || c.since.Before(best.since) {
				best = c
			}
		}
		if best != nil && !s.pause.After(now) {
			best.busy, best.again = true, false
			return best
		}
		if best != nil && s.pause.Before(soon) {
			soon = s.pause
		}
		timer := time.AfterFunc(soon.Sub(now), s.changed.Broadcast)
		s.changed.Wait()
		timer.Stop()
	}
}

// forgo has nothing of a recording brought away until the function it returns is called. It waits for
// what is under way.
func (s *shipper) forgo(where place) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleting[where.base] = true
	for c := s.waiting[where.base]; c != nil && c.busy; c = s.waiting[where.base] {
		s.changed.Wait()
	}
	delete(s.waiting, where.base)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.deleting, where.base)
	}
}

func (s *shipper) done(c *cargo, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.changed.Broadcast()
	c.busy = false
	if err == nil {
		s.failing, s.err, c.tries = 0, nil, 0
		c.since, c.next = time.Now(), time.Time{}
		if !c.again {
			// Of an open recording the number of parts in the store is asked for again: a request
			// for each part, and nothing to be kept for thousands of recordings that are idle.
			delete(s.waiting, c.where.base)
		}
		return
	}
	if s.stopped {
		return
	}
	now := time.Now()
	c.tries++
	c.next = now.Add(backoff(c.tries))
	c.asked = false
	s.failures++
	s.err = err
	// What several workers have met at once counts as one failure.
	if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnknownKey) && !s.pause.After(now) {
		s.failing++
		s.pause = now.Add(backoff(s.failing))
	}
	if c.tries == 1 && s.failing <= 1 || c.tries > 8 {
		go s.r.cfg.OnError(c.where.packed(), fmt.Errorf("bringing it to the store: %w", err))
	}
}

// backoff is how long to wait after so many failures in a row.
func backoff(failures int) time.Duration {
	d := shipPauseMax
	if failures < 8 {
		d = shipPauseMin << (failures - 1)
	}
	return d/2 + rand.N(d/2)
}

func (s *shipper) safely(c *cargo) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return s.bring(s.r.ctx, c)
}

// bring brings to the store what is missing there.
func (s *shipper) bring(ctx context.Context, c *cargo) error {
	r, where := s.r, c.where
	index, err := r.readIndex(where)
	if errors.Is(err, os.ErrNotExist) {
		return s.forget(ctx, c)
	}
	if err != nil {
		return err
	}
	parts, err := readParts(bytes.NewReader(index))
	if err != nil {
		return err
	}
	if !c.asked {
		if c.parts, err = s.inStore(ctx, where, parts); err != nil {
			return err
		}
		c.asked = true
	}
	for _, p := range parts[min(c.parts, len(parts)):] {
		if err := s.put(ctx, where, p.record); err != nil {
			return err
		}
		c.parts = p.Number
	}
	sealed := hasEnd(index)
	if err := r.cfg.Store.Put(ctx, where.remoteIndex(), index, sealed); err != nil {
		return err
	}
	if !sealed {
		return nil
	}
	return s.leave(ctx, c, index, parts)
}

// readIndex reads the whole lines of the local index.
func (r *Recorder) readIndex(where place) ([]byte, error) {
	f, err := r.openFile(where.index(), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	index, err := io.ReadAll(f)
	return index[:bytes.LastIndexByte(index, '\n')+1], err
}

// inStore asks how many of the parts are there, from the first one without a gap.
func (s *shipper) inStore(ctx context.Context, where place, parts []Part) (int, error) {
	objects, err := s.r.cfg.Store.List(ctx, where.remoteBase())
	if err != nil {
		return 0, err
	}
	sizes := make(map[string]int64, len(objects))
	for _, o := range objects {
		sizes[o.Key] = o.Size
	}
	for i, p := range parts {
		if size, ok := sizes[where.remotePart(p.Number)]; !ok || size != p.Packed {
			return i, nil
		}
	}
	return len(parts), nil
}

func (s *shipper) put(ctx context.Context, where place, p partRecord) error {
	packed, err := s.r.readPacked(ctx, where, p)
	if err != nil {
		return err
	}
	if sha256.Sum256(packed) != p.PackedSHA256 {
		return fmt.Errorf("%w: part %d was altered where it is packed", ErrDamaged, p.Part)
	}
	return s.r.cfg.Store.Put(ctx, where.remotePart(p.Part), packed, true)
}

// leave removes a sealed recording from this node, once everything was read back from the store and
// proved to be what is here.
func (s *shipper) leave(ctx context.Context, c *cargo, index []byte, parts []Part) error {
	proved, err := s.r.verifyRemote(ctx, c.where)
	if errors.Is(err, ErrDamaged) {
		// Something there is not what is here. What is here goes there again, in full.
		for _, p := range parts {
			if err := s.put(ctx, c.where, p.record); err != nil {
				return err
			}
		}
		proved, err = s.r.verifyRemote(ctx, c.where)
	}
	if err != nil {
		return err
	}
	if !proved.report.Complete() || proved.size != int64(len(index)) || !bytes.Contains(index, []byte(proved.report.Root)) {
		return fmt.Errorf("%w: what is in the store is not what was written there", ErrDamaged)
	}
	if _, err := s.r.root.Lstat(c.where.cast()); err == nil {
		return nil // not sealed by all the rules yet; when it is, we are told
	}
	if err := s.r.remove(c.where.index()); err != nil {
		return err
	}
	return s.gone(c.where)
}

// forget ends the work of a process that died while it removed a recording.
func (s *shipper) forget(ctx context.Context, c *cargo) error {
	if _, err := s.r.root.Lstat(c.where.packed()); err != nil {
		return nil
	}
	if _, err := s.r.root.Lstat(c.where.cast()); err == nil {
		return nil // Recover sees to it
	}
	proved, err := s.r.verifyRemote(ctx, c.where)
	if err != nil {
		return err
	}
	if !proved.report.Complete() {
		return fmt.Errorf("%w: it has no index here, and no end in the store", ErrDamaged)
	}
	return s.gone(c.where)
}

// gone removes the last file of a recording.
func (s *shipper) gone(where place) error {
	if err := s.r.remove(where.screens()); err != nil { // what is deleted in the store must not be left here
		return err
	}
	if err := s.r.remove(where.packed()); err != nil {
		return err
	}
	if err := s.r.removeBeside(where, false); err != nil {
		return err
	}
	if path.Dir(where.dir()) < time.Now().UTC().AddDate(0, 0, -2).Format("2006/01/02") {
		_ = s.r.root.Remove(where.dir()) // if it is empty; no channel will be opened in it any more
	}
	s.mu.Lock()
	s.stored++
	s.mu.Unlock()
	if s.r.cfg.OnStored != nil {
		s.r.cfg.OnStored(where.packed())
	}
	return nil
}
