package radius

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
)

// Whatever comes by UDP is read without harm: what is taken has the bounds that are promised, says nothing that moves a
// cursor, and is answered by a packet that can be read and is signed.
func FuzzPacket(f *testing.F) {
	secret := []byte("a secret of enough length")
	for _, seed := range []string{
		// RFC 2865, section 7.1: nemo telnets to a host.
		"010000380f403f9473978057bd83d5cb98f4227a01066e656d6f02120dbe708d93d413ce3196e43f782a0aee0406c0a8011005060000" + "0003",
		"0c000026" + strings.Repeat("00", 16) + "5012" + strings.Repeat("00", 16),
		"01000014" + strings.Repeat("ff", 16),
		"0100001a" + strings.Repeat("00", 16) + "1a0600000137",
		"01000066" + strings.Repeat("00", 16) + "1a18000001370b12" + strings.Repeat("5b", 16) + "1a3a00000137" + "1934" + strings.Repeat("01", 50),
		"01000024" + strings.Repeat("00", 16) + "420a01" + "3230332e302e31" + "2106aabbccdd",
	} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		if len(r.raw) < headerLength || len(r.raw) > maxDatagram || len(r.Attributes) > maxAttributes {
			t.Fatalf("%d octets with %d attributes were taken", len(r.raw), len(r.Attributes))
		}
		r.Secret = secret
		if text := r.describe(); strings.ContainsAny(text, "\x00\x07\x1b\r\n") {
			t.Fatalf("it is described as %q", text)
		}
		for _, a := range []codec.Type{31, 66, 8, 168} {
			if at := r.addressIn(a); at.Zone() != "" || at.Is4In6() {
				t.Fatalf("address %v", at)
			}
		}
		_ = station(r)
		if ms, err := r.msCHAP(); err == nil && ms.matches("123456") {
			t.Fatal("MS-CHAPv2 matches")
		}
		if p, ok := r.Lookup(rfc2865.UserPassword_Type); ok {
			_, _ = codec.UserPassword(p, secret, r.Authenticator[:])
		}
		if r.authenticator != 0 && r.signed(secret) && !r.signed(secret) {
			t.Fatal("signed is not always the same")
		}
		reply, err := r.answer(codec.CodeAccessReject, true, codec.Attributes{{Type: rfc2865.ReplyMessage_Type, Attribute: codec.Attribute(textRefused)}})
		if err != nil {
			if len(r.raw) < maxDatagram-100 {
				t.Fatalf("no answer to %d octets: %v", len(r.raw), err)
			}
			return
		}
		got, err := parse(reply)
		if err != nil && !strings.Contains(err.Error(), "attributes") {
			t.Fatalf("the answer cannot be read: %v", err)
		}
		if err == nil && (got.authenticator != headerLength+2 || !codec.IsAuthenticResponse(reply, r.raw, secret)) {
			t.Fatalf("the answer is not signed: % x", reply)
		}
		copy(reply[4:headerLength], r.raw[4:headerLength])
		if err == nil {
			got.raw = reply
			if !got.signed(secret) || got.signed([]byte("another")) {
				t.Fatal("Message-Authenticator of the answer is wrong")
			}
		}
		if bytes.Count(reply, []byte(textRefused)) == 0 {
			t.Fatal("the answer lacks its text")
		}
	})
}
