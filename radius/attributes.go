package radius

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/audit"
)

// form is how the value of an attribute is read.
type form byte

const (
	octets form = iota
	text
	integer
	address
	address6
	hidden // a secret, or something that leads to one
)

// attributes are those that are shown by name (RFC 2865, 2866, 2868, 2869, 3162, 5580 and what VPNs send of others).
var attributes = map[codec.Type]struct {
	name string
	form form
}{
	1: {"User-Name", text}, 2: {"User-Password", hidden}, 3: {"CHAP-Password", hidden}, 4: {"NAS-IP-Address", address}, 5: {"NAS-Port", integer},
	6: {"Service-Type", integer}, 7: {"Framed-Protocol", integer}, 8: {"Framed-IP-Address", address}, 9: {"Framed-IP-Netmask", address},
	11: {"Filter-Id", text}, 12: {"Framed-MTU", integer}, 18: {"Reply-Message", text}, 24: {"State", hidden}, 25: {"Class", octets},
	26: {"Vendor-Specific", hidden}, 27: {"Session-Timeout", integer}, 28: {"Idle-Timeout", integer}, 30: {"Called-Station-Id", text},
	31: {"Calling-Station-Id", text}, 32: {"NAS-Identifier", text}, 33: {"Proxy-State", octets}, 40: {"Acct-Status-Type", integer},
	41: {"Acct-Delay-Time", integer}, 42: {"Acct-Input-Octets", integer}, 43: {"Acct-Output-Octets", integer}, 44: {"Acct-Session-Id", text},
	45: {"Acct-Authentic", integer}, 46: {"Acct-Session-Time", integer}, 49: {"Acct-Terminate-Cause", integer}, 50: {"Acct-Multi-Session-Id", text},
	55: {"Event-Timestamp", integer}, 60: {"CHAP-Challenge", hidden}, 61: {"NAS-Port-Type", integer}, 62: {"Port-Limit", integer},
	64: {"Tunnel-Type", octets}, 65: {"Tunnel-Medium-Type", octets}, 66: {"Tunnel-Client-Endpoint", text}, 67: {"Tunnel-Server-Endpoint", text},
	69: {"Tunnel-Password", hidden}, 70: {"ARAP-Password", hidden}, 73: {"ARAP-Security", hidden}, 74: {"ARAP-Security-Data", hidden},
	76: {"Prompt", integer}, 77: {"Connect-Info", text}, 79: {"EAP-Message", hidden}, 80: {"Message-Authenticator", hidden},
	87: {"NAS-Port-Id", text}, 95: {"NAS-IPv6-Address", address6}, 96: {"Framed-Interface-Id", octets}, 168: {"Framed-IPv6-Address", address6},
}

// microsoft is the vendor whose attributes carry answers to challenges and keys (RFC 2548); those of others are shown.
const microsoft = 311

func attributeName(t codec.Type) string {
	if a, ok := attributes[t]; ok {
		return a.name
	}
	return "Attr-" + strconv.Itoa(int(t))
}

// describe lists the attributes of a request for the log, escaped. The values are shown of those that are known to be
// harmless, and of all others how long they are: secrets have many numbers, such as 84 (ARAP-Challenge-Response), 103
// and those that follow it (digests, RFC 5090), and vendors have their own.
func (r *request) describe() string {
	var out []string
	for _, a := range r.Attributes {
		known, named := attributes[a.Type]
		switch {
		case a.Type == rfc2865.VendorSpecific_Type:
			out = append(out, describeVendor(a.Attribute))
		case named && known.form == hidden:
			out = append(out, known.name)
		case named:
			out = append(out, known.name+"="+describeValue(known.form, a.Attribute))
		default:
			out = append(out, fmt.Sprintf("%s (%d octets)", attributeName(a.Type), len(a.Attribute)))
		}
	}
	return audit.Escape(strings.Join(out, ", "))
}

func describeVendor(v codec.Attribute) string {
	if len(v) < 4 {
		return "Vendor-Specific"
	}
	return fmt.Sprintf("Vendor-%d (%d octets)", binary.BigEndian.Uint32(v), len(v)-4)
}

func describeValue(f form, v codec.Attribute) string {
	switch {
	case f == integer && len(v) == 4:
		return strconv.FormatUint(uint64(binary.BigEndian.Uint32(v)), 10)
	case f == address && len(v) == 4, f == address6 && len(v) == 16:
		a, _ := netip.AddrFromSlice(v)
		return a.String()
	case printable(v):
		return strconv.Quote(string(v))
	}
	return "0x" + hex.EncodeToString(v)
}

// printable tells whether somebody can have typed b.
func printable(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, c := range string(b) {
		if unicode.IsControl(c) || c == utf8.RuneError {
			return false
		}
	}
	return true
}

// addressIn reads the address of a person out of an attribute; the zero Addr if there is none.
func (r *request) addressIn(t codec.Type) netip.Addr {
	v, ok := r.Lookup(t)
	if !ok {
		return netip.Addr{}
	}
	if f := attributes[t].form; f == address && len(v) == 4 || f == address6 && len(v) == 16 {
		a, _ := netip.AddrFromSlice(v)
		return a.Unmap()
	}
	if (t == 66 || t == 67) && len(v) > 0 && v[0] < 0x20 {
		v = v[1:] // tag of the tunnel (RFC 2868, section 3.3)
	}
	a, err := netip.ParseAddr(strings.TrimSpace(string(v)))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a.Unmap()
}
