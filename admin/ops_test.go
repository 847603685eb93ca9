package admin

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/testenv"
	"sallyport/otp"
)

func TestUsers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u := do[User](f, 200, "POST", "/users", NewUser{Login: "Dave", Name: "Dave D", Email: "dave@example.org", Groups: []string{"ops", "dba", "ops"}, Password: "correct horse"})
	if u.ID == "" || u.Login != "dave" || !slices.Equal(u.Groups, []string{"dba", "ops"}) || !u.HasPassword || u.Locked || u.Source != "local" || u.Created == nil {
		t.Errorf("new user %+v", u)
	}
	if p := f.refused(409, "POST", "/users", NewUser{Login: "DAVE", Password: "correct horse"}); !strings.Contains(p.Detail, "dave") {
		t.Errorf("second dave: %+v", p)
	}
	f.refused(422, "POST", "/users", NewUser{Login: "da ve", Password: "correct horse"})
	f.refused(422, "POST", "/users", NewUser{Login: "erin", Password: "short"})
	f.refused(422, "POST", "/users", NewUser{Login: "erin", Password: "correct horse", Groups: []string{"a,b"}})
	f.refused(422, "POST", "/users", NewUser{Login: "erin", Password: "correct horse", Name: "x\x1b[2J"})

	nopass := do[User](f, 200, "POST", "/users", NewUser{Login: "keyed"})
	if nopass.HasPassword {
		t.Errorf("user without password %+v", nopass)
	}
	list := do[[]User](f, 200, "GET", "/users", nil)
	if len(list) != 2 || list[0].Login != "keyed" {
		t.Errorf("users %+v, want newest first", list)
	}
	if got := do[[]User](f, 200, "GET", "/users?query=dave%40", nil); len(got) != 1 || got[0].Login != "dave" {
		t.Errorf("users that match: %+v", got)
	}
	if got := do[User](f, 200, "GET", "/users/DAVE", nil); got.ID != u.ID {
		t.Errorf("shown user %+v", got)
	}
	f.refused(404, "GET", "/users/nobody", nil)
	f.refused(422, "GET", "/users/no%20body", nil)

	if got := do[User](f, 200, "PUT", "/users/dave/groups", NewGroups{Groups: []string{"web"}}); !slices.Equal(got.Groups, []string{"web"}) {
		t.Errorf("groups %q", got.Groups)
	}
	do[User](f, 200, "PUT", "/users/dave/password", NewPassword{Password: "other horse"})
	hash, err := f.st.Users.PasswordHash(context.Background(), u.ID)
	noError(t, err)
	if ok, err := identity.VerifyPassword(context.Background(), hash, "other horse"); !ok || err != nil {
		t.Errorf("the new password does not fit: %v", err)
	}
	do[any](f, 204, "DELETE", "/users/dave", nil)
	f.refused(404, "GET", "/users/dave", nil)
	f.refused(404, "DELETE", "/users/dave", nil)

	want := []string{"user.delete api-token robot api dave ", "user.password api-token robot api dave ", "user.groups api-token robot api dave ",
		"user.add api-token robot api keyed ", "user.add api-token robot api dave "}
	if got := f.changes(); !slices.Equal(got, want) {
		t.Errorf("changes %q, want %q", got, want)
	}
}

func TestDirectoryUserBelongsToTheDirectory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := f.st.Users.SeenInDirectory(context.Background(), "uuid-1", "carol", "Carol", "", []string{"ops"})
	noError(t, err)
	f.refused(409, "PUT", "/users/carol/password", NewPassword{Password: "correct horse"})
	f.refused(409, "PUT", "/users/carol/groups", NewGroups{Groups: []string{"dba"}})
	f.refused(409, "POST", "/users", NewUser{Login: "carol", Password: "correct horse"})
}

