package main

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestPlayerTiming(t *testing.T) {
	t.Parallel()
	const cast = `{"version":3,"term":{"cols":80,"rows":24}}
# a comment
[0.5, "o", "a"]
[10, "i", "typed"]
[2, "o", "b"]

[0.25, "r", "100x50"]
[0.25, "x", "0"]
`
	for _, tc := range []struct {
		speed float64
		idle  time.Duration
		want  []time.Duration
	}{
		{1, 0, []time.Duration{500 * time.Millisecond, 10 * time.Second, 2 * time.Second, 250 * time.Millisecond, 250 * time.Millisecond}},
		{2, time.Second, []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond, 125 * time.Millisecond, 125 * time.Millisecond}},
	} {
		var slept []time.Duration
		var out strings.Builder
		p := player{out: &out, speed: tc.speed, idle: tc.idle, warn: t.Logf, sleep: func(_ context.Context, d time.Duration) error {
			slept = append(slept, d)
			return nil
		}}
		noError(t, p.play(context.Background(), strings.NewReader(cast)))
		if out.String() != "ab"+screenReset {
			t.Errorf("out %q", out.String())
		}
		if len(slept) != len(tc.want) {
			t.Fatalf("slept %v, want %v", slept, tc.want)
		}
		for i := range slept {
			if slept[i] != tc.want[i] {
				t.Errorf("slept %v, want %v", slept, tc.want)
				break
			}
		}
	}
	for _, bad := range []string{"", "x\n", `{"version":2}` + "\n", `{"version":3}` + "\n[1]x\n", `{"version":3}` + "\n" + `["a","o","b"]` + "\n"} {
		p := player{out: &strings.Builder{}, speed: 1, warn: t.Logf, sleep: sleep}
		if p.play(context.Background(), strings.NewReader(bad)) == nil {
			t.Errorf("%q was played", bad)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p := player{out: &strings.Builder{}, speed: 1, warn: t.Logf, sleep: sleep}
	noError(t, p.play(ctx, strings.NewReader(`{"version":3}`+"\n"+`[3600,"o","x"]`+"\n"))) // Ctrl-C
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"90m":                  now.Add(-90 * time.Minute),
		"7d":                   now.Add(-7 * 24 * time.Hour),
		"2026-01-31T15:04:05Z": time.Date(2026, 1, 31, 15, 4, 5, 0, time.UTC),
		"2026-01-31":           time.Date(2026, 1, 31, 0, 0, 0, 0, time.Local),
		"2026-01-31 15:04":     time.Date(2026, 1, 31, 15, 4, 0, 0, time.Local),
	} {
		if got, err := parseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "-1h", "0s", "1.5d", "d", "999999999d", "2026-13-01"} {
		if got, err := parseTime(text, now); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestAsciiControls(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"a":"é\n"}`:          `{"a":"é\n"}`,
		"\"\u009b\u202e\"":     `"\u009b\u202e"`,
		"\"\U000e0001\x7f\"":   `"\udb40\udc01\u007f"`,
		"{\n  \"a\": \"b\"\n}": "{\n  \"a\": \"b\"\n}",
	} {
		if got := string(asciiControls([]byte(in))); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}
