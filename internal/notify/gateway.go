package notify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// GatewayConfig is an HTTP service that sends short messages. In URL, headers and body {to} stands for the
// number, {text} for the text, {id} for the message's id and {secret} for the secret; each is escaped for the
// place where it stands.
type GatewayConfig struct {
	URL     string
	Method  string   // "": POST
	Headers []string // "Name: value"
	Body    string   // its form is said by the header Content-Type: JSON, a form, XML or plain text
	Secret  Secret
	Success *regexp.Regexp // what a right answer has somewhere in its body; nil: the status alone counts
	CA      *x509.CertPool // nil: the system's
	Timeout time.Duration  // of one message; 0: 15 s
	Numbers Numbers        // where restricted messages may go
}

// gateway is a [Sender] by HTTP.
type gateway struct {
	cfg    GatewayConfig
	url    *url.URL
	escape func(string) string // for the body
	client *http.Client
}

// maxAnswer bounds what is read of a gateway's answer.
const maxAnswer = 64 << 10

// NewGateway returns a Sender that asks an HTTP service.
func NewGateway(cfg GatewayConfig) (Sender, error) {
	u, err := url.Parse(strings.NewReplacer("{", "%7B", "}", "%7D").Replace(cfg.URL))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("gateway %q: want the URL of a service, such as https://sms.example.org/send", cfg.URL)
	}
	if strings.ContainsAny(u.Host, "%{}") {
		return nil, fmt.Errorf("gateway %q: the host is fixed", cfg.URL)
	}
	g := &gateway{cfg: cfg, url: u}
	contentType := ""
	for _, h := range cfg.Headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(h, "\r\n") {
			return nil, fmt.Errorf("gateway %s: header %q: want Name: value", u.Host, h)
		}
		if strings.EqualFold(strings.TrimSpace(name), "Content-Type") {
			contentType = strings.TrimSpace(value)
		}
	}
	if g.escape, err = escapeFor(contentType); err != nil && cfg.Body != "" {
		return nil, fmt.Errorf("gateway %s: %w", u.Host, err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.CA}
	g.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the code and the secret go nowhere else
	}}
	return g, nil
}

// escapeFor returns how text is written into a body of a type.
func escapeFor(contentType string) (func(string) string, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, errors.New("a body needs the header Content-Type, such as Content-Type: application/json")
	}
	switch {
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		return func(s string) string {
			b, _ := json.Marshal(s) // of a string, never fails
			return string(b[1 : len(b)-1])
		}, nil
	case kind == "application/x-www-form-urlencoded":
		return url.QueryEscape, nil
	case kind == "text/xml" || kind == "application/xml" || strings.HasSuffix(kind, "+xml"):
		return func(s string) string {
			var b strings.Builder
			_ = xml.EscapeText(&b, []byte(s)) // of a Builder, never fails
			return b.String()
		}, nil
	case kind == "text/plain":
		return func(s string) string { return s }, nil
	}
	return nil, fmt.Errorf("Content-Type %s: text can be escaped for JSON, forms, XML and text/plain", kind)
}

// Name is the host of the service.
func (g *gateway) Name() string { return g.url.Host }

// Send asks the service to send m.
func (g *gateway) Send(ctx context.Context, m Message) error {
	if m.Restricted {
		if err := g.cfg.Numbers.Allow(m.To); err != nil {
			return err
		}
	}
	return within(ctx, g.cfg.Timeout, func(ctx context.Context) error { return g.ask(ctx, m) })
}

func (g *gateway) ask(ctx context.Context, m Message) error {
	fill := func(template string, escape func(string) string) string {
		return strings.NewReplacer("{to}", escape(m.To), "{text}", escape(m.Text), "{id}", escape(m.ID), "{secret}", escape(string(g.cfg.Secret))).Replace(template)
	}
	method := g.cfg.Method
	if method == "" {
		method = http.MethodPost
	}
	var body io.Reader
	if g.cfg.Body != "" {
		body = strings.NewReader(fill(g.cfg.Body, g.escape))
	}
	req, err := http.NewRequestWithContext(ctx, method, fill(g.cfg.URL, url.QueryEscape), body)
	if err != nil {
		return errors.New("making the request: the template gives no URL") // the cause repeats the text
	}
	for _, h := range g.cfg.Headers {
		name, value, _ := strings.Cut(h, ":")
		req.Header.Set(strings.TrimSpace(name), strings.TrimSpace(fill(value, oneLine)))
	}
	resp, err := g.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, which may hold code and secret
		}
		return fmt.Errorf("asking the service: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return fmt.Errorf("the service answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	case err != nil:
		return fmt.Errorf("reading the answer: %w", err)
	case g.cfg.Success != nil && !g.cfg.Success.Match(answer):
		return errors.New("the service's answer is not what success says") // it may repeat the text
	}
	return nil
}
