package auditlog

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
)

// keeper is a database whose chain a test can cut off or make fail.
type keeper struct {
	mu       sync.Mutex // guards the fields below
	waiting  int
	position int64
	err      error
	signed   []audit.Checkpoint
}

func (k *keeper) Chain(_ context.Context, node string, sign func(*audit.Checkpoint) error) (int, audit.Checkpoint, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := min(k.waiting, 10)
	if k.err != nil || n == 0 {
		return 0, audit.Checkpoint{}, k.err
	}
	c := audit.Checkpoint{Position: k.position + int64(n), After: k.position, Node: node, Time: time.Now()}
	if err := sign(&c); err != nil {
		return 0, c, err
	}
	k.waiting -= n
	k.position = c.Position
	k.signed = append(k.signed, c)
	return n, c, nil
}

func (k *keeper) set(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

// A chainer does all that waits, tells when it cannot, and notices a database that has forgotten what it signed.
func TestChainer(t *testing.T) {
	t.Parallel()
	k := &keeper{waiting: 25}
	key, calls := "one", 0
	c := NewChainer(ChainConfig{Keeper: k, Node: "n1", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Every: time.Millisecond,
		Sign: func(text []byte) (string, []byte) {
			if calls++; calls == 2 { // another key takes the place of the first between two looks
				key = "two"
			}
			return key, text
		}})
	if err := c.All(t.Context()); err != nil || k.position != 25 || len(k.signed) != 3 || c.Problem() != "" {
		t.Fatalf("%v: %+v, %q", err, k, c.Problem())
	}
	for _, p := range k.signed {
		if text, err := p.SignedText(); err != nil || p.Key != "two" || string(text) != string(p.Sig) {
			t.Errorf("signed with %s: %s, %v", p.Key, p.Sig, err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go c.Run(ctx)
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain for %s; problem %q", what, c.Problem())
			}
		}
	}
	k.set(func() { k.err = errors.New("away") })
	eventually("the problem", func() bool { return strings.Contains(c.Problem(), "away") })
	k.set(func() { k.err = nil })
	eventually("its end", func() bool { return c.Problem() == "" })
	k.set(func() { k.position, k.waiting = 7, 1 }) // brought back from a backup
	eventually("the loss to be noticed", func() bool { return strings.Contains(c.Problem(), "went on at position 7, and had 25") })
}
