package bastion_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
)

// One connection of OpenSSH carries many channels at once (ControlMaster), each with its own bytes, streams and exit status.
func TestControlMaster(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	control := filepath.Join(t.TempDir(), "m")
	running(t, s.ssh(), "-M", "-S", control)
	testenv.WaitFor(t, "the control socket", func() bool { _, err := os.Stat(control); return err == nil })
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	write(t, src, 3<<20)
	data, err := os.ReadFile(src)
	check(t, err)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 4 {
				cmd := exec.Command("ssh", "-F", "none", "-S", control, "x", fmt.Sprintf("cat; echo err-%d-%d >&2; exit %d", i, n, i+n))
				cmd.Stdin = bytes.NewReader(data)
				out, errs, status := testenv.Finish(t, cmd)
				if out != string(data) || errs != fmt.Sprintf("err-%d-%d\n", i, n) || status != i+n {
					t.Errorf("channel %d.%d: %d of %d bytes, stderr %q, status %d", i, n, len(out), len(data), errs, status)
				}
			}
		})
	}
	all.Go(func() {
		dst := filepath.Join(dir, "dst")
		succeed(t, exec.Command("scp", "-F", "none", "-q", "-o", "ControlPath="+control, src, "x:"+dst))
		same(t, src, dst)
	})
	all.Wait()
}

// The keys are changed after every megabyte by the client, by the target, by the bastion on both its sides, or by all of them, while data flows both ways: not a byte
// is lost or out of place.
func TestRekeying(t *testing.T) {
	t.Parallel()
	size := int64(24 << 20)
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, size)
	data, err := os.ReadFile(src)
	check(t, err)
	want := fmt.Sprintf("%x", sha256.Sum256(data))
	for _, x := range []struct {
		name           string
		client, target []string
		bastion        uint64
	}{
		{"client", []string{"RekeyLimit=1M"}, nil, 0},
		{"target", nil, []string{"RekeyLimit 1M"}, 0},
		{"both", []string{"RekeyLimit=1M"}, []string{"RekeyLimit 1M"}, 0},
		{"by time too", []string{"RekeyLimit=2M 1s"}, []string{"RekeyLimit 3M 1s"}, 0},
		{"bastion", nil, nil, 1 << 20},
		{"all three", []string{"RekeyLimit=1M"}, []string{"RekeyLimit 1M"}, 1 << 20},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{sshdConfig: x.target, rekey: x.bastion})
			c := s.ssh()
			c.Options = x.client
			cmd := c.SSH(t, "cat; echo done >&2; exit 6")
			cmd.Args = append([]string{cmd.Args[0], "-v"}, cmd.Args[1:]...)
			for i, a := range cmd.Args {
				if a == "LogLevel=ERROR" {
					cmd.Args[i] = "LogLevel=DEBUG1"
				}
			}
			cmd.Stdin = bytes.NewReader(data)
			sum := sha256.New()
			var errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = sum, &errs
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 6 || !strings.Contains(errs.String(), "done\n") {
				t.Fatalf("%v: %.2000s", err, errs.String())
			}
			if got := fmt.Sprintf("%x", sum.Sum(nil)); got != want {
				t.Error("other bytes came back")
			}
			keys := strings.Count(errs.String(), "SSH2_MSG_NEWKEYS received")
			if (x.client != nil || x.bastion != 0) && keys < 10 {
				t.Errorf("the client saw new keys %d times", keys)
			}
		})
	}
}

// Files of some size go both ways at once by sftp while all sides change keys.
func TestRekeyingTransfers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{sshdConfig: []string{"RekeyLimit 1M"}, rekey: 1 << 20})
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	write(t, src, 16<<20)
	var all sync.WaitGroup
	for i := range 3 {
		all.Go(func() {
			c := s.ssh()
			c.Options = []string{"RekeyLimit=1M"}
			up, down := fmt.Sprintf("%s/up%d", dir, i), fmt.Sprintf("%s/down%d", dir, i)
			if out, errs, status := testenv.Finish(t, c.SFTP(t, "put "+src+" "+up+"\nget "+up+" "+down+"\n")); status != 0 {
				t.Errorf("status %d: %s%s", status, out, errs)
				return
			}
			same(t, src, down)
		})
	}
	all.Wait()
}

// seen is a request that reached a target.
type seen struct {
	kind    string
	reply   bool
	payload string
}

// witness is a target that runs anything, answers break with yes, and tells what it was asked.
func (s *system) witness(after func(ch ssh.Channel)) <-chan seen {
	asked := make(chan seen, 1000)
	s.hostileTarget(func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		for nc := range chans {
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			go func() {
				for r := range reqs {
					asked <- seen{r.Type, r.WantReply, string(r.Payload)}
					if r.WantReply {
						_ = r.Reply(true, nil)
					}
					if r.Type == "exec" && after != nil {
						go after(ch)
					}
				}
			}()
		}
	})
	return asked
}

