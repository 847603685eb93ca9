package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/uuid"
)

// Attributes read from a person's entry besides those that the configuration names and those of status.go.
const (
	attrEntryUUID   = "entryUUID"  // RFC 4530
	attrObjectGUID  = "objectGUID" // Active Directory: 16 bytes, the first three fields little-endian
	attrDisplayName = "displayName"
	attrCN          = "cn"
	attrMemberOf    = "memberOf"
)

// changedAttributes tell when a password was changed: OpenLDAP's ppolicy, Active Directory, shadow(5), Samba.
var changedAttributes = []string{"pwdChangedTime", "pwdLastSet", "shadowLastChange", "sambaPwdLastSet"}

// personAttributes lists what a search for people asks for; operational attributes come only when named.
func personAttributes(cfg LDAPConfig) []string {
	list := slices.Concat([]string{cfg.LoginAttribute, attrEntryUUID, attrObjectGUID, attrDisplayName, attrCN, cfg.MailAttribute, cfg.MobileAttribute, attrMemberOf}, statusAttributes, changedAttributes)
	if cfg.KeyAttribute != "" {
		list = append(list, cfg.KeyAttribute)
	}
	return list
}

// newPerson reads an entry, all but the groups.
func newPerson(e *ldap.Entry, cfg LDAPConfig, now time.Time) (Person, error) {
	id, err := entryID(e)
	if err != nil {
		return Person{}, unavailable("reading "+e.DN, err)
	}
	login, err := entryLogin(e, cfg.LoginAttribute)
	if err != nil {
		return Person{}, fmt.Errorf("reading %s: %w: %w", e.DN, ErrUnknown, err)
	}
	p := Person{
		ID:    id,
		DN:    e.DN,
		Login: login,
		Name:  e.GetEqualFoldAttributeValue(attrDisplayName),
		Email: e.GetEqualFoldAttributeValue(cfg.MailAttribute),
		Phone: e.GetEqualFoldAttributeValue(cfg.MobileAttribute),
	}
	if p.Name == "" {
		p.Name = e.GetEqualFoldAttributeValue(attrCN)
	}
	for _, attribute := range changedAttributes {
		p.PasswordChanged += e.GetEqualFoldAttributeValue(attribute) + ";"
	}
	if strings.Trim(p.PasswordChanged, ";") == "" {
		p.PasswordChanged = ""
	}
	p.Status = status(e, now, cfg.LockDuration)
	p.Disabled = p.Status != ""
	return p, nil
}

// entryLogin returns the canonical login name. Of several values the one that names the entry
// counts, else the first in order: the same whatever order the server sends them in.
func entryLogin(e *ldap.Entry, attribute string) (string, error) {
	values := slices.Clone(e.GetEqualFoldAttributeValues(attribute))
	if len(values) == 0 {
		return "", fmt.Errorf("no value of login attribute %s", attribute)
	}
	slices.Sort(values)
	login := values[0]
	if len(values) > 1 {
		dn, err := ldap.ParseDN(e.DN)
		if err != nil || len(dn.RDNs) == 0 {
			return "", errors.New("malformed DN")
		}
		for _, a := range dn.RDNs[0].Attributes {
			if strings.EqualFold(a.Type, attribute) && slices.Contains(values, a.Value) {
				login = a.Value
			}
		}
	}
	canonical, err := CanonicalLogin(login)
	if err != nil {
		return "", fmt.Errorf("login attribute %s is %.80q: %w", attribute, login, err)
	}
	return canonical, nil
}

// entryID returns the id that stays when the entry is renamed or moved.
func entryID(e *ldap.Entry) (string, error) {
	if values := e.GetEqualFoldAttributeValues(attrEntryUUID); len(values) == 1 {
		id, err := uuid.Parse(values[0])
		if err != nil {
			return "", fmt.Errorf("malformed %s: %w", attrEntryUUID, err)
		}
		return id.String(), nil
	}
	if values := e.GetEqualFoldRawAttributeValues(attrObjectGUID); len(values) == 1 {
		return guidText(values[0])
	}
	return "", fmt.Errorf("the entry shows neither %s nor %s to the account that searches", attrEntryUUID, attrObjectGUID)
}

// guidText writes an objectGUID as Active Directory's own tools do ([MS-DTYP], section 2.3.4.2).
func guidText(b []byte) (string, error) {
	if len(b) != 16 {
		return "", fmt.Errorf("%s of %d bytes, want 16", attrObjectGUID, len(b))
	}
	var id uuid.UUID
	binary.BigEndian.PutUint32(id[0:], binary.LittleEndian.Uint32(b[0:]))
	binary.BigEndian.PutUint16(id[4:], binary.LittleEndian.Uint16(b[4:]))
	binary.BigEndian.PutUint16(id[6:], binary.LittleEndian.Uint16(b[6:]))
	copy(id[8:], b[8:])
	return id.String(), nil
}
