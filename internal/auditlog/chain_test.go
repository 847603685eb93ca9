package auditlog

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
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

// What a node has signed it kept in its memory and in the database alone: whoever cut off the end of the log there, and had
// the server started anew, was not found out. Heads stand in a file, too, and go away now and then, and at the end.
func TestHeads(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "heads.jsonl")
	heads, last, err := OpenHeads(name)
	if err != nil || last.Position != 0 {
		t.Fatalf("%+v, %v", last, err)
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	k := &keeper{waiting: 25}
	sign := func(text []byte) (string, []byte) { return "one", []byte("x") }
	var away []audit.Checkpoint
	run := func(heads *Heads, last audit.Checkpoint, until func(*Chainer) bool) {
		t.Helper()
		c := NewChainer(ChainConfig{Keeper: k, Node: "n1", Logger: quiet, Every: time.Millisecond, Sign: sign, Heads: heads, Last: last,
			Away: func(_ context.Context, c audit.Checkpoint) error { away = append(away, c); return nil }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.Run(ctx); close(done) }()
		for deadline := time.Now().Add(20 * time.Second); !until(c); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it takes too long")
			}
		}
		cancel()
		<-done
	}
	chained := func(*Chainer) bool { k.mu.Lock(); defer k.mu.Unlock(); return k.waiting == 0 }
	run(heads, last, chained)
	list, err := heads.All()
	if err != nil || len(list) == 0 || list[len(list)-1].Position != 25 || len(away) == 0 || away[len(away)-1].Position != 25 {
		t.Errorf("kept %+v and %+v, %v", list, away, err)
	}

	// A process that dies leaves half a line.
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"checkpoint":{"pos`)
	f.Close()
	if heads, last, err = OpenHeads(name); err != nil || last.Position != 25 {
		t.Fatalf("%+v, %v", last, err)
	}
	// Somebody has cut the log off, while no server ran.
	k.set(func() { k.position, k.waiting = 20, 1 })
	run(heads, last, func(c *Chainer) bool { return chained(c) && c.Problem() != "" })

	// It does not grow for ever, and keeps its first and its last head.
	for i := range 3000 {
		if err := heads.Add(audit.Checkpoint{Position: int64(100 + i), Node: "n1", Key: "one", Sig: make([]byte, 64)}); err != nil {
			t.Fatal(err)
		}
	}
	list, err = heads.All()
	info, err2 := os.Stat(name)
	if err != nil || err2 != nil || info.Size() > maxHeads+4096 || info.Mode().Perm() != 0o600 || list[0].Position > 25 || list[len(list)-1].Position != 3099 {
		t.Errorf("%d heads in %d bytes, %v", len(list), info.Size(), err)
	}
	if err := os.WriteFile(name, []byte("{\"position\":1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenHeads(name); err == nil {
		t.Error("an altered file was opened")
	}
}
