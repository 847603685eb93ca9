package otp_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/pquerna/otp/hotp"
	"sallyport/otp"
)

func TestNewSecret(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		s := otp.NewSecret()
		if len(s) != 20 {
			t.Fatalf("got %d bytes, want 20", len(s))
		}
		if seen[string(s)] {
			t.Fatal("the same secret twice")
		}
		seen[string(s)] = true
		// pquerna/otp before 1.5.0 left most of a secret zero.
		if bytes.Count(s, []byte{0}) > 5 {
			t.Fatalf("%d of 20 bytes are zero", bytes.Count(s, []byte{0}))
		}
		if back, err := otp.ParseSecret(s.Base32()); err != nil || !bytes.Equal(back, s) {
			t.Fatalf("parsing %s: got %x, %v, want %x", s.Base32(), []byte(back), err, []byte(s))
		}
	}
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	const plain = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // 20 bytes
	want := []byte("12345678901234567890")
	for _, text := range []string{
		plain,
		strings.ToLower(plain),
		"gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
		"GEZD-GNBV-GY3T-QOJQ-GEZD-GNBV-GY3T-QOJQ",
		"  " + plain + "  ",
		plain + "\n",
		plain + "\r\n",
	} {
		if got, err := otp.ParseSecret(text); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: got %q, %v, want %q", text, []byte(got), err, want)
		}
	}
	padded, err := otp.ParseSecret("GEZDGNBVGY3TQOJQGEZDGNBVGY======\n")
	if err != nil || string(padded) != "1234567890123456" {
		t.Errorf("with padding: got %q, %v, want 16 bytes", []byte(padded), err)
	}
}

func TestParseSecretRefuses(t *testing.T) {
	t.Parallel()
	const plain = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	long := make(otp.Secret, 129)
	tests := []struct{ name, text string }{
		{"empty", ""},
		{"spaces", "   "},
		{"padding", "===="},
		{"10 bytes, as many services give", "GEZDGNBVGY3TQOJQ"},
		{"15 bytes", "GEZDGNBVGY3TQOJQGEZDGNBV"},
		{"129 bytes", long.Base32()},
		{"a character cut off", plain[:31]},
		{"digit one", "1" + plain[1:]},
		{"digit zero", "0" + plain[1:]},
		{"digit eight", "8" + plain[1:]},
		{"padding inside", plain[:16] + "==" + plain[16:]},
		{"hexadecimal", "3132333435363738393031323334353637383930"},
		{"two lines", plain[:16] + "\n" + plain[16:]},
		{"tab", plain + "\t"},
		{"NUL", plain + "\x00"},
		{"no-break space", plain[:16] + "\u00a0" + plain[16:]},
		{"long s, whose capital is S", "ſ" + plain[1:]},
		{"full-width letters", "ＧＥＺＤ" + plain[4:]},
		{"otpauth URI", "otpauth://totp/x?secret=" + plain},
		{"1 MB", strings.Repeat("A", 1<<20)},
	}
	for _, tt := range tests {
		got, err := otp.ParseSecret(tt.text)
		if !errors.Is(err, otp.ErrSecret) || got != nil {
			t.Errorf("%s: got %q, %v, want ErrSecret", tt.name, []byte(got), err)
			continue
		}
		if strings.Contains(err.Error(), "GEZD") || strings.Contains(err.Error(), "3132") {
			t.Errorf("%s: the error repeats the secret: %v", tt.name, err)
		}
	}
}

// Ensure a short secret that got into the database by another way opens nothing.
func TestShortSecretMatchesNothing(t *testing.T) {
	t.Parallel()
	p := otp.DefaultParams()
	for _, secret := range []otp.Secret{nil, {}, rfcSecret(1), rfcSecret(15), make(otp.Secret, 129)} {
		if !errors.Is(secret.Check(), otp.ErrSecret) {
			t.Errorf("a secret of %d bytes passes", len(secret))
		}
		if got := p.Code(secret, 1); got != "" {
			t.Errorf("a secret of %d bytes makes the code %q", len(secret), got)
		}
		if got := p.Match(secret, "", 1, 0, otp.DefaultWindow()); got != (otp.Outcome{}) {
			t.Errorf("a secret of %d bytes matches the empty code: %+v", len(secret), got)
		}
	}
	for _, secret := range []otp.Secret{nil, rfcSecret(10)} {
		code, err := hotp.GenerateCode(secret.Base32(), 1) // what a library makes of it
		if err != nil {
			t.Fatalf("generating the code: %v", err)
		}
		if got := p.Match(secret, code, 1, 0, otp.DefaultWindow()); got != (otp.Outcome{}) {
			t.Errorf("a secret of %d bytes matches its code: %+v", len(secret), got)
		}
	}
}

// Ensure a secret appears nowhere by accident.
func TestSecretIsRedacted(t *testing.T) {
	t.Parallel()
	s := otp.Secret("0123456789abcdefSEED")
	type holder struct {
		Name   string
		Secret otp.Secret
	}
	held := holder{"alice", s}
	shown := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%20s"} {
		shown[verb] = fmt.Sprintf(verb, s)
		shown[verb+" of a struct"] = fmt.Sprintf(verb, held)
		shown[verb+" of a pointer"] = fmt.Sprintf(verb, &held)
		shown[verb+" of a slice"] = fmt.Sprintf(verb, []otp.Secret{s})
		shown[verb+" of a map"] = fmt.Sprintf(verb, map[string]otp.Secret{"a": s})
	}
	shown["error"] = fmt.Errorf("reading %v: %s", held, s).Error()
	marshal := func(name string, f func(any) ([]byte, error)) {
		for _, v := range []any{s, held, &held, []otp.Secret{s}} {
			b, err := f(v)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			shown[fmt.Sprintf("%s of %T", name, v)] = string(b)
		}
	}
	marshal("json", json.Marshal)
	marshal("xml", xml.Marshal)
	marshal("yaml", yaml.Marshal)
	var b strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(h).Info("enrolled", "secret", s, "token", held, "list", []otp.Secret{s})
	}
	shown["slog"] = b.String()
	var page strings.Builder
	tmpl := template.Must(template.New("").Parse(`<a href="?s={{.Secret}}" title={{.Secret}}>{{.Secret}}{{.}}</a><script>var s = {{.}}</script>`))
	if err := tmpl.Execute(&page, held); err != nil {
		t.Fatalf("executing the template: %v", err)
	}
	shown["template"] = page.String()

	for name, text := range shown {
		for _, leak := range []string{
			"SEED", "0123456789", hex.EncodeToString(s), strings.ToUpper(hex.EncodeToString(s[:4])),
			"30 31 32", "48 49 50", "48, 49, 50", "- 48", "60 61 62", "U+0030", "0x30", s.Base32(), "MDEyMzQ1Njc4",
		} {
			if strings.Contains(text, leak) {
				t.Errorf("%s shows the secret: %s", name, text)
			}
		}
		if !strings.Contains(text, "secret") {
			t.Errorf("%s does not say that something is left out: %s", name, text)
		}
	}
}
