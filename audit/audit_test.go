package audit

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                     "",
		"alice":                "alice",
		"Zoë 東京":               "Zoë 東京",
		"a\nb\r\tc":            `a\nb\r\tc`,
		"\x1b]0;owned\x07":     `\u{1b}]0;owned\u{7}`,
		"x\x00y":               `x\u{0}y`,
		"\u202egnp.exe":        `\u{202e}gnp.exe`,
		"zero\u200bwidth":      `zero\u{200b}width`,
		"line\u2028separator":  `line\u{2028}separator`,
		"bad\xff\xfeutf":       `bad\xff\xfeutf`,
		"\u009b31m":            `\u{9b}31m`,
		"an honest \ufffd too": `an honest \u{fffd} too`,
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
	long := Escape(strings.Repeat("é", 100_000))
	if len(long) > maxText+8 || !utf8.ValidString(long) || !strings.HasSuffix(long, "…") {
		t.Errorf("a long text became %d bytes, valid %v", len(long), utf8.ValidString(long))
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	hundred := strings.Repeat("é", 100)
	for in, want := range map[string]string{
		"": `""`, "web 1": `"web 1"`, "a\x1b[2J\n": `"a\u{1b}[2J\n"`, hundred: `"` + hundred + `"`, hundred + "\x00": `"` + hundred + `…"`,
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestEscapedEventHasNothingDangerous(t *testing.T) {
	t.Parallel()
	bad := "x\x1b[2Jy"
	e := Event{User: bad, Actor: bad, Source: bad, Target: bad, Account: bad, Session: bad, Rule: bad, Reason: bad, Node: bad,
		Detail: map[string]string{bad: bad}}
	kept := e.Detail
	got := e.Escaped()
	for _, s := range []string{got.User, got.Actor, got.Source, got.Target, got.Account, got.Session, got.Rule, got.Reason, got.Node} {
		if s != Escape(bad) {
			t.Errorf("a field is %q", s)
		}
	}
	if got.Detail[Escape(bad)] != Escape(bad) || kept[bad] != bad {
		t.Errorf("detail %q, original %q", got.Detail, kept)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[31m\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := Escape(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return unicode.IsControl(r) || unicode.In(r, unicode.Cf) }) {
			t.Errorf("Escape(%q) = %q", s, got)
		}
		if len(got) < maxText && Escape(got) != got {
			t.Errorf("Escape is not idempotent on %q", s)
		}
	})
}
