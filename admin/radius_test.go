package admin

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/store"
)

func TestRadiusAPI(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made := do[RadiusClientSecret](f, 200, "POST", "/radius-clients", NewRadiusClient{Name: "vpn", RadiusClientChange: RadiusClientChange{Networks: []string{"192.0.2.20"}}})
	if len(made.Secret) != 32 || made.Client.Mode != "challenge" || made.Client.MessageAuthenticator != "yes" || made.Client.SourceAttribute != "Calling-Station-Id" {
		t.Errorf("new client %+v", made.Client)
	}
	if given := do[RadiusClientSecret](f, 200, "POST", "/radius-clients", NewRadiusClient{Name: "given", RadiusClientChange: RadiusClientChange{Networks: []string{"192.0.2.21"}, Secret: "0123456789abcdef"}}); given.Secret != "" {
		t.Error("a secret that was given is shown")
	}
	for what, c := range map[string]struct {
		status int
		change func(*NewRadiusClient)
		detail string
	}{
		"the same name":           {409, func(n *NewRadiusClient) { n.Name = "vpn" }, "already"},
		"the same address":        {409, func(n *NewRadiusClient) { n.Networks = []string{"192.0.2.20"} }, "asks from"},
		"no name":                 {422, func(n *NewRadiusClient) { n.Name = "a b" }, "name"},
		"no network":              {422, func(n *NewRadiusClient) { n.Networks = nil }, "addresses"},
		"the whole world":         {422, func(n *NewRadiusClient) { n.Networks = []string{"0.0.0.0/0"} }, "more than"},
		"a short secret":          {422, func(n *NewRadiusClient) { n.Secret = "0123456789abcde" }, "16 characters"},
		"a secret with a blank":   {422, func(n *NewRadiusClient) { n.Secret = "0123456789 abcdef" }, "written"},
		"two secrets":             {422, func(n *NewRadiusClient) { n.Secret, n.GenerateSecret = "0123456789abcdef", true }, "to be made"},
		"auto for many":           {422, func(n *NewRadiusClient) { n.Networks, n.MessageAuthenticator = []string{"198.51.100.0/24"}, "auto" }, "one address"},
		"a mode of no kind":       {422, func(n *NewRadiusClient) { n.Mode = "eap" }, ""},
		"a separator of digits":   {422, func(n *NewRadiusClient) { s := "1"; n.Mode, n.Separator = "password+code", &s }, "digits"},
		"a separator for a code":  {422, func(n *NewRadiusClient) { s := ","; n.Mode, n.Separator = "code", &s }, "separator"},
		"remember a code alone":   {422, func(n *NewRadiusClient) { s := int64(60); n.Mode, n.Remember = "code", &s }, "proved"},
		"chap with a password":    {422, func(n *NewRadiusClient) { b := true; n.Mode, n.CHAP = "challenge", &b }, "CHAP"},
		"ms-chap with a password": {422, func(n *NewRadiusClient) { b := true; n.Mode, n.LegacyMSCHAPv2 = "challenge", &b }, "MS-CHAPv2"},
		"an attribute of no use":  {422, func(n *NewRadiusClient) { n.SourceAttribute = "State" }, "attribute"},
		"a name of no kind":       {422, func(n *NewRadiusClient) { s := "vpn.example.org"; n.CertificateName = &s }, "alternative name"},
		"a wildcard":              {422, func(n *NewRadiusClient) { s := "dns:*.example.org"; n.CertificateName = &s }, "alternative name"},
		"an address with a zone":  {422, func(n *NewRadiusClient) { s := "ip:fe80::1%eth0"; n.CertificateName = &s }, "alternative name"},
		"a URI of no kind":        {422, func(n *NewRadiusClient) { s := "uri:/vpn"; n.CertificateName = &s }, "alternative name"},
		"two proofs by TLS": {422, func(n *NewRadiusClient) {
			s, f := "dns:vpn.example.org", strings.Repeat("ab", 32)
			n.CertificateName, n.Certificate = &s, &f
		}, "by its certificate, or"},
		"half a fingerprint": {422, func(n *NewRadiusClient) { s := "aa:bb"; n.Certificate = &s }, "fingerprint"},
	} {
		n := NewRadiusClient{Name: "other", RadiusClientChange: RadiusClientChange{Networks: []string{"198.51.100.7"}}}
		c.change(&n)
		if p := f.refused(c.status, "POST", "/radius-clients", n); !strings.Contains(p.Detail, c.detail) {
			t.Errorf("%s: %+v, want %q", what, p, c.detail)
		}
	}
	// By TLS: the name as it is compared, and the one proof takes the place of the other.
	print, name := strings.ToUpper(strings.Repeat("ab:", 31)+"ab"), "DNS:Branch.Example.org"
	by := func(method, path string, in any) RadiusClient {
		t.Helper()
		return do[RadiusClientSecret](f, 200, method, path, in).Client
	}
	if c := by("POST", "/radius-clients", NewRadiusClient{Name: "branch", RadiusClientChange: RadiusClientChange{Networks: []string{"192.0.2.20"}, CertificateName: &name}}); c.CertificateName != "dns:branch.example.org" {
		t.Errorf("%+v", c)
	}
	if c := by("PATCH", "/radius-clients/branch", RadiusClientChange{Certificate: &print}); c.CertificateName != "" || c.Certificate != strings.Repeat("ab", 32) {
		t.Errorf("with a fingerprint: %+v", c)
	}
	name = "ip:2001:DB8:0::7"
	if c := by("PATCH", "/radius-clients/branch", RadiusClientChange{CertificateName: &name}); c.CertificateName != "ip:2001:db8::7" || c.Certificate != "" {
		t.Errorf("with a name again: %+v", c)
	}
	f.refused(404, "GET", "/radius-clients/nobody", nil)
	f.refused(404, "GET", "/radius-clients/nobody/doctor", nil)
}

