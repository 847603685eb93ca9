package recorder

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"sallyport/internal/testenv"
)

// TestHostileExports: whatever a target prints, text holds nothing but text, and the other formats are
// JSON that is harmless on a terminal.
func TestHostileExports(t *testing.T) {
	t.Parallel()
	clock := testenv.NewClock(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
	r := newRecorder(t, func(c *Config) { c.Sync, c.Now = time.Hour, clock.Now })
	w := create(t, r, Header{Term: "xterm\x1b[6n", Title: "\x1b]0;owned\x07\u202e\u009b6n\x7f", Command: "\x1b[c\u2066\u009bc"})
	for _, h := range testenv.HostileRecordings() {
		clock.Move(time.Second)
		must(t, w.Mark(h.Name+"\x1b[6n"))
		must(t, w.Output([]byte(h.Output)))
		for _, s := range h.Sizes {
			must(t, w.Resize(s.Cols, s.Rows))
		}
		must(t, w.Output([]byte(testenv.HostileEnd+h.Name+" was shown\r\n")))
	}
	sum := closed(t, w)
	export := func(f Format) string {
		var b bytes.Buffer
		must(t, r.Export(&b, sum.Path, f))
		return b.String()
	}
	text := export(Text)
	if i := strings.IndexFunc(text, func(c rune) bool {
		return c != '\n' && c != '\t' && unicode.IsControl(c) || unicode.Is(unicode.Bidi_Control, c)
	}); i >= 0 {
		t.Errorf("the text holds %q", text[i:min(i+20, len(text))])
	}
	for _, h := range testenv.HostileRecordings() {
		if !strings.Contains(text, h.Name+" was shown\n") {
			t.Errorf("%s: what follows is not in the text", h.Name)
		}
	}
	if strings.Contains(text, "owned\\") {
		t.Error("the text holds what was inside of a sequence")
	}
	for _, f := range []Format{Asciicast3, Asciicast2, JSON} {
		out := export(f)
		if i := strings.IndexFunc(out, func(c rune) bool { return c != '\n' && unicode.IsControl(c) }); i >= 0 {
			t.Errorf("%s holds %q", f, out[i:min(i+20, len(out))])
		}
		if f == JSON && !json.Valid([]byte(out)) {
			t.Error("json is none")
		}
		for line := range strings.Lines(out) {
			if f != JSON && line[0] != '#' && !json.Valid([]byte(line)) {
				t.Errorf("%s: %.200q is no JSON", f, line)
			}
		}
	}
	if report, err := r.Verify(sum.Path); err != nil || !report.Sealed {
		t.Errorf("verified: %+v, %v", report, err)
	}
}
