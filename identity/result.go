package identity

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/go-ldap/ldap/v3"
)

// unavailableError is an ErrUnavailable with its cause.
type unavailableError struct {
	doing string
	err   error
}

func unavailable(doing string, err error) error { return &unavailableError{doing, err} }

func (e *unavailableError) Error() string   { return e.doing + ": " + e.err.Error() }
func (e *unavailableError) Unwrap() []error { return []error{ErrUnavailable, e.err} }

// searchError classes the error of a search. A missing base object is an error of the configuration
// or of the rights to read, never an unknown person.
func searchError(base string, err error) error {
	if err == nil {
		return nil
	}
	return unavailable("searching "+base, err)
}

// adData finds the reason that Active Directory adds to invalidCredentials:
// "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data 533, v2580".
var adData = regexp.MustCompile(`\bdata ([0-9a-fA-F]{1,8})\b`)

// adReasons are the values that do not mean "wrong password" (there: system error codes in hexadecimal).
var adReasons = map[string]error{
	"525": ErrPassword, // no such user
	"52e": ErrPassword, // wrong password
	"530": ErrDisabled, // not at this time
	"531": ErrDisabled, // not from this machine
	"532": ErrExpired,  // password expired
	"533": ErrDisabled, // account disabled
	"701": ErrDisabled, // account expired
	"773": ErrExpired,  // password must be changed
	"775": ErrLocked,   // account locked
}

// bindError classes the answer to a person's bind. Everything that the server may say about the person
// or the password counts as a refused password; only what it says about itself does not.
func bindError(result *ldap.SimpleBindResult, err error) error {
	var refused *ldap.Error
	policy := policyError(result)
	switch {
	case err == nil && policy == nil:
		return nil
	case err == nil:
		return policy // the bind held, and the server allows nothing but a change of the password
	case !errors.As(err, &refused):
		return unavailable("binding", err)
	}
	switch refused.ResultCode {
	case ldap.LDAPResultInvalidCredentials:
		if policy != nil {
			return fmt.Errorf("%w (%w)", policy, err)
		}
		if m := adData.FindStringSubmatch(refused.Err.Error()); m != nil && adReasons[m[1]] != nil {
			return fmt.Errorf("%w (%w)", adReasons[m[1]], err)
		}
		return fmt.Errorf("%w (%w)", ErrPassword, err)
	case ldap.LDAPResultConstraintViolation, ldap.LDAPResultUnwillingToPerform:
		// 389 Directory Server and others: too many failures; inactive or locked account.
		return fmt.Errorf("%w (%w)", ErrLocked, err)
	case ldap.LDAPResultInappropriateAuthentication, // the entry has no password
		ldap.LDAPResultNoSuchObject, // gone since the look-up
		ldap.LDAPResultInsufficientAccessRights,
		ldap.LDAPResultAuthMethodNotSupported,
		ldap.LDAPResultAuthorizationDenied:
		return fmt.Errorf("%w (%w)", ErrPassword, err)
	}
	// Network, time, busy (51), unavailable (52), a referral (10), which is never followed: another
	// server would receive the password.
	return unavailable("binding", err)
}

// Errors of the password policy control (draft-behera-ldap-password-policy-10, section 6.2).
const (
	policyPasswordExpired  = 0
	policyAccountLocked    = 1
	policyChangeAfterReset = 2
)

func policyError(result *ldap.SimpleBindResult) error {
	if result == nil {
		return nil
	}
	c, ok := ldap.FindControl(result.Controls, ldap.ControlTypeBeheraPasswordPolicy).(*ldap.ControlBeheraPasswordPolicy)
	if !ok {
		return nil
	}
	switch c.Error {
	case policyPasswordExpired, policyChangeAfterReset:
		return ErrExpired
	case policyAccountLocked:
		return ErrLocked
	}
	return nil
}
