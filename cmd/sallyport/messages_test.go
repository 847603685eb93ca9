package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sallyport/admin"
	"sallyport/internal/config"
	"sallyport/internal/testenv"
)

// From the configuration file to the mailbox: an operator changes something and the person is told; codes by
// mail are switched on for one person, who logs in with OpenSSH; a mail that cannot be delivered is seen,
// tried again and dropped.
func TestOperatorMail(t *testing.T) {
	t.Parallel()
	sink := testenv.StartSMTP(t, testenv.SMTPConfig{User: "sallyport", Password: "pw", Refuse: func(to string) error {
		if strings.HasPrefix(to, "full@") {
			return testenv.SMTPRefusal(452)
		}
		return nil
	}})
	password := filepath.Join(t.TempDir(), "password")
	noError(t, os.WriteFile(password, []byte("pw\n"), 0o600))
	o := startOperatedWith(t, "192.0.2.10", fmt.Sprintf(`
mail:
  from: sallyport@example.org
  servers: [{server: %q, ca-file: %s, user: sallyport, password-file: %s}]
sent-codes: {by: off}
notify: {operators: [ops@example.org], events: [operator.change]}
`, sink.Addr, sink.CAFile, password))

	pass := o.file("pass", "correct horse battery\n")
	o.ok("user", "add", "alice", "--email", "alice@example.org", "--password-file", pass)
	o.ok("user", "password", "alice", "--password-file", pass)
	testenv.WaitFor(t, "mail to alice about the password", func() bool {
		mails := sink.Mails("alice@example.org")
		return len(mails) == 1 && strings.Contains(mails[0].Text, "Your password was changed") && strings.Contains(mails[0].Text, "console")
	})
	testenv.WaitFor(t, "mail to the operators", func() bool { return len(sink.Mails("ops@example.org")) == 2 })

	if u := object[admin.User](o, "user", "contact", "alice", "--codes", "mail"); u.CodeBy != "mail" || u.Email != "alice@example.org" {
		t.Errorf("contact %+v", u)
	}
	o.fails(exitFailed, "user", "contact", "alice", "--codes", "sms") // there is no sms:
	o.fails(exitUsage, "user", "contact", "alice")
	testenv.WaitFor(t, "mail about the codes", func() bool { return len(sink.Mails("alice@example.org")) == 2 })
	client := &testenv.OpenSSH{Addr: o.node.ssh.Addr().String(), Login: "alice"}
	term := testenv.StartTerminal(t, client.Interactive("whoami"), 100, 40)
	term.Expect("Password: ")
	term.Type("correct horse battery\n")
	term.Expect("Code: ")
	var code []string
	testenv.WaitFor(t, "the code", func() bool {
		mails := sink.Mails("alice@example.org")
		if len(mails) == 3 {
			code = regexp.MustCompile(`(?m)^ {4}([0-9]{6})\r?$`).FindStringSubmatch(mails[2].Text)
		}
		return code != nil
	})
	term.Type(code[1] + "\n")
	term.Expect("alice")
	if status := term.Wait(); status != 0 {
		t.Errorf("whoami ended with %d", status)
	}

	o.ok("user", "add", "bob", "--email", "full@example.org", "--password-file", pass)
	o.ok("user", "password", "bob", "--password-file", pass)
	var stuck admin.OutboxMessage
	testenv.WaitFor(t, "a failed try", func() bool {
		for _, m := range object[[]admin.OutboxMessage](o, "outbox", "list", "--only", "waiting") {
			if m.Recipient == "full@example.org" && strings.Contains(m.Error, "452") {
				stuck = m
			}
		}
		return stuck.ID != ""
	})
	if list := o.ok("outbox", "list"); !strings.Contains(list, "full@example.org") || !strings.Contains(list, "user.password") {
		t.Errorf("outbox list:\n%s", list)
	}
	o.ok("outbox", "retry", stuck.ID)
	testenv.WaitFor(t, "another try", func() bool {
		m, err := o.node.Store.Outbox.Get(context.Background(), stuck.ID)
		return err == nil && m.Tries > stuck.Tries
	})
	o.ok("outbox", "drop", stuck.ID)
	o.fails(exitFailed, "outbox", "drop", stuck.ID)
	o.fails(exitFailed, "outbox", "retry", "nonsense")
}

// What the sections about messages name must be there and make sense when the server starts.
func TestMessagesConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	noError(t, os.WriteFile(open, []byte("pw"), 0o644))
	for text, want := range map[string]string{
		"mail: {from: a@example.org, servers: [{server: \"localhost:25\", user: u, password-file: " + open + "}]}": "chmod 0600",
		"mail: {from: a@example.org, servers: [{server: \"localhost:25\", ca-file: " + open + "}]}":                "holds none in PEM",
		"sms: {prefixes: [+49], senders: [{url: \"https://localhost/\", body: \"{text}\"}]}":                       "Content-Type",
		"mail: {from: a@example.org, servers: [{server: \"localhost:25\"}]}\nnotify: {events: [login.acepted]}":    "login.acepted",
	} {
		cfg, err := config.Parse(filepath.Join(dir, "sallyport.yaml"), []byte(text))
		noError(t, err)
		_, err = newMessages(cfg)
		if err == nil {
			_, err = auditSink(cfg, nil, nodeOptions{})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", text, err, want)
		}
	}
}

// check connects to the mail servers and says which of them would not take mail.
func TestCheckMail(t *testing.T) {
	t.Parallel()
	good, plain := testenv.StartSMTP(t, testenv.SMTPConfig{}), testenv.StartSMTP(t, testenv.SMTPConfig{Plain: true})
	file := installation(t, fmt.Sprintf("ssh: {listen: \"127.0.0.1:0\"}\nweb: {listen: \"\"}\nmail: {from: a@example.org, servers: [{server: %q, ca-file: %s}, {server: %q}]}\n"+
		"sms: {prefixes: [+49], senders: [{command: [/bin/true]}]}\n", good.Addr, good.CAFile, plain.Addr))
	findings, _ := checked(t, file)
	if f := findings["mail/"+good.Addr]; !f.OK {
		t.Errorf("the good one: %+v", f)
	}
	if f := findings["mail/"+plain.Addr]; f.OK || !strings.Contains(f.Detail, "STARTTLS") {
		t.Errorf("the one without STARTTLS: %+v", f)
	}
	if f := findings["sms"]; !f.OK || f.Detail == "" {
		t.Errorf("sms: %+v", f)
	}
	if n := len(good.Mails("")); n > 0 {
		t.Errorf("%d mails were sent", n)
	}
}
