package recorder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// Recovered is a recording that Recover completed.
type Recovered struct {
	Path    string // of the sealed recording
	Session string
	Channel int
	Summary Summary
	Torn    int64 // bytes of an event that was being written when the process died: nobody saw it
	Err     error // why it could not be completed, or what was found damaged; then <channel>.cast.damaged has what was found
}

// Recover completes and seals what a dead process left behind: a marker is added that says so, half
// an event at the end is dropped. Recordings open in this Recorder, and those of sessions for which
// isLive returns true, are left alone; isLive may be nil. The error is that of looking through the
// folder or of ctx; what became of each recording is in the list.
func (r *Recorder) Recover(ctx context.Context, isLive func(session string) bool) ([]Recovered, error) {
	left, err := r.leftBehind(ctx, isLive)
	if err != nil {
		return nil, fmt.Errorf("looking for recordings left behind: %w", err)
	}
	var all []Recovered
	for _, where := range left {
		if err := ctx.Err(); err != nil {
			return all, fmt.Errorf("recovering recordings: %w", err)
		}
		done := Recovered{Path: where.packed(), Session: where.session, Channel: where.channel}
		done.Summary, done.Torn, done.Err = r.recoverOne(ctx, where)
		if errors.Is(done.Err, errNothing) {
			continue
		}
		if done.Err != nil {
			done.Err = fmt.Errorf("recovering %s: %w", where.cast(), done.Err)
		}
		all = append(all, done)
	}
	return all, nil
}

// Ended proves a recording that its process has sealed, and did not live to say so. The Summary is zero if it is neither here
// nor in the store, or not sealed.
func (r *Recorder) Ended(path string) (Summary, error) {
	where, err := parsePath(path)
	if err != nil {
		return Summary{}, err
	}
	if r.cfg.Store == nil && !r.isHere(where) {
		return Summary{}, nil
	}
	report, err := r.verify(where)
	if errors.Is(err, os.ErrNotExist) {
		return Summary{}, nil
	}
	if err != nil {
		return Summary{}, fmt.Errorf("verifying %s: %w", where.packed(), err)
	}
	if !report.Complete() {
		return Summary{}, nil
	}
	sum := report.Summary
	sum.Path, sum.Root = where.packed(), report.Root
	return sum, nil
}

func (r *Recorder) leftBehind(ctx context.Context, isLive func(session string) bool) ([]place, error) {
	var left []place
	err := fs.WalkDir(r.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) { // sealed by its own process while we walk
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() || !strings.HasSuffix(name, castSuffix) {
			return ctx.Err()
		}
		where, err := parsePath(name)
		if err != nil { // not ours
			return nil
		}
		r.mu.Lock()
		active := r.active[where.base] != nil
		r.mu.Unlock()
		if !active && (isLive == nil || !isLive(where.session)) {
			left = append(left, where)
		}
		return nil
	})
	return left, err
}

// errNothing is the result for a recording whose Create never returned.
var errNothing = errors.New("nothing was recorded")

// recoverOne completes one recording.
func (r *Recorder) recoverOne(ctx context.Context, where place) (sum Summary, torn int64, err error) {
	m := &remains{r: r, where: where}
	defer m.close()
	if m.pending, err = r.pendingOf(ctx, where); err == nil && m.pending != nil {
		err = r.fetchMissing(ctx, where, *m.pending)
	}
	if err != nil {
		return Summary{}, 0, err
	}
	if err := m.load(); err != nil {
		return Summary{}, 0, err
	}
	if isVault(m.cast) {
		return m.finishEncrypted()
	}
	if m.packed.end != nil {
		return m.finishSealed()
	}
	if err := m.scan(); err != nil {
		return Summary{}, 0, err
	}
	if err := m.mend(); err != nil {
		return Summary{}, 0, errors.Join(m.damage, err)
	}
	sum, err = m.finish()
	return sum, m.torn(), errors.Join(m.damage, err)
}

