package recorder

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
)

// sealed records something in several parts and returns where.
func sealed(t testing.TB, r *Recorder, session string) place {
	t.Helper()
	w := create(t, r, Header{Session: session})
	src := newStream("sealed", session)
	for range 12 {
		must(t, w.Output(src.chunk()[:1]))
		must(t, w.Stderr(bytes.Repeat([]byte("the same text again and again\r\n"), 20)))
	}
	closed(t, w)
	return w.place
}

// triple is the files in which a recording is kept or handed on.
type triple struct {
	packed, index, export []byte
}

func load(t testing.TB, r *Recorder, where place) triple {
	t.Helper()
	var export bytes.Buffer
	must(t, r.Export(&export, where.cast(), Asciicast3))
	return triple{readFile(t, fileOf(r, where.packed())), readFile(t, fileOf(r, where.index())), export.Bytes()}
}

// mutate changes one file in one way that an attacker or a disk may.
func mutate(src *rand.Rand, b, other []byte, spans [][2]int) ([]byte, string) {
	b = slices.Clone(b)
	at := src.IntN(len(b))
	n := 1 + src.IntN(min(200, len(b)-at))
	span := func() [2]int { return spans[src.IntN(len(spans))] }
	switch src.IntN(10) {
	case 0, 1, 2:
		bit := src.IntN(8)
		b[at] ^= 1 << bit
		return b, fmt.Sprintf("bit %d of byte %d turned", bit, at)
	case 3:
		return slices.Delete(b, at, at+n), fmt.Sprintf("%d bytes at %d removed", n, at)
	case 4:
		return slices.Insert(b, at, slices.Clone(b[at:at+n])...), fmt.Sprintf("%d bytes at %d repeated", n, at)
	case 5:
		return b[:at], fmt.Sprintf("cut at %d", at)
	case 6:
		s := span()
		return slices.Delete(b, s[0], s[1]), fmt.Sprintf("part %v removed", s)
	case 7:
		s, to := span(), span()
		return slices.Insert(b, to[0], slices.Clone(b[s[0]:s[1]])...), fmt.Sprintf("part %v repeated at %d", s, to[0])
	case 8:
		s, with := span(), span()
		if s[0] > with[0] {
			s, with = with, s
		}
		if s == with {
			return b, ""
		}
		return slices.Concat(b[:s[0]], b[with[0]:with[1]], b[s[1]:with[0]], b[s[0]:s[1]], b[with[1]:]), fmt.Sprintf("parts %v and %v swapped", s, with)
	}
	from := src.IntN(min(len(b), len(other)))
	to := from + src.IntN(min(len(b), len(other))-from) + 1
	return slices.Concat(b[:from], other[from:min(to, len(other))], b[min(to, len(b)):]), fmt.Sprintf("bytes %d to %d of another recording", from, to)
}

// lineSpans are the lines of a file.
func lineSpans(b []byte) [][2]int {
	var spans [][2]int
	for at := 0; at < len(b); {
		n := bytes.IndexByte(b[at:], '\n') + 1
		spans = append(spans, [2]int{at, at + n})
		at += n
	}
	return spans
}

// partSpans are the frames of a packed file.
func partSpans(t testing.TB, index []byte) [][2]int {
	t.Helper()
	var spans [][2]int
	for line := range bytes.Lines(index) {
		var e indexEntry
		must(t, json.Unmarshal(line, &e))
		if e.Part != nil {
			spans = append(spans, [2]int{int(e.Part.PackedOffset), int(e.Part.PackedOffset + e.Part.PackedLength)})
		}
	}
	return spans
}

// overwriter replaces the content of a file, if it is another, without making the file system bring it to the
// disk: truncating a file to nothing and closing it would.
func overwriter(t *testing.T, name string) func([]byte) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	var now []byte
	return func(content []byte) {
		if now != nil && bytes.Equal(now, content) {
			return
		}
		_, err := f.WriteAt(content, 0)
		must(t, errors.Join(err, f.Truncate(int64(len(content)))))
		now = append(make([]byte, 0, len(content)), content...)
	}
}

