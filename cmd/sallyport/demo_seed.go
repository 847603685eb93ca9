package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/identity"
	"sallyport/otp"
	"sallyport/store"
)

// demoRules lets everybody onto demo and down and through vpn, and refuses vault. They are put only where no rules are.
const demoRules = `# Rules of the demo. The first that matches decides; where none does, the answer is no.
version: 1
networks:
  office: [192.0.2.0/24, 2001:db8::/48]
rules:
  - name: no-vault-from-outside
    deny: true
    targets: [vault]
    not-from: [office]
    message: vault is reached from the office only
  - name: vpn
    users: ["*"]
    targets: [vpn]
    channels: [radius]
    reply: [Filter-Id=demo]
  - name: everybody
    users: ["*"]
    targets: ["*"]
    channels: [shell, exec, sftp, scp, rsync, git]
    # With the next line a code is remembered here for an hour, and not asked for again:
    # trust: {idle: 1h, max: 8h, sources: [127.0.0.0/8]}
`

// nowhere is a loopback port that nobody listens on: it needs root to listen there, and nothing is left
// in the world that does (TCPMUX, RFC 1078).
const nowhere = "127.0.0.1:1"

// demoSeed fills the database of a demo. What is there stays, so that people can change the demo.
type demoSeed struct {
	store    *store.Store
	secrets  *demoSecrets
	users    int
	target   string // address of target demo
	hostKey  ssh.PublicKey
	accounts []string
}

func (d *demoSeed) run(ctx context.Context) error {
	if err := d.people(ctx); err != nil {
		return err
	}
	if err := d.targets(ctx); err != nil {
		return err
	}
	if err := d.vpn(ctx); err != nil {
		return err
	}
	rules, err := d.store.Rules.Current(ctx)
	if err != nil {
		return err
	}
	if rules.Version == 0 {
		if _, err := d.store.Rules.Put(ctx, demoRules, "demo", 0); err != nil {
			return err
		}
	}
	return d.apiToken(ctx)
}

// people makes alice and bob, and u1 to uN with alice's password.
func (d *demoSeed) people(ctx context.Context) error {
	list, err := d.store.Users.List(ctx, store.UserFilter{})
	if err != nil {
		return err
	}
	known := make(map[string]store.User, len(list))
	for _, u := range list {
		known[u.Login] = u
	}
	if _, err := d.person(ctx, known, "bob", "Bob", ""); err != nil {
		return err
	}
	alice, err := d.person(ctx, known, "alice", "Alice", "")
	if err != nil {
		return err
	}
	hash, err := d.store.Users.PasswordHash(ctx, alice.ID)
	if err != nil {
		return err
	}
	for i, login := range numberedUsers(d.users) {
		if _, err := d.person(ctx, known, login, fmt.Sprintf("User %d", i+1), hash); err != nil {
			return err
		}
	}
	return nil
}

// person makes one user, and the token if there is a seed for it. Without hash the password is that of the
// state folder; making a hash takes its time, and a thousand users can do with one.
func (d *demoSeed) person(ctx context.Context, known map[string]store.User, login, name, hash string) (u store.User, err error) {
	u, there := known[login]
	if !there {
		if hash == "" {
			if hash, err = identity.HashPassword(ctx, identity.Password(d.secrets.Passwords[login])); err != nil {
				return u, err
			}
		}
		if u, err = d.store.Users.Add(ctx, store.User{Login: login, Name: name, Groups: []string{"demo"}}, hash); err != nil {
			return u, err
		}
	}
	if seed := d.secrets.Seeds[login]; seed != "" && u.Tokens == 0 {
		err = d.token(ctx, u, seed)
	}
	return u, err
}

// token gives a user the token whose seed lies in the state folder.
func (d *demoSeed) token(ctx context.Context, u store.User, seed string) error {
	secret, err := otp.ParseSecret(seed)
	if err != nil {
		return fmt.Errorf("reading the seed of %s: %w", u.Login, err)
	}
	p := otp.DefaultParams()
	_, err = d.store.Tokens.Add(ctx, store.Token{
		UserID: u.ID, Name: "demo", Kind: "totp", Algorithm: string(p.Algorithm), Digits: p.Digits, Period: p.Period, Enabled: true,
	}, secret)
	return err
}

func (d *demoSeed) targets(ctx context.Context) error {
	pinned := string(ssh.MarshalAuthorizedKey(d.hostKey))
	demo := store.Target{
		Name: "demo", Address: d.target, Accounts: d.accounts, Labels: map[string]string{"env": "demo"},
		HostKeyMode: store.Pinned, HostKeys: []string{pinned[:len(pinned)-1]}, Note: "your own shell, in the demo's process",
	}
	was, err := d.store.Targets.ByName(ctx, "demo")
	switch {
	case errors.Is(err, store.ErrNotFound):
		_, err = d.store.Targets.Add(ctx, demo)
	case err == nil: // its port is another one at each start
		was.Address, was.HostKeyMode, was.HostKeys, was.Accounts = demo.Address, demo.HostKeyMode, demo.HostKeys, demo.Accounts
		err = d.store.Targets.Update(ctx, was)
	}
	if err != nil {
		return err
	}
	for name, note := range map[string]string{"down": "a host that cannot be reached", "vault": "a host that the rules refuse"} {
		_, err := d.store.Targets.Add(ctx, store.Target{
			Name: name, Address: nowhere, Accounts: []string{"root"}, Labels: map[string]string{"env": "prod"}, HostKeyMode: store.TOFU, Note: note,
		})
		if err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	return nil
}

// apiToken makes the token for programs, unless the one in the state folder is good.
func (d *demoSeed) apiToken(ctx context.Context) error {
	if d.secrets.APIToken != "" {
		_, err := d.store.APITokens.Check(ctx, d.secrets.APIToken)
		if err == nil || errors.Is(err, store.ErrUnavailable) {
			return err
		}
	}
	list, err := d.store.APITokens.List(ctx)
	if err != nil {
		return err
	}
	for _, t := range list { // one whose secret is lost is of no use to anybody
		if t.Name == "demo" {
			if err := d.store.APITokens.Delete(ctx, t.ID); err != nil {
				return err
			}
		}
	}
	_, d.secrets.APIToken, err = d.store.APITokens.Add(ctx, "demo", store.RoleAdmin, time.Time{})
	return err
}
