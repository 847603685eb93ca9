package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write generated documents anew")

// contract is the configuration that the contract promises to accept, to the letter.
const contract = `node: bastion-1
data: /var/lib/sallyport
database: sqlite                          # or postgres://…
ssh: {listen: ":2222", proxy-protocol-from: [], addresses: [192.0.2.10]}
web: {listen: "127.0.0.1:8080", certificate: "", key: "", proxies: []}
directory:
  servers: [ldaps://ldap1.example.org, ldaps://ldap2.example.org]
  start-tls: false
  bind-dn: cn=sallyport,ou=services,dc=example,dc=org
  bind-password-file: /etc/sallyport/ldap-password
  base: ou=people,dc=example,dc=org
  filter: (uid={login})
  groups: {base: "ou=groups,dc=example,dc=org", filter: "(member={dn})"}
  login-group: ssh-users
recordings: {local: /var/lib/sallyport/recordings, reserve: 500MiB, s3: null}
log: {level: info, format: json}
`

func TestContract(t *testing.T) {
	t.Parallel()
	cfg, err := Parse("/etc/sallyport/sallyport.yaml", []byte(contract))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cfg.Directory.Filter, "(uid={login})"; got != want {
		t.Errorf("filter = %q, want %q", got, want)
	}
	if got, want := cfg.Database, Database("sqlite:/var/lib/sallyport/sallyport.db"); got != want {
		t.Errorf("database = %q, want %q", got, want)
	}
	if got, want := cfg.Recordings.Reserve, Size(500<<20); got != want {
		t.Errorf("reserve = %d, want %d", got, want)
	}
	if got, want := cfg.SSH.Addresses[0].String(), "192.0.2.10"; got != want {
		t.Errorf("address = %q, want %q", got, want)
	}
	// What the contract shows is also what the sample says.
	sample := Sample()
	if err := sample.complete("/etc/sallyport"); err != nil {
		t.Fatal(err)
	}
	if !sameSettings(cfg, sample) {
		t.Errorf("contract gives %+v\nsample is %+v", cfg, sample)
	}
}

// sameSettings compares what the file says, not where it says it; an absent list is an empty one.
func sameSettings(a, b *Config) bool {
	x, errX := Render(a)
	y, errY := Render(b)
	return errX == nil && errY == nil && x == y
}

