package policy

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// decideFiles gives what a rule with this line of sftp holds a person to.
func decideFiles(t *testing.T, user, sftp string) *Paths {
	t.Helper()
	d, err := Parse([]byte("version: 1\nrules:\n  - {name: files, users: [\"*\"], targets: [\"*\"], sftp: " + sftp + "}\n"))
	if err != nil {
		t.Fatal(err)
	}
	decision := d.Decide(Request{User: user, Target: Target{Name: "web1"}, Channel: SFTP, Source: netip.MustParseAddr("192.0.2.1")})
	if !decision.Allow || decision.Files == nil {
		t.Fatalf("got %+v", decision)
	}
	return decision.Files
}

func TestFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sftp, user string
		access     Access
		yes, no    string // paths
	}{
		{`{read: [/srv/**]}`, "alice", ReadFile, "/srv /srv/a /srv/a/b", "/ /sr /srvx /srvx/a"},
		{`{read: [/srv/**]}`, "alice", WriteFile, "", "/srv /srv/a"},
		{`{read: [/srv/**]}`, "alice", LookAt, "/ /srv /srv/a", "/etc"},
		{`{read: [/srv/**]}`, "alice", ReadBeneath, "/srv /srv/a", "/"},
		{`{read: [/srv/*]}`, "alice", ReadFile, "/srv/a", "/srv /srv/a/b"},
		{`{read: [/srv/*]}`, "alice", ReadBeneath, "", "/srv /srv/a"},
		{`{read: ["/srv/*.t?t"]}`, "alice", ReadFile, "/srv/a.txt /srv/.tot", "/srv/a.txtx /srv/a/b.txt"},
		{`{write: ["/**/in/*"]}`, "alice", WriteFile, "/in/a /x/in/b /x/y/in/c /in/in/in", "/in /x/in /in/a/b"},
		{`{write: ["/**/in/*"]}`, "alice", LookAt, "/ /x /x/y", ""},
		{`{write: ["/home/{user}/**", "/mail/{user}.mbox"]}`, "alice", WriteFile, "/home/alice /home/alice/x /mail/alice.mbox", "/home/bob /home /mail/alice"},
		{`{write: ["/home/{user}/**"]}`, "..", WriteFile, "", "/home /home/.. /home/x"},
		{`{write: ["/home/{user}/**"]}`, "*", WriteFile, "", "/home /home/* /home/x"},
		{`{write: ["/home/{user}/**"]}`, "a/b", WriteFile, "", "/home/a/b /home/x"},
		{`{write: ["/"]}`, "alice", WriteFile, "/", "/a"},
		{`{write: ["/**"]}`, "alice", WriteFile, "/ /a /a/b", ""},
		{"{write: [\"/a b/*\"]}", "alice", WriteFile, "", "/a/b"},
	} {
		p := decideFiles(t, c.user, c.sftp)
		for _, path := range strings.Fields(c.yes) {
			if !p.Allows(c.access, path) {
				t.Errorf("%s for %s: access %d to %s is refused", c.sftp, c.user, c.access, path)
			}
		}
		for _, path := range strings.Fields(c.no) {
			if p.Allows(c.access, path) {
				t.Errorf("%s for %s: access %d to %s is allowed", c.sftp, c.user, c.access, path)
			}
		}
	}
}

// A rule that speaks of paths allows what they hold, unless its channels say more; the rule that decides is
// the one whose paths count.
func TestFilesChannels(t *testing.T) {
	t.Parallel()
	d, err := Parse([]byte(`version: 1
rules:
  - {name: files, users: [alice], targets: [web1], sftp: {read: [/srv/**]}}
  - {name: shell, users: [alice], targets: ["*"], channels: [shell, sftp]}
`))
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]map[string]string{
		"web1": {SFTP: `read: ["/srv/**"]`, SCP: `read: ["/srv/**"]`, Shell: "", "": `read: ["/srv/**"]`},
		"web2": {SFTP: "", Shell: "", "": ""},
	} {
		for channel, paths := range want {
			got := d.Decide(Request{User: "alice", Target: Target{Name: target}, Channel: channel, Source: netip.MustParseAddr("192.0.2.1")})
			if !got.Allow || got.Files.String() != paths {
				t.Errorf("%s on %s: %v, held to %q, want %q", channel, target, got.Allow, got.Files, paths)
			}
		}
	}
	if got := d.Decide(Request{User: "alice", Target: Target{Name: "web1"}, Channel: Exec}); got.Allow {
		t.Error("a rule for files allows commands")
	}
	a, b := decideFiles(t, "alice", "{read: [/a]}"), decideFiles(t, "alice", "{read: [/b]}")
	if !a.Same(a) || a.Same(b) || a.Same(nil) || !(*Paths)(nil).Same(nil) {
		t.Error("Same does not tell paths apart")
	}
}

func TestFilesErrors(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`sftp: {read: [/a, srv]}`:               `line 4, column 87: sftp.read: "srv": a path begins with /`,
		`sftp: {write: [/a/]}`:                  `line 4, column 84: sftp.write: "/a/" ends in /: write /a`,
		`sftp: {write: [/a//b]}`:                `"/a//b" has a part without a name`,
		`sftp: {write: [/a/../b]}`:              `dots have no place`,
		`sftp: {write: [/a/x**]}`:               `** stands alone`,
		`sftp: {write: ["/a/[b]"]}`:             `has no meaning in a glob`,
		`sftp: {write: ["/a/{home}"]}`:          `has no meaning in a glob`,
		`sftp: {write: ["/a\\b"]}`:              `a path with a backslash never passes`,
		`sftp: {}`:                              `sftp needs read or write`,
		`sftp: {read: []}`:                      `the list is empty`,
		`sftp: {delete: [/a]}`:                  `unknown key "delete"; sftp may have: read, write`,
		`channels: [rsync], sftp: {read: [/a]}`: `channels: rsync cannot be held to the paths of sftp`,
		`deny: true, sftp: {read: [/a]}`:        `sftp: has no meaning in a rule that denies`,
	} {
		_, err := Parse([]byte("version: 1\nrules:\n\n  - {name: files, users: [\"*\"], targets: [\"*\"], limits: {idle: 1m}, " + line + "}\n"))
		if strings.HasPrefix(line, "deny") {
			_, err = Parse([]byte("version: 1\nrules:\n\n  - {name: files, " + line + "}\n"))
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", line, err, want)
		}
	}
}

// A glob that covers what is beneath a path matches each path beneath it, and what is above a match may be
// looked at.
func TestFilesProperties(t *testing.T) {
	t.Parallel()
	part := rapid.SampledFrom([]string{"a", "b", "ab"})
	rapid.Check(t, func(t *rapid.T) {
		var words []string
		for _, w := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*", "?", "**", "a*"}), 1, 5).Draw(t, "glob") {
			words = append(words, "/"+w)
		}
		g, ok := compilePath(strings.Join(words, ""), "alice")
		if !ok {
			t.Fatal("not compiled")
		}
		path, more := rapid.SliceOfN(part, 0, 4).Draw(t, "path"), rapid.SliceOfN(part, 0, 3).Draw(t, "more")
		longer := append(path[:len(path):len(path)], more...)
		if g.beneath(path) && !g.match(longer) {
			t.Fatalf("%v is beneath %v of %v and does not match", longer, path, words)
		}
		if len(more) > 0 && g.match(longer) && !g.above(path) {
			t.Fatalf("%v is not above %v of %v", path, longer, words)
		}
	})
}
