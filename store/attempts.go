package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Reservation is the right to evaluate one guess. It ends with one of [Attempts.Fail],
// [Attempts.Succeed] and [Attempts.Cancel]; if its node dies first, [Attempts.Reap] makes it a
// failure.
type Reservation struct {
	ID       string
	Counters []Counter
}

// Outcome is what [Attempts.Reserve] decided. The zero value refuses.
type Outcome int

// Outcomes.
const (
	Locked   Outcome = iota // a lock is in force: evaluate nothing
	Busy                    // with all attempts in flight the limit might be passed: wait and ask again
	Reserved                // evaluate the guess
)

// String returns the name of the outcome.
func (o Outcome) String() string {
	switch o {
	case Busy:
		return "busy"
	case Reserved:
		return "reserved"
	}
	return "locked"
}

// Attempts is where a guess is reserved before it is evaluated, so that no number of parallel
// guesses passes a limit: a counter never has more failures and attempts in flight than its limit.
//
// A counter's lock and window end by time; the row is corrected when it is next used. While a lock
// is in force a success does not end it, not even one of an exempt attempt.
type Attempts struct{ db *db }

// errRefused rolls a reservation back.
var errRefused = errors.New("a counter refuses")

// Reserve takes a place under all counters, or none: then the Outcome is [Busy], or [Locked] with
// the lock that holds longest. Reservation is valid only if the Outcome is [Reserved]. No two
// counters may have the same kind and key.
func (s Attempts) Reserve(ctx context.Context, counters []Counter) (Reservation, Outcome, Lock, error) {
	const what = "reserving an attempt"
	counters, err := canonical(counters)
	if err != nil {
		return Reservation{}, Locked, Lock{}, fmt.Errorf("%s: %w", what, err)
	}
	r := Reservation{Counters: counters}
	if r.ID, err = newID(); err != nil {
		return Reservation{}, Locked, Lock{}, fmt.Errorf("%s: %w", what, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case s.db.gate <- struct{}{}:
		defer func() { <-s.db.gate }()
	case <-ctx.Done():
		return Reservation{}, Locked, Lock{}, s.db.explain(ctx, what, ctx.Err())
	}
	// A look first: most of a flood is refused here, without waiting for locks of rows. What it lets
	// pass is decided by the transaction.
	outcome, lock, err := s.look(ctx, counters)
	if err != nil || outcome != Reserved {
		return Reservation{}, outcome, lock, err
	}
	err = s.db.changingTogether(ctx, what, func(ctx context.Context, tx querier) error {
		return s.reserve(ctx, tx, r, ms(s.db.now()))
	})
	if errors.Is(err, errRefused) {
		return Reservation{}, Busy, Lock{}, nil // if it is a lock, the next look will tell
	}
	if err != nil {
		return Reservation{}, Locked, Lock{}, err
	}
	return r, Reserved, Lock{}, nil
}

func (s Attempts) reserve(ctx context.Context, tx querier, r Reservation, now int64) error {
	for _, c := range r.Counters {
		n, err := exec(ctx, tx, `INSERT INTO counters (kind, key, failures, in_flight, since, locked_until, expires)
			VALUES (?, ?, 0, 1, 0, 0, 0)
			ON CONFLICT (kind, key) DO UPDATE SET
				failures     = CASE WHEN `+lapsed+` THEN 0 ELSE counters.failures END,
				in_flight    = counters.in_flight + 1,
				since        = CASE WHEN `+lapsed+` THEN 0 ELSE counters.since END,
				locked_until = CASE WHEN `+lapsed+` THEN 0 ELSE counters.locked_until END,
				expires      = CASE WHEN `+lapsed+` THEN 0 ELSE counters.expires END
			WHERE ? OR (
				(counters.locked_until <= ? OR `+lapsed+`)
				AND CASE WHEN `+lapsed+` THEN 0 ELSE counters.failures END + counters.in_flight < ?)`,
			c.Kind, c.Key, now, now, now, now, c.Exempt, now, now, now, c.Limit)
		if err != nil {
			return err
		}
		if n == 0 {
			return errRefused
		}
	}
	text, err := toJSON(r.Counters)
	if err != nil {
		return err
	}
	_, err = exec(ctx, tx, "INSERT INTO attempts (id, counters, started) VALUES (?, ?, ?)", r.ID, text, now)
	return err
}

// look tells what counters would decide now, and which lock holds longest. Of Reserved it knows
// nothing for certain.
func (s Attempts) look(ctx context.Context, counters []Counter) (Outcome, Lock, error) {
	rows, err := s.rows(ctx, counters)
	if err != nil {
		return Locked, Lock{}, err
	}
	outcome, longest, now := Reserved, Lock{}, s.db.now()
	for _, c := range counters {
		r := rows[c.Kind+":"+c.Key].at(now)
		switch {
		case c.Exempt || r.failures+r.inFlight < c.Limit && r.lockedUntil.IsZero():
			continue
		case r.failures < c.Limit && r.lockedUntil.IsZero():
			outcome = min(outcome, Busy)
			continue
		case r.lockedUntil.IsZero(): // the limit was higher when these failures were counted
			if err := s.lower(ctx, c, now, r.level); err != nil {
				return Locked, Lock{}, err
			}
			r.since, r.lockedUntil = now, c.lockEnd(now, r.level)
		}
		if l := r.lock(); outcome != Locked || l.Until.After(longest.Until) {
			outcome, longest = Locked, l
		}
	}
	return outcome, longest, nil
}

// rows returns what the database knows of counters, by "kind:key".
func (s Attempts) rows(ctx context.Context, counters []Counter) (map[string]counterRow, error) {
	found := make(map[string]counterRow, len(counters))
	if len(counters) == 0 {
		return found, nil
	}
	var args []any
	for _, c := range counters {
		args = append(args, c.Kind, c.Key)
	}
	err := s.db.briefly(ctx, "looking at the counters of an attempt", func(ctx context.Context, q querier) error {
		rows, err := all(ctx, q, counterFields, "SELECT "+counterColumns+" FROM counters WHERE (kind, key) IN (VALUES "+
			strings.Repeat(", (?, ?)", len(counters))[2:]+")", args...)
		for _, r := range rows {
			found[r.kind+":"+r.key] = r
		}
		return err
	})
	return found, err
}

// lower locks a counter whose limit was lowered to what it has counted.
func (s Attempts) lower(ctx context.Context, c Counter, now time.Time, level int) error {
	return s.db.writing(ctx, "locking counter "+c.Kind, func(ctx context.Context, q querier) error {
		_, err := setLock(ctx, q, c, now, level)
		return err
	})
}

// Fail ends a reservation after a wrong guess and returns the locks that this failure has set. Only
// the first end of a reservation counts; here a later one does nothing, so that after
// [ErrUnavailable] it can be asked for again.
func (s Attempts) Fail(ctx context.Context, r Reservation) ([]Lock, error) {
	locks, _, err := s.fail(ctx, r.ID, Guess{})
	return locks, err
}

// Guess is a wrong code, such as may come again by itself.
type Guess struct {
	Kind string // of the counter with which it is remembered, one of the person's
	Hash string // "": it is not remembered
}

// of tells whether a guess is remembered with c.
func (g Guess) of(c Counter) bool { return g.Hash != "" && g.Kind == c.Kind }

// FailGuess ends a reservation as [Attempts.Fail] does, but counts nothing if the same guess was the last wrong
// one of this counter less than a minute ago.
func (s Attempts) FailGuess(ctx context.Context, r Reservation, g Guess) ([]Lock, error) {
	locks, _, err := s.fail(ctx, r.ID, g)
	return locks, err
}

// fail also tells whether the reservation was still open.
func (s Attempts) fail(ctx context.Context, id string, g Guess) (locks []Lock, open bool, err error) {
	var found struct { // known once all is written
		locks []Lock
		open  bool
	}
	err = s.db.changingTogether(ctx, "counting a failed attempt", func(ctx context.Context, tx querier) error {
		found.locks = nil
		counters, open, err := end(ctx, tx, id)
		if found.open = open; err != nil || !open {
			return err
		}
		now := s.db.now()
		switch again, err := repeated(ctx, tx, counters, g, now); {
		case err != nil:
			return err
		case again:
			return land(ctx, tx, counters, nil, ms(now))
		}
		for _, c := range counters {
			row, err := countFailure(ctx, tx, c, now)
			if err != nil {
				return err
			}
			if g.of(c) {
				if err := noteGuess(ctx, tx, c, g, now); err != nil {
					return err
				}
			}
			if row.failures < c.Limit {
				continue
			}
			isNew, err := setLock(ctx, tx, c, now, row.level)
			if err != nil {
				return err
			}
			if isNew {
				row.since, row.lockedUntil, row.author, row.reason = now, c.lockEnd(now, row.level), "", ""
				found.locks = append(found.locks, row.lock())
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return found.locks, found.open, nil
}

// end takes a reservation out of the database. Of several ends at once one gets it.
func end(ctx context.Context, tx querier, id string) (counters []Counter, open bool, err error) {
	text, err := scalar[string](ctx, tx, "DELETE FROM attempts WHERE id = ? RETURNING counters", id)
	if errors.Is(err, ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if err := json.Unmarshal([]byte(text), &counters); err != nil {
		return nil, false, fmt.Errorf("decoding the counters of an attempt: %w", err)
	}
	return counters, true, nil
}

// Succeed ends a reservation after a right guess. Failures of the kinds in reset are forgotten,
// unless a lock is in force. The error is [ErrNotFound] if the reservation had ended already: it
// took so long that it was counted as a failure, and the guess must not be accepted.
func (s Attempts) Succeed(ctx context.Context, r Reservation, reset ...string) error {
	return s.db.changingTogether(ctx, "ending a successful attempt", func(ctx context.Context, tx querier) error {
		return succeed(ctx, tx, r, reset, ms(s.db.now()))
	})
}

func succeed(ctx context.Context, tx querier, r Reservation, reset []string, now int64) error {
	counters, open, err := end(ctx, tx, r.ID)
	if err != nil {
		return err
	}
	if !open {
		return ErrNotFound
	}
	return land(ctx, tx, counters, reset, now)
}

// Cancel ends a reservation whose guess could not be evaluated, through no fault of the person.
// Nothing is counted.
func (s Attempts) Cancel(ctx context.Context, r Reservation) error {
	return s.db.changingTogether(ctx, "cancelling an attempt", func(ctx context.Context, tx querier) error {
		counters, open, err := end(ctx, tx, r.ID)
		if err != nil || !open {
			return err
		}
		return land(ctx, tx, counters, nil, ms(s.db.now()))
	})
}

// Reap makes failures of reservations older than age, whose nodes must have died, and returns how
// many. Each one is counted once, even if several nodes reap.
func (s Attempts) Reap(ctx context.Context, age time.Duration) (int, error) {
	var ids []string
	err := s.db.reading(ctx, "looking for abandoned attempts", func(ctx context.Context, q querier) (err error) {
		ids, err = all(ctx, q, func(id *string) []any { return []any{id} },
			"SELECT id FROM attempts WHERE started <= ? ORDER BY id LIMIT 1000", ms(s.db.now().Add(-age)))
		return err
	})
	reaped := 0
	for _, id := range ids {
		_, open, err := s.fail(ctx, id, Guess{})
		if err != nil {
			return reaped, err
		}
		if open {
			reaped++
		}
	}
	return reaped, err
}

// Locks returns the locks in force, newest first.
func (s Attempts) Locks(ctx context.Context) ([]Lock, error) {
	var locks []Lock
	err := s.db.reading(ctx, "listing lockouts", func(ctx context.Context, q querier) error {
		rows, err := all(ctx, q, counterFields, "SELECT "+counterColumns+
			" FROM counters WHERE locked_until > ? ORDER BY since DESC, kind, key", ms(s.db.now()))
		for _, r := range rows {
			locks = append(locks, r.lock())
		}
		return err
	})
	return locks, err
}

// Lock locks a key of a kind by hand, until a time or, if that is zero, until it is cleared. An attempt that is
// exempt from the kind is not refused.
func (s Attempts) Lock(ctx context.Context, kind, key, author, reason string, until time.Time) (Lock, error) {
	what := "locking " + kind + " " + key
	if author == "" {
		return Lock{}, fmt.Errorf("%s: %w", what, errors.New("the author is missing"))
	}
	counters, err := canonical([]Counter{{Kind: kind, Key: key, Limit: 1}})
	if err != nil {
		return Lock{}, fmt.Errorf("%s: %w", what, err)
	}
	now, expires := s.db.now(), until
	if until.IsZero() {
		until = Forever
	}
	if !until.After(now) {
		return Lock{}, fmt.Errorf("%s: %w", what, errors.New("its end is not in the future"))
	}
	var row counterRow
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) (err error) {
		row, err = one(ctx, q, counterFields, `INSERT INTO counters (kind, key, failures, in_flight, since, locked_until, expires, author, reason)
			VALUES (?, ?, 0, 0, ?, ?, ?, ?, ?)
			ON CONFLICT (kind, key) DO UPDATE SET since = excluded.since, locked_until = excluded.locked_until, expires = excluded.expires,
				author = excluded.author, reason = excluded.reason
			RETURNING `+counterColumns, kind, counters[0].Key, ms(now), ms(until), ms(expires), author, reason)
		return err
	})
	return row.lock(), err
}

// Clear forgets the failures and the lock of a counter; id is a Lock's. Attempts in flight stay
// counted. The error is [ErrNotFound] if there is nothing to forget.
func (s Attempts) Clear(ctx context.Context, id string) error {
	kind, key, _ := strings.Cut(id, ":")
	return s.db.writing(ctx, "clearing lockout "+id, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, `UPDATE counters SET failures = 0, since = 0, locked_until = 0, expires = 0,
				level = 0, level_until = 0, guess = '', author = '', reason = ''
			WHERE kind = ? AND key = ? AND (failures > 0 OR locked_until > 0)`, kind, key)
	})
}

// ClearAll clears all locks in force and returns how many.
func (s Attempts) ClearAll(ctx context.Context) (int, error) {
	locks, err := s.Locks(ctx)
	if err != nil {
		return 0, err
	}
	cleared := 0
	for _, l := range locks { // one by one: a statement on many rows could wait crosswise for a login
		switch err := s.Clear(ctx, l.ID); {
		case err == nil:
			cleared++
		case !errors.Is(err, ErrNotFound):
			return cleared, err
		}
	}
	return cleared, nil
}
