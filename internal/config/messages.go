package config

import (
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// examineMessages finds what is wrong with mail, SMS and what needs them.
func (c *Config) examineMessages() error {
	for _, check := range []func() error{c.examineMail, c.examineSMS, c.examineSentCodes, c.examineNotify} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) examineMail() error {
	m := c.Mail
	if m == nil {
		return nil
	}
	switch {
	case !isAddress(m.From):
		return c.errorAt("mail.from", "%q: want an e-mail address, such as sallyport@example.org", m.From)
	case len(m.Servers) == 0:
		return c.errorAt("mail.servers", "name at least one, such as [{server: smtp.example.org:587}]")
	case m.FirstHostOnly && len(m.Hosts) == 0:
		return c.errorAt("mail.first-host-only", "without hosts it has no meaning")
	}
	for key, list := range map[string][]string{"mail.domains": m.Domains, "mail.hosts": m.Hosts} {
		for _, d := range list {
			if d = strings.TrimPrefix(d, "*."); d == "" || strings.ContainsAny(d, "*@ /") {
				return c.errorAt(key, "%q: want names such as example.org or *.example.org", d)
			}
		}
	}
	for i, s := range m.Servers {
		at := fmt.Sprintf("mail.servers[%d]", i)
		switch {
		case s.Server == "":
			return c.errorAt(at, "server is missing, such as server: smtp.example.org:587")
		case s.TLS == "none" && !s.InsecurePlaintext && !s.Server.loopback():
			return c.errorAt(at+".tls", "%s would carry codes in the clear; use starttls or tls", s.Server)
		case (s.User == "") != (s.PasswordFile == ""):
			return c.errorAt(at+".user", "user and password-file go together; name both or none")
		case s.Timeout == 0:
			return c.errorAt(at+".timeout", "without a limit a silent server would hold up every mail; try 15s")
		}
	}
	return c.examineBreaker("mail.breaker", m.Breaker)
}

func (c *Config) examineBreaker(key string, b Breaker) error {
	if b.Failures == 0 || b.Pause == 0 {
		return c.errorAt(key, "failures and pause must be more than nothing; leave them out for the default")
	}
	return nil
}

func (c *Config) examineSMS() error {
	m := c.SMS
	if m == nil {
		return nil
	}
	switch {
	case len(m.Senders) == 0:
		return c.errorAt("sms.senders", "name at least one, with url or command")
	case len(m.Prefixes) == 0:
		return c.errorAt("sms.prefixes", `say where short messages may go, such as ["+49"]; strangers earn by expensive numbers`)
	case m.Country == "+":
		return c.errorAt("sms.country", "want a country, such as +49")
	}
	for i, s := range m.Senders {
		at := fmt.Sprintf("sms.senders[%d]", i)
		switch {
		case (s.URL == "") == (len(s.Command) == 0):
			return c.errorAt(at, "want an url or a command, one of them")
		case s.URL.plain() && !s.InsecurePlaintext:
			return c.errorAt(at+".url", "it would carry codes in the clear; use https://")
		case len(s.Command) > 0 && !filepath.IsAbs(s.Command[0]):
			return c.errorAt(at+".command", "%q: name the program by its whole path", s.Command[0])
		case len(s.Command) > 0 && (s.Body != "" || len(s.Headers) > 0 || s.SecretFile != "" || s.Success != ""):
			return c.errorAt(at, "body, headers, secret-file and success are for services, not for commands")
		case !slices.Contains([]Name{"GET", "POST", "PUT"}, s.Method):
			return c.errorAt(at+".method", "%q: want GET, POST or PUT", s.Method)
		case s.Timeout == 0:
			return c.errorAt(at+".timeout", "without a limit a silent service would hold up every message; try 15s")
		}
	}
	return c.examineBreaker("sms.breaker", m.Breaker)
}

func (c *Config) examineSentCodes() error {
	s := c.SentCodes
	if s == nil {
		return nil
	}
	switch {
	case s.By == "mail" && c.Mail == nil:
		return c.errorAt("sent-codes.by", "there is no mail: section to send them by")
	case s.By == "sms" && c.SMS == nil:
		return c.errorAt("sent-codes.by", "there is no sms: section to send them by")
	}
	for key, n := range map[string]int{"per-person": s.PerPerson, "per-recipient": s.PerRecipient, "per-source": s.PerSource, "in-all": s.InAll} {
		if n < 1 || n > 10_000 {
			return c.errorAt("sent-codes."+key, "%d: want 1 to 10000 in an hour", n)
		}
	}
	b := s.AddressBook
	switch {
	case b == nil:
		return nil
	case !strings.Contains(string(b.URL), "{login}"):
		return c.errorAt("sent-codes.address-book.url", "want a URL with {login} in it, such as https://people.example.org/api/{login}")
	case b.URL.plain() && !b.InsecurePlaintext:
		return c.errorAt("sent-codes.address-book.url", "whoever is on the way could have codes sent to themselves; use https://")
	case (b.Path == "") == (b.Pattern == ""):
		return c.errorAt("sent-codes.address-book", "want path or pattern, one of them")
	case b.Pattern != "" && regexp.MustCompile(string(b.Pattern)).NumSubexp() < 1:
		return c.errorAt("sent-codes.address-book.pattern", "want a group in brackets around the number")
	case b.Timeout == 0:
		return c.errorAt("sent-codes.address-book.timeout", "without a limit a silent service would hold up every code; try 3s")
	}
	return nil
}

func (c *Config) examineNotify() error {
	if c.Notify == nil {
		return nil
	}
	if c.Mail == nil {
		return c.errorAt("notify", "there is no mail: section to send by")
	}
	for _, a := range c.Notify.Operators {
		if !isAddress(a) {
			return c.errorAt("notify.operators", "%q: want e-mail addresses, such as [ops@example.org]", a)
		}
	}
	return nil
}

func isAddress(text string) bool {
	a, err := mail.ParseAddress(text)
	return err == nil && a.Address == text
}

// messageFiles are the files that the sections about messages name.
func (c *Config) messageFiles() []*Path {
	var files []*Path
	if c.Mail != nil {
		for i := range c.Mail.Servers {
			files = append(files, &c.Mail.Servers[i].CAFile, &c.Mail.Servers[i].PasswordFile)
		}
	}
	if c.SMS != nil {
		for i := range c.SMS.Senders {
			files = append(files, &c.SMS.Senders[i].CAFile, &c.SMS.Senders[i].SecretFile)
		}
	}
	if c.SentCodes != nil && c.SentCodes.AddressBook != nil {
		files = append(files, &c.SentCodes.AddressBook.CAFile, &c.SentCodes.AddressBook.SecretFile)
	}
	return files
}

// CodeBy is how codes are sent.
type CodeBy string

func (b *CodeBy) set(text string) error {
	if text != "off" && text != "mail" && text != "sms" {
		return fmt.Errorf("want off, mail or sms")
	}
	*b = CodeBy(text)
	return nil
}

func (b CodeBy) String() string { return string(b) }

// MailTLS is how a connection to a mail server is protected.
type MailTLS string

func (m *MailTLS) set(text string) error {
	if text != "starttls" && text != "tls" && text != "none" {
		return fmt.Errorf("want starttls, tls or none")
	}
	*m = MailTLS(text)
	return nil
}

func (m MailTLS) String() string { return string(m) }

// HostPort is a server by name or address, with its port.
type HostPort string

func (h *HostPort) set(text string) error {
	host, port, err := net.SplitHostPort(text)
	if n, parseErr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || parseErr != nil || n == 0 {
		return fmt.Errorf("want host and port, such as smtp.example.org:587")
	}
	*h = HostPort(text)
	return nil
}

func (h HostPort) String() string { return string(h) }

func (h HostPort) loopback() bool {
	host, _, _ := net.SplitHostPort(string(h))
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// PhonePrefix is what telephone numbers begin with, in E.164.
type PhonePrefix string

func (p *PhonePrefix) set(text string) error {
	digits, ok := strings.CutPrefix(text, "+")
	if text != "" && (!ok || len(digits) > 15 || strings.Trim(digits, "0123456789") != "" || strings.HasPrefix(digits, "0")) {
		return fmt.Errorf("want the beginning of telephone numbers, such as +49 or +43664")
	}
	*p = PhonePrefix(text)
	return nil
}

func (p PhonePrefix) String() string { return string(p) }

// Pattern is a regular expression.
type Pattern string

func (p *Pattern) set(text string) error {
	if _, err := regexp.Compile(text); err != nil {
		return fmt.Errorf("want a regular expression: %w", err)
	}
	*p = Pattern(text)
	return nil
}

func (p Pattern) String() string { return string(p) }

// Template is a URL with names in braces that something is put in the place of.
type Template string

func (t *Template) set(text string) error {
	u, err := url.Parse(strings.NewReplacer("{", "", "}", "").Replace(text))
	if text != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil) {
		return fmt.Errorf("want a URL, such as https://sms.example.org/send")
	}
	*t = Template(text)
	return nil
}

func (t Template) String() string { return string(t) }

// plain tells whether the URL is one without TLS over a network.
func (t Template) plain() bool {
	rest, ok := strings.CutPrefix(string(t), "http://")
	if !ok {
		return false
	}
	u, err := url.Parse("http://" + strings.NewReplacer("{", "", "}", "").Replace(rest))
	if err != nil {
		return true
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() != "localhost" && (err != nil || !a.Unmap().IsLoopback())
}