func TestEmptyFileIsDefault(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		cfg, err := Parse("/etc/sallyport.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := Default()
		if err := want.complete("/etc"); err != nil {
			t.Fatal(err)
		}
		if !sameSettings(cfg, want) {
			t.Errorf("%q gives %+v, want %+v", text, cfg, want)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text   string
		line, column int
		say          string
	}{
		{"unknown key", "node: a\nssh:\n  lisen: \":22\"\n", 3, 3, `unknown key "lisen" in ssh; did you mean "listen"?`},
		{"unknown key in flow", "ssh: {listen: \":22\", adresses: []}\n", 1, 22, `unknown key "adresses" in ssh; did you mean "addresses"?`},
		{"unknown key at the top", "nodes: a\nweb: {}\n", 1, 1, `unknown key "nodes" in the configuration; did you mean "node"?`},
		{"unknown key unlike any", "log: {colour: true}\n", 1, 7, `unknown key "colour" in log; the keys are level, format`},
		{"first of two unknown keys", "log:\n  b: 1\n  a: 2\n", 2, 3, `unknown key "b"`},
		{"duplicate key", "node: a\nnode: b\n", 2, 1, `"node"`},
		{"duration without unit", "drain: 10\n", 1, 8, `drain: "10": want a time with its unit, such as 30s`},
		{"duration negative", "drain: -1s\n", 1, 8, `drain: "-1s": want a time`},
		{"size", "recordings:\n  reserve: 500 megs\n", 2, 12, `recordings.reserve: "500 megs": want a size with its unit, such as 64KiB`},
		{"size too large", "recordings: {reserve: 9000000000TiB}\n", 1, 23, "want a size"},
		{"network", "web:\n  proxies: [10.0.0.0/8, 10.0.0.300]\n", 2, 25, `web.proxies: "10.0.0.300": want a network or an address, such as 192.0.2.0/24`},
		{"network with host bits", "guard: {exempt: [10.1.2.3/8]}\n", 1, 18, "such as 10.0.0.0/8"},
		{"address", "ssh: {addresses: [bastion]}\n", 1, 19, `want an IP address, such as 192.0.2.10`},
		{"listen", "ssh: {listen: 2222}\n", 1, 15, `ssh.listen: "2222": want address and port`},
		{"listen by name", "ssh: {listen: \"host.example:22\"}\n", 1, 15, "want address and port"},
		{"listen port", "ssh: {listen: \":99999\"}\n", 1, 15, "want address and port"},
		{"bool", "directory: {start-tls: maybe}\n", 1, 24, "directory.start-tls: maybe: want true or false"},
		{"int", "otp: {window: one}\n", 1, 15, "otp.window: one: want a whole number"},
		{"int negative", "otp: {window: -1}\n", 1, 15, "want a whole number"},
		{"text is a number", "directory: {base: 5}\n", 1, 19, "directory.base: 5: want a text"},
		{"list is one value", "web: {proxies: 10.0.0.1}\n", 1, 16, "web.proxies: 10.0.0.1: want a list, such as [10.0.0.1]"},
		{"section is one value", "ssh: yes\n", 1, 6, "ssh: want keys and values (listen, "},
		{"value is a section", "node: {a: b}\n", 1, 7, "node: want one value, not keys and values"},
		{"file is a list", "- a\n- b\n", 1, 1, "the configuration: want keys and values"},
		{"level", "log: {level: loud}\n", 1, 14, `log.level: "loud": want debug, info, warn or error`},
		{"format", "log: {format: xml}\n", 1, 15, "want json or text"},
		{"name", "node: a b\n", 1, 7, "want a name"},
		{"database", "database: mysql://x\n", 1, 11, "want sqlite, sqlite:/path/to/file.db or postgres://"},
		{"database without sslmode", "database: postgres://u@h/d\n", 1, 11, "want sslmode said"},
		{"database with password", "database: postgres://u:hunter2@h/d?sslmode=disable\n", 1, 11, "database-password-file"},
		{"server", "directory: {servers: [ldap1.example.org]}\n", 1, 23, "such as ldaps://ldap1.example.org"},
		{"server in the clear", "directory:\n  base: dc=x\n  servers: [ldap://ldap1.example.org]\n", 3, 12, "passwords in the clear"},
		{"filter", "directory: {servers: [ldaps://l], base: dc=x, filter: (uid=x)}\n", 1, 55, "does not contain {login}"},
		{"directory without servers", "directory: {base: dc=x}\n", 0, 0, "directory.servers: name at least one"},
		{"web off loopback", "web: {listen: \":8080\"}\n", 1, 15, "name a certificate and key, or list in web.proxies"},
		{"other products' calls without a web", "web: {listen: \"\"}\ncompat: {privacyidea: true}\n", 2, 23, "set web.listen"},
		{"other products' keys in clear", "web: {listen: \":8080\"}\ncompat: {totpradius: true}\n", 1, 15, "name a certificate and key"},
		{"password of nothing", "compat: {privacyidea-with-password: true}\n", 1, 37, "without privacyidea"},
		{"metrics for everybody", "web: {metrics-from: [192.0.2.9, \"::/0\"]}\n", 1, 21, "this is everybody"},
		{"certificate alone", "web: {certificate: /c.pem}\n", 1, 20, "certificate and key go together"},
		{"key alone", "web: {key: /c.pem}\n", 1, 12, "certificate and key go together"},
		{"recipient", "recordings:\n  recipients: [age1x]\n", 2, 16, "want a recipient as age-keygen prints it"},
		{"identity as recipient", "recordings:\n  recipients: [AGE-SECRET-KEY-1]\n", 2, 16, "want a recipient"},
		{"s3", "recordings: {s3: {}}\n", 1, 18, "endpoint is missing"},
		{"s3 without bucket", "recordings:\n  s3: {endpoint: https://s3.example.org}\n", 2, 7, "bucket is missing"},
		{"s3 in the clear", "recordings:\n  s3: {endpoint: http://s3.example.org, bucket: b}\n", 2, 18, "in the clear"},
		{"s3 with half a key", "recordings:\n  s3: {endpoint: http://127.0.0.1:9000, bucket: b, access-key-file: x}\n", 2, 7, "go together"},
		{"s3 prefix", "recordings:\n  s3: {endpoint: http://127.0.0.1:9000, bucket: b, prefix: /x}\n", 2, 60, "words with slashes"},
		{"s3 secret in the file", "recordings:\n  s3: {endpoint: http://127.0.0.1:9000, bucket: b, secret-key: x}\n", 2, 52, "secret-key"},
		{"object lock", "recordings:\n  s3: {endpoint: https://s3.example.org, bucket: b, object-lock: {mode: strict}}\n", 2, 73, "governance or compliance"},
		{"object lock for ever", "recordings:\n  s3: {endpoint: https://s3.example.org, bucket: b, object-lock: {days: 0}}\n", 2, 73, "1 to 36500"},
		{"retention", "recordings: {retention: 90}\n", 1, 25, "days such as 90d"},
		{"zero limit", "guard: {total: 0}\n", 1, 16, "leave the key out for the default"},
		{"window", "otp: {window: 50}\n", 1, 15, "want 1 to 10 time steps"},
		{"hard stop raised", "lockout: {user: 101}\n", 1, 17, "want 100 at the most"},
		{"alarm of too many places", "places: {alarm: 1001}\n", 1, 17, "want 1 to 1000 new addresses"},
		{"alarm within no time", "places: {alarm: 5, within: 1s}\n", 1, 28, "want 1m to 30d"},
		{"lock without an alarm", "places: {lock: true}\n", 1, 16, "set places.alarm"},
		{"mail without servers", "mail: {from: a@example.org}\n", 0, 0, "mail.servers: name at least one"},
		{"mail from nobody", "mail: {from: a, servers: [{server: \"l:25\"}]}\n", 1, 14, "want an e-mail address"},
		{"mail in clear", "mail:\n  from: a@example.org\n  servers:\n    - {server: \"smtp.example.org:25\", tls: none}\n", 4, 44, "mail.servers[0].tls: smtp.example.org:25 would carry codes in the clear"},
		{"second mail server", "mail: {from: a@example.org, servers: [{server: \"localhost:25\", tls: none}, {server: \"x:25\", user: u}]}\n", 1, 99, "mail.servers[1].user: user and password-file go together"},
		{"mail server without port", "mail: {from: a@example.org, servers: [{server: x}]}\n", 1, 48, "want host and port"},
		{"unknown key of a mail server", "mail: {servers: [{servr: x}]}\n", 1, 19, `did you mean "server"?`},
		{"sms without prefixes", "sms: {senders: [{command: [/bin/true]}]}\n", 0, 0, "say where short messages may go"},
		{"sms by both", "sms: {prefixes: [+49], senders: [{command: [/bin/true], url: \"https://x\"}]}\n", 0, 0, "one of them"},
		{"sms in clear", "sms: {prefixes: [+49], senders: [{url: \"http://sms.example.org/\"}]}\n", 1, 40, "use https://"},
		{"sms prefix", "sms: {prefixes: [\"0049\"]}\n", 1, 18, "such as +49"},
		{"sms pattern", "sms: {senders: [{success: \"(\"}]}\n", 1, 27, "want a regular expression"},
		{"codes by mail without mail", "sent-codes: {by: mail}\n", 1, 18, "there is no mail: section"},
		{"codes without limit", "sent-codes: {per-person: 0}\n", 1, 26, "want 1 to 10000"},
		{"address book without login", "sent-codes: {address-book: {url: \"https://x/\"}}\n", 1, 34, "{login}"},
		{"notify without mail", "notify: {operators: [a@example.org]}\n", 1, 9, "there is no mail: section"},
		{"tab", "ssh:\n\tlisten: x\n", 2, 1, "not YAML"},
		{"open bracket", "web: {proxies: [\n", 1, 16, "not YAML"},
		{"anchor", "data: &d /x\n", 1, 7, "anchors, aliases and tags are not used"},
		{"alias", "data: *d\n", 1, 7, "anchors, aliases and tags are not used"},
		{"two documents", "node: a\n---\nnode: b\n", 3, 1, "one document"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("sallyport.yaml", []byte(tt.text))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error = %v, want an *Error", err)
			}
			if e.Line != tt.line || e.Column != tt.column {
				t.Errorf("place = %d:%d, want %d:%d", e.Line, e.Column, tt.line, tt.column)
			}
			if !strings.Contains(e.Msg, tt.say) {
				t.Errorf("says %q, want %q in it", e.Msg, tt.say)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("password is printed: %v", err)
			}
			if tt.line > 0 {
				checkCaret(t, err.Error(), tt.column)
			}
		})
	}
}

