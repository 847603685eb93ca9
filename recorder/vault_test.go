package recorder

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
)

// auditor makes a key, and a recorder that encrypts to it.
func auditor(t testing.TB) (*age.X25519Identity, func(*Config)) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	must(t, err)
	return id, func(c *Config) { c.Recipients, c.PartSize = []age.Recipient{id.Recipient()}, 3000 }
}

// decrypted returns the asciicast of a recording, from an export.
func decrypted(t testing.TB, r *Recorder, path string, ids ...age.Identity) []byte {
	t.Helper()
	var plain bytes.Buffer
	must(t, Decrypt(&plain, exportedArchive(t, r, path), ids...))
	return plain.Bytes()
}

func exportedArchive(t testing.TB, r *Recorder, path string) string {
	t.Helper()
	var archive bytes.Buffer
	must(t, r.Export(&archive, path, Encrypted))
	file := filepath.Join(t.TempDir(), "x.tar")
	must(t, os.WriteFile(file, archive.Bytes(), 0o600))
	return file
}

// dataIn is the bytes of output in an asciicast.
func dataIn(t testing.TB, cast []byte) []byte {
	t.Helper()
	reader, err := newReader(io.NopCloser(bytes.NewReader(cast)))
	must(t, err)
	all, err := allEvents(reader)
	must(t, err)
	return dataOf(all, "o")
}

// TestEncrypted: a recording to recipients holds every byte for them, at every moment, and not one readable byte
// for anybody else; the node says so; and it is proved without a key.
func TestEncrypted(t *testing.T) {
	t.Parallel()
	id, to := auditor(t)
	r := newRecorder(t, to)
	w := create(t, r, Header{Session: "01-test", Command: "SECRET command", Title: "SECRET title"})
	src := newStream("vault", "x")
	var want []byte
	out := func(p []byte) {
		must(t, w.Output(p))
		want = append(want, p...)
	}
	for range 80 {
		out(src.chunk()[:1])
		out([]byte("SECRET output, again and again\r\n"))
	}
	eventually(t, "a part to be packed", func() bool { report, _ := r.Verify(w.Path()); return report.Parts > 0 })
	out([]byte("the tail"))
	if got := dataIn(t, decrypted(t, r, w.Path(), id)); !bytes.Equal(got, want) {
		t.Errorf("while it is open: %d bytes, want %d", len(got), len(want))
	}
	report, err := r.Verify(w.Path())
	if err != nil || report.Complete() || !report.Encrypted || report.Proved == 0 || report.Bytes <= report.Proved {
		t.Errorf("open: %+v, %v", report, err)
	}
	refuses := func(when string) {
		t.Helper()
		if _, err := r.Open(w.Path()); !errors.Is(err, ErrEncrypted) {
			t.Errorf("%s: Open: %v", when, err)
		}
		if _, err := r.Follow(context.Background(), w.Path()); !errors.Is(err, ErrEncrypted) {
			t.Errorf("%s: Follow: %v", when, err)
		}
		for _, f := range []Format{Asciicast3, Asciicast2, Text, JSON} {
			var out bytes.Buffer
			if err := r.Export(&out, w.Path(), f); !errors.Is(err, ErrEncrypted) || out.Len() > 0 {
				t.Errorf("%s: Export %s: %v, %d bytes", when, f, err, out.Len())
			}
		}
		for _, file := range filesIn(t, r) {
			content := readFile(t, file)
			for _, word := range []string{"SECRET", "again", "command", "output"} {
				if bytes.Contains(content, []byte(word)) {
					t.Errorf("%s: %s holds %q", when, filepath.Base(file), word)
				}
			}
		}
	}
	refuses("open")
	sum := closed(t, w)
	refuses("sealed")
	if got := dataIn(t, decrypted(t, r, w.Path(), id)); !bytes.Equal(got, want) {
		t.Errorf("sealed: %d bytes, want %d", len(got), len(want))
	}
	if hash := sha256.Sum256(want); sum.SHA256 != hex.EncodeToString(hash[:]) {
		t.Errorf("sum of what passed: %s", sum.SHA256)
	}
	keys := []ed25519.PublicKey{r.PublicKey()}
	if report, err := r.Verify(w.Path()); err != nil || !report.Complete() || !report.Encrypted || report.Summary.Kept != int64(len(want)) {
		t.Errorf("sealed: %+v, %v", report, err)
	}
	archive := exportedArchive(t, r, w.Path())
	for _, file := range []string{archive, fileOf(r, w.place.packed())} {
		if report, err := VerifyFile(file, keys); err != nil || !report.Complete() || report.Session != "01-test" {
			t.Errorf("%s: %+v, %v", file, report, err)
		}
	}
	stranger, _ := auditor(t)
	var none bytes.Buffer
	if err := Decrypt(&none, archive, stranger); !errors.Is(err, ErrEncrypted) || none.Len() > 0 {
		t.Errorf("another key: %v, %d bytes", err, none.Len())
	}
	var text bytes.Buffer
	must(t, Convert(&text, io.NopCloser(bytes.NewReader(decrypted(t, r, w.Path(), id))), Text))
	if !strings.Contains(text.String(), "SECRET output") {
		t.Errorf("as text: %q", text.String()[:100])
	}
	// The program age does it, with nothing of ours: see docs/recordings.md.
	dir := t.TempDir()
	identity := filepath.Join(dir, "key")
	must(t, os.WriteFile(identity, []byte(id.String()+"\n"), 0o600))
	var cast []byte
	for line := range bytes.Lines(readFile(t, fileOf(r, w.place.index()))) {
		e, ok := partOf(line)
		if !ok {
			continue
		}
		packed := readFile(t, fileOf(r, w.place.packed()))[e.PackedOffset:][:e.PackedLength]
		cmd := exec.Command("sh", "-c", "age -d -i "+identity+" | zstd -dc")
		cmd.Stdin = bytes.NewReader(packed)
		out, err := cmd.Output()
		must(t, err)
		cast = append(cast, out...)
	}
	if !bytes.Equal(dataIn(t, cast), want) {
		t.Error("the program age reads something else")
	}
}

