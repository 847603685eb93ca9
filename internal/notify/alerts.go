package notify

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// How many messages of one kind one mailbox gets in an hour, so that an attacker cannot fill it.
const (
	perPerson   = 3
	perOperator = 10
	perApprover = 20 // requests for approval, which somebody waits for
)

// OperatorEvents are the types of audit events that operators can be told of.
var OperatorEvents = []string{
	audit.LockoutSet, audit.PlacesMany, audit.CodeReplayed, audit.AccountAlarm, audit.HostKeyRefused, audit.HostKeyTrusted, audit.RecordFailed, audit.RecordLimit, audit.RecordSealed, audit.RecordDeleted, audit.BreakGlassUsed,
	audit.TokenEnrolled, audit.OperatorChange, audit.OperatorView, audit.SessionWatched, audit.Moderation, audit.NodeStarted, audit.NodeStopped,
}

// alertLife is how long delivery of an alert is tried.
const alertLife = 24 * time.Hour

// AlertsConfig of [Alerts].
type AlertsConfig struct {
	Store     *store.Store
	Name      string   // of the installation, in texts
	URL       string   // of the operators' pages, without a slash at its end; "": none
	People    bool     // people are told of what concerns them
	Operators []string // addresses of operators
	Events    []string // types of events that operators are told of
	Log       *slog.Logger
}

// Alerts is where audit events are kept for good, together with the messages that tell of them. It implements
// auditlog.Sink: event and messages are written in one transaction.
type Alerts struct{ cfg AlertsConfig }

// NewAlerts returns Alerts.
func NewAlerts(cfg AlertsConfig) *Alerts {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Alerts{cfg}
}

// Append keeps an event, and puts into the outbox what people are to be told of it.
func (a *Alerts) Append(ctx context.Context, e audit.Event) error {
	alerts := append(a.toPerson(ctx, e), a.toOperators(e)...)
	alerts = append(alerts, a.toApprovers(ctx, e)...)
	err := a.cfg.Store.Audit.AppendWith(ctx, e, alerts...)
	if err != nil && len(alerts) > 0 && !errors.Is(err, store.ErrUnavailable) {
		// The database is there, and something is wrong with the messages: the event must be kept all the same.
		a.cfg.Log.Error("telling of an event", "event", e.ID, "error", err)
		return a.cfg.Store.Audit.Append(ctx, e)
	}
	if err != nil {
		return err
	}
	if len(alerts) > 0 {
		_ = a.cfg.Store.Bus.Publish(ctx, store.TopicOutbox, "") // else they leave a little later
	}
	return nil
}

// toPerson is what the person hears of an event about them, at the address on file; if that was changed, at
// the one before.
func (a *Alerts) toPerson(ctx context.Context, e audit.Event) []store.Alert {
	kind := e.Type
	switch {
	case kind == audit.OperatorChange, kind == audit.AccountChanged:
		kind += " " + e.Detail["change"]
	case kind == audit.TokenEnrolled && e.Detail["state"] == store.TokenWaiting:
		kind += " " + store.TokenWaiting
	}
	if kind == audit.TokenResynced && e.Result != audit.OK {
		return nil // a wrong guess, which counts and is told once it locks
	}
	t, ok := personal[kind]
	if !ok || !a.cfg.People || e.User == "" {
		return nil
	}
	if e.Type == audit.LockoutSet && !strings.HasPrefix(e.Detail["lock"], "user") {
		return nil // of an address; the person named last has little to do with it
	}
	u, err := a.cfg.Store.Users.ByLogin(ctx, e.User)
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			a.cfg.Log.Warn("telling a person of an event", "event", e.ID, "error", err)
		}
		return nil
	}
	addresses := []string{u.Email}
	if was := e.Detail["was"]; was != "" {
		addresses = append(addresses, was)
	}
	greeting := u.Name
	if greeting == "" {
		greeting = u.Login
	}
	text := "Hello " + audit.Escape(greeting) + ",\n\n" + t.what + "\n\n" + facts(e) + "\n" + t.next + "\n" + footer(a.cfg.Name, perPerson)
	return a.alerts(e, kind, u.Login, t.subject, text, perPerson, addresses)
}

// toApprovers is what those hear who may approve a session that somebody waits for.
func (a *Alerts) toApprovers(ctx context.Context, e audit.Event) []store.Alert {
	if e.Type != audit.ApprovalRequested || !a.cfg.People {
		return nil
	}
	var addresses []string
	for _, login := range strings.Fields(e.Detail["tell"]) {
		u, err := a.cfg.Store.Users.ByLogin(ctx, login)
		if err != nil {
			if !errors.Is(err, store.ErrNotFound) {
				a.cfg.Log.Warn("telling an approver of an event", "event", e.ID, "error", err)
			}
			continue
		}
		addresses = append(addresses, u.Email)
	}
	text := "Hello,\n\nsomebody waits for an approval, and you may give it: one whole session, and no other.\n\n" + facts(e) + "\nTo approve or to refuse, with a code of yours:\n\n"
	if a.cfg.URL != "" {
		text += "  " + a.cfg.URL + "/me/approvals\n"
	}
	code := e.Detail["code"]
	text += "  ssh YOU@bastion approve " + code + "\n  ssh YOU@bastion refuse " + code + "\n\nIf you do not know what it is for, ask them by another way, or refuse.\n" + footer(a.cfg.Name, perApprover)
	alerts := a.alerts(e, e.Type, e.User, "["+a.cfg.Name+"] "+e.User+" waits for your approval: "+e.Account+"@"+e.Target, text, perApprover, addresses)
	expires, err := time.Parse(time.RFC3339, e.Detail["expires"])
	for i := range alerts {
		alerts[i].Message.Urgent = true
		if err == nil {
			alerts[i].Message.Expires = expires
		}
	}
	return alerts
}

// toOperators is what operators hear of an event.
func (a *Alerts) toOperators(e audit.Event) []store.Alert {
	if !slices.Contains(a.cfg.Events, e.Type) && e.Type != audit.BreakGlassUsed { // of that they are always told
		return nil
	}
	subject := "[" + a.cfg.Name + "] " + e.Type
	for _, about := range []string{e.User, e.Target, e.Source} {
		if about != "" {
			subject += " " + about
		}
	}
	text := e.Type + " (" + string(e.Result) + ")\n\n" + facts(e)
	if a.cfg.URL != "" {
		page := "/audit?type=" + e.Type
		if e.Type == audit.LockoutSet {
			page = "/lockouts"
		}
		text += "\n" + a.cfg.URL + page + "\n"
	}
	if e.Type == audit.LockoutSet {
		text += "\nTo clear it: sallyport lockout clear '" + strings.ReplaceAll(e.Detail["lock"], "'", "") + "'\n"
	}
	return a.alerts(e, "operators "+e.Type, e.User, subject, text+footer(a.cfg.Name, perOperator), perOperator, a.cfg.Operators)
}

// alerts addresses a text.
func (a *Alerts) alerts(e audit.Event, kind, user, subject, text string, perHour int, addresses []string) []store.Alert {
	var alerts []store.Alert
	for _, to := range addresses {
		if _, _, err := ParseAddress(to); err != nil {
			continue // a person without an address, or with nonsense in its place
		}
		alerts = append(alerts, store.Alert{PerHour: perHour, Message: store.OutMessage{
			Same: e.ID + " " + kind + " " + to, Channel: store.ByMail, Kind: kind, User: user, Recipient: to,
			Subject: cut(subject, 200), Text: text, Expires: time.Now().Add(alertLife),
		}})
	}
	return alerts
}

// cut keeps a subject short.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n]) + "…"
	}
	return s
}
