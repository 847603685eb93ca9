package admin

import "time"

// Token is something that makes one-time codes.
type Token struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Kind       string     `json:"kind" enum:"totp,hotp"`
	Algorithm  string     `json:"algorithm" enum:"SHA1,SHA256,SHA512"`
	Digits     int        `json:"digits"`
	Period     int        `json:"period" doc:"seconds; 0 for hotp"`
	Hardware   bool       `json:"hardware"`
	Serial     string     `json:"serial" doc:"of a hardware token"`
	Enabled    bool       `json:"enabled"`
	State      string     `json:"state" enum:"enabled,disabled,lost,expired,waiting" doc:"codes are accepted from an enabled one only"`
	Expires    *time.Time `json:"expires" doc:"null: never"`
	Created    *time.Time `json:"created"`
	LastUsed   *time.Time `json:"last_used"`
	Drift      int        `json:"drift" doc:"steps that the clock of a totp token is ahead, negative if behind"`
	Trend      string     `json:"trend" enum:"behind,steady,ahead" doc:"on which side of its drift the last code was; twice the same moves it"`
	DriftMoved *time.Time `json:"drift_moved" doc:"when the drift was last changed; null: never"`
	Counter    int64      `json:"counter" doc:"next counter of a hotp token; 0 for totp"`
}

// TokenDetail is a token with its last uses.
type TokenDetail struct {
	Token
	Uses []TokenUse `json:"uses" nullable:"false" doc:"the last ones, newest first"`
}

// TokenUse is one use of a token.
type TokenUse struct {
	Step   int64      `json:"step" doc:"time step or counter of the code"`
	At     *time.Time `json:"at"`
	Door   string     `json:"door"`
	Source string     `json:"source"`
}

// NewToken asks for a token.
type NewToken struct {
	Name      string     `json:"name,omitempty" maxLength:"100"`
	Kind      string     `json:"kind,omitempty" enum:"totp,hotp" default:"totp" doc:"moved by time or by a counter"`
	Secret    string     `json:"secret,omitempty" maxLength:"1024" doc:"base32; absent: a new one of 160 bits"`
	Algorithm string     `json:"algorithm,omitempty" enum:"SHA1,SHA256,SHA512" default:"SHA1"`
	Digits    int        `json:"digits,omitempty" enum:"6,8" default:"6"`
	Period    int        `json:"period,omitempty" enum:"0,30,60" default:"0" doc:"seconds; 0: 30 for totp, nothing for hotp"`
	Counter   int64      `json:"counter,omitempty" minimum:"0" doc:"next counter of a hotp token that was used elsewhere"`
	Serial    string     `json:"serial,omitempty" maxLength:"100" doc:"of a hardware token; no two have the same"`
	Expires   *time.Time `json:"expires,omitempty"`
}

// IssuedToken is a token with its secret, which is shown this once.
type IssuedToken struct {
	Token
	Secret string `json:"secret" doc:"base32"`
	URI    string `json:"uri" doc:"otpauth URI"`
}

// NewTokenName renames a token.
type NewTokenName struct {
	Name string `json:"name" minLength:"1" maxLength:"100"`
}

// NewTokenState changes what a token is good for.
type NewTokenState struct {
	State string `json:"state" enum:"enabled,disabled,lost"`
}

// TokenCodes are two codes that a token showed one after the other.
type TokenCodes struct {
	First  string `json:"first" minLength:"1" maxLength:"20"`
	Second string `json:"second" minLength:"1" maxLength:"20"`
}

// RecoveryCodes tells how many recovery codes a person has left.
type RecoveryCodes struct {
	Left int `json:"left"`
}

// IssuedRecoveryCodes are new recovery codes, shown this once.
type IssuedRecoveryCodes struct {
	Codes []string `json:"codes" nullable:"false"`
}

// NewBypassCode asks for a code that stands for one code of a token.
type NewBypassCode struct {
	Reason string `json:"reason" minLength:"1" maxLength:"500"`
	Life   int64  `json:"life,omitempty" minimum:"60" maximum:"604800" default:"3600" doc:"seconds until it expires"`
}

// BypassCode is an unused bypass code; the code itself is not kept.
type BypassCode struct {
	ID      string     `json:"id"`
	Reason  string     `json:"reason"`
	Issuer  string     `json:"issuer"`
	Created *time.Time `json:"created"`
	Expires *time.Time `json:"expires"`
}

// IssuedBypassCode is a new bypass code, shown this once.
type IssuedBypassCode struct {
	Code    string     `json:"code"`
	Expires *time.Time `json:"expires"`
}
