package config

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
)

// A scalar is a value that reads itself from the text in the file. Its error says what the text should
// have been, with an example; the decoder adds key and value.
type scalar interface {
	set(text string) error
	String() string
}

// Duration is a span of time such as 10s, 5m or 8h; never negative.
type Duration time.Duration

func (d *Duration) set(text string) error {
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		return fmt.Errorf("want a time with its unit, such as 30s, 5m or 8h")
	}
	*d = Duration(v)
	return nil
}

// String gives the shortest form that reads back to the same value.
func (d Duration) String() string {
	v := time.Duration(d)
	switch {
	case v == 0:
		return "0s"
	case v%time.Hour == 0:
		return strconv.FormatInt(int64(v/time.Hour), 10) + "h"
	case v%time.Minute == 0:
		return strconv.FormatInt(int64(v/time.Minute), 10) + "m"
	default:
		return v.String()
	}
}

// Std gives the value in the type of the standard library.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// OnOff is on or off.
type OnOff bool

func (o *OnOff) set(text string) error {
	if text != "on" && text != "off" {
		return fmt.Errorf("want on or off")
	}
	*o = text == "on"
	return nil
}

// String gives "on" or "off".
func (o OnOff) String() string {
	if o {
		return "on"
	}
	return "off"
}

// Size is a number of bytes such as 64KiB or 500MiB.
type Size int64

// Units of a Size, longest suffix first where one ends in another.
var units = []struct {
	suffix string
	bytes  int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

func (s *Size) set(text string) error {
	want := fmt.Errorf("want a size with its unit, such as 64KiB, 500MiB or 2GiB")
	if text == "0" {
		*s = 0
		return nil
	}
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			return want
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return want
}

// String gives the shortest form that reads back to the same value.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if s != 0 && int64(s)%units[i].bytes == 0 {
			return strconv.FormatInt(int64(s)/units[i].bytes, 10) + units[i].suffix
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// Network is a CIDR prefix; a single address is read as a prefix of its own.
type Network netip.Prefix

func (n *Network) set(text string) error {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		*n = Network(netip.PrefixFrom(a, a.BitLen()))
		return nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return fmt.Errorf("want a network or an address, such as 192.0.2.0/24 or 2001:db8::1")
	}
	if p.Masked() != p {
		return fmt.Errorf("want a network without bits behind its length, such as %s", p.Masked())
	}
	*n = Network(p)
	return nil
}

func (n Network) String() string { return netip.Prefix(n).String() }

// Prefixes gives networks in the type of the standard library.
func Prefixes(networks []Network) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range networks {
		out = append(out, netip.Prefix(n))
	}
	return out
}

// Address is one IP address.
type Address netip.Addr

func (a *Address) set(text string) error {
	v, err := netip.ParseAddr(text)
	if err != nil || v.Zone() != "" {
		return fmt.Errorf("want an IP address, such as 192.0.2.10 or 2001:db8::10")
	}
	*a = Address(v.Unmap())
	return nil
}

func (a Address) String() string { return netip.Addr(a).String() }

// Listen is an address to listen on: "host:port" or ":port", where host is an IP address or localhost.
type Listen string

func (l *Listen) set(text string) error {
	if text == "" {
		*l = ""
		return nil
	}
	want := fmt.Errorf(`want address and port, such as "127.0.0.1:8080", "[::1]:8080" or ":2222"`)
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return want
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return want
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return want
	}
	*l = Listen(text)
	return nil
}

func (l Listen) String() string { return string(l) }

// Loopback tells whether nobody but this machine can reach the address.
func (l Listen) Loopback() bool {
	host, _, err := net.SplitHostPort(string(l))
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// ParseListen reads an address to listen on, as the file has it.
func ParseListen(text string) (Listen, error) {
	var l Listen
	if err := l.set(text); err != nil {
		return "", fmt.Errorf("%q: %w", text, err)
	}
	return l, nil
}

// Name is a word of letters, digits, dots, dashes and underscores, at most 64 of them.
type Name string

func (n *Name) set(text string) error {
	if len(text) > 64 || strings.ContainsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	}) {
		return fmt.Errorf("want a name of at most 64 letters, digits, dots and dashes, such as bastion-1")
	}
	*n = Name(text)
	return nil
}

func (n Name) String() string { return string(n) }

// Path is the name of a file or folder.
type Path string

func (p *Path) set(text string) error {
	if strings.ContainsRune(text, 0) {
		return fmt.Errorf("want the name of a file, such as /etc/sallyport/ldap-password")
	}
	*p = Path(text)
	return nil
}

