package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/otp"
	"sallyport/store"
)

// kindKey is the kind of the counter of wrong API keys from a source.
const kindKey = "api-key"

// ErrKey is why a program is not let in: its API key is not known, has expired or was revoked, or may not be used
// from where it was. Nobody is told which.
var ErrKey = errors.New("wrong API key")

// LockedError is the [ErrLocked] of a source from which too many wrong API keys came.
type LockedError struct {
	Lock store.Lock
	Wait time.Duration
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%v: %s after %d wrong API keys", ErrLocked, e.Lock.ID, e.Lock.Failures)
}

// Unwrap gives ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

// ProveKey finds the API key that a program has shown, and takes one call of its share. Wrong ones are counted by
// source and lock it as wrong codes do; while that lock holds nothing is looked at. The error is [ErrKey], a
// *[LockedError], [store.ErrRateLimit] (with the key) or [ErrUnavailable]. ErrKey comes on the time grid, whatever was wrong. path says
// in the log what was called.
func (e *Engine) ProveKey(ctx context.Context, secret string, source netip.Addr, path string) (store.APIKey, error) {
	ctx = context.WithoutCancel(ctx) // a guess that was looked at is a guess that counts
	started := e.cfg.Now()
	// The source of requests over a unix socket has no address; such a key is as good there as anywhere.
	l, src := e.cfg.Lockout.Source, counterSource(source)
	counters := []store.Counter{{Kind: kindKey, Key: src, Limit: l.Failures, Window: l.Window, Lock: l.Lock, Longest: e.cfg.Lockout.Longest}}
	lock, locked, err := e.cfg.Store.Attempts.Locked(ctx, counters)
	if err != nil {
		return store.APIKey{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if locked {
		return store.APIKey{}, &LockedError{Lock: lock, Wait: max(lock.Until.Sub(e.cfg.Now()), time.Second)}
	}
	k, err := e.findKey(ctx, secret, source)
	if err == nil {
		switch err := e.cfg.Store.APIKeys.Use(ctx, k.ID, sourceText(source)); {
		case errors.Is(err, store.ErrRateLimit):
			return k, err
		case err == nil:
			return k, nil
		case !errors.Is(err, store.ErrNotFound):
			return store.APIKey{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		err = ErrKey
	}
	if errors.Is(err, ErrUnavailable) {
		return store.APIKey{}, err
	}
	e.refuseKey(ctx, k, counters, source, path, err)
	e.waitForGrid(started, e.cfg.Grid)
	return store.APIKey{}, ErrKey
}

// findKey looks a key up, and whether it may be used from source. With an error that says where it may not, the key is
// returned too.
func (e *Engine) findKey(ctx context.Context, secret string, source netip.Addr) (store.APIKey, error) {
	k, err := e.cfg.Store.APIKeys.Find(ctx, secret)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return store.APIKey{}, ErrKey
	case err != nil:
		return store.APIKey{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case len(k.Sources) == 0:
		return k, nil
	}
	if ok, err := listed(strings.Join(k.Sources, ","), source); err != nil || !ok {
		return k, fmt.Errorf("%w: it may not be used from here", ErrKey)
	}
	return k, nil
}

// refuseKey counts a wrong key. The guess was evaluated by then, which costs nothing: it has 256 bits.
func (e *Engine) refuseKey(ctx context.Context, k store.APIKey, counters []store.Counter, source netip.Addr, path string, cause error) {
	ev := audit.Event{
		Type: audit.LoginRefused, Result: audit.Refused, Door: audit.DoorAPI, Source: sourceText(source), Reason: cause.Error(), Detail: map[string]string{"path": path},
	}
	if k.Name != "" {
		ev.Actor = KeyActor(k)
	}
	_ = e.cfg.Audit.Emit(ctx, ev)
	r, outcome, _, err := e.cfg.Store.Attempts.Reserve(ctx, counters)
	if err != nil || outcome != store.Reserved {
		return // locked by now, or about to be
	}
	locks, _ := e.cfg.Store.Attempts.Fail(ctx, r) // if it cannot be counted now, it is once it is reaped
	for _, l := range locks {
		_ = e.cfg.Audit.Emit(ctx, audit.Event{
			Type: audit.LockoutSet, Result: audit.OK, Door: audit.DoorAPI, Source: sourceText(source), Reason: failures(l),
			Detail: map[string]string{"lock": l.ID, "until": l.Until.UTC().Format(time.RFC3339)},
		})
	}
}

// KeyActor is what events call whoever holds an API key.
func KeyActor(k store.APIKey) string { return "api-key " + k.Name }

// Person finds the person of a login for somebody who is about to change something of theirs; a person of the
// directory who was never here gets a row now. ErrUnknownUser, ErrDisabled (also for a robot), or ErrUnavailable.
func (e *Engine) Person(ctx context.Context, login string) (store.User, error) {
	s := e.lookup(ctx, login)
	switch {
	case s.err != nil:
		return store.User{}, s.err
	case s.robot != nil:
		return store.User{}, fmt.Errorf("%w: it is a robot", ErrDisabled)
	case s.person == nil:
		return *s.user, nil
	}
	u, err := e.cfg.Store.Users.SeenInDirectory(ctx, s.person.ID, s.person.Login, s.person.Name, s.person.Email, s.person.Groups)
	switch {
	case errors.Is(err, store.ErrNameTaken):
		return u, fmt.Errorf("%w: another user has this login; delete or rename that one", ErrDisabled)
	case err != nil:
		return u, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return u, nil
}

// EnrolForProgram makes a token of user whose secret a program hands on: enabled at once, unless tokens that people
// enrol wait for an operator. [store.ErrExists] if the user has one already, in whatever state; [store.ErrNotFound] if
// the user is gone or locked. If ask marks a request that was answered before, that answer is returned again, and
// again is true. Whoever calls it leaves the audit event.
func (e *Engine) EnrolForProgram(ctx context.Context, user store.User, name string, p otp.Params, ask store.Ask) (t store.Token, en Enrolment, again bool, err error) {
	ask.Request = fmt.Sprintf("%s|%s|%s|%d|%d|%s", user.ID, p.Kind, p.Algorithm, p.Digits, p.Period, name)
	en = e.EnrolmentOf(user.Login, otp.NewSecret())
	en.Params = p
	t, err = e.cfg.Store.Tokens.AddForProgram(ctx, en.token(user, name), en.Secret, ask)
	if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrOtherAsk) {
		old, asked := e.cfg.Store.Tokens.Asked(ctx, ask)
		switch {
		case asked == nil:
			t, en.Secret, again, err = old.Token, old.Secret, true, nil
		case !errors.Is(asked, store.ErrNotFound):
			err = asked
		}
	}
	en.URI = otp.URI(e.cfg.Issuer, user.Login, en.Secret, p)
	return t, en, again, err
}
