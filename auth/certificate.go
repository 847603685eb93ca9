package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/identity"
	"sallyport/policy"
	"sallyport/store"
)

// Certificate is what a user certificate (OpenSSH PROTOCOL.certkeys) with which somebody came in says about
// what they may do. It restricts what the rules allow, and adds nothing.
type Certificate struct {
	CA      string // name of the authority here
	KeyID   string // as the authority wrote it; may hold any character
	Serial  uint64
	Command string // that runs whatever is asked for; "": any (an empty force-command is refused)

	PTY, Forward, Agent, X11 bool // permitted

	proved *ssh.Certificate // it is judged again for each connection inside of this one
}

// Critical options and extensions that count; any other critical option refuses the certificate.
const (
	optionSource     = "source-address"
	optionCommand    = "force-command"
	extPTY           = "permit-pty"
	extForward       = "permit-port-forwarding"
	extAgent         = "permit-agent-forwarding"
	extX11           = "permit-X11-forwarding"
	extNoTouch       = "no-touch-required"
	maxForcedCommand = 32 << 10
)

// caAlgorithms may sign certificates. SHA-1 (ssh-rsa) and DSA may not.
var caAlgorithms = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512,
}

// certificate judges cert for s, coming from source now: everything but the proof of possession, which is
// the door's. Errors other than ErrUnavailable wrap ErrPassword.
func (e *Engine) certificate(ctx context.Context, s subject, source netip.Addr, cert *ssh.Certificate) (*Certificate, store.CertificateUse, error) {
	none := store.CertificateUse{}
	no := func(format string, args ...any) (*Certificate, store.CertificateUse, error) {
		return nil, none, fmt.Errorf("%w: certificate %s serial %d: %s", ErrPassword, fmt.Sprintf("%.200q", cert.KeyId), cert.Serial, fmt.Sprintf(format, args...))
	}
	if s.err != nil {
		return nil, none, s.err
	}
	if s.user == nil {
		return no("its person has no row yet: they must sign in with their password once")
	}
	if cert.CertType != ssh.UserCert {
		return no("it is not a user certificate")
	}
	if err := identity.CheckUserKey(cert.Key); err != nil {
		return no("%s", err)
	}
	if _, ok := cert.Extensions[extNoTouch]; ok && strings.HasPrefix(cert.Key.Type(), "sk-") {
		return no("%s is not honoured", extNoTouch) // the SSH library would
	}
	if _, nested := cert.SignatureKey.(*ssh.Certificate); nested || cert.Signature == nil || !slices.Contains(caAlgorithms, cert.Signature.Format) {
		return no("it is signed by a certificate or with an algorithm that is not accepted")
	}
	ca, err := e.cfg.Store.UserCAs.Trusted(ctx, ssh.FingerprintSHA256(cert.SignatureKey))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return no("its authority %s is not listed", ssh.FingerprintSHA256(cert.SignatureKey))
	case err != nil:
		return nil, none, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if listed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(ca.PublicKey)); err != nil || !bytes.Equal(listed.Marshal(), cert.SignatureKey.Marshal()) {
		return no("its authority %s is not what is listed", ca.Name)
	}
	if !slices.Contains(cert.ValidPrincipals, s.login) { // an empty list is nobody's
		return no("%s is not among its principals", s.login)
	}
	// Signature, time and critical options.
	checker := ssh.CertChecker{SupportedCriticalOptions: []string{optionSource, optionCommand}, Clock: e.cfg.Now}
	if err := checker.CheckCert(s.login, cert); err != nil {
		return no("%s", err)
	}
	revoked, err := e.cfg.Store.UserCAs.Revoked(ctx, ca.ID, cert.Serial, cert.KeyId)
	switch {
	case err != nil:
		return nil, none, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case revoked:
		return no("it is revoked")
	}
	if list, held := cert.CriticalOptions[optionSource]; held {
		switch ok, err := listed(list, source); {
		case err != nil:
			return no("%s: %s", optionSource, err)
		case !ok:
			return no("%s does not hold %s", optionSource, source)
		}
	}
	command, forced := cert.CriticalOptions[optionCommand]
	if forced && (command == "" || len(command) > maxForcedCommand || strings.ContainsRune(command, 0)) {
		return no("%s is empty or malformed", optionCommand)
	}
	has := func(extension string) bool { _, ok := cert.Extensions[extension]; return ok }
	return &Certificate{
		CA: ca.Name, KeyID: cert.KeyId, Serial: cert.Serial, Command: command,
		PTY: has(extPTY), Forward: has(extForward), Agent: has(extAgent), X11: has(extX11), proved: cert,
	}, store.CertificateUse{CAID: ca.ID, Serial: cert.Serial, KeyID: cert.KeyId}, nil
}

// listed tells whether source is in a list of addresses and prefixes, as source-address has it.
func listed(list string, source netip.Addr) (bool, error) {
	source, found := source.Unmap().WithZone(""), false
	for word := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			a, err := netip.ParseAddr(word)
			if err != nil || a.Zone() != "" {
				return false, fmt.Errorf("%.50q is neither an address nor a network", word)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p != p.Masked() {
			return false, fmt.Errorf("%.50q has bits beyond its length", word)
		}
		found = found || p.Contains(source)
	}
	return found, nil
}

// forbids says in words for the person why the certificate does not let them do r; "" if it does. A nil
// certificate forbids nothing.
func (c *Certificate) forbids(r Request) string {
	if c == nil {
		return ""
	}
	word := ""
	switch r.Channel {
	case "":
	case policy.Agent:
		if !c.Agent {
			word = extAgent
		}
	case policy.X11:
		if !c.X11 {
			word = extX11
		}
	case policy.LocalForward, policy.Dynamic, policy.RemoteForward, policy.UnixForward:
		if !c.Forward {
			word = extForward
		}
	default:
		if c.Command != "" && r.Command != c.Command {
			return "Your certificate holds you to one command."
		}
	}
	if word == "" {
		return ""
	}
	return fmt.Sprintf("Your certificate does not permit this: it has no %s.", word)
}

// useCertificate judges the certificate of a proved key at the end of all steps: what it says about time and
// source, and whether it was taken back meanwhile, counts as of now.
func (c *Conversation) useCertificate(ctx context.Context, s subject, proved *ssh.Certificate, v *verdict) error {
	cert, use, err := c.e.certificate(ctx, s, c.a.Source, proved)
	if err != nil {
		return err
	}
	v.Certificate = &use
	v.id.KeyFingerprint, v.id.Certificate = ssh.FingerprintSHA256(proved.Key), cert
	return nil
}
