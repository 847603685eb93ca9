package otp_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"
	"sallyport/otp"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	const now = 1000
	one := otp.DefaultWindow()
	tests := []struct {
		name     string
		typed    int64 // step whose code is typed
		lastStep int64
		window   otp.Window
		want     otp.Outcome
	}{
		{"the present step", now, 0, one, otp.Outcome{OK: true, Step: now}},
		{"one behind", now - 1, 0, one, otp.Outcome{OK: true, Step: now - 1}},
		{"one ahead", now + 1, 0, one, otp.Outcome{OK: true, Step: now + 1}},
		{"two behind", now - 2, 0, one, otp.Outcome{}},
		{"two ahead", now + 2, 0, one, otp.Outcome{}},
		{"no window, present step", now, 0, otp.Window{}, otp.Outcome{OK: true, Step: now}},
		{"no window, one behind", now - 1, 0, otp.Window{}, otp.Outcome{}},
		{"only behind, one ahead", now + 1, 0, otp.Window{Behind: 1}, otp.Outcome{}},
		{"far behind in a wide window", now - 10, 0, otp.Window{Behind: 10}, otp.Outcome{OK: true, Step: now - 10}},
		{"used just now", now, now, one, otp.Outcome{Replayed: true, Step: now}},
		{"used one step ago, typed again", now - 1, now - 1, one, otp.Outcome{Replayed: true, Step: now - 1}},
		{"older than the used one, never used itself", now - 1, now, one, otp.Outcome{Replayed: true, Step: now - 1}},
		{"the step after the used one", now + 1, now, one, otp.Outcome{OK: true, Step: now + 1}},
		{"used ahead of time, then the present one", now, now + 1, one, otp.Outcome{Replayed: true, Step: now}},
		{"used too long ago to be known", now - 5, now - 5, one, otp.Outcome{}},
		{"clock was set back by an hour", now, now + 120, one, otp.Outcome{Replayed: true, Step: now}},
		{"last step is no step", now, math.MinInt64, one, otp.Outcome{OK: true, Step: now}},
		{"window too wide", now, 0, otp.Window{Behind: 11, Ahead: 1}, otp.Outcome{}},
		{"window of nothing", now, 0, otp.Window{Behind: -1, Ahead: 1}, otp.Outcome{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range []otp.Params{
				otp.DefaultParams(),
				{Algorithm: otp.SHA256, Digits: 8, Period: 60},
				{Algorithm: otp.SHA512, Digits: 8, Period: 30},
			} {
				secret := rfcSecret(32)
				if got := p.Match(secret, p.Code(secret, tt.typed), now, tt.lastStep, tt.window); got != tt.want {
					t.Errorf("%+v: got %+v, want %+v", p, got, tt.want)
				}
			}
		})
	}
}

// Ensure that a code of two steps counts for the lowest unused one (reference: steps found by search).
func TestMatchAmbiguous(t *testing.T) {
	t.Parallel()
	p, secret := otp.DefaultParams(), rfcSecret(20)
	const (
		adjacent = 50424280 // and the step after it
		apart    = 50897033 // and two steps after it
	)
	if p.Code(secret, adjacent) != p.Code(secret, adjacent+1) || p.Code(secret, apart) != p.Code(secret, apart+2) {
		t.Fatal("the steps do not have the same code")
	}
	tests := []struct {
		name                 string
		typed, now, lastStep int64
		want                 otp.Outcome
	}{
		{"both unused", adjacent, adjacent, 0, otp.Outcome{OK: true, Step: adjacent}},
		{"both unused, seen from the second", adjacent, adjacent + 1, 0, otp.Outcome{OK: true, Step: adjacent}},
		{"first used", adjacent, adjacent, adjacent, otp.Outcome{OK: true, Step: adjacent + 1}},
		{"both used", adjacent, adjacent, adjacent + 1, otp.Outcome{Replayed: true, Step: adjacent}},
		{"at the two edges, unused", apart, apart + 1, 0, otp.Outcome{OK: true, Step: apart}},
		{"at the two edges, middle used", apart, apart + 1, apart + 1, otp.Outcome{OK: true, Step: apart + 2}},
	}
	for _, tt := range tests {
		if got := p.Match(secret, p.Code(secret, tt.typed), tt.now, tt.lastStep, otp.DefaultWindow()); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestMatchRefusesOtherCodes(t *testing.T) {
	t.Parallel()
	p, secret := otp.DefaultParams(), rfcSecret(20)
	right := p.Code(secret, 1000)
	for _, code := range []string{"", "0", right[:1], right[:5], right + "0", " " + right, right + "\x00", "0" + right, "000000"} {
		if got := p.Match(secret, code, 1000, 0, otp.DefaultWindow()); got != (otp.Outcome{}) {
			t.Errorf("code %q: got %+v, want nothing", code, got)
		}
	}
	// Steps before 1970 do not exist, whatever the clock says.
	for _, now := range []int64{-1, -2, -1000, math.MinInt64, math.MaxInt64} {
		for _, code := range []string{"", p.Code(secret, 1)} {
			if got := p.Match(secret, code, now, math.MinInt64, otp.DefaultWindow()); got != (otp.Outcome{}) {
				t.Errorf("step %d, code %q: got %+v, want nothing", now, code, got)
			}
		}
	}
}

// Ensure that an accepted step shuts out itself and every step before it, for any order of typing,
// and that Match says the same as the plain words of its documentation.
func TestMatchProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := otp.Params{
			Algorithm: rapid.SampledFrom([]otp.Algorithm{otp.SHA1, otp.SHA256, otp.SHA512}).Draw(t, "algorithm"),
			Digits:    rapid.SampledFrom([]int{6, 8}).Draw(t, "digits"),
			Period:    rapid.SampledFrom([]int{30, 60}).Draw(t, "period"),
		}
		w := otp.Window{
			Behind: rapid.IntRange(0, 10).Draw(t, "behind"), Ahead: rapid.IntRange(0, 10).Draw(t, "ahead"),
			Drift: rapid.IntRange(-25, 25).Draw(t, "known drift"),
		}
		secret := otp.Secret(rapid.SliceOfN(rapid.Byte(), 16, 64).Draw(t, "secret"))
		now := rapid.Int64Range(0, 1<<40).Draw(t, "now")
		lastStep := int64(0)
		accepted := map[int64]bool{}
		for range 20 {
			now += rapid.Int64Range(-3, 3).Draw(t, "clock")
			typed := max(0, now+rapid.Int64Range(-36, 36).Draw(t, "drift"))
			code := p.Code(secret, typed)
			got := p.Match(secret, code, now, lastStep, w)
			if want := plainMatch(p, secret, code, now, lastStep, w); got != want {
				t.Fatalf("step %d of %d, last %d, %+v: got %+v, want %+v", typed, now, lastStep, w, got, want)
			}
			if got.OK {
				if accepted[got.Step] || got.Step <= lastStep {
					t.Fatalf("step %d is accepted after %d", got.Step, lastStep)
				}
				accepted[got.Step], lastStep = true, got.Step
			}
		}
	})
}

