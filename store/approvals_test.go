package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

func asked(user string, needed int) store.Approval {
	return store.Approval{
		Session: "s-" + user, UserID: "id-" + user, Person: "directory:" + user, User: user, Target: "vault", Account: "root", Source: "192.0.2.1",
		Asked: "shell", Reason: "a ticket", Rule: "vault", RulesVersion: 7, Approvers: [][]string{{"group:dba"}, {"carol"}}, Needed: needed, Node: "n1",
	}
}

func says(login string, approve bool) store.ApprovalDecision {
	return store.ApprovalDecision{Person: "directory:" + login, User: login, Approve: approve, Reason: "because", Door: "ssh", Source: "192.0.2.9"}
}

func decided(a store.Approval) audit.Event {
	return audit.Event{Type: audit.ApprovalDecided, Result: audit.OK, User: a.User, Detail: map[string]string{"state": a.State}}
}

func TestApproval(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		messages, cancel := s.Bus.Subscribe(store.TopicApprovals)
		defer cancel()
		a := must[store.Approval](t)(s.Approvals.Request(ctx, asked("alice", 2), 15*time.Minute))
		if m := receive(t, messages); m.Payload != a.ID {
			t.Errorf("the bus tells of %q", m.Payload)
		}
		if len(a.Code) != 4 || strings.ContainsAny(a.Code, "01IOL") || a.State != store.ApprovalPending || !a.Expires.Equal(start.Add(15*time.Minute)) {
			t.Errorf("requested: %+v", a)
		}
		got := must[store.Approval](t)(s.Approvals.Pending(ctx, strings.ToLower(a.Code)))
		if fmt.Sprint(got) != fmt.Sprint(a) {
			t.Errorf("got  %+v\nwant %+v", got, a)
		}

		_, err := s.Approvals.Decide(ctx, a.ID, says("alice", true), decided)
		wantError(t, "by the person", err, store.ErrConflict)
		got = must[store.Approval](t)(s.Approvals.Decide(ctx, a.ID, says("carol", true), decided))
		if got.State != store.ApprovalPending || got.Given != 1 || !got.Settled.IsZero() || !slices.Equal(got.ApprovedBy(), []string{"carol"}) {
			t.Errorf("after one of two: %+v", got)
		}
		_, err = s.Approvals.Decide(ctx, a.ID, says("carol", true), decided)
		wantError(t, "twice by one", err, store.ErrDecidedAlready)
		_, err = s.Approvals.Decide(ctx, a.ID, says("carol", false), decided)
		wantError(t, "yes, then no", err, store.ErrDecidedAlready)

		early := store.Session{ID: a.Session, UserID: a.UserID, User: "alice", Target: "vault", Account: "root", Approval: a.ID}
		_, err = s.Sessions.Open(ctx, early)
		wantError(t, "before it is approved", err, store.ErrConflict)

		e.clock.Move(time.Minute)
		got = must[store.Approval](t)(s.Approvals.Decide(ctx, a.ID, says("dave", true), decided))
		if got.State != store.ApprovalApproved || got.Given != 2 || !got.Settled.Equal(start.Add(time.Minute)) || !slices.Equal(got.ApprovedBy(), []string{"carol", "dave"}) {
			t.Errorf("after two of two: %+v", got)
		}
		_, err = s.Approvals.Decide(ctx, a.ID, says("erin", false), decided)
		wantError(t, "no, too late", err, store.ErrConflict)
		_, err = s.Approvals.Pending(ctx, a.Code)
		wantError(t, "a code that is not pending", err, store.ErrNotFound)

		for what, change := range map[string]func(*store.Session){
			"session": func(x *store.Session) { x.ID = "other" }, "user": func(x *store.Session) { x.UserID = "id-bob" },
			"target": func(x *store.Session) { x.Target = "web1" }, "account": func(x *store.Session) { x.Account = "alice" },
			"approval": func(x *store.Session) { x.Approval = "other" },
		} {
			x := early
			change(&x)
			_, err := s.Sessions.Open(ctx, x)
			wantError(t, "for another "+what, err, store.ErrConflict)
		}
		must[store.Session](t)(s.Sessions.Open(ctx, early))
		_, err = s.Sessions.Open(ctx, early)
		wantError(t, "twice", err, store.ErrConflict)
		got = must[store.Approval](t)(s.Approvals.OfSession(ctx, a.Session))
		if got.State != store.ApprovalUsed || len(got.Decisions) != 2 {
			t.Errorf("used: %+v", got)
		}
		if done := must[bool](t)(s.Approvals.Settle(ctx, a.ID, store.ApprovalWithdrawn, "")); done {
			t.Error("what was used can be withdrawn")
		}
		if list := must[[]audit.Event](t)(s.Audit.List(ctx, store.AuditFilter{Type: audit.ApprovalDecided})); len(list) != 2 || list[0].Detail["state"] != store.ApprovalApproved {
			t.Errorf("events: %+v", list)
		}
	})
}

