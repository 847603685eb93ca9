package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/otp"
)

// person is a user of Sallyport with a key and a token.
type person struct {
	login  string
	key    key
	secret otp.Secret
	last   int64 // time step of the last code used
}

// addPeople adds n users, each with a key and a token.
func (b *bench) addPeople(ctx context.Context, n int) ([]*person, error) {
	var people []*person
	for i := range n {
		p := &person{login: fmt.Sprintf("u%d", i+1), secret: otp.NewSecret()}
		var err error
		if p.key, err = newKey(filepath.Join(b.dir, p.login)); err != nil {
			return nil, err
		}
		if err := b.product.addUser(ctx, p.login, p.key, "code"); err != nil {
			return nil, err
		}
		if err := b.product.run(ctx, p.secret.Base32()+"\n", nil, "token", "add", p.login, "--secret-file", "-"); err != nil {
			return nil, err
		}
		people = append(people, p)
	}
	return people, nil
}

// take gives a code that was not used before, or how long it takes until there is one: the server
// accepts a code of the present time step and of the next, and none twice.
func (p *person) take(now time.Time) (code string, wait time.Duration) {
	params := otp.DefaultParams()
	present := params.StepAt(now)
	step := max(present, p.last+1)
	if step > present+1 {
		return "", params.StepEnd(step - 2).Sub(now)
	}
	p.last = step
	return params.Code(p.secret, step), 0
}

// answer answers the question for a code, and nothing else.
func (p *person) answer(_, _ string, questions []string, _ []bool) ([]string, error) {
	var answers []string
	for _, q := range questions {
		if q != "Code: " {
			return nil, fmt.Errorf("%s was asked %q, want Code: ", p.login, q)
		}
		for {
			code, wait := p.take(time.Now())
			if wait == 0 {
				answers = append(answers, code)
				break
			}
			time.Sleep(wait)
		}
	}
	return answers, nil
}

// loginsAtOnce is how many log in at the same time when they do not so one after another.
const loginsAtOnce = 8

// logIn measures whole logins, one after another and then some at once: connect, log in, run `true`, leave. At Sallyport
// each is another person's, with key and code; elsewhere the key is all there is.
func (b *bench) logIn(ctx context.Context, p *peer) error {
	n := b.logins
	if p.name != sallyport {
		n /= 2
	}
	var walls []float64
	cpu, _, err := p.cost(ctx, func() error {
		for i := range n {
			begun := time.Now()
			if err := b.oneLogin(ctx, p, i); err != nil {
				return fmt.Errorf("login %d: %w", i+1, err)
			}
			walls = append(walls, milliseconds(time.Since(begun)))
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.add("login_wall", p.name, median(walls))
	if p.proxy == nil {
		return nil
	}
	b.add("login_cpu", p.name, milliseconds(cpu)/float64(n))
	cpu, _, err = p.cost(ctx, func() error {
		failed := make([]error, loginsAtOnce)
		var all sync.WaitGroup
		for w := range failed {
			all.Go(func() {
				for i := w; i < n && failed[w] == nil; i += loginsAtOnce {
					failed[w] = b.oneLogin(ctx, p, b.logins+i)
				}
			})
		}
		all.Wait()
		return errors.Join(failed...)
	})
	if err != nil {
		return err
	}
	b.add("logins_cpu", p.name, milliseconds(cpu)/float64(n))
	return nil
}

func (b *bench) oneLogin(ctx context.Context, p *peer, i int) error {
	login, auth := p.login, []ssh.AuthMethod{ssh.PublicKeys(b.key.signer)}
	if p.name == sallyport {
		who := b.people[i]
		_, own, _ := strings.Cut(p.login, "@")
		login = who.login + "@" + own
		auth = []ssh.AuthMethod{ssh.PublicKeys(who.key.signer), ssh.KeyboardInteractive(who.answer)}
	}
	client, err := dial(ctx, p.addr, login, auth...)
	if err != nil {
		return err
	}
	defer client.Close()
	return within(dialLimit, client, func() error { return runOnce(client, "true") })
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
