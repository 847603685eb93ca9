package upstream

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testenv"
	"sallyport/store"
)

func TestDenied(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]bool{
		"10.0.0.5": false, "127.0.0.1": false, "::1": false, "2001:db8::5": false, "fd00::5": false, "192.0.2.1": false,
		"169.254.169.254": true, "169.254.0.1": true, "fe80::1": true, "fe80::1%eth0": true, "febf::1": true, "::ffff:169.254.169.254": true,
		"64:ff9b::a9fe:a9fe": true, "64:ff9b::a00:5": false, "fd00:ec2::254": true, "224.0.0.1": true, "ff02::1": true,
		"0.0.0.0": true, "::": true, "0.1.2.3": true, "255.255.255.255": true, "::ffff:0.0.0.0": true, "100.100.100.200": true,
	} {
		if got := denied(netip.MustParseAddr(addr)); (got != "") != want {
			t.Errorf("%s: denied %q, want %v", addr, got, want)
		}
	}
}

func TestDeniedIsNotDialled(t *testing.T) {
	t.Parallel()
	calls := 0
	w := newWorld(t, func(c *Config) {
		c.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			calls++
			return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("fe80::1")}, nil
		}
	})
	x := w.target(store.Target{Name: "meta", Address: "metadata.example.org:22", HostKeyMode: store.TOFU}, nil)
	if text := w.refused(x, "root"); !strings.Contains(text, "link-local") {
		t.Errorf("the person reads %q", text)
	}
	if calls != 1 {
		t.Errorf("the name was resolved %d times, want once", calls)
	}
	if _, err := w.d.Scan(t.Context(), x); err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("scan: %v", err)
	}
}

func TestOwnListenersAreNotDialled(t *testing.T) {
	t.Parallel()
	var own []net.Addr
	w := newWorld(t, func(c *Config) { c.Listeners = func() []net.Addr { return own } })
	sshd := testenv.StartSSHD(t)
	sshd.Authorize(w.d.AuthorizedKey())
	at := netip.MustParseAddrPort(sshd.Addr)
	x := w.target(store.Target{Name: "self", Address: sshd.Addr, HostKeys: []string{sshd.HostKey}}, nil)
	for _, listen := range []netip.Addr{at.Addr(), netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		own = []net.Addr{net.TCPAddrFromAddrPort(netip.AddrPortFrom(listen, at.Port()))}
		if text := w.refused(x, sshd.Account); !strings.Contains(text, "the bastion itself") {
			t.Errorf("listening at %s the person reads %q", own[0], text)
		}
	}
	own = []net.Addr{net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), at.Port()+1))}
	w.accepted(x, sshd.Account)
}

// Addresses that do not answer or that are denied do not keep the bastion from the one that works.
func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) {
		c.Timeout = 10 * time.Second // a quarter of it for one that does not answer
		c.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			var list []netip.Addr
			for _, a := range []string{"169.254.1.1", "127.0.0.99", "127.0.0.98", "127.0.0.1"} {
				list = append(list, netip.MustParseAddr(a))
			}
			return list, nil
		}
	})
	sshd := testenv.StartSSHD(t)
	sshd.Authorize(w.d.AuthorizedKey())
	_, port, err := net.SplitHostPort(sshd.Addr)
	noError(t, err)
	x := w.target(store.Target{Name: "web1", Address: "web1.example.org:" + port, HostKeys: []string{sshd.HostKey}}, nil)
	began := time.Now()
	w.accepted(x, sshd.Account)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

// What the configuration lists is dialled, whatever it is: here the bastion's own listener.
func TestListedAddressesAreDialled(t *testing.T) {
	t.Parallel()
	sshd := testenv.StartSSHD(t)
	at := netip.MustParseAddrPort(sshd.Addr)
	w := newWorld(t, func(c *Config) {
		c.Listeners = func() []net.Addr { return []net.Addr{net.TCPAddrFromAddrPort(at)} }
		c.Reach = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("169.254.10.0/24")}
	})
	sshd.Authorize(w.d.AuthorizedKey())
	w.accepted(w.target(store.Target{Name: "self", Address: sshd.Addr, HostKeys: []string{sshd.HostKey}}, nil), sshd.Account)
	for address, listed := range map[string]bool{"169.254.10.5": true, "169.254.169.254": false} {
		_, err := w.d.resolve(t.Context(), net.JoinHostPort(address, "22"))
		if far := w.d.judgeFar(address, 22); (err == nil) != listed || (far == nil) != listed {
			t.Errorf("%s: %v, from a jump host %v", address, err, far)
		}
	}
}

// A target may have an IPv6 address, behind a jump host too.
func TestIPv6(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sshd := testenv.StartSSHD(t, "ListenAddress ::1")
	sshd.Authorize(w.d.AuthorizedKey())
	_, port, err := net.SplitHostPort(sshd.Addr)
	noError(t, err)
	x := w.target(store.Target{Name: "six", Address: net.JoinHostPort("::1", port), Accounts: []string{sshd.Account}, HostKeys: []string{sshd.HostKey}}, nil)
	w.accepted(x, sshd.Account)
	w.accepted(w.target(store.Target{Name: "behind", Address: x.Address, HostKeys: x.HostKeys, Via: "six"}, nil), sshd.Account)
}
