package admin

import (
	"fmt"
	"time"

	"sallyport/audit"
	"sallyport/recorder"
)

// The types below are what the JSON API speaks and what `-o json` prints. Times are RFC 3339 in UTC
// (null when there is none), sizes are bytes, durations are seconds. Fields are added, never changed.

// Health is the answer of GET /health, the only route without a caller.
type Health struct {
	Status   string `json:"status" enum:"ok,failing" doc:"ok when new logins can be decided"`
	Database string `json:"database" enum:"ok,unreachable"`
}

// Version tells what runs.
type Version struct {
	Version  string `json:"version"`
	Node     string `json:"node"`
	Database string `json:"database" doc:"sqlite or postgres"`
	Schema   int64  `json:"schema" doc:"version of the database schema"`
}

// User is a person as operators see them.
type User struct {
	ID          string      `json:"id"`
	Login       string      `json:"login"`
	Name        string      `json:"name"`
	Email       string      `json:"email"`
	Phone       string      `json:"phone" doc:"of a local user, E.164"`
	CodeBy      string      `json:"code_by" doc:"how one-time codes are sent while the user has no token; empty: as the configuration says"`
	Source      string      `json:"source" enum:"local,directory"`
	Groups      []string    `json:"groups" nullable:"false"`
	Locked      bool        `json:"locked"`
	LockReason  string      `json:"lock_reason"`
	LockedUntil *time.Time  `json:"locked_until" doc:"null: until unlocked"`
	Lockout     UserLockout `json:"lockout"`
	HasPassword bool        `json:"has_password"`
	Tokens      int         `json:"tokens"`
	Created     *time.Time  `json:"created"`
	LastLogin   *time.Time  `json:"last_login"`
}

// NewUser asks for a local user.
type NewUser struct {
	Login    string   `json:"login" minLength:"1" maxLength:"64"`
	Name     string   `json:"name,omitempty" maxLength:"255"`
	Email    string   `json:"email,omitempty" maxLength:"255"`
	Phone    string   `json:"phone,omitempty" maxLength:"40" doc:"such as +49 151 12345678"`
	Groups   []string `json:"groups,omitempty" nullable:"false" maxItems:"200"`
	Password string   `json:"password,omitempty" maxLength:"1024" doc:"empty: the user has no password and comes with a key"`
}

// NewPassword replaces a local user's password.
type NewPassword struct {
	Password string `json:"password" minLength:"1" maxLength:"1024"`
}

// NewGroups replaces a local user's groups.
type NewGroups struct {
	Groups []string `json:"groups" nullable:"false" maxItems:"200"`
}

// NewLock locks a user and ends their sessions.
type NewLock struct {
	Reason string     `json:"reason,omitempty" maxLength:"500"`
	Until  *time.Time `json:"until,omitempty" doc:"absent: until unlocked"`
}

// UserKey is a public key that may stand for the password.
type UserKey struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Fingerprint string     `json:"fingerprint"`
	PublicKey   string     `json:"public_key" doc:"a line of authorized_keys"`
	Created     *time.Time `json:"created"`
	LastUsed    *time.Time `json:"last_used"`
}

// NewUserKey adds a public key.
type NewUserKey struct {
	Name      string `json:"name,omitempty" maxLength:"100" doc:"empty: the key's comment"`
	PublicKey string `json:"public_key" minLength:"1" maxLength:"16384" doc:"a line of authorized_keys without options"`
}

// Admin is somebody who may use the operators' pages.
type Admin struct {
	ID      string     `json:"id" doc:"id of the user"`
	Login   string     `json:"login"`
	Role    Role       `json:"role" enum:"admin,auditor"`
	Created *time.Time `json:"created"`
}

// NewRole gives a user a role.
type NewRole struct {
	Role Role `json:"role" enum:"admin,auditor"`
}

// APIToken opens the JSON API to a program.
type APIToken struct {
	ID       string     `json:"id"`
	Name     string     `json:"name"`
	Role     Role       `json:"role" enum:"admin,auditor"`
	Created  *time.Time `json:"created"`
	LastUsed *time.Time `json:"last_used"`
	Expires  *time.Time `json:"expires" doc:"null: never"`
}

// NewAPIToken asks for an API token.
type NewAPIToken struct {
	Name    string     `json:"name" minLength:"1" maxLength:"100"`
	Role    Role       `json:"role" enum:"admin,auditor"`
	Expires *time.Time `json:"expires,omitempty"`
}

