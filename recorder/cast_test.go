package recorder

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestAppendEvent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		micros int64
		code   byte
		text   string
		want   string
	}{
		{"plain", 1_234_567, 'o', "hello", `[1.234567,"o","hello"]`},
		{"no fraction", 0, 'o', "", `[0,"o",""]`},
		{"short fraction", 2_500_000, 'm', "x", `[2.5,"m","x"]`},
		{"one microsecond", 1, 'o', "x", `[0.000001,"o","x"]`},
		{"long", 86_400_000_010, 'x', "0", `[86400.00001,"x","0"]`},
		{"escapes", 0, 'o', "\"\\\n\r\t\x00\x1b\x7f/<>&", `[0,"o","\"\\\n\r\t\u0000\u001b\u007f/<>&"]`},
		{"C1", 0, 'o', "a\u0085\u009bb\u00a0", `[0,"o","a\u0085\u009bb` + "\u00a0" + `"]`},
		{"line separators", 0, 'o', "\u2028\u2029\u202a", `[0,"o","\u2028\u2029` + "\u202a" + `"]`},
		{"runes", 0, 'o', "é€😀", `[0,"o","é€😀"]`},
		{"not UTF-8", 0, 'o', "a\xffb\xe2\x82c\xed\xa0\x80", `[0,"o","a` + "\uFFFDb\uFFFD\uFFFDc\uFFFD\uFFFD\uFFFD" + `"]`},
	} {
		if got := string(appendEvent(nil, tt.micros, tt.code, []byte(tt.text))); got != tt.want+"\n" {
			t.Errorf("%s: got %s want %s", tt.name, got, tt.want)
		}
	}
}