func TestLock(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addUser("dave")
	u := do[User](f, 200, "PUT", "/users/dave/lock", NewLock{Reason: "lost laptop"})
	if !u.Locked || u.LockReason != "lost laptop" || u.LockedUntil != nil {
		t.Errorf("locked user %+v", u)
	}
	if u = do[User](f, 200, "POST", "/users/dave/unlock", nil); u.Locked {
		t.Errorf("unlocked user %+v", u)
	}
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	if u = do[User](f, 200, "PUT", "/users/dave/lock", NewLock{Until: &until}); u.LockedUntil == nil || !u.LockedUntil.Equal(until) {
		t.Errorf("locked until %v, want %v", u.LockedUntil, until)
	}
	past := time.Now().Add(-time.Hour)
	f.refused(422, "PUT", "/users/dave/lock", NewLock{Until: &past})
	f.refused(404, "PUT", "/users/nobody/lock", NewLock{})
}

// Nobody locks themselves out by a slip of the pen.
func TestLockingOneselfIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	u := f.addUser("dave")
	err := f.s.lockUser(context.Background(), Caller{Actor: "dave", UserID: u.ID, Role: RoleAdmin}, "dave", "", time.Time{})
	if err == nil {
		t.Error("dave locked himself")
	}
}

func TestUserKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addUser("dave")
	f.addUser("erin")
	line := hostKey(t)
	k := do[UserKey](f, 200, "POST", "/users/dave/keys", NewUserKey{PublicKey: line + " dave@laptop\n"})
	if k.Name != "dave@laptop" || k.PublicKey != line || !strings.HasPrefix(k.Fingerprint, "SHA256:") {
		t.Errorf("key %+v", k)
	}
	f.refused(409, "POST", "/users/dave/keys", NewUserKey{PublicKey: line})
	f.refused(409, "POST", "/users/erin/keys", NewUserKey{PublicKey: line})
	f.refused(422, "POST", "/users/erin/keys", NewUserKey{PublicKey: "ssh-ed25519 nonsense"})
	if got := do[[]UserKey](f, 200, "GET", "/users/dave/keys", nil); len(got) != 1 || got[0].ID != k.ID {
		t.Errorf("keys %+v", got)
	}
	f.refused(404, "DELETE", "/users/erin/keys/"+k.ID, nil)
	do[any](f, 204, "DELETE", "/users/dave/keys/"+k.ID, nil)
	if got := do[[]UserKey](f, 200, "GET", "/users/dave/keys", nil); len(got) != 0 {
		t.Errorf("keys after deletion %+v", got)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addUser("dave")
	f.addUser("erin")
	made := do[IssuedToken](f, 200, "POST", "/users/dave/tokens", NewToken{})
	if made.ID == "" || len(made.Secret) != 32 || !strings.HasPrefix(made.URI, "otpauth://totp/") || !strings.Contains(made.URI, made.Secret) {
		t.Errorf("token %+v", made)
	}
	imported := do[IssuedToken](f, 200, "POST", "/users/dave/tokens", NewToken{Name: "old", Secret: "gezd gnbv gy3t qojq gezd gnbv gy3t qojq", Algorithm: "SHA256", Digits: 8, Period: 60})
	if imported.Secret != "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" || imported.Digits != 8 || imported.Period != 60 || imported.Algorithm != "SHA256" || !strings.Contains(imported.URI, "digits=8") {
		t.Errorf("imported token %+v", imported)
	}
	f.refused(422, "POST", "/users/dave/tokens", NewToken{Secret: "AAAA"})
	f.refused(422, "POST", "/users/dave/tokens", NewToken{Digits: 7})
	f.refused(422, "POST", "/users/dave/tokens", NewToken{Algorithm: "MD5"})
	w := f.request(f.admin, "GET", "/users/dave/tokens", nil)
	if strings.Contains(w.Body.String(), made.Secret) || strings.Contains(w.Body.String(), imported.Secret) {
		t.Error("a list of tokens shows a secret")
	}
	list := do[[]Token](f, 200, "GET", "/users/dave/tokens", nil)
	if len(list) != 2 || !list[0].Enabled {
		t.Errorf("tokens %+v", list)
	}
	f.refused(404, "DELETE", "/users/erin/tokens/"+made.ID, nil)
	do[any](f, 204, "DELETE", "/users/dave/tokens/"+made.ID, nil)
	f.refused(404, "DELETE", "/users/dave/tokens/"+made.ID, nil)
	if u := do[User](f, 200, "GET", "/users/dave", nil); u.Tokens != 1 {
		t.Errorf("user has %d tokens, want 1", u.Tokens)
	}
}