// IssuedAPIToken is an API token with its secret, which is shown this once.
type IssuedAPIToken struct {
	APIToken
	Secret string `json:"secret"`
}

// HostKey is one key by which a target proves who it is.
type HostKey struct {
	Key         string `json:"key" doc:"type and base64, as in authorized_keys"`
	Fingerprint string `json:"fingerprint"`
}

// Target is a host behind the bastion.
type Target struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Address     string            `json:"address" doc:"host:port"`
	Via         string            `json:"via" doc:"jump host: name of a target, or account@name; empty: none"`
	Accounts    []string          `json:"accounts" nullable:"false" doc:"the first is the default"`
	Labels      map[string]string `json:"labels"`
	HostKeyMode string            `json:"host_key_mode" enum:"pinned,tofu,ca"`
	HostKeys    []HostKey         `json:"host_keys" nullable:"false"`
	HostCAs     []HostKey         `json:"host_cas" nullable:"false" doc:"keys that sign host certificates, for mode ca"`
	RevokedKeys []HostKey         `json:"revoked_keys" nullable:"false" doc:"never taken, under no mode"`
	Credential  string            `json:"credential" enum:"key,own-key,certificate,password,relayed" doc:"how the bastion logs in"`
	Lockout     int               `json:"lockout" doc:"failures until a lock at this target; 0: the general setting"`
	Note        string            `json:"note"`
	Created     *time.Time        `json:"created"`
}

// NewTarget asks for a target.
type NewTarget struct {
	Name        string            `json:"name" minLength:"1" maxLength:"63"`
	Address     string            `json:"address" minLength:"1" maxLength:"300" doc:"host:port; port 22 when absent"`
	Via         string            `json:"via,omitempty" maxLength:"130" doc:"jump host: name of a target, or account@name (default: its first account)"`
	Accounts    []string          `json:"accounts,omitempty" nullable:"false" maxItems:"200" doc:"the first is the default"`
	Labels      map[string]string `json:"labels,omitempty"`
	HostKeyMode string            `json:"host_key_mode,omitempty" enum:"pinned,tofu,ca" default:"pinned" doc:"tofu: the key seen first is trusted from then on; ca: only with a certificate of host_cas"`
	HostKeys    []string          `json:"host_keys,omitempty" nullable:"false" maxItems:"20" doc:"lines as in known_hosts without the host, or authorized_keys"`
	HostCAs     []string          `json:"host_cas,omitempty" nullable:"false" maxItems:"20" doc:"keys that sign host certificates"`
	Credential  string            `json:"credential,omitempty" enum:"key,own-key,certificate,password,relayed" default:"key" doc:"how the bastion logs in; own-key makes a key for this target"`
	Password    string            `json:"password,omitempty" maxLength:"1024" doc:"for credential password"`
	Lockout     int               `json:"lockout,omitempty" minimum:"0" maximum:"1000"`
	Note        string            `json:"note,omitempty" maxLength:"2000"`
}

// TargetChange changes a target: what is absent or empty stays as it is.
type TargetChange struct {
	Address     string            `json:"address,omitempty" maxLength:"300" doc:"host:port; port 22 when absent"`
	Via         string            `json:"via,omitempty" maxLength:"130" doc:"jump host: name of a target, or account@name; -: none any more"`
	Accounts    []string          `json:"accounts,omitempty" nullable:"false" maxItems:"200" doc:"in the place of those before"`
	Labels      map[string]string `json:"labels,omitempty" doc:"in the place of those before"`
	HostKeyMode string            `json:"host_key_mode,omitempty" enum:"pinned,tofu,ca"`
	HostKeys    []string          `json:"host_keys,omitempty" nullable:"false" maxItems:"20" doc:"in the place of those before"`
	HostCAs     []string          `json:"host_cas,omitempty" nullable:"false" maxItems:"20" doc:"in the place of those before"`
	Credential  string            `json:"credential,omitempty" enum:"key,own-key,certificate,password,relayed"`
	Password    string            `json:"password,omitempty" maxLength:"1024" doc:"for credential password"`
	Note        string            `json:"note,omitempty" maxLength:"2000"`
}

// WaitingHostKey is a host key that a target showed and that was refused.
type WaitingHostKey struct {
	ID          string     `json:"id"`
	Target      string     `json:"target"`
	Address     string     `json:"address" doc:"where it was seen"`
	Key         string     `json:"key" doc:"type and base64, as in authorized_keys"`
	Fingerprint string     `json:"fingerprint"`
	Known       []HostKey  `json:"known" nullable:"false" doc:"what the target is known by"`
	Seen        int        `json:"seen" doc:"how many times"`
	First       *time.Time `json:"first"`
	Last        *time.Time `json:"last"`
}