// remains is what a dead process left of one recording. What counts is the parts that are packed
// and proved, and behind them the rest of the asciicast.
type remains struct {
	r        *Recorder
	where    place
	cast     *os.File
	castSize int64
	zst      *os.File // nil = nothing packed
	packed   walked   // the parts that are right
	damage   error    // what is not
	pending  *pendingRecord
	sameHead bool // the asciicast begins with the bytes of the parts

	// Found by scan.
	whole  int64 // bytes up to the end of the last whole event
	size   int64 // bytes that are there
	at     int64 // µs of the last event
	seam   int64 // µs of the last event in the packed parts
	broken error // what stopped the reading before the end
	cuts   []cut // ends of the parts to be packed
	sum    Summary
}

func (m *remains) torn() int64 { return m.size - m.whole }

func (m *remains) close() {
	for _, f := range []*os.File{m.cast, m.zst} {
		if f != nil {
			f.Close()
		}
	}
}

// load opens the files and finds out which parts are right.
func (m *remains) load() error {
	var err error
	if m.cast, err = m.r.openFile(m.where.cast(), os.O_RDWR|os.O_APPEND); err != nil {
		return err
	}
	st, err := m.cast.Stat()
	if err != nil {
		return err
	}
	m.castSize = st.Size()
	index, err := m.r.openFile(m.where.index(), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		m.sameHead = true
		return nil
	}
	if err != nil {
		return err
	}
	defer index.Close()
	check := &partCheck{}
	if m.zst, err = m.r.openFile(m.where.packed(), os.O_RDONLY); err == nil {
		check.packed = m.zst
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	m.packed, err = walkIndex(index, m.r.signer.Load().ring, check.part)
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrUnknownKey) || errors.Is(err, ErrCompromised) {
		m.damage = fmt.Errorf("what is packed is right up to part %d only: %w", len(m.packed.parts), err)
	} else if err != nil {
		return err
	}
	m.sameHead, err = m.compare()
	return err
}

