package bastion_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// approvalRules let people of dba approve what others do on web1.
const approvalRules = `version: 1
networks: {here: [127.0.0.0/8]}
rules:
  - {name: eyes, users: ["*"], targets: [web1], approval: {by: [group:dba], within: 1m}}
  - {name: two, users: ["*"], targets: [web2], approval: {by: [group:dba], count: 2, within: 1m}}
  - {name: short, users: ["*"], targets: [webshort], approval: {by: [group:dba], within: 2s}}
  - {name: why, users: ["*"], targets: [webwhy], approval: {by: [carol], within: 1m, reason: required}}
  - {name: free, users: ["*"], targets: [webfree]}
`

// eyes is a system with approvalRules and the approvers carol and dave, and mallory who is none.
func eyes(t *testing.T, o options) *system {
	t.Helper()
	if o.rules == "" {
		o.rules = approvalRules
	}
	s := newSystem(t, o)
	if o.join != nil {
		return s
	}
	for login, group := range map[string]string{"carol": "dba", "dave": "DBA", "mallory": "ops"} {
		u := s.addUser(login, alicePassword)
		check(t, s.Store.Users.SetGroups(context.Background(), u.ID, []string{group}))
	}
	for _, name := range []string{"web2", "webshort", "webwhy", "webfree"} {
		s.target(name, nil)
	}
	return s
}

// as is the OpenSSH client of somebody, who proves themself by password and code.
func (s *system) as(login string) *testenv.OpenSSH {
	user, _, _ := strings.Cut(login, "@")
	return &testenv.OpenSSH{Addr: s.Addr, Login: login, Password: alicePassword, Code: func() string { return s.code(user) }}
}

// waiter is a client program that waits for an approval.
type waiter struct {
	t           *testing.T
	cmd         *exec.Cmd
	out, errs   said
	done        chan error
	code, lines string
}

var findCode = regexp.MustCompile(`The request is ([2-9A-HJKMNP-Z]{4})\.`)

