package bastion_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// git clones from and pushes to a target by the name alice@web1@bastion:repo.git, under a rule that allows
// nothing but git.
func TestGit(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: code, users: ['*'], targets: ['*'], channels: [git]}\n"})
	dir := t.TempDir()
	repo, work := filepath.Join(dir, "repo.git"), filepath.Join(dir, "work")
	seed := filepath.Join(dir, "seed")
	config := filepath.Join(dir, "gitconfig")
	check(t, os.WriteFile(config, []byte("[user]\n\tname = alice\n\temail = alice@example.org\n[init]\n\tdefaultBranch = main\n[safe]\n\tdirectory = *\n"), 0o600))
	git := func(args ...string) string {
		t.Helper()
		c := s.ssh()
		cmd := c.Command(t, "git", args...)
		cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND="+c.Program(), "GIT_CONFIG_GLOBAL="+config, "GIT_CONFIG_NOSYSTEM=1")
		return succeed(t, cmd)
	}
	git("init", "-q", seed)
	write(t, filepath.Join(seed, "big"), 3<<20)
	git("-C", seed, "add", "big")
	git("-C", seed, "commit", "-q", "-m", "first")
	git("clone", "-q", "--bare", seed, repo)

	git("clone", "-q", "alice@web1@127.0.0.1:"+repo, work)
	same(t, filepath.Join(seed, "big"), filepath.Join(work, "big"))
	write(t, filepath.Join(work, "more"), 2<<20)
	git("-C", work, "add", "more")
	git("-C", work, "commit", "-q", "-m", "second")
	git("-C", work, "push", "-q", "origin", "main")
	if here, there := git("-C", work, "rev-parse", "main"), git("-C", repo, "rev-parse", "main"); here != there {
		t.Errorf("pushed %q, the target has %q", here, there)
	}
	if kinds := s.kinds(); !slices.Equal(kinds, []string{"git", "git"}) {
		t.Errorf("channels: %q", kinds)
	}
	// By a URL, with ssh's own configuration for what the name cannot say.
	c := s.ssh()
	cmd := c.Command(t, "git", "clone", "-q", "ssh://127.0.0.1"+repo, filepath.Join(dir, "by-url"))
	cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND="+c.Program()+" -l alice@web1", "GIT_CONFIG_GLOBAL="+config)
	succeed(t, cmd)
	// Anything that a shell would make more of is no git, and this rule allows nothing else.
	for _, command := range []string{"git-upload-pack '$(touch " + dir + "/ran)'", "git-upload-pack '" + repo + "'; touch " + dir + "/ran", "git-shell", "touch " + dir + "/ran"} {
		if out, errs, status := s.ssh().Output(t, command); status != 255 || out != "" {
			t.Errorf("%s: %q %q %d", command, out, errs, status)
		}
	}
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("a command ran")
	}
}
