package otp

import (
	"strings"
	"testing"
)

// All digits occur everywhere, the leading zero too.
func TestNewSentCode(t *testing.T) {
	t.Parallel()
	var seen [6][10]int
	for range 5000 {
		code := NewSentCode(6)
		if len(code) != 6 || strings.Trim(code, "0123456789") != "" {
			t.Fatalf("code %q", code)
		}
		for i, c := range code {
			seen[i][c-'0']++
		}
	}
	for i := range seen {
		for d, n := range seen[i] {
			if n < 350 || n > 650 { // 500 expected, standard deviation 21
				t.Errorf("digit %d at place %d: %d of 5000", d, i, n)
			}
		}
	}
}
