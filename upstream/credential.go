package upstream

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/store"
)

// Who is the person for whom a connection to a target is made. It stands in the key id of a
// certificate, which the target's sshd writes to its log.
type Who struct {
	User    string
	Session string // id of the session
	Ask     Ask    // asks the person what a target wants to hear; nil: there is no way to, or no right
}

// How long a certificate is valid: long enough for a login, and for clocks that differ a little.
const (
	certificateTime = 5 * time.Minute
	certificateSkew = time.Minute
)

// NewKey makes the private key of a target that logs in with a key of its own, in the form that the
// store seals.
func NewKey() (store.CredentialSecret, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key for a target: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "sallyport")
	if err != nil {
		return nil, fmt.Errorf("making a key for a target: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// ownKey opens the key that belongs to t alone.
func (d *Dialer) ownKey(ctx context.Context, t store.Target) (ssh.Signer, error) {
	secret, err := d.cfg.Store.Targets.Secret(ctx, t.ID)
	if err != nil {
		return nil, err
	}
	s, err := ssh.ParsePrivateKey(secret)
	if err != nil {
		return nil, fmt.Errorf("reading the key of target %s: %w", t.Name, err)
	}
	return s, nil
}

// certificate makes a key for one connection and has the bastion's CA vouch for it.
func (d *Dialer) certificate(ctx context.Context, t store.Target, account string, who Who, now time.Time) (ssh.Signer, error) {
	ca, err := d.signingCA(ctx)
	if err != nil {
		return nil, err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	var serial [8]byte
	rand.Read(serial[:]) // never fails
	cert := &ssh.Certificate{
		Key: sshPub, Serial: binary.BigEndian.Uint64(serial[:]), CertType: ssh.UserCert,
		KeyId: audit.Escape(who.User + "/" + who.Session), ValidPrincipals: []string{account},
		ValidAfter: uint64(now.Add(-certificateSkew).Unix()), ValidBefore: uint64(now.Add(certificateTime).Unix()),
		Permissions: ssh.Permissions{CriticalOptions: map[string]string{}, Extensions: map[string]string{
			"permit-pty": "", "permit-port-forwarding": "", "permit-agent-forwarding": "", "permit-X11-forwarding": "",
		}},
	}
	if len(d.cfg.Addresses) > 0 && t.Via == "" { // behind a jump host, the target sees an address of that one
		cert.CriticalOptions["source-address"] = strings.Join(d.cfg.Addresses, ",")
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	d.cfg.CertificateMade()
	return ssh.NewCertSigner(cert, signer)
}

// proofOf says in words for operators what proves the bastion to t, and what to do when it does not.
func proofOf(t store.Target, account string) (proof, fix string) {
	onboard := "sallyport target onboard " + t.Name
	switch t.Credential {
	case store.CredentialOwnKey:
		return "the key of this target", "put the line that '" + onboard + "' prints into ~" + account + "/.ssh/authorized_keys on the target"
	case store.CredentialCertificate:
		return "the bastion's certificate", "put the lines that '" + onboard + "' prints into sshd_config on the target, reload sshd, and see its log for why it refuses (clocks that differ, another source address)"
	case store.CredentialPassword:
		return "the target's password", "see that it is right and that the target takes passwords, then: sallyport target update " + t.Name + " --password-file FILE"
	case store.CredentialRelayed:
		return "the answers to its prompts", "see the target's log"
	}
	return "the bastion's key", "put the line that '" + onboard + "' prints into ~" + account + "/.ssh/authorized_keys on the target"
}

// TargetKey returns the key with which the bastion logs in to t as a line of authorized_keys without
// options; "" if it does so without a key that stays.
func (d *Dialer) TargetKey(ctx context.Context, t store.Target) (string, error) {
	switch t.Credential {
	case "", store.CredentialKey:
		return d.AuthorizedKey(), nil
	case store.CredentialOwnKey:
		s, err := d.ownKey(ctx, t)
		if err != nil {
			return "", err
		}
		return keyLine(s.PublicKey()) + " sallyport-" + t.Name, nil
	}
	return "", nil
}

func keyLine(k ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}
