package store_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport/store"
)

// modelToken is what a token does, in plain words.
type modelToken struct {
	kind         string
	last         int64
	drift, lean  int
	on, lost     bool
	expires      time.Time
	everConsumed map[int64]bool
}

func (m *modelToken) consume(now time.Time, step int64, ahead int) bool {
	if !m.on || m.lost || !m.expires.IsZero() && !now.Before(m.expires) || step <= m.last {
		return false
	}
	m.last = step
	if m.kind == "hotp" {
		return true
	}
	side := 0
	switch {
	case ahead > m.drift:
		side = 1
	case ahead < m.drift:
		side = -1
	}
	further := max(m.drift+side, -m.drift-side) > max(m.drift, -m.drift)
	if side != 0 && side == m.lean && (!further || max(m.drift+side, -m.drift-side) <= 10) {
		m.drift, m.lean = m.drift+side, 0
		return true
	}
	m.lean = side
	return true
}

// Whatever happens to a token, on whichever node: a step is consumed once and never one before it; the
// drift moves by at most one step with a success, after two on the same side, and not beyond ten;
// nothing that was refused changes anything.
func TestTokenModel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes, ctx := e.nodes(), t.Context()
		u := addUser(t, nodes[0], "alice")
		rapid.Check(t, func(rt *rapid.T) {
			m := &modelToken{kind: rapid.SampledFrom([]string{"totp", "hotp"}).Draw(rt, "kind"), last: -1, on: true, everConsumed: map[int64]bool{}}
			if rapid.Bool().Draw(rt, "expires") {
				m.expires = e.clock.Now().Add(time.Minute)
			}
			token := must[store.Token](t)(nodes[0].Tokens.Add(ctx, store.Token{UserID: u.ID, Kind: m.kind, LastStep: -1, Enabled: true, Expires: m.expires}, secret))
			now := int64(1000)
			rt.Repeat(map[string]func(*rapid.T){
				"consume": func(rt *rapid.T) {
					ahead := rapid.IntRange(-12, 12).Draw(rt, "ahead")
					now += rapid.Int64Range(-2, 5).Draw(rt, "clock")
					step, before := now+int64(ahead), *m
					node := nodes[rapid.IntRange(0, 1).Draw(rt, "node")]
					got := must[bool](t)(node.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: token.ID, Step: step, Ahead: ahead}))
					if want := m.consume(e.clock.Now(), step, ahead); got != want {
						rt.Fatalf("step %d after %+v: got %v, want %v", step, before, got, want)
					}
					if got && m.everConsumed[step] {
						rt.Fatalf("step %d was consumed twice", step)
					}
					if moved := m.drift - before.drift; moved < -1 || moved > 1 || max(m.drift, -m.drift) > max(10, before.drift, -before.drift) {
						rt.Fatalf("the drift went from %d to %d", before.drift, m.drift)
					}
					m.everConsumed[step] = m.everConsumed[step] || got
				},
				"resync": func(rt *rapid.T) {
					drift := rapid.IntRange(-40, 40).Draw(rt, "drift")
					second := now + int64(drift)
					got := must[bool](t)(nodes[1].Tokens.Resync(ctx, store.TokenUse{TokenID: token.ID, Step: second}, drift))
					if want := second-1 > m.last; got != want {
						rt.Fatalf("resynchronised to step %d after %d: %v", second, m.last, got)
					}
					if got {
						m.last, m.drift, m.lean = second, drift, 0
						m.everConsumed[second], m.everConsumed[second-1] = true, true
					}
				},
				"state": func(rt *rapid.T) {
					state := rapid.SampledFrom([]string{store.TokenEnabled, store.TokenEnabled, store.TokenDisabled, store.TokenLost}).Draw(rt, "state")
					check(t, nodes[0].Tokens.SetState(ctx, token.ID, state))
					m.on, m.lost = state == store.TokenEnabled, state == store.TokenLost
				},
				"time": func(rt *rapid.T) {
					e.clock.Move(time.Duration(rapid.IntRange(0, 20).Draw(rt, "seconds")) * time.Second)
				},
				"": func(rt *rapid.T) {
					got := must[store.Token](t)(nodes[1].Tokens.Get(ctx, token.ID))
					if got.LastStep != m.last || got.Drift != m.drift || got.Lean != m.lean {
						rt.Fatalf("got last step %d, drift %d, lean %d, want %+v", got.LastStep, got.Drift, got.Lean, *m)
					}
				},
			})
			check(t, nodes[0].Tokens.Delete(ctx, token.ID))
		})
	})
}