// Every kind of token, its states, its way back by two codes, and what stands for it.
func TestTokenLife(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addUser("dave")
	f.addUser("erin")
	expires := time.Now().Add(time.Hour)
	button := do[IssuedToken](f, 200, "POST", "/users/dave/tokens", NewToken{Name: "button", Kind: "hotp", Algorithm: "SHA256", Digits: 8, Counter: 7, Serial: "GALT11420104", Expires: &expires})
	if button.Counter != 7 || !button.Hardware || button.Period != 0 || button.Expires == nil || button.State != "enabled" || !strings.HasPrefix(button.URI, "otpauth://hotp/") {
		t.Errorf("token %+v", button)
	}
	past := time.Now().Add(-time.Second)
	for _, n := range []NewToken{
		{Kind: "hotp", Period: 30}, {Kind: "totp", Counter: 1}, {Kind: "motp"}, {Expires: &past}, {Name: "a\nb"}, {Serial: "a\x1b"}, {Kind: "hotp", Counter: -1},
	} {
		f.refused(422, "POST", "/users/dave/tokens", n)
	}
	f.refused(409, "POST", "/users/erin/tokens", NewToken{Serial: "GALT11420104"})

	secret, err := otp.ParseSecret(button.Secret)
	noError(t, err)
	p := otp.Params{Kind: otp.HOTP, Algorithm: otp.SHA256, Digits: 8}
	f.refused(422, "POST", "/users/dave/tokens/button/resync", TokenCodes{p.Code(secret, 500), p.Code(secret, 502)})
	f.refused(404, "POST", "/users/erin/tokens/GALT11420104/resync", TokenCodes{p.Code(secret, 500), p.Code(secret, 501)})
	if got := do[Token](f, 200, "POST", "/users/dave/tokens/GALT11420104/resync", TokenCodes{p.Code(secret, 500), p.Code(secret, 501)}); got.Counter != 502 {
		t.Errorf("resynchronised: %+v", got)
	}
	if got := do[Token](f, 200, "PUT", "/users/dave/tokens/button/name", NewTokenName{"keyring"}); got.Name != "keyring" {
		t.Errorf("renamed: %+v", got)
	}
	for _, state := range []string{"lost", "disabled", "enabled"} {
		if got := do[Token](f, 200, "PUT", "/users/dave/tokens/keyring/state", NewTokenState{state}); got.State != state || got.Enabled != (state == "enabled") {
			t.Errorf("%s: %+v", state, got)
		}
	}
	f.refused(422, "PUT", "/users/dave/tokens/keyring/state", NewTokenState{"sold"})
	detail := do[TokenDetail](f, 200, "GET", "/users/dave/tokens/"+button.ID, nil)
	if len(detail.Uses) != 1 || detail.Uses[0].Step != 501 || detail.Uses[0].Door != "api" {
		t.Errorf("detail %+v", detail)
	}
	do[IssuedToken](f, 200, "POST", "/users/dave/tokens", NewToken{Name: "keyring"})
	f.refused(409, "DELETE", "/users/dave/tokens/keyring", nil)
	do[any](f, 204, "DELETE", "/users/dave/tokens/"+button.ID, nil)

	codes := do[IssuedRecoveryCodes](f, 200, "POST", "/users/dave/recovery-codes", nil).Codes
	if len(codes) != 10 || do[RecoveryCodes](f, 200, "GET", "/users/dave/recovery-codes", nil).Left != 10 {
		t.Errorf("recovery codes %v", codes)
	}
	do[any](f, 204, "DELETE", "/users/dave/recovery-codes", nil)
	if n := do[RecoveryCodes](f, 200, "GET", "/users/dave/recovery-codes", nil).Left; n != 0 {
		t.Errorf("%d left after removing them", n)
	}
	f.refused(422, "POST", "/users/dave/bypass-codes", NewBypassCode{})
	f.refused(422, "POST", "/users/dave/bypass-codes", NewBypassCode{Reason: "x", Life: 30})
	bypass := do[IssuedBypassCode](f, 200, "POST", "/users/dave/bypass-codes", NewBypassCode{Reason: "phone broken"})
	if _, err := otp.NormaliseSpare(bypass.Code); err != nil || bypass.Expires == nil || time.Until(*bypass.Expires) > time.Hour || time.Until(*bypass.Expires) < 59*time.Minute {
		t.Errorf("bypass code %+v", bypass)
	}
	if got := do[[]BypassCode](f, 200, "GET", "/users/dave/bypass-codes", nil); len(got) != 1 || got[0].Reason != "phone broken" || got[0].Issuer == "" {
		t.Errorf("bypass codes %+v", got)
	}
	do[any](f, 204, "DELETE", "/users/dave/bypass-codes", nil)
	if got := do[[]BypassCode](f, 200, "GET", "/users/dave/bypass-codes", nil); len(got) != 0 {
		t.Errorf("bypass codes %+v", got)
	}
	for _, e := range f.changes() {
		if strings.Contains(e, bypass.Code) || strings.Contains(e, codes[0]) {
			t.Errorf("an event shows a code: %s", e)
		}
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, login := range []string{"dave", "erin"} {
		f.addUser(login)
	}
	if a := do[Admin](f, 200, "PUT", "/admins/dave", NewRole{RoleAdmin}); a.Login != "dave" || a.Role != RoleAdmin || a.ID == "" {
		t.Errorf("admin %+v", a)
	}
	f.refused(409, "PUT", "/admins/dave", NewRole{RoleAuditor})
	f.refused(409, "DELETE", "/admins/dave", nil)
	f.refused(409, "DELETE", "/users/dave", nil)
	f.refused(422, "PUT", "/admins/erin", NewRole{"root"})
	f.refused(404, "PUT", "/admins/nobody", NewRole{RoleAdmin})
	f.refused(404, "DELETE", "/admins/erin", nil)
	do[Admin](f, 200, "PUT", "/admins/erin", NewRole{RoleAdmin})
	do[Admin](f, 200, "PUT", "/admins/dave", NewRole{RoleAuditor})
	list := do[[]Admin](f, 200, "GET", "/admins", nil)
	if len(list) != 2 {
		t.Errorf("admins %+v", list)
	}
	do[any](f, 204, "DELETE", "/admins/dave", nil)
	want := []string{"admin.remove api-token robot api dave ", "admin.set api-token robot api dave ", "admin.set api-token robot api erin ", "admin.set api-token robot api dave "}
	if got := f.changes(); !slices.Equal(got[:4], want) {
		t.Errorf("changes %q, want %q", got[:4], want)
	}
}

func TestAPITokens(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made := do[IssuedAPIToken](f, 200, "POST", "/api-tokens", NewAPIToken{Name: "ci", Role: RoleAuditor})
	if !strings.HasPrefix(made.Secret, "sp_") || made.Role != RoleAuditor || made.Expires != nil {
		t.Errorf("API token %+v", made)
	}
	f.refused(409, "POST", "/api-tokens", NewAPIToken{Name: "ci", Role: RoleAdmin})
	f.refused(422, "POST", "/api-tokens", NewAPIToken{Name: "x", Role: "root"})
	past := time.Now().Add(-time.Minute)
	f.refused(422, "POST", "/api-tokens", NewAPIToken{Name: "x", Role: RoleAdmin, Expires: &past})
	f.refused(404, "DELETE", "/api-tokens/none", nil)
}

func TestTargets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	line := hostKey(t)
	x := do[Target](f, 200, "POST", "/targets", NewTarget{
		Name: "web1", Address: "10.0.0.5", Accounts: []string{"root", "deploy"}, Labels: map[string]string{"env": "prod"},
		HostKeys: []string{line + " root@web1", "web1 " + line}, Lockout: 3, Note: "behind the lift",
	})
	if x.ID == "" || x.Address != "10.0.0.5:22" || x.HostKeyMode != "pinned" || len(x.HostKeys) != 1 || x.HostKeys[0].Key != line || x.Accounts[0] != "root" || x.Lockout != 3 {
		t.Errorf("target %+v", x)
	}
	f.refused(409, "POST", "/targets", NewTarget{Name: "web1", Address: "10.0.0.6", HostKeys: []string{line}})
	if p := f.refused(422, "POST", "/targets", NewTarget{Name: "web2", Address: "10.0.0.6"}); !strings.Contains(p.Hint, "--tofu") {
		t.Errorf("target without host key: %+v", p)
	}
	f.refused(422, "POST", "/targets", NewTarget{Name: "we@b", Address: "10.0.0.6", HostKeys: []string{line}})
	f.refused(422, "POST", "/targets", NewTarget{Name: "web2", Address: "10.0.0.6:0", HostKeys: []string{line}})
	f.refused(422, "POST", "/targets", NewTarget{Name: "web2", Address: "10.0.0.6", HostKeys: []string{"nonsense"}})
	f.refused(422, "POST", "/targets", NewTarget{Name: "web2", Address: "10.0.0.6", HostKeyMode: "any"})
	do[Target](f, 200, "POST", "/targets", NewTarget{Name: "web2", Address: "10.0.0.6", HostKeyMode: "tofu"})
	if list := do[[]Target](f, 200, "GET", "/targets", nil); len(list) != 2 || list[0].Name != "web2" {
		t.Errorf("targets %+v, want newest first", list)
	}
	do[any](f, 204, "DELETE", "/targets/web1", nil)
	f.refused(404, "GET", "/targets/web1", nil)
	f.refused(404, "DELETE", "/targets/web1", nil)
	f.refused(404, "POST", "/targets/web1/check", NewCheck{})
	want := []string{"target.delete api-token robot api  web1", "target.add api-token robot api  web2", "target.add api-token robot api  web1"}
	if got := f.changes(); !slices.Equal(got, want) {
		t.Errorf("changes %q, want %q", got, want)
	}
}