// checkCaret sees that the last line of the text is a caret right below the column of the line above.
func checkCaret(t *testing.T, text string, column int) {
	t.Helper()
	lines := strings.Split(text, "\n")
	if len(lines) < 3 {
		t.Fatalf("no excerpt in %q", text)
	}
	excerpt, caret := lines[len(lines)-2], lines[len(lines)-1]
	at := strings.Index(excerpt, "| ") + 2 + column - 1
	if got := strings.Index(caret, "^"); got != at {
		t.Errorf("caret at %d, want %d:\n%s\n%s", got, at, excerpt, caret)
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	_, err := Parse("/etc/sallyport.yaml", []byte("ssh:\n  lisen: 1\n"))
	want := `/etc/sallyport.yaml: line 2, column 3: unknown key "lisen" in ssh; did you mean "listen"?
    2 |   lisen: 1
      |   ^`
	if err == nil || err.Error() != want {
		t.Errorf("error:\n%v\nwant:\n%s", err, want)
	}
}

func TestExampleIsUpToDate(t *testing.T) {
	t.Parallel()
	text, err := Render(Sample())
	if err != nil {
		t.Fatal(err)
	}
	checkGenerated(t, "sallyport.example.yaml", text, func(string) string { return text })
	cfg, err := Parse("/etc/sallyport/sallyport.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := Sample()
	if err := want.complete("/etc/sallyport"); err != nil {
		t.Fatal(err)
	}
	if !sameSettings(cfg, want) {
		t.Error("the example reads as something else than the sample")
	}
	if strings.Contains(text, "#\n") || regexp.MustCompile(`(?m)^\s*# *$`).MatchString(text) {
		t.Error("a key of the example has no comment")
	}
}

func TestTableIsUpToDate(t *testing.T) {
	t.Parallel()
	table, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	between := regexp.MustCompile(`(?s)(<!-- generated -->\n).*(<!-- end of generated -->)`)
	checkGenerated(t, "configuration.md", table, func(old string) string {
		return between.ReplaceAllString(old, "${1}"+strings.ReplaceAll(table, "$", "$$")+"${2}")
	})
}

// checkGenerated sees that a document contains generated text; with -update it is put there.
func checkGenerated(t *testing.T, name, text string, renew func(old string) string) {
	t.Helper()
	file := filepath.Join("..", "..", "docs", name)
	have, err := os.ReadFile(file)
	if *update {
		if err := os.WriteFile(file, []byte(renew(string(have))), 0o644); err != nil {
			t.Fatal(err)
		}
		have, err = os.ReadFile(file)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(have), text) {
		t.Errorf("docs/%s is not what the structs say; run: go test ./internal/config -update", name)
	}
}

// A rendered default must work as it is, and with its commented sections uncommented too.
func TestRenderDefault(t *testing.T) {
	t.Parallel()
	text, err := Render(Default())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("/etc/x.yaml", []byte(text)); err != nil {
		t.Error(err)
	}
	if !strings.Contains(text, "# directory:\n") {
		t.Errorf("no directory, commented out, in\n%s", text)
	}
	full := regexp.MustCompile(`(?m)^# ([a-z-]+:$|  +(?:- )?(?:[a-z0-9-]+:|#))`).ReplaceAllString(text, "$1")
	cfg, err := Parse("/etc/x.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Mail == nil || len(cfg.Mail.Servers) != 1 || cfg.SMS == nil || cfg.SMS.Senders[0].Success != `"queued"` || cfg.SentCodes.AddressBook == nil || cfg.Notify == nil {
		t.Errorf("uncommented sections = %+v %+v %+v %+v", cfg.Mail, cfg.SMS, cfg.SentCodes, cfg.Notify)
	}
	if s := cfg.Recordings.S3; s == nil || s.Bucket != "recordings" || s.ObjectLock == nil || s.ObjectLock.Days != 30 {
		t.Errorf("uncommented recordings.s3 = %+v", s)
	}
	if cfg.Directory == nil || cfg.Directory.Groups == nil || cfg.Directory.Groups.Base == "" {
		t.Errorf("uncommented directory = %+v", cfg.Directory)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	cfg, err := Parse("/srv/sp/conf.yaml", []byte("data: state\ndatabase: sqlite:db/x.db\nkeys: {ring: /keys/ring}\nweb: {listen: \":443\", certificate: c.pem, key: k.pem}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct{ name, got, want string }{
		{"data", string(cfg.Data), "/srv/sp/state"},
		{"database", string(cfg.Database), "sqlite:/srv/sp/db/x.db"},
		{"ring", string(cfg.Keys.Ring), "/keys/ring"},
		{"signing", string(cfg.Keys.Signing), "/srv/sp/state/signing.key"},
		{"socket", string(cfg.Socket), "/srv/sp/state/sallyport.sock"},
		{"certificate", string(cfg.Web.Certificate), "/srv/sp/c.pem"},
		{"database-password-file", string(cfg.DatabasePasswordFile), ""},
	} {
		if p.got != p.want {
			t.Errorf("%s = %q, want %q", p.name, p.got, p.want)
		}
	}
}

func TestScalarsReadThemselvesBack(t *testing.T) {
	t.Parallel()
	tests := []struct {
		into scalar
		text []string
	}{
		{new(Duration), []string{"0s", "30s", "5m", "8h", "1m30s", "2.5s", "500ms"}},
		{new(Size), []string{"0B", "1B", "64KiB", "500MiB", "2GiB", "1TiB", "1000B"}},
		{new(Network), []string{"10.0.0.0/8", "192.0.2.1/32", "2001:db8::/48"}},
		{new(Address), []string{"192.0.2.10", "2001:db8::10"}},
		{new(Listen), []string{":2222", "127.0.0.1:0", "[::1]:8080", ""}},
		{new(Level), []string{"debug", "info", "warn", "error"}},
		{new(URL), []string{"", "https://bastion.example.org", "http://127.0.0.1:8080"}},
	}
	for _, tt := range tests {
		for _, text := range tt.text {
			if err := tt.into.set(text); err != nil {
				t.Errorf("%T %q: %v", tt.into, text, err)
			} else if got := tt.into.String(); got != text {
				t.Errorf("%T: %q reads back as %q", tt.into, text, got)
			}
		}
	}
	var d Duration
	if err := d.set("90m"); err != nil || d.Std() != 90*time.Minute {
		t.Errorf("90m = %v, %v", d.Std(), err)
	}
}

func TestEveryKeyIsExplained(t *testing.T) {
	t.Parallel()
	docs, err := comments()
	if err != nil {
		t.Fatal(err)
	}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Tag.Get("yaml") == "" {
				continue
			}
			if docs[typ.Name()+"."+f.Name] == "" {
				t.Errorf("%s.%s has no comment", typ.Name(), f.Name)
			}
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if isSections(inner) {
				inner = inner.Elem()
			}
			if _, ok := reflect.New(inner).Interface().(scalar); !ok && inner.Kind() == reflect.Struct {
				walk(inner)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

func TestReadSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tests := []struct {
		name, text string
		mode       os.FileMode
		want       Secret
		say        string
	}{
		{"with line break", "hunter2\n", 0o600, "hunter2", ""},
		{"without", "hunter2", 0o640, "hunter2", ""},
		{"spaces count", " a \r\n", 0o400, " a ", ""},
		{"readable by all", "x", 0o644, "", "chmod 0600"},
		{"empty", "\n", 0o600, "", "is empty"},
		{"large", strings.Repeat("x", maxSecret+1), 0o600, "", "larger"},
	}
	for _, tt := range tests {
		file := filepath.Join(dir, tt.name)
		if err := os.WriteFile(file, []byte(tt.text), tt.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, tt.mode); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSecret(file)
		if tt.say != "" {
			if err == nil || !strings.Contains(err.Error(), tt.say) {
				t.Errorf("%s: error %v, want %q in it", tt.name, err, tt.say)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v", tt.name, string(got), err)
		}
	}
	if got := Secret("x").String(); got != "[secret]" {
		t.Errorf("prints %q", got)
	}
}
