package admin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/audit"
	"sallyport/store"
	"sallyport/upstream"
)

// credentialSecret is the secret for a credential in the place of another one ("" for a new target);
// nil if there is none or the one there is stays.
func credentialSecret(credential, before, password string) (store.CredentialSecret, error) {
	if password != "" && credential != store.CredentialPassword {
		return nil, invalid("say --credential password, or leave the password out", "credential %s has no password", credential)
	}
	switch {
	case credential == store.CredentialOwnKey && before != store.CredentialOwnKey:
		return upstream.NewKey()
	case credential == store.CredentialPassword && password == "" && before != store.CredentialPassword:
		return nil, invalid("give it in a file: --password-file FILE, or - for standard input", "the password is missing")
	case password != "" && (!utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl)):
		return nil, invalid("use printable characters", "this password cannot be typed at a prompt")
	case password != "":
		return store.CredentialSecret(password), nil
	}
	return nil, nil
}

// changeTarget changes what is named in n. Sessions that are open go on.
func (s *Server) changeTarget(ctx context.Context, by Caller, name string, n TargetChange) (store.Target, error) {
	detail := map[string]string{}
	t, err := s.cfg.Store.Targets.Change(ctx, name, func(t *store.Target) (store.CredentialSecret, error) {
		before := t.Credential
		if err := applyChange(t, n, detail); err != nil {
			return nil, err
		}
		if n.Password != "" {
			detail["password"] = "changed"
		}
		return credentialSecret(t.Credential, before, n.Password)
	})
	if err := ifNotFound(routeProblem(err), seeTargets, "there is no target %s", audit.Escape(name)); err != nil {
		return store.Target{}, err
	}
	s.changed(ctx, by, "target.update", audit.Event{Target: t.Name, Detail: detail})
	return t, s.cfg.Store.HostKeys.Forget(ctx, t.ID, t.HostKeys)
}

// applyChange does n to t and notes it in detail. Time in here is time that a row is held.
func applyChange(t *store.Target, n TargetChange, detail map[string]string) error {
	var err error
	if n.Address != "" {
		if t.Address, err = canonicalAddress(n.Address); err != nil {
			return err
		}
		detail["address"] = t.Address
	}
	switch n.Via {
	case "":
	case "-":
		t.Via, t.ViaAccount, detail["via"] = "", "", "none"
	default:
		if t.Via, t.ViaAccount, err = parseVia(n.Via); err != nil {
			return err
		}
		detail["via"] = viaText(*t)
	}
	if err := errors.Join(checkAccounts(n.Accounts), checkLabels(n.Labels), checkText("note", n.Note, 2000)); err != nil {
		return err
	}
	if len(n.Accounts) > 0 {
		t.Accounts, detail["accounts"] = n.Accounts, strings.Join(n.Accounts, ",")
	}
	if len(n.Labels) > 0 {
		t.Labels, detail["labels"] = n.Labels, labelText(n.Labels)
	}
	if n.Note != "" {
		t.Note, detail["note"] = n.Note, n.Note
	}
	if n.Credential != "" {
		t.Credential, detail["credential"] = n.Credential, n.Credential
	}
	if err := applyHostKeys(t, n, detail); err != nil {
		return err
	}
	return checkTrust(*t)
}

// applyHostKeys changes how t proves who it is. Keys without a mode mean the mode that takes them, and
// a key that an operator gives is no longer revoked.
func applyHostKeys(t *store.Target, n TargetChange, detail map[string]string) (err error) {
	if len(n.HostKeys) > 0 {
		if t.HostKeys, err = keyLines(n.HostKeys); err != nil {
			return err
		}
		t.HostKeyMode, detail["host-keys"] = store.Pinned, strings.Join(fingerprints(t.HostKeys), ",")
	}
	if len(n.HostCAs) > 0 {
		if t.HostCAs, err = keyLines(n.HostCAs); err != nil {
			return err
		}
		t.HostKeyMode, detail["host-cas"] = store.HostCA, strings.Join(fingerprints(t.HostCAs), ",")
	}
	if n.HostKeyMode != "" {
		t.HostKeyMode = n.HostKeyMode
	}
	if n.HostKeyMode != "" || len(n.HostKeys)+len(n.HostCAs) > 0 {
		detail["host-key-mode"] = t.HostKeyMode
	}
	t.RevokedKeys = without(t.RevokedKeys, append(t.HostKeys[:len(t.HostKeys):len(t.HostKeys)], t.HostCAs...))
	return nil
}

// without returns the lines that are not among others.
func without(lines, others []string) []string {
	kept := []string{}
	for _, l := range lines {
		if !slices.Contains(others, l) {
			kept = append(kept, l)
		}
	}
	return kept
}

// labelText is labels in one line, sorted.
func labelText(labels map[string]string) string {
	var list []string
	for k, v := range labels {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}
