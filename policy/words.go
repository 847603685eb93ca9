package policy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// glob is a pattern in which * stands for any text and ? for one character.
type glob struct {
	text string
	kind globKind
}

type globKind uint8

const (
	globExact  globKind = iota // no wildcard at all
	globAll                    // "*"
	globPrefix                 // one * at the end; text is what stands before it
	globMixed
)

func parseGlob(word string) (glob, error) {
	if i := strings.IndexAny(word, `[]\{}`); i >= 0 {
		return glob{}, fmt.Errorf("%s: %q has no meaning in a glob, which knows * and ? only", quote(word), word[i])
	}
	star := strings.IndexAny(word, "*?")
	switch {
	case star < 0:
		return glob{word, globExact}, nil
	case word == "*":
		return glob{word, globAll}, nil
	case star == len(word)-1 && word[star] == '*':
		return glob{word[:star], globPrefix}, nil
	}
	return glob{word, globMixed}, nil
}

func (g glob) match(s string) bool {
	switch g.kind {
	case globExact:
		return s == g.text
	case globAll:
		return true
	case globPrefix:
		return strings.HasPrefix(s, g.text)
	}
	return matchMixed(g.text, s)
}

// matchMixed goes back to the last star only, so that it takes at most len(pattern)·len(s) steps.
func matchMixed(pattern, s string) bool {
	p, i := 0, 0
	star, retry := -1, 0
	for i < len(s) {
		_, width := utf8.DecodeRuneInString(s[i:])
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, retry = p, i
			p++
		case p < len(pattern) && pattern[p] == '?':
			p++
			i += width
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			_, skip := utf8.DecodeRuneInString(s[retry:])
			retry += skip
			p, i = star+1, retry
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// principals are the words of users.
type principals struct {
	any    bool
	names  map[string]bool // folded
	groups []string        // folded
}

func (p *principals) add(word string) error {
	group, isGroup := strings.CutPrefix(word, "group:")
	switch {
	case word == "*":
		p.any = true
	case isGroup && group == "":
		return errors.New("group: is followed by no name")
	case isGroup && group == "*", !isGroup && strings.ContainsAny(word, "*?"):
		return fmt.Errorf("%s: users and groups are whole names, or \"*\" alone for everybody", quote(word))
	case isGroup:
		p.groups = append(p.groups, fold(group))
	case strings.Contains(word, ":"):
		return fmt.Errorf("%s: only group: may stand before a name", quote(word))
	default:
		if p.names == nil {
			p.names = make(map[string]bool)
		}
		p.names[fold(word)] = true
	}
	return nil
}

func (p *principals) match(q *query) bool {
	if p.any || p.names[q.user] {
		return true
	}
	for _, g := range p.groups {
		if q.groups[g] {
			return true
		}
	}
	return false
}

// targetWord is one word of targets.
type targetWord struct {
	label string // empty: the glob is for the name
	value glob
}

func parseTargetWord(word string) (targetWord, error) {
	label, value, isLabel := strings.Cut(word, "=")
	if !isLabel {
		g, err := parseGlob(word)
		return targetWord{value: g}, err
	}
	if label == "" || value == "" || strings.ContainsAny(label, "*?") {
		return targetWord{}, fmt.Errorf("%s: write label=value; the value may be a glob", quote(word))
	}
	g, err := parseGlob(value)
	return targetWord{label, g}, err
}

func (w targetWord) match(t Target) bool {
	if w.label == "" {
		return w.value.match(t.Name)
	}
	value, has := t.Labels[w.label]
	return has && w.value.match(value)
}

// accountWord is one word of accounts.
type accountWord struct {
	own  bool // {user}
	name glob
}

func parseAccountWord(word string) (accountWord, error) {
	if word == "{user}" {
		return accountWord{own: true}, nil
	}
	if strings.Contains(word, "{user}") {
		return accountWord{}, fmt.Errorf("%s: {user} stands alone", quote(word))
	}
	g, err := parseGlob(word)
	return accountWord{name: g}, err
}

// addrWord reads an address or a CIDR prefix. An IPv4 address in its IPv6 form becomes IPv4.
func addrWord(word string) (netip.Prefix, error) {
	if strings.Contains(word, "%") {
		return netip.Prefix{}, fmt.Errorf("%s: an address with a zone has no meaning here", quote(word))
	}
	if addr, err := netip.ParseAddr(word); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(word)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s is not an address or a CIDR prefix such as 192.0.2.0/24", quote(word))
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("%s has bits set after the prefix: write %s", quote(word), p.Masked())
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, nil
}

// checkNetwork refuses a name that could be taken for an address, and prefixes that addrWord would not give.
func checkNetwork(name string, prefixes []netip.Prefix) error {
	if err := checkNetworkName(name); err != nil {
		return err
	}
	if len(prefixes) == 0 {
		return errors.New("a network needs at least one address")
	}
	for _, p := range prefixes {
		if !p.IsValid() || p.Masked() != p || p.Addr().Is4In6() {
			return fmt.Errorf("%s is not a masked prefix", quote(p.String()))
		}
	}
	return nil
}

func checkNetworkName(name string) error {
	for i, c := range name {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		other := '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
		if !letter && (i == 0 || !other) {
			return fmt.Errorf("%s is not a name: begin with a letter, then letters, digits, - _ .", quote(name))
		}
	}
	if name == "" || len(name) > maxWord {
		return errors.New("the name is empty or too long")
	}
	return nil
}

// sourceWord reads a word of from, not-from or trust.sources.
func sourceWord(word string, networks map[string][]netip.Prefix) ([]netip.Prefix, error) {
	if prefixes, known := networks[word]; known {
		return prefixes, nil
	}
	if checkNetworkName(word) == nil {
		return nil, fmt.Errorf("network %s is not defined; networks has %s",
			quote(word), showList(slices.Sorted(maps.Keys(networks))))
	}
	p, err := addrWord(word)
	if err != nil {
		return nil, err
	}
	return []netip.Prefix{p}, nil
}

// normalAddr unmaps an address and reports whether rules can judge it: it is valid and has no zone.
func normalAddr(a netip.Addr) (netip.Addr, bool) {
	return a.Unmap(), a.IsValid() && a.Zone() == ""
}

func containsAddr(set []netip.Prefix, a netip.Addr) bool {
	for _, p := range set {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// destination is where a forward may go.
type destination struct {
	prefix      netip.Prefix // valid: for addresses; else name is for host names
	name        glob         // lower case
	first, last uint16
}

// parseDestination reads HOST:PORT of a document.
func parseDestination(word string) (destination, error) {
	host, port, ok := splitHostPort(word)
	if !ok {
		return destination{}, fmt.Errorf("%s: write HOST:PORT, such as 10.1.0.0/16:5432, [2001:db8::/32]:22 or *:443", quote(word))
	}
	var d destination
	if d.first, d.last, ok = parsePorts(port); !ok {
		return destination{}, fmt.Errorf("%s: %s is not a port: write 1 to 65535, a range 8000-8099 or *", quote(word), quote(port))
	}
	if looksLikeAddr(host) {
		p, err := addrWord(host)
		d.prefix = p
		return d, err
	}
	name, err := parseGlob(lowerASCII(host))
	d.name = name
	return d, err
}

// looksLikeAddr tells addresses and prefixes from host names: a colon, a slash, or only digits and dots.
func looksLikeAddr(host string) bool {
	return strings.ContainsAny(host, ":/%") || strings.Trim(host, "0123456789.") == ""
}

// splitHostPort splits at the last colon; IPv6 must stand in brackets.
func splitHostPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	host, port = s[:i], s[i+1:]
	if inner, bracket := strings.CutPrefix(host, "["); bracket {
		inner, bracket = strings.CutSuffix(inner, "]")
		return inner, port, bracket && strings.Contains(inner, ":")
	}
	return host, port, host != "" && !strings.Contains(host, ":")
}

func parsePorts(s string) (first, last uint16, ok bool) {
	if s == "*" {
		return 1, 65535, true
	}
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	first, ok1 := parsePort(from)
	last, ok2 := parsePort(to)
	return first, last, ok1 && ok2 && first <= last
}

func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0
}
