package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/internal/testenv"
	"sallyport/otp"
	"sallyport/store"
)

// From the configuration to the mailbox: somebody who signs in from more new addresses than allowed is told of, once,
// to them and to operators, and locked, which ends what they have open. The addresses are listed, and those from
// which they were refused (G13, G14).
func TestOperatorPlaces(t *testing.T) {
	t.Parallel()
	sink := testenv.StartSMTP(t, testenv.SMTPConfig{User: "sallyport", Password: "pw"})
	password := filepath.Join(t.TempDir(), "password")
	noError(t, os.WriteFile(password, []byte("pw\n"), 0o600))
	o := startOperatedWith(t, "192.0.2.10", fmt.Sprintf(`
mail:
  from: sallyport@example.org
  servers: [{server: %q, ca-file: %s, user: sallyport, password-file: %s}]
notify: {operators: [ops@example.org]}
places: {alarm: 2, within: 10m, lock: true}
`, sink.Addr, sink.CAFile, password))
	o.ok("user", "add", "alice", "--email", "alice@example.org", "--password-file", o.file("pass", "correct horse battery\n"))
	ctx := context.Background()
	u, err := o.node.Store.Users.ByLogin(ctx, "alice")
	noError(t, err)
	code := func() string { // of a token of its own, so that none is used twice
		secret := otp.NewSecret()
		_, err := o.node.Store.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "t", Kind: "totp", Algorithm: "SHA1", Digits: 6, Period: 30, Enabled: true}, secret)
		noError(t, err)
		return testenv.Oathtool(t, secret.Base32(), time.Now())
	}
	from := func(address string) *testenv.OpenSSH {
		return &testenv.OpenSSH{Addr: o.node.ssh.Addr().String(), Login: "alice", Password: "correct horse battery", Code: code, Options: []string{"BindAddress=" + address}}
	}
	if p := object[admin.UserPlaces](o, "user", "places", "alice"); len(p.SignedIn) != 0 || len(p.Refused) != 0 {
		t.Errorf("places at first: %+v", p)
	}
	menu := testenv.StartTerminal(t, from("127.0.0.1").Interactive(), 100, 30)
	menu.Expect("Password: ")
	menu.Type("correct horse battery\n")
	menu.Expect("Code: ")
	menu.Type(code() + "\n")
	menu.Expect("No target is open to you from here.")
	wrong := from("127.0.0.9")
	wrong.Code = func() string { return "000000" }
	if _, _, status := wrong.Output(t, "whoami"); status != 255 {
		t.Errorf("a wrong code: status %d", status)
	}
	for range 2 { // known by the second time
		if out, errs, status := from("127.0.0.2").Output(t, "whoami"); status != 0 {
			t.Fatalf("the second address: %s %s %d", out, errs, status)
		}
	}
	out, errs, status := from("127.0.0.3").Output(t, "whoami")
	if status != 255 || out != "" || !strings.Contains(errs, "Permission denied") {
		t.Errorf("the third address: %s %s", out, errs)
	}
	menu.Expect("your account was locked")
	if status := menu.Wait(); status != 255 {
		t.Errorf("the menu ended with %d", status)
	}
	if _, _, status := from("127.0.0.1").Output(t, "whoami"); status != 255 {
		t.Errorf("locked, and status %d", status)
	}

	if got := object[admin.User](o, "user", "show", "alice"); !got.Locked || got.LockReason != "signed in from 3 new addresses within 10m" {
		t.Errorf("user %+v", got)
	}
	p := object[admin.UserPlaces](o, "user", "places", "alice")
	if len(p.SignedIn) != 3 || len(p.Refused) != 3 || p.Refused[0].Source != "127.0.0.1" || p.Refused[2].Source != "127.0.0.9" || p.Refused[2].Count != 1 || p.Refused[2].First == nil {
		t.Errorf("places %+v", p)
	}
	if list := o.ok("user", "places", "alice"); !strings.Contains(list, "127.0.0.9") || !strings.Contains(list, "refused") || !strings.Contains(list, "signed in") {
		t.Errorf("user places:\n%s", list)
	}
	events, err := o.node.Store.Audit.List(ctx, store.AuditFilter{Type: "places.many"})
	noError(t, err)
	if len(events) != 1 || events[0].Detail["networks"] != "3" || events[0].Detail["locked"] != "yes" || events[0].Source != "127.0.0.3" {
		t.Errorf("events %+v", events)
	}
	for _, to := range []string{"alice@example.org", "ops@example.org"} {
		testenv.WaitFor(t, "mail to "+to, func() bool {
			for _, m := range sink.Mails(to) {
				if strings.Contains(m.Text, "signed in from 3 new addresses within 10m") && strings.Contains(m.Text, "127.0.0.3") {
					return true
				}
			}
			return false
		})
	}
	o.fails(exitFailed, "user", "places", "nobody")
}
