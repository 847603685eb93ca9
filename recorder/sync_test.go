package recorder

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var errInjected = errors.New("injected")

// TestSyncErrorEndsIdleRecording: the disk refuses what was written, and nobody writes any more.
func TestSyncErrorEndsIdleRecording(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	var told atomic.Value
	r := newRecorder(t, func(c *Config) {
		c.testingFault = func(op, path string) error {
			if op == "fdatasync" && broken.Load() && strings.HasSuffix(path, "/0.cast") {
				return errInjected
			}
			return nil
		}
		c.OnError = func(path string, err error) { told.Store(path) }
	})
	bad, good := create(t, r, Header{}), create(t, r, Header{Channel: 1})
	called := make(chan struct{})
	bad.OnFail(func() { close(called) })
	eventually(t, "the sync of the first line", func() bool { // else it fails before there is any output
		bad.mu.Lock()
		defer bad.mu.Unlock()
		return bad.dirtySince == clean && bad.syncingSince == clean
	})
	broken.Store(true)
	must(t, bad.Output([]byte("seen")))
	must(t, good.Output([]byte("seen")))
	select {
	case <-bad.Failed():
	case <-time.After(time.Minute):
		t.Fatal("the session would go on")
	}
	<-called
	late := make(chan struct{})
	bad.OnFail(func() { close(late) })
	<-late
	if err := bad.Err(); !errors.Is(err, errInjected) {
		t.Errorf("Err: %v", err)
	}
	if err := bad.Output([]byte("lost")); !errors.Is(err, errInjected) {
		t.Errorf("Output after the error: %v", err)
	}
	eventually(t, "OnError", func() bool { return told.Load() == bad.Path() })
	if err := good.Err(); err != nil {
		t.Errorf("the other recording: %v", err)
	}

	broken.Store(false)
	must(t, bad.Gap(4, "the disk was away"))
	must(t, bad.Output([]byte(" seen again")))
	sum := closed(t, bad)
	if sum.Lost != 4 || sum.Counted != 4+4+11 || sum.Kept != 4+11 {
		t.Errorf("summary %+v", sum)
	}
	all := events(t, r, sum.Path)
	if got := string(dataOf(all, "o")); got != "seen seen again" || all[1].Code != CodeGap || all[1].Text != "4 the disk was away" {
		t.Errorf("recorded %+v", all)
	}
	if err := bad.Err(); !errors.Is(err, errInjected) {
		t.Errorf("the first error is forgotten: %v", err)
	}
	closed(t, good)
}

// TestSlowDiskPushesBack: while a sync hangs, output is taken for two and a half sync periods and
// then waits; nothing is dropped.
func TestSlowDiskPushesBack(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newRecorder(t, func(c *Config) {
		c.Sync = 400 * time.Millisecond // of a busy machine: something has to be written in a second
		c.testingFault = func(op, path string) error {
			if op == "fdatasync" {
				<-release
			}
			return nil
		}
	})
	w := create(t, r, Header{})
	var written, waiting atomic.Int64
	var stopped atomic.Bool
	done := make(chan error, 1)
	go func() {
		for !stopped.Load() {
			waiting.Store(time.Now().UnixNano())
			if err := w.Output([]byte("0123456789")); err != nil {
				done <- err
				return
			}
			written.Add(10)
		}
		done <- nil
	}()
	eventually(t, "the writer to be stopped", func() bool {
		since := waiting.Load()
		return since != 0 && time.Since(time.Unix(0, since)) > 200*time.Millisecond
	})
	if written.Load() == 0 {
		t.Error("nothing was taken before")
	}
	stopped.Store(true)
	close(release)
	must(t, <-done)
	if sum := closed(t, w); sum.Lost != 0 || sum.Kept != written.Load() {
		t.Errorf("%d bytes written, %+v", written.Load(), sum)
	}
}

