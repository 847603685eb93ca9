package radius_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	codec "layeh.com/radius"

	"sallyport/audit"
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
	for range 2 {
		p.silence("a request that ends in a panic", request)
	}
	const more = 300 // than may be in work
	for i := range more {
		other := access("alice", "000000")
		other.Identifier = request[1] + byte(i%100) + 2
		p.send(signed(other))
		if i == more/2 {
			w.counted("failed", more/2) // so that they are not too many at once
		}
	}
	w.counted("failed", more)
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
