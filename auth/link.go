package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sallyport/audit"
	"sallyport/identity"
	"sallyport/otp"
	"sallyport/store"
)

// PurposeEnrol is the purpose of the ticket by whose link a person enrols a token, see [Engine.NewEnrolLink].
const PurposeEnrol = "enrol"

// EnrolLinkLife is how long such a link is good.
const EnrolLinkLife = 24 * time.Hour

// ErrHasToken is why there is no link for a person: they have a token whose codes are accepted.
var ErrHasToken = errors.New("the person has a token")

// NewEnrolLink makes the ticket of a one-time link by which user enrols a token, in the place of any before.
// The error is [ErrHasToken] if there is a usable token: another one is added with its code, or an operator
// takes it away first. Whoever calls it leaves the audit event.
func (e *Engine) NewEnrolLink(ctx context.Context, user store.User) (ticket string, expires time.Time, err error) {
	usable, err := e.cfg.Store.Tokens.Usable(ctx, user.ID)
	if err != nil {
		return "", time.Time{}, err
	}
	if len(usable) > 0 {
		return "", time.Time{}, fmt.Errorf("making a link for %s: %w", user.Login, ErrHasToken)
	}
	if ticket, err = e.cfg.Store.Tickets.Replace(ctx, PurposeEnrol, user.ID, nil, EnrolLinkLife); err != nil {
		return "", time.Time{}, err
	}
	return ticket, e.cfg.Now().Add(EnrolLinkLife).UTC().Truncate(time.Second), nil
}

// EnrolHere is the page, below the address of the web, where a person without a token sets one up by a password alone. It
// is there if enrolment at login is on.
const EnrolHere = "/enrol"

// EnrolPath is where the link of a ticket leads, below the address of the web.
func EnrolPath(ticket string) string { return "/enrol?ticket=" + ticket }

// ProvePassword evaluates a password alone, under the same counters, lock and time grid as a login: for
// somebody whose one-time link stands in for the code. A success forgets no failures and lets nobody in.
func (e *Engine) ProvePassword(ctx context.Context, a Attempt, password identity.Password) (*Identity, error) {
	ctx = context.WithoutCancel(ctx) // a guess that was looked at is a guess that counts
	started := e.cfg.Now()
	c := e.Begin(a).WithPassword(password)
	k := &known{subject: c.lookup(ctx)}
	id, err := c.proveFirst(ctx, k)
	if err != nil {
		c.reportRefusal(ctx, k.subject, fmt.Errorf("enrolment: %w", err))
		e.waitForGrid(started, e.cfg.Grid)
		return nil, refused(err)
	}
	return id, nil
}

// errNotByPassword is why a password is not looked at that somebody wants to enrol with.
var errNotByPassword = errors.New("this person has a token, or is sent codes, and does not enrol by a password alone; the password was not looked at")

// EnrolsByPassword tells whether a person without a token may set one up with the password alone, at [EnrolHere].
func (e *Engine) EnrolsByPassword() bool { return e.cfg.EnrolAtLogin }

// ProveTokenless is [Engine.ProvePassword] for somebody who has no link. The password is looked at only if they may enrol
// with it: of whoever has a token, or is sent codes, nobody learns by this whether it was right.
func (e *Engine) ProveTokenless(ctx context.Context, a Attempt, password identity.Password) (*Identity, error) {
	ctx = context.WithoutCancel(ctx) // a guess that was looked at is a guess that counts
	started := e.cfg.Now()
	c := e.Begin(a).WithPassword(password)
	k := &known{subject: c.lookup(ctx)}
	var id *Identity
	err := k.subject.err
	if e.EnrolsByPassword() && (err != nil || c.mayEnrol(k.subject)) {
		id, err = c.proveFirst(ctx, k)
	} else if err == nil {
		err = errNotByPassword
	}
	if err != nil {
		c.reportRefusal(ctx, k.subject, fmt.Errorf("enrolment: %w", err))
		e.waitForGrid(started, e.cfg.Grid)
		return nil, refused(err)
	}
	return id, nil
}

// EnrolByLink makes en a token of the person whom use is about, once code proves that they have it; the link
// is used up with it. ErrCode if the code is wrong, [store.ErrNotFound] if the link is gone, and
// [store.ErrExists] if the person has a usable token by now.
func (e *Engine) EnrolByLink(ctx context.Context, user store.User, en Enrolment, name, code string, use store.TicketUse) (store.Token, error) {
	step, err := e.proveEnrolment(en, code)
	if err != nil {
		return store.Token{}, err
	}
	return e.cfg.Store.Tokens.AddByTicket(ctx, en.token(user, name), en.Secret, step, use)
}

