package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"sallyport/identity"
	"sallyport/otp"
	"sallyport/policy"
	"sallyport/store"
)

// Answers are all that a person has typed, from a door whose protocol brings it at once.
type Answers struct {
	// One of these three forms. Without any nobody is let in.
	Elsewhere bool              // Code alone: the machine that asks has checked the first factor
	Joined    identity.Password // password and code in one
	Both      *Both             // each for itself

	Code string // with Elsewhere

	Separator string // between the two of Joined, looked for from the right; "": the code is as long as those of the person's tokens

	// Matches judges a code that was not sent itself but proved (CHAP), instead of Code; nil: it was sent.
	Matches func(code string) bool

	// Remember is how long the machine may ask again for the person without a new code, with the same Station; 0: never.
	// It needs a password, each time.
	Remember time.Duration
	Station  string // from which device the person comes, in the machine's words
}

// Both is a password and the code after it.
type Both struct {
	Password identity.Password
	Code     string
}

// errRules is why a machine is refused a person who has proved who they are. Nothing was guessed, so nothing counts.
var errRules = fmt.Errorf("%w", ErrDenied)

// RunAnswers evaluates answers in the order of every conversation: lock, code, first factor, and then the rules. The
// error is a *[Refused]; all of them come on the time grid, which begins with the call. Without an error the person
// is in, and the door asks [Engine.Authorize] for what the rule says.
func (c *Conversation) RunAnswers(ctx context.Context, in Answers) (*Identity, error) {
	started := c.e.cfg.Now()
	ctx = context.WithoutCancel(ctx)
	k := &known{subject: c.lookup(ctx), needCode: true}
	id, err := c.answers(ctx, k, in)
	if err != nil {
		c.reportRefusal(ctx, k.subject, err)
		c.e.waitForGrid(started, c.e.cfg.Grid)
		return nil, c.refused(err)
	}
	return id, nil
}

func (c *Conversation) answers(ctx context.Context, k *known, in Answers) (*Identity, error) {
	if err := c.askRules(ctx, k); err != nil {
		return nil, err
	}
	code := in.Code
	c.WithPassword("")
	switch {
	case in.Both != nil:
		c.WithPassword(in.Both.Password)
		code = in.Both.Code
	case in.Joined != "":
		c.joined = &joined{typed: string(in.Joined), separator: in.Separator}
		if password, whole, ok := c.joined.separated(); ok {
			c.WithPassword(identity.Password(password))
			code = whole
		}
	case in.Elsewhere:
		c.elsewhere = true
	}
	c.matches = in.Matches
	remembers := in.Remember > 0 && in.Station != "" && !c.elsewhere
	if remembers {
		if err := c.recallStation(ctx, k, in.Station); err != nil {
			return nil, err
		}
	}
	if c.joined != nil && (c.mayEnterFree(k) || c.mayEnrolElsewhere(k)) {
		if code == "" { // there is no token by which to tell where a code would begin
			c.WithPassword(in.Joined)
		}
		return c.withoutToken(ctx, k)
	}
	if s := c.sending; s != nil && (k.tokenOnly || k.subject.user == nil || k.subject.user.ID != s.userID) {
		c.sending = nil
	}
	id, err := c.evaluate(ctx, k, code, c.accepted)
	if err != nil {
		return nil, err
	}
	if remembers && k.needCode && !k.decision.Code.Fresh {
		g := store.RadiusGrant{
			UserID: id.UserID, ClientID: k.decision.Target.ID, Station: in.Station, CodeAt: id.CodeAt, Expires: id.CodeAt.Add(in.Remember), Assurance: store.FromToken,
		}
		if id.onlySent() {
			g.Assurance = store.FromSent
		}
		_ = c.e.cfg.Store.RadiusGrants.Put(ctx, g) // without it the person types a code once more
	}
	return id, nil
}

// Refuse ends a conversation that came to nothing for a reason that the door knows, on the time grid. Nothing counts.
func (c *Conversation) Refuse(ctx context.Context, cause error) error {
	started := c.e.cfg.Now()
	ctx = context.WithoutCancel(ctx)
	c.reportRefusal(ctx, c.lookup(ctx), cause)
	c.e.waitForGrid(started, c.e.cfg.Grid)
	return refused(cause)
}

