package admin

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/identity"
	"sallyport/policy"
)

// What operators type is checked here, once, for pages and API alike. Names that reach a login name, a
// rule or a shell are held to plain ASCII.
var (
	targetName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	accountName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)
	groupName   = regexp.MustCompile(`^[\pL\pN_][\pL\pN _.-]*$`) // a bound here would cost 5 MB: see maxGroup
	labelKey    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`)
	labelValue  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:-]{0,62}$`)
)

// reserved are names that a target may not have: they have, or will have, a meaning of their own in
// the place of a target.
var reserved = []string{"admin", "health", "invite", "join", "menu", "portal", "sallyport", "ticket"}

// What such names may be, in words.
const (
	nameHint  = "use 1 to 63 of A-Z a-z 0-9 . _ - and begin with a letter or a digit"
	loginHint = "use 1 to 64 of a-z 0-9 . _ - and begin with a letter, a digit or _"
)

const (
	maxLabels = 50
	maxGroup  = 128 // characters
)

func checkTargetName(name string) error {
	switch {
	case !targetName.MatchString(name):
		return invalid(nameHint, "%s cannot be the name of a target", audit.Quote(name))
	case slices.Contains(reserved, strings.ToLower(name)):
		return invalid("choose another name; reserved are "+strings.Join(reserved, ", "), "the name %s is reserved", name)
	}
	return nil
}

func checkAccounts(accounts []string) error {
	for i, a := range accounts {
		switch {
		case !accountName.MatchString(a):
			return invalid("use 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter, a digit or _", "%s cannot be an account", audit.Quote(a))
		case slices.Contains(accounts[:i], a):
			return invalid("name each account once", "account %s is named twice", a)
		}
	}
	return nil
}

func checkGroups(groups []string) error {
	for _, g := range groups {
		if !groupName.MatchString(g) || utf8.RuneCountInString(g) > maxGroup {
			return invalid("use 1 to "+strconv.Itoa(maxGroup)+" letters, digits, blanks, . _ - and begin with a letter or a digit", "%s cannot be the name of a group", audit.Quote(g))
		}
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return invalid("keep the labels that rules speak of", "a target has at most %d labels, not %d", maxLabels, len(labels))
	}
	for k, v := range labels {
		if !labelKey.MatchString(k) || !labelValue.MatchString(v) {
			return invalid("write key=value, each 1 to 63 of A-Z a-z 0-9 . _ / - beginning with a letter or a digit",
				"%s cannot be a label", audit.Quote(k+"="+v))
		}
	}
	return nil
}

func checkChannel(kind string) error {
	if kind != "" && !slices.Contains(policy.Kinds(), kind) {
		return invalid("the words are "+strings.Join(policy.Kinds(), ", "), "%s is not a channel", audit.Quote(kind))
	}
	return nil
}

// checkText accepts one line of text for people, at most n bytes.
func checkText(what, text string, n int) error {
	if len(text) > n || audit.Escape(text) != text {
		return invalid("write one line without control or invisible characters, at most "+strconv.Itoa(n)+" bytes", "the %s %s cannot be stored", what, audit.Quote(text))
	}
	return nil
}

func checkLogin(login string) (string, error) {
	canonical, err := identity.CanonicalLogin(login)
	if err != nil {
		return "", invalid(loginHint, "%s cannot be a login name", audit.Quote(login))
	}
	return canonical, nil
}

// minPassword is the least length of a password that comes with a second factor (NIST SP 800-63B,
// section 3.1.1.2).
const minPassword = 8

func checkPassword(p string) error {
	switch {
	case utf8.RuneCountInString(p) < minPassword:
		return invalid("choose a longer one, or let one be made: --generate", "a password has at least %d characters", minPassword)
	case len(p) > 1024 || !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl):
		return invalid("use printable characters, at most 1024 bytes", "this password cannot be typed at a prompt")
	}
	return nil
}

// canonicalAddress returns address as host:port, with port 22 if it has none.
func canonicalAddress(address string) (string, error) {
	bad := invalid("write host:port, such as 10.0.0.5:22, db1.example.org:22 or [2001:db8::5]:22", "%s is not the address of a host", audit.Quote(address))
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), "22"
		if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, "[]:") {
			return "", bad
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", bad
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return net.JoinHostPort(addr.String(), port), nil
	}
	if !hostName.MatchString(host) || len(host) > 253 {
		return "", bad
	}
	return net.JoinHostPort(host, port), nil
}

// hostName is RFC 1123, section 2.1, with the underscore that people use all the same.
var hostName = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$`)

// parseHostKey reads a host key as people paste it: like parseKey, or a line of known_hosts or
// ssh-keyscan with the host in front.
func parseHostKey(line string) (ssh.PublicKey, error) {
	if fields := strings.Fields(line); len(fields) >= 3 && isKeyType(fields[1]) && !strings.HasPrefix(line, "@") {
		line = strings.Join(fields[1:], " ")
	}
	key, _, err := parseKey(line)
	return key, err
}

// parseKey reads a public key: a line of authorized_keys. Options are refused, because they would have
// no effect here.
func parseKey(line string) (key ssh.PublicKey, comment string, err error) {
	line = strings.TrimSpace(line)
	if strings.ContainsAny(line, "\r\n") {
		return nil, "", invalid("give one key at a time", "this is more than one line")
	}
	key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || len(options) > 0 {
		return nil, "", invalid("paste the line that begins with ssh-ed25519, ecdsa-sha2-… or ssh-rsa", "this is not a public key")
	}
	if key.Type() == ssh.InsecureKeyAlgoDSA {
		return nil, "", invalid("make a new one: ssh-keygen -t ed25519", "DSA keys are not safe any more")
	}
	return key, comment, nil
}

func isKeyType(word string) bool {
	return strings.HasPrefix(word, "ssh-") || strings.HasPrefix(word, "ecdsa-sha2-") || strings.HasPrefix(word, "sk-")
}

// keyLine is a key in authorized_keys form without comment.
func keyLine(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}
