package bastion_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/bastion"
	"sallyport/internal/testenv"
	"sallyport/recorder"
	"sallyport/store"
)

// limited is a rule for everybody who signs in by key, with these lines besides.
func limited(lines ...string) string {
	return "version: 1\nrules:\n  - name: all\n    users: ['*']\n    targets: ['*']\n    from: [127.0.0.0/8]\n    code: none\n    " +
		strings.Join(lines, "\n    ") + "\n"
}

// A hundred connections on two nodes open their session at the same moment: exactly as many as the rule allows
// get one, the others read which limit of which rule is in the way, and an ended session makes room.
func TestSessionLimitInParallel(t *testing.T) {
	t.Parallel()
	for limit, want := range map[string]string{
		"sessions":        "you have 5 sessions open under rule all, which allows 5 (limits: sessions). End one first.",
		"user-sessions":   "you have 5 sessions open, and rule all allows 5 in all (limits: user-sessions). End one first.",
		"rule-sessions":   "5 sessions are open under rule all, which allows 5 for everybody together (limits: rule-sessions).",
		"target-sessions": "5 sessions are open on web1, and rule all allows 5 (limits: target-sessions).",
	} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			many := bastion.Guard{PerSource: 200, Total: 400}
			near := newSystem(t, options{postgres: true, guard: many, rules: limited("limits: {" + limit + ": 5}")})
			far := newSystem(t, options{join: near, guard: many})
			clients := 100
			if limit != "sessions" {
				clients = 20
			}
			_, key := near.person("mia")
			var conns []*ssh.Client
			for i := range clients {
				login := "mia"
				if limit == "rule-sessions" || limit == "target-sessions" {
					login = fmt.Sprint("mia", i)
					_, key = near.person(login)
				}
				c, err := []*system{near, far}[i%2].dial(login+"@web1", ssh.PublicKeys(key))
				check(t, err)
				t.Cleanup(func() { c.Close() })
				conns = append(conns, c)
			}
			var opened, refused atomic.Int64
			var all sync.WaitGroup
			winner := make(chan *ssh.Client, clients)
			start := make(chan struct{})
			for _, c := range conns {
				all.Go(func() {
					<-start
					text := attempt(c)
					switch {
					case text == "":
						opened.Add(1)
						winner <- c
					case strings.Contains(text, want):
						refused.Add(1)
					default:
						t.Errorf("%s: %q", limit, text)
					}
				})
			}
			close(start)
			all.Wait()
			if opened.Load() != 5 || int(refused.Load()) != clients-5 {
				t.Errorf("%d opened and %d refused of %d, want 5", opened.Load(), refused.Load(), clients)
			}
			if n := len(near.Sessions.Live()) + len(far.Sessions.Live()); n != 5 {
				t.Errorf("%d sessions are live, want 5", n)
			}
			(<-winner).Close()
			testenv.WaitFor(t, "the place to be free", func() bool {
				return len(near.Sessions.Live())+len(far.Sessions.Live()) == 4 && near.rows(store.Live) == 4
			})
			c, err := far.dial("mia@web1", ssh.PublicKeys(near.keyOf("mia")))
			check(t, err)
			defer c.Close()
			if text := attempt(c); text != "" {
				t.Errorf("with a free place: %q", text)
			}
		})
	}
}

// attempt starts cat and leaves it running; the text is what the person reads if that is refused.
func attempt(c *ssh.Client) string {
	sess, err := c.NewSession()
	if err != nil {
		return err.Error()
	}
	var errs strings.Builder
	sess.Stderr = &errs
	in, _ := sess.StdinPipe()
	out, _ := sess.StdoutPipe()
	if err := sess.Start("cat"); err != nil {
		return err.Error()
	}
	_, _ = io.WriteString(in, "x")
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		_ = sess.Wait()
		return errs.String()
	}
	return ""
}

func (s *system) rows(state string) int {
	s.t.Helper()
	list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{State: state, Limit: 1000})
	check(s.t, err)
	return len(list)
}

// keyOf gives a person a further key.
func (s *system) keyOf(login string) ssh.Signer {
	s.t.Helper()
	if _, err := s.Store.Users.ByLogin(context.Background(), login); err != nil {
		_, key := s.person(login)
		return key
	}
	key := newSigner(s.t)
	s.addKey(login, key.PublicKey())
	return key
}

