package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"

	"sallyport/internal/config"
	"sallyport/radius"
)

// radiusDoor is the RADIUS server with its sockets. Nil is none.
type radiusDoor struct {
	server *radius.Server
	auth   *net.UDPConn // opened by Listen, or handed over
	acct   *net.UDPConn // the same; nil: there is no accounting
	tls    net.Listener // the same; nil: there is no RadSec
	show   func(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// newRadiusDoor returns the door, nil if the configuration has none.
func newRadiusDoor(n *node, suffixes []string) (*radiusDoor, error) {
	if n.cfg.RADIUS.Listen == "" && n.cfg.RADIUS.RadSec.Listen == "" {
		return nil, nil
	}
	cfg := radius.Config{Engine: n.Engine, Store: n.Store, Audit: n.Audit, Suffixes: suffixes, Log: n.log, Counted: n.metrics.RADIUS}
	if file := string(n.cfg.RADIUS.RadSec.ClientCAFile); file != "" {
		cfg.ClientCAs = func() (*x509.CertPool, error) { return readAuthorities(file) }
		if _, err := cfg.ClientCAs(); err != nil {
			return nil, fmt.Errorf("radius.radsec.client-ca-file: %w", err)
		}
	}
	s, err := radius.New(cfg)
	if err != nil {
		return nil, err
	}
	in := n.opts.Sockets
	return &radiusDoor{server: s, auth: in.radius, acct: in.accounting, tls: in.radsec}, nil
}

// readAuthorities reads a file of certificates.
func readAuthorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("there is no certificate (PEM) in %s", file)
	}
	return pool, nil
}

// Listen opens the sockets that nobody has handed over.
func (d *radiusDoor) Listen(cfg config.RADIUS) (err error) {
	if d == nil {
		return nil
	}
	if cfg.Listen != "" && d.auth == nil {
		if d.auth, err = listenUDP(cfg.Listen, "radius.listen"); err != nil {
			return err
		}
	}
	if cfg.Accounting != "" && d.acct == nil {
		if d.acct, err = listenUDP(cfg.Accounting, "radius.accounting"); err != nil {
			return err
		}
	}
	if cfg.RadSec.Listen == "" {
		return nil
	}
	d.show = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { // a renewal needs no restart
		pair, err := tls.LoadX509KeyPair(string(cfg.RadSec.Certificate), string(cfg.RadSec.Key))
		return &pair, err
	}
	if _, err := d.show(nil); err != nil {
		return fmt.Errorf("reading radius.radsec.certificate and radius.radsec.key: %w", err)
	}
	if d.tls == nil {
		d.tls, err = listenTCP(context.Background(), cfg.RadSec.Listen, "radius.radsec.listen")
	}
	return err
}

func listenUDP(address config.Listen, key string) (*net.UDPConn, error) {
	a, err := net.ResolveUDPAddr("udp", string(address))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	c, err := net.ListenUDP("udp", a)
	if errors.Is(err, syscall.EACCES) {
		return nil, fmt.Errorf("%s: %w; a port below 1024 needs CAP_NET_BIND_SERVICE, or a socket from systemd: see docs/install.md", key, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return c, nil
}

// Serve begins to answer.
func (d *radiusDoor) Serve(work func(what string, do func() error)) {
	if d == nil {
		return
	}
	if d.auth != nil {
		work("radius", func() error { return d.server.Serve(d.auth) })
	}
	if d.tls != nil {
		work("radius by TLS", func() error { return d.server.ServeTLS(d.tls, &tls.Config{GetCertificate: d.show}) })
	}
	if d.acct != nil {
		work("radius accounting", func() error { return d.server.ServeAccounting(d.acct) })
	}
}

// Shutdown answers what is in work, and then nobody any more.
func (d *radiusDoor) Shutdown(ctx context.Context, log *slog.Logger) {
	if d == nil {
		return
	}
	if err := d.server.Shutdown(ctx); err != nil {
		log.Warn("leaving RADIUS requests without an answer", "error", err)
	}
}

// Close lets go of everything; after Shutdown it does nothing.
func (d *radiusDoor) Close() error {
	if d == nil {
		return nil
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = d.server.Shutdown(ended)
	var errs []error
	for _, c := range []*net.UDPConn{d.auth, d.acct} {
		if c == nil {
			continue
		}
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if d.tls != nil {
		if err := d.tls.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
