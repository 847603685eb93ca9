package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"sallyport/store"
)

// listenDemoRADIUS takes the address, or the first free port of loopback from that of RADIUS on.
func listenDemoRADIUS(address string) (*net.UDPConn, error) {
	if address != "" {
		a, err := net.ResolveUDPAddr("udp", address)
		if err != nil {
			return nil, err
		}
		return net.ListenUDP("udp", a)
	}
	const first = 1812
	var err error
	for port := first; port < first+demoPortTries; port++ {
		var c *net.UDPConn
		if c, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); !errors.Is(err, syscall.EADDRINUSE) {
			return c, err
		}
	}
	return nil, err
}

// vpn makes the RADIUS client, which takes password and code in one field, so that one command shows it. The secret that
// is told is the one that it has.
func (d *demoSeed) vpn(ctx context.Context) error {
	c, err := d.store.RadiusClients.ByName(ctx, demoVPNName)
	if errors.Is(err, store.ErrNotFound) {
		_, err = d.store.RadiusClients.Add(ctx, store.RadiusClient{
			Name: demoVPNName, Networks: []string{"127.0.0.0/8", "::1/128"}, Mode: store.RadiusPasswordCode, MessageAuthenticator: store.AuthenticatorYes,
			SendsAuthenticator: true, SourceAttribute: 31, Note: "a VPN server on this machine, in your imagination", Enabled: true,
		}, store.SharedSecret(d.secrets.RADIUSSecret))
		return err
	}
	if err != nil {
		return err
	}
	secret, err := d.store.RadiusClients.Secret(ctx, c.ID)
	d.secrets.RADIUSSecret = string(secret)
	return err
}

// radclient is the command that asks for alice as a VPN server does, if codes prints her code.
func (d *demo) radclient(codes string) string {
	addr := d.listeners.radius.LocalAddr().(*net.UDPAddr)
	return fmt.Sprintf(`echo "User-Name=alice,User-Password=%s$(%s --unused),Message-Authenticator=0x00" |
    radclient -x %s auth %s`,
		d.secrets.Passwords["alice"], codes, net.JoinHostPort(addr.IP.String(), strconv.Itoa(addr.Port)), d.secrets.RADIUSSecret)
}
