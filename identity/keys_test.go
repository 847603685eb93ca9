package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
)

// newKey returns a new key as a line of authorized_keys, and its fingerprint.
func newKey(t *testing.T) (line, fingerprint string) {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return lineOf(t, public)
}

func lineOf(t *testing.T, public any) (line, fingerprint string) {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), ssh.FingerprintSHA256(key)
}

// Keys are read with the entry, at every look-up. What has options, is no key or is too much is left out,
// and the log hears of it.
func TestKeys(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t, testenv.WithoutTLS())
	good, want := newKey(t)
	other, wantOther := newKey(t)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak, _ := lineOf(t, &short.PublicKey)
	var many []string
	for range maxKeys + 5 {
		line, _ := newKey(t)
		many = append(many, line)
	}
	for name, c := range map[string]struct {
		values []string
		want   []string
		log    string
	}{
		"none":        {nil, nil, ""},
		"one":         {[]string{good + " laptop of alice"}, []string{want}, ""},
		"two":         {[]string{good + "\n", "  " + other}, []string{want, wantOther}, ""},
		"twice":       {[]string{good + " a", good + " b"}, []string{want}, ""},
		"options":     {[]string{`command="id" ` + good, "no-touch-required " + good, "cert-authority " + other, other}, []string{wantOther}, "options"},
		"junk":        {[]string{"", "x", "ssh-ed25519 AAAA", "\x00\xff", other}, []string{wantOther}, "not a public key"},
		"two lines":   {[]string{good + "\n" + other, "# note\n" + good}, nil, "more than one line"},
		"short":       {[]string{weak}, nil, "2048"},
		"too long":    {[]string{good + " " + strings.Repeat("x", maxKeySize)}, nil, "longer"},
		"certificate": {[]string{strings.Replace(good, "ssh-ed25519 ", "ssh-ed25519-cert-v01@openssh.com ", 1)}, nil, "not a public key"},
		"too many":    {many, nil, "more than 50"},
	} {
		values := slices.DeleteFunc(slices.Clone(c.values), func(v string) bool { return v == "" }) // slapd keeps no empty one
		d.SetKeys("alice", values...)
		var log bytes.Buffer
		cfg := configFor(d)
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		p, err := newLDAP(t, cfg).Lookup(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		if name == "too many" {
			if len(p.Keys) != maxKeys {
				t.Errorf("too many: %d keys count", len(p.Keys))
			}
		} else if slices.Sort(p.Keys); !slices.Equal(p.Keys, slices.Sorted(slices.Values(c.want))) {
			t.Errorf("%s: keys %q, want %q", name, p.Keys, c.want)
		}
		if got := log.String(); !strings.Contains(got, c.log) || c.log == "" && got != "" {
			t.Errorf("%s: logged %q, want %q", name, got, c.log)
		}
	}

	// Another attribute, and none.
	d.SetKeys("alice", good)
	d.Modify(d.UserDN("alice"), "description", other)
	for attribute, want := range map[string][]string{"description": {wantOther}, "sshpublickey": {want}, "-": nil, "noSuchAttribute": nil} {
		cfg := configFor(d)
		cfg.KeyAttribute = attribute
		p, err := newLDAP(t, cfg).Lookup(t.Context(), "alice")
		if err != nil || !slices.Equal(p.Keys, want) {
			t.Errorf("attribute %s: %q, %v", attribute, p.Keys, err)
		}
	}
}

// Lines with options are refused with the reason, and so is what only looks like a key.
func TestParseUserKey(t *testing.T) {
	t.Parallel()
	good, _ := newKey(t)
	if key, comment, err := ParseUserKey(" " + good + " a comment "); err != nil || key == nil || comment != "a comment" {
		t.Errorf("a good key: %v, comment %q", err, comment)
	}
	for line, want := range map[string]string{
		`from="192.0.2.1" ` + good: "options", "restrict " + good: "options", good + "\n" + good: "more than one line",
		"": "not a public key", "ssh-dss AAAA": "not a public key",
	} {
		if _, _, err := ParseUserKey(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", fmt.Sprintf("%.40q", line), err, want)
		}
	}
}
