package auth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"sallyport/audit"
	"sallyport/identity"
	"sallyport/otp"
	"sallyport/policy"
	"sallyport/store"
)

// Kinds of failure counters.
const (
	kindPair   = "user+source"
	kindTarget = "user+source+target"
	kindSource = "source"
	kindUser   = "user"
)

// knownFor is how long after a success a source is not hurt by a lock of the user from elsewhere.
const knownFor = 30 * 24 * time.Hour

// evaluate looks at the collected answers: lock, then code, then first factor. It counts a failure
// before it says no, and counts nothing when a service was away.
func (c *Conversation) evaluate(ctx context.Context, s subject, needCode bool, code string) (*Identity, error) {
	if errors.Is(s.err, ErrUnavailable) {
		return nil, s.err
	}
	r, err := c.reserve(ctx, s)
	if err != nil {
		return nil, err
	}
	// The budget begins after the wait for a turn, so that honest parallel logins do not eat it.
	ctx, cancel := context.WithTimeout(ctx, c.e.cfg.Budget)
	defer cancel()
	id, err := c.judge(ctx, s, needCode, code)
	return c.settle(ctx, r, s, id, err)
}

// settle ends the reservation as the judgement demands.
func (c *Conversation) settle(ctx context.Context, r store.Reservation, s subject, id *Identity, judged error) (*Identity, error) {
	ctx = context.WithoutCancel(ctx)
	attempts := c.e.cfg.Store.Attempts
	switch {
	case errors.Is(judged, ErrUnavailable):
		if err := attempts.Cancel(ctx, r); err != nil {
			return nil, errors.Join(judged, err) // stays in flight; becomes a failure after a minute
		}
		return nil, judged
	case judged != nil:
		locks, err := attempts.Fail(ctx, r)
		for _, l := range locks {
			c.reportLock(ctx, s, l)
		}
		return nil, errors.Join(judged, err)
	}
	if err := attempts.Succeed(ctx, r, kindPair, kindTarget, kindUser); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return id, nil
}

// reserve takes a place under every limit before anything is evaluated. When the limit is reached
// only by attempts that are still being evaluated, it waits for its turn.
func (c *Conversation) reserve(ctx context.Context, s subject) (store.Reservation, error) {
	counters, err := c.counters(ctx, s)
	if err != nil {
		return store.Reservation{}, err
	}
	deadline := time.Now().Add(c.e.cfg.Queue)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		r, outcome, lock, err := c.e.cfg.Store.Attempts.Reserve(ctx, counters)
		switch {
		case err != nil:
			return r, fmt.Errorf("%w: %w", ErrUnavailable, err)
		case outcome == store.Reserved:
			return r, nil
		case outcome == store.Locked:
			return r, fmt.Errorf("%w: %s after %d failures until %s", ErrLocked, lock.ID, lock.Failures, lock.Until.UTC().Format(time.RFC3339))
		case time.Now().After(deadline):
			return r, fmt.Errorf("%w: too many attempts at once", ErrUnavailable)
		}
		time.Sleep(pause/2 + rand.N(pause)) // other nodes hold places too: there is nobody to wake us
	}
}

