package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"sallyport/internal/config"
)

// inherited are the sockets that systemd handed over (sd_listen_fds(3)), so that the server need not be allowed to open
// them, and nothing that comes while it restarts is lost. All are nil without it.
type inherited struct {
	ssh, web, radsec   net.Listener
	radius, accounting *net.UDPConn
}

// socketNames are what the units call them.
var socketNames = []string{"ssh", "web", "radius", "radius-accounting", "radsec"}

// inheritListeners takes the sockets by their names, and leaves no trace of them in the environment. It is to be called once.
func inheritListeners() (in inherited, err error) {
	defer func() {
		if err != nil {
			err = &exitError{Code: exitUsage, Err: fmt.Errorf("socket activation: %w", errors.Join(err, in.Close()))}
		}
	}()
	for _, f := range activation.Files(true) {
		taken := false
		switch f.Name() {
		case "ssh":
			taken, err = take(&in.ssh, f, listenerOf)
		case "web":
			taken, err = take(&in.web, f, listenerOf)
		case "radsec":
			taken, err = take(&in.radsec, f, listenerOf)
		case "radius":
			taken, err = take(&in.radius, f, packetsOf)
		case "radius-accounting":
			taken, err = take(&in.accounting, f, packetsOf)
		default:
			return in, fmt.Errorf("a socket was passed by the name %q; name it with FileDescriptorName=%s or %s in its unit",
				f.Name(), strings.Join(socketNames[:len(socketNames)-1], ", "), socketNames[len(socketNames)-1])
		}
		if taken {
			return in, fmt.Errorf("two sockets were passed by the name %s; one ListenStream= or ListenDatagram= without an address takes IPv4 and IPv6", f.Name())
		}
		if err != nil {
			return in, fmt.Errorf("the socket %s: %w", f.Name(), err)
		}
	}
	return in, nil
}

// take makes of f what open makes of it, unless there is one already.
func take[T comparable](to *T, f *os.File, open func(*os.File) (T, error)) (taken bool, err error) {
	var none T
	if *to != none {
		return true, f.Close()
	}
	got, err := open(f)
	if err == nil {
		*to = got
	}
	return false, err
}

// listenerOf makes a listener of a TCP socket that listens, and closes f.
func listenerOf(f *os.File) (net.Listener, error) {
	defer f.Close()
	if option(f, syscall.SO_ACCEPTCONN) != 1 {
		return nil, errors.New("it does not listen; its unit needs ListenStream= and Accept=no")
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	if _, ok := l.Addr().(*net.TCPAddr); !ok {
		_ = l.Close()
		return nil, fmt.Errorf("%s is no TCP port; its unit needs ListenStream= with a port", l.Addr())
	}
	return l, nil
}

// packetsOf makes what it is of a UDP socket that is bound, and closes f.
func packetsOf(f *os.File) (*net.UDPConn, error) {
	defer f.Close()
	const want = "its unit needs ListenDatagram= with a port"
	if option(f, syscall.SO_TYPE) != syscall.SOCK_DGRAM {
		return nil, errors.New("it is not for datagrams; " + want)
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	udp, ok := c.(*net.UDPConn)
	if !ok || udp.LocalAddr().(*net.UDPAddr).Port == 0 {
		_ = c.Close()
		return nil, fmt.Errorf("%s is no UDP port; %s", c.LocalAddr(), want)
	}
	return udp, nil
}

// option is what a socket says of itself; -1: it is no socket.
func option(f *os.File, name int) int {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1
	}
	value := -1
	if err := raw.Control(func(fd uintptr) {
		got, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, name)
		if err == nil {
			value = got
		}
	}); err != nil {
		return -1
	}
	return value
}

// use makes cfg say what the sockets say, examined as if it stood in the file.
func (in inherited) use(cfg *config.Config) error {
	for _, l := range []struct {
		listener net.Listener
		to       *config.Listen
	}{{in.ssh, &cfg.SSH.Listen}, {in.web, &cfg.Web.Listen}, {in.radsec, &cfg.RADIUS.RadSec.Listen}} {
		if l.listener != nil {
			*l.to = config.Listen(l.listener.Addr().String())
		}
	}
	if in.radius != nil {
		cfg.RADIUS.Listen = config.Listen(in.radius.LocalAddr().String())
	}
	if in.accounting != nil {
		cfg.RADIUS.Accounting = config.Listen(in.accounting.LocalAddr().String())
	}
	if err := cfg.Examine(); err != nil {
		return &exitError{Code: exitUsage, Err: err}
	}
	return nil
}

// Close closes what was taken.
func (in inherited) Close() error {
	var errs []error
	for _, l := range []net.Listener{in.ssh, in.web, in.radsec} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	for _, c := range []*net.UDPConn{in.radius, in.accounting} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}
