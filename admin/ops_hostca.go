package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"slices"
	"strings"

	"sallyport/audit"
	"sallyport/store"
	"sallyport/upstream"
)

// hostCA is the key that vouches for the host keys that the bastion shows in the place of targets, and
// the line by which clients trust it (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT) for patterns; "": for all
// targets there are.
func (s *Server) hostCA(ctx context.Context, patterns string) (HostCA, error) {
	if strings.ContainsFunc(patterns, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return HostCA{}, invalid("for example *.example.org,web*", "patterns of hosts have commas and no blanks in between")
	}
	keys, err := s.hostCAKeys(ctx)
	if err != nil {
		return HostCA{}, err
	}
	targets, err := s.cfg.Store.Targets.List(ctx)
	if err != nil {
		return HostCA{}, err
	}
	ca := HostCA{Hosts: []string{}}
	for _, t := range targets {
		ca.Hosts = append(ca.Hosts, t.Name)
		if host, _, err := net.SplitHostPort(t.Address); err == nil {
			ca.Hosts = append(ca.Hosts, host)
		}
	}
	slices.Sort(ca.Hosts)
	ca.Hosts = slices.Compact(ca.Hosts)
	if patterns == "" {
		patterns = strings.Join(ca.Hosts, ",")
	}
	if ca.HostCAKey, err = hostCAKey(keys.Active, patterns, ""); err != nil {
		return ca, err
	}
	if ca.Since = timeOf(keys.ActiveSince); keys.Next == nil {
		return ca, nil
	}
	next, err := hostCAKey(keys.Next, patterns, "-next")
	next.Since = timeOf(keys.NextSince)
	ca.Next = &next
	return ca, err
}

func (s *Server) hostCAKeys(ctx context.Context) (store.HostAuthorityKeys, error) {
	keys, err := s.cfg.Store.HostAuthority.Keys(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return keys, notFound("see the server's log", "this installation has no host CA")
	}
	return keys, err
}

// hostCAKey is a key as clients know it.
func hostCAKey(secret store.CredentialSecret, patterns, suffix string) (HostCAKey, error) {
	line, err := upstream.PublicKeyOf(secret)
	if err != nil {
		return HostCAKey{}, err
	}
	k := HostCAKey{PublicKey: line, Fingerprint: fingerprintOf(line)}
	if patterns != "" {
		k.KnownHosts = "@cert-authority " + patterns + " " + line + " sallyport-host-ca" + suffix
	}
	return k, nil
}

// rotateHostCA makes the key that is to follow.
func (s *Server) rotateHostCA(ctx context.Context, by Caller) (HostCA, error) {
	public, secret, err := upstream.NewCA()
	if err != nil {
		return HostCA{}, err
	}
	err = s.cfg.Store.HostAuthority.Rotate(ctx, secret)
	switch {
	case errors.Is(err, store.ErrExists):
		return HostCA{}, conflict("have clients trust it, then: sallyport hostca activate; or do without it: sallyport hostca drop", "a next key of the host CA waits already")
	case err != nil:
		return HostCA{}, err
	}
	s.changed(ctx, by, "hostca.rotate", audit.Event{Detail: map[string]string{"fingerprint": fingerprintOf(public)}})
	return s.hostCA(ctx, "")
}

// dropHostCA removes the key that was to follow; the one of now goes on.
func (s *Server) dropHostCA(ctx context.Context, by Caller, in DropKey) (HostCA, error) {
	var gone HostCAKey
	err := s.cfg.Store.HostAuthority.Drop(ctx, func(next store.CredentialSecret) (err error) {
		gone, err = hostCAKey(next, "", "")
		if err == nil && in.Fingerprint != "" && in.Fingerprint != gone.Fingerprint {
			err = conflict("see: sallyport hostca", "the next key of the host CA is another one by now: %s", gone.Fingerprint)
		}
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return HostCA{}, conflict("see: sallyport hostca", "there is no next key of the host CA")
	case err != nil:
		return HostCA{}, err
	}
	s.changed(ctx, by, "hostca.drop", audit.Event{Detail: map[string]string{"fingerprint": gone.Fingerprint}})
	ca, err := s.hostCA(ctx, "")
	ca.Revoked = "@revoked * " + gone.PublicKey + " sallyport-host-ca-dropped"
	return ca, err
}

// activateHostCA has the next key vouch, also for other host keys if in says so.
func (s *Server) activateHostCA(ctx context.Context, by Caller, in ActivateHostCA) (HostCA, error) {
	before, err := s.hostCAKeys(ctx)
	if err != nil {
		return HostCA{}, err
	}
	gone, err := hostCAKey(before.Active, "", "")
	if err != nil {
		return HostCA{}, err
	}
	var hosts store.CredentialSecret
	if in.HostKeys {
		hosts = make([]byte, store.HostSecretSize)
		rand.Read(hosts) // never fails
	}
	err = s.cfg.Store.HostAuthority.Activate(ctx, hosts)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return HostCA{}, conflict("make one: sallyport hostca rotate", "there is no next key of the host CA")
	case err != nil:
		return HostCA{}, err
	}
	ca, err := s.hostCA(ctx, "")
	detail := map[string]string{"fingerprint": ca.Fingerprint, "before": gone.Fingerprint}
	if in.HostKeys {
		detail["host-keys"] = "changed"
	}
	s.changed(ctx, by, "hostca.activate", audit.Event{Detail: detail})
	ca.Revoked = "@revoked * " + gone.PublicKey + " sallyport-host-ca-old"
	return ca, err
}
