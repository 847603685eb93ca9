package radius

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

// Bounds of a packet.
const (
	maxDatagram   = codec.MaxPacketLength // RFC 2865, section 3
	maxAttributes = 200
	headerLength  = 20
)

// request is a packet that is well-formed.
type request struct {
	*codec.Packet         // without secret before its client is known
	raw           []byte  // of the length that the header gives
	authenticator int     // where the value of Message-Authenticator begins in raw; 0: there is none
	ms            *msCHAP // nil: the client has not sent it, or may not
}

// parse reads a packet. What does not have the form of one is silently discarded (RFC 2865, section 3).
func parse(b []byte) (*request, error) {
	p, err := codec.Parse(b, nil)
	if err != nil {
		return nil, err
	}
	r := &request{Packet: p, raw: b[:binary.BigEndian.Uint16(b[2:4])]}
	if len(p.Attributes) > maxAttributes {
		return nil, fmt.Errorf("%d attributes", len(p.Attributes))
	}
	for at := headerLength; at < len(r.raw); at += int(r.raw[at+1]) {
		if codec.Type(r.raw[at]) != rfc2869.MessageAuthenticator_Type {
			continue
		}
		// RFC 3579, section 3.2: one, of 18 octets.
		if r.authenticator != 0 || r.raw[at+1] != 2+md5.Size {
			return nil, errors.New("more than one Message-Authenticator, or one of another length")
		}
		r.authenticator = at + 2
	}
	for _, once := range []codec.Type{
		rfc2865.UserName_Type, rfc2865.UserPassword_Type, rfc2865.CHAPPassword_Type, rfc2865.CHAPChallenge_Type, rfc2865.State_Type,
		rfc2865.CallingStationID_Type, rfc2865.NASIdentifier_Type,
	} {
		if r.count(once) > 1 { // RFC 2865, section 5.44
			return nil, fmt.Errorf("more than one %s", attributeName(once))
		}
	}
	return r, nil
}

func (r *request) count(t codec.Type) int {
	n := 0
	for _, a := range r.Attributes {
		if a.Type == t {
			n++
		}
	}
	return n
}

func (r *request) has(t codec.Type) bool { return r.count(t) > 0 }

// signed tells whether Message-Authenticator was made with secret. There is one.
func (r *request) signed(secret []byte) bool {
	sent := r.raw[r.authenticator : r.authenticator+md5.Size]
	plain := append([]byte(nil), r.raw...)
	clear(plain[r.authenticator : r.authenticator+md5.Size])
	if r.Code == codec.CodeAccountingRequest {
		clear(plain[4:headerLength]) // RFC 5997, section 4.2: as the authenticator itself is computed
	}
	return hmac.Equal(sent, sign(plain, secret))
}

func sign(packet, secret []byte) []byte {
	h := hmac.New(md5.New, secret)
	h.Write(packet)
	return h.Sum(nil)
}

// answer makes the packet that answers r: Message-Authenticator before everything else, so that nothing can be put in
// front of it (CVE-2024-3596), and at the end what proxies want back (RFC 2865, section 5.33).
func (r *request) answer(code codec.Code, withAuthenticator bool, attributes codec.Attributes) ([]byte, error) {
	p := r.Response(code)
	if withAuthenticator {
		p.Add(rfc2869.MessageAuthenticator_Type, make(codec.Attribute, md5.Size))
	}
	p.Attributes = append(p.Attributes, attributes...)
	for _, a := range r.Attributes {
		if a.Type == rfc2865.ProxyState_Type {
			p.Attributes = append(p.Attributes, a)
		}
	}
	if withAuthenticator {
		// RFC 3579, section 3.2: over the answer with the authenticator of the request in its header.
		b, err := p.MarshalBinary()
		if err != nil {
			return nil, err
		}
		p.Attributes[0].Attribute = sign(b, r.Secret)
	}
	return p.Encode()
}