// A target that a hopeless login need not be dialled for is not: that it is down is not even found out.
func TestSessionLimitBeforeDialling(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: limited("limits: {user-sessions: 1}")})
	_, key := s.person("mia")
	first, err := s.dial("mia@web1", ssh.PublicKeys(key))
	check(t, err)
	defer first.Close()
	if text := attempt(first); text != "" {
		t.Fatal(text)
	}
	second, err := s.dial("mia@down", ssh.PublicKeys(key))
	check(t, err)
	defer second.Close()
	if text := attempt(second); !strings.Contains(text, "limits: user-sessions") {
		t.Errorf("%q", text)
	}
	if got := s.events("session.started"); len(got) != 2 || !strings.HasPrefix(got[1], "refused mia root@down you have 1 session open") {
		t.Errorf("events: %q", got)
	}
}

// Output does not count as typing: a terminal that is left alone with something like top on it ends.
func TestKeyboardIdle(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: limited("limits: {keyboard-idle: 4s}")})
	c := &testenv.OpenSSH{Addr: s.Addr, Login: "mia@web1"}
	s.person("mia")
	c.KeyFile = s.userKey("mia")
	left := func(t *testing.T, term *testenv.Terminal) {
		started := time.Now()
		term.Expect("session ended: nothing was typed for 4s.")
		if took := time.Since(started); took > time.Minute {
			t.Errorf("it took %s", took)
		}
	}
	t.Run("busy", func(t *testing.T) {
		t.Parallel()
		term := testenv.StartTerminal(t, c.Interactive("while :; do echo tick; sleep 0.05; done"), 80, 24)
		term.Expect("tick")
		left(t, term)
		testenv.WaitFor(t, "the session's reason", func() bool {
			list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{State: store.Ended})
			check(t, err)
			return slices.ContainsFunc(list, func(x store.Session) bool { return x.Reason == "nothing was typed for 4s" })
		})
	})
	t.Run("typing keeps it, also where nothing is shown", func(t *testing.T) {
		t.Parallel()
		term := testenv.StartTerminal(t, c.Interactive("stty -echo; echo ready; dd bs=1 count=30 of=/dev/null 2>/dev/null; echo all-read"), 80, 24)
		term.Expect("ready")
		for range 30 { // 6 s
			term.Type("x\n")
			time.Sleep(200 * time.Millisecond)
		}
		term.Expect("all-read")
	})
	t.Run("without a terminal nothing can be typed", func(t *testing.T) {
		t.Parallel()
		if out, errs, status := c.Output(t, "sleep 6; echo done"); out != "done\n" || status != 0 {
			t.Errorf("%q %q %d", out, errs, status)
		}
	})
	t.Run("a window that changes its size is no typing", func(t *testing.T) {
		t.Parallel()
		term := testenv.StartTerminal(t, c.Interactive("echo ready; sleep 60"), 80, 24)
		term.Expect("ready")
		over := make(chan struct{})
		var resizing sync.WaitGroup
		defer resizing.Wait()
		defer close(over)
		resizing.Go(func() {
			for i := uint16(0); ; i++ {
				select {
				case <-over:
					return
				case <-time.After(100 * time.Millisecond):
					testenv.Resize(t, term, 80+i%2, 24)
				}
			}
		})
		left(t, term)
	})
}

