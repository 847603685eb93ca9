package admin

import (
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/otp"
	"sallyport/policy"
	"sallyport/store"
)

// timeOf makes a stored time one of the API: UTC, and nil if there is none.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// list makes a list of the API, never null, of stored things.
func list[S, W any](stored []S, wire func(S) W) []W {
	out := make([]W, 0, len(stored))
	for _, x := range stored {
		out = append(out, wire(x))
	}
	return out
}

func (s *Server) wireUser(u store.User) User {
	return User{
		ID: u.ID, Login: u.Login, Name: u.Name, Email: u.Email, Phone: u.Phone, CodeBy: u.CodeBy, Source: u.Source, Groups: append([]string{}, u.Groups...),
		Locked: u.LockedNow(s.cfg.Now()), LockReason: u.LockReason, LockedUntil: timeOf(u.LockedUntil),
		Lockout:     UserLockout{Failures: u.Lockout.Failures, Window: int64(u.Lockout.Window.Seconds()), Lock: int64(u.Lockout.Lock.Seconds())},
		HasPassword: u.HasPassword, Tokens: u.Tokens, Created: timeOf(u.Created), LastLogin: timeOf(u.LastLogin),
	}
}

func wireKey(k store.UserKey) UserKey {
	return UserKey{ID: k.ID, Name: k.Name, Fingerprint: k.Fingerprint, PublicKey: k.PublicKey, Created: timeOf(k.Created), LastUsed: timeOf(k.LastUsed)}
}

func (s *Server) wireToken(t store.Token) Token {
	w := Token{
		ID: t.ID, Name: t.Name, Kind: t.Kind, Algorithm: t.Algorithm, Digits: t.Digits, Period: t.Period,
		Hardware: t.Hardware, Serial: t.Serial, Enabled: t.Enabled, State: t.State(s.cfg.Now()), Expires: timeOf(t.Expires),
		Created: timeOf(t.Created), LastUsed: timeOf(t.LastUsed), Drift: t.Drift, Trend: trend(t), DriftMoved: timeOf(t.Moved),
	}
	if t.Kind == string(otp.HOTP) {
		w.Counter = t.LastStep + 1
	}
	return w
}

// trend says on which side of its drift a token was last seen.
func trend(t store.Token) string {
	switch {
	case t.Lean < 0:
		return "behind"
	case t.Lean > 0:
		return "ahead"
	}
	return "steady"
}

func wireAdmin(a store.Admin) Admin {
	return Admin{ID: a.UserID, Login: a.Login, Role: Role(a.Role), Created: timeOf(a.Created)}
}

func wireAPIToken(t store.APIToken) APIToken {
	return APIToken{ID: t.ID, Name: t.Name, Role: Role(t.Role), Created: timeOf(t.Created), LastUsed: timeOf(t.LastUsed), Expires: timeOf(t.Expires)}
}

func wireTarget(t store.Target) Target {
	labels := t.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	return Target{
		ID: t.ID, Name: t.Name, Address: t.Address, Via: viaText(t), Accounts: append([]string{}, t.Accounts...), Labels: labels,
		HostKeyMode: t.HostKeyMode, HostKeys: hostKeys(t.HostKeys), HostCAs: hostKeys(t.HostCAs), RevokedKeys: hostKeys(t.RevokedKeys),
		Credential: t.Credential, Lockout: t.Lockout, Note: t.Note, Created: timeOf(t.Created),
	}
}

func wireWaiting(w store.WaitingKey, t store.Target) WaitingHostKey {
	return WaitingHostKey{
		ID: w.ID, Target: w.Target, Address: w.Address, Key: w.Key, Fingerprint: fingerprintOf(w.Key), Known: hostKeys(t.HostKeys),
		Seen: w.Seen, First: timeOf(w.First), Last: timeOf(w.Last),
	}
}

// viaText is the jump host of t as people write it.
func viaText(t store.Target) string {
	if t.ViaAccount != "" {
		return t.ViaAccount + "@" + t.Via
	}
	return t.Via
}

// parseVia takes the name of a jump host apart: name, or account@name.
func parseVia(text string) (name, account string, err error) {
	name = text
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		account, name = text[:i], text[i+1:]
		if err := checkAccounts([]string{account}); err != nil {
			return "", "", err
		}
	}
	if text == "" {
		return "", "", nil
	}
	return name, account, checkTargetName(name)
}

