package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/policy"
	"sallyport/store"
	"sallyport/upstream"
)

const seeTargets = "see: sallyport target list"

// target finds a target by name.
func (s *Server) target(ctx context.Context, name string) (store.Target, error) {
	t, err := s.cfg.Store.Targets.ByName(ctx, name)
	return t, ifNotFound(err, seeTargets, "there is no target %s", audit.Escape(name))
}

// targets lists the targets, newest first.
func (s *Server) targets(ctx context.Context) ([]store.Target, error) {
	targets, err := s.cfg.Store.Targets.List(ctx)
	if err != nil {
		return nil, err
	}
	// Ids are UUIDv7: they grow with time, also within a millisecond.
	slices.SortFunc(targets, func(a, b store.Target) int { return strings.Compare(b.ID, a.ID) })
	return targets, nil
}

// addTarget puts a host behind the bastion.
func (s *Server) addTarget(ctx context.Context, by Caller, n NewTarget) (store.Target, error) {
	t, err := newTarget(n)
	if err != nil {
		return store.Target{}, err
	}
	secret, err := credentialSecret(t.Credential, "", n.Password)
	if err != nil {
		return store.Target{}, err
	}
	t, err = s.cfg.Store.Targets.AddWithSecret(ctx, t, secret)
	err = routeProblem(err)
	if errors.Is(err, store.ErrExists) {
		err = conflict(seeTargets, "there is a target %s already", n.Name)
	}
	if err != nil {
		return store.Target{}, err
	}
	s.changed(ctx, by, "target.add", audit.Event{Target: t.Name, Detail: map[string]string{
		"address": t.Address, "accounts": strings.Join(t.Accounts, ","), "host-key-mode": t.HostKeyMode, "host-keys": strings.Join(fingerprints(t.HostKeys), ","),
		"host-cas": strings.Join(fingerprints(t.HostCAs), ","), "credential": t.Credential, "via": viaText(t),
	}})
	return t, nil
}

// newTarget checks what was asked for and brings it into the form that is stored.
func newTarget(n NewTarget) (store.Target, error) {
	address, err := canonicalAddress(n.Address)
	if err != nil {
		return store.Target{}, err
	}
	if err := errors.Join(checkTargetName(n.Name), checkAccounts(n.Accounts), checkLabels(n.Labels), checkText("note", n.Note, 2000)); err != nil {
		return store.Target{}, err
	}
	t := store.Target{
		Name: n.Name, Address: address, Accounts: append([]string{}, n.Accounts...), Labels: n.Labels,
		HostKeyMode: n.HostKeyMode, Credential: n.Credential, Lockout: n.Lockout, Note: n.Note,
	}
	if t.Via, t.ViaAccount, err = parseVia(n.Via); err != nil {
		return store.Target{}, err
	}
	if t.HostKeys, err = keyLines(n.HostKeys); err != nil {
		return store.Target{}, err
	}
	if t.HostCAs, err = keyLines(n.HostCAs); err != nil {
		return store.Target{}, err
	}
	if t.HostKeyMode == "" {
		t.HostKeyMode = store.Pinned
	}
	if t.Credential == "" {
		t.Credential = store.CredentialKey
	}
	return t, checkTrust(t)
}

// keyLines brings keys into the form that is stored, each once.
func keyLines(given []string) ([]string, error) {
	lines := []string{}
	for _, line := range given {
		key, err := parseHostKey(line)
		if err != nil {
			return nil, err
		}
		if k := keyLine(key); !slices.Contains(lines, k) {
			lines = append(lines, k)
		}
	}
	return lines, nil
}

// checkTrust refuses a target that nobody could connect to, or that would get a password from whoever
// answers first.
func checkTrust(t store.Target) error {
	switch {
	case t.HostKeyMode == store.Pinned && len(t.HostKeys) == 0:
		return invalid("give --host-key 'ssh-ed25519 AAAA…' (on the target: cat /etc/ssh/ssh_host_ed25519_key.pub), or --tofu to take the one it shows now",
			"the host key of %s is not known", t.Name)
	case t.HostKeyMode == store.HostCA && len(t.HostCAs) == 0:
		return invalid("give --host-ca 'ssh-ed25519 AAAA…', the public key that signs the host certificates", "the CA of %s is not known", t.Name)
	case (t.Credential == store.CredentialPassword || t.Credential == store.CredentialRelayed) && t.HostKeyMode == store.TOFU && len(t.HostKeys) == 0:
		return invalid("give --host-key 'ssh-ed25519 AAAA…'", "a password is only sent to a host whose key is known, and the one of %s is not", t.Name)
	}
	return nil
}

