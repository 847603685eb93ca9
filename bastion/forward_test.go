package bastion_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/internal/testenv"
	"sallyport/store"
)

// forwardRules allow every kind, and forwards to 127.0.0.1 only.
const forwardRules = `version: 1
rules:
  - name: all
    users: ["*"]
    targets: ["*"]
    channels: [shell, exec, {local-forward: ["127.0.0.1:*"]}, {dynamic: ["localhost:*"]}, remote-forward, unix-forward, agent, x11]
`

// echo is a server that sends back what it gets until the end of input.
func echo(t *testing.T, l net.Listener) net.Listener {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l
}

func listen(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, addr)
	check(t, err)
	return l
}

// said is what a program has said so far.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// running starts an OpenSSH client without a session channel and ends it with the test.
func running(t *testing.T, c *testenv.OpenSSH, args ...string) (cmd *exec.Cmd, says *said) {
	t.Helper()
	cmd = c.SSH(t)
	cmd.Args = append(cmd.Args[:len(cmd.Args)-1], append(args, "-N", "127.0.0.1")...)
	for i, a := range cmd.Args {
		if a == "LogLevel=ERROR" {
			cmd.Args[i] = "LogLevel=INFO"
		}
	}
	says = new(said)
	cmd.Stderr = says
	check(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, says
}

// connect dials until somebody listens.
func connect(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	var conn net.Conn
	testenv.WaitFor(t, "a listener at "+addr, func() bool {
		c, err := net.Dial(network, addr)
		conn = c
		return err == nil
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

// bounce sends text, says that there is no more, and wants it back with the end of input.
func bounce(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	check(t, err)
	check(t, conn.(interface{ CloseWrite() error }).CloseWrite())
	check(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != text {
		t.Fatalf("got %d bytes %.60q and %v, want %d bytes", len(got), got, err, len(text))
	}
}

// channelOf waits until a channel of this kind has ended in the newest session.
func (s *system) channelOf(kind string) store.Channel {
	s.t.Helper()
	var got store.Channel
	testenv.WaitFor(s.t, "the end of a channel "+kind, func() bool {
		list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{Limit: 1})
		check(s.t, err)
		for _, x := range list {
			for _, c := range x.Channels {
				if c.Kind == kind && !c.Ended.IsZero() {
					got = c
					return true
				}
			}
		}
		return false
	})
	return got
}

// permit puts options before the bastion's key on the target, as target onboard prints them.
func (s *system) permit(options string) {
	s.t.Helper()
	key, err := os.ReadFile(filepath.Join(s.SSHD.Dir, "authorized_keys"))
	check(s.t, err)
	s.SSHD.Authorize(options + " " + strings.TrimSpace(string(key)))
}

// details are those of the audit events of a type, oldest first.
func (s *system) details(kind string) []map[string]string {
	s.t.Helper()
	list, err := s.Store.Audit.List(context.Background(), store.AuditFilter{Type: kind, Limit: 1000})
	check(s.t, err)
	var out []map[string]string
	for _, e := range slices.Backward(list) {
		out = append(out, e.Detail)
	}
	return out
}

// ssh -L: to an allowed destination byte for byte, with half-close, a row and an event that count exactly;
// to another one refused with the reason. -N needs no session channel.
func TestLocalForward(t *testing.T) {
	onBoth(t, func(t *testing.T, o options) {
		o.rules = forwardRules
		s := newSystem(t, o)
		to := echo(t, listen(t, "tcp", "127.0.0.1:0")).Addr().String()
		near, refused := testenv.FreeAddr(t), testenv.FreeAddr(t)
		_, says := running(t, s.ssh(), "-L", near+":"+to, "-L", refused+":127.0.0.2:80")
		bounce(t, connect(t, "tcp", near), strings.Repeat("0123456789", 12_345))
		row := s.channelOf("local-forward")
		if row.Command != to || row.BytesIn != 123_450 || row.BytesOut != 123_450 || row.Recording != "" {
			t.Errorf("row: %+v", row)
		}
		testenv.WaitFor(t, "the event", func() bool { return len(s.details("channel.ended")) == 1 })
		d := s.details("channel.ended")[0]
		if d["kind"] != "local-forward" || d["destination"] != to || d["bytes-in"] != "123450" || d["bytes-out"] != "123450" || d["duration"] == "" {
			t.Errorf("event: %v", d)
		}
		if n, err := connect(t, "tcp", refused).Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("the refused destination answered %d, %v", n, err)
		}
		testenv.WaitFor(t, "the reason", func() bool {
			return strings.Contains(says.String(), "dynamic to 127.0.0.2:80 is not allowed") ||
				strings.Contains(says.String(), "local-forward to 127.0.0.2:80 is not allowed")
		})
	})
}

// ssh -D through curl, a destination that nobody listens at, and both words in one connection.
func TestDynamicForward(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: forwardRules})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "over socks") }))
	defer web.Close()
	_, port, _ := net.SplitHostPort(web.Listener.Addr().String())
	near := testenv.FreeAddr(t)
	running(t, s.ssh(), "-D", near)
	connect(t, "tcp", near).Close()
	for _, url := range []string{"http://127.0.0.1:" + port, "http://localhost:" + port} {
		if out := testenv.Run(t, "curl", "-sS", "--max-time", "20", "--socks5-hostname", near, url); out != "over socks" {
			t.Errorf("%s: %q", url, out)
		}
	}
	if _, err := exec.Command("curl", "-sS", "--max-time", "20", "--socks5-hostname", near, "http://127.0.0.1:2").CombinedOutput(); err == nil { // nobody listens there
		t.Error("a closed port answered")
	}
	testenv.WaitFor(t, "three ends", func() bool { return len(s.details("channel.ended")) == 3 })
	ends := s.events("channel.ended") // in any order: a connection is over for curl before it is closed here
	if slices.IndexFunc(ends, func(e string) bool { return strings.HasPrefix(e, "error ") }) < 0 {
		t.Errorf("the end of what never was is not among %q", ends)
	}
	if s.channelOf("dynamic").Command != "localhost:"+port {
		t.Error("what only the word dynamic allows is not called dynamic")
	}
}

