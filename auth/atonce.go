package auth

import (
	"context"
	"errors"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// decidedFor is how long what the rules said at the beginning of an attempt holds for its end.
const decidedFor = time.Second

// errLongWay: an attempt cannot be accepted at once. Nothing has happened.
var errLongWay = errors.New("to be reserved first")

// atOnce judges answers that can be judged without a trace and, if all is right, accepts them in one transaction, which
// finds a place under every limit (see [store.AtOnce]) and consumes the code's step. Otherwise it returns errLongWay: then
// they are reserved and judged as if this had not been, so that nobody hears of a wrong guess that had no place.
//
// That is so for people whose first factor is not a password: a password is not looked at before the code is consumed.
func (c *Conversation) atOnce(ctx context.Context, k *known, code string, counters []store.Counter, event func(*Identity) audit.Event) (*Identity, error) {
	if !c.elsewhere && c.key == "" || c.outer != nil || c.sending != nil || k.free != nil || k.needCode && isSpare(code) {
		return nil, errLongWay
	}
	r, err := store.AtOnce(counters)
	if err != nil {
		return nil, errLongWay
	}
	if outcome, err := c.e.cfg.Store.Attempts.Look(ctx, r); err != nil || outcome != store.Reserved {
		return nil, errLongWay
	}
	judging, cancel := context.WithTimeout(ctx, c.e.cfg.Budget)
	defer cancel()
	v := c.verdict(k, r)
	c.traceless = true
	err = c.judge(judging, k, code, &v)
	c.traceless = false
	if err != nil {
		return nil, errLongWay
	}
	switch err := c.accept(ctx, k, &v, event); {
	case errors.Is(err, store.ErrNoPlace), errors.Is(err, store.ErrGrantUsed), errors.Is(err, ErrReplay), errors.Is(err, ErrCode):
		return nil, errLongWay
	case err != nil:
		return nil, err // it may have been written: to try again would find the code used
	}
	return v.id, nil
}

// request is what a client asks for a person.
func (c *Conversation) request() Request {
	return Request{Target: c.a.Target, PeerID: c.a.PeerID, Channel: c.a.Channel, Source: c.a.Source}
}

// decideAlong makes what the rules said part of the acceptance, if it is still what they would say: they allow it, which
// was asked just now with the row as it was then, and the code that they may demand was typed after that.
func (c *Conversation) decideAlong(k *known, v *verdict) error {
	v.Decided = nil
	if c.a.Channel == "" || k.decision == nil || !k.decision.Allow || v.factor == "" || v.factor == FactorSent {
		return nil
	}
	if age := c.e.cfg.Now().Sub(k.decidedAt); age < 0 || age > decidedFor {
		return nil
	}
	e, err := c.e.cfg.Audit.Complete(decisionEvent(*v.id, c.request(), *k.decision))
	if err != nil {
		return err
	}
	v.Decided = &e
	return nil
}