func fingerprints(lines []string) []string {
	var prints []string
	for _, k := range hostKeys(lines) {
		prints = append(prints, k.Fingerprint)
	}
	return prints
}

// deleteTarget takes a host away from behind the bastion and ends the sessions on it.
func (s *Server) deleteTarget(ctx context.Context, by Caller, name string) error {
	err := routeProblem(s.cfg.Store.Targets.Delete(ctx, name))
	if err := ifNotFound(err, seeTargets, "there is no target %s", audit.Escape(name)); err != nil {
		return err
	}
	s.changed(ctx, by, "target.delete", audit.Event{Target: name})
	s.endSessions(ctx, by, store.SessionFilter{Target: name}, "the target was removed from the bastion")
	return nil
}

// scan returns the host keys that an address shows. Nothing proves that they are the right ones.
func (s *Server) scan(ctx context.Context, address, via string) ([]HostKey, error) {
	address, err := canonicalAddress(address)
	if err != nil {
		return nil, err
	}
	t := store.Target{Name: address, Address: address}
	if t.Via, t.ViaAccount, err = parseVia(via); err != nil {
		return nil, err
	}
	keys, err := s.cfg.Dialer.Scan(ctx, t)
	if err != nil {
		return nil, unreachable(address, err)
	}
	shown := []HostKey{}
	for _, k := range keys {
		shown = append(shown, HostKey{Key: keyLine(k), Fingerprint: ssh.FingerprintSHA256(k)})
	}
	if len(shown) == 0 {
		return nil, unreachable(address, errors.New("it shows no host key that can be used"))
	}
	return shown, nil
}

func unreachable(address string, err error) error {
	detail := audit.Escape(err.Error())
	var e *upstream.Error
	if errors.As(err, &e) {
		detail = e.Public
	}
	return &Problem{
		Status: http.StatusBadGateway, Detail: detail,
		Hint: "see that an SSH server listens at " + address + " and that no firewall stands between it and the bastion",
	}
}

// checkTarget tries a target as a session would.
func (s *Server) checkTarget(ctx context.Context, name, account string) (Check, error) {
	t, err := s.target(ctx, name)
	if err != nil {
		return Check{}, err
	}
	if account, err = oneAccount(t, account); err != nil {
		return Check{}, err
	}
	c := Check{ID: t.ID, Target: t.Name, Account: account, OK: true, Steps: []CheckStep{}}
	for _, step := range s.cfg.Dialer.Check(ctx, t, account) {
		c.OK = c.OK && step.OK
		c.Steps = append(c.Steps, CheckStep{Name: step.Name, OK: step.OK, Detail: audit.Escape(step.Detail), Fix: step.Fix})
	}
	return c, nil
}

// oneAccount is the account named, or the target's default. A target without accounts takes any name.
func oneAccount(t store.Target, named string) (string, error) {
	switch {
	case named == "" && len(t.Accounts) > 0:
		return t.Accounts[0], nil
	case named == "":
		return "", invalid("name one: --account NAME", "target %s has no accounts of its own", t.Name)
	case len(t.Accounts) == 0:
		return named, checkAccounts([]string{named})
	case !slices.Contains(t.Accounts, named):
		return "", invalid("it has: "+strings.Join(t.Accounts, ", "), "target %s has no account %s", t.Name, audit.Escape(named))
	}
	return named, nil
}

// onboarding tells how a target comes to trust the bastion: one line of authorized_keys for each
// account, with no more rights than the rules can grant there.
func (s *Server) onboarding(ctx context.Context, name, account string) (Onboarding, error) {
	t, err := s.target(ctx, name)
	if err != nil {
		return Onboarding{}, err
	}
	accounts := t.Accounts
	if account != "" || len(accounts) == 0 {
		one, err := oneAccount(t, account)
		if err != nil {
			return Onboarding{}, err
		}
		accounts = []string{one}
	}
	doc, _, err := s.cfg.Engine.Rules(ctx)
	if err != nil {
		return Onboarding{}, err
	}
	o := Onboarding{ID: t.ID, Target: t.Name, Address: t.Address, Kinds: doc.KindsFor(policy.Target{Name: t.Name, Labels: t.Labels})}
	o.Credential, o.AuthorizedKeys = t.Credential, []AuthorizedKey{}
	if t.Credential == store.CredentialCertificate {
		ca, err := s.userCA(ctx)
		if err != nil {
			return Onboarding{}, err
		}
		o.UserCA = &ca
	}
	key, err := s.cfg.Dialer.TargetKey(ctx, t)
	if err != nil {
		return Onboarding{}, err
	}
	addresses, note, err := s.sources(ctx, t)
	if err != nil {
		return Onboarding{}, err
	}
	jump, err := s.isJumpHost(ctx, t.Name)
	if err != nil {
		return Onboarding{}, err
	}
	if key != "" {
		line := onboardingOptions(addresses, o.Kinds, jump) + " " + key
		for _, a := range accounts {
			o.AuthorizedKeys = append(o.AuthorizedKeys, AuthorizedKey{Account: a, Line: line})
		}
	}
	o.Warning = onboardingWarning(t, addresses, o.Kinds)
	if note != "" {
		o.Warning = strings.TrimPrefix(o.Warning+"\n"+note, "\n")
	}
	return o, nil
}