// compare tells whether the asciicast begins with the bytes of the parts.
func (m *remains) compare() (bool, error) {
	check := &partCheck{plain: m.cast}
	for _, p := range m.packed.parts {
		if err := check.part(p); errors.Is(err, ErrDamaged) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// content reads the recording: first the parts from the packed file, then the rest of the asciicast.
func (m *remains) content() (io.ReadCloser, error) {
	proved := m.packed.report.Proved
	rest := io.NewSectionReader(m.cast, proved, max(m.castSize-proved, 0))
	if proved == 0 {
		return io.NopCloser(rest), nil
	}
	parts, err := unpack(io.NewSectionReader(m.zst, 0, m.packed.packed), io.NopCloser(nil))
	if err != nil {
		return nil, err
	}
	return limited{io.MultiReader(parts, rest), parts}, nil
}

// scan reads the recording to its last whole event.
func (m *remains) scan() error {
	proved := m.packed.report.Proved
	m.size = max(m.castSize, proved)
	src, err := m.content()
	if err != nil {
		return err
	}
	reader, err := newReader(src)
	if err != nil && m.size < maxLine && proved == 0 && noNewline(m.cast, m.size) {
		return errors.Join(errNothing, m.r.remove(m.where.cast()))
	}
	if err != nil {
		return err
	}
	defer reader.Close()
	if h := reader.Header(); h.Session != m.where.session || h.Channel != m.where.channel {
		return fmt.Errorf("%w: it is channel %d of session %q", ErrDamaged, h.Channel, h.Session)
	}
	return m.scanEvents(reader)
}

func (m *remains) scanEvents(reader *Reader) error {
	proved := m.packed.report.Proved
	t := newTally()
	for last := proved; ; {
		m.whole, m.at = reader.whole, reader.at
		if m.whole == proved {
			m.seam = m.at
		}
		if m.whole-last >= m.r.cfg.PartSize {
			m.cuts = append(m.cuts, cut{offset: m.whole, at: m.at})
			last = m.whole
		}
		e, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, ErrDamaged) {
			m.broken = err
			break
		}
		if err != nil {
			return err
		}
		t.count(e)
	}
	if m.whole < proved {
		return fmt.Errorf("%w: a signed part holds no whole events", ErrDamaged)
	}
	m.sum = t.summary(m.at)
	return nil
}

// noNewline tells whether there is not even a whole first line in f.
func noNewline(f *os.File, size int64) bool {
	buf := make([]byte, size)
	n, _ := f.ReadAt(buf, 0)
	return bytes.IndexByte(buf[:n], '\n') < 0
}

// tally counts the events of a recording as Recording does while it writes them.
type tally struct {
	sum  Summary
	hash hash.Hash
}

func newTally() *tally { return &tally{hash: sha256.New()} }

func (t *tally) count(e Event) {
	switch e.Code {
	case CodeOutput, CodeStderr:
		t.sum.Kept += int64(len(e.Data))
		t.hash.Write(e.Data)
	case CodeInput:
		t.sum.Input += int64(len(e.Data))
	case CodeLimit:
		t.sum.Truncated = true
	case CodeGap:
		number, _, _ := strings.Cut(e.Text, " ")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil && n > 0 {
			t.sum.Lost += n
		}
	}
}

// summary is the sum. What was counted and not kept only the dead process knew.
func (t *tally) summary(at int64) Summary {
	t.sum.Counted = t.sum.Kept + t.sum.Lost
	t.sum.Duration = time.Duration(at) * time.Microsecond
	if t.sum.Lost == 0 {
		t.sum.SHA256 = hex.EncodeToString(t.hash.Sum(nil))
	}
	return t.sum
}

// mend makes the asciicast whole: torn bytes are cut off. If it does not fit the packed parts, or
// cannot be read to its end, it is written anew and the old one is kept.
func (m *remains) mend() error {
	short, err := m.isShort()
	if err != nil {
		return err
	}
	if m.broken != nil {
		m.damage = errors.Join(m.damage, m.broken)
	}
	if !m.sameHead && !short {
		m.damage = errors.Join(m.damage, fmt.Errorf("%w: the asciicast differs from its signed parts", ErrDamaged))
	}
	if m.damage != nil {
		if err := m.r.keepDamaged(m.where.index()); err != nil {
			return err
		}
	}
	if m.sameHead && m.broken == nil {
		if err := m.cast.Truncate(m.whole); err != nil {
			return fmt.Errorf("truncating %s: %w", m.where.cast(), err)
		}
		return nil
	}
	if m.damage != nil {
		if err := m.r.keepDamaged(m.where.cast()); err != nil {
			return err
		}
	}
	return m.rewrite()
}

// isShort tells whether the asciicast ends inside the packed parts and is right as far as it goes:
// a power cut can do that, since the files reach the disk each in its own time.
func (m *remains) isShort() (bool, error) {
	if m.sameHead || m.castSize >= m.packed.report.Proved {
		return false, nil
	}
	src, err := m.content()
	if err != nil {
		return false, err
	}
	defer src.Close()
	a, b := make([]byte, 32<<10), make([]byte, 32<<10)
	for at := int64(0); at < m.castSize; {
		n := min(m.castSize-at, int64(len(a)))
		if _, err := io.ReadFull(src, a[:n]); err != nil {
			return false, err
		}
		if _, err := m.cast.ReadAt(b[:n], at); err != nil {
			return false, err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return false, nil
		}
		at += n
	}
	return true, nil
}

// rewrite puts a new asciicast in the place of the old one.
func (m *remains) rewrite() error {
	src, err := m.content()
	if err != nil {
		return err
	}
	defer src.Close()
	name := m.where.base + newSuffix
	f, err := m.r.openFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND)
	if err != nil {
		return fmt.Errorf("writing the asciicast anew: %w", err)
	}
	if _, err = io.CopyN(f, src, m.whole); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = m.r.root.Rename(name, m.where.cast())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing the asciicast anew: %w", err), f.Close())
	}
	m.cast.Close()
	m.cast = f
	return nil
}

