// Package auth turns what a door hears into a verdict, and decides who may do what.
//
// A door fills in an [Attempt], begins a [Conversation] and runs it with an [Asker]; the outcome is
// an [Identity] or a [Refused]. There is no other way to an Identity. Before every target and every
// channel the door asks [Engine.Authorize]; there is no other way to a decision.
//
// Both answers of a conversation, password and code, are collected before either is evaluated. Then,
// in this order: a lock (nothing is evaluated while it holds), the code (consumed when it matches,
// even if the password then fails), the password, so that a directory account can be neither locked
// nor probed from outside without a code. Failures are answered on a fixed time grid.
package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"sallyport/identity"
	"sallyport/internal/auditlog"
	"sallyport/otp"
	"sallyport/policy"
	"sallyport/store"
)

// Directory finds people and checks their passwords; *identity.LDAP is the real one.
type Directory interface {
	// Lookup returns the one entry of a canonical login name: identity.ErrUnknown,
	// identity.ErrAmbiguous or identity.ErrUnavailable otherwise.
	Lookup(ctx context.Context, login string) (identity.Person, error)
	// Bind proves the password: identity.ErrPassword or identity.ErrUnavailable otherwise.
	Bind(ctx context.Context, p identity.Person, password identity.Password) error
}

// Config of an [Engine]. The Config must not be modified after New.
type Config struct {
	Store     *store.Store
	Directory Directory // nil: local users only
	Audit     *auditlog.Log

	Lockout      policy.Lockout     // zero: policy.DefaultLockout()
	Places       *store.PlacesAlarm // of many new addresses of one person; nil: off
	EnrolAtLogin bool               // a person with a password and no token enrols in the session; needs no code the first time
	Sent         SentCodes          // codes by mail and SMS
	WithoutToken WithoutToken       // people who never had a token
	Issuer       string             // name shown by authenticator apps; "": Sallyport
	Window       otp.Window         // steps around now in which a code is accepted (J4); nil-like zero: one each side
	Grid         time.Duration      // failures are answered at multiples of this; 0: 500 ms
	Budget       time.Duration      // longest time that store and directory may take to evaluate one attempt; 0: 2.5 s
	TrustIPv4    int                // bits of an address from which a remembered code counts; 0: 32
	TrustIPv6    int                // 0: 64
	Queue        time.Duration      // longest time an attempt waits for its turn behind parallel ones; 0: 20 s
	Now          func() time.Time

	ApproveEnrolments bool   // a token that a person enrols is good once an operator approves it
	URL               string // of the web, without a slash at its end, for links; "": there is none
	TellAbsent        bool   // people who are gone get a mail when others have decided about their session
}

// Engine evaluates attempts and decides access. It is safe for concurrent use.
type Engine struct {
	cfg Config

	mu          sync.Mutex // guards the fields below
	rules       parsedRules
	clockLooked time.Time // when doubtClock last looked
}

