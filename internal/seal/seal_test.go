package seal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"
	"sallyport/internal/seal"
)

func newRing(t *testing.T) *seal.Ring {
	t.Helper()
	r, err := seal.NewRing()
	if err != nil {
		t.Fatalf("making a ring: %v", err)
	}
	return r
}

func mustSeal(t *testing.T, r *seal.Ring, table, column, row, plain string) string {
	t.Helper()
	sealed, err := r.Seal(table, column, row, []byte(plain))
	if err != nil {
		t.Fatalf("sealing: %v", err)
	}
	return sealed
}

func TestSealOpen(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	for _, plain := range []string{"", "x", "a secret", "\x00\xff", strings.Repeat("long ", 1<<16)} {
		sealed := mustSeal(t, r, "tokens", "secret", "7", plain)
		if parts := strings.Split(sealed, "."); len(parts) != 3 || parts[0] != "v1" || len(parts[1]) != 8 {
			t.Errorf("got %.40s…, want v1.KEYID.BASE64", sealed)
		}
		if len(plain) > 5 && strings.Contains(sealed, plain) {
			t.Errorf("%.40q stands in the sealed value", plain)
		}
		got, err := r.Open("tokens", "secret", "7", sealed)
		if err != nil || string(got) != plain {
			t.Errorf("got %.40q, %v, want %.40q", got, err, plain)
		}
	}
}

// Ensure equal secrets cannot be told to be equal.
func TestSealTwiceDiffers(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	seen := map[string]bool{}
	for range 1000 {
		sealed := mustSeal(t, r, "tokens", "secret", "7", "the same")
		if seen[sealed] {
			t.Fatal("the same sealed value twice: a nonce was used again")
		}
		seen[sealed] = true
	}
}

func TestMovedValueDoesNotOpen(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	places := [][3]string{
		{"tokens", "secret", "7"},
		{"tokens", "secret", "8"},
		{"tokens", "secret", "77"},
		{"tokens", "secret7", "7"},
		{"users", "secret", "7"},
		{"tokens", "password", "7"},
		{"secret", "tokens", "7"},
		{"tokenss", "ecret", "7"}, // same letters one after the other
		{"token", "ssecret", "7"},
		{"tokens", "secre", "t7"},
		{"tokens\x00", "secret", "7"},
		{"tokens", "secret", "7\x00"},
		{"tokens.secret", "7", "7"},
	}
	for _, from := range places {
		sealed := mustSeal(t, r, from[0], from[1], from[2], "a secret")
		for _, to := range places {
			got, err := r.Open(to[0], to[1], to[2], sealed)
			if from == to {
				if err != nil {
					t.Errorf("%q does not open in its own place: %v", from, err)
				}
				continue
			}
			if !errors.Is(err, seal.ErrDamaged) || got != nil {
				t.Errorf("moved from %q to %q: got %q, %v, want ErrDamaged", from, to, got, err)
			}
		}
	}
}

