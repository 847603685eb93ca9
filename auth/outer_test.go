package auth_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/testenv"
	"sallyport/otp"
)

// A connection inside of another one: who made the outer one is the first factor, and the code follows
// unless the door has a proof; it is used up whatever becomes of the rest.
func TestOuter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	ctx := t.Context()
	u := w.local("alice", "pw")
	secret := w.token(u.ID)
	outer, err := w.login(auth.Attempt{Login: "alice"}, "pw", w.code(secret))
	check(t, err)
	since := w.now
	enter := func(target, proof, code string) (*auth.Identity, *script, error) {
		t.Helper()
		s := &script{answers: map[string]string{auth.PromptCode: code}}
		id, err := w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "somebody else", Source: source, Target: target, Account: "root"}).
			WithOuter(auth.Outer{Identity: *outer, Since: since, Proof: proof}).Run(ctx, s)
		return id, s, err
	}

	for _, proof := range []string{auth.ProofKey, auth.ProofOnce} {
		id, s, err := enter("web1", proof, "")
		if err != nil || len(s.asked) != 0 || id.UserID != u.ID || id.Login != "alice" || id.CodeAt != outer.CodeAt || !slices.Equal(id.Factors, outer.Factors) {
			t.Errorf("%s: %+v, asked %q, %v", proof, id, s.asked, err)
		}
	}
	_, s, err := enter("web1", "", w.code(secret))
	w.refused(err, auth.ErrReplay)
	if !slices.Equal(s.asked, []string{auth.PromptCode}) {
		t.Errorf("asked %q", s.asked)
	}
	w.now = w.now.Add(time.Minute)
	id, _, err := enter("lab", "", w.code(secret)) // whatever the rule of a target spares
	if err != nil || id.CodeAt != w.now || !slices.Equal(id.Factors, []string{"password", "code"}) {
		t.Errorf("with a code: %+v, %v", id, err)
	}

	w.now = w.now.Add(10 * time.Minute)
	if id, s, err = enter("safe", auth.ProofKey, w.code(secret)); err != nil || len(s.asked) != 1 || id.CodeAt != w.now {
		t.Errorf("a rule that wants a newer code: %+v, asked %q, %v", id, s.asked, err)
	}
	if _, s, err = enter("db1", auth.ProofKey, ""); err != nil || len(s.asked) != 0 {
		t.Errorf("a target without a right: asked %q, %v", s.asked, err) // which Authorize then refuses
	}

	w.now = w.now.Add(time.Minute)
	check(t, w.Store.Users.Lock(ctx, u.ID, "left", time.Time{}))
	_, _, err = enter("web1", auth.ProofKey, "")
	w.refused(err, auth.ErrLocked)
	check(t, w.Store.Users.Unlock(ctx, u.ID))
	check(t, w.Store.Users.Delete(ctx, u.ID))
	w.local("alice", "pw")
	_, _, err = enter("web1", auth.ProofKey, "")
	w.refused(err, auth.ErrUnknownUser)
}

// What is let in without a guess forgets no wrong guesses: else a connection inside would begin the
// count anew each time. A lock holds for it too.
func TestOuterForgetsNoFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	ctx := t.Context()
	u := w.local("alice", "pw")
	secret := w.token(u.ID)
	outer, err := w.login(auth.Attempt{Login: "alice"}, "pw", w.code(secret))
	check(t, err)
	enter := func(proof, code string) error {
		_, err := w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Source: source, Target: "web1"}).
			WithOuter(auth.Outer{Identity: *outer, Since: w.now, Proof: proof}).Run(ctx, &script{answers: map[string]string{auth.PromptCode: code}})
		return err
	}
	for i := range 4 {
		w.refused(enter("", fmt.Sprintf("00000%d", i)), auth.ErrCode)
		check(t, enter(auth.ProofKey, ""))
	}
	w.refused(enter("", "000009"), auth.ErrCode)
	w.refused(enter(auth.ProofKey, ""), auth.ErrLocked)
	w.now = w.now.Add(time.Minute)
	w.refused(enter("", w.code(secret)), auth.ErrLocked)
}

// Who is disabled in the directory, or not in it any more, gets no connection inside.
func TestOuterGone(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	w := newWorld(t, "", withDirectory(d), func(c *auth.Config) { c.EnrolAtLogin = true })
	ctx := t.Context()
	s := &script{answers: map[string]string{auth.PromptPassword: d.Password("alice")}}
	s.onAsk = func(prompt string) {
		if prompt == auth.PromptNewCode {
			_, after, _ := strings.Cut(s.shown, "6 digits):")
			secret, err := otp.ParseSecret(strings.Join(strings.Fields(strings.Split(after, "Then")[0]), ""))
			check(t, err)
			s.answers[prompt] = w.code(secret)
		}
	}
	outer, err := w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "alice", Source: source}).Run(ctx, s)
	check(t, err)
	enter := func() error {
		_, err := w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Source: source, Target: "web1"}).
			WithOuter(auth.Outer{Identity: *outer, Since: w.now, Proof: auth.ProofOnce}).Run(ctx, mute{})
		return err
	}
	check(t, enter())
	d.Disable("alice")
	w.refused(enter(), auth.ErrDisabled)
	d.Enable("alice")
	check(t, enter())
	d.Delete(d.UserDN("alice"))
	w.refused(enter(), auth.ErrDisabled)
}

// A code that was remembered for the outer connection counts inside as far as the rules of the target inside
// take it; inside nothing is looked up or written anew.
func TestOuterRemembered(t *testing.T) {
	t.Parallel()
	w := newTrustWorld(t, "")
	w.asks(true, "first", nil)
	outer := w.asks(false, "again", nil)
	grants, err := w.Store.Grants.List(t.Context(), w.user.ID)
	check(t, err)
	enter := func(target, proof string) (*auth.Identity, bool) {
		t.Helper()
		s := &script{answers: map[string]string{auth.PromptCode: w.code(w.secret)}}
		id, err := w.Engine.Begin(auth.Attempt{Door: audit.DoorSSH, Source: office, Target: target, Client: "SSH-2.0-OpenSSH_9.2"}).
			WithOuter(auth.Outer{Identity: *outer, Since: w.now, Proof: proof}).Run(t.Context(), s)
		check(t, err)
		if d, err := w.Engine.Authorize(t.Context(), *id, auth.Request{Target: target, Source: office}); err != nil || !d.Allow {
			t.Errorf("%s, proof %q: %s %v", target, proof, d.Refusal, err)
		}
		return id, len(s.asked) > 0
	}
	if id, asked := enter("web1", auth.ProofOnce); asked || id.Trusted == nil || !id.CodeAt.IsZero() {
		t.Errorf("asked %v: %+v", asked, id)
	}
	for _, target := range []string{"vault", "web1"} {
		proof := auth.ProofKey
		if target == "web1" {
			proof = ""
		}
		if id, asked := enter(target, proof); !asked || id.Trusted != nil || id.CodeAt.IsZero() {
			t.Errorf("%s, proof %q, asked %v: %+v", target, proof, asked, id)
		}
		w.pass(30 * time.Second)
	}
	after, err := w.Store.Grants.List(t.Context(), w.user.ID)
	check(t, err)
	if len(after) != len(grants) || after[0].Uses != grants[0].Uses {
		t.Errorf("grants before %+v and after %+v", grants, after)
	}
}
