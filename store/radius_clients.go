package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MinSharedSecret is how long the secret of a RADIUS client must be, in bytes.
const MinSharedSecret = 16

// What a RADIUS client sends as the password.
const (
	RadiusCode         = "code"          // the one-time code alone: somebody else has checked the password
	RadiusPasswordCode = "password+code" // the password and the code after it
	RadiusChallenge    = "challenge"     // the password, and the code when it is asked for
)

// Whether a RADIUS client must send Message-Authenticator.
const (
	AuthenticatorYes  = "yes"
	AuthenticatorNo   = "no"
	AuthenticatorAuto = "auto" // from the first valid one on
)

// SharedSecret is what a RADIUS client and the server both know; it never prints itself.
type SharedSecret []byte

// String hides the secret.
func (SharedSecret) String() string { return "[secret]" }

// GoString hides the secret.
func (SharedSecret) GoString() string { return "[secret]" }

// Format hides the secret from every verb of package fmt.
func (SharedSecret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// MarshalJSON hides the secret.
func (SharedSecret) MarshalJSON() ([]byte, error) { return []byte(`"[secret]"`), nil }

// RadiusClient is a VPN server, gateway or the like that asks by RADIUS.
type RadiusClient struct {
	ID                   string
	Name                 string        // unique; what rules call targets
	Networks             []string      // prefixes it asks from
	NASIdentifier        string        // that it sends, to tell it from others at the same addresses; "": any
	Certificate          string        // SHA-256 of the certificate that it shows by TLS, in hexadecimal digits; "": it comes by UDP
	CertificateName      string        // subject alternative name in the certificate that it shows by TLS, such as dns:vpn.example.org; "": none
	Mode                 string        // RadiusCode or another of them
	Separator            string        // between password and code; "": the code is as long as the person's tokens show
	MessageAuthenticator string        // AuthenticatorYes or another of them
	Authenticated        time.Time     // when the first valid Message-Authenticator came; zero: none yet
	SendsAuthenticator   bool          // replies carry Message-Authenticator
	AssertsSource        bool          // what it says about the person's address is believed
	SourceAttribute      int           // type of the attribute with that address
	Remember             time.Duration // how long a person need not type a code again; 0: not at all
	CHAP                 bool          // CHAP is answered; only with RadiusCode
	LegacyMSCHAPv2       bool          // MS-CHAPv2 is answered; only with RadiusCode
	Note                 string
	Enabled              bool
	Created              time.Time
}

// DemandsAuthenticator tells whether a request of c without Message-Authenticator is discarded.
func (c RadiusClient) DemandsAuthenticator() bool {
	return c.MessageAuthenticator == AuthenticatorYes || c.MessageAuthenticator == AuthenticatorAuto && !c.Authenticated.IsZero()
}

// RadiusClients is the table of RADIUS clients.
type RadiusClients struct{ db *db }

const radiusColumns = `id, name, networks, nas_identifier, certificate, certificate_name, mode, separator, message_authenticator, authenticated, sends_authenticator,
	asserts_source, source_attribute, remember, chap, legacy_mschapv2, note, enabled, created`

func radiusFields(c *RadiusClient) []any {
	return []any{
		&c.ID, &c.Name, jsonColumn{&c.Networks}, &c.NASIdentifier, &c.Certificate, &c.CertificateName, &c.Mode, &c.Separator, &c.MessageAuthenticator, timeColumn{&c.Authenticated},
		&c.SendsAuthenticator, &c.AssertsSource, &c.SourceAttribute, millisColumn{&c.Remember}, &c.CHAP, &c.LegacyMSCHAPv2, &c.Note, &c.Enabled, timeColumn{&c.Created},
	}
}

// millisColumn scans a length of time in milliseconds.
type millisColumn struct{ to *time.Duration }

func (c millisColumn) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("scanning %T as a length of time", v)
	}
	*c.to = time.Duration(n) * time.Millisecond
	return nil
}

