package auth_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"sallyport/auth"
)

// How long a refusal takes does not tell why: unknown, wrong code, wrong password and locked come on the
// same grid. A few tries here; with SALLYPORT_LONG enough of them to compare distributions.
func TestTimingTellsNothing(t *testing.T) {
	const grid = 60 * time.Millisecond
	w := newWorld(t, "", func(c *auth.Config) { c.Grid, c.Now = grid, nil })
	w.now = time.Now()
	wrongCode, wrongPassword, locked := w.local("wrongcode", "a password of theirs"), w.local("wrongpassword", "a password of theirs"), w.local("locked", "a password of theirs")
	w.token(wrongCode.ID)
	w.token(locked.ID)
	check(t, w.Store.Users.Lock(t.Context(), locked.ID, "test", time.Time{}))
	tries := 12
	long := os.Getenv("SALLYPORT_LONG") != ""
	if long {
		tries = 500
	}
	took := map[string][]time.Duration{}
	for i := range tries {
		secret := w.token(wrongPassword.ID)
		for name, try := range map[string]func(a auth.Attempt) error{
			"unknown":    func(a auth.Attempt) error { a.Login = "nobody"; _, err := w.login(a, "x", "000000"); return err },
			"wrong code": func(a auth.Attempt) error { a.Login = "wrongcode"; _, err := w.login(a, "x", "000000"); return err },
			"wrong password": func(a auth.Attempt) error {
				a.Login = "wrongpassword"
				_, err := w.login(a, "x", w.code(secret))
				return err
			},
			"locked": func(a auth.Attempt) error { a.Login = "locked"; _, err := w.login(a, "x", "000000"); return err },
		} {
			w.now = time.Now()
			a := auth.Attempt{Source: address(i)}
			begun := time.Now()
			if try(a) == nil {
				t.Fatalf("%s got in", name)
			}
			took[name] = append(took[name], time.Since(begun))
		}
	}
	for name, d := range took {
		slices.Sort(d)
		if fastest := d[0]; fastest < grid {
			t.Errorf("%s: the fastest answer came after %s, before the grid of %s", name, fastest, grid)
		}
		if long {
			if auc := winShare(d, took["unknown"]); auc < 0.45 || auc > 0.55 {
				t.Errorf("%s is told from unknown by time: AUC %.3f", name, auc)
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
