package admin

import (
	"context"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/knownhosts"

	"sallyport/store"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	line := hostKey(t)
	own := do[Target](f, 200, "POST", "/targets", NewTarget{Name: "own", Address: "10.0.0.5", Accounts: []string{"root"}, HostKeys: []string{line}, Credential: "own-key"})
	if own.Credential != "own-key" {
		t.Errorf("credential %q", own.Credential)
	}
	f.refused(422, "POST", "/targets", NewTarget{Name: "x", Address: "10.0.0.5", HostKeys: []string{line}, Credential: "password"})
	f.refused(422, "POST", "/targets", NewTarget{Name: "x", Address: "10.0.0.5", HostKeys: []string{line}, Password: "hunter2"})
	f.refused(422, "POST", "/targets", NewTarget{Name: "x", Address: "10.0.0.5", HostKeys: []string{line}, Credential: "password", Password: "a\x00b"})
	f.refused(422, "POST", "/targets", NewTarget{Name: "x", Address: "10.0.0.5", HostKeyMode: "tofu", Credential: "password", Password: "hunter2"})
	f.refused(422, "POST", "/targets", NewTarget{Name: "x", Address: "10.0.0.5", HostKeyMode: "ca"})
	do[Target](f, 200, "POST", "/targets", NewTarget{Name: "switch", Address: "10.0.0.6", Accounts: []string{"admin"}, HostKeys: []string{line}, Credential: "password", Password: "hunter2"})
	do[RulesChange](f, 200, "PUT", "/rules", NewRules{Text: "version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['*']}\n"})

	o := do[Onboarding](f, 200, "GET", "/targets/own/onboarding", nil)
	if len(o.AuthorizedKeys) != 1 || !strings.HasSuffix(o.AuthorizedKeys[0].Line, " sallyport-own") || strings.Contains(o.AuthorizedKeys[0].Line, f.s.cfg.Dialer.AuthorizedKey()) {
		t.Errorf("onboarding of a target with a key of its own: %+v", o)
	}
	if o = do[Onboarding](f, 200, "GET", "/targets/switch/onboarding", nil); len(o.AuthorizedKeys) != 0 || o.UserCA != nil || o.Credential != "password" {
		t.Errorf("onboarding of a target with a password: %+v", o)
	}
	do[Target](f, 200, "PATCH", "/targets/switch", TargetChange{Credential: "certificate"})
	o = do[Onboarding](f, 200, "GET", "/targets/switch/onboarding", nil)
	ca := do[UserCA](f, 200, "GET", "/ca", nil)
	if o.UserCA == nil || o.UserCA.PublicKey != ca.PublicKey || !strings.HasPrefix(ca.Config[0], "TrustedUserCAKeys ") || len(o.AuthorizedKeys) != 0 {
		t.Errorf("onboarding of a target with certificates: %+v", o)
	}
	if events := f.changes(); len(events) == 0 || strings.Contains(strings.Join(events, "\n"), "hunter2") {
		t.Errorf("changes %q", events)
	}
}

func TestTargetUpdate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	line, other := hostKey(t), hostKey(t)
	do[Target](f, 200, "POST", "/targets", NewTarget{Name: "web1", Address: "10.0.0.5", Accounts: []string{"root"}, Labels: map[string]string{"env": "prod"}, HostKeys: []string{line}, Note: "old"})
	x := do[Target](f, 200, "PATCH", "/targets/web1", TargetChange{Address: "10.0.0.6:2222", Accounts: []string{"deploy"}})
	if x.Address != "10.0.0.6:2222" || x.Accounts[0] != "deploy" || x.Labels["env"] != "prod" || x.HostKeys[0].Key != line || x.Note != "old" || x.Credential != "key" {
		t.Errorf("changed: %+v", x)
	}
	x = do[Target](f, 200, "PATCH", "/targets/web1", TargetChange{HostCAs: []string{other}})
	if x.HostKeyMode != "ca" || x.HostCAs[0].Key != other {
		t.Errorf("with a CA: %+v", x)
	}
	x = do[Target](f, 200, "PATCH", "/targets/web1", TargetChange{HostKeys: []string{other}})
	if x.HostKeyMode != "pinned" || len(x.HostKeys) != 1 || x.HostKeys[0].Key != other {
		t.Errorf("with another key: %+v", x)
	}
	f.refused(422, "PATCH", "/targets/web1", TargetChange{Address: "no where"})
	f.refused(422, "PATCH", "/targets/web1", TargetChange{Credential: "password"})
	f.refused(422, "PATCH", "/targets/web1", TargetChange{HostKeys: []string{"nonsense"}})
	f.refused(404, "PATCH", "/targets/none", TargetChange{Note: "x"})
	if after := do[Target](f, 200, "GET", "/targets/web1", nil); after.Address != "10.0.0.6:2222" || after.Credential != "key" {
		t.Errorf("after refusals: %+v", after)
	}
}

