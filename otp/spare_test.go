package otp_test

import (
	"regexp"
	"strings"
	"testing"

	"sallyport/otp"
)

func TestSpareCode(t *testing.T) {
	t.Parallel()
	form, seen, letters := regexp.MustCompile(`^[a-km-np-z2-9]{4}(-[a-km-np-z2-9]{4}){3}$`), map[string]bool{}, map[rune]bool{}
	for range 1000 {
		code := otp.NewSpareCode()
		canonical, err := otp.NormaliseSpare(code)
		if !form.MatchString(code) || err != nil || seen[canonical] {
			t.Fatalf("code %q, canonical %q, error %v", code, canonical, err)
		}
		seen[canonical] = true
		for _, r := range canonical {
			letters[r] = true
		}
	}
	if len(letters) != 32 {
		t.Errorf("%d letters are in use, want 32: five bits each", len(letters))
	}
}

func TestNormaliseSpare(t *testing.T) {
	t.Parallel()
	for _, typed := range []string{"abcd-efgh-ijkm-npqr", "ABCD EFGH IJKM NPQR", "abcdefghijkmnpqr", " a b c d-efghijkm--npqr "} {
		if got, err := otp.NormaliseSpare(typed); got != "abcdefghijkmnpqr" || err != nil {
			t.Errorf("%q: got %q, %v", typed, got, err)
		}
	}
	for _, typed := range []string{
		"", "123456", "12345678", "abcd-efgh-ijkm-npq", "abcd-efgh-ijkm-npqrs", "abcd-efgh-ijkm-npq0", "abcd-efgh-ijkm-npql", "ａbcd-efgh-ijkm-npqr",
		"abcd\tefgh-ijkm-npqr", "abcd\u00a0efgh-ijkm-npqr", "abcd-efgh-ijkm-npqr\x00", strings.Repeat(" ", 100) + "abcdefghijkmnpqr",
	} {
		if got, err := otp.NormaliseSpare(typed); err == nil || strings.Contains(err.Error(), "abcd") {
			t.Errorf("%q: got %q, error %v", typed, got, err)
		}
	}
}
