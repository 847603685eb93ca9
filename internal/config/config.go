// Package config reads the configuration file of a node: what needs a restart to change.
//
// The file is one YAML document with the keys of [Config]. Nothing passes silently: an unknown key, a
// value of the wrong kind or two settings that contradict each other is an [Error] with line, column and
// a caret. Anchors, aliases and merges are refused, so that a line means what it says. A secret never
// stands in the file: keys that end in -file name the file that holds it. Relative paths start at the
// folder of the configuration file.
//
// The comments of the structs below are also the comments of the annotated example ([Render]).
package config

// Config is the configuration of one node.
type Config struct {
	// Name of this node in logs, audit events and recordings. Empty: the name of the host.
	Node Name `yaml:"node"`
	// Folder for everything this node keeps: keys, socket, SQLite database, recordings. Owner only.
	Data Path `yaml:"data"`
	// Where users, rules, sessions and audit events are: "sqlite" for a file in the data folder, or
	// postgres://user@host/name?sslmode=verify-full. All nodes of one installation name the same PostgreSQL.
	Database Database `yaml:"database"`
	// File with the password for PostgreSQL. Empty: none is needed.
	DatabasePasswordFile Path `yaml:"database-password-file"`
	// Unix socket of the operator's commands; only the owner of this process may use it. Empty: sallyport.sock in the data folder.
	Socket Path `yaml:"socket"`

	// The SSH door.
	SSH SSH `yaml:"ssh"`
	// The operators' pages and API, and people's own pages.
	Web Web `yaml:"web"`
	// The RADIUS door, for VPNs and gateways. The clients that may ask are in the database: sallyport radius client add.
	RADIUS RADIUS `yaml:"radius"`
	// The directory (LDAP) that knows people and their passwords. Leave it out to have local users only.
	Directory *Directory `yaml:"directory"`
	// One-time codes.
	OTP OTP `yaml:"otp"`
	// From where a code that a rule remembers is not asked for again.
	Trust Trust `yaml:"trust"`
	// One-time codes by mail or SMS for people without a token. Such a code is weaker than one of a token; rules can demand a token (token-only: true).
	SentCodes *SentCodes `yaml:"sent-codes"`
	// How mail leaves. Leave it out to send none.
	Mail *Mail `yaml:"mail"`
	// How short messages leave. Leave it out to send none.
	SMS *SMS `yaml:"sms"`
	// Calls of other products that the web answers, with an API key (sallyport api-key add). Off: the routes do not exist.
	Compat Compat `yaml:"compat"`
	// Who is told by mail of what happens; needs mail.
	Notify *Notify `yaml:"notify"`
	// How many wrong answers are evaluated before a lock. An exact limit, on all nodes together.
	Lockout Lockout `yaml:"lockout"`
	// When one person signs in from many addresses that they never came from before.
	Places Places `yaml:"places"`
	// Limits for clients that have not authenticated yet.
	Guard Guard `yaml:"guard"`
	// What is kept of sessions.
	Recordings Recordings `yaml:"recordings"`
	// Files with keys. Init makes them, and they must outlive the database: without the ring
	// nothing in the database that is secret can be opened again. Back them up apart from the database.
	Keys Keys `yaml:"keys"`
	// How long sessions may go on after the server was told to stop. They are told at once.
	Drain Duration `yaml:"drain"`
	// The log on standard error; audit events are among its lines.
	Log Log `yaml:"log"`

	places map[string]place // where each key that the file gives stands, for errors found after decoding
	source *source
}

// SSH is the SSH door.
type SSH struct {
	// Address and port to listen on. Without an address: all of them.
	Listen Listen `yaml:"listen"`
	// Peers that speak for clients by the PROXY protocol, such as a load balancer. Nobody else may.
	ProxyProtocolFrom []Network `yaml:"proxy-protocol-from"`
	// Addresses of this bastion as targets see them; they go into from="…" of authorized_keys on the targets, and into certificates.
	Addresses []Address `yaml:"addresses"`
	// Addresses that may be dialled as targets although they are never dialled otherwise: link-local ones, those of cloud metadata,
	// this bastion's own listeners.
	MayDial []Network `yaml:"may-dial"`
	// Suffixes that are cut off login names, so that alice@example.org@web1 is alice on web1.
	LoginSuffixes []Name `yaml:"login-suffixes"`
}