// The authorized_keys line gives the bastion what the rules can grant, and no more.
func TestOnboarding(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	do[Target](f, 200, "POST", "/targets", NewTarget{Name: "web1", Address: "10.0.0.5", Accounts: []string{"root", "deploy"}, Labels: map[string]string{"env": "prod"}, HostKeyMode: "tofu"})
	const from = `from="192.0.2.10,2001:db8::10",`
	for _, tc := range []struct{ channels, options string }{
		{"", from + "restrict,pty"},
		{"channels: [sftp]", from + "restrict"},
		{"channels: [shell, agent]", from + "restrict,pty,agent-forwarding"},
		{"channels: [exec, local-forward]", from + "restrict,port-forwarding"},
		{"channels: [exec, {remote-forward: ['*:8080']}, x11]", from + "restrict,port-forwarding,X11-forwarding"},
	} {
		rules := "version: 1\nrules:\n  - name: r\n    users: ['*']\n    targets: [env=prod]\n"
		if tc.channels != "" {
			rules += "    " + tc.channels + "\n"
		}
		do[RulesChange](f, 200, "PUT", "/rules", NewRules{Text: rules})
		o := do[Onboarding](f, 200, "GET", "/targets/web1/onboarding", nil)
		want := tc.options + " " + f.s.cfg.Dialer.AuthorizedKey()
		if len(o.AuthorizedKeys) != 2 || o.AuthorizedKeys[0] != (AuthorizedKey{"root", want}) || o.AuthorizedKeys[1] != (AuthorizedKey{"deploy", want}) {
			t.Errorf("%s: %+v, want line %q", tc.channels, o.AuthorizedKeys, want)
		}
		if _, _, options, _, err := ssh.ParseAuthorizedKey([]byte(want)); err != nil || strings.Join(options, ",") != tc.options {
			t.Errorf("%s: the line reads as %q, %v", tc.channels, options, err)
		}
		if o.Warning != "" {
			t.Errorf("%s: warning %q", tc.channels, o.Warning)
		}
	}
	one := do[Onboarding](f, 200, "GET", "/targets/web1/onboarding?account=deploy", nil)
	if len(one.AuthorizedKeys) != 1 || one.AuthorizedKeys[0].Account != "deploy" {
		t.Errorf("one account: %+v", one)
	}
	f.refused(422, "GET", "/targets/web1/onboarding?account=postgres", nil)
	do[RulesChange](f, 200, "PUT", "/rules", NewRules{Text: "version: 1\nrules: []\n"})
	if o := do[Onboarding](f, 200, "GET", "/targets/web1/onboarding", nil); !strings.Contains(o.Warning, "No rule") || len(o.Kinds) != 0 {
		t.Errorf("without rules: %+v", o)
	}
}