// radiusValues returns the columns of c from networks to enabled, in the order of radiusColumns.
func radiusValues(c RadiusClient) ([]any, error) {
	if c.Name == "" || len(c.Networks) == 0 || c.Mode == "" || c.MessageAuthenticator == "" {
		return nil, errors.New("name, networks, mode or the demand for Message-Authenticator is missing")
	}
	networks, err := toJSON(c.Networks)
	return []any{
		networks, c.NASIdentifier, c.Certificate, c.CertificateName, c.Mode, c.Separator, c.MessageAuthenticator, ms(c.Authenticated), c.SendsAuthenticator,
		c.AssertsSource, c.SourceAttribute, c.Remember.Milliseconds(), c.CHAP, c.LegacyMSCHAPv2, c.Note, c.Enabled,
	}, err
}

// Add makes a client. The error is [ErrExists] if there is one of this name.
func (s RadiusClients) Add(ctx context.Context, c RadiusClient, secret SharedSecret) (RadiusClient, error) {
	what := "adding RADIUS client " + c.Name
	values, err := radiusValues(c)
	if err != nil {
		return RadiusClient{}, fmt.Errorf("%s: %w", what, err)
	}
	id, err := newID()
	if err != nil {
		return RadiusClient{}, fmt.Errorf("%s: %w", what, err)
	}
	sealed, err := s.seal(id, secret)
	if err != nil {
		return RadiusClient{}, fmt.Errorf("%s: %w", what, err)
	}
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) (err error) {
		c, err = one(ctx, q, radiusFields, `INSERT INTO radius_clients (networks, nas_identifier, certificate, certificate_name, mode, separator, message_authenticator,
				authenticated, sends_authenticator, asserts_source, source_attribute, remember, chap, legacy_mschapv2, note, enabled, id, name, created, secret)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING `+radiusColumns, append(values, id, c.Name, ms(s.db.now()), sealed)...)
		return err
	})
	if err != nil {
		return RadiusClient{}, err
	}
	return c, nil
}

func (s RadiusClients) seal(id string, secret SharedSecret) (string, error) {
	if len(secret) < MinSharedSecret {
		return "", fmt.Errorf("the secret is shorter than %d bytes", MinSharedSecret)
	}
	return s.db.ring.Seal("radius_clients", "secret", id, secret)
}

// List returns all clients, newest first.
func (s RadiusClients) List(ctx context.Context) ([]RadiusClient, error) {
	var list []RadiusClient
	err := s.db.reading(ctx, "listing RADIUS clients", func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, radiusFields, "SELECT "+radiusColumns+" FROM radius_clients ORDER BY id DESC")
		return err
	})
	return list, err
}

// ByName returns the client of a name, or [ErrNotFound].
func (s RadiusClients) ByName(ctx context.Context, name string) (RadiusClient, error) {
	var c RadiusClient
	err := s.db.briefly(ctx, "reading RADIUS client "+name, func(ctx context.Context, q querier) (err error) {
		c, err = one(ctx, q, radiusFields, "SELECT "+radiusColumns+" FROM radius_clients WHERE name = ?", name)
		return err
	})
	return c, err
}

