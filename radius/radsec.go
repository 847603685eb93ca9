package radius

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of a connection of RadSec (RFC 6614).
const (
	radsecHandshake = 10 * time.Second
	radsecIdle      = 15 * time.Minute
	radsecWrite     = 10 * time.Second
	maxConns        = 512 // of all clients together
)

// radsecSecret is the shared secret of everybody inside of TLS (RFC 6614, section 2.3).
const radsecSecret = "radsec"

// ServeTLS answers clients that come by TLS, authentication and accounting alike, until Shutdown or until l fails.
// A client is who its certificate says, which has to be listed, or has a name that is listed and comes from an authority
// of ClientCAs; config needs the server's own.
func (s *Server) ServeTLS(l net.Listener, config *tls.Config) error {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners = append(s.listeners, l)
	s.loops.Add(1)
	s.mu.Unlock()
	defer s.loops.Done()
	config = config.Clone()
	config.MinVersion, config.ClientAuth = tls.VersionTLS12, tls.RequireAnyClientCert
	config.SessionTicketsDisabled = true // each connection shows its certificate
	slots := make(chan struct{}, maxConns)
	for {
		conn, err := l.Accept()
		if s.ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // too many open files, for instance
			continue
		}
		select {
		case slots <- struct{}{}:
			s.loops.Go(func() {
				defer func() { <-slots }()
				s.radsec(tls.Server(conn, config))
			})
		default:
			_ = conn.Close()
		}
	}
}

// radsec answers one connection.
func (s *Server) radsec(conn *tls.Conn) {
	defer conn.Close()
	end := make(chan struct{})
	defer close(end)
	go func() { // a shutdown does not wait for the client
		select {
		case <-s.ctx.Done():
		case <-end:
			return
		}
		for again := time.NewTicker(20 * time.Millisecond); ; { // whoever reads sets a deadline too
			_ = conn.SetReadDeadline(time.Unix(1, 0))
			select {
			case <-again.C:
			case <-end:
				again.Stop()
				return
			}
		}
	}()
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return
	}
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	_ = conn.SetDeadline(time.Now().Add(radsecHandshake))
	if err := conn.HandshakeContext(s.ctx); err != nil {
		s.counts.add("", countUnknown, from.Addr().String()+" by TLS", s.cfg.Now())
		return
	}
	_ = conn.SetDeadline(time.Time{})
	by := s.examine(conn.ConnectionState().PeerCertificates)
	_ = s.clients.read(s.ctx, s.cfg.Now)    // else those of before count
	if !s.clients.listed(from.Addr(), by) { // anybody can make a certificate, and there are only so many places
		s.counts.add("", countUnknown, from.Addr().String()+" by TLS, "+by.String(), s.cfg.Now())
		return
	}
	var writing sync.Mutex
	back := func(reply []byte) {
		writing.Lock()
		defer writing.Unlock()
		_ = conn.SetWriteDeadline(time.Now().Add(radsecWrite))
		if _, err := conn.Write(reply); err != nil { // in one piece
			_ = conn.Close()
		}
	}
	for {
		packet, err := readPacket(conn, s.ctx.Done())
		if err != nil || by.expired(s.cfg.Now()) {
			return
		}
		s.receive(datagram{
			kind: secured, socket: "tls", from: from, bytes: packet, back: back, shown: by,
		})
	}
}

// readPacket reads what the length in its header says (RFC 6614, section 2.1).
func readPacket(conn *tls.Conn, ended <-chan struct{}) ([]byte, error) {
	select {
	case <-ended:
		return nil, io.EOF
	default:
	}
	_ = conn.SetReadDeadline(time.Now().Add(radsecIdle))
	header := make([]byte, 4)
	if _, err := io.ReadFull(conn, header); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(header[2:]))
	if n < headerLength || n > maxDatagram {
		return nil, errors.New("a length that no packet has") // nobody knows where the next one begins
	}
	packet := append(make([]byte, 0, n), header...)[:n]
	_, err := io.ReadFull(conn, packet[4:])
	return packet, err
}
