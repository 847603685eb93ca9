package recorder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"crypto/ed25519"

	"sallyport/internal/testenv"
	"sallyport/recorder/blob"
)

// bucket opens a bucket of a running server, at another address if url is not empty.
func bucket(t testing.TB, s *testenv.S3, url, name string) *blob.S3 {
	t.Helper()
	if url == "" {
		url = s.URL
	}
	b, err := blob.NewS3(blob.S3Config{
		Endpoint: url, Bucket: name, Prefix: "rec", Region: "us-east-1", PathStyle: true, AccessKey: s.AccessKey, SecretKey: blob.Secret(s.SecretKey),
		Timeout: 30 * time.Second,
	})
	must(t, err)
	return b
}

// fillParts records text enough for several parts, and returns it.
func fillParts(t testing.TB, w *Recording, what string) []byte {
	t.Helper()
	var all []byte
	for i := range 60 {
		line := fmt.Appendf(nil, "%s: line %d of what was shown, \xc3\r\n", what, i)
		must(t, w.Output(line))
		all = append(all, line...)
	}
	return all
}

func stored(t testing.TB, r *Recorder, path string) {
	t.Helper()
	eventually(t, path+" in the store", func() bool {
		_, err := os.Stat(fileOf(r, path))
		return errors.Is(err, os.ErrNotExist)
	})
	eventually(t, "nothing to wait", func() bool { s, _ := r.Shipping(); return s.Recordings == 0 && s.Err == nil })
}

// TestStore brings a recording to a bucket while it is written, and reads, exports and verifies it
// from there on this node and on another one, open and sealed.
func TestStore(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	for _, name := range []string{server.Bucket, server.Locked} {
		var told atomic.Pointer[string]
		r := newRecorder(t, func(c *Config) {
			c.Store, c.PartSize = bucket(t, server, "", name), 700
			c.OnStored = func(path string) { told.Store(&path) }
		})
		other := newRecorder(t, func(c *Config) {
			c.Store, c.Node, c.SigningKey, c.TrustedKeys = bucket(t, server, "", name), "node-2", testKey(2), []ed25519.PublicKey{r.PublicKey()}
		})
		w := create(t, r, Header{})
		want := fillParts(t, w, "first")
		eventually(t, "closed parts in the store", func() bool {
			parts, err := other.Parts(t.Context(), w.Path())
			return err == nil && len(parts) >= 4
		})
		if got := dataOf(events(t, other, w.Path()), "o"); len(got) < 500 || !bytes.HasPrefix(want, got) {
			t.Errorf("another node reads %d bytes of the open recording", len(got))
		}
		if report, err := other.Verify(w.Path()); err != nil || report.Sealed || report.Complete() || report.Parts < 4 {
			t.Errorf("another node proves of the open recording: %+v, %v", report, err)
		}
		want = append(want, fillParts(t, w, "second")...)
		sum := closed(t, w)
		var local bytes.Buffer
		must(t, r.Export(&local, sum.Path, Asciicast3)) // here or already there
		stored(t, r, sum.Path)
		if path := told.Load(); path == nil || *path != sum.Path {
			t.Errorf("told of %v", path)
		}
		if left, err := filepath.Glob(fileOf(r, w.place.base) + "*"); err != nil || len(left) > 0 {
			t.Errorf("left on the node: %v, %v", left, err)
		}
		for _, r := range []*Recorder{r, other} {
			if got := dataOf(events(t, r, sum.Path), "o"); !bytes.Equal(got, want) {
				t.Errorf("%d bytes come back, not the %d that were recorded", len(got), len(want))
			}
			report, err := r.Verify(sum.Path)
			if err != nil || !report.Complete() || report.Root != sum.Root || report.Summary.Bytes != sum.Bytes {
				t.Errorf("verify: %+v, %v; summary %+v", report, err, sum)
			}
			var out bytes.Buffer
			must(t, r.Export(&out, sum.Path, Asciicast3))
			if !bytes.Equal(out.Bytes(), local.Bytes()) {
				t.Errorf("the export has %d bytes, the one before %d", out.Len(), local.Len())
			}
			checkParts(t, r, sum.Path, local.Bytes()[:sum.Bytes], false)
		}
		if _, err := other.Open("2026/01/01/nothing/1.cast"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a recording that is nowhere: %v", err)
		}
	}
}

