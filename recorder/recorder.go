// Package recorder writes, seals, reads, verifies and exports recordings. It knows channels and
// bytes, never people or rules.
//
// A recording is what one channel of a session showed. While it is open it is the file
//
//	YYYY/MM/DD/<session>/<channel>.cast
//
// inside Config.Dir, valid asciicast v3 after every write: a header line, then lines of
// [interval, code, data]. Beside the codes o, i, r, m and x of asciicast there are own ones of one
// letter, which players ignore:
//
//	["e", ""]         the following o line is stderr, not stdout
//	["b", "<base64>"] the exact bytes of the following o or i line, which is not the same in UTF-8
//	["g", "5 why"]    5 bytes are missing here
//	["l", "16777216"] the limit: from here on bytes are counted and hashed, not kept
//	["s", "TERM"]     the program was ended by this signal
//
// A byte is in the file before [Recording.Output] returns, and on the disk within two and a half
// times Config.Sync. Every 256 KiB or 30 seconds a part is closed: it is compressed to an
// independent frame of <channel>.cast.zst (so that "zstd -dc" gives the asciicast back), and a line
// with its place and SHA-256 goes to <channel>.cast.index. The lines of the index are chained by
// SHA-256 and each chain head is signed with the node's Ed25519 key. [Recording.Close] packs what
// is left, signs the sum, and removes the .cast only when the rest is on the disk. What a dead
// process left behind is completed by [Recorder.Recover].
package recorder

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"sallyport/recorder/blob"
)

// Errors a caller tells apart with errors.Is.
var (
	ErrReserve    = errors.New("less space is free than the reserve for recordings")
	ErrQuota      = errors.New("more recordings are kept than the quota allows")
	ErrExists     = errors.New("the recording exists already")
	ErrPath       = errors.New("not the path of a recording")
	ErrClosed     = errors.New("the recording is closed")
	ErrDamaged    = errors.New("the recording is damaged")
	ErrUnknownKey = errors.New("signed with a key that is not trusted")
)

// Defaults of Config and bounds of what is written.
const (
	defaultSync     = 100 * time.Millisecond
	defaultPartSize = 256 << 10
	defaultPartAge  = 30 * time.Second
	maxPartSize     = 4 << 20
	maxChannel      = 9999
)

// Config says where and how recordings are kept. It must not be changed after New.
type Config struct {
	Dir         string              // folder of all recordings, on one file system; made (0700) if it is missing
	SigningKey  ed25519.PrivateKey  // this node's key; required
	TrustedKeys []ed25519.PublicKey // further keys that Verify accepts: older ones, other nodes'
	Keys        []Key               // more of them, of which more is known
	Node        string              // this node's name, written into every recording
	Sync        time.Duration       // from a write to the disk; 0 = 100 ms
	PartSize    int64               // bytes of asciicast after which a part is closed; 0 = 256 KiB, at most 4 MiB
	PartAge     time.Duration       // time after which a part is closed; 0 = 30 s
	Reserve     int64               // bytes that must be free for Create; 0 = no check
	Now         func() time.Time    // nil = time.Now
	Store       blob.Store          // where sealed parts go, and are read from once they are not here; nil = they stay here
	Recipients  []age.Recipient     // new recordings are encrypted to them: this node cannot read them back; empty = not encrypted

	// OnError is told of errors that no caller sees at once: those of the background sync, and of
	// packing (then nothing is lost, the part is packed later). It may be called from several
	// goroutines and must not call back into the recording. May be nil.
	OnError func(path string, err error)

	// OnSealed is told of a recording that has ended and was sealed, by the goroutine that
	// has closed it; it must not wait. May be nil.
	OnSealed func(Summary)

	// OnStored is told, in a goroutine of the Recorder, that a sealed recording is in the store, was
	// proved there, and is not on this node any more. May be nil.
	OnStored func(path string)

	// Pending returns the end that another node signed for a recording while this node was away (the
	// Line of [Recorder.SealPending]), nil if none did. Recover asks. May be nil.
	Pending func(ctx context.Context, session string, channel int) ([]byte, error)

	// testingFault, if not nil, may fail an operation on a file before it is done.
	testingFault func(op, path string) error
}

