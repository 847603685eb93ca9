// Package audit defines the events that must be provable later: who did what, from where, through
// which door, to which target, with what result and why. It has no I/O and no clock: package
// internal/auditlog decides where events go, package store keeps them.
package audit

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Result is how the thing that an event tells of ended.
type Result string

// Results. Infrastructure failures are Error and never count against a person.
const (
	OK      Result = "ok"
	Refused Result = "refused"
	Error   Result = "error"
)

// Doors: the entry points a person or a program comes through.
const (
	DoorSSH     = "ssh"
	DoorWeb     = "web"     // pages of administrators and of people, and their sign-in
	DoorAPI     = "api"     // JSON API with a token
	DoorConsole = "console" // JSON API over the unix socket: whoever owns the data folder
	DoorNode    = "node"    // the server itself
	DoorRADIUS  = "radius"  // VPN servers, gateways and the like, which ask for people
)

// Types of events. The list is part of what outside scripts rely on: names are added, never changed.
const (
	LoginAccepted  = "login.accepted"   // a conversation ended with a verdict for the person
	LoginRefused   = "login.refused"    // … or against
	CodeReplayed   = "code.replayed"    // a right code that was already used: somebody may have stolen it
	TokenEnrolled  = "token.enrolled"   // a person proved a new token by a code
	GrantsRevoked  = "grants.revoked"   // a person trusts no place any more: codes are asked for again
	CodeSent       = "code.sent"        // a one-time code was sent to a person by mail or SMS, or could not be
	MessageFailed  = "message.failed"   // a mail or short message was given up
	ConnEnded      = "connection.ended" // a person who was let in may do nothing any more, and had no session open
	PlacesMany     = "places.many"      // a person signed in from many new addresses in a short time
	LockoutSet     = "lockout.set"      // failures reached a limit
	AccessDecided  = "access.decided"   // a rule allowed or refused a target or a channel
	SessionStarted = "session.started"  // the upstream connection of a session is open
	TokenNotTaken  = "token.not-taken"  // somebody wanted a token out of the stock and did not get it
	TokenResynced  = "token.resynced"   // two codes in a row told where a token is
	RecoveryUsed   = "recovery.used"    // a recovery code was taken in the place of a token's code
	BypassUsed     = "bypass.used"      // … or a code that an operator gave out
	CodeProved     = "code.proved"      // a person who is signed in typed a fresh code for a change, or a wrong one
	AccountChanged = "account.changed"  // a person changed their own tokens, codes, keys or web sessions
	AccountAlarm   = "account.alarm"    // a person said that somebody else has signed in as them, and is locked
	ClockDoubted   = "clock.doubted"    // many tokens moved the same way: the server's clock is wrong
	SessionEnded   = "session.ended"
	SessionWatched = "session.watched"   // somebody begins, or has ended, to watch an open session
	Moderation     = "session.moderated" // a session that needs a moderator goes on, or stands still

	ApprovalRequested = "approval.requested" // a person waits for others to agree to a session
	ApprovalDecided   = "approval.decided"   // somebody agreed or refused, or tried to
	ApprovalWithdrawn = "approval.withdrawn" // the person left, or may not have the session any more
	ApprovalExpired   = "approval.expired"   // nobody decided in time

	ChannelStarted = "channel.started"
	ChannelEnded   = "channel.ended"
	ChannelRefused = "channel.refused" // a channel or request that is not allowed or not understood
	MenuOpened     = "menu.opened"     // a person was shown what they may reach
	RecordLimit    = "recording.limit" // from here on bytes are counted and hashed, not kept
	RecordFailed   = "recording.failed"
	BreakGlassUsed = "breakglass.used"   // a session goes on without the recording that its rule requires, because the rule says break-glass
	Restored       = "audit.restored"    // the database came from a backup, and what the log has lost by that is known
	RecordSealed   = "recording.sealed"  // what a dead node left behind was completed
	RecordDeleted  = "recording.deleted" // its time was over
	HostKeyTrusted = "hostkey.trusted"   // first use
	HostKeyRefused = "hostkey.refused"   // unknown or changed
	OperatorChange = "operator.change"   // users, tokens, targets, rules, lockouts, administrators
	OperatorView   = "operator.view"     // somebody replayed or exported a recording
	NodeStarted    = "node.started"
	NodeStopped    = "node.stopped"
	ConnRefused    = "connection.refused" // the guard turned a connection away
)

