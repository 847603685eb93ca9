package admin

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

const seeRadius = "see: sallyport radius client list"

// radiusAttributes are the attributes in which a client may say where the person is (RFC 2865, RFC 2868).
var radiusAttributes = map[int]string{31: "Calling-Station-Id", 66: "Tunnel-Client-Endpoint"}

func (s *Server) radiusClient(ctx context.Context, name string) (store.RadiusClient, error) {
	c, err := s.cfg.Store.RadiusClients.ByName(ctx, name)
	return c, ifNotFound(err, seeRadius, "there is no RADIUS client %s", audit.Escape(name))
}

// readyRadiusClient returns the client that n asks for, with its secret and what the audit log says of it, if there can
// be one.
func (s *Server) readyRadiusClient(ctx context.Context, n NewRadiusClient) (c store.RadiusClient, secret store.SharedSecret, detail map[string]string, err error) {
	if !targetName.MatchString(n.Name) {
		return c, nil, nil, invalid(nameHint, "%s cannot be the name of a RADIUS client", audit.Quote(n.Name))
	}
	c = store.RadiusClient{
		Name: n.Name, Mode: store.RadiusChallenge, MessageAuthenticator: store.AuthenticatorYes, SendsAuthenticator: true, SourceAttribute: 31, Enabled: true,
	}
	n.GenerateSecret = n.GenerateSecret || n.Secret == ""
	detail = map[string]string{}
	if secret, err = applyRadiusClient(&c, n.RadiusClientChange, detail); err != nil {
		return c, nil, nil, err
	}
	return c, secret, detail, s.radiusVacant(ctx, c)
}

// addRadiusClient makes a client, with a secret of its own if none is given.
func (s *Server) addRadiusClient(ctx context.Context, by Caller, n NewRadiusClient) (RadiusClientSecret, error) {
	c, secret, detail, err := s.readyRadiusClient(ctx, n)
	if err != nil {
		return RadiusClientSecret{}, err
	}
	detail["mode"], detail["message_authenticator"] = c.Mode, c.MessageAuthenticator
	c, err = s.cfg.Store.RadiusClients.Add(ctx, c, secret)
	if errors.Is(err, store.ErrExists) {
		return RadiusClientSecret{}, conflict("change it: sallyport radius client update "+n.Name, "there is a RADIUS client %s already", n.Name)
	}
	if err != nil {
		return RadiusClientSecret{}, err
	}
	s.changed(ctx, by, "radius-client.add", audit.Event{Target: c.Name, Detail: detail})
	return shownSecret(c, secret, n.GenerateSecret || n.Secret == ""), nil
}

func shownSecret(c store.RadiusClient, secret store.SharedSecret, made bool) RadiusClientSecret {
	out := RadiusClientSecret{Client: wireRadiusClient(c)}
	if made {
		out.Secret = string([]byte(secret))
	}
	return out
}

// radiusVacant refuses a client that could not be told from another one.
func (s *Server) radiusVacant(ctx context.Context, c store.RadiusClient) error {
	others, err := s.cfg.Store.RadiusClients.List(ctx)
	if err != nil {
		return err
	}
	for _, o := range others {
		if o.Name == c.Name || o.NASIdentifier != c.NASIdentifier || o.Certificate != c.Certificate || o.CertificateName != c.CertificateName {
			continue
		}
		for _, n := range c.Networks {
			if slices.Contains(o.Networks, n) {
				return conflict("tell them apart by --nas-identifier, or name other addresses", "the RADIUS client %s asks from %s too", o.Name, n)
			}
		}
	}
	return nil
}

// checkRadiusChange tells why a client cannot be changed so, if it cannot.
func (s *Server) checkRadiusChange(ctx context.Context, name string, n RadiusClientChange) error {
	after, err := s.radiusClient(ctx, name)
	if err != nil {
		return err
	}
	if _, err := applyRadiusClient(&after, n, map[string]string{}); err != nil {
		return err
	}
	return s.radiusVacant(ctx, after)
}