// The SSH port of a target is never forwarded to, however it is named: the bastion itself answers for a
// target that is named, and says what to do instead where the target's own loopback is; metadata addresses
// that no rule lists are refused.
func TestForwardToTarget(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: `version: 1
rules:
  - {name: all, users: ["*"], targets: ["*"], channels: [local-forward]}
`})
	_, port, _ := net.SplitHostPort(s.SSHD.Addr)
	_, err := s.Store.Targets.Add(context.Background(), store.Target{Name: "named", Address: "localhost:4022", Accounts: []string{"root"}, HostKeyMode: store.TOFU})
	check(t, err)
	// Its address is web1's own loopback.
	_, err = s.Store.Targets.Add(context.Background(), store.Target{Name: "behind", Address: "127.0.0.1:5022", Accounts: []string{"root"}, HostKeyMode: store.TOFU, Via: "web1"})
	check(t, err)
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	for _, to := range []string{
		"127.0.0.1:5022", "localhost:5022", "[::1]:5022", "127.0.0.9:5022", "0.0.0.0:5022", s.SSHD.Addr, "localhost:" + port, "LOCALHOST.:" + port, "[::1]:" + port, "0.0.0.0:" + port, "[::]:22",
		"127.0.0.1:22", "127.1:" + port, "0x7f000001:" + port, "2130706433:" + port, "0177.0.0.1:" + port, "[::ffff:127.0.0.1]:" + port,
		"localhost:4022", "127.0.0.1:4022",
		"[64:ff9b::127.0.0.1]:" + port,
	} {
		host, p, err := net.SplitHostPort(to)
		check(t, err)
		err = openTCP(c, host, p)
		if err == nil || !strings.Contains(err.Error(), "use ssh user@target@bastion instead") {
			t.Errorf("%s: %v", to, err)
		}
	}
	for _, to := range []string{"web1:22", "web1:" + port, "WEB1.:22", "named:22", "named:4022", "down:1"} {
		conn, err := c.Dial("tcp", to)
		check(t, err)
		line := make([]byte, 17)
		if _, err := io.ReadFull(conn, line); err != nil || string(line) != "SSH-2.0-Sallyport" {
			t.Errorf("%s: %q %v answers", to, line, err)
		}
		check(t, conn.Close())
	}
	for to, want := range map[string]string{
		"169.254.169.254:80": "not allowed", "[fe80::1]:80": "not allowed", "[::ffff:169.254.169.254]:80": "not allowed", "2852039166:80": "not allowed",
		"metadata.google.internal:80": "metadata", "[fe80::1%lo]:80": "zone", "a b:80": "neither a name", "no-such-host.invalid:22": "by its address",
	} {
		host, p, err := net.SplitHostPort(to)
		check(t, err)
		if err = openTCP(c, host, p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", to, err, want)
		}
	}
	cmd, says := running(t, s.ssh(), "-o", "ExitOnForwardFailure=no", "-L", testenv.FreeAddr(t)+":localhost:22")
	_ = cmd
	near := cmd.Args[slices.Index(cmd.Args, "-L")+1]
	connect(t, "tcp", strings.TrimSuffix(near, ":localhost:22"))
	testenv.WaitFor(t, "the reason at a real client", func() bool { return strings.Contains(says.String(), "use ssh user@target@bastion instead") })
}

