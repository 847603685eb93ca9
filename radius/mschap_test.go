package radius_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2759"

	"sallyport/audit"
	"sallyport/store"
)

// msCHAP2 is what radclient is told to send for a person who types code, and what the person's machine awaits.
func msCHAP2(t *testing.T, login, code string) (attributes, success string) {
	t.Helper()
	challenge, peer := make([]byte, 16), make([]byte, 16)
	_, _ = rand.Read(challenge)
	_, _ = rand.Read(peer)
	response, err := rfc2759.GenerateNTResponse(challenge, peer, []byte(login), []byte(code))
	check(t, err)
	success, err = rfc2759.GenerateAuthenticatorResponse(challenge, peer, response, []byte(login), []byte(code))
	check(t, err)
	value := bytes.Join([][]byte{{9, 0}, peer, make([]byte, 8), response}, nil)
	return fmt.Sprintf("User-Name=%s,MS-CHAP-Challenge=0x%x,MS-CHAP2-Response=0x%x,Message-Authenticator=0x00", login, challenge, value),
		"MS-CHAP2-Success = 0x09" + hex.EncodeToString([]byte(success))
}

// MS-CHAPv2 is answered to a client for whom an operator has switched it on; the person's machine gets the proof that it
// awaits, and a code is good once, whichever way it came.
func TestMSCHAPv2(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *store.RadiusClient) { c.LegacyMSCHAPv2 = true })
	alice := w.person("alice")
	n := w.nodes[0]
	code := alice.code()
	ask := func(what, login, code, want string) {
		t.Helper()
		attributes, success := msCHAP2(t, login, code)
		out := n.radclient(t, "auth", attributes)
		if want == "Accept" && !strings.Contains(out, success) {
			t.Errorf("%s: no %s in %s", what, success, out)
		}
		if want == "Reject" && (!strings.Contains(out, `Reply-Message = "Permission denied."`) || !strings.Contains(out, `MS-CHAP-Error = "\tE=691 R=0 C=`)) {
			t.Errorf("%s: %s", what, out)
		}
		if !strings.Contains(out, "Received Access-"+want) {
			t.Errorf("%s: %s", what, out)
		}
	}
	ask("wrong", "alice", "000000", "Reject")
	ask("nobody", "nobody", "000000", "Reject")
	ask("right", "alice", code, "Accept")
	ask("used", "alice", code, "Reject")
	ask("with a suffix", "alice@example.org", alice.code(), "Accept")
	if out := n.radclient(t, "auth", "User-Name=alice,User-Password="+code+",Message-Authenticator=0x00"); !strings.Contains(out, "Received Access-Reject") {
		t.Errorf("used by MS-CHAPv2, then sent as a password: %s", out)
	}
	if out := n.radclient(t, "auth", "User-Name=alice,MS-CHAP-Password="+alice.code()+",Message-Authenticator=0x00"); !strings.Contains(out, "Received Access-Reject") {
		t.Errorf("the first version: %s", out)
	}
	events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.CodeReplayed})
	check(t, err)
	if len(events) != 2 {
		t.Errorf("a code that was used twice more raises %d events", len(events))
	}
	vendor := func(t byte, n int) *codec.AVP {
		return attribute(26, string(append([]byte{0, 0, 1, 55, t, byte(n + 2)}, make([]byte, n)...)))
	}
	for what, more := range map[string][]*codec.AVP{
		"a response that is too short":   {vendor(11, 16), vendor(25, 49)},
		"no challenge":                   {vendor(25, 50)},
		"two responses":                  {vendor(11, 16), vendor(25, 50), vendor(25, 50)},
		"CHAP too":                       {vendor(11, 16), vendor(25, 50), attribute(3, strings.Repeat("x", 17))},
		"an attribute that does not fit": {attribute(26, "\x00\x00\x01\x37\x19\x34x")},
	} {
		p := codec.New(codec.CodeAccessRequest, []byte(secret))
		p.Add(1, codec.Attribute("alice"))
		p.Attributes = append(p.Attributes, more...)
		n.peer(t).silence(what, signed(p))
	}
}

// Nobody gets MS-CHAPv2 without asking for it by its name.
func TestMSCHAPv2IsOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *store.RadiusClient) { c.CHAP = true })
	attributes, _ := msCHAP2(t, "alice", w.person("alice").code())
	if out := w.nodes[0].radclient(t, "auth", attributes); !strings.Contains(out, "Received Access-Reject") || strings.Contains(out, "MS-CHAP-Error") {
		t.Errorf("%s", out)
	}
	w.counted("unsupported-method", 1)
}
