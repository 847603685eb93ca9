package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Load reads and examines the file. What is wrong in it is an *[Error].
func Load(file string) (*Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	return Parse(file, text)
}

// Parse reads and examines the text of a configuration; file is its name, for errors and for relative paths.
func Parse(file string, text []byte) (*Config, error) {
	cfg := Default()
	if err := decode(newSource(file, text), text, cfg); err != nil {
		return nil, err
	}
	if err := cfg.Examine(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("finding the folder of %s: %w", file, err)
	}
	if err := cfg.complete(dir); err != nil {
		return nil, err
	}
	return cfg, nil
}

// Examine finds what no single value shows. Whoever changes a Config that was read asks again.
func (c *Config) Examine() error {
	checks := []func() error{c.examineWeb, c.examineDirectory, c.examineMessages, c.examineRecordings, c.examineRest}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// errorAt is a fault of the key, or of the file if it does not have the key.
func (c *Config) errorAt(key, format string, args ...any) error {
	return c.source.errorf(c.places[key], key+": "+format, args...)
}

func (c *Config) examineWeb() error {
	w := c.Web
	switch {
	case (w.Certificate == "") != (w.Key == ""):
		key := "web.certificate"
		if w.Key != "" {
			key = "web.key"
		}
		return c.errorAt(key, "certificate and key go together; name both or none")
	case w.Listen != "" && !w.Listen.Loopback() && w.Certificate == "" && len(w.Proxies) == 0:
		return c.errorAt("web.listen", "%q can be reached from outside and would carry passwords in the clear; "+
			"name a certificate and key, or list in web.proxies the reverse proxy that speaks HTTPS, or listen on 127.0.0.1:8080", w.Listen)
	case slices.ContainsFunc(w.MetricsFrom, func(n Network) bool { return netip.Prefix(n).Bits() == 0 }):
		return c.errorAt("web.metrics-from", "this is everybody; name the addresses of Prometheus, or give it a key: sallyport api-key add NAME --scope metrics")
	case w.Listen == "" && c.Compat.TOTPRadius:
		return c.errorAt("compat.totpradius", "there is no web to answer at; set web.listen")
	case w.Listen == "" && c.Compat.PrivacyIDEA:
		return c.errorAt("compat.privacyidea", "there is no web to answer at; set web.listen")
	case c.Compat.WithPassword && !c.Compat.PrivacyIDEA:
		return c.errorAt("compat.privacyidea-with-password", "it says nothing without privacyidea: true")
	}
	return nil
}

func (c *Config) examineDirectory() error {
	d := c.Directory
	if d == nil {
		return nil
	}
	for _, server := range d.Servers {
		if server.plain() && !d.StartTLS && !d.InsecurePlaintext {
			return c.errorAt("directory.servers", "%s would carry passwords in the clear; use ldaps:// or set start-tls: true", server)
		}
	}
	switch {
	case len(d.Servers) == 0:
		return c.errorAt("directory.servers", "name at least one, such as [ldaps://ldap1.example.org]")
	case d.Base == "":
		return c.errorAt("directory.base", "say where people are, such as ou=people,dc=example,dc=org")
	case !strings.Contains(d.Filter, "{login}"):
		return c.errorAt("directory.filter", "%q does not contain {login}, so that it finds the same entry for everybody; try (uid={login})", d.Filter)
	case d.BindDN != "" && d.BindPasswordFile == "":
		return c.errorAt("directory.bind-password-file", "bind-dn needs a password; put it into a file of mode 0600 and name that here")
	case d.Timeout == 0:
		return c.errorAt("directory.timeout", "without a limit a silent server would hold up every login; try 2.5s")
	}
	return nil
}

func (c *Config) examineRest() error {
	switch {
	case c.Data == "":
		return c.errorAt("data", "name a folder, such as /var/lib/sallyport")
	case c.SSH.Listen == "":
		return c.errorAt("ssh.listen", `want address and port, such as ":2222"`)
	case c.RADIUS.Accounting != "" && c.RADIUS.Listen == "":
		return c.errorAt("radius.accounting", "accounting alone is about nobody; set radius.listen too, such as \":1812\"")
	case c.RADIUS.Accounting != "" && c.RADIUS.Accounting == c.RADIUS.Listen && !strings.HasSuffix(string(c.RADIUS.Listen), ":0"):
		return c.errorAt("radius.accounting", "%s is that of radius.listen; the usual ports are 1812 and 1813", c.RADIUS.Accounting)
	case c.RADIUS.RadSec.Listen != "" && (c.RADIUS.RadSec.Certificate == "" || c.RADIUS.RadSec.Key == ""):
		return c.errorAt("radius.radsec.listen", "clients have to know whom they speak to; name radius.radsec.certificate and radius.radsec.key")
	case c.OTP.Window < 1 || c.OTP.Window > 10:
		return c.errorAt("otp.window", "%d: want 1 to 10 time steps on each side, better 1; clocks are never quite right, and each step more helps those who guess", c.OTP.Window)
	case c.OTP.WithoutToken.Logins < 0 || c.OTP.WithoutToken.Logins > 100:
		return c.errorAt("otp.without-token.logins", "%d: want 0 to 100 logins without a code, better 0 or 1", c.OTP.WithoutToken.Logins)
	case c.OTP.WithoutToken.Within < 0:
		return c.errorAt("otp.without-token.within", "want a time such as 7d, or 0s for no limit")
	case c.Trust.IPv4 < 16 || c.Trust.IPv4 > 32:
		return c.errorAt("trust.ipv4-prefix", "%d: want 16 to 32 bits; 32 is one address", c.Trust.IPv4)
	case c.Trust.IPv6 < 32 || c.Trust.IPv6 > 128:
		return c.errorAt("trust.ipv6-prefix", "%d: want 32 to 128 bits; 64 is one network", c.Trust.IPv6)
	case c.Lockout.User > hardStop:
		return c.errorAt("lockout.user", "%d: want %d at the most; somebody who may try codes without end finds one", c.Lockout.User, hardStop)
	case c.Places.Alarm < 0 || c.Places.Alarm > 1000:
		return c.errorAt("places.alarm", "%d: want 1 to 1000 new addresses, or 0 for no alarm", c.Places.Alarm)
	case c.Places.Within.Std() < time.Minute || c.Places.Within.Std() > 30*24*time.Hour:
		return c.errorAt("places.within", "%s: want 1m to 30d", c.Places.Within)
	case c.Places.Lock && c.Places.Alarm == 0:
		return c.errorAt("places.lock", "without an alarm nobody is locked; set places.alarm, such as 5")
	case c.Database.SQLite() && c.DatabasePasswordFile != "":
		return c.errorAt("database-password-file", "SQLite has no password; leave it out")
	}
	for _, v := range []struct {
		key  string
		zero bool
	}{
		{"lockout.user-and-source.failures", c.Lockout.Pair.Failures == 0},
		{"lockout.user-and-source.window", c.Lockout.Pair.Window == 0},
		{"lockout.user-and-source.lock", c.Lockout.Pair.Lock == 0},
		{"lockout.source.failures", c.Lockout.Source.Failures == 0},
		{"lockout.source.window", c.Lockout.Source.Window == 0},
		{"lockout.source.lock", c.Lockout.Source.Lock == 0},
		{"lockout.user", c.Lockout.User == 0},
		{"lockout.longest", c.Lockout.Longest == 0},
		{"guard.per-source", c.Guard.PerSource == 0},
		{"guard.total", c.Guard.Total == 0},
		{"guard.handshake", c.Guard.Handshake == 0},
		{"guard.prompt", c.Guard.Prompt == 0},
		{"guard.enrolment", c.Guard.Enrolment == 0},
		{"guard.bytes", c.Guard.Bytes == 0},
	} {
		if v.zero {
			return c.errorAt(v.key, "nothing at all would let nobody in, or everybody guess for ever; leave the key out for the default")
		}
	}
	return nil
}

// complete fills what follows from other settings and makes paths absolute.
func (c *Config) complete(dir string) error {
	if c.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("finding the name of this host (set node: in the configuration): %w", err)
		}
		if err := c.Node.set(host); err != nil {
			return c.errorAt("node", "the name of this host, %q, cannot be used: %v", host, err)
		}
	}
	absolute(&c.Data, dir)
	data := string(c.Data)
	for _, own := range []struct {
		path *Path
		name string // in the data folder, if the file does not say
	}{
		{&c.Socket, "sallyport.sock"},
		{&c.Keys.Ring, "keyring"},
		{&c.Keys.Signing, "signing.key"},
		{&c.Recordings.Local, "recordings"},
	} {
		if *own.path == "" {
			*own.path = Path(filepath.Join(data, own.name))
		}
		if own.path != &c.Keys.Ring || isFile(c.Keys.Ring) {
			absolute(own.path, dir)
		}
	}
	for _, p := range []*Path{&c.DatabasePasswordFile, &c.Web.Certificate, &c.Web.Key, &c.RADIUS.RadSec.Certificate, &c.RADIUS.RadSec.Key, &c.RADIUS.RadSec.ClientCAFile} {
		absolute(p, dir)
	}
	if c.Directory != nil {
		absolute(&c.Directory.BindPasswordFile, dir)
		absolute(&c.Directory.CAFile, dir)
	}
	for _, p := range append(c.messageFiles(), c.bucketFiles()...) {
		absolute(p, dir)
	}
	switch file, named := strings.CutPrefix(string(c.Database), "sqlite:"); {
	case c.Database == "sqlite":
		c.Database = Database("sqlite:" + filepath.Join(data, "sallyport.db"))
	case named && file != ":memory:":
		p := Path(file)
		absolute(&p, dir)
		c.Database = Database("sqlite:" + string(p))
	}
	return nil
}

// isFile tells whether a key ring is a file, and not a credential or a variable.
func isFile(ring Path) bool {
	return !strings.HasPrefix(string(ring), "credential:") && !strings.HasPrefix(string(ring), "env:")
}

// absolute makes a path that is relative to dir absolute; an empty one stays empty.
func absolute(p *Path, dir string) {
	if *p != "" && !filepath.IsAbs(string(*p)) {
		*p = Path(filepath.Join(dir, string(*p)))
	}
}
