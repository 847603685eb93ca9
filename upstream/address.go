package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"sallyport/internal/tcpend"
)

// errDenied says that an address must not be dialled, whatever the inventory says.
type errDenied struct {
	addr netip.Addr
	why  string
}

func (e *errDenied) Error() string {
	return fmt.Sprintf("%s is not dialled: it is %s", e.addr, e.why)
}

// metadata are addresses at which clouds give out credentials beside the link-local ones.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("fd20:ce::254"),
	netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("168.63.129.16"),
}

// nat64 is the prefix of RFC 6052, section 2.1: the last four bytes are an IPv4 address.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// denied tells why addr must not be dialled; "" if it may. Loopback may: what listens there is the
// operator's own.
func denied(addr netip.Addr) string {
	addr = addr.Unmap()
	if nat64.Contains(addr) {
		b := addr.As16()
		return denied(netip.AddrFrom4([4]byte(b[12:])))
	}
	switch {
	case !addr.IsValid(), addr.IsUnspecified():
		return "no address of a host"
	case addr.IsLinkLocalUnicast():
		return "a link-local address"
	case addr.IsMulticast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "an address of many hosts"
	case slices.Contains(metadata, addr):
		return "an address at which clouds give out credentials"
	case addr.Is4() && addr.As4()[0] == 0:
		return "no address of a host"
	}
	return ""
}

// dial connects to address ("host:port"). The host is resolved once; each address that may be dialled
// is tried in turn, with an equal share of the time that is left.
func (d *Dialer) dial(l *limit, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, l.remaining())
	defer cancel()
	return d.dialFrom(ctx, netip.Addr{}, address)
}

// dialFrom connects to address from an address of this machine; from whichever suits if that is zero.
func (d *Dialer) dialFrom(ctx context.Context, from netip.Addr, address string) (net.Conn, error) {
	addrs, err := d.resolve(ctx, address)
	if err != nil {
		return nil, err
	}
	var last error
	for i, to := range addrs {
		conn, err := dialOne(ctx, from, to, len(addrs)-i)
		if err == nil {
			return conn, nil
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// goneAfter is how long a target may leave unacknowledged what was sent to it, or take nothing at all.
const goneAfter = time.Minute

// dialOne dials to, which is the first of n addresses left to try.
func dialOne(ctx context.Context, from netip.Addr, to netip.AddrPort, n int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(n))
		defer cancel()
	}
	dialer := net.Dialer{KeepAliveConfig: tcpend.KeepAlive, Control: tcpend.Unacknowledged(goneAfter)}
	if from.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	return dialer.DialContext(ctx, "tcp", to.String())
}

// resolve returns the addresses behind address that may be dialled, at least one. If all are denied
// the error is an *errDenied.
func (d *Dialer) resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("%q is not a port", portText)
	}
	found, err := d.cfg.Resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	var may []netip.AddrPort
	var refused error = errors.New("its name has no address")
	for _, a := range found {
		to := netip.AddrPortFrom(a.Unmap(), uint16(port))
		switch why := denied(a); {
		case d.listed(a):
			may = appendAddr(may, to)
		case why != "":
			refused = &errDenied{a, why}
		case d.ours(to):
			refused = &errDenied{a, "the bastion itself at port " + portText}
		default:
			may = appendAddr(may, to)
		}
	}
	if len(may) == 0 {
		return nil, refused
	}
	return may, nil
}

func appendAddr(list []netip.AddrPort, to netip.AddrPort) []netip.AddrPort {
	if slices.Contains(list, to) {
		return list
	}
	return append(list, to)
}

// listed tells whether the configuration says that addr may be dialled, whatever it is.
func (d *Dialer) listed(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(d.cfg.Reach, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// lookup asks the system for the addresses of host.
func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// ours tells whether one of the bastion's own listeners would answer at to.
func (d *Dialer) ours(to netip.AddrPort) bool {
	if d.cfg.Listeners == nil {
		return false
	}
	for _, l := range d.cfg.Listeners() {
		tcp, ok := l.(*net.TCPAddr)
		if !ok || tcp.Port != int(to.Port()) {
			continue
		}
		at, ok := netip.AddrFromSlice(tcp.IP)
		if at = at.Unmap(); !ok || at.IsUnspecified() {
			if to.Addr().IsLoopback() || ownAddress(to.Addr()) {
				return true
			}
		} else if at == to.Addr().WithZone("") || at.IsLoopback() && to.Addr().IsLoopback() {
			return true
		}
	}
	return false
}

// ownAddress tells whether addr belongs to this machine; if that cannot be known, it does.
func ownAddress(addr netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(list, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		if !ok {
			return false
		}
		own, ok := netip.AddrFromSlice(n.IP)
		return ok && own.Unmap() == addr.WithZone("")
	})
}
