package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/otp"
	"sallyport/policy"
	"sallyport/store"
)

// How a person waits for others to agree, and how fresh their codes must be.
const (
	approvalPoll    = 5 * time.Second // looks at the database, in case a message of the bus was lost
	approvalCodeAge = 5 * time.Minute // of a code typed at the login in which somebody decides
	maxReason       = 500             // bytes
	shownApprovers  = 5               // names that the person waiting reads
	toldApprovers   = 20              // people who get a mail
)

// ApprovalRequest is a session that others have to agree to.
type ApprovalRequest struct {
	Session string // id that it will have
	Asked   string // what the person came with, such as "exec: uptime"
	Reason  string // in the person's words
	Node    string
}

// ApprovalWait is a request that was made.
type ApprovalWait struct {
	store.Approval
	Who string // in words: who may approve

	e        *Engine
	id       Identity
	messages <-chan store.Message
	cancel   func()
}

// RequestApproval asks for what d demands: others must agree before id's session starts. It must be followed by
// [ApprovalWait.Wait]. A *[Refused] says in words for the person why nobody is asked.
func (e *Engine) RequestApproval(ctx context.Context, id Identity, d Decision, r ApprovalRequest) (*ApprovalWait, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Budget)
	defer cancel()
	r.Reason = cutText(r.Reason)
	switch {
	case !d.Allow || d.Approval == nil || id.UserID == "":
		return nil, refused(fmt.Errorf("%w: there is nothing to approve", ErrDenied))
	case d.Approval.Reason && r.Reason == "":
		return nil, &Refused{Public: fmt.Sprintf("%s needs an approval, and whoever gives it wants to read a reason. Type: ssh -o SetEnv=SALLYPORT_REASON='why' ...", d.Target.Name), Err: ErrDenied}
	}
	me, err := e.cfg.Store.Users.ByID(ctx, id.UserID)
	if err != nil {
		return nil, refused(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	who, known, err := e.approversInWords(ctx, d.Approval.Approvers(), me)
	if err != nil {
		return nil, refused(err)
	}
	w := &ApprovalWait{Who: who, e: e, id: id}
	w.messages, w.cancel = e.cfg.Store.Bus.Subscribe(store.TopicApprovals) // before there is something to hear of
	w.Approval, err = e.cfg.Store.Approvals.Request(ctx, store.Approval{
		Session: r.Session, UserID: me.ID, Person: personKey(me), User: id.Login, Target: d.Target.Name, Account: d.Account, Source: id.Source.String(),
		Asked: cutText(r.Asked), Reason: r.Reason, Rule: d.Rule, RulesVersion: d.RulesVersion, Approvers: d.Approval.Approvers(), Needed: d.Approval.Count, Node: r.Node,
	}, d.Approval.Within)
	if err != nil {
		w.cancel()
		if errors.Is(err, store.ErrTooManyApprovals) {
			return nil, &Refused{Public: fmt.Sprintf("%s needs an approval, and you have %d requests waiting already, or everybody together too many. End one first.", d.Target.Name, store.MaxPendingApprovals), Err: err}
		}
		return nil, refused(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	ev := approvalEvent(w.Approval, audit.ApprovalRequested, id.Door)
	ev.Reason = w.Reason
	ev.Detail["tell"] = strings.Join(known, " ")
	if err := e.cfg.Audit.Emit(ctx, ev); err != nil {
		w.cancel()
		_, _ = e.cfg.Store.Approvals.Settle(context.WithoutCancel(ctx), w.ID, store.ApprovalWithdrawn, "the audit log could not be written")
		return nil, refused(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	return w, nil
}

// approvalEvent fills in what every event about a request has.
func approvalEvent(a store.Approval, kind, door string) audit.Event {
	lists := make([]string, len(a.Approvers))
	for i, words := range a.Approvers {
		lists[i] = strings.Join(words, ",")
	}
	return audit.Event{
		Type: kind, Result: audit.OK, Door: door, User: a.User, Source: a.Source, Target: a.Target, Account: a.Account, Session: a.Session, Rule: a.Rule,
		Detail: map[string]string{
			"approval": a.ID, "code": a.Code, "asked": a.Asked, "approvers": strings.Join(lists, " and "), "needed": strconv.Itoa(a.Needed),
			"rules-version": strconv.FormatInt(a.RulesVersion, 10), "expires": a.Expires.UTC().Format(time.RFC3339),
		},
	}
}

// cutText keeps what a person typed to a line of a bounded length.
func cutText(s string) string {
	s = audit.Escape(strings.TrimSpace(s))
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "..."
	}
	return s
}

// approversInWords tells who may approve, by the words of the rule and the people known of them, and gives the
// logins of those to tell of it. The person who asks is none of them.
func (e *Engine) approversInWords(ctx context.Context, lists [][]string, me store.User) (text string, known []string, err error) {
	users, err := e.cfg.Store.Users.List(ctx, store.UserFilter{})
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for _, u := range users {
		if personKey(u) == personKey(me) || u.ID == me.ID || u.LockedNow(e.cfg.Now()) {
			continue
		}
		if ok, err := amongApprovers(lists, u.Login, u.Groups); err != nil {
			return "", nil, err
		} else if ok {
			known = append(known, u.Login)
		}
	}
	slices.Sort(known)
	var words []string
	for _, list := range lists {
		var of []string
		for _, w := range list {
			group, isGroup := strings.CutPrefix(w, "group:")
			switch {
			case isGroup:
				of = append(of, "group "+group)
			case w == "*":
				of = append(of, "anybody else")
			default:
				of = append(of, w)
			}
		}
		words = append(words, strings.Join(of, ", "))
	}
	text = strings.Join(words, ", and also of ")
	more := slices.DeleteFunc(slices.Clone(known), func(login string) bool { return slices.Contains(slices.Concat(lists...), login) })
	switch n := len(more); {
	case n > shownApprovers:
		text += fmt.Sprintf(" (%s and %d more)", strings.Join(more[:shownApprovers], ", "), n-shownApprovers)
	case n > 0:
		text += " (" + strings.Join(more, ", ") + ")"
	}
	return printable(text), known[:min(len(known), toldApprovers)], nil
}

// amongApprovers tells whether somebody is named by each of the lists; without any, nobody is.
func amongApprovers(lists [][]string, login string, groups []string) (bool, error) {
	for _, words := range lists {
		a, err := policy.ParseApprovers(words)
		if err != nil {
			return false, fmt.Errorf("%w: reading who may approve: %w", ErrUnavailable, err)
		}
		if !a.Has(login, groups) {
			return false, nil
		}
	}
	return len(lists) > 0, nil
}

// Wait returns once the request is decided: without an error, enough have agreed. A *[Refused] says in words for
// the person why the session does not start. The end of ctx withdraws the request; its cause is kept as the reason.
// While the database does not answer nobody is let in.
func (w *ApprovalWait) Wait(ctx context.Context) (store.Approval, error) {
	defer w.cancel()
	over := time.NewTimer(max(w.Expires.Sub(w.e.cfg.Now()), 0))
	defer over.Stop()
	look := time.NewTicker(approvalPoll)
	defer look.Stop()
	messages := w.messages
	for {
		select {
		case <-ctx.Done():
			why := context.Cause(ctx).Error()
			if errors.Is(context.Cause(ctx), context.Canceled) {
				why = "the person changed their mind"
			}
			w.settle(store.ApprovalWithdrawn, audit.ApprovalWithdrawn, why)
			if a, err := w.e.cfg.Store.Approvals.Get(context.WithoutCancel(ctx), w.ID); err == nil && (a.Given >= a.Needed || a.State == store.ApprovalRefused) {
				w.TellAbsent() // it was decided in the moment in which they left
			}
			return w.Approval, &Refused{Public: "the request was withdrawn: " + printable(why) + ".", Err: ErrDenied}
		case <-over.C:
			if w.settle(store.ApprovalExpired, audit.ApprovalExpired, "") {
				return w.Approval, w.expired()
			}
		case <-look.C:
		case m, ok := <-messages:
			if !ok {
				messages = nil
			} else if m.Payload != w.ID && !m.Missed {
				continue
			}
		}
		a, err := w.e.cfg.Store.Approvals.Get(context.WithoutCancel(ctx), w.ID)
		if err != nil {
			w.settle(store.ApprovalWithdrawn, audit.ApprovalWithdrawn, "the database did not answer")
			return w.Approval, &Refused{Public: "whether it is approved cannot be read just now; try again in a minute.", Err: fmt.Errorf("%w: %w", ErrUnavailable, err)}
		}
		w.Approval = a
		switch a.State {
		case store.ApprovalPending:
		case store.ApprovalApproved:
			return a, nil
		case store.ApprovalExpired:
			return a, w.expired()
		default:
			return a, &Refused{Public: refusedBy(a), Err: ErrDenied}
		}
	}
}

// Withdraw makes what was approved worthless, when the session does not start after all.
func (w *ApprovalWait) Withdraw(why string) {
	w.settle(store.ApprovalWithdrawn, audit.ApprovalWithdrawn, why)
}

// settle ends the request and tells of it; false: it was over.
func (w *ApprovalWait) settle(state, event, why string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), w.e.cfg.Budget)
	defer cancel()
	done, err := w.e.cfg.Store.Approvals.Settle(ctx, w.ID, state, why)
	if err != nil || !done {
		return false // what the database did not take now ends with its time
	}
	ev := approvalEvent(w.Approval, event, w.id.Door)
	ev.Result, ev.Reason = audit.Refused, why
	_ = w.e.cfg.Audit.Emit(ctx, ev)
	return true
}

func (w *ApprovalWait) expired() error {
	return &Refused{Public: "nobody approved it in time.", Err: ErrDenied}
}

func refusedBy(a store.Approval) string {
	for _, d := range a.Decisions {
		if d.Approve {
			continue
		}
		if d.Reason != "" {
			return fmt.Sprintf("%s refused: %s", printable(d.User), printable(d.Reason))
		}
		return printable(d.User) + " refused."
	}
	if a.Why != "" {
		return "it was refused: " + printable(a.Why)
	}
	return "it was refused."
}

// ErrNeedsCode is why a decision was not taken: whoever decides has to type a fresh code of their own first.
var ErrNeedsCode = errors.New("a fresh code is needed")

// WaitingFor lists the pending requests that id may decide, oldest first. It looks at what is known of their groups
// here; when they decide, everything is read afresh.
func (e *Engine) WaitingFor(ctx context.Context, id Identity) ([]store.Approval, error) {
	list, err := e.cfg.Store.Approvals.List(ctx, store.ApprovalFilter{State: store.ApprovalPending, Limit: 1000})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	u, err := e.cfg.Store.Users.ByID(ctx, id.UserID)
	if err != nil || u.LockedNow(e.cfg.Now()) {
		return nil, err
	}
	var mine []store.Approval
	for _, a := range slices.Backward(list) {
		if ok, err := amongApprovers(a.Approvers, u.Login, u.Groups); err != nil {
			return nil, err
		} else if ok && a.Person != personKey(u) && a.UserID != u.ID && !slices.ContainsFunc(a.Decisions, func(d store.ApprovalDecision) bool { return d.Person == personKey(u) }) {
			mine = append(mine, a)
		}
	}
	return mine, nil
}

// Verdict is what somebody says about a request.
type Verdict struct {
	Approve bool
	Reason  string // in their words
	Code    string // a fresh one of theirs; "": the one of this login, if that is fresh
	ID      string // of the request that they were shown; "": whichever has the code now
}

// DecideApproval counts what id says of the pending request with this code, as people type it. Who they are, that
// they are not locked and that they are among the approvers now is read afresh, in the directory too. A code must
// have been typed for it, in this very login a short while ago or as v.Code; else the error is [ErrNeedsCode]. A
// *[Refused] says in words why it does not count.
func (e *Engine) DecideApproval(ctx context.Context, id Identity, code string, v Verdict) (store.Approval, error) {
	ctx = context.WithoutCancel(ctx) // a code that was looked at counts
	a, err := e.cfg.Store.Approvals.Pending(ctx, code)
	if errors.Is(err, store.ErrNotFound) || err == nil && v.ID != "" && v.ID != a.ID {
		return a, noSuchRequest(code)
	}
	if err != nil {
		return a, refused(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	me, err := e.mayDecide(ctx, id, a)
	if err != nil {
		var r *Refused
		if errors.As(err, &r) {
			e.undecided(ctx, id, a, v, err)
		}
		return a, err
	}
	if v.Code != "" || !e.FreshCode(id) {
		if v.Code == "" {
			return a, ErrNeedsCode
		}
		if _, err := otp.NormaliseSpare(v.Code); err == nil {
			return a, &Refused{Public: "To decide for others, type a code of your token; a recovery code does not do.", Err: ErrCode}
		}
		if err := e.ProveCode(ctx, id, v.Code, "approval "+a.ID); err != nil {
			return a, err
		}
	}
	var ev audit.Event
	event := func(now store.Approval) audit.Event {
		ev = approvalEvent(now, audit.ApprovalDecided, id.Door)
		ev.Actor, ev.Reason = me.Login, cutText(v.Reason)
		ev.Detail["verdict"], ev.Detail["state"] = verdictWord(v.Approve), now.State
		ev.Detail["given"], ev.Detail["from"] = strconv.Itoa(now.Given), id.Source.String()
		if complete, err := e.cfg.Audit.Complete(ev); err == nil {
			ev = complete
		}
		return ev
	}
	done, err := e.cfg.Store.Approvals.Decide(ctx, a.ID, store.ApprovalDecision{
		Person: personKey(me), User: me.Login, Approve: v.Approve, Reason: cutText(v.Reason), Door: id.Door, Source: id.Source.String(),
	}, event)
	switch {
	case err == nil:
		e.cfg.Audit.Print(ctx, ev)
		if done.State != store.ApprovalPending {
			e.tellIfAbsent(ctx, done)
		}
		return done, nil
	case errors.Is(err, store.ErrDecidedAlready):
		err = &Refused{Public: "You have decided about " + a.Code + " already; it counts once.", Err: err}
	case errors.Is(err, store.ErrConflict):
		err = &Refused{Public: "It is too late: " + a.Code + " was decided, withdrawn or has expired meanwhile.", Err: err}
	default:
		return a, refused(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	e.undecided(ctx, id, a, v, err)
	return a, err
}

func noSuchRequest(code string) error {
	return &Refused{Public: "There is no request " + printable(cutText(code)) + " that waits for you. It may be decided, withdrawn or expired.", Err: store.ErrNotFound}
}

func verdictWord(approve bool) string {
	if approve {
		return "approve"
	}
	return "refuse"
}

// undecided leaves the event of a verdict that does not count.
func (e *Engine) undecided(ctx context.Context, id Identity, a store.Approval, v Verdict, why error) {
	ev := approvalEvent(a, audit.ApprovalDecided, id.Door)
	ev.Result, ev.Actor, ev.Reason = audit.Refused, id.Login, why.Error()
	ev.Detail["verdict"], ev.Detail["from"] = verdictWord(v.Approve), id.Source.String()
	_ = e.cfg.Audit.Emit(ctx, ev)
}

// mayDecide reads afresh who id is, and whether they are among those who may decide about a.
func (e *Engine) mayDecide(ctx context.Context, id Identity, a store.Approval) (store.User, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Budget)
	defer cancel()
	if id.Robot != "" || id.UserID == "" {
		return store.User{}, noSuchRequest(a.Code)
	}
	ended, err := e.withdrawn(ctx, id, e.cfg.Now(), true)
	if err != nil {
		return store.User{}, refused(err)
	}
	if ended != "" {
		return store.User{}, &Refused{Public: ended + ".", Err: ErrDenied}
	}
	me, err := e.cfg.Store.Users.ByID(ctx, id.UserID)
	if err != nil {
		return me, refused(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	if a.UserID == me.ID || a.Person == personKey(me) {
		return me, &Refused{Public: a.Code + " is your own request: somebody else has to decide.", Err: fmt.Errorf("%w: their own request", ErrDenied)}
	}
	among, err := amongApprovers(a.Approvers, me.Login, me.Groups)
	switch {
	case err != nil:
		return me, refused(err)
	case !among: // who is not asked learns nothing of it
		r := noSuchRequest(a.Code).(*Refused)
		r.Err = fmt.Errorf("%w: not among the approvers", ErrDenied)
		return me, r
	}
	return me, nil
}

// FreshCode tells whether a code of the person's own was typed in this login, a short while ago. A remembered one
// is none, nor is one that an operator gave them.
func (e *Engine) FreshCode(id Identity) bool {
	age := e.cfg.Now().Sub(id.CodeAt)
	return !id.CodeAt.IsZero() && age >= 0 && age <= approvalCodeAge && (slices.Contains(id.Factors, "code") || id.onlySent())
}

// RefuseApproval ends a pending request in the name of an operator.
func (e *Engine) RefuseApproval(ctx context.Context, approval, operator, door, reason string) (store.Approval, error) {
	a, err := e.cfg.Store.Approvals.Get(ctx, approval)
	if err != nil {
		return a, err
	}
	why := operator
	if reason = cutText(reason); reason != "" {
		why += ": " + reason
	}
	if a.State != store.ApprovalPending && a.State != store.ApprovalApproved {
		return a, store.ErrConflict
	}
	done, err := e.cfg.Store.Approvals.Settle(ctx, a.ID, store.ApprovalRefused, why)
	if err != nil {
		return a, err
	}
	if !done {
		return a, store.ErrConflict
	}
	ev := approvalEvent(a, audit.ApprovalDecided, door)
	ev.Actor, ev.Reason = operator, reason
	ev.Detail["verdict"], ev.Detail["state"] = "refuse", store.ApprovalRefused
	_ = e.cfg.Audit.Emit(ctx, ev)
	e.tellIfAbsent(ctx, a)
	return e.cfg.Store.Approvals.Get(ctx, a.ID)
}

// expireApprovals ends requests whose time is over and that nobody waits for any more.
func (e *Engine) expireApprovals(ctx context.Context) error {
	list, err := e.cfg.Store.Approvals.Expire(ctx)
	for _, a := range list {
		ev := approvalEvent(a, audit.ApprovalExpired, audit.DoorNode)
		ev.Result = audit.Refused
		_ = e.cfg.Audit.Emit(ctx, ev)
		if a.Given >= a.Needed { // enough had agreed, and nobody was there to begin
			e.tellAbsent(ctx, a.ID)
		}
	}
	return err
}

// WithdrawLeftApprovals ends the requests of people who waited at this node when an earlier process of it died. The server
// calls it before anybody can ask.
func (e *Engine) WithdrawLeftApprovals(ctx context.Context, node string) error {
	list, err := e.cfg.Store.Approvals.WithdrawAll(ctx, node, "the bastion at which they waited has ended")
	for _, a := range list {
		ev := approvalEvent(a, audit.ApprovalWithdrawn, audit.DoorNode)
		ev.Reason = a.Why
		_ = e.cfg.Audit.Emit(ctx, ev)
	}
	return err
}

// ApprovalsURL is the page where people decide about requests; "": there is no web.
func (e *Engine) ApprovalsURL() string {
	if e.cfg.URL == "" {
		return ""
	}
	return e.cfg.URL + "/me/approvals"
}