// The doctor says what an operator would have to work out of the counters.
func TestRadiusFindings(t *testing.T) {
	t.Parallel()
	now := time.Now()
	c := store.RadiusClient{Name: "vpn", Enabled: true, AssertsSource: true, SourceAttribute: 31}
	for what, x := range map[string]struct {
		heard   map[string]int // kind: seconds ago
		want    []string
		without []string
	}{
		"nothing":               {nil, []string{"Nothing was heard"}, nil},
		"well":                  {map[string]int{"request": 1, "message-authenticator": 1, "accept": 1}, []string{"sends Message-Authenticator"}, []string{"wrong", "CVE"}},
		"unsigned":              {map[string]int{"request": 1, "no-message-authenticator": 1}, []string{"CVE-2024-3596"}, []string{"It sends Message-Authenticator"}},
		"discarded":             {map[string]int{"message-authenticator-missing": 1}, []string{"discarded for that"}, nil},
		"another secret":        {map[string]int{"message-authenticator-wrong": 1}, []string{"The secret looks wrong"}, nil},
		"mended":                {map[string]int{"message-authenticator-wrong": 9, "message-authenticator": 1, "request": 1}, nil, []string{"looks wrong"}},
		"another secret, plain": {map[string]int{"secret-suspect": 1}, []string{"The secret looks wrong"}, nil},
		"a fault":               {map[string]int{"failed": 1, "request": 1}, []string{"fault of this program"}, []string{"MS-CHAPv2"}},
		"mended, plain":         {map[string]int{"secret-suspect": 9, "accept": 1}, nil, []string{"looks wrong"}},
	} {
		h := heard{}
		for kind, ago := range x.heard {
			h[kind] = store.RadiusCount{Kind: kind, Times: 1, Last: now.Add(-time.Duration(ago) * time.Second)}
		}
		var text []string
		for _, f := range h.findings(c) {
			text = append(text, f.Text)
		}
		for _, want := range x.want {
			if !slices.ContainsFunc(text, func(s string) bool { return strings.Contains(s, want) }) {
				t.Errorf("%s: no %q in %q", what, want, text)
			}
		}
		for _, not := range x.without {
			if slices.ContainsFunc(text, func(s string) bool { return strings.Contains(s, not) }) {
				t.Errorf("%s: %q in %q", what, not, text)
			}
		}
	}
}
