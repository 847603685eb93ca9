package radius_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	codec "layeh.com/radius"

	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// A fault in the work on a request ends that request, without an answer, and nothing else: its place among those in
// work is free again, and the same request is evaluated when it comes once more.
func TestPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	alice := w.person("alice")
	var broken atomic.Bool
	w.clock = func() time.Time {
		if broken.Load() {
			panic("a clock that stands\x1b[2J")
		}
		return time.Now()
	}
	n := w.node()
	p := n.peer(t)
	request := signed(access("alice", alice.code()))
	broken.Store(true)
	// An event is the last that is done about such a request; its place is free then.
	ended := func(n int) {
		t.Helper()
		testenv.WaitFor(t, fmt.Sprintf("%d requests to end", n), func() bool {
			events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginRefused, Result: string(audit.Error), Limit: n})
			check(t, err)
			return len(events) == n
		})
	}
	const before = 2
	for i := range before {
		p.silence("a request that ends in a panic", request)
		ended(i + 1) // or the next one is taken for one that is in work
	}
	const more = 300 // than may be in work
	for i := range more {
		other := access("alice", "000000")
		other.Identifier = request[1] + byte(i%100) + 2
		p.send(signed(other))
		if i%100 == 99 {
			ended(before + i + 1) // so that they are not too many at once
		}
	}
	w.counted("failed", before+more)
	broken.Store(false)
	if got := p.ask(request); got.Code != codec.CodeAccessAccept {
		t.Errorf("the same request, once the fault is gone: %v", got.Code)
	}
	events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.LoginRefused})
	check(t, err)
	if len(events) == 0 || events[0].Result != audit.Error || events[0].User != "alice" || events[0].Target != "vpn" || !strings.Contains(events[0].Reason, "did not answer") {
		t.Errorf("events %+v", events)
	}
}
