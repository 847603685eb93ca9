package recorder

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every key of every node used to prove every recording: whoever had got hold of one node's key could make
// recordings of all the others, or go on with theirs, and they were proved, with the list of keys on paper as
// well. A key now proves only what its own node says.
func TestKeyOfAnotherNode(t *testing.T) {
	t.Parallel()
	a, b := testKey(1).Public().(ed25519.PublicKey), testKey(2).Public().(ed25519.PublicKey)
	ring := NewKeyring(Key{Public: a, Nodes: []string{"node-a", "node-a-before"}}, Key{Public: b, Nodes: []string{"node-b"}})
	for _, c := range []struct {
		key    byte
		node   string
		proved bool
	}{
		{1, "node-a", true}, {1, "node-a-before", true}, {2, "node-b", true},
		{2, "node-a", false}, {1, "node-b", false}, {2, "node-a-before", false}, {2, "", false}, {2, "node-c", false},
	} {
		r := newRecorder(t, func(cfg *Config) {
			cfg.SigningKey, cfg.Node = testKey(c.key), c.node
			cfg.Keys = []Key{{Public: a, Nodes: []string{"node-a"}}, {Public: b, Nodes: []string{"node-b"}}}
		})
		where := sealed(t, r, "one")
		good := load(t, r, where)
		exported := filepath.Join(t.TempDir(), "x.cast")
		must(t, os.WriteFile(exported, good.export, 0o600))
		for _, file := range []string{fileOf(r, where.packed()), exported} {
			report, err := VerifyFileWith(file, ring)
			if c.proved != (err == nil && report.Complete()) || !c.proved && !errors.Is(err, ErrUnknownKey) {
				t.Errorf("key %d, node %q: %+v, %v", c.key, c.node, report, err)
			}
			if !c.proved && (err == nil || !strings.Contains(err.Error(), "is that of node")) {
				t.Errorf("key %d, node %q: it does not say why: %v", c.key, c.node, err)
			}
			// Of a list from before keys had names nothing is known but the keys.
			if report, err := VerifyFile(file, []ed25519.PublicKey{a, b}); err != nil || !report.Complete() {
				t.Errorf("key %d, node %q, without names: %+v, %v", c.key, c.node, report, err)
			}
		}
	}

	// Going on with what another node began.
	dir := t.TempDir()
	first, err := New(Config{Dir: dir, SigningKey: testKey(1), Node: "node-a", PartSize: 100})
	must(t, err)
	w := create(t, first, Header{Session: "left"})
	must(t, w.Output(make([]byte, 100)))
	eventually(t, "a part to be packed", func() bool { report, _ := first.Verify(w.Path()); return report.Parts > 0 })
	must(t, first.Close())
	index := readFile(t, filepath.Join(dir, filepath.FromSlash(w.place.index())))
	walked, err := walkIndex(bytes.NewReader(index), ring, func(partRecord) error { return nil })
	must(t, err)
	for key, want := range map[byte]error{1: nil, 2: ErrUnknownKey} {
		for pending, want := range map[bool]error{false: want, true: nil} { // a lost node's recording is sealed by another one, and says so
			line, _, err := signedLine(indexEntry{End: &endRecord{Parts: len(walked.parts), Bytes: walked.report.Proved, Packed: walked.packed, Pending: pending}}, walked.chain, testKey(key))
			must(t, err)
			_, err = walkIndex(bytes.NewReader(slices.Concat(index, line)), ring, func(partRecord) error { return nil })
			if !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("key %d, pending %v: %v, want %v", key, pending, err, want)
			}
		}
	}
}

func TestKeyFileNames(t *testing.T) {
	t.Parallel()
	key := Key{Public: testKey(1).Public().(ed25519.PublicKey), Nodes: []string{"n1", "n0"}}
	text, err := key.MarshalPEM()
	must(t, err)
	back, err := ParseKeyFile(text)
	if err != nil || len(back) != 1 || !slices.Equal(back[0].Nodes, key.Nodes) {
		t.Errorf("%s: %+v, %v", text, back, err)
	}
	// A key without its names would be any node's.
	for _, bad := range []string{"", " n", "n\nNode: m", "-----BEGIN PUBLIC KEY-----"} {
		key.Nodes = []string{bad}
		if text, err := key.MarshalPEM(); err == nil {
			t.Errorf("%q was written: %s", bad, text)
		}
	}
}