func TestDriftIsLearned(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		token := must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: u.ID, Enabled: true}, secret))
		step := int64(0)
		use := func(ahead, drift, lean int) {
			t.Helper()
			step++
			if !must[bool](t)(s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: token.ID, Step: step, Ahead: ahead})) {
				t.Fatal("not consumed")
			}
			if got := must[store.Token](t)(s.Tokens.Get(ctx, token.ID)); got.Drift != drift || got.Lean != lean {
				t.Errorf("ahead %d: got drift %d and lean %d, want %d and %d", ahead, got.Drift, got.Lean, drift, lean)
			}
		}
		use(1, 0, 1)
		use(1, 1, 0) // two in a row
		use(2, 1, 1) // one that came late
		use(1, 1, 0) // and was alone
		use(5, 1, 1) // one step only, however far
		use(5, 2, 0)
		use(0, 2, -1) // the clock was set right
		use(0, 1, 0)
		use(0, 1, -1)
		use(2, 1, 1) // not twice the same way
		use(0, 1, -1)
		use(0, 0, 0)
		for range 40 {
			step++
			must[bool](t)(s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: token.ID, Step: step, Ahead: -100}))
		}
		got := must[store.Token](t)(s.Tokens.Get(ctx, token.ID))
		if got.Drift != -10 || got.MovedWay != -1 || !got.Moved.Equal(start) {
			t.Errorf("after forty far behind: %+v", got)
		}
		// A resynchronisation may find more, and is unlearned step by step.
		if !must[bool](t)(s.Tokens.Resync(ctx, store.TokenUse{TokenID: token.ID, Step: step + 100}, -31)) {
			t.Fatal("not resynchronised")
		}
		step += 100
		use(-40, -31, -1)
		use(-40, -31, -1)
		use(-30, -31, 1)
		use(-30, -30, 0)
	})
}

// The clock is set back ten minutes: no code that was used works again.
func TestClockSetBack(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		token := must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: u.ID, Enabled: true}, secret))
		now := start.Unix() / 30
		for i := range int64(30) {
			must[bool](t)(s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: token.ID, Step: now + i}))
		}
		e.clock.Move(-10 * time.Minute)
		for i := range int64(30) {
			if must[bool](t)(s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: token.ID, Step: now + i, Ahead: int(i)})) {
				t.Errorf("step %d is good again", now+i)
			}
		}
	})
}

func TestTokenUses(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		token := must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: u.ID, Enabled: true}, secret))
		if got := must[[]store.PastUse](t)(s.Tokens.Uses(ctx, token.ID)); len(got) != 0 {
			t.Errorf("a new token was used: %+v", got)
		}
		use := store.TokenUse{TokenID: token.ID, Step: 7, Door: "ssh", Source: addr("::ffff:192.0.2.7")}
		must[bool](t)(s.Tokens.ConsumeStep(ctx, use))
		use.Door, use.Source = "web", addr("192.0.2.66")
		must[bool](t)(s.Tokens.ConsumeStep(ctx, use)) // refused: leaves no trace
		want := []store.PastUse{{Step: 7, At: start, Door: "ssh", Source: "192.0.2.7"}}
		if got := must[[]store.PastUse](t)(s.Tokens.Uses(ctx, token.ID)); !slices.Equal(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		for step := range int64(100) {
			must[bool](t)(s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: token.ID, Step: 59_000_000 + step, Door: "ssh", Source: addr("2001:db8:1111:2222:3333:4444:5555:6666")}))
		}
		got := must[[]store.PastUse](t)(s.Tokens.Uses(ctx, token.ID))
		if len(got) < 20 || len(got) > 40 || got[0].Step != 59_000_099 || got[19].Step != 59_000_080 {
			t.Errorf("%d uses are remembered, the newest %+v", len(got), got[0])
		}
		_, err := s.Tokens.Uses(ctx, "nothing")
		wantError(t, "uses of no token", err, store.ErrNotFound)
	})
}

