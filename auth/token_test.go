package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/otp"
	"sallyport/store"
	"sallyport/store/storetest"
)

const davesPassword = "dave's password"

// enter signs dave in with what he types as a code, and returns what he was shown besides.
func (w *world) enter(a auth.Attempt, code string) (*auth.Identity, string, error) {
	a.Login = "dave"
	if a.Door == "" {
		a.Door = audit.DoorSSH
	}
	if !a.Source.IsValid() {
		a.Source = source
	}
	s := &script{answers: map[string]string{auth.PromptPassword: davesPassword, auth.PromptCode: code}}
	id, err := w.Engine.Begin(a).Run(context.Background(), s)
	return id, s.shown, err
}

func (w *world) eventsOf(kind string) []audit.Event {
	w.t.Helper()
	list, err := w.Store.Audit.List(context.Background(), store.AuditFilter{Type: kind})
	check(w.t, err)
	return list
}

// The alarm about a code that was used before tells when, where and at which door that was, and who tried
// again: of a time step, of one that was skipped, and of a counter.
func TestReplayTellsTheStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", davesPassword)
	secret := w.token(u.ID)
	p, now := otp.DefaultParams(), otp.DefaultParams().StepAt(w.now)
	button := otp.NewSecret()
	_, err := w.Store.Tokens.Add(t.Context(), store.Token{UserID: u.ID, Name: "button", Kind: "hotp", LastStep: -1, Enabled: true}, button)
	check(t, err)
	thief := netip.MustParseAddr("198.51.100.66")
	for _, tt := range []struct {
		name, first, again string
		step, usedStep     string
		token              string
	}{
		{"counter", buttonParams.Code(button, 3), buttonParams.Code(button, 3), "3", "3", "button"},
		{"step", p.Code(secret, now), p.Code(secret, now), fmt.Sprint(now), fmt.Sprint(now), "t"},
		{"skipped step", p.Code(secret, now+1), p.Code(secret, now-1), fmt.Sprint(now - 1), fmt.Sprint(now), "t"},
	} {
		if _, _, err := w.enter(auth.Attempt{Door: audit.DoorWeb}, tt.first); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		_, _, err := w.enter(auth.Attempt{Source: thief, Client: "SSH-2.0-thief", Target: "web1"}, tt.again)
		w.refused(err, auth.ErrReplay)
		e := w.eventsOf(audit.CodeReplayed)[0]
		d := e.Detail
		at, err := time.Parse(time.RFC3339, d["used_at"])
		if err != nil || w.now.Sub(at).Abs() > time.Minute {
			t.Errorf("%s: used at %q", tt.name, d["used_at"])
		}
		if e.User != "dave" || e.Source != thief.String() || e.Door != audit.DoorSSH || e.Result != audit.Refused || d["client"] != "SSH-2.0-thief" ||
			d["token_name"] != tt.token || d["step"] != tt.step || d["used_step"] != tt.usedStep ||
			d["used_source"] != source.String() || d["used_door"] != audit.DoorWeb {
			t.Errorf("%s: the event says %+v", tt.name, e)
		}
		if !strings.Contains(e.Reason, "from "+source.String()+" (web)") {
			t.Errorf("%s: reason %q", tt.name, e.Reason)
		}
		if d := w.eventsOf(audit.LoginRefused)[0].Detail; len(d) != 1 {
			t.Errorf("%s: the refusal itself has detail %v", tt.name, d)
		}
	}
}

