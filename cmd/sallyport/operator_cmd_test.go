package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"

	"sallyport/admin"
	"sallyport/identity"
	"sallyport/internal/testenv"
	"sallyport/recorder"
	"sallyport/store"
)

func TestOperatorUsers(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	if r := o.feed("correct horse\n", "user", "add", "Dave", "--name", "Dave D", "--group", "ops", "--group", "dba", "--password-file", "-"); r.code != 0 || r.out != "" || !strings.Contains(r.err, "dave") {
		t.Errorf("user add: %+v", r)
	}
	u := object[admin.User](o, "user", "add", "erin", "--password-file", o.file("pw", "correct horse\r\n"))
	if u.Login != "erin" || !u.HasPassword {
		t.Errorf("user add -o json: %+v", u)
	}
	hash, err := o.node.Store.Users.PasswordHash(context.Background(), u.ID)
	noError(t, err)
	if ok, err := identity.VerifyPassword(context.Background(), hash, "correct horse"); !ok || err != nil {
		t.Errorf("the password of the file does not fit: %v", err)
	}
	made := object[shownUser](o, "user", "add", "frank", "--generate")
	if !regexp.MustCompile(`^[a-z2-9]{5}(-[a-z2-9]{5}){3}$`).MatchString(made.Password) {
		t.Errorf("made password %q", made.Password)
	}
	if r := o.run("user", "password", "frank", "--generate"); r.code != 0 || !strings.Contains(r.out, "password") || strings.Contains(r.err, strings.Fields(r.out)[3]) {
		t.Errorf("user password: %+v", r)
	}
	o.ok("user", "add", "keyed", "--no-password")
	o.fails(1, "user", "add", "dave", "--generate")
	o.fails(2, "user", "add", "gina", "--password-file", o.file("two", "one\ntwo\n"))
	o.fails(2, "user", "add", "gina", "--password-file", o.file("short", "short"))

	list := object[[]map[string]any](o, "user", "list")
	if len(list) != 4 || list[0]["login"] != "keyed" || list[3]["login"] != "dave" {
		t.Errorf("user list, newest first: %v", list)
	}
	if out := o.ok("user", "list"); !strings.HasPrefix(out, "LOGIN ") || !strings.Contains(out, "Dave D") {
		t.Errorf("user list: %q", out)
	}
	o.ok("user", "lock", "dave", "--reason", "left", "--for", "2d")
	locked := object[admin.User](o, "user", "show", "dave")
	if !locked.Locked || locked.LockReason != "left" || locked.LockedUntil == nil || time.Until(*locked.LockedUntil) < 47*time.Hour {
		t.Errorf("locked: %+v", locked)
	}
	if out := o.ok("user", "show", "dave"); !strings.Contains(out, "locked until") || !strings.Contains(out, "dba,ops") {
		t.Errorf("user show: %q", out)
	}
	o.ok("user", "unlock", "dave")
	o.ok("user", "groups", "dave", "web", "db")
	if got := object[admin.User](o, "user", "show", "dave"); got.Locked || !slices.Equal(got.Groups, []string{"db", "web"}) {
		t.Errorf("unlocked, with groups: %+v", got)
	}
	o.ok("user", "groups", "dave")
	if got := object[map[string]any](o, "user", "delete", "dave"); got["id"] != "dave" || got["deleted"] != true {
		t.Errorf("user delete: %v", got)
	}
	o.fails(1, "user", "show", "dave")
}

func TestOperatorUserKeys(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.ok("user", "add", "dave", "--no-password")
	k := object[admin.UserKey](o, "user", "key", "add", "dave", testHostKey+" dave@laptop")
	if k.Name != "dave@laptop" {
		t.Errorf("key %+v", k)
	}
	o.fails(1, "user", "key", "add", "dave", "--key-file", o.file("id.pub", testHostKey+"\n"))
	o.fails(2, "user", "key", "add", "dave")
	o.fails(2, "user", "key", "add", "dave", "nonsense")
	for _, line := range []string{"no-pty " + testHostKey, `from="192.0.2.1" ` + testHostKey, "cert-authority " + testHostKey} {
		if text := o.fails(2, "user", "key", "add", "dave", line); !strings.Contains(text, "options") {
			t.Errorf("%s was refused with %q", line, text)
		}
	}
	if out := o.ok("user", "key", "list", "dave"); !strings.Contains(out, "SHA256:") {
		t.Errorf("key list: %q", out)
	}
	o.ok("user", "key", "delete", "dave", k.ID)
	if got := object[[]any](o, "user", "key", "list", "dave"); len(got) != 0 {
		t.Errorf("keys: %v", got)
	}
}

