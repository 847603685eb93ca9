package bastion_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"io"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
)

// authenticator is a FIDO security key in software (OpenSSH PROTOCOL.u2f). Flags are those of the
// authenticator data: 1 says that somebody touched it.
type authenticator struct {
	public ssh.PublicKey
	sign   func(message []byte) ([]byte, error)
	flags  byte
	rest   []byte // counter after the flags
}

const present = 1

func newAuthenticator(t *testing.T, kind string, flags byte) authenticator {
	t.Helper()
	a := authenticator{flags: flags, rest: []byte{0, 0, 0, 7}}
	var blob []byte
	switch kind {
	case ssh.KeyAlgoSKED25519:
		public, private, err := ed25519.GenerateKey(rand.Reader)
		check(t, err)
		blob = ssh.Marshal(struct {
			Type        string
			Key         []byte
			Application string
		}{kind, public, "ssh:"})
		a.sign = func(message []byte) ([]byte, error) { return private.Sign(rand.Reader, message, crypto.Hash(0)) }
	case ssh.KeyAlgoSKECDSA256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(t, err)
		point, err := private.PublicKey.Bytes()
		check(t, err)
		blob = ssh.Marshal(struct {
			Type, Curve string
			Point       []byte
			Application string
		}{kind, "nistp256", point, "ssh:"})
		a.sign = func(message []byte) ([]byte, error) {
			digest := sha256.Sum256(message)
			der, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
			if err != nil {
				return nil, err
			}
			var parts struct{ R, S *big.Int }
			if _, err := asn1.Unmarshal(der, &parts); err != nil {
				return nil, err
			}
			return ssh.Marshal(parts), nil
		}
	}
	var err error
	a.public, err = ssh.ParsePublicKey(blob)
	check(t, err)
	return a
}

func (a authenticator) PublicKey() ssh.PublicKey { return a.public }

func (a authenticator) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	application, digest := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	message := append(append(append(application[:], a.flags), a.rest...), digest[:]...)
	signature, err := a.sign(message)
	if err != nil {
		return nil, err
	}
	return &ssh.Signature{Format: a.public.Type(), Blob: signature, Rest: append([]byte{a.flags}, a.rest...)}, nil
}

// FIDO keys get in when somebody touches them, and only then, whatever their line or certificate says; the
// code follows as with any key.
func TestFIDO(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	for _, kind := range []string{ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256} {
		key := newAuthenticator(t, kind, present)
		s.addKey("alice", key.PublicKey())
		c, err := s.dial("alice@down", ssh.PublicKeys(key), answers("", s.code("alice"), nil))
		if err != nil {
			t.Errorf("%s, touched: %v", kind, err)
			continue
		}
		c.Close()
		if c, err := s.dial("alice@down", ssh.PublicKeys(key)); err == nil {
			c.Close()
			t.Errorf("%s got in without a code", kind)
		}
		key.flags = 0
		if c, err := s.dial("alice@down", ssh.PublicKeys(key), answers("", s.code("alice"), nil)); err == nil {
			c.Close()
			t.Errorf("%s got in without a touch", kind)
		}
		key.flags = 4 // user verified, by whatever means, and not present
		if c, err := s.dial("alice@down", ssh.PublicKeys(key), answers("", s.code("alice"), nil)); err == nil {
			c.Close()
			t.Errorf("%s got in verified but not present", kind)
		}
	}
}

// A certificate cannot waive the touch, though the SSH library would let it.
func TestFIDOCertificates(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	_, private, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	ca, err := ssh.NewSignerFromKey(private)
	check(t, err)
	s.listCA("people", ca.PublicKey())
	for _, kind := range []string{ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256} {
		for _, c := range []struct {
			what    string
			flags   byte
			waive   bool
			allowed bool
		}{{"touched", present, false, true}, {"not touched", 0, false, false}, {"waived", 0, true, false}, {"waived and touched", present, true, false}} {
			key := newAuthenticator(t, kind, c.flags)
			cert := &ssh.Certificate{
				Key: key.PublicKey(), CertType: ssh.UserCert, KeyId: c.what, ValidPrincipals: []string{"alice"}, ValidBefore: ssh.CertTimeInfinity,
			}
			if c.waive {
				cert.Extensions = map[string]string{"no-touch-required": ""}
			}
			check(t, cert.SignCert(rand.Reader, ca))
			signer, err := ssh.NewCertSigner(cert, key)
			check(t, err)
			client, err := s.dial("alice@down", ssh.PublicKeys(signer), answers("", s.code("alice"), nil))
			if err == nil {
				client.Close()
			}
			if (err == nil) != c.allowed {
				t.Errorf("certificate of %s, %s: %v", kind, c.what, err)
			}
		}
	}
}

// In the directory as well: a line cannot waive the touch.
func TestFIDOInTheDirectory(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	l := ldapOf(t, d)
	s := newSystem(t, options{noSSHD: true, directory: l})
	p, err := l.Lookup(t.Context(), "bob")
	check(t, err)
	_, err = s.Store.Users.SeenInDirectory(t.Context(), p.ID, "bob", p.Name, p.Email, p.Groups)
	check(t, err)
	key := newAuthenticator(t, ssh.KeyAlgoSKED25519, present)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	try := func() bool {
		c, err := s.dial("bob@down", ssh.PublicKeys(key), answers("", s.code("bob"), nil))
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	d.SetKeys("bob", line)
	if !try() {
		t.Error("a touched key of the directory was refused")
	}
	key.flags = 0
	if try() {
		t.Error("it got in without a touch")
	}
	d.SetKeys("bob", "no-touch-required "+line)
	if try() {
		t.Error("its line waived the touch")
	}
}
