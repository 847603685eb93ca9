package policy

import (
	"net/netip"
	"strings"
	"time"
)

// Target is a configured host as rules see it.
type Target struct {
	Name   string
	Labels map[string]string
}

// Request is what somebody wants to do.
type Request struct {
	User    string   // login of the person; required
	Groups  []string // the person's groups
	Target  Target   // Name is required
	Account string   // login name on the target; empty while it is not known
	Source  netip.Addr
	Channel string    // one of Kinds; empty asks for the connection of SSH as a whole
	To      string    // for a forward: "host:port" as asked for, IPv6 in brackets
	At      time.Time // when it happens; no field of a rule reads it so far
}

// Decision is the answer to a request. The zero Decision denies.
type Decision struct {
	Allow    bool
	Rule     string   // the first rule that allowed or, when refused, that denied; empty when none matched
	Why      string   // one sentence for the log
	Message  string   // public text of the rule that denied, if it has one
	Channels []string // kinds allowed, when the request asked for the connection as a whole

	// What the rule asks. When several rules allow parts of a connection, the strictest of each.
	Silent       bool
	Moderator    *Moderator // nil: nobody has to watch
	Code         Code
	TokenOnly    bool
	PasswordCode bool
	Recording    Mode
	RecordLimit  int64         // bytes, never zero when allowed
	Retention    time.Duration // of recordings; zero: as the server is set, or Forever
	RecordInput  bool
	Unsearched   bool // recordings are kept out of the search
	BreakGlass   bool
	Relay        bool
	Approval     *Approval        // nil: nobody else has to agree
	Reply        []ReplyAttribute // of a decision about RADIUS
	Limits       Limits
	Lockout      Limit
	Env          Env    // names that all of the rules let pass
	Files        *Paths // what SFTP and scp are held to by the rule that allows it; of a connection as a whole, SFTP
	Trust        *Trust

	Trace []Verdict // one per rule looked at, in order
}

// Verdict says of one rule whether it matched, and why not or what it did.
type Verdict struct {
	Rule    string
	Matched bool
	Why     string // such as "source 203.0.113.7 is not in from [office]" or "allows shell, exec"
}

// Decide answers a request by the first rule that matches; no match denies. When r.Channel is empty every
// kind is tried: the request is allowed if any kind is, and Channels lists those that are. A forward that
// a rule holds to destinations counts there as allowed; the channel itself is asked about again with To.
func (d *Document) Decide(r Request) Decision {
	if d == nil || len(d.Rules) == 0 {
		return Decision{Why: "there are no rules"}
	}
	matchers, err := d.matchers()
	if err != nil {
		return Decision{Why: "the rules are not valid: " + err.Error()}
	}
	var q query // stays on the stack
	if why := q.init(&r); why != "" {
		return Decision{Why: why}
	}

	var (
		trace   = newTrace(len(matchers))
		open    = q.want // kinds no rule has decided yet
		granted kindSet
		files   *matcher
		grants  []*matcher
		denial  *matcher
	)
	for i := range matchers {
		m := &matchers[i]
		kinds, settled := m.match(&q, open)
		switch {
		case kinds == 0:
			trace.add(m, false, &q.why)
			continue
		case m.allow:
			granted |= kinds
			grants = append(grants, m)
			if !q.whole || kinds&fileKinds != 0 && files == nil {
				files = m
			}
			trace.add(m, true, &reason{"allows ", kinds.String()})
		default:
			if denial == nil {
				denial = m
			}
			trace.add(m, true, &reason{"denies ", kinds.String()})
		}
		if open &^= settled; open == 0 {
			break
		}
	}
	decision := conclude(grants, denial)
	decision.Trace = trace.finish()
	if decision.Allow && files != nil {
		decision.Files = files.paths(r.User)
	}
	if decision.Allow && q.whole {
		decision.Channels = granted.words()
	}
	return decision
}

// trace collects verdicts; the text of all of them is one string, so that a long list of rules costs few
// allocations.
type trace struct {
	verdicts []Verdict
	ends     []int // of each verdict's text
	text     strings.Builder
}

func newTrace(rules int) *trace {
	t := &trace{verdicts: make([]Verdict, 0, rules), ends: make([]int, 0, rules)}
	t.text.Grow(64 * rules)
	return t
}

func (t *trace) add(m *matcher, matched bool, why *reason) {
	for _, piece := range why {
		t.text.WriteString(piece)
	}
	t.verdicts = append(t.verdicts, Verdict{Rule: m.rule.Name, Matched: matched})
	t.ends = append(t.ends, t.text.Len())
}

func (t *trace) finish() []Verdict {
	text, start := t.text.String(), 0
	for i, end := range t.ends {
		t.verdicts[i].Why = text[start:end]
		start = end
	}
	return t.verdicts
}

// conclude makes the decision from the rules that allowed something and the first that denied.
func conclude(grants []*matcher, denial *matcher) Decision {
	if len(grants) == 0 {
		if denial == nil {
			return Decision{Why: "no rule matches"}
		}
		return Decision{
			Rule:    denial.rule.Name,
			Why:     "rule " + show(denial.rule.Name) + " denies",
			Message: denial.rule.Message,
		}
	}
	d := grants[0].grant()
	for _, m := range grants[1:] {
		d.tighten(m.grant())
	}
	return d
}