// typing runs a command at a terminal where a person gives answers, each when the prompt with its number
// is there. It returns the exit status and what stood on the screen.
func (o *operated) typing(prompt string, answers []string, args ...string) (code int, screen string) {
	o.t.Helper()
	ptmx, tty, err := pty.Open()
	noError(o.t, err)
	defer ptmx.Close()
	seen := make(chan string)
	go func() {
		var text strings.Builder
		buf := make([]byte, 1024)
		for given := 0; ; {
			n, err := ptmx.Read(buf)
			text.Write(buf[:n])
			if given < len(answers) && strings.Count(text.String(), prompt) == given+1 {
				_, _ = ptmx.WriteString(answers[given] + "\n")
				given++
			}
			if err != nil {
				seen <- text.String()
				return
			}
		}
	}()
	code = run(context.Background(), append([]string{"--socket", string(o.cfg.Socket)}, args...), tty, io.Discard, tty)
	tty.Close()
	return code, <-seen
}

// A password typed at a terminal is asked for twice and never shown.
func TestOperatorTypesPassword(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	for _, tc := range []struct {
		login, first, second string
		code                 int
	}{
		{"dave", "correct horse", "correct horse", 0},
		{"erin", "correct horse", "battery staple", 1},
		{"frank", "", "", 2},
	} {
		code, seen := o.typing(": ", []string{tc.first, tc.second}, "user", "add", tc.login)
		if code != tc.code {
			t.Errorf("%s: exit %d, want %d; screen %q", tc.login, code, tc.code, seen)
		}
		if strings.Contains(seen, "horse") || strings.Contains(seen, "battery") {
			t.Errorf("%s: the password is on the screen: %q", tc.login, seen)
		}
	}
	if got := object[[]admin.User](o, "user", "list"); len(got) != 1 || got[0].Login != "dave" {
		t.Errorf("users %+v", got)
	}
}

// At a terminal, what takes something away asks first, and so does the trust in a host key.
func TestOperatorConfirms(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	sshd := testenv.StartSSHD(t)
	add := []string{"target", "add", "web1", "--address", sshd.Addr, "--tofu"}
	for _, no := range []string{"n", "", "yess"} {
		if code, screen := o.typing("[y/N] ", []string{no}, add...); code != 1 || !strings.Contains(screen, "SHA256:") {
			t.Errorf("answer %q: exit %d, screen %q", no, code, screen)
		}
	}
	if code, screen := o.typing("[y/N] ", []string{"y"}, add...); code != 0 {
		t.Errorf("answer y: exit %d, screen %q", code, screen)
	}
	if code, _ := o.typing("[y/N] ", []string{"n"}, "target", "delete", "web1"); code != 1 {
		t.Errorf("target delete, answer n: exit %d", code)
	}
	if code, screen := o.typing("[y/N] ", []string{"YES"}, "target", "delete", "web1"); code != 0 {
		t.Errorf("target delete, answer YES: exit %d, screen %q", code, screen)
	}
	o.ok("user", "add", "dave", "--no-password")
	if code, screen := o.typing("[y/N] ", nil, "user", "delete", "dave", "--yes"); code != 0 || strings.Contains(screen, "[y/N]") {
		t.Errorf("user delete --yes: exit %d, screen %q", code, screen)
	}
}