// TestMutations changes the files of a sealed recording in random ways: every one is found, in the
// folder, in the packed file taken away, and in the exported asciicast.
func TestMutations(t *testing.T) {
	t.Parallel()
	const rounds = 10_000
	r := newRecorder(t, func(c *Config) { c.PartSize = 1500 })
	where, another := sealed(t, r, "one"), sealed(t, r, "two")
	good, other := load(t, r, where), load(t, r, another)
	frames := partSpans(t, good.index)
	if len(frames) < 5 {
		t.Fatalf("only %d parts", len(frames))
	}
	keys := []ed25519.PublicKey{r.PublicKey()}
	away := t.TempDir()
	taken := filepath.Join(away, "x"+packedSuffix)
	exported := filepath.Join(away, "x.exported")
	put := map[string]func([]byte){}
	for _, name := range []string{taken, filepath.Join(away, "x"+indexSuffix), exported, fileOf(r, where.packed()), fileOf(r, where.index())} {
		put[name] = overwriter(t, name)
	}
	write := func(files triple) {
		put[taken](files.packed)
		put[filepath.Join(away, "x"+indexSuffix)](files.index)
		put[exported](files.export)
		put[fileOf(r, where.packed())](files.packed)
		put[fileOf(r, where.index())](files.index)
	}
	proved := func(report Report, err error) bool { return err == nil && report.Complete() && report.Session == "one" }
	verify := map[string]func() bool{
		"packed":   func() bool { return proved(VerifyFile(taken, keys)) },
		"exported": func() bool { return proved(VerifyFile(exported, keys)) },
		"folder":   func() bool { return proved(r.Verify(where.cast())) },
	}
	write(good)
	for name, ok := range verify {
		if !ok() {
			t.Fatalf("%s: what nobody altered is not proved", name)
		}
	}
	src := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		bad, what, touched := good, "", []string{"packed", "folder"}
		switch src.IntN(3) {
		case 0:
			bad.packed, what = mutate(src, good.packed, other.packed, frames)
		case 1:
			bad.index, what = mutate(src, good.index, other.index, lineSpans(good.index))
		case 2:
			bad.export, what = mutate(src, good.export, other.export, lineSpans(good.export))
			touched = []string{"exported"}
		}
		if bytes.Equal(slices.Concat(bad.packed, bad.index, bad.export), slices.Concat(good.packed, good.index, good.export)) {
			continue
		}
		write(bad)
		for _, name := range touched {
			if verify[name]() {
				t.Errorf("%s: not found: %s", name, what)
			}
		}
	}
	for name, bad := range map[string]triple{
		"packed file of another":   {other.packed, good.index, other.export},
		"index of another":         {good.packed, other.index, other.export},
		"both of another":          {other.packed, other.index, other.export},
		"an empty index":           {good.packed, nil, nil},
		"an empty packed file":     {nil, good.index, nil},
		"an index without its end": {good.packed, good.index[:lineSpans(good.index)[len(frames)+1][0]], nil},
	} {
		write(bad)
		for kind, ok := range verify {
			if ok() {
				t.Errorf("%s: not found: %s", kind, name)
			}
		}
	}
}

