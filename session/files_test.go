package session

import (
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/ledger"
	"sallyport/store"
)

// broken is a parser with a mistake in it.
type broken struct{ *ledger.SFTP }

func (broken) Client(time.Time, []byte) []byte { panic("index out of range") }

func newFiles(p parser) *files {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	f := &files{c: &channel{s: &Session{m: &Manager{cfg: Config{Log: quiet}}}}, p: p, keep: true, wake: make(chan struct{}, 1)}
	f.room = sync.NewCond(&f.mu)
	return f
}

// A mistake in a parser ends the ledger and says so; the bytes go on. Where a policy holds they do not.
func TestBrokenParser(t *testing.T) {
	t.Parallel()
	for _, guarded := range []bool{false, true} {
		f := newFiles(broken{ledger.NewSFTP(nil, "")})
		f.guarded = guarded
		out, ok := f.parse(f.p.Client, []byte("bytes"))
		if ok == guarded || !guarded && string(out) != "bytes" {
			t.Errorf("guarded %v: %q, %v", guarded, out, ok)
		}
		f.collect()
		if len(f.queue) != 1 || f.queue[0].Op != ledger.OpNote || !strings.Contains(f.queue[0].Detail, "an error of the bastion itself") {
			t.Errorf("ledger: %+v", f.queue)
		}
	}
}

// Lines are never dropped while the database is merely slow: whoever sends waits.
func TestFilesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := ledger.NewSFTP(nil, "")
		f := newFiles(p)
		f.queue = make([]store.Transfer, filesMost)
		p.Fail(time.Now(), "for a line")
		done := make(chan struct{})
		go func() { f.collect(); close(done) }()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("nothing waits")
		default:
		}
		f.mu.Lock()
		f.queue = nil
		f.room.Broadcast()
		f.mu.Unlock()
		<-done
		if len(f.queue) != 1 || f.lost != 0 {
			t.Errorf("%d lines, %d lost", len(f.queue), f.lost)
		}

		// With a database that does not answer, a session whose recording need not be complete goes on.
		f.queue, f.failed = make([]store.Transfer, filesMost), true
		q := ledger.NewSFTP(nil, "")
		f.p = q
		q.Fail(time.Now(), "for another line")
		f.collect()
		if len(f.queue) != filesMost || f.lost != 1 {
			t.Errorf("%d lines, %d lost", len(f.queue), f.lost)
		}
		// … and one whose recording is required loses none on its way out.
		f.c.grant.Required = true
		q = ledger.NewSFTP(nil, "")
		f.p = q
		q.Fail(time.Now(), "for a third line")
		f.collect()
		if len(f.queue) != filesMost+1 {
			t.Errorf("%d lines", len(f.queue))
		}
	})
}