// changeRadiusClient changes what is named in n. It holds on all nodes within two seconds.
func (s *Server) changeRadiusClient(ctx context.Context, by Caller, name string, n RadiusClientChange) (RadiusClientSecret, error) {
	if err := s.checkRadiusChange(ctx, name, n); err != nil {
		return RadiusClientSecret{}, err
	}
	detail := map[string]string{}
	var secret store.SharedSecret
	c, err := s.cfg.Store.RadiusClients.Change(ctx, name, func(c *store.RadiusClient) (_ store.SharedSecret, err error) {
		clear(detail)
		secret, err = applyRadiusClient(c, n, detail)
		return secret, err
	})
	if err := ifNotFound(err, seeRadius, "there is no RADIUS client %s", audit.Escape(name)); err != nil {
		return RadiusClientSecret{}, err
	}
	s.changed(ctx, by, "radius-client.update", audit.Event{Target: c.Name, Detail: detail})
	return shownSecret(c, secret, n.GenerateSecret), nil
}

// deleteRadiusClient removes a client: it gets no answer any more.
func (s *Server) deleteRadiusClient(ctx context.Context, by Caller, name string) error {
	if err := ifNotFound(s.cfg.Store.RadiusClients.Delete(ctx, name), seeRadius, "there is no RADIUS client %s", audit.Escape(name)); err != nil {
		return err
	}
	s.changed(ctx, by, "radius-client.remove", audit.Event{Target: name})
	return nil
}

// applyRadiusClient does n to c, checks what comes out and notes the change in detail. It returns the new secret, nil
// if there is none.
func applyRadiusClient(c *store.RadiusClient, n RadiusClientChange, detail map[string]string) (store.SharedSecret, error) {
	if n.Networks != nil {
		networks, err := canonicalSources(n.Networks)
		if err != nil {
			return nil, err
		}
		c.Networks, detail["networks"] = networks, strings.Join(networks, ",")
	}
	for _, w := range []struct {
		what    string
		new, to *string
	}{{"nas_identifier", n.NASIdentifier, &c.NASIdentifier}, {"separator", n.Separator, &c.Separator}, {"note", n.Note, &c.Note}} {
		if w.new == nil {
			continue
		}
		if err := checkText(w.what, *w.new, 500); err != nil {
			return nil, err
		}
		*w.to, detail[w.what] = *w.new, *w.new
	}
	if n.Certificate != nil {
		fingerprint := strings.ToLower(strings.ReplaceAll(*n.Certificate, ":", ""))
		if b, err := hex.DecodeString(fingerprint); err != nil || len(b) != 32 && len(b) != 0 {
			return nil, invalid("look at it: openssl x509 -noout -fingerprint -sha256 -in FILE", "this is not the SHA-256 fingerprint of a certificate")
		}
		c.Certificate, detail["certificate"] = fingerprint, fingerprint
	}
	if n.CertificateName != nil {
		name, err := certificateName(*n.CertificateName)
		if err != nil {
			return nil, err
		}
		c.CertificateName, detail["certificate_name"] = name, name
	}
	switch { // of the two, what is named takes the place of what was there
	case c.Certificate == "" || c.CertificateName == "":
	case n.CertificateName == nil:
		c.CertificateName, detail["certificate_name"] = "", ""
	case n.Certificate == nil:
		c.Certificate, detail["certificate"] = "", ""
	default:
		return nil, invalid("name one of the two", "a client is known by its certificate, or by a name in one of an authority")
	}
	if n.Mode != "" {
		c.Mode, detail["mode"] = n.Mode, n.Mode
	}
	if n.MessageAuthenticator != "" {
		c.MessageAuthenticator, c.Authenticated, detail["message_authenticator"] = n.MessageAuthenticator, time.Time{}, n.MessageAuthenticator
	}
	for _, w := range []struct {
		what    string
		new, to *bool
	}{
		{"sends_message_authenticator", n.SendsMessageAuthenticator, &c.SendsAuthenticator}, {"asserts_source", n.AssertsSource, &c.AssertsSource},
		{"chap", n.CHAP, &c.CHAP}, {"legacy_mschapv2", n.LegacyMSCHAPv2, &c.LegacyMSCHAPv2}, {"enabled", n.Enabled, &c.Enabled},
	} {
		if w.new != nil {
			*w.to, detail[w.what] = *w.new, map[bool]string{true: "yes", false: "no"}[*w.new]
		}
	}
	if n.SourceAttribute != "" {
		t, err := sourceAttribute(n.SourceAttribute)
		if err != nil {
			return nil, err
		}
		c.SourceAttribute, detail["source_attribute"] = t, radiusAttributes[t]
	}
	if n.Remember != nil {
		c.Remember = time.Duration(*n.Remember) * time.Second
		detail["remember"] = c.Remember.String()
	}
	secret, err := newSharedSecret(n)
	if secret != nil {
		detail["secret"] = "changed"
	}
	return secret, errors.Join(err, checkRadiusClient(*c))
}