// New returns an Engine.
func New(cfg Config) (*Engine, error) {
	if cfg.Store == nil || cfg.Audit == nil {
		return nil, errors.New("auth: Config needs Store and Audit")
	}
	if cfg.Lockout == (policy.Lockout{}) {
		cfg.Lockout = policy.DefaultLockout()
	}
	cfg.Lockout.User = min(cfg.Lockout.User, policy.HardStop)
	if cfg.Issuer == "" {
		cfg.Issuer = "Sallyport"
	}
	if cfg.Window == (otp.Window{}) {
		cfg.Window = otp.Window{Behind: 1, Ahead: 1}
	}
	if cfg.Grid == 0 {
		cfg.Grid = 500 * time.Millisecond
	}
	if cfg.Budget == 0 {
		cfg.Budget = 2500 * time.Millisecond
	}
	if cfg.TrustIPv4 == 0 {
		cfg.TrustIPv4 = 32
	}
	if cfg.TrustIPv6 == 0 {
		cfg.TrustIPv6 = 64
	}
	if cfg.Queue == 0 {
		cfg.Queue = 20 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Engine{cfg: cfg}, nil
}

// Attempt is what a door knows before anything is proved.
type Attempt struct {
	ID      string     // the same for all tries of one connection; "": Begin makes one
	Door    string     // audit.DoorSSH, audit.DoorWeb, …
	Login   string     // name as typed, already parted from account, target and configured suffixes
	Source  netip.Addr // address of the client, from the socket or a listed proxy
	Target  string     // "" if none was named
	Account string     // "" if none was named
	Client  string     // client's version string, for the log

	// Of a door where a machine asks for people, such as RADIUS:
	Channel string            // what the rules call it, a channel word; the rules are part of the verdict then. "": a door of people
	Peer    string            // the machine; failures are counted by person and machine too, and by nothing else if Source is not known
	PeerID  string            // id of its row, which the door has read not long ago; "": it is looked up
	Detail  map[string]string // more for the log
}

// Prompt is one question to the person (RFC 4256, section 3.2).
type Prompt struct {
	Text string // exactly what is shown, ASCII
	Echo bool
}

// The prompts that scripts rely on.
const (
	PromptPassword = "Password: "
	PromptCode     = "Code: "
	PromptNewCode  = "New code: "
)

// Asker carries a conversation over a door's protocol.
type Asker interface {
	// Ask shows instruction and prompts and returns one response for each prompt.
	Ask(ctx context.Context, instruction string, prompts []Prompt) ([]string, error)
	// Show gives the person text to read outside the prompts; UTF-8 and line breaks are kept.
	Show(ctx context.Context, text string) error
}

// Identity is a person, or a robot, after a verdict. Only this package makes one.
type Identity struct {
	UserID         string // "": a robot
	Robot          string // id of the robot's row; "": a person
	Login          string // canonical, or the robot's name
	Name           string
	Groups         []string
	Door           string
	Source         netip.Addr
	Factors        []string     // "password", "key", "certificate", "code", "sent", "recovery", "bypass", "remembered-code", "enrolment", "without-token", in the order proved
	CodeAt         time.Time    // when a one-time code was proved; zero: none was
	CodeAhead      int          // time steps by which that code was ahead of the clock
	Trusted        *Trusted     // a remembered code that stood in for one, or the one just remembered; nil: neither
	KeyFingerprint string       // SHA256:… of the proved public key; "": none
	KeyInDirectory bool         // … which stands in the directory, not here
	Certificate    *Certificate // that came with the key; nil: none
	Notice         string       // for the person to read, from a machine that can show it: ASCII, and no secret; "": nothing
}

// Refused is the error of a conversation or a decision that went against the person.
type Refused struct {
	Public string // what the person may read: ASCII, neutral, one line
	Err    error  // the cause, for the log only
}

func (r *Refused) Error() string { return fmt.Sprintf("refused: %v", r.Err) }

// Unwrap gives the cause.
func (r *Refused) Unwrap() error { return r.Err }

// Causes of a refusal that doors and tests tell apart; a person never does.
var (
	ErrLocked      = errors.New("a lock is in force")
	ErrCode        = errors.New("wrong code")
	ErrReplay      = errors.New("code was already used")
	ErrPassword    = errors.New("wrong password")
	ErrUnknownUser = errors.New("unknown user")
	ErrNoToken     = errors.New("user has no token")
	ErrDisabled    = errors.New("account is disabled")
	ErrUnavailable = errors.New("a service this decision needs is not available")
	ErrDenied      = errors.New("no rule allows this")
)

// Texts for people. Every refusal before the verdict has the same one.
const (
	publicRefused     = "Permission denied."
	publicUnavailable = "Sign-in is not possible just now. Try again in a minute; if it stays so, tell an operator."
)

func refused(cause error) *Refused {
	public := publicRefused
	if errors.Is(cause, ErrUnavailable) {
		public = publicUnavailable
	}
	return &Refused{Public: public, Err: cause}
}