func filesIn(t testing.TB, r *Recorder) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.cfg.Dir, "*/*/*/*/*"))
	must(t, err)
	if len(files) == 0 {
		t.Error("no files")
	}
	return files
}

// TestEncryptedKilled kills a process that records to recipients, at random moments: every byte that it was told
// to have recorded can be read by them, in what lies there and in what a node without any key completes of it.
func TestEncryptedKilled(t *testing.T) {
	t.Parallel()
	rounds := 10
	if long() {
		rounds = 200
	}
	id, _ := auditor(t)
	dir := t.TempDir()
	check := func(r *Recorder, path, seed string, cast []byte, taken int) {
		t.Helper()
		where, err := parsePath(path)
		must(t, err)
		got := dataIn(t, cast)
		src := newStream(seed, where.session)
		var want []byte
		for len(want) < len(got) || len(want) < taken {
			want = append(want, src.chunk()...)
		}
		if len(got) < taken || !bytes.Equal(got, want[:len(got)]) {
			t.Errorf("%s: %d bytes were taken, %d can be read", path, taken, len(got))
		}
	}
	for round := range rounds {
		taken := killOne(t, dir, id.Recipient().String()+"/"+fmt.Sprint(round))
		r, err := New(Config{Dir: dir, SigningKey: testKey(1), Node: "killed"})
		must(t, err)
		for path, n := range taken {
			check(r, path, fmt.Sprint(round), decrypted(t, r, path, id), n)
		}
		recovered, err := r.Recover(t.Context(), nil)
		must(t, err)
		for _, one := range recovered {
			must(t, one.Err)
		}
		for path, n := range taken {
			check(r, path, fmt.Sprint(round), decrypted(t, r, path, id), n)
			if report, err := r.Verify(path); err != nil || !report.Complete() || !report.Encrypted {
				t.Errorf("verify: %+v, %v", report, err)
			}
		}
		if again, err := r.Recover(t.Context(), nil); err != nil || len(again) > 0 {
			t.Errorf("round %d: recovered again %+v, %v", round, again, err)
		}
		must(t, r.Close())
	}
}