func TestApprovalEnds(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		request := func(user string) store.Approval {
			return must[store.Approval](t)(s.Approvals.Request(ctx, asked(user, 1), 15*time.Minute))
		}
		refused, withdrawn, expired, late := request("alice"), request("bob"), request("carl"), request("dora")
		if got := must[store.Approval](t)(s.Approvals.Decide(ctx, refused.ID, says("carol", false), decided)); got.State != store.ApprovalRefused || got.Given != 0 {
			t.Errorf("refused: %+v", got)
		}
		if done := must[bool](t)(s.Approvals.Settle(ctx, withdrawn.ID, store.ApprovalWithdrawn, "left")); !done {
			t.Error("not withdrawn")
		}
		_, err := s.Approvals.Decide(ctx, withdrawn.ID, says("carol", true), decided)
		wantError(t, "of a withdrawn one", err, store.ErrConflict)
		must[store.Approval](t)(s.Approvals.Decide(ctx, late.ID, says("carol", true), decided))

		e.clock.Move(15 * time.Minute)
		_, err = s.Approvals.Decide(ctx, expired.ID, says("carol", true), decided)
		wantError(t, "too late", err, store.ErrConflict)
		if list := must[[]store.Approval](t)(s.Approvals.List(ctx, store.ApprovalFilter{State: store.ApprovalPending})); len(list) != 0 {
			t.Errorf("pending: %+v", list)
		}
		if list := must[[]store.Approval](t)(s.Approvals.Expire(ctx)); len(list) != 1 || list[0].ID != expired.ID {
			t.Errorf("expired: %+v", list)
		}
		e.clock.Move(time.Minute)
		x := store.Session{ID: late.Session, UserID: late.UserID, User: "dora", Target: "vault", Account: "root", Approval: late.ID}
		_, err = s.Sessions.Open(ctx, x)
		wantError(t, "long after", err, store.ErrConflict)
		if list := must[[]store.Approval](t)(s.Approvals.Expire(ctx)); len(list) != 1 || list[0].ID != late.ID {
			t.Errorf("expired: %+v", list)
		}
		e.clock.Move(91 * 24 * time.Hour)
		check(t, s.Purge(ctx))
		if list := must[[]store.Approval](t)(s.Approvals.List(ctx, store.ApprovalFilter{})); len(list) != 0 {
			t.Errorf("left: %+v", list)
		}
	})
}

// Who waited at a node that was killed waits no more: an approver was shown their request for up to a day, and agreed to nothing.
func TestApprovalsOfKilledNode(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		left := must[store.Approval](t)(s.Approvals.Request(ctx, asked("alice", 1), 15*time.Minute))
		elsewhere := asked("bob", 1)
		elsewhere.Node = "n2"
		elsewhere = must[store.Approval](t)(s.Approvals.Request(ctx, elsewhere, 15*time.Minute))
		if list := must[[]store.Approval](t)(s.Approvals.WithdrawAll(ctx, "n1", "it has ended")); len(list) != 1 || list[0].ID != left.ID || list[0].Why != "it has ended" || list[0].State != store.ApprovalWithdrawn {
			t.Errorf("withdrawn: %+v", list)
		}
		_, err := s.Approvals.Decide(ctx, left.ID, says("carol", true), decided)
		wantError(t, "of one that waits no more", err, store.ErrConflict)
		must[store.Approval](t)(s.Approvals.Decide(ctx, elsewhere.ID, says("carol", true), decided))
	})
}

// Fifty approvers on two nodes at once count exactly, and settle it once.
func TestApprovalInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		for _, needed := range []int{1, 10, 50} {
			a := must[store.Approval](t)(nodes[0].Approvals.Request(ctx, asked(fmt.Sprint("alice", needed), needed), time.Hour))
			var counted, settled, late, twice atomic.Int32
			parallel(100, func(i int) {
				got, err := nodes[i%2].Approvals.Decide(ctx, a.ID, says(fmt.Sprint("approver", i/2), true), decided)
				switch {
				case err == nil:
					counted.Add(1)
					if got.State == store.ApprovalApproved {
						settled.Add(1)
					}
				case errors.Is(err, store.ErrConflict):
					late.Add(1)
				case errors.Is(err, store.ErrDecidedAlready):
					twice.Add(1)
				default:
					t.Error(err)
				}
			})
			got := must[store.Approval](t)(nodes[1].Approvals.Get(ctx, a.ID))
			if int(counted.Load()) != needed || settled.Load() != 1 || counted.Load()+late.Load()+twice.Load() != 100 || got.Given != needed || len(got.Decisions) != needed || got.State != store.ApprovalApproved {
				t.Errorf("%d needed: %d counted, %d settled it, %d late, %d twice; %d given by %d", needed, counted.Load(), settled.Load(), late.Load(), twice.Load(), got.Given, len(got.Decisions))
			}
			var opened atomic.Int32
			parallel(20, func(i int) {
				if _, err := nodes[i%2].Sessions.Open(ctx, store.Session{ID: a.Session, UserID: a.UserID, User: a.User, Target: "vault", Account: "root", Approval: a.ID}); err == nil {
					opened.Add(1)
				}
			})
			if opened.Load() != 1 {
				t.Errorf("%d sessions have begun", opened.Load())
			}
		}
	})
}

// A person has so many requests at once and no more, on all nodes together; others have room.
func TestApprovalRequestsAreBounded(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		var made, refused atomic.Int32
		parallel(20, func(i int) {
			_, err := nodes[i%2].Approvals.Request(ctx, asked("alice", 1), time.Hour)
			switch {
			case err == nil:
				made.Add(1)
			case errors.Is(err, store.ErrTooManyApprovals):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
		if made.Load() != store.MaxPendingApprovals || refused.Load() != 20-store.MaxPendingApprovals {
			t.Errorf("%d made, %d refused", made.Load(), refused.Load())
		}
		must[store.Approval](t)(nodes[0].Approvals.Request(ctx, asked("bob", 1), time.Hour))
		e.clock.Move(time.Hour)
		must[store.Approval](t)(nodes[0].Approvals.Request(ctx, asked("alice", 1), time.Hour))
	})
}