// Recorder keeps the recordings of one node. Its methods may be called from several goroutines.
type Recorder struct {
	cfg     Config
	signer  atomic.Pointer[signer]
	root    *os.Root
	rootDir *os.File               // the folder itself, for statfs and syncfs
	day     atomic.Pointer[folder] // that of the last recording that was begun; nil: none was
	encoder *zstd.Encoder

	lines sync.Pool // *[]byte: lines being written
	parts sync.Pool // *partBuffers

	shipper *shipper // nil: there is no store
	refusal atomic.Pointer[error]

	syncWake chan struct{}
	packWake chan struct{}
	stop     chan struct{}
	ctx      context.Context // of reading from the store; done when the Recorder is closed
	cancel   context.CancelFunc
	loops    sync.WaitGroup

	sealMu sync.Mutex // held while ended recordings are brought to the disk

	mu      sync.Mutex // guards the fields below; taken after Recording.mu and sealMu, never before
	active  map[string]*Recording
	dirty   []*Recording // written to since the last sync
	full    []*Recording // with a part closed since the last packing
	sealing []*sealing   // ended, not yet on the disk
	closed  bool

	dayOnDisk string // the last day whose folder is known to be on the disk
}

// New opens the folder of recordings and starts the two goroutines that sync and pack.
func New(cfg Config) (*Recorder, error) {
	keys, err := newSigner(cfg.SigningKey, cfg.Node, append(plainKeys(cfg.TrustedKeys), cfg.Keys...))
	if err != nil {
		return nil, fmt.Errorf("opening recordings: %w", err)
	}
	if cfg.PartSize < 0 || cfg.PartSize > maxPartSize {
		return nil, fmt.Errorf("opening recordings: part size %d is not between 0 and %d bytes", cfg.PartSize, maxPartSize)
	}
	setDefault(&cfg.Sync, defaultSync)
	setDefault(&cfg.PartSize, defaultPartSize)
	setDefault(&cfg.PartAge, defaultPartAge)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.OnError == nil {
		cfg.OnError = func(string, error) {}
	}

	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of recordings: %w", err)
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening the folder of recordings: %w", err)
	}
	rootDir, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("opening the folder of recordings: %w", err)
	}
	encoder, err := newEncoder()
	if err != nil {
		rootDir.Close()
		root.Close()
		return nil, fmt.Errorf("opening recordings: %w", err)
	}

	r := &Recorder{
		cfg:      cfg,
		root:     root,
		rootDir:  rootDir,
		encoder:  encoder,
		syncWake: make(chan struct{}, 1),
		packWake: make(chan struct{}, 1),
		stop:     make(chan struct{}),
		active:   map[string]*Recording{},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.signer.Store(keys)
	r.lines.New = func() any { b := make([]byte, 0, 4096); return &b }
	r.parts.New = func() any { return new(partBuffers) }
	r.loops.Add(2)
	go r.syncLoop()
	go r.packLoop()
	if cfg.Store != nil {
		r.shipper = newShipper(r)
	}
	return r, nil
}

func setDefault[T time.Duration | int64](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Close stops the goroutines after a last sync. Recordings still open fail with [ErrClosed]; what
// they wrote stays as a .cast that Recover completes.
func (r *Recorder) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	left := make([]*Recording, 0, len(r.active))
	for _, w := range r.active {
		left = append(left, w)
	}
	r.mu.Unlock()

	for _, w := range left {
		w.abandon()
	}
	close(r.stop)
	r.cancel()
	r.loops.Wait()
	for _, w := range left {
		w.f.Close()
	}
	if day := r.day.Load(); day != nil {
		day.root.Close()
	}
	return errors.Join(r.rootDir.Close(), r.root.Close())
}

