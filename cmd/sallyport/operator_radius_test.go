package main

import (
	"os/exec"
	"strings"
	"testing"

	"sallyport/admin"
	"sallyport/internal/testenv"
	"sallyport/otp"
	"sallyport/store"
)

// radclient asks the server as FreeRADIUS's program does, and returns what it prints.
func (o *operated) radclient(secret, attributes string) string {
	o.t.Helper()
	c := exec.Command("radclient", "-x", "-r", "4", "-t", "0.5", o.node.radius.auth.LocalAddr().String(), "auth", secret)
	c.Stdin = strings.NewReader(attributes + ",Message-Authenticator=0x00")
	out, _ := c.CombinedOutput() // its exit status tells Access-Reject
	return string(out)
}

// A VPN from its entry to its end, as an operator, a person and the VPN see it (T1, T7).
func TestOperatorRadius(t *testing.T) {
	t.Parallel()
	o := startOperatedWith(t, "192.0.2.10", "radius: {listen: \"127.0.0.1:0\"}\n")
	o.ok("user", "add", "alice", "--password-file", o.file("pass", "correct horse battery\n"))
	u, err := o.node.Store.Users.ByLogin(t.Context(), "alice")
	noError(t, err)
	secret := otp.NewSecret()
	_, err = o.node.Store.Tokens.Add(t.Context(), store.Token{UserID: u.ID, Name: "t", Kind: "hotp", Algorithm: "SHA1", Digits: 6, Enabled: true}, secret)
	noError(t, err)
	step := int64(0)
	code := func() string {
		step++
		return otp.Params{Kind: otp.HOTP, Algorithm: otp.SHA1, Digits: 6}.Code(secret, step)
	}

	o.fails(2, "radius", "client", "add", "vpn")
	o.fails(2, "radius", "client", "add", "vpn", "--network", "127.0.0.1", "--secret-file", o.file("short", "fifteen letters"))
	o.fails(2, "radius", "client", "add", "vpn", "--network", "127.0.0.0/8", "--message-authenticator", "auto")
	o.fails(2, "radius", "client", "add", "vpn", "--network", "127.0.0.1", "--mode", "code", "--remember", "8h")
	o.fails(2, "radius", "client", "add", "vpn", "--network", "127.0.0.1", "--separator", "1", "--mode", "password+code")
	o.fails(2, "radius", "client", "add", "vpn", "--network", "127.0.0.1", "--legacy-mschapv2")
	o.ok("radius", "client", "add", "old", "--network", "192.0.2.77", "--mode", "code", "--legacy-mschapv2")
	for _, want := range []bool{true, false} {
		if c, err := o.node.Store.RadiusClients.ByName(t.Context(), "old"); err != nil || c.LegacyMSCHAPv2 != want {
			t.Errorf("MS-CHAPv2 is on: %v, %v; want %v", c.LegacyMSCHAPv2, err, want)
		}
		o.ok("radius", "client", "update", "old", "--legacy-mschapv2=false")
	}
	o.ok("radius", "client", "remove", "old", "--yes")
	made := o.run("radius", "client", "add", "vpn", "--network", "127.0.0.1", "--mode", "password+code", "--separator", ",", "--note", "of the office")
	shared := strings.TrimSpace(made.out)
	if made.code != 0 || len(shared) != 32 || !strings.Contains(made.err, "channels: [radius]") {
		t.Fatalf("radius client add: %+v", made)
	}
	o.fails(1, "radius", "client", "add", "vpn", "--network", "192.0.2.1")
	o.fails(1, "radius", "client", "add", "vpn2", "--network", "127.0.0.1")
	if out := o.ok("radius", "doctor", "vpn"); !strings.Contains(out, "Nothing was heard of it yet") {
		t.Errorf("doctor: %s", out)
	}

	// Rules for SSH open nothing; explain tells why.
	o.ok("apply", "-f", o.file("rules", "version: 1\nrules:\n  - {name: ssh, users: [alice], targets: [\"*\"]}\n"))
	ask := func(password string) string {
		return o.radclient(shared, `User-Name=alice,User-Password="`+password+`",Calling-Station-Id=203.0.113.9,NAS-Port-Id="tun`+"\\033"+`[2J"`)
	}
	if out := ask("correct horse battery," + code()); !strings.Contains(out, "Received Access-Reject") {
		t.Errorf("without a rule: %s", out)
	}
	explain := []string{"explain", "--user", "alice", "--target", "vpn", "--channel", "radius", "--from", "203.0.113.9"}
	if r := o.run(explain...); !strings.Contains(r.out+r.err, "channel radius is not in channels") {
		t.Errorf("explain: %+v", r)
	}
	o.ok("apply", "-f", o.file("rules2", "version: 1\nrules:\n  - {name: vpn, users: [alice], targets: [vpn], channels: [radius]}\n"))
	if out := o.ok(explain...); !strings.Contains(out, "allow") {
		t.Errorf("explain: %s", out)
	}
	if out := ask("correct horse battery," + code()); !strings.Contains(out, "Received Access-Accept") {
		t.Errorf("with a rule: %s", out)
	}
	if out := ask("wrong," + code()); !strings.Contains(out, "Received Access-Reject") {
		t.Errorf("with a wrong password: %s", out)
	}
	if out := o.radclient("another secret of enough length", "User-Name=alice,User-Password=x"); !strings.Contains(out, "No reply") {
		t.Errorf("with another secret: %s", out)
	}

	// What was heard, and the log.
	testenv.WaitFor(t, "the counters", func() bool {
		out := o.ok("radius", "doctor", "vpn")
		return strings.Contains(out, "It sends Message-Authenticator") && strings.Contains(out, "The secret looks wrong") && strings.Contains(out, "The last code was")
	})
	d := object[admin.RadiusDoctor](o, "radius", "doctor", "vpn")
	if d.LastSeen == nil || d.Client.Name != "vpn" || len(d.Counts) == 0 {
		t.Errorf("doctor: %+v", d)
	}
	events := o.ok("audit", "list", "--type", "login.accepted", "-o", "json")
	for _, want := range []string{`"door": "radius"`, `"target": "vpn"`, `Calling-Station-Id=\"203.0.113.9\"`, `NAS-Port-Id=0x`, `"nas": "127.0.0.1"`} {
		if !strings.Contains(events, want) {
			t.Errorf("the event has no %s: %s", want, events)
		}
	}
	for _, secret := range []string{"correct horse", shared} {
		if strings.Contains(o.ok("audit", "list", "-o", "json"), secret) {
			t.Error("the log holds a secret")
		}
	}
	if out := o.ok("radius", "client", "list"); !strings.Contains(out, "password+code") || !strings.Contains(out, "of the office") || strings.Contains(out, shared) {
		t.Errorf("list: %s", out)
	}
	if out := o.ok("radius", "client", "show", "vpn"); !strings.Contains(out, "127.0.0.1/32") || strings.Contains(out, shared) {
		t.Errorf("show: %s", out)
	}

	// A new secret, the mode, and the end.
	changed := o.run("radius", "client", "update", "vpn", "--generate-secret", "--mode", "challenge", "--separator", "")
	if changed.code != 0 || len(strings.TrimSpace(changed.out)) != 32 {
		t.Fatalf("update: %+v", changed)
	}
	shared = strings.TrimSpace(changed.out)
	testenv.WaitFor(t, "the new secret to hold", func() bool { return strings.Contains(ask("x"), "Received Access-Challenge") })
	o.ok("radius", "client", "disable", "vpn")
	testenv.WaitFor(t, "the client not to be answered", func() bool { return strings.Contains(ask("x"), "No reply") })
	testenv.WaitFor(t, "strangers", func() bool { return strings.Contains(o.ok("radius", "strangers"), "127.0.0.1") })
	o.ok("radius", "client", "enable", "vpn")
	o.ok("radius", "client", "remove", "vpn", "--yes")
	o.fails(1, "radius", "client", "show", "vpn")
	if out := o.ok("audit", "list", "--type", "operator.change", "-o", "json"); !strings.Contains(out, "radius-client.add") || !strings.Contains(out, "radius-client.remove") {
		t.Errorf("events: %s", out)
	}
}