// The end is announced on terminals, and stands in the recording; programs without one are not disturbed.
func TestMaxWarning(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: limited("limits: {max: 10s}")})
	s.person("mia")
	c := &testenv.OpenSSH{Addr: s.Addr, Login: "mia@web1", KeyFile: s.userKey("mia")}
	var without sync.WaitGroup
	defer without.Wait()
	without.Go(func() {
		if _, errs, _ := c.Output(t, "sleep 60"); strings.Contains(errs, "this session ends") || !strings.Contains(errs, "maximum of 10s") {
			t.Errorf("without a terminal: %q", errs)
		}
	})
	term := testenv.StartTerminal(t, c.Interactive("echo ready; sleep 60"), 80, 24)
	term.Expect("ready")
	term.Expect("sallyport: this session ends in 5s: the rule allows 10s.")
	term.Expect("session ended: the rule's maximum of 10s is over.")
	var row store.Session
	testenv.WaitFor(t, "the end of the session on a terminal", func() bool {
		list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{State: store.Ended})
		check(t, err)
		i := slices.IndexFunc(list, func(x store.Session) bool { return len(x.Channels) == 1 && x.Channels[0].Term })
		if i >= 0 {
			row = list[i]
		}
		return i >= 0
	})
	if row.Reason != "the rule's maximum of 10s is over" {
		t.Errorf("reason %q", row.Reason)
	}
	r, err := s.Recorder.Open(row.Channels[0].Recording)
	check(t, err)
	defer r.Close()
	var marks []string
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		check(t, err)
		if e.Code == recorder.CodeMark {
			marks = append(marks, e.Text)
		}
	}
	if got := strings.Join(marks, "; "); got != "this session ends in 5s: the rule allows 10s.; session ended: the rule's maximum of 10s is over" {
		t.Errorf("marks: %q", got)
	}
}

// Session channels and forwards count together, and a place is free again when one is closed.
func TestChannelsOfOneSession(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: limited("limits: {channels: 3}", "channels: [exec, local-forward]")})
	_, key := s.person("mia")
	to := echo(t, listen(t, "tcp", "127.0.0.1:0")).Addr().String()
	c, err := s.dial("mia@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	shell := s.cat(c)
	check(t, shell.echo("one"))
	var forwards []net.Conn
	for range 2 {
		conn, err := c.Dial("tcp", to)
		check(t, err)
		forwards = append(forwards, conn)
	}
	const want = "no more than 3 channels at once: limits.channels of rule all"
	if _, err := c.Dial("tcp", to); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a fourth channel, a forward: %v", err)
	}
	if _, err := c.NewSession(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a fourth channel, a session: %v", err)
	}
	forwards[0].Close()
	sess, err := c.NewSession() // waits for the place, which may not be free yet
	check(t, err)
	check(t, sess.Run("true"))
	check(t, shell.echo("still here"))
}

// Where no rule says how many channels there may be, ten commands may run at once in a connection, as with OpenSSH's server.
// Once that held too where a rule allowed more, so that a target with a higher MaxSessions could not be used as it is.
func TestMoreChannelsByRule(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: limited("limits: {channels: 14}", "channels: [exec]"), sshdConfig: []string{"MaxSessions 30"}})
	_, key := s.person("mia")
	c, err := s.dial("mia@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	for range 14 {
		check(t, s.cat(c).echo("one more"))
	}
	if _, err := c.NewSession(); err == nil || !strings.Contains(err.Error(), "no more than 14 channels at once: limits.channels of rule all") {
		t.Errorf("the fifteenth: %v", err)
	}
}

// One connection may open no more sessions from the menu than the rule says.
func TestSessionsOfOneConnection(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{rules: "version: 1\nrules:\n  - {name: one, users: ['*'], targets: [web1], limits: {connection-sessions: 1}}\n"})
	c, err := s.dial("alice", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	first, second := s.menuOn(c), s.menuOn(c)
	first.open(t)
	first.expect(t, "ready-2")
	_, err = io.WriteString(second.in, "\r")
	check(t, err)
	second.expect(t, "this connection has 1 session open, and rule one allows 1")
	_, err = io.WriteString(first.in, "exit\n")
	check(t, err)
	first.expect(t, "the session is over")
	second.open(t)
	second.expect(t, "ready-2")
}

// menuChannel is a menu on one of several channels of a connection.
type menuChannel struct {
	in  io.Writer
	out io.Reader
	got strings.Builder
}

func (s *system) menuOn(c *ssh.Client) *menuChannel {
	s.t.Helper()
	sess, err := c.NewSession()
	check(s.t, err)
	m := &menuChannel{}
	m.in, err = sess.StdinPipe()
	check(s.t, err)
	m.out, err = sess.StdoutPipe()
	check(s.t, err)
	check(s.t, sess.RequestPty("xterm", 24, 80, nil))
	check(s.t, sess.Shell())
	m.expect(s.t, "Ctrl-C leaves")
	return m
}

