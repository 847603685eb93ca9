package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// RadiusStateLife is how long a challenge waits for its answer.
const RadiusStateLife = 90 * time.Second

// RadiusState is a challenge that waits for its answer: what the person has sent already. It is good for the same
// client, login and Calling-Station-Id alone.
type RadiusState struct {
	ClientID string
	Login    string // as sent
	Station  string // Calling-Station-Id; "": none
	Password []byte // and whatever else the conversation goes on with
}

// RadiusStates is the table of challenges.
type RadiusStates struct{ db *db }

func hashState(state []byte) string {
	sum := sha256.Sum256(state)
	return hex.EncodeToString(sum[:])
}

// Issue keeps a challenge, with the password sealed, and returns its State: 160 random bits in 32 characters. Any octets
// would do (RFC 2865, section 5.24), but clients that keep it as a string of C, such as ocserv, lose what follows a zero.
func (s RadiusStates) Issue(ctx context.Context, r RadiusState) ([]byte, error) {
	what := "keeping a challenge of RADIUS client " + r.ClientID
	state := []byte(rand.Text() + rand.Text()[:6])
	id := hashState(state)
	sealed, err := s.db.ring.Seal("radius_states", "password", id, r.Password)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	err = s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "INSERT INTO radius_states (id, client_id, login, station, password, expires) VALUES (?, ?, ?, ?, ?, ?)",
			id, r.ClientID, r.Login, r.Station, sealed, ms(s.db.now().Add(RadiusStateLife)))
		return err
	})
	return state, err
}

// Take ends a challenge and returns what was kept with it. Of many at once, at whichever nodes, one gets it; the
// others, and those who are not whom it was made for, get [ErrNotFound].
func (s RadiusStates) Take(ctx context.Context, state []byte, clientID, login, station string) (RadiusState, error) {
	what := "taking a challenge of RADIUS client " + clientID
	id := hashState(state)
	var sealed string
	err := s.db.writing(ctx, what, func(ctx context.Context, q querier) (err error) {
		sealed, err = scalar[string](ctx, q, `DELETE FROM radius_states WHERE id = ? AND client_id = ? AND login = ? AND station = ? AND expires > ?
			RETURNING password`, id, clientID, login, station, ms(s.db.now()))
		return err
	})
	if err != nil {
		return RadiusState{}, err
	}
	password, err := s.db.ring.Open("radius_states", "password", id, sealed)
	if err != nil {
		return RadiusState{}, fmt.Errorf("%s: %w", what, err)
	}
	return RadiusState{ClientID: clientID, Login: login, Station: station, Password: password}, nil
}

// RadiusGrant spares a person the code, at one client and with one Calling-Station-Id.
type RadiusGrant struct {
	UserID   string
	ClientID string
	Station  string
	CodeAt   time.Time // when the code was accepted
	Expires  time.Time

	Assurance string // [FromToken] or [FromSent]
}

// RadiusGrants is the table of grants by which a VPN renews what it has without another code.
type RadiusGrants struct{ db *db }

// Put writes a grant, in the place of one before.
func (s RadiusGrants) Put(ctx context.Context, g RadiusGrant) error {
	what := "remembering a code of user " + g.UserID + " at RADIUS client " + g.ClientID
	if g.UserID == "" || g.ClientID == "" || g.Station == "" || g.Assurance == "" {
		return fmt.Errorf("%s: %w", what, errors.New("user, client, Calling-Station-Id or kind of code is missing"))
	}
	return s.db.writing(ctx, what, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, `INSERT INTO radius_grants (user_id, client_id, station, code_at, expires, assurance) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (user_id, client_id, station) DO UPDATE SET code_at = excluded.code_at, expires = excluded.expires, assurance = excluded.assurance`,
			g.UserID, g.ClientID, g.Station, ms(g.CodeAt), ms(g.Expires), g.Assurance)
		return err
	})
}

// Find returns a grant that is in force, or [ErrNotFound].
func (s RadiusGrants) Find(ctx context.Context, userID, clientID, station string) (RadiusGrant, error) {
	g := RadiusGrant{UserID: userID, ClientID: clientID, Station: station}
	err := s.db.briefly(ctx, "looking for a remembered code of user "+userID+" at RADIUS client "+clientID, func(ctx context.Context, q querier) error {
		found, err := one(ctx, q, func(g *RadiusGrant) []any { return []any{timeColumn{&g.CodeAt}, timeColumn{&g.Expires}, &g.Assurance} },
			"SELECT code_at, expires, assurance FROM radius_grants WHERE user_id = ? AND client_id = ? AND station = ? AND expires > ?",
			userID, clientID, station, ms(s.db.now()))
		g.CodeAt, g.Expires, g.Assurance = found.CodeAt, found.Expires, found.Assurance
		return err
	})
	return g, err
}

// End ends a person's grant at a client, or all of them there if station is "".
func (s RadiusGrants) End(ctx context.Context, userID, clientID, station string) error {
	return s.db.writing(ctx, "forgetting a code of user "+userID+" at RADIUS client "+clientID, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "DELETE FROM radius_grants WHERE user_id = ? AND client_id = ? AND (? = '' OR station = ?)", userID, clientID, station, station)
		return err
	})
}

// EndAll ends all grants at a client.
func (s RadiusGrants) EndAll(ctx context.Context, clientID string) error {
	return s.db.writing(ctx, "forgetting the codes remembered at RADIUS client "+clientID, func(ctx context.Context, q querier) error {
		_, err := exec(ctx, q, "DELETE FROM radius_grants WHERE client_id = ?", clientID)
		return err
	})
}
