package main

import (
	"bufio"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/internal/testenv"
)

// visitor is a browser at the node's web listener.
type visitor struct {
	t    *testing.T
	http *http.Client
	base string
}

func (o *operated) visitor() *visitor {
	jar, err := cookiejar.New(nil)
	noError(o.t, err)
	return &visitor{o.t, &http.Client{Jar: jar}, "http://" + o.node.web.Addr().String()}
}

// send sends a form, or with none reads a page, and returns what is shown in the end.
func (v *visitor) send(status int, path string, pairs ...string) string {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	var answer *http.Response
	var err error
	if len(pairs) == 0 {
		answer, err = v.http.Get(v.base + path)
	} else {
		answer, err = v.http.PostForm(v.base+path, form)
	}
	noError(v.t, err)
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	noError(v.t, err)
	if answer.StatusCode != status {
		v.t.Fatalf("%s: status %d, want %d\n%s", path, answer.StatusCode, status, page)
	}
	return string(page)
}

func found(t *testing.T, pattern, page string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("there is no %s in\n%s", pattern, page)
	}
	return m[1]
}

// From an operator's command by a real mail to a real session, with approval, and to its end by "this was not me".
func TestEnrolmentFromMailToSession(t *testing.T) {
	t.Parallel()
	sink := testenv.StartSMTP(t, testenv.SMTPConfig{Plain: true})
	o := startOperatedWith(t, "192.0.2.10", fmt.Sprintf(`
otp: {approve-enrolments: true}
mail: {from: sallyport@example.org, servers: [{server: %q, tls: none}]}
notify: {operators: [ops@example.org]}
`, sink.Addr))
	sshd := o.behind()
	o.ok("apply", "-f", o.file("rules.yaml", "version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['*'], channels: [shell, exec]}\n"))
	const password = "correct horse battery"
	o.ok("user", "add", "alice", "--email", "alice@example.org", "--password-file", o.file("pass", password+"\n"))
	o.ok("user", "add", "bob", "--password-file", o.file("pass", password+"\n"))
	if out := o.ok("user", "send-enrolment", "--all-without-token"); !strings.Contains(out, "alice") || !strings.Contains(out, "bob has no e-mail address") {
		t.Errorf("send-enrolment says\n%s", out)
	}
	o.fails(exitUsage, "user", "send-enrolment")
	if out := o.ok("user", "enrol-link", "bob"); !strings.Contains(out, "/enrol?ticket=") {
		t.Errorf("enrol-link prints %q", out)
	}
	var link string
	testenv.WaitFor(t, "the mail with the link", func() bool {
		for _, m := range sink.Mails("alice@example.org") {
			text, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(m.Text)))
			noError(t, err)
			if _, after, ok := strings.Cut(string(text), "/enrol?ticket="); ok {
				link = strings.Fields(after)[0]
			}
		}
		return link != ""
	})
	v := o.visitor()
	v.send(http.StatusOK, "/enrol?ticket="+link)
	v.send(http.StatusOK, "/enrol/open", "ticket", link)
	page := v.send(http.StatusOK, "/enrol", "ticket", link, "password", password)
	secret := strings.ReplaceAll(found(t, `class="secret">([A-Z2-7 ]+)<`, page), " ", "")
	v.send(http.StatusOK, "/enrol/code", "ticket", link, "pending", found(t, `name="pending" value="([^"]+)"`, page), "code", testenv.Oathtool(t, secret, time.Now()))

	waiting := object[[]admin.WaitingToken](o, "token", "waiting")
	if len(waiting) != 1 || waiting[0].User != "alice" || waiting[0].Token.State != "waiting" {
		t.Fatalf("waiting are %+v", waiting)
	}
	o.ok("token", "approve", "alice", waiting[0].Token.ID)
	o.fails(exitFailed, "token", "approve", "alice", waiting[0].Token.ID)
	testenv.WaitFor(t, "the mail about the approval", func() bool {
		for _, m := range sink.Mails("alice@example.org") {
			if strings.Contains(m.Text, "An operator has approved your new token") {
				return true
			}
		}
		return false
	})

	codes := strings.Fields(o.ok("recovery-codes", "new", "alice"))
	client := &testenv.OpenSSH{Addr: o.node.ssh.Addr().String(), Login: "alice@web1", Password: password, Code: func() string { return codes[0] }}
	running := client.SSH(t, "echo up; sleep 60")
	out, err := running.StdoutPipe()
	noError(t, err)
	noError(t, running.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		t.Fatalf("the command shows %q, %v (account %s)", line, err, sshd.Account)
	}
	v.send(http.StatusOK, "/signin", "login", "alice", "password", password, "code", codes[1], "next", "/me/activity")
	if page := v.send(http.StatusOK, "/me/activity"); !strings.Contains(page, "@web1") {
		t.Errorf("the session is not on the person's page\n%s", page)
	}
	v.send(http.StatusOK, "/me/not-me", "yes", "yes")
	ended := make(chan error, 1)
	go func() { ended <- running.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the session ended as if nothing had been")
		}
	case <-time.After(time.Minute):
		_ = running.Process.Kill()
		t.Error("the session went on")
	}
	if u := object[admin.User](o, "user", "show", "alice"); !u.Locked {
		t.Errorf("alice is %+v", u)
	}
	testenv.WaitFor(t, "the mail to the operators", func() bool {
		for _, m := range sink.Mails("ops@example.org") {
			if strings.Contains(m.Text, "account.alarm") {
				return true
			}
		}
		return false
	})
	o.ok("user", "unlock", "alice")
	o.ok("user", "enrol-link", "alice", "--reset", "--yes")
	if tokens := object[[]admin.Token](o, "token", "list", "alice"); len(tokens) != 0 {
		t.Errorf("after the reset there are %+v", tokens)
	}
	o.fails(exitFailed, "user", "without-token", "alice") // it is not switched on
}
