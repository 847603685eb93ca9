package testenv

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	slapdPath  = "/usr/sbin/slapd"
	slapdStart = time.Minute // slapd answers within 0.1 s on an idle machine
	schemaPath = "/etc/ldap/schema"
	modulePath = "/usr/lib/ldap"

	// noMember stands in every group, which may not be empty; there is no such entry.
	noMember = "cn=no-one"
)

// Directory is a running slapd with people and groups:
//
//	ou=people    alice, bob, carol (see Password), each with uid, cn, displayName, sn, mail
//	ou=groups    ssh-users = alice bob carol; ops = alice and the group oncall; oncall = bob
//	ou=services  the account that searches: BindDN, BindPassword
//
// Groups are groupOfNames, and memberOf is kept by its overlay, so that nested groups can be found
// both ways: bob's memberOf names oncall, oncall's names ops. Public keys are kept in sshPublicKey, see
// SetKeys. Only BindDN may search. The overlay for
// password policies is loaded: a disabled account is refused by slapd itself.
type Directory struct {
	URL          string // ldap://127.0.0.1:port, offers StartTLS
	LDAPSURL     string // ldaps://127.0.0.1:port; "" without TLS
	CAFile       string // authority of the certificate, which is for 127.0.0.1 and localhost
	BaseDN       string // dc=example,dc=org
	PeopleDN     string // ou=people,…
	GroupsDN     string // ou=groups,…
	BindDN       string // the account that searches
	BindPassword string

	t             testing.TB
	dir           string
	tls           bool
	lifetime      time.Duration // of the certificate, from now
	admin         string        // password of rootDN
	addr, tlsAddr string

	mu        sync.Mutex // guards the fields below
	passwords map[string]string
	process   *os.Process // nil while stopped
	exited    chan struct{}
}

// SlapdOption changes how [Slapd] starts.
type SlapdOption func(*Directory)

// WithoutTLS starts a slapd that refuses StartTLS and has no ldaps port.
func WithoutTLS() SlapdOption { return func(d *Directory) { d.tls = false } }

// WithExpiredCertificate starts a slapd whose certificate ran out a minute ago.
func WithExpiredCertificate() SlapdOption {
	return func(d *Directory) { d.lifetime = -time.Minute }
}

// Slapd starts a slapd of its own for t on free ports of the loopback. It ends with the test, or
// with the test's process if that dies. A missing slapd fails the test.
func Slapd(t testing.TB, options ...SlapdOption) *Directory {
	t.Helper()
	if _, err := os.Stat(slapdPath); err != nil {
		t.Fatalf("this test needs a directory server: install the Debian package slapd (%v)", err)
	}
	const base = "dc=example,dc=org"
	d := &Directory{
		BaseDN:       base,
		PeopleDN:     "ou=people," + base,
		GroupsDN:     "ou=groups," + base,
		BindDN:       "cn=sallyport,ou=services," + base,
		BindPassword: rand.Text(),
		t:            t,
		dir:          t.TempDir(),
		tls:          true,
		lifetime:     24 * time.Hour,
		admin:        rand.Text(),
		passwords:    map[string]string{},
	}
	for _, o := range options {
		o(d)
	}
	if err := d.writeFiles(); err != nil {
		t.Fatalf("preparing slapd: %v", err)
	}
	t.Cleanup(d.Stop)

	d.choosePorts()
	if err := d.start(); err != nil {
		t.Fatalf("starting slapd: %v", err)
	}
	d.populate()
	return d
}

