package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sallyport/identity"
	"sallyport/policy"
	"sallyport/store"
)

// Pending is what a conversation keeps while a machine asks the person for the code: it goes on with another request,
// which may come to another node. It holds the password and has to be sealed.
type Pending struct{ kept kept }

type kept struct {
	Password string `json:"password"`
	SentTo   string `json:"sent_to,omitempty"` // id of the person; "": no code was asked for
	Refused  bool   `json:"refused,omitempty"` // the password was looked at and refused, which has counted
	Again    int    `json:"again,omitempty"`   // how often another code was asked for
}

const pendingText = "[pending]"

// Format writes a placeholder whatever the verb is.
func (Pending) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(pendingText)) }

// LogValue returns a placeholder.
func (Pending) LogValue() slog.Value { return slog.StringValue(pendingText) }

// MarshalText returns a placeholder.
func (Pending) MarshalText() ([]byte, error) { return []byte(pendingText), nil }

// Secret is p for a place where it is sealed.
func (p *Pending) Secret() []byte {
	b, err := json.Marshal(p.kept)
	if err != nil {
		panic(err) // there is nothing in it that could be the cause
	}
	return b
}

// PendingOf reads what [Pending.Secret] has written.
func PendingOf(secret []byte) (*Pending, error) {
	var p Pending
	if err := json.Unmarshal(secret, &p.kept); err != nil {
		return nil, errors.New("reading what a conversation has kept: it has another form") // and the password does not belong into an error
	}
	return &p, nil
}

// errBefore is why somebody is refused whose password was refused when it came. That has counted and is in the log.
var errBefore = fmt.Errorf("%w, when it came", ErrPassword)

// RunPassword takes the password, in.Both, of a person whom a machine can ask for the code afterwards. Without an error
// the person is in, or the code is to be asked for: then [Conversation.RunCode] goes on with the Pending. Everybody comes
// to that at the same times, as in [Conversation.Run].
//
// The password is looked at only if it can lead to something: a code is sent, or the person needs none.
func (c *Conversation) RunPassword(ctx context.Context, in Answers) (*Identity, *Pending, error) {
	answered := c.e.cfg.Now()
	ctx = context.WithoutCancel(ctx)
	c.steps = true
	c.WithPassword(in.Both.Password)
	p := &Pending{kept{Password: string(in.Both.Password)}}
	remembers := in.Remember > 0 && in.Station != ""
	if c.pause() == 0 && !remembers {
		return nil, p, nil
	}
	k := &known{subject: c.lookup(ctx), needCode: true}
	id, err := c.afterPassword(ctx, k, p, in, remembers)
	switch {
	case errors.Is(err, errAskCode):
		c.e.waitForGrid(answered, max(c.pause(), promptGrid))
		return nil, p, nil
	case err != nil:
		c.e.waitForGrid(answered, c.e.cfg.Grid)
		return nil, nil, c.refused(err)
	}
	return id, nil, nil
}

// sendsAt tells whether codes can be sent where r is about: not for a RADIUS client that has one field for everything.
func (e *Engine) sendsAt(ctx context.Context, r ExplainRequest) (bool, error) {
	if r.Channel != policy.RADIUS {
		return true, nil
	}
	c, err := e.cfg.Store.RadiusClients.ByName(ctx, r.Target)
	return c.Mode == store.RadiusChallenge, err
}

// pause is the grid on which everybody is asked for the code; 0: nothing of a person is looked at before.
func (c *Conversation) pause() time.Duration {
	switch {
	case c.sendsHere():
		return c.e.cfg.Grid
	case c.e.cfg.EnrolAtLogin, c.e.cfg.WithoutToken.Logins > 0:
		return enrolGrid
	}
	return 0
}

// refused is what a machine hears. Who has proved a password and has no token is told where to get one.
func (c *Conversation) refused(cause error) *Refused {
	r := refused(cause)
	if errors.Is(cause, errEnrolFirst) {
		r.Public = "You have no token yet. " + c.e.enrolWhere() + " Then sign in again."
	}
	return r
}

