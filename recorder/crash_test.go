package recorder

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// The test binary is also the process that is killed, or that may write only so much.
const (
	childMode = "RECORDER_TEST_CHILD"
	childDir  = "RECORDER_TEST_DIR"
	childSeed = "RECORDER_TEST_SEED"
)

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(childMode) {
	case "":
		os.Exit(m.Run())
	case "record":
		err = recordForever(os.Getenv(childDir), os.Getenv(childSeed))
	case "file size":
		err = recordToLimit(os.Getenv(childDir))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func child(mode, dir, seed string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"="+mode, childDir+"="+dir, childSeed+"="+seed)
	cmd.Stderr = os.Stderr
	return cmd
}

// long tells whether the tests that take minutes are to be run whole.
func long() bool { return os.Getenv("SALLYPORT_LONG") != "" }

// stream is the bytes that a recording of a child is given: lines, runes cut anywhere, and rubbish.
type stream struct{ src *rand.Rand }

func newStream(seed, session string) *stream {
	var key [32]byte
	copy(key[:], seed+"/"+session)
	return &stream{rand.New(rand.NewChaCha8(key))}
}

func (s *stream) chunk() []byte {
	b := make([]byte, 1+s.src.IntN(2000))
	if s.src.IntN(30) == 0 {
		b = make([]byte, 150_000)
	}
	kind := s.src.IntN(3)
	for i := range b {
		switch kind {
		case 0:
			b[i] = "a€b\r\n"[i%7]
		case 1:
			b[i] = byte(s.src.Uint32())
		case 2:
			b[i] = byte('a' + i%26)
		}
	}
	return b
}

// recordForever records one session after another and says after every Output what was taken.
func recordForever(dir, seed string) error {
	cfg := Config{Dir: dir, SigningKey: testKey(1), Node: "killed", Sync: 3 * time.Millisecond, PartSize: 20_000, PartAge: 10 * time.Millisecond}
	if recipient, rest, encrypted := strings.Cut(seed, "/"); encrypted {
		to, err := age.ParseRecipients(strings.NewReader(recipient))
		if err != nil {
			return err
		}
		seed, cfg.Recipients = rest, to
	}
	r, err := New(cfg)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		session := fmt.Sprintf("%s-%d", seed, n)
		w, err := r.Create(Header{Session: session})
		if err != nil {
			return err
		}
		src, taken := newStream(seed, session), 0
		for range 20 {
			chunk := src.chunk()
			if err := w.Output(chunk); err != nil {
				return err
			}
			taken += len(chunk)
			if _, err := fmt.Printf("%s %d\n", w.Path(), taken); err != nil {
				return err
			}
		}
		if _, err := w.Close(); err != nil {
			return err
		}
	}
}

