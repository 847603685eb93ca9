package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/admin"
	"sallyport/internal/testenv"
	"sallyport/store/storetest"
)

// asProgram makes the test binary be sallyport: tests that kill the server need a process of its own.
const asProgram = "SALLYPORT_TEST_AS_PROGRAM"

// lostSoon is after how long of silence that program takes another node for lost.
const lostSoon = "SALLYPORT_TEST_LOST_AFTER"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		if d, err := time.ParseDuration(os.Getenv(lostSoon)); err == nil {
			lostAfter, aliveEvery = d, d/8
		}
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// installed is a server as an operator installs it: init, an edited configuration, serve; people in a
// real slapd, a real sshd as target.
type installed struct {
	t         *testing.T
	dir       string
	config    string
	ssh, web  string
	Directory *testenv.Directory
	SSHD      *testenv.SSHD
	cmd       *exec.Cmd
	exited    chan struct{}
	log       *lockedBuffer
	env       []string // of the server
}

func install(t *testing.T, database string) *installed {
	t.Helper()
	s := prepare(t, database)
	s.start()
	return s
}

// prepare is install without the start.
func prepare(t *testing.T, database string) *installed {
	t.Helper()
	s := &installed{t: t, dir: filepath.Join(t.TempDir(), "data"), Directory: testenv.Slapd(t), SSHD: testenv.StartSSHD(t)}
	s.ssh, s.web = testenv.FreeAddr(t), testenv.FreeAddr(t)
	out, errs, status := program(t, "init", "--dir", s.dir)
	if status != 0 {
		t.Fatalf("init: %d %s%s", status, out, errs)
	}
	password := filepath.Join(s.dir, "ldap-password")
	noError(t, os.WriteFile(password, []byte(s.Directory.BindPassword+"\n"), 0o600))
	s.config = filepath.Join(s.dir, "sallyport.yaml")
	noError(t, os.WriteFile(s.config, []byte(fmt.Sprintf(`node: n1
data: %[1]s
database: %[2]q
ssh: {listen: %[3]q, addresses: [127.0.0.1]}
web: {listen: %[4]q}
directory:
  servers: [%[5]q]
  start-tls: true
  ca-file: %[6]s
  bind-dn: %[7]q
  bind-password-file: %[8]s
  base: %[9]q
  groups: {base: %[10]q}
  login-group: ssh-users
otp: {enrolment-at-login: true}
recordings: {local: %[1]s/recordings, reserve: 1MiB}
drain: 1s
`, s.dir, database, s.ssh, s.web, s.Directory.URL, s.Directory.CAFile, s.Directory.BindDN, password, s.Directory.PeopleDN, s.Directory.GroupsDN)), 0o600))
	s.atEnd()
	return s
}

// atEnd ends the server with the test.
func (s *installed) atEnd() {
	s.t.Cleanup(func() {
		if s.cmd != nil {
			s.kill()
		}
		if s.t.Failed() {
			s.t.Logf("the server's log:\n%s", s.log)
		}
	})
}

// configure replaces text in the configuration.
func (s *installed) configure(pairs ...string) {
	s.t.Helper()
	text, err := os.ReadFile(s.config)
	noError(s.t, err)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(text), pairs[i]) {
			s.t.Fatalf("the configuration does not have %q", pairs[i])
		}
	}
	noError(s.t, os.WriteFile(s.config, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o600))
}

// peer is another node of the same installation, with a data folder of its own. It is not started.
func (s *installed) peer(name string) *installed {
	s.t.Helper()
	p := &installed{t: s.t, dir: filepath.Join(s.t.TempDir(), name), Directory: s.Directory, SSHD: s.SSHD, env: s.env}
	p.ssh, p.web = testenv.FreeAddr(s.t), testenv.FreeAddr(s.t)
	noError(s.t, os.Mkdir(p.dir, 0o700))
	p.config = filepath.Join(p.dir, "sallyport.yaml")
	text, err := os.ReadFile(s.config)
	noError(s.t, err)
	noError(s.t, os.WriteFile(p.config, append(text, fmt.Sprintf("keys: {ring: %s/keyring}\n", s.dir)...), 0o600))
	p.configure("node: n1", "node: "+name, "data: "+s.dir, "data: "+p.dir, s.dir+"/recordings", p.dir+"/recordings", s.ssh, p.ssh, s.web, p.web)
	p.atEnd()
	return p
}