// NewApproval approves a host key that waits.
type NewApproval struct {
	Add bool `json:"add,omitempty" doc:"keep the keys known so far beside it; absent: it replaces them"`
}

// NewImport brings host keys in.
type NewImport struct {
	Text string `json:"text" minLength:"1" maxLength:"1000000" doc:"lines of known_hosts"`
}

// ImportedKey is what became of one line of known_hosts, for one target.
type ImportedKey struct {
	Line        int    `json:"line"`
	Target      string `json:"target" doc:"empty: the line speaks of no target"`
	Fingerprint string `json:"fingerprint"`
	Result      string `json:"result" enum:"pinned,known,waiting,ca,revoked,unused,invalid"`
	Detail      string `json:"detail"`
}

// UserCA is what signs the certificates with which the bastion logs in to targets.
type UserCA struct {
	PublicKey   string   `json:"public_key" doc:"the key that signs now, as a line for the file that TrustedUserCAKeys names"`
	Fingerprint string   `json:"fingerprint"`
	Keys        []CAKey  `json:"keys" nullable:"false" doc:"all that targets should trust now, the one that signs first"`
	Config      []string `json:"config" nullable:"false" doc:"lines of sshd_config"`
}

// HostCA is the key that vouches for the host keys that the bastion shows in the place of targets.
type HostCA struct {
	HostCAKey
	Next    *HostCAKey `json:"next,omitempty" doc:"the key that will vouch after activate; clients should trust it before"`
	Hosts   []string   `json:"hosts" nullable:"false" doc:"names and hosts of all targets"`
	Revoked string     `json:"revoked,omitempty" doc:"in the answer to activate and drop: the line for known_hosts by which nobody believes the key that is gone"`
}

// HostCAKey is a key of the host CA.
type HostCAKey struct {
	PublicKey   string `json:"public_key"`
	Fingerprint string `json:"fingerprint"`
	KnownHosts  string `json:"known_hosts" doc:"the line for known_hosts; empty: there is no target yet"`

	Since *time.Time `json:"since" doc:"when it began to vouch; of the next key: when it was made"`
}

// DropKey names the next key of a CA that is to go.
type DropKey struct {
	Fingerprint string `json:"fingerprint,omitempty" maxLength:"100" doc:"refused if another key waits by now; absent: whichever it is"`
}

// ActivateHostCA is what goes with the change to the next key.
type ActivateHostCA struct {
	HostKeys bool `json:"host_keys,omitempty" doc:"have other host keys too: clients that remember them are warned of a changed key"`
}

// CAKey is one key of the user CA.
type CAKey struct {
	ID          string     `json:"id"`
	State       string     `json:"state" enum:"next,active,old" doc:"active signs; next will after ca activate; old has signed and goes with ca retire"`
	PublicKey   string     `json:"public_key" doc:"a line for the file that TrustedUserCAKeys names"`
	Fingerprint string     `json:"fingerprint"`
	Created     *time.Time `json:"created"`
}

// NewScan asks for the host keys that an address shows.
type NewScan struct {
	Address string `json:"address" minLength:"1" maxLength:"300"`
	Via     string `json:"via,omitempty" maxLength:"130" doc:"jump host, as of a target"`
}

// AuthorizedKey is the line that lets the bastion in to one account of a target.
type AuthorizedKey struct {
	Account string `json:"account"`
	Line    string `json:"line"`
}

// Onboarding tells how a target comes to trust the bastion.
type Onboarding struct {
	ID             string          `json:"id" doc:"id of the target"`
	Target         string          `json:"target"`
	Address        string          `json:"address"`
	Kinds          []string        `json:"kinds" nullable:"false" doc:"channel kinds that the rules can grant here"`
	Credential     string          `json:"credential" enum:"key,own-key,certificate,password,relayed"`
	AuthorizedKeys []AuthorizedKey `json:"authorized_keys" nullable:"false" doc:"empty for certificate, password and relayed"`
	UserCA         *UserCA         `json:"user_ca,omitempty" doc:"for credential certificate"`
	Warning        string          `json:"warning" doc:"what is not as it should be, in words"`
}

// NewCheck asks to try a target.
type NewCheck struct {
	Account string `json:"account,omitempty" maxLength:"64" doc:"empty: the target's default"`
}