// fingerprintOf the key in a line of authorized_keys.
func fingerprintOf(line string) string {
	key, _, err := parseKey(line)
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(key)
}

func hostKeys(lines []string) []HostKey {
	keys := []HostKey{}
	for _, line := range lines {
		if key, _, err := parseKey(line); err == nil {
			keys = append(keys, HostKey{Key: line, Fingerprint: ssh.FingerprintSHA256(key)})
		}
	}
	return keys
}

func wireRules(r store.RuleSet) Rules {
	return Rules{Version: r.Version, Text: r.Text, By: r.By, At: timeOf(r.At)}
}

func wireSession(x store.Session) Session {
	return Session{
		ID: x.ID, User: x.User, Target: x.Target, Address: x.Address, Account: x.Account, Source: x.Source, Client: x.Client,
		Node: x.Node, Rule: x.Rule, RecordingMode: x.Recording, KeyFingerprint: x.KeyFingerprint, State: x.State, Waits: waitsFor(x),
		Started: timeOf(x.Started), Ended: timeOf(x.Ended), Reason: x.Reason, Channels: list(x.Channels, wireChannel),
	}
}

// waitsFor is what a session waits for now; one that is over waits for nothing.
func waitsFor(x store.Session) string {
	if x.State != store.Live {
		return ""
	}
	return x.Waits
}

func wireChannel(c store.Channel) Channel {
	return Channel{
		ID: c.ID, Kind: c.Kind, Command: c.Command, Term: c.Term, ExitStatus: c.ExitStatus, ExitSignal: c.ExitSignal,
		BytesIn: c.BytesIn, BytesOut: c.BytesOut, Recording: c.Recording, SHA256: c.SHA256, Truncated: c.Truncated,
		Started: timeOf(c.Started), Ended: timeOf(c.Ended), FilesRead: c.FilesRead, FilesWritten: c.FilesWritten,
	}
}

func wireEvent(e audit.Event) AuditEvent {
	detail := e.Detail
	if detail == nil {
		detail = map[string]string{}
	}
	return AuditEvent{
		ID: e.ID, Time: timeOf(e.Time), Type: e.Type, Result: string(e.Result), Door: e.Door, User: e.User, Actor: e.Actor,
		Source: e.Source, Target: e.Target, Account: e.Account, Session: e.Session, Rule: e.Rule, Reason: e.Reason, Node: e.Node, Detail: detail,
	}
}

func wireLock(l store.Lock) Lockout {
	until := l.Until
	if !until.Before(store.Forever) {
		until = time.Time{}
	}
	return Lockout{ID: l.ID, Kind: l.Kind, Key: l.Key, Failures: l.Failures, Since: timeOf(l.Since), Until: timeOf(until),
		Author: l.Author, Reason: l.Reason}
}

func wireDecision(user string, d auth.Decision) Explanation {
	e := Explanation{
		Allow: d.Allow, Rule: d.Rule, User: user, Target: d.Target.Name, Account: d.Account,
		Channels: append([]string{}, d.Channels...), Code: codeWord(d.Code), TokenOnly: d.TokenOnly, PasswordCode: d.PasswordCode, RecordInput: d.RecordInput, BreakGlass: d.BreakGlass, SentBy: d.SentBy, Enrols: d.Enrols, Recording: d.Recording.String(), Observed: observedWord(d), Moderator: moderatorWords(d), RulesVersion: d.RulesVersion,
		Verdicts: list(d.Trace, func(v policy.Verdict) Verdict { return Verdict{Rule: v.Rule, Matched: v.Matched, Why: v.Why} }),
	}
	if d.Allow {
		e.Limits, e.Env, e.SFTP = d.Limits.String(), d.Env.String(), d.Files.String()
		if d.Approval != nil {
			e.Approval = d.Approval.String()
		}
	} else {
		e.Message = d.Refusal
	}
	if d.Code.Kind == policy.CodeYoungerThan {
		e.CodeMaxAge = int64(d.Code.YoungerThan.Seconds())
	}
	return e
}

func codeWord(c policy.Code) string {
	switch c.Kind {
	case policy.CodeNone:
		return "none"
	case policy.CodeYoungerThan:
		return "younger-than"
	}
	if c.Fresh {
		return "fresh"
	}
	return "always"
}