// writeFiles writes configuration, certificate and an empty database folder.
func (d *Directory) writeFiles() error {
	if err := os.Mkdir(filepath.Join(d.dir, "db"), 0o700); err != nil {
		return err
	}
	if d.tls {
		ca, cert, key, err := serverCertificate("localhost", net.IPv4(127, 0, 0, 1), d.lifetime)
		if err != nil {
			return err
		}
		d.CAFile = d.path("ca.pem")
		for name, data := range map[string][]byte{"ca.pem": ca, "cert.pem": cert, "key.pem": key} {
			if err := os.WriteFile(d.path(name), data, 0o600); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(d.path("slapd.conf"), d.configuration(), 0o600)
}

func (d *Directory) configuration() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	for _, schema := range []string{"core", "cosine", "nis", "inetorgperson"} {
		line("include %s/%s.schema", schemaPath, schema)
	}
	// What the schema called openssh-lpk has, which Debian's slapd lacks: octets, any number of them.
	line("attributetype ( 1.1.2.1.1 NAME 'sshPublicKey' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )")
	line("objectclass ( 1.1.2.2.1 NAME 'keyHolder' SUP top AUXILIARY MAY sshPublicKey )")
	line("modulepath %s", modulePath)
	for _, module := range []string{"back_mdb", "memberof", "ppolicy"} {
		line("moduleload %s", module)
	}
	if d.tls {
		line("TLSCACertificateFile %s", d.path("ca.pem"))
		line("TLSCertificateFile %s", d.path("cert.pem"))
		line("TLSCertificateKeyFile %s", d.path("key.pem"))
	}
	line("database mdb")
	line("suffix %q", d.BaseDN)
	line("directory %s", d.path("db"))
	line("rootdn %q", d.rootDN())
	line("rootpw %s", d.admin)
	line("maxsize 104857600")
	line("dbnosync")
	line("index objectClass,entryUUID,uid,member eq")
	line("access to attrs=userPassword by anonymous auth by * none")
	line("access to * by dn.exact=%q read by * none", d.BindDN)
	line("overlay ppolicy")
	line("ppolicy_default %q", "cn=default,ou=policies,"+d.BaseDN)
	line("overlay memberof")
	line("memberof-refint TRUE")
	return b.Bytes()
}

func (d *Directory) path(name string) string { return filepath.Join(d.dir, name) }
func (d *Directory) rootDN() string          { return "cn=admin," + d.BaseDN }

// choosePorts takes free ports for all starts of this slapd.
func (d *Directory) choosePorts() {
	d.addr = FreeAddr(d.t)
	d.URL = "ldap://" + d.addr
	if d.tls {
		d.tlsAddr = FreeAddr(d.t)
		d.LDAPSURL = "ldaps://" + d.tlsAddr
	}
}

// start runs slapd and waits until the administrator can bind.
func (d *Directory) start() error {
	urls := d.URL + "/"
	if d.tls {
		urls += " " + d.LDAPSURL + "/"
	}
	log, err := os.OpenFile(d.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(slapdPath, "-f", d.path("slapd.conf"), "-h", urls, "-d", "stats")
	cmd.Stdout, cmd.Stderr = log, log
	exited, err := startChild(cmd)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.process, d.exited = cmd.Process, exited
	d.mu.Unlock()

	deadline := time.NewTimer(slapdStart)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := d.connect()
		if err == nil {
			return conn.Close()
		}
		select {
		case <-exited:
			return fmt.Errorf("slapd ended: %s", d.Log())
		case <-deadline.C:
			d.Stop()
			return fmt.Errorf("slapd does not answer (%w): %s", err, d.Log())
		case <-tick.C:
		}
	}
}

// Stop ends slapd as a loss of power would: at once, its ports closed. Entries stay.
func (d *Directory) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process == nil {
		return
	}
	_ = d.process.Kill() // an error means that it has ended already
	<-d.exited
	d.process = nil
}

// Start starts slapd again on the same ports with the same entries.
func (d *Directory) Start() {
	d.t.Helper()
	d.Stop()
	if err := d.start(); err != nil {
		d.t.Fatalf("starting slapd again: %v", err)
	}
}

// Pause makes slapd fall silent: connections are taken by the kernel, and nothing is answered.
func (d *Directory) Pause() {
	d.t.Helper()
	d.signal(syscall.SIGSTOP)
	d.mu.Lock()
	tasks := fmt.Sprintf("/proc/%d/task", d.process.Pid)
	d.mu.Unlock()
	// The signal stops one thread after the other; until the last one is, slapd may still answer.
	WaitFor(d.t, "slapd to stop", func() bool {
		files, err := filepath.Glob(tasks + "/*/stat")
		for _, f := range files {
			stat, err := os.ReadFile(f)
			if i := bytes.LastIndexByte(stat, ')'); err == nil && (i < 0 || i+2 >= len(stat) || stat[i+2] != 'T') {
				return false
			}
		}
		return err == nil && len(files) > 0
	})
}

