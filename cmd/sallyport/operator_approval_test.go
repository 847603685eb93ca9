package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/internal/testenv"
	"sallyport/otp"
	"sallyport/store"
)

// tokenOf gives login a further token and returns its secret in base32.
func (o *operated) tokenOf(login string) string {
	o.t.Helper()
	ctx := context.Background()
	u, err := o.node.Store.Users.ByLogin(ctx, login)
	noError(o.t, err)
	secret := otp.NewSecret()
	_, err = o.node.Store.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "phone", Kind: "totp", Algorithm: "SHA1", Digits: 6, Period: 30, Enabled: true}, secret)
	noError(o.t, err)
	return secret.Base32()
}

// noise is what a program says, to be read while it runs.
type noise struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (n *noise) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *noise) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

// A session that waits, with a whole server: the approver is mailed, an operator sees it and refuses one, another is
// approved in the web, and afterwards everything tells by whom.
func TestOperatorApprovals(t *testing.T) {
	t.Parallel()
	sink := testenv.StartSMTP(t, testenv.SMTPConfig{Plain: true})
	o := startOperatedWith(t, "192.0.2.10", fmt.Sprintf("mail: {from: sallyport@example.org, servers: [{server: %q, tls: none}]}\nnotify: {operators: [ops@example.org]}\n", sink.Addr))
	sshd := o.behind()
	o.ok("apply", "-f", o.file("rules.yaml", "version: 1\nrules:\n  - {name: eyes, users: [alice], targets: [web1], channels: [shell, exec], approval: {by: [carol], within: 2m}}\n"))
	const password = "correct horse battery"
	pass := o.file("pass", password+"\n")
	o.ok("user", "add", "alice", "--email", "alice@example.org", "--password-file", pass)
	o.ok("user", "add", "carol", "--email", "carol@example.org", "--password-file", pass)
	if out := o.ok("explain", "--user", "alice", "--target", "web1", "--from", "192.0.2.7"); !strings.Contains(out, "approval: 1 of carol within 2m") {
		t.Errorf("explain: %s", out)
	}
	waits := func(args ...string) (cmd *exec.Cmd, out, says *noise) {
		t.Helper()
		client := &testenv.OpenSSH{Addr: o.node.ssh.Addr().String(), Login: "alice@web1", Password: password,
			Code: func() string { return testenv.Oathtool(t, o.tokenOf("alice"), time.Now()) }}
		cmd, out, says = client.SSH(t, args...), new(noise), new(noise)
		cmd.Stdout, cmd.Stderr = out, says
		noError(t, cmd.Start())
		t.Cleanup(func() { cmd.Process.Kill() })
		testenv.WaitFor(t, "somebody who waits", func() bool { return strings.Contains(says.String(), "Waiting until") })
		return cmd, out, says
	}

	cmd, _, says := waits("echo in")
	list := object[[]admin.Approval](o, "approval", "list", "--only", "pending")
	if len(list) != 1 || list[0].User != "alice" || list[0].Asked != "exec: echo in" || list[0].Account != sshd.Account {
		t.Fatalf("approval list: %+v", list)
	}
	first := list[0]
	if !strings.Contains(says.String(), "http://"+o.node.web.Addr().String()+"/me/approvals") && !strings.Contains(says.String(), "/me/approvals or ssh YOU@bastion approve "+first.Code) {
		t.Errorf("who waits reads %q", says)
	}
	testenv.WaitFor(t, "mail to carol", func() bool {
		for _, m := range sink.Mails("carol@example.org") {
			text, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(m.Text)))
			noError(t, err)
			if strings.Contains(string(text), "ssh YOU@bastion approve "+first.Code) && strings.Contains(string(text), "/me/approvals") && strings.Contains(string(text), "exec: echo in") {
				return true
			}
		}
		return false
	})
	if n := len(sink.Mails("alice@example.org")); n != 0 {
		t.Errorf("alice got %d mails", n)
	}
	if out := o.ok("approval", "show", first.Code); !strings.Contains(out, "exec: echo in") || !strings.Contains(out, "0 of 1") {
		t.Errorf("approval show: %s", out)
	}
	for args, want := range map[string]bool{"session list": true, "session list --user alice --only live": true, "session list --user bob": false, "session list --only ended": false, "session list -o json": false} {
		r := o.run(strings.Fields(args)...)
		if says := strings.Contains(r.err, "alice waits for an approval of root@web1") && strings.Contains(r.err, "sallyport approval show "+first.Code); r.code != 0 || says != want {
			t.Errorf("sallyport %s: %+v, want the request: %v", args, r, want)
		}
	}
	o.ok("approval", "refuse", first.Code, "--reason", "not today")
	if err := cmd.Wait(); err == nil || !strings.Contains(says.String(), "no session: it was refused: console: not today") {
		t.Errorf("after the refusal: %v %q", err, says)
	}
	o.fails(exitFailed, "approval", "refuse", first.ID)
	o.fails(exitFailed, "approval", "show", "ZZZZ")

	cmd, out, says := waits("echo in")
	v := o.visitor()
	secret := o.tokenOf("carol")
	v.send(http.StatusOK, "/signin", "login", "carol", "password", password, "code", testenv.Oathtool(t, o.tokenOf("carol"), time.Now()), "next", "/")
	code := found(t, `id="request-([2-9A-Z]{4})"`, v.send(http.StatusOK, "/me/approvals"))
	page := v.send(http.StatusOK, "/me/approvals/"+code, "verdict", "approve", "code", testenv.Oathtool(t, secret, time.Now()))
	if !strings.Contains(page, "Approved: alice as") {
		t.Errorf("the page says %s", page)
	}
	if err := cmd.Wait(); err != nil || out.String() != "in\n" || !strings.Contains(says.String(), "approved by carol.") {
		t.Errorf("after the approval: %v %q %q", err, out, says)
	}
	shown := object[[]admin.Approval](o, "approval", "list", "--only", "used")
	if len(shown) != 1 || len(shown[0].Decisions) != 1 || shown[0].Decisions[0].User != "carol" || shown[0].Decisions[0].Door != "web" {
		t.Fatalf("in the end: %+v", shown)
	}
	if out := o.ok("session", "show", shown[0].Session); !regexp.MustCompile(`approved by +carol`).MatchString(out) {
		t.Errorf("session show: %s", out)
	}
	if out := o.ok("approval", "list"); !regexp.MustCompile(`used +alice .*\+carol`).MatchString(out) {
		t.Errorf("approval list: %s", out)
	}
}
