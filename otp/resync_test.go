package otp_test

import (
	"testing"

	"sallyport/otp"
)

// Ensure two codes in a row are found wherever the token is, that both must be later than the last one
// used (LinOTP accepted used codes again after a resynchronisation), and that nothing else will do.
func TestResync(t *testing.T) {
	t.Parallel()
	const now = 59_000_000
	secret := rfcSecret(20)
	totp, hotp := otp.DefaultParams(), otp.Params{Kind: otp.HOTP, Algorithm: otp.SHA256, Digits: 8}
	for name, tt := range map[string]struct {
		p             otp.Params
		first, second int64
		last          int64
		want          bool
	}{
		"right clock":               {totp, now - 1, now, 0, true},
		"a quarter of an hour slow": {totp, now - 31, now - 30, 0, true},
		"almost a day fast":         {totp, now + 2879, now + 2880, 0, true},
		"more than a day fast":      {totp, now + 2880, now + 2881, 0, false},
		"more than a day slow":      {totp, now - 2881, now - 2880, 0, false},
		"not in a row":              {totp, now - 2, now, 0, false},
		"the wrong way round":       {totp, now, now - 1, 0, false},
		"the same twice":            {totp, now, now, 0, false},
		"first one used":            {totp, now - 1, now, now - 1, false},
		"both used":                 {totp, now - 1, now, now + 5, false},
		"just after the last":       {totp, now, now + 1, now - 1, true},
		"new HOTP token":            {hotp, 0, 1, -1, true},
		"HOTP far ahead":            {hotp, 900, 901, 7, true},
		"HOTP too far":              {hotp, 1008, 1009, 7, false},
		"HOTP used":                 {hotp, 7, 8, 7, false},
	} {
		step, ok := tt.p.Resync(secret, tt.p.Code(secret, tt.first), tt.p.Code(secret, tt.second), now, tt.last)
		if ok != tt.want || ok && step != tt.second {
			t.Errorf("%s: got step %d, %v", name, step, ok)
		}
	}
	if _, ok := totp.Resync(rfcSecret(15), "", "", now, 0); ok {
		t.Error("a short secret was resynchronised")
	}
	if _, ok := totp.Resync(secret, "", "", now, 0); ok {
		t.Error("empty codes were taken")
	}
}