// Scan and check speak to a real sshd.
func TestScanAndCheck(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	sshd := testenv.StartSSHD(t)
	keys := do[[]HostKey](f, 200, "POST", "/scan", NewScan{Address: sshd.Addr})
	var lines []string
	for _, k := range keys {
		lines = append(lines, k.Key)
	}
	if !slices.Contains(lines, sshd.HostKey) {
		t.Errorf("scan found %q, want %q among them", lines, sshd.HostKey)
	}
	do[Target](f, 200, "POST", "/targets", NewTarget{Name: "real", Address: sshd.Addr, Accounts: []string{sshd.Account}, HostKeys: lines})
	c := do[Check](f, 200, "POST", "/targets/real/check", NewCheck{})
	if c.OK || c.Steps[len(c.Steps)-1].Fix == "" {
		t.Errorf("check before onboarding: %+v", c)
	}
	sshd.Authorize(f.s.cfg.Dialer.AuthorizedKey())
	if c = do[Check](f, 200, "POST", "/targets/real/check", NewCheck{Account: sshd.Account}); !c.OK {
		t.Errorf("check: %+v", c)
	}
	f.refused(422, "POST", "/targets/real/check", NewCheck{Account: "nobody-here"})
	f.refused(422, "POST", "/scan", NewScan{Address: "no where"})
	if p := f.refused(502, "POST", "/scan", NewScan{Address: "127.0.0.1:1"}); !strings.Contains(p.Detail, "refused") {
		t.Errorf("scan of nothing: %+v", p)
	}
}

