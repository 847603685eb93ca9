package bastion

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/policy"
	"sallyport/store"
)

// sshPort is where an SSH server is looked for, whatever the inventory says.
const sshPort = 22

// Bounds of resolving names for a forward.
const (
	resolveTimeout = 2 * time.Second
	resolveKept    = 30 * time.Second
	resolveMost    = 1000 // names kept
)

// destination holds a destination that the rules allow through target against what no rule can allow: the
// SSH port of a target, since that would be a way past the recording. It gives the host to forward
// to: for a port at which targets have their SSH servers, a name is resolved here and the address that
// was judged is the one that is used. refusal is for the person.
func (s *Server) destination(ctx context.Context, target, host string, port uint16) (instead, refusal string) {
	targets, err := s.targets(ctx)
	if err != nil {
		return "", "the targets cannot be read just now; try again in a minute"
	}
	addr, err := netip.ParseAddr(host)
	if err == nil {
		return host, s.judge(ctx, targets, target, addr, port)
	}
	for _, t := range targets {
		at, p := splitAddress(t.Address)
		if strings.EqualFold(host, at) && port == p || strings.EqualFold(host, t.Name) && (port == p || port == sshPort) {
			return "", isTargets(host, port)
		}
	}
	if port != sshPort && !slices.ContainsFunc(targets, func(t store.Target) bool { _, p := splitAddress(t.Address); return p == port }) {
		return host, s.judgeName(ctx, host)
	}
	if isLoopbackName(host) {
		return host, s.judge(ctx, targets, target, netip.IPv6Loopback(), port)
	}
	found, err := s.names.lookup(ctx, host)
	if err != nil || len(found) == 0 {
		return "", fmt.Sprintf("%s is not known here, and port %d is one at which targets have SSH servers: name the host by its address", host, port)
	}
	for _, a := range found {
		if refusal := s.judge(ctx, targets, target, a, port); refusal != "" {
			return "", refusal
		}
	}
	return found[0].String(), s.judgeName(ctx, host)
}

// judge says why nothing may be forwarded to addr and port, if so. Loopback is the target's own.
func (s *Server) judge(ctx context.Context, targets []store.Target, target string, addr netip.Addr, port uint16) string {
	addr = policy.Embedded(addr)
	own := addr.IsLoopback() || addr.IsUnspecified()
	if own && port == sshPort {
		return isTargets(addr.String(), port)
	}
	for _, t := range targets {
		host, p := splitAddress(t.Address)
		if p != port {
			continue
		}
		if own && (t.Name == target || t.Via == target && isLoopback(host)) { // behind a jump host, loopback is that one's
			return isTargets(addr.String(), port)
		}
		at, err := s.names.addresses(ctx, host)
		if err != nil {
			return "the addresses of the targets cannot be looked up just now; try again in a minute"
		}
		if slices.Contains(at, addr) {
			return isTargets(addr.String(), port)
		}
	}
	return ""
}

// judgeName refuses a name for an address that a rule has to list as an address. It sees what is known
// here; the target may know the name by another address.
func (s *Server) judgeName(ctx context.Context, host string) string {
	found, _ := s.names.lookup(ctx, host)
	if slices.ContainsFunc(found, policy.MustBeListed) || strings.EqualFold(host, "metadata.google.internal") {
		return host + " is a link-local or metadata address: a rule must list that address, and the forward must name it"
	}
	return ""
}

// targetsAt finds the targets whose SSH port host and port are: by name, with their own port or that of
// SSH, else by host of their address, or by an address that both stand for. sshHere: the port is one at
// which SSH servers are. Of found, ID, Name and Address are set.
func (s *Server) targetsAt(ctx context.Context, host string, port uint16) (found []store.Target, sshHere bool, err error) {
	t, err := s.cfg.Store.Targets.ByName(ctx, host) // as nearly everybody asks
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, false, err
	}
	if _, p := splitAddress(t.Address); err == nil && (port == p || port == sshPort) {
		return []store.Target{t}, true, nil
	}
	targets, err := s.targets(ctx)
	if err != nil {
		return nil, false, err
	}
	sshHere = port == sshPort
	var named, at []store.Target
	for _, t := range targets {
		_, p := splitAddress(t.Address)
		sshHere = sshHere || p == port
		switch {
		case strings.EqualFold(host, t.Name) && (port == p || port == sshPort):
			named = append(named, t)
		case port == p:
			at = append(at, t)
		}
	}
	if len(named) > 0 || len(at) == 0 {
		return named, sshHere, nil
	}
	addrs, _ := s.names.addresses(ctx, host) // a name that is not known here can still be the one in an address
	return slices.DeleteFunc(at, func(t store.Target) bool {
		own, _ := splitAddress(t.Address)
		if strings.EqualFold(host, own) {
			return false
		}
		if len(addrs) == 0 {
			return true
		}
		known, _ := s.names.addresses(ctx, own)
		return !slices.ContainsFunc(known, func(a netip.Addr) bool {
			return slices.ContainsFunc(addrs, func(b netip.Addr) bool { return policy.Embedded(a) == policy.Embedded(b) })
		})
	}), sshHere, nil
}

// isLoopback tells whether host can only be the machine that resolves it.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return isLoopbackName(host)
	}
	addr = policy.Embedded(addr)
	return addr.IsLoopback() || addr.IsUnspecified()
}

func isTargets(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port))) + " is the SSH port of a target, which is never forwarded to: use ssh user@target@bastion instead"
}

func isLoopbackName(host string) bool {
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || host == "localhost.localdomain"
}

// splitAddress takes the address of a target apart.
func splitAddress(address string) (host string, port uint16) {
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return address, sshPort
	}
	n, _ := strconv.ParseUint(p, 10, 16)
	return host, uint16(n)
}

// names resolves host names and remembers them for a short while. The zero value is ready.
type names struct {
	mu    sync.Mutex
	known map[string]resolved
}

type resolved struct {
	addrs []netip.Addr
	err   error
	until time.Time
}

// addresses of a host that may be an address itself. A name that does not exist has none.
func (n *names) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	addrs, err := n.lookup(ctx, host)
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return nil, nil
	}
	return addrs, err
}

func (n *names) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	host = strings.ToLower(host)
	now := time.Now()
	n.mu.Lock()
	r, ok := n.known[host]
	n.mu.Unlock()
	if ok && now.Before(r.until) {
		return r.addrs, r.err
	}
	resolving, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	r.addrs, r.err = net.DefaultResolver.LookupNetIP(resolving, "ip", host)
	if ctx.Err() != nil {
		return nil, ctx.Err() // says nothing about the name
	}
	for i := range r.addrs {
		r.addrs[i] = r.addrs[i].Unmap()
	}
	r.until = now.Add(resolveKept)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil || len(n.known) >= resolveMost {
		n.known = map[string]resolved{}
	}
	n.known[host] = r
	return r.addrs, r.err
}
