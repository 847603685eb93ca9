package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/identity"
	"sallyport/policy"
	"sallyport/store"
)

// Recheck tells how a person stands now who was let in before.
type Recheck struct {
	// Refusal says why the person may do nothing any more, for them and for the log; "": they may stay.
	Refusal string

	e       *Engine
	id      Identity
	who     person
	coded   bool // a code was accepted, now or before, for what the person has open
	doc     *policy.Document
	version int64
	now     time.Time
	targets map[string]store.Target // read so far; the zero Target if there is none
}

// Recheck looks afresh whether id may go on: the person's row, the key that they proved, the rules, and with
// entry the directory, whose groups count from then on. Nothing of it is audited. The error, which wraps
// [ErrUnavailable], says nothing about the person: whatever runs goes on, and the caller asks again later.
func (e *Engine) Recheck(ctx context.Context, id Identity, entry bool) (*Recheck, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Budget)
	defer cancel()
	r := &Recheck{e: e, id: id, now: e.cfg.Now(), coded: !id.CodeAt.IsZero() || id.Trusted != nil, targets: map[string]store.Target{}}
	var err error
	if r.Refusal, err = e.withdrawn(ctx, id, r.now, entry); err != nil || r.Refusal != "" {
		return r, err
	}
	if id.Robot != "" {
		return r, nil // its row decides, each time
	}
	var locked bool
	if r.who, locked, err = e.standing(ctx, id, r.now); err != nil {
		return nil, err
	}
	if locked {
		r.Refusal = endedLocked
		return r, nil
	}
	r.doc, r.version, err = e.Rules(ctx)
	return r, err
}

// What people read whose connection is ended.
const (
	endedLocked    = "your account was locked; ask an operator"
	endedGone      = "your account was removed; ask an operator"
	endedKey       = "the public key that you signed in with was removed"
	endedCA        = "the certificate that you signed in with is no longer accepted"
	endedRobot     = "this robot was disabled, has expired, was removed or has another key"
	endedEntry     = "your account is no longer in the directory, or no longer in the group that may sign in"
	endedDisabled  = "your account is disabled or has expired in the directory"
	endedAmbiguous = "the directory has more than one entry of your name"
)

// withdrawn says why id may do nothing any more, apart from rules.
func (e *Engine) withdrawn(ctx context.Context, id Identity, now time.Time, entry bool) (string, error) {
	if id.Robot != "" {
		return e.robotWithdrawn(ctx, id, now)
	}
	u, err := e.cfg.Store.Users.ByID(ctx, id.UserID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return endedGone, nil
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	case u.LockedNow(now):
		return endedLocked, nil
	}
	if ended, err := e.proofWithdrawn(ctx, id); ended != "" || err != nil {
		return ended, err
	}
	if !entry || u.Source != store.Directory || e.cfg.Directory == nil {
		return "", nil
	}
	p, err := e.cfg.Directory.Lookup(ctx, id.Login)
	switch {
	case errors.Is(err, identity.ErrUnknown), err == nil && p.ID != u.ExternalID:
		return endedEntry, nil
	case errors.Is(err, identity.ErrAmbiguous):
		return endedAmbiguous, nil
	case err != nil:
		return "", fmt.Errorf("%w: reading the directory entry of %s: %w", ErrUnavailable, id.Login, err)
	case p.Disabled:
		return endedDisabled, nil
	case id.KeyInDirectory && !slices.Contains(p.Keys, id.KeyFingerprint):
		return endedKey, nil
	}
	// Decisions follow the row, so that the groups of now count for the next channel too.
	if _, err := e.cfg.Store.Users.SeenInDirectory(ctx, p.ID, p.Login, p.Name, p.Email, p.Groups); err != nil {
		return "", fmt.Errorf("%w: noting the directory entry of %s: %w", ErrUnavailable, id.Login, err)
	}
	return "", nil
}