// Web is where the pages of operators and people, and the API, are.
type Web struct {
	// Address and port to listen on. Empty: no web. Off loopback it needs a certificate or listed proxies.
	Listen Listen `yaml:"listen"`
	// File with the certificate and its chain (PEM). Empty: plain HTTP.
	Certificate Path `yaml:"certificate"`
	// File with the private key of the certificate (PEM).
	Key Path `yaml:"key"`
	// Reverse proxies that speak HTTPS to browsers; X-Forwarded-For and X-Forwarded-Proto count from these peers only.
	Proxies []Network `yaml:"proxies"`
	// Address of the pages as browsers know it, for links. Empty: made from listen.
	URL URL `yaml:"url"`
	// Networks from which /metrics is answered without an API key, also while the database is away.
	MetricsFrom []Network `yaml:"metrics-from"`
}

// RADIUS is the RADIUS door.
type RADIUS struct {
	// Address and port (UDP) to listen on for authentication, such as ":1812". Empty: no RADIUS.
	Listen Listen `yaml:"listen"`
	// Address and port (UDP) to listen on for accounting, such as ":1813". Empty: none.
	Accounting Listen `yaml:"accounting"`
	// RADIUS by TLS (RadSec), for clients that have a certificate listed.
	RadSec RadSec `yaml:"radsec"`
}

// RadSec is RADIUS by TLS.
type RadSec struct {
	// Address and port (TCP) to listen on, such as ":2083". Empty: none.
	Listen Listen `yaml:"listen"`
	// File with the certificate that is shown to clients, and its chain (PEM). It is read for each connection.
	Certificate Path `yaml:"certificate"`
	// File with the private key of the certificate (PEM).
	Key Path `yaml:"key"`
	// File with the authorities (PEM) whose certificates make a client of who has a name that is listed: sallyport
	// radius client add --certificate-name. Take one of your own: it can name anybody. Read for each
	// connection. Empty: clients are known by the fingerprints of their certificates alone.
	ClientCAFile Path `yaml:"client-ca-file"`
}

// Directory is the LDAP directory.
type Directory struct {
	// Servers, tried in turn. ldaps:// or ldap:// with start-tls; ldap:// alone on loopback only.
	Servers []Server `yaml:"servers"`
	// Switch to TLS on an ldap:// connection before anything is said.
	StartTLS bool `yaml:"start-tls"`
	// File with the authorities that sign the servers' certificates (PEM). Empty: those of the system.
	CAFile Path `yaml:"ca-file"`
	// Name that the certificates must carry. Empty: the host in servers.
	ServerName Name `yaml:"server-name"`
	// Allow ldap:// without TLS over a network: everybody on the way reads the passwords.
	InsecurePlaintext bool `yaml:"insecure-plaintext"`
	// Entry that searches for people.
	BindDN string `yaml:"bind-dn"`
	// File with the password of bind-dn.
	BindPasswordFile Path `yaml:"bind-password-file"`
	// Where people are.
	Base string `yaml:"base"`
	// How a login name is found; {login} stands for it, escaped.
	Filter string `yaml:"filter"`
	// Attribute with the login name. Empty: uid, or sAMAccountName in Active Directory.
	LoginAttribute Name `yaml:"login-attribute"`
	// Attribute with the e-mail address.
	MailAttribute Name `yaml:"mail-attribute"`
	// Attribute with the telephone number that codes are sent to.
	MobileAttribute Name `yaml:"mobile-attribute"`
	// Attribute with public keys that may stand for the password, one line of authorized_keys without options each. "-": none.
	KeyAttribute Name `yaml:"key-attribute"`
	// How a person's groups are found besides memberOf; {dn} and {login} stand for the person's, escaped.
	Groups *Groups `yaml:"groups"`
	// Group that people must be in to come through. Empty: everybody whom the filter finds.
	LoginGroup string `yaml:"login-group"`
	// How long the directory keeps an account locked after wrong passwords (pwdLockoutDuration). 0s: until somebody unlocks it.
	LockDuration Duration `yaml:"lock-duration"`
	// Longest time for one question to the directory, all servers together.
	Timeout Duration `yaml:"timeout"`
}

// Groups is the search for groups.
type Groups struct {
	// Where groups are.
	Base string `yaml:"base"`
	// How the groups of a person are found.
	Filter string `yaml:"filter"`
}