func TestOperatorTokens(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.ok("user", "add", "dave", "--generate")
	r := o.run("token", "add", "dave", "--name", "phone")
	secret := regexp.MustCompile(`secret +([A-Z2-7]{32})\n`).FindStringSubmatch(r.out)
	if r.code != 0 || secret == nil || !strings.Contains(r.out, "otpauth://totp/") {
		t.Fatalf("token add: %+v", r)
	}
	if strings.Contains(r.err, secret[1]) || !strings.Contains(r.err, "█") {
		t.Errorf("stderr has the secret, or no QR: %q", r.err)
	}
	for i, line := range strings.Split(r.err, "\n") {
		if n := len([]rune(line)); n > 80 || i > 30 {
			t.Errorf("line %d of the QR has %d columns", i+1, n)
		}
	}
	imported := object[admin.IssuedToken](o, "token", "add", "dave", "--secret-file", o.file("seed", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n"), "--digits", "8")
	if imported.Secret != "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" || imported.Digits != 8 {
		t.Errorf("imported: %+v", imported)
	}
	o.fails(2, "token", "add", "dave", "--secret-file", o.file("bad", "AAAA\n"))
	o.fails(2, "token", "add", "dave", "--digits", "7")
	o.fails(1, "token", "add", "nobody")
	if got := object[[]admin.Token](o, "token", "list", "dave"); len(got) != 2 || got[0].ID != imported.ID {
		t.Errorf("tokens: %+v", got)
	}
	if out := o.ok("token", "list", "dave"); strings.Contains(out, secret[1]) || !strings.Contains(out, "phone") {
		t.Errorf("token list: %q", out)
	}
	o.ok("token", "delete", "dave", imported.ID)
	o.fails(1, "token", "delete", "dave", imported.ID)
}

// A hardware token from the box to the bin, and what helps a person without it.
func TestOperatorTokenLife(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.ok("user", "add", "dave", "--generate")
	const seed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // of RFC 4226, appendix D
	r := o.feed(seed+"\n", "token", "add", "dave", "--type", "hotp", "--name", "button", "--serial", "GALT11420104", "--secret-file", "-", "--expires", "90d")
	if r.code != 0 || !strings.Contains(r.out, "otpauth://hotp/") || strings.Contains(r.err, "█") {
		t.Fatalf("token add: %+v", r)
	}
	o.fails(1, "token", "add", "dave", "--serial", "GALT11420104")
	o.fails(2, "token", "add", "dave", "--type", "motp")
	o.fails(2, "token", "add", "dave", "--expires", "whenever")
	o.fails(2, "token", "add", "dave", "--type", "hotp", "--period", "30")

	if r := o.feed("254676\n287922\n", "token", "resync", "dave", "GALT11420104"); r.code != 0 || !strings.Contains(r.err, "next counter is 7") {
		t.Errorf("token resync: %+v", r)
	}
	if r := o.feed("254676\n287922\n", "token", "resync", "dave", "button"); r.code != 2 || !strings.Contains(r.err, "newer than the last one used") {
		t.Errorf("the same codes again: %+v", r)
	}
	if r := o.feed("254676\n", "token", "resync", "dave", "button"); r.code != 2 {
		t.Errorf("one code: %+v", r)
	}
	o.ok("token", "rename", "dave", "button", "keyring")
	for command, state := range map[string]string{"lost": "lost", "disable": "disabled"} {
		o.ok("token", command, "dave", "keyring")
		if got := object[admin.TokenDetail](o, "token", "show", "dave", "keyring"); got.State != state || got.Serial != "GALT11420104" || len(got.Uses) != 1 || got.Counter != 7 {
			t.Errorf("%s: %+v", command, got)
		}
	}
	o.ok("token", "enable", "dave", "keyring")
	if out := o.ok("token", "show", "dave", "keyring"); !strings.Contains(out, "next counter") || !strings.Contains(out, "console") {
		t.Errorf("token show: %q", out)
	}
	o.ok("token", "add", "dave", "--name", "phone")
	if out := o.ok("token", "list", "dave"); !strings.Contains(out, "+0 steps (+0 s), steady") || !strings.Contains(out, "GALT11420104") {
		t.Errorf("token list: %q", out)
	}
	o.ok("token", "remove", "dave", "keyring")
	o.fails(1, "token", "show", "dave", "keyring")

	codes := strings.Fields(o.ok("recovery-codes", "new", "dave"))
	if len(codes) != 10 || object[admin.RecoveryCodes](o, "recovery-codes", "count", "dave").Left != 10 {
		t.Errorf("recovery codes %v", codes)
	}
	o.ok("recovery-codes", "remove", "dave")
	if out := o.ok("recovery-codes", "count", "dave"); !strings.Contains(out, "0") {
		t.Errorf("count: %q", out)
	}
	o.fails(2, "user", "bypass-code", "dave")
	o.fails(2, "user", "bypass-code", "dave", "--reason", "x", "--expires", "30d")
	made := object[admin.IssuedBypassCode](o, "user", "bypass-code", "dave", "--reason", "phone broken", "--expires", "2h")
	if made.Expires == nil || time.Until(*made.Expires) < 119*time.Minute {
		t.Errorf("bypass code %+v", made)
	}
	if list := object[[]admin.BypassCode](o, "user", "bypass-codes", "dave"); len(list) != 1 || list[0].ID == "" || list[0].Reason != "phone broken" {
		t.Errorf("bypass codes %+v", list)
	}
	o.ok("user", "bypass-remove", "dave")
	if list := object[[]admin.BypassCode](o, "user", "bypass-codes", "dave"); len(list) != 0 {
		t.Errorf("bypass codes %+v", list)
	}
}

func TestOperatorAdmins(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.ok("user", "add", "dave", "--generate")
	o.ok("user", "add", "erin", "--generate")
	o.ok("admin", "add", "dave")
	if a := object[admin.Admin](o, "admin", "add", "erin", "--role", "auditor"); a.Role != "auditor" {
		t.Errorf("admin add: %+v", a)
	}
	o.fails(2, "admin", "add", "erin", "--role", "root")
	o.fails(1, "admin", "remove", "dave")
	o.fails(1, "user", "delete", "dave")
	o.ok("admin", "remove", "erin")
	if got := object[[]admin.Admin](o, "admin", "list"); len(got) != 1 || got[0].Login != "dave" || got[0].ID == "" {
		t.Errorf("admin list: %+v", got)
	}
	o.ok("api-token", "add", "ci")
	tokens := object[[]admin.APIToken](o, "api-token", "list")
	if len(tokens) != 1 || tokens[0].Role != "auditor" {
		t.Fatalf("api-token list: %+v", tokens)
	}
	o.ok("api-token", "delete", tokens[0].ID)
	o.fails(1, "api-token", "delete", tokens[0].ID)
}

func TestOperatorTargets(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	x := object[admin.Target](o, "target", "add", "web1", "--address", "10.0.0.5:22", "--account", "root", "--account", "deploy",
		"--host-key", testHostKey, "--label", "env=prod", "--label", "tier=1", "--lockout", "3", "--note", "behind the lift")
	if x.Name != "web1" || len(x.HostKeys) != 1 || x.Labels["tier"] != "1" || x.Lockout != 3 {
		t.Errorf("target add: %+v", x)
	}
	o.fails(1, "target", "add", "web1", "--address", "10.0.0.5:22", "--host-key", testHostKey)
	if text := o.fails(2, "target", "add", "web2", "--address", "10.0.0.5:22"); !strings.Contains(text, "--tofu") {
		t.Errorf("without host key: %q", text)
	}
	if out := o.ok("target", "list"); !strings.Contains(out, "env=prod,tier=1") || !strings.Contains(out, "SHA256:") {
		t.Errorf("target list: %q", out)
	}
	if out := o.ok("target", "show", "web1"); !strings.Contains(out, "ssh-ed25519 SHA256:") || !strings.Contains(out, "3 failures") {
		t.Errorf("target show: %q", out)
	}
	o.ok("target", "delete", "web1")
	o.fails(1, "target", "show", "web1")
}

// A target comes in as the README says: scan, onboard, check. Nobody at a terminal means that nothing
// is trusted without --yes.
func TestOperatorOnboardsTarget(t *testing.T) {
	t.Parallel()
	o := startOperatedAt(t, "127.0.0.1")
	sshd := testenv.StartSSHD(t)
	if text := o.fails(1, "target", "add", "web1", "--address", sshd.Addr, "--account", sshd.Account, "--tofu"); !strings.Contains(text, "SHA256:") {
		t.Errorf("the fingerprint is not shown: %q", text)
	}
	o.fails(1, "target", "show", "web1")
	x := object[admin.Target](o, "target", "add", "web1", "--address", sshd.Addr, "--account", sshd.Account, "--tofu", "--yes")
	if x.HostKeyMode != "pinned" || !slices.ContainsFunc(x.HostKeys, func(k admin.HostKey) bool { return k.Key == sshd.HostKey }) {
		t.Errorf("target %+v, want pinned to %s", x, sshd.HostKey)
	}
	o.fails(1, "target", "add", "down", "--address", "127.0.0.1:1", "--tofu", "--yes")

	r := o.run("target", "onboard", "web1")
	if r.code != 0 || !strings.Contains(r.err, "No rule") {
		t.Errorf("onboard without rules: %+v", r)
	}
	o.ok("apply", "-f", o.file("rules.yaml", "version: 1\nrules:\n  - {name: all, users: ['*'], targets: ['*']}\n"))
	r = o.run("target", "onboard", "web1")
	if r.code != 0 || strings.Count(r.out, "\n") != 1 || !strings.HasPrefix(r.out, `from="127.0.0.1",restrict,pty ssh-ed25519 `) || !strings.Contains(r.err, "authorized_keys") {
		t.Fatalf("onboard: %+v", r)
	}
	// The line to paste does what it says.
	home := t.TempDir()
	paste := regexp.MustCompile(`(?m)^  (mkdir .*)$`).FindStringSubmatch(r.err)
	if paste == nil {
		t.Fatalf("nothing to paste in %q", r.err)
	}
	sh := exec.Command("sh", "-c", paste[1])
	sh.Env = append(os.Environ(), "HOME="+home)
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", paste[1], err, out)
	}
	installed, err := os.ReadFile(filepath.Join(home, ".ssh", "authorized_keys"))
	noError(t, err)
	if string(installed) != r.out {
		t.Errorf("pasted %q, want %q", installed, r.out)
	}

	if r := o.run("target", "check", "web1"); r.code != 1 || !strings.Contains(r.out, "FAILED") || !strings.Contains(r.err, "onboard") {
		t.Errorf("check before onboarding: %+v", r)
	}
	_, _, _, _, err = ssh.ParseAuthorizedKey(installed)
	noError(t, err)
	sshd.Authorize(strings.TrimSpace(r.out))
	if got := object[admin.Check](o, "target", "check", "web1"); !got.OK || len(got.Steps) != 5 {
		t.Errorf("check: %+v", got)
	}
}

// OpenSSH reads what ssh-config prints.
func TestOperatorSSHConfig(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.addTarget("web1")
	o.addTarget("db-1")
	var block bytes.Buffer
	g := &globals{Out: &block, Err: io.Discard}
	targets := object[[]admin.Target](o, "target", "list")
	hosts, err := sshHosts(admin.Door{Host: "bastion.example.org", Port: 2222}, targets, nil, "dave", "")
	noError(t, err)
	noError(t, g.showSSHConfig(hosts))
	out, err := exec.Command("ssh", "-G", "-F", o.file("config", block.String()), "db-1").CombinedOutput()
	if err != nil {
		t.Fatalf("ssh -G: %v: %s", err, out)
	}
	for _, want := range []string{"user dave@db-1", "hostname bastion.example.org", "port 2222"} {
		if !slices.Contains(strings.Split(string(out), "\n"), want) {
			t.Errorf("ssh -G does not say %q: %s", want, out)
		}
	}
	one := object[[]sshHost](o, "target", "ssh-config", "web1", "--user", "dave", "--account", "root")
	if len(one) != 1 || one[0].User != "dave@root@web1" || one[0].ID == "" {
		t.Errorf("one block: %+v", one)
	}
	o.fails(1, "target", "ssh-config", "nowhere", "--user", "dave")
	o.fails(2, "target", "ssh-config", "--user", "da ve\n  ProxyCommand x")
}

const testRules = `version: 1
rules:
  - name: ops
    users: [dave]
    targets: [web1]
`

func TestOperatorRules(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	file := o.file("rules.yaml", testRules)
	if r := o.run("export"); r.code != 0 || r.out != "" || !strings.Contains(r.err, "no rules") {
		t.Errorf("export of nothing: %+v", r)
	}
	if r := o.run("apply", "-f", file, "--dry-run"); r.code != 0 || !strings.Contains(r.out, "+  - name: ops") || !strings.Contains(r.err, "dry run") {
		t.Errorf("dry run: %+v", r)
	}
	if got := object[admin.Rules](o, "export"); got.Version != 0 {
		t.Errorf("a dry run changed something: %+v", got)
	}
	if r := o.run("apply", "-f", file); r.code != 0 || !strings.Contains(r.err, "version 1") {
		t.Errorf("apply: %+v", r)
	}
	if r := o.run("apply", "-f", file); r.code != 0 || r.out != "" || !strings.Contains(r.err, "nothing changed") {
		t.Errorf("apply again: %+v", r)
	}
	if out := o.ok("export"); out != testRules {
		t.Errorf("export %q", out)
	}
	if r := o.feed(testRules+"# more\n", "apply", "-f", "-", "-o", "json"); r.code != 0 || !strings.Contains(r.out, `"applied": true`) {
		t.Errorf("apply of stdin: %+v", r)
	}
	o.fails(1, "apply", "-f", file, "--if-version", "1")
	o.ok("apply", "-f", file, "--if-version", "2")

	bad := o.file("bad.yaml", "version: 1\nrules:\n  - name: ops\n    tragets: [web1]\n")
	text := o.fails(2, "apply", "-f", bad)
	if !strings.Contains(text, bad+":4:5: ") || !strings.Contains(text, "tragets: [web1]") || !strings.Contains(text, "^") {
		t.Errorf("a mistake is shown as %q", text)
	}
	if r := o.feed("rules: [", "apply", "-f", "-"); r.code != 2 || !strings.Contains(r.err, "standard input:1:") {
		t.Errorf("a mistake on stdin: %+v", r)
	}
	o.fails(2, "apply", "-f", bad, "--dry-run")
}

func TestOperatorExplain(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.ok("user", "add", "dave", "--no-password")
	o.ok("user", "add", "erin", "--no-password")
	o.addTarget("web1")
	o.ok("apply", "-f", o.file("rules.yaml", testRules))
	out := o.ok("explain", "--user", "dave", "--target", "web1", "--from", "192.0.2.7")
	if !strings.Contains(out, "allowed: dave as root on web1 from 192.0.2.7, by rule ops") || !strings.Contains(out, "channels: shell") {
		t.Errorf("allowed: %q", out)
	}
	o.ok("apply", "-f", o.file("limited.yaml", "version: 1\nrules:\n  - {name: ops, users: [dave], targets: [web1], limits: {keyboard-idle: 15m, rule-sessions: 9}, env: [LANG, 'APP_*']}\n"))
	out = o.ok("explain", "--user", "dave", "--target", "web1")
	if !strings.Contains(out, "limits: keyboard-idle: 15m, rule-sessions: 9\nenvironment: LANG APP_*\n") {
		t.Errorf("limits: %q", out)
	}
	if e := decode[admin.Explanation](t, o.ok("explain", "--user", "dave", "--target", "web1", "-o", "json")); e.Limits != "keyboard-idle: 15m, rule-sessions: 9" || e.Env != "LANG APP_*" {
		t.Errorf("limits as JSON: %+v", e)
	}
	r := o.run("explain", "--user", "erin", "--target", "web1", "--channel", "shell", "--at", "2026-01-01")
	if r.code != 1 || !strings.Contains(r.out, "refused: erin") || r.err != "" {
		t.Errorf("refused: %+v", r)
	}
	r = o.run("explain", "--user", "erin", "--target", "web1", "-o", "json")
	if e := decode[admin.Explanation](t, r.out); r.code != 1 || e.Allow || len(e.Verdicts) != 1 || e.Verdicts[0].Why == "" {
		t.Errorf("refused as JSON: %+v", r)
	}
	o.fails(1, "explain", "--user", "nobody", "--target", "web1")
	o.fails(2, "explain", "--user", "dave", "--target", "web1", "--from", "office")
	o.fails(2, "explain", "--user", "dave", "--target", "web1", "--channel", "telnet")
	o.fails(2, "explain", "--user", "dave", "--target", "web1", "--at", "soon")
}

func TestOperatorAudit(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.ok("user", "add", "dave", "--no-password")
	events := object[[]map[string]any](o, "audit", "list", "--type", "operator.change")
	if len(events) != 1 || events[0]["id"] == "" || events[0]["actor"] != "console" || events[0]["user"] != "dave" {
		t.Errorf("audit list: %v", events)
	}
	if out := o.ok("audit", "list", "--since", "1h"); !strings.Contains(out, "user.add") {
		t.Errorf("audit list: %q", out)
	}
	// tail begins with what was, and goes on with what comes.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out, in, err := os.Pipe()
	noError(t, err)
	defer out.Close()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"--socket", string(o.cfg.Socket), "-o", "json", "audit", "tail", "--type", "operator.change"}, strings.NewReader(""), in, in)
		in.Close()
	}()
	lines := json.NewDecoder(out)
	next := func() admin.AuditEvent {
		var e admin.AuditEvent
		noError(t, out.SetReadDeadline(time.Now().Add(time.Minute)))
		noError(t, lines.Decode(&e))
		return e
	}
	if e := next(); e.User != "dave" {
		t.Errorf("first event %+v", e)
	}
	o.ok("user", "add", "erin", "--no-password")
	if e := next(); e.User != "erin" {
		t.Errorf("next event %+v", e)
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("tail ended with %d", code)
	}
}

