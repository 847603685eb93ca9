package admin

import "time"

// APIKey lets a program give people tokens, have codes validated or read metrics, and nothing else.
type APIKey struct {
	ID            string     `json:"id"`
	Name          string     `json:"name"`
	Scopes        []string   `json:"scopes" nullable:"false"`
	Sources       []string   `json:"sources" nullable:"false" doc:"empty: from anywhere"`
	AssertsSource bool       `json:"asserts_source" doc:"what it says about a person's address is believed"`
	PerMinute     int        `json:"per_minute" doc:"calls; as many may come at once"`
	Created       *time.Time `json:"created"`
	LastUsed      *time.Time `json:"last_used"`
	LastSource    string     `json:"last_source"`
	Expires       *time.Time `json:"expires" doc:"null: never"`
}

// NewAPIKey asks for an API key.
type NewAPIKey struct {
	Name          string     `json:"name" minLength:"1" maxLength:"100"`
	Scopes        []string   `json:"scopes" minItems:"1" maxItems:"10" nullable:"false" enum:"enrolments:create,users:create,validate,metrics"`
	Sources       []string   `json:"sources,omitempty" nullable:"false" maxItems:"100" doc:"addresses and networks it may be used from; empty: any"`
	AssertsSource bool       `json:"asserts_source,omitempty" doc:"believe what it says about a person's address"`
	PerMinute     int        `json:"per_minute,omitempty" minimum:"1" maximum:"6000" default:"60" doc:"calls; as many may come at once"`
	Expires       *time.Time `json:"expires,omitempty"`
}

// IssuedAPIKey is an API key with its secret, which is shown this once.
type IssuedAPIKey struct {
	APIKey
	Secret string `json:"secret"`
}

// NewPerson is somebody whom a program makes a user on the fly: local, without password and groups.
type NewPerson struct {
	Name  string `json:"name,omitempty" maxLength:"255"`
	Email string `json:"email,omitempty" maxLength:"255"`
	Phone string `json:"phone,omitempty" maxLength:"40" doc:"such as +49 151 12345678"`
}

// NewEnrolment asks for the first token of a person.
type NewEnrolment struct {
	Login      string     `json:"login" minLength:"1" maxLength:"64"`
	Name       string     `json:"name,omitempty" maxLength:"100" doc:"of the token"`
	Algorithm  string     `json:"algorithm,omitempty" enum:"SHA1,SHA256,SHA512" default:"SHA1"`
	Digits     int        `json:"digits,omitempty" enum:"6,8" default:"6"`
	Period     int        `json:"period,omitempty" enum:"30,60" default:"30" doc:"seconds"`
	CreateUser *NewPerson `json:"create_user,omitempty" doc:"make the person a user if there is none of this login; needs the scope users:create"`
}

// IssuedEnrolment is a token with everything that the person's device must know.
type IssuedEnrolment struct {
	ID     string `json:"id" doc:"of the token"`
	Login  string `json:"login"`
	State  string `json:"state" enum:"enabled,waiting" doc:"waiting: an operator has to approve it first"`
	Secret string `json:"secret" doc:"base32"`
	URI    string `json:"uri" doc:"otpauth://…"`
	QRPNG  []byte `json:"qr_png" contentEncoding:"base64" doc:"picture of the URI, base64 of a PNG"`
	QRSVG  string `json:"qr_svg" doc:"the same as an svg element"`
}

// ValidateCode asks whether a code of a person is right. It is used up if it is.
type ValidateCode struct {
	Login  string `json:"login" maxLength:"255"`
	Code   string `json:"code" maxLength:"255"`
	Source string `json:"source,omitempty" maxLength:"100" doc:"the person's address; only with a key that is believed about it"`
}

// CodeVerdict is all that is said of a code.
type CodeVerdict struct {
	Valid bool `json:"valid"`
}