// TestEncryptedMutations: whoever has no key finds every change by the signatures; whoever has one reads no byte
// that was not written, whatever was done to the files.
func TestEncryptedMutations(t *testing.T) {
	t.Parallel()
	id, to := auditor(t)
	r := newRecorder(t, to)
	make := func(session string) (triple, []byte, place) {
		w := create(t, r, Header{Session: session})
		src := newStream("sealed", session)
		var want []byte
		for range 12 {
			p := append(src.chunk(), session...)
			must(t, w.Output(p))
			want = append(want, p...)
		}
		closed(t, w)
		return triple{readFile(t, fileOf(r, w.place.packed())), readFile(t, fileOf(r, w.place.index())), readFile(t, exportedArchive(t, r, w.Path()))}, want, w.place
	}
	good, want, where := make("one")
	other, _, _ := make("two")
	frames := partSpans(t, good.index)
	keys := []ed25519.PublicKey{r.PublicKey()}
	file := filepath.Join(t.TempDir(), "x.tar")
	put := map[string]func([]byte){}
	for _, name := range []string{file, fileOf(r, where.packed()), fileOf(r, where.index())} {
		put[name] = overwriter(t, name)
	}
	put[fileOf(r, where.packed())](good.packed)
	put[fileOf(r, where.index())](good.index)
	reads := func(file string) bool { // something that was not written
		var cast bytes.Buffer
		_ = Decrypt(&cast, file, id)
		reader, err := newReader(io.NopCloser(bytes.NewReader(cast.Bytes())))
		if err != nil {
			return false
		}
		all, _ := allEvents(reader)
		return !bytes.HasPrefix(want, dataOf(all, "o"))
	}
	src := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		bad, what, verified := good, "", fileOf(r, where.packed())
		switch src.IntN(3) {
		case 0:
			bad.packed, what = mutate(src, good.packed, other.packed, frames)
		case 1:
			bad.index, what = mutate(src, good.index, other.index, lineSpans(good.index))
		case 2:
			at := src.IntN(len(good.export))
			bad.export = slices.Clone(good.export)
			bad.export[at] ^= 1 << src.IntN(8)
			what, verified = fmt.Sprintf("a bit of byte %d of the archive turned", at), file
		}
		if bytes.Equal(slices.Concat(bad.packed, bad.index, bad.export), slices.Concat(good.packed, good.index, good.export)) {
			continue
		}
		put[file](bad.export)
		put[fileOf(r, where.packed())](bad.packed)
		put[fileOf(r, where.index())](bad.index)
		report, err := VerifyFile(verified, keys)
		// Names, times and padding in an archive are not of the recording.
		if err == nil && report.Complete() && report.Session == "one" && verified != file {
			t.Errorf("not found: %s", what)
		}
		if err == nil && report.Complete() && reads(verified) {
			t.Errorf("proved, and another text: %s", what)
		}
	}
}

// TestDecryptsWhatIsProved: VerifyFile proves the signed parts of an encrypted recording, and Decrypt read the open file
// first if there was one. Whoever had the recipients' public keys could lay one of their own beside the parts, or into
// the archive: the recording was proved, and what the auditor read was forged.
func TestDecryptsWhatIsProved(t *testing.T) {
	t.Parallel()
	id, to := auditor(t)
	r := newRecorder(t, to)
	w := create(t, r, Header{Session: "one"})
	text := strings.Repeat("what was shown\r\n", 100)
	must(t, w.Output([]byte(text)))
	closed(t, w)
	v, err := newVault([]age.Recipient{id.Recipient()})
	must(t, err)
	forged := v.appendChunk(v.head, appendEvent([]byte(headerOfNothing), 0, codeOutput, []byte("forged\r\n")), 0)
	plainly := newRecorder(t, func(*Config) {})
	u := create(t, plainly, Header{Session: "one"})
	must(t, u.Output([]byte(text)))
	closed(t, u)

	read := func(what, file string, encrypted bool) {
		t.Helper()
		report, err := VerifyFile(file, []ed25519.PublicKey{r.PublicKey(), plainly.PublicKey()})
		proved := err == nil && report.Complete()
		var cast bytes.Buffer
		err = Decrypt(&cast, file, id)
		if proved && strings.Contains(cast.String(), "forged") {
			t.Errorf("%s: proved, and another text", what)
		}
		if encrypted && (err != nil || string(dataIn(t, cast.Bytes())) != text) {
			t.Errorf("%s: %v, decrypted %q", what, err, cast.Bytes())
		}
	}
	put := func(packed, index []byte) string {
		base := filepath.Join(t.TempDir(), "1")
		must(t, os.WriteFile(base+castSuffix, forged, 0o600))
		must(t, os.WriteFile(base+packedSuffix, packed, 0o600))
		must(t, os.WriteFile(base+indexSuffix, index, 0o600))
		return base + castSuffix
	}
	packed, index := readFile(t, fileOf(r, w.place.packed())), readFile(t, fileOf(r, w.place.index()))
	read("beside", put(packed, index), true)
	read("beside one that is not encrypted", put(readFile(t, fileOf(plainly, u.place.packed())), readFile(t, fileOf(plainly, u.place.index()))), false)

	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for _, f := range []struct {
		suffix string
		data   []byte
	}{{castSuffix, forged}, {packedSuffix, packed}, {indexSuffix, index}} {
		must(t, archive.WriteHeader(&tar.Header{Name: "one-1" + f.suffix, Mode: 0o600, Size: int64(len(f.data)), Format: tar.FormatUSTAR}))
		_, err := archive.Write(f.data)
		must(t, err)
	}
	must(t, archive.Close())
	file := filepath.Join(t.TempDir(), "x.tar")
	must(t, os.WriteFile(file, out.Bytes(), 0o600))
	read("in an archive", file, true)
}

