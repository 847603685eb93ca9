package auth

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sallyport/otp"
	"sallyport/store"
)

// ParamsOf says how the codes of a token are computed.
func ParamsOf(t store.Token) otp.Params {
	return otp.Params{Kind: otp.Kind(t.Kind), Algorithm: otp.Algorithm(t.Algorithm), Digits: t.Digits, Period: t.Period}
}

// Replay is the [ErrReplay] of a code that was right and is used up: the sign of a stolen one.
type Replay struct {
	Token store.Token
	Step  int64 // time step, or counter, of the code
	// First is the use that made it worthless: of this step, or of a later one. nil: not remembered.
	First *store.PastUse
}

func (r *Replay) Error() string {
	text := fmt.Sprintf("%v: %s, step %d", ErrReplay, r.Token.Name, r.Step)
	switch {
	case r.First == nil:
		return text
	case r.First.Step != r.Step:
		return fmt.Sprintf("%s, which lies before step %d, used at %s from %s (%s)", text, r.First.Step, r.First.At.Format(time.RFC3339), r.First.Source, r.First.Door)
	}
	return fmt.Sprintf("%s, at %s from %s (%s)", text, r.First.At.Format(time.RFC3339), r.First.Source, r.First.Door)
}

// Unwrap gives ErrReplay.
func (r *Replay) Unwrap() error { return ErrReplay }

// detail adds to an event what is needed to tell the person.
func (r *Replay) detail(to map[string]string) {
	to["token"], to["token_name"], to["step"] = r.Token.ID, r.Token.Name, strconv.FormatInt(r.Step, 10)
	if r.First != nil {
		to["used_step"], to["used_at"] = strconv.FormatInt(r.First.Step, 10), r.First.At.Format(time.RFC3339)
		to["used_source"], to["used_door"] = r.First.Source, r.First.Door
	}
}

// judgeCode looks for a code among the person's tokens, at all of them whatever the first one says, and
// consumes its step: before a password is looked at, else with the acceptance. A recovery or bypass code
// is taken at once.
func (c *Conversation) judgeCode(ctx context.Context, s subject, code string, v *verdict) error {
	if s.err != nil {
		return s.err
	}
	if spare, err := otp.NormaliseSpare(code); err == nil {
		return c.takeSpare(ctx, s, spare, v)
	}
	if len(s.tokens) == 0 {
		return ErrNoToken
	}
	now := c.e.cfg.Now()
	var hit, used *store.TokenSecret
	var hitStep, usedStep int64
	for i := range s.tokens {
		t := &s.tokens[i]
		m := c.e.match(t, c.codeFor(t, code), now)
		if m.Replayed && used == nil {
			used, usedStep = t, m.Step
		}
		if m.OK && hit == nil {
			hit, hitStep = t, m.Step
		}
	}
	switch {
	case hit == nil && used != nil:
		return c.e.replay(ctx, used.Token, usedStep)
	case hit == nil:
		return ErrCode
	}
	v.factor, v.TokenID, v.Step, v.Door = "code", hit.ID, hitStep, c.a.Door
	if p := ParamsOf(hit.Token); p.Kind != otp.HOTP {
		v.Ahead = int(hitStep - p.StepAt(now))
	}
	if c.proved() || c.traceless {
		return nil
	}
	c.part(hit)
	return c.consume(ctx, v)
}

// match judges what was typed by one token.
func (e *Engine) match(t *store.TokenSecret, typed string, now time.Time) otp.Outcome {
	code, err := otp.Normalise(typed, t.Digits)
	if err != nil {
		return otp.Outcome{}
	}
	p := ParamsOf(t.Token)
	if p.Kind == otp.HOTP {
		return p.MatchCounter(otp.Secret(t.Secret), code, t.LastStep)
	}
	w := e.cfg.Window
	if t.Window > 0 {
		w = otp.Window{Behind: t.Window, Ahead: t.Window}
	}
	w.Drift = t.Drift
	return p.Match(otp.Secret(t.Secret), code, p.StepAt(now), t.LastStep, w)
}

// consume makes the code that was found used now, whatever becomes of the attempt.
func (c *Conversation) consume(ctx context.Context, v *verdict) error {
	if v.TokenID == "" {
		return nil
	}
	use := store.TokenUse{TokenID: v.TokenID, Step: v.Step, Ahead: v.Ahead, Door: v.Door, Source: v.Source}
	ok, err := c.e.cfg.Store.Tokens.ConsumeStep(ctx, use)
	v.TokenID = ""
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case !ok:
		return c.e.tooLate(ctx, use.TokenID, use.Step)
	}
	return nil
}

// tooLate tells why a step that was free when the code was judged could not be consumed.
func (e *Engine) tooLate(ctx context.Context, tokenID string, step int64) error {
	t, err := e.cfg.Store.Tokens.Get(ctx, tokenID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: its token was deleted just now", ErrCode)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrReplay, err)
	case t.LastStep < step:
		return fmt.Errorf("%w: its token is %s since just now", ErrCode, t.State(e.cfg.Now()))
	}
	return e.replay(ctx, t, step)
}

// replay makes the error for a code that was right and used, with what is known of its first use.
func (e *Engine) replay(ctx context.Context, t store.Token, step int64) error {
	r := &Replay{Token: t, Step: step}
	uses, err := e.cfg.Store.Tokens.Uses(ctx, t.ID)
	if err != nil {
		return r // the alarm without its story is better than none
	}
	for i := range uses { // newest first
		if uses[i].Step >= step {
			r.First = &uses[i]
		}
		if uses[i].Step == step {
			break
		}
	}
	return r
}
