package main

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"sallyport/internal/testenv"
	"sallyport/otp"
	"sallyport/store"
)

// One code typed into OpenSSH and into the operators' sign-in at the same moment opens one of them, and the other is
// told in the log as a code that was used (B6).
func TestOneCodeAtTwoDoors(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	ctx := context.Background()
	site := "http://" + o.node.web.Addr().String()
	for _, kind := range []string{"totp", "hotp"} {
		o.ok("user", "add", kind, "--password-file", o.file("pass", "correct horse battery\n"))
		o.ok("admin", "add", kind)
		u, err := o.node.Store.Users.ByLogin(ctx, kind)
		noError(t, err)
		secret := otp.NewSecret()
		token := store.Token{UserID: u.ID, Name: kind, Kind: kind, Algorithm: "SHA1", Digits: 6, Enabled: true}
		args := []string{"oathtool", "--base32", "--hotp", "-c", "1", secret.Base32()}
		if kind == "totp" {
			token.Period, args = 30, []string{"oathtool", "--base32", "--totp", secret.Base32()}
		}
		_, err = o.node.Store.Tokens.Add(ctx, token, secret)
		noError(t, err)
		code := strings.TrimSpace(testenv.Run(t, args[0], args[1:]...))

		// SSH waits at its last prompt for the form to be ready, so that both come at once.
		c := &testenv.OpenSSH{Addr: o.node.ssh.Addr().String(), Login: kind}
		term := testenv.StartTerminal(t, c.Interactive("whoami"), 100, 30)
		term.Expect("Password: ")
		term.Type("correct horse battery\n")
		term.Expect("Code: ")
		status := make(chan int, 1)
		form := url.Values{"login": {kind}, "password": {"correct horse battery"}, "code": {code}}
		r, err := http.NewRequest(http.MethodPost, site+"/signin", strings.NewReader(form.Encode()))
		noError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", site)
		go func() {
			answer, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Error(err)
				status <- 0
				return
			}
			answer.Body.Close()
			status <- answer.StatusCode
		}()
		term.Type(code + "\n")
		web := <-status
		events := func(what string) []string {
			list, err := o.node.Store.Audit.List(ctx, store.AuditFilter{Type: what, User: kind})
			noError(t, err)
			var doors []string
			for _, e := range list {
				doors = append(doors, e.Door)
			}
			return doors
		}
		switch web {
		case http.StatusSeeOther:
			term.Expect("Password: ") // SSH asks again
		case http.StatusForbidden:
			term.Expect("user ")
			if got := term.Wait(); got != 0 {
				t.Errorf("%s: ssh ended with %d", kind, got)
			}
		default:
			t.Fatalf("%s: the sign-in answered %d", kind, web)
		}
		testenv.WaitFor(t, "both verdicts", func() bool { return len(events("login.accepted"))+len(events("login.refused")) >= 2 })
		in, out, replayed := events("login.accepted"), events("login.refused"), events("code.replayed")
		if len(in) != 1 || len(out) != 1 || len(replayed) != 1 || in[0] == out[0] || out[0] != replayed[0] {
			t.Errorf("%s: accepted at %q, refused at %q, found used at %q", kind, in, out, replayed)
		}
	}
}
