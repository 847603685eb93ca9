package auth

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// Reach lists what id may open from source now, in the natural order of the targets' names: one
// allowing Decision, without trace, for each target and each of its accounts, and Channels tells the
// kinds. It is for a menu to choose from and grants nothing: [Engine.Authorize] is asked again for what
// was chosen, and may then also find that a rule wants a newer code. Nothing of it is audited.
//
// The error is a *[Refused] with [ErrLocked] if the person may do nothing any more, else infrastructure.
func (e *Engine) Reach(ctx context.Context, id Identity, source netip.Addr) ([]Decision, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Budget)
	defer cancel()
	now := e.cfg.Now()
	who, locked, err := e.standing(ctx, id, now)
	if err != nil {
		return nil, err
	}
	if locked {
		return nil, &Refused{Public: publicLocked, Err: ErrLocked}
	}
	return e.reach(ctx, who, source, now)
}

func (e *Engine) reach(ctx context.Context, who person, source netip.Addr, now time.Time) ([]Decision, error) {
	doc, version, err := e.Rules(ctx)
	if err != nil {
		return nil, err
	}
	targets, err := e.cfg.Store.Targets.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: listing targets: %w", ErrUnavailable, err)
	}
	var allowed []Decision
	for _, t := range targets {
		for _, account := range candidates(t, who, "") {
			d := Decision{RulesVersion: version}
			judge(&d, doc, who, t, Request{Target: t.Name, Account: account, Source: source}, now)
			if d.Allow {
				d.Trace = nil // one verdict for every rule; with many targets that is a lot to hold
				allowed = append(allowed, d)
			}
		}
	}
	return allowed, nil
}
