package auth

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"sallyport/audit"
	"sallyport/store"
)

// Resync finds out where a token of the person is, from two codes that it has shown one after the other:
// the way back for one whose clock or counter has gone too far. Both codes must be later than the last
// one that was used, and are used up. token is the id or name of one of the person's usable tokens;
// empty: whichever it is. Like a guess at a login it is counted, and refused while a lock holds.
//
// The error is a *[Refused]: its Public text says in words what to do. Who asks must have proved who
// they are by something else, and an Identity is that.
func (e *Engine) Resync(ctx context.Context, id Identity, token, first, second string) (store.Token, error) {
	ctx = context.WithoutCancel(ctx) // a guess that was looked at is a guess that counts
	c := e.Begin(Attempt{Door: id.Door, Login: id.Login, Source: id.Source})
	s := e.lookup(ctx, id.Login)
	t, err := c.resync(ctx, s, id, token, first, second)
	ev := audit.Event{Type: audit.TokenResynced, Result: audit.OK, Door: id.Door, User: id.Login, Actor: id.Login, Source: id.Source.String()}
	if err != nil {
		ev.Result, ev.Reason = audit.Refused, err.Error()
		if errors.Is(err, ErrUnavailable) {
			ev.Result = audit.Error
		}
	} else {
		ev.Detail = resyncDetail(t)
	}
	_ = e.cfg.Audit.Emit(ctx, ev)
	switch {
	case err == nil:
		return t, nil
	case errors.Is(err, ErrLocked):
		return t, &Refused{Public: "After too many wrong codes nothing is looked at for a while. Ask an operator.", Err: err}
	case errors.Is(err, ErrCode), errors.Is(err, ErrNoToken):
		return t, &Refused{Public: "These are not two codes in a row, newer than the last one used, of a token of yours.", Err: err}
	}
	return t, refused(err)
}

func (c *Conversation) resync(ctx context.Context, s subject, id Identity, token, first, second string) (store.Token, error) {
	switch {
	case s.err != nil:
		return store.Token{}, s.err
	case s.user == nil || s.user.ID != id.UserID:
		return store.Token{}, ErrUnknownUser
	case s.user.LockedNow(c.e.cfg.Now()):
		return store.Token{}, fmt.Errorf("%w: user locked by an operator: %s", ErrLocked, s.user.LockReason)
	}
	r, err := c.reserve(ctx, &known{subject: s})
	if err != nil {
		return store.Token{}, err
	}
	judging, cancel := context.WithTimeout(ctx, c.e.cfg.Budget)
	defer cancel()
	t, err := c.e.resyncOne(judging, s, id, token, first, second)
	if err == nil {
		err = c.e.cfg.Store.Attempts.Succeed(judging, r) // forgets no failures: nobody was let in
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	if err != nil {
		return store.Token{}, c.settle(ctx, r, s, err, "")
	}
	return t, nil
}

// resyncOne tries the person's tokens.
func (e *Engine) resyncOne(ctx context.Context, s subject, id Identity, token, first, second string) (store.Token, error) {
	if err := e.loadTokens(ctx, &s); err != nil {
		return store.Token{}, err
	}
	tried := error(ErrNoToken)
	for i := range s.tokens {
		t := s.tokens[i]
		if token != "" && token != t.ID && token != t.Name {
			continue
		}
		done, err := e.resyncToken(ctx, t, first, second, store.TokenUse{Door: id.Door, Source: id.Source})
		if !errors.Is(err, ErrCode) {
			return done, err
		}
		tried = err
	}
	return store.Token{}, tried
}

// ResyncToken is [Engine.Resync] by an operator, who may do it for any token in any state and is not
// counted. The error is [ErrCode] if the codes do not fit, and store.ErrNotFound if there is no such
// token. Whoever calls it leaves the audit event.
func (e *Engine) ResyncToken(ctx context.Context, tokenID, first, second, door string) (store.Token, error) {
	t, err := e.cfg.Store.Tokens.WithSecret(ctx, tokenID)
	if err != nil {
		return store.Token{}, err
	}
	return e.resyncToken(ctx, t, first, second, store.TokenUse{Door: door})
}

func (e *Engine) resyncToken(ctx context.Context, t store.TokenSecret, first, second string, use store.TokenUse) (store.Token, error) {
	step, drift, err := e.findStep(t, first, second)
	if err != nil {
		return store.Token{}, err
	}
	use.TokenID, use.Step = t.ID, step
	switch done, err := e.cfg.Store.Tokens.Resync(ctx, use, drift); {
	case err != nil:
		return store.Token{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case !done:
		return store.Token{}, fmt.Errorf("%w: a later one was used meanwhile", ErrCode)
	}
	fresh, err := e.cfg.Store.Tokens.Get(ctx, t.ID)
	if err != nil {
		return store.Token{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return fresh, nil
}

func resyncDetail(t store.Token) map[string]string {
	return map[string]string{"token": t.ID, "token_name": t.Name, "step": strconv.FormatInt(t.LastStep, 10), "drift": strconv.Itoa(t.Drift)}
}
