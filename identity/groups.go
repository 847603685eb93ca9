package identity

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

const (
	maxDepth  = 8    // groups of groups that are followed
	maxGroups = 1000 // of one person
	dnsAFind  = 50   // DNs in the filter of one search
)

// group is a group whose own groups are to be found.
type group struct {
	dn       string
	memberOf []string // what the entry shows; nil: the entry was not read
}

// groupWalk collects the groups of one person level by level: those of the person, those of these
// groups, and so on. A group is visited once, so that circles end.
type groupWalk struct {
	l     *LDAP
	c     *conn
	login string
	seen  map[string]bool   // normalised DNs
	names map[string]string // folded name → name
}

// groups returns the names of all groups of the entry: those that its memberOf names and those
// that the search for groups finds, both nested.
func (l *LDAP) groups(c *conn, login string, e *ldap.Entry) ([]string, error) {
	memberOf, err := memberOf(e)
	if err != nil {
		return nil, err
	}
	w := &groupWalk{l: l, c: c, login: login, seen: map[string]bool{}, names: map[string]string{}}
	level := []group{{dn: e.DN, memberOf: memberOf}}
	for depth := 0; depth < maxDepth && len(level) > 0; depth++ {
		if level, err = w.parents(level, depth == 0); err != nil {
			return nil, err
		}
		if len(w.seen) > maxGroups {
			return nil, unavailable("reading groups of "+e.DN, fmt.Errorf("more than %d", maxGroups))
		}
	}
	return slices.Sorted(maps.Values(w.names)), nil
}

// parents returns the groups, not seen before, that the entries of level are members of.
func (w *groupWalk) parents(level []group, people bool) ([]group, error) {
	var found []group
	if w.l.cfg.GroupBase != "" {
		var err error
		if found, err = w.find(level, people); err != nil {
			return nil, err
		}
	}
	for _, g := range level {
		if g.memberOf == nil && w.l.readGroups {
			var err error
			if g.memberOf, err = w.read(g.dn); err != nil {
				return nil, err
			}
		}
		for _, dn := range g.memberOf {
			found = append(found, group{dn: dn})
		}
	}
	var next []group
	for _, g := range found {
		isNew, err := w.add(g.dn)
		if err != nil {
			return nil, err
		}
		if isNew {
			next = append(next, g)
		}
	}
	return next, nil
}

// add takes note of a group and tells whether it is new. Groups outside the configured base are
// nobody's: a name must not be had by making a group of that name elsewhere.
func (w *groupWalk) add(text string) (bool, error) {
	dn, err := ldap.ParseDN(text)
	if err != nil || len(dn.RDNs) == 0 {
		return false, unavailable("reading a group", fmt.Errorf("malformed DN %.200q", text))
	}
	key := strings.ToLower(dn.String())
	if w.seen[key] || w.l.groupBase != nil && !w.l.groupBase.AncestorOfFold(dn) {
		return false, nil
	}
	w.seen[key] = true
	name := groupName(dn)
	if fold := strings.ToLower(name); w.names[fold] == "" {
		w.names[fold] = name
	}
	return true, nil
}

// groupName returns what names the entry: its cn, else whatever its first component holds.
func groupName(dn *ldap.DN) string {
	for _, a := range dn.RDNs[0].Attributes {
		if strings.EqualFold(a.Type, attrCN) {
			return a.Value
		}
	}
	return dn.RDNs[0].Attributes[0].Value
}

// find searches the groups that the entries of level are members of, many in one request.
func (w *groupWalk) find(level []group, people bool) ([]group, error) {
	template := w.l.cfg.GroupFilter
	if !people && !strings.Contains(template, placeholderDN) {
		return nil, nil // members are listed by login name; groups have none
	}
	var found []group
	for some := range slices.Chunk(level, dnsAFind) {
		var filter strings.Builder
		for _, g := range some {
			filter.WriteString(w.filter(template, g.dn, people))
		}
		text := filter.String()
		if len(some) > 1 {
			text = "(|" + text + ")"
		}
		entries, err := w.l.query(w.c, w.l.cfg.GroupBase, ldap.ScopeWholeSubtree, maxGroups+1, text, []string{attrMemberOf})
		if err != nil {
			return nil, searchError(w.l.cfg.GroupBase, err)
		}
		for _, e := range entries {
			memberOf, err := memberOf(e)
			if err != nil {
				return nil, err
			}
			found = append(found, group{dn: e.DN, memberOf: memberOf})
		}
	}
	return found, nil
}

// filter fills the template for one DN. A group has no login name: its place is taken by a NUL, which
// no name contains.
func (w *groupWalk) filter(template, dn string, person bool) string {
	login := "\x00"
	if person {
		login = w.login
	}
	return strings.NewReplacer(placeholderDN, ldap.EscapeFilter(dn), placeholderLogin, ldap.EscapeFilter(login)).Replace(template)
}

// read returns the memberOf of the group dn, which may be hidden or gone: then it is in no other.
func (w *groupWalk) read(dn string) ([]string, error) {
	entries, err := w.l.query(w.c, dn, ldap.ScopeBaseObject, 1, "(objectClass=*)", []string{attrMemberOf})
	if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
		return nil, nil
	}
	if err != nil {
		return nil, searchError(dn, err)
	}
	if len(entries) != 1 {
		return nil, nil
	}
	return memberOf(entries[0])
}

// memberOf returns the DNs of the groups that an entry shows. Active Directory hands out more than
// 1500 values in ranges; to read a part of them would be to miss a group that a rule refuses.
func memberOf(e *ldap.Entry) ([]string, error) {
	for _, a := range e.Attributes {
		if name, _, options := strings.Cut(a.Name, ";"); options && strings.EqualFold(name, attrMemberOf) {
			return nil, unavailable("reading "+e.DN, errors.New("more groups than the server shows at once"))
		}
	}
	values := e.GetEqualFoldAttributeValues(attrMemberOf)
	if values == nil {
		values = []string{}
	}
	return values, nil
}
