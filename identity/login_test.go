package identity

import (
	"strings"
	"testing"
)

func TestCanonicalLogin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		typed, want string // want "": refused
	}{
		{"alice", "alice"},
		{"Alice", "alice"},
		{"ALICE.o-brien_2", "alice.o-brien_2"},
		{"_backup", "_backup"},
		{"7up", "7up"},
		{strings.Repeat("a", 64), strings.Repeat("a", 64)},
		{strings.Repeat("a", 65), ""},
		{strings.Repeat("a", 250_000), ""},
		{"", ""},
		{" alice", ""},
		{"alice ", ""},
		{"alice\n", ""},
		{"alice\x00", ""},
		{"al*ce", ""},
		{"alice)(uid=*", ""},
		{`a\lice`, ""},
		{"alice@example.org", ""},
		{`EXAMPLE\alice`, ""},
		{"-oProxyCommand", ""},
		{".", ""},
		{"..", ""},
		{".ssh", ""},
		{"älice", ""},
		{"\u212Aarl", ""}, // KELVIN SIGN, whose lower case is k
		{"ａlice", ""},     // full width
		{"alice\xff", ""},
		{"al\u200bice", ""},
	}
	for _, tt := range tests {
		got, err := CanonicalLogin(tt.typed)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("CanonicalLogin(%.80q) = %q, %v; want %q", tt.typed, got, err, tt.want)
		}
	}
}

func FuzzCanonicalLogin(f *testing.F) {
	for _, s := range []string{"alice", "ALICE", "a b", "-x", "é", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		got, err := CanonicalLogin(typed)
		if err != nil {
			return
		}
		if again, err := CanonicalLogin(got); again != got || err != nil {
			t.Errorf("CanonicalLogin(%q) = %q, which becomes %q, %v", typed, got, again, err)
		}
		if len(got) != len(typed) || !strings.EqualFold(got, typed) {
			t.Errorf("CanonicalLogin(%q) = %q", typed, got)
		}
	})
}
