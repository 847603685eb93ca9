package auth_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/otp"
	"sallyport/policy"
	"sallyport/store"
	"sallyport/store/storetest"
)

// model is a person with an app and a token with a button, and what the bastion should think of what they
// type, in plain words and without a database.
type model struct {
	totp, hotp         otp.Secret
	device             int64 // steps that the app's clock is really ahead
	pressed            int64 // counter that the button shows next
	last               int64 // of the app
	drift, lean        int
	counter            int64 // last one used of the button
	failures           int
	since, lockedUntil time.Time
	guess              string // last wrong code that counted
	guessed            time.Time
}

var (
	appParams    = otp.DefaultParams()
	buttonParams = otp.Params{Kind: otp.HOTP, Algorithm: otp.SHA1, Digits: 6}
)

const (
	modelLimit  = 5
	modelWindow = 5 * time.Minute
	modelLock   = 15 * time.Minute
)

// judge returns what should become of a code at now, and "" or the use that is made of it.
func (m *model) judge(now time.Time, code string) (want error, use string) {
	if now.Before(m.lockedUntil) {
		return auth.ErrLocked, ""
	}
	if m.failures > 0 && !m.lockedUntil.IsZero() || m.failures > 0 && !now.Before(m.since.Add(modelWindow)) {
		m.failures, m.lockedUntil = 0, time.Time{} // over
	}
	step, ok, replayed := m.find(now, code)
	switch {
	case ok && step >= 0:
		m.learn(step, step-appParams.StepAt(now))
		m.failures, m.lockedUntil = 0, time.Time{}
		return nil, fmt.Sprint("app ", step)
	case ok:
		m.counter = -step - 1
		m.failures, m.lockedUntil = 0, time.Time{}
		return nil, fmt.Sprint("button ", m.counter)
	}
	m.fail(now, code)
	if replayed {
		return auth.ErrReplay, ""
	}
	return auth.ErrCode, ""
}

// fail counts a wrong code, unless it is the same one as within the minute before.
func (m *model) fail(now time.Time, code string) {
	if code == m.guess && now.Sub(m.guessed) < time.Minute {
		return
	}
	if len(code) == 6 && code != "abcdef" {
		m.guess, m.guessed = code, now
	}
	if m.failures++; m.failures == 1 {
		m.since = now
	}
	if m.failures >= modelLimit {
		m.lockedUntil = now.Add(modelLock)
	}
}

// find returns the step that a code is good for; a counter c comes as -c-1.
func (m *model) find(now time.Time, code string) (step int64, ok, replayed bool) {
	at := appParams.StepAt(now)
	near := func(n, center int64) bool { return n >= center-1 && n <= center+1 }
	for n := at - 40; n <= at+40; n++ {
		if (near(n, at) || near(n, at+int64(m.drift))) && appParams.Code(m.totp, n) == code {
			if n > m.last {
				return n, true, false
			}
			replayed = true
		}
	}
	for c := max(0, m.counter-9); c <= m.counter+10; c++ {
		if buttonParams.Code(m.hotp, c) == code {
			if c > m.counter {
				return -c - 1, true, false
			}
			replayed = true
		}
	}
	return 0, false, replayed
}

func (m *model) learn(step, ahead int64) {
	m.last = step
	side := 0
	if ahead > int64(m.drift) {
		side = 1
	} else if ahead < int64(m.drift) {
		side = -1
	}
	if side != 0 && side == m.lean && (m.drift+side <= 10 && m.drift+side >= -10) {
		m.drift, m.lean = m.drift+side, 0
		return
	}
	m.lean = side
}

// Whatever a person or thief types at either of two nodes, with clocks that run away, buttons pressed in
// pockets, codes typed again and the server's clock set back: what is accepted, refused as used, refused
// as wrong and locked is what the model says, and no code gets in twice.
func TestCodesModel(t *testing.T) {
	t.Parallel()
	for name, dsn := range map[string]func(*testing.T) string{
		"sqlite": func(*testing.T) string { return "" }, "postgres": func(t *testing.T) string { return storetest.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, dsn(t), func(c *auth.Config) {
				c.Lockout = policy.Lockout{Pair: policy.Limit{Failures: modelLimit, Window: modelWindow, Lock: modelLock},
					Source: policy.Limit{Failures: 1 << 20, Window: time.Minute, Lock: time.Minute}, User: 1 << 20}
				c.Grid = time.Microsecond
			})
			_, second := w.node()
			engines, person := []*auth.Engine{w.Engine, second}, 0
			rapid.Check(t, func(rt *rapid.T) {
				person++
				checkModel(rt, w, engines, fmt.Sprint("person", person))
			})
		})
	}
}