func (s *installed) start() {
	s.t.Helper()
	exe, err := os.Executable()
	noError(s.t, err)
	s.cmd = exec.Command(exe, "serve", "-c", s.config)
	s.cmd.Env = append(append(os.Environ(), asProgram+"=1"), s.env...)
	s.log = &lockedBuffer{}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	noError(s.t, s.cmd.Start())
	s.exited = make(chan struct{})
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	testenv.WaitFor(s.t, "the server", func() bool {
		select {
		case <-s.exited:
			s.t.Fatalf("the server ended:\n%s", s.log)
		default:
		}
		_, _, status := s.run("session", "list")
		return status == 0
	})
}

// kill is kill -9.
func (s *installed) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

// stop is what systemd does, and returns the exit status.
func (s *installed) stop() int {
	s.t.Helper()
	noError(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.exited:
	case <-time.After(time.Minute):
		s.t.Fatal("the server does not stop")
	}
	status := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	return status
}

// run is an operator's command on this machine.
func (s *installed) run(args ...string) (stdout, stderr string, status int) {
	s.t.Helper()
	return program(s.t, append(args, "--socket", filepath.Join(s.dir, "sallyport.sock"))...)
}

func (s *installed) ok(args ...string) string {
	s.t.Helper()
	out, errs, status := s.run(args...)
	if status != 0 {
		s.t.Fatalf("sallyport %s: status %d\n%s%s", strings.Join(args, " "), status, out, errs)
	}
	return out
}

// target adds web1 the way the documentation says: add, onboard, check.
func (s *installed) target() {
	s.t.Helper()
	s.ok("target", "add", "web1", "--address", s.SSHD.Addr, "--account", s.SSHD.Account, "--host-key", s.SSHD.HostKey)
	rules := filepath.Join(s.dir, "rules.yaml")
	noError(s.t, os.WriteFile(rules, []byte("version: 1\nrules:\n  - {name: ops, users: ['group:ops'], targets: ['*']}\n"), 0o600))
	s.ok("apply", "-f", rules)
	line := s.ok("target", "onboard", "web1")
	if !strings.Contains(line, `from="127.0.0.1"`) || !strings.Contains(line, "restrict") || !strings.Contains(line, "pty") {
		s.t.Errorf("onboard prints %q", line)
	}
	if _, _, status := s.run("target", "check", "web1"); status != 1 {
		s.t.Errorf("check before the line is installed: status %d, want 1", status)
	}
	s.SSHD.Authorize(strings.TrimSpace(line))
	s.ok("target", "check", "web1")
}

// enrol signs login in for the first time on a terminal, and returns the secret that was shown.
func (s *installed) enrol(login, command string) (secret, used string) {
	s.t.Helper()
	c := &testenv.OpenSSH{Addr: s.ssh, Login: login + "@web1"}
	term := testenv.StartTerminal(s.t, c.Interactive(command), 100, 45)
	term.Expect("Password: ")
	term.Type(s.Directory.Password(login) + "\n")
	shown := term.Expect("New code: ")
	_, after, ok := strings.Cut(shown, "6 digits):")
	if !ok {
		s.t.Fatalf("no secret is shown:\n%s", shown)
	}
	secret = strings.Join(strings.Fields(strings.Split(after, "Then")[0]), "")
	used = testenv.Oathtool(s.t, secret, time.Now())
	term.Type(used + "\n")
	if status := term.Wait(); status != 0 {
		s.t.Fatalf("status %d:\n%s", status, term.Screen())
	}
	return secret, used
}

// next waits for a code that is not used yet.
func (s *installed) next(secret, used string) string {
	s.t.Helper()
	var code string
	testenv.WaitFor(s.t, "the next code", func() bool {
		// One step ahead is accepted, so that nobody waits for long.
		code = testenv.Oathtool(s.t, secret, time.Now().Add(30*time.Second))
		return code != used
	})
	return code
}

func onBothDatabases(t *testing.T, test func(t *testing.T, database string)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); test(t, "sqlite") })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); test(t, storetest.Postgres(t)) })
}

