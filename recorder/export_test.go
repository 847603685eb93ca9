package recorder

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"sallyport/internal/testenv"

	"pgregory.net/rapid"
)

func export(t testing.TB, r *Recorder, path string, f Format) string {
	t.Helper()
	var b bytes.Buffer
	must(t, r.Export(&b, path, f))
	return b.String()
}

// TestFormats exports one recording in every format, open and sealed.
func TestFormats(t *testing.T) {
	t.Parallel()
	clock := testenv.NewClock(time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC))
	r := newRecorder(t, func(c *Config) { c.Now = clock.Now; c.Sync = time.Hour })
	w := create(t, r, Header{Title: "alice@web1", Command: "make", Kind: "exec", Term: "xterm", Width: 90, Height: 30})
	for _, step := range []func() error{
		func() error { return w.Output([]byte("one\r\ncaf\xc3")) },
		func() error { return w.Stderr([]byte("\x1b[31mbad\x1b[0m\xff\r\n")) },
		func() error { return w.Output([]byte("\xa9\r\n")) },
		func() error { return w.Input([]byte("y")) },
		func() error { return w.Resize(100, 40) },
		func() error { return w.Mark("here") },
		func() error { return w.Gap(3, "disk \x1b[2Jfull") },
		func() error { return w.ExitSignal("TERM") },
		func() error { return w.ExitStatus(1) },
	} {
		clock.Move(500 * time.Millisecond)
		must(t, step())
	}
	const cast3 = `{"version":3,"term":{"cols":90,"rows":30,"type":"xterm"},"timestamp":1795395723,"command":"make","title":"alice@web1","sallyport":{"session":"01-test","channel":0,"node":"node-1","kind":"exec","started":"2026-11-23T01:02:03Z"}}
[0.5,"o","one\r\ncaf"]
[0,"b","ww=="]
[0,"o",""]
[0.5,"e",""]
[0,"b","G1szMW1iYWQbWzBt/w0K"]
[0,"o","\u001b[31mbad\u001b[0m` + "\uFFFD" + `\r\n"]
[0.5,"b","qQ=="]
[0,"o","é"]
[0,"o","\r\n"]
[0.5,"i","y"]
[0.5,"r","100x40"]
[0.5,"m","here"]
[0.5,"g","3 disk \u001b[2Jfull"]
[0.5,"s","TERM"]
[0.5,"x","1"]
`
	want := map[Format]string{
		Asciicast2: `{"version":2,"width":90,"height":30,"timestamp":1795395723,"command":"make","title":"alice@web1","env":{"TERM":"xterm"}}
[0.5,"o","one\r\ncaf"]
[0.5,"o",""]
[1,"o","\u001b[31mbad\u001b[0m` + "\uFFFD" + `\r\n"]
[1.5,"o","é"]
[1.5,"o","\r\n"]
[2,"i","y"]
[2.5,"r","100x40"]
[3,"m","here"]
`,
		Text: "one\ncafbad\uFFFD\né\n[3 bytes are missing here: disk full]\n",
		JSON: `{"header":{"session":"01-test","channel":0,"node":"node-1","kind":"exec","started":"2026-11-23T01:02:03Z","width":90,"height":30,"term":"xterm","title":"alice@web1","command":"make"},"events":[
{"at":0.5,"code":"o","text":"one\r\ncaf"},
{"at":0.5,"code":"o","text":"","data":"ww=="},
{"at":1,"code":"e","text":"\u001b[31mbad\u001b[0m` + "\uFFFD" + `\r\n","data":"G1szMW1iYWQbWzBt/w0K"},
{"at":1.5,"code":"o","text":"é","data":"qQ=="},
{"at":1.5,"code":"o","text":"\r\n"},
{"at":2,"code":"i","text":"y"},
{"at":2.5,"code":"r","text":"100x40"},
{"at":3,"code":"m","text":"here"},
{"at":3.5,"code":"g","text":"3 disk \u001b[2Jfull"},
{"at":4,"code":"s","text":"TERM"},
{"at":4.5,"code":"x","text":"1"}
]}
`,
	}
	check := func(when string) {
		for f, text := range want {
			if got := export(t, r, w.Path(), f); got != text {
				t.Errorf("%s, %s: got %s\nwant %s", when, f, got, text)
			}
		}
		if got := export(t, r, w.Path(), JSON); !json.Valid([]byte(got)) {
			t.Errorf("%s: not JSON: %s", when, got)
		}
		got, proof, _ := strings.Cut(export(t, r, w.Path(), Asciicast3), proofPrefix)
		if got != cast3 {
			t.Errorf("%s, asciicast3: got %s\nwant %s", when, got, cast3)
		}
		if sealed := strings.Contains(proof, `"end"`); sealed != (when == "sealed") {
			t.Errorf("%s: proof %s", when, proof)
		}
	}
	check("open")
	closed(t, w)
	check("sealed")
	if err := r.Export(&bytes.Buffer{}, w.Path(), "gif"); err == nil {
		t.Error("an unknown format was accepted")
	}
}

