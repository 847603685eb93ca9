package bastion_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// onTerminal signs somebody in with password and code on a terminal of 100 by 40, and runs a command of the bastion there.
func (s *system) onTerminal(login string, command ...string) *testenv.Terminal {
	s.t.Helper()
	term := s.terminal(s.as(login), command...)
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code(login) + "\n")
	return term
}

// An auditor watches from plain SSH: they see the present screen, the person reads of it, nothing that is typed
// reaches the session, and leaving ends the watching alone.
func TestWatchBySSH(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newSystem(t, options{rules: trustHere})
	for login, role := range map[string]string{"carol": store.RoleAuditor, "dave": store.RoleAdmin, "mallory": ""} {
		if u := s.addUser(login, alicePassword); role != "" {
			check(t, s.Store.Admins.Set(ctx, u.ID, role))
		}
	}
	alice := testenv.StartTerminal(t, s.withKey().Interactive(), 120, 50)
	alice.Type("PS1='ready> '; echo first-$((40+2))\n")
	alice.Expect("first-42")
	id := s.liveID()

	carol := s.onTerminal("carol", "watch", id)
	carol.Expect("this terminal is 100x40, the session's is 120x50")
	carol.Expect("first-42")
	alice.Expect("sallyport: observed by carol.")
	carol.Type("echo typed-by-carol\n")
	alice.Type("printf '\\033]52;c;ZXZpbA==\\007\\033[6n'; echo second-$((40+2))\n")
	if seen := carol.Expect("second-42"); strings.Contains(seen, "\x1b]52") || strings.Contains(seen, "\x1b[6n") {
		t.Errorf("the watcher's terminal was sent what does more than draw: %q", seen)
	}
	carol.Type("q")
	carol.Expect("you watch no longer.")
	if status := carol.Wait(); status != 0 {
		t.Errorf("after q: status %d", status)
	}
	alice.Expect("no longer observed.")

	dave := s.onTerminal("dave", "watch", id, "1")
	dave.Expect("second-42")
	alice.Expect("observed by dave.")
	dave.Type("\x03")
	dave.Expect("you watch no longer.")
	dave.Wait()
	alice.Expect("no longer observed.")
	alice.Type("echo third-$((40+2))\n")
	if seen := alice.Expect("third-42"); strings.Contains(seen, "typed-by-carol") {
		t.Errorf("what a watcher typed has reached the session: %q", seen)
	}

	// Without a terminal, and without a way to type, it goes on until the client leaves; the right to it is looked at again.
	cmd := s.as("carol").SSH(t, "watch", id)
	var out, errs said
	cmd.Stdout, cmd.Stderr = &out, &errs
	check(t, cmd.Start())
	testenv.WaitFor(t, "what is watched", func() bool { return strings.Contains(out.String(), "third-42") })
	check(t, s.Store.Admins.Remove(ctx, mustUser(s, "carol").ID))
	_ = cmd.Wait()
	if !strings.Contains(errs.String(), "you may not watch any more.") {
		t.Errorf("after the role was taken: %q", errs.String())
	}

	for _, x := range []struct {
		who    string
		args   []string
		status int
		says   string
	}{
		{"mallory", []string{"watch", id}, 1, "administrators and auditors watch sessions, and you have no such role."},
		{"mallory", []string{"watch", "none"}, 1, "and you have no such role."},
		{"dave", []string{"watch", "no\x1bne"}, 1, `there is no session no\u{1b}ne. Those that are open: ssh dave@bastion sessions`},
		{"dave", []string{"watch", id, "7"}, 1, "there is no channel 7."},
		{"dave", []string{"watch", id, "first"}, 2, "first is no number of a channel."},
		{"dave", []string{"watch"}, 2, "usage of watch"},
		{"dave", []string{"watch", id, "--json"}, 2, "usage of watch"},
	} {
		if _, errs, status := s.as(x.who).Output(t, x.args...); status != x.status || !strings.Contains(errs, x.says) {
			t.Errorf("%s %q: status %d, %q; want %d, %q", x.who, x.args, status, errs, x.status, x.says)
		}
	}

	last := s.onTerminal("dave", "watch", id)
	last.Expect("third-42")
	alice.Type("exit\n")
	alice.Wait()
	last.Expect("ended")
	if status := last.Wait(); status != 0 {
		t.Errorf("at the end of the session: status %d", status)
	}
	if _, errs, status := s.as("dave").Output(t, "watch", id); status != 1 || !strings.Contains(errs, "it is over") {
		t.Errorf("watching what is over: status %d, %q", status, errs)
	}
	events, err := s.Store.Audit.List(ctx, store.AuditFilter{Type: audit.SessionWatched, Limit: 100})
	check(t, err)
	count := map[string]int{}
	for _, e := range events {
		if e.Door != audit.DoorSSH || e.User != "alice" || e.Session != id || e.Source != "127.0.0.1" {
			t.Errorf("event %+v", e)
		}
		count[e.Actor+" "+e.Detail["watch"]]++
	}
	if count["carol began"] != 2 || count["carol ended"] != 2 || count["dave began"] != 2 || count["dave ended"] != 2 {
		t.Errorf("events %v", count)
	}
}

