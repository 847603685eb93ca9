package shift

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// queue is a Go channel that tells when there is something, as those of hack/patchssh do.
type queue struct {
	c chan int

	mu   sync.Mutex // guards the fields below
	f    func()
	over bool
}

func (q *queue) RequestsLater(f func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over || len(q.c) > 0 {
		return false
	}
	q.f = f
	return true
}

func (q *queue) tell(over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = over
	if f := q.f; f != nil {
		q.f = nil
		go f()
	}
}

func (q *queue) put(n int) {
	q.c <- n
	q.tell(false)
}

func (q *queue) close() {
	close(q.c)
	q.tell(true)
}

// TestEach: everything is taken once and in order, by one goroutine at a time, over comes last, and with a library that
// can tell there is no goroutine while nothing comes.
func TestEach(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(q *queue) Later{
		"published": func(*queue) Later { return Requests(struct{}{}) },
		"edited":    func(q *queue) Later { return Requests(q) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const total = 2000
				q := &queue{c: make(chan int, 4)}
				var at atomic.Int32
				taken, over := 0, false
				Each(q.c, later(q), func(n int) {
					if at.Add(1) != 1 || over || n != taken {
						t.Errorf("%d after %d, over: %v", n, taken, over)
					}
					taken++
					at.Add(-1)
				}, func() { over = true })
				for n := range total {
					q.put(n)
					if n%50 == 0 {
						synctest.Wait()
						if taken != n+1 {
							t.Fatalf("%d of %d were taken", taken, n+1)
						}
						q.mu.Lock()
						waits := q.f == nil
						q.mu.Unlock()
						if waits != (name == "published") {
							t.Fatalf("a goroutine waits: %v", waits)
						}
					}
				}
				q.close()
				synctest.Wait()
				if taken != total || !over {
					t.Errorf("%d of %d were taken, over: %v", taken, total, over)
				}
			})
		})
	}
}

// TestCall: what comes by other ways than those that tell is not left behind either, whenever it comes.
func TestCall(t *testing.T) {
	t.Parallel()
	const each, callers = 5000, 4
	q := &queue{c: make(chan int, 4)}
	sent := make(chan struct{})
	var waiting, running atomic.Int32
	taken, passed := 0, 0
	over := make(chan struct{})
	var l *Loop
	l = New(func() {
		if running.Add(1) != 1 {
			t.Error("two goroutines at once")
		}
		for {
			running.Add(-1)
			if l.Rests() {
				return
			}
			running.Add(1)
			select {
			case _, ok := <-q.c:
				if !ok {
					close(over)
					return
				}
				taken++
			case <-sent:
				waiting.Add(-1)
				passed++
			}
		}
	}, Requests(q), func(func()) bool { return waiting.Load() == 0 })
	l.Call()
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range each {
				waiting.Add(1)
				l.Call()
				sent <- struct{}{}
			}
		})
	}
	all.Go(func() {
		for n := range each {
			q.put(n)
		}
	})
	all.Wait()
	q.close()
	<-over
	if taken != each || passed != each*callers {
		t.Errorf("%d and %d", taken, passed)
	}
}
