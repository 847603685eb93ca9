package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sallyport/admin"
	"sallyport/audit"
)

// client speaks the JSON API to a running server, over its unix socket or the web.
type client struct {
	http  *http.Client
	base  string // http://sallyport or the server's URL, without a slash at the end
	token string // API token; "" over the socket
	where string // in words, for errors
}

const (
	dialTimeout = 5 * time.Second
	// callTimeout is longer than the server's own limits, so that the server gets to say what is wrong.
	callTimeout = 60 * time.Second
	// maxAnswer bounds one JSON answer in bytes; recordings are streamed.
	maxAnswer = 64 << 20
)

// client finds the server that the flags name.
func (g *globals) client() (*client, error) {
	named := 0
	for _, f := range []string{g.Socket, g.State, g.Server} {
		if f != "" {
			named++
		}
	}
	switch {
	case named > 1:
		return nil, usage("Give one of them.", "--socket, --state and --server name three ways to a server")
	case g.Server != "":
		return g.remote()
	case g.TokenFile != "":
		return nil, usage("Over the socket no token is asked for.", "--token-file needs --server")
	case g.Socket != "":
		return overSocket(g.Socket), nil
	case g.State != "":
		return overSocket(filepath.Join(g.State, socketName)), nil
	}
	tried := usualSockets()
	for _, path := range tried {
		if info, err := os.Stat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
			return overSocket(path), nil
		}
	}
	return nil, withHint(exitUnreachable, "Start one (sallyport demo, sallyport serve), or name it: --socket PATH, --state DIR of a demo, or --server URL --token-file FILE.",
		"no server runs here: there is no socket at %s", strings.Join(tried, " nor at "))
}

// socketName is the name of the socket in the data folder.
const socketName = "sallyport.sock"

// usualSockets are where the configuration of init and a demo put the socket.
func usualSockets() []string {
	paths := []string{filepath.Join("/var/lib/sallyport", socketName)}
	if state, err := defaultDemoState(); err == nil {
		paths = append(paths, filepath.Join(state, socketName))
	}
	return paths
}

func overSocket(path string) *client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return dialSocket(ctx, path)
	}
	return &client{http: newHTTP(&http.Transport{DialContext: dial, ExpectContinueTimeout: dialTimeout}), base: "http://sallyport", where: "socket " + path}
}

// remote is a server by its URL. The token goes in clear over nothing but loopback.
func (g *globals) remote() (*client, error) {
	u, err := url.Parse(g.Server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return nil, usage("Write it as https://bastion.example.org", "--server %s: this is not the URL of a server", audit.Escape(g.Server))
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return nil, usage("Use https.", "--server %s: the token would go over the network in clear", audit.Escape(g.Server))
	}
	if g.TokenFile == "" {
		return nil, usage("Make a token on the server: sallyport api-token add NAME > FILE", "--server needs --token-file")
	}
	token, err := g.readSecret(g.TokenFile)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSHandshakeTimeout: dialTimeout, ExpectContinueTimeout: dialTimeout, Proxy: http.ProxyFromEnvironment}
	return &client{http: newHTTP(t), base: strings.TrimSuffix(u.String(), "/"), token: token, where: u.String()}, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func newHTTP(t http.RoundTripper) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // an API does not redirect; the token goes nowhere else
	}}
}

// route makes the path of a route of parts that people typed.
func route(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(p))
	}
	return b.String()
}

// get asks for what is at path into out.
func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.call(ctx, http.MethodGet, path, nil, out)
}

// call sends in (nil: nothing) and reads the answer into out (nil: none).
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return c.unreachable(err)
	case len(text) > maxAnswer:
		return failed("Narrow it down with the command's flags.", "the answer of the server is larger than %d MiB", maxAnswer>>20)
	case out == nil || resp.StatusCode == http.StatusNoContent:
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return failed("Is this a Sallyport server of the same version? See: sallyport version", "reading the answer of %s: %w", c.where, err)
	}
	return nil
}