// RadiusAccounting is that a RADIUS client tells that a person came or went.
const RadiusAccounting = "radius.accounting"

// Event is one line of the audit log. Empty fields are left out of JSON. Every string may hold
// what a stranger typed: use [Escape] before a terminal or a log sees it.
type Event struct {
	ID      string            `json:"id"`   // UUIDv7, set when the event is emitted
	Time    time.Time         `json:"time"` // UTC, set when the event is emitted
	Type    string            `json:"type"`
	Result  Result            `json:"result"`
	Door    string            `json:"door,omitempty"`
	User    string            `json:"user,omitempty"`   // login as far as known; verified only if Result is ok
	Actor   string            `json:"actor,omitempty"`  // operator who did it, if not User
	Source  string            `json:"source,omitempty"` // address of the client
	Target  string            `json:"target,omitempty"`
	Account string            `json:"account,omitempty"`
	Session string            `json:"session,omitempty"`
	Rule    string            `json:"rule,omitempty"`
	Reason  string            `json:"reason,omitempty"` // cause in words for the operator
	Node    string            `json:"node,omitempty"`
	Detail  map[string]string `json:"detail,omitempty"`
}

// Escaped returns a copy of e in which no field can move a cursor or forge a line.
func (e Event) Escaped() Event {
	for _, f := range []*string{&e.User, &e.Actor, &e.Source, &e.Target, &e.Account, &e.Session, &e.Rule, &e.Reason, &e.Node} {
		*f = Escape(*f)
	}
	if len(e.Detail) > 0 {
		d := make(map[string]string, len(e.Detail))
		for k, v := range e.Detail {
			d[Escape(k)] = Escape(v)
		}
		e.Detail = d
	}
	return e
}

// maxText bounds one field of an event; a name of 250 KB must not fill the log.
const maxText = 4096

// maxQuote is what an error repeats of something that was typed, in characters.
const maxQuote = 100

// Quote returns s in quotation marks and escaped by [Escape], cut to 100 characters: what errors say of what was typed.
// (%q would write the backslashes of Escape twice.)
func Quote(s string) string {
	n := 0
	for i := range s {
		if n++; n > maxQuote {
			s = s[:i] + "…"
			break
		}
	}
	return `"` + Escape(s) + `"`
}

// Escape returns s with control characters, invalid UTF-8 and characters that reorder or hide text
// (bidirectional marks, zero-width characters) written as backslash escapes, cut to 4096 bytes.
// Escape(Escape(s)) == Escape(s) as long as s fits.
func Escape(s string) string {
	if len(s) > maxText {
		cut := maxText
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	if !strings.ContainsFunc(s, dangerous) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[s[i]>>4])
			b.WriteByte(hexDigits[s[i]&15])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case dangerous(r):
			b.WriteString(`\u{`)
			for shift, seen := 20, false; shift >= 0; shift -= 4 {
				d := r >> shift & 15
				seen = seen || d != 0 || shift == 0
				if seen {
					b.WriteByte(hexDigits[d])
				}
			}
			b.WriteByte('}')
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

const hexDigits = "0123456789abcdef"

// dangerous tells whether r may not reach a log line, page or terminal as it is. Cf is format
// characters (bidirectional overrides, zero-width joiners), Zl and Zp are line separators.
func dangerous(r rune) bool {
	if r < utf8.RuneSelf { // as nearly all of them are
		return r < ' ' || r == 0x7f
	}
	return unicode.IsControl(r) || r == utf8.RuneError || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}
