package session

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"sallyport/recorder"
)

// TestNothingIsShownInTheGapOfARequiredRecording: when a recording that is required failed, in the background or by
// what the other stream wrote, the session was ended, and what came until then was shown as in a gap that may be: the
// person saw more than was recorded.
func TestNothingIsShownInTheGapOfARequiredRecording(t *testing.T) {
	t.Parallel()
	r, err := recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	rec, err := r.Create(recorder.Header{Session: "one"})
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		grant  Grant
		broken bool
		shown  bool
	}{
		"required":                   {grant: Grant{Required: true}},
		"required, glass broken":     {grant: Grant{Required: true, BreakGlass: true}, broken: true, shown: true},
		"best effort":                {shown: true},
		"best effort and no glasses": {grant: Grant{BreakGlass: true}, shown: true},
	} {
		c := &channel{rec: rec, grant: x.grant, glassBroken: x.broken, retry: time.Now().Add(time.Hour)}
		c.gap.Store(true)
		for _, which := range []stream{recordOutput, recordStderr} {
			if got := c.record(which, []byte("x")); got != x.shown {
				t.Errorf("%s: shown is %v", name, got)
			}
		}
	}
}