// waits starts a program and returns once it says that it waits.
func (s *system) waits(t *testing.T, cmd *exec.Cmd) *waiter {
	t.Helper()
	w := &waiter{t: t, cmd: cmd, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = &w.out, &w.errs
	check(t, cmd.Start())
	go func() { w.done <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	testenv.WaitFor(t, "the code of the request in what "+cmd.Path+" says", func() bool {
		w.lines = w.errs.String()
		m := findCode.FindStringSubmatch(w.lines)
		if m != nil {
			w.code = m[1]
		}
		return m != nil && strings.Contains(w.lines, "Waiting until")
	})
	return w
}

// ends waits for its end and returns its status.
func (w *waiter) ends() int {
	w.t.Helper()
	select {
	case err := <-w.done:
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		check(w.t, err)
		return 0
	case <-time.After(time.Minute):
		w.t.Fatalf("%s does not end; it says %q", w.cmd.Path, w.errs.String())
		return 0
	}
}

// pending waits for a request that is pending and returns it.
func (s *system) pending() store.Approval {
	s.t.Helper()
	var got store.Approval
	testenv.WaitFor(s.t, "a request for approval", func() bool {
		list, err := s.Store.Approvals.List(context.Background(), store.ApprovalFilter{State: store.ApprovalPending})
		check(s.t, err)
		if len(list) > 0 {
			got = list[0]
		}
		return len(list) > 0
	})
	return got
}

// Ensure a command waits until somebody approves it by ssh, on both engines, and that everything tells by whom.
func TestApprovalBySSH(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		s := eyes(t, o)
		c := s.ssh()
		c.Options = []string{"SetEnv=SALLYPORT_REASON=\"ticket \x1b[31m4711\""}
		w := s.waits(t, c.SSH(t, "cat; echo to-stdout; echo $SALLYPORT_REASON to-stderr >&2; exit 7"))
		for _, want := range []string{
			s.SSHD.Account + "@web1 needs an approval before the session starts (rule eyes), of: group dba (carol, dave).",
			"https://bastion.example.org/me/approvals or ssh YOU@bastion approve " + w.code, "(1 min). Ctrl-C withdraws the request.",
		} {
			if !strings.Contains(w.lines, want) {
				t.Errorf("%q is not in %q", want, w.lines)
			}
		}
		if w.out.String() != "" || len(s.events("session.started")) != 0 {
			t.Errorf("before the approval: %q", w.out.String())
		}

		out, errs, status := s.as("carol").Output(t, "approvals")
		if status != 0 || !strings.Contains(out, w.code) || !strings.Contains(out, "alice") || !strings.Contains(out, `exec: cat; echo`) || !strings.Contains(out, `ticket \u{1b}[31m4711`) {
			t.Errorf("approvals: %q %q %d", out, errs, status)
		}
		out, errs, status = s.as("carol").Output(t, "approve", strings.ToLower(w.code), "go", "on")
		if status != 0 || out != "" || !strings.Contains(errs, "approved. "+w.code+": alice as "+s.SSHD.Account+" on web1, from 127.0.0.1, exec: cat;") || !strings.Contains(errs, `reason: ticket \u{1b}[31m4711.`) {
			t.Errorf("approve: %q %q %d", out, errs, status)
		}
		if status := w.ends(); status != 7 || w.out.String() != "to-stdout\n" || !strings.Contains(w.errs.String(), "approved by carol.\nto-stderr\n") {
			t.Errorf("the command: %d %q %q", status, w.out.String(), w.errs.String())
		}

		row := s.session()
		a, err := s.Store.Approvals.OfSession(context.Background(), row.ID)
		check(t, err)
		if a.State != store.ApprovalUsed || !slices.Equal(a.ApprovedBy(), []string{"carol"}) || a.Decisions[0].Reason != "go on" || a.Decisions[0].Door != "ssh" || a.Node != "test" {
			t.Errorf("the approval: %+v", a)
		}
		if d := s.details("session.started"); len(d) != 1 || d[0]["approval"] != a.ID || d[0]["approved-by"] != "carol" {
			t.Errorf("session.started: %v", d)
		}
		if d := s.details("approval.requested"); len(d) != 1 || d[0]["approval"] != a.ID || d[0]["approvers"] != "group:dba" || d[0]["tell"] != "carol dave" {
			t.Errorf("approval.requested: %v", d)
		}
		if d := s.details("approval.decided"); len(d) != 1 || d[0]["verdict"] != "approve" || d[0]["state"] != "approved" {
			t.Errorf("approval.decided: %v", d)
		}

		// It was for that session alone.
		again := s.waits(t, s.ssh().SSH(t, "echo again"))
		out, errs, status = s.as("carol").Output(t, "refuse", again.code, "not", "now")
		if status != 0 || !strings.Contains(errs, "refused. "+again.code) {
			t.Errorf("refuse: %q %q %d", out, errs, status)
		}
		if status := again.ends(); status != 255 || again.out.String() != "" || !strings.Contains(again.errs.String(), "no session: carol refused: not now") {
			t.Errorf("what was refused: %d %q", status, again.errs.String())
		}
		if got := s.events("session.started"); len(got) != 1 {
			t.Errorf("sessions: %q", got)
		}
	})
}

// Ensure those who may not decide change nothing, and learn no more than that; that one of two counts once; and that
// a second node decides as well.
func TestApprovalByOthers(t *testing.T) {
	t.Parallel()
	near := eyes(t, options{postgres: true})
	far := eyes(t, options{join: near})
	c := near.ssh()
	c.Login = "alice@web2"
	w := near.waits(t, c.SSH(t, "echo in"))
	if !strings.Contains(w.lines, "needs 2 approvals") {
		t.Errorf("says %q", w.lines)
	}
	nothing := "There is no request " + w.code + " that waits for you."
	for _, x := range []struct{ who, want string }{
		{"mallory", nothing}, {"alice", w.code + " is your own request: somebody else has to decide."},
	} {
		if out, errs, status := near.as(x.who).Output(t, "approve", w.code); status != 1 || !strings.Contains(errs, x.want) {
			t.Errorf("%s: %q %q %d", x.who, out, errs, status)
		}
		if out, errs, status := near.as(x.who).Output(t, "approvals"); status != 0 || !strings.Contains(errs, "nobody waits for you") {
			t.Errorf("%s: %q %q %d", x.who, out, errs, status)
		}
	}
	if _, errs, status := near.as("carol").Output(t, "approve", w.code); status != 0 || !strings.Contains(errs, "approved, 1 of 2: others have to agree as well.") {
		t.Errorf("the first: %q %d", errs, status)
	}
	if _, errs, status := far.as("carol").Output(t, "approve", w.code); status != 1 || !strings.Contains(errs, "You have decided about "+w.code+" already; it counts once.") {
		t.Errorf("the first again: %q %d", errs, status)
	}
	if _, errs, status := near.as("carol").Output(t, "approve", "ZZZZ"); status != 1 || !strings.Contains(errs, "There is no request ZZZZ that waits for you.") {
		t.Errorf("no code: %q %d", errs, status)
	}
	if w.out.String() != "" {
		t.Fatal("the session has started")
	}
	// An approver counts as the rules have them when they decide.
	u, err := near.Store.Users.ByLogin(context.Background(), "mallory")
	check(t, err)
	check(t, near.Store.Users.SetGroups(context.Background(), u.ID, []string{"dba"}))
	if _, errs, status := far.as("mallory").Output(t, "approve", w.code); status != 0 || !strings.Contains(errs, "approved. "+w.code) {
		t.Errorf("the second: %q %d", errs, status)
	}
	if status := w.ends(); status != 0 || w.out.String() != "in\n" || !strings.Contains(w.errs.String(), "approved by carol, mallory.") {
		t.Errorf("the command: %d %q %q", status, w.out.String(), w.errs.String())
	}
	if got := near.events("approval.decided"); len(got) != 5 {
		t.Errorf("decisions: %q", got)
	}
}