func TestOperatorLockouts(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	ctx := context.Background()
	for _, source := range []string{"192.0.2.1", "2001:db8::/64"} {
		r, _, _, err := o.node.Store.Attempts.Reserve(ctx, []store.Counter{{Kind: "source", Key: source, Limit: 1, Window: time.Minute, Lock: time.Minute}})
		noError(t, err)
		_, err = o.node.Store.Attempts.Fail(ctx, r)
		noError(t, err)
	}
	locks := object[[]admin.Lockout](o, "lockout", "list")
	if len(locks) != 2 || locks[0].ID == "" || locks[0].Source == "" || locks[0].Until == nil {
		t.Fatalf("lockout list: %+v", locks)
	}
	if out := o.ok("lockout", "list"); !strings.Contains(out, "2001:db8::/64") {
		t.Errorf("lockout list: %q", out)
	}
	o.ok("lockout", "clear", "--source", "2001:db8::/64")
	if locks = object[[]admin.Lockout](o, "lockout", "list"); len(locks) != 1 {
		t.Errorf("after clear --source: %+v", locks)
	}
	o.ok("lockout", "clear", locks[0].ID)
	if r := o.run("lockout", "clear", "--all"); r.code != 0 || !strings.Contains(r.err, "0 locks") {
		t.Errorf("clear --all of nothing: %+v", r)
	}
}

// Every list prints an array whose objects have an id, empty or not.
func TestOperatorListsAreArrays(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	lists := [][]string{
		{"user", "list"}, {"admin", "list"}, {"api-token", "list"}, {"target", "list"}, {"session", "list"}, {"audit", "list"},
		{"lockout", "list"}, {"user", "key", "list", "dave"}, {"token", "list", "dave"}, {"session", "keys"}, {"target", "ssh-config", "--user", "dave"},
	}
	o.ok("user", "add", "dave", "--no-password")
	for _, args := range lists {
		out := o.ok(append(args, "-o", "json")...)
		if !strings.HasPrefix(out, "[") {
			t.Errorf("%q prints %q", args, out)
		}
	}
	o.ok("user", "key", "add", "dave", testHostKey)
	o.ok("token", "add", "dave")
	o.ok("admin", "add", "dave")
	o.ok("api-token", "add", "ci")
	o.addTarget("web1")
	o.record(func(w *recorder.Recording) { noError(t, w.Output([]byte("x"))) })
	for _, args := range lists {
		for _, x := range object[[]map[string]any](o, args...) {
			if id, _ := x["id"].(string); id == "" {
				t.Errorf("%q prints an object without id: %v", args, x)
			}
		}
	}
}