// plainMatch is Match without care for time.
func plainMatch(p otp.Params, secret otp.Secret, code string, now, lastStep int64, w otp.Window) otp.Outcome {
	var outcome otp.Outcome
	in := func(step, center int64) bool { return step >= center-int64(w.Behind) && step <= center+int64(w.Ahead) }
	for step := max(0, now-40); step <= now+40; step++ {
		switch {
		case !in(step, now) && !in(step, now+int64(w.Drift)):
		case p.Code(secret, step) != code:
		case step > lastStep:
			return otp.Outcome{OK: true, Step: step}
		case !outcome.Replayed:
			outcome = otp.Outcome{Replayed: true, Step: step}
		}
	}
	return outcome
}

// Ensure there is no early exit: the same number of HMACs is computed wherever the code matches.
// Each allocates, so that allocations count them. Not parallel, because AllocsPerRun must not be.
func TestMatchComputesAllCandidates(t *testing.T) {
	p, secret := otp.DefaultParams(), rfcSecret(20)
	w := otp.Window{Behind: 5, Ahead: 5, Drift: -3}
	count := func(code string, lastStep int64, w otp.Window) float64 {
		return testing.AllocsPerRun(20, func() { p.Match(secret, code, 1000, lastStep, w) })
	}
	want := count("wrong!", 0, w)
	if single := count("wrong!", 0, otp.Window{}); want < 7*single {
		t.Fatalf("%v allocations for 14 steps, %v for one: they do not count HMACs", want, single)
	}
	for step := int64(992); step <= 1005; step++ {
		for _, lastStep := range []int64{0, step, 2000} {
			if got := count(p.Code(secret, step), lastStep, w); got != want {
				t.Errorf("code of step %d, last step %d: %v allocations, %v for a wrong code", step, lastStep, got, want)
			}
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	p, secret := otp.DefaultParams(), rfcSecret(20)
	for b.Loop() {
		p.Match(secret, "000000", 1000, 0, otp.DefaultWindow())
	}
}

// Ensure an HOTP token is looked for up to ten counters ahead and no further, and that counters that
// were used are noticed and never accepted (RFC 4226, section 7.4).
func TestMatchCounter(t *testing.T) {
	t.Parallel()
	p, secret := otp.Params{Kind: otp.HOTP, Algorithm: otp.SHA1, Digits: 6}, rfcSecret(20)
	for _, tt := range []struct {
		last, typed int64
		want        otp.Outcome
	}{
		{-1, 0, otp.Outcome{OK: true, Step: 0}}, // a new token
		{-1, 9, otp.Outcome{OK: true, Step: 9}},
		{-1, 10, otp.Outcome{}},
		{5, 6, otp.Outcome{OK: true, Step: 6}},
		{5, 15, otp.Outcome{OK: true, Step: 15}},
		{5, 16, otp.Outcome{}},
		{5, 5, otp.Outcome{Replayed: true, Step: 5}},
		{5, 0, otp.Outcome{Replayed: true, Step: 0}},
		{50, 41, otp.Outcome{Replayed: true, Step: 41}},
		{50, 40, otp.Outcome{}},
	} {
		if got := p.MatchCounter(secret, p.Code(secret, tt.typed), tt.last); got != tt.want {
			t.Errorf("counter %d after %d: got %+v, want %+v", tt.typed, tt.last, got, tt.want)
		}
	}
	if got := otp.DefaultParams().MatchCounter(secret, p.Code(secret, 0), -1); got != (otp.Outcome{}) {
		t.Errorf("a TOTP token was judged by a counter: %+v", got)
	}
	if got := p.Match(secret, p.Code(secret, 7), 7, 0, otp.DefaultWindow()); got != (otp.Outcome{}) {
		t.Errorf("an HOTP token was judged by time: %+v", got)
	}
}