const opsRules = `version: 1
networks:
  office: [192.0.2.0/24]
rules:
  - name: no-vault
    deny: true
    targets: [vault]
    message: vault is closed
  - name: ops
    users: [group:ops]
    targets: ["*"]
    from: [office]
`

func TestRules(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if r := do[Rules](f, 200, "GET", "/rules", nil); r.Version != 0 || r.Text != "" || r.At != nil {
		t.Errorf("no rules yet: %+v", r)
	}
	dry := do[RulesChange](f, 200, "PUT", "/rules", NewRules{Text: opsRules, DryRun: true})
	if !dry.Changed || dry.Applied || dry.Version != 0 || !strings.Contains(dry.Diff, "+  - name: ops") {
		t.Errorf("dry run: %+v", dry)
	}
	zero := int64(0)
	put := do[RulesChange](f, 200, "PUT", "/rules", NewRules{Text: opsRules, Version: &zero})
	if !put.Changed || !put.Applied || put.Version != 1 {
		t.Errorf("put: %+v", put)
	}
	same := do[RulesChange](f, 200, "PUT", "/rules", NewRules{Text: opsRules})
	if same.Changed || same.Applied || same.Version != 1 || same.Diff != "" {
		t.Errorf("put again: %+v", same)
	}
	if p := f.refused(409, "PUT", "/rules", NewRules{Text: opsRules + "#\n", Version: &zero}); !strings.Contains(p.Hint, "export") {
		t.Errorf("stale: %+v", p)
	}
	p := f.refused(422, "PUT", "/rules", NewRules{Text: "version: 1\nrules:\n  - nmae: x\n"})
	if p.Line != 3 || p.Column != 5 || !strings.Contains(p.Excerpt, "^") {
		t.Errorf("mistake in the rules: %+v", p)
	}
	r := do[Rules](f, 200, "GET", "/rules", nil)
	if r.Version != 1 || r.Text != opsRules || r.By != "api-token robot" || r.At == nil {
		t.Errorf("rules %+v", r)
	}
	if got := f.changes(); !slices.Equal(got, []string{"rules.put api-token robot api  "}) {
		t.Errorf("changes %q", got)
	}
}