// stream copies a recording or a list to w. It fails if the answer breaks off.
func (c *client) stream(ctx context.Context, path string, query url.Values, w io.Writer) error {
	resp, err := c.send(ctx, http.MethodGet, path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return failed("What was written is not whole. See the server's log, and try again.", "what the server sends broke off: %w", err)
	}
	return nil
}

// upload sends a form with a file as its last field. It waits for the server to say that it wants the file, so
// that a refusal can be read, and for as long as the server needs.
func (c *client) upload(ctx context.Context, path string, fields map[string]string, file io.Reader) (*http.Response, error) {
	out, in := io.Pipe()
	form := multipart.NewWriter(in)
	go func() { in.CloseWithError(multipartOf(form, fields, file)) }()
	defer out.Close() // ends the goroutine if the server wanted no more
	req, err := c.request(ctx, http.MethodPost, path, out)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.Header.Set("Expect", "100-continue")
	return c.do(req)
}

// request is one to path of the API. Parts of a path that no server would see as such are refused here.
func (c *client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	parts, _, _ := strings.Cut(path, "?")
	for part := range strings.SplitSeq(strings.TrimPrefix(parts, "/"), "/") {
		if part == "" || part == "." || part == ".." {
			return nil, usage("Write the name or id as the list shows it.", "%s is not the name or id of anything", audit.Quote(part))
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/api/v1"+path, body)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	return req, nil
}

// send returns the answer if it is not a refusal.
func (c *client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("writing the request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.do(req)
}

// do sends a request, and returns the answer if it is not a refusal.
func (c *client) do(req *http.Request) (*http.Response, error) {
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer resp.Body.Close()
		return nil, c.refusal(resp)
	}
	return resp, nil
}

func (c *client) unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	hint := "Is the server running? Start it (sallyport serve, sallyport demo), or name another."
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("stopped")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EACCES):
		hint = "The socket belongs to whoever runs the server: run this as that user, or use --server with a token."
	case strings.Contains(err.Error(), "certificate"):
		hint = "See that the certificate names this host and comes from an authority that this machine trusts (SSL_CERT_FILE adds one)."
	}
	return withHint(exitUnreachable, hint, "the server at %s does not answer: %s", audit.Escape(c.where), audit.Escape(err.Error()))
}

// refusedError is what the server answered instead of doing it.
type refusedError struct{ admin.Problem }

// Error gives detail, place and hint on lines of their own. The texts are escaped: they may repeat what
// a stranger typed.
func (e *refusedError) Error() string {
	var b strings.Builder
	b.WriteString(audit.Escape(e.Detail))
	for _, f := range e.Errors {
		if len(e.Errors) == 1 && strings.HasSuffix(e.Detail, f.Message) {
			break // the detail is the whole of it
		}
		fmt.Fprintf(&b, "\n%s: %s", audit.Escape(strings.TrimPrefix(f.Location, "body.")), audit.Escape(f.Message))
	}
	for line := range strings.Lines(e.Excerpt) {
		b.WriteString("\n" + audit.Escape(strings.TrimRight(line, "\n")))
	}
	if e.Hint != "" {
		b.WriteString("\n" + sentence(audit.Escape(e.Hint)))
	}
	return b.String()
}

func sentence(s string) string {
	if s == "" || strings.HasPrefix(s, "sallyport ") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// refusal reads why the server refused. What the server could not understand is wrong usage.
func (c *client) refusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	e := &refusedError{}
	if json.Unmarshal(text, &e.Problem) != nil || e.Detail == "" {
		code := exitFailed
		if resp.StatusCode >= 502 && resp.StatusCode <= 504 {
			code = exitUnreachable // a proxy in front answered, not the server
		}
		return withHint(code, "Is this the address of a Sallyport server?", "%s answered %s", audit.Escape(c.where), audit.Escape(resp.Status))
	}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return &exitError{exitUsage, e}
	}
	return &exitError{exitFailed, e}
}
