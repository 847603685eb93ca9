package admin

import (
	"context"
	"crypto/ed25519"
	"net/http"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/recorder"
	"sallyport/session"
	"sallyport/store"
)

// The page that proves the audit log, and what the overview says of it.
func TestAuditVerifyPage(t *testing.T) {
	t.Parallel()
	var chain *auditlog.Chainer
	w := newPageWorld(t, func(c *Config) {
		chain = auditlog.NewChainer(auditlog.ChainConfig{Keeper: c.Store.Audit, Sign: c.Recorder.Sign, Node: "bastion-1"})
		c.Chain = chain
	})
	w.furnish()
	b := w.signedIn("ines")
	must(t, chain.All(t.Context()))
	page := b.shows("/audit/verify", "proved", "none is missing", "sallyport audit verify --head", w.Rec.Keys()[0].ID())
	if strings.Contains(page, `class="notice bad"`) {
		t.Error("a log that nobody altered is not proved")
	}
	b.shows("/audit", `href="/audit/verify"`)
	b.shows("/", "are chained, last signed by bastion-1")
	must(t, w.Store.Audit.Append(context.Background(), audit.Event{Type: audit.NodeStarted, Result: audit.OK, Time: w.now().Add(-time.Minute)}))
	b.shows("/", "events that are not chained: 1, the oldest for 1 min")

	// A key of which a thief has signed.
	keys := w.Rec.Keys()
	keys[0].CompromisedFrom = time.Now().Add(-time.Hour)
	_, next, err := ed25519.GenerateKey(nil)
	must(t, err)
	must(t, w.Rec.SetKeys(next, keys))
	b.shows("/audit/verify", "The log is not proved", "first signed with a key that was compromised by then", "compromised from")
}

// The page of a session whose recording the server cannot read says so, offers the file, and shows nothing else.
func TestEncryptedRecordingPage(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	must(t, err)
	w := newPageWorld(t, func(c *Config) {
		_, key, err := ed25519.GenerateKey(nil)
		must(t, err)
		c.Recorder, err = recorder.New(recorder.Config{Dir: t.TempDir(), SigningKey: key, Node: "bastion-1", Recipients: []age.Recipient{id.Recipient()}})
		must(t, err)
		t.Cleanup(func() { c.Recorder.Close() })
	})
	w.Rec = w.Server.cfg.Recorder
	w.person("ines", "auditor")
	x := w.openSession("alice", "web1")
	w.record(x, 1, "shell", "", "a secret screen\r\n")
	b := w.signedIn("ines")
	page := b.shows("/sessions/"+x.ID, "This recording is encrypted", "--identity FILE", "/recordings/1.tar?download=1")
	if strings.Contains(page, ".txt?download") || strings.Contains(page, "Transcript") || strings.Contains(page, "a secret screen") {
		t.Error("the page offers what the server does not have")
	}
	b.shows("/sessions/"+x.ID+"?view=transcript", "This recording is encrypted")
	if status, body, _ := b.get("/sessions/" + x.ID + "/recordings/1.txt"); status != http.StatusConflict || !strings.Contains(body, "encrypted to its recipients") {
		t.Errorf("as text: %d, %s", status, body)
	}
	status, body, header := b.get("/sessions/" + x.ID + "/recordings/1.tar?download=1")
	if status != 200 || header.Get("Content-Type") != "application/x-tar" || strings.Contains(body, "a secret screen") || !strings.Contains(body, "age-encryption.org/v1") {
		t.Errorf("as archive: %d, %v", status, header)
	}
}

// A session under a break-glass rule is marked in the list and on its page.
func TestBreakGlassIsShown(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.person("ines", "auditor")
	x, err := w.Store.Sessions.Open(t.Context(), store.Session{User: "alice", Target: "web1", Node: "bastion-1", Rule: "emergency", Recording: session.BreakGlass})
	must(t, err)
	b := w.signedIn("ines")
	for _, path := range []string{"/sessions", "/sessions/" + x.ID, "/"} {
		b.shows(path, `<span class="badge bad">`, "break-glass</span>")
	}
}
