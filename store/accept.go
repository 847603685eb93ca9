package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sallyport/audit"
)

// ErrStepUsed is why [Attempts.Accept] did not accept: the code was used meanwhile, or its token was
// disabled or deleted.
var ErrStepUsed = errors.New("the time step of the code is used")

// ErrManyPlaces is why [Attempts.Accept] did not accept, although all was right: the user was locked for it, because
// they came from too many new addresses. Everything but the event is written.
var ErrManyPlaces = errors.New("the user was locked: too many new addresses")

// ErrNoFreeLogin is why [Attempts.Accept] did not accept: all logins without a code were made, or their time is
// over, or there is a token by now.
var ErrNoFreeLogin = errors.New("no login without a code is left")

// FreeLogins is how often a person who never had a token may log in without a code, and since when they must be
// known, or an operator must have granted it, at the earliest.
type FreeLogins struct {
	Most  int
	Since time.Time
	Made  int // set by [Attempts.Accept]: how many there were, this one included
}

// Acceptance is what a right guess leaves behind.
type Acceptance struct {
	Reservation   Reservation // from [Attempts.Reserve], or [AtOnce]
	Reset         []string    // kinds of counters whose failures are forgotten, see [Attempts.Succeed]
	UserID        string
	Source        netip.Addr
	SourceUnknown bool   // Source may be invalid: no place is noted then
	TokenID       string // "": there was no code, or [Tokens.ConsumeStep] has consumed it
	Step          int64
	Ahead         int             // see [TokenUse]
	Door          string          // the same
	KeyID         string          // public key that was used; "": none
	Certificate   *CertificateUse // that was used; nil: none
	Robot         *RobotUse       // not nil: a robot comes in, and UserID is ""
	Use           *GrantUse       // a grant that stood in for the code; nil: none
	Remember      *Grant          // the code, as a grant: without ID, times of use and Uses; nil: it is not remembered
	Free          *FreeLogins     // there was no code for want of a token; nil: otherwise
	Event         *audit.Event    // nil: none
	Decided       *audit.Event    // what the rules say of it, if that is known by then; nil: it is written later
	Alarm         *PlacesAlarm    // of many new addresses; nil: off

	Networks int // set by [Attempts.Accept]: new networks for which the alarm was raised by this login; 0: it was not
}

// CertificateUse is a certificate with which somebody comes in.
type CertificateUse struct {
	CAID   string
	Serial uint64
	KeyID  string
}

// RobotUse is a robot that comes in, and the key that it has proved.
type RobotUse struct{ ID, Fingerprint string }

// Accept does in one transaction, all or nothing, what a login needs: [Tokens.ConsumeStep],
// [UserKeys.Touch], [Places.Seen], [Users.Touch], the use or the writing of a grant, [Attempts.Succeed] and
// [Audit.Append]. Only after it may the guess be accepted. The error is [ErrStepUsed] if the step was not
// consumed, [ErrGrantUsed] if the grant was not as it was found, [ErrNoFreeLogin], and [ErrNotFound] if user, key, CA or robot are
// gone, do not count any more or are revoked, or the reservation had ended; then the reservation is as it was. Without a
// reservation, see [AtOnce], it is [ErrNoPlace] if a counter refuses; then nothing is as if it had been tried.
//
// A login that raises the alarm of many new addresses is accepted, unless the alarm locks the user: then the error is
// [ErrManyPlaces], and nothing is open to the user any more, here or on another node.
func (s Attempts) Accept(ctx context.Context, a *Acceptance) error {
	const what = "accepting an attempt"
	if !a.Source.IsValid() && !a.SourceUnknown {
		return fmt.Errorf("%s: %w", what, errors.New("the address is missing"))
	}
	var events [][]any
	for _, e := range []*audit.Event{a.Event, a.Decided} {
		if e == nil {
			continue
		}
		values, err := (Audit{s.db}).values(*e)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		events = append(events, values)
	}
	done := *a // what is set in it is told once all is written
	if a.Free != nil {
		free := *a.Free
		done.Free = &free
	}
	err := s.db.changingTogether(ctx, what, func(ctx context.Context, tx querier) error {
		if err := s.accept(ctx, tx, &done, ms(s.db.now())); err != nil {
			return err
		}
		if done.locks() {
			return s.db.bus.publishWith(ctx, tx, TopicRights, done.UserID)
		}
		return appendEvents(ctx, tx, events)
	})
	if err != nil {
		return err
	}
	if a.Free != nil {
		*a.Free = *done.Free
	}
	if a.Networks = done.Networks; a.locks() {
		s.db.bus.deliver(Message{Topic: TopicRights, Payload: a.UserID})
		return fmt.Errorf("%s: %w", what, ErrManyPlaces)
	}
	return nil
}

// locks tells whether this login has locked its user.
func (a *Acceptance) locks() bool { return a.Networks > 0 && a.Alarm.Lock }

// accept locks the user first, as everything does that changes tokens, and counters last, as all ends of
// reservations do: no two transactions wait for each other crosswise.
func (s Attempts) accept(ctx context.Context, tx querier, a *Acceptance, now int64) error {
	a.Networks = 0
	if a.Robot != nil {
		if err := useRobot(ctx, tx, *a.Robot, canonicalAddr(a.Source).String(), now); err != nil {
			return err
		}
		return finish(ctx, tx, a, now)
	}
	if err := execOne(ctx, tx, touchUser, now, a.UserID); err != nil {
		return err
	}
	if a.TokenID != "" {
		consumed, err := consumeStep(ctx, tx, TokenUse{TokenID: a.TokenID, Step: a.Step, Ahead: a.Ahead, Door: a.Door, Source: a.Source}, now)
		if err != nil {
			return err
		}
		if !consumed {
			return ErrStepUsed
		}
	}
	if a.Free != nil {
		made, err := scalar[int](ctx, tx, `UPDATE users SET free_logins = free_logins + 1
			WHERE id = ? AND token_count = 0 AND NOT free_over AND free_logins < ? AND (created > ? OR free_since > ?) RETURNING free_logins`,
			a.UserID, a.Free.Most, ms(a.Free.Since), ms(a.Free.Since))
		if errors.Is(err, ErrNotFound) {
			return ErrNoFreeLogin
		}
		if err != nil {
			return err
		}
		a.Free.Made = made
	}
	if a.KeyID != "" {
		if err := execOne(ctx, tx, touchKey, now, a.KeyID); err != nil {
			return err
		}
	}
	if a.Use != nil {
		if err := useGrant(ctx, tx, *a.Use, now); err != nil {
			return err
		}
	}
	if a.Remember != nil {
		if err := writeGrant(ctx, tx, *a.Remember, now); err != nil {
			return err
		}
	}
	if a.Certificate != nil {
		if err := useCertificate(ctx, tx, *a.Certificate, now); err != nil {
			return err
		}
	}
	if !a.Source.IsValid() {
		return finish(ctx, tx, a, now)
	}
	if err := see(ctx, tx, a.UserID, canonicalAddr(a.Source), now); err != nil {
		return err
	}
	if a.Alarm != nil {
		networks, raised, err := a.Alarm.tooMany(ctx, tx, a.UserID, now)
		if err != nil {
			return err
		}
		if raised {
			a.Networks = networks
		}
	}
	return finish(ctx, tx, a, now)
}
