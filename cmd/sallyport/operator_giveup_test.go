package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/store"
)

// What a node that never comes back has of a recording is waited for until an operator says why no more.
func TestOperatorGivesUp(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	ctx := context.Background()
	noError(t, o.node.Store.Sessions.Alive(ctx, "n9"))
	x, err := o.node.Store.Sessions.Open(ctx, store.Session{User: "erin", Target: "web1", Account: "root", Node: "n9", State: store.Live})
	noError(t, err)
	noError(t, o.node.Store.Sessions.OpenChannel(ctx, x.ID, store.Channel{ID: 1, Kind: "shell", Recording: "2026/11/25/" + x.ID + "/1.cast"}))
	giveUp := []string{"session", "give-up", x.ID, "--reason", "the disk is destroyed"}
	if text := o.fails(1, giveUp...); !strings.Contains(text, "waits for a lost node") {
		t.Errorf("while its node is there: %q", text)
	}
	_, err = o.node.Store.Sessions.MarkLostNodes(ctx, "n1", -time.Hour, func(store.Session) (audit.Event, error) {
		return audit.Event{ID: "lost", Time: time.Now(), Type: audit.SessionEnded}, nil
	})
	noError(t, err)
	if s := object[admin.RecordingStatus](o, "session", "storage"); s.TailPending != 1 {
		t.Errorf("before: %d tails are waited for, want 1", s.TailPending)
	}
	o.fails(1, "session", "give-up", "nothing", "--reason", "x")
	o.fails(2, "session", "give-up")
	if text := o.fails(2, "session", "give-up", x.ID); !strings.Contains(text, "--reason 'the disk is destroyed'") {
		t.Errorf("without a reason: %q", text)
	}
	if r, want := o.run(giveUp...), "the tail of 1 recording of session "+x.ID+" is not waited for any more"; r.code != 0 || !strings.Contains(r.err, want) {
		t.Errorf("give-up: exit %d, stderr %q, want %q", r.code, r.err, want)
	}
	if text := o.fails(1, append(giveUp, "-o", "json")...); !strings.Contains(text, "waits for a lost node") {
		t.Errorf("a second time: %q", text)
	}
	if s := object[admin.RecordingStatus](o, "session", "storage"); s.TailPending != 0 {
		t.Errorf("after: %d tails are waited for, want 0", s.TailPending)
	}
	if out := o.ok("session", "show", x.ID); !strings.Contains(out, "given up on") {
		t.Errorf("session show does not say that it was given up: %q", out)
	}
	if text := o.fails(1, "session", "export", x.ID); !strings.Contains(text, "never came back") {
		t.Errorf("export of what was given up: %q", text)
	}
	events := object[[]admin.AuditEvent](o, "audit", "list", "--type", "operator.change", "--session", x.ID)
	if len(events) != 1 || events[0].Detail["change"] != "session.give-up" || events[0].Detail["lost-node"] != "n9" || events[0].Reason != "the disk is destroyed" || events[0].Actor != "console" {
		t.Errorf("events of the change: %+v", events)
	}
}