// A counter is written before the password is looked at, and before anybody is told: it is used whatever
// becomes of the attempt.
func TestCounterIsWrittenBeforeTheVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", davesPassword)
	secret := otp.NewSecret()
	token, err := w.Store.Tokens.Add(t.Context(), store.Token{UserID: u.ID, Kind: "hotp", LastStep: -1, Enabled: true}, secret)
	check(t, err)
	_, err = w.login(auth.Attempt{Login: "dave"}, "wrong", buttonParams.Code(secret, 4))
	w.refused(err, auth.ErrPassword)
	if got, err := w.Store.Tokens.Get(t.Context(), token.ID); err != nil || got.LastStep != 4 {
		t.Errorf("after a wrong password: counter %d, %v", got.LastStep, err)
	}
	_, _, err = w.enter(auth.Attempt{}, buttonParams.Code(secret, 4))
	w.refused(err, auth.ErrReplay)
	if _, _, err := w.enter(auth.Attempt{}, buttonParams.Code(secret, 5)); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// Tokens of every kind stand side by side; those that are lost, disabled or expired open nothing.
func TestTokensSideBySide(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", davesPassword)
	w.token(u.ID) // there is always another one
	at := 0
	for _, kind := range []otp.Kind{otp.TOTP, otp.HOTP} {
		for _, algorithm := range []otp.Algorithm{otp.SHA1, otp.SHA256, otp.SHA512} {
			for _, digits := range []int{6, 8} {
				period := []int{30, 60}[at%2]
				at++
				p := otp.Params{Kind: kind, Algorithm: algorithm, Digits: digits, Period: period}
				secret := otp.NewSecret()
				token, err := w.Store.Tokens.Add(t.Context(), store.Token{UserID: u.ID, Kind: string(kind), Algorithm: string(algorithm),
					Digits: digits, Period: period, LastStep: -1, Enabled: true, Expires: w.now.Add(time.Hour)}, secret)
				check(t, err)
				code := p.Code(secret, p.StepAt(w.now))
				if kind == otp.HOTP {
					code = p.Code(secret, 0)
				}
				for _, state := range []string{store.TokenLost, store.TokenDisabled} {
					check(t, w.Store.Tokens.SetState(t.Context(), token.ID, state))
					_, _, err = w.enter(auth.Attempt{Source: address(at)}, code)
					w.refused(err, auth.ErrCode)
				}
				check(t, w.Store.Tokens.SetState(t.Context(), token.ID, store.TokenEnabled))
				if _, _, err := w.enter(auth.Attempt{Source: address(at)}, code); err != nil {
					t.Errorf("%+v: %v", p, err)
				}
			}
		}
	}
	w.now = w.now.Add(2 * time.Hour)
	secret := otp.NewSecret()
	_, err := w.Store.Tokens.Add(t.Context(), store.Token{UserID: u.ID, Enabled: true, Expires: w.now}, secret)
	check(t, err)
	_, _, err = w.enter(auth.Attempt{}, w.code(secret))
	w.refused(err, auth.ErrCode)
}

