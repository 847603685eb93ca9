package otp_test

import (
	"bytes"
	"strings"
	"testing"

	pquerna "github.com/pquerna/otp"
	"sallyport/otp"
)

func TestURI(t *testing.T) {
	t.Parallel()
	const secret = "secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	const defaults = "&algorithm=SHA1&digits=6&period=30"
	tests := []struct{ name, issuer, account, want string }{
		{"plain", "Sallyport", "alice", "otpauth://totp/Sallyport:alice?" + secret + "&issuer=Sallyport" + defaults},
		{"mail address", "Sallyport", "alice@example.org", "otpauth://totp/Sallyport:alice@example.org?" + secret + "&issuer=Sallyport" + defaults},
		{"colon, space and Unicode", "ACME: Ünïcode GmbH", "DOM:bob", "otpauth://totp/ACME%20%C3%9Cn%C3%AFcode%20GmbH:DOMbob?" + secret + "&issuer=ACME%20%C3%9Cn%C3%AFcode%20GmbH" + defaults},
		{"characters with a meaning", "a&b=c?d#e", "x/y+z%20", "otpauth://totp/a%26b%3Dc%3Fd%23e:x%2Fy%2Bz%2520?" + secret + "&issuer=a%26b%3Dc%3Fd%23e" + defaults},
		{"control characters", "a\nb", "c\x1b[2Jd\x00", "otpauth://totp/a%0Ab:c%1B%5B2Jd%00?" + secret + "&issuer=a%0Ab" + defaults},
		{"no issuer", "", "alice", "otpauth://totp/alice?" + secret + defaults},
		{"issuer of colons", ":: ", "alice", "otpauth://totp/alice?" + secret + defaults},
	}
	for _, tt := range tests {
		if got := otp.URI(tt.issuer, tt.account, rfcSecret(20), otp.DefaultParams()); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// Ensure another implementation reads out of a URI what was put in.
func TestURIRoundTrip(t *testing.T) {
	t.Parallel()
	for _, issuer := range []string{"Sallyport", "ACME: Ünïcode GmbH", "株式会社", "a&b=c", "100% + more", "q?#/\\"} {
		for _, account := range []string{"alice", "alice@example.org", "DOM\\bob", "Jürgen Müller", "x+y", "a:b"} {
			for range 5 {
				p, secret := randomParams()
				uri := otp.URI(issuer, account, secret, p)
				key, err := pquerna.NewKeyFromURL(uri)
				if err != nil {
					t.Fatalf("reading %s: %v", uri, err)
				}
				label := func(s string) string { return strings.ReplaceAll(s, ":", "") }
				if key.Type() != "totp" || key.Issuer() != label(issuer) || key.AccountName() != label(account) {
					t.Errorf("%s: got %s of %q at %q, want %q at %q", uri, key.Type(), key.AccountName(), key.Issuer(), label(account), label(issuer))
				}
				if int(key.Period()) != p.Period || key.Digits().Length() != p.Digits || key.Algorithm().String() != string(p.Algorithm) {
					t.Errorf("%s: got %s, %d digits, %d s, want %+v", uri, key.Algorithm(), key.Digits(), key.Period(), p)
				}
				if back, err := otp.ParseSecret(key.Secret()); err != nil || !bytes.Equal(back, secret) {
					t.Errorf("%s: got the secret %x, %v, want %x", uri, []byte(back), err, []byte(secret))
				}
				if strings.Contains(uri, "+") || strings.Count(uri, ":") != 2 {
					t.Errorf("%s: a plus sign, or a colon too many", uri)
				}
			}
		}
	}
}
