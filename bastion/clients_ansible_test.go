package bastion_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/testenv"
)

// Ansible with pipelining pings and copies: with a key where a rule asks for no code from here; with one code for
// everything through a connection that a person has opened before (ControlMaster), to the target or, with a plain
// inventory and ProxyJump, to the bastion.
func TestAnsible(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"key", "control", "jump"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{rules: map[string]string{"key": trustHere}[way]})
			dir := t.TempDir()
			c := s.withKey()
			host := "127.0.0.1 ansible_user=alice@web1"
			if way == "jump" { // in a file, which the outer ssh reads too; options go to the inner one alone
				j := s.jumper(c.KeyFile, "Host bastion", "ControlPath "+filepath.Join(dir, "m"), "Host *")
				master := j.Command(t, "ssh", "-F", j.Config, "-M", "-N", "-f", "bastion")
				check(t, master.Run())
				t.Cleanup(func() { _ = exec.Command("ssh", "-F", j.Config, "-O", "exit", "bastion").Run() })
				host = "web1 ansible_user=" + s.SSHD.Account + " ansible_ssh_common_args='-F " + j.Config + " -o ProxyJump=bastion'"
			}
			if way == "control" {
				c = s.ssh()
				c.Options = []string{"ControlPath=" + filepath.Join(dir, "m")}
				master := c.SSH(t)
				master.Args = append(master.Args[:len(master.Args)-1], "-M", "-N", "-f", "127.0.0.1")
				check(t, master.Run()) // -f: it returns when the connection stands
				t.Cleanup(func() {
					_ = exec.Command("ssh", "-F", "none", "-o", "ControlPath="+filepath.Join(dir, "m"), "-O", "exit", "x").Run()
				})
				c = &testenv.OpenSSH{Addr: s.Addr, Login: "alice@web1", Options: c.Options}
			}
			src := filepath.Join(dir, "src")
			write(t, src, 3<<20)
			_, port, _ := strings.Cut(s.Addr, ":")
			args := strings.TrimPrefix(strings.TrimSuffix(c.Program(), " -p "+port), "ssh ")
			if way != "jump" {
				host += " ansible_port=" + port
			} else {
				args = "-o ControlMaster=no"
			}
			check(t, os.WriteFile(filepath.Join(dir, "inventory"), []byte("web1 ansible_host="+host+" ansible_python_interpreter=/usr/bin/python3\n"), 0o600))
			ansible := func(module ...string) string {
				cmd := exec.Command("ansible", append([]string{"-i", filepath.Join(dir, "inventory"), "web1"}, module...)...)
				cmd.Env = append(os.Environ(), "HOME="+dir, "LC_ALL=C.UTF-8", "ANSIBLE_PIPELINING=1", "ANSIBLE_HOST_KEY_CHECKING=0", "ANSIBLE_NOCOLOR=1",
					"ANSIBLE_SSH_ARGS="+args, "ANSIBLE_LOCAL_TEMP="+dir, "ANSIBLE_REMOTE_TEMP="+dir+"/remote")
				return succeed(t, cmd)
			}
			if out := ansible("-m", "ping"); !strings.Contains(out, `"ping": "pong"`) {
				t.Errorf("ping: %s", out)
			}
			if out := ansible("-m", "copy", "-a", "src="+src+" dest="+dir+"/copied"); !strings.Contains(out, `"changed": true`) {
				t.Errorf("copy: %s", out)
			}
			same(t, src, dir+"/copied")
		})
	}
}
