package policy

import (
	"net/netip"
	"slices"
)

// matcher is a rule made ready: words parsed, networks resolved.
type matcher struct {
	rule  *Rule
	allow bool

	users         principals
	targets       []targetWord
	accounts      []accountWord
	from, notFrom []netip.Prefix
	trust         *Trust
	reply         []ReplyAttribute
	approval      *Approval

	kinds kindSet
	to    map[kindSet][]destination // for kinds held to destinations

	// Lists for the trace, printed once.
	inUsers, inTargets, inAccounts, inFrom, inNotFrom, inChannels string
}

// answer is what is known about one field: whether it matches, or that nobody can tell.
type answer uint8

const (
	no answer = iota
	yes
	unknown
)

func answerOf(b bool) answer {
	if b {
		return yes
	}
	return no
}

// holds turns an answer into a match: what is not known counts towards denial.
func (m *matcher) holds(a answer) bool { return a == yes || a == unknown && !m.allow }

// reason is a sentence in two pieces, what the request has and what the rule lists. They are put together
// once for the whole trace.
type reason [2]string

// match reports for which of the open kinds the rule matches, and which of these it settles. A rule that
// holds a forward to destinations does not settle that kind for a connection as a whole, since a later
// rule may allow others. When kinds is empty, q.why says what did not match.
func (m *matcher) match(q *query, open kindSet) (kinds, settled kindSet) {
	if !m.matchesFields(q) {
		return 0, 0
	}
	if kinds = m.kinds & open; kinds == 0 {
		switch {
		case q.whole && m.kinds&sshKinds == 0:
			q.why = reason{"speaks of no channel of SSH, only of ", m.inChannels}
		case q.whole:
			q.why = reason{"matches, but rules above have decided ", m.kinds.String()}
		default:
			q.why = reason{q.says.channel, m.inChannels}
		}
		return 0, 0
	}
	if m.allow && q.dest != nil && kinds&forwardsOut != 0 && MustBeListed(q.dest.addr) && !m.listsExactly(kinds, q.dest) {
		q.why = reason{"a link-local or metadata address must be listed by itself in channels ", m.inChannels}
		return 0, 0
	}
	limited := m.limited() & kinds
	if limited == 0 {
		return kinds, kinds
	}
	if q.whole {
		if !m.allow { // denies some destinations, so not the kind
			kinds &^= limited
			q.why = reason{"denies only some destinations of ", limited.String()}
		}
		return kinds, kinds &^ limited
	}
	if m.holds(m.reaches(limited, q.dest)) {
		return kinds, kinds
	}
	q.why = reason{"destination of " + limited.String() + " is not in channels ", m.inChannels}
	return 0, 0
}

// matchesFields reports whether every field other than channels matches.
func (m *matcher) matchesFields(q *query) bool {
	switch {
	case !m.matchesUser(q):
		q.why = reason{q.says.user, m.inUsers}
	case !m.matchesTarget(q.target):
		q.why = reason{q.says.target, m.inTargets}
	case !m.holds(m.matchesAccount(q)):
		q.why = reason{q.says.account, m.inAccounts}
	default:
		return m.matchesSource(q)
	}
	return false
}

func (m *matcher) matchesSource(q *query) bool {
	if len(m.from) > 0 && !m.holds(q.isFrom(m.from)) {
		q.why = reason{q.says.from, m.inFrom}
		return false
	}
	if len(m.notFrom) > 0 {
		if a := q.isFrom(m.notFrom); a == yes || a == unknown && m.allow {
			q.why = reason{q.says.notFrom, m.inNotFrom}
			return false
		}
	}
	return true
}

// matchesUser is true for everybody when a rule that denies lists no users.
func (m *matcher) matchesUser(q *query) bool {
	return m.users.match(q) || !m.allow && len(m.rule.Users) == 0
}

// matchesTarget is true for every target when a rule that denies lists none.
func (m *matcher) matchesTarget(t Target) bool {
	for i := range m.targets {
		if m.targets[i].match(t) {
			return true
		}
	}
	return len(m.targets) == 0 && !m.allow
}

func (m *matcher) matchesAccount(q *query) answer {
	if len(m.accounts) == 0 {
		return yes
	}
	if q.account == "" {
		return unknown
	}
	for _, w := range m.accounts {
		if w.own && q.account == q.own || !w.own && w.name.match(q.account) {
			return yes
		}
	}
	return no
}

func (q *query) isFrom(set []netip.Prefix) answer {
	if !q.sourceKnown {
		return unknown
	}
	return answerOf(containsAddr(set, q.source))
}

// limited gives the kinds that the rule holds to destinations.
func (m *matcher) limited() kindSet {
	var s kindSet
	for kind := range m.to {
		s |= kind
	}
	return s
}

// unconditional reports whether the rule matches everybody from everywhere, for its targets.
func (m *matcher) unconditional() bool {
	everybody := m.users.any || !m.allow && len(m.rule.Users) == 0
	return everybody && len(m.accounts)+len(m.from)+len(m.notFrom) == 0
}

// reaches reports whether a destination is among those the rule lists for kind. A host name is never
// compared with addresses, since only the target could resolve it: then nobody can tell.
func (m *matcher) reaches(kind kindSet, to *destinationAsked) answer {
	if to == nil {
		return unknown
	}
	result := no
	for _, d := range m.to[kind] {
		if to.port < d.first || d.last < to.port {
			continue
		}
		switch {
		case d.prefix.IsValid() && to.addr.IsValid():
			if d.prefix.Contains(to.addr) {
				return yes
			}
		case d.prefix.IsValid():
			result = unknown
		case to.addr.IsValid():
			if d.name.kind == globAll {
				return yes
			}
		case d.name.match(to.name):
			return yes
		}
	}
	return result
}

// listsExactly reports whether the rule lists this one address for kind, not merely a prefix around it.
func (m *matcher) listsExactly(kind kindSet, to *destinationAsked) bool {
	for _, d := range m.to[kind] {
		if d.prefix.IsSingleIP() && d.prefix.Addr() == to.addr && d.first <= to.port && to.port <= d.last {
			return true
		}
	}
	return false
}

// metadata are addresses at which clouds give out credentials beside the link-local ones.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("fd20:ce::254"),
	netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("168.63.129.16"),
}

// nat64 is the prefix of RFC 6052, section 2.1: the last four bytes are an IPv4 address.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// MustBeListed reports whether local-forward and dynamic reach addr only by a rule that lists exactly this
// address: it is link-local, or one at which a cloud gives out credentials.
func MustBeListed(addr netip.Addr) bool {
	addr = Embedded(addr)
	return addr.IsLinkLocalUnicast() || slices.Contains(metadata, addr)
}

// Embedded gives the IPv4 address for which an IPv6 address stands (mapped, or behind NAT64); any other
// address as it is.
func Embedded(addr netip.Addr) netip.Addr {
	addr = addr.Unmap()
	if addr.Is6() && nat64.Contains(addr) {
		b := addr.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr
}