// Ensure two places share no encoding, whatever their names are.
func TestMovedValueProperty(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-c\x00-\x02.]{1,4}`)
		from := [3]string{name.Draw(t, "table"), name.Draw(t, "column"), name.Draw(t, "row")}
		to := [3]string{name.Draw(t, "other table"), name.Draw(t, "other column"), name.Draw(t, "other row")}
		sealed, err := r.Seal(from[0], from[1], from[2], []byte("a secret"))
		if err != nil {
			t.Fatalf("sealing: %v", err)
		}
		if _, err := r.Open(to[0], to[1], to[2], sealed); (err == nil) != (from == to) {
			t.Fatalf("sealed for %q, opened at %q: %v", from, to, err)
		}
	})
}

func TestFlippedBitDoesNotOpen(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	sealed := mustSeal(t, r, "tokens", "secret", "7", "0123456789abcdefghij")
	for i := range len(sealed) {
		for bit := range 8 {
			b := []byte(sealed)
			b[i] ^= 1 << bit
			if got, err := r.Open("tokens", "secret", "7", string(b)); err == nil {
				t.Fatalf("bit %d of byte %d flipped: opened as %q", bit, i, got)
			}
		}
	}
	for i := range len(sealed) {
		if _, err := r.Open("tokens", "secret", "7", sealed[:i]); err == nil {
			t.Fatalf("cut to %d bytes: opened", i)
		}
	}
	damaged := map[string]string{
		"empty":                    "",
		"dots":                     "..",
		"plaintext":                "0123456789abcdefghij",
		"a part more":              sealed + ".x",
		"a character more":         sealed + "A",
		"a newline at the end":     sealed + "\n",
		"a newline inside":         sealed[:30] + "\n" + sealed[30:],
		"padding":                  sealed + "=",
		"another version":          "v2" + sealed[2:],
		"key id in capitals":       strings.ToUpper(sealed[:12]) + sealed[12:],
		"key id with a path":       "v1.../../ab." + sealed[12:],
		"only a nonce":             sealed[:12] + "AAAAAAAAAAAAAAAA",
		"nothing after the key id": sealed[:12],
	}
	for name, value := range damaged {
		if got, err := r.Open("tokens", "secret", "7", value); !errors.Is(err, seal.ErrDamaged) || got != nil {
			t.Errorf("%s: got %q, %v, want ErrDamaged", name, got, err)
		}
	}
}

func TestUnknownKeySaysWhatToDo(t *testing.T) {
	t.Parallel()
	sealed := mustSeal(t, newRing(t), "tokens", "secret", "7", "a secret")
	_, err := newRing(t).Open("tokens", "secret", "7", sealed)
	if !errors.Is(err, seal.ErrUnknownKey) {
		t.Fatalf("got %v, want ErrUnknownKey", err)
	}
	for _, want := range []string{"tokens.secret", `row "7"`, "key " + strings.Split(sealed, ".")[1], "put the line of that key back"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want it to say %q", err, want)
		}
	}
}

func TestSealNeedsAPlace(t *testing.T) {
	t.Parallel()
	r := newRing(t)
	sealed := mustSeal(t, r, "tokens", "secret", "7", "a secret")
	for _, place := range [][3]string{{"", "secret", "7"}, {"tokens", "", "7"}, {"tokens", "secret", ""}} {
		if got, err := r.Seal(place[0], place[1], place[2], []byte("x")); err == nil {
			t.Errorf("sealed for %q: %s", place, got)
		}
		if got, err := r.Open(place[0], place[1], place[2], sealed); err == nil {
			t.Errorf("opened at %q: %s", place, got)
		}
	}
}

func TestEmptyRingRefuses(t *testing.T) {
	t.Parallel()
	sealed := mustSeal(t, newRing(t), "tokens", "secret", "7", "a secret")
	for _, r := range []*seal.Ring{nil, {}} {
		if got, err := r.Seal("tokens", "secret", "7", []byte("x")); err == nil || got != "" {
			t.Errorf("%v seals: %s", r, got)
		}
		if _, err := r.Open("tokens", "secret", "7", sealed); !errors.Is(err, seal.ErrUnknownKey) {
			t.Errorf("%v: got %v, want ErrUnknownKey", r, err)
		}
	}
}

// Ensure a ring shows the ids of its keys and nothing else, wherever it is printed.
func TestRingIsRedacted(t *testing.T) {
	t.Parallel()
	r, text := ringOf(t, 2)
	held := struct{ Ring *seal.Ring }{r}
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown = append(shown, fmt.Sprintf(verb, r), fmt.Sprintf(verb, held), fmt.Sprintf(verb, *r))
	}
	for _, v := range []any{r, held, *r} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("marshalling: %v", err)
		}
		shown = append(shown, string(b))
	}
	var b bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(h).Info("started", "keys", r, "held", held)
	}
	shown = append(shown, b.String())
	for _, s := range shown {
		for _, leak := range leaks(text) {
			if strings.Contains(s, leak) {
				t.Errorf("a key is shown: %s", s)
			}
		}
	}
	id := strings.Fields(text)[0]
	if !strings.Contains(r.String(), id) {
		t.Errorf("got %s, want the key id %s in it", r, id)
	}
}

func BenchmarkOpen(b *testing.B) {
	r, err := seal.NewRing()
	if err != nil {
		b.Fatal(err)
	}
	sealed, err := r.Seal("tokens", "secret", "7", make([]byte, 20))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := r.Open("tokens", "secret", "7", sealed); err != nil {
			b.Fatal(err)
		}
	}
}
