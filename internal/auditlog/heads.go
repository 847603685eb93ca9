package auditlog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"sallyport/audit"
)

// Heads is a file of signed heads of the audit chain, apart from the database: whoever cuts off the end of the log
// there has to get at this file too. It holds the lines of an exported log, checkpoints only.
type Heads struct {
	name string

	mu   sync.Mutex // guards the fields below
	size int64
}

// maxHeads bounds the file, in bytes: then every second one of the older half goes.
const maxHeads = 256 << 10

// OpenHeads opens the file, which need not exist. The last head in it is returned, zero if there is none. Half a line
// at the end, of a process that died, is cut off.
func OpenHeads(name string) (*Heads, audit.Checkpoint, error) {
	h := &Heads{name: name}
	list, err := h.All()
	if err != nil {
		return nil, audit.Checkpoint{}, err
	}
	if err := h.rewrite(list); err != nil {
		return nil, audit.Checkpoint{}, err
	}
	if len(list) == 0 {
		return h, audit.Checkpoint{}, nil
	}
	return h, list[len(list)-1], nil
}

// Add appends a head.
func (h *Heads) Add(c audit.Checkpoint) error {
	line, err := audit.Line{Checkpoint: &c}.Encode()
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.size > maxHeads {
		list, err := h.All()
		if err != nil {
			return err
		}
		var thin []audit.Checkpoint
		for i, c := range list {
			if i%2 == 0 || i > len(list)/2 {
				thin = append(thin, c)
			}
		}
		if err := h.rewrite(thin); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(h.name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("keeping a head of the audit chain: %w", err)
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keeping a head of the audit chain: %w", err)
	}
	h.size += int64(len(line))
	return nil
}

// All are the heads in the file.
func (h *Heads) All() ([]audit.Checkpoint, error) {
	f, err := os.Open(h.name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading heads of the audit chain: %w", err)
	}
	defer f.Close()
	list, err := ReadHeads(f)
	if err != nil {
		return nil, fmt.Errorf("reading heads of the audit chain in %s: %w", h.name, err)
	}
	return list, nil
}

func (h *Heads) rewrite(list []audit.Checkpoint) error {
	var text bytes.Buffer
	for _, c := range list {
		line, err := audit.Line{Checkpoint: &c}.Encode()
		if err != nil {
			return err
		}
		text.Write(line)
	}
	f, err := os.CreateTemp(filepath.Dir(h.name), "."+filepath.Base(h.name)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("writing heads of the audit chain: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), h.name)
	}
	if err != nil {
		return fmt.Errorf("writing heads of the audit chain: %w", err)
	}
	h.size = int64(text.Len())
	return nil
}

// ReadHeads reads heads as Heads keeps them. Half a line at the end is left out. The signatures are not looked at.
func ReadHeads(src io.Reader) ([]audit.Checkpoint, error) {
	var list []audit.Checkpoint
	in := bufio.NewReader(src)
	for number := 1; ; number++ {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		l, err := audit.ParseLine(bytes.TrimSuffix(text, []byte("\n")))
		if err != nil || l.Checkpoint == nil {
			return nil, fmt.Errorf("line %d is no head of the audit chain", number)
		}
		list = append(list, *l.Checkpoint)
	}
}
