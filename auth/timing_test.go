package auth_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/store"
)

// stopwatch answers prompts at once and notes when the code was asked for.
type stopwatch struct {
	script
	code time.Time
}

func (s *stopwatch) Ask(ctx context.Context, instruction string, prompts []auth.Prompt) ([]string, error) {
	if prompts[0].Text == auth.PromptCode {
		s.code = time.Now()
	}
	return s.script.Ask(ctx, instruction, prompts)
}

// How long a refusal takes does not tell why: whoever is named, and whatever is wrong, it comes on the same grid; and
// the prompts are the same. A few tries here; with SALLYPORT_LONG enough of them to compare distributions.
func TestTimingTellsNothing(t *testing.T) {
	const grid = 60 * time.Millisecond
	w := newWorld(t, "", func(c *auth.Config) { c.Grid, c.Now = grid, nil })
	w.now = time.Now()
	ctx := t.Context()
	_, err := w.Store.Rules.Put(ctx, strings.Replace(trusting, "targets: [vault]", "targets: [vault], password-code: true", 1), "test", 1)
	check(t, err)
	users := map[string]store.User{}
	for _, name := range []string{"wrongcode", "wrongpassword", "locked", "trusted"} {
		users[name] = w.local(name, "a password of theirs")
		w.token(users[name].ID)
	}
	check(t, w.Store.Users.Lock(ctx, users["locked"].ID, "test", time.Time{}))
	keyed, err := w.Store.Users.Add(ctx, store.User{Login: "keyed", Source: store.Local}, "") // has a key and no password
	check(t, err)
	w.token(keyed.ID)
	_, err = w.Store.UserKeys.Add(ctx, store.UserKey{UserID: keyed.ID, PublicKey: "k", Fingerprint: "SHA256:keyed"})
	check(t, err)
	_, err = w.Store.Robots.Add(ctx, store.Robot{Name: "robot", PublicKey: "r", Fingerprint: "SHA256:robot", Enabled: true, Targets: []string{"web1"}, Accounts: []string{"root"}, Sources: []string{"192.0.2.0/24"}, Commands: []string{"id"}})
	check(t, err)
	trusted := w.token(users["trusted"].ID)
	if _, err := w.login(auth.Attempt{Login: "trusted", Target: "web1", Source: office}, "a password of theirs", w.code(trusted)); err != nil {
		t.Fatal(err)
	}
	if list, err := w.Store.Grants.List(ctx, users["trusted"].ID); err != nil || len(list) != 1 {
		t.Fatalf("what is remembered: %+v, %v", list, err)
	}

	type refusal struct {
		login   string
		code    func() string
		inField bool // password and code come in one, as the password
	}
	spare := w.local("spare", "a password of theirs")
	fixed := func() string { w.token(spare.ID); return "000000" } // after the same work as where a token is made
	right := func(login string) func() string { return func() string { return w.code(w.token(users[login].ID)) } }
	cases := map[string]refusal{
		"unknown":            {login: "nobody", code: fixed},
		"wrong code":         {login: "wrongcode", code: fixed},
		"wrong password":     {login: "wrongpassword", code: right("wrongpassword")},
		"locked":             {login: "locked", code: fixed},
		"robot":              {login: "robot", code: fixed},
		"keys only":          {login: "keyed", code: fixed},
		"trusted elsewhere":  {login: "trusted", code: fixed},
		"in field, unknown":  {login: "nobody", code: fixed, inField: true},
		"in field, wrong":    {login: "wrongcode", code: fixed, inField: true},
		"in field, password": {login: "wrongpassword", code: right("wrongpassword"), inField: true},
	}
	tries := 6
	long := os.Getenv("SALLYPORT_LONG") != ""
	if long {
		tries = 2000
	}
	toPrompt, toEnd := map[string][]time.Duration{}, map[string][]time.Duration{}
	for i := range tries {
		for name, r := range cases { // in another order each time
			w.now = time.Now()
			a := auth.Attempt{Door: audit.DoorSSH, Login: r.login, Source: address(i), Target: "web1", Account: "root"}
			code := r.code()
			var err error
			begun := time.Now()
			if r.inField {
				a.Target = "vault"
				_, err = w.Engine.Begin(a).RunPasswordCode(ctx, identity.Password("x,"+code))
			} else {
				s := &stopwatch{script: script{answers: map[string]string{auth.PromptPassword: "x", auth.PromptCode: code}}}
				_, err = w.Engine.Begin(a).Run(ctx, s)
				if s.code.IsZero() || len(s.asked) != 2 || len(s.shown) != 0 {
					t.Fatalf("%s: asked %q, shown %q", name, s.asked, s.shown)
				}
				toPrompt[name] = append(toPrompt[name], s.code.Sub(begun))
				begun = s.code
			}
			if err == nil {
				t.Fatalf("%s got in", name)
			}
			toEnd[name] = append(toEnd[name], time.Since(begun))
			if err := w.Store.Attempts.Clear(ctx, "source:"+address(i).String()); err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
		}
		tokens, err := w.Store.Tokens.List(ctx, users["wrongpassword"].ID)
		check(t, err)
		for _, x := range tokens {
			check(t, w.Store.Tokens.Delete(ctx, x.ID))
		}
		w.token(users["wrongpassword"].ID)
	}
	for name, d := range toEnd {
		if fastest := slices.Min(d); fastest < grid {
			t.Errorf("%s: the fastest answer came after %s, before the grid of %s", name, fastest, grid)
		}
		as := "unknown"
		if cases[name].inField {
			as = "in field, unknown"
		}
		for what, auc := range map[string]float64{"answer": winShare(d, toEnd[as]), "prompt": winShare(toPrompt[name], toPrompt[as])} {
			switch {
			case what == "prompt" && cases[name].inField:
			case long && (auc < 0.45 || auc > 0.55):
				t.Errorf("%s is told from unknown by the time of the %s: AUC %.3f", name, what, auc)
			default:
				t.Logf("%s: AUC of the %s %.3f", name, what, auc)
			}
		}
	}
}

// winShare is the chance that a random member of a is greater than one of b: 0.5 if time tells nothing.
func winShare(a, b []time.Duration) float64 {
	wins := 0.0
	for _, x := range a {
		for _, y := range b {
			switch {
			case x > y:
				wins++
			case x == y:
				wins += 0.5
			}
		}
	}
	return wins / float64(len(a)*len(b))
}