func TestTokenStates(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		token := must[store.Token](t)(s.Tokens.Add(ctx, store.Token{
			UserID: u.ID, Kind: "hotp", LastStep: -1, Hardware: true, Serial: "GALT11420104", Enabled: true, Expires: start.Add(time.Hour),
		}, secret))
		if token.Period != 0 || token.LastStep != -1 || !token.Hardware || token.State(start) != store.TokenEnabled || token.State(start.Add(time.Hour)) != store.TokenExpired {
			t.Errorf("got %+v", token)
		}
		_, err := s.Tokens.Add(ctx, store.Token{UserID: u.ID, Serial: "GALT11420104"}, secret)
		wantError(t, "a second token of one serial", err, store.ErrExists)
		must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: u.ID}, secret))
		must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: u.ID}, secret)) // none is not a serial

		step := int64(-1)
		usable := func(what string, want bool) {
			t.Helper()
			step++
			n := len(must[[]store.TokenSecret](t)(s.Tokens.Usable(ctx, u.ID)))
			consumed := must[bool](t)(s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: token.ID, Step: step}))
			if n == 1 != want || consumed != want {
				t.Errorf("%s: %d tokens are usable, consumed %v, want %v", what, n, consumed, want)
			}
		}
		usable("enabled", true)
		for _, state := range []string{store.TokenLost, store.TokenDisabled} {
			check(t, s.Tokens.SetState(ctx, token.ID, state))
			usable(state, false)
			if got := must[store.Token](t)(s.Tokens.Get(ctx, token.ID)).State(start); got != state {
				t.Errorf("state %s, want %s", got, state)
			}
		}
		check(t, s.Tokens.SetState(ctx, token.ID, store.TokenEnabled))
		check(t, s.Tokens.Rename(ctx, token.ID, "keyring"))
		usable("found again", true)
		e.clock.Move(time.Hour)
		usable("expired", false)
		if got := must[store.TokenSecret](t)(s.Tokens.WithSecret(ctx, token.ID)); got.Name != "keyring" || string(got.Secret) != string(secret) {
			t.Errorf("got %v", got)
		}
		if err := s.Tokens.SetState(ctx, token.ID, "sold"); err == nil {
			t.Error("an unknown state was taken")
		}
		wantError(t, "state of nothing", s.Tokens.SetState(ctx, "nothing", store.TokenLost), store.ErrNotFound)
		_, err = s.Tokens.WithSecret(ctx, "nothing")
		wantError(t, "secret of nothing", err, store.ErrNotFound)
	})
}

func TestDrifting(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		u := addUser(t, s, "alice")
		for i := range 8 {
			token := must[store.Token](t)(s.Tokens.Add(ctx, store.Token{UserID: u.ID, Enabled: true}, secret))
			ahead := []int{1, 1, 1, -1, 0, 0, 0, 0}[i]
			for step := range int64(2) {
				if i < 6 {
					must[bool](t)(s.Tokens.ConsumeStep(ctx, store.TokenUse{TokenID: token.ID, Step: step + 1, Ahead: ahead}))
				}
			}
		}
		if got, want := must[store.Drifting](t)(s.Tokens.Drifting(ctx, start)), (store.Drifting{Used: 6, Ahead: 3, Behind: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got := must[store.Drifting](t)(s.Tokens.Drifting(ctx, start.Add(time.Second))); got != (store.Drifting{}) {
			t.Errorf("later: got %+v", got)
		}
	})
}