// AddOwn makes en one more token of a person once code proves that they have it. They have proved a fresh code of
// another one by [Engine.ProveCode]. ErrCode if the code is wrong.
func (e *Engine) AddOwn(ctx context.Context, user store.User, en Enrolment, name, code string) (store.Token, error) {
	step, err := e.proveEnrolment(en, code)
	if err != nil {
		return store.Token{}, err
	}
	t := en.token(user, name)
	t.LastStep = step
	return e.cfg.Store.Tokens.Add(ctx, t, en.Secret)
}

// ProvesEnrolment tells whether code comes from a device that holds the secret of en.
func (e *Engine) ProvesEnrolment(en Enrolment, code string) bool {
	_, err := e.proveEnrolment(en, code)
	return err == nil
}

// EnrolmentOf is the enrolment of login that was begun with a secret.
func (e *Engine) EnrolmentOf(login string, secret otp.Secret) Enrolment {
	p := otp.DefaultParams()
	return Enrolment{Secret: secret, Params: p, URI: otp.URI(e.cfg.Issuer, login, secret, p), Waits: e.cfg.ApproveEnrolments}
}

// Returning is the identity of a person whose verdict was kept by a web session: only whoever keeps those may
// ask for it.
func Returning(u store.User, door string, source netip.Addr) Identity {
	return Identity{UserID: u.ID, Login: u.Login, Name: u.Name, Groups: u.Groups, Door: door, Source: source}
}

// ProveCode takes a fresh code of a person who is signed in, before they change how they sign in: of one of
// their tokens, or a spare one. It is consumed, counted and locked like one at a login. purpose is for the audit
// log. The error is a *[Refused], whose Public text says what to do.
func (e *Engine) ProveCode(ctx context.Context, id Identity, code, purpose string) error {
	ctx = context.WithoutCancel(ctx)
	started := e.cfg.Now()
	c := e.Begin(Attempt{Door: id.Door, Login: id.Login, Source: id.Source})
	s := c.lookup(ctx)
	err := c.proveCode(ctx, s, id, code)
	ev := audit.Event{
		Type: audit.CodeProved, Result: audit.OK, Door: id.Door, User: id.Login, Source: id.Source.String(), Detail: map[string]string{"for": purpose},
	}
	if err == nil {
		if err = e.cfg.Audit.Emit(ctx, ev); err == nil {
			return nil
		}
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		return refused(err)
	}
	ev.Result, ev.Reason = audit.Refused, err.Error()
	if errors.Is(err, ErrUnavailable) {
		ev.Result = audit.Error
	}
	_ = e.cfg.Audit.Emit(ctx, ev)
	var replay *Replay
	if errors.As(err, &replay) {
		ev.Type = audit.CodeReplayed
		ev.Detail = map[string]string{"for": purpose}
		replay.detail(ev.Detail)
		_ = e.cfg.Audit.Emit(ctx, ev)
	}
	e.waitForGrid(started, e.cfg.Grid)
	switch {
	case errors.Is(err, ErrLocked):
		return &Refused{Public: "After too many wrong codes nothing is looked at for a while. Wait, or ask an operator.", Err: err}
	case errors.Is(err, ErrUnavailable):
		return refused(err)
	}
	return &Refused{Public: "This code does not fit. Each is good once: wait for the next one.", Err: err}
}

func (c *Conversation) proveCode(ctx context.Context, s subject, id Identity, code string) error {
	switch {
	case s.err != nil:
		return s.err
	case s.user == nil || s.user.ID != id.UserID:
		return ErrUnknownUser
	}
	r, err := c.reserve(ctx, &known{subject: s})
	if err != nil {
		return err
	}
	judging, cancel := context.WithTimeout(ctx, c.e.cfg.Budget)
	defer cancel()
	err = c.judgeOwnCode(judging, s, code)
	if err == nil {
		if err = c.e.cfg.Store.Attempts.Succeed(judging, r); err != nil { // forgets no failures: nobody was let in
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	if err != nil {
		return c.settle(ctx, r, s, err, code)
	}
	return nil
}

// judgeOwnCode looks at the code of a person and consumes it.
func (c *Conversation) judgeOwnCode(ctx context.Context, s subject, code string) error {
	if err := c.afresh(ctx, &s); err != nil {
		return err
	}
	if s.user.LockedNow(c.e.cfg.Now()) {
		return fmt.Errorf("%w: user locked by an operator: %s", ErrLocked, s.user.LockReason)
	}
	if err := c.e.loadTokens(ctx, &s); err != nil {
		return err
	}
	v := verdict{Acceptance: store.Acceptance{Source: c.a.Source.Unmap()}}
	return c.judgeCode(ctx, s, code, &v)
}
