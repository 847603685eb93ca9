package replay

import (
	"regexp"
	"strings"
	"testing"
)

func TestFilter(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"text":                        {"héllo, мир\t1\r\n", "héllo, мир\t1\r\n"},
		"colours":                     {"\x1b[1;38;2;1;2;3mx\x1b[38:5:3m\x1b[m", "\x1b[1;38;2;1;2;3mx\x1b[38:5:3m\x1b[m"},
		"cursor":                      {"\x1b[H\x1b[10;20H\x1b[2A\x1b[K\x1b[?K\x1b[2J\x1b7\x1b8\x1bM\x1b[s\x1b[u", "\x1b[H\x1b[10;20H\x1b[2A\x1b[K\x1b[?K\x1b[2J\x1b7\x1b8\x1bM\x1b[s\x1b[u"},
		"edit and scroll":             {"\x1b[2L\x1b[3M\x1b[4P\x1b[5@\x1b[1;20r\x1b[2S\x1b[2T", "\x1b[2L\x1b[3M\x1b[4P\x1b[5@\x1b[1;20r\x1b[2S\x1b[2T"},
		"screen modes":                {"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[4h\x1b[?25;7h", "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[4h\x1b[?25;7h"},
		"line drawing":                {"\x1b(0qqq\x1b(B\x0e\x0f\x1b)0", "\x1b(0qqq\x1b(B\x0e\x0f\x1b)0"},
		"device attributes":           {"a\x1b[cb\x1b[0c\x1b[>c\x1b[=c\x1bZ", "ab"},
		"status reports":              {"a\x1b[5n\x1b[6n\x1b[?6n\x1b[?996nb", "ab"},
		"mode reports":                {"a\x1b[?2026$p\x1b[4$pb", "ab"},
		"window operations":           {"a\x1b[21t\x1b[18t\x1b[8;1;1t\x1b[22;0;0tb", "ab"},
		"checksum of the screen":      {"a\x1b[1;1;1;1;24;80*yb", "ab"},
		"terminal parameters":         {"a\x1b[0x\x1b[>q\x1b[>0qb", "ab"},
		"printing":                    {"a\x1b[5i\x1b[4i\x1b[?5ib", "ab"},
		"keyboard":                    {"a\x1b[>4;2m\x1b[?4m\x1b[>1u\x1b[<u\x1b[=1u\x1b[?u\x1b[?1h\x1b=\x1b>b", "ab"},
		"mouse, paste, focus":         {"a\x1b[?1000h\x1b[?1006h\x1b[?2004h\x1b[?1004h\x1b[?25;1003hb", "ab"},
		"clipboard by BEL":            {"a\x1b]52;c;ZXZpbA==\x07b", "ab"},
		"clipboard by ST":             {"a\x1b]52;c;?\x1b\\b", "ab"},
		"title":                       {"a\x1b]0;owned\x07\x1b]2;x\x07\x1bkscreen\x1b\\b", "ab"},
		"hyperlink":                   {"\x1b]8;;javascript:alert(1)\x07text\x1b]8;;\x07", "text"},
		"colours asked for":           {"a\x1b]10;?\x07\x1b]4;1;?\x07b", "ab"},
		"fonts, icons, files":         {"a\x1b]50;x\x07\x1b]1337;File=name=x:AAAA\x07b", "ab"},
		"device control":              {"a\x1bP$q\"p\x1b\\\x1bP+q544e\x1b\\\x1bP1000p\x1b\\b", "ab"},
		"sixel":                       {"a\x1bPq#0;2;0;0;0~\x1b\\b", "ab"},
		"privacy, application":        {"a\x1b^x\x1b\\\x1b_Gf=100;AAAA\x1b\\\x1bXs\x1b\\b", "ab"},
		"string broken off by ESC":    {"a\x1b]0;x\x1b[31mb", "a\x1b[31mb"},
		"string broken off by CAN":    {"a\x1b]0;x\x18b", "ab"},
		"string without end":          {"a\x1b]0;" + strings.Repeat("x", 100_000), "a"},
		"sequence within a sequence":  {"\x1b[\x1b]0;x\x07\x1b[1mb", "\x1b[1mb"},
		"control within a sequence":   {"a\x1b[1\nmb", "a\n\x1b[1mb"},
		"eight bit CSI":               {"a\u009b6nb\u009b31mc", "ab\x1b[31mc"},
		"eight bit OSC":               {"a\u009d52;c;x\x07b\u0090q\x1b\\c", "abc"},
		"eight bit others":            {"a\u0085b\u009ac\u008dd", "abcd"},
		"C1 ends a sequence":          {"\x1b[1\u0085mx", "mx"},
		"control characters":          {"a\x07\x00\x05\x11\x13\x7fb", "ab"},
		"answerback":                  {"a\x05b", "ab"},
		"text in another order":       {"a\u202eb\u2066c", "abc"},
		"reset":                       {"a\x1bcb", "a\x1b[0m\x1b[r\x1b[H\x1b[2Jb"},
		"soft reset":                  {"a\x1b[!pb", "ab"},
		"scroll-back":                 {"a\x1b[3Jb", "ab"},
		"character sets":              {"a\x1b%G\x1b%@\x1b(%5\x1b#8b", "ab"},
		"132 columns":                 {"a\x1b[?3hb", "ab"},
		"repeat for ever":             {"a\x1b[999999999bb", "ab"},
		"many parameters":             {"a\x1b[" + strings.Repeat("1;", 1000) + "mb", "ab"},
		"cursor style, rectangle":     {"a\x1b[2 q\x1b[1;1;2;2$zb", "ab"},
		"invalid bytes":               {"a\xff\xc3b", "a\ufffd\ufffdb"},
		"unknown mode with known one": {"a\x1b[?25;9999hb", "ab"},
	} {
		if got := string((&Filter{}).Append(nil, tc.in)); got != tc.want {
			t.Errorf("%s: %q gives %q, want %q", name, tc.in, got, tc.want)
		}
	}
}