// TestEveryBit turns every single bit of a small recording, or one in eleven.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	stride := 11
	if long() {
		stride = 1
	}
	r := newRecorder(t, nil)
	w := create(t, r, Header{Session: "small"})
	must(t, w.Output([]byte("a\xff")))
	closed(t, w)
	good := load(t, r, w.place)
	dir := t.TempDir()
	keys := []ed25519.PublicKey{r.PublicKey()}
	packed, index, export := filepath.Join(dir, "x"+packedSuffix), filepath.Join(dir, "x"+indexSuffix), filepath.Join(dir, "x"+castSuffix)
	must(t, errors.Join(os.WriteFile(packed, good.packed, 0o600), os.WriteFile(index, good.index, 0o600)))
	for _, f := range []struct {
		name, verified string
		content        []byte
	}{{packed, packed, good.packed}, {index, packed, good.index}, {export, export, good.export}} {
		for bit := 0; bit < 8*len(f.content); bit += stride {
			bad := slices.Clone(f.content)
			bad[bit/8] ^= 1 << (bit % 8)
			must(t, os.WriteFile(f.name, bad, 0o600))
			if report, err := VerifyFile(f.verified, keys); err == nil && report.Complete() {
				t.Fatalf("%s: bit %d of byte %d %q turned and not found", f.name, bit%8, bit/8, f.content[bit/8])
			}
		}
		must(t, os.WriteFile(f.name, f.content, 0o600))
		if report, err := VerifyFile(f.verified, keys); err != nil || !report.Complete() {
			t.Errorf("%s: %+v, %v", f.name, report, err)
		}
	}
}

func TestVerifyWhileOpen(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, func(c *Config) { c.PartSize = 1000 })
	w := create(t, r, Header{})
	report, err := r.Verify(w.Path())
	if err != nil || report.Complete() || report.Proved != 0 || report.Bytes == 0 || report.Session != "01-test" {
		t.Errorf("before the first part: %+v, %v", report, err)
	}
	must(t, w.Output(bytes.Repeat([]byte("x"), 3000)))
	must(t, w.Output([]byte("and a tail")))
	eventually(t, "a part to be packed", func() bool {
		report, err = r.Verify(w.Path())
		must(t, err)
		return report.Parts == 1
	})
	if report.Complete() || report.Sealed || report.Proved < 3000 || report.Proved >= report.Bytes {
		t.Errorf("in the middle: %+v", report)
	}
	var export bytes.Buffer
	must(t, r.Export(&export, w.Path(), Asciicast3))
	file := filepath.Join(t.TempDir(), "live.cast")
	must(t, os.WriteFile(file, export.Bytes(), 0o600))
	if got, err := VerifyFile(file, []ed25519.PublicKey{r.PublicKey()}); err != nil || got.Complete() || got.Proved != report.Proved || got.Bytes != report.Bytes {
		t.Errorf("exported in the middle: %+v, %v", got, err)
	}
	sum := closed(t, w)
	if report, err = r.Verify(w.Path()); err != nil || !report.Complete() || report.Summary.SHA256 != sum.SHA256 || report.Node != "node-1" {
		t.Errorf("at the end: %+v, %v", report, err)
	}
}

// TestKeysRotate: what an older key signed stays good while that key is trusted, also when a newer
// key completed it.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	with := func(key byte, trusted ...byte) *Recorder {
		cfg := Config{Dir: dir, SigningKey: testKey(key), PartSize: 100}
		for _, k := range trusted {
			cfg.TrustedKeys = append(cfg.TrustedKeys, testKey(k).Public().(ed25519.PublicKey))
		}
		r, err := New(cfg)
		must(t, err)
		return r
	}
	first := with(1)
	done, left := create(t, first, Header{Session: "done"}), create(t, first, Header{Session: "left"})
	for _, w := range []*Recording{done, left} {
		must(t, w.Output(make([]byte, 100)))
	}
	closed(t, done)
	eventually(t, "a part to be packed", func() bool { report, _ := first.Verify(left.Path()); return report.Parts > 0 })
	must(t, first.Close())

	second := with(2, 1)
	recovered, err := second.Recover(t.Context(), nil)
	if err != nil || len(recovered) != 1 || recovered[0].Err != nil {
		t.Fatalf("recovered %+v, %v", recovered, err)
	}
	report, err := second.Verify(left.Path())
	if err != nil || !report.Complete() || !report.Recovered || len(report.Keys) != 2 ||
		report.Keys[0].ID != KeyID(first.PublicKey()) || report.Keys[1].ID != KeyID(second.PublicKey()) {
		t.Errorf("verify: %+v, %v", report, err)
	}
	must(t, second.Close())

	third := with(3, 2)
	defer third.Close()
	for _, w := range []*Recording{done, left} {
		if report, err := third.Verify(w.Path()); !errors.Is(err, ErrUnknownKey) || report.Proved != 0 {
			t.Errorf("without the first key: %+v, %v", report, err)
		}
	}
}

