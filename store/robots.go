package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Robot is a program that comes with a public key and may run the commands listed here, and nothing else.
type Robot struct {
	ID          string
	Name        string // unique, also among the logins of users
	PublicKey   string // form of authorized_keys without comment
	Fingerprint string // SHA256:…, unique
	Sources     []string
	Targets     []string // words as in rules
	Accounts    []string // words as in rules
	Commands    []string // compared byte by byte
	Note        string
	Enabled     bool
	Expires     time.Time // zero: never
	Created     time.Time
	LastUsed    time.Time
	LastSource  string
}

// Usable tells whether the robot may do anything at this time.
func (r Robot) Usable(at time.Time) bool {
	return r.Enabled && (r.Expires.IsZero() || at.Before(r.Expires))
}

// Robots is the table of robots.
type Robots struct{ db *db }

const robotColumns = `id, name, public_key, fingerprint, sources, targets, accounts, commands, note, enabled, expires, created,
	last_used, last_source`

func robotFields(r *Robot) []any {
	return []any{
		&r.ID, &r.Name, &r.PublicKey, &r.Fingerprint, jsonColumn{&r.Sources}, jsonColumn{&r.Targets}, jsonColumn{&r.Accounts},
		jsonColumn{&r.Commands}, &r.Note, &r.Enabled, timeColumn{&r.Expires}, timeColumn{&r.Created}, timeColumn{&r.LastUsed}, &r.LastSource,
	}
}

// robotValues returns the columns of r from public_key to expires.
func robotValues(r Robot) ([]any, error) {
	if r.PublicKey == "" || r.Fingerprint == "" {
		return nil, errors.New("key or fingerprint is missing")
	}
	values := []any{r.PublicKey, r.Fingerprint}
	for _, l := range [][]string{r.Sources, r.Targets, r.Accounts, r.Commands} {
		if len(l) == 0 {
			return nil, errors.New("sources, targets, accounts or commands are missing")
		}
		text, err := toJSON(l)
		if err != nil {
			return nil, err
		}
		values = append(values, text)
	}
	return append(values, r.Note, r.Enabled, ms(r.Expires)), nil
}

// Add makes a robot. The error is [ErrNameTaken] if a user has the name as login, and [ErrExists] if a
// robot has the name, or anybody has the key.
func (s Robots) Add(ctx context.Context, r Robot) (Robot, error) {
	what := "adding robot " + r.Name
	values, err := robotValues(r)
	if err == nil && (r.Name == "" || r.Name != FoldLogin(r.Name)) {
		err = errors.New("the name is empty or not in lower case")
	}
	if err != nil {
		return Robot{}, fmt.Errorf("%s: %w", what, err)
	}
	id, err := newID()
	if err != nil {
		return Robot{}, fmt.Errorf("%s: %w", what, err)
	}
	err = s.db.changing(ctx, what, func(ctx context.Context, tx querier) error {
		if err := s.db.lock(ctx, tx, lockLogins); err != nil {
			return err
		}
		switch n, err := scalar[int64](ctx, tx, "SELECT COUNT(*) FROM users WHERE login = ?", r.Name); {
		case err != nil:
			return err
		case n > 0:
			return ErrNameTaken
		}
		if err := noUserHas(ctx, tx, r.Fingerprint); err != nil {
			return err
		}
		var err error
		r, err = one(ctx, tx, robotFields, `INSERT INTO robots
			(public_key, fingerprint, sources, targets, accounts, commands, note, enabled, expires, id, name, created)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING `+robotColumns, append(values, id, r.Name, ms(s.db.now()))...)
		return err
	})
	if err != nil {
		return Robot{}, err
	}
	return r, nil
}

// noUserHas is ErrExists if a user has the key: a key names one person or one robot.
func noUserHas(ctx context.Context, tx querier, fingerprint string) error {
	n, err := scalar[int64](ctx, tx, "SELECT COUNT(*) FROM user_keys WHERE fingerprint = ?", fingerprint)
	if err == nil && n > 0 {
		err = ErrExists
	}
	return err
}

// List returns all robots, newest first.
func (s Robots) List(ctx context.Context) ([]Robot, error) {
	var list []Robot
	err := s.db.reading(ctx, "listing robots", func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, robotFields, "SELECT "+robotColumns+" FROM robots ORDER BY id DESC")
		return err
	})
	return list, err
}

// ByName returns the robot of a name, or [ErrNotFound].
func (s Robots) ByName(ctx context.Context, name string) (Robot, error) {
	return s.by(ctx, "name", name)
}

// ByID returns the robot of an id, or [ErrNotFound].
func (s Robots) ByID(ctx context.Context, id string) (Robot, error) {
	return s.by(ctx, "id", id)
}

func (s Robots) by(ctx context.Context, column, value string) (Robot, error) {
	var r Robot
	err := s.db.briefly(ctx, "reading robot "+value, func(ctx context.Context, q querier) (err error) {
		r, err = one(ctx, q, robotFields, "SELECT "+robotColumns+" FROM robots WHERE "+column+" = ?", value)
		return err
	})
	return r, err
}

// Change lets change alter everything of a robot but its name, while nobody else does. Its error is
// returned as it is. [ErrExists] if somebody has the new key.
func (s Robots) Change(ctx context.Context, name string, change func(*Robot) error) (Robot, error) {
	what := "changing robot " + name
	var r Robot
	err := s.db.withdrawing(ctx, what, "", func(ctx context.Context, tx querier) error {
		query := "SELECT " + robotColumns + " FROM robots WHERE name = ?"
		if s.db.postgres() {
			query += " FOR UPDATE"
		}
		var err error
		if r, err = one(ctx, tx, robotFields, query, name); err != nil {
			return err
		}
		before := r.Fingerprint
		if err := change(&r); err != nil {
			return err
		}
		if r.Fingerprint != before {
			if err := noUserHas(ctx, tx, r.Fingerprint); err != nil {
				return err
			}
		}
		values, err := robotValues(r)
		if err != nil {
			return err
		}
		r, err = one(ctx, tx, robotFields, `UPDATE robots SET public_key = ?, fingerprint = ?, sources = ?, targets = ?, accounts = ?,
			commands = ?, note = ?, enabled = ?, expires = ? WHERE id = ? RETURNING `+robotColumns, append(values, r.ID)...)
		return err
	})
	if err != nil {
		return Robot{}, err
	}
	return r, nil
}

// Delete removes the robot of a name.
func (s Robots) Delete(ctx context.Context, name string) error {
	return s.db.withdrawing(ctx, "deleting robot "+name, "", func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "DELETE FROM robots WHERE name = ?", name)
	})
}

// useRobot notes a login, and only of a robot that may still come with this key.
func useRobot(ctx context.Context, tx querier, u RobotUse, source string, now int64) error {
	return execOne(ctx, tx, `UPDATE robots SET last_used = ?, last_source = ?
		WHERE id = ? AND fingerprint = ? AND enabled AND (expires = 0 OR expires > ?)`, now, source, u.ID, u.Fingerprint, now)
}