// Ensure a request ends with its time, with Ctrl-C on the terminal and with the client; afterwards nobody can approve
// it.
func TestApprovalEnds(t *testing.T) {
	t.Parallel()
	s := eyes(t, options{})
	c := s.ssh()
	c.Login = "alice@webshort"
	w := s.waits(t, c.SSH(t, "echo in"))
	if status := w.ends(); status != 255 || w.out.String() != "" || !strings.Contains(w.errs.String(), "no session: nobody approved it in time.") {
		t.Errorf("after its time: %d %q", status, w.errs.String())
	}

	killed := s.waits(t, s.ssh().SSH(t, "echo in"))
	check(t, killed.cmd.Process.Kill())
	testenv.WaitFor(t, "the withdrawal", func() bool { return len(s.events("approval.withdrawn")) == 1 })
	if _, errs, status := s.as("carol").Output(t, "approve", killed.code); status != 1 || !strings.Contains(errs, "There is no request") {
		t.Errorf("of one who left: %q %d", errs, status)
	}

	term := s.terminal(s.ssh())
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("Ctrl-C withdraws")
	term.Type("\x03")
	term.Expect("the request was withdrawn.")
	if status := term.Wait(); status != 255 {
		t.Errorf("status %d", status)
	}
	testenv.WaitFor(t, "the withdrawal", func() bool { return len(s.events("approval.withdrawn")) == 2 })
	if got := s.events("approval.withdrawn"); !strings.Contains(got[0], "the client closed the c") || !strings.Contains(got[1], "the person typed Ctrl-C") {
		t.Errorf("withdrawn: %q", got)
	}
	// The node on which somebody waited is dead: any other ends the request.
	_, err := s.Store.Approvals.Request(context.Background(), store.Approval{Session: "x", UserID: "x", Person: "user:x", User: "dora", Target: "web1", Approvers: [][]string{{"carol"}}, Needed: 1, Node: "dead"}, time.Millisecond)
	check(t, err)
	testenv.WaitFor(t, "the end of a request that nobody waits for", func() bool {
		check(t, s.Engine.Housekeeping(context.Background()))
		return len(s.events("approval.expired")) == 2
	})
	if len(s.events("approval.expired")) != 2 || len(s.events("session.started")) != 0 {
		t.Error("a session has started, or nothing has expired")
	}
}

// Ensure a shell on a terminal waits, asks for the reason that the rule wants, gets what was typed meanwhile and the
// size of the window as it is then; and that a client without a terminal reads how to give a reason.
func TestApprovalOnTerminal(t *testing.T) {
	t.Parallel()
	s := eyes(t, options{})
	c := s.ssh()
	c.Login = "alice@webwhy"
	if out, errs, status := c.Output(t, "echo in"); status != 255 || out != "" || !strings.Contains(errs, "-o SetEnv=SALLYPORT_REASON=") {
		t.Errorf("without a reason: %q %q %d", out, errs, status)
	}
	term := s.terminal(c)
	term.Expect("Password: ")
	term.Type(alicePassword + "\n")
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("Reason: ")
	term.Type("disk is full\r")
	term.Expect("of: carol.")
	term.Expect("Ctrl-C withdraws")
	a := s.pending()
	if a.Reason != "disk is full" || a.Asked != "shell" {
		t.Errorf("request: %+v", a)
	}
	testenv.Resize(t, term, 90, 30)
	term.Type("stty size; echo in-$((40+2)); exit 3\n")
	if _, errs, status := s.as("carol").Output(t, "approve", a.Code); status != 0 || !strings.Contains(errs, "reason: disk is full.") {
		t.Errorf("approve: %q %d", errs, status)
	}
	term.Expect("approved by carol.")
	term.Expect("30 90")
	term.Expect("in-42")
	if status := term.Wait(); status != 3 {
		t.Errorf("status %d", status)
	}
}

