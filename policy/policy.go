// Package policy decides who may reach which target, as which account, from where and over which
// channels. It is pure: a document and a request go in, a [Decision] comes out, with the trace that
// explains it. Nothing here does I/O or reads a clock.
//
// # The document
//
// Rules are one YAML document (it is also what `sallyport apply` reads and `sallyport export` writes):
//
//	version: 1
//	networks:
//	  office: [192.0.2.0/24, 2001:db8::/48]
//	rules:
//	  - name: no-vault-from-outside
//	    deny: true
//	    targets: [vault]
//	    not-from: [office]
//	    message: vault is reached from the office only
//	  - name: dba
//	    users: [group:dba, carol]
//	    targets: [env=prod, "db-*"]
//	    accounts: [postgres, "{user}"]
//	    from: [office]
//	    channels: [shell, exec, sftp, {local-forward: ["10.1.0.0/16:5432"]}]
//	    code: {younger-than: 30m}
//	    trust: {idle: 8h, max: 24h, uses: 50, sources: [office]}
//	    recording: required
//	    record-limit: 16MiB
//	    limits: {idle: 15m, max: 8h, sessions: 3}
//	  - name: ops
//	    users: [group:ops]
//	    targets: ["*"]
//
// Rules are read from the top. The first one whose every field matches decides; when none matches
// the answer is no. So is the answer of a nil or empty document and of a zero [Rule].
//
// # What matches
//
//   - users: a name, `group:NAME`, or `*`. ASCII letters are compared without regard to case, other
//     text after Unicode normalisation (NFC).
//   - targets: a name, a glob, or `label=value` (the value may be a glob). Compared exactly.
//   - accounts: a name, a glob, or `{user}`, which is the person's own login. Compared exactly.
//   - from, not-from: the name of a network, an address, or a CIDR prefix. An IPv4 address written as
//     IPv6 (::ffff:192.0.2.1) is the IPv4 address.
//   - channels: words of [Kinds]. A forward may be held to destinations: `{local-forward: [DEST]}`, also
//     dynamic and remote-forward, where DEST is HOST:PORT, HOST an address, a CIDR prefix, a glob of
//     names or `*`, PORT a number, a range 8000-8099 or `*`, and IPv6 stands in brackets. The word `radius` is
//     about RADIUS clients (VPNs, gateways), whose names are then compared with targets; no rule allows it that
//     does not name it, and it opens nothing in SSH.
//
// Globs know `*` (any text) and `?` (one character). Those of sftp are of paths, see [Files].
//
// A field that is left out does not restrict, with two exceptions that keep a forgotten line from
// opening a door: a rule that allows must list users and targets, and without channels it allows
// shell, exec, sftp and scp only, with sftp paths the last two. A list that is present must not be empty. What is not known about a
// request (no account yet, no usable source address) counts towards denial: it fails the field of a
// rule that allows and satisfies that of a rule that denies.
//
// # What a rule asks and grants
//
//   - code: `always` (the default) asks for a one-time password once a connection, unless one is remembered
//     (trust); `fresh` asks for one in each connection, whatever is remembered; with
//     `{younger-than: 30m}` it must also have been accepted within that time when a target or channel is
//     opened; `none` asks for none, needs `from` and must not cover a whole address family.
//   - observed: `tell` (default) tells people on their terminals who watches them, `silent` does not; moderator:
//     a session runs only while one of `by` watches it; when the last one leaves it ends or, with
//     `leaving: pause`, stands still; it waits for one as long as `within` (15m).
//   - token-only: the code must be one of a token; one that was sent by mail or SMS does not do.
//   - password-code: a client that knows no prompts may send password and code in one, as the password.
//   - trust: an accepted code may be remembered; idle and max lifetime, number of uses, number of targets,
//     and the sources where that also holds after a password. One lifetime may be left out: max is then 24h
//     (or idle if that is longer), idle is max. With `grow: {after: 10, max: 7d}` the longest lifetime becomes
//     7d after ten uses.
//   - recording: required (default), best-effort or off; record-limit (16MiB): how much of a channel
//     without a terminal is kept; retention: how long recordings are kept (`90d`, or `forever`).
//   - search: `off` keeps what was on the screen out of the search.
//   - sftp: paths that SFTP and scp are held to, `{read: [/srv/**], write: ["/srv/in/{user}/**"]}`; what neither
//     list names is refused. A list that is left out allows nothing.
//   - relay: `true` lets the person answer prompts of the target's own, where the target is set up so.
//   - approval: others must agree before a session starts: `{by: [group:dba, carol], count: 1, within: 15m}`; with
//     `reason: required` the person must say what for. Nobody approves their own session.
//   - lockout: after how many failures one person is locked at one source who names a target of this rule,
//     where that is stricter than the general setting: `{failures: 3, window: 10m, lock: 1h}`.
//   - reply: attributes that go out with an acceptance by RADIUS, `[Filter-Id=staff, "Cisco-AVPair=shell:priv-lvl=15"]`.
//   - limits: idle, keyboard-idle and max time of a session; sessions open at once, of one person under
//     this rule (sessions) or under all (user-sessions), of everybody under this rule (rule-sessions) or at
//     the target (target-sessions), of one connection (connection-sessions); channels of one session.
//   - env: environment variables that a client may set, names or globs; LANG, LC_* and TERM when absent.
//   - message: what a person who is refused by this rule may read; only with `deny: true`.
//
// Durations are whole numbers with units d, h, m, s (1h30m); sizes end in B, KiB, MiB or GiB.
package policy

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Effect is what a rule that matches does. The zero value denies.
type Effect uint8

