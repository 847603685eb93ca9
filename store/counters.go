package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Counter is one of the limits that an attempt is under: failures of one key of one kind, such as
// kind "source" and key "192.0.2.7".
type Counter struct {
	Kind string // a word of ours, without ":"
	Key  string // anything, also what a stranger typed

	// Limit is how many failures set the lock; at least 1.
	Limit int

	// Window is the time from the first failure after which counting begins anew. 0 counts failures
	// in a row: only a success that resets the kind ends the row (and 90 days without a failure).
	Window time.Duration

	// Lock is how long the lock then holds; 0 means until it is cleared.
	Lock time.Duration

	// Longest bounds the growth of Lock: each lock that is set within a day after the end of another one holds
	// twice as long as that. Up to Lock there is no growth.
	Longest time.Duration

	// Exempt attempts are counted, but never refused by this counter.
	Exempt bool
}

// Lock is a counter that has reached its limit.
type Lock struct {
	ID       string // "kind:key", for [Attempts.Clear]
	Kind     string
	Key      string // a long or unprintable key is kept as "sha256:…"
	Failures int
	Since    time.Time // when the lock was set
	Until    time.Time // Forever: until it is cleared
	Author   string    // operator who set it; "": it followed failures
	Reason   string    // of an operator's lock
}

// Forever is the end of a lock that holds until it is cleared.
var Forever = time.Date(9999, time.January, 1, 0, 0, 0, 0, time.UTC)

// forgetAfter is when a counter of failures in a row is forgotten if none follows. Without an end
// strangers could fill the table for ever.
const forgetAfter = 90 * 24 * time.Hour

// canonical returns counters in the one order in which all transactions lock them, so that none
// wait for each other crosswise, and with keys as they are kept.
func canonical(counters []Counter) ([]Counter, error) {
	counters = slices.Clone(counters)
	for i, c := range counters {
		if c.Limit < 1 || c.Window < 0 || c.Lock < 0 {
			return nil, fmt.Errorf("counter %s: limit %d, window %v or lock %v is out of range", c.Kind, c.Limit, c.Window, c.Lock)
		}
		if c.Kind == "" || strings.Contains(c.Kind, ":") {
			return nil, fmt.Errorf("counter %q: the kind must be a word", c.Kind)
		}
		counters[i].Key = storedKey(c.Key)
	}
	slices.SortFunc(counters, compareCounters)
	for i := 1; i < len(counters); i++ {
		if compareCounters(counters[i-1], counters[i]) == 0 {
			return nil, fmt.Errorf("counter %s stands twice in one attempt", counters[i].Kind)
		}
	}
	return counters, nil
}

func compareCounters(a, b Counter) int {
	if c := strings.Compare(a.Kind, b.Kind); c != 0 {
		return c
	}
	return strings.Compare(a.Key, b.Key)
}

// maxKey is in bytes. PostgreSQL refuses long index entries, and strangers choose their length.
const maxKey = 200