// TestStoreDamaged alters objects in the bucket: each is found, and before the local copy has gone it
// is mended.
func TestStoreDamaged(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	r := newRecorder(t, func(c *Config) { c.Store, c.PartSize = bucket(t, server, "", server.Bucket), 700 })
	w := create(t, r, Header{})
	want := fillParts(t, w, "shown")
	first := filepath.Join(server.Dir, "rec", w.place.remotePart(1))
	eventually(t, "the first part", func() bool { s, _ := r.Shipping(); _, err := os.Stat(first); return err == nil && s.Recordings == 0 })
	damaged := readFile(t, first)
	damaged[len(damaged)/2] ^= 1
	overwrite(t, first, damaged)
	sum := closed(t, w)
	stored(t, r, sum.Path)
	if got := dataOf(events(t, r, sum.Path), "o"); !bytes.Equal(got, want) {
		t.Error("other bytes come back")
	}
	objects, err := r.cfg.Store.List(t.Context(), w.place.remoteBase())
	must(t, err)
	for _, o := range objects {
		file := filepath.Join(server.Dir, "rec", o.Key)
		right := readFile(t, file)
		for _, at := range []int{0, len(right) / 2, len(right) - 1} {
			wrong := bytes.Clone(right)
			wrong[at] ^= 1
			overwrite(t, file, wrong)
			if report, err := r.Verify(sum.Path); err == nil && report.Complete() {
				t.Errorf("byte %d of %s was altered: %+v", at, o.Key, report)
			}
		}
		must(t, os.Remove(file))
		if report, err := r.Verify(sum.Path); err == nil && report.Complete() {
			t.Errorf("%s was removed: %+v", o.Key, report)
		}
		overwrite(t, file, right)
	}
	must(t, os.Rename(filepath.Join(server.Dir, "rec", w.place.remotePart(2)), filepath.Join(server.Dir, "rec", w.place.remotePart(3))))
	if report, err := r.Verify(sum.Path); err == nil && report.Complete() {
		t.Errorf("parts were swapped: %+v", report)
	}
}

// bad stands between the recorder and the bucket, and is as bad as a test wants.
type bad struct {
	url  string
	mode atomic.Int32 // one of the constants below
	seen atomic.Int64 // requests
	wake func()       // ends the silence for those who ask already: their connections break
}

const (
	fine = iota
	refuses
	breaks // the connection in the middle of a body
	silent
	forgets // says yes, and writes nothing
)