// Who was let in without a code of their own types one before they see anything of others: a right of an operator's is
// worth more than a remembered place or a key alone.
func TestWatchBySSHNeedsCode(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newSystem(t, options{rules: trustHere})
	check(t, s.Store.Admins.Set(ctx, mustUser(s, "alice").ID, store.RoleAdmin))
	bob := s.addUser("bob", alicePassword)
	x, err := s.Store.Sessions.Open(ctx, store.Session{UserID: bob.ID, User: "bob", Target: "web1", Account: "root", Source: "192.0.2.9", Node: "test", Waits: store.WaitsModerator})
	check(t, err)
	own, err := s.Store.Sessions.Open(ctx, store.Session{UserID: mustUser(s, "alice").ID, User: "alice", Target: "web1", Account: "root", Source: "192.0.2.9", Node: "test"})
	check(t, err)
	recovery, err := s.Engine.NewRecoveryCodes(ctx, mustUser(s, "alice"), "test")
	check(t, err)
	c := s.ssh()
	c.Login = "alice"
	c.Code = func() string { return recovery[0] } // which is no code of the token
	for _, answer := range []struct{ code, want string }{{"", "a code is needed"}, {"000000", "This code does not fit."}} {
		for i, args := range [][]string{{"watch", x.ID}, {"sessions"}} {
			c.Code = func() string { defer func() { recovery = recovery[1:] }(); return recovery[0] }
			cmd := c.SSH(t, args...)
			cmd.Stdin = strings.NewReader(answer.code + "\n")
			out, errs, status := testenv.Finish(t, cmd)
			if status == 0 || out != "" || !strings.Contains(errs, "A fresh code of yours: ") || !strings.Contains(errs, answer.want) {
				t.Errorf("%d %q: status %d, %q %q", i, answer.code, status, out, errs)
			}
		}
	}

	c.Code = func() string { return s.code("alice") }
	out, errs, status := c.Output(t, "sessions")
	if status != 0 || !strings.Contains(out, x.ID) || !strings.Contains(out, own.ID) || !strings.Contains(out, "root@web1") || !strings.Contains(out, "moderator") {
		t.Errorf("an administrator's list: %d %q %q", status, out, errs)
	}
	var list []struct{ ID, User, Waits string }
	out, _, _ = s.as("bob").Output(t, "sessions", "--json")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0].ID != x.ID || list[0].Waits != "moderator" {
		t.Errorf("one's own list: %v %s", err, out)
	}
	check(t, s.Store.Sessions.End(ctx, x.ID, "done"))
	if out, errs, status := s.as("bob").Output(t, "sessions"); status != 0 || out != "" || !strings.Contains(errs, "you have no session open.") {
		t.Errorf("no session of one's own: %d %q %q", status, out, errs)
	}
}
