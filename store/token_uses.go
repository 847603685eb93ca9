package store

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// TokenUse is the use of one code of a token.
type TokenUse struct {
	TokenID string
	Step    int64 // time step, or counter, that the code belongs to
	Ahead   int   // how many steps that is after the present step of our clock; nothing for a counter
	Door    string
	Source  netip.Addr
}

// PastUse is a use that a token remembers.
type PastUse struct {
	Step   int64
	At     time.Time
	Door   string // "" if it was not told
	Source string // the same
}

// maxDrift bounds the drift that is learned, in steps to each side.
const maxDrift = 10

// maxUses bounds what a token remembers of its uses, in bytes: at least the last twenty.
const maxUses = 2000

// ConsumeStep marks the step of a code, and all before it, as used, and tells whether it was still
// unused. Only then may the code be accepted: of any number of tries on any number of nodes one gets
// true. A token that is disabled, expired or gone gets false. With the step, the token's drift learns
// from u.Ahead: two uses in a row on the same side of it move it by one step.
func (s Tokens) ConsumeStep(ctx context.Context, u TokenUse) (bool, error) {
	consumed := false
	err := s.db.changingTogether(ctx, "consuming a step of token "+u.TokenID, func(ctx context.Context, q querier) (err error) {
		consumed, err = consumeStep(ctx, q, u, ms(s.db.now()))
		return err
	})
	return err == nil && consumed, err
}

// Parts of consumeStep: the side of its drift on which a token is seen (parameter: TokenUse.Ahead, twice),
// and whether that moves the drift, which never goes further than maxDrift from 0.
const (
	side  = "(CASE WHEN kind <> 'totp' THEN 0 WHEN ? > drift THEN 1 WHEN ? < drift THEN -1 ELSE 0 END)"
	moves = "(" + side + " <> 0 AND lean = " + side + " AND (ABS(drift + " + side + ") <= ? OR ABS(drift + " + side + ") < ABS(drift)))"
)

func consumeStep(ctx context.Context, q querier, u TokenUse, now int64) (bool, error) {
	sided := []any{u.Ahead, u.Ahead}
	moved := []any{u.Ahead, u.Ahead, u.Ahead, u.Ahead, u.Ahead, u.Ahead, maxDrift, u.Ahead, u.Ahead}
	var args []any
	for _, part := range [][]any{
		{u.Step, now}, moved, sided, moved, sided, moved, {now}, moved, sided, {u.entry(now), maxUses, u.TokenID, now, u.Step},
	} {
		args = append(args, part...)
	}
	n, err := exec(ctx, q, `UPDATE tokens SET last_step = ?, last_used = ?,
			drift     = CASE WHEN `+moves+` THEN drift + `+side+` ELSE drift END,
			lean      = CASE WHEN `+moves+` THEN 0 ELSE `+side+` END,
			moved     = CASE WHEN `+moves+` THEN ? ELSE moved END,
			moved_way = CASE WHEN `+moves+` THEN `+side+` ELSE moved_way END,
			uses      = SUBSTR(? || uses, 1, ?)
		WHERE id = ? AND enabled AND (expires = 0 OR expires > ?) AND last_step < ?`, args...)
	return n == 1, err
}

// entry is the line of a use in the column uses.
func (u TokenUse) entry(now int64) string {
	door, source := "-", "-"
	if u.Door != "" {
		door = u.Door
	}
	if u.Source.IsValid() {
		source = canonicalAddr(u.Source).String()
	}
	return fmt.Sprintf("%d %d %s %s\n", u.Step, now, door, source)
}

// Uses returns what a token remembers of its uses, newest first, or [ErrNotFound].
func (s Tokens) Uses(ctx context.Context, id string) ([]PastUse, error) {
	var text string
	err := s.db.reading(ctx, "reading the uses of token "+id, func(ctx context.Context, q querier) (err error) {
		text, err = scalar[string](ctx, q, "SELECT uses FROM tokens WHERE id = ?", id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return parseUses(text), nil
}

func parseUses(text string) []PastUse {
	var uses []PastUse
	for line := range strings.Lines(text) {
		line, whole := strings.CutSuffix(line, "\n")
		f := strings.Fields(line)
		if !whole || len(f) != 4 {
			break // cut off
		}
		step, err := strconv.ParseInt(f[0], 10, 64)
		at, err2 := strconv.ParseInt(f[1], 10, 64)
		if err != nil || err2 != nil {
			break
		}
		use := PastUse{Step: step, At: time.UnixMilli(at).UTC(), Door: f[2], Source: f[3]}
		if use.Door == "-" {
			use.Door = ""
		}
		if use.Source == "-" {
			use.Source = ""
		}
		uses = append(uses, use)
	}
	return uses
}

// Resync marks two codes in a row as used, the second one being u's, and makes drift what the token's
// clock was found to be ahead. It tells whether both were later than the last one used; otherwise, and
// if the token is gone, nothing was done. The state of the token does not matter.
func (s Tokens) Resync(ctx context.Context, u TokenUse, drift int) (bool, error) {
	done := false
	err := s.db.writing(ctx, "resynchronising token "+u.TokenID, func(ctx context.Context, q querier) error {
		now := ms(s.db.now())
		n, err := exec(ctx, q, `UPDATE tokens SET last_step = ?, drift = ?, lean = 0, moved = ?, moved_way = 0,
				uses = SUBSTR(? || uses, 1, ?)
			WHERE id = ? AND last_step < ?`, u.Step, drift, now, u.entry(now), maxUses, u.TokenID, u.Step-1)
		done = n == 1
		return err
	})
	return done && err == nil, err
}

// Drifting counts tokens by what their logins said of the clock.
type Drifting struct {
	Used   int // TOTP tokens that were used
	Ahead  int // of them, those whose drift went up by one: our clock loses time against them
	Behind int // down
}

// together is how many tokens, and at least half of those in use, make a clock doubtful.
const together = 5

// Together tells whether so many tokens moved the same way that our clock must be wrong: 1, they are all
// ahead of it; -1, behind; 0, no.
func (d Drifting) Together() int {
	switch {
	case d.Ahead >= together && 2*d.Ahead >= d.Used:
		return 1
	case d.Behind >= together && 2*d.Behind >= d.Used:
		return -1
	}
	return 0
}

// String says in words what the tokens tell of our clock.
func (d Drifting) String() string {
	switch d.Together() {
	case 1:
		return fmt.Sprintf("%d of %d tokens used in the last day moved ahead: the clock here seems to be slow", d.Ahead, d.Used)
	case -1:
		return fmt.Sprintf("%d of %d tokens used in the last day fell behind: the clock here seems to be fast", d.Behind, d.Used)
	}
	return fmt.Sprintf("of %d tokens used in the last day %d moved ahead and %d fell behind", d.Used, d.Ahead, d.Behind)
}

// Drifting counts since a time.
func (s Tokens) Drifting(ctx context.Context, since time.Time) (Drifting, error) {
	var d Drifting
	err := s.db.reading(ctx, "counting tokens that drift", func(ctx context.Context, q querier) (err error) {
		d, err = one(ctx, q, func(d *Drifting) []any { return []any{&d.Used, &d.Ahead, &d.Behind} },
			`SELECT COUNT(*), COALESCE(SUM(CASE WHEN moved >= ? AND moved_way = 1 THEN 1 ELSE 0 END), 0),
				COALESCE(SUM(CASE WHEN moved >= ? AND moved_way = -1 THEN 1 ELSE 0 END), 0)
			FROM tokens WHERE kind = 'totp' AND last_used >= ?`, ms(since), ms(since), ms(since))
		return err
	})
	return d, err
}
