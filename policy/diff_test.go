package policy

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	numbered := func(from, to int) string {
		var b strings.Builder
		for i := from; i <= to; i++ {
			b.WriteString(strings.Repeat("x", i) + "\n")
		}
		return b.String()
	}
	for _, tc := range []struct{ name, old, new, want string }{
		{"equal", "a\nb\n", "a\nb\n", ""},
		{"from nothing", "", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n"},
		{"to nothing", "a\nb\n", "", "@@ -1,2 +0,0 @@\n-a\n-b\n"},
		{"changed in the middle", "a\nb\nc\n", "a\nx\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"},
		{"added and gone", "a\nb\nc\nd\n", "b\nx\nc\n", "@@ -1,4 +1,3 @@\n-a\n b\n+x\n c\n-d\n"},
		{"newline at the end", "a\nb", "a\nb\n", "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"},
		{"context of three", numbered(1, 9), numbered(1, 4) + "new\n" + numbered(6, 9),
			"@@ -2,7 +2,7 @@\n xx\n xxx\n xxxx\n-xxxxx\n+new\n xxxxxx\n xxxxxxx\n xxxxxxxx\n"},
		{"two hunks", "a\n" + numbered(1, 7) + "b\n", "A\n" + numbered(1, 7) + "B\n",
			"@@ -1,4 +1,4 @@\n-a\n+A\n x\n xx\n xxx\n@@ -6,4 +6,4 @@\n xxxxx\n xxxxxx\n xxxxxxx\n-b\n+B\n"},
		{"hunks that touch", "a\n" + numbered(1, 6) + "b\n", "A\n" + numbered(1, 6) + "B\n",
			"@@ -1,8 +1,8 @@\n-a\n+A\n" + strings.ReplaceAll(" "+strings.TrimSuffix(numbered(1, 6), "\n"), "\n", "\n ") + "\n-b\n+B\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			want := tc.want
			if want != "" {
				want = "--- current\n+++ new\n" + want
			}
			if got := Diff(tc.old, tc.new); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestDiffOfLargeTexts(t *testing.T) {
	t.Parallel()
	old, new := strings.Repeat("a\nb\n", 50_000), strings.Repeat("b\nc\n", 50_000)
	got := Diff("same\n"+old, "same\n"+new)
	if n := strings.Count(got, "\n-") + strings.Count(got, "\n+"); n != 200_001 {
		t.Errorf("got %d changed lines", n)
	}
}

// The lines kept and gone are the old text, those kept and added the new one.
func TestDiffProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", ""}), 0, 12)
		old, new := lines.Draw(t, "old"), lines.Draw(t, "new")
		var gotOld, gotNew []string
		for _, e := range diffLines(old, new) {
			if e.sign != '+' {
				gotOld = append(gotOld, e.line)
			}
			if e.sign != '-' {
				gotNew = append(gotNew, e.line)
			}
		}
		if strings.Join(gotOld, "\n") != strings.Join(old, "\n") || strings.Join(gotNew, "\n") != strings.Join(new, "\n") {
			t.Fatalf("got %q and %q, want %q and %q", gotOld, gotNew, old, new)
		}
	})
}