func TestHostKeyInbox(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	old, next := hostKey(t), hostKey(t)
	for name, env := range map[string]string{"web1": "prod", "web2": "test"} {
		x := do[Target](f, 200, "POST", "/targets", NewTarget{Name: name, Address: "10.0.0.5", Labels: map[string]string{"env": env}, HostKeys: []string{old}})
		noError(t, f.st.HostKeys.Wait(context.Background(), x.ID, next, x.Address))
	}
	if all := do[[]WaitingHostKey](f, 200, "GET", "/hostkeys", nil); len(all) != 2 || all[0].Known[0].Key != old || all[0].Fingerprint == "" {
		t.Errorf("waiting: %+v", all)
	}
	prod := do[[]WaitingHostKey](f, 200, "GET", "/hostkeys?label=env%3Dprod", nil)
	if len(prod) != 1 || prod[0].Target != "web1" {
		t.Fatalf("waiting with env=prod: %+v", prod)
	}
	f.refused(404, "GET", "/hostkeys?target=none", nil)
	do[WaitingHostKey](f, 200, "POST", "/hostkeys/"+prod[0].ID+"/approve", NewApproval{})
	f.refused(404, "POST", "/hostkeys/"+prod[0].ID+"/approve", NewApproval{})
	f.refused(404, "POST", "/hostkeys/"+prod[0].ID+"/reject", nil)
	if x := do[Target](f, 200, "GET", "/targets/web1", nil); len(x.HostKeys) != 1 || x.HostKeys[0].Key != next {
		t.Errorf("after the approval: %+v", x.HostKeys)
	}
	rest := do[[]WaitingHostKey](f, 200, "GET", "/hostkeys?target=web2", nil)
	do[WaitingHostKey](f, 200, "POST", "/hostkeys/"+rest[0].ID+"/reject", nil)
	x := do[Target](f, 200, "GET", "/targets/web2", nil)
	if len(x.HostKeys) != 1 || x.HostKeys[0].Key != old || len(x.RevokedKeys) != 1 || x.RevokedKeys[0].Key != next {
		t.Errorf("after the rejection: %+v", x)
	}
	if x = do[Target](f, 200, "PATCH", "/targets/web2", TargetChange{HostKeys: []string{next}}); len(x.RevokedKeys) != 0 || x.HostKeys[0].Key != next {
		t.Errorf("an operator gave the key that was rejected: %+v", x)
	}
	got := f.changes()
	for _, want := range []string{"hostkey.approve api-token robot api  web1", "hostkey.reject api-token robot api  web2"} {
		if !slices.Contains(got, want) {
			t.Errorf("changes %q, want %q among them", got, want)
		}
	}
}

func TestHostKeyImport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, address := range map[string]string{"web1": "10.0.0.5", "db1": "db1.example.org:2222", "new": "new.example.org"} {
		do[Target](f, 200, "POST", "/targets", NewTarget{Name: name, Address: address, HostKeyMode: "tofu"})
	}
	web, web2, db, ca, bad := hostKey(t), hostKey(t), hostKey(t), hostKey(t), hostKey(t)
	text := strings.Join([]string{
		"# comment",
		"10.0.0.5,web1.example.org " + web + " root@web1",
		"10.0.0.5 " + web,
		"10.0.0.5 " + web2,
		knownhosts.HashHostname("[db1.example.org]:2222") + " " + db,
		"db1.example.org " + web,
		"@cert-authority *.example.org,!db1.example.org " + ca,
		"@revoked * " + bad,
		"10.0.0.5 " + bad,
		"nonsense",
		"@other 10.0.0.5 " + web,
	}, "\n")
	report := do[[]ImportedKey](f, 200, "POST", "/hostkeys/import", NewImport{Text: text})
	var got []string
	for _, r := range report {
		got = append(got, strings.Join([]string{string(rune('0' + r.Line%10)), r.Target, r.Result}, " "))
	}
	want := []string{
		"2 web1 pinned", "3 web1 known", "4 web1 waiting", "5 db1 pinned", "6  unused", "7 new ca",
		"8 db1 revoked", "8 new revoked", "8 web1 revoked", "9 web1 unused", "0  invalid", "1  invalid",
	}
	if !slices.Equal(got, want) {
		t.Errorf("report %q\nwant   %q", got, want)
	}
	if x := do[Target](f, 200, "GET", "/targets/new", nil); x.HostKeyMode != "ca" || len(x.HostCAs) != 1 || x.HostCAs[0].Key != ca {
		t.Errorf("target with a CA: %+v", x)
	}
	if x := do[Target](f, 200, "GET", "/targets/db1", nil); len(x.HostKeys) != 1 || x.HostKeys[0].Key != db || len(x.HostCAs) != 0 {
		t.Errorf("target with a hashed name: %+v", x)
	}
	if waiting := do[[]WaitingHostKey](f, 200, "GET", "/hostkeys", nil); len(waiting) != 1 || waiting[0].Key != web2 {
		t.Errorf("waiting: %+v", waiting)
	}
	// A key that is revoked later is no host key any more.
	do[[]ImportedKey](f, 200, "POST", "/hostkeys/import", NewImport{Text: "@revoked 10.0.0.5 " + web})
	if x := do[Target](f, 200, "GET", "/targets/web1", nil); len(x.HostKeys) != 0 {
		t.Errorf("a revoked key is still pinned: %+v", x)
	}
}

