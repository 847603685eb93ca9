package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// How a connection to a mail server is protected.
const (
	StartTLS = "starttls" // RFC 3207; a server that does not offer it gets nothing
	TLS      = "tls"      // from the first byte
	NoTLS    = "none"     // everybody on the way can read codes
)

// MailConfig is how mail leaves by one server.
type MailConfig struct {
	Server     string         // host:port
	TLS        string         // "": StartTLS
	CA         *x509.CertPool // nil: the system's
	ServerName string         // in the certificate; "": the host of Server
	User       string         // "": no authentication
	Password   Secret
	From       string        // address
	FromName   string        // "": none
	Host       string        // own name for EHLO and Message-ID
	Timeout    time.Duration // of one message; 0: 15 s
	Mailboxes  Mailboxes     // where restricted messages may go
}

// mailServer is a [Sender] by SMTP.
type mailServer struct {
	cfg  MailConfig
	host string
	port int
}

// NewMail returns a Sender that submits mail to one server.
func NewMail(cfg MailConfig) (Sender, error) { return newMailServer(cfg) }

func newMailServer(cfg MailConfig) (*mailServer, error) {
	host, port, err := net.SplitHostPort(cfg.Server)
	if err != nil {
		return nil, fmt.Errorf("mail server %q: want host:port: %w", cfg.Server, err)
	}
	s := &mailServer{cfg: cfg, host: host}
	if s.port, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("mail server %q: want host:port", cfg.Server)
	}
	if _, err := s.message(Message{ID: "x", To: cfg.From}); err != nil {
		return nil, fmt.Errorf("sender's address of mail: %w", err)
	}
	return s, nil
}

// Name is the server's address.
func (s *mailServer) Name() string { return s.cfg.Server }

// Send submits m. Only the server's answers to recipient and content make it an [ErrRejected]: a refused
// sender or password is a fault here, which another server may not have.
func (s *mailServer) Send(ctx context.Context, m Message) error {
	msg, err := s.message(m)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRejected, err)
	}
	if m.Restricted {
		if err := s.cfg.Mailboxes.Allow(ctx, m.To); err != nil {
			return err
		}
	}
	return within(ctx, s.cfg.Timeout, func(ctx context.Context) error { return s.submit(ctx, msg) })
}

// ProbeMail connects to the server of cfg as for a message, with TLS and authentication, and sends none.
func ProbeMail(ctx context.Context, cfg MailConfig) error {
	s, err := newMailServer(cfg)
	if err != nil {
		return err
	}
	return within(ctx, cfg.Timeout, func(ctx context.Context) error {
		client, conn, err := s.connect(ctx)
		if err != nil {
			return err
		}
		return client.CloseWithSMTPClient(conn)
	})
}

// connect is ready for a message. The connection ends with ctx.
func (s *mailServer) connect(ctx context.Context) (*mail.Client, *smtp.Client, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.host, RootCAs: s.cfg.CA}
	if s.cfg.ServerName != "" {
		tlsConfig.ServerName = s.cfg.ServerName
	}
	// The library renews its deadline with every step; a server that answers ever so slowly ends here.
	dial := func(dialing context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(dialing, network, address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { conn.Close() })
		if s.cfg.TLS != TLS {
			return conn, nil
		}
		secured := tls.Client(conn, tlsConfig)
		if err := secured.HandshakeContext(dialing); err != nil {
			conn.Close()
			return nil, err
		}
		return secured, nil
	}
	deadline, _ := ctx.Deadline()
	options := []mail.Option{
		mail.WithPort(s.port), mail.WithTLSConfig(tlsConfig), mail.WithTimeout(time.Until(deadline)), mail.WithDialContextFunc(dial), mail.WithoutNoop(),
	}
	if s.cfg.Host != "" {
		options = append(options, mail.WithHELO(s.cfg.Host))
	}
	encrypted := s.cfg.TLS != NoTLS
	switch s.cfg.TLS {
	case TLS:
		options = append(options, mail.WithSSL())
	case NoTLS:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if s.cfg.User != "" {
		how := mail.SMTPAuthAutoDiscover
		if !encrypted {
			how = mail.SMTPAuthPlainNoEnc
		} else if s.cfg.TLS == TLS {
			how = mail.SMTPAuthPlain // the library does not see that our connection is encrypted
		}
		options = append(options, mail.WithSMTPAuth(how), mail.WithUsername(s.cfg.User), mail.WithPassword(string(s.cfg.Password)))
	}
	client, err := mail.NewClient(s.host, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("preparing the connection: %w", err)
	}
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("connecting: %w", err)
	}
	return client, conn, nil
}

func (s *mailServer) submit(ctx context.Context, msg *mail.Msg) error {
	client, conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	err = client.SendWithSMTPClient(conn, msg)
	// The server has the message or not; how the connection ends does not matter.
	_ = client.CloseWithSMTPClient(conn)
	if err == nil {
		return nil
	}
	var refused *mail.SendError
	if errors.As(err, &refused) && !refused.IsTemp() && refused.ErrorCode() >= 500 {
		switch refused.Reason {
		case mail.ErrSMTPRcptTo, mail.ErrSMTPData, mail.ErrSMTPDataClose:
			return fmt.Errorf("%w: %w", ErrRejected, err)
		}
	}
	return err
}

// message puts m into the form of RFC 5322.
func (s *mailServer) message(m Message) (*mail.Msg, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.FromFormat(s.cfg.FromName, s.cfg.From); err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	if err := msg.To(m.To); err != nil {
		return nil, fmt.Errorf("recipient: %w", err)
	}
	if len(msg.GetToString()) != 1 {
		return nil, errors.New("recipient: want one address")
	}
	msg.Subject(oneLine(m.Subject))
	msg.SetDate()
	_, domain, _ := strings.Cut(s.cfg.From, "@")
	msg.SetMessageIDWithValue(m.ID + "@" + strings.TrimSuffix(domain, ">"))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no answers from vacation programs
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")  // the same for Exchange
	msg.SetBodyString(mail.TypeTextPlain, m.Text)
	return msg, nil
}

// oneLine keeps a header from being two.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