// A recovery code is good once, at the prompt for codes, whatever it is typed like; it is counted like any
// guess; what is left is told.
func TestRecoveryCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *auth.Config) { c.URL = "https://bastion.example" })
	u := w.local("dave", davesPassword)
	other := w.local("erin", "x")
	w.token(u.ID)
	codes, err := w.Engine.NewRecoveryCodes(t.Context(), u, "root")
	check(t, err)
	if len(codes) != 10 {
		t.Fatalf("got %d codes", len(codes))
	}
	left := func(want int) {
		t.Helper()
		if n, err := w.Store.SpareCodes.Left(t.Context(), u.ID); n != want || err != nil {
			t.Errorf("%d left, %v, want %d", n, err, want)
		}
	}
	id, shown, err := w.enter(auth.Attempt{}, " "+strings.ToUpper(codes[0]))
	check(t, err)
	if !slices.Equal(id.Factors, []string{"recovery", "password"}) && !slices.Equal(id.Factors, []string{"password", "recovery"}) || id.CodeAt.IsZero() {
		t.Errorf("identity %+v", id)
	}
	if shown != "You have 9 recovery codes left.\n" {
		t.Errorf("shown %q", shown)
	}
	e := w.eventsOf(audit.RecoveryUsed)
	if len(e) != 1 || e[0].User != "dave" || e[0].Source != source.String() || e[0].Detail["left"] != "9" || e[0].Detail["made_by"] != "root" {
		t.Errorf("events %+v", e)
	}
	if got := w.eventsOf(audit.LoginAccepted)[0].Detail["factors"]; !strings.Contains(got, "recovery") {
		t.Errorf("factors %q", got)
	}
	_, _, err = w.enter(auth.Attempt{}, codes[0])
	w.refused(err, auth.ErrCode)
	_, err = w.login(auth.Attempt{Login: "erin"}, "x", codes[1])
	w.refused(err, auth.ErrCode)
	w.token(other.ID)
	left(9)

	// A wrong password uses the code up: nobody tries passwords with it.
	_, err = w.login(auth.Attempt{Login: "dave"}, "wrong", codes[1])
	w.refused(err, auth.ErrPassword)
	left(8)
	// Guesses are counted; under the lock nothing is taken.
	for w.now = w.now.Add(time.Hour); ; {
		_, _, err := w.enter(auth.Attempt{}, otp.NewSpareCode())
		if errors.Is(err, auth.ErrLocked) {
			break
		}
		w.refused(err, auth.ErrCode)
	}
	_, _, err = w.enter(auth.Attempt{}, codes[2])
	w.refused(err, auth.ErrLocked)
	left(8)
	w.now = w.now.Add(time.Hour)
	for i := 2; i < 8; i++ {
		if _, _, err := w.enter(auth.Attempt{}, codes[i]); err != nil {
			t.Fatal(err)
		}
	}
	// With few left a person is told at every login.
	_, shown, err = w.enter(auth.Attempt{}, w.code(w.token(u.ID)))
	if err != nil || shown != "You have 2 recovery codes left. Make new ones here: https://bastion.example/me\n" {
		t.Errorf("shown %q, %v", shown, err)
	}
	_, shown, err = w.enter(auth.Attempt{}, codes[8])
	if err != nil || !strings.HasPrefix(shown, "You have one recovery code left.") {
		t.Errorf("shown %q, %v", shown, err)
	}
	_, shown, err = w.enter(auth.Attempt{}, codes[9])
	if err != nil || !strings.HasPrefix(shown, "That was your last recovery code.") {
		t.Errorf("shown %q, %v", shown, err)
	}
	_, shown, err = w.enter(auth.Attempt{}, w.code(w.token(u.ID)))
	if err != nil || shown != "" {
		t.Errorf("shown %q, %v", shown, err)
	}
}

// A recovery code at two nodes and from many clients at once: one gets in.
func TestRecoveryCodeInParallel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, storetest.Postgres(t))
	_, second := w.node()
	u := w.local("dave", davesPassword)
	codes, err := w.Engine.NewRecoveryCodes(t.Context(), u, "root")
	check(t, err)
	var in atomic.Int32
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			e := []*auth.Engine{w.Engine, second}[i%2]
			s := &script{answers: map[string]string{auth.PromptPassword: davesPassword, auth.PromptCode: codes[0]}}
			if _, err := e.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "dave", Source: address(i)}).Run(context.Background(), s); err == nil {
				in.Add(1)
			}
		})
	}
	all.Wait()
	if in.Load() != 1 {
		t.Errorf("%d got in, want 1", in.Load())
	}
}