// PublicKey is the key that this node's signatures are checked with.
func (r *Recorder) PublicKey() ed25519.PublicKey { return r.signer.Load().list[0].Public }

// Free tells how many bytes an unprivileged process could still write to the folder.
func (r *Recorder) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(r.rootDir.Fd()), &st); err != nil {
		return 0, fmt.Errorf("asking how much space is free for recordings: %w", err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// Writing tells how many recordings are open.
func (r *Recorder) Writing() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.active)
}

// Open is a recording that is being written and can be read here.
type Open struct {
	Session string
	Channel int
	Path    string
	Begun   time.Time
}

// Readable lists the recordings of terminals that are being written by this Recorder and may go into an index: those
// that are not encrypted and do not have [TagUnsearched].
func (r *Recorder) Readable() []Open {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Open, 0, len(r.active))
	for _, w := range r.active {
		if w.readable {
			list = append(list, Open{Session: w.place.session, Channel: w.place.channel, Path: w.path, Begun: w.begun})
		}
	}
	return list
}

// Accepting tells why a new recording would not be begun, such as [ErrReserve] or [ErrQuota]; nil if it would.
func (r *Recorder) Accepting() error { return r.checkReserve() }

// checkReserve returns ErrReserve, or what Refuse was given, if a new recording must not be begun.
func (r *Recorder) checkReserve() error {
	if err := r.refusal.Load(); err != nil {
		return *err
	}
	if r.cfg.Reserve <= 0 {
		return nil
	}
	free, err := r.Free()
	if err != nil {
		return err
	}
	if free < r.cfg.Reserve {
		return fmt.Errorf("%w: %d bytes free, reserve %d", ErrReserve, free, r.cfg.Reserve)
	}
	return nil
}

// fault lets tests fail an operation.
func (r *Recorder) fault(op, path string) error {
	if r.cfg.testingFault == nil {
		return nil
	}
	return r.cfg.testingFault(op, path)
}

// Suffixes of the files of a recording.
const (
	castSuffix    = ".cast"
	packedSuffix  = ".cast.zst"
	indexSuffix   = ".cast.index"
	newSuffix     = ".cast.new"
	damagedSuffix = ".damaged" // behind the whole name
)

var (
	sessionPattern = regexp.MustCompile(`^[0-9a-zA-Z-]{1,64}$`)
	pathPattern    = regexp.MustCompile(`^(\d{4}/\d{2}/\d{2}/([0-9a-zA-Z-]{1,64})/(0|[1-9]\d{0,3}))\.cast(?:\.zst)?$`)
)

// place is where a recording lies: the path of its files without suffix, and what the path says.
type place struct {
	base    string
	session string
	channel int
}

func (p place) dir() string    { return path.Dir(p.base) }
func (p place) cast() string   { return p.base + castSuffix }
func (p place) packed() string { return p.base + packedSuffix }
func (p place) index() string  { return p.base + indexSuffix }

// parsePath takes the path of a recording as Recording.Path, Summary.Path and Recovered.Path give
// it. Anything else, such as a path that climbs, is refused.
func parsePath(name string) (place, error) {
	m := pathPattern.FindStringSubmatch(name)
	if m == nil {
		return place{}, fmt.Errorf("%w: %q", ErrPath, name)
	}
	channel, err := strconv.Atoi(m[3])
	if err != nil {
		return place{}, fmt.Errorf("%w: %q", ErrPath, name)
	}
	return place{base: m[1], session: m[2], channel: channel}, nil
}

// newPlace is the place of a recording that begins at the given time.
func newPlace(session string, channel int, started time.Time) (place, error) {
	if !sessionPattern.MatchString(session) {
		return place{}, fmt.Errorf("%w: session %q", ErrPath, session)
	}
	if channel < 0 || channel > maxChannel {
		return place{}, fmt.Errorf("%w: channel %d", ErrPath, channel)
	}
	base := fmt.Sprintf("%s/%s/%d", started.UTC().Format("2006/01/02"), session, channel)
	return parsePath(base + castSuffix)
}