// sources are the addresses from which t sees the bastion come, as far as they are known here; behind a jump
// host they are that one's, and note says so.
func (s *Server) sources(ctx context.Context, t store.Target) (addresses []string, note string, err error) {
	if t.Via == "" {
		return s.cfg.Addresses, "", nil
	}
	jump, err := s.target(ctx, t.Via)
	if err != nil {
		return nil, "", err
	}
	host, _, _ := net.SplitHostPort(jump.Address)
	switch addr, err := netip.ParseAddr(host); {
	case t.Credential == store.CredentialCertificate:
		return nil, fmt.Sprintf("%s is reached through %s and sees the address of that host, so certificates for it name no source-address: for five minutes each would be taken from anywhere.", t.Name, t.Via), nil
	case t.Credential == store.CredentialPassword, t.Credential == store.CredentialRelayed:
		return nil, "", nil
	case err != nil:
		return nil, fmt.Sprintf(`%s is reached through %s and sees the address of that host, which is not known here: write it into the line yourself, as from="…".`, t.Name, t.Via), nil
	default:
		return []string{addr.String()}, fmt.Sprintf(`%s is reached through %s, so from="…" names that host as it is known here. If it has another address on the side of %s, write that one.`, t.Name, t.Via, t.Name), nil
	}
}

// isJumpHost tells whether other targets are reached through the one of a name.
func (s *Server) isJumpHost(ctx context.Context, name string) (bool, error) {
	all, err := s.cfg.Store.Targets.List(ctx)
	return slices.ContainsFunc(all, func(t store.Target) bool { return t.Via == name }), err
}

// routeProblem puts a way that does not work into words for operators.
func routeProblem(err error) error {
	var route *store.RouteError
	if errors.As(err, &route) {
		return conflict("see: sallyport target list, and --via of target add and update", "%s", audit.Escape(route.Text))
	}
	return err
}

// onboardingOptions are the options of the authorized_keys line (sshd(8), AUTHORIZED_KEYS FILE FORMAT):
// everything is taken away by restrict, then what the rules can grant, and what a jump host needs, is given
// back.
func onboardingOptions(addresses, kinds []string, jump bool) string {
	var options []string
	if len(addresses) > 0 {
		options = append(options, `from="`+strings.Join(addresses, ",")+`"`)
	}
	options = append(options, "restrict")
	for _, o := range []struct {
		option string
		kinds  []string
	}{
		{"pty", []string{policy.Shell}},
		{"port-forwarding", []string{policy.LocalForward, policy.Dynamic, policy.RemoteForward, policy.UnixForward}},
		{"agent-forwarding", []string{policy.Agent}},
		{"X11-forwarding", []string{policy.X11}},
	} {
		if slices.ContainsFunc(o.kinds, func(k string) bool { return slices.Contains(kinds, k) }) || jump && o.option == "port-forwarding" {
			options = append(options, o.option)
		}
	}
	return strings.Join(options, ",")
}

func onboardingWarning(t store.Target, addresses, kinds []string) string {
	var warnings []string
	if len(kinds) == 0 {
		warnings = append(warnings, fmt.Sprintf("No rule lets anybody in to %s yet: write one and apply it (sallyport export > rules.yaml), then run this again.", t.Name))
	}
	if t.Via != "" {
		return strings.Join(warnings, "\n")
	}
	if len(addresses) == 0 && t.Credential == store.CredentialCertificate {
		warnings = append(warnings, `The configuration does not say which addresses targets see the bastion come from (ssh: addresses), so certificates name no source-address: for five minutes each would be taken from anywhere.`)
	} else if len(addresses) == 0 && t.Credential != store.CredentialPassword && t.Credential != store.CredentialRelayed {
		warnings = append(warnings, `The configuration does not say which addresses targets see the bastion come from (ssh: addresses), so the line has no from="…": the key would be taken from anywhere.`)
	}
	return strings.Join(warnings, "\n")
}