// Secret returns the secret of a client.
func (s RadiusClients) Secret(ctx context.Context, id string) (SharedSecret, error) {
	what := "reading the secret of RADIUS client " + id
	var sealed string
	err := s.db.briefly(ctx, what, func(ctx context.Context, q querier) (err error) {
		sealed, err = scalar[string](ctx, q, "SELECT secret FROM radius_clients WHERE id = ?", id)
		return err
	})
	if err != nil {
		return nil, err
	}
	secret, err := s.db.ring.Open("radius_clients", "secret", id, sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return secret, nil
}

// Change lets change alter everything of a client but its name, while nobody else does. A secret that change
// returns takes the place of the one before; nil keeps that. Its error is returned as it is.
func (s RadiusClients) Change(ctx context.Context, name string, change func(*RadiusClient) (SharedSecret, error)) (RadiusClient, error) {
	var c RadiusClient
	err := s.db.changing(ctx, "changing RADIUS client "+name, func(ctx context.Context, tx querier) error {
		query := "SELECT " + radiusColumns + " FROM radius_clients WHERE name = ?"
		if s.db.postgres() {
			query += " FOR UPDATE"
		}
		var err error
		if c, err = one(ctx, tx, radiusFields, query, name); err != nil {
			return err
		}
		id := c.ID
		secret, err := change(&c)
		if err != nil {
			return err
		}
		values, err := radiusValues(c)
		if err != nil {
			return err
		}
		if secret != nil {
			sealed, err := s.seal(id, secret)
			if err != nil {
				return err
			}
			if err := execOne(ctx, tx, "UPDATE radius_clients SET secret = ? WHERE id = ?", sealed, id); err != nil {
				return err
			}
		}
		c, err = one(ctx, tx, radiusFields, `UPDATE radius_clients SET networks = ?, nas_identifier = ?, certificate = ?, certificate_name = ?, mode = ?, separator = ?,
				message_authenticator = ?, authenticated = ?, sends_authenticator = ?, asserts_source = ?, source_attribute = ?, remember = ?, chap = ?, legacy_mschapv2 = ?, note = ?, enabled = ?
			WHERE id = ? RETURNING `+radiusColumns, append(values, id)...)
		return err
	})
	if err != nil {
		return RadiusClient{}, err
	}
	return c, nil
}

// SeenAuthenticated notes that a client has sent its first valid Message-Authenticator.
func (s RadiusClients) SeenAuthenticated(ctx context.Context, id string) error {
	return s.db.writing(ctx, "noting Message-Authenticator of RADIUS client "+id, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "UPDATE radius_clients SET authenticated = ? WHERE id = ? AND authenticated = 0", ms(s.db.now()), id)
		return err
	})
}

// Delete removes the client of a name, and all that was heard of it.
func (s RadiusClients) Delete(ctx context.Context, name string) error {
	return s.db.changing(ctx, "deleting RADIUS client "+name, func(ctx context.Context, tx querier) error {
		id, err := scalar[string](ctx, tx, "DELETE FROM radius_clients WHERE name = ? RETURNING id", name)
		if err != nil {
			return err
		}
		_, err = exec(ctx, tx, "DELETE FROM radius_counts WHERE client_id = ?", id)
		return err
	})
}

// RadiusCount is how often something was heard of a client, on all nodes.
type RadiusCount struct {
	ClientID string // "": of addresses that are no client's
	Kind     string
	Times    int64
	Last     time.Time
	Detail   string // of the last one
}

// Count adds to what was heard of clients.
func (s RadiusClients) Count(ctx context.Context, counts []RadiusCount) error {
	counts = slices.Clone(counts)
	slices.SortFunc(counts, func(a, b RadiusCount) int { // nodes that count at once wait for each other in one order
		return cmp.Or(cmp.Compare(a.ClientID, b.ClientID), cmp.Compare(a.Kind, b.Kind))
	})
	return s.db.changing(ctx, "counting what RADIUS clients sent", func(ctx context.Context, tx querier) error {
		for _, c := range counts {
			if _, err := exec(ctx, tx, `INSERT INTO radius_counts (client_id, kind, times, last_seen, detail) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (client_id, kind) DO UPDATE SET times = radius_counts.times + excluded.times, detail = excluded.detail,
					last_seen = CASE WHEN excluded.last_seen > radius_counts.last_seen THEN excluded.last_seen ELSE radius_counts.last_seen END`,
				c.ClientID, c.Kind, c.Times, ms(c.Last), c.Detail); err != nil {
				return err
			}
		}
		return nil
	})
}

// Counts returns what was heard of a client, or of all if id is nil, by kind.
func (s RadiusClients) Counts(ctx context.Context, id *string) ([]RadiusCount, error) {
	query, args := "SELECT client_id, kind, times, last_seen, detail FROM radius_counts", []any(nil)
	if id != nil {
		query, args = query+" WHERE client_id = ?", []any{*id}
	}
	var list []RadiusCount
	err := s.db.reading(ctx, "reading what RADIUS clients sent", func(ctx context.Context, q querier) (err error) {
		list, err = all(ctx, q, func(c *RadiusCount) []any {
			return []any{&c.ClientID, &c.Kind, &c.Times, timeColumn{&c.Last}, &c.Detail}
		},
			query+" ORDER BY client_id, kind", args...)
		return err
	})
	return list, err
}