// Present reads afresh who somebody is who is signed in at a page: their row, with the groups that the directory has of
// them now. A *[Refused] says in words why they do not count any more; it wraps [ErrUnavailable] if that cannot be told.
func (e *Engine) Present(ctx context.Context, userID string) (store.User, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Budget)
	defer cancel()
	u, err := e.cfg.Store.Users.ByID(ctx, userID)
	if errors.Is(err, store.ErrNotFound) {
		return u, &Refused{Public: endedGone + ".", Err: ErrDenied}
	}
	if err != nil {
		return u, refused(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	ended, err := e.withdrawn(ctx, Identity{UserID: u.ID, Login: u.Login}, e.cfg.Now(), true)
	if err != nil {
		return u, refused(err)
	}
	if ended != "" {
		return u, &Refused{Public: ended + ".", Err: ErrDenied}
	}
	if u, err = e.cfg.Store.Users.ByID(ctx, userID); err != nil {
		return u, refused(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	return u, nil
}

// proofWithdrawn says why the key or certificate that was proved counts no more, as far as that is known here. A
// certificate that has expired since then opened what it opened; one whose authority is gone or that was revoked
// should not have.
func (e *Engine) proofWithdrawn(ctx context.Context, id Identity) (string, error) {
	ended, err := endedKey, error(nil)
	switch {
	case id.Certificate != nil:
		ended = endedCA
		err = e.stillTrusted(ctx, id.Certificate)
	case id.KeyFingerprint != "" && !id.KeyInDirectory:
		_, err = e.cfg.Store.UserKeys.ByFingerprint(ctx, id.UserID, id.KeyFingerprint)
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ended, nil
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return "", nil
}

// stillTrusted is store.ErrNotFound if the authority of a certificate is listed no more, or has taken it back.
func (e *Engine) stillTrusted(ctx context.Context, c *Certificate) error {
	ca, err := e.cfg.Store.UserCAs.Trusted(ctx, ssh.FingerprintSHA256(c.proved.SignatureKey))
	if err != nil {
		return err
	}
	revoked, err := e.cfg.Store.UserCAs.Revoked(ctx, ca.ID, c.Serial, c.KeyID)
	if err == nil && revoked {
		err = store.ErrNotFound
	}
	return err
}

func (e *Engine) robotWithdrawn(ctx context.Context, id Identity, now time.Time) (string, error) {
	robot, err := e.cfg.Store.Robots.ByID(ctx, id.Robot)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && (!robot.Usable(now) || robot.Fingerprint != id.KeyFingerprint):
		return endedRobot, nil
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return "", nil
}

// Decide answers whether what is open may stay so. A code that has grown old, or that is remembered no more, does
// not end what it opened; where a code is asked for now and none was ever, that does. A login that was let in without a
// token ([WithoutToken]) counts as a code, but where a token is demanded. The Refusal of the answer says what has changed.
func (r *Recheck) Decide(ctx context.Context, q Request) (Decision, error) {
	if r.Refusal != "" {
		return Decision{Refusal: r.Refusal}, nil
	}
	if r.id.Robot != "" {
		d, err := r.e.decideRobot(ctx, r.id, q, r.now)
		if err != nil || d.Allow {
			return d, err
		}
		// The robot itself may have been changed since it was looked at.
		if d.Refusal, err = r.e.robotWithdrawn(ctx, r.id, r.now); d.Refusal == "" {
			d.Refusal = withdrawnRefusal(q, d)
		}
		return d, err
	}
	t, known := r.targets[q.Target]
	if !known {
		var err error
		t, err = r.e.cfg.Store.Targets.ByName(ctx, q.Target)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return Decision{}, fmt.Errorf("%w: reading target: %w", ErrUnavailable, err)
		}
		r.targets[q.Target] = t
	}
	d := Decision{RulesVersion: r.version, Account: q.Account}
	if t.ID == "" {
		d.Refusal = "the target " + printable(q.Target) + " was removed"
		return d, nil
	}
	judge(&d, r.doc, r.who, t, q, r.now)
	switch {
	case !d.Allow:
		d.Refusal = withdrawnRefusal(q, d)
	case r.id.Certificate.forbids(q) != "":
		d.Allow, d.Refusal = false, r.id.Certificate.forbids(q)
	case d.Code.Kind != policy.CodeNone && !r.coded && (!r.id.withoutToken() || demandsToken(d)):
		d.Allow, d.Refusal = false, printable(q.Target)+" needs a one-time code now; connect again"
	}
	return d, nil
}

func withdrawnRefusal(q Request, d Decision) string {
	what := "access to " + printable(q.Target)
	switch {
	case q.To != "":
		what = fmt.Sprintf("%s to %s through %s", q.Channel, printable(q.To), printable(q.Target))
	case q.Channel != "":
		what = fmt.Sprintf("%s on %s", q.Channel, printable(q.Target))
	}
	switch {
	case d.Message != "":
		return fmt.Sprintf("%s is no longer allowed: %s (rule %s)", what, printable(d.Message), d.Rule)
	case d.Rule != "":
		return fmt.Sprintf("%s is no longer allowed (rule %s)", what, d.Rule)
	}
	return what + " is no longer allowed by any rule"
}
