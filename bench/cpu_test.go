package main

import (
	"os"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want usage
		ok   bool
	}{
		"plain": {
			"4242 (sshd) S 17 4242 4242 0 -1 4194560 1000 2000 0 0 31 12 100 7 20 0 1 0 5055 16000 1000 1844",
			usage{pid: 4242, parent: 17, state: 'S', cpu: 1500 * time.Millisecond}, true,
		},
		"spaces and parentheses in the name": {
			"7 (a) R 1 (b c)) Z 99 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 5055",
			usage{pid: 7, parent: 99, state: 'Z', cpu: 100 * time.Millisecond}, true,
		},
		"cut off": {"7 (sh) S 1 7 7 0 -1 0 0 0 0 0 1 2 3", usage{}, false},
		"no name": {"7 sh S 1", usage{}, false},
		"words":   {"7 (sh) S 1 7 7 0 -1 0 0 0 0 0 one 2 3 4 20", usage{}, false},
		"empty":   {"", usage{}, false},
	} {
		got, err := parseStat(c.text)
		if (err == nil) != c.ok || err == nil && got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v, ok %v", name, got, err, c.want, c.ok)
		}
	}
}

func TestBelow(t *testing.T) {
	t.Parallel()
	all := map[int]usage{
		1: {pid: 1}, 2: {pid: 2, parent: 1}, 3: {pid: 3, parent: 2}, 4: {pid: 4, parent: 3}, 5: {pid: 5, parent: 2}, 6: {pid: 6, parent: 1},
	}
	var got []int
	for _, u := range below(all, 2) {
		got = append(got, u.pid)
	}
	slices.Sort(got)
	if want := []int{3, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("below 2: got %v, want %v", got, want)
	}
}

// The clock of /proc runs with the work that a process does.
func TestProcesses(t *testing.T) {
	t.Parallel()
	spent := func() time.Duration {
		all, err := processes()
		if err != nil {
			t.Fatal(err)
		}
		u, ok := all[os.Getpid()]
		if !ok || u.parent != os.Getppid() {
			t.Fatalf("this process: got %+v, %v, want parent %d", u, ok, os.Getppid())
		}
		return u.cpu
	}
	before := spent()
	for deadline := time.Now().Add(time.Minute); spent() < before+5*tick; {
		if time.Now().After(deadline) {
			t.Fatal("a minute of work does not show")
		}
	}
}

func TestParsePSS(t *testing.T) {
	t.Parallel()
	text := "55e0-7ffd ---p 00000000 00:00 0    [rollup]\nRss:    9000 kB\nPss:                4096 kB\nPss_Dirty:  1 kB\n"
	if got, err := parsePSS(text); err != nil || got != 4<<20 {
		t.Errorf("got %d, %v, want %d", got, err, 4<<20)
	}
	if _, err := parsePSS("Rss: 1 kB\n"); err == nil {
		t.Error("a text without Pss was read")
	}
}