// TestEncryptedTail: a chunk of the open file cannot be altered, moved or left out unseen by who reads it.
func TestEncryptedTail(t *testing.T) {
	t.Parallel()
	id, to := auditor(t)
	r := newRecorder(t, func(c *Config) { to(c); c.PartSize = maxPartSize })
	w := create(t, r, Header{})
	for i := range 5 {
		must(t, w.Output(fmt.Appendf(nil, "line %d\n", i)))
	}
	good := readFile(t, fileOf(r, w.Path()))
	head, err := readVaultHead(bytes.NewReader(good))
	must(t, err)
	var chunks []chunk
	_, _, err = walkVault(bytes.NewReader(good), int64(len(head)), 0, func(c chunk) error { chunks = append(chunks, c); return nil })
	must(t, err)
	if len(chunks) != 6 {
		t.Fatalf("%d chunks", len(chunks))
	}
	part := func(i int) []byte { return good[chunks[i].at : chunks[i].at+chunks[i].size] }
	file := filepath.Join(t.TempDir(), "x.cast")
	for name, bad := range map[string][]byte{
		"left out": slices.Concat(head, part(0), part(2), part(3)),
		"swapped":  slices.Concat(head, part(0), part(2), part(1)),
		"repeated": slices.Concat(head, part(0), part(1), part(1)),
		"altered":  slices.Concat(head, part(0), part(1)[:20], []byte{part(1)[20] ^ 1}, part(1)[21:]),
	} {
		must(t, os.WriteFile(file, bad, 0o600))
		if err := Decrypt(io.Discard, file, id); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, os.WriteFile(file, good[:len(good)-3], 0o600)) // half a chunk: nobody saw it
	var cast bytes.Buffer
	must(t, Decrypt(&cast, file, id))
	if got := string(dataIn(t, cast.Bytes())); got != "line 0\nline 1\nline 2\nline 3\n" {
		t.Errorf("torn: %q", got)
	}
	closed(t, w)
}

