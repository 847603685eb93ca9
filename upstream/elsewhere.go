package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/store"
)

// elsewhereStep logs in once more with the same credential, from an address of this machine that is not the
// bastion's as targets see it: whoever takes the credential along must not get far with it.
func (d *Dialer) elsewhereStep(ctx context.Context, hops []hop, u *Upstream) Step {
	const name = "other addresses"
	cannot := func(why string) Step {
		return Step{Name: name, OK: true, Detail: "cannot be tried from here: " + why}
	}
	t := hops[len(hops)-1].target
	switch {
	case t.Via != "":
		return cannot("the target sees the address of " + t.Via)
	case len(d.cfg.Addresses) == 0:
		return cannot("the configuration does not say which addresses are the bastion's (ssh: addresses)")
	}
	here, _ := netip.ParseAddrPort(u.LocalAddr().String())
	there, _ := netip.ParseAddrPort(u.RemoteAddr().String())
	others := d.otherSources(here.Addr().Unmap(), there.Addr().Unmap())
	if len(others) == 0 {
		return cannot("this machine has no other address of the kind")
	}
	for _, from := range others {
		l := newLimit(ctx, min(d.cfg.Timeout, 3*time.Second))
		step, tried := d.tryFrom(l, from, hops, name)
		l.stop()
		if tried {
			return step
		}
	}
	return cannot("nothing answers from " + joinAddrs(others))
}

// tryFrom logs in from one address. It is false if that came to no answer about the login.
func (d *Dialer) tryFrom(l *limit, from netip.Addr, hops []hop, name string) (Step, bool) {
	t := hops[0].target
	conn, err := d.dialFrom(l.ctx, from, t.Address)
	if err != nil {
		return Step{}, false
	}
	j := &journey{d: d, hops: hops, limit: l, admit: checker}
	u, err := j.login(0, conn)
	var e *Error
	switch {
	case err == nil:
		_ = u.Close()
		fix := `put from="` + strings.Join(d.cfg.Addresses, ",") + `" before the key in authorized_keys, as 'sallyport target onboard ` + t.Name + `' prints it`
		if t.Credential == store.CredentialPassword {
			fix = "have its firewall, or its sshd_config (Match Address), let nobody but the bastion in: " + strings.Join(d.cfg.Addresses, ", ")
		}
		return Step{Name: name, Detail: "the same login works from " + from.String() + " too", Fix: fix}, true
	case errors.As(err, &e) && e.Err != nil && strings.Contains(e.Err.Error(), "unable to authenticate"):
		return Step{Name: name, OK: true, Detail: "the same login is refused from " + from.String()}, true
	}
	return Step{}, false
}

// ownSource tells whether addr is one of the bastion's as targets see it.
func (d *Dialer) ownSource(addr netip.Addr) bool {
	return slices.ContainsFunc(d.cfg.Addresses, func(text string) bool {
		if p, err := netip.ParsePrefix(text); err == nil {
			return p.Contains(addr.Unmap())
		}
		a, err := netip.ParseAddr(text)
		return err == nil && a.Unmap() == addr.Unmap()
	})
}

// maxOtherSources bounds the addresses that are tried.
const maxOtherSources = 4

// otherSources are addresses of this machine that could reach there, but for here and the bastion's own.
func (d *Dialer) otherSources(here, there netip.Addr) []netip.Addr {
	var all []netip.Addr
	if there.Is4() && there.IsLoopback() {
		for b := byte(2); b < 8; b++ {
			all = append(all, netip.AddrFrom4([4]byte{127, 0, 0, b}))
		}
	}
	list, _ := net.InterfaceAddrs()
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok {
				all = append(all, own.Unmap())
			}
		}
	}
	all = slices.DeleteFunc(all, func(a netip.Addr) bool {
		return a.Is4() != there.Is4() || a == here || a == there || a.IsLinkLocalUnicast() || a.IsLoopback() && !there.IsLoopback() || d.ownSource(a)
	})
	return all[:min(len(all), maxOtherSources)]
}

func joinAddrs(list []netip.Addr) string {
	var texts []string
	for _, a := range list {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ", ")
}
