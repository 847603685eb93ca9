package bastion

import (
	"context"
	"fmt"
	"time"

	"sallyport/audit"
	"sallyport/auth"
)

// trustLine tells a person that no code will be asked for from here, for how long, and how to end that; "" if
// nothing is remembered.
func trustLine(id auth.Identity, now time.Time) string {
	t := id.Trusted
	if t == nil || !t.Until.After(now) {
		return ""
	}
	logins := ""
	switch {
	case t.MaxUses > 0:
		logins = fmt.Sprintf(", %d of %s", t.Uses, audit.Counted(t.MaxUses, "login", "logins"))
	case t.Uses > 0:
		logins = ", " + audit.Counted(t.Uses, "login", "logins") + " so far"
	}
	return fmt.Sprintf("trusted here for %s%s. To end that: ssh %s@BASTION forget", span(t.Until.Sub(now)), logins, audit.Escape(id.Login))
}

// span gives a length of time as people say it, in two units at most.
func span(d time.Duration) string {
	d = d.Round(time.Minute)
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case days > 0 && hours > 0:
		return fmt.Sprintf("%d d %d h", days, hours)
	case days > 0:
		return fmt.Sprintf("%d d", days)
	case hours > 0 && minutes > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	case hours > 0:
		return fmt.Sprintf("%d h", hours)
	case minutes > 0:
		return fmt.Sprintf("%d min", minutes)
	}
	return "less than a minute"
}

// forgetCommand ends what is remembered of the person's codes: everywhere, since whoever wants that has a reason.
func (r *reception) forgetCommand(ctx context.Context, _ []string, _ bool) uint32 {
	n, err := r.c.s.cfg.Engine.Forget(ctx, r.c.id)
	if err != nil {
		return r.failed("forgetting codes", err)
	}
	switch n {
	case 0:
		return r.fail(statusOK, "no place was trusted. A code is asked for at the next login.")
	case 1:
		return r.fail(statusOK, "forgotten: one place is no longer trusted. A code is asked for at the next login.")
	}
	return r.fail(statusOK, "forgotten: %d places are no longer trusted. A code is asked for at the next login.", n)
}