// anyBytes are bytes as programs print them, cut anywhere: text, runes of every length, control
// characters, and rubbish.
func anyBytes() *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		var b []byte
		for range rapid.IntRange(0, 12).Draw(t, "runs") {
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				b = append(b, rapid.StringN(0, 20, 80).Draw(t, "string")...)
			case 1:
				b = append(b, rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "bytes")...)
			case 2:
				b = append(b, rapid.SampledFrom([]string{"é", "€", "😀", "\u2028", "\u0085", "\x1b[2J", "\r\n", `"`, `\`, "\uFFFD"}).Draw(t, "rune")...)
			case 3:
				whole := rapid.SampledFrom([]string{"é", "€", "😀", "\xf4\x8f\xbf\xbf"}).Draw(t, "cut rune")
				b = append(b, whole[:rapid.IntRange(1, len(whole)-1).Draw(t, "cut")]...)
			case 4:
				b = append(b, rapid.SampledFrom([]string{"\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80", "\xff", "\x80\x80", "\xe2\x28\xa1"}).Draw(t, "not UTF-8")...)
			}
		}
		return b
	})
}

func TestTextIsJSONAndHarmless(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := anyBytes().Draw(t, "p")
		quoted := append(appendText([]byte{'"'}, p), '"')
		var got string
		if err := json.Unmarshal(quoted, &got); err != nil {
			t.Fatalf("%q became %s: %v", p, quoted, err)
		}
		if want := string([]rune(string(p))); got != want {
			t.Fatalf("%q became %q", p, got)
		}
		if i := bytes.IndexFunc(quoted, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }); i >= 0 {
			t.Fatalf("%q became %q with a control character at %d", p, quoted, i)
		}
		if text, ok := parseText(quoted); !ok || text != got {
			t.Fatalf("parseText(%s) = %q, %v", quoted, text, ok)
		}
	})
}

func TestParseEvent(t *testing.T) {
	t.Parallel()
	good := map[string]rawEvent{
		`[0,"o",""]`:                     {0, 'o', ""},
		`[0.000001,"o","x"]`:             {1, 'o', "x"},
		`[12.5, "r", "90x30"]`:           {12_500_000, 'r', "90x30"},
		`[ 1.0 , "m", "a\u001b\"]\n"]`:   {1_000_000, 'm', "a\x1b\"]\n"},
		`[86400.1,"x","0"]`:              {86_400_100_000, 'x', "0"},
		`[0,"o","\ud83d\ude00é"]`:        {0, 'o', "😀é"},
		`[0,"o","` + "\uFFFD" + `"]`:     {0, 'o', "\uFFFD"},
		`[946080000,"o","thirty years"]`: {maxMicros, 'o', "thirty years"},
	}
	for line, want := range good {
		if got, err := parseEvent([]byte(line)); err != nil || got != want {
			t.Errorf("%s: got %v, %v want %v", line, got, err, want)
		}
	}
	for _, line := range []string{
		``, `[`, `[]`, `{}`, `null`, `[0,"o"]`, `[0,"o",""`, `[0,"o","]`, `[0,"o",]`, `[0,"o",1]`, `[0,"o","a"b"]`,
		`[0,"o","\x"]`, `[0,"","x"]`, `[0,"oo","x"]`, `[0,"O","x"]`, `[-1,"o","x"]`, `[1e3,"o","x"]`, `[1.,"o","x"]`, `[.5,"o","x"]`,
		`[0.1234567,"o","x"]`, `[99999999999,"o","x"]`, `[946080001,"o","x"]`, `["0","o","x"]`, `[00,"o","x"]`, `[01.5,"o","x"]`, `[0,"o","x"] `, `[0,"o","x"],`, "[0,\"o\",\"a\tb\"]",
	} {
		if got, err := parseEvent([]byte(line)); err == nil {
			t.Errorf("%s: got %v, want an error", line, got)
		}
	}
}

// FuzzParseEvent: what is accepted is JSON and means the same to encoding/json.
func FuzzParseEvent(f *testing.F) {
	for _, s := range []string{`[0,"o",""]`, `[12.5, "r", "90x30"]`, `[1.000001,"m","a\u001b\"]\n\ud800"]`, `[0,"b","/w=="]`, "[0,\"o\",\"\xff\"]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got, err := parseEvent(line)
		if err != nil {
			return
		}
		var parts [3]json.RawMessage
		var code, text string
		if err := json.Unmarshal(line, &parts); err != nil {
			t.Fatalf("%q is not JSON: %v", line, err)
		}
		if json.Unmarshal(parts[1], &code) != nil || json.Unmarshal(parts[2], &text) != nil || code != string(got.code) || text != got.text {
			t.Fatalf("%q: got %+v, encoding/json %q %q", line, got, code, text)
		}
		var seconds float64
		if err := json.Unmarshal(parts[0], &seconds); err != nil || got.micros < 0 || seconds*1e6-float64(got.micros) > 1 {
			t.Fatalf("%q: got %d µs of %v s: %v", line, got.micros, seconds, err)
		}
		again := appendEvent(nil, got.micros, got.code, []byte(got.text))
		if back, err := parseEvent(bytes.TrimSuffix(again, []byte("\n"))); err != nil || back != got {
			t.Fatalf("%q: written again %q, read again %v, %v", line, again, back, err)
		}
	})
}

func TestHeader(t *testing.T) {
	t.Parallel()
	h := Header{
		Session: "0192-ab", Channel: 3, Started: time.Date(2026, 11, 23, 1, 2, 3, 456_000, time.UTC), Width: 120, Height: 40, Term: "xterm",
		Title: "alice@web1 \u2028", Command: "printf '\xff\x00\n'", Kind: "exec", Tags: []string{"a", "b"}, Limit: 1 << 20,
	}
	line, err := headerLine(h, "node \"1\"")
	must(t, err)
	if bytes.IndexByte(line, '\n') != len(line)-1 {
		t.Errorf("the header is not one line: %q", line)
	}
	got, node, err := parseHeader(line)
	must(t, err)
	if node != "node \"1\"" || got.Command != h.Command || !got.Started.Equal(h.Started) {
		t.Errorf("got %+v of %s", got, node)
	}
	got.Started = h.Started
	a, _ := json.Marshal(h)
	if b, _ := json.Marshal(got); !bytes.Equal(a, b) {
		t.Errorf("got %s want %s", b, a)
	}
	var players struct { // the types asciinema 3 reads
		Version uint8
		Term    struct {
			Cols, Rows uint16
			Type       *string
		}
		Timestamp uint64
		Command   string
		Title     string
	}
	if err := json.Unmarshal(line, &players); err != nil || players.Term.Cols != 120 || !utf8.ValidString(players.Command) {
		t.Errorf("for players: %+v, %v", players, err)
	}
	if _, err := headerLine(Header{Command: strings.Repeat("\x01", maxLine/6)}, ""); err == nil {
		t.Error("a header that no reader takes was accepted")
	}
}

// TestChunks writes random bytes in random chunks to two streams. Whatever the chunks, the exact
// bytes come back, and what is shown is what a decoder of the whole stream shows.
func TestChunks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		file := []byte(`{"version":3,"term":{"cols":80,"rows":24},"timestamp":0,"sallyport":{"session":"x","channel":0,"started":"2026-11-23T00:00:00Z"}}` + "\n")
		var want, all [3][]byte
		var tails [3]tail
		codes := "oei"
		for s := range want {
			all[s] = anyBytes().Draw(t, "stream")
			want[s] = all[s]
		}
		for len(all[0])+len(all[1])+len(all[2]) > 0 {
			s := rapid.IntRange(0, 2).Draw(t, "which")
			n := rapid.IntRange(0, min(9, len(all[s]))).Draw(t, "n")
			file, tails[s] = appendChunk(file, 1, codes[s], tails[s], all[s][:n])
			all[s] = all[s][n:]
		}
		reader, err := newReader(nopCloser{bytes.NewReader(file)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := allEvents(reader)
		if err != nil {
			t.Fatalf("%v in %s", err, file)
		}
		for s := range want {
			code := codes[s : s+1]
			if data := dataOf(got, code); !bytes.Equal(data, want[s]) {
				t.Fatalf("stream %s: got %q want %q in %s", code, data, want[s], file)
			}
			shown := ""
			for _, e := range got {
				if string(e.Code) == code {
					shown += e.Text
				}
			}
			if whole := want[s][:len(want[s])-tails[s].n]; shown != string([]rune(string(whole))) {
				t.Fatalf("stream %s: shown %q of %q", code, shown, want[s])
			}
		}
	})
}

// TestTextIsWrittenOnce: a program that prints UTF-8 in chunks cut anywhere costs extra events only
// for the runes that were cut.
func TestTextIsWrittenOnce(t *testing.T) {
	t.Parallel()
	text := []byte(strings.Repeat("съешь ещё этих мягких французских булок\r\n", 3000))
	var file []byte
	var rest tail
	for p := text; len(p) > 0; p = p[min(len(p), 4097):] {
		file, rest = appendChunk(file, 1, 'o', rest, p[:min(len(p), 4097)])
	}
	if len(file) > len(text)*11/10 {
		t.Errorf("%d bytes of text became %d bytes of asciicast", len(text), len(file))
	}
}
