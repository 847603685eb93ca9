// Package web holds what every web page of Sallyport shares: the security headers, the frame around
// a page, the template functions that print times, sizes and strangers' text, and the static files.
//
// Words: a session is a person's connection through the bastion; the state of a signed-in browser is
// a web session, and package signin keeps it.
package web

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Policy is the Content-Security-Policy of every page. Nothing is loaded from elsewhere, nothing
// inline runs or styles. wasm-unsafe-eval lets the replay player compile its terminal emulator; it
// allows no evaluation of script text.
const Policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; " +
	"connect-src 'self'; font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// MaxForm bounds the body of a form in bytes; the text of the rules is the largest that is sent.
const MaxForm = 1 << 20

// Headers sets the security headers of every response and bounds the body of every request. With
// secure (the web is served by TLS) browsers are told never to come back without it.
func Headers(secure bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", Policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		// The address of a page may hold a one-time ticket: it goes to nobody.
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		h.Set("Cache-Control", "no-store")
		if secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		r = r.WithContext(context.WithValue(r.Context(), wholeBody{}, r.Body))
		r.Body = http.MaxBytesReader(w, r.Body, MaxForm)
		next.ServeHTTP(w, r)
	})
}

// wholeBody is where Headers leaves the body that it bounds.
type wholeBody struct{}

// Upload returns the body of a request that may be larger than a form, at most limit bytes, of which some must
// come every minute. Nothing may have been read from r.Body; ask it only for somebody who may send that much.
func Upload(w http.ResponseWriter, r *http.Request, limit int64) io.ReadCloser {
	body := r.Body
	if whole, ok := r.Context().Value(wholeBody{}).(io.ReadCloser); ok {
		body = whole
	}
	return http.MaxBytesReader(w, &patientBody{body, http.NewResponseController(w)}, limit)
}

// Drain reads what is left of an upload that is refused. A client that is still sending would else find the connection
// closed, and not the answer that says why.
func Drain(upload io.Reader) { _, _ = io.Copy(io.Discard, upload) }

// patientBody puts the deadline off with each part that comes.
type patientBody struct {
	io.ReadCloser
	control *http.ResponseController
}

// Read implements io.Reader.
func (b *patientBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(time.Minute)) // as bodies have anyway
	return b.ReadCloser.Read(p)
}

// Source returns the address of the client: the peer of the connection or, if the peer is one of the
// listed proxies, the last address in X-Forwarded-For that is not a proxy itself. It is invalid if
// the peer has no address (a unix socket).
func Source(r *http.Request, proxies []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && listed(addr, proxies); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap().WithZone("")
	}
	return addr
}

func listed(addr netip.Addr, proxies []netip.Prefix) bool {
	for _, p := range proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// LocalPath returns next if it is a path of this site that a sign-in may lead to, else "/". Anything
// with a host, a scheme or a character that browsers read as one is refused.
func LocalPath(next string) string {
	if len(next) > 2048 || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") {
		return "/"
	}
	for i := range len(next) {
		if c := next[i]; c <= ' ' || c == '\\' || c == 0x7f {
			return "/"
		}
	}
	return next
}
