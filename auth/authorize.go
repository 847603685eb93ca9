package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/policy"
	"sallyport/store"
)

// Request asks whether a person may do something now.
type Request struct {
	Target  string
	PeerID  string // of a RADIUS client, as in [Attempt]
	Account string // "": the first account of the target that the rules allow
	Channel string // a channel word of the rules; "": may the person reach the target at all
	To      string // of a forward: host:port as asked for, IPv6 in brackets
	Command string // of a channel on which a command runs, byte for byte; "": a shell, or a subsystem
	Source  netip.Addr
}

// Decision is the answer, with the trace that explain prints.
type Decision struct {
	policy.Decision
	Target       store.Target
	Account      string // the account decided on
	RulesVersion int64
	SentBy       string // of [Engine.Explain]: the person has no token, and after the first factor is sent a code by this
	Enrols       bool   // of [Engine.Explain]: the person has no token, and enrols one after the first factor
	Refusal      string // one line for the person when Allow is false; names no target they may not know of
	NeedsCode    bool   // it is a one-time code that is missing: with one the answer would be yes
	NoToken      bool   // … of a token, and the person has none
}

// ExplainRequest is a question about anybody at any time.
type ExplainRequest struct {
	User, Target, Account, Channel string
	To                             string // of a forward, as in [Request]
	Source                         netip.Addr
	At                             time.Time
}

// person is the who of a decision.
type person struct {
	login  string
	groups []string
	tokens int // set by [Engine.standing] alone
}

// parsedRules keeps the parsed form of one version of the rules.
type parsedRules struct {
	version int64
	doc     *policy.Document
}

// Rules returns the rules in force and their version. Without any rules the document is nil, which
// denies everything.
func (e *Engine) Rules(ctx context.Context) (*policy.Document, int64, error) {
	version, err := e.cfg.Store.Rules.Version(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: reading the version of the rules: %w", ErrUnavailable, err)
	}
	e.mu.Lock()
	cached := e.rules
	e.mu.Unlock()
	if cached.version == version {
		return cached.doc, version, nil
	}
	set, err := e.cfg.Store.Rules.Current(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: reading the rules: %w", ErrUnavailable, err)
	}
	doc, err := policy.Parse([]byte(set.Text))
	if err != nil {
		return nil, 0, fmt.Errorf("%w: parsing version %d of the rules: %w", ErrUnavailable, set.Version, err)
	}
	e.mu.Lock()
	e.rules = parsedRules{version: set.Version, doc: doc}
	e.mu.Unlock()
	return doc, set.Version, nil
}

// Authorize decides whether id may do r now. The person's row is read afresh, so that a lock or a
// changed rule holds for the next channel of a connection that is already open. The error is
// infrastructure only; whoever gets one must refuse.
func (e *Engine) Authorize(ctx context.Context, id Identity, r Request) (Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Budget)
	defer cancel()
	d, err := e.preview(ctx, id, r, true)
	if err != nil {
		return Decision{}, err
	}
	return d, e.reportDecision(ctx, decisionEvent(id, r, d))
}

// Decide is [Engine.Authorize], but for the event of what is allowed: whoever asks writes it, in one transaction with
// what they open, or alone if they open nothing. For what is refused it is empty, and was written.
func (e *Engine) Decide(ctx context.Context, id Identity, r Request) (d Decision, allowed audit.Event, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Budget)
	defer cancel()
	if d, err = e.preview(ctx, id, r, true); err != nil {
		return Decision{}, audit.Event{}, err
	}
	event := decisionEvent(id, r, d)
	if d.Allow {
		return d, event, nil
	}
	return d, audit.Event{}, e.reportDecision(ctx, event)
}

// Preview answers as [Engine.Authorize] would and leaves no event: for people who ask what they may. It
// opens nothing.
func (e *Engine) Preview(ctx context.Context, id Identity, r Request) (Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Budget)
	defer cancel()
	return e.preview(ctx, id, r, false)
}

// preview notes with note what of a remembered code is used.
func (e *Engine) preview(ctx context.Context, id Identity, r Request, note bool) (Decision, error) {
	now := e.cfg.Now()
	if id.Robot != "" {
		return e.decideRobot(ctx, id, r, now)
	}
	who, locked, err := e.standing(ctx, id, now)
	if err != nil {
		return Decision{}, err
	}
	d, err := e.decide(ctx, who, r, now)
	if err != nil {
		return Decision{}, err
	}
	switch {
	case locked:
		d.Allow, d.Refusal = false, publicLocked
	case id.Certificate.forbids(r) != "":
		d.Allow, d.Refusal = false, id.Certificate.forbids(r)
	case d.Allow:
		if err := e.demandCode(ctx, &d, id, now, note); err != nil {
			return Decision{}, err
		}
		if d.NeedsCode && d.TokenOnly && who.tokens == 0 {
			d.NoToken = true
			d.Refusal = fmt.Sprintf("%s needs a code from a token; one that was sent by mail or SMS does not do there. Ask an operator for a token.", d.Target.Name)
		}
	}
	return d, nil
}

