package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Roles of administrators and API tokens.
const (
	RoleAdmin   = "admin"   // may do everything
	RoleAuditor = "auditor" // may read everything
)

// Admin is a user with a role.
type Admin struct {
	UserID  string
	Login   string
	Role    string // RoleAdmin or RoleAuditor
	Created time.Time
}

// Admins is the table of administrators and auditors.
type Admins struct{ db *db }

func checkRole(role string) error {
	if role != RoleAdmin && role != RoleAuditor {
		return fmt.Errorf("the role %q is neither %q nor %q", role, RoleAdmin, RoleAuditor)
	}
	return nil
}

// keepAnAdmin refuses with ErrLastAdmin if the user of userID is the only administrator. Until the
// end of the transaction no other one changes who is an administrator.
func keepAnAdmin(ctx context.Context, d *db, tx querier, userID string) error {
	if err := d.lock(ctx, tx, lockAdmins); err != nil {
		return err
	}
	role, err := scalar[string](ctx, tx, "SELECT role FROM admins WHERE user_id = ?", userID)
	if errors.Is(err, ErrNotFound) || err == nil && role != RoleAdmin {
		return nil
	}
	if err != nil {
		return err
	}
	others, err := scalar[int](ctx, tx, "SELECT COUNT(*) FROM admins WHERE role = ? AND user_id <> ?", RoleAdmin, userID)
	if err == nil && others == 0 {
		err = ErrLastAdmin
	}
	return err
}

// Set gives a user a role. The error is [ErrNotFound] if there is no such user, and [ErrLastAdmin]
// if the last administrator would become an auditor.
func (s Admins) Set(ctx context.Context, userID, role string) error {
	what := "making user " + userID + " " + role
	if err := checkRole(role); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.db.changing(ctx, what, func(ctx context.Context, tx querier) error {
		if role != RoleAdmin {
			if err := keepAnAdmin(ctx, s.db, tx, userID); err != nil {
				return err
			}
		}
		_, err := exec(ctx, tx, `INSERT INTO admins (user_id, role, created) VALUES (?, ?, ?)
			ON CONFLICT (user_id) DO UPDATE SET role = excluded.role`, userID, role, ms(s.db.now()))
		return err
	})
}

// Remove takes the role from a user. The error is [ErrNotFound] if there is none to take, and
// [ErrLastAdmin] for the last administrator.
func (s Admins) Remove(ctx context.Context, userID string) error {
	return s.db.changing(ctx, "taking the role from user "+userID, func(ctx context.Context, tx querier) error {
		if err := keepAnAdmin(ctx, s.db, tx, userID); err != nil {
			return err
		}
		return execOne(ctx, tx, "DELETE FROM admins WHERE user_id = ?", userID)
	})
}

// List returns administrators and auditors, newest first.
func (s Admins) List(ctx context.Context) ([]Admin, error) {
	var admins []Admin
	err := s.db.reading(ctx, "listing administrators", func(ctx context.Context, q querier) (err error) {
		admins, err = all(ctx, q, func(a *Admin) []any {
			return []any{&a.UserID, &a.Login, &a.Role, timeColumn{&a.Created}}
		}, `SELECT a.user_id, u.login, a.role, a.created FROM admins a JOIN users u ON u.id = a.user_id
			ORDER BY a.created DESC, a.user_id DESC`)
		return err
	})
	return admins, err
}

// Role returns the role of a user, empty if the user has none.
func (s Admins) Role(ctx context.Context, userID string) (string, error) {
	var role string
	err := s.db.briefly(ctx, "reading the role of user "+userID, func(ctx context.Context, q querier) (err error) {
		role, err = scalar[string](ctx, q, "SELECT role FROM admins WHERE user_id = ?", userID)
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		return err
	})
	return role, err
}

// Count returns the number of administrators, auditors not counted.
func (s Admins) Count(ctx context.Context) (int, error) {
	var n int
	err := s.db.reading(ctx, "counting administrators", func(ctx context.Context, q querier) (err error) {
		n, err = scalar[int](ctx, q, "SELECT COUNT(*) FROM admins WHERE role = ?", RoleAdmin)
		return err
	})
	return n, err
}