// Ensure file transfers, the menu, jumps and forwards wait as well.
func TestApprovalEverywhere(t *testing.T) {
	t.Parallel()
	s := eyes(t, options{})
	approve := func(code string) {
		t.Helper()
		if _, errs, status := s.as("carol").Output(t, "approve", code); status != 0 {
			t.Errorf("approve: %q %d", errs, status)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, []byte("content"), 0o600))
	for name, cmd := range map[string]*exec.Cmd{
		"sftp": s.ssh().SFTP(t, "put "+file+" "+file+".sftp"), "scp": s.ssh().SCP(t, file, "REMOTE:"+file+".scp"), "scp -O": s.ssh().SCP(t, "-O", file, "REMOTE:"+file+".rcp"),
		"rsync": s.ssh().Rsync(t, file, "REMOTE:"+file+".rsync"),
	} {
		w := s.waits(t, cmd)
		approve(w.code)
		if status := w.ends(); status != 0 {
			t.Errorf("%s: %d %q", name, status, w.errs.String())
		}
	}
	for _, suffix := range []string{".sftp", ".scp", ".rcp", ".rsync"} {
		if got, err := os.ReadFile(file + suffix); err != nil || string(got) != "content" {
			t.Errorf("%s: %q %v", suffix, got, err)
		}
	}

	j := s.jumper("")
	w := s.waits(t, j.Command(t, "ssh", "-F", j.Config, s.at("web1"), "echo inside"))
	approve(w.code)
	if status := w.ends(); status != 0 || w.out.String() != "inside\n" {
		t.Errorf("ssh -J: %d %q %q", status, w.out.String(), w.errs.String())
	}

	// A remote forward comes before the channel that can tell of it.
	r := s.ssh().SSH(t)
	r.Args = slices.Insert(r.Args, len(r.Args)-1, "-R", "127.0.0.1:0:127.0.0.1:1")
	r.Args = append(r.Args, "echo with -R")
	w = s.waits(t, r)
	approve(w.code)
	if status := w.ends(); status != 0 || w.out.String() != "with -R\n" {
		t.Errorf("ssh -R: %d %q %q", status, w.out.String(), w.errs.String())
	}
}