// OTP is about one-time codes.
type OTP struct {
	// Time steps before and after the present one in which a code is accepted.
	Window int `yaml:"window"`
	// A person with a password and without a token may enrol one at the first login by SSH, or at /enrol on the web. Off: an operator gives out tokens.
	EnrolmentAtLogin bool `yaml:"enrolment-at-login"`
	// A token that a person enrols is good only once an operator approves it.
	ApproveEnrolments bool `yaml:"approve-enrolments"`
	// Logins by SSH and RADIUS without a code, for people who never had a token.
	WithoutToken WithoutToken `yaml:"without-token"`
	// Name that authenticator apps show.
	Issuer string `yaml:"issuer"`
}

// WithoutToken is about people who never had a token.
type WithoutToken struct {
	// How often a person may log in by SSH or RADIUS with the first factor alone. Never where a rule says token-only, or a fresh or young code. 0: not at all.
	Logins int `yaml:"logins"`
	// Time in which they may, since they were first seen or an operator granted it anew. 0s: without limit.
	Within Duration `yaml:"within"`
	// Networks from which they may. Empty: from anywhere.
	Sources []Network `yaml:"sources"`
}

// Trust is about codes that are remembered where rules say so.
type Trust struct {
	// Bits of an IPv4 address from which a remembered code counts: 32 is that address alone.
	IPv4 int `yaml:"ipv4-prefix"`
	// Bits of an IPv6 address: 64 is the network in which a machine changes its address.
	IPv6 int `yaml:"ipv6-prefix"`
}

// SentCodes is about one-time codes by mail or SMS.
type SentCodes struct {
	// How people without a token get codes: off, mail or sms. An operator can say otherwise for a person.
	By CodeBy `yaml:"by"`
	// Codes to one person in an hour.
	PerPerson int `yaml:"per-person"`
	// Codes to one address or number in an hour.
	PerRecipient int `yaml:"per-recipient"`
	// Codes asked for from one address (IPv6: /64) in an hour; people behind one router share it.
	PerSource int `yaml:"per-source"`
	// Codes of the whole installation in an hour.
	InAll int `yaml:"in-all"`
	// Telephone numbers by HTTP, for people who have none in the directory or here.
	AddressBook *AddressBook `yaml:"address-book"`
}

// AddressBook is a service that knows telephone numbers.
type AddressBook struct {
	// What is asked by GET; {login} stands for the login name, escaped.
	URL Template `yaml:"url"`
	// Headers of the question, as "Name: value"; {secret} stands for the secret.
	Headers []string `yaml:"headers"`
	// File with the secret.
	SecretFile Path `yaml:"secret-file"`
	// Where the number is in a JSON answer: names and positions with dots between, such as people.0.mobile.
	Path string `yaml:"path"`
	// Regular expression whose first group is the number; instead of path.
	Pattern Pattern `yaml:"pattern"`
	// File with the authorities that sign the service's certificate (PEM). Empty: those of the system.
	CAFile Path `yaml:"ca-file"`
	// Allow http:// over a network: whoever is on the way can have codes sent to themselves.
	InsecurePlaintext bool `yaml:"insecure-plaintext"`
	// Longest time for an answer.
	Timeout Duration `yaml:"timeout"`
	// How long an answer is good.
	Cache Duration `yaml:"cache"`
}

// Mail is how mail leaves.
type Mail struct {
	// Address that mail comes from.
	From string `yaml:"from"`
	// Mail servers, tried in turn.
	Servers []MailServer `yaml:"servers"`
	// Domains that codes may be sent to; "*.example.org" stands for all below it. Empty: all.
	Domains []string `yaml:"domains"`
	// Mail hosts (MX) that a domain must have if codes are sent to it, looked up for each mail; "*.example.org" stands for all below it. Empty: any.
	Hosts []string `yaml:"hosts"`
	// Only the most preferred mail hosts of a domain must be among hosts. Off: all of them must.
	FirstHostOnly bool `yaml:"first-host-only"`
	// When a server that fails is left out for a while.
	Breaker Breaker `yaml:"breaker"`
}

