package bastion_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/auth"
	"sallyport/otp"
	"sallyport/store"
)

// BenchmarkLogin is a whole login each time: connect, public key, code, `true`, leave, another
// person's each time. cpu-ms/op is of this process: bastion and client, not the target.
func BenchmarkLogin(b *testing.B) {
	for _, engine := range []struct {
		name     string
		postgres bool
	}{{"sqlite", false}, {"postgres", true}} {
		b.Run(engine.name, func(b *testing.B) { benchmarkLogin(b, options{postgres: engine.postgres}) })
	}
}

func benchmarkLogin(b *testing.B, o options) {
	s := newSystem(b, o)
	ctx := b.Context()
	login := func(name string, secret otp.Secret, signer ssh.Signer) {
		code := func(_, _ string, questions []string, _ []bool) ([]string, error) {
			var out []string
			for _, q := range questions {
				if q != auth.PromptCode {
					return nil, fmt.Errorf("asked %q", q)
				}
				p := otp.DefaultParams()
				out = append(out, p.Code(secret, p.StepAt(time.Now())))
			}
			return out, nil
		}
		client, err := s.dial(name+"@web1", ssh.PublicKeys(signer), ssh.KeyboardInteractive(code))
		check(b, err)
		defer client.Close()
		x, err := client.NewSession()
		check(b, err)
		check(b, x.Run("true"))
	}
	type person struct {
		name   string
		secret otp.Secret
		signer ssh.Signer
	}
	people := make([]person, b.N+1)
	for i := range people {
		p := person{fmt.Sprintf("p%d", i), otp.NewSecret(), newSigner(b)}
		u, err := s.Store.Users.Add(ctx, store.User{Login: p.name}, "")
		check(b, err)
		_, err = s.Store.Tokens.Add(ctx, store.Token{UserID: u.ID, Name: "t", Enabled: true}, p.secret)
		check(b, err)
		_, err = s.Store.UserKeys.Add(ctx, store.UserKey{UserID: u.ID, Name: "k", PublicKey: string(ssh.MarshalAuthorizedKey(p.signer.PublicKey())),
			Fingerprint: ssh.FingerprintSHA256(p.signer.PublicKey())})
		check(b, err)
		people[i] = p
	}
	login(people[b.N].name, people[b.N].secret, people[b.N].signer)
	before := cpu(b)
	b.ResetTimer()
	for i := range b.N {
		login(people[i].name, people[i].secret, people[i].signer)
	}
	b.StopTimer()
	b.ReportMetric(float64(cpu(b)-before)/float64(time.Millisecond)/float64(b.N), "cpu-ms/op")
}

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
