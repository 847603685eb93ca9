package auth

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sallyport/audit"
)

// Outer is a connection within which another one asks to be let in, as ssh -J makes them. Who made the
// outer one is the first factor of the inner one.
type Outer struct {
	Identity Identity  // as it was verified there
	Since    time.Time // when that was
	Proof    string    // how the door knows that whoever is inside is that person too: ProofKey, ProofOnce; "": it does not, and a code is asked for
}

// How somebody inside is known to be the person outside without a code.
const (
	ProofKey  = "key"  // possession of the very key of the outer connection was verified again
	ProofOnce = "once" // the one connection that follows right on an outer one without a key
	proofCode = "code" // for the log: a code was typed
)

// WithOuter makes the verified person of another connection the first factor: nobody else is let in. The
// row, its lock and the directory are read afresh. A code is asked for unless o.Proof is set and the rule
// for the target that was named is content with the code of the outer connection.
func (c *Conversation) WithOuter(o Outer) *Conversation {
	c.outer, c.a.Login = &o, o.Identity.Login
	return c
}

// proved tells whether the first factor is there without a password.
func (c *Conversation) proved() bool { return c.key != "" || c.outer != nil }

// spares tells whether the door knows that the person outside is inside too.
func (o *Outer) spares() bool { return o != nil && o.Proof != "" }

// outerNeedsCode tells whether a code is asked for inside: always without a proof, else if the rule that
// decided d is not content with what was proved outside. Who may not reach the target is not asked for that:
// it would open nothing.
func (e *Engine) outerNeedsCode(ctx context.Context, o *Outer, d Decision) bool {
	if !o.spares() {
		return true
	}
	if !d.Allow {
		return false
	}
	err := e.demandCode(ctx, &d, o.Identity, e.cfg.Now(), false)
	return err != nil || !d.Allow
}

// judgeOuter sees that the person found now is the one of the outer connection, whose key is still on file or certificate still good.
func (c *Conversation) judgeOuter(ctx context.Context, s subject, v *verdict) error {
	id := c.outer.Identity
	switch {
	case s.err != nil:
		return s.err
	case s.user == nil || s.user.ID != id.UserID:
		return fmt.Errorf("%w: %s is not the person of the outer connection any more", ErrUnknownUser, id.Login)
	}
	switch {
	case id.Certificate != nil:
		if err := c.useCertificate(ctx, s, id.Certificate.proved, v); err != nil {
			return err
		}
	case id.KeyFingerprint != "":
		if err := c.useKey(ctx, s, id.KeyFingerprint, v); err != nil {
			return err
		}
	}
	v.id.Factors, v.id.CodeAt, v.id.Trusted = slices.Clone(id.Factors), id.CodeAt, id.Trusted
	if v.factor != "" { // a new code takes the place of the one outside, typed or remembered
		v.id.Factors = slices.DeleteFunc(v.id.Factors, func(f string) bool { return f == "code" || f == FactorSent || f == "remembered-code" })
		v.id.Trusted = nil
	}
	return nil
}

// tell adds to an event how an inner connection was proved and to which outer one it belongs.
func (o *Outer) tell(ev *audit.Event, codeAt time.Time) {
	if o == nil {
		return
	}
	proof := o.Proof
	if proof == "" || codeAt.After(o.Identity.CodeAt) {
		proof = proofCode
	}
	ev.Detail["inner"], ev.Detail["outer-since"] = proof, o.Since.UTC().Format(time.RFC3339Nano)
}