// CheckStep is one thing tried, in order.
type CheckStep struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Fix    string `json:"fix"`
}

// Check is the outcome of trying a target.
type Check struct {
	ID      string      `json:"id" doc:"id of the target"`
	Target  string      `json:"target"`
	Account string      `json:"account"`
	OK      bool        `json:"ok"`
	Steps   []CheckStep `json:"steps" nullable:"false"`
}

// Door tells where the SSH door is, for ssh_config blocks.
type Door struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

// Rules is the rules document in force.
type Rules struct {
	Version int64      `json:"version" doc:"0: no rules yet, everything is refused"`
	Text    string     `json:"text" doc:"YAML"`
	By      string     `json:"by"`
	At      *time.Time `json:"at"`
}

// NewRules replaces the rules document.
type NewRules struct {
	Text    string `json:"text" maxLength:"1000000" doc:"YAML"`
	Version *int64 `json:"version,omitempty" doc:"version this change was made from; absent: whatever is in force"`
	DryRun  bool   `json:"dry_run,omitempty" doc:"parse and compare only"`
}

// RulesChange is what putting rules did or would do.
type RulesChange struct {
	Version int64  `json:"version" doc:"version in force afterwards"`
	Changed bool   `json:"changed"`
	Applied bool   `json:"applied"`
	Diff    string `json:"diff" doc:"unified diff from the rules in force"`
}

// Verdict is why one rule did or did not match.
type Verdict struct {
	Rule    string `json:"rule"`
	Matched bool   `json:"matched"`
	Why     string `json:"why"`
}

// Explanation is a decision with its reasons.
type Explanation struct {
	Allow        bool      `json:"allow"`
	Rule         string    `json:"rule" doc:"rule that decided; empty: none matched"`
	Message      string    `json:"message" doc:"what the person would read when refused"`
	User         string    `json:"user"`
	Target       string    `json:"target"`
	Account      string    `json:"account"`
	Channels     []string  `json:"channels" nullable:"false"`
	Observed     string    `json:"observed" doc:"tell: the person reads who watches; silent"`
	Moderator    string    `json:"moderator" doc:"who has to watch for the session to run, in words; empty: nobody"`
	Code         string    `json:"code" doc:"always, fresh, younger-than or none"`
	CodeMaxAge   int64     `json:"code_max_age" doc:"seconds; 0 unless code is younger-than"`
	TokenOnly    bool      `json:"token_only" doc:"a code that was sent by mail or SMS does not do"`
	RecordInput  bool      `json:"record_input" doc:"what is typed and shown is recorded as input"`
	BreakGlass   bool      `json:"break_glass" doc:"where no recording is possible it goes on without, and operators are told"`
	PasswordCode bool      `json:"password_code" doc:"clients without prompts may send password,code as the password"`
	SentBy       string    `json:"sent_by" doc:"mail or sms: this person has no token, and is sent a code once the password was verified; empty: not"`
	Enrols       bool      `json:"enrols" doc:"this person has no token, and enrols one once the password was verified"`
	Recording    string    `json:"recording" doc:"required, best-effort or off"`
	Approval     string    `json:"approval" doc:"who must agree before the session starts, in words; empty: nobody" example:"1 of group:dba within 15m"`
	SFTP         string    `json:"sftp" doc:"paths that SFTP and scp are held to, as in a rule; empty: none" example:"read: [\"/srv/**\"]"`
	Limits       string    `json:"limits" doc:"as in a rule, the strictest of each; empty: none" example:"idle: 15m, sessions: 3"`
	Env          string    `json:"env" doc:"environment variables that pass, names and globs" example:"LANG LC_* TERM"`
	RulesVersion int64     `json:"rules_version"`
	Verdicts     []Verdict `json:"verdicts" nullable:"false" doc:"one for each rule looked at, in order"`
}

// Channel is one SSH channel of a session.
type Channel struct {
	ID         int    `json:"id"`
	Kind       string `json:"kind"`
	Command    string `json:"command"`
	Term       bool   `json:"term"`
	ExitStatus *int   `json:"exit_status"`
	ExitSignal string `json:"exit_signal"`
	BytesIn    int64  `json:"bytes_in" doc:"from the client"`
	BytesOut   int64  `json:"bytes_out" doc:"to the client"`
	Recording  string `json:"recording" doc:"path below the recordings folder; empty: none"`
	SHA256     string `json:"sha256"`
	Truncated  bool   `json:"truncated" doc:"counted and hashed beyond the record limit"`

	FilesRead    int `json:"files_read" doc:"files that were sent to the person"`
	FilesWritten int `json:"files_written" doc:"files that came from the person"`

	Started *time.Time `json:"started"`
	Ended   *time.Time `json:"ended"`
}