func (m *menuChannel) open(t *testing.T) {
	t.Helper()
	_, err := io.WriteString(m.in, "\recho ready-$((1+1))\n")
	check(t, err)
}

// expect reads until text comes.
func (m *menuChannel) expect(t testing.TB, text string) {
	t.Helper()
	late := time.AfterFunc(30*time.Second, func() { panic("the menu never showed " + text) })
	defer late.Stop()
	b := make([]byte, 1)
	for !strings.HasSuffix(m.got.String(), text) {
		if _, err := m.out.Read(b); err != nil {
			t.Fatalf("waiting for %q: %v; it showed %q", text, err, m.got.String())
		}
		m.got.Write(b)
	}
	m.got.Reset()
}

// Environment variables pass as the rule says, and as it does not say; what would make programs load code never
// does. What does not pass is audited once.
func TestEnvironmentByRule(t *testing.T) {
	t.Parallel()
	set := []string{"LANG=l1", "LC_TIME=l2", "APP_MODE=a1", "APP_MODES=a2", "X_1=x1", "LD_PRELOAD=/nowhere", "PYTHONPATH=/nowhere", "SECRET_X=s"}
	const show = `echo "$LANG $LC_TIME $APP_MODE $APP_MODES $X_1 $LD_PRELOAD $PYTHONPATH $SECRET_X"`
	for name, tc := range map[string]struct{ env, want, refused string }{
		"default":    {"channels: [exec]", "l1 l2      \n", "env APP_MODE"},
		"list":       {`env: [APP_MODE, "X_*"]`, "  a1  x1   \n", "env LANG"},
		"everything": {`env: ["*"]`, "l1 l2 a1 a2 x1   s\n", "env LD_PRELOAD"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{rules: limited(tc.env), sshdConfig: []string{"AcceptEnv *"}})
			s.person("mia")
			c := &testenv.OpenSSH{Addr: s.Addr, Login: "mia@web1", KeyFile: s.userKey("mia"), Options: []string{"SetEnv=" + strings.Join(set, " ")}}
			if out, errs, _ := c.Output(t, show); out != tc.want {
				t.Errorf("got %q %q, want %q", out, errs, tc.want)
			}
			var asked []string
			for _, d := range s.details("channel.refused") {
				asked = append(asked, d["request"])
			}
			if len(asked) != 1 || asked[0] != tc.refused {
				t.Errorf("audited: %q, want %q", asked, tc.refused)
			}
		})
	}
}

// Connections inside of one (ssh -J) count with it, and what they opened ends with the right to it.
func TestSessionsOfJumps(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: "version: 1\nrules:\n  - {name: one, users: ['*'], targets: [web1], limits: {connection-sessions: 1}}\n"})
	key := newSigner(t)
	s.addKey("alice", key.PublicKey())
	outer, err := s.dial("alice", ssh.PublicKeys(key), answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer outer.Close()
	inside := func() *ssh.Client {
		conn, err := outer.Dial("tcp", "web1:22")
		check(t, err)
		c, chans, reqs, err := ssh.NewClientConn(conn, "web1:22", &ssh.ClientConfig{User: s.SSHD.Account, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
			HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		check(t, err)
		return ssh.NewClient(c, chans, reqs)
	}
	first, second := inside(), inside()
	defer second.Close()
	x := s.cat(first)
	check(t, x.echo("here"))
	if text := attempt(second); !strings.Contains(text, "this connection has 1 session open, and rule one allows 1 (limits: connection-sessions). End one first.") {
		t.Errorf("a second session: %q", text)
	}
	s.rules("version: 1\nrules:\n  - {name: one, users: ['*'], targets: [web1], channels: [sftp]}\n")
	if err := x.sess.Wait(); err == nil || !strings.Contains(x.errs.String(), "session ended: exec on web1 is no longer allowed by any rule.") {
		t.Errorf("%v, %q", err, x.errs)
	}
	s.rules("version: 1\nrules:\n  - {name: one, users: ['*'], targets: [web1], limits: {connection-sessions: 1}}\n")
	testenv.WaitFor(t, "the place to be free", func() bool { return attempt(second) == "" })
}
