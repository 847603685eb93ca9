package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrNoPlace is why [Attempts.Accept] did not accept at once: a counter refuses, or might if those in flight fail.
// [Attempts.Reserve] tells which, and waits in line.
var ErrNoPlace = errors.New("a counter has no place for the attempt")

// AtOnce is the Reservation of an attempt that nothing was reserved for: [Attempts.Accept] accepts it only if there is a
// place under all counters at that moment, and otherwise returns [ErrNoPlace].
//
// It is for guesses that can be judged without a trace. Whoever finds one right accepts it so, in one transaction in
// the place of two; one that is wrong, or finds no place, is reserved and judged as if nothing had happened. So the
// outcome of a guess is told to nobody without a place under every limit, as with a reservation.
func AtOnce(counters []Counter) (Reservation, error) {
	counters, err := canonical(counters)
	if err != nil {
		return Reservation{}, fmt.Errorf("accepting an attempt: %w", err)
	}
	return Reservation{Counters: counters}, nil
}

// Look tells what counters would decide now. Of [Reserved] it knows nothing for certain.
func (s Attempts) Look(ctx context.Context, r Reservation) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select { // as Reserve does: in a flood verdicts and all else get their turn
	case s.db.gate <- struct{}{}:
		defer func() { <-s.db.gate }()
	case <-ctx.Done():
		return Locked, s.db.explain(ctx, "looking at the counters of an attempt", ctx.Err())
	}
	outcome, _, err := s.look(ctx, r.Counters)
	return outcome, err
}

// finish ends the reservation of a right guess, or without one finds a place under all counters.
func finish(ctx context.Context, tx querier, a *Acceptance, now int64) error {
	if a.Reservation.ID != "" {
		return succeed(ctx, tx, a.Reservation, a.Reset, now)
	}
	if len(a.Reservation.Counters) == 0 {
		return ErrNotFound
	}
	return pass(ctx, tx, a.Reservation.Counters, a.Reset, now)
}

// pass asks for the place under all counters that [Attempts.Reserve] would take, in the same order, and forgets the
// failures of the kinds in reset as the end of a reservation does. The rows are locked until the transaction ends, so
// that whoever fails meanwhile is counted after this.
func pass(ctx context.Context, tx querier, counters []Counter, reset []string, now int64) error {
	for _, c := range counters {
		forgets := slices.Contains(reset, c.Kind)
		n, err := exec(ctx, tx, `INSERT INTO counters (kind, key, failures, in_flight, since, locked_until, expires)
			VALUES (?, ?, 0, 0, 0, 0, 0)
			ON CONFLICT (kind, key) DO UPDATE SET
				failures     = CASE WHEN `+lapsed+` OR ? AND counters.locked_until <= ? THEN 0 ELSE counters.failures END,
				since        = CASE WHEN `+lapsed+` THEN 0 ELSE counters.since END,
				expires      = CASE WHEN `+lapsed+` OR ? AND counters.locked_until <= ? THEN 0 ELSE counters.expires END,
				level        = CASE WHEN ? AND (`+lapsed+` OR counters.locked_until <= ?) THEN 0 ELSE counters.level END,
				locked_until = CASE WHEN `+lapsed+` OR ? AND counters.locked_until <= ? THEN 0 ELSE counters.locked_until END
			WHERE ? OR (
				(counters.locked_until <= ? OR `+lapsed+`)
				AND CASE WHEN `+lapsed+` THEN 0 ELSE counters.failures END + counters.in_flight < ?)`,
			c.Kind, c.Key, now, forgets, now, now, now, forgets, now, forgets, now, now, now, forgets, now, c.Exempt, now, now, now, c.Limit)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNoPlace
		}
	}
	return nil
}
