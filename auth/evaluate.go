package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
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
	kindPeer   = "user+client"
)

// knownFor is how long after a success a source is not hurt by a lock of the user from elsewhere.
const knownFor = 30 * 24 * time.Hour

// evaluate looks at the collected answers: lock, then code, then first factor. It counts a failure
// before it says no, and counts nothing when a service was away. What event makes, if it is not nil, is
// in the audit log before evaluate says yes.
func (c *Conversation) evaluate(ctx context.Context, k *known, code string, event func(*Identity) audit.Event) (*Identity, error) {
	s := k.subject
	if errors.Is(s.err, ErrUnavailable) {
		return nil, s.err
	}
	counters, err := c.counters(ctx, k)
	if err != nil {
		return nil, err
	}
	if id, err := c.atOnce(ctx, k, code, counters, event); !errors.Is(err, errLongWay) {
		return id, err
	}
	r, err := c.reserveUnder(ctx, counters)
	if err != nil {
		return nil, err
	}
	// The budget begins after the wait for a turn, so that honest parallel logins do not eat it.
	judging, cancel := context.WithTimeout(ctx, c.e.cfg.Budget)
	defer cancel()
	v := c.verdict(k, r)
	err = c.judge(judging, k, code, &v)
	for try := 0; err == nil; try++ {
		err = c.accept(ctx, k, &v, event)
		if !errors.Is(err, store.ErrGrantUsed) {
			break
		}
		if err = nil; try == grantTries || !c.lookAgain(judging, k, &v) {
			err = errGrantGone
		}
	}
	if err != nil {
		return nil, c.settle(ctx, r, s, err, code)
	}
	return v.id, nil
}

// verdict grows while an attempt is judged.
type verdict struct {
	store.Acceptance
	id     *Identity
	factor string // "code", "sent", "recovery" or "bypass": what was typed as the code
}

// verdict begins one.
func (c *Conversation) verdict(k *known, r store.Reservation) verdict {
	v := verdict{Acceptance: store.Acceptance{Reservation: r, Reset: []string{kindPair, kindPeer, kindTarget, kindUser}, Source: c.a.Source.Unmap(), SourceUnknown: c.a.Peer != "", Alarm: c.e.cfg.Places}}
	if c.outer != nil && !k.needCode {
		v.Reset = nil // nothing was proved that somebody could have guessed: earlier failures stay
	}
	return v
}