// Every signal of RFC 4254, section 6.10, and break (RFC 4335) reach the target as they are, with the answer where one is wanted.
// (OpenSSH's server passes no signal on to a program of root, which is who runs tests; so the target here is our own.)
func TestSignalsAndBreak(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: allowHostile})
	asked := s.witness(nil)
	c, err := s.dial("alice@hostile", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	ch, reqs, err := c.OpenChannel("session", nil)
	check(t, err)
	go ssh.DiscardRequests(reqs)
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"x"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if got := <-asked; got.kind != "exec" {
		t.Fatalf("%+v", got)
	}
	for _, name := range []string{"ABRT", "ALRM", "FPE", "HUP", "INT", "ILL", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2", "private@example.org"} {
		payload := ssh.Marshal(struct{ S string }{name})
		_, err := ch.SendRequest("signal", false, payload)
		check(t, err)
		if got := <-asked; got != (seen{"signal", false, string(payload)}) {
			t.Errorf("%s: the target saw %+v", name, got)
		}
	}
	payload := ssh.Marshal(struct{ N uint32 }{500})
	if ok, err := ch.SendRequest("break", true, payload); !ok || err != nil {
		t.Errorf("break: %v %v", ok, err)
	}
	if got := <-asked; got != (seen{"break", true, string(payload)}) {
		t.Errorf("break: the target saw %+v", got)
	}
}

// How a program died reaches the client byte for byte: signal, core dump, text and language (RFC 4254, section 6.10).
func TestExitSignal(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: allowHostile})
	type death struct { // as the RFC has it
		Signal string
		Core   bool
		Text   string
		Lang   string
	}
	long := strings.Repeat("è tombé ☠ 🚪 \x00\x1b]0;x\a\u202e\n\r\xff ", 4096)[:4096]
	deaths := []death{{"odd@example.org", true, long, "fr-CA-x-ünd"}, {"TERM", false, long, ""}, {}, {"KILL", true, "", "x\x00\xff"}}
	for i, name := range []string{"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"} {
		deaths = append(deaths, death{name, i%2 == 0, "it fell over", "en"})
	}
	next := make(chan death, 1)
	s.witness(func(ch ssh.Channel) {
		_, _ = ch.Write([]byte("before"))
		_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(<-next))
		ch.Close()
	})
	c, err := s.dial("alice@hostile", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	for _, want := range deaths {
		next <- want
		ch, reqs, err := c.OpenChannel("session", nil) // ssh.Session does not tell of the core dump
		check(t, err)
		heard := make(chan []*ssh.Request, 1)
		go func() {
			var all []*ssh.Request
			for r := range reqs {
				all = append(all, r)
			}
			heard <- all
		}()
		if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"x"})); !ok || err != nil {
			t.Fatal(ok, err)
		}
		out, err := io.ReadAll(ch)
		check(t, err)
		var got []seen
		for _, r := range <-heard {
			if strings.HasPrefix(r.Type, "exit-") {
				got = append(got, seen{r.Type, r.WantReply, string(r.Payload)})
			}
		}
		if string(out) != "before" || !slices.Equal(got, []seen{{"exit-signal", false, string(ssh.Marshal(want))}}) {
			t.Errorf("%.60q: %q and then %.300q", want.Signal, out, fmt.Sprint(got))
		}
		_ = ch.Close()
	}
}

// Output and stderr stay apart and each in its order, however they are mixed; in the recording too.
func TestStreamsApart(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	n := 3000
	script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo out-$i; echo err-$i >&2; i=$((i+1)); done; exit 5", n)
	out, errs, status := s.ssh().Output(t, script)
	var wantOut, wantErrs strings.Builder
	for i := range n {
		fmt.Fprintf(&wantOut, "out-%d\n", i)
		fmt.Fprintf(&wantErrs, "err-%d\n", i)
	}
	if out != wantOut.String() || errs != wantErrs.String() || status != 5 {
		t.Errorf("%d and %d bytes, want %d and %d; status %d", len(out), len(errs), wantOut.Len(), wantErrs.Len(), status)
	}
	recorded := s.recorded(s.session().Channels[0].Recording)
	var of [2][]string
	for line := range strings.Lines(recorded) {
		if i := slices.Index([]string{"out", "err"}, line[:min(3, len(line))]); i >= 0 {
			of[i] = append(of[i], line)
		}
	}
	if len(recorded) != wantOut.Len()+wantErrs.Len() || len(of[0])+len(of[1]) > 2*n {
		t.Errorf("recorded %d bytes, want %d", len(recorded), wantOut.Len()+wantErrs.Len())
	}
}

