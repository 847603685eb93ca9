package admin

import (
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// Robot is a program that may run the commands listed, by a key of its own.
type Robot struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	State       string     `json:"state" enum:"ok,disabled,expired"`
	PublicKey   string     `json:"public_key" doc:"a line of authorized_keys"`
	Fingerprint string     `json:"fingerprint"`
	Sources     []string   `json:"sources" nullable:"false" doc:"networks that it may come from"`
	Targets     []string   `json:"targets" nullable:"false" doc:"words as in rules"`
	Accounts    []string   `json:"accounts" nullable:"false" doc:"words as in rules"`
	Commands    []string   `json:"commands" nullable:"false" doc:"compared byte by byte"`
	Note        string     `json:"note"`
	Expires     *time.Time `json:"expires" doc:"null: never"`
	Created     *time.Time `json:"created"`
	LastUsed    *time.Time `json:"last_used"`
	LastSource  string     `json:"last_source" doc:"address it last came from"`
}

// NewRobot asks for a robot.
type NewRobot struct {
	Name      string     `json:"name" minLength:"1" maxLength:"64"`
	PublicKey string     `json:"public_key" minLength:"1" maxLength:"16384" doc:"a line of authorized_keys without options"`
	Sources   []string   `json:"sources,omitempty" nullable:"false" maxItems:"200" doc:"addresses and networks that it may come from"`
	Targets   []string   `json:"targets,omitempty" nullable:"false" maxItems:"200" doc:"words as in rules"`
	Accounts  []string   `json:"accounts,omitempty" nullable:"false" maxItems:"200" doc:"words as in rules"`
	Commands  []string   `json:"commands,omitempty" nullable:"false" maxItems:"200" doc:"compared byte by byte"`
	Note      string     `json:"note,omitempty" maxLength:"500"`
	Expires   *time.Time `json:"expires,omitempty" doc:"absent: never"`
}

// RobotChange changes what it names.
type RobotChange struct {
	PublicKey    string     `json:"public_key,omitempty" maxLength:"16384" doc:"a line of authorized_keys without options"`
	Sources      []string   `json:"sources,omitempty" nullable:"false" maxItems:"200" doc:"in the place of those before"`
	Targets      []string   `json:"targets,omitempty" nullable:"false" maxItems:"200" doc:"in the place of those before"`
	Accounts     []string   `json:"accounts,omitempty" nullable:"false" maxItems:"200" doc:"in the place of those before"`
	Commands     []string   `json:"commands,omitempty" nullable:"false" maxItems:"200" doc:"in the place of those before"`
	Note         *string    `json:"note,omitempty" maxLength:"500"`
	Enabled      *bool      `json:"enabled,omitempty"`
	Expires      *time.Time `json:"expires,omitempty"`
	NeverExpires bool       `json:"never_expires,omitempty"`
}

// LoginCA is an authority whose certificates people may log in with.
type LoginCA struct {
	ID          string       `json:"id"`
	Name        string       `json:"name"`
	PublicKey   string       `json:"public_key" doc:"a line of authorized_keys"`
	Fingerprint string       `json:"fingerprint"`
	Enabled     bool         `json:"enabled"`
	Created     *time.Time   `json:"created"`
	LastUsed    *time.Time   `json:"last_used"`
	Revoked     []Revocation `json:"revoked" nullable:"false"`
}

// Revocation says which certificates were taken back.
type Revocation struct {
	Kind    string     `json:"kind" enum:"serial,key-id"`
	Value   string     `json:"value"`
	Created *time.Time `json:"created"`
}

// NewLoginCA lists an authority.
type NewLoginCA struct {
	Name      string `json:"name" minLength:"1" maxLength:"63"`
	PublicKey string `json:"public_key" minLength:"1" maxLength:"16384" doc:"the authority's public key, a line of authorized_keys without options"`
}

// LoginCAChange enables or disables an authority.
type LoginCAChange struct {
	Enabled bool `json:"enabled"`
}

// NewRevocation takes certificates back; it has one of the two.
type NewRevocation struct {
	Serial string `json:"serial,omitempty" maxLength:"20" doc:"decimal; of one certificate"`
	KeyID  string `json:"key_id,omitempty" maxLength:"1024" doc:"of all certificates that have it"`
}

func (s *Server) wireRobot(r store.Robot) Robot {
	w := Robot{
		ID: r.ID, Name: r.Name, State: "ok", PublicKey: r.PublicKey, Fingerprint: r.Fingerprint, Sources: r.Sources, Targets: r.Targets,
		Accounts: r.Accounts, Commands: r.Commands, Note: r.Note, Expires: timeOf(r.Expires), Created: timeOf(r.Created),
		LastUsed: timeOf(r.LastUsed), LastSource: r.LastSource,
	}
	switch {
	case !r.Enabled:
		w.State = "disabled"
	case !r.Usable(s.cfg.Now()):
		w.State = "expired"
	}
	return w
}

func wireLoginCA(c store.UserCA, revoked []store.Revocation) LoginCA {
	return LoginCA{
		ID: c.ID, Name: c.Name, PublicKey: c.PublicKey, Fingerprint: c.Fingerprint, Enabled: c.Enabled, Created: timeOf(c.Created), LastUsed: timeOf(c.LastUsed),
		Revoked: list(revoked, func(r store.Revocation) Revocation {
			return Revocation{Kind: r.Kind, Value: audit.Escape(r.Value), Created: timeOf(r.Created)}
		}),
	}
}