// An operator's code opens once, and not after its time; issue and use are known.
func TestBypassCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", davesPassword) // has no token at all
	code, expires, err := w.Engine.NewBypassCode(t.Context(), u, "root", "phone broken", time.Hour)
	check(t, err)
	late, _, err := w.Engine.NewBypassCode(t.Context(), u, "root", "phone broken", time.Hour)
	check(t, err)
	if got := expires.Sub(w.now); got < 59*time.Minute || got > time.Hour {
		t.Errorf("expires in %s", got)
	}
	id, shown, err := w.enter(auth.Attempt{}, code)
	check(t, err)
	if !slices.Contains(id.Factors, "bypass") || slices.Contains(id.Factors, "code") || shown != "" {
		t.Errorf("identity %+v, shown %q", id, shown)
	}
	if e := w.eventsOf(audit.BypassUsed); len(e) != 1 || e[0].Reason != "phone broken" || e[0].Detail["made_by"] != "root" {
		t.Errorf("events %+v", e)
	}
	_, _, err = w.enter(auth.Attempt{}, code)
	w.refused(err, auth.ErrCode)
	w.now = w.now.Add(time.Hour)
	_, _, err = w.enter(auth.Attempt{}, late)
	w.refused(err, auth.ErrCode)
}

// Resynchronisation: a clock that is a quarter of an hour wrong, by the person and by an operator. The
// codes are used up, the true clock goes on counting, and tries are counted.
func TestResync(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", davesPassword)
	secret := w.token(u.ID)
	p := otp.DefaultParams()
	wrong := func(ago int64) string { return p.Code(secret, p.StepAt(w.now)-30-ago) }
	_, _, err := w.enter(auth.Attempt{}, wrong(0))
	w.refused(err, auth.ErrCode)

	codes, err := w.Engine.NewRecoveryCodes(t.Context(), u, "root")
	check(t, err)
	id, _, err := w.enter(auth.Attempt{}, codes[0])
	check(t, err)
	for name, pair := range map[string][2]string{
		"the wrong way round": {wrong(0), wrong(1)}, "the same": {wrong(0), wrong(0)}, "not codes": {"", "hello"},
	} {
		_, err := w.Engine.Resync(t.Context(), *id, "", pair[0], pair[1])
		if w.refused(err, auth.ErrCode); !strings.Contains(err.(*auth.Refused).Public, "two codes in a row") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = w.Engine.Resync(t.Context(), *id, "no such name", wrong(1), wrong(0))
	w.refused(err, auth.ErrNoToken)
	// With the fifth failure comes the lock, and under it nothing is looked at, not even what is right.
	_, err = w.Engine.Resync(t.Context(), *id, "", "000000", "000000")
	w.refused(err, auth.ErrCode)
	_, err = w.Engine.Resync(t.Context(), *id, "", wrong(1), wrong(0))
	w.refused(err, auth.ErrLocked)
	w.now = w.now.Add(16 * time.Minute)

	token, err := w.Engine.Resync(t.Context(), *id, "", wrong(1), wrong(0))
	check(t, err)
	if token.Drift != -30 || token.LastStep != p.StepAt(w.now)-30 {
		t.Errorf("token %+v", token)
	}
	_, err = w.Engine.Resync(t.Context(), *id, "t", wrong(1), wrong(0))
	w.refused(err, auth.ErrCode)
	_, _, err = w.enter(auth.Attempt{}, wrong(0))
	w.refused(err, auth.ErrReplay)
	w.now = w.now.Add(30 * time.Second)
	if _, _, err := w.enter(auth.Attempt{}, wrong(0)); err != nil {
		t.Errorf("the next code: %v", err)
	}
	if _, _, err := w.enter(auth.Attempt{}, w.code(secret)); err != nil {
		t.Errorf("a code by the true clock: %v", err)
	}
	if e := w.eventsOf(audit.TokenResynced); len(e) != 8 || e[1].Result != audit.OK || e[1].Detail["drift"] != "-30" || e[0].Result != audit.Refused {
		t.Errorf("events %+v", e)
	}

	// By an operator, also of one that is not in use.
	check(t, w.Store.Tokens.SetState(t.Context(), token.ID, store.TokenDisabled))
	ahead := func(n int64) string { return p.Code(secret, p.StepAt(w.now)+100+n) }
	_, err = w.Engine.ResyncToken(t.Context(), token.ID, ahead(0), ahead(2), audit.DoorConsole)
	if !errors.Is(err, auth.ErrCode) {
		t.Errorf("two codes apart: %v", err)
	}
	if token, err = w.Engine.ResyncToken(t.Context(), token.ID, ahead(0), ahead(1), audit.DoorConsole); err != nil || token.Drift != 101 {
		t.Errorf("token %+v, %v", token, err)
	}
	_, err = w.Engine.Resync(t.Context(), *id, "", ahead(2), ahead(3))
	w.refused(err, auth.ErrNoToken)
	if _, err := w.Engine.ResyncToken(t.Context(), "nothing", "000000", "000000", audit.DoorConsole); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no such token: %v", err)
	}
	// Nobody resynchronises under a lock of the person, or with somebody else's identity.
	check(t, w.Store.Users.Lock(t.Context(), u.ID, "left", time.Time{}))
	_, err = w.Engine.Resync(t.Context(), *id, "", ahead(2), ahead(3))
	w.refused(err, auth.ErrLocked)
	foreign := *id
	foreign.UserID = "somebody"
	_, err = w.Engine.Resync(t.Context(), foreign, "", ahead(2), ahead(3))
	w.refused(err, auth.ErrUnknownUser)
}

