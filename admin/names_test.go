package admin

import (
	"strings"
	"testing"
)

func TestCheckTargetName(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"web1": true, "WEB-1.example_org": true, "1": true, strings.Repeat("a", 63): true,
		"": false, strings.Repeat("a", 64): false, "-web": false, ".web": false, "_web": false, "web 1": false,
		"web@1": false, "web%1": false, "web+1": false, "web:1": false, "web/1": false, "wéb": false, "web\n": false, "web\x00": false,
		"admin": false, "Admin": false, "MENU": false, "ticket": false, "health": false, "administrator": true,
	} {
		if err := checkTargetName(name); (err == nil) != ok {
			t.Errorf("target name %q: error %v, want ok %v", name, err, ok)
		}
	}
}

func TestCanonicalAddress(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"10.0.0.5:22":            "10.0.0.5:22",
		"10.0.0.5":               "10.0.0.5:22",
		"db1.example.org":        "db1.example.org:22",
		"db1.example.org.:2222":  "db1.example.org.:2222",
		"db_1:022":               "db_1:022",
		"[2001:db8::5]:2222":     "[2001:db8::5]:2222",
		"2001:DB8:0:0::5":        "[2001:db8::5]:22",
		"[2001:db8::5]":          "[2001:db8::5]:22",
		"":                       "",
		":22":                    "",
		"host:":                  "",
		"host:0":                 "",
		"host:65536":             "",
		"host:ssh":               "",
		"host:22:22":             "",
		"2001:db8::zz":           "",
		"ho st:22":               "",
		"-oProxyCommand=x:22":    "",
		"host;rm:22":             "",
		"host\n:22":              "",
		"host/path:22":           "",
		"user@host:22":           "",
		strings.Repeat("a", 300): "",
	} {
		got, err := canonicalAddress(address)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("address %q: %q, %v; want %q", address, got, err, want)
		}
	}
}

func TestCheckAccounts(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"root": true, "deploy-1": true, "_apt": true, "J.Doe": true,
		"": false, "-root": false, "ro ot": false, "root@x": false, "a%b": false, "a+b": false, "ro\x1bot": false, "{user}": false,
	} {
		if err := checkAccounts([]string{name}); (err == nil) != ok {
			t.Errorf("account %q: error %v, want ok %v", name, err, ok)
		}
	}
	if checkAccounts([]string{"a", "b", "a"}) == nil {
		t.Error("an account that is there twice was taken")
	}
}

func TestCheckLabels(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		key, value string
		ok         bool
	}{
		{"env", "prod", true}, {"k8s.io/role", "db-1", true}, {"a", "10.0.0.1:22", true},
		{"", "x", false}, {"env", "", false}, {"a=b", "c", false}, {"env", "a=b", false}, {"env", "pro d", false}, {"env", "x\n", false}, {"env", "*", false},
	} {
		if err := checkLabels(map[string]string{tc.key: tc.value}); (err == nil) != tc.ok {
			t.Errorf("label %q=%q: error %v, want ok %v", tc.key, tc.value, err, tc.ok)
		}
	}
}

func TestCheckPassword(t *testing.T) {
	t.Parallel()
	for password, ok := range map[string]bool{
		"correct horse": true, "пароль88": true, strings.Repeat("x", 1024): true, "        x": true,
		"": false, "seven77": false, strings.Repeat("x", 1025): false, "tab\ttabtab": false, "nul\x00nulnul": false, "\xff\xff\xff\xff\xff\xff\xff\xff": false,
	} {
		if err := checkPassword(password); (err == nil) != ok {
			t.Errorf("password %q: error %v, want ok %v", password, err, ok)
		}
	}
}

func TestCheckText(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"": true, "Dave Ünïcode": true, "a (b) <c@d>": true,
		"two\nlines": false, "esc\x1b[2J": false, "c1\u009b": false, "\xff": false, "bidi\u202etxt": false, strings.Repeat("x", 101): false,
	} {
		if err := checkText("name", text, 100); (err == nil) != ok {
			t.Errorf("text %q: error %v, want ok %v", text, err, ok)
		}
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	line := hostKey(t)
	for name, tc := range map[string]struct {
		text, comment string
		ok            bool
	}{
		"plain":              {line, "", true},
		"with comment":       {line + " dave@laptop", "dave@laptop", true},
		"with line end":      {line + "\n", "", true},
		"of known_hosts":     {"web1,10.0.0.5 " + line, "", false},
		"with options":       {`command="x" ` + line, "", false},
		"two lines":          {line + "\n" + line, "", false},
		"private key":        {"-----BEGIN OPENSSH PRIVATE KEY-----", "", false},
		"empty":              {"", "", false},
		"damaged":            {line[:40], "", false},
		"type does not fit":  {strings.Replace(line, "ssh-ed25519", "ssh-rsa", 1), "", false},
		"DSA":                {"ssh-dss AAAAB3NzaC1kc3MAAACBAOu", "", false},
		"certificate marker": {"@cert-authority * " + line, "", false},
	} {
		key, comment, err := parseKey(tc.text)
		if (err == nil) != tc.ok || err == nil && (keyLine(key) != line || comment != tc.comment) {
			t.Errorf("%s: %v, %q, %v", name, key, comment, err)
		}
	}
}

func TestParseHostKey(t *testing.T) {
	t.Parallel()
	line := hostKey(t)
	for text, ok := range map[string]bool{
		line: true, line + " root@web1": true, "web1,10.0.0.5 " + line: true, "[10.0.0.5]:2222 " + line + " comment": true,
		"@cert-authority * " + line: false, "@revoked " + line: false, "": false, "web1 " + line[:30]: false,
	} {
		key, err := parseHostKey(text)
		if (err == nil) != ok || err == nil && keyLine(key) != line {
			t.Errorf("%q: %v", text, err)
		}
	}
}
