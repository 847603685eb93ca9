package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/klauspost/compress/zstd"

	"sallyport/recorder"
)

// openAtOnce is how many recordings a Library remembers. Each may take some 20 MiB if a stranger wants it to.
const openAtOnce = 10

// prepared is up to how many bytes of output screens are made as soon as a recording has ended. Drawing costs ten times
// what it costs to relay and record the same bytes, and what printed more than that is rarely looked at.
const prepared = 8 << 20

// waiting is how many ended recordings wait to be prepared at most.
const waiting = 1000

// Library replays the recordings of a Recorder. It remembers those that were asked for last. It is
// safe for concurrent use.
type Library struct {
	recordings *recorder.Recorder
	log        *slog.Logger
	run        context.Context
	stop       context.CancelFunc
	busy       chan struct{}
	ended      chan string // paths of recordings to prepare
	work       sync.WaitGroup

	mu   sync.Mutex // guards the field below
	open *lru.Cache[string, *Replay]
}

// NewLibrary returns a Library; Close ends what it does in the background. Log gets what keeps
// screens from being written; nil is slog.Default().
func NewLibrary(recordings *recorder.Recorder, log *slog.Logger) (*Library, error) {
	if log == nil {
		log = slog.Default()
	}
	open, err := lru.NewWithEvict(openAtOnce, func(_ string, r *Replay) { r.Close() })
	if err != nil {
		return nil, fmt.Errorf("making a library of recordings: %w", err)
	}
	l := &Library{recordings: recordings, log: log, busy: make(chan struct{}, 1), ended: make(chan string, waiting), open: open}
	l.run, l.stop = context.WithCancel(context.Background())
	l.work.Go(l.prepareLoop)
	return l, nil
}

// Close ends what is done in the background, and waits for it.
func (l *Library) Close() {
	l.stop()
	l.work.Wait()
}

// Open returns the Replay of a recording, by the path that the recorder gave.
func (l *Library) Open(path string) *Replay {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.open.Get(path); ok {
		return r
	}
	r := newReplay(l.run, recording{l.recordings, path}, l.busy, screensFile{l, path})
	l.open.Add(path, r)
	return r
}

// Prepare makes the screens of a recording that has just ended, in the background, so that whoever
// wants to see its last minute does not wait for all before it. Recordings with so little output (bytes) that none is kept
// are not even looked at, those with more than screens are made for are left until somebody wants to see them.
func (l *Library) Prepare(path string, output int64) {
	if output <= near || output > prepared {
		return
	}
	select {
	case l.ended <- path:
	default: // so many have ended at once: those that are not looked at need nothing
	}
}

func (l *Library) prepareLoop() {
	for {
		select {
		case path := <-l.ended:
			r := newReplay(l.run, recording{l.recordings, path}, l.busy, screensFile{l, path})
			if err := r.prepare(l.run); err != nil && l.run.Err() == nil && !errors.Is(err, recorder.ErrEncrypted) {
				l.log.Warn("preparing the replay of a recording", "recording", path, "error", err)
			}
			r.Close()
		case <-l.run.Done():
			return
		}
	}
}

func (r *Replay) prepare(ctx context.Context) error {
	o, err := r.look(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	done := r.printed >= len(o.Parts) || !r.known
	r.mu.Unlock()
	if output := o.output(0, len(o.Parts)); done || output <= near || output > prepared {
		return nil
	}
	r.pass(&o)
	return r.failed
}

// recording is a recording of a Recorder as a Source.
type recording struct {
	*recorder.Recorder
	path string
}

func (s recording) Parts(ctx context.Context) ([]recorder.Part, error) {
	return s.Recorder.Parts(ctx, s.path)
}

func (s recording) ReadPart(ctx context.Context, p recorder.Part) ([]byte, error) {
	return s.Recorder.ReadPart(ctx, s.path, p)
}

func (s recording) Sealed(ctx context.Context) (bool, error) {
	return s.Recorder.Sealed(ctx, s.path)
}

// beside is where the screens of a recording are kept.
type beside interface {
	read() (kept, bool)
	write(kept)
}

// kept is what is written beside a sealed recording.
type kept struct {
	Version int      `json:"version"`
	Outline outline  `json:"outline"`
	Screens []atPart `json:"screens"`
	Stopped int      `json:"stopped"`
}

const (
	keptVersion = 1
	maxUnpacked = 128 << 20 // bytes of it
)

// screensFile is the file beside a recording.
type screensFile struct {
	l    *Library
	path string
}

func (f screensFile) read() (kept, bool) {
	k, err := f.decode()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.l.log.Warn("reading the screens of a recording; they are made again", "recording", f.path, "error", err)
	}
	return k, err == nil
}

func (f screensFile) decode() (kept, error) {
	var k kept
	packed, err := f.l.recordings.ReadScreens(f.path)
	if err != nil {
		return k, err
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked))
	if err != nil {
		return k, err
	}
	defer d.Close()
	plain, err := d.DecodeAll(packed, nil)
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(plain, &k); err != nil {
		return k, err
	}
	if k.Version != keptVersion {
		return k, fmt.Errorf("version %d, not %d", k.Version, keptVersion)
	}
	return k, nil
}

func (f screensFile) write(k kept) {
	if err := f.encode(k); err != nil && !errors.Is(err, os.ErrNotExist) { // the recording is not here
		f.l.log.Warn("keeping the screens of a recording", "recording", f.path, "error", err)
	}
}

func (f screensFile) encode(k kept) error {
	plain, err := json.Marshal(k)
	if err != nil {
		return err
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	defer e.Close()
	return f.l.recordings.WriteScreens(f.path, e.EncodeAll(plain, nil))
}

// load takes what is kept beside a sealed recording, if it is of these parts.
func (r *Replay) load(list []recorder.Part) bool {
	k, ok := r.side.read()
	if !ok || len(k.Outline.Parts) != len(list) {
		return false
	}
	size := 0
	for i := range list {
		if p := &k.Outline.Parts[i]; p.Bytes != list[i].Length || p.Place.Cols < 1 || p.Place.Rows < 1 || p.Output < 0 {
			return false
		}
		k.Outline.Parts[i].Part = list[i]
	}
	for i, s := range k.Screens {
		if s.Part < 1 || s.Part >= len(list) || i > 0 && s.Part <= k.Screens[i-1].Part {
			return false
		}
		size += len(s.Init)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outline, r.sealed, r.known = k.Outline, true, true
	r.screens, r.size, r.printed, r.stopped = k.Screens, size, len(list), max(k.Stopped, 0)
	return true
}
