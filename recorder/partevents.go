package recorder

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Events reads the events of a part, with their times since the recording began. Plain is what
// ReadPart returned for it. The Reader has a header only if the part is the first.
func (p Part) Events(plain []byte) (*Reader, error) {
	if p.Number == 1 {
		return newReader(io.NopCloser(bytes.NewReader(plain)))
	}
	return &Reader{src: bufio.NewReaderSize(bytes.NewReader(plain), 64<<10), close: func() error { return nil }, at: p.At.Microseconds()}, nil
}

// Sealed tells whether a recording has ended, and nothing will be added to it. It verifies nothing.
func (r *Recorder) Sealed(ctx context.Context, path string) (bool, error) {
	where, err := parsePath(path)
	if err != nil {
		return false, err
	}
	sealed, err := r.sealed(ctx, where)
	if err != nil {
		return false, fmt.Errorf("reading the index of %s: %w", where.cast(), err)
	}
	return sealed, nil
}

func (r *Recorder) sealed(ctx context.Context, where place) (bool, error) {
	index, err := r.openFile(where.index(), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		if size, err := r.castSize(where); err != nil || size > 0 {
			return false, err
		}
		text, err := r.remoteIndex(ctx, where)
		if err != nil {
			return false, err
		}
		return hasEnd(text), nil
	}
	if err != nil {
		return false, err
	}
	defer index.Close()
	st, err := index.Stat()
	if err != nil {
		return false, err
	}
	last, err := readPart(index, max(0, st.Size()-maxIndexLine), min(st.Size(), maxIndexLine), nil)
	return err == nil && hasEnd(last), err
}

// ReadScreens returns what WriteScreens has left beside a recording. The error is os.ErrNotExist if
// that is nothing.
func (r *Recorder) ReadScreens(path string) ([]byte, error) {
	where, err := parsePath(path)
	if err != nil {
		return nil, err
	}
	f, err := r.openFile(where.screens(), os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", where.screens(), err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxScreens+1))
	if err == nil && len(data) > maxScreens {
		err = fmt.Errorf("it has more than %d bytes", maxScreens)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", where.screens(), err)
	}
	return data, nil
}

// WriteScreens keeps data that was made of a recording beside it, so that it need not be made again.
// It proves nothing, and may be removed at any time. The error is os.ErrNotExist if the sealed recording
// is not here.
func (r *Recorder) WriteScreens(path string, data []byte) error {
	where, err := parsePath(path)
	if err != nil {
		return err
	}
	if len(data) > maxScreens {
		return fmt.Errorf("writing %s: %d bytes are more than %d", where.screens(), len(data), maxScreens)
	}
	if err := r.writeScreens(where, data); err != nil {
		return fmt.Errorf("writing %s: %w", where.screens(), err)
	}
	return nil
}

func (r *Recorder) writeScreens(where place, data []byte) error {
	root, packed := r.near(where.packed())
	if err := r.wantMode(root, packed, 0); err != nil { // they go with it
		return err
	}
	// Under another name first: half of it must never be taken for the whole.
	unfinished := where.screens() + newEnding
	f, err := r.openFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = r.root.Rename(unfinished, where.screens())
	}
	if err != nil {
		return errors.Join(err, r.root.Remove(unfinished))
	}
	return nil
}

const (
	screensSuffix = ".cast.screens"
	newEnding     = ".new"
	maxScreens    = 64 << 20
)

func (p place) screens() string { return p.base + screensSuffix }
