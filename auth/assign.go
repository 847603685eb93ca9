package auth

import (
	"context"
	"errors"
	"fmt"

	"sallyport/audit"
	"sallyport/identity"
	"sallyport/otp"
	"sallyport/store"
)

// AssignBySerial gives the person a token out of the stock, which two codes in a row prove that they hold in
// their hands. Both codes are used up. Like a guess at a login it is counted, and refused while a lock
// holds. It asks for a login in which a code was typed: a key alone, or a place that is remembered, must not
// turn into one more second factor.
//
// The error is a *[Refused], which is the same for a serial that is not known, one that belongs to somebody
// and codes that do not fit: nobody learns which tokens there are.
func (e *Engine) AssignBySerial(ctx context.Context, id Identity, serial, first, second string) (store.Token, error) {
	ctx = context.WithoutCancel(ctx) // a guess that was looked at is a guess that counts
	t, err := e.assignBySerial(ctx, id, serial, first, second)
	ev := audit.Event{
		Type: audit.TokenEnrolled, Result: audit.OK, Door: id.Door, User: id.Login, Actor: id.Login, Source: id.Source.String(),
		Detail: map[string]string{"serial": audit.Escape(serial)},
	}
	if err != nil {
		ev.Type, ev.Result, ev.Reason = audit.TokenNotTaken, audit.Refused, err.Error() // of which nobody is told that they have a new token
		if errors.Is(err, ErrUnavailable) {
			ev.Result = audit.Error
		}
	} else {
		ev.Detail["token"] = t.ID
	}
	_ = e.cfg.Audit.Emit(ctx, ev)
	switch {
	case err == nil:
		return t, nil
	case errors.Is(err, errNoCodeYet):
		return t, &Refused{Public: "Sign in with a one-time code first: another token's, a recovery code, or one that an operator gives you.", Err: err}
	case errors.Is(err, errApproval):
		return t, &Refused{Public: "Here an operator has to approve new tokens: ask one to assign it to you.", Err: err}
	case errors.Is(err, ErrLocked):
		return t, &Refused{Public: "After too many wrong codes nothing is looked at for a while. Ask an operator.", Err: err}
	case errors.Is(err, ErrCode), errors.Is(err, ErrNoToken):
		return t, &Refused{Public: "These are not two codes in a row, not used yet, of a token of this serial that is free. See that the number is right, wait for a new code, and try again.", Err: err}
	}
	return t, refused(err)
}

var (
	errNoCodeYet = errors.New("no code was typed in this login")
	errApproval  = errors.New("enrolments need an operator's approval")
)

func (e *Engine) assignBySerial(ctx context.Context, id Identity, serial, first, second string) (store.Token, error) {
	switch {
	case id.CodeAt.IsZero():
		return store.Token{}, errNoCodeYet
	case e.cfg.ApproveEnrolments:
		return store.Token{}, errApproval
	}
	c := e.Begin(Attempt{Door: id.Door, Login: id.Login, Source: id.Source})
	s := e.lookup(ctx, id.Login)
	switch {
	case s.err != nil:
		return store.Token{}, s.err
	case s.user == nil || s.user.ID != id.UserID:
		return store.Token{}, ErrUnknownUser
	case s.user.LockedNow(e.cfg.Now()):
		return store.Token{}, fmt.Errorf("%w: user locked by an operator: %s", ErrLocked, s.user.LockReason)
	}
	r, err := c.reserve(ctx, &known{subject: s})
	if err != nil {
		return store.Token{}, err
	}
	judging, cancel := context.WithTimeout(ctx, e.cfg.Budget)
	defer cancel()
	t, err := e.AssignStock(judging, s.user.ID, serial, &[2]string{first, second})
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%w: none in stock has this serial", ErrNoToken)
	}
	if err == nil {
		if err = e.cfg.Store.Attempts.Succeed(judging, r); err != nil { // forgets no failures: nobody was let in
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	if err != nil {
		return store.Token{}, c.settle(ctx, r, s, err, "")
	}
	return t, nil
}

// AssignStock is [Engine.AssignBySerial] by an operator, who is not counted, and may do without codes (nil).
// The error is [ErrCode] if the codes do not fit, and store.ErrNotFound if no token in stock has the serial.
// Whoever calls it leaves the audit event.
func (e *Engine) AssignStock(ctx context.Context, userID, serial string, codes *[2]string) (store.Token, error) {
	t, err := e.cfg.Store.Stock.BySerial(ctx, serial)
	if errors.Is(err, store.ErrNotFound) {
		return store.Token{}, err
	}
	if err != nil {
		return store.Token{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	step, drift := t.LastStep, t.Drift
	if codes != nil {
		if step, drift, err = e.findStep(t, codes[0], codes[1]); err != nil {
			return store.Token{}, err
		}
	}
	given, err := e.cfg.Store.Stock.Assign(ctx, t.ID, userID, step, drift)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return given, err
}

// findStep finds out where a token is from two codes in a row: the step of the second, and how far its clock is
// ahead.
func (e *Engine) findStep(t store.TokenSecret, first, second string) (step int64, drift int, err error) {
	codes := [2]string{first, second}
	for i := range codes {
		if codes[i], err = otp.Normalise(codes[i], t.Digits); err != nil {
			return 0, 0, fmt.Errorf("%w: %w", ErrCode, err)
		}
	}
	p := ParamsOf(t.Token)
	now := p.StepAt(e.cfg.Now())
	step, ok := p.Resync(otp.Secret(t.Secret), codes[0], codes[1], now, t.LastStep)
	if !ok {
		return 0, 0, fmt.Errorf("%w: no two in a row of %s after step %d", ErrCode, t.Name, t.LastStep)
	}
	if p.Kind != otp.HOTP {
		drift = int(step - now)
	}
	return step, drift, nil
}

// InDirectory tells whether the directory knows a login. The error is [ErrUnavailable].
func (e *Engine) InDirectory(ctx context.Context, login string) (bool, error) {
	if e.cfg.Directory == nil {
		return false, nil
	}
	switch _, err := e.cfg.Directory.Lookup(ctx, login); {
	case err == nil, errors.Is(err, identity.ErrAmbiguous):
		return true, nil
	case errors.Is(err, identity.ErrUnknown):
		return false, nil
	default:
		return false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}
