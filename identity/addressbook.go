package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// AddressBookConfig is an HTTP service that knows people's telephone numbers. Exactly one of Path and Pattern
// is set.
type AddressBookConfig struct {
	URL     string         // {login} stands for the canonical login name, escaped
	Headers []string       // "Name: value"; {secret} stands for the secret
	Secret  Password       // "": none
	Path    string         // where the number is in a JSON answer: keys and positions with dots between
	Pattern *regexp.Regexp // its first group is the number, in any answer
	CA      *x509.CertPool // nil: the system's
	Timeout time.Duration  // 0: 3 s
	Cache   time.Duration  // how long an answer is good; 0: not at all
}

// AddressBook asks an [AddressBookConfig] for numbers. It is safe for concurrent use.
type AddressBook struct {
	cfg    AddressBookConfig
	client *http.Client

	mu    sync.Mutex // guards known
	known map[string]bookEntry
}

// bookEntry is an answer; "" is one too.
type bookEntry struct {
	number string
	until  time.Time
}

// Bounds of an address book.
const (
	maxBookAnswer = 1 << 20
	maxBookKnown  = 10_000
)

// NewAddressBook returns an address book, and asks it nothing.
func NewAddressBook(cfg AddressBookConfig) (*AddressBook, error) {
	if (cfg.Path == "") == (cfg.Pattern == nil) || cfg.Pattern != nil && cfg.Pattern.NumSubexp() < 1 {
		return nil, errors.New("address book: want a path, or a pattern with a group around the number")
	}
	for _, h := range cfg.Headers {
		if name, _, ok := strings.Cut(h, ":"); !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(h, "\r\n") {
			return nil, fmt.Errorf("address book: header %q: want Name: value", h)
		}
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 3 * time.Second
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.CA}
	return &AddressBook{cfg: cfg, known: map[string]bookEntry{}, client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // whoever the answer comes from decides where codes go
	}}}, nil
}

// Phone returns the number of a canonical login name as the service writes it; "" if it knows none, which is
// what status 404 says, or an answer without the path. The error is an [ErrUnavailable].
func (b *AddressBook) Phone(ctx context.Context, login string) (string, error) {
	now := time.Now()
	b.mu.Lock()
	e, ok := b.known[login]
	b.mu.Unlock()
	if ok && now.Before(e.until) {
		return e.number, nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	number, err := b.ask(ctx, login)
	if err != nil {
		return "", unavailable("asking the address book", err)
	}
	if b.cfg.Cache > 0 {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.known) >= maxBookKnown {
			clear(b.known)
		}
		b.known[login] = bookEntry{number, now.Add(b.cfg.Cache)}
	}
	return number, nil
}

func (b *AddressBook) ask(ctx context.Context, login string) (string, error) {
	// In a query as in a path; nothing that %-escapes leave alone can part either.
	escaped := strings.ReplaceAll(url.QueryEscape(login), "+", "%20")
	if strings.Trim(login, ".") == "" {
		return "", nil // would be a step in the path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.ReplaceAll(b.cfg.URL, "{login}", escaped), nil)
	if err != nil {
		return "", err
	}
	for _, h := range b.cfg.Headers {
		name, value, _ := strings.Cut(h, ":")
		req.Header.Set(strings.TrimSpace(name), strings.TrimSpace(strings.ReplaceAll(value, "{secret}", string(b.cfg.Secret))))
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return "", nil
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("it answered %s", resp.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBookAnswer+1))
	switch {
	case err != nil:
		return "", err
	case len(answer) > maxBookAnswer:
		return "", fmt.Errorf("its answer is larger than %d bytes", maxBookAnswer)
	case b.cfg.Pattern != nil:
		if m := b.cfg.Pattern.FindSubmatch(answer); m != nil {
			return string(m[1]), nil
		}
		return "", nil
	}
	return atPath(answer, b.cfg.Path)
}

// atPath returns the text or number that stands at a path in JSON; "" if nothing does.
func atPath(text []byte, path string) (string, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // a telephone number is no float
	if err := d.Decode(&v); err != nil {
		return "", fmt.Errorf("its answer is no JSON: %w", err)
	}
	for _, key := range strings.Split(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(at) {
				return "", nil
			}
			v = at[i]
		default:
			return "", nil
		}
	}
	switch at := v.(type) {
	case string:
		return at, nil
	case json.Number:
		return at.String(), nil
	}
	return "", nil
}
