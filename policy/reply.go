package policy

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ReplyAttribute is an attribute of RADIUS that goes out with an acceptance.
type ReplyAttribute struct {
	Name   string
	Vendor uint32 // 0: none
	Type   byte
	Value  []byte // as sent; {user} in it stands for the login if HasUser is set
	// HasUser tells that {user} in Value is to be replaced.
	HasUser bool
}

// maxReply is how many octets all attributes of a rule may have: some clients take no answer above 1024.
const maxReply = 700

// replyForm is how the value of an attribute is written.
type replyForm byte

const (
	replyText replyForm = iota
	replyNumber
	replyAddress
	replyTunnel // a number behind a tag (RFC 2868, section 3.1)
)

// replyKind is an attribute that rules know by name.
type replyKind struct {
	vendor uint32
	number byte
	form   replyForm
}

// replyKinds are attributes of RFC 2865, 2868, 2869 and 3162, and those by which well-known vendors assign roles. Any
// other of a vendor is written Vendor-NUMBER-TYPE.
var replyKinds = map[string]replyKind{
	"Service-Type": {0, 6, replyNumber}, "Framed-IP-Address": {0, 8, replyAddress}, "Framed-IP-Netmask": {0, 9, replyAddress},
	"Filter-Id": {0, 11, replyText}, "Class": {0, 25, replyText}, "Session-Timeout": {0, 27, replyNumber}, "Idle-Timeout": {0, 28, replyNumber},
	"Termination-Action": {0, 29, replyNumber}, "Acct-Interim-Interval": {0, 85, replyNumber}, "Framed-Pool": {0, 88, replyText},
	"Framed-IPv6-Pool": {0, 100, replyText}, "Tunnel-Type": {0, 64, replyTunnel}, "Tunnel-Medium-Type": {0, 65, replyTunnel},
	"Tunnel-Private-Group-Id": {0, 81, replyText},

	"Cisco-AVPair": {9, 1, replyText}, "ASA-Group-Policy": {3076, 25, replyText}, "Fortinet-Group-Name": {12356, 1, replyText},
	"Fortinet-Access-Profile": {12356, 6, replyText}, "PaloAlto-Admin-Role": {25461, 1, replyText}, "PaloAlto-User-Group": {25461, 5, replyText},
	"Juniper-Local-User-Name": {2636, 1, replyText}, "Aruba-User-Role": {14823, 1, replyText}, "Mikrotik-Group": {14988, 3, replyText},
	"Mikrotik-Rate-Limit": {14988, 8, replyText}, "SonicWall-User-Group": {8741, 3, replyText}, "CP-Gaia-User-Role": {2620, 229, replyText},
}

// ReplyNames lists the attributes that rules know by name, in order.
func ReplyNames() []string { return slices.Sorted(maps.Keys(replyKinds)) }

// microsoftVendor is the vendor whose attributes are keys and answers to challenges.
const microsoftVendor = 311

// parseReply reads NAME=VALUE.
func parseReply(word string) (ReplyAttribute, error) {
	name, value, ok := strings.Cut(word, "=")
	if !ok || value == "" {
		return ReplyAttribute{}, fmt.Errorf("%s: write NAME=VALUE, such as Filter-Id=staff", quote(word))
	}
	kind, known := replyKinds[name]
	if !known {
		var err error
		if kind, err = vendorKind(name); err != nil {
			return ReplyAttribute{}, err
		}
	}
	a := ReplyAttribute{Name: name, Vendor: kind.vendor, Type: kind.number}
	var err error
	if a.Value, err = kind.form.encode(value); err != nil {
		return ReplyAttribute{}, fmt.Errorf("%s: %w", quote(word), err)
	}
	a.HasUser = kind.form == replyText && strings.Contains(value, "{user}")
	if len(a.Value) > 253-8 {
		return ReplyAttribute{}, fmt.Errorf("%s: the value is longer than %d octets", quote(word), 253-8)
	}
	return a, nil
}

// vendorKind reads Vendor-NUMBER-TYPE.
func vendorKind(name string) (replyKind, error) {
	rest, ok := strings.CutPrefix(name, "Vendor-")
	vendor, number, ok2 := strings.Cut(rest, "-")
	v, err1 := strconv.ParseUint(vendor, 10, 24)
	n, err2 := strconv.ParseUint(number, 10, 8)
	switch {
	case !ok || !ok2 || err1 != nil || err2 != nil || v == 0 || n == 0:
		return replyKind{}, fmt.Errorf("%s is not an attribute that can be sent; these are: %s, and Vendor-NUMBER-TYPE", quote(name), strings.Join(ReplyNames(), ", "))
	case v == microsoftVendor:
		return replyKind{}, errors.New("attributes of Microsoft are keys and answers to challenges; no rule sends them")
	}
	return replyKind{uint32(v), byte(n), replyText}, nil
}

func (f replyForm) encode(value string) ([]byte, error) {
	switch f {
	case replyNumber, replyTunnel:
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || f == replyTunnel && n >= 1<<24 {
			return nil, errors.New("the value must be a whole number")
		}
		return binary.BigEndian.AppendUint32(nil, uint32(n)), nil // the tag of a tunnel is 0, its first octet
	case replyAddress:
		a, err := netip.ParseAddr(value)
		if err != nil || !a.Is4() {
			return nil, errors.New("the value must be an IPv4 address")
		}
		return a.AsSlice(), nil
	}
	if octets, ok := strings.CutPrefix(value, "0x"); ok {
		b, err := hex.DecodeString(octets)
		if err != nil || len(b) == 0 {
			return nil, errors.New("after 0x there must be pairs of hexadecimal digits")
		}
		return b, nil
	}
	return []byte(value), nil
}

// compileReply parses what the rule sends by RADIUS.
func (m *matcher) compileReply() *ruleError {
	r := m.rule
	if len(r.Reply) == 0 {
		return nil
	}
	if len(r.Channels) == 0 || m.kinds&radiusKind == 0 {
		return wrong("reply", errors.New("is for rules with channels: [radius]"))
	}
	total := 0
	err := eachWord("reply", r.Reply, func(word string) error {
		a, err := parseReply(word)
		total += len(a.Value) + 8
		m.reply = append(m.reply, a)
		return err
	})
	if err == nil && total > maxReply {
		err = wrong("reply", fmt.Errorf("is longer than %d octets together; many clients take no such answer", maxReply))
	}
	return err
}
