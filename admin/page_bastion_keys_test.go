package admin

import (
	"net/http"
	"strings"
	"testing"

	"sallyport/store"
)

// The page tells which keys vouch and sign, since when, which ones wait, and what to type next; to auditors too.
func TestBastionKeysPage(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	b := w.signedIn("ines")
	b.shows("/targets", `href="/bastion-keys"`)
	ca, err := w.Server.hostCA(t.Context(), "")
	must(t, err)
	before := b.shows("/bastion-keys", ca.Fingerprint, "@cert-authority", "vouches", "signs", "sallyport hostca rotate", "sallyport ca rotate", "bastion-1")
	if strings.Contains(before, "waits<") || strings.Contains(before, "hostca activate") {
		t.Errorf("a key waits that is not there:\n%s", before)
	}
	by := Caller{Actor: "ada", Role: Role(store.RoleAdmin)}
	after, err := w.Server.rotateHostCA(t.Context(), by)
	must(t, err)
	must(t, w.Server.rotateCA(t.Context(), by))
	b.shows("/bastion-keys", after.Fingerprint, after.Next.Fingerprint, "waits<", "sallyport hostca activate", "sallyport hostca drop", "sallyport-host-ca-next", "sallyport ca activate", "sallyport ca drop")
	must(t, w.Server.activateCA(t.Context(), by))
	b.shows("/bastion-keys", "old<", "sallyport ca retire")
	if status, _, header := w.browser().get("/bastion-keys"); status != http.StatusSeeOther || !strings.HasPrefix(header.Get("Location"), "/signin") {
		t.Errorf("without signing in: %d to %q", status, header.Get("Location"))
	}
}
