package radius

import (
	"bytes"
	"encoding/hex"
	"testing"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
)

// The exchange of RFC 2759, section 9.2, as it stands in the attributes of RFC 2548.
func TestMSCHAPVectors(t *testing.T) {
	t.Parallel()
	octets := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	challenge := octets("5B5D7C7D7B3F2F3E3C2C602132262628")
	peer := octets("21402324255E262A28295F2B3A337C7E")
	response := octets("82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF")
	const want = "S=407A5589115FD0D6209F510FE9C04566932CDA56"
	value := append([]byte{7, 0}, peer...)
	value = append(append(value, make([]byte, 8)...), response...)
	for _, user := range []string{"User", `DOMAIN\User`} {
		for _, together := range []bool{false, true} { // one Vendor-Specific, or two
			p := codec.New(codec.CodeAccessRequest, []byte("a secret of enough length"))
			p.Add(rfc2865.UserName_Type, codec.Attribute(user))
			first, second := append([]byte{msCHAPChallenge, 18}, challenge...), append([]byte{msCHAP2Response, 52}, value...)
			lists := [][]byte{first, second}
			if together {
				lists = [][]byte{append(first, second...)}
			}
			for _, l := range lists {
				v, err := codec.NewVendorSpecific(microsoft, l)
				if err != nil {
					t.Fatal(err)
				}
				p.Add(rfc2865.VendorSpecific_Type, v)
			}
			m, err := (&request{Packet: p}).msCHAP()
			if err != nil {
				t.Fatal(err)
			}
			if m.matches("clientpass") || !m.matches("clientPass") || m.matches("clientPass ") {
				t.Errorf("%s: not the password of the vector", user)
			}
			got, err := m.attributes(codec.CodeAccessAccept)
			if err != nil || len(got) != 1 || !bytes.Equal(got[0].Attribute, append([]byte{0, 0, 1, 55, msCHAP2Success, 45, 7}, want...)) {
				t.Errorf("%s: MS-CHAP2-Success %v, %v", user, got, err)
			}
		}
	}
	none := &msCHAP{challenge: challenge, peer: peer, response: response, user: "User"}
	if _, err := none.attributes(codec.CodeAccessAccept); err == nil {
		t.Error("success is proved without a code")
	}
}
