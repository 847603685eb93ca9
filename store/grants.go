package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// What a remembered code was worth.
const (
	FromToken = "token" // computed by a token
	FromSent  = "sent"  // sent by mail or SMS
)

// ErrGrantUsed is why [Attempts.Accept] did not accept: another login has used the grant meanwhile, or it has
// ended. Whoever wants to use it looks at it again first.
var ErrGrantUsed = errors.New("the grant was used or has ended meanwhile")

// maxGrants bounds what is remembered of one user; the ones used longest ago go.
const maxGrants = 100

// GrantKey is what has to be proved again for a grant to stand in for a code.
type GrantKey struct {
	UserID   string
	Door     string
	Network  string // of the source: an address or a prefix
	Evidence string // of the first factor
	Client   string // version string (SSH) or cookie series (web)
}

// Grant is a code that is remembered. Whether it stands in for another one is for the rules to say.
type Grant struct {
	ID string
	GrantKey
	Source    netip.Addr // it was last used from
	Assurance string     // FromToken or FromSent
	Rule      string     // that let it be written
	RuleHash  string     // of that rule as it was
	CodeAt    time.Time
	LastUsed  time.Time
	Uses      int
	Targets   []string
	Expires   time.Time
}

// GrantUse is the use of a grant that [Grants.Find] gave: it counts only if nobody has used it since.
type GrantUse struct {
	ID     string
	Uses   int       // as found
	CodeAt time.Time // as found
	Source netip.Addr
	Target string   // it is used for; "": none yet
	Known  []string // Targets as found
}

// Grants is the table of grants.
type Grants struct{ db *db }

const grantColumns = "id, user_id, door, network, evidence, client, source, assurance, rule, rule_hash, code_at, last_used, uses, targets, expires"

type grantRow struct {
	Grant
	source string
}

func grantFields(g *grantRow) []any {
	return []any{&g.ID, &g.UserID, &g.Door, &g.Network, &g.Evidence, &g.Client, &g.source, &g.Assurance, &g.Rule, &g.RuleHash,
		timeColumn{&g.CodeAt}, timeColumn{&g.LastUsed}, &g.Uses, jsonColumn{&g.Targets}, timeColumn{&g.Expires}}
}

func (g grantRow) grant() (Grant, error) {
	var err error
	g.Grant.Source, err = netip.ParseAddr(g.source)
	return g.Grant, err
}

// Find returns the grant for what is proved again, or [ErrNotFound] if there is none or it has expired.
func (s Grants) Find(ctx context.Context, k GrantKey) (Grant, error) {
	what := "looking for a grant of user " + k.UserID
	var row grantRow
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		row, err = one(ctx, q, grantFields, "SELECT "+grantColumns+` FROM grants
			WHERE user_id = ? AND door = ? AND network = ? AND evidence = ? AND client = ? AND expires > ?`,
			k.UserID, k.Door, k.Network, k.Evidence, k.Client, ms(s.db.now()))
		return err
	})
	if err != nil {
		return Grant{}, err
	}
	g, err := row.grant()
	if err != nil {
		return Grant{}, fmt.Errorf("%s: %w", what, err)
	}
	return g, nil
}

// List returns the grants of a user that have not expired, the last used first; of all users if userID is
// empty.
func (s Grants) List(ctx context.Context, userID string) ([]Grant, error) {
	what := "listing grants"
	query, args := "SELECT "+grantColumns+" FROM grants WHERE expires > ?", []any{ms(s.db.now())}
	if userID != "" {
		query, args = query+" AND user_id = ?", append(args, userID)
	}
	var rows []grantRow
	err := s.db.reading(ctx, what, func(ctx context.Context, q querier) (err error) {
		rows, err = all(ctx, q, grantFields, query+" ORDER BY last_used DESC, id DESC LIMIT 1000", args...)
		return err
	})
	if err != nil {
		return nil, err
	}
	grants := make([]Grant, len(rows))
	for i, r := range rows {
		if grants[i], err = r.grant(); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	return grants, nil
}

// Take tells by [ErrNotFound] whether a grant that spares codes in an open connection is still there, and good
// for a target: one it was used for, or one more if it was used for fewer than most (0: any number). With note
// the target counts from now on.
func (s Grants) Take(ctx context.Context, id, target string, most int, note bool) error {
	what := "using grant " + id
	for {
		var text string
		err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
			text, err = scalar[string](ctx, q, "SELECT targets FROM grants WHERE id = ? AND expires > ?", id, ms(s.db.now()))
			return err
		})
		if err != nil {
			return err
		}
		var targets []string
		if err := json.Unmarshal([]byte(text), &targets); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		switch {
		case slices.Contains(targets, target):
			return nil
		case most > 0 && len(targets) >= most:
			return fmt.Errorf("%s: for one more target: %w", what, ErrNotFound)
		case !note:
			return nil
		}
		more, err := toJSON(append(targets, target))
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		n := int64(0)
		err = s.db.writing(ctx, what, func(ctx context.Context, q querier) (err error) {
			n, err = exec(ctx, q, "UPDATE grants SET targets = ? WHERE id = ? AND targets = ?", more, id, text)
			return err
		})
		if err != nil || n == 1 {
			return err
		}
	}
}