// The whole story (C1–C7, B7): an operator installs the bastion and adds a target that trusts nothing
// but the bastion's address; somebody from the directory enrols in their first ssh, works on a real
// terminal, and an operator reads what they did. The code is not good again after a restart.
func TestStory(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, database string) {
		s := install(t, database)
		s.target()
		secret, used := s.enrol("alice", "echo first-session; stty size")

		sessions := decode[[]admin.Session](t, s.ok("session", "list", "-o", "json"))
		if len(sessions) != 1 || sessions[0].User != "alice" || sessions[0].Target != "web1" {
			t.Fatalf("sessions: %+v", sessions)
		}
		id := sessions[0].ID
		if text := s.ok("session", "export", id, "--format", "text"); !strings.Contains(text, "first-session") || !strings.Contains(text, "45 100") {
			t.Errorf("the transcript: %q", text)
		}
		cast := s.ok("session", "export", id)
		if header, _, _ := strings.Cut(cast, "\n"); !strings.Contains(header, `"version":3`) {
			t.Errorf("export begins %q", header)
		}
		testenv.WaitFor(t, "the sealed recording", func() bool {
			_, _, status := s.run("session", "verify", id)
			return status == 0
		})

		// Replay after a restart: what is used is in the database.
		if status := s.stop(); status != 0 {
			t.Errorf("SIGTERM: exit status %d\n%s", status, s.log)
		}
		s.start()
		c := &testenv.OpenSSH{Addr: s.ssh, Login: "alice@web1", Password: s.Directory.Password("alice"), Code: func() string { return used }}
		if out, _, status := c.Output(t, "echo in"); status == 0 || out != "" {
			t.Errorf("the used code got in after a restart: %q", out)
		}
		code := s.next(secret, used)
		c.Code = func() string { return code }
		if out, errs, status := c.Output(t, "echo in; exit 9"); out != "in\n" || status != 9 {
			t.Errorf("the next code: %q %q %d", out, errs, status)
		}

		// bob is in no group that a rule names: both factors, then the neutral refusal.
		bob := testenv.StartTerminal(t, (&testenv.OpenSSH{Addr: s.ssh, Login: "bob@web1"}).Interactive("true"), 100, 45)
		bob.Expect("Password: ")
		bob.Type("wrong\n")
		bob.Expect("Code: ") // nothing differs for a wrong password

		explained, _, status := s.run("explain", "--user", "alice", "--target", "web1", "-o", "json")
		if status != 0 || !strings.Contains(explained, `"ops"`) {
			t.Errorf("explain: %d %s", status, explained)
		}
		if out := s.ok("audit", "list", "-o", "json"); !strings.Contains(out, "code.replayed") {
			t.Error("the replay is not in the audit log")
		}
		s.ok("check", "-c", s.config)
	})
}

// kill -9 of the server during output: everything that the client received is in the recording (R01).
func TestKilledServer(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, database string) {
		s := install(t, database)
		s.target()
		secret, used := s.enrol("alice", "true")
		rounds, streams := 3, 4 // with both databases 24 random moments
		if os.Getenv("SALLYPORT_LONG") != "" {
			rounds = 25
		}
		key := s.userKey("alice")
		s.trustLoopback()
		_ = secret
		_ = used
		for range rounds {
			// Streams of their own kind each: lines without end, and single bytes.
			var received []*lockedBuffer
			var done sync.WaitGroup
			for i := range streams {
				c := &testenv.OpenSSH{Addr: s.ssh, Login: "alice@web1", KeyFile: key}
				cmd := c.SSH(t, fmt.Sprintf("i=0; while :; do i=$((i+1)); printf '%%s' \"stream %d line $i\"; %s echo; done", i, []string{"", "sleep 0.001;"}[i%2]))
				out, err := cmd.StdoutPipe()
				noError(t, err)
				noError(t, cmd.Start())
				got := &lockedBuffer{}
				received = append(received, got)
				done.Go(func() {
					_, _ = io.Copy(got, out)
					_ = cmd.Wait()
				})
			}
			testenv.WaitFor(t, "output", func() bool {
				return !slices.ContainsFunc(received, func(b *lockedBuffer) bool { return len(b.String()) < 100 })
			})
			<-time.After(rand.N(300 * time.Millisecond)) // the random moment
			s.kill()
			done.Wait()
			s.start()

			var lost []admin.Session
			testenv.WaitFor(t, "the lost sessions and their sealed recordings", func() bool {
				lost = decode[[]admin.Session](t, s.ok("session", "list", "--limit", strconv.Itoa(streams), "-o", "json"))
				for _, x := range lost {
					if _, _, status := s.run("session", "verify", x.ID); x.State != "lost" || status != 0 {
						return false
					}
				}
				return len(lost) == streams
			})
			var texts []string
			for _, x := range lost {
				texts = append(texts, recordedOutput(t, s.ok("session", "export", x.ID)))
			}
			for i, b := range received {
				if got := b.String(); !slices.ContainsFunc(texts, func(text string) bool { return strings.HasPrefix(text, got) }) {
					t.Errorf("stream %d: the client received %d bytes that no recording begins with", i, len(got))
				}
			}
		}
	})
}