// Resume ends a Pause.
func (d *Directory) Resume() { d.signal(syscall.SIGCONT) }

func (d *Directory) signal(s syscall.Signal) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process == nil {
		d.t.Fatal("slapd is stopped")
	}
	if err := d.process.Signal(s); err != nil {
		d.t.Fatalf("signalling slapd: %v", err)
	}
}

// Log returns what slapd has logged, one line for each operation of each connection.
func (d *Directory) Log() string {
	b, _ := os.ReadFile(d.path("log")) // before the first start there is none
	return string(b)
}

// Binds counts the binds that slapd was asked for as dn ("": for anybody).
func (d *Directory) Binds(dn string) int {
	n := 0
	for line := range strings.Lines(strings.ToLower(d.Log())) {
		// Each bind is logged when it is asked for, with its method, and when it succeeded, with its mechanism.
		if strings.Contains(line, " bind dn=\""+strings.ToLower(dn)) && strings.Contains(line, " method=") {
			n++
		}
	}
	return n
}

// UserDN returns the DN of the person with this uid.
func (d *Directory) UserDN(uid string) string { return "uid=" + ldap.EscapeDN(uid) + "," + d.PeopleDN }

// GroupDN returns the DN of the group with this name.
func (d *Directory) GroupDN(name string) string {
	return "cn=" + ldap.EscapeDN(name) + "," + d.GroupsDN
}

// Password returns the password of the person with this uid.
func (d *Directory) Password(uid string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passwords[uid]
}

// AddUser adds a person to ou=people and to groups that exist.
func (d *Directory) AddUser(uid, password string, groups ...string) {
	d.t.Helper()
	d.Add(d.UserDN(uid), map[string][]string{
		"objectClass":  {"inetOrgPerson", "shadowAccount", "keyHolder"},
		"uid":          {uid},
		"cn":           {uid + " Example"},
		"displayName":  {strings.ToUpper(uid[:1]) + uid[1:] + " Example"},
		"sn":           {"Example"},
		"mail":         {uid + "@example.org"},
		"userPassword": {password},
	})
	d.mu.Lock()
	d.passwords[uid] = password
	d.mu.Unlock()
	for _, g := range groups {
		d.Join(g, d.UserDN(uid))
	}
}

// AddGroup adds a group with the entries of these DNs, people or groups, as its members.
func (d *Directory) AddGroup(name string, members ...string) {
	d.t.Helper()
	d.Add(d.GroupDN(name), map[string][]string{
		"objectClass": {"groupOfNames"},
		"cn":          {name},
		"member":      append(slices.Clone(members), noMember),
	})
}

// Join makes the entry dn a member of the group name.
func (d *Directory) Join(name, dn string) {
	d.t.Helper()
	r := ldap.NewModifyRequest(d.GroupDN(name), nil)
	r.Add("member", []string{dn})
	d.asAdmin("adding "+dn+" to "+name, func(c *ldap.Conn) error { return c.Modify(r) })
}

// Leave takes the entry dn out of the group name.
func (d *Directory) Leave(name, dn string) {
	d.t.Helper()
	r := ldap.NewModifyRequest(d.GroupDN(name), nil)
	r.Delete("member", []string{dn})
	d.asAdmin("taking "+dn+" out of "+name, func(c *ldap.Conn) error { return c.Modify(r) })
}

// Rename gives a person another uid; the entry stays the same.
func (d *Directory) Rename(uid, to string) {
	d.t.Helper()
	r := ldap.NewModifyDNRequest(d.UserDN(uid), "uid="+ldap.EscapeDN(to), true, "")
	d.asAdmin("renaming "+uid, func(c *ldap.Conn) error { return c.ModifyDN(r) })
}

// Add adds an entry of any kind.
func (d *Directory) Add(dn string, attributes map[string][]string) {
	d.t.Helper()
	r := ldap.NewAddRequest(dn, nil)
	for name, values := range attributes {
		r.Attribute(name, values)
	}
	d.asAdmin("adding "+dn, func(c *ldap.Conn) error { return c.Add(r) })
}

