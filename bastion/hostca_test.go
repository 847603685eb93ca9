package bastion

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/store"
)

// Ensure nodes with one secret show one key for a target and another for each other target, and that a
// certificate is for the names of the target alone, valid now, and made anew before it ends.
func TestHostCA(t *testing.T) {
	t.Parallel()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewHostCA(signer, make([]byte, HostSecretSize-1)); err == nil {
		t.Error("a short secret is taken")
	}
	secret := []byte("a secret of thirty-two bytes or more")
	node := func(secret []byte) *HostCA {
		t.Helper()
		h, err := NewHostCA(signer, secret)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	now := time.Now()
	show := func(h *HostCA, id, host string, at time.Time) (*ssh.Certificate, string) {
		t.Helper()
		keys, err := h.signers(store.Target{ID: id, Name: "Web1", Address: "[2001:db8::7]:2222"}, host, at)
		if err != nil || len(keys) != 2 {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		cert, ok := keys[0].PublicKey().(*ssh.Certificate)
		if !ok || ssh.FingerprintSHA256(cert.Key) != ssh.FingerprintSHA256(keys[1].PublicKey()) {
			t.Fatal("the certificate is not first, or for another key")
		}
		return cert, ssh.FingerprintSHA256(keys[1].PublicKey())
	}
	a, b := node(secret), node(slices.Clone(secret))
	cert, plain := show(a, "1", "web1.example.org", now)
	if _, same := show(b, "1", "web1", now); same != plain {
		t.Error("another node shows another key")
	}
	if _, other := show(a, "2", "web1", now); other == plain {
		t.Error("two targets have one key")
	}
	if _, other := show(node([]byte(strings.Repeat("x", HostSecretSize))), "1", "web1", now); other == plain {
		t.Error("another secret gives the same key")
	}
	if !slices.Equal(cert.ValidPrincipals, []string{"2001:db8::7", "Web1", "web1", "web1.example.org"}) || cert.CertType != ssh.HostCert {
		t.Errorf("certificate for %q, type %d", cert.ValidPrincipals, cert.CertType)
	}
	checker := ssh.CertChecker{IsHostAuthority: func(k ssh.PublicKey, _ string) bool {
		return ssh.FingerprintSHA256(k) == ssh.FingerprintSHA256(a.PublicKey())
	}}
	for at, good := range map[time.Duration]bool{-2 * time.Hour: false, -30 * time.Minute: true, 0: true, 23 * time.Hour: true, 25 * time.Hour: false} {
		checker.Clock = func() time.Time { return now.Add(at) }
		if err := checker.CheckCert("web1", cert); (err == nil) != good {
			t.Errorf("after %s: %v", at, err)
		}
	}
	if again, _ := show(a, "1", "web1.example.org", now.Add(11*time.Hour)); again.Serial != cert.Serial {
		t.Error("not kept for half of its time")
	}
	if again, _ := show(a, "1", "web1.example.org", now.Add(13*time.Hour)); again.Serial == cert.Serial {
		t.Error("not made anew")
	}
	for i := range 2 * maxHostCerts {
		show(a, "1", fmt.Sprint("host", i), now)
	}
	if len(a.certs) > maxHostCerts {
		t.Errorf("%d certificates are kept", len(a.certs))
	}
	if text := fmt.Sprintf("%v %+v %#v", a, a, a); strings.Contains(text, "thirty-two") || strings.Contains(text, fmt.Sprint([]byte("thirty"))[1:]) {
		t.Error("the secret prints itself")
	}
}
