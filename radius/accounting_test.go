package radius_test

import (
	"strings"
	"testing"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"

	"sallyport/audit"
	"sallyport/store"
)

// A VPN that remembers a code asks again with the password alone, until it says that the person has gone; where it has
// put them is a place of theirs.
func TestAccounting(t *testing.T) {
	t.Parallel()
	for _, m := range []string{store.RadiusPasswordCode, store.RadiusChallenge} {
		t.Run(m, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "", mode(m), func(c *store.RadiusClient) { c.Remember, c.AssertsSource = time.Hour, true })
			alice := w.person("alice")
			n := w.nodes[0]
			const ma, from = ",Message-Authenticator=0x00", ",Calling-Station-Id=203.0.113.9"
			last := ""
			ask := func(station string, code bool) string {
				password := "pw"
				if code {
					last = alice.code()
					password += last
				}
				if m == store.RadiusPasswordCode {
					return n.radclient(t, "auth", "User-Name=alice,User-Password="+password+station+ma)
				}
				out := n.radclient(t, "auth", "User-Name=alice,User-Password=pw"+station+ma)
				_, state, challenged := strings.Cut(out, "State = ")
				if !code || !challenged {
					return out
				}
				state, _, _ = strings.Cut(state, "\n")
				return n.radclient(t, "auth", "User-Name=alice,User-Password="+last+",State="+state+station+ma)
			}
			in := func(what, out string, want bool) {
				t.Helper()
				if strings.Contains(out, "Received Access-Accept") != want {
					t.Errorf("%s: %s", what, out)
				}
			}
			in("without a code", ask(from, false), false)
			in("with a code", ask(from, true), true)
			in("again without one", ask(from, false), true)
			if m == store.RadiusPasswordCode {
				in("again with the old one", n.radclient(t, "auth", "User-Name=alice,User-Password=pw"+last+from+ma), true)
			}
			in("a wrong password", n.radclient(t, "auth", "User-Name=alice,User-Password=wrong"+from+ma), false)
			in("elsewhere", ask(",Calling-Station-Id=203.0.113.10", false), false)

			start := "User-Name=alice,Acct-Session-Id=s1,Framed-IP-Address=10.8.0.7" + from
			for _, x := range []struct {
				more  string
				still bool
			}{{"Acct-Status-Type=Start,", true}, {"Acct-Status-Type=Interim-Update,", true}, {"Acct-Status-Type=Stop,", false}} {
				if out := n.radclient(t, "acct", x.more+start); !strings.Contains(out, "Received Accounting-Response") {
					t.Errorf("%s: %s", x.more, out)
				}
				in("after "+x.more, ask(from, false), x.still)
			}
			places, err := w.Store.Places.List(t.Context(), alice.ID)
			check(t, err)
			found := false
			for _, p := range places {
				found = found || p.Source.String() == "10.8.0.7"
			}
			if !found {
				t.Errorf("places %+v", places)
			}
			in("with another code", ask(from, true), true)
			if out := n.radclient(t, "acct", "Acct-Status-Type=Accounting-On"); !strings.Contains(out, "Received Accounting-Response") {
				t.Errorf("Accounting-On: %s", out)
			}
			in("after Accounting-On", ask(from, false), false)
			events, err := w.Store.Audit.List(t.Context(), store.AuditFilter{Type: audit.RadiusAccounting})
			check(t, err)
			if len(events) != 3 || events[1].Detail["status"] != "stop" || events[1].User != "alice" || !strings.Contains(events[1].Detail["attributes"], "Framed-IP-Address=10.8.0.7") {
				t.Errorf("events %+v", events)
			}
		})
	}
}

// At the port for accounting nothing else is answered, and nothing that was made without the secret.
func TestAccountingSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	alice := w.person("alice")
	n := *w.nodes[0]
	n.addr = n.acct
	p := n.peer(t)
	p.silence("an Access-Request", signed(access("alice", alice.code())))
	other := codec.New(codec.CodeAccountingRequest, []byte("another secret of enough length"))
	check(t, rfc2866.AcctStatusType_Set(other, rfc2866.AcctStatusType_Value_Stop))
	check(t, rfc2865.UserName_SetString(other, "alice"))
	b, err := other.Encode()
	check(t, err)
	p.silence("another secret", b)
	w.counted("message-authenticator-wrong", 1)
}