// askRules asks what the rules say of the machine that asks for the person.
func (c *Conversation) askRules(ctx context.Context, k *known) error {
	s := k.subject
	if s.err != nil {
		return nil // who is refused anyway
	}
	ctx, cancel := context.WithTimeout(ctx, c.e.cfg.Budget)
	defer cancel()
	now := c.e.cfg.Now()
	d, err := c.e.decide(ctx, person{login: s.login, groups: s.groups()}, c.request(), now)
	if err != nil {
		return err
	}
	k.decision, k.decidedAt = &d, now
	if d.Allow {
		k.lockout, k.tokenOnly = d.Lockout, d.TokenOnly
	}
	return nil
}

// recallStation looks whether a code of this person is remembered for the station.
func (c *Conversation) recallStation(ctx context.Context, k *known, station string) error {
	s := k.subject
	if s.err != nil || s.user == nil || k.decision == nil || !k.decision.Allow || k.decision.Code.Fresh {
		return nil
	}
	g, err := c.e.cfg.Store.RadiusGrants.Find(ctx, s.user.ID, k.decision.Target.ID, station)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case k.decision.Code.Kind == policy.CodeYoungerThan && c.e.cfg.Now().Sub(g.CodeAt) > k.decision.Code.YoungerThan:
		return nil
	case k.decision.TokenOnly && g.Assurance != store.FromToken:
		return nil
	}
	k.needCode, c.rememberedAt = false, g.CodeAt
	if c.joined != nil {
		if err := c.e.loadTokens(ctx, &s); err != nil {
			return err
		}
		c.joined.partRemembered(s.tokens)
		c.WithPassword(identity.Password(c.joined.password))
	}
	return nil
}

// joined is a password and a code that came as one.
type joined struct {
	typed, separator string
	password         string // once it is known where the code begins
}

// separated parts what was typed at the last separator, if there is to be one. Neither part is empty.
func (j *joined) separated() (password, code string, ok bool) {
	at := strings.LastIndex(j.typed, j.separator)
	if j.separator == "" || at <= 0 || at+len(j.separator) == len(j.typed) {
		return "", "", false
	}
	return j.typed[:at], j.typed[at+len(j.separator):], true
}

// split parts what was typed where a code of so many digits begins. A code without a password is none.
func (j *joined) split(digits int) (password, code string, ok bool) {
	if j.separator != "" {
		return j.separated()
	}
	at := len(j.typed) - digits
	if at <= 0 || strings.Trim(j.typed[at:], "0123456789") != "" {
		return "", "", false
	}
	return j.typed[:at], j.typed[at:], true
}

// partRemembered finds the password where the code does not matter: without what may be one.
func (j *joined) partRemembered(tokens []store.TokenSecret) {
	j.password = j.typed
	for _, t := range tokens {
		if password, _, ok := j.split(t.Digits); ok && len(password) < len(j.password) {
			j.password = password
		}
	}
}

// codeFor is what a token judges of what was typed.
func (c *Conversation) codeFor(t *store.TokenSecret, code string) string {
	switch {
	case c.matches != nil:
		return c.e.proved(t, c.matches)
	case c.joined == nil:
		return code
	}
	_, code, _ = c.joined.split(t.Digits)
	return code
}

// provedSteps is how far from now, or ahead of a counter, a code is looked for that was proved and not sent.
const provedSteps = 21

// proved finds the code of a token that matches. Whether it is good is judged as of any other.
func (e *Engine) proved(t *store.TokenSecret, matches func(string) bool) string {
	p := ParamsOf(t.Token)
	first, last := t.LastStep-2, t.LastStep+provedSteps
	if p.Kind != otp.HOTP {
		now := p.StepAt(e.cfg.Now())
		first, last = now-provedSteps, now+provedSteps
	}
	for step := max(first, 0); step <= last; step++ {
		if code := p.Code(otp.Secret(t.Secret), step); matches(code) {
			return code
		}
	}
	return ""
}

// part takes the password that stands before the code of a token.
func (c *Conversation) part(hit *store.TokenSecret) {
	if c.joined != nil {
		password, _, _ := c.joined.split(hit.Digits)
		c.WithPassword(identity.Password(password))
	}
}

// pairKind is the kind of the counter that a wrong code is remembered with.
func (c *Conversation) pairKind() string {
	if c.a.Peer != "" {
		return kindPeer
	}
	return kindPair
}

// radiusClient is a RADIUS client as rules see it.
func (e *Engine) radiusClient(ctx context.Context, name string) (store.Target, error) {
	r, err := e.cfg.Store.RadiusClients.ByName(ctx, name)
	return store.Target{ID: r.ID, Name: r.Name}, err
}

// detail is what events say of an attempt.
func (a Attempt) detail() map[string]string {
	d := map[string]string{"client": a.Client}
	maps.Copy(d, a.Detail)
	return d
}

// sourceText is an address for an event; "" if it is not known.
func sourceText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