// storedKey returns key, or a hash of it if the database could not keep it as it is.
func storedKey(key string) string {
	if len(key) <= maxKey && utf8.ValidString(key) && !strings.Contains(key, "\x00") && !strings.HasPrefix(key, hashedKey) {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return hashedKey + hex.EncodeToString(sum[:])
}

const hashedKey = "sha256:"

// counterRow is what the database knows of a counter.
type counterRow struct {
	kind, key   string
	failures    int
	inFlight    int
	since       time.Time
	lockedUntil time.Time
	expires     time.Time
	level       int
	levelUntil  time.Time
	author      string
	reason      string
}

const counterColumns = "kind, key, failures, in_flight, since, locked_until, expires, level, level_until, author, reason"

func counterFields(r *counterRow) []any {
	return []any{
		&r.kind, &r.key, &r.failures, &r.inFlight, timeColumn{&r.since}, timeColumn{&r.lockedUntil}, timeColumn{&r.expires},
		&r.level, timeColumn{&r.levelUntil}, &r.author, &r.reason,
	}
}

// at returns the row as it is at now.
func (r counterRow) at(now time.Time) counterRow {
	if !r.expires.IsZero() && !r.expires.After(now) {
		r.failures, r.since, r.lockedUntil, r.expires = 0, time.Time{}, time.Time{}, time.Time{}
		r.author, r.reason = "", ""
	}
	if !r.levelUntil.After(now) {
		r.level = 0
	}
	return r
}

func (r counterRow) lock() Lock {
	return Lock{
		ID: r.kind + ":" + r.key, Kind: r.kind, Key: r.key, Failures: r.failures, Since: r.since, Until: r.lockedUntil,
		Author: r.author, Reason: r.reason,
	}
}

// lockEnd returns when a lock that is set now ends, after so many others.
func (c Counter) lockEnd(now time.Time, level int) time.Time {
	if c.Lock == 0 {
		return Forever
	}
	lock := c.Lock
	for ; level > 0 && lock < c.Longest; level-- {
		lock = min(2*lock, c.Longest)
	}
	return now.Add(lock)
}

// levelKept is how long after the end of a lock the next one is longer.
const levelKept = 24 * time.Hour

// setLock locks a counter that has reached its limit, after level others, and tells whether it was not locked
// before.
func setLock(ctx context.Context, q querier, c Counter, now time.Time, level int) (bool, error) {
	end := c.lockEnd(now, level)
	expires, levelUntil := int64(0), int64(0)
	if c.Lock > 0 {
		expires, levelUntil = ms(end), ms(end.Add(levelKept))
	}
	n, err := exec(ctx, q, `UPDATE counters SET since = ?, locked_until = ?, expires = ?, level = ?, level_until = ?, author = '', reason = ''
		WHERE kind = ? AND key = ? AND locked_until = 0 AND failures >= ?`,
		ms(now), ms(end), expires, level+1, levelUntil, c.Kind, c.Key, c.Limit)
	return n == 1, err
}

// lapsed tells in SQL that what a row of counters says is over. Its parameter is now.
const lapsed = "(counters.expires > 0 AND counters.expires <= ?)"

// landed is in_flight after one attempt has ended.
const landed = "CASE WHEN counters.in_flight > 0 THEN counters.in_flight - 1 ELSE 0 END"

// countFailure turns an attempt in flight into a failure and returns what the counter is then.
func countFailure(ctx context.Context, tx querier, c Counter, now time.Time) (counterRow, error) {
	window := c.Window
	if window == 0 {
		window = forgetAfter
	}
	at, expires := ms(now), ms(now.Add(window))
	row, err := one(ctx, tx, counterFields, `INSERT INTO counters (kind, key, failures, in_flight, since, locked_until, expires)
		VALUES (?, ?, 1, 0, ?, 0, ?)
		ON CONFLICT (kind, key) DO UPDATE SET
			failures     = CASE WHEN `+lapsed+` THEN 1 ELSE counters.failures + 1 END,
			in_flight    = `+landed+`,
			since        = CASE WHEN `+lapsed+` OR counters.failures = 0 THEN excluded.since ELSE counters.since END,
			locked_until = CASE WHEN `+lapsed+` THEN 0 ELSE counters.locked_until END,
			expires      = CASE WHEN `+lapsed+` OR counters.failures = 0 OR (? AND counters.locked_until = 0)
			                    THEN excluded.expires ELSE counters.expires END
		RETURNING `+counterColumns,
		c.Kind, c.Key, at, expires, at, at, at, at, c.Window == 0)
	return row.at(now), err
}

// repeatedWithin is how long the same wrong code is one failure: a client that sends it again by itself must
// not lock its person out.
const repeatedWithin = time.Minute

// repeated tells whether a wrong guess is the one noted last with a counter of its person, not long ago. It locks
// nothing: of two such guesses at the same moment both may count.
func repeated(ctx context.Context, tx querier, counters []Counter, g Guess, now time.Time) (bool, error) {
	i := slices.IndexFunc(counters, g.of)
	if i < 0 {
		return false, nil
	}
	n, err := scalar[int](ctx, tx, "SELECT COUNT(*) FROM counters WHERE kind = ? AND key = ? AND guess = ? AND guess_at > ?",
		counters[i].Kind, counters[i].Key, g.Hash, ms(now.Add(-repeatedWithin)))
	return n > 0, err
}

// noteGuess keeps a wrong guess with the counter of its person, which the transaction has locked.
func noteGuess(ctx context.Context, tx querier, c Counter, g Guess, now time.Time) error {
	_, err := exec(ctx, tx, "UPDATE counters SET guess = ?, guess_at = ? WHERE kind = ? AND key = ?", g.Hash, ms(now), c.Kind, c.Key)
	return err
}

// land takes an attempt out of flight and forgets the failures of the kinds in reset.
func land(ctx context.Context, tx querier, counters []Counter, reset []string, now int64) error {
	for _, c := range counters {
		if _, err := exec(ctx, tx, `UPDATE counters SET
				in_flight    = `+landed+`,
				failures     = CASE WHEN ? AND locked_until <= ? THEN 0 ELSE failures END,
				expires      = CASE WHEN ? AND locked_until <= ? THEN 0 ELSE expires END,
				level        = CASE WHEN ? AND locked_until <= ? THEN 0 ELSE level END,
				locked_until = CASE WHEN ? AND locked_until <= ? THEN 0 ELSE locked_until END
			WHERE kind = ? AND key = ?`,
			slices.Contains(reset, c.Kind), now, slices.Contains(reset, c.Kind), now, slices.Contains(reset, c.Kind), now,
			slices.Contains(reset, c.Kind), now,
			c.Kind, c.Key); err != nil {
			return err
		}
	}
	return nil
}