// TestZstdProgram: the packed file is plain asciicast to the program everybody has.
func TestZstdProgram(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, func(c *Config) { c.PartSize = 2000 })
	w := create(t, r, Header{})
	for range 100 {
		must(t, w.Output([]byte("some \x1b[1moutput\x1b[0m \xff\r\n")))
	}
	sum := closed(t, w)
	out, err := exec.Command("zstd", "-dcq", fileOf(r, sum.Path)).Output()
	must(t, err)
	name := filepath.Join(t.TempDir(), "x.cast")
	must(t, os.WriteFile(name, out, 0o600))
	if n := checkCast(t, name); n != 200 {
		t.Errorf("%d events", n)
	}
	if exported, _, _ := strings.Cut(export(t, r, sum.Path, Asciicast3), "#"); exported != string(out) {
		t.Error("the exported asciicast is another one")
	}
	if out, err := exec.Command("zstd", "-tq", fileOf(r, sum.Path)).CombinedOutput(); err != nil {
		t.Errorf("zstd -t: %v: %s", err, out)
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain\n":                          "plain\n",
		"a\r\nb\r\n":                       "a\nb\n",
		"10%\r20%\r100%\r\n":               "10%\n20%\n100%\n",
		"\r\r\nx":                          "\nx",
		"lss\b\b -l":                       "l -l",
		"\x1b[31mred\x1b[0m \x1b[38;5;1mx": "red x",
		"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b": "ab",
		"\x1bPq#0;2;0;0;0\x1b\\c":                  "c",
		"\x1b]52;c;ZXZpbA==\x07d":                  "d",
		"\x1b(Be\x1b)0f\x1b=g\x1b>h\x1bMi":         "efghi",
		"\u009b31mj\u009d0;t\u009ck":               "jk",
		"\x1b[31\x18l\x1b]x\x1am":                  "lm",
		"\x1b]never ended \n":                      "",
		"\x1b]0;a\x1b[31mn":                        "n",
		"tab\there\a\v\f\x00\x7f":                  "tab\there",
		"\u202eabc\u2066d\u200f":                   "abcd",
		"é€😀\uFFFD":                                "é€😀\uFFFD",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q want %q", in, got, want)
		}
	}
}

// TestPrintableIsHarmless: whatever is printed, cut wherever, nothing but text is left, and it is
// left as it is when it is cleaned again.
func TestPrintableIsHarmless(t *testing.T) {
	t.Parallel()
	piece := rapid.OneOf(
		rapid.String(),
		rapid.SampledFrom([]string{"\x1b", "[", "]", "P", "\\", "\x07", "\u009b", "\u009c", "\u0090", "\x18", "\r", "\n", "\b", "31m", "\u202e", "\x1b[2J", "\x1b]0;", "text"}))
	rapid.Check(t, func(t *rapid.T) {
		s := strings.Join(rapid.SliceOfN(piece, 0, 20).Draw(t, "pieces"), "")
		got := printable(s)
		if i := strings.IndexFunc(got, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' || reorders(r) }); i >= 0 {
			t.Fatalf("%q became %q", s, got)
		}
		if again := printable(got); again != got {
			t.Fatalf("%q became %q and then %q", s, got, again)
		}
	})
}

func TestPaths(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, nil)
	w := create(t, r, Header{Session: "real"})
	must(t, w.Output([]byte("x")))
	closed(t, w)
	day := strings.TrimSuffix(w.place.dir(), "/real")
	outside := filepath.Join(t.TempDir(), "secret.cast")
	must(t, os.WriteFile(outside, []byte("{}\n"), 0o600))
	must(t, errors.Join(
		os.Mkdir(fileOf(r, day+"/links"), 0o700),
		os.Symlink(outside, fileOf(r, day+"/links/0.cast")),
		os.Symlink("../real/0.cast.zst", fileOf(r, day+"/links/1.cast.zst")),
		os.Symlink("real", fileOf(r, day+"/other")),
		os.Mkdir(fileOf(r, day+"/links/2.cast"), 0o700),
	))
	try := func(name string) map[string]error {
		_, open := r.Open(name)
		_, follow := r.Follow(t.Context(), name)
		_, verify := r.Verify(name)
		return map[string]error{"open": open, "follow": follow, "verify": verify, "export": r.Export(&bytes.Buffer{}, name, Asciicast3)}
	}
	for _, name := range []string{
		"", ".", "/", "x", outside, "/" + w.Path(), "../" + w.Path(), "./" + w.Path(), day + "/real/../real/0.cast", day + "/real/0.cast.index",
		day + "//real/0.cast", day + "/real/00.cast", day + "/real/0.cast\x00", day + "/real/0.cast\n", day + "/re al/0.cast", day + "/../0.cast", "2026/11/23/a/b/0.cast",
		strings.Replace(w.Path(), "real", "..", 1), strings.Replace(w.Path(), "/", "\\", 1),
		day + "/links/0.cast", day + "/links/1.cast.zst", day + "/other/0.cast", day + "/links/2.cast",
	} {
		for what, err := range try(name) {
			if !errors.Is(err, ErrPath) {
				t.Errorf("%s %q: %v", what, name, err)
			}
		}
	}
	for what, err := range try(day + "/nothing/0.cast") {
		if !errors.Is(err, os.ErrNotExist) && what != "verify" {
			t.Errorf("%s what is not there: %v", what, err)
		}
	}
	if _, err := r.Create(Header{Session: "links", Channel: 0}); err == nil {
		t.Error("a recording was written through a link")
	}
	if _, err := r.Create(Header{Session: "other", Channel: 5}); err == nil {
		t.Error("a recording was written into a linked folder")
	}
}
