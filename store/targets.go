package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// How the host key of a target comes to be known.
const (
	Pinned = "pinned" // an operator gave it
	TOFU   = "tofu"   // the first one seen is trusted from then on
	HostCA = "ca"     // it comes with a certificate from one of Target.HostCAs
)

// How the bastion logs in to a target.
const (
	CredentialKey         = "key"         // with the bastion's one key
	CredentialOwnKey      = "own-key"     // with a key made for this target
	CredentialCertificate = "certificate" // with a certificate from the bastion's CA, made for the connection
	CredentialPassword    = "password"    // with a password
	CredentialRelayed     = "relayed"     // with what the person answers to the target's own prompts
)

// CredentialSecret is what a target's own key or password is kept as; it never prints itself.
type CredentialSecret []byte

// String hides the secret.
func (CredentialSecret) String() string { return "[secret]" }

// GoString hides the secret.
func (CredentialSecret) GoString() string { return "[secret]" }

// Format hides the secret from every verb of package fmt.
func (CredentialSecret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// MarshalJSON hides the secret.
func (CredentialSecret) MarshalJSON() ([]byte, error) { return []byte(`"[secret]"`), nil }

// Target is a host that sessions go to.
type Target struct {
	ID          string
	Name        string // unique
	Address     string // host:port
	Accounts    []string
	Labels      map[string]string
	HostKeyMode string   // Pinned (the default), TOFU or HostCA
	HostKeys    []string // form of authorized_keys without comment
	HostCAs     []string // keys that sign host certificates, in the same form
	RevokedKeys []string // never taken, neither as host key nor as CA, in the same form
	Credential  string   // CredentialKey (the default) or another of them
	Via         string   // name of the target that it is reached through; "": none
	ViaAccount  string   // account there; "": its first
	Lockout     int      // stricter limit of failures, 0: none
	Note        string
	Created     time.Time
}

// Targets is the table of targets.
type Targets struct{ db *db }

const targetColumns = "id, name, address, accounts, labels, host_key_mode, host_keys, lockout, note, host_cas, revoked_keys, credential, via, via_account, created"

func targetFields(t *Target) []any {
	return []any{
		&t.ID, &t.Name, &t.Address, jsonColumn{&t.Accounts}, jsonColumn{&t.Labels}, &t.HostKeyMode,
		jsonColumn{&t.HostKeys}, &t.Lockout, &t.Note, jsonColumn{&t.HostCAs}, jsonColumn{&t.RevokedKeys}, &t.Credential, &t.Via, &t.ViaAccount, timeColumn{&t.Created},
	}
}

// targetValues returns the columns of t from name to via_account.
func targetValues(t Target) ([]any, error) {
	if t.Name == "" || t.Address == "" {
		return nil, errors.New("name or address is missing")
	}
	if t.Via == "" && t.ViaAccount != "" {
		return nil, errors.New("an account of no jump host")
	}
	if t.HostKeyMode == "" {
		t.HostKeyMode = Pinned
	}
	if t.Credential == "" {
		t.Credential = CredentialKey
	}
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	accounts, err1 := toJSON(list(t.Accounts))
	labels, err2 := toJSON(t.Labels)
	hostKeys, err3 := toJSON(list(t.HostKeys))
	cas, err4 := toJSON(list(t.HostCAs))
	revoked, err5 := toJSON(list(t.RevokedKeys))
	return []any{t.Name, t.Address, accounts, labels, t.HostKeyMode, hostKeys, t.Lockout, t.Note, cas, revoked, t.Credential, t.Via, t.ViaAccount},
		errors.Join(err1, err2, err3, err4, err5)
}

// Add makes a target. The error is [ErrExists] if there is one of this name.
func (s Targets) Add(ctx context.Context, t Target) (Target, error) {
	return s.AddWithSecret(ctx, t, nil)
}

// AddWithSecret makes a target whose credential needs a secret: a private key or a password.
func (s Targets) AddWithSecret(ctx context.Context, t Target, secret CredentialSecret) (Target, error) {
	what := "adding target " + t.Name
	values, err := targetValues(t)
	if err != nil {
		return Target{}, fmt.Errorf("%s: %w", what, err)
	}
	id, err := newID()
	if err != nil {
		return Target{}, fmt.Errorf("%s: %w", what, err)
	}
	sealed, err := s.seal(id, t.Credential, secret)
	if err != nil {
		return Target{}, fmt.Errorf("%s: %w", what, err)
	}
	err = s.db.changing(ctx, what, func(ctx context.Context, q querier) (err error) {
		if t.Via != "" {
			if err := errors.Join(s.db.lock(ctx, q, lockRoutes), s.checkRoutes(ctx, q, t)); err != nil {
				return err
			}
		}
		t, err = one(ctx, q, targetFields, `INSERT INTO targets
			(name, address, accounts, labels, host_key_mode, host_keys, lockout, note, host_cas, revoked_keys, credential, via, via_account, id, created, secret)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING `+targetColumns, append(values, id, ms(s.db.now()), sealed)...)
		return err
	})
	if err != nil {
		return Target{}, err
	}
	return t, nil
}

// needsSecret tells whether a credential is nothing without a secret.
func needsSecret(credential string) bool {
	return credential == CredentialOwnKey || credential == CredentialPassword
}

// seal binds the secret of a credential to its target.
func (s Targets) seal(id, credential string, secret CredentialSecret) (string, error) {
	switch {
	case needsSecret(credential) && len(secret) == 0:
		return "", fmt.Errorf("the secret of credential %s is missing", credential)
	case !needsSecret(credential) && len(secret) > 0:
		return "", errors.New("this credential has no secret")
	case len(secret) == 0:
		return "", nil
	}
	return s.db.ring.Seal("targets", "secret", id, secret)
}

// Secret returns the secret of a target's credential, or [ErrNotFound] if it has none.
func (s Targets) Secret(ctx context.Context, id string) (CredentialSecret, error) {
	what := "reading the credential of target " + id
	var sealed string
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		sealed, err = scalar[string](ctx, q, "SELECT secret FROM targets WHERE id = ?", id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if sealed == "" {
		return nil, fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	secret, err := s.db.ring.Open("targets", "secret", id, sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return secret, nil
}

// Update replaces everything of the target with t's id, except the time of creation and the secret. The
// error is a *[RouteError] if targets could not be reached through each other any more.
func (s Targets) Update(ctx context.Context, t Target) error {
	return s.db.withdrawing(ctx, "changing target "+t.Name, "", func(ctx context.Context, q querier) error {
		if err := s.db.lock(ctx, q, lockRoutes); err != nil {
			return err
		}
		before, err := s.hold(ctx, q, "id = ?", t.ID)
		if err != nil {
			return err
		}
		return s.update(ctx, q, before, t)
	})
}

// update makes t of before, with lockRoutes held.
func (s Targets) update(ctx context.Context, q querier, before, t Target) error {
	if before.Name != t.Name {
		if err := s.keepRoutes(ctx, q, before.Name); err != nil {
			return err
		}
	}
	if err := s.checkRoutes(ctx, q, t); err != nil {
		return err
	}
	return updateTarget(ctx, q, t)
}

func updateTarget(ctx context.Context, q querier, t Target) error {
	values, err := targetValues(t)
	if err != nil {
		return err
	}
	return execOne(ctx, q, `UPDATE targets SET name = ?, address = ?, accounts = ?, labels = ?, host_key_mode = ?,
		host_keys = ?, lockout = ?, note = ?, host_cas = ?, revoked_keys = ?, credential = ?,
		via = ?, via_account = ? WHERE id = ?`, append(values, t.ID)...)
}

// Change lets change alter the target of a name while nobody else can, and returns what it has
// become. A secret that change returns takes the place of the one before; nil keeps that, as long as
// the credential needs one. If change returns an error, nothing happens and Change returns it. change
// must not use the store. The error is a *[RouteError] if targets could not be reached through each other
// any more.
func (s Targets) Change(ctx context.Context, name string, change func(*Target) (CredentialSecret, error)) (Target, error) {
	var t Target
	err := s.db.withdrawing(ctx, "changing target "+name, "", func(ctx context.Context, q querier) (err error) {
		// The lock before the row, in the same order as everybody.
		if err := s.db.lock(ctx, q, lockRoutes); err != nil {
			return err
		}
		if t, err = s.hold(ctx, q, "name = ?", name); err != nil {
			return err
		}
		before := t
		secret, err := change(&t)
		if err != nil {
			return err
		}
		id := before.ID
		t.ID = id
		if err := s.update(ctx, q, before, t); err != nil {
			return err
		}
		if secret == nil && needsSecret(t.Credential) && t.Credential == before.Credential {
			return nil
		}
		sealed, err := s.seal(id, t.Credential, secret)
		if err != nil {
			return err
		}
		return execOne(ctx, q, "UPDATE targets SET secret = ? WHERE id = ?", sealed, id)
	})
	return t, err
}

// hold reads a target and keeps others from changing it until the transaction ends. SQLite has one
// writer at a time anyway.
func (s Targets) hold(ctx context.Context, tx querier, condition, value string) (Target, error) {
	query := "SELECT " + targetColumns + " FROM targets WHERE " + condition
	if s.db.postgres() {
		query += " FOR UPDATE"
	}
	return one(ctx, tx, targetFields, query, value)
}

// TrustHostKey makes key the host key of a target, only if none is known and the target trusts on
// first use. It tells whether it did: of many at once one gets true, and the others have to compare
// with the key that is known now.
func (s Targets) TrustHostKey(ctx context.Context, id, key string) (bool, error) {
	what := "trusting the host key of target " + id
	keys, err := toJSON([]string{key})
	if err != nil || key == "" {
		return false, fmt.Errorf("%s: %w", what, errors.Join(err, errors.New("the key is missing")))
	}
	trusted := false
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		n, err := exec(ctx, q, "UPDATE targets SET host_keys = ? WHERE id = ? AND host_key_mode = ? AND host_keys = '[]'",
			keys, id, TOFU)
		trusted = n == 1
		return err
	})
	return trusted && err == nil, err
}

// ByName returns a target, or [ErrNotFound].
func (s Targets) ByName(ctx context.Context, name string) (Target, error) {
	return s.find(ctx, "reading target "+name, "name = ?", name)
}

// ByID returns a target, or [ErrNotFound].
func (s Targets) ByID(ctx context.Context, id string) (Target, error) {
	return s.find(ctx, "reading target "+id, "id = ?", id)
}

func (s Targets) find(ctx context.Context, what, condition, value string) (Target, error) {
	var t Target
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		t, err = one(ctx, q, targetFields, "SELECT "+targetColumns+" FROM targets WHERE "+condition, value)
		return err
	})
	return t, err
}