// Of many who change the same version at once, one wins.
func TestRulesChangedAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	won := make(chan bool, 20)
	for i := range cap(won) {
		go func() {
			zero := int64(0)
			w := f.request(f.admin, "PUT", "/rules", NewRules{Text: fmt.Sprintf("version: 1\nrules: []\n# %d\n", i), Version: &zero})
			won <- w.Code == 200
		}()
	}
	n := 0
	for range cap(won) {
		if <-won {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d changes of version 0 were taken, want 1", n)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	do[User](f, 200, "POST", "/users", NewUser{Login: "dave", Password: "correct horse", Groups: []string{"ops"}})
	for _, name := range []string{"web1", "vault"} {
		do[Target](f, 200, "POST", "/targets", NewTarget{Name: name, Address: "10.0.0.5", Accounts: []string{"root"}, HostKeyMode: "tofu"})
	}
	do[RulesChange](f, 200, "PUT", "/rules", NewRules{Text: opsRules})
	e := do[Explanation](f, 200, "GET", "/explain?user=dave&target=web1&from=192.0.2.7", nil)
	if !e.Allow || e.Rule != "ops" || e.Account != "root" || e.Code != "always" || e.Recording != "required" || len(e.Verdicts) != 2 || e.Message != "" || e.RulesVersion != 1 {
		t.Errorf("allowed: %+v", e)
	}
	if e.Verdicts[0].Matched || !e.Verdicts[1].Matched || e.Verdicts[0].Why == "" {
		t.Errorf("verdicts %+v", e.Verdicts)
	}
	e = do[Explanation](f, 200, "GET", "/explain?user=dave&target=web1&from=198.51.100.1&channel=shell", nil)
	if e.Allow || e.Rule != "" || e.Message == "" {
		t.Errorf("from elsewhere: %+v", e)
	}
	e = do[Explanation](f, 200, "GET", "/explain?user=dave&target=vault&from=192.0.2.7&at=2026-01-01T00:00:00Z", nil)
	if e.Allow || e.Rule != "no-vault" || !strings.Contains(e.Message, "vault is closed") {
		t.Errorf("vault: %+v", e)
	}
	f.refused(404, "GET", "/explain?user=nobody&target=web1", nil)
	f.refused(404, "GET", "/explain?user=dave&target=nowhere", nil)
	f.refused(422, "GET", "/explain?user=dave&target=web1&from=office", nil)
	f.refused(422, "GET", "/explain?user=dave&target=web1&channel=telnet", nil)
	f.refused(422, "GET", "/explain?user=dave", nil)
}

// asker answers a conversation with the same text, whatever is asked.
type asker string

func (a asker) Ask(_ context.Context, _ string, prompts []auth.Prompt) ([]string, error) {
	return slices.Repeat([]string{string(a)}, len(prompts)), nil
}

func (a asker) Show(context.Context, string) error { return nil }

func TestLockouts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.addUser("dave")
	source := netip.MustParseAddr("2001:db8:1:2::7")
	for range 5 {
		if _, err := f.s.cfg.Engine.Begin(auth.Attempt{Door: "ssh", Login: "dave", Source: source}).Run(context.Background(), asker("wrong")); err == nil {
			t.Fatal("a wrong password was taken")
		}
	}
	locks := do[[]Lockout](f, 200, "GET", "/lockouts", nil)
	if len(locks) != 1 {
		t.Fatalf("lockouts %+v, want one", locks)
	}
	l := locks[0]
	if l.User != "dave" || l.Source != "2001:db8:1:2::/64" || l.Failures != 5 || l.Since == nil || l.Until == nil || l.Target != "" {
		t.Errorf("lockout %+v", l)
	}
	// The id has slashes and colons in it.
	w := f.request(f.admin, "DELETE", "/lockouts/"+strings.NewReplacer("/", "%2F", "|", "%7C", "+", "%2B").Replace(l.ID), nil)
	if w.Code != 204 {
		t.Errorf("clear: status %d: %s", w.Code, w.Body)
	}
	if locks = do[[]Lockout](f, 200, "GET", "/lockouts", nil); len(locks) != 0 {
		t.Errorf("lockouts after clear %+v", locks)
	}
	f.refused(404, "DELETE", "/lockouts/source:192.0.2.1", nil)

	// By hand.
	soon := time.Now().Add(time.Hour)
	f.refused(422, "POST", "/lockouts", NewLockout{Source: "203.0.113.0/24", Reason: "x"})
	f.refused(422, "POST", "/lockouts", NewLockout{Source: "203.0.113.7"})
	f.refused(404, "POST", "/lockouts", NewLockout{Source: "203.0.113.7", User: "nobody", Reason: "x"})
	l = do[Lockout](f, 200, "POST", "/lockouts", NewLockout{Source: "2001:db8::7", Reason: "scans us", Until: &soon})
	if l.Source != "2001:db8::/64" || l.User != "" || l.Reason != "scans us" || l.Author == "" || l.Until == nil {
		t.Errorf("lock by hand: %+v", l)
	}
	if locks = do[[]Lockout](f, 200, "GET", "/lockouts", nil); len(locks) != 1 || locks[0].Reason != "scans us" {
		t.Errorf("lockouts %+v", locks)
	}
}

func TestAuditList(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 5 {
		f.addUser(fmt.Sprintf("user%d", i))
	}
	all := do[[]AuditEvent](f, 200, "GET", "/audit?type=operator.change", nil)
	if len(all) != 5 || all[0].User != "user4" || all[0].Node != "n1" || all[0].Result != "ok" {
		t.Fatalf("events %+v", all)
	}
	newer := do[[]AuditEvent](f, 200, "GET", "/audit?type=operator.change&after="+all[2].ID, nil)
	if len(newer) != 2 || newer[0].ID != all[0].ID {
		t.Errorf("events after: %+v", newer)
	}
	older := do[[]AuditEvent](f, 200, "GET", "/audit?type=operator.change&limit=1&before="+all[2].ID, nil)
	if len(older) != 1 || older[0].ID != all[3].ID {
		t.Errorf("events before: %+v", older)
	}
	if got := do[[]AuditEvent](f, 200, "GET", "/audit?user=user3&since="+all[4].Time.Format(time.RFC3339), nil); len(got) != 1 {
		t.Errorf("events of one user: %+v", got)
	}
}
