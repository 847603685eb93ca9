package main

import "testing"

// Memory is given back once after each busy time, and not while one lasts.
func TestMemoryWatch(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	var w memoryWatch
	for i, step := range []struct {
		allocated uint64 // MiB since the look before
		want      bool
	}{
		{30, false}, // starting
		{0, true},
		{0, false},
		{200, false}, // people log in
		{50, false},
		{0, true},
		{5, false}, // one does
		{0, false}, // not worth it
		{2, false},
		{0, true},
	} {
		if got := w.due(w.seen + step.allocated*mb); got != step.want {
			t.Errorf("look %d: %t, want %t", i, got, step.want)
		}
	}
}

// The collector may let garbage grow to as much as lives, or to a few MiB where little does.
func TestCollectAt(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 4 << 20: 200, 8 << 20: 100, 16 << 20: 50, 1 << 30: 50} {
		if !pooledPackets() {
			want = 400
		}
		if got := collectAt(live); got != want {
			t.Errorf("of %d bytes: %d %%, want %d", live, got, want)
		}
	}
}
