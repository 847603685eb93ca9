package auth

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// orphanAge is when a reservation whose node has died becomes a failure. It is far longer than
// Budget, so that no attempt under evaluation can be taken for an orphan.
const orphanAge = 60 * time.Second

// Housekeeping counts attempts that dead nodes left behind as failures, writes audit events that waited
// for the database, ends requests for approval whose time is over, and looks whether the tokens doubt the clock. The server calls it every few seconds.
func (e *Engine) Housekeeping(ctx context.Context) error {
	_, reaped := e.cfg.Store.Attempts.Reap(ctx, orphanAge)
	if reaped != nil {
		reaped = fmt.Errorf("counting orphaned attempts: %w", reaped)
	}
	doubted := e.doubtClock(ctx)
	if doubted != nil {
		doubted = fmt.Errorf("looking at the drift of tokens: %w", doubted)
	}
	expired := e.expireApprovals(ctx)
	return errors.Join(reaped, doubted, expired, e.cfg.Audit.Flush(ctx))
}
