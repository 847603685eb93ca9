package upstream

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"

	"sallyport/store"
)

// NewCA makes a key of the user CA.
func NewCA() (publicKey string, secret store.CredentialSecret, err error) {
	if secret, err = NewKey(); err != nil {
		return "", nil, err
	}
	publicKey, err = PublicKeyOf(secret)
	return publicKey, secret, err
}

// PublicKeyOf returns the public half of a private key, in the form of authorized_keys without comment.
func PublicKeyOf(secret store.CredentialSecret) (string, error) {
	s, err := ssh.ParsePrivateKey(secret)
	if err != nil {
		return "", fmt.Errorf("reading a private key: %w", err)
	}
	return keyLine(s.PublicKey()), nil
}

// signingCA returns the key that signs certificates now. It is read for each, so that a change holds on all
// nodes from the next connection on.
func (d *Dialer) signingCA(ctx context.Context) (ssh.Signer, error) {
	secret, err := d.cfg.Store.CAKeys.Active(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return nil, errors.New("this installation has no user CA")
	}
	if err != nil {
		return nil, err
	}
	s, err := ssh.ParsePrivateKey(secret)
	if err != nil {
		return nil, fmt.Errorf("reading the key of the user CA: %w", err)
	}
	return s, nil
}