// Effects of a rule.
const (
	Deny Effect = iota
	Allow
)

// DefaultRecordLimit is how much of a channel without a terminal is recorded, in bytes, when the rule
// does not say.
const DefaultRecordLimit = 16 << 20

// Forever is the retention of recordings that are never deleted, and foreverWord how rules write it.
const (
	Forever     = time.Duration(math.MaxInt64)
	foreverWord = "forever"
)

// defaultTrustMax bounds a grant whose rule names only the idle time.
const defaultTrustMax = 24 * time.Hour

// Document is an ordered list of rules and the networks they name. A nil or zero Document denies
// everything. It must not be changed once it is in use; it may then be used by many goroutines.
type Document struct {
	Version  int
	Networks map[string][]netip.Prefix // masked; IPv4 never in its IPv6 form
	Rules    []Rule

	compiled []matcher // one per rule; nil when the document was not made by Parse or New
}

// Rule is one entry of a document. The zero Rule denies everything.
type Rule struct {
	Name    string // unique in the document, one line
	Effect  Effect
	Message string // public text of a rule that denies, one line

	Users, Targets, Accounts, From, NotFrom []string // words as in the package comment
	Channels                                []Channel
	Env                                     []string // environment variables that pass; nil: LANG, LC_* and TERM

	Silent       bool // people are not told who watches them
	Moderator    *Moderator
	Code         Code
	TokenOnly    bool   // a code that was sent by mail or SMS does not do
	PasswordCode bool   // password and code may come as one, in the password field
	Trust        *Trust // nil: a code is never remembered
	Recording    Mode
	RecordLimit  int64         // bytes; zero means DefaultRecordLimit
	Retention    time.Duration // of recordings; zero: as the server is set, or Forever
	RecordInput  bool          // what is typed and shown is recorded as input too
	BreakGlass   bool          // where a recording is required and not possible, the session goes on without, and operators are told
	Unsearched   bool          // recordings are kept out of the search
	SFTP         *Files        // paths that SFTP and scp are held to; nil: none
	Relay        bool          // the target's own prompts may be answered by the person
	Approval     *Approval     // nil: nobody else has to agree
	Reply        []string      // attributes that go out with an acceptance by RADIUS, NAME=VALUE
	Limits       Limits
	Lockout      Limit // of one person from one source, where stricter than the general one; zero fields say nothing
}

// Channel is one kind of channel a rule speaks of.
type Channel struct {
	Kind string   // one of Kinds
	To   []string // destinations of a forward; none means any
}

// CodeKind says how fresh a one-time password must be.
type CodeKind uint8

// Kinds of demand for a code. A fresh one is the strictest, none the least.
const (
	CodeAlways      CodeKind = iota // one for this connection, however long ago
	CodeYoungerThan                 // the same, and accepted less than Code.YoungerThan ago
	CodeNone                        // none is asked; the first factor always is
)

// Code is a rule's demand for a one-time password. The zero Code asks always.
type Code struct {
	Kind        CodeKind
	YoungerThan time.Duration // only with CodeYoungerThan
	Fresh       bool          // typed in this connection: a remembered one does not count; of a rule, only with CodeAlways
}

// stricter reports whether c asks for more than other.
func (c Code) stricter(other Code) bool {
	strictness := [...]int{CodeNone: 0, CodeAlways: 1, CodeYoungerThan: 2}
	if c.Kind == other.Kind {
		return c.YoungerThan < other.YoungerThan
	}
	return strictness[c.Kind] > strictness[other.Kind]
}

// String gives the demand in words for people: "always", "fresh", "younger than 30m", "none".
func (c Code) String() string {
	switch {
	case c.Kind == CodeYoungerThan && c.Fresh:
		return "fresh and younger than " + formatDuration(c.YoungerThan)
	case c.Fresh:
		return "fresh"
	}
	switch c.Kind {
	case CodeYoungerThan:
		return "younger than " + formatDuration(c.YoungerThan)
	case CodeNone:
		return "none"
	}
	return "always"
}

// Mode says whether a session is recorded. The zero Mode is RecordRequired.
type Mode uint8

// Modes of recording, strictest first.
const (
	RecordRequired   Mode = iota // no recording, no session
	RecordBestEffort             // a gap is marked and raises an alert
	RecordOff
)