// Session is a person's whole connection through the bastion.
type Session struct {
	ID             string     `json:"id"`
	User           string     `json:"user"`
	Target         string     `json:"target"`
	Address        string     `json:"address"`
	Account        string     `json:"account"`
	Source         string     `json:"source"`
	Client         string     `json:"client"`
	Node           string     `json:"node"`
	Rule           string     `json:"rule"`
	RecordingMode  string     `json:"recording_mode" doc:"required, best-effort, off, or break-glass: required, but a session goes on where that is not possible"`
	KeyFingerprint string     `json:"key_fingerprint"`
	State          string     `json:"state" enum:"live,ended,lost"`
	Waits          string     `json:"waits" doc:"for what a live session stands still: moderator; empty: it goes on"`
	Started        *time.Time `json:"started"`
	Ended          *time.Time `json:"ended"`
	Reason         string     `json:"reason"`
	Channels       []Channel  `json:"channels" nullable:"false"`
}

// NewEnd ends a session.
type NewEnd struct {
	Message string `json:"message,omitempty" maxLength:"500" doc:"shown to the person"`
}

// Verification is what the proof of one recording found.
type Verification struct {
	ID          string   `json:"id" doc:"session and channel, or the file"`
	Session     string   `json:"session" doc:"whose recording it is, as was signed: a file can be renamed; empty if no signature is right"`
	Channel     int      `json:"channel" doc:"… and of which channel"`
	Proved      bool     `json:"proved" doc:"the recording is finished and every byte of it is proved"`
	Bytes       int64    `json:"bytes" doc:"bytes of the recording"`
	ProvedBytes int64    `json:"proved_bytes" doc:"bytes that signatures prove"`
	Parts       int      `json:"parts"`
	Keys        []string `json:"keys" nullable:"false" doc:"ids of the keys that signed"`
	Node        string   `json:"node"`
	Encrypted   bool     `json:"encrypted" doc:"only its recipients can read it"`
	Recovered   bool     `json:"recovered" doc:"completed after the process that recorded had died"`
	Root        string   `json:"root" doc:"signed head of the chain"`
	Problem     string   `json:"problem" doc:"what is wrong; empty when proved"`
}

// VerificationOf puts the report on one recording into the words of the API. err is what Verify
// returned with it.
func VerificationOf(id string, r recorder.Report, err error) Verification {
	v := Verification{
		ID: id, Proved: err == nil && r.Complete(), Bytes: r.Bytes, ProvedBytes: r.Proved, Parts: r.Parts,
		Keys: []string{}, Node: r.Node, Encrypted: r.Encrypted, Recovered: r.Recovered, Root: r.Root,
	}
	for _, k := range r.Keys {
		v.Keys = append(v.Keys, k.ID)
	}
	if len(v.Keys) > 0 {
		v.Session, v.Channel = r.Session, r.Channel
	}
	switch {
	case err != nil:
		v.Problem = audit.Escape(err.Error())
	case !r.Sealed:
		v.Problem = "the recording is still being written; what is proved so far is unchanged"
	case r.Pending:
		v.Problem = "tail pending: what had reached the bucket when node " + audit.Escape(r.Node) + " was lost is proved, the rest is on its disk"
	case !v.Proved:
		v.Problem = fmt.Sprintf("only %d of %d bytes are proved", r.Proved, r.Bytes)
	}
	return v
}

// RecordingKey is a node's public key, by which recordings are verified offline.
type RecordingKey struct {
	ID              string     `json:"id" doc:"short name of the key, as recordings and reports give it"`
	PEM             string     `json:"pem" doc:"the key as session verify --keys reads it"`
	Node            string     `json:"node" doc:"whose key it is; with commas between them, all names that the node has had"`
	CompromisedFrom *time.Time `json:"compromised_from" doc:"what it signed from this time on proves nothing; null: never"`
}

// AuditEvent is one line of the audit log.
type AuditEvent struct {
	ID      string            `json:"id"`
	Time    *time.Time        `json:"time"`
	Type    string            `json:"type"`
	Result  string            `json:"result" enum:"ok,refused,error"`
	Door    string            `json:"door"`
	User    string            `json:"user"`
	Actor   string            `json:"actor"`
	Source  string            `json:"source"`
	Target  string            `json:"target"`
	Account string            `json:"account"`
	Session string            `json:"session"`
	Rule    string            `json:"rule"`
	Reason  string            `json:"reason"`
	Node    string            `json:"node"`
	Detail  map[string]string `json:"detail"`
}