func TestSpareCodes(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		s, ctx := e.open(), t.Context()
		alice, bob := addUser(t, s, "alice"), addUser(t, s, "bob")
		check(t, s.SpareCodes.ReplaceRecovery(ctx, alice.ID, "root", []string{"a", "b", "c"}))
		check(t, s.SpareCodes.ReplaceRecovery(ctx, bob.ID, "root", []string{"a"})) // the same text is another code
		left := func(u store.User, want int) {
			t.Helper()
			if got := must[int](t)(s.SpareCodes.Left(ctx, u.ID)); got != want {
				t.Errorf("%s has %d left, want %d", u.Login, got, want)
			}
		}
		left(alice, 3)
		if c := must[store.SpareCode](t)(s.SpareCodes.Take(ctx, alice.ID, "a")); c.Kind != store.RecoveryCode || c.Issuer != "root" {
			t.Errorf("got %+v", c)
		}
		_, err := s.SpareCodes.Take(ctx, alice.ID, "a")
		wantError(t, "taken twice", err, store.ErrNotFound)
		_, err = s.SpareCodes.Take(ctx, bob.ID, "b")
		wantError(t, "somebody else's", err, store.ErrNotFound)
		left(alice, 2)
		left(bob, 1)
		check(t, s.SpareCodes.ReplaceRecovery(ctx, alice.ID, "root", []string{"x"}))
		_, err = s.SpareCodes.Take(ctx, alice.ID, "b")
		wantError(t, "replaced", err, store.ErrNotFound)
		left(alice, 1)
		check(t, s.SpareCodes.ReplaceRecovery(ctx, alice.ID, "root", nil))
		left(alice, 0)
		wantError(t, "codes for nobody", s.SpareCodes.ReplaceRecovery(ctx, "nobody", "root", []string{"y"}), store.ErrNotFound)

		bypass := store.SpareCode{UserID: alice.ID, Reason: "phone broken", Issuer: "root", Expires: start.Add(time.Hour)}
		check(t, s.SpareCodes.AddBypass(ctx, bypass, "p"))
		check(t, s.SpareCodes.AddBypass(ctx, bypass, "q"))
		left(alice, 0)
		if list := must[[]store.SpareCode](t)(s.SpareCodes.Bypasses(ctx, alice.ID)); len(list) != 2 || list[0].Reason != "phone broken" {
			t.Errorf("got %+v", list)
		}
		if c := must[store.SpareCode](t)(s.SpareCodes.Take(ctx, alice.ID, "p")); c.Kind != store.BypassCode || c.Reason != "phone broken" {
			t.Errorf("got %+v", c)
		}
		e.clock.Move(time.Hour)
		_, err = s.SpareCodes.Take(ctx, alice.ID, "q")
		wantError(t, "expired", err, store.ErrNotFound)
		check(t, s.Purge(ctx))
		if n := count(t, e, "spare_codes"); e.name != "memory" && n != 1 {
			t.Errorf("%d codes are left, want bob's", n)
		}
		if err := s.SpareCodes.AddBypass(ctx, bypass, "r"); err == nil {
			t.Error("a code was made that has expired")
		}
		bypass.Expires = e.clock.Now().Add(time.Hour)
		check(t, s.SpareCodes.AddBypass(ctx, bypass, "s"))
		if n := must[int](t)(s.SpareCodes.DropBypasses(ctx, alice.ID)); n != 1 {
			t.Errorf("%d dropped, want 1", n)
		}
		_, err = s.SpareCodes.Take(ctx, alice.ID, "s")
		wantError(t, "dropped", err, store.ErrNotFound)
		check(t, s.Users.Delete(ctx, bob.ID))
		left(bob, 0)
	})
}

func TestTakeSpareCodeInParallel(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := e.nodes()
		u := addUser(t, nodes[0], "alice")
		check(t, nodes[0].SpareCodes.ReplaceRecovery(t.Context(), u.ID, "root", []string{"a", "b"}))
		var taken atomic.Int32
		parallel(200, func(i int) {
			if _, err := nodes[i%2].SpareCodes.Take(t.Context(), u.ID, "a"); err == nil {
				taken.Add(1)
			}
		})
		if taken.Load() != 1 || must[int](t)(nodes[0].SpareCodes.Left(t.Context(), u.ID)) != 1 {
			t.Errorf("taken %d times, want once", taken.Load())
		}
		// Two operators at once: the person has the codes of one of them.
		parallel(20, func(i int) {
			check(t, nodes[i%2].SpareCodes.ReplaceRecovery(t.Context(), u.ID, "root", []string{fmt.Sprint(i, "x"), fmt.Sprint(i, "y")}))
		})
		if n := must[int](t)(nodes[0].SpareCodes.Left(t.Context(), u.ID)); n != 2 {
			t.Errorf("%d codes are left, want 2", n)
		}
	})
}

func TestClaimSetting(t *testing.T) {
	each(t, func(t *testing.T, e *engine) {
		nodes := e.nodes()
		var claimed atomic.Int32
		for range 2 {
			parallel(50, func(i int) {
				if ok, err := nodes[i%2].Settings.Claim(t.Context(), "k", "v", time.Hour); ok && err == nil {
					claimed.Add(1)
				}
			})
			e.clock.Move(time.Hour)
		}
		if claimed.Load() != 2 {
			t.Errorf("claimed %d times in two hours, want 2", claimed.Load())
		}
	})
}