// publicLocked is what a person reads whose row was locked or removed after the verdict.
const publicLocked = "Your account is locked. Ask an operator."

// standing reads the person's row afresh: locked tells that they may do nothing any more.
func (e *Engine) standing(ctx context.Context, id Identity, now time.Time) (who person, locked bool, err error) {
	u, err := e.cfg.Store.Users.ByID(ctx, id.UserID)
	gone := errors.Is(err, store.ErrNotFound)
	if err != nil && !gone {
		return person{}, false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// The row is written at every login and at every look into the directory, so its groups are the newest.
	return person{login: id.Login, groups: u.Groups, tokens: u.Tokens}, gone || u.LockedNow(now), nil
}

// demandCode turns an allowing decision round when this connection has not proved what the rule asks.
func (e *Engine) demandCode(ctx context.Context, d *Decision, id Identity, now time.Time, note bool) error {
	if d.Code.Kind == policy.CodeNone {
		return nil
	}
	if id.CodeAt.IsZero() && id.withoutToken() {
		if demandsToken(*d) {
			d.Allow, d.NeedsCode = false, true
			d.Refusal = fmt.Sprintf("%s needs a code from a token, and you have none yet. Set one up first, or ask an operator.", d.Target.Name)
		}
		return nil
	}
	if id.CodeAt.IsZero() {
		taken, err := e.takesRemembered(ctx, *d, id, now, note)
		if err == nil && !taken {
			d.Allow, d.NeedsCode = false, true
			d.Refusal = fmt.Sprintf("%s needs a one-time code here; connect again to be asked for it.", d.Target.Name)
			if id.Trusted != nil {
				d.Refusal = fmt.Sprintf("%s needs a new one-time code. Type: ssh %s@%s@bastion, or forget this place first: ssh %s@bastion forget",
					d.Target.Name, id.Login, d.Target.Name, id.Login)
			}
		}
		return err
	}
	if d.TokenOnly && id.onlySent() {
		d.Allow, d.NeedsCode = false, true
		d.Refusal = fmt.Sprintf("%s needs a code from a token; one that was sent by mail or SMS does not do there. Connect again.", d.Target.Name)
		return nil
	}
	if d.Code.Kind == policy.CodeYoungerThan && now.Sub(id.CodeAt) > d.Code.YoungerThan {
		d.Allow, d.NeedsCode = false, true
		d.Refusal = fmt.Sprintf("%s needs a code younger than %s; yours is %s old. Connect again.",
			d.Target.Name, d.Code.YoungerThan, now.Sub(id.CodeAt).Round(time.Second))
	}
	return nil
}

func (e *Engine) reportDecision(ctx context.Context, event audit.Event) error {
	if err := e.cfg.Audit.Emit(ctx, event); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

func decisionEvent(id Identity, r Request, d Decision) audit.Event {
	ev := audit.Event{
		Type: audit.AccessDecided, Result: audit.OK, Door: id.Door, User: id.Login, Source: sourceText(r.Source),
		Target: r.Target, Account: d.Account, Rule: d.Rule, Detail: map[string]string{"rules-version": fmt.Sprint(d.RulesVersion)},
	}
	if r.Channel != "" {
		ev.Detail["channel"] = r.Channel
	}
	if r.To != "" {
		ev.Detail["to"] = r.To
	}
	if r.Command != "" && (id.Robot != "" || id.Certificate != nil) {
		ev.Detail["command"] = r.Command
	}
	if !d.Allow {
		ev.Result, ev.Reason = audit.Refused, d.Refusal
	}
	return ev
}

// Explain answers for anybody at any time, and asks nothing of what they have proved.
func (e *Engine) Explain(ctx context.Context, r ExplainRequest) (Decision, error) {
	s := e.lookup(ctx, r.User)
	switch {
	case errors.Is(s.err, ErrUnavailable):
		return Decision{}, s.err
	case errors.Is(s.err, ErrUnknownUser):
		return Decision{}, fmt.Errorf("user %s: %w", audit.Escape(r.User), store.ErrNotFound)
	}
	at := r.At
	if at.IsZero() {
		at = e.cfg.Now()
	}
	if s.robot != nil && s.err == nil {
		return e.explainRobot(ctx, *s.robot, r, at)
	}
	d, err := e.decide(ctx, person{login: s.login, groups: s.groups()},
		Request{Target: r.Target, Account: r.Account, Channel: r.Channel, To: r.To, Source: r.Source}, at)
	if err != nil {
		return d, err
	}
	if d.Target.ID == "" && r.Channel == policy.RADIUS {
		return d, fmt.Errorf("RADIUS client %s: %w", audit.Escape(r.Target), store.ErrNotFound)
	}
	if d.Target.ID == "" {
		return d, fmt.Errorf("target %s: %w", audit.Escape(r.Target), store.ErrNotFound)
	}
	sends, err := e.sendsAt(ctx, r)
	if err != nil {
		return d, err
	}
	if d.Allow && d.Code.Kind != policy.CodeNone && !d.TokenOnly && sends {
		d.SentBy = e.sendsBy(s)
	}
	d.Enrols = d.Allow && r.Channel != policy.RADIUS && d.Code.Kind != policy.CodeNone && d.SentBy == "" && e.cfg.EnrolAtLogin && (s.user == nil || s.user.Tokens == 0)
	if s.err != nil || (s.user != nil && s.user.LockedNow(at)) {
		d.Allow, d.Refusal = false, "The user is locked or disabled."
	}
	return d, nil
}

// decide asks the rules; nothing else in the program does.
func (e *Engine) decide(ctx context.Context, who person, r Request, at time.Time) (Decision, error) {
	doc, version, err := e.Rules(ctx)
	if err != nil {
		return Decision{}, err
	}
	d := Decision{RulesVersion: version, Account: r.Account}
	var t store.Target
	switch {
	case r.Channel == policy.RADIUS && r.PeerID != "":
		t = store.Target{ID: r.PeerID, Name: r.Target}
	case r.Channel == policy.RADIUS:
		t, err = e.radiusClient(ctx, r.Target)
	default:
		t, err = e.cfg.Store.Targets.ByName(ctx, r.Target)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		d.Refusal = noAccess(who, r.Target)
		return d, nil
	case err != nil:
		return d, fmt.Errorf("%w: reading target: %w", ErrUnavailable, err)
	}
	judge(&d, doc, who, t, r, at)
	if r.Channel == policy.RADIUS && (d.Approval != nil || d.Moderator != nil) {
		d.Allow, d.Refusal = false, "This rule asks that others agree or watch, and there is no place for them in RADIUS."
	}
	return d, nil
}

// judge asks doc for the account named, or for the target's accounts in order until one is allowed.
func judge(d *Decision, doc *policy.Document, who person, t store.Target, r Request, at time.Time) {
	d.Target = t
	for i, account := range candidates(t, who, r.Account) {
		got := doc.Decide(policy.Request{
			User: who.login, Groups: who.groups, Target: policy.Target{Name: t.Name, Labels: t.Labels},
			Account: account, Source: r.Source, Channel: r.Channel, To: r.To, At: at,
		})
		if i == 0 || got.Allow {
			d.Decision, d.Account = got, account
		}
		if got.Allow {
			break
		}
	}
	if !d.Allow {
		d.Refusal = refusal(who, r, *d)
	}
}

// candidates are the accounts to ask the rules for: the one named if the target has it, else the
// target's own in their order. A target without accounts takes the person's login, or any name.
func candidates(t store.Target, who person, named string) []string {
	accounts := t.Accounts
	if len(accounts) == 0 {
		accounts = []string{who.login}
		if named != "" {
			accounts = []string{named}
		}
	}
	switch {
	case named == "":
		return accounts
	case slices.Contains(accounts, named):
		return []string{named}
	}
	return nil
}

// refusal is what the person reads. A rule that denies with a message speaks for itself; everything
// else gives the one answer that an unknown target gets, so that targets cannot be listed by asking.
func refusal(who person, r Request, d Decision) string {
	if d.Message != "" {
		return fmt.Sprintf("Access to %s is refused: %s (rule %s).", d.Target.Name, printable(d.Message), d.Rule)
	}
	if r.To != "" {
		return fmt.Sprintf("%s to %s is not allowed through %s here. Ask an operator, who can run: sallyport explain --user %s --target %s --channel %s --to %s",
			r.Channel, printable(r.To), d.Target.Name, who.login, d.Target.Name, r.Channel, printable(r.To))
	}
	if r.Channel != "" {
		return fmt.Sprintf("%s is not allowed to %s here. Ask an operator, who can run: sallyport explain --user %s --target %s --channel %s",
			r.Channel, d.Target.Name, who.login, d.Target.Name, r.Channel)
	}
	return noAccess(who, r.Target)
}

func noAccess(who person, target string) string {
	if target == "" {
		return "No target was named. Type: ssh user@target@bastion"
	}
	name := printable(target)
	return fmt.Sprintf("There is no target %s, or no rule lets you in from here. Ask an operator, who can run: sallyport explain --user %s --target %s",
		name, who.login, name)
}

// printable keeps a line for people on one line and in ASCII: OpenSSH escapes anything else.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 200)])
}