// AddReferral adds an entry that sends clients to another server.
func (d *Directory) AddReferral(dn, url string) {
	d.t.Helper()
	r := ldap.NewAddRequest(dn, []ldap.Control{ldap.NewControlManageDsaIT(true)})
	r.Attribute("objectClass", []string{"referral", "extensibleObject"})
	r.Attribute("ref", []string{url})
	d.asAdmin("adding "+dn, func(c *ldap.Conn) error { return c.Add(r) })
}

// Delete deletes an entry.
func (d *Directory) Delete(dn string) {
	d.t.Helper()
	d.asAdmin("deleting "+dn, func(c *ldap.Conn) error { return c.Del(ldap.NewDelRequest(dn, nil)) })
}

// Modify replaces all values of an attribute; without values the attribute goes.
func (d *Directory) Modify(dn, attribute string, values ...string) {
	d.t.Helper()
	r := ldap.NewModifyRequest(dn, nil)
	r.Replace(attribute, values)
	d.asAdmin("modifying "+dn, func(c *ldap.Conn) error { return c.Modify(r) })
}

// SetKeys gives a person these public keys in place of those before, each a line of authorized_keys.
func (d *Directory) SetKeys(uid string, lines ...string) {
	d.t.Helper()
	d.Modify(d.UserDN(uid), "sshPublicKey", lines...)
}

// Searches counts the searches that slapd was asked for with this in the filter.
func (d *Directory) Searches(filter string) int {
	n := 0
	for line := range strings.Lines(d.Log()) {
		if strings.Contains(line, " SRCH ") && strings.Contains(line, filter) {
			n++
		}
	}
	return n
}

// Disable locks the account of a person until Enable: slapd refuses its binds.
func (d *Directory) Disable(uid string) {
	d.t.Helper()
	d.Modify(d.UserDN(uid), "pwdAccountLockedTime", "000001010000Z")
}

// Enable ends a Disable.
func (d *Directory) Enable(uid string) {
	d.t.Helper()
	d.Modify(d.UserDN(uid), "pwdAccountLockedTime")
}

// asAdmin runs f on a connection of the administrator.
func (d *Directory) asAdmin(doing string, f func(*ldap.Conn) error) {
	d.t.Helper()
	conn, err := d.connect()
	if err == nil {
		defer conn.Close()
		err = f(conn)
	}
	if err != nil {
		d.t.Fatalf("%s: %v", doing, err)
	}
}

func (d *Directory) connect() (*ldap.Conn, error) {
	conn, err := ldap.DialURL(d.URL, ldap.DialWithDialer(&net.Dialer{Timeout: 30 * time.Second}))
	if err != nil {
		return nil, err
	}
	conn.SetTimeout(30 * time.Second)
	if err := conn.Bind(d.rootDN(), d.admin); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// populate adds the entries that the comment of Directory lists. It goes through the running
// server: the overlay would not see what is loaded into the database from outside.
func (d *Directory) populate() {
	d.t.Helper()
	d.Add(d.BaseDN, map[string][]string{"objectClass": {"dcObject", "organization"}, "dc": {"example"}, "o": {"Example"}})
	for _, ou := range []string{"people", "groups", "services", "policies"} {
		d.Add("ou="+ou+","+d.BaseDN, map[string][]string{"objectClass": {"organizationalUnit"}, "ou": {ou}})
	}
	d.Add("cn=default,ou=policies,"+d.BaseDN, map[string][]string{
		"objectClass": {"device", "pwdPolicy"}, "cn": {"default"}, "pwdAttribute": {"userPassword"}, "pwdLockout": {"TRUE"},
	})
	d.Add(d.BindDN, map[string][]string{
		"objectClass": {"organizationalRole", "simpleSecurityObject"}, "cn": {"sallyport"}, "userPassword": {d.BindPassword},
	})
	for _, uid := range []string{"alice", "bob", "carol"} {
		d.AddUser(uid, rand.Text())
	}
	d.AddGroup("ssh-users", d.UserDN("alice"), d.UserDN("bob"), d.UserDN("carol"))
	d.AddGroup("oncall", d.UserDN("bob"))
	d.AddGroup("ops", d.UserDN("alice"), d.GroupDN("oncall"))
}