// However a recording is cut into events, the result is the same.
func TestFilterKeepsItsState(t *testing.T) {
	t.Parallel()
	const text = "a\x1b]52;c;eA==\x1b\\b\x1b[1;31mc\x1b[6nd\x1bP1;2q\x1b\\e\u009d0;x\x07f"
	whole := string((&Filter{}).Append(nil, text))
	f := &Filter{}
	var cut []byte
	for _, r := range text {
		cut = f.Append(cut, string(r))
	}
	if string(cut) != whole || whole != "ab\x1b[1;31mcdef" {
		t.Errorf("in pieces %q, whole %q", cut, whole)
	}
}

// harmless is what a terminal may be sent: text, some control characters, and sequences that draw.
var harmless = regexp.MustCompile(`^(?:[^\x00-\x1f\x7f-\x{9f}]|[\x08-\x0f]|\x1b[78DEMH]|\x1b[()][0AB]|\x1b\[[0-9;:]{0,64}[@A-MPSTXZ` + "`" + `abdefgmrsu]|\x1b\[\?[0-9;:]{0,64}[JK]|\x1b\[\??[0-9;]{0,64}[hl])*$`)

func FuzzFilter(f *testing.F) {
	f.Add("a\x1b[31mb\x1b]0;x\x07", 3)
	f.Add("\x1bP$q\x1b\\\u009b6n\x1b[?1000h", 1)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		got := string((&Filter{}).Append(nil, text))
		if !harmless.MatchString(got) {
			t.Errorf("%q gives %q", text, got)
		}
		text = strings.ToValidUTF8(text, "\ufffd")
		if cut = max(0, min(cut, len(text))); !strings.HasPrefix(text[cut:], "\xff") {
			for cut < len(text) && text[cut]&0xc0 == 0x80 {
				cut++
			}
			s := &Filter{}
			if pieces := string(s.Append(s.Append(nil, text[:cut]), text[cut:])); pieces != string((&Filter{}).Append(nil, text)) {
				t.Errorf("%q cut at %d gives %q", text, cut, pieces)
			}
		}
	})
}