// Lockout is a lock in force after too many failures.
type Lockout struct {
	ID       string     `json:"id"`
	Kind     string     `json:"kind" doc:"what failures were counted by, such as user+source"`
	Key      string     `json:"key"`
	User     string     `json:"user" doc:"login, or what was typed as one; empty: anybody from the source"`
	Source   string     `json:"source" doc:"address or network; empty: from anywhere"`
	Target   string     `json:"target" doc:"empty: any"`
	Failures int        `json:"failures"`
	Since    *time.Time `json:"since"`
	Until    *time.Time `json:"until" doc:"null: until cleared"`
	Author   string     `json:"author" doc:"operator who set it; empty: it followed failures"`
	Reason   string     `json:"reason"`
}

// Grant is a code that is remembered: it is not asked for again while the rules say so.
type Grant struct {
	ID          string     `json:"id"`
	User        string     `json:"user"`
	Door        string     `json:"door"`
	Network     string     `json:"network" doc:"where it counts: an address, or a network"`
	Source      string     `json:"source" doc:"address it was last used from"`
	FirstFactor string     `json:"first_factor" doc:"password, or key and its fingerprint"`
	Client      string     `json:"client"`
	Assurance   string     `json:"assurance" enum:"token,sent"`
	Rule        string     `json:"rule" doc:"that let it be written"`
	CodeAt      *time.Time `json:"code_at"`
	LastUsed    *time.Time `json:"last_used"`
	Uses        int        `json:"uses" doc:"logins it has spared the code"`
	Targets     []string   `json:"targets" nullable:"false"`
	Expires     *time.Time `json:"expires" doc:"at the latest; the rules may end it earlier"`
}

// UserPlaces are the addresses of a user, the last seen first.
type UserPlaces struct {
	SignedIn []Place `json:"signed_in" nullable:"false" doc:"from which the user was authenticated"`
	Refused  []Place `json:"refused" nullable:"false" doc:"from which somebody asked to be let in as the user and was refused; the latest 500"`
}

// Place is an address.
type Place struct {
	Source string     `json:"source" doc:"address"`
	First  *time.Time `json:"first"`
	Last   *time.Time `json:"last"`
	Count  int        `json:"count" doc:"how often"`
}

// Revoked tells how many grants were ended.
type Revoked struct {
	Revoked int `json:"revoked"`
}

// NewLockout asks for a lock of a source, for everybody or for one user.
type NewLockout struct {
	Source string     `json:"source" maxLength:"64" doc:"address; one of IPv6 stands for its /64"`
	User   string     `json:"user,omitempty" maxLength:"255" doc:"login; absent: everybody"`
	Reason string     `json:"reason" minLength:"1" maxLength:"500"`
	Until  *time.Time `json:"until,omitempty" doc:"absent: until cleared"`
}

// UserLockout is when failures lock a user at one source, where that is stricter than for everybody.
type UserLockout struct {
	Failures int   `json:"failures" minimum:"0" maximum:"1000000" doc:"0: as everybody"`
	Window   int64 `json:"window" minimum:"0" maximum:"31536000" doc:"seconds in which failures count together; 0: as everybody"`
	Lock     int64 `json:"lock" minimum:"0" maximum:"31536000" doc:"seconds that the lock holds; 0: as everybody"`
}

// Problem is every refusal of the JSON API (RFC 9457).
type Problem struct {
	Title   string         `json:"title"`
	Status  int            `json:"status"`
	Detail  string         `json:"detail" doc:"what went wrong, in words"`
	Hint    string         `json:"hint,omitempty" doc:"what to do about it"`
	Line    int            `json:"line,omitempty" doc:"line of the document sent, from 1"`
	Column  int            `json:"column,omitempty" doc:"column, from 1"`
	Excerpt string         `json:"excerpt,omitempty" doc:"the place with a caret"`
	Errors  []ProblemField `json:"errors,omitempty" nullable:"false"`

	retry time.Duration // sent as Retry-After unless 0
}

// ProblemField tells which field was not as it must be, and what it may be. It repeats no value that may be a secret.
type ProblemField struct {
	Message  string `json:"message"`
	Location string `json:"location"`
}