// certificateName is a subject alternative name in the form in which RADIUS clients are compared with certificates.
func certificateName(typed string) (string, error) {
	const hint = "write dns:vpn.example.org, ip:192.0.2.20 or uri:https://example.org/vpn, as it stands in the certificate: openssl x509 -noout -ext subjectAltName -in FILE"
	if typed == "" {
		return "", nil
	}
	if err := checkText("certificate_name", typed, 300); err != nil {
		return "", err
	}
	kind, name, _ := strings.Cut(typed, ":")
	switch strings.ToLower(kind) {
	case "dns":
		if name = strings.ToLower(name); dnsName.MatchString(name) {
			return "dns:" + name, nil
		}
	case "ip":
		if a, err := netip.ParseAddr(name); err == nil && a.Zone() == "" {
			return "ip:" + a.Unmap().String(), nil
		}
	case "uri":
		if u, err := url.Parse(name); err == nil && u.IsAbs() {
			return "uri:" + u.String(), nil
		}
	}
	return "", invalid(hint, "%s is no subject alternative name", audit.Escape(typed))
}

// dnsName is a name of letters, digits and hyphens; a wildcard would be many machines.
var dnsName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func sourceAttribute(name string) (int, error) {
	for t, known := range radiusAttributes {
		if strings.EqualFold(name, known) {
			return t, nil
		}
	}
	return 0, invalid("the attributes are Calling-Station-Id and Tunnel-Client-Endpoint", "%s is no attribute that says where a person is", audit.Quote(name))
}

// newSharedSecret is the secret that n gives or asks for; nil for none.
func newSharedSecret(n RadiusClientChange) (store.SharedSecret, error) {
	switch {
	case n.Secret != "" && n.GenerateSecret:
		return nil, invalid("do one of the two", "a secret is given, and to be made")
	case n.GenerateSecret:
		return store.SharedSecret(rand.Text() + rand.Text()[:6]), nil // 160 bits in 32 characters
	case n.Secret == "":
		return nil, nil
	case len(n.Secret) < store.MinSharedSecret:
		return nil, invalid("leave it out to have one made", "a shared secret has at least %d characters: whoever hears one packet may try them all", store.MinSharedSecret)
	case strings.ContainsFunc(n.Secret, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, invalid("use letters, digits and signs of ASCII, without blanks", "clients do not agree on how such a secret is written")
	}
	return store.SharedSecret(n.Secret), nil
}

func checkRadiusClient(c store.RadiusClient) error {
	single := len(c.Networks) == 1
	for _, word := range c.Networks {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return fmt.Errorf("reading a network: %w", err)
		}
		if single = single && p.IsSingleIP(); p.Bits() < 8 {
			return invalid("name the addresses of the machine", "%s is more than the networks of one RADIUS client", word)
		}
	}
	switch {
	case len(c.Networks) == 0:
		return invalid("give at least one: --network", "the addresses that the client asks from are missing")
	case c.MessageAuthenticator == store.AuthenticatorAuto && !single:
		return invalid("say yes or no, or make one client for each address", "auto is for one address: of many machines the first that signs would decide for all")
	case c.Separator != "" && c.Mode != store.RadiusPasswordCode:
		return invalid("use --mode password+code", "a separator has no meaning with the mode %s", c.Mode)
	case strings.ContainsAny(c.Separator, "0123456789"):
		return invalid("take a sign, such as a comma", "a separator with digits could be part of a code")
	case c.Remember > 0 && c.Mode == store.RadiusCode:
		return invalid("use the mode password+code or challenge", "with the mode code nothing would be proved any more while a code is remembered")
	case c.CHAP && c.Mode != store.RadiusCode:
		return invalid("use --mode code", "CHAP can be answered only where the clear text is known here: with the mode code")
	case c.LegacyMSCHAPv2 && c.Mode != store.RadiusCode:
		return invalid("use --mode code", "MS-CHAPv2 can be answered only where the clear text is known here: with the mode code")
	}
	return nil
}
