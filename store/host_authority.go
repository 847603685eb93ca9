package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// HostAuthority is the keys by which the bastion answers in the place of targets, the same on all nodes. They are kept
// among [Secrets].
type HostAuthority struct{ db *db }

// HostAuthorityKeys are those keys.
type HostAuthorityKeys struct {
	Active CredentialSecret // private key that signs certificates for hosts now
	Next   CredentialSecret // clients come to trust it, it signs nothing yet; nil: there is none
	Hosts  CredentialSecret // HostSecretSize bytes, from which the keys of hosts are derived

	ActiveSince time.Time // when Active began to sign
	NextSince   time.Time // when Next was made; zero: there is none
}

// HostSecretSize is the length of [HostAuthorityKeys].Hosts in bytes.
const HostSecretSize = 32

// Names among Secrets.
const (
	hostCAActive = "host-ca/ed25519"
	hostCANext   = "host-ca/next"
	hostCAHosts  = "host-ca/targets"
)

// Begin makes the first keys unless they are there. Of several nodes that do so at once one is the first.
func (s HostAuthority) Begin(ctx context.Context, active, hosts func() ([]byte, error)) error {
	_, err := Secrets(s).GetOrCreate(ctx, hostCAActive, active)
	if err != nil {
		return err
	}
	_, err = Secrets(s).GetOrCreate(ctx, hostCAHosts, hosts)
	return err
}

// Keys returns the keys of now, or [ErrNotFound] if Begin has made none.
func (s HostAuthority) Keys(ctx context.Context) (HostAuthorityKeys, error) {
	const what = "reading the keys of the host CA"
	type row struct {
		name, value string
		created     time.Time
	}
	var rows []row
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		rows, err = all(ctx, q, func(r *row) []any { return []any{&r.name, &r.value, timeColumn{&r.created}} },
			"SELECT name, value, created FROM secrets WHERE name IN (?, ?, ?)", hostCAActive, hostCANext, hostCAHosts)
		return err
	})
	if err != nil {
		return HostAuthorityKeys{}, err
	}
	var keys HostAuthorityKeys
	for _, r := range rows {
		secret, err := s.db.ring.Open("secrets", "value", r.name, r.value)
		if err != nil {
			return HostAuthorityKeys{}, fmt.Errorf("%s: %w", what, err)
		}
		switch r.name {
		case hostCAActive:
			keys.Active, keys.ActiveSince = secret, r.created
		case hostCANext:
			keys.Next, keys.NextSince = secret, r.created
		case hostCAHosts:
			keys.Hosts = secret
		}
	}
	if keys.Active == nil || keys.Hosts == nil {
		return HostAuthorityKeys{}, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return keys, nil
}

// Since tells for how long the keys that sign, now and next, are what they are; zero: there is none.
func (s HostAuthority) Since(ctx context.Context) (active, next time.Time, err error) {
	type row struct {
		name    string
		created time.Time
	}
	err = s.db.reading(ctx, "reading the age of the host CA", func(ctx context.Context, q querier) error {
		rows, err := all(ctx, q, func(r *row) []any { return []any{&r.name, timeColumn{&r.created}} },
			"SELECT name, created FROM secrets WHERE name IN (?, ?)", hostCAActive, hostCANext)
		for _, r := range rows {
			if r.name == hostCANext {
				next = r.created
			} else {
				active = r.created
			}
		}
		return err
	})
	return active, next, err
}

// Rotate adds the key that is to follow. The error is [ErrExists] if one waits already.
func (s HostAuthority) Rotate(ctx context.Context, next CredentialSecret) error {
	const what = "adding a key of the host CA"
	if len(next) == 0 {
		return errors.New(what + ": the key is missing")
	}
	return s.db.changing(ctx, what, func(ctx context.Context, q querier) error {
		n, err := s.put(ctx, q, hostCANext, next, "DO NOTHING")
		if err == nil && n == 0 {
			err = ErrExists
		}
		return err
	})
}

// Drop removes the next key, so that another one can be made. check sees it before and may refuse. The error is
// [ErrNotFound] if there is no next key.
func (s HostAuthority) Drop(ctx context.Context, check func(next CredentialSecret) error) error {
	return s.db.changing(ctx, "dropping a key of the host CA", func(ctx context.Context, q querier) error {
		sealed, err := scalar[string](ctx, q, "DELETE FROM secrets WHERE name = ? RETURNING value", hostCANext)
		if err != nil {
			return err
		}
		next, err := s.db.ring.Open("secrets", "value", hostCANext, sealed)
		if err != nil {
			return err
		}
		return check(next) // an error brings the row back
	})
}

// Activate has the next key sign from now on, on all nodes; the one that did is gone. With hosts, the keys of hosts are
// derived from that from now on. The error is [ErrNotFound] if there is no next key.
func (s HostAuthority) Activate(ctx context.Context, hosts CredentialSecret) error {
	const what = "changing the key of the host CA"
	if hosts != nil && len(hosts) != HostSecretSize {
		return errors.New(what + ": the secret for the keys of hosts has another length")
	}
	return s.db.changing(ctx, what, func(ctx context.Context, q querier) error {
		sealed, err := scalar[string](ctx, q, "DELETE FROM secrets WHERE name = ? RETURNING value", hostCANext)
		if err != nil {
			return err
		}
		next, err := s.db.ring.Open("secrets", "value", hostCANext, sealed)
		if err != nil {
			return err
		}
		if _, err := s.put(ctx, q, hostCAActive, next, replaceSecret); err != nil || hosts == nil {
			return err
		}
		_, err = s.put(ctx, q, hostCAHosts, hosts, replaceSecret)
		return err
	})
}

const replaceSecret = "DO UPDATE SET value = excluded.value, created = excluded.created"

func (s HostAuthority) put(ctx context.Context, q querier, name string, value []byte, onConflict string) (int64, error) {
	sealed, err := s.db.ring.Seal("secrets", "value", name, value)
	if err != nil {
		return 0, err
	}
	return exec(ctx, q, "INSERT INTO secrets (name, value, created) VALUES (?, ?, ?) ON CONFLICT (name) "+onConflict, name, sealed, ms(s.db.now()))
}
