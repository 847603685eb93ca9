package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// How the host key of a target comes to be known.
const (
	Pinned = "pinned" // an operator gave it
	TOFU   = "tofu"   // the first one seen is trusted from then on
)

// Target is a host that sessions go to.
type Target struct {
	ID          string
	Name        string // unique
	Address     string // host:port
	Accounts    []string
	Labels      map[string]string
	HostKeyMode string   // Pinned (the default) or TOFU
	HostKeys    []string // form of authorized_keys without comment
	Lockout     int      // stricter limit of failures, 0: none
	Note        string
	Created     time.Time
}

// Targets is the table of targets.
type Targets struct{ db *db }

const targetColumns = "id, name, address, accounts, labels, host_key_mode, host_keys, lockout, note, created"

func targetFields(t *Target) []any {
	return []any{
		&t.ID, &t.Name, &t.Address, jsonColumn{&t.Accounts}, jsonColumn{&t.Labels}, &t.HostKeyMode,
		jsonColumn{&t.HostKeys}, &t.Lockout, &t.Note, timeColumn{&t.Created},
	}
}

// targetValues returns the columns of t from name to note.
func targetValues(t Target) ([]any, error) {
	if t.Name == "" || t.Address == "" {
		return nil, errors.New("name or address is missing")
	}
	if t.HostKeyMode == "" {
		t.HostKeyMode = Pinned
	}
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	accounts, err1 := toJSON(list(t.Accounts))
	labels, err2 := toJSON(t.Labels)
	hostKeys, err3 := toJSON(list(t.HostKeys))
	return []any{t.Name, t.Address, accounts, labels, t.HostKeyMode, hostKeys, t.Lockout, t.Note}, errors.Join(err1, err2, err3)
}

// Add makes a target. The error is [ErrExists] if there is one of this name.
func (s Targets) Add(ctx context.Context, t Target) (Target, error) {
	what := "adding target " + t.Name
	values, err := targetValues(t)
	if err != nil {
		return Target{}, fmt.Errorf("%s: %w", what, err)
	}
	id, err := newID()
	if err != nil {
		return Target{}, fmt.Errorf("%s: %w", what, err)
	}
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) (err error) {
		t, err = one(ctx, q, targetFields, `INSERT INTO targets
			(name, address, accounts, labels, host_key_mode, host_keys, lockout, note, id, created)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING `+targetColumns, append(values, id, ms(s.db.now()))...)
		return err
	})
	if err != nil {
		return Target{}, err
	}
	return t, nil
}

// Update replaces everything of the target with t's id, except the time of creation.
func (s Targets) Update(ctx context.Context, t Target) error {
	what := "changing target " + t.Name
	values, err := targetValues(t)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, `UPDATE targets SET name = ?, address = ?, accounts = ?, labels = ?, host_key_mode = ?,
			host_keys = ?, lockout = ?, note = ? WHERE id = ?`, append(values, t.ID)...)
	})
}

// TrustHostKey makes key the host key of a target, only if none is known and the target trusts on
// first use. It tells whether it did: of many at once one gets true, and the others have to compare
// with the key that is known now.
func (s Targets) TrustHostKey(ctx context.Context, id, key string) (bool, error) {
	what := "trusting the host key of target " + id
	keys, err := toJSON([]string{key})
	if err != nil || key == "" {
		return false, fmt.Errorf("%s: %w", what, errors.Join(err, errors.New("the key is missing")))
	}
	trusted := false
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		n, err := exec(ctx, q, "UPDATE targets SET host_keys = ? WHERE id = ? AND host_key_mode = ? AND host_keys = '[]'",
			keys, id, TOFU)
		trusted = n == 1
		return err
	})
	return trusted && err == nil, err
}

// ByName returns a target, or [ErrNotFound].
func (s Targets) ByName(ctx context.Context, name string) (Target, error) {
	return s.find(ctx, "reading target "+name, "name = ?", name)
}

// ByID returns a target, or [ErrNotFound].
func (s Targets) ByID(ctx context.Context, id string) (Target, error) {
	return s.find(ctx, "reading target "+id, "id = ?", id)
}

func (s Targets) find(ctx context.Context, what, condition, value string) (Target, error) {
	var t Target
	err := s.db.reading(ctx, what, func(ctx context.Context, q querier) (err error) {
		t, err = one(ctx, q, targetFields, "SELECT "+targetColumns+" FROM targets WHERE "+condition, value)
		return err
	})
	return t, err
}

// List returns all targets in the natural order of their names: web2 before web10.
func (s Targets) List(ctx context.Context) ([]Target, error) {
	var targets []Target
	err := s.db.reading(ctx, "listing targets", func(ctx context.Context, q querier) (err error) {
		targets, err = all(ctx, q, targetFields, "SELECT "+targetColumns+" FROM targets")
		return err
	})
	slices.SortFunc(targets, func(a, b Target) int { return compareNatural(a.Name, b.Name) })
	return targets, err
}

// Delete removes a target.
func (s Targets) Delete(ctx context.Context, name string) error {
	return s.db.writing(ctx, "deleting target "+name, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "DELETE FROM targets WHERE name = ?", name)
	})
}

// compareNatural compares names with runs of digits in them as numbers.
func compareNatural(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		p, q := leadingRun(x), leadingRun(y)
		x, y = x[len(p):], y[len(q):]
		if isDigit(p[0]) && isDigit(q[0]) {
			p, q = strings.TrimLeft(p, "0"), strings.TrimLeft(q, "0")
			if len(p) != len(q) {
				return len(p) - len(q)
			}
		}
		if c := strings.Compare(p, q); c != 0 {
			return c
		}
	}
	if c := len(x) - len(y); c != 0 {
		return c
	}
	return strings.Compare(a, b) // web01 and web1
}

// leadingRun returns the digits, or the other characters, at the start of s, which is not empty.
func leadingRun(s string) string {
	digits := isDigit(s[0])
	for i := range len(s) {
		if isDigit(s[i]) != digits {
			return s[:i]
		}
	}
	return s
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
