package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
)

// States of an approval.
const (
	ApprovalPending   = "pending"   // others have to decide
	ApprovalApproved  = "approved"  // enough have agreed; the session has not started yet
	ApprovalRefused   = "refused"   // somebody said no
	ApprovalWithdrawn = "withdrawn" // the person left, or may not have the session any more
	ApprovalExpired   = "expired"   // nobody decided in time, or nobody was there any more to start the session
	ApprovalUsed      = "used"      // by its session
)

// ApprovalStates lists them.
var ApprovalStates = []string{ApprovalPending, ApprovalApproved, ApprovalRefused, ApprovalWithdrawn, ApprovalExpired, ApprovalUsed}

// TopicApprovals is where the store tells every node that something has happened to an approval, whose id is the
// payload.
const TopicApprovals = "approvals"

// Bounds of requests.
const (
	MaxPendingApprovals = 5    // of one person at once
	maxAllPending       = 1000 // of everybody
	approvalCode        = 4    // letters
	approvalStart       = time.Minute
	keepApprovals       = 90 * 24 * time.Hour // those that no session has used
)

// Errors of requests and decisions.
var (
	ErrTooManyApprovals = errors.New("too many requests for approval wait already")
	ErrDecidedAlready   = errors.New("the same person has decided already")
)

// Approval is a request of a person for a session that others have to agree to. It is good for the one session
// whose id it names, with its user, target and account.
type Approval struct {
	ID           string
	Code         string // short, for people to type
	Session      string // id that the session will have
	UserID       string
	Person       string // key of the person, the same for all logins of a directory entry
	User         string // login
	Target       string
	Account      string
	Source       string
	Asked        string // what the person came with, such as "exec: uptime"
	Reason       string // in the person's words
	Rule         string
	RulesVersion int64
	Approvers    [][]string // words of users: whoever decides is named by each of the lists
	Needed       int        // approvals
	Given        int        // so far
	Node         string     // where the person waits
	State        string
	Why          string // it was withdrawn
	Requested    time.Time
	Expires      time.Time
	Settled      time.Time // when it left [ApprovalPending]
	Decisions    []ApprovalDecision
}

// ApprovalDecision is what one approver said.
type ApprovalDecision struct {
	Person  string // key of the approver, as in [Approval]
	User    string // login
	Approve bool
	Reason  string
	Door    string
	Source  string
	At      time.Time
}

// ApprovedBy lists the logins of those who have agreed, in their order.
func (a Approval) ApprovedBy() []string {
	var logins []string
	for _, d := range a.Decisions {
		if d.Approve {
			logins = append(logins, d.User)
		}
	}
	return logins
}

// ApprovalFilter chooses approvals. Empty fields choose all.
type ApprovalFilter struct {
	State   string
	User    string // login
	Target  string
	Session string
	Before  string // older than this id: the next page
	Limit   int    // 0: 100, at most 10000
}

// Approvals is the table of approvals and the decisions about them.
type Approvals struct{ db *db }

const approvalColumns = `id, code, session_id, user_id, person, user_name, target, account, source, asked, reason, rule, rules_version,
	approvers, needed, given, node, state, why, requested, expires, settled`

func approvalFields(a *Approval) []any {
	return []any{
		&a.ID, &a.Code, &a.Session, &a.UserID, &a.Person, &a.User, &a.Target, &a.Account, &a.Source, &a.Asked, &a.Reason, &a.Rule, &a.RulesVersion,
		jsonColumn{&a.Approvers}, &a.Needed, &a.Given, &a.Node, &a.State, &a.Why, timeColumn{&a.Requested}, timeColumn{&a.Expires}, timeColumn{&a.Settled},
	}
}

// decisionRow is a decision and what it is about.
type decisionRow struct {
	ApprovalDecision
	approval string
}

const decisionColumns = "approval_id, person, user_name, approve, reason, door, source, decided"

func decisionFields(d *decisionRow) []any {
	return []any{&d.approval, &d.Person, &d.User, &d.Approve, &d.Reason, &d.Door, &d.Source, timeColumn{&d.At}}
}

