package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/admin"
	"sallyport/internal/testenv"
)

// ageKey makes a key with age-keygen, and returns its file and its recipient.
func ageKey(t *testing.T) (file, recipient string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	testenv.Run(t, "age-keygen", "-o", file)
	text, err := os.ReadFile(file)
	noError(t, err)
	return file, regexp.MustCompile("age1[0-9a-z]+").FindString(string(text))
}

// A person works through a bastion that records for an auditor: nobody can read that on the server, the page says
// so, the proof works without the key, and the auditor reads it with the key, also from a file.
func TestEncryptedSessions(t *testing.T) {
	t.Parallel()
	identity, recipient := ageKey(t)
	stranger, _ := ageKey(t)
	o := startOperatedWith(t, "192.0.2.10", "recordings: {reserve: 1KiB, recipients: ["+recipient+"]}\n")
	o.behind()
	c := o.person("web1")
	if out, errs, status := c.Output(t, "echo top; echo secret >&2"); out != "top\n" || status != 0 {
		t.Fatalf("ssh: %q %q %d", out, errs, status)
	}
	x := o.ended()
	o.chained()
	if text := o.fails(exitFailed, "session", "export", x.ID, "--format", "text"); !strings.Contains(text, "encrypted to its recipients") || !strings.Contains(text, "--identity") {
		t.Errorf("export: %q", text)
	}
	o.fails(exitFailed, "session", "play", x.ID)
	if v := object[[]admin.Verification](o, "session", "verify", x.ID); !v[0].Proved || !v[0].Encrypted {
		t.Errorf("verify: %+v", v)
	}
	if out := o.ok("session", "export", x.ID, "--format", "text", "--identity", identity); !strings.Contains(out, "top") || !strings.Contains(out, "secret") {
		t.Errorf("with the key: %q", out)
	}
	if out := o.ok("session", "play", x.ID, "--identity", identity, "--speed", "1000"); !strings.Contains(out, "top") {
		t.Errorf("play: %q", out)
	}
	if text := o.fails(exitFailed, "session", "export", x.ID, "--identity", stranger); !strings.Contains(text, "none of its recipients") {
		t.Errorf("with another key: %q", text)
	}
	o.fails(exitUsage, "session", "export", x.ID, "--identity", o.file("nonsense", "x"))

	// In files, without the server.
	archive := filepath.Join(t.TempDir(), "x.tar")
	noError(t, os.WriteFile(archive, []byte(o.ok("session", "export", x.ID, "--format", "encrypted")), 0o600))
	keys := o.file("keys.pem", o.ok("session", "keys"))
	if r := command("", "session", "verify", archive, "--keys", keys); r.code != 0 {
		t.Errorf("verify FILE: %+v", r)
	}
	if r := command("", "session", "play", archive, "--identity", identity, "--speed", "1000"); r.code != 0 || !strings.Contains(r.out, "top") {
		t.Errorf("play FILE: %+v", r)
	}
	if r := command("", "session", "export", archive, "--identity", identity, "--format", "json"); r.code != 0 || !strings.Contains(r.out, "secret") {
		t.Errorf("export FILE: %+v", r)
	}
}