// recordedOutput joins the output events of an asciicast.
func recordedOutput(t *testing.T, cast string) string {
	t.Helper()
	var b strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(cast, "\n"), "\n") {
		if i == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		var event []any
		noError(t, json.Unmarshal([]byte(line), &event))
		if event[1] == "o" {
			b.WriteString(event[2].(string))
		}
	}
	return b.String()
}

// userKey gives login a key pair through the operator's command and returns the private file.
func (s *installed) userKey(login string) string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "key")
	testenv.Run(s.t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file)
	line, err := os.ReadFile(file + ".pub")
	noError(s.t, err)
	s.ok("user", "key", "add", login, strings.TrimSpace(string(line)))
	return file
}

// trustLoopback puts rules in force by which no code is asked from this machine.
func (s *installed) trustLoopback() {
	s.t.Helper()
	rules := filepath.Join(s.dir, "trusted.yaml")
	noError(s.t, os.WriteFile(rules, []byte("version: 1\nrules:\n  - {name: ops, users: ['group:ops'], targets: ['*'], from: [127.0.0.1], code: none}\n"), 0o600))
	s.ok("apply", "-f", rules)
}

// SIGTERM with live sessions: people are told, the server ends with status 0 and whole recordings.
func TestTermDrains(t *testing.T) {
	t.Parallel()
	s := install(t, "sqlite")
	s.target()
	s.enrol("alice", "true")
	key := s.userKey("alice")
	s.trustLoopback()
	c := &testenv.OpenSSH{Addr: s.ssh, Login: "alice@web1", KeyFile: key}
	cmd := c.SSH(t, "echo started; sleep 600")
	var out, errs lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	noError(t, cmd.Start())
	testenv.WaitFor(t, "the session", func() bool { return strings.Contains(out.String(), "started") })
	if status := s.stop(); status != 0 {
		t.Errorf("exit status %d\n%s", status, s.log)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 255 || !strings.Contains(errs.String(), "sallyport: ") {
		t.Errorf("the person sees status %d and %q", cmd.ProcessState.ExitCode(), errs.String())
	}
	s.start()
	list := decode[[]admin.Session](t, s.ok("session", "list", "-o", "json"))
	if list[0].State != "ended" {
		t.Errorf("the session is %s", list[0].State)
	}
	s.ok("session", "verify", list[0].ID)
}

// What an operator takes away is gone at once: a lock and a rule end the sessions that are open, and the list
// says why.
func TestWithdrawalEndsSessions(t *testing.T) {
	t.Parallel()
	s := install(t, "sqlite")
	s.target()
	s.enrol("alice", "true")
	key := s.userKey("alice")
	closed := filepath.Join(s.dir, "closed.yaml")
	noError(t, os.WriteFile(closed, []byte("version: 1\nrules:\n  - {name: closed, deny: true, message: closed for the night}\n"), 0o600))
	for _, tc := range []struct {
		withdraw []string
		why      []string // one of these: a lock is seen by who ends sessions for it and by who watches rights, at once
	}{
		{[]string{"apply", "-f", closed}, []string{"access to web1 is no longer allowed: closed for the night (rule closed)"}},
		{[]string{"user", "lock", "alice", "--for", "1h"}, []string{"your account was locked; ask an operator", "ended by console: your account was locked"}},
	} {
		s.trustLoopback()
		cmd := (&testenv.OpenSSH{Addr: s.ssh, Login: "alice@web1", KeyFile: key}).SSH(t, "echo started; sleep 600")
		var out, errs lockedBuffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		noError(t, cmd.Start())
		testenv.WaitFor(t, "the session", func() bool { return strings.Contains(out.String(), "started") })
		s.ok(tc.withdraw...)
		_ = cmd.Wait()
		if status := cmd.ProcessState.ExitCode(); status != 255 || !slices.ContainsFunc(tc.why, func(why string) bool { return strings.Contains(errs.String(), "session ended: "+why+".\n") }) {
			t.Errorf("the person sees status %d and %q", status, errs.String())
		}
		testenv.WaitFor(t, "the end in the list", func() bool {
			list := decode[[]admin.Session](t, s.ok("session", "list", "-o", "json"))
			return list[0].State == "ended" && slices.Contains(tc.why, list[0].Reason)
		})
	}
}

// ssh-audit finds no failure, and no warning that docs/ssh-audit.md does not explain.
func TestSSHAudit(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	host, port, _ := strings.Cut(d.SSH, ":")
	out, err := exec.Command("ssh-audit", "--no-colors", "--level=warn", "-p", port, host).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 2) {
		t.Errorf("ssh-audit: %v\n%s", err, out)
	}
	explained, err := os.ReadFile("../../docs/ssh-audit.md")
	noError(t, err)
	for _, line := range strings.Split(string(out), "\n") {
		if !strings.Contains(line, "[warn]") && !strings.Contains(line, "[fail]") {
			continue
		}
		fields := strings.Fields(line)
		if strings.Contains(line, "[fail]") || len(fields) < 2 || !bytes.Contains(explained, []byte(fields[1])) {
			t.Errorf("not explained: %s", line)
		}
	}
}