func checkModel(rt *rapid.T, w *world, engines []*auth.Engine, login string) {
	ctx := context.Background()
	u, err := w.Store.Users.Add(ctx, store.User{Login: login, Source: store.Local}, "")
	check(w.t, err)
	_, err = w.Store.UserKeys.Add(ctx, store.UserKey{UserID: u.ID, PublicKey: login, Fingerprint: login})
	check(w.t, err)
	m := &model{totp: otp.NewSecret(), hotp: otp.NewSecret(), counter: -1}
	app, err := w.Store.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "app", Enabled: true}, m.totp)
	check(w.t, err)
	button, err := w.Store.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "button", Kind: "hotp", LastStep: -1, Enabled: true}, m.hotp)
	check(w.t, err)
	used, typed := map[string]bool{}, []string{"000000"}
	enter := func(rt *rapid.T, code string) {
		e := engines[rapid.IntRange(0, 1).Draw(rt, "node")]
		before := *m
		want, use := m.judge(w.now, code)
		c := e.Begin(auth.Attempt{Door: audit.DoorSSH, Login: login, Source: source}).WithKey(login)
		_, err := c.Run(ctx, &script{answers: map[string]string{auth.PromptCode: code}})
		if want == nil && err != nil || want != nil && !errors.Is(err, want) {
			rt.Fatalf("code %s at step %d after %+v: got %v, want %v", code, appParams.StepAt(w.now), before, err, want)
		}
		if use != "" && used[use] {
			rt.Fatalf("%s was accepted twice", use)
		}
		used[use] = use != ""
		typed = append(typed, code)
	}
	now := func() int64 { return appParams.StepAt(w.now) }
	rt.Repeat(map[string]func(*rapid.T){
		"app": func(rt *rapid.T) { enter(rt, appParams.Code(m.totp, now()+m.device)) },
		"late": func(rt *rapid.T) {
			enter(rt, appParams.Code(m.totp, now()+m.device-rapid.Int64Range(1, 3).Draw(rt, "late")))
		},
		"button": func(rt *rapid.T) {
			m.pressed += rapid.Int64Range(0, 11).Draw(rt, "in the pocket")
			enter(rt, buttonParams.Code(m.hotp, m.pressed))
			if m.pressed > m.counter+9 {
				m.pressed = m.counter + 1 // else it is lost for good
				return
			}
			m.pressed++
		},
		"again": func(rt *rapid.T) { enter(rt, rapid.SampledFrom(typed).Draw(rt, "again")) },
		"nothing": func(rt *rapid.T) {
			enter(rt, rapid.SampledFrom([]string{"", "12345", "1234567", "abcdef", "999999999"}).Draw(rt, "typed"))
		},
		"time": func(rt *rapid.T) {
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds")) * time.Second)
		},
		"later": func(rt *rapid.T) { w.now = w.now.Add(16 * time.Minute) },
		"drift": func(rt *rapid.T) {
			m.device = min(14, max(-14, m.device+rapid.Int64Range(-1, 1).Draw(rt, "drift")))
		},
		"": func(rt *rapid.T) {
			a, err := w.Store.Tokens.Get(ctx, app.ID)
			check(w.t, err)
			b, err := w.Store.Tokens.Get(ctx, button.ID)
			check(w.t, err)
			if a.LastStep != m.last || a.Drift != m.drift || a.Lean != m.lean || b.LastStep != m.counter {
				rt.Fatalf("app %+v, button %+v, want %+v", a, b, *m)
			}
		},
	})
	if rapid.Bool().Draw(rt, "clock set back") {
		// Ten minutes back: whatever was accepted stays used.
		w.now = w.now.Add(-10 * time.Minute)
		m.lockedUntil = time.Time{}
		check(w.t, clearAll(ctx, w, u))
		m.failures = 0
		for range 4 {
			enter(rt, rapid.SampledFrom(typed).Draw(rt, "typed before"))
		}
		w.now = w.now.Add(10 * time.Minute)
	}
}

func clearAll(ctx context.Context, w *world, u store.User) error {
	err := w.Store.Attempts.Clear(ctx, "user+source:user:"+u.ID+"|"+source.String())
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