// When many tokens move the same way, the clock here is wrong: one event a day, whichever node looks.
func TestClockIsDoubted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	_, second := w.node()
	u := w.local("dave", davesPassword)
	for i := range 9 {
		token, err := w.Store.Tokens.Add(t.Context(), store.Token{UserID: u.ID, Enabled: true}, otp.NewSecret())
		check(t, err)
		for step := range int64(2) {
			ahead := 0
			if i < 5 {
				ahead = -1
			}
			if i == 4 { // with the fifth it is enough
				check(t, w.Engine.Housekeeping(t.Context()))
				if e := w.eventsOf(audit.ClockDoubted); len(e) != 0 {
					t.Errorf("too early: %+v", e)
				}
				w.now = w.now.Add(time.Minute)
			}
			_, err := w.Store.Tokens.ConsumeStep(t.Context(), store.TokenUse{TokenID: token.ID, Step: step + 1, Ahead: ahead})
			check(t, err)
		}
	}
	for range 3 {
		w.now = w.now.Add(time.Minute)
		check(t, w.Engine.Housekeeping(t.Context()))
		check(t, second.Housekeeping(t.Context()))
	}
	e := w.eventsOf(audit.ClockDoubted)
	if len(e) != 1 || !strings.Contains(e[0].Reason, "5 of 9 tokens used in the last day fell behind: the clock here seems to be fast") {
		t.Errorf("events %+v", e)
	}
}

// kill -9 between reservation and verdict: the attempt counts as a failure, and its code is used if it was
// consumed.
func TestDeadNodesAttemptsCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", davesPassword)
	secret := w.token(u.ID)
	// What a node leaves that is killed after its guess was reserved: rows as of a real attempt.
	for i := range 4 {
		_, _, err := w.enter(auth.Attempt{}, fmt.Sprint("00000", i))
		w.refused(err, auth.ErrCode)
	}
	counter := store.Counter{Kind: "user+source", Key: "user:" + u.ID + "|" + source.String(), Limit: 5, Window: 5 * time.Minute, Lock: 15 * time.Minute}
	if _, outcome, _, err := w.Store.Attempts.Reserve(t.Context(), []store.Counter{counter}); err != nil || outcome != store.Reserved {
		t.Fatalf("%v, %v", outcome, err)
	}
	w.now = w.now.Add(time.Minute)
	_, after := w.node() // starts again
	check(t, after.Housekeeping(t.Context()))
	s := &script{answers: map[string]string{auth.PromptPassword: davesPassword, auth.PromptCode: w.code(secret)}}
	_, err := after.Begin(auth.Attempt{Door: audit.DoorSSH, Login: "dave", Source: source}).Run(t.Context(), s)
	w.refused(err, auth.ErrLocked)
}