// accept makes a right guess count: the code's step, the end of the reservation, the traces of the login
// and its event are written together or not at all.
func (c *Conversation) accept(ctx context.Context, k *known, v *verdict, event func(*Identity) audit.Event) error {
	if event != nil {
		e, err := c.e.cfg.Audit.Complete(event(v.id))
		if err == nil {
			err = c.decideAlong(k, v)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		v.Event = &e
	}
	switch err := c.e.cfg.Store.Attempts.Accept(ctx, &v.Acceptance); {
	case errors.Is(err, store.ErrStepUsed):
		return c.e.tooLate(ctx, v.TokenID, v.Step)
	case errors.Is(err, store.ErrGrantUsed), errors.Is(err, store.ErrNoPlace):
		return err
	case errors.Is(err, store.ErrManyPlaces):
		c.reportPlaces(ctx, v)
		return fmt.Errorf("%w: %s", ErrLocked, v.Alarm.Reason(v.Networks))
	case errors.Is(err, store.ErrNoFreeLogin):
		return fmt.Errorf("%w: %w", ErrNoToken, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if v.Event != nil {
		c.e.cfg.Audit.Print(ctx, *v.Event)
	}
	if v.Decided != nil {
		c.e.cfg.Audit.Print(ctx, *v.Decided)
		c.decided = k.decision
	}
	if v.Networks > 0 {
		c.reportPlaces(ctx, v)
	}
	return nil
}

// reportPlaces tells of a person who came from many new addresses.
func (c *Conversation) reportPlaces(ctx context.Context, v *verdict) {
	ev := audit.Event{
		Type: audit.PlacesMany, Result: audit.OK, Door: c.a.Door, User: v.id.Login, Source: sourceText(c.a.Source), Target: c.a.Target, Account: c.a.Account,
		Reason: v.Alarm.Reason(v.Networks), Detail: map[string]string{"networks": strconv.Itoa(v.Networks)},
	}
	if v.Alarm.Lock {
		ev.Detail["locked"] = "yes"
	}
	_ = c.e.cfg.Audit.Emit(ctx, ev) // kept in memory and written later if the database is away
}

// settle ends the reservation of an attempt that was not accepted, and returns why it was not.
func (c *Conversation) settle(ctx context.Context, r store.Reservation, s subject, judged error, code string) error {
	attempts := c.e.cfg.Store.Attempts
	if errors.Is(judged, ErrUnavailable) || errors.Is(judged, errGrantGone) || errors.Is(judged, store.ErrNoFreeLogin) || errors.Is(judged, errRules) {
		if err := attempts.Cancel(ctx, r); err != nil {
			return errors.Join(judged, err) // stays in flight; becomes a failure after a minute
		}
		return judged
	}
	locks, err := attempts.FailGuess(ctx, r, store.Guess{Kind: c.pairKind(), Hash: guessHash(s, judged, code)})
	for _, l := range locks {
		c.reportLock(ctx, s, l)
	}
	return errors.Join(judged, err)
}

// guessHash is by what a wrong code is known again that comes a second time. While a code is wrong nothing else
// of an attempt is looked at, so that repeating it tries nothing new; a wrong password is another matter. It is
// the same for people who do not exist, so that counting does not tell them apart. Whatever else somebody typed
// is not kept.
func guessHash(s subject, judged error, code string) string {
	if errors.Is(judged, ErrPassword) {
		return ""
	}
	for _, digits := range []int{6, 8} {
		if normal, err := otp.Normalise(code, digits); err == nil {
			sum := sha256.Sum256([]byte(s.key + "|" + normal))
			return hex.EncodeToString(sum[:8])
		}
	}
	return ""
}

// reserve takes a place under every limit before anything is evaluated. When the limit is reached
// only by attempts that are still being evaluated, it waits for its turn.
func (c *Conversation) reserve(ctx context.Context, k *known) (store.Reservation, error) {
	counters, err := c.counters(ctx, k)
	if err != nil {
		return store.Reservation{}, err
	}
	return c.reserveUnder(ctx, counters)
}

func (c *Conversation) reserveUnder(ctx context.Context, counters []store.Counter) (store.Reservation, error) {
	deadline := time.Now().Add(c.e.cfg.Queue)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		r, outcome, lock, err := c.e.cfg.Store.Attempts.Reserve(ctx, counters)
		switch {
		case err != nil:
			return r, fmt.Errorf("%w: %w", ErrUnavailable, err)
		case outcome == store.Reserved:
			return r, nil
		case outcome == store.Locked:
			return r, fmt.Errorf("%w: %s after %s until %s", ErrLocked, lock.ID, failures(lock), lock.Until.UTC().Format(time.RFC3339))
		case time.Now().After(deadline):
			return r, fmt.Errorf("%w: too many attempts at once", ErrUnavailable)
		}
		time.Sleep(pause/2 + rand.N(pause)) // other nodes hold places too: there is nobody to wake us
	}
}

// counters lists the limits of this attempt (C4): by user and source, stricter for one person, rule or target
// if they say so, by source, and by user in a row. The last does not hurt a source the person is known from.
func (c *Conversation) counters(ctx context.Context, k *known) ([]store.Counter, error) {
	ctx, cancel := context.WithTimeout(ctx, c.e.cfg.Budget)
	defer cancel()
	s, target := k.subject, k.target
	src, lockout := counterSource(c.a.Source), c.e.cfg.Lockout
	if s.user != nil {
		own := policy.Limit{Failures: s.user.Lockout.Failures, Window: s.user.Lockout.Window, Lock: s.user.Lockout.Lock}
		lockout = lockout.Stricter(policy.Lockout{Pair: own})
	}
	limit := func(kind, key string, l policy.Limit) store.Counter {
		return store.Counter{Kind: kind, Key: key, Limit: l.Failures, Window: l.Window, Lock: l.Lock, Longest: lockout.Longest}
	}
	var out []store.Counter
	if c.a.Peer != "" {
		out = append(out, limit(kindPeer, s.key+"|"+c.a.Peer, lockout.Pair))
	}
	if c.a.Source.IsValid() || c.a.Peer == "" {
		out = append(out, limit(kindPair, s.key+"|"+src, lockout.Pair), limit(kindSource, src, lockout.Source))
	} else {
		src = c.a.Peer
	}
	if c.a.Channel != "" {
		target = &store.Target{Name: c.a.Channel + " " + c.a.Target}
	}
	if target == nil && c.a.Target != "" {
		t, err := c.e.cfg.Store.Targets.ByName(ctx, c.a.Target)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		target = &t
	}
	if target != nil && (target.Lockout > 0 || k.lockout != policy.Limit{}) {
		// Under a key of its own: what is strict at one target locks nobody out of the others.
		strict := lockout.Stricter(policy.Lockout{Pair: k.lockout}).Stricter(policy.Lockout{Pair: policy.Limit{Failures: target.Lockout}}).Pair
		out = append(out, limit(kindTarget, s.key+"|"+src+"|"+target.Name, strict))
	}
	known := false
	if s.robot != nil { // its sources are the places it is known from
		known, _ = listed(strings.Join(s.robot.Sources, ","), c.a.Source)
	}
	if s.user != nil {
		var err error
		if known, err = c.e.cfg.Store.Places.Known(ctx, s.user.ID, c.a.Source.Unmap(), c.e.cfg.Now().Add(-knownFor)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return append(out, store.Counter{Kind: kindUser, Key: s.key, Limit: lockout.User, Exempt: known}), nil
}

// judge comes to the verdict. Every error but ErrUnavailable counts as a failure. Without an error v is
// complete, and counts once it is accepted.
func (c *Conversation) judge(ctx context.Context, k *known, code string, v *verdict) error {
	s, needCode := k.subject, k.needCode
	if err := c.afresh(ctx, &s); err != nil {
		return err
	}
	if s.robot != nil && c.key != "" {
		return c.judgeRobot(s, v)
	}
	if s.user != nil {
		if s.user.LockedNow(c.e.cfg.Now()) {
			return fmt.Errorf("%w: user locked by an operator: %s", ErrLocked, s.user.LockReason)
		}
		if needCode && s.err == nil {
			if err := c.e.loadTokens(ctx, &s); err != nil {
				return err
			}
		}
	}
	v.id = &Identity{Login: s.login, Name: s.name(), Groups: s.groups(), Door: c.a.Door, Source: c.a.Source}
	switch {
	case needCode && c.sending != nil && s.user != nil && s.user.Tokens == 0 && !isSpare(code):
		v.factor = FactorSent
		if err := c.judgeSent(ctx, code); err != nil {
			return err
		}
	case needCode:
		if err := c.judgeCode(ctx, s, code, v); err != nil {
			return err
		}
		c.firstProof(k, s)
	}
	if err := c.judgeFirst(ctx, s, v); err != nil {
		return err
	}
	if needCode {
		v.id.Factors, v.id.CodeAt, v.id.CodeAhead = append(v.id.Factors, v.factor), c.e.cfg.Now(), v.Ahead
	}
	if v.Free = k.free; v.Free != nil {
		v.id.Factors = append(v.id.Factors, FactorFree)
	}
	if !needCode && !c.rememberedAt.IsZero() {
		v.id.Factors, v.id.CodeAt = append(v.id.Factors, "remembered-code"), c.rememberedAt
	}
	if c.a.Channel != "" && (k.decision == nil || !k.decision.Allow) {
		return errRules
	}
	if err := c.remember(ctx, s, v); err != nil {
		return err
	}
	if k.grant != nil {
		c.spare(k, v)
		return nil
	}
	return c.keep(ctx, k, v)
}

// afresh reads what may have changed while the person was typing: the row, and for those who come without a
// password everything, since nobody else asks the directory about them again.
func (c *Conversation) afresh(ctx context.Context, s *subject) error {
	if c.proved() {
		before := s.key
		*s = c.e.lookup(ctx, c.a.Login)
		if s.err == nil && s.key != before {
			return fmt.Errorf("%w: the name changed hands meanwhile", ErrUnknownUser)
		}
		return s.err
	}
	if s.robot != nil {
		s.err = errRobotKey
	}
	if s.user == nil || c.traceless {
		return nil // without a trace: nobody has waited for anything since the look-up
	}
	u, err := c.e.cfg.Store.Users.ByID(ctx, s.user.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrUnknownUser
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	s.user = &u
	return nil
}

// judgeFirst checks the first factor: a person or a key that the door has verified, or the password.
func (c *Conversation) judgeFirst(ctx context.Context, s subject, v *verdict) error {
	if c.proved() {
		judge := c.judgeKey
		if c.outer != nil {
			judge = c.judgeOuter
		}
		if err := judge(ctx, s, v); err != nil {
			if c.traceless {
				return err
			}
			return errors.Join(err, c.consume(ctx, v))
		}
		return nil
	}
	if c.elsewhere {
		return nil
	}
	if err := c.judgePassword(ctx, s); err != nil {
		return err
	}
	v.id.Factors = append(v.id.Factors, "password")
	return nil
}

func (c *Conversation) judgeKey(ctx context.Context, s subject, v *verdict) error {
	if s.err != nil {
		return s.err
	}
	if c.cert != nil {
		v.id.Factors = append(v.id.Factors, "certificate")
		return c.useCertificate(ctx, s, c.cert, v)
	}
	if err := c.useKey(ctx, s, c.key, v); err != nil {
		return err
	}
	v.id.Factors = append(v.id.Factors, "key")
	return nil
}

// useKey notes a proved key that is still on file.
func (c *Conversation) useKey(ctx context.Context, s subject, fingerprint string, v *verdict) error {
	k, err := c.e.keyOf(ctx, s, fingerprint)
	if err != nil {
		return err
	}
	v.KeyID, v.id.KeyFingerprint, v.id.KeyInDirectory = k.ID, fingerprint, k.ID == ""
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

// remember finds the row of the person, and writes that of a directory user.
func (c *Conversation) remember(ctx context.Context, s subject, v *verdict) error {
	if s.person == nil {
		v.UserID, v.id.UserID = s.user.ID, s.user.ID
		return nil
	}
	u, err := c.e.cfg.Store.Users.SeenInDirectory(ctx, s.person.ID, s.person.Login, s.person.Name, s.person.Email, s.person.Groups)
	switch {
	case errors.Is(err, store.ErrNameTaken):
		return fmt.Errorf("%w: another user has this login; delete or rename that one", ErrDisabled)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if s.user != nil && s.user.ID != u.ID {
		return fmt.Errorf("%w: the row was replaced meanwhile", ErrUnknownUser)
	}
	v.UserID, v.id.UserID = u.ID, u.ID
	return nil
}

// failures says after how many of them a lock was set.
func failures(l store.Lock) string { return audit.Counted(l.Failures, "failure", "failures") }

func (c *Conversation) reportLock(ctx context.Context, s subject, l store.Lock) {
	_ = c.e.cfg.Audit.Emit(ctx, audit.Event{
		Type: audit.LockoutSet, Result: audit.OK, Door: c.a.Door, User: s.login, Source: sourceText(c.a.Source), Target: c.a.Target,
		Reason: failures(l),
		Detail: map[string]string{"lock": l.ID, "until": l.Until.UTC().Format(time.RFC3339)},
	})
}