func TestMatchesKnownHost(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		hosts, address string
		want           bool
	}{
		{"web1", "web1:22", true},
		{"WEB1", "web1:22", true},
		{"web1", "web1:2222", false},
		{"[web1]:2222", "web1:2222", true},
		{"*.example.org", "web1.example.org:22", true},
		{"*.example.org", "example.org:22", false},
		{"web?", "web1:22", true},
		{"web?", "web10:22", false},
		{"*,!web1", "web1:22", false},
		{"!web1", "web2:22", false},
		{"a*b*c", "aXbYbZc:22", true},
		{"2001:db8::5", "[2001:db8::5]:22", true},
		{"|1|x|y", "web1:22", false},
		{"|1|", "web1:22", false},
		{knownhosts.HashHostname("web1"), "web1:22", true},
		{knownhosts.HashHostname("web2"), "web1:22", false},
	} {
		if got := matchesKnownHost(strings.Split(tc.hosts, ","), tc.address); got != tc.want {
			t.Errorf("%s for %s: %v, want %v", tc.hosts, tc.address, got, tc.want)
		}
	}
}

// The page of a target shows keys that were refused, and approves without a script.
func TestHostKeyPages(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	ada := w.signedIn("ada")
	print := fingerprintOf(waitingKey)
	ada.shows("/targets/web2", print, "Approve …", "its one key", "Reject")
	waiting, err := w.Store.HostKeys.List(context.Background(), "")
	must(t, err)
	path := "/targets/web2/hostkeys/" + waiting[0].ID
	ada.shows(path, "Is "+print+" the host key of web2?")
	if status, _, header := ada.post(path); status != 303 || header.Get("Location") != "/targets/web2" {
		t.Errorf("approval: status %d to %q", status, header.Get("Location"))
	}
	x, err := w.Store.Targets.ByName(context.Background(), "web2")
	must(t, err)
	if len(x.HostKeys) != 1 || x.HostKeys[0] != waitingKey {
		t.Errorf("after the approval: %v", x.HostKeys)
	}
	_, err = w.Store.Targets.Add(context.Background(), store.Target{Name: "cert", Address: "10.0.0.9:22", Accounts: []string{"root"}, HostKeyMode: store.TOFU, Credential: store.CredentialCertificate})
	must(t, err)
	for _, credential := range []string{"own-key", "password"} {
		status, _, _ := ada.post("/targets", "name", "made-"+credential, "address", "10.0.0.9", "accounts", "root", "mode", "pinned", "keys", waitingKey,
			"credential", credential, "password", "bench of oak", "action", "add")
		x, err := w.Store.Targets.ByName(context.Background(), "made-"+credential)
		must(t, err)
		if status != 303 || x.Credential != credential {
			t.Errorf("form with %s: status %d, target %+v", credential, status, x)
		}
	}
	if secret, err := w.Store.Targets.Secret(context.Background(), x.ID); err == nil {
		t.Errorf("web2 has a secret of %d bytes", len(secret))
	}
	if status, body, _ := ada.post("/targets", "name", "y", "address", "10.0.0.9", "mode", "tofu", "credential", "password", "password", "bench of oak", "action", "add"); status != 422 || strings.Contains(body, "bench of oak") {
		t.Errorf("password with trust on first use: status %d, the password comes back: %v", status, strings.Contains(body, "bench of oak"))
	}
	ada.shows("/targets/cert", "a certificate for each connection", "TrustedUserCAKeys", "ssh-ed25519 ")
}