// keepDamaged copies a file of a recording that is about to be mended, unless that was done before.
func (r *Recorder) keepDamaged(name string) error {
	src, err := r.openFile(name, os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keeping the damaged %s: %w", name, err)
	}
	defer src.Close()
	dst, err := r.openFile(name+damagedSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keeping the damaged %s: %w", name, err)
	}
	_, err = io.Copy(dst, src)
	if err = errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		return errors.Join(fmt.Errorf("keeping the damaged %s: %w", name, err), r.root.Remove(name+damagedSuffix))
	}
	return nil
}

// finish adds the marker, packs what is not packed and seals.
func (m *remains) finish() (Summary, error) {
	text := "the node stopped here; the recording was completed afterwards"
	if m.r.cfg.Node != "" {
		text += " by " + m.r.cfg.Node
	}
	marker := appendEvent(nil, 0, codeMark, []byte(text))
	if _, err := m.cast.Write(marker); err != nil {
		return m.sum, fmt.Errorf("writing %s: %w", m.where.cast(), err)
	}
	p := packer{
		r: m.r, place: m.where, plain: m.cast, parts: len(m.packed.parts),
		end:    cut{offset: m.packed.report.Proved, at: m.seam},
		packed: m.packed.packed, index: m.packed.size, chain: m.packed.chain,
	}
	for _, c := range append(m.cuts, cut{offset: m.whole + int64(len(marker)), at: m.at}) {
		if err := p.add(c); err != nil {
			return m.sum, err
		}
	}
	if err := m.witness(&p); err != nil {
		return m.sum, err
	}
	err := p.seal(endRecord{
		Duration: m.sum.Duration.Microseconds(), Kept: m.sum.Kept, Counted: m.sum.Counted, Lost: m.sum.Lost,
		Input: m.sum.Input, SHA256: m.sum.SHA256, Truncated: m.sum.Truncated, Recovered: true, Torn: m.torn(),
	})
	if err != nil {
		return m.sum, err
	}
	m.sum.Path, m.sum.Root = m.where.packed(), p.chain.String()
	m.sum.Bytes, m.sum.Packed, m.sum.Parts = p.end.offset, p.packed, p.parts
	return m.sum, nil
}

// witness puts the end that another node signed into the index, if it fits.
func (m *remains) witness(p *packer) error {
	if m.pending == nil || m.packed.report.Witnessed == m.pending.End.Parts { // an earlier try wrote it
		return nil
	}
	if err := m.packed.witness(*m.pending, m.r.signer.Load().ring); err != nil {
		m.damage = errors.Join(m.damage, fmt.Errorf("what another node sealed: %w", err))
		return nil
	}
	return p.append(indexEntry{Pending: m.pending})
}

// finishSealed ends the work of a process that died between sealing and removing the asciicast.
func (m *remains) finishSealed() (Summary, int64, error) {
	sum := m.packed.report.Summary
	sum.Path, sum.Root = m.where.packed(), m.packed.report.Root
	if !m.sameHead || m.castSize != m.packed.end.Bytes {
		m.damage = errors.Join(m.damage, fmt.Errorf("%w: the asciicast differs from its signed parts", ErrDamaged))
		if err := m.r.keepDamaged(m.where.cast()); err != nil {
			return sum, m.packed.end.Torn, errors.Join(m.damage, err)
		}
	}
	err := m.r.syncSealed((&packer{r: m.r, place: m.where}).sync)
	if err == nil {
		err = m.r.remove(m.where.cast())
	}
	if err == nil {
		m.r.ship(m.where)
	}
	return sum, m.packed.end.Torn, errors.Join(m.damage, err)
}
