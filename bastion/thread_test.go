package bastion_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// onBoth runs a test with SQLite and with PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, o options)) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			test(t, options{postgres: engine == "postgres"})
		})
	}
}

// The main job (C1, C2, C5, C7): OpenSSH with password and code, to a real sshd, recorded.
func TestMainJob(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		s := newSystem(t, o)
		out, errs, status := s.ssh().Output(t, "echo to-stdout; echo to-stderr >&2; exit 7")
		if out != "to-stdout\n" || errs != "to-stderr\n" || status != 7 {
			t.Fatalf("got stdout %q, stderr %q, status %d", out, errs, status)
		}
		row := s.session()
		if row.User != "alice" || row.Target != "web1" || row.Account != s.SSHD.Account || row.State != store.Ended || len(row.Channels) != 1 {
			t.Fatalf("session row: %+v", row)
		}
		c := row.Channels[0]
		if c.Kind != "exec" || c.ExitStatus == nil || *c.ExitStatus != 7 || c.BytesOut != 20 {
			t.Errorf("channel row: %+v", c)
		}
		if got := s.recorded(c.Recording); !strings.Contains(got, "to-stdout\n") || !strings.Contains(got, "to-stderr\n") {
			t.Errorf("recording holds %q", got)
		}
	})
}

// A shell on a real terminal: prompts, size, resize, exit status, and all of it in the recording.
func TestShellOnTerminal(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		s := newSystem(t, o)
		code := s.code("alice")
		args := []string{"-F", "none", "-tt", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
			"-o", "PubkeyAuthentication=no", "-p", s.Addr[strings.LastIndex(s.Addr, ":")+1:], "-l", "alice@web1", "127.0.0.1", "PS1='ready> ' exec /bin/sh"}
		term := testenv.StartTerminal(t, exec.Command("ssh", args...), 91, 33)
		term.Expect("Password: ")
		term.Type(alicePassword + "\n")
		term.Expect("Code: ")
		term.Type(code + "\n")
		term.Expect("ready> ")
		term.Type("stty size\n")
		term.Expect("33 91")
		testenv.Resize(t, term, 120, 40)
		testenv.WaitFor(t, "the new size", func() bool {
			term.Type("stty size\n")
			term.Expect("ready> ")
			return strings.Contains(term.Screen(), "40 120")
		})
		term.Type("exit 3\n")
		if status := term.Wait(); status != 3 {
			t.Errorf("exit status %d, want 3; screen:\n%s", status, term.Screen())
		}
		row := s.session()
		got := s.recorded(row.Channels[0].Recording)
		if !strings.Contains(got, "33 91") || !strings.Contains(got, "40 120") {
			t.Errorf("the recording lacks what the terminal showed: %q", got)
		}
		if strings.Contains(got, alicePassword) || strings.Contains(got, code) {
			t.Error("the recording holds a secret")
		}
	})
}

// Exit statuses and signals are the program's own.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for _, c := range []struct {
		command string
		want    int
	}{{"true", 0}, {"false", 1}, {"no-such-program-here", 127}, {"exit 255", 255}, {"kill -TERM $$", 255}} {
		_, errs, got := s.ssh().Output(t, c.command)
		if got != c.want {
			t.Errorf("%s: exit status %d, want %d (%s)", c.command, got, c.want, errs)
		}
	}
	testenv.WaitFor(t, "the signal's row", func() bool {
		list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{Limit: 1})
		check(t, err)
		return len(list) == 1 && len(list[0].Channels) == 1 && list[0].Channels[0].ExitSignal == "TERM"
	})
}

// Files arrive byte for byte by scp (both protocols), sftp and rsync (B4).
func TestFileTransfer(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	size := int64(20 << 20)
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	write(t, src, size)
	for name, run := range map[string]func(dst, back string) *exec.Cmd{
		"scp":         func(dst, _ string) *exec.Cmd { return s.ssh().SCP(t, "-q", src, "REMOTE:"+dst) },
		"scp down":    func(_, back string) *exec.Cmd { return s.ssh().SCP(t, "-q", "REMOTE:"+src, back) },
		"scp -O":      func(dst, _ string) *exec.Cmd { return s.ssh().SCP(t, "-O", "-q", src, "REMOTE:"+dst) },
		"scp -O down": func(_, back string) *exec.Cmd { return s.ssh().SCP(t, "-O", "-q", "REMOTE:"+src, back) },
		"sftp": func(dst, back string) *exec.Cmd {
			return s.ssh().SFTP(t, "put "+src+" "+dst+"\nget "+dst+" "+back+"\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dst, back := filepath.Join(t.TempDir(), "dst"), filepath.Join(t.TempDir(), "back")
			if out, errs, status := testenv.Finish(t, run(dst, back)); status != 0 {
				t.Fatalf("status %d: %s%s", status, out, errs)
			}
			for _, f := range []string{dst, back} {
				if _, err := os.Stat(f); err == nil {
					same(t, src, f)
				}
			}
		})
	}
}

// rsync of 200 MB is byte for byte the same, in both directions.
func TestRsync(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		s := newSystem(t, o)
		dir := t.TempDir()
		src := filepath.Join(dir, "src")
		write(t, src, 200<<20)
		for _, args := range [][]string{{"--whole-file", src, "REMOTE:" + dir + "/up"}, {"--whole-file", "REMOTE:" + src, dir + "/down"}} {
			if out, errs, status := testenv.Finish(t, s.ssh().Rsync(t, args...)); status != 0 {
				t.Fatalf("%v: status %d: %s%s", args, status, out, errs)
			}
		}
		same(t, src, dir+"/up")
		same(t, src, dir+"/down")
		c := s.session().Channels[0]
		if !c.Truncated || c.SHA256 == "" || c.BytesOut < 200<<20 {
			t.Errorf("bulk output beyond the record limit is counted and hashed: %+v", c)
		}
	})
}

func write(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	block := make([]byte, 1<<20)
	rand.Read(block)
	for i := int64(0); i < size; i += int64(len(block)) {
		copy(block, fmt.Sprintf("%016d", i))
		_, err := f.Write(block[:min(int64(len(block)), size-i)])
		check(t, err)
	}
}

func same(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	check(t, err)
	y, err := os.ReadFile(b)
	check(t, err)
	if !bytes.Equal(x, y) {
		t.Errorf("%s (%d bytes) and %s (%d bytes) differ", a, len(x), b, len(y))
	}
}