// Revoke ends a grant of a user.
func (s Grants) Revoke(ctx context.Context, userID, id string) error {
	return s.db.writing(ctx, "revoking grant "+id, func(ctx context.Context, q querier) error {
		return execOne(ctx, q, "DELETE FROM grants WHERE id = ? AND user_id = ?", id, userID)
	})
}

// RevokeAll ends all grants of a user and tells how many there were.
func (s Grants) RevokeAll(ctx context.Context, userID string) (int, error) {
	n := 0
	err := s.db.changing(ctx, "revoking the grants of user "+userID, func(ctx context.Context, tx querier) (err error) {
		// The user first, as a login does that writes one: two transactions never wait for each other crosswise.
		lock := "SELECT id FROM users WHERE id = ?"
		if s.db.postgres() {
			lock += " FOR UPDATE"
		}
		if _, err := scalar[string](ctx, tx, lock, userID); err != nil {
			return err
		}
		n, err = endGrants(ctx, tx, userID)
		return err
	})
	return n, err
}

// endGrants is for everything after which a code has to be typed again: a lock, a change of tokens.
func endGrants(ctx context.Context, q querier, userID string) (int, error) {
	n, err := exec(ctx, q, "DELETE FROM grants WHERE user_id = ?", userID)
	if err != nil {
		return 0, err
	}
	radius, err := exec(ctx, q, "DELETE FROM radius_grants WHERE user_id = ?", userID)
	return int(n + radius), err
}

// useGrant counts one use. Of several logins that found the grant alike, one counts: uses rises with each,
// and a new code begins anew with another time.
func useGrant(ctx context.Context, q querier, u GrantUse, now int64) error {
	targets := u.Known
	if u.Target != "" && !slices.Contains(targets, u.Target) {
		targets = append(append([]string{}, targets...), u.Target)
	}
	known, err := toJSON(list(targets))
	if err != nil {
		return err
	}
	n, err := exec(ctx, q, `UPDATE grants SET uses = uses + 1, last_used = ?, source = ?, targets = ?
		WHERE id = ? AND uses = ? AND code_at = ? AND expires > ?`,
		now, canonicalAddr(u.Source).String(), known, u.ID, u.Uses, ms(u.CodeAt), now)
	if err == nil && n != 1 {
		err = ErrGrantUsed
	}
	return err
}

// writeGrant remembers a code that was accepted now, in the place of an earlier one of the same key.
func writeGrant(ctx context.Context, q querier, g Grant, now int64) error {
	id, err := newID()
	if err != nil {
		return err
	}
	targets, err := toJSON(list(g.Targets))
	if err != nil {
		return err
	}
	_, err = exec(ctx, q, `INSERT INTO grants
		(id, user_id, door, network, evidence, client, source, assurance, rule, rule_hash, code_at, last_used, uses, targets, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)
		ON CONFLICT (user_id, door, network, evidence, client) DO UPDATE SET source = excluded.source, assurance = excluded.assurance,
			rule = excluded.rule, rule_hash = excluded.rule_hash, code_at = excluded.code_at, last_used = excluded.last_used,
			uses = 0, targets = excluded.targets, expires = excluded.expires`,
		id, g.UserID, g.Door, g.Network, g.Evidence, g.Client, canonicalAddr(g.Source).String(), g.Assurance, g.Rule, g.RuleHash,
		now, now, targets, ms(g.Expires))
	if err != nil {
		return err
	}
	_, err = exec(ctx, q, `DELETE FROM grants WHERE user_id = ? AND id NOT IN
		(SELECT id FROM grants WHERE user_id = ? ORDER BY last_used DESC, id DESC LIMIT ?)`, g.UserID, g.UserID, maxGrants)
	return err
}
