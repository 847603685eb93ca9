package store

import (
	"context"
	"errors"
	"time"
)

// RuleSet is one version of the rules.
type RuleSet struct {
	Version int64 // 1, 2, 3 …; 0 if there are no rules yet
	Text    string
	By      string // who put it
	At      time.Time
}

// Rules keeps every version of the rules.
type Rules struct{ db *db }

const ruleSetColumns = "version, document, author, created"

func ruleSetFields(r *RuleSet) []any {
	return []any{&r.Version, &r.Text, &r.By, timeColumn{&r.At}}
}

// Current returns the rules in force; if there are none, the zero RuleSet.
func (s Rules) Current(ctx context.Context) (RuleSet, error) {
	var r RuleSet
	err := s.db.briefly(ctx, "reading the rules", func(ctx context.Context, q querier) (err error) {
		r, err = one(ctx, q, ruleSetFields, "SELECT "+ruleSetColumns+" FROM rule_sets ORDER BY version DESC LIMIT 1")
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		return err
	})
	return r, err
}

// Version returns the version in force, 0 if there are no rules.
func (s Rules) Version(ctx context.Context) (int64, error) {
	var version int64
	err := s.db.briefly(ctx, "reading the version of the rules", func(ctx context.Context, q querier) (err error) {
		version, err = currentRules(ctx, q)
		return err
	})
	return version, err
}

func currentRules(ctx context.Context, q querier) (int64, error) {
	return scalar[int64](ctx, q, "SELECT COALESCE(MAX(version), 0) FROM rule_sets")
}

// Put makes text the rules in force. expect is the version that it was made from; if another one is
// in force by now, the error is [ErrConflict].
func (s Rules) Put(ctx context.Context, text, by string, expect int64) (RuleSet, error) {
	var r RuleSet
	err := s.db.withdrawing(ctx, "putting new rules", "", func(ctx context.Context, tx querier) error {
		if err := s.db.lock(ctx, tx, lockRules); err != nil {
			return err
		}
		version, err := currentRules(ctx, tx)
		if err != nil {
			return err
		}
		if version != expect {
			return ErrConflict
		}
		r, err = one(ctx, tx, ruleSetFields, "INSERT INTO rule_sets ("+ruleSetColumns+") VALUES (?, ?, ?, ?) RETURNING "+
			ruleSetColumns, version+1, text, by, ms(s.db.now()))
		return err
	})
	if err != nil {
		return RuleSet{}, err
	}
	return r, nil
}

// History returns all versions, newest first.
func (s Rules) History(ctx context.Context) ([]RuleSet, error) {
	var history []RuleSet
	err := s.db.reading(ctx, "listing the versions of the rules", func(ctx context.Context, q querier) (err error) {
		history, err = all(ctx, q, ruleSetFields, "SELECT "+ruleSetColumns+" FROM rule_sets ORDER BY version DESC")
		return err
	})
	return history, err
}
