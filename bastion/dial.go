package bastion

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/google/uuid"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/store"
	"sallyport/upstream"
)

// ahead is the connection to a target that is begun while its person still authenticates, at most one for
// each connection of a client. The zero value is ready.
type ahead struct {
	mu    sync.Mutex // guards the fields below
	early *upstream.Early
	over  bool // none may begin any more
}

// begin starts to dial what the rules would allow.
func (a *ahead) begin(d *upstream.Dialer, t store.Target, account string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return
	}
	a.over = true
	a.early = d.Early(context.Background(), t, account)
}

// take gives it away; nil if there is none.
func (a *ahead) take() *upstream.Early {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.early
	a.early, a.over = nil, true
	return e
}

// drop ends it.
func (a *ahead) drop() { a.take().Drop() }

// reached is an upstream connection that is to be a session's, or why there is none.
type reached struct {
	to      auth.Decision
	id      string // of the session, which a certificate for the target names before it is open
	up      *upstream.Upstream
	refusal string // one line for the person; "": up is open
	err     error  // why the target was not reached; nil: it was, or may not be
}

// reach connects id's person to where d leads. ask lets the target's own prompts through, if the rules do
// so too; nil: there is no way to. ap names the session that others have agreed to; nil: nobody was asked.
func (c *connection) reach(ctx context.Context, id auth.Identity, d auth.Decision, ask upstream.Ask, ap *approved) *reached {
	session, err := uuid.NewV7()
	if err != nil {
		c.s.cfg.Log.Error("making an id", "error", err)
		return &reached{refusal: "the session could not be opened; try again in a minute."}
	}
	r := &reached{to: d, id: session.String()}
	if ap != nil {
		r.id = ap.session
	}
	if d.Target.Credential == store.CredentialRelayed && !d.Relay {
		r.refusal = fmt.Sprintf("%s has prompts of its own, and rule %s does not let people answer them. Ask an operator: the rule needs relay: true", d.Target.Name, d.Rule)
		return r
	}
	who := upstream.Who{User: id.Login, Session: r.id, Ask: ask}
	if early := c.ahead.take(); early != nil {
		r.up, err = early.Dial(ctx, d.Target, d.Account, who)
	} else {
		r.up, err = c.s.cfg.Dialer.Dial(ctx, d.Target, d.Account, who)
	}
	if err == nil {
		return r
	}
	r.err, r.refusal = err, "cannot reach "+d.Target.Name
	var e *upstream.Error
	if errors.As(err, &e) {
		r.refusal = e.Public
	}
	return r
}

// unreached writes the event of a target that was not reached, once.
func (c *connection) unreached(ctx context.Context, id auth.Identity, r *reached) {
	if r.err == nil || c.denied.Add(1) > maxRefusedEvents {
		return
	}
	_ = c.s.cfg.Audit.Emit(context.WithoutCancel(ctx), audit.Event{
		Type: audit.SessionStarted, Result: audit.Error, Door: audit.DoorSSH, User: id.Login, Source: c.source.String(),
		Target: r.to.Target.Name, Account: r.to.Account, Rule: r.to.Rule, Reason: r.err.Error(),
	})
	r.err = nil
}

// keptFor is how long a connection to a target that was made during authentication waits for a channel.
const keptFor = 30 * time.Second

// kept is what was reached while its person could still be asked. The zero value is ready.
type kept struct {
	mu    sync.Mutex // guards the fields below
	r     *reached
	timer *time.Timer
	over  bool
}

func (k *kept) put(r *reached) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || k.r != nil {
		closeReached(r)
		return
	}
	k.r, k.timer = r, time.AfterFunc(keptFor, func() { closeReached(k.remove(false)) })
}

// take gives what was reached away, if that is where d leads and it is still open.
func (k *kept) take(d auth.Decision) *reached {
	r := k.remove(false)
	switch {
	case r == nil:
		return nil
	case !reflect.DeepEqual(r.to.Target, d.Target) || r.to.Account != d.Account || !d.Relay:
		closeReached(r)
		return nil
	case r.up == nil:
		return r
	}
	select {
	case <-r.up.Done():
		return nil
	default:
		return r
	}
}

// drop ends it, and takes none any more.
func (k *kept) drop() { closeReached(k.remove(true)) }

func (k *kept) remove(over bool) *reached {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.r
	k.r, k.over = nil, k.over || over
	if k.timer != nil {
		k.timer.Stop()
	}
	return r
}

func closeReached(r *reached) {
	if r != nil && r.up != nil {
		_ = r.up.Close()
	}
}