// MailServer is a server that takes mail.
type MailServer struct {
	// Host and port.
	Server HostPort `yaml:"server"`
	// starttls or tls; none needs insecure-plaintext off loopback.
	TLS MailTLS `yaml:"tls"`
	// File with the authorities that sign the server's certificate (PEM). Empty: those of the system.
	CAFile Path `yaml:"ca-file"`
	// Name that the certificate must carry. Empty: the host in server.
	ServerName Name `yaml:"server-name"`
	// Allow mail without TLS over a network: everybody on the way reads the codes.
	InsecurePlaintext bool `yaml:"insecure-plaintext"`
	// Who submits. Empty: no authentication.
	User string `yaml:"user"`
	// File with the password of user.
	PasswordFile Path `yaml:"password-file"`
	// Longest time for one mail.
	Timeout Duration `yaml:"timeout"`
}

// Breaker is when something that fails is left out for a while.
type Breaker struct {
	// Failures in a row.
	Failures int `yaml:"failures"`
	// How long it is left out; then one message tries it.
	Pause Duration `yaml:"pause"`
}

// SMS is how short messages leave.
type SMS struct {
	// Country of numbers that name none, such as +49. Empty: such numbers are refused.
	Country PhonePrefix `yaml:"country"`
	// What numbers begin with that codes may be sent to; "+" alone: any.
	Prefixes []PhonePrefix `yaml:"prefixes"`
	// Services and programs that send, tried in turn. Each has an url or a command.
	Senders []SMSSender `yaml:"senders"`
	// When a sender that fails is left out for a while.
	Breaker Breaker `yaml:"breaker"`
}

// SMSSender is a service or a program that sends short messages.
type SMSSender struct {
	// HTTP service. In url, headers and body {to} stands for the number, {text} for the text, {id} for the message's id and {secret} for the secret, escaped.
	URL Template `yaml:"url"`
	// GET, POST or PUT.
	Method Name `yaml:"method"`
	// Headers, as "Name: value". Content-Type says how the body is escaped.
	Headers []string `yaml:"headers"`
	// Body of the request.
	Body string `yaml:"body"`
	// File with the secret.
	SecretFile Path `yaml:"secret-file"`
	// Regular expression that a right answer matches. Empty: any answer with status 2xx is right.
	Success Pattern `yaml:"success"`
	// File with the authorities that sign the service's certificate (PEM). Empty: those of the system.
	CAFile Path `yaml:"ca-file"`
	// Allow http:// over a network: everybody on the way reads the codes.
	InsecurePlaintext bool `yaml:"insecure-plaintext"`
	// Program by its whole path, and arguments, in which {to} stands for the number; the text is on its standard input. No shell.
	Command []string `yaml:"command"`
	// Longest time for one message.
	Timeout Duration `yaml:"timeout"`
}

// Compat is about plug-ins that were made for other products.
type Compat struct {
	// Answer TOTPRadius' GET /api, /createuser and /validate. Its clients send the key in the address, where proxies may log it.
	TOTPRadius bool `yaml:"totpradius"`
	// Answer privacyIDEA's /validate/check.
	PrivacyIDEA bool `yaml:"privacyidea"`
	// What privacyIDEA's clients send as pass is the password with the code after it. Off: the code alone.
	WithPassword bool `yaml:"privacyidea-with-password"`
}

// Notify is who is told by mail of what happens.
type Notify struct {
	// Whether people are told of changes to their tokens and password, of locks and of codes used twice.
	People bool `yaml:"people"`
	// Addresses of operators.
	Operators []string `yaml:"operators"`
	// Types of audit events that operators are told of.
	Events []string `yaml:"events"`
}

// Lockout is about wrong answers.
type Lockout struct {
	// By person and address together.
	Pair Limit `yaml:"user-and-source"`
	// By address, whoever is named.
	Source Limit `yaml:"source"`
	// By person from any address, in a row, until an operator clears it. Addresses the person came from lately are spared.
	User int `yaml:"user"`
	// Locks that follow one another within a day double, up to this.
	Longest Duration `yaml:"longest"`
}

// Places is about the addresses of one person.
type Places struct {
	// New addresses (IPv6: networks of 64 bits) of one person that go without an alarm. 0: there is none.
	Alarm int `yaml:"alarm"`
	// Time in which they count together; there is one alarm of a person in it.
	Within Duration `yaml:"within"`
	// Lock the person too, until an operator unlocks them; their sessions end.
	Lock bool `yaml:"lock"`
}

