package recorder

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
)

// Lines are those of the export as text, and each has the time at which it was begun.
func TestLines(t *testing.T) {
	t.Parallel()
	clock := testenv.NewClock(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
	r := newRecorder(t, func(c *Config) { c.Sync, c.Now = time.Hour, clock.Now })
	w := create(t, r, Header{Term: "xterm"})
	later := func(seconds int, text string) {
		clock.Move(time.Duration(seconds) * time.Second)
		must(t, w.Output([]byte(text)))
	}
	later(1, "one\r\n")
	later(2, "tw")
	later(5, "o\r\nthree\r\nfou")
	later(5, "r\r\n\x1b[31m")
	later(7, strings.Repeat("x", 200_000)+"\r\n")
	must(t, w.Gap(12, "disk full"))
	later(1, "no end")
	sum := closed(t, w)

	var got []string
	must(t, r.Lines(sum.Path, func(l Line) bool {
		got = append(got, fmt.Sprintf("%v %s", l.At, l.Text[:min(len(l.Text), 40)]))
		return true
	}))
	short := got[:4]
	if want := "1s one,3s two,8s three,8s four"; strings.Join(short, ",") != want {
		t.Errorf("lines %q, want %q", short, want)
	}
	if last := got[len(got)-2:]; last[0] != "20s [12 bytes are missing here: disk full]" || last[1] != "21s no end" {
		t.Errorf("the last lines are %q", last)
	}
	var text, lines bytes.Buffer
	must(t, r.Export(&text, sum.Path, Text))
	must(t, r.Lines(sum.Path, func(l Line) bool { lines.WriteString(l.Text); return true }))
	if strings.ReplaceAll(text.String(), "\n", "") != lines.String() {
		t.Errorf("%d bytes of lines, %d bytes of text, or others", lines.Len(), text.Len())
	}
	n := 0
	must(t, r.Lines(sum.Path, func(Line) bool { n++; return n < 2 }))
	if n != 2 {
		t.Errorf("%d lines after the second was refused", n)
	}
}
