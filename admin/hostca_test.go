package admin

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestHostCA(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if ca := do[HostCA](f, 200, "GET", "/hostca", nil); ca.KnownHosts != "" || len(ca.Hosts) != 0 || !strings.HasPrefix(ca.PublicKey, "ssh-ed25519 ") || !strings.HasPrefix(ca.Fingerprint, "SHA256:") {
		t.Errorf("without targets: %+v", ca)
	}
	line := hostKey(t)
	do[Target](f, 200, "POST", "/targets", NewTarget{Name: "web1", Address: "web1.example.org:2222", HostKeys: []string{line}})
	do[Target](f, 200, "POST", "/targets", NewTarget{Name: "web2", Address: "[2001:db8::7]:22", HostKeys: []string{line}})
	do[Target](f, 200, "POST", "/targets", NewTarget{Name: "web3", Address: "web1.example.org:2223", HostKeys: []string{line}})
	ca := do[HostCA](f, 200, "GET", "/hostca", nil)
	if !slices.Equal(ca.Hosts, []string{"2001:db8::7", "web1", "web1.example.org", "web2", "web3"}) {
		t.Errorf("hosts %q", ca.Hosts)
	}
	for query, want := range map[string][]string{"": ca.Hosts, "?hosts=" + url.QueryEscape("*.example.org,web*"): {"*.example.org", "web*"}} {
		got := do[HostCA](f, 200, "GET", "/hostca"+query, nil)
		marker, hosts, key, comment, _, err := ssh.ParseKnownHosts([]byte(got.KnownHosts))
		if err != nil || marker != "cert-authority" || !slices.Equal(hosts, want) || ssh.FingerprintSHA256(key) != got.Fingerprint || comment != "sallyport-host-ca" {
			t.Errorf("%s: %q: %s %q %q %v", query, got.KnownHosts, marker, hosts, comment, err)
		}
	}
	f.refused(409, "POST", "/hostca/activate", ActivateHostCA{})
	rotated := do[HostCA](f, 200, "POST", "/hostca/rotate", nil)
	f.refused(409, "POST", "/hostca/rotate", nil)
	both := do[HostCA](f, 200, "GET", "/hostca?hosts=web*", nil)
	if both.PublicKey != ca.PublicKey || rotated.Next == nil || both.Next == nil || both.Next.PublicKey != rotated.Next.PublicKey || both.Next.PublicKey == ca.PublicKey ||
		both.Next.KnownHosts != "@cert-authority web* "+both.Next.PublicKey+" sallyport-host-ca-next" {
		t.Errorf("with a next key: %+v, %+v", both, both.Next)
	}
	f.refused(409, "POST", "/hostca/drop", DropKey{Fingerprint: ca.Fingerprint})
	f.refused(422, "POST", "/hostca/drop", `{"fingerprint":7}`)
	if w := f.request(f.auditor, "POST", "/hostca/drop", DropKey{}); w.Code != 403 {
		t.Errorf("an auditor drops a key: %d", w.Code)
	}
	dropped := do[HostCA](f, 200, "POST", "/hostca/drop", DropKey{Fingerprint: both.Next.Fingerprint})
	if dropped.PublicKey != ca.PublicKey || dropped.Next != nil || dropped.Revoked != "@revoked * "+both.Next.PublicKey+" sallyport-host-ca-dropped" {
		t.Errorf("after drop: %+v", dropped)
	}
	f.refused(409, "POST", "/hostca/drop", DropKey{})
	f.refused(409, "POST", "/hostca/activate", ActivateHostCA{})
	if got := f.changes(); got[0] != "hostca.drop api-token robot api  " {
		t.Errorf("the audit log says %q", got[0])
	}
	rotated = do[HostCA](f, 200, "POST", "/hostca/rotate", nil)
	if rotated.Since == nil || rotated.Next.Since == nil {
		t.Errorf("since when: %+v", rotated)
	}
	after := do[HostCA](f, 200, "POST", "/hostca/activate", ActivateHostCA{})
	if after.PublicKey != rotated.Next.PublicKey || after.Next != nil || after.Revoked != "@revoked * "+ca.PublicKey+" sallyport-host-ca-old" {
		t.Errorf("after the change: %+v", after)
	}
	if got := do[HostCA](f, 200, "GET", "/hostca", nil); got.PublicKey != after.PublicKey || got.Revoked != "" {
		t.Errorf("later: %+v", got)
	}
	for _, hosts := range []string{"web1 web2", "web1\n@cert-authority *", "w\u00e4b"} {
		f.refused(422, "GET", "/hostca?hosts="+url.QueryEscape(hosts), nil)
	}
}