// A client that had the target listen (ssh -R) and asked now and then whether anybody was there heard nothing at all while
// an approval was waited for, and took the connection for dead. Its requests have to be answered in their order, so that
// there is another sign of life; they are answered in the end, and what else the connection asks for goes its way.
func TestApprovalAndKeepalive(t *testing.T) {
	t.Parallel()
	s := eyes(t, options{rules: strings.Replace(approvalRules, "targets: [web1],", "targets: [web1], channels: [shell, exec, remote-forward],", 1)})
	cmd := s.ssh().SSH(t)
	cmd.Args = slices.Insert(cmd.Args, len(cmd.Args)-1, "-v", "-N", "-o", "ServerAliveInterval=3", "-o", "ServerAliveCountMax=1", "-o", "ExitOnForwardFailure=yes",
		"-R", "127.0.0.1:0:127.0.0.1:1", "-R", "127.0.0.1:0:127.0.0.1:2")
	var errs said
	cmd.Stderr = &errs
	check(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	a := s.pending()
	begun := time.Now()
	testenv.WaitFor(t, "the client to have asked whether anybody is there, for longer than it waits", func() bool {
		select {
		case err := <-done:
			t.Fatalf("the client has gone: %v %s", err, errs.String())
		default:
		}
		return time.Since(begun) > 7500*time.Millisecond
	})
	if _, errs, status := s.as("carol").Output(t, "approve", a.Code); status != 0 {
		t.Errorf("approve: %q %d", errs, status)
	}
	testenv.WaitFor(t, "both forwards", func() bool { return strings.Count(errs.String(), "Allocated port") == 2 })
}

// Ensure the menu waits, that the approval is not for the next choice, and that Ctrl-C there leads back to it.
func TestApprovalInMenu(t *testing.T) {
	t.Parallel()
	s := eyes(t, options{})
	term := s.menu()
	term.Type("web1\r")
	term.Expect("needs an approval before the session starts (rule eyes)")
	a := s.pending()
	if _, errs, status := s.as("dave").Output(t, "approve", a.Code); status != 0 {
		t.Errorf("approve: %q %d", errs, status)
	}
	term.Expect("approved by dave.")
	term.Type("echo in-$((40+2)); exit\n")
	term.Expect("in-42")
	term.Expect("web1: the session is over, exit status 0.")
	term.Type("\x15webwhy\r")
	term.Expect("Reason: ")
	term.Type("why not\r")
	term.Expect("of: carol.")
	term.Expect("Ctrl-C withdraws")
	if a := s.pending(); a.Reason != "why not" || a.Target != "webwhy" {
		t.Errorf("request: %+v", a)
	}
	term.Type("\x03")
	term.Expect("Stopped.")
	testenv.WaitFor(t, "the withdrawal", func() bool { return len(s.events("approval.withdrawn")) == 1 })
	if got := s.events("approval.withdrawn"); !strings.Contains(got[0], "the person changed their mind") {
		t.Errorf("withdrawn: %q", got)
	}
	term.Type("\x15webfree\r")
	term.Type("echo free-$((40+2)); exit\n")
	term.Expect("free-42")
}

// Ensure what a person loses while they wait is lost: rights, the account, the rule as it was.
func TestApprovalRightsWithdrawn(t *testing.T) {
	t.Parallel()
	s := eyes(t, options{})
	w := s.waits(t, s.ssh().SSH(t, "echo in"))
	s.rules(strings.Replace(approvalRules, "users: [\"*\"], targets: [web1]", "users: [bob], targets: [web1]", 1))
	if status := w.ends(); status != 255 || w.out.String() != "" || !strings.Contains(w.errs.String(), "There is no target web1, or no rule lets you in from here.") {
		t.Errorf("the right: %d %q", status, w.errs.String())
	}
	s.rules(approvalRules)

	w = s.waits(t, s.ssh().SSH(t, "echo in"))
	s.rules(strings.Replace(approvalRules, "by: [group:dba], within: 1m", "by: [group:dba], within: 1m, count: 2", 1))
	if _, errs, status := s.as("carol").Output(t, "approve", w.code); status != 0 {
		t.Errorf("approve: %q %d", errs, status)
	}
	if status := w.ends(); status != 255 || w.out.String() != "" || !strings.Contains(w.errs.String(), "what the rules ask for has changed") {
		t.Errorf("the rule: %d %q", status, w.errs.String())
	}
	s.rules(approvalRules)

	w = s.waits(t, s.ssh().SSH(t, "echo in"))
	u, err := s.Store.Users.ByLogin(context.Background(), "alice")
	check(t, err)
	check(t, s.Store.Users.Lock(context.Background(), u.ID, "test", time.Time{}))
	if status := w.ends(); status != 255 || w.out.String() != "" || !strings.Contains(w.errs.String(), "your account was locked") {
		t.Errorf("the account: %d %q", status, w.errs.String())
	}
	check(t, s.Store.Users.Unlock(context.Background(), u.ID))
	if got := s.events("approval.withdrawn"); len(got) != 3 || len(s.events("session.started")) != 0 {
		t.Errorf("withdrawn: %q", got)
	}
	list, err := s.Store.Approvals.List(context.Background(), store.ApprovalFilter{})
	check(t, err)
	for _, a := range list {
		if a.State != store.ApprovalWithdrawn || a.Why == "" {
			t.Errorf("%+v", a)
		}
	}
}

// Ensure a code of their own is asked of an approver who got in by a remembered one, that a recovery code does not
// do, and that a right one does.
func TestApprovalNeedsOwnCode(t *testing.T) {
	t.Parallel()
	s := eyes(t, options{rules: approvalRules + "  - {name: trusting, users: [\"*\"], targets: [down], trust: {idle: 2h, sources: [here]}}\n"})
	c := s.as("carol@down")
	c.Output(t, "true") // is remembered, though nothing is there
	w := s.waits(t, s.ssh().SSH(t, "echo in"))
	c = s.as("carol")
	c.Code = nil
	recovery, err := s.Engine.NewRecoveryCodes(context.Background(), mustUser(s, "carol"), "test")
	check(t, err)
	for _, x := range []struct{ code, want string }{
		{"", "a code is needed"}, {"000000", "This code does not fit."}, {recovery[0], "a recovery code does not do"},
	} {
		cmd := c.SSH(t, "approve", w.code)
		cmd.Stdin = strings.NewReader(x.code + "\n")
		if _, errs, status := testenv.Finish(t, cmd); status == 0 || !strings.Contains(errs, x.want) || !strings.Contains(errs, "A fresh code of yours: ") {
			t.Errorf("%q: %q %d", x.code, errs, status)
		}
	}
	if w.out.String() != "" {
		t.Fatal("the session has started")
	}
	cmd := c.SSH(t, "approve", w.code)
	cmd.Stdin = strings.NewReader(s.code("carol") + "\n")
	if _, errs, status := testenv.Finish(t, cmd); status != 0 || !strings.Contains(errs, "approved. "+w.code) {
		t.Errorf("a right code: %q %d", errs, status)
	}
	if status := w.ends(); status != 0 || w.out.String() != "in\n" {
		t.Errorf("the command: %d %q", status, w.errs.String())
	}
	if d := s.details("code.proved"); len(d) != 2 || !strings.HasPrefix(d[1]["for"], "approval ") {
		t.Errorf("code.proved: %v", d)
	}
}

func mustUser(s *system, login string) store.User {
	s.t.Helper()
	u, err := s.Store.Users.ByLogin(context.Background(), login)
	check(s.t, err)
	return u
}

// Ensure a robot does not wait where the rules ask for an approval, and reads so.
func TestApprovalAndRobots(t *testing.T) {
	t.Parallel()
	s := eyes(t, options{})
	file := s.robot("echo in")
	out, errs, status := s.robotClient("deploy-bot@web1", file).Output(t, "echo in")
	if status != 255 || out != "" || !strings.Contains(errs, "Rule eyes asks that people approve sessions on web1, and a robot does not wait for that.") {
		t.Errorf("%q %q %d", out, errs, status)
	}
	s.rules(strings.Replace(approvalRules, `users: ["*"], targets: [web1]`, "users: [alice], targets: [web1]", 1))
	if out, errs, status := s.robotClient("deploy-bot@web1", file).Output(t, "echo in"); status != 0 || out != "in\n" {
		t.Errorf("where no rule is about it: %q %q %d", out, errs, status)
	}
	if list, err := s.Store.Approvals.List(context.Background(), store.ApprovalFilter{}); err != nil || len(list) != 0 {
		t.Errorf("requests: %+v %v", list, err)
	}
}

// Ensure a database that goes away while somebody waits lets nobody in, and that the end of the server is told.
func TestApprovalFailsClosed(t *testing.T) {
	t.Parallel()
	db := testenv.PostgresServer(t)
	s := eyes(t, options{dsn: db.DSN()})
	w := s.waits(t, s.ssh().SSH(t, "echo in"))
	db.Stop()
	if status := w.ends(); status != 255 || w.out.String() != "" || !strings.Contains(w.errs.String(), "whether it is approved cannot be read just now") {
		t.Errorf("%d %q", status, w.errs.String())
	}
}

// Ensure whoever waits goes on when no message tells of the decision: the database is looked at every few seconds.
func TestApprovalWithoutMessages(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sallyport.db")
	s := eyes(t, options{dsn: "sqlite:" + file})
	w := s.waits(t, s.ssh().SSH(t, "echo in"))
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(60000)")
	check(t, err)
	defer db.Close()
	_, err = db.ExecContext(context.Background(), "UPDATE approvals SET state = 'approved', given = 1")
	check(t, err)
	if status := w.ends(); status != 0 || w.out.String() != "in\n" {
		t.Errorf("%d %q", status, w.errs.String())
	}
}

// Ensure those who wait are told of the end of the server.
func TestApprovalAndShutdown(t *testing.T) {
	t.Parallel()
	s := eyes(t, options{})
	w := s.waits(t, s.ssh().SSH(t, "echo in"))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	check(t, s.Server.Shutdown(ctx))
	if status := w.ends(); status != 255 || !strings.Contains(w.errs.String(), "this bastion stops; connect again in a moment.") {
		t.Errorf("%d %q", status, w.errs.String())
	}
	if got := s.events("approval.withdrawn"); len(got) != 1 {
		t.Errorf("withdrawn: %q", got)
	}
}

// Ensure one connection cannot have others asked without end, and that a person has five requests at once.
func TestApprovalRequestsBounded(t *testing.T) {
	t.Parallel()
	s := eyes(t, options{})
	var waiting []*waiter
	for range store.MaxPendingApprovals {
		waiting = append(waiting, s.waits(t, s.ssh().SSH(t, "echo in")))
	}
	if out, errs, status := s.ssh().Output(t, "echo in"); status != 255 || out != "" || !strings.Contains(errs, fmt.Sprintf("you have %d requests waiting already", store.MaxPendingApprovals)) {
		t.Errorf("%q %q %d", out, errs, status)
	}
	for _, w := range waiting {
		check(t, w.cmd.Process.Kill())
	}
	testenv.WaitFor(t, "the withdrawals", func() bool { return len(s.events("approval.withdrawn")) == len(waiting) })
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	for asked := 1; ; asked++ {
		sess, err := c.NewSession()
		check(t, err)
		both := new(said)
		sess.Stderr = both
		check(t, sess.Start("echo in"))
		testenv.WaitFor(t, "what the command says", func() bool {
			return strings.Contains(both.String(), "Waiting until") || strings.Contains(both.String(), "no session") || strings.Contains(both.String(), "too many approvals")
		})
		sess.Close()
		if strings.Contains(both.String(), "this connection has asked for too many approvals; connect again") {
			if asked != 21 {
				t.Errorf("at request %d", asked)
			}
			break
		}
		if asked > 21 {
			t.Fatalf("request %d reads %q", asked, both)
		}
		testenv.WaitFor(t, "the withdrawal", func() bool { return len(s.events("approval.withdrawn")) == len(waiting)+asked })
	}
}

// commanding runs one command of the bastion on an open connection.
func commanding(t *testing.T, c *ssh.Client, command string) string {
	t.Helper()
	sess, err := c.NewSession()
	check(t, err)
	defer sess.Close()
	said, _ := sess.CombinedOutput(command)
	return string(said)
}

// Ensure the directory is asked at the moment of deciding: an approver who is in the group no more since they logged
// in decides nothing, nobody does while the directory is away, and a person whom it disabled meanwhile gets nothing.
func TestApprovalAndDirectory(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := testenv.Slapd(t)
	directory := ldapOf(t, d)
	s := newSystem(t, options{directory: directory, rules: "version: 1\nrules:\n  - {name: eyes, users: [\"*\"], targets: [web1], approval: {by: [group:approvers], within: 1m}}\n"})
	open := map[string]*ssh.Client{}
	for _, login := range []string{"waits", "stays", "leaves"} {
		d.AddUser(login, "secret of "+login, "ssh-users")
	}
	d.AddGroup("approvers", d.UserDN("stays"), d.UserDN("leaves"), d.UserDN("waits"))
	for _, login := range []string{"stays", "leaves"} {
		_, err := s.Store.Users.SeenInDirectory(ctx, entryUUID(t, directory, login), login, "", "", nil)
		check(t, err)
		open[login], err = s.dial(login, answers("secret of "+login, s.code(login), nil))
		check(t, err)
		defer open[login].Close()
	}
	_, err := s.Store.Users.SeenInDirectory(ctx, entryUUID(t, directory, "waits"), "waits", "", "", nil)
	check(t, err)
	wait := func() *waiter {
		return s.waits(t, (&testenv.OpenSSH{Addr: s.Addr, Login: "waits@web1", Password: "secret of waits", Code: func() string { return s.code("waits") }}).SSH(t, "echo in"))
	}
	w := wait()
	d.Leave("approvers", d.UserDN("leaves"))
	testenv.WaitFor(t, "the directory to know", func() bool {
		p, err := directory.Lookup(ctx, "leaves")
		return err == nil && !slices.Contains(p.Groups, "approvers")
	})
	if got := commanding(t, open["leaves"], "approve "+w.code); !strings.Contains(got, "There is no request") {
		t.Errorf("who has left the group: %q", got)
	}
	d.Stop()
	if got := commanding(t, open["stays"], "approve "+w.code); strings.Contains(got, "approved") {
		t.Errorf("while the directory is away: %q", got)
	}
	d.Start()
	testenv.WaitFor(t, "the directory to be back", func() bool { _, err := directory.Lookup(ctx, "stays"); return err == nil })
	if w.out.String() != "" {
		t.Fatal("the session has started")
	}
	if got := commanding(t, open["stays"], "approve "+w.code); !strings.Contains(got, "approved. "+w.code) {
		t.Errorf("who is in the group: %q", got)
	}
	if status := w.ends(); status != 0 || w.out.String() != "in\n" {
		t.Errorf("the command: %d %q", status, w.errs.String())
	}
	w = wait()
	d.Disable("waits")
	if got := commanding(t, open["stays"], "approve "+w.code); !strings.Contains(got, "approved. "+w.code) {
		t.Errorf("of one who is disabled: %q", got)
	}
	if status := w.ends(); status != 255 || w.out.String() != "" || !strings.Contains(w.errs.String(), "your account is disabled or has expired in the directory.") {
		t.Errorf("who is disabled: %d %q", status, w.errs.String())
	}

	// Under another name in the directory the person who asked is still the one who asked.
	d.Enable("waits")
	testenv.WaitFor(t, "the directory to have her again", func() bool { p, err := directory.Lookup(ctx, "waits"); return err == nil && !p.Disabled })
	w = wait()
	code := s.code("waits")
	d.Rename("waits", "weds")
	testenv.WaitFor(t, "the directory to have the other name", func() bool { _, err := directory.Lookup(ctx, "weds"); return err == nil })
	own, err := s.dial("weds", answers("secret of waits", code, nil))
	check(t, err)
	defer own.Close()
	if got := commanding(t, own, "approve "+w.code); !strings.Contains(got, "is your own request") {
		t.Errorf("her own, by another name: %q", got)
	}
}

// Ensure nothing of a target is touched before somebody has approved, whatever the client opens meanwhile; and that
// what waited goes on together afterwards, in one session.
func TestApprovalOpensNothingBefore(t *testing.T) {
	t.Parallel()
	s := eyes(t, options{rules: "version: 1\nrules:\n  - {name: eyes, users: [\"*\"], targets: [web1, counted], channels: [exec, {local-forward: [\"*:*\"]}], approval: {by: [carol], within: 1m}}\n"})
	l := listen(t, "tcp", "127.0.0.1:0")
	var touched atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			touched.Add(1)
			conn.Close()
		}
	}()
	_, err := s.Store.Targets.Add(context.Background(), store.Target{Name: "counted", Address: l.Addr().String(), Accounts: []string{"root"}, HostKeyMode: store.TOFU})
	check(t, err)
	opens := func(target string) (texts chan string, failed chan error) {
		c, err := s.dial("alice@"+target, answers(alicePassword, s.code("alice"), nil))
		check(t, err)
		t.Cleanup(func() { c.Close() })
		texts, failed = make(chan string, 2), make(chan error, 1)
		go func() { failed <- openTCP(c, "127.0.0.1", "9") }()
		s.pending()
		for range 2 {
			sess, err := c.NewSession()
			check(t, err)
			both := new(said)
			sess.Stdout, sess.Stderr = both, both
			go func() {
				_ = sess.Run("echo in")
				texts <- both.String()
			}()
			testenv.WaitFor(t, "what the command says", func() bool { return strings.Contains(both.String(), "Waiting until") })
		}
		return texts, failed
	}
	texts, failed := opens("counted")
	a := s.pending()
	if list, err := s.Store.Approvals.List(context.Background(), store.ApprovalFilter{}); err != nil || len(list) != 1 {
		t.Errorf("requests of one connection: %+v %v", list, err)
	}
	if _, errs, status := s.as("carol").Output(t, "refuse", a.Code); status != 0 {
		t.Errorf("refuse: %q %d", errs, status)
	}
	for range 2 {
		if got := <-texts; !strings.Contains(got, "Waiting until") || !strings.Contains(got, "no session: carol refused.") {
			t.Errorf("a command reads %q", got)
		}
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "carol refused") {
		t.Errorf("a forward gets %v", err)
	}
	if n := touched.Load(); n != 0 {
		t.Errorf("the target was touched %d times", n)
	}

	texts, failed = opens("web1")
	a = s.pending()
	if _, errs, status := s.as("carol").Output(t, "approve", a.Code); status != 0 {
		t.Errorf("approve: %q %d", errs, status)
	}
	for range 2 {
		if got := <-texts; !strings.HasSuffix(got, "approved by carol.\nin\n") {
			t.Errorf("a command reads %q", got)
		}
	}
	<-failed // nobody listens there
	if got := s.events("session.started"); len(got) != 1 {
		t.Errorf("sessions: %q", got)
	}
}