// List returns all targets in the natural order of their names: web2 before web10.
func (s Targets) List(ctx context.Context) ([]Target, error) {
	var targets []Target
	err := s.db.reading(ctx, "listing targets", func(ctx context.Context, q querier) (err error) {
		targets, err = all(ctx, q, targetFields, "SELECT "+targetColumns+" FROM targets")
		return err
	})
	slices.SortFunc(targets, func(a, b Target) int { return compareNatural(a.Name, b.Name) })
	return targets, err
}

// Where returns all targets in no order, with ID, Name, Address and Via alone: of thousands, reading all else takes a while.
func (s Targets) Where(ctx context.Context) ([]Target, error) {
	var targets []Target
	err := s.db.reading(ctx, "listing where targets are", func(ctx context.Context, q querier) (err error) {
		fields := func(t *Target) []any { return []any{&t.ID, &t.Name, &t.Address, &t.Via} }
		targets, err = all(ctx, q, fields, "SELECT id, name, address, via FROM targets")
		return err
	})
	return targets, err
}

// Delete removes a target. The error is a *[RouteError] while others are reached through it.
func (s Targets) Delete(ctx context.Context, name string) error {
	return s.db.withdrawing(ctx, "deleting target "+name, "", func(ctx context.Context, q querier) error {
		if err := errors.Join(s.db.lock(ctx, q, lockRoutes), s.keepRoutes(ctx, q, name)); err != nil {
			return err
		}
		return execOne(ctx, q, "DELETE FROM targets WHERE name = ?", name)
	})
}

// compareNatural compares names with runs of digits in them as numbers.
func compareNatural(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		p, q := leadingRun(x), leadingRun(y)
		x, y = x[len(p):], y[len(q):]
		if isDigit(p[0]) && isDigit(q[0]) {
			p, q = strings.TrimLeft(p, "0"), strings.TrimLeft(q, "0")
			if len(p) != len(q) {
				return len(p) - len(q)
			}
		}
		if c := strings.Compare(p, q); c != 0 {
			return c
		}
	}
	if c := len(x) - len(y); c != 0 {
		return c
	}
	return strings.Compare(a, b) // web01 and web1
}

// leadingRun returns the digits, or the other characters, at the start of s, which is not empty.
func leadingRun(s string) string {
	digits := isDigit(s[0])
	for i := range len(s) {
		if isDigit(s[i]) != digits {
			return s[:i]
		}
	}
	return s
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