// afterPassword does what is to be done between password and code, and writes the event of a refusal. errAskCode: the code
// is to be asked for.
func (c *Conversation) afterPassword(ctx context.Context, k *known, p *Pending, in Answers, remembers bool) (*Identity, error) {
	err := c.askRules(ctx, k)
	if err == nil && remembers {
		err = c.recallStation(ctx, k, in.Station)
	}
	var id *Identity
	if err == nil && !k.needCode {
		id, err = c.evaluate(ctx, k, "", c.accepted)
	}
	switch {
	case err != nil:
		c.reportRefusal(ctx, k.subject, err)
		return nil, err
	case id != nil:
		return id, nil
	}
	if by := c.sends(k); by != "" {
		switch err := c.sendAfterFirst(ctx, k, by); { // which writes the event
		case errors.Is(err, ErrUnavailable):
			return nil, err
		case err != nil:
			p.kept.Refused = true
		default:
			p.kept.SentTo = c.sending.userID
		}
		return nil, errAskCode
	}
	id, err = c.withoutToken(ctx, k)
	if err == nil || errors.Is(err, errAskCode) {
		return id, err
	}
	c.reportRefusal(ctx, k.subject, err)
	if errors.Is(err, ErrUnavailable) || errors.Is(err, errEnrolFirst) {
		return nil, err
	}
	p.kept.Refused = true
	return nil, errAskCode
}

// RunCode goes on with what [Conversation.RunPassword] has kept: in.Code is what the person typed. An empty answer or "r"
// asks for another code where codes are sent; then there is a Pending again, for everybody.
func (c *Conversation) RunCode(ctx context.Context, p *Pending, in Answers) (*Identity, *Pending, error) {
	started := c.e.cfg.Now()
	ctx = context.WithoutCancel(ctx)
	c.steps = true
	if p.kept.SentTo != "" {
		done := make(chan struct{})
		close(done) // by whichever node it was
		c.sending = &sending{userID: p.kept.SentTo, done: done}
	}
	if c.sendsHere() && p.kept.Again < maxResends && asksAgain(in.Code) {
		next := *p
		next.kept.Again++
		k := &known{subject: c.lookup(ctx), needCode: true}
		err := c.askRules(ctx, k)
		if by := c.sends(k); err == nil && by != "" && c.sending != nil && k.subject.user != nil && k.subject.user.ID == p.kept.SentTo {
			c.sending.by = by
			c.sendAgain(ctx, k)
		}
		c.e.waitForGrid(started, promptGrid)
		return nil, &next, nil
	}
	if p.kept.Refused {
		c.e.waitForGrid(started, c.e.cfg.Grid)
		return nil, nil, refused(errBefore)
	}
	in.Both = &Both{Password: identity.Password(p.kept.Password), Code: in.Code}
	id, err := c.RunAnswers(ctx, in)
	return id, nil, err
}

// Decide is [Engine.Authorize] for whom this conversation has let in and the client that asks for them. The error is
// infrastructure only. Where a code was typed just now it was decided and written together with the acceptance.
func (c *Conversation) Decide(ctx context.Context, id Identity) (Decision, error) {
	if c.decided != nil {
		return *c.decided, nil
	}
	return c.e.Authorize(ctx, id, c.request())
}

// errEnrolFirst is why somebody is refused who has proved a password and has nothing to type as a code.
var errEnrolFirst = fmt.Errorf("%w, and was told where to set one up", ErrNoToken)

// withoutToken deals with a person who has no token, once the password has turned out to be right: they are let in
// without a code where that is allowed, or told where to set up a token. errAskCode: neither is for them.
func (c *Conversation) withoutToken(ctx context.Context, k *known) (*Identity, error) {
	switch {
	case c.mayEnterFree(k):
		f := c.e.free()
		id, err := c.evaluate(ctx, &known{subject: k.subject, target: k.target, decision: k.decision, lockout: k.lockout, free: &f}, "", c.accepted)
		if err == nil {
			id.Notice = c.freeText(ctx, k.subject, id, f)
		}
		return id, err
	case c.mayEnrolElsewhere(k):
		if _, err := c.proveFirst(ctx, k); err != nil {
			return nil, err
		}
		return nil, errEnrolFirst
	}
	return nil, errAskCode
}

// mayEnrolElsewhere tells whether the person, at a door of machines, would be let in had they a token, and may set one up
// with a password alone.
func (c *Conversation) mayEnrolElsewhere(k *known) bool {
	return c.e.cfg.EnrolAtLogin && c.a.Channel != "" && !c.elsewhere && k.needCode && k.decision != nil && k.decision.Allow && c.mayEnrol(k.subject)
}

// enrolWhere says where a person without a token gets one, in a text that others can read: no link that is worth anything.
func (e *Engine) enrolWhere() string {
	switch {
	case e.cfg.EnrolAtLogin && e.cfg.URL != "":
		return "Set up a token at " + e.cfg.URL + EnrolHere + "."
	case e.cfg.EnrolAtLogin:
		return "Sign in by SSH to set up a token."
	}
	return "Ask an operator for a token."
}
