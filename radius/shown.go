package radius

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// shown is the certificate that a client has shown by TLS (RFC 6614, section 2.3), whose key it has.
type shown struct {
	fingerprint string    // SHA-256, in hexadecimal digits
	names       []string  // subject alternative names, if an authority that counts here has signed them; none otherwise
	until       time.Time // when that ends; zero: no name counts
	why         error     // why none does; nil: no authorities are asked
}

// of tells whether it makes its owner the client c. By UDP, where nothing is shown, that is who has none listed.
func (p *shown) of(c *client) bool {
	if p == nil {
		return c.Certificate == "" && c.CertificateName == ""
	}
	return c.Certificate != "" && c.Certificate == p.fingerprint || c.CertificateName != "" && slices.Contains(p.names, c.CertificateName)
}

// expired tells whether a name that counted at the beginning of a connection does no more. A certificate that is listed
// itself counts as long as it is.
func (p *shown) expired(now time.Time) bool {
	return !p.until.IsZero() && now.After(p.until)
}

// String is what an operator needs to list it.
func (p *shown) String() string {
	text := "certificate " + p.fingerprint
	switch {
	case p.why != nil:
		return text + ": " + p.why.Error()
	case len(p.names) > 0:
		return text + " of " + strings.Join(p.names, ", ")
	}
	return text
}

// examine finds out what a chain proves, the certificate of the client itself first. On any doubt that is no name.
func (s *Server) examine(chain []*x509.Certificate) *shown {
	leaf := chain[0]
	sum := sha256.Sum256(leaf.Raw)
	p := &shown{fingerprint: hex.EncodeToString(sum[:])}
	if s.cfg.ClientCAs == nil {
		return p
	}
	roots, err := s.cfg.ClientCAs()
	if err != nil {
		p.why = err
		s.cfg.Log.Error("reading the authorities of RADIUS clients; none is known by name", "error", err)
		return p
	}
	if roots == nil { // those of the system would be anybody's
		return p
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: s.cfg.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		p.why = err
		return p
	}
	p.names, p.until = namesIn(leaf), leaf.NotAfter
	for _, c := range paths[0] {
		if c.NotAfter.Before(p.until) {
			p.until = c.NotAfter
		}
	}
	return p
}

// namesIn are the subject alternative names of a certificate, as clients are listed by. A name with a wildcard is one that
// nobody is listed by.
func namesIn(c *x509.Certificate) []string {
	var names []string
	for _, n := range c.DNSNames {
		names = append(names, "dns:"+strings.ToLower(n))
	}
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			names = append(names, "ip:"+a.Unmap().String())
		}
	}
	for _, u := range c.URIs {
		names = append(names, "uri:"+u.String())
	}
	return names
}