// grant is the decision of a rule that allows, taken alone.
func (m *matcher) grant() Decision {
	d := Decision{
		Allow:        true,
		Rule:         m.rule.Name,
		Why:          "rule " + show(m.rule.Name) + " allows",
		Silent:       m.rule.Silent,
		Moderator:    m.rule.Moderator.decided(),
		Code:         m.rule.Code,
		TokenOnly:    m.rule.TokenOnly,
		PasswordCode: m.rule.PasswordCode,
		Recording:    m.rule.Recording,
		RecordLimit:  m.rule.RecordLimit,
		Unsearched:   m.rule.Unsearched,
		Retention:    m.rule.Retention,
		RecordInput:  m.rule.RecordInput,
		BreakGlass:   m.rule.BreakGlass,
		Relay:        m.rule.Relay,
		Limits:       m.rule.Limits,
		Lockout:      m.rule.Lockout,
		Env:          Env{lists: [][]string{m.rule.Env}},
	}
	d.Reply = m.reply
	if d.RecordLimit == 0 {
		d.RecordLimit = DefaultRecordLimit
	}
	if m.approval != nil {
		approval := *m.approval
		d.Approval = &approval
	}
	if m.trust != nil {
		trust := *m.trust
		d.Trust = &trust
	}
	return d
}

// tighten takes from other what is stricter.
func (d *Decision) tighten(other Decision) {
	d.Silent = d.Silent && other.Silent
	d.Moderator = d.Moderator.tighten(other.Moderator)
	d.TokenOnly = d.TokenOnly || other.TokenOnly
	d.PasswordCode = d.PasswordCode && other.PasswordCode
	fresh := d.Code.Fresh || other.Code.Fresh
	if other.Code.stricter(d.Code) {
		d.Code = other.Code
	}
	d.Code.Fresh = fresh
	d.Recording = min(d.Recording, other.Recording)
	d.RecordLimit = max(d.RecordLimit, other.RecordLimit)
	d.Unsearched = d.Unsearched || other.Unsearched
	d.Retention = max(d.Retention, other.Retention)
	d.RecordInput = d.RecordInput || other.RecordInput
	d.BreakGlass = d.BreakGlass && other.BreakGlass
	d.Relay = d.Relay && other.Relay
	d.Approval = d.Approval.tighten(other.Approval)
	d.Lockout = d.Lockout.stricter(other.Lockout)
	d.Limits = d.Limits.smallest(other.Limits)
	d.Env = d.Env.tighten(other.Env)
	d.Trust = d.Trust.tighten(other.Trust)
}

// query is a request in the form in which rules look at it.
type query struct {
	user    string // folded
	groups  map[string]bool
	target  Target
	account string
	own     string // the login as it is, for {user}

	source      netip.Addr
	sourceKnown bool

	want kindSet
	dest *destinationAsked // nil: not known, or not a forward

	whole bool   // the connection as a whole
	why   reason // why the rule last looked at did not match
	says  sentences
}

// destinationAsked is the host and port of one forward.
type destinationAsked struct {
	addr netip.Addr // valid when the host is an address
	name string     // lower case, else
	port uint16
}

// init normalises a request. The result says why no rule can allow it, if so.
func (q *query) init(r *Request) string {
	*q = query{
		user: fold(r.User), own: r.User, target: r.Target, account: r.Account,
	}
	if r.User == "" {
		return "the request names no user"
	}
	if r.Target.Name == "" {
		return "the request names no target"
	}
	q.want, q.whole = sshKinds, r.Channel == ""
	if !q.whole {
		kind, known := kindOf(r.Channel)
		if !known {
			return "channel " + show(r.Channel) + " is not a kind that rules know"
		}
		q.want = kind
	}
	if takesDestinations(r.Channel) {
		q.dest = parseAsked(r.To)
	}
	q.source, q.sourceKnown = normalAddr(r.Source)
	q.groups = make(map[string]bool, len(r.Groups))
	for _, g := range r.Groups {
		q.groups[fold(g)] = true
	}
	q.says = q.sentences(r)
	return ""
}

// sentences are beginnings of reasons, made once for all rules. Each goes on with what the rule lists.
type sentences struct{ user, target, account, from, notFrom, channel string }

func (q *query) sentences(r *Request) sentences {
	s := sentences{
		user:    "user " + show(r.User) + " is not in users ",
		target:  "target " + show(r.Target.Name) + " is not in targets ",
		account: "account " + show(r.Account) + " is not in accounts ",
		channel: "channel " + r.Channel + " is not in channels ",
	}
	if r.Account == "" {
		s.account = "the account is not known, and accounts lists "
	}
	switch {
	case q.sourceKnown:
		source := "source " + q.source.String()
		s.from, s.notFrom = source+" is not in from ", source+" is in not-from "
	case q.source.IsValid():
		source := "source " + show(q.source.String()) + " has a zone and"
		s.from, s.notFrom = source+" is not in from ", source+" may be in not-from "
	default:
		s.from, s.notFrom = "the source is not known and is not in from ", "the source is not known and may be in not-from "
	}
	return s
}

// parseAsked reads the destination of a request. What cannot be read is not known.
func parseAsked(to string) *destinationAsked {
	host, port, ok := splitHostPort(to)
	if !ok {
		return nil
	}
	n, ok := parsePort(port)
	if !ok {
		return nil
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		addr, known := normalAddr(addr)
		if !known {
			return nil
		}
		return &destinationAsked{addr: addr, port: n}
	}
	return &destinationAsked{name: lowerASCII(host), port: n}
}