// approvalLetters cannot be mistaken for each other, in any case.
const approvalLetters = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"

func newApprovalCode() string {
	code := make([]byte, 0, approvalCode)
	for _, b := range []byte(rand.Text()) { // base32: five random bits in each
		if i := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b); i < len(approvalLetters) && len(code) < approvalCode {
			code = append(code, approvalLetters[i])
		}
	}
	return string(code)
}

// Request notes a request that waits for within. Of x the id, code, state and times are filled in. The error is
// [ErrTooManyApprovals] if the person, or everybody together, has no more room.
func (s Approvals) Request(ctx context.Context, x Approval, within time.Duration) (Approval, error) {
	what := "noting a request for approval of " + x.User
	id, err := newID()
	if err != nil {
		return Approval{}, fmt.Errorf("%s: %w", what, err)
	}
	approvers, err := toJSON(x.Approvers)
	if err != nil {
		return Approval{}, fmt.Errorf("%s: %w", what, err)
	}
	x.ID, x.State, x.Given, x.Why, x.Decisions = id, ApprovalPending, 0, "", nil
	x.Requested = s.db.now()
	x.Expires, x.Settled = x.Requested.Add(within), time.Time{}
	for range 10 { // a code that is taken is rare
		x.Code = newApprovalCode()
		if err = s.request(ctx, what, x, approvers); !errors.Is(err, ErrExists) {
			break
		}
	}
	if err != nil {
		return Approval{}, err
	}
	return x, nil
}

func (s Approvals) request(ctx context.Context, what string, x Approval, approvers string) error {
	return s.announcing(ctx, what, x.ID, func(ctx context.Context, tx querier) error {
		if err := s.db.lock(ctx, tx, lockApprovals); err != nil {
			return err
		}
		// A statement of its own: it has to see what was committed while this one waited.
		type counts struct{ own, all int }
		n, err := one(ctx, tx, func(c *counts) []any { return []any{&c.own, &c.all} },
			`SELECT COALESCE(SUM(CASE WHEN person = ? THEN 1 ELSE 0 END), 0), COUNT(*) FROM approvals WHERE state = ? AND expires > ?`,
			x.Person, ApprovalPending, ms(x.Requested))
		if err != nil {
			return err
		}
		if n.own >= MaxPendingApprovals || n.all >= maxAllPending {
			return ErrTooManyApprovals
		}
		if len(x.Code) < approvalCode {
			return ErrExists // by chance there were too few letters: once in a great many times
		}
		_, err = exec(ctx, tx, "INSERT INTO approvals ("+approvalColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, '', ?, ?, 0)",
			x.ID, x.Code, x.Session, x.UserID, x.Person, x.User, x.Target, x.Account, x.Source, x.Asked, x.Reason, x.Rule, x.RulesVersion,
			approvers, x.Needed, x.Node, x.State, ms(x.Requested), ms(x.Expires))
		return err
	})
}

// announcing is db.changing for what happens to an approval: with the change, and not without it, every node hears
// of it.
func (s Approvals) announcing(ctx context.Context, what, id string, f func(context.Context, querier) error) error {
	err := s.db.changing(ctx, what, func(ctx context.Context, tx querier) error {
		if err := f(ctx, tx); err != nil {
			return err
		}
		return s.db.bus.publishWith(ctx, tx, TopicApprovals, id)
	})
	if err == nil {
		s.db.bus.deliver(Message{Topic: TopicApprovals, Payload: id})
	}
	return err
}