// openTCP asks for a forward in these very words, which a client library would put in order first.
func openTCP(c *ssh.Client, host, port string) error {
	var n uint32
	fmt.Sscan(port, &n)
	ch, reqs, err := c.OpenChannel("direct-tcpip", ssh.Marshal(struct {
		Host   string
		Port   uint32
		Origin string
		From   uint32
	}{host, n, "127.0.0.1", 1}))
	if err != nil {
		return err
	}
	go ssh.DiscardRequests(reqs)
	return ch.Close()
}

// Several forwards are added to one ControlMaster connection and taken away again; 50 MB through one of
// them are the same bytes.
func TestForwardsInOneConnection(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: forwardRules})
	to := echo(t, listen(t, "tcp", "127.0.0.1:0")).Addr().String()
	control := filepath.Join(t.TempDir(), "m")
	running(t, s.ssh(), "-M", "-S", control)
	testenv.WaitFor(t, "the control socket", func() bool { _, err := os.Stat(control); return err == nil })
	var conns []net.Conn
	for range 4 {
		near := testenv.FreeAddr(t)
		testenv.Run(t, "ssh", "-F", "none", "-S", control, "-O", "forward", "-L", near+":"+to, "x")
		conns = append(conns, connect(t, "tcp", near))
	}
	far := testenv.FreeAddr(t)
	testenv.Run(t, "ssh", "-F", "none", "-S", control, "-O", "forward", "-R", far+":"+to, "x")
	bounce(t, connect(t, "tcp", far), "back")
	testenv.Run(t, "ssh", "-F", "none", "-S", control, "-O", "cancel", "-R", far+":"+to, "x")
	testenv.WaitFor(t, "the end of listening", func() bool {
		x, err := net.Dial("tcp", far)
		if err == nil {
			x.Close()
		}
		return err != nil
	})
	file := filepath.Join(t.TempDir(), "bulk")
	write(t, file, 50<<20)
	var all sync.WaitGroup
	all.Go(func() { // one of them carries much
		f, err := os.Open(file)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		go func() {
			io.Copy(conns[0], f)
			conns[0].(*net.TCPConn).CloseWrite()
		}()
		sum := sha256.New()
		if n, err := io.Copy(sum, conns[0]); n != 50<<20 || err != nil {
			t.Errorf("%d bytes came back, %v", n, err)
		}
		want, _ := os.ReadFile(file)
		if w := sha256.Sum256(want); hex.EncodeToString(sum.Sum(nil)) != hex.EncodeToString(w[:]) {
			t.Error("other bytes came back")
		}
	})
	for _, c := range conns[1:] {
		bounce(t, c, "little")
	}
	all.Wait()
	testenv.WaitFor(t, "exact counts", func() bool {
		n := 0
		for _, d := range s.details("channel.ended") {
			if d["bytes-in"] == fmt.Sprint(50<<20) && d["bytes-out"] == fmt.Sprint(50<<20) {
				n++
			}
		}
		return n == 1
	})
}

