package admin

import "time"

// NewEnrolLink asks for a link by which a person sets up a token.
type NewEnrolLink struct {
	Reset bool `json:"reset,omitempty" doc:"take all tokens and recovery codes away first"`
}

// EnrolLink is a one-time link, shown this once.
type EnrolLink struct {
	Login   string     `json:"login"`
	URL     string     `json:"url"`
	Expires *time.Time `json:"expires"`
}

// SendEnrolments says whom to mail a link: people, a group, or all who have no token.
type SendEnrolments struct {
	Logins          []string `json:"logins,omitempty" maxItems:"1000"`
	Group           string   `json:"group,omitempty" maxLength:"255"`
	AllWithoutToken bool     `json:"all_without_token,omitempty"`
}

// SentEnrolment tells whether a link was mailed to a person.
type SentEnrolment struct {
	Login  string `json:"login"`
	Sent   bool   `json:"sent" doc:"it is in the outbox"`
	Reason string `json:"reason" doc:"why not"`
}

// WaitingToken is a token that waits for an operator's approval.
type WaitingToken struct {
	User  string `json:"user"`
	Token Token  `json:"token"`
}