// Decide counts what somebody says of the request with this id, and returns it as it is then. One who refuses
// settles it; the last approval that is needed does so too, of any number at once exactly one. The person who asked
// is not counted, and nobody is twice ([ErrDecidedAlready]). The error is [ErrConflict] if the request is not
// pending, or its time is over. event gives what is written with the decision, or not at all.
func (s Approvals) Decide(ctx context.Context, id string, d ApprovalDecision, event func(Approval) audit.Event) (Approval, error) {
	what := "deciding about approval " + id
	var x Approval
	err := s.announcing(ctx, what, id, func(ctx context.Context, tx querier) (err error) {
		now := ms(s.db.now())
		n, err := exec(ctx, tx, "INSERT INTO approval_decisions ("+decisionColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (approval_id, person) DO NOTHING`, id, d.Person, d.User, d.Approve, d.Reason, d.Door, d.Source, now)
		switch {
		case err != nil:
			return err
		case n == 0:
			return ErrDecidedAlready
		}
		given := 1
		if !d.Approve {
			given = 0
		}
		// On PostgreSQL parallel ones wait for each other at the row, and decide on its newest version.
		x, err = one(ctx, tx, approvalFields, `UPDATE approvals SET given = given + ?,
			state = CASE WHEN ? = 0 THEN ? WHEN given + ? >= needed THEN ? ELSE state END,
			settled = CASE WHEN ? = 0 OR given + ? >= needed THEN CAST(? AS BIGINT) ELSE settled END
			WHERE id = ? AND state = ? AND expires > ? AND person <> ? RETURNING `+approvalColumns,
			given, given, ApprovalRefused, given, ApprovalApproved, given, given, now, id, ApprovalPending, now, d.Person)
		if errors.Is(err, ErrNotFound) {
			return ErrConflict
		}
		if err != nil {
			return err
		}
		if err := s.withDecisions(ctx, tx, []*Approval{&x}); err != nil {
			return err
		}
		values, err := Audit{s.db}.values(event(x))
		if err != nil {
			return err
		}
		return appendEvent(ctx, tx, values)
	})
	if err != nil {
		return Approval{}, err
	}
	return x, nil
}

// Settle ends a request that no session has used: withdrawn, expired, or refused by an operator. It is false if
// there is no such request any more.
func (s Approvals) Settle(ctx context.Context, id, state, why string) (bool, error) {
	if !slices.Contains([]string{ApprovalWithdrawn, ApprovalExpired, ApprovalRefused}, state) {
		return false, errors.New("an approval cannot be settled as " + state)
	}
	err := s.announcing(ctx, "ending approval "+id, id, func(ctx context.Context, tx querier) error {
		return execOne(ctx, tx, "UPDATE approvals SET state = ?, why = ?, settled = ? WHERE id = ? AND state IN (?, ?)",
			state, why, ms(s.db.now()), id, ApprovalPending, ApprovalApproved)
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// use makes the approval of a session worthless for any other, once. The caller is the transaction in which the
// session begins.
func (s Approvals) use(ctx context.Context, tx querier, x Session) error {
	n, err := exec(ctx, tx, `UPDATE approvals SET state = ? WHERE id = ? AND state = ? AND expires > ?
		AND session_id = ? AND user_id = ? AND target = ? AND account = ?`,
		ApprovalUsed, x.Approval, ApprovalApproved, ms(s.db.now().Add(-approvalStart)), x.ID, x.UserID, x.Target, x.Account)
	if err == nil && n == 0 {
		err = fmt.Errorf("its approval is not good any more: %w", ErrConflict)
	}
	return err
}

// Expire ends the requests whose time is over, those of dead nodes too, and returns them. Of parallel calls each
// request is returned by one.
func (s Approvals) Expire(ctx context.Context) ([]Approval, error) {
	var list []Approval
	err := s.db.writing(ctx, "ending requests for approval", func(ctx context.Context, q querier) (err error) {
		now := s.db.now()
		list, err = all(ctx, q, approvalFields, `UPDATE approvals SET state = ?, settled = ?
			WHERE state = ? AND expires <= ? OR state = ? AND expires <= ? RETURNING `+approvalColumns,
			ApprovalExpired, ms(now), ApprovalPending, ms(now), ApprovalApproved, ms(now.Add(-approvalStart)))
		return err
	})
	return list, err
}

// WithdrawAll ends the requests of people who waited at a node, and returns them. Nobody waits there when it starts.
func (s Approvals) WithdrawAll(ctx context.Context, node, why string) ([]Approval, error) {
	var list []Approval
	err := s.db.writing(ctx, "ending requests for approval of node "+node, func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, approvalFields, "UPDATE approvals SET state = ?, why = ?, settled = ? WHERE node = ? AND state = ? RETURNING "+approvalColumns,
			ApprovalWithdrawn, why, ms(s.db.now()), node, ApprovalPending)
		return err
	})
	return list, err
}

// Get returns an approval by its id.
func (s Approvals) Get(ctx context.Context, id string) (Approval, error) {
	return s.find(ctx, "reading approval "+id, "id = ?", id)
}

// Pending returns the pending request with a code, in any case.
func (s Approvals) Pending(ctx context.Context, code string) (Approval, error) {
	return s.find(ctx, "looking for a request for approval", "code = ? AND state = ? AND expires > ?", strings.ToUpper(code), ApprovalPending, ms(s.db.now()))
}

// OfSession returns the approval that a session has used.
func (s Approvals) OfSession(ctx context.Context, session string) (Approval, error) {
	return s.find(ctx, "looking for the approval of session "+session, "session_id = ? AND state = ?", session, ApprovalUsed)
}

// Waiting tells how many wait for a decision.
func (s Approvals) Waiting(ctx context.Context) (int, error) {
	n := 0
	err := s.db.reading(ctx, "counting approvals that wait", func(ctx context.Context, q querier) (err error) {
		n, err = scalar[int](ctx, q, "SELECT COUNT(*) FROM approvals WHERE state = ?", ApprovalPending)
		return err
	})
	return n, err
}

func (s Approvals) find(ctx context.Context, what, where string, args ...any) (Approval, error) {
	var x Approval
	err := s.db.reading(ctx, what, func(ctx context.Context, q querier) (err error) {
		x, err = one(ctx, q, approvalFields, "SELECT "+approvalColumns+" FROM approvals WHERE "+where, args...)
		if err != nil {
			return err
		}
		return s.withDecisions(ctx, q, []*Approval{&x})
	})
	return x, err
}

// List returns approvals with their decisions, newest first. Pending ones whose time is over are left out where
// pending ones are asked for.
func (s Approvals) List(ctx context.Context, f ApprovalFilter) ([]Approval, error) {
	var c conditions
	c.equal("state", f.State)
	if f.State == ApprovalPending {
		c.add("expires > ?", ms(s.db.now()))
	}
	c.equal("user_name", f.User)
	c.equal("target", f.Target)
	c.equal("session_id", f.Session)
	c.less("id", f.Before)
	c.limit(f.Limit)
	var list []Approval
	err := s.db.reading(ctx, "listing approvals", func(ctx context.Context, q querier) (err error) {
		text := c.sql("id DESC")
		if list, err = all(ctx, q, approvalFields, "SELECT "+approvalColumns+" FROM approvals "+text, c.args...); err != nil {
			return err
		}
		pointers := make([]*Approval, len(list))
		for i := range list {
			pointers[i] = &list[i]
		}
		return s.withDecisions(ctx, q, pointers)
	})
	return list, err
}

// withDecisions fills in who has decided.
func (s Approvals) withDecisions(ctx context.Context, q querier, list []*Approval) error {
	for chunk := range slices.Chunk(list, 1000) {
		byID := make(map[string]*Approval, len(chunk))
		args := make([]any, len(chunk))
		for i, x := range chunk {
			byID[x.ID], args[i] = x, x.ID
		}
		rows, err := all(ctx, q, decisionFields, "SELECT "+decisionColumns+" FROM approval_decisions WHERE approval_id IN (?"+
			strings.Repeat(", ?", len(chunk)-1)+") ORDER BY decided, person", args...)
		if err != nil {
			return err
		}
		for _, r := range rows {
			byID[r.approval].Decisions = append(byID[r.approval].Decisions, r.ApprovalDecision)
		}
	}
	return nil
}

// purgeApprovals deletes what is settled for long and was not used by a session.
func purgeApprovals(ctx context.Context, q querier, now time.Time) error {
	_, err := exec(ctx, q, "DELETE FROM approvals WHERE state IN (?, ?, ?) AND settled <= ?",
		ApprovalRefused, ApprovalWithdrawn, ApprovalExpired, ms(now.Add(-keepApprovals)))
	return err
}