// TestForged: somebody who has the files and a key of his own cannot make them good.
func TestForged(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, func(c *Config) { c.SigningKey = testKey(9) })
	where := sealed(t, r, "one")
	if _, err := VerifyFile(fileOf(r, where.packed()), []ed25519.PublicKey{testKey(1).Public().(ed25519.PublicKey)}); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("got %v", err)
	}
	// The key's name is not the key.
	index := readFile(t, fileOf(r, where.index()))
	index = bytes.ReplaceAll(index, []byte(KeyID(r.PublicKey())), []byte(KeyID(testKey(1).Public().(ed25519.PublicKey))))
	must(t, os.WriteFile(fileOf(r, where.index()), index, 0o600))
	if _, err := VerifyFile(fileOf(r, where.packed()), []ed25519.PublicKey{testKey(1).Public().(ed25519.PublicKey)}); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

func TestVerifyFileSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lonely := filepath.Join(dir, "a.cast.zst")
	plain := filepath.Join(dir, "b.cast")
	must(t, errors.Join(os.WriteFile(lonely, []byte("x"), 0o600), os.WriteFile(plain, []byte("{}\n[0,\"o\",\"x\"]\n"), 0o600)))
	for _, file := range []string{lonely, plain} {
		if _, err := VerifyFile(file, nil); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), ".cast.index") {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := VerifyFile(filepath.Join(dir, "nothing.cast"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	var file []byte
	var want []ed25519.PublicKey
	for n := byte(1); n < 4; n++ {
		key := testKey(n).Public().(ed25519.PublicKey)
		block, err := MarshalKey(key)
		must(t, err)
		file = append(append(file, "# a comment\n"...), block...)
		want = append(want, key)
	}
	got, err := ParseKeys(file)
	must(t, err)
	if !slices.EqualFunc(got, want, func(a, b ed25519.PublicKey) bool { return a.Equal(b) }) {
		t.Errorf("got %v want %v", got, want)
	}
	for _, bad := range []string{"", "ssh-ed25519 AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		if _, err := ParseKeys([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"no key":        {Dir: t.TempDir()},
		"a short key":   {Dir: t.TempDir(), SigningKey: testKey(1)[:32]},
		"no folder":     {SigningKey: testKey(1)},
		"a large part":  {Dir: t.TempDir(), SigningKey: testKey(1), PartSize: maxPartSize + 1},
		"a file as dir": {Dir: os.Args[0], SigningKey: testKey(1)},
	} {
		if r, err := New(cfg); err == nil {
			t.Errorf("%s was accepted", name)
			r.Close()
		}
	}
}

// FuzzVerify: an exported recording is proved if and only if nobody altered it.
func FuzzVerify(f *testing.F) {
	clock := testenv.NewClock(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)) // the same file in every process
	r := newRecorder(f, func(c *Config) { c.PartSize = 300; c.Now = clock.Now })
	w := create(f, r, Header{Session: "fuzz"})
	for range 10 {
		must(f, w.Output([]byte("some output \xff\r\n")))
	}
	closed(f, w)
	good := load(f, r, w.place).export
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte("{}\n# sallyport {}\n"))
	f.Add([]byte("# sallyport {\"index\":1,\"session\":\"\",\"channel\":0,\"node\":\"\"}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		name := filepath.Join(t.TempDir(), "x.cast")
		must(t, os.WriteFile(name, content, 0o600))
		report, err := VerifyFile(name, []ed25519.PublicKey{r.PublicKey()})
		if proved := err == nil && report.Complete(); proved != bytes.Equal(content, good) {
			t.Fatalf("proved %v: %+v, %v", proved, report, err)
		}
	})
}
