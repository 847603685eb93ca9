// Package identity finds people in a directory (LDAP) and checks passwords: those of directory
// people by a bind, those of local users against an argon2id hash.
//
// It knows nobody above it. A caller makes a login name canonical by [CanonicalLogin], finds the
// person by [LDAP.Lookup] and proves the password by [LDAP.Bind]. [Person.ID] never changes in the
// life of an entry; counters, tokens and rules hang on it or on [Person.Login], never on what was
// typed, so that all spellings and aliases of a name meet in one person.
//
// Errors fall into three classes, told apart by [errors.Is]: the person is refused
// ([ErrUnknown], [ErrAmbiguous]), the password is refused ([ErrPassword]), or the directory could not
// answer ([ErrUnavailable]), which refuses the login and never counts against the person. The text
// of an error is for the operator's log, and may hold characters that came from the directory; people
// see one neutral sentence for all of them.
package identity

import (
	"errors"
	"fmt"
)

// Classes of errors. The narrower ones below wrap one of these.
var (
	// ErrUnknown: no entry for this login name that may log in.
	ErrUnknown = errors.New("no such person in the directory")
	// ErrAmbiguous: more than one entry for this login name; nobody is guessed.
	ErrAmbiguous = errors.New("more than one entry matches")
	// ErrPassword: the password does not open the account.
	ErrPassword = errors.New("password refused")
	// ErrUnavailable: the directory gave no usable answer. Never counts against the person.
	ErrUnavailable = errors.New("directory not available")
)

// Narrower causes, for the operator's log.
var (
	// ErrNotMember is an ErrUnknown: the entry exists and is outside the login group.
	ErrNotMember = fmt.Errorf("not a member of the login group: %w", ErrUnknown)
	// ErrDisabled is an ErrPassword: the account is disabled or has expired.
	ErrDisabled = fmt.Errorf("account disabled or expired: %w", ErrPassword)
	// ErrLocked is an ErrPassword: the directory itself has locked the account for now.
	ErrLocked = fmt.Errorf("account locked by the directory: %w", ErrPassword)
	// ErrExpired is an ErrPassword: the password was right, and must be changed first.
	ErrExpired = fmt.Errorf("password expired: %w", ErrPassword)
)

// Person is one entry of the directory as it stood at the look-up.
type Person struct {
	ID       string   // entryUUID or objectGUID as canonical UUID text, lower case
	DN       string   // distinguished name of the entry
	Login    string   // canonical value of the login attribute, whatever alias was typed
	Name     string   // displayName, else cn; "" if there is none. May hold any character
	Email    string   // first mail; "" if there is none. May hold any character
	Phone    string   // first telephone number that codes can be sent to, as it stands there; "": none. May hold any character
	Groups   []string // names of all groups, direct and nested, sorted, in the directory's spelling; compare with strings.EqualFold
	Disabled bool     // disabled, locked or expired: refuse whatever the first factor is
	Status   string   // why Disabled is set, for the operator; "" otherwise
	Keys     []string // fingerprints (SHA256:…) of the public keys in the entry that may stand for the password

	PasswordChanged string // what the directory says of when the password was changed last, in its own form; "" if nothing
}
