package bastion_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/testenv"
)

// curl's sftp:// (libssh2) answers one prompt, with what stands for the password. With a key that is the
// code; without one it cannot give two answers, and is refused.
func TestCurl(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	key := s.userKey("alice")
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	write(t, src, 1<<20)
	curl := func(credential string, args ...string) *exec.Cmd {
		return exec.Command("curl", append([]string{"-sS", "--insecure", "--max-time", "60", "-u", "alice@web1:" + credential}, args...)...)
	}
	withKey := []string{"--key", key, "--pubkey", key + ".pub"}
	succeed(t, curl(s.code("alice"), append(withKey, "-T", src, "sftp://"+s.Addr+dir+"/up")...))
	same(t, src, dir+"/up")
	s.isFile(s.wantFiles("write " + dir + "/up ok")[0], src)
	succeed(t, curl(s.code("alice"), append(withKey, "-o", dir+"/down", "sftp://"+s.Addr+src)...))
	same(t, src, dir+"/down")
	s.isFile(s.wantFiles("read " + src + " ok")[0], src)
	for what, cmd := range map[string]*exec.Cmd{
		"a wrong code":           curl("000000", append(withKey, "sftp://"+s.Addr+src)...),
		"a password and no code": curl(alicePassword, "sftp://"+s.Addr+src),
		"a code and no password": curl(s.code("alice"), "sftp://"+s.Addr+src),
	} {
		if out, _, status := testenv.Finish(t, cmd); status == 0 || out != "" {
			t.Errorf("%s: status %d, %d bytes", what, status, len(out))
		}
	}
	if kinds := s.kinds(); !slices.Equal(kinds, []string{"sftp", "sftp"}) {
		t.Errorf("channels: %q", kinds)
	}
}

// curl with a key alone, where a rule asks for no code from here.
func TestCurlWithoutCode(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: trustHere})
	key := s.userKey("alice")
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, 1<<20)
	succeed(t, exec.Command("curl", "-sS", "--insecure", "-u", "alice@web1:", "--key", key, "--pubkey", key+".pub", "-o", src+".down", "sftp://"+s.Addr+src))
	same(t, src, src+".down")
}

// lftp runs ssh for sftp://, so that ssh's prompts and keys are what counts.
func TestLFTP(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	write(t, src, 1<<20)
	host, port, err := net.SplitHostPort(s.Addr)
	check(t, err)
	c := s.ssh()
	commands := `set net:max-retries 1; set net:timeout 30; set sftp:auto-confirm yes; set sftp:connect-program "` + c.Program() + ` -a -x";
open -u alice@web1, -p ` + port + ` sftp://` + host + `; put ` + src + ` -o ` + dir + `/up; get ` + src + ` -o ` + dir + `/down; bye`
	cmd := c.Command(t, "lftp", "-c", commands)
	cmd.Env = append(cmd.Env, "HOME="+t.TempDir())
	succeed(t, cmd)
	same(t, src, dir+"/up")
	same(t, src, dir+"/down")
	for _, f := range s.files() {
		if f.Op == "read" || f.Op == "write" {
			s.isFile(f, src)
		}
	}
}

// sshfs mounts, reads and writes; nothing but the sftp subsystem is needed for it.
func TestSSHFS(t *testing.T) {
	t.Parallel()
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Fatalf("this test mounts a file system: it needs /dev/fuse and the right to mount (in a container: --device /dev/fuse --cap-add SYS_ADMIN): %v", err)
	} else {
		f.Close()
	}
	s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: files, users: ['*'], targets: ['*'], channels: [sftp]}\n"})
	remote, mount := t.TempDir(), t.TempDir()
	c := s.ssh()
	src := filepath.Join(remote, "src")
	write(t, src, 5<<20)
	succeed(t, c.Command(t, "sshfs", "-o", "ssh_command="+c.Program(), c.Login+"@127.0.0.1:"+remote, mount))
	t.Cleanup(func() { _ = exec.Command("fusermount3", "-u", "-z", mount).Run() })
	same(t, src, filepath.Join(mount, "src"))
	check(t, os.Mkdir(filepath.Join(mount, "folder"), 0o700))
	text := []byte(strings.Repeat("written through the mount\n", 100_000))
	check(t, os.WriteFile(filepath.Join(mount, "folder", "new"), text, 0o600))
	check(t, os.Rename(filepath.Join(mount, "folder", "new"), filepath.Join(mount, "renamed")))
	if got, err := os.ReadFile(filepath.Join(remote, "renamed")); err != nil || string(got) != string(text) {
		t.Errorf("the target has %d bytes, %v", len(got), err)
	}
	succeed(t, exec.Command("fusermount3", "-u", mount))
	if kinds := s.kinds(); !slices.Equal(kinds, []string{"sftp"}) {
		t.Errorf("channels: %q", kinds)
	}
}
