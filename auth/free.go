package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/internal/notify"
	"sallyport/policy"
	"sallyport/store"
)

// FactorFree stands in [Identity] where a code would: the person never had a token, and an operator lets such
// people in a few times.
const FactorFree = "without-token"

// WithoutToken is how often a person who never had a token may come in by SSH or RADIUS with the first factor alone (T2).
// The zero value: never.
type WithoutToken struct {
	Logins  int
	Within  time.Duration  // of when the person was first seen, or was granted them anew; 0: no limit
	Sources []netip.Prefix // empty: from anywhere
}

// free is how many of these logins are allowed now.
func (e *Engine) free() store.FreeLogins {
	f := store.FreeLogins{Most: e.cfg.WithoutToken.Logins}
	if w := e.cfg.WithoutToken.Within; w > 0 {
		f.Since = e.cfg.Now().Add(-w)
	}
	return f
}

// mayEnterFree tells whether the person of this conversation may come in without a code, once the first factor
// is verified: never where a rule demands a token or a fresh code, nor at a door of ours where people sign in by a page, nor
// where the password was checked by somebody else. A connection inside of another one stands on the login outside, which has
// counted.
func (c *Conversation) mayEnterFree(k *known) bool {
	w, s := c.e.cfg.WithoutToken, k.subject
	switch {
	case w.Logins <= 0 || !k.needCode || k.tokenOnly || c.outer != nil || !c.mayEnrol(s):
		return false
	case c.a.Door != audit.DoorSSH && (c.a.Channel == "" || c.elsewhere || !c.havePassword):
		return false
	case len(w.Sources) > 0 && !slices.ContainsFunc(w.Sources, func(p netip.Prefix) bool { return p.Contains(c.a.Source.Unmap()) }):
		return false
	case c.a.Target != "" && (k.decision == nil || !k.decision.Allow || demandsToken(*k.decision)):
		return false
	}
	return s.user == nil || s.user.Free(c.e.free()) > 0 // without a row: seen for the first time
}

// demandsToken tells whether d wants more than that some code was proved at some time.
func demandsToken(d Decision) bool {
	return d.TokenOnly || d.Code.Fresh || d.Code.Kind == policy.CodeYoungerThan
}

// enterFree evaluates the first factor alone, and counts the login. errAskCode: it was wrong, or another login
// was the last one; the person goes on to the same prompt as everybody.
func (c *Conversation) enterFree(ctx context.Context, ask Asker, k *known) (*Identity, error) {
	hard := context.WithoutCancel(ctx)
	f := c.e.free()
	id, err := c.evaluate(hard, &known{subject: k.subject, target: k.target, decision: k.decision, lockout: k.lockout, free: &f}, "", c.accepted)
	switch {
	case errors.Is(err, ErrUnavailable):
		c.reportRefusal(hard, k.subject, err)
		return nil, refused(err)
	case err != nil:
		c.reportRefusal(hard, k.subject, err)
		return nil, fmt.Errorf("%w: %w", errAskCode, err)
	}
	_ = ask.Show(ctx, c.freeText(hard, k.subject, id, f)) // nothing depends on whether that can be told
	return id, nil
}

// freeText says how many logins are left and how to enrol.
func (c *Conversation) freeText(ctx context.Context, s subject, id *Identity, f store.FreeLogins) string {
	var b strings.Builder
	b.WriteString("\nYou have no token yet, and were let in without a code. ")
	switch left := f.Most - f.Made; left {
	case 0:
		b.WriteString("This was the last time.\n")
	case 1:
		b.WriteString("This works one more time")
	default:
		fmt.Fprintf(&b, "This works %d more times", left)
	}
	u, err := c.e.cfg.Store.Users.ByID(ctx, id.UserID)
	if f.Most > f.Made {
		if w := c.e.cfg.WithoutToken.Within; w > 0 && err == nil {
			first := u.Created
			if u.FreeSince.After(first) {
				first = u.FreeSince
			}
			b.WriteString(", until " + first.Add(w).UTC().Format("2006-01-02 15:04") + " UTC")
		}
		b.WriteString(".\n")
	}
	if c.a.Channel != "" { // what a machine shows passes through the hands of others: no link
		where := c.e.enrolWhere()
		if err == nil {
			if to := c.mailLink(ctx, s, u); to != "" {
				where = "A link to set up a token was mailed to " + to + "."
			}
		}
		b.WriteString(where)
		return strings.ReplaceAll(strings.TrimSpace(b.String()), "\n", " ")
	}
	if err == nil && c.e.cfg.URL != "" {
		if ticket, _, err := c.newLink(ctx, u); err == nil {
			b.WriteString("Open this in a browser to set up your token. It is good once, for 24 hours, and asks for your password:\n  " +
				c.e.cfg.URL + EnrolPath(ticket) + "\n")
			return b.String()
		}
	}
	b.WriteString("Ask an operator for a token.\n")
	return b.String()
}

// newLink makes a link by which u enrols, and its event.
func (c *Conversation) newLink(ctx context.Context, u store.User) (ticket string, expires time.Time, err error) {
	if ticket, expires, err = c.e.NewEnrolLink(ctx, u); err != nil {
		return "", time.Time{}, err
	}
	return ticket, expires, c.e.cfg.Audit.Emit(ctx, audit.Event{
		Type: audit.AccountChanged, Result: audit.OK, Door: c.a.Door, User: u.Login, Source: sourceText(c.a.Source), Detail: map[string]string{"change": "enrol-link"},
	})
}

// mailLink mails a person the link that a terminal would show, where there is no page for them to enrol at, and gives the
// address, masked. "": it could not be mailed.
func (c *Conversation) mailLink(ctx context.Context, s subject, u store.User) string {
	if c.e.cfg.EnrolAtLogin || c.e.cfg.URL == "" || !c.e.cfg.Sent.Mail {
		return ""
	}
	to, err := c.e.recipient(ctx, s, store.ByMail)
	if err != nil {
		return ""
	}
	ticket, expires, err := c.newLink(ctx, u)
	if err != nil {
		return ""
	}
	m := store.OutMessage{Channel: store.ByMail, Kind: store.KindEnrolment, User: u.Login, Recipient: to, Expires: expires}
	m.Subject, m.Text = notify.EnrolmentMessage(c.e.cfg.Issuer, u.Login, c.e.cfg.URL+EnrolPath(ticket), expires)
	if err := c.e.cfg.Store.Outbox.Add(ctx, m); err != nil {
		return ""
	}
	_ = c.e.cfg.Store.Bus.Publish(ctx, store.TopicOutbox, "") // else it leaves a little later
	return masked(to)
}

// withoutToken tells whether id was let in without a code for want of a token.
func (id Identity) withoutToken() bool { return slices.Contains(id.Factors, FactorFree) }