func (p Path) String() string { return string(p) }

// Database says where the database is: "sqlite", "sqlite:FILE" or a postgres:// URL without password.
type Database string

func (d *Database) set(text string) error {
	want := fmt.Errorf("want sqlite, sqlite:/path/to/file.db or postgres://user@host/name?sslmode=verify-full")
	switch {
	case text == "sqlite":
	case strings.HasPrefix(text, "sqlite:") && len(text) > len("sqlite:"):
	case strings.HasPrefix(text, "postgres://"), strings.HasPrefix(text, "postgresql://"):
		u, err := url.Parse(text)
		if err != nil {
			return want
		}
		if _, has := u.User.Password(); has || u.Query().Has("password") {
			return fmt.Errorf("want it without the password; put that into a file of mode 0600 and name it in database-password-file")
		}
		if !u.Query().Has("sslmode") {
			return fmt.Errorf("want sslmode said, such as postgres://user@host/name?sslmode=verify-full")
		}
	default:
		return want
	}
	*d = Database(text)
	return nil
}

func (d Database) String() string { return string(d) }

// SQLite tells whether the database is a file of this node.
func (d Database) SQLite() bool { return strings.HasPrefix(string(d), "sqlite") }

// URL is the address of a web site, without a path.
type URL string

func (u *URL) set(text string) error {
	if text == "" {
		*u = ""
		return nil
	}
	v, err := url.Parse(text)
	if err != nil || v.Scheme != "https" && v.Scheme != "http" || v.Host == "" || v.User != nil || strings.Trim(v.Path, "/") != "" || v.RawQuery != "" || v.Fragment != "" {
		return fmt.Errorf("want the address of the pages without a path, such as https://bastion.example.org")
	}
	*u = URL(strings.TrimSuffix(text, "/"))
	return nil
}

func (u URL) String() string { return string(u) }

// plain tells whether what is sent there goes over a network in the clear.
func (u URL) plain() bool {
	v, err := url.Parse(string(u))
	if err != nil {
		return true
	}
	a, err := netip.ParseAddr(v.Hostname())
	return v.Scheme != "https" && v.Hostname() != "localhost" && (err != nil || !a.IsLoopback())
}

// Recipient is a public key of age.
type Recipient string

func (r *Recipient) set(text string) error {
	if _, err := ageRecipient(text); err != nil {
		return fmt.Errorf("want a recipient as age-keygen prints it after \"Public key:\", such as age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
	}
	*r = Recipient(text)
	return nil
}

func ageRecipient(text string) (age.Recipient, error) {
	list, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil || len(list) != 1 || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%q is no recipient of age", text)
	}
	return list[0], nil
}

func (r Recipient) String() string { return string(r) }

// AgeRecipients are the recipients in the type of the library.
func AgeRecipients(texts []Recipient) ([]age.Recipient, error) {
	var list []age.Recipient
	for _, text := range texts {
		r, err := ageRecipient(string(text))
		if err != nil {
			return nil, fmt.Errorf("recordings.recipients: %w", err)
		}
		list = append(list, r)
	}
	return list, nil
}

// Server is the address of an LDAP server.
type Server string

func (s *Server) set(text string) error {
	v, err := url.Parse(text)
	if err != nil || v.Scheme != "ldap" && v.Scheme != "ldaps" || v.Hostname() == "" || v.User != nil || strings.Trim(v.Path, "/") != "" {
		return fmt.Errorf("want the address of an LDAP server, such as ldaps://ldap1.example.org")
	}
	*s = Server(text)
	return nil
}

func (s Server) String() string { return string(s) }

// plain tells whether the server would hear passwords in the clear over a network.
func (s Server) plain() bool {
	u, err := url.Parse(string(s))
	if err != nil {
		return true
	}
	a, err := netip.ParseAddr(u.Hostname())
	local := u.Hostname() == "localhost" || err == nil && a.IsLoopback()
	return u.Scheme == "ldap" && !local
}

// Level is the least level of a log line.
type Level slog.Level

func (l *Level) set(text string) error {
	for _, v := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if text == strings.ToLower(v.String()) {
			*l = Level(v)
			return nil
		}
	}
	return fmt.Errorf("want debug, info, warn or error")
}

func (l Level) String() string { return strings.ToLower(slog.Level(l).String()) }

// Format is the form of log lines.
type Format string

func (f *Format) set(text string) error {
	if text != "json" && text != "text" {
		return fmt.Errorf("want json or text")
	}
	*f = Format(text)
	return nil
}

func (f Format) String() string { return string(f) }
