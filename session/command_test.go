package session

import (
	"testing"

	"sallyport/ledger"
)

// A shortcut is decided on the whole command: "scp -t x; bash" once passed elsewhere as a file transfer,
// because only the first words were looked at.
func TestShortcut(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"scp -t /tmp/x":             "scp",
		"scp -f -- 'a file'":        "scp",
		"scp -v -r -p -t .":         "scp",
		"scp -pt 'x'":               "scp",
		"scp -t -r x":               "scp",
		"scp -qrpt -- x":            "scp",
		"scp -S /bin/sh -t x":       "",
		"scp -oProxyCommand=x -t y": "",
		"scp -t -f x":               "",
		"scp -t a b":                "",
		"scp -t a 'b'":              "",
		"scp 'x'":                   "",
		"scp -t -- -- x":            "",
		"scp -":                     "",
		"scp a b":                   "",
		"scp -t":                    "",
		"scp -t x; bash":            "",
		"scp -t x && id":            "",
		"scp -t x | sh":             "",
		"scp -t $(id)":              "",
		"scp -t `id`":               "",
		"scp -t x\nid":              "",
		"scp -t x > /etc/passwd":    "",
		"scp -t 'a' 'b'":            "",
		"scp -t 'a'b":               "",
		"scp -f /x\x00":             "",
		"scp -f\v/x":                "",
		"scp -f\u00a0/x":            "",
		"rsync --server . /x\x00":   "",
		"/tmp/scp -t x":             "",
		"rsync --server -vlogDtpre.iLsfxCIvu . /x": "rsync",
		"rsync --server --sender -e.sh . x":        "rsync",
		"rsync --server --rsh=sh . x":              "",
		"rsync --daemon":                           "",
		// Whoever had rsync alone got any command on the target: a daemon runs what its configuration, which rsync had brought
		// there, says to run before a transfer. Only " --daemon" was looked for, with a space and without quotes.
		"rsync --server --daemon .":                            "",
		"rsync --server\t--daemon --config=/tmp/evil .":        "",
		"rsync --server --config=/tmp/evil . '--daemon'":       "",
		"rsync --server -a . '--daemon'":                       "",
		"rsync --server\t--rsh=sh . x":                         "",
		"rsync --server --dparam=port=1 .":                     "",
		"rsync --server -a . --daemo[n]":                       "", // with a file of that name in the person's folder
		"rsync --server -a . *":                                "",
		"rsync --server --sender -logDtpre.iLsfxCIvu . /srv/*": "rsync",
		"rsync --server -logDtpre.iLsfxCIvu . '/srv/a b'":      "rsync",
		"rsync a b":                    "",
		"git-upload-pack '/srv/r.git'": "git",
		"git-receive-pack 'r'":         "git",
		// As in git-shell (CVE-2017-8386): the manual's pager gave whoever had git alone a shell.
		"git-upload-pack '--help'":        "",
		"git-upload-pack --help x":        "",
		"git-receive-pack\t--help":        "",
		"git-upload-archive *":            "",
		"git-upload-pack a --help":        "",
		"git-upload-pack x '--help'":      "",
		"git-upload-pack '/srv/a -b.git'": "git",
		"git-receive-pack ~/r.git":        "git",
		"git-upload-pack '$(sh)'":         "",
		"git-upload-pack 'a';sh":          "",
		"ls":                              "",
		"":                                "",
		"scp":                             "",
	} {
		if got := shortcut(command); got != want {
			t.Errorf("shortcut(%q) = %q, want %q", command, got, want)
		}
		// What rules allow as a transfer must be one that their paths can be held against.
		if _, known := ledger.ParseCommand(command); (want == "scp" || want == "rsync") && !known {
			t.Errorf("%q is %s for the rules, and nothing for the paths of files", command, want)
		}
	}
}

// mosh is known by the command that its script sends.
func TestMoshCommand(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]bool{
		"mosh-server 'new' '-c' '256' '-s'": true,
		"mosh-server new -c 8":              true,
		"/usr/local/bin/mosh-server new":    true,
		"mosh-server":                       true,
		"mosh-servers":                      false,
		"echo mosh-server":                  false,
		"":                                  false,
	} {
		if got := isMosh(command); got != want {
			t.Errorf("isMosh(%q) = %v", command, got)
		}
	}
}