// TestEncryptedDiskFull: what cannot be written is cut off again, and what follows is another chunk.
func TestEncryptedDiskFull(t *testing.T) {
	t.Parallel()
	id, to := auditor(t)
	full := false
	r := newRecorder(t, func(c *Config) {
		to(c)
		c.testingFault = func(op, path string) error {
			if full && op == "write" && strings.HasSuffix(path, castSuffix) {
				return syscall.ENOSPC
			}
			return nil
		}
	})
	w := create(t, r, Header{})
	must(t, w.Output([]byte("before ")))
	w.mu.Lock()
	full = true
	w.mu.Unlock()
	if err := w.Output([]byte("lost")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	w.mu.Lock()
	full = false
	w.mu.Unlock()
	must(t, w.Gap(4, "the disk was full"))
	must(t, w.Output([]byte("after")))
	sum := closed(t, w)
	if got := string(dataIn(t, decrypted(t, r, w.Path(), id))); got != "before after" || sum.Lost != 4 {
		t.Errorf("%q, %+v", got, sum)
	}
}

// TestEncryptedMemory: what is packed is not held any more.
func TestEncryptedMemory(t *testing.T) {
	t.Parallel()
	_, to := auditor(t)
	r := newRecorder(t, func(c *Config) { to(c); c.PartAge = 10 * time.Millisecond })
	w := create(t, r, Header{})
	for range 50 {
		must(t, w.Output(bytes.Repeat([]byte("x"), 1000)))
	}
	eventually(t, "everything to be packed", func() bool {
		w.vault.mu.Lock()
		defer w.vault.mu.Unlock()
		return w.vault.plain == nil
	})
	closed(t, w)
}

// TestEncryptedWithoutUs: the program in docs/recordings.md reads what a process that died has left, and the part
// that another one has made of it.
func TestEncryptedWithoutUs(t *testing.T) {
	t.Parallel()
	id, to := auditor(t)
	dir := t.TempDir()
	page := readFile(t, "../docs/recordings.md")
	_, script, ok := strings.Cut(string(page), "```python\nimport struct")
	script, _, closed := strings.Cut(script, "```")
	if !ok || !closed {
		t.Fatal("no program in the page")
	}
	program, identity := filepath.Join(dir, "tail.py"), filepath.Join(dir, "key")
	must(t, errors.Join(os.WriteFile(program, []byte("import struct"+script), 0o600), os.WriteFile(identity, []byte(id.String()+"\n"), 0o600)))
	run := func(frame []byte, offset int64) []byte {
		file := filepath.Join(dir, "frame")
		must(t, os.WriteFile(file, frame, 0o600))
		cmd := exec.Command("/usr/bin/python3", program, file, identity, fmt.Sprint(offset))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		must(t, err)
		return out
	}
	first := newRecorder(t, to)
	w := create(t, first, Header{})
	must(t, w.Output(bytes.Repeat([]byte("packed "), 600)))
	eventually(t, "a part to be packed", func() bool { report, _ := first.Verify(w.Path()); return report.Parts > 0 })
	must(t, w.Output([]byte("the tail")))
	whole := run(readFile(t, fileOf(first, w.Path())), 0)
	if !strings.HasSuffix(string(dataIn(t, whole)), "packed the tail") {
		t.Errorf("the open file is %d bytes", len(whole))
	}
	must(t, first.Close())
	second := newRecorder(t, func(c *Config) { c.Dir = first.cfg.Dir })
	recovered, err := second.Recover(t.Context(), nil)
	if err != nil || len(recovered) != 1 || recovered[0].Err != nil {
		t.Fatalf("%+v, %v", recovered, err)
	}
	tails := 0
	for line := range bytes.Lines(readFile(t, fileOf(second, w.place.index()))) {
		if p, ok := partOf(line); ok && p.Sealed == sealedTail {
			tails++
			if got := run(readFile(t, fileOf(second, w.place.packed()))[p.PackedOffset:][:p.PackedLength], p.Offset); !bytes.HasSuffix(whole, got) || len(got) == 0 {
				t.Errorf("the tail is %q", got)
			}
		}
	}
	if tails != 1 {
		t.Errorf("%d tails", tails)
	}
}

// The archive in which an encrypted recording is handed on has headers, padding and an end that no hash covers: a name, a
// time or a word in between could be altered unseen. Each of its bytes is either proved or the only one that may stand there.
func TestEveryBitOfAnArchive(t *testing.T) {
	t.Parallel()
	_, to := auditor(t)
	r := newRecorder(t, func(c *Config) { to(c); c.PartSize = 700 })
	w := create(t, r, Header{Session: "one", Channel: 1})
	fillParts(t, w, "secret")
	closed(t, w)
	var out bytes.Buffer
	must(t, r.Export(&out, w.Path(), Encrypted))
	file := filepath.Join(t.TempDir(), "x.tar")
	put := overwriter(t, file)
	proved := func(content []byte) bool {
		put(content)
		report, err := VerifyFile(file, []ed25519.PublicKey{r.PublicKey()})
		return err == nil && report.Complete()
	}
	good := out.Bytes()
	if !proved(good) {
		t.Fatal("what nobody altered is not proved")
	}
	// All of what is no content, and some of what is.
	sizes := []int{len(readFile(t, fileOf(r, w.place.packed()))), len(readFile(t, fileOf(r, w.place.index())))}
	content := map[int]bool{}
	at := 0
	for _, n := range sizes {
		at += 512
		for i := range n {
			content[at+i] = true
		}
		at += (n + 511) / 512 * 512
	}
	for i := range good {
		if content[i] && i%97 != 0 {
			continue
		}
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if proved(bad) {
			t.Errorf("bit %d of byte %d (%q) turned and not found", i%8, i, good[i])
		}
	}
	second := 512 + (sizes[0]+511)/512*512
	for name, bad := range map[string][]byte{
		"cut":                good[:len(good)-512],
		"cut to its files":   good[:len(good)-1024],
		"longer by zeros":    append(slices.Clone(good), make([]byte, 512)...),
		"longer":             append(slices.Clone(good), 'x'),
		"the other way":      slices.Concat(good[second:len(good)-1024], good[:second], good[len(good)-1024:]),
		"a file twice":       slices.Concat(good[:second], good),
		"without the packed": good[second:],
		"empty":              make([]byte, 1024),
		"named as another":   bytes.ReplaceAll(good, []byte("one-1.cast"), []byte("two-1.cast")),
	} {
		if proved(bad) {
			t.Errorf("not found: %s", name)
		}
	}
	// A whole header of another name, with its sum.
	var renamed bytes.Buffer
	archive := tar.NewWriter(&renamed)
	at = 0
	for i, suffix := range []string{packedSuffix, indexSuffix} {
		must(t, archive.WriteHeader(archiveHeader("two-1"+suffix, int64(sizes[i]))))
		_, err := archive.Write(good[at+512 : at+512+sizes[i]])
		must(t, err)
		at = second
	}
	must(t, archive.Close())
	if proved(renamed.Bytes()) {
		t.Error("not found: the name of another session")
	}
}
