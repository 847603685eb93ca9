package identity

import (
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Attributes that tell whether an account may be used. A directory has some of them or none.
const (
	attrLockedTime     = "pwdAccountLockedTime"               // draft-behera: when it was locked; lockedForever: for good
	attrEndTime        = "pwdEndTime"                         // draft-behera: not after
	attrStartTime      = "pwdStartTime"                       // draft-behera: not before
	attrShadowExpire   = "shadowExpire"                       // RFC 2307: days since 1970; negative: never
	attrNSLock         = "nsAccountLock"                      // 389 Directory Server, FreeIPA
	attrAccountControl = "userAccountControl"                 // Active Directory: bits
	attrComputed       = "msDS-User-Account-Control-Computed" // Active Directory: bits that depend on the time
	attrExpires        = "accountExpires"                     // Active Directory: 100 ns since 1601; 0 and maxInt64: never
)

var statusAttributes = []string{attrLockedTime, attrEndTime, attrStartTime, attrShadowExpire, attrNSLock, attrAccountControl, attrComputed, attrExpires}

const (
	lockedForever = "000001010000Z"

	uacDisabled        = 0x2
	uacLockout         = 0x10
	uacPasswordExpired = 0x800000
)

// status says in words why the account may not be used, or nothing. What cannot be read counts
// against the account.
func status(e *ldap.Entry, now time.Time, lockDuration time.Duration) string {
	for _, attribute := range statusAttributes {
		value := e.GetEqualFoldAttributeValue(attribute)
		if value == "" {
			continue
		}
		if why := statusOf(attribute, value, now, lockDuration); why != "" {
			return why + " (" + attribute + ")"
		}
	}
	return ""
}

func statusOf(attribute, value string, now time.Time, lockDuration time.Duration) string {
	const unreadable = "unreadable value"
	switch attribute {
	case attrLockedTime:
		if value == lockedForever {
			return "locked"
		}
		since, err := generalizedTime(value)
		if err != nil {
			return unreadable
		}
		if lockDuration == 0 || now.Before(since.Add(lockDuration)) {
			return "locked"
		}
	case attrEndTime, attrStartTime:
		at, err := generalizedTime(value)
		switch {
		case err != nil:
			return unreadable
		case attribute == attrEndTime && !now.Before(at):
			return "expired"
		case attribute == attrStartTime && now.Before(at):
			return "not valid yet"
		}
	case attrShadowExpire:
		days, err := strconv.ParseInt(value, 10, 32)
		switch {
		case err != nil:
			return unreadable
		case days >= 0 && now.Unix()/(24*60*60) >= days:
			return "expired"
		}
	case attrNSLock:
		if !strings.EqualFold(value, "FALSE") {
			return "locked"
		}
	case attrAccountControl, attrComputed:
		return accountControl(value)
	case attrExpires:
		ticks, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil || ticks < 0:
			return unreadable
		case ticks != 0 && !now.Before(fileTime(ticks)):
			return "expired"
		}
	}
	return ""
}

// accountControl reads the bits of userAccountControl ([MS-ADTS], section 2.2.16).
func accountControl(value string) string {
	bits, err := strconv.ParseInt(value, 10, 64)
	switch {
	case err != nil:
		return "unreadable value"
	case bits&uacDisabled != 0:
		return "disabled"
	case bits&uacLockout != 0:
		return "locked"
	case bits&uacPasswordExpired != 0:
		return "password expired"
	}
	return ""
}

// fileTime returns the moment so many 100 ns after 1601. The highest value means never and lies in the
// year 30828.
func fileTime(ticks int64) time.Time {
	const epoch = 11644473600 // seconds from 1601 to 1970
	return time.Unix(ticks/1e7-epoch, ticks%1e7*100)
}

// generalizedTime reads the forms that servers write (RFC 4517, section 3.3.13): with or without
// seconds and fraction, in UTC.
func generalizedTime(value string) (time.Time, error) {
	layout := "20060102150405Z0700"
	if digits := strings.IndexFunc(value, func(r rune) bool { return r < '0' || r > '9' }); digits == len("200601021504") {
		layout = "200601021504Z0700"
	}
	return time.Parse(layout, value)
}