// counters lists the limits of this attempt (C4): by user and source, stricter for one target if it
// says so, by source, and by user in a row. The last does not hurt a source the person is known from.
func (c *Conversation) counters(ctx context.Context, s subject) ([]store.Counter, error) {
	ctx, cancel := context.WithTimeout(ctx, c.e.cfg.Budget)
	defer cancel()
	src, lockout := counterSource(c.a.Source), c.e.cfg.Lockout
	limit := func(kind, key string, l policy.Limit) store.Counter {
		return store.Counter{Kind: kind, Key: key, Limit: l.Failures, Window: l.Window, Lock: l.Lock}
	}
	out := []store.Counter{limit(kindPair, s.key+"|"+src, lockout.Pair)}
	if c.a.Target != "" {
		switch t, err := c.e.cfg.Store.Targets.ByName(ctx, c.a.Target); {
		case err == nil && t.Lockout > 0:
			strict := lockout.Pair
			strict.Failures = t.Lockout
			out = append(out, limit(kindTarget, s.key+"|"+src+"|"+t.Name, strict))
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	out = append(out, limit(kindSource, src, lockout.Source))
	known := false
	if s.user != nil {
		var err error
		if known, err = c.e.cfg.Store.Places.Known(ctx, s.user.ID, c.a.Source.Unmap(), c.e.cfg.Now().Add(-knownFor)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return append(out, store.Counter{Kind: kindUser, Key: s.key, Limit: lockout.User, Exempt: known}), nil
}

// judge comes to the verdict. Every error but ErrUnavailable counts as a failure.
func (c *Conversation) judge(ctx context.Context, s subject, needCode bool, code string) (*Identity, error) {
	if s.user != nil { // operators may have locked the person while they were typing
		u, err := c.e.cfg.Store.Users.ByID(ctx, s.user.ID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return nil, ErrUnknownUser
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		case u.LockedNow(c.e.cfg.Now()):
			return nil, fmt.Errorf("%w: user locked by an operator: %s", ErrLocked, u.LockReason)
		}
		s.user = &u
		if needCode && s.err == nil { // and tokens may have come or gone
			if err := c.e.loadTokens(ctx, &s); err != nil {
				return nil, err
			}
		}
	}
	id := &Identity{Login: s.login, Name: s.name(), Groups: s.groups(), Door: c.a.Door, Source: c.a.Source}
	if needCode {
		if err := c.judgeCode(ctx, s, code); err != nil {
			return nil, err
		}
	}
	if err := c.judgeFirst(ctx, s, id); err != nil {
		return nil, err
	}
	if needCode {
		id.Factors, id.CodeAt = append(id.Factors, "code"), c.e.cfg.Now()
	}
	return id, c.remember(ctx, s, id)
}

// judgeCode accepts a code of any of the person's tokens and consumes its time step. All tokens are
// looked at whatever the first one says.
func (c *Conversation) judgeCode(ctx context.Context, s subject, code string) error {
	if s.err != nil {
		return s.err
	}
	if len(s.tokens) == 0 {
		return ErrNoToken
	}
	now := c.e.cfg.Now()
	var hit *store.TokenSecret
	var hitStep int64
	replayed := false
	for i := range s.tokens {
		t := &s.tokens[i]
		p := otp.Params{Algorithm: otp.Algorithm(t.Algorithm), Digits: t.Digits, Period: t.Period}
		digits, err := otp.Normalise(code, t.Digits)
		if err != nil {
			continue
		}
		w := c.e.cfg.Window
		if t.Window > 0 {
			w = otp.Window{Behind: t.Window, Ahead: t.Window}
		}
		m := p.Match(otp.Secret(t.Secret), digits, p.StepAt(now), t.LastStep, w)
		replayed = replayed || m.Replayed
		if m.OK && hit == nil {
			hit, hitStep = t, m.Step
		}
	}
	switch {
	case hit == nil && replayed:
		return ErrReplay
	case hit == nil:
		return ErrCode
	}
	ok, err := c.e.cfg.Store.Tokens.ConsumeStep(ctx, hit.ID, hitStep)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case !ok:
		return ErrReplay
	}
	return nil
}

// judgeFirst checks the first factor: a key that the door has verified, or the password.
func (c *Conversation) judgeFirst(ctx context.Context, s subject, id *Identity) error {
	if c.key != "" {
		return c.judgeKey(ctx, s, id)
	}
	if err := c.judgePassword(ctx, s); err != nil {
		return err
	}
	id.Factors = append(id.Factors, "password")
	return nil
}

func (c *Conversation) judgeKey(ctx context.Context, s subject, id *Identity) error {
	if s.err != nil {
		return s.err
	}
	if s.user == nil {
		return ErrUnknownUser
	}
	k, err := c.e.cfg.Store.UserKeys.ByFingerprint(ctx, s.user.ID, c.key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: key %s was removed", ErrPassword, c.key)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := c.e.cfg.Store.UserKeys.Touch(ctx, k.ID); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	id.Factors, id.KeyFingerprint = append(id.Factors, "key"), c.key
	return nil
}

func (c *Conversation) judgePassword(ctx context.Context, s subject) error {
	switch {
	case s.err != nil:
		identity.VerifyDummy(ctx, c.password)
		return s.err
	case s.person != nil:
		switch err := c.e.cfg.Directory.Bind(ctx, *s.person, c.password); {
		case errors.Is(err, identity.ErrPassword):
			return fmt.Errorf("%w: %w", ErrPassword, err)
		case err != nil:
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return nil
	}
	hash, err := c.e.cfg.Store.Users.PasswordHash(ctx, s.user.ID)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if hash == "" {
		identity.VerifyDummy(ctx, c.password)
		return fmt.Errorf("%w: the user has none", ErrPassword)
	}
	switch ok, err := identity.VerifyPassword(ctx, hash, c.password); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case !ok:
		return ErrPassword
	}
	return nil
}

// remember writes what a success leaves behind: the row of a directory user, the place, the time.
func (c *Conversation) remember(ctx context.Context, s subject, id *Identity) error {
	st := c.e.cfg.Store
	if s.person != nil {
		u, err := st.Users.SeenInDirectory(ctx, s.person.ID, s.person.Login, s.person.Name, s.person.Email, s.person.Groups)
		switch {
		case errors.Is(err, store.ErrNameTaken):
			return fmt.Errorf("%w: another user has this login; delete or rename that one", ErrDisabled)
		case err != nil:
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		id.UserID = u.ID
	} else {
		id.UserID = s.user.ID
	}
	if err := st.Places.Seen(ctx, id.UserID, c.a.Source.Unmap()); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := st.Users.Touch(ctx, id.UserID); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

func (c *Conversation) reportLock(ctx context.Context, s subject, l store.Lock) {
	_ = c.e.cfg.Audit.Emit(ctx, audit.Event{
		Type: audit.LockoutSet, Result: audit.OK, Door: c.a.Door, User: s.login, Source: c.a.Source.String(), Target: c.a.Target,
		Reason: fmt.Sprintf("%d failures", l.Failures),
		Detail: map[string]string{"lock": l.ID, "until": l.Until.UTC().Format(time.RFC3339)},
	})
}
