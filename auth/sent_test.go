package auth_test

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// sendsMail switches codes by mail on.
func sendsMail(c *auth.Config) {
	c.Sent = auth.SentCodes{By: store.ByMail, Mail: true, Limits: store.SendLimits{Person: 5, Recipient: 5, Source: 20, All: 200}}
}

func (w *world) mailed(login, address string) store.User {
	w.t.Helper()
	u := w.local(login, "the password")
	check(w.t, w.Store.Users.SetContact(w.t.Context(), u, address, ""))
	return u
}

// codeFor takes the newest code out of the outbox, as a worker would.
func (w *world) codeFor(login string) string {
	w.t.Helper()
	var m store.OutMessage
	for {
		var err error
		m, err = w.Store.Outbox.Claim(w.t.Context(), time.Minute, store.ByMail)
		check(w.t, err)
		check(w.t, w.Store.Outbox.Sent(w.t.Context(), m))
		if m.User == login {
			break
		}
	}
	code := regexp.MustCompile(`(?m)^ {4}([0-9]{6})$`).FindStringSubmatch(m.Text)
	if code == nil {
		w.t.Fatalf("no code in\n%s", m.Text)
	}
	return code[1]
}

// How long it takes from the password to the next prompt does not tell who is sent a code, who has a token,
// whose password was wrong and who does not exist. The fastest of some tries is compared, of more tries the busier
// the machine is.
func TestSentCodesTimingTellsNothing(t *testing.T) {
	const grid = 400 * time.Millisecond
	w := newWorld(t, "", sendsMail, func(c *auth.Config) { c.Grid, c.Now = grid, nil })
	w.mailed("sent", "sent@example.org")
	w.mailed("nowhere", "")
	w.token(w.local("token", "the password").ID)
	fastest := map[string]time.Duration{}
	late := func() bool {
		for _, took := range fastest {
			if took > grid+grid/2 {
				return true
			}
		}
		return false
	}
	for i := 0; i < 2 || i < 12 && late(); i++ {
		for name, answers := range map[string][2]string{
			"sent": {"sent", "the password"}, "sent, wrong password": {"sent", "wrong"}, "nowhere": {"nowhere", "the password"},
			"token": {"token", "the password"}, "token, wrong password": {"token", "wrong"}, "unknown": {"nobody", "wrong"},
		} {
			var asked []time.Time
			s := typed(answers[1], fmt.Sprintf("%06d", i))
			s.onAsk = func(string) { asked = append(asked, time.Now()) }
			a := auth.Attempt{Door: audit.DoorSSH, Login: answers[0], Source: address(100 + i)}
			if _, err := w.Engine.Begin(a).Run(t.Context(), s); err == nil {
				t.Fatalf("%s got in", name)
			}
			if len(asked) != 2 {
				t.Fatalf("%s was asked %q", name, s.asked)
			}
			if took := asked[1].Sub(asked[0]); fastest[name] == 0 || took < fastest[name] {
				fastest[name] = took
			}
		}
	}
	for name, took := range fastest {
		if took < grid || took > grid+grid/2 {
			t.Errorf("%s: the code was asked for after %s, want %s as for everybody", name, took, grid)
		}
	}
}

// A directory's person is sent a code at the first login already: the row is made when the password was right,
// and the address is the directory's.
func TestSentCodeOfDirectoryUser(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	w := newWorld(t, "", sendsMail, withDirectory(d))
	s := typed(d.Password("alice"), "")
	s.onAsk = func(prompt string) {
		if prompt != auth.PromptCode {
			return
		}
		testenv.WaitFor(t, "a code to alice", func() bool {
			list, err := w.Store.Outbox.List(t.Context(), store.MessageWaiting, 0)
			check(t, err)
			return len(list) == 1 && list[0].Recipient == "alice@example.org"
		})
		s.answers[prompt] = w.codeFor("alice")
	}
	id, err := w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "alice", Source: source}).Run(t.Context(), s)
	if err != nil || !slices.Equal(id.Factors, []string{"password", auth.FactorSent}) {
		t.Fatalf("%+v, %v", id, err)
	}
	// With a token there are no sent codes any more.
	w.token(id.UserID)
	w.now = w.now.Add(10 * time.Minute)
	if _, err := w.login(auth.Attempt{Login: "alice"}, d.Password("alice"), "000000"); err == nil {
		t.Error("got in")
	}
	if c, err := w.Store.Outbox.Counts(t.Context()); err != nil || c.Waiting != 0 {
		t.Errorf("a person with a token was sent a code: %+v, %v", c, err)
	}
}

// No codes are sent at operators' pages, nor to whom an operator has switched them off for.
func TestSentCodesAreNotForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", sendsMail)
	u := w.mailed("ada", "ada@example.org")
	try := func(door string) {
		t.Helper()
		if _, err := w.login(auth.Attempt{Door: door, Login: "ada"}, "the password", "000000"); err == nil {
			t.Error("got in")
		}
		if list, err := w.Store.Outbox.List(t.Context(), "", 0); err != nil || len(list) != 0 {
			t.Errorf("%s: %d codes were sent, %v", door, len(list), err)
		}
	}
	try(audit.DoorWeb)
	check(t, w.Store.Users.SetCodeBy(t.Context(), u.ID, "off"))
	try(audit.DoorSSH)
}

func typed(password, code string) *script {
	return &script{answers: map[string]string{auth.PromptPassword: password, auth.PromptCode: code}}
}
