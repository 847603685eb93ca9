package recorder

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func linesOf(t *testing.T, write func(*Recording)) []string {
	t.Helper()
	r := newRecorder(t, nil)
	w := create(t, r, Header{Channel: 1, Kind: "exec"})
	write(w)
	reader, err := r.Open(closed(t, w).Path)
	must(t, err)
	defer reader.Close()
	var lines []string
	must(t, reader.EachLine(func(_ time.Duration, line string) error {
		lines = append(lines, line)
		return nil
	}))
	return lines
}

// Lines are whole whatever pieces they came in, and those of stderr do not cut those of output.
func TestEachLine(t *testing.T) {
	t.Parallel()
	got := linesOf(t, func(w *Recording) {
		must(t, w.Output([]byte("one \x1b[3")))
		must(t, w.Stderr([]byte("warn")))
		must(t, w.Output([]byte("1mred\x1b[0m line\r\ntwo\n\nlast \u202e")))
		must(t, w.Stderr([]byte("ing\n")))
		must(t, w.Output([]byte("\x00\x01\xff")))
	})
	want := []string{"one red line", "two", "", "warning", "last \uFFFD"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEachLineBoundsLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 5000) + "end"
	got := linesOf(t, func(w *Recording) { must(t, w.Output([]byte(long+"\nnext\n"))) })
	if joined := strings.Join(got[:len(got)-1], ""); joined != long || got[len(got)-1] != "next" {
		t.Errorf("%d lines, the last is %q", len(got), got[len(got)-1])
	}
	for _, line := range got {
		if len(line) > maxLineText || !utf8.ValidString(line) {
			t.Errorf("a line has %d bytes, valid UTF-8: %v", len(line), utf8.ValidString(line))
		}
	}
}

// The time of a line is that of the event that ended it; whoever reads may stop.
func TestEachLineTimes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	r := newRecorder(t, func(c *Config) { c.Now = func() time.Time { at = at.Add(time.Second); return at } })
	w := create(t, r, Header{Channel: 1})
	for i := range 5 {
		must(t, w.Output(fmt.Appendf(nil, "line %d\n", i)))
	}
	reader, err := r.Open(closed(t, w).Path)
	must(t, err)
	defer reader.Close()
	enough := errors.New("enough")
	var last time.Duration
	n := 0
	err = reader.EachLine(func(at time.Duration, _ string) error {
		if at <= last {
			t.Errorf("line at %s after one at %s", at, last)
		}
		if last, n = at, n+1; n == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || n != 3 {
		t.Errorf("%d lines, error %v", n, err)
	}
}