// String gives the word of the document: "required", "best-effort" or "off".
func (m Mode) String() string {
	switch m {
	case RecordBestEffort:
		return "best-effort"
	case RecordOff:
		return "off"
	}
	return "required"
}

// MarshalText writes the word that String gives.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Limits bound sessions. Zero fields set no bound. What is counted is open at once, on all nodes together.
type Limits struct {
	Idle         time.Duration // nothing typed and nothing shown
	KeyboardIdle time.Duration // nothing typed on any terminal of the session, whatever is shown
	Max          time.Duration

	Sessions       int // of one person under this rule
	UserSessions   int // of one person under all rules
	RuleSessions   int // of all people under this rule
	TargetSessions int // of all people at the target

	ConnectionSessions int // opened by one connection, from the menu or by jumps
	Channels           int // session channels and forwards of one session; at most MaxChannels
}

// MaxChannels is how many channels one connection may have open whatever a rule says.
const MaxChannels = 64

// smallest gives for each limit the stricter of two.
func (l Limits) smallest(other Limits) Limits {
	return Limits{
		Idle:               smallest(l.Idle, other.Idle),
		KeyboardIdle:       smallest(l.KeyboardIdle, other.KeyboardIdle),
		Max:                smallest(l.Max, other.Max),
		Sessions:           smallest(l.Sessions, other.Sessions),
		UserSessions:       smallest(l.UserSessions, other.UserSessions),
		RuleSessions:       smallest(l.RuleSessions, other.RuleSessions),
		TargetSessions:     smallest(l.TargetSessions, other.TargetSessions),
		ConnectionSessions: smallest(l.ConnectionSessions, other.ConnectionSessions),
		Channels:           smallest(l.Channels, other.Channels),
	}
}

// String gives the limits that are set as a rule has them, such as "idle: 15m, sessions: 3".
func (l Limits) String() string {
	var parts []string
	for _, d := range l.durations() {
		if d.value > 0 {
			parts = append(parts, d.key+": "+formatDuration(d.value))
		}
	}
	for _, c := range l.counts() {
		if c.value > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", c.key, c.value))
		}
	}
	return strings.Join(parts, ", ")
}

// durationLimit and countLimit are one limit with its key in the document.
type durationLimit struct {
	key   string
	value time.Duration
}

type countLimit struct {
	key        string
	value, max int
}

func (l Limits) durations() []durationLimit {
	return []durationLimit{{"idle", l.Idle}, {"keyboard-idle", l.KeyboardIdle}, {"max", l.Max}}
}

func (l Limits) counts() []countLimit {
	return []countLimit{
		{"sessions", l.Sessions, maxCount}, {"user-sessions", l.UserSessions, maxCount}, {"rule-sessions", l.RuleSessions, maxCount},
		{"target-sessions", l.TargetSessions, maxCount}, {"connection-sessions", l.ConnectionSessions, maxCount},
		{"channels", l.Channels, MaxChannels},
	}
}

// New makes a document from parts, checked as Parse checks a file. Errors name the rule and the field.
func New(networks map[string][]netip.Prefix, rules []Rule) (*Document, error) {
	for _, name := range slices.Sorted(maps.Keys(networks)) {
		if err := checkNetwork(name, networks[name]); err != nil {
			return nil, fmt.Errorf("network %s: %w", quote(name), err)
		}
	}
	d := &Document{Version: 1, Networks: networks, Rules: rules}
	if err := d.compile(); err != nil {
		return nil, err
	}
	return d, nil
}

// TakesPasswordCode tells whether any rule takes a code in the password field.
func (d *Document) TakesPasswordCode() bool {
	return d != nil && slices.ContainsFunc(d.Rules, func(r Rule) bool { return r.PasswordCode })
}

// compile turns every rule into its matcher. The error is a *ruleError.
func (d *Document) compile() error {
	compiled, err := compileRules(d.Rules, d.Networks)
	if err != nil {
		return err
	}
	d.compiled = compiled
	return nil
}

// matchers gives the compiled rules without changing the document, so that one put together by hand
// decides as well, only more slowly.
func (d *Document) matchers() ([]matcher, error) {
	if len(d.compiled) == len(d.Rules) {
		return d.compiled, nil
	}
	return compileRules(d.Rules, d.Networks)
}

// KindsFor lists the channel kinds that some rule could allow on target, whoever asks and from
// wherever, in the order of [Kinds]. Kinds that an earlier rule denies to everybody are left out. It is
// what decides the options of the authorized_keys line on the target.
func (d *Document) KindsFor(target Target) []string {
	if d == nil {
		return nil
	}
	compiled, err := d.matchers()
	if err != nil {
		return nil
	}
	var could, closed kindSet
	for i := range compiled {
		m := &compiled[i]
		if !m.matchesTarget(target) {
			continue
		}
		if m.allow {
			could |= m.kinds &^ closed
		} else if m.unconditional() {
			closed |= m.kinds &^ m.limited()
		}
	}
	return (could & sshKinds).words()
}
