package admin

import (
	"context"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// hostCA is the key that vouches for the host keys that the bastion shows in the place of targets, and
// the line by which clients trust it (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT) for patterns; "": for all
// targets there are.
func (s *Server) hostCA(ctx context.Context, patterns string) (HostCA, error) {
	if s.cfg.HostCA == nil {
		return HostCA{}, notFound("see the server's log", "this installation has no host CA")
	}
	if strings.ContainsFunc(patterns, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return HostCA{}, invalid("for example *.example.org,web*", "patterns of hosts have commas and no blanks in between")
	}
	targets, err := s.cfg.Store.Targets.List(ctx)
	if err != nil {
		return HostCA{}, err
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.cfg.HostCA)))
	ca := HostCA{PublicKey: line, Fingerprint: ssh.FingerprintSHA256(s.cfg.HostCA), Hosts: []string{}}
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
	if patterns != "" {
		ca.KnownHosts = "@cert-authority " + patterns + " " + line + " sallyport-host-ca"
	}
	return ca, nil
}
