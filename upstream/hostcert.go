package upstream

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/store"
)

// certificateAlgorithms are asked of a target whose host key comes with a certificate.
var certificateAlgorithms = []string{
	ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
}

// checkCertificate judges a host certificate of t: signed by one of t's CAs, for t's host by name,
// valid now (PROTOCOL.certkeys of OpenSSH).
func checkCertificate(t store.Target, key ssh.PublicKey, now time.Time) error {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return errors.New("it shows a key without a certificate")
	}
	host, _, err := net.SplitHostPort(t.Address)
	if err != nil {
		return fmt.Errorf("reading its address: %w", err)
	}
	switch {
	case cert.CertType != ssh.HostCert:
		return errors.New("its certificate is not one for hosts")
	case !listed(t.HostCAs, cert.SignatureKey):
		return fmt.Errorf("its certificate is signed by %s %s, which is not its CA", cert.SignatureKey.Type(), ssh.FingerprintSHA256(cert.SignatureKey))
	case cert.Signature == nil || cert.Signature.Format == ssh.KeyAlgoRSA:
		return errors.New("its certificate is signed with SHA-1")
	case !slices.ContainsFunc(cert.ValidPrincipals, func(p string) bool { return strings.EqualFold(p, host) }):
		// An empty list would mean every host to the library: here it means none.
		return fmt.Errorf("its certificate is for %s, not for %s", principals(cert), host)
	}
	// The library compares principals byte for byte; which one matched is decided above.
	checker := ssh.CertChecker{Clock: func() time.Time { return now }}
	if err := checker.CheckCert(cert.ValidPrincipals[0], cert); err != nil {
		return fmt.Errorf("its certificate is not good: %s", audit.Escape(strings.TrimPrefix(err.Error(), "ssh: ")))
	}
	return nil
}

func principals(cert *ssh.Certificate) string {
	if len(cert.ValidPrincipals) == 0 {
		return "no host by name"
	}
	return audit.Escape(strings.Join(cert.ValidPrincipals, ", "))
}

func (c *hostKeyCheck) verifyCertificate(key ssh.PublicKey) error {
	err := checkCertificate(c.target, key, c.d.cfg.Now())
	if err == nil {
		return nil
	}
	var cas []string
	for _, line := range c.target.HostCAs {
		if k, err := parseKey(line); err == nil {
			cas = append(cas, k.Type()+" "+ssh.FingerprintSHA256(k))
		}
	}
	return c.deny(key, fmt.Sprintf("host certificate of %s (%s) refused: %s. Operators: sallyport target check %s",
		c.target.Name, c.target.Address, err, c.target.Name), err.Error(), strings.Join(cas, ", "))
}

// revoked tells whether key, the key that a certificate is for, or the CA that signed it must not be
// taken.
func revoked(t store.Target, key ssh.PublicKey) bool {
	if cert, ok := key.(*ssh.Certificate); ok {
		return listed(t.RevokedKeys, cert.Key) || listed(t.RevokedKeys, cert.SignatureKey)
	}
	return listed(t.RevokedKeys, key)
}

// fingerprint of the key itself, also when it comes with a certificate, as ssh-keygen -l shows it.
func fingerprint(key ssh.PublicKey) string {
	if cert, ok := key.(*ssh.Certificate); ok {
		return ssh.FingerprintSHA256(cert.Key)
	}
	return ssh.FingerprintSHA256(key)
}

// noCertificate tells whether t was asked for a certificate and has none.
func noCertificate(t store.Target, err error) bool {
	var none *ssh.AlgorithmNegotiationError
	return t.HostKeyMode == store.HostCA && errors.As(err, &none) && strings.Contains(none.Error(), "host key")
}