// TestKilled kills a process that records, at random moments: every byte that it was told to have
// recorded is in the recordings, which are completed and proved.
func TestKilled(t *testing.T) {
	t.Parallel()
	rounds := 20
	if long() {
		rounds = 200
	}
	dir := t.TempDir()
	torn := 0
	for round := range rounds {
		taken := killOne(t, dir, fmt.Sprint(round))
		r, err := New(Config{Dir: dir, SigningKey: testKey(1), Node: "killed"})
		must(t, err)
		recovered, err := r.Recover(t.Context(), nil)
		must(t, err)
		if len(recovered) > 1 {
			t.Errorf("round %d: recovered %+v", round, recovered)
		}
		for _, one := range recovered {
			must(t, one.Err)
			if one.Torn > 0 {
				torn++
			}
		}
		for path, bytes := range taken {
			checkTaken(t, r, path, fmt.Sprint(round), bytes)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*/*/*/*/*"+castSuffix)); err != nil || len(left) > 0 {
			t.Errorf("round %d: left %v, %v", round, left, err)
		}
		if again, err := r.Recover(t.Context(), nil); err != nil || len(again) > 0 {
			t.Errorf("round %d: recovered again %+v, %v", round, again, err)
		}
		must(t, r.Close())
	}
	t.Logf("%d of %d had half an event at the end", torn, rounds)
}

// killOne runs the child, kills it some time after its first report, and returns how many bytes of
// which recording were reported as taken.
func killOne(t *testing.T, dir, seed string) map[string]int {
	cmd := child("record", dir, seed)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	taken := map[string]int{}
	lines := bufio.NewScanner(out)
	var timer *time.Timer
	for lines.Scan() {
		var path string
		var n int
		if _, err := fmt.Sscan(lines.Text(), &path, &n); err == nil {
			taken[path] = n
		}
		if timer == nil {
			timer = time.AfterFunc(time.Duration(rand.Int64N(int64(40*time.Millisecond))), func() { cmd.Process.Kill() })
		}
	}
	if err := cmd.Wait(); timer == nil || err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended with %v", err)
	}
	return taken
}

// checkTaken compares a recording with what its child recorded in it.
func checkTaken(t *testing.T, r *Recorder, path, seed string, taken int) {
	t.Helper()
	where, err := parsePath(path)
	must(t, err)
	got := dataOf(events(t, r, path), "o")
	src := newStream(seed, where.session)
	var want []byte
	for len(want) < len(got) || len(want) < taken {
		want = append(want, src.chunk()...)
	}
	if len(got) < taken || !bytes.Equal(got, want[:len(got)]) {
		t.Errorf("%s: %d bytes were taken, %d are recorded, the same: %v", path, taken, len(got), bytes.HasPrefix(want, got))
	}
	if report, err := r.Verify(path); err != nil || !report.Complete() {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// fill records until the disk is full, and returns what was taken.
func fill(t testing.TB, w *Recording) []byte {
	t.Helper()
	src := newStream("fill", "")
	var taken []byte
	for {
		chunk := src.chunk()
		begun := time.Now()
		if err := w.Output(chunk); err != nil {
			if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EFBIG) {
				t.Fatalf("the error is %v", err)
			}
			if d := time.Since(begun); d > 30*time.Second {
				t.Errorf("it took %v", d)
			}
			return append(taken, chunk[:int64(len(chunk))-lost(w)]...)
		}
		taken = append(taken, chunk...)
	}
}

func lost(w *Recording) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sum.Lost
}

// TestDiskFull fills a small file system. Where none may be mounted, TestFileSizeLimit has to do.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Logf("mounting is not permitted here: %v", err)
		return
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o600))

	r := newRecorder(t, func(c *Config) { c.Dir = dir; c.Reserve = 512 << 10; c.PartSize = maxPartSize }) // so that all is packed at the end
	hard, soft := create(t, r, Header{}), create(t, r, Header{Channel: 1})
	must(t, soft.Output([]byte("before ")))
	taken := fill(t, hard)
	if err := soft.Output(bytes.Repeat([]byte("lost"), 20_000)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the other recording: %v", err)
	}
	for _, w := range []*Recording{hard, soft} {
		select {
		case <-w.Failed():
		default:
			t.Error("Failed is not closed")
		}
		checkCast(t, fileOf(r, w.Path()))
	}
	if got := dataOf(events(t, r, hard.Path()), "o"); !bytes.Equal(got, taken) {
		t.Errorf("%d bytes were taken, %d other ones recorded", len(taken), len(got))
	}
	if _, err := r.Create(Header{Session: "b"}); !errors.Is(err, ErrReserve) {
		t.Errorf("a recording was begun: %v", err)
	}
	rest := filepath.Join(dir, "rest") // takes what the last, torn event has left
	if err := os.WriteFile(rest, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("there was room left: %v", err)
	}
	if _, err := hard.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("sealing without space: %v", err)
	}

	must(t, os.Remove(ballast))
	must(t, os.Remove(rest))
	must(t, soft.Gap(80_000, "disk full"))
	must(t, soft.Output([]byte("after")))
	sum := closed(t, soft)
	if got := dataOf(events(t, r, sum.Path), "o"); string(got) != "before "+strings.Repeat("lost", (len(got)-12)/4)+"after" || sum.Lost == 0 || sum.Kept != int64(len(got)) {
		t.Errorf("recorded %d bytes, %+v", len(got), sum)
	}
	recovered, err := r.Recover(t.Context(), nil)
	if err != nil || len(recovered) != 1 || recovered[0].Err != nil || recovered[0].Summary.Kept != int64(len(taken)) {
		t.Fatalf("recovered %+v, %v", recovered, err)
	}
	if got := dataOf(events(t, r, hard.Path()), "o"); !bytes.Equal(got, taken) {
		t.Errorf("%d bytes were taken, %d other ones recovered", len(taken), len(got))
	}
	if report, err := r.Verify(hard.Path()); err != nil || !report.Complete() {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// recordToLimit records with a limit on the size of files: then a write(2) writes a part of an
// event before it fails.
func recordToLimit(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 300_000, Max: 300_000}); err != nil {
		return err
	}
	r, err := New(Config{Dir: dir, SigningKey: testKey(1)})
	if err != nil {
		return err
	}
	w, err := r.Create(Header{Session: "a"})
	if err != nil {
		return err
	}
	taken := 0
	for {
		err := w.Output(bytes.Repeat([]byte("0123456789"), 1001))
		if err != nil {
			<-w.Failed()
			fmt.Println(w.Path(), int64(taken+10_010)-lost(w), errors.Is(err, syscall.EFBIG))
			os.Exit(0)
		}
		taken += 10_010
	}
}

func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, err := child("file size", dir, "").Output()
	must(t, err)
	var path string
	var taken int
	var tooBig bool
	if _, err := fmt.Sscan(string(out), &path, &taken, &tooBig); err != nil || !tooBig || taken == 0 {
		t.Fatalf("the child said %q", out)
	}
	checkCast(t, filepath.Join(dir, path))
	r := newRecorder(t, func(c *Config) { c.Dir = dir })
	if got := len(dataOf(events(t, r, path), "o")); got != taken {
		t.Errorf("%d bytes were taken, %d are recorded", taken, got)
	}
	recovered, err := r.Recover(t.Context(), nil)
	if err != nil || len(recovered) != 1 || recovered[0].Err != nil || recovered[0].Torn != 0 {
		t.Errorf("recovered %+v, %v", recovered, err)
	}
}
