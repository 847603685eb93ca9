package auth_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/otp"
	"sallyport/store"
	"sallyport/store/storetest"
)

// One code, by time or by counter, typed at SSH and at the operators' web at the same moment, at two nodes: exactly one
// wins, and the other is told as a code that was used (B6).
func TestOneCodeTwoDoors(t *testing.T) {
	t.Parallel()
	for _, database := range []string{"sqlite", "postgres"} {
		t.Run(database, func(t *testing.T) {
			t.Parallel()
			dsn := "sqlite:" + filepath.Join(t.TempDir(), "db")
			if database == "postgres" {
				dsn = storetest.Postgres(t)
			}
			w := newWorld(t, dsn)
			_, other := w.node()
			ctx := t.Context()
			u := w.local("alice", "pw")
			for round := range 6 {
				kind, secret, code := "totp", otp.NewSecret(), ""
				if round%2 == 1 {
					kind = "hotp"
				}
				token, err := w.Store.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: kind, Kind: kind, Algorithm: "SHA1", Digits: 6, Period: map[string]int{"totp": 30}[kind], Enabled: true}, secret)
				check(t, err)
				if p := auth.ParamsOf(token); kind == "totp" {
					code = p.Code(secret, p.StepAt(w.now))
				} else {
					code = p.Code(secret, token.LastStep+1)
				}
				var in, replayed atomic.Int64
				var both sync.WaitGroup
				for engine, door := range map[*auth.Engine]string{w.Engine: audit.DoorSSH, other: audit.DoorWeb} {
					both.Go(func() {
						s := &script{answers: map[string]string{auth.PromptPassword: "pw", auth.PromptCode: code}}
						_, err := engine.Begin(auth.Attempt{Door: door, Login: "alice", Source: source}).Run(context.Background(), s)
						switch {
						case err == nil:
							in.Add(1)
						case errors.Is(err, auth.ErrReplay):
							replayed.Add(1)
						default:
							t.Errorf("%s: %v", door, err)
						}
					})
				}
				both.Wait()
				if in.Load() != 1 || replayed.Load() != 1 {
					t.Errorf("%s: %d got in, %d were told that it was used", kind, in.Load(), replayed.Load())
				}
				check(t, w.Store.Tokens.Delete(ctx, token.ID))
			}
		})
	}
}
