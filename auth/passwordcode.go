package auth

import (
	"context"
	"errors"
	"slices"
	"strings"

	"sallyport/audit"
	"sallyport/identity"
)

// ErrNoPasswordCode is why [Conversation.RunPasswordCode] has evaluated nothing.
var ErrNoPasswordCode = errors.New("no password with a code that is taken in this form")

// RunPasswordCode evaluates what a client without prompts sent as the password, if the rule for the target named
// takes a code in it and there is one: once, in the order of every conversation. Without an error the person is in.
// All other answers look alike: they come on the time grid if any rule takes codes in this form, so that nobody is
// told from them who may use it, and the door goes on as if nothing had been tried. A failure counts.
func (c *Conversation) RunPasswordCode(ctx context.Context, typed identity.Password) (*Identity, error) {
	doc, _, err := c.e.Rules(ctx)
	if err != nil || !doc.TakesPasswordCode() {
		return nil, ErrNoPasswordCode
	}
	started := c.e.cfg.Now()
	id, err := c.passwordCode(context.WithoutCancel(ctx), string(typed))
	if err != nil {
		c.e.waitForGrid(started, c.e.cfg.Grid)
		return nil, refused(err)
	}
	return id, nil
}

func (c *Conversation) passwordCode(ctx context.Context, typed string) (*Identity, error) {
	k := &known{subject: c.lookup(ctx)}
	c.demand(ctx, k)
	s := k.subject
	if c.a.Door != audit.DoorSSH || c.proved() || s.err != nil || s.user == nil || !k.needCode || k.decision == nil || !k.decision.Allow || !k.decision.PasswordCode {
		return nil, ErrNoPasswordCode
	}
	if err := c.e.loadTokens(ctx, &s); err != nil {
		return nil, err
	}
	var digits []int
	for _, t := range s.tokens {
		digits = append(digits, t.Digits)
	}
	password, code, ok := splitPasswordCode(typed, digits)
	if !ok {
		return nil, ErrNoPasswordCode
	}
	c.WithPassword(identity.Password(password))
	id, err := c.evaluate(ctx, k, code, c.accepted)
	if err != nil {
		c.reportRefusal(ctx, s, err)
		return nil, err
	}
	return id, nil
}

// splitPasswordCode parts what was typed as "password,code" or, if it does not end like that, passwordcode. A code is
// as long as one of digits; the longer one is looked for first. A code without a password is none.
func splitPasswordCode(typed string, digits []int) (password, code string, ok bool) {
	digits = slices.Clone(digits)
	slices.Sort(digits)
	slices.Reverse(digits)
	for _, separator := range []string{",", ""} {
		for _, n := range digits {
			at := len(typed) - n
			if at < 0 || strings.Trim(typed[at:], "0123456789") != "" {
				continue
			}
			if password, found := strings.CutSuffix(typed[:at], separator); found && password != "" {
				return password, typed[at:], true
			}
		}
	}
	return "", "", false
}
