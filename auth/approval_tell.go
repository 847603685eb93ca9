package auth

import (
	"context"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/internal/notify"
	"sallyport/store"
)

// absentLife is how long delivery of such a mail is tried: later it says nothing worth reading.
const absentLife = 24 * time.Hour

// tellAbsent mails the person of a request what others have decided, as nobody of theirs is there any more to read
// it. At most one mail is sent for a request. A mail that cannot be written now is not sent: what was decided is in the
// audit log, and the person may ask again.
func (e *Engine) tellAbsent(ctx context.Context, id string) {
	if e.cfg.TellAbsent {
		_ = e.mailAbsent(context.WithoutCancel(ctx), id)
	}
}

func (e *Engine) mailAbsent(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Budget)
	defer cancel()
	a, err := e.cfg.Store.Approvals.Get(ctx, id)
	if err != nil {
		return err
	}
	u, err := e.cfg.Store.Users.ByID(ctx, a.UserID)
	if err != nil {
		return err
	}
	if _, _, err := notify.ParseAddress(u.Email); err != nil {
		return nil // nowhere to send it
	}
	d := notify.Decision{
		Code: a.Code, Where: a.Account + "@" + a.Target, Asked: a.Asked, At: a.Requested, Approved: a.Given >= a.Needed, By: strings.Join(a.ApprovedBy(), ", "), Reason: refusedBy(a),
	}
	m := store.OutMessage{
		Same: "approval decided " + a.ID, Channel: store.ByMail, Kind: audit.ApprovalDecided, User: u.Login, Recipient: u.Email, Expires: e.cfg.Now().Add(absentLife),
	}
	m.Subject, m.Text = notify.DecisionMessage(e.cfg.Issuer, u.Login, d)
	if err := e.cfg.Store.Outbox.Add(ctx, m); err != nil {
		return err
	}
	return e.cfg.Store.Bus.Publish(ctx, store.TopicOutbox, "")
}

// tellIfAbsent is tellAbsent if the node at which the person waits says nothing any more: their connection went with
// it. A node that lives tells them itself.
func (e *Engine) tellIfAbsent(ctx context.Context, a store.Approval) {
	if !e.cfg.TellAbsent {
		return
	}
	if lives, err := e.cfg.Store.Sessions.Lives(context.WithoutCancel(ctx), a.Node, store.LostAfter); err == nil && !lives {
		e.tellAbsent(ctx, a.ID)
	}
}

// TellAbsent is for whoever finds that the person has left in the moment in which others agreed.
func (w *ApprovalWait) TellAbsent() { w.e.tellAbsent(context.Background(), w.ID) }
