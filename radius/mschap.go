package radius

import (
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2759"
	"layeh.com/radius/rfc2865"
)

// Attributes of Microsoft (RFC 2548, section 2).
const (
	msCHAPError     = 2
	msCHAPChallenge = 11
	msCHAP2Response = 25
	msCHAP2Success  = 26
)

// msCHAP is an exchange by MS-CHAPv2 (RFC 2759), begun between the person's machine and the client.
//
// No keys for MPPE (RFC 2548, section 2.4) follow from it: made of a code of six digits they would protect nothing.
type msCHAP struct {
	user            string // as the person's machine knows it
	ident           byte
	challenge, peer []byte // 16 octets each
	response        []byte // 24 octets
	code            string // that matched; "": none
}

// msCHAP reads what was sent. There is a response (RFC 2548, section 2.3.2).
func (r *request) msCHAP() (*msCHAP, error) {
	response, err := r.microsoft(msCHAP2Response)
	if err != nil {
		return nil, err
	}
	challenge, err := r.microsoft(msCHAPChallenge)
	if err != nil {
		return nil, err
	}
	if len(response) != 50 || len(challenge) != 16 {
		return nil, fmt.Errorf("%w: MS-CHAP2-Response has %d octets and MS-CHAP-Challenge %d", errMalformed, len(response), len(challenge))
	}
	user := rfc2865.UserName_GetString(r.Packet)
	user = user[strings.LastIndexByte(user, '\\')+1:] // RFC 2759, section 4: without the domain
	return &msCHAP{user: user, ident: response[0], challenge: challenge, peer: response[2:18], response: response[26:]}, nil
}

// microsoft returns the value of Microsoft's attribute of a type; nil if there is none.
func (r *request) microsoft(t byte) ([]byte, error) {
	var found []byte
	for _, a := range r.Attributes {
		if a.Type != rfc2865.VendorSpecific_Type || len(a.Attribute) < 4 || binary.BigEndian.Uint32(a.Attribute) != microsoft {
			continue
		}
		for rest := a.Attribute[4:]; len(rest) > 0; {
			if len(rest) < 2 || rest[1] < 2 || int(rest[1]) > len(rest) {
				return nil, fmt.Errorf("%w: attributes of Microsoft that do not fit", errMalformed)
			}
			if rest[0] == t && found != nil {
				return nil, fmt.Errorf("%w: more than one attribute %d of Microsoft", errMalformed, t)
			}
			if rest[0] == t {
				found = append([]byte{}, rest[2:rest[1]]...)
			}
			rest = rest[rest[1]:]
		}
	}
	return found, nil
}

// matches tells whether code is what the response was made of.
func (m *msCHAP) matches(code string) bool {
	want, err := rfc2759.GenerateNTResponse(m.challenge, m.peer, []byte(m.user), []byte(code))
	if err != nil || subtle.ConstantTimeCompare(want, m.response) != 1 {
		return false
	}
	m.code = code
	return true
}

// attributes are what the person's machine is told beside the verdict.
func (m *msCHAP) attributes(verdict codec.Code) (codec.Attributes, error) {
	t, text := byte(msCHAPError), "E=691 R=0 C="+strings.ToUpper(hex.EncodeToString(m.challenge))+" V=3" // RFC 2759, section 6
	if verdict == codec.CodeAccessAccept {
		if m.code == "" {
			return nil, errors.New("somebody was let in without a code that matched")
		}
		var err error
		t = msCHAP2Success // without it the machine takes this server for a false one
		if text, err = rfc2759.GenerateAuthenticatorResponse(m.challenge, m.peer, m.response, []byte(m.user), []byte(m.code)); err != nil {
			return nil, fmt.Errorf("making MS-CHAP2-Success: %w", err)
		}
	}
	v, err := codec.NewVendorSpecific(microsoft, append([]byte{t, byte(3 + len(text)), m.ident}, text...))
	if err != nil {
		return nil, fmt.Errorf("making an attribute of Microsoft: %w", err)
	}
	return codec.Attributes{{Type: rfc2865.VendorSpecific_Type, Attribute: v}}, nil
}