// The first lines of the README are typed as they stand (B20), but for ports of their own.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	noError(t, err)
	_, block, _ := strings.Cut(string(text), "```\n")
	block, _, _ = strings.Cut(block, "```")
	var typed [][]string
	for _, line := range strings.Split(strings.TrimSpace(block), "\n") {
		command, _, _ := strings.Cut(line, "#")
		typed = append(typed, strings.Fields(command))
	}
	if len(typed) != 3 || !slices.Equal(typed[0], []string{"make", "demo"}) || typed[1][0] != "ssh" || !slices.Equal(typed[2], []string{"make", "test"}) {
		t.Fatalf("the first screen of the README is %q; want make demo, ssh, make test", typed)
	}

	state := filepath.Join(t.TempDir(), "state")
	demo := exec.Command(typed[0][0], append(typed[0][1:], "ARGS=--ssh 127.0.0.1:0 --web 127.0.0.1:0 --state "+state)...)
	demo.Dir = "../.."
	demo.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // make does not pass signals on
	var shown lockedBuffer
	demo.Stdout, demo.Stderr = &shown, &shown
	noError(t, demo.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-demo.Process.Pid, syscall.SIGTERM)
		_ = demo.Wait()
	})
	find := func(what, pattern string) string {
		var found []string
		expression := regexp.MustCompile(pattern)
		deadline := time.Now().Add(12 * time.Minute) // it may have to build everything
		for found == nil {
			if time.Now().After(deadline) {
				t.Fatalf("make demo does not tell %s:\n%s", what, shown.String())
			}
			time.Sleep(20 * time.Millisecond)
			found = expression.FindStringSubmatch(shown.String())
		}
		return found[1]
	}
	port := find("the ssh command", `ssh -p (\d+) alice@demo@localhost`)
	password := find("alice's password", `alice@demo@localhost +password ([^,\s]+)`)
	find("alice's code", `code: (\d{6})`)

	args := append([]string{"-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "PubkeyAuthentication=no"}, typed[1][1:]...)
	args[slices.Index(args, "2222")] = port
	code, errs, status := program(t, "demo", "otp", "alice", "--state", state)
	if status != 0 {
		t.Fatalf("demo otp: %s", errs)
	}
	term := testenv.StartTerminal(t, exec.Command(typed[1][0], args...), 90, 30)
	term.Expect("Password: ")
	term.Type(password + "\n")
	term.Expect("Code: ")
	term.Type(strings.TrimSpace(code) + "\n")
	term.Expect(shellPrompt())
	term.Type("echo in-$((" + strconv.Itoa(os.Getpid()) + "+1))\nexit\n")
	term.Expect("in-" + strconv.Itoa(os.Getpid()+1))
	if status := term.Wait(); status != 0 {
		t.Errorf("status %d", status)
	}
}