func newBad(t *testing.T, s *testenv.S3) *bad {
	t.Helper()
	target, err := url.Parse(s.URL)
	must(t, err)
	b := &bad{}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	b.url = "http://" + l.Addr().String()
	released := make(chan struct{})
	b.wake = sync.OnceFunc(func() { close(released) })
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.seen.Add(1)
		switch b.mode.Load() {
		case refuses:
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>`)
		case breaks:
			_, _ = r.Body.Read(make([]byte, 100))
			panic(http.ErrAbortHandler)
		case silent:
			select {
			case <-released:
			case <-r.Context().Done():
			}
			panic(http.ErrAbortHandler)
		case forgets:
			if r.Method == http.MethodPut {
				w.Header().Set("ETag", `"00000000000000000000000000000000"`)
				return
			}
			forward.ServeHTTP(w, r)
		default:
			forward.ServeHTTP(w, r)
		}
	})}
	go srv.Serve(l)
	t.Cleanup(func() { b.wake(); srv.Close() })
	return b
}

// TestStoreAway lets the bucket fail in every way while recordings are written: no session waits,
// nothing leaves the node, and when the bucket is back all of it gets there.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	for name, mode := range map[string]int32{"refuses": refuses, "breaks": breaks, "silent": silent, "forgets": forgets} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBad(t, server)
			b.mode.Store(mode)
			r := newRecorder(t, func(c *Config) { c.Store, c.PartSize = bucket(t, server, b.url, server.Bucket), 700 })
			path, want := map[string][]byte{}, map[string][]byte{}
			begun := time.Now()
			for i := range 5 {
				w := create(t, r, Header{Session: fmt.Sprintf("%s-%d", name, i)})
				data := fillParts(t, w, name)
				sum := closed(t, w)
				want[sum.Path], path[sum.Path] = data, nil
			}
			if d := time.Since(begun); d > 20*time.Second { // a session that waits for a silent bucket takes longer
				t.Errorf("recording took %v", d)
			}
			eventually(t, "a request", func() bool { return b.seen.Load() > 3 })
			if mode != silent {
				eventually(t, "an error", func() bool { s, _ := r.Shipping(); return s.Failures > 0 && s.Err != nil })
			}
			if s, _ := r.Shipping(); s.Recordings != 5 || s.Bytes == 0 || s.Oldest.IsZero() {
				t.Errorf("waiting: %+v", s)
			}
			for p := range path {
				if report, err := r.Verify(p); err != nil || !report.Complete() || !r.Here(p) {
					t.Errorf("%s while the bucket is away: %+v, %v", p, report, err)
				}
			}
			b.mode.Store(fine)
			b.wake() // who is still kept waiting asks again
			for p, data := range want {
				stored(t, r, p)
				if got := dataOf(events(t, r, p), "o"); !bytes.Equal(got, data) {
					t.Errorf("%s: %d bytes come back", p, len(got))
				}
				if report, err := r.Verify(p); err != nil || !report.Complete() || r.Here(p) {
					t.Errorf("%s: %+v, %v", p, report, err)
				}
			}
		})
	}
}

// TestStoreRestart ends recorders in the middle of bringing things away, and the bucket's server too: a
// later recorder brings the rest.
func TestStoreRestart(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	dir := t.TempDir()
	want := map[string][]byte{}
	for i := range 6 {
		r, err := New(Config{Dir: dir, SigningKey: testKey(1), Store: bucket(t, server, "", server.Bucket), PartSize: 500, Sync: time.Millisecond})
		must(t, err)
		w := create(t, r, Header{Session: fmt.Sprintf("s-%d", i)})
		data := fillParts(t, w, "restart")
		if i == 2 {
			server.Stop()
		}
		if i == 4 {
			server.Start()
		}
		if i%2 == 0 {
			want[closed(t, w).Path] = data
		} else {
			want[w.place.packed()] = data // left open
		}
		must(t, r.Close())
		if i%2 == 1 {
			again, err := New(Config{Dir: dir, SigningKey: testKey(1)})
			must(t, err)
			if _, err := again.Recover(t.Context(), nil); err != nil {
				t.Error(err)
			}
			must(t, again.Close())
		}
	}
	r := newRecorder(t, func(c *Config) { c.Dir, c.Store = dir, bucket(t, server, "", server.Bucket) })
	for path, data := range want {
		stored(t, r, path)
		if got := dataOf(events(t, r, path), "o"); !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes come back of %d", path, len(got), len(data))
		}
	}
	// A process that died between removing the index and the packed file.
	for path := range want {
		must(t, os.MkdirAll(filepath.Dir(fileOf(r, path)), 0o700))
		overwrite(t, fileOf(r, path), []byte("left"))
		must(t, r.Close())
		r = newRecorder(t, func(c *Config) { c.Dir, c.Store = dir, bucket(t, server, "", server.Bucket) })
		stored(t, r, path)
		break
	}
}

// lostNode records on a node with a bucket, and ends it as a kill would, with parts in the store and
// more on the node. It returns what was shown.
func lostNode(t *testing.T, server *testenv.S3, dir string) (path string, shown []byte) {
	t.Helper()
	b := newBad(t, server)
	r, err := New(Config{Dir: dir, SigningKey: testKey(1), Node: "node-1", Store: bucket(t, server, b.url, server.Bucket), PartSize: 700, Sync: time.Millisecond})
	must(t, err)
	w := create(t, r, Header{Session: "lost"})
	shown = fillParts(t, w, "early")
	eventually(t, "parts in the store", func() bool {
		s, _ := r.Shipping()
		parts, err := r.listParts(t.Context(), w.place)
		stored, err2 := os.ReadDir(filepath.Join(server.Dir, "rec", w.place.base))
		return err == nil && err2 == nil && s.Recordings == 0 && len(stored) == len(parts)
	})
	b.mode.Store(refuses)
	shown = append(shown, fillParts(t, w, "late")...)
	must(t, w.pack())
	must(t, w.Output([]byte("the very end")))
	must(t, r.Close())
	return w.place.packed(), append(shown, "the very end"...)
}

// TestLostNode seals what has reached the store of a node that died. When it is back, the tail is
// added: one recording that both nodes have signed.
func TestLostNode(t *testing.T) {
	t.Parallel()
	for _, powerCut := range []bool{false, true} {
		server := testenv.S3Server(t)
		dir := t.TempDir()
		path, shown := lostNode(t, server, dir)
		where, err := parsePath(path)
		must(t, err)
		other := newRecorder(t, func(c *Config) {
			c.Store, c.Node, c.SigningKey, c.TrustedKeys = bucket(t, server, "", server.Bucket), "node-2", testKey(2), []ed25519.PublicKey{testKey(1).Public().(ed25519.PublicKey)}
		})
		if _, err := other.SealPending(t.Context(), "2026/01/01/nothing/1.cast"); !errors.Is(err, ErrNothingStored) {
			t.Errorf("sealing nothing: %v", err)
		}
		p, err := other.SealPending(t.Context(), path)
		must(t, err)
		if p.Sealed || len(p.Line) == 0 || p.Summary.Parts < 3 || p.Summary.Kept == 0 || p.Summary.Kept >= int64(len(shown)) {
			t.Errorf("sealed: %+v", p)
		}
		if got := dataOf(events(t, other, path), "o"); int64(len(got)) != p.Summary.Kept || !bytes.HasPrefix(shown, got) {
			t.Errorf("%d bytes are there, %+v", len(got), p.Summary)
		}
		report, err := other.Verify(path)
		if err != nil || !report.Sealed || !report.Pending || report.Complete() || report.Root != p.Summary.Root || len(report.Keys) != 2 {
			t.Errorf("verify of what is pending: %+v, %v", report, err)
		}
		exported := filepath.Join(t.TempDir(), "pending.cast")
		var out bytes.Buffer
		must(t, other.Export(&out, path, Asciicast3))
		overwrite(t, exported, out.Bytes())
		keys := []ed25519.PublicKey{testKey(1).Public().(ed25519.PublicKey), testKey(2).Public().(ed25519.PublicKey)}
		if report, err := VerifyFile(exported, keys); err != nil || report.Complete() || !report.Pending {
			t.Errorf("verify of the export of what is pending: %+v, %v", report, err)
		}

		if powerCut { // what was not synced is gone: the packed files, not the asciicast
			must(t, os.Truncate(filepath.Join(dir, where.index()), 0))
			must(t, os.Truncate(filepath.Join(dir, where.packed()), 10))
		}
		back := newRecorder(t, func(c *Config) {
			c.Dir, c.Store, c.TrustedKeys = dir, bucket(t, server, "", server.Bucket), []ed25519.PublicKey{other.PublicKey()}
			c.Pending = func(_ context.Context, session string, channel int) ([]byte, error) {
				if session != "lost" || channel != 0 {
					return nil, fmt.Errorf("asked for %s/%d", session, channel)
				}
				return p.Line, nil
			}
		})
		done, err := back.Recover(t.Context(), nil)
		if err != nil || len(done) != 1 || done[0].Err != nil {
			t.Fatalf("power cut %v: recovered %+v, %v", powerCut, done, err)
		}
		stored(t, back, path)
		for _, r := range []*Recorder{back, other} {
			if got := dataOf(events(t, r, path), "o"); !bytes.Equal(got, shown) {
				t.Errorf("power cut %v: %d bytes of %d", powerCut, len(got), len(shown))
			}
			report, err := r.Verify(path)
			if err != nil || !report.Complete() || report.Witnessed != p.Summary.Parts || report.Root != done[0].Summary.Root {
				t.Errorf("power cut %v: verify: %+v, %v", powerCut, report, err)
			}
		}
		out.Reset()
		must(t, back.Export(&out, path, Asciicast3))
		overwrite(t, exported, out.Bytes())
		if report, err := VerifyFile(exported, keys); err != nil || !report.Complete() || report.Witnessed == 0 {
			t.Errorf("verify of the export: %+v, %v", report, err)
		}
		if _, err := VerifyFile(exported, keys[:1]); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("without the key of the other node: %v", err)
		}
		mutateLines(t, exported, out.Bytes(), keys)
	}
}

// mutateLines alters each line of the proof at the end of an export: removed, doubled, swapped with the
// next one, and one character of it changed.
func mutateLines(t *testing.T, file string, export []byte, keys []ed25519.PublicKey) {
	t.Helper()
	begin := bytes.Index(export, []byte("\n"+proofPrefix)) + 1
	lines := strings.SplitAfter(strings.TrimSuffix(string(export[begin:]), "\n"), "\n")
	lines[len(lines)-1] += "\n"
	try := func(what string, lines ...string) {
		overwrite(t, file, append(bytes.Clone(export[:begin]), strings.Join(lines, "")...))
		if report, err := VerifyFile(file, keys); err == nil && report.Complete() {
			t.Errorf("%s: %+v", what, report)
		}
	}
	for i, line := range lines {
		rest := lines[i+1:]
		try(fmt.Sprintf("line %d removed", i), append(append([]string{}, lines[:i]...), rest...)...)
		try(fmt.Sprintf("line %d doubled", i), append(append(append([]string{}, lines[:i+1]...), line), rest...)...)
		if len(rest) > 0 {
			try(fmt.Sprintf("line %d swapped", i), append(append(append([]string{}, lines[:i]...), rest[0], line), rest[1:]...)...)
		}
		for at := len(proofPrefix); at < len(line)-1; at += 7 {
			b := []byte(line)
			b[at] ^= 1
			try(fmt.Sprintf("line %d, character %d", i, at), append(append(append([]string{}, lines[:i]...), string(b)), rest...)...)
		}
	}
}

// TestPendingOfAnother gives Recover the seal of another recording: it is left out and told of.
func TestPendingOfAnother(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	dir := t.TempDir()
	path, shown := lostNode(t, server, dir)
	_, chain, err := headLine(indexHead{Index: indexVersion, Session: "another"})
	must(t, err)
	end := endRecord{Parts: 1, Bytes: 1, Packed: 1, Pending: true}
	line, _, err := signedLine(indexEntry{End: &end}, chain, testKey(1))
	must(t, err)
	back := newRecorder(t, func(c *Config) {
		c.Dir = dir
		c.Pending = func(context.Context, string, int) ([]byte, error) { return bytes.TrimSpace(line), nil }
	})
	done, err := back.Recover(t.Context(), nil)
	if err != nil || len(done) != 1 || !errors.Is(done[0].Err, ErrDamaged) {
		t.Fatalf("recovered %+v, %v", done, err)
	}
	if got := dataOf(events(t, back, path), "o"); !bytes.Equal(got, shown) {
		t.Errorf("%d bytes of %d", len(got), len(shown))
	}
	if report, err := back.Verify(path); err != nil || !report.Complete() || report.Witnessed != 0 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// TestStoreEncrypted brings an encrypted recording to a bucket, seals it there for a node that was lost,
// and finishes it: no node can read it, all can prove it, and who has the key reads every byte.
func TestStoreEncrypted(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	id, encrypted := auditor(t)
	dir := t.TempDir()
	cfg := Config{Dir: dir, SigningKey: testKey(1), Node: "node-1", Store: bucket(t, server, "", server.Bucket), Sync: time.Millisecond}
	encrypted(&cfg)
	cfg.PartSize = 700
	dead, err := New(cfg)
	must(t, err)
	w, err := dead.Create(Header{Session: "lost"})
	must(t, err)
	want := fillParts(t, w, "secret")
	eventually(t, "parts in the store", func() bool {
		parts, err := dead.cfg.Store.List(t.Context(), w.place.remoteBase())
		s, _ := dead.Shipping()
		return err == nil && len(parts) > 4 && s.Recordings == 0
	})
	must(t, w.Output([]byte("the very end")))
	want = append(want, "the very end"...)
	must(t, dead.Close())
	path := w.place.packed()

	other := newRecorder(t, func(c *Config) {
		c.Store, c.Node, c.SigningKey, c.TrustedKeys = cfg.Store, "node-2", testKey(2), []ed25519.PublicKey{dead.PublicKey()}
	})
	p, err := other.SealPending(t.Context(), path)
	must(t, err)
	if report, err := other.Verify(path); err != nil || !report.Pending || !report.Encrypted || report.Complete() {
		t.Errorf("pending: %+v, %v", report, err)
	}
	if got := dataIn(t, decrypted(t, other, path, id)); len(got) == 0 || !bytes.HasPrefix(want, got) {
		t.Errorf("whoever has the key reads %d bytes of what is pending", len(got))
	}
	cfg.TrustedKeys = []ed25519.PublicKey{other.PublicKey()}
	cfg.Pending = func(context.Context, string, int) ([]byte, error) { return p.Line, nil }
	back := newRecorder(t, func(c *Config) { *c = cfg })
	done, err := back.Recover(t.Context(), nil)
	if err != nil || len(done) != 1 || done[0].Err != nil {
		t.Fatalf("recovered %+v, %v", done, err)
	}
	stored(t, back, path)
	for _, r := range []*Recorder{back, other} {
		if report, err := r.Verify(path); err != nil || !report.Complete() || report.Witnessed != p.Summary.Parts {
			t.Errorf("verify: %+v, %v", report, err)
		}
		if _, err := r.Open(path); !errors.Is(err, ErrEncrypted) {
			t.Errorf("a node reads it: %v", err)
		}
		parts, err := r.Parts(t.Context(), path)
		must(t, err)
		if _, err := r.ReadPart(t.Context(), path, parts[0]); !errors.Is(err, ErrEncrypted) {
			t.Errorf("a node reads a part: %v", err)
		}
		if got := dataIn(t, decrypted(t, r, path, id)); !bytes.Equal(got, want) {
			t.Errorf("whoever has the key reads %d bytes of %d", len(got), len(want))
		}
	}
	objects, err := cfg.Store.List(t.Context(), w.place.remoteBase())
	must(t, err)
	for _, o := range objects {
		if data, err := cfg.Store.GetRange(t.Context(), o.Key, 0, -1); err != nil || bytes.Contains(data, []byte("secret")) {
			t.Errorf("%s can be read in the store, %v", o.Key, err)
		}
	}
}

// TestDeleteWhileStored deletes recordings while they are on their way to the bucket: nothing of them is
// left there.
func TestDeleteWhileStored(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	r := newRecorder(t, func(c *Config) { c.Store, c.PartSize = bucket(t, server, "", server.Bucket), 300 })
	for i := range 10 {
		w := create(t, r, Header{Session: fmt.Sprintf("s-%d", i)})
		fillParts(t, w, "gone")
		if err := r.Delete(t.Context(), w.Path()); err == nil {
			t.Error("what is being written was deleted")
		}
		sum := closed(t, w)
		if _, err := os.Stat(filepath.Dir(fileOf(r, sum.Path))); err == nil {
			for _, beside := range []string{".damaged", ".made-of-it"} {
				overwrite(t, fileOf(r, w.place.cast()+beside), []byte("x"))
			}
		}
		must(t, r.Delete(t.Context(), sum.Path))
		if _, err := r.Open(sum.Path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it can be opened: %v", err)
		}
	}
	eventually(t, "nothing to wait", func() bool { s, _ := r.Shipping(); return s.Recordings == 0 })
	if left, err := r.cfg.Store.List(t.Context(), ""); err != nil || len(left) > 0 {
		t.Errorf("left in the bucket: %v, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(r.cfg.Dir, "*/*/*/*")); err != nil || len(left) > 0 {
		t.Errorf("left on the node: %v, %v", left, err)
	}
}

// TestNotLost goes on with a recording whose node was taken for lost, and was not: others see how it goes
// on, and its own end is the one that counts.
func TestNotLost(t *testing.T) {
	t.Parallel()
	server := testenv.S3Server(t)
	r := newRecorder(t, func(c *Config) { c.Store, c.PartSize = bucket(t, server, "", server.Bucket), 700 })
	other := newRecorder(t, func(c *Config) {
		c.Store, c.Node, c.SigningKey, c.TrustedKeys = bucket(t, server, "", server.Bucket), "node-2", testKey(2), []ed25519.PublicKey{r.PublicKey()}
	})
	w := create(t, r, Header{})
	want := fillParts(t, w, "before")
	eventually(t, "parts in the store", func() bool { parts, err := other.Parts(t.Context(), w.Path()); return err == nil && len(parts) > 2 })
	p, err := other.SealPending(t.Context(), w.Path())
	must(t, err)
	want = append(want, fillParts(t, w, "after")...)
	eventually(t, "more parts", func() bool {
		parts, err := other.Parts(t.Context(), w.Path())
		return err == nil && len(parts) > p.Summary.Parts+2
	})
	sum := closed(t, w)
	stored(t, r, sum.Path)
	if got := dataOf(events(t, other, sum.Path), "o"); !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d", len(got), len(want))
	}
	if report, err := other.Verify(sum.Path); err != nil || !report.Complete() || report.Root != sum.Root {
		t.Errorf("verify: %+v, %v", report, err)
	}
}
