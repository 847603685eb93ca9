package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sallyport/audit"
)

// Place is an address from which a user was authenticated.
type Place struct {
	UserID string
	Source netip.Addr
	First  time.Time
	Last   time.Time
	Count  int // how often
}

// Places is the table of places.
type Places struct{ db *db }

// network returns what makes two addresses the same place: the address itself, but for IPv6 its
// /64, in which a machine takes a new address every day.
func network(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	return netip.PrefixFrom(a, 64).Masked().String()
}

func canonicalAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// Seen notes that a user was authenticated from an address now.
func (s Places) Seen(ctx context.Context, userID string, source netip.Addr) error {
	what := "noting a place of user " + userID
	if !source.IsValid() {
		return fmt.Errorf("%s: %w", what, errors.New("the address is missing"))
	}
	source = canonicalAddr(source)
	return s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		return see(ctx, q, userID, source, ms(s.db.now()))
	})
}

// maxRefused bounds the addresses kept of one user that were only refused; those of longest ago go.
const maxRefused = 500

// Refused notes that somebody asked from an address now to be let in as a user, and was not.
func (s Places) Refused(ctx context.Context, userID string, source netip.Addr) error {
	what := "noting a refusal of user " + userID
	if !source.IsValid() {
		return fmt.Errorf("%s: %w", what, errors.New("the address is missing"))
	}
	return s.db.changing(ctx, what, func(ctx context.Context, tx querier) error {
		now := ms(s.db.now())
		times, err := scalar[int](ctx, tx, `INSERT INTO refused_places (user_id, source, first_seen, last_seen, times)
			VALUES (?, ?, ?, ?, 1)
			ON CONFLICT (user_id, source) DO UPDATE SET last_seen = excluded.last_seen, times = refused_places.times + 1
			RETURNING times`, userID, canonicalAddr(source).String(), now, now)
		if err != nil || times > 1 {
			return err
		}
		_, err = exec(ctx, tx, `DELETE FROM refused_places WHERE user_id = ? AND source IN (SELECT source FROM refused_places
			WHERE user_id = ? ORDER BY last_seen DESC, source LIMIT 100000 OFFSET ?)`, userID, userID, maxRefused)
		return err
	})
}

// PlacesAlarm says how many new networks are too many for one user in a time: an address each or, for IPv6, a /64.
type PlacesAlarm struct {
	More   int // the alarm is raised by one network more
	Within time.Duration
	Lock   bool // the user is locked then
}

// tooMany counts the networks from which a user was authenticated for the first time within the time, and tells
// whether the alarm is raised for them: once in that time. The user's row is locked.
func (a PlacesAlarm) tooMany(ctx context.Context, tx querier, userID string, now int64) (networks int, raised bool, err error) {
	since := now - a.Within.Milliseconds()
	networks, err = scalar[int](ctx, tx, `SELECT COUNT(*) FROM (SELECT network FROM places WHERE user_id = ?
		GROUP BY network HAVING MIN(first_seen) > ?) AS fresh`, userID, since)
	if err != nil || networks <= a.More {
		return networks, false, err
	}
	n, err := exec(ctx, tx, "UPDATE users SET places_alarm = ? WHERE id = ? AND places_alarm <= ?", now, userID, since)
	if err != nil || n == 0 || !a.Lock {
		return networks, n > 0, err
	}
	return networks, true, lockUser(ctx, tx, userID, a.Reason(networks), time.Time{})
}

// Reason says in words why the alarm was raised.
func (a PlacesAlarm) Reason(networks int) string {
	return fmt.Sprintf("signed in from %d new addresses within %s", networks, audit.Short(a.Within))
}

// see notes an address of canonicalAddr.
func see(ctx context.Context, q querier, userID string, source netip.Addr, now int64) error {
	_, err := exec(ctx, q, `INSERT INTO places (user_id, source, network, first_seen, last_seen, times)
		VALUES (?, ?, ?, ?, ?, 1)
		ON CONFLICT (user_id, source) DO UPDATE SET last_seen = excluded.last_seen, times = places.times + 1`,
		userID, source.String(), network(source), now, now)
	return err
}

// Known tells whether a user was authenticated since a time from an address, or for IPv6 from
// another one of its /64.
func (s Places) Known(ctx context.Context, userID string, source netip.Addr, since time.Time) (bool, error) {
	if !source.IsValid() {
		return false, nil
	}
	known := false
	err := s.db.briefly(ctx, "looking for a place of user "+userID, func(ctx context.Context, q querier) error {
		n, err := scalar[int](ctx, q, "SELECT COUNT(*) FROM places WHERE user_id = ? AND network = ? AND last_seen >= ?",
			userID, network(canonicalAddr(source)), ms(since))
		known = n > 0
		return err
	})
	return known && err == nil, err
}

// List returns the places of a user, the last seen first.
func (s Places) List(ctx context.Context, userID string) ([]Place, error) {
	return s.list(ctx, "places", userID)
}

// ListRefused returns the addresses from which somebody asked to be let in as a user and was not, the last seen
// first; the latest 500 are kept.
func (s Places) ListRefused(ctx context.Context, userID string) ([]Place, error) {
	return s.list(ctx, "refused_places", userID)
}

func (s Places) list(ctx context.Context, table, userID string) ([]Place, error) {
	type row struct {
		Place
		source string
	}
	var rows []row
	what := "listing the " + table + " of user " + userID
	err := s.db.reading(ctx, what, func(ctx context.Context, q querier) (err error) {
		rows, err = all(ctx, q, func(r *row) []any {
			return []any{&r.UserID, &r.source, timeColumn{&r.First}, timeColumn{&r.Last}, &r.Count}
		}, "SELECT user_id, source, first_seen, last_seen, times FROM "+table+` WHERE user_id = ?
			ORDER BY last_seen DESC, source`, userID)
		return err
	})
	if err != nil {
		return nil, err
	}
	places := make([]Place, len(rows))
	for i, r := range rows {
		if r.Place.Source, err = netip.ParseAddr(r.source); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		places[i] = r.Place
	}
	return places, nil
}
