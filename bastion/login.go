package bastion

import (
	"slices"
	"strings"
)

// Login is an SSH user name taken apart (RFC 4252, section 5, "user name").
type Login struct {
	User    string // who: without a configured suffix
	Account string // as whom on the target; "": the target's first account that the rules allow
	Target  string // where; "": none was named
}

// ParseLogin takes apart what a client sent as user name:
//
//	user                  no target
//	user@target
//	user@account@target
//
// "%" or "+" may stand for every "@". Parts are counted from the left. A user name that itself holds
// an "@" is understood only if what follows is one of suffixes, which is then dropped. Anything else
// is no login: ok is false, and User is the whole name, which nobody has.
func ParseLogin(name string, suffixes []string) (l Login, ok bool) {
	separator := "@"
	for _, s := range []string{"@", "%", "+"} {
		if strings.Contains(name, s) {
			separator = s
			break
		}
	}
	parts := strings.Split(name, separator)
	if len(parts) > 1 && slices.ContainsFunc(suffixes, func(s string) bool {
		return strings.EqualFold(strings.TrimPrefix(s, "@"), parts[1])
	}) {
		parts = append(parts[:1:1], parts[2:]...)
	}
	if len(parts) > 3 || slices.Contains(parts, "") {
		return Login{User: name}, false
	}
	switch len(parts) {
	case 1:
		l = Login{User: parts[0]}
	case 2:
		l = Login{User: parts[0], Target: parts[1]}
	case 3:
		l = Login{User: parts[0], Account: parts[1], Target: parts[2]}
	}
	return l, true
}

// String gives the canonical form.
func (l Login) String() string {
	parts := []string{l.User}
	if l.Account != "" {
		parts = append(parts, l.Account)
	}
	if l.Target != "" {
		parts = append(parts, l.Target)
	}
	return strings.Join(parts, "@")
}
