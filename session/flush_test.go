package session

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// What waits for the database is written once each, although a node that stops writes it at the same time as the
// clock does. The second of two took away what neither had written, or ended the program.
func TestFlushInParallel(t *testing.T) {
	t.Parallel()
	m := &Manager{cfg: Config{Log: slog.New(slog.DiscardHandler)}}
	var written [1000]atomic.Int32
	for i := range written {
		m.pending = append(m.pending, func(context.Context) error {
			runtime.Gosched()
			written[i].Add(1)
			return nil
		})
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := m.flush(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range written {
		if n := written[i].Load(); n != 1 {
			t.Fatalf("%d was written %d times", i, n)
		}
	}
}