// The end of input passes at once and alone: the program goes on to write, for as long as it likes, and its exit status comes.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	cmd := s.ssh().SSH(t, "cat; echo input-is-over; sleep 0.5; echo later; sleep 0.5; echo last >&2; exit 4")
	cmd.Stdin = strings.NewReader("typed\n")
	out, errs, status := testenv.Finish(t, cmd)
	if out != "typed\ninput-is-over\nlater\n" || errs != "last\n" || status != 4 {
		t.Errorf("%q %q %d", out, errs, status)
	}
	// A program that closes its output and goes on: with the edited library the client hears so at once, and when it then closes
	// the channel, as OpenSSH's does if its input has ended, the exit status comes all the same.
	c2, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c2.Close()
	gate := filepath.Join(t.TempDir(), "go on")
	hold := "exec >&- 2>&-; until [ -e '" + gate + "' ]; do sleep 0.05; done; exit 8"
	ch, reqs, err := c2.OpenChannel("session", nil)
	check(t, err)
	if _, edited := ch.(interface{ HoldClose() }); edited {
		if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{hold})); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if n, err := ch.Read(make([]byte, 1)); n != 0 || err != io.EOF { // while the program waits
			t.Fatalf("%d, %v", n, err)
		}
		check(t, os.WriteFile(gate, nil, 0o600))
		if r := <-reqs; r == nil || r.Type != "exit-status" || r.Payload[3] != 8 {
			t.Errorf("after the end of output: %+v", r)
		}
		check(t, os.Remove(gate))
		cmd := s.ssh().SSH(t, hold)
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		if all, err := io.ReadAll(out); len(all) != 0 || err != nil {
			t.Errorf("%q, %v", all, err)
		}
		check(t, os.WriteFile(gate, nil, 0o600))
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 8 {
			t.Errorf("OpenSSH: %v", err)
		}
	} else {
		ch.Close()
	}
	// Its input goes on too, and its exit status comes.
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	sess, err := c.NewSession()
	check(t, err)
	in, err := sess.StdinPipe()
	check(t, err)
	file := filepath.Join(t.TempDir(), "got")
	check(t, sess.Start("exec >&- 2>&-; cat >"+file+"; exit 8"))
	for range 100 {
		_, err := io.WriteString(in, strings.Repeat("x", 10_000))
		check(t, err)
	}
	check(t, in.Close())
	var exit *ssh.ExitError
	if err := sess.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 8 {
		t.Errorf("exit: %v", err)
	}
	if got, _ := os.ReadFile(file); len(got) != 1_000_000 {
		t.Errorf("%d bytes arrived", len(got))
	}
}

// Very many short commands, 32 at a time, each with an exit status of its own: not one is lost or taken for another's.
func TestManyExitStatuses(t *testing.T) {
	s := newSystem(t, options{sshdConfig: []string{"MaxSessions 100"}})
	n := 2000
	if os.Getenv("SALLYPORT_LONG") != "" {
		n = 10_000
	}
	jobs := make(chan int)
	var all sync.WaitGroup
	for range 4 {
		c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
		check(t, err)
		defer c.Close()
		for range 8 {
			all.Go(func() {
				for i := range jobs {
					if err := exits(c, i%256); err != nil {
						t.Errorf("command %d: %v", i, err)
					}
				}
			})
		}
	}
	for i := range n {
		jobs <- i
	}
	close(jobs)
	all.Wait()
}

// exits runs a command that ends with status and says what else came.
func exits(c *ssh.Client, status int) error {
	sess, err := c.NewSession()
	if err != nil {
		return err
	}
	defer sess.Close()
	command := "true"
	if status != 0 {
		command = fmt.Sprint("exit ", status)
	}
	out, err := sess.CombinedOutput(command)
	got := 0
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		got, err = exit.ExitStatus(), nil
	}
	if err != nil || got != status || len(out) != 0 {
		return fmt.Errorf("status %d, want %d; %q %w", got, status, out, err)
	}
	return nil
}

// Keepalives of the client are answered here, whatever the target does; what the target tells of its host keys and asks of its
// client ends here, since the client has never seen those keys.
func TestGlobalRequestsEndHere(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, rules: allowHostile})
	answered := make(chan bool, 3)
	s.hostileTarget(func(conn *ssh.ServerConn, chans <-chan ssh.NewChannel) {
		for _, kind := range []string{"hostkeys-00@openssh.com", "hostkeys-prove-00@openssh.com", "odd@example.org"} {
			_, _, err := conn.SendRequest(kind, true, []byte("keys"))
			answered <- err == nil
		}
		// From here on it answers nothing at all.
		select {}
	})
	conn, err := net.Dial("tcp", s.Addr)
	check(t, err)
	sc, chans, reqs, err := ssh.NewClientConn(conn, s.Addr, &ssh.ClientConfig{User: "alice@hostile",
		Auth: []ssh.AuthMethod{answers(alicePassword, s.code("alice"), nil)}, HostKeyCallback: ssh.FixedHostKey(s.HostKey)})
	check(t, err)
	defer sc.Close()
	go func() {
		for nc := range chans {
			_ = nc.Reject(ssh.Prohibited, "")
		}
	}()
	go func() { // the target is dialled at the first channel
		_, _, _ = sc.OpenChannel("session", nil)
	}()
	for range 3 {
		if !<-answered {
			t.Error("a request of the target got no answer")
		}
	}
	for range 20 {
		started := time.Now()
		if _, _, err := sc.SendRequest("keepalive@openssh.com", true, nil); err != nil || time.Since(started) > 30*time.Second {
			t.Errorf("keepalive: %v after %s", err, time.Since(started))
		}
	}
	for {
		select {
		case r := <-reqs:
			if r.Type != "keepalive@openssh.com" {
				t.Errorf("the client heard of %s", r.Type)
			}
			continue
		default:
		}
		return
	}
}