// An operator's end closes forwards too; a client that is killed in the middle leaves nothing behind.
func TestForwardsEnd(t *testing.T) {
	s := newSystem(t, options{rules: forwardRules})
	to := echo(t, listen(t, "tcp", "127.0.0.1:0")).Addr().String()
	base := runtime.NumGoroutine()
	near := testenv.FreeAddr(t)
	running(t, s.ssh(), "-L", near+":"+to)
	conn := connect(t, "tcp", near)
	_, err := conn.Write([]byte("x"))
	check(t, err)
	_, err = io.ReadFull(conn, make([]byte, 1))
	check(t, err)
	live := s.Sessions.Live()
	if len(live) != 1 || len(live[0].Channels) != 1 || live[0].Channels[0].Kind != "local-forward" {
		t.Fatalf("live: %+v", live)
	}
	check(t, s.Sessions.End(context.Background(), live[0].ID, "op", "enough"))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the forward outlived its session")
	}
	s.session()
	for range 3 {
		near := testenv.FreeAddr(t)
		cmd, _ := running(t, s.ssh(), "-L", near+":"+to)
		for range 5 {
			c := connect(t, "tcp", near)
			go io.Copy(c, strings.NewReader(strings.Repeat("x", 8<<20))) // nobody reads what comes back
			_, err := io.ReadFull(c, make([]byte, 1))
			check(t, err)
		}
		check(t, cmd.Process.Kill())
	}
	testenv.WaitFor(t, "the end of all sessions", func() bool { return len(s.Sessions.Live()) == 0 })
	testenv.WaitFor(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= base+8 })
	for _, c := range s.session().Channels {
		if c.Ended.IsZero() {
			t.Errorf("a row without end: %+v", c)
		}
	}
}

// A client that reads nothing of one forward stalls that one only, and a target may not open more channels
// than the connection has places.
func TestForwardLimits(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: forwardRules})
	flood := listen(t, "tcp", "127.0.0.1:0")
	t.Cleanup(func() { flood.Close() })
	go func() {
		for {
			c, err := flood.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for block := make([]byte, 64<<10); ; {
					if _, err := c.Write(block); err != nil {
						return
					}
				}
			}()
		}
	}()
	to := echo(t, listen(t, "tcp", "127.0.0.1:0")).Addr().String()
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	unread, err := c.Dial("tcp", flood.Addr().String())
	check(t, err)
	defer unread.Close()
	var last int64
	testenv.WaitFor(t, "the flood to stall", func() bool {
		live := s.Sessions.Live()
		before := last
		last = live[0].Channels[0].BytesOut
		return last > 1<<20 && last == before
	})
	if last > 8<<20 {
		t.Errorf("%d bytes were taken for a client that reads nothing", last)
	}
	for range 3 {
		other, err := c.Dial("tcp", to)
		check(t, err)
		_, err = other.Write([]byte("goes on"))
		check(t, err)
		_, err = io.ReadFull(other, make([]byte, 7))
		check(t, err)
		check(t, other.Close())
	}
	var refused error
	for range 70 {
		if _, refused = c.Dial("tcp", to); refused != nil {
			break
		}
	}
	if refused == nil || !strings.Contains(refused.Error(), "no more than 64 channels") {
		t.Errorf("the 65th: %v", refused)
	}
}
