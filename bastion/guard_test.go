package bastion

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// closer notes that it was closed.
type closer chan struct{}

func (c closer) Close() error { close(c); return nil }

func from(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

// When all places are taken by connections that never finish key exchange, a new one takes the place of
// the oldest of them; connections whose people are at a prompt are not touched.
func TestGateEvictsTheSilent(t *testing.T) {
	t.Parallel()
	gate := newGate(Guard{Total: 8}.withDefaults())
	typing := closer(make(chan struct{}))
	p, err := gate.enter(from(0), typing)
	if err != nil {
		t.Fatal(err)
	}
	p.exchanged()
	// Fill every place. Early drop is random, and needs somebody at key exchange to make room.
	var silent []closer
	for i := 1; gate.total < 8; i++ {
		c := make(closer)
		if _, err := gate.enter(from(i), c); err == nil {
			silent = append(silent, c)
		}
	}
	for i := range 5 {
		p, err := gate.enter(from(1000+i), make(closer))
		if err != nil {
			t.Fatalf("a person behind silent connections: %v", err)
		}
		p.exchanged() // as a client that means it does in a moment
		p.leave()
	}
	evicted := 0
	for _, c := range silent {
		select {
		case <-c:
			evicted++
		case <-time.After(50 * time.Millisecond):
		}
	}
	if evicted == 0 {
		t.Error("nobody was cut")
	}
	select {
	case <-typing:
		t.Error("somebody at a prompt was cut")
	default:
	}
	if gate.total < 1 || gate.total > 8 {
		t.Errorf("%d places are taken", gate.total)
	}
}

// Places are handed over in the order of arrival, given back once, and given up after the wait.
func TestGateQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := newGate(Guard{PerSource: 1, Queue: time.Second}.withDefaults())
		first, err := gate.enter(from(1), make(closer))
		if err != nil {
			t.Fatal(err)
		}
		order := make(chan int, 2)
		for i := range 2 {
			go func() {
				time.Sleep(time.Duration(i+1) * time.Millisecond)
				p, err := gate.enter(from(1), make(closer))
				if err != nil {
					order <- -1
					return
				}
				order <- i
				if i == 0 {
					p.leave()
					p.leave()
				}
			}()
		}
		time.Sleep(10 * time.Millisecond)
		if _, err := gate.enter(from(2), make(closer)); err != nil {
			t.Errorf("another source: %v", err)
		}
		first.leave()
		if a, b := <-order, <-order; a != 0 || b != 1 {
			t.Errorf("served in the order %d %d", a, b)
		}
		if _, err := gate.enter(from(1), make(closer)); err == nil {
			t.Error("a second place was given to a source that may have one")
		}
		if gate.waiting != 0 || gate.total != 2 {
			t.Errorf("%d wait, %d taken", gate.waiting, gate.total)
		}
	})
}