// Limit is a number of wrong answers in a time.
type Limit struct {
	// Whether this limit is set for everybody. Stricter limits of a person, rule or target, and locks by operators, hold all the same.
	Enabled bool `yaml:"enabled"`
	// Wrong answers that lead to a lock.
	Failures int `yaml:"failures"`
	// Time in which they count together.
	Window Duration `yaml:"window"`
	// How long the lock holds.
	Lock Duration `yaml:"lock"`
}

// Guard is about clients that have not authenticated yet.
type Guard struct {
	// Connections of one address at a time; more wait in a short queue.
	PerSource int `yaml:"per-source"`
	// Connections of all addresses together.
	Total int `yaml:"total"`
	// Time for version and key exchange.
	Handshake Duration `yaml:"handshake"`
	// Time for one answer.
	Prompt Duration `yaml:"prompt"`
	// Time for an enrolment.
	Enrolment Duration `yaml:"enrolment"`
	// What a client may send.
	Bytes Size `yaml:"bytes"`
	// Networks that per-source and early drop do not apply to, such as an address many people share.
	Exempt []Network `yaml:"exempt"`
}

// Recordings is about recordings of sessions.
type Recordings struct {
	// Folder of the recordings. Empty: recordings in the data folder.
	Local Path `yaml:"local"`
	// Space that must stay free. Below it no session that must be recorded begins.
	Reserve Size `yaml:"reserve"`
	// Whether what was on the screens can be searched. Off: nothing is indexed, and no search is answered.
	Search OnOff `yaml:"search"`
	// How long recordings are kept where the rule does not say: days such as 90d, or forever. What a session is held for (sallyport session hold) stays longer.
	Retention Keep `yaml:"retention"`
	// Recordings kept on all nodes together from which on no session that must be recorded begins. 0: no bound.
	Quota Size `yaml:"quota"`
	// Recipients of age (age1...) to whom new recordings are encrypted. Nodes then cannot read what they
	// have recorded: no replay, transcript or search on the server, and whoever has the key of a
	// recipient replays by sallyport session play --identity FILE. Empty: recordings are not encrypted.
	Recipients []Recipient `yaml:"recipients"`
	// Bucket that sealed recordings go to while sessions run; then all nodes read them, and a lost disk takes only what had not got there. Leave it out to keep them in local alone.
	S3 *S3 `yaml:"s3"`
}

// S3 is a bucket of an S3-compatible store.
type S3 struct {
	// Address of the store. http:// on loopback only.
	Endpoint URL `yaml:"endpoint"`
	// Name of the bucket. It must exist.
	Bucket Name `yaml:"bucket"`
	// What all names in the bucket begin with, such as bastion/prod. Empty: nothing.
	Prefix string `yaml:"prefix"`
	// Region of the bucket. Empty: the store is asked.
	Region string `yaml:"region"`
	// File with the name of the access key. Empty: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment, the files of the AWS tools, or the machine's role.
	AccessKeyFile Path `yaml:"access-key-file"`
	// File with the secret of the access key.
	SecretKeyFile Path `yaml:"secret-key-file"`
	// File with the authorities that sign the store's certificate (PEM). Empty: those of the system.
	CAFile Path `yaml:"ca-file"`
	// The bucket stands in the path and not in the name of the host; most stores that are not Amazon's want this.
	PathStyle bool `yaml:"path-style"`
	// Allow http:// over a network: everybody on the way sees what people did.
	InsecurePlaintext bool `yaml:"insecure-plaintext"`
	// Lock objects against deletion; the bucket must have been made with object lock. Leave it out for none but what the bucket sets by itself.
	ObjectLock *ObjectLock `yaml:"object-lock"`
}

// ObjectLock is how the store locks objects.
type ObjectLock struct {
	// governance: those with a right of their own may delete; compliance: nobody may, the owner of the account included.
	Mode LockMode `yaml:"mode"`
	// Days from the moment of writing.
	Days int `yaml:"days"`
}

// Keys names the files with keys.
type Keys struct {
	// Key ring that seals secrets in the database; the same on all nodes. A file, or credential:NAME for a
	// credential of systemd, or env:NAME for a variable of the environment. Empty: keyring in the data folder.
	Ring Path `yaml:"ring"`
	// Key of this node that signs recordings. Empty: signing.key in the data folder.
	Signing Path `yaml:"signing"`
}

// Log is about the log.
type Log struct {
	// Least level that is written: debug, info, warn or error.
	Level Level `yaml:"level"`
	// json or text.
	Format Format `yaml:"format"`
}
