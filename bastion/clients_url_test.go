package bastion_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/testenv"
)

// In URLs the @ of the login name is written %40; ssh, sftp, scp and git understand that. As plain text ssh alone cuts at the
// wrong one.
func TestURLs(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	_, port, _ := strings.Cut(s.Addr, ":")
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	write(t, src, 100_000)
	c := s.ssh()
	config := filepath.Join(dir, "config")
	check(t, os.WriteFile(config, []byte("StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nIdentityAgent none\nPubkeyAuthentication no\nNumberOfPasswordPrompts 1\n"), 0o600))
	host := "alice%40web1@127.0.0.1:" + port
	if out := succeed(t, c.Command(t, "ssh", "-F", config, "ssh://"+host, "echo by-url")); out != "by-url\n" {
		t.Errorf("ssh: %q", out)
	}
	succeed(t, c.Command(t, "scp", "-F", config, "-q", src, "scp://"+host+"/"+dir+"/up"))
	same(t, src, dir+"/up")
	batch := filepath.Join(dir, "batch")
	check(t, os.WriteFile(batch, []byte("get "+src+" "+dir+"/down\n"), 0o600))
	succeed(t, c.Command(t, "sftp", "-F", config, "-o", "BatchMode=no", "-b", batch, "sftp://"+host))
	same(t, src, dir+"/down")
	testenv.Run(t, "git", "init", "-q", "--bare", filepath.Join(dir, "r.git"))
	for _, user := range []string{"alice%40web1", "alice@web1"} {
		cmd := c.Command(t, "git", "-c", "safe.directory=*", "clone", "-q", "ssh://"+user+"@127.0.0.1:"+port+dir+"/r.git", filepath.Join(dir, user))
		cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND=ssh -F "+config)
		succeed(t, cmd)
	}
	if out, _, status := testenv.Finish(t, c.Command(t, "ssh", "-F", config, "ssh://alice@web1@127.0.0.1:"+port, "echo in")); status == 0 {
		t.Errorf("ssh understands the plain form by now (%q): docs/clients.md says otherwise", out)
	}
}
