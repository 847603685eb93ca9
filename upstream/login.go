package upstream

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"

	"sallyport/store"
)

// login is how the bastion logs in to one hop. What it says is there once prepare was called; nothing is
// asked of it before, because the host key comes first.
type login struct {
	d     *Dialer
	hop   hop
	limit *limit

	signers  []ssh.Signer
	password store.CredentialSecret
	answered bool // the password went to a prompt
	ask      *questions
	err      error // why there was nothing to log in with, or nothing more
}

// prepare gets what the hop's credential needs, for who.
func (l *login) prepare(ctx context.Context, who Who) error {
	l.err = l.get(ctx, who)
	return l.err
}

func (l *login) get(ctx context.Context, who Who) (err error) {
	t := l.hop.target
	var signer ssh.Signer
	switch t.Credential {
	case "", store.CredentialKey:
		signer = l.d.cfg.Signer
	case store.CredentialOwnKey:
		signer, err = l.d.ownKey(ctx, t)
	case store.CredentialCertificate:
		signer, err = l.d.certificate(ctx, t, l.hop.account, who, l.d.cfg.Now())
	case store.CredentialPassword:
		if unproved(t) {
			return errors.New("its password is not sent before its host key is known: give it with sallyport target update --host-key")
		}
		l.password, err = l.d.cfg.Store.Targets.Secret(ctx, t.ID)
	case store.CredentialRelayed:
		switch {
		case unproved(t):
			return errors.New("answers are not sent to it before its host key is known: give it with sallyport target update --host-key")
		case who.Ask == nil:
			return fmt.Errorf("it has prompts of its own, and there is no way to show them here. Name it when you log in (ssh you@%s@bastion) with a client that answers prompts, or choose it from the menu", t.Name)
		}
		l.ask = &questions{name: t.Name, ask: who.Ask, limit: l.limit}
	default:
		err = fmt.Errorf("credential %q is not known", t.Credential)
	}
	if signer != nil {
		l.signers = []ssh.Signer{signer}
	}
	return err
}

// forget lets go of secrets once they have done their work: the connection may live for days.
func (l *login) forget() {
	clear(l.password)
	l.signers, l.password, l.ask = nil, nil, nil
}

// unproved tells whether the first host key that comes would be taken.
func unproved(t store.Target) bool {
	return t.HostKeyMode == store.TOFU && len(t.HostKeys) == 0
}

// methods are the ways in that the hop's credential knows.
func (l *login) methods() []ssh.AuthMethod {
	switch l.hop.target.Credential {
	case store.CredentialPassword:
		return []ssh.AuthMethod{
			ssh.PasswordCallback(func() (string, error) { return string(l.password), l.err }),
			ssh.KeyboardInteractive(l.onePrompt),
		}
	case store.CredentialRelayed:
		return []ssh.AuthMethod{
			ssh.RetryableAuthMethod(ssh.KeyboardInteractive(l.relay), 3),
			ssh.RetryableAuthMethod(ssh.PasswordCallback(l.relayPassword), 3),
		}
	}
	return []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return l.signers, l.err })}
}

// onePrompt answers a single prompt without echo with the password.
func (l *login) onePrompt(_, _ string, questions []string, echos []bool) ([]string, error) {
	switch {
	case l.err != nil:
		return nil, l.err
	case len(questions) == 0:
		return nil, nil
	case len(questions) > 1 || echos[0] || l.answered:
		return nil, errors.New("the target asks for more than one password")
	}
	l.answered = true
	return []string{string(l.password)}, nil
}

func (l *login) relay(name, instruction string, questions []string, echos []bool) ([]string, error) {
	if l.err != nil {
		return nil, l.err
	}
	answers, err := l.ask.relay(name, instruction, questions, echos)
	l.err = err
	return answers, err
}

// relayPassword asks the person for the password of the method of that name.
func (l *login) relayPassword() (string, error) {
	answers, err := l.relay("", "", []string{"Password: "}, []bool{false})
	if err != nil {
		return "", err
	}
	return answers[0], nil
}