// TestSyncTogether: many recordings are synced with one call, and if that fails each for itself.
func TestSyncTogether(t *testing.T) {
	t.Parallel()
	for _, together := range []bool{true, false} {
		t.Run(fmt.Sprint(together), func(t *testing.T) {
			t.Parallel()
			var all, each atomic.Int32
			hangs, goOn := make(chan struct{}), make(chan struct{})
			r := newRecorder(t, func(c *Config) {
				c.testingFault = func(op, path string) error {
					switch op {
					case "syncfs":
						all.Add(1)
						if !together {
							return errInjected
						}
					case "fdatasync":
						if each.Add(1) == 1 {
							close(hangs)
							<-goOn
						}
					}
					return nil
				}
			})
			// While the sync of the first one hangs the others are written, so that the next sync is of all of them.
			// What is written of each is how it begins.
			ws := []*Recording{create(t, r, Header{})}
			<-hangs
			for i := range 2 * syncTogether {
				ws = append(ws, create(t, r, Header{Channel: i + 1}))
			}
			close(goOn)
			for _, w := range ws {
				eventually(t, "the sync", func() bool {
					w.mu.Lock()
					defer w.mu.Unlock()
					return w.dirtySince == clean && w.syncingSince == clean && w.placed.Load()
				})
			}
			want := int32(len(ws))
			if together {
				want = 1
			}
			if all.Load() != 1 || each.Load() != want {
				t.Errorf("%d calls for all, %d for each, where 1 and %d are right", all.Load(), each.Load(), want)
			}
			var group sync.WaitGroup
			for _, w := range ws {
				group.Go(func() {
					if _, err := w.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if err := errors.Join(ws[0].Err(), ws[len(ws)-1].Err()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPackingErrorLosesNothing: while parts cannot be packed the asciicast has it all, and Close
// packs what is left.
func TestPackingErrorLosesNothing(t *testing.T) {
	t.Parallel()
	var broken, told atomic.Bool
	broken.Store(true)
	r := newRecorder(t, func(c *Config) {
		c.PartSize = 100
		c.testingFault = func(op, path string) error {
			if broken.Load() && strings.HasSuffix(path, packedSuffix) {
				return errInjected
			}
			return nil
		}
		c.OnError = func(string, error) { told.Store(true) }
	})
	w := create(t, r, Header{})
	for range 100 {
		must(t, w.Output([]byte("0123456789")))
	}
	eventually(t, "OnError", told.Load)
	if err := w.Err(); err != nil {
		t.Errorf("the recording failed: %v", err)
	}
	broken.Store(false)
	sum := closed(t, w)
	report, err := r.Verify(sum.Path)
	if err != nil || !report.Complete() || report.Parts < 10 || sum.Kept != 1000 {
		t.Errorf("verify: %+v, %v; %+v", report, err, sum)
	}
}

// TestPanicEndsTheRecording: not the server, and not only the recording of it.
func TestPanicEndsTheRecording(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	r := newRecorder(t, func(c *Config) {
		c.PartSize = 100
		c.testingFault = func(op, path string) error {
			if broken.Load() && strings.HasSuffix(path, packedSuffix) {
				panic("boo")
			}
			return nil
		}
	})
	w := create(t, r, Header{})
	broken.Store(true)
	must(t, w.Output(make([]byte, 100)))
	select {
	case <-w.Failed():
	case <-time.After(time.Minute):
		t.Fatal("the session would go on")
	}
	broken.Store(false)
	if err := w.Err(); err == nil || !strings.Contains(err.Error(), "boo") {
		t.Errorf("Err: %v", err)
	}
	closed(t, w)
}

// TestCloseRecorderFirst: recordings still open stay on the disk for Recover.
func TestCloseRecorderFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, err := New(Config{Dir: dir, SigningKey: testKey(1)})
	must(t, err)
	w := create(t, r, Header{})
	must(t, w.Output([]byte("seen")))
	reader, err := r.Follow(t.Context(), w.Path())
	must(t, err)
	defer reader.Close()
	must(t, r.Close())
	must(t, r.Close())
	if err := w.Output([]byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("output: %v", err)
	}
	<-w.Failed()
	if _, err := w.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("close: %v", err)
	}
	if _, err := r.Create(Header{Session: "b"}); err == nil {
		t.Error("a recording was created after Close")
	}
	if all, err := allEvents(reader); err != nil || string(dataOf(all, "o")) != "seen" {
		t.Errorf("the follower got %v, %v", all, err)
	}
	again := newRecorder(t, func(c *Config) { c.Dir = dir })
	if done, err := again.Recover(t.Context(), nil); err != nil || len(done) != 1 || done[0].Err != nil || done[0].Summary.Kept != 4 {
		t.Errorf("recover: %+v, %v", done, err)
	}
}
