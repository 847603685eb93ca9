package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"

	"sallyport/internal/config"
)

// inherited are the listening sockets that systemd handed over (sd_listen_fds(3)), so that the server need not be
// allowed to open them. Both are nil without it.
type inherited struct{ ssh, web net.Listener }

// inheritListeners takes the sockets by their names, and leaves no trace of them in the environment. It is to be called once.
func inheritListeners() (in inherited, err error) {
	defer func() {
		if err != nil {
			err = &exitError{Code: exitUsage, Err: fmt.Errorf("socket activation: %w", errors.Join(err, in.Close()))}
		}
	}()
	for _, f := range activation.Files(true) {
		var to *net.Listener
		switch f.Name() {
		case "ssh":
			to = &in.ssh
		case "web":
			to = &in.web
		default:
			return in, fmt.Errorf("a socket was passed by the name %q; name it with FileDescriptorName=ssh or web in its unit", f.Name())
		}
		if *to != nil {
			return in, fmt.Errorf("two sockets were passed by the name %s; one ListenStream= without an address takes IPv4 and IPv6", f.Name())
		}
		if *to, err = listenerOf(f); err != nil {
			return in, fmt.Errorf("the socket %s: %w", f.Name(), err)
		}
	}
	return in, nil
}

// listenerOf makes a listener of a TCP socket that listens, and closes f.
func listenerOf(f *os.File) (net.Listener, error) {
	defer f.Close()
	if !listens(f) {
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

func listens(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	listens := 0
	controlErr := raw.Control(func(fd uintptr) {
		listens, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	})
	return controlErr == nil && err == nil && listens == 1
}

// use makes cfg say what the sockets say, examined as if it stood in the file.
func (in inherited) use(cfg *config.Config) error {
	if in.ssh != nil {
		cfg.SSH.Listen = config.Listen(in.ssh.Addr().String())
	}
	if in.web != nil {
		cfg.Web.Listen = config.Listen(in.web.Addr().String())
	}
	if err := cfg.Examine(); err != nil {
		return &exitError{Code: exitUsage, Err: err}
	}
	return nil
}

// Close closes what was taken.
func (in inherited) Close() error {
	var errs []error
	for _, l := range []net.Listener{in.ssh, in.web} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}
