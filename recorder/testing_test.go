package recorder

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testKey is the same key for every n in every process, so that a parent can check its child's
// signatures.
func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// newRecorder opens a Recorder in a new folder, with what the test changes in the configuration.
func newRecorder(t testing.TB, change func(*Config)) *Recorder {
	t.Helper()
	cfg := Config{Dir: t.TempDir(), SigningKey: testKey(1), Node: "node-1", Sync: 5 * time.Millisecond}
	cfg.OnError = func(path string, err error) { t.Logf("background: %s: %v", path, err) }
	if change != nil {
		change(&cfg)
	}
	if len(cfg.SigningKey) == ed25519.PrivateKeySize { // what a test had killed had no name, or another one
		cfg.Keys = append(cfg.Keys, Key{Public: cfg.SigningKey.Public().(ed25519.PublicKey), Nodes: []string{"dead", ""}})
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("closing the recorder: %v", err)
		}
	})
	return r
}

func create(t testing.TB, r *Recorder, h Header) *Recording {
	t.Helper()
	if h.Session == "" {
		h.Session = "01-test"
	}
	w, err := r.Create(h)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func closed(t testing.TB, w *Recording) Summary {
	t.Helper()
	sum, err := w.Close()
	must(t, err)
	return sum
}

// events reads all events of a recording.
func events(t testing.TB, r *Recorder, path string) []Event {
	t.Helper()
	reader, err := r.Open(path)
	must(t, err)
	defer reader.Close()
	all, err := allEvents(reader)
	must(t, err)
	return all
}

func allEvents(reader *Reader) ([]Event, error) {
	var all []Event
	for {
		e, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
}

// dataOf joins the exact bytes of the events with the given codes.
func dataOf(all []Event, codes string) []byte {
	var b []byte
	for _, e := range all {
		if strings.Contains(codes, string(e.Code)) {
			b = append(b, e.Data...)
		}
	}
	return b
}

func fileOf(r *Recorder, name string) string {
	return filepath.Join(r.cfg.Dir, filepath.FromSlash(name))
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	return b
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

type nopCloser struct{ io.Reader }

func (nopCloser) Close() error { return nil }
