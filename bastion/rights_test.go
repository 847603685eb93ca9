package bastion_test

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/identity"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// keyRules let everybody in by key alone, so that a test can have many people.
const keyRules = `version: 1
networks: {here: [127.0.0.0/8]}
rules:
  - {name: ops, users: ["group:ops"], targets: [web1], from: [here], code: none}
  - {name: prod, users: [petra], targets: [env=prod], from: [here], code: none}
  - {name: all, users: ["*"], targets: ["web1", "other-*"], from: [here], code: none}
`

// person makes a user of these groups who signs in by a key.
func (s *system) person(login string, groups ...string) (store.User, ssh.Signer) {
	s.t.Helper()
	u, err := s.Store.Users.Add(context.Background(), store.User{Login: login, Groups: groups}, "")
	check(s.t, err)
	key := newSigner(s.t)
	s.addKey(login, key.PublicKey())
	return u, key
}

// target gives the sshd of the test another name.
func (s *system) target(name string, labels map[string]string) {
	s.t.Helper()
	_, err := s.Store.Targets.Add(context.Background(), store.Target{Name: name, Address: s.SSHD.Addr, Accounts: []string{s.SSHD.Account},
		HostKeyMode: store.Pinned, HostKeys: []string{s.SSHD.HostKey}, Labels: labels})
	check(s.t, err)
}

// rule replaces the rules by keyRules with a rule before them.
func (s *system) rule(before string) {
	s.t.Helper()
	s.rules(strings.Replace(keyRules, "rules:\n", "rules:\n  - "+before+"\n", 1))
}

func (s *system) rules(text string) {
	s.t.Helper()
	version, err := s.Store.Rules.Version(context.Background())
	check(s.t, err)
	_, err = s.Store.Rules.Put(context.Background(), text, "test", version)
	check(s.t, err)
}

// ends waits until the session of login is over, and returns its row.
func (s *system) ends(login string) store.Session {
	s.t.Helper()
	var row store.Session
	testenv.WaitFor(s.t, "the end of the session of "+login, func() bool {
		list, err := s.Store.Sessions.List(context.Background(), store.SessionFilter{User: login, Limit: 1})
		check(s.t, err)
		row = list[0]
		return row.State == store.Ended
	})
	return row
}

// Whatever takes a right away ends what it opened, on the other node too, with the reason on the person's side,
// in the table and in the audit log. A person whom it does not concern goes on.
func TestRightsWithdrawn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	near := newSystem(t, options{postgres: true, rules: keyRules})
	far := newSystem(t, options{join: near})
	change := func(name string, do func(*store.Target)) error {
		_, err := near.Store.Targets.Change(ctx, name, func(t *store.Target) (store.CredentialSecret, error) { do(t); return nil, nil })
		return err
	}
	near.target("other-1", nil)
	near.target("other-2", nil)
	near.target("prod-1", map[string]string{"env": "prod"})
	_, bystander := near.person("bystander")
	c, err := far.dial("bystander@web1", ssh.PublicKeys(bystander))
	check(t, err)
	defer c.Close()
	unconcerned := far.cat(c)
	check(t, unconcerned.echo("here"))
	for _, tc := range []struct {
		login, target string
		withdraw      func(u store.User) error
		why           string
	}{
		{"rita", "web1", func(store.User) error {
			near.rule("{name: not-rita, deny: true, users: [rita], message: the project is over}")
			return nil
		}, "access to web1 is no longer allowed: the project is over (rule not-rita)"},
		{"sven", "web1", func(store.User) error {
			near.rule("{name: no-exec, deny: true, users: [sven], channels: [exec]}")
			return nil
		}, "exec on web1 is no longer allowed (rule no-exec)"},
		{"carl", "web1", func(store.User) error {
			near.rule("{name: code, users: [carl], targets: [web1]}")
			return nil
		}, "web1 needs a one-time code now; connect again"},
		{"tara", "other-1", func(store.User) error { return near.Store.Targets.Delete(ctx, "other-1") }, "the target other-1 was removed"},
		{"ulla", "other-2", func(store.User) error {
			return change("other-2", func(t *store.Target) { t.Accounts = []string{"nobody"} })
		}, "access to other-2 is no longer allowed by any rule"},
		{"petra", "prod-1", func(store.User) error {
			return change("prod-1", func(t *store.Target) { t.Labels = map[string]string{"env": "test"} })
		}, "access to prod-1 is no longer allowed by any rule"},
		{"lena", "web1", func(u store.User) error { return near.Store.Users.Lock(ctx, u.ID, "left", time.Now().Add(time.Hour)) }, "your account was locked; ask an operator"},
		{"gino", "web1", func(u store.User) error { return near.Store.Users.Delete(ctx, u.ID) }, "your account was removed; ask an operator"},
		{"kim", "web1", func(u store.User) error {
			keys, err := near.Store.UserKeys.List(ctx, u.ID)
			check(t, err)
			return near.Store.UserKeys.Delete(ctx, u.ID, keys[0].ID)
		}, "the public key that you signed in with was removed"},
	} {
		u, key := near.person(tc.login)
		c, err := far.dial(tc.login+"@"+tc.target, ssh.PublicKeys(key))
		check(t, err)
		defer c.Close()
		x := far.cat(c)
		check(t, x.echo("here"))
		check(t, tc.withdraw(u))
		if err := x.sess.Wait(); err == nil || !strings.Contains(x.errs.String(), "session ended: "+tc.why+".") {
			t.Errorf("%s: %v, %q; want %q", tc.login, err, x.errs, tc.why)
		}
		if row := near.ends(tc.login); row.Reason != tc.why {
			t.Errorf("%s: reason %q, want %q", tc.login, row.Reason, tc.why)
		}
		testenv.WaitFor(t, "the event", func() bool {
			return strings.Contains(strings.Join(near.events("session.ended"), "\n"), "ok "+tc.login+" "+near.SSHD.Account+"@"+tc.target+" "+tc.why)
		})
		if err := c.Wait(); err == nil {
			t.Errorf("%s: the connection goes on", tc.login)
		}
	}
	check(t, unconcerned.echo("still here"))
}

// Groups count as of now: who leaves one loses what only its rule allows.
func TestGroupWithdrawn(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: strings.Split(keyRules, "  - {name: prod")[0]})
	u, key := s.person("olga", "ops")
	c, err := s.dial("olga@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	x := s.cat(c)
	check(t, x.echo("here"))
	check(t, s.Store.Users.SetGroups(context.Background(), u.ID, []string{"dev"}))
	if err := x.sess.Wait(); err == nil || !strings.Contains(x.errs.String(), "session ended: access to web1 is no longer allowed by any rule.") {
		t.Errorf("%v, %q", err, x.errs)
	}
}

// A forward alone is closed alone, as are listeners and the right to the agent; the shell goes on and says so.
func TestForwardWithdrawn(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: strings.Replace(forwardRules, "targets: [\"*\"]", "targets: [\"*\"]\n    from: [127.0.0.1]\n    code: none", 1)})
	_, key := s.person("fay")
	c, err := s.dial("fay@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	x := s.cat(c)
	check(t, x.echo("here"))
	allowed := echo(t, listen(t, "tcp", "127.0.0.1:0")).Addr().String()
	closed := echo(t, listen(t, "tcp", "127.0.0.1:0")).Addr().String()
	stays, err := c.Dial("tcp", allowed)
	check(t, err)
	goes, err := c.Dial("tcp", closed)
	check(t, err)
	l, err := c.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	far := l.Addr().String()
	for _, conn := range []net.Conn{stays, goes} {
		_, err := io.WriteString(conn, "x")
		check(t, err)
		_, err = io.ReadFull(conn, make([]byte, 1))
		check(t, err)
	}
	s.rules("version: 1\nrules:\n  - {name: less, users: ['*'], targets: ['*'], from: [127.0.0.1], code: none, channels: [shell, exec, {local-forward: ['" + allowed + "']}]}\n")
	if _, err := io.ReadAll(goes); err != nil && err != io.EOF {
		t.Errorf("the forward's end: %v", err)
	}
	testenv.WaitFor(t, "the end of listening", func() bool {
		conn, err := net.Dial("tcp", far)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	row := s.channelOf("local-forward")
	if row.Command != closed {
		t.Errorf("closed %+v, want the forward to %s", row, closed)
	}
	testenv.WaitFor(t, "the event", func() bool {
		return strings.Contains(strings.Join(s.events("channel.ended"), "\n"),
			"refused fay "+s.SSHD.Account+"@web1 local-forward to "+closed+" through web1 is no longer allowed by any rule")
	})
	_, err = io.WriteString(stays, "y")
	check(t, err)
	_, err = io.ReadFull(stays, make([]byte, 1))
	check(t, err)
	check(t, x.echo("still here"))
	if _, err := c.Dial("tcp", closed); err == nil {
		t.Error("the forward can be opened again")
	}
	check(t, x.in.Close())
	check(t, x.sess.Wait())
	for _, want := range []string{"local-forward to " + closed + " was closed: local-forward to " + closed + " through web1 is no longer allowed by any rule",
		"remote-forward of " + far + " was closed"} {
		if !strings.Contains(x.errs.String(), want) {
			t.Errorf("stderr %q, want %q", x.errs, want)
		}
	}
}

// An old code does not end what it has opened; a new channel needs a new one.
func TestOldCodeGoesOn(t *testing.T) {
	t.Parallel()
	ahead := new(atomic.Int64)
	s := newSystem(t, options{ahead: ahead, rules: "version: 1\nrules:\n  - {name: fresh, users: ['*'], targets: ['*'], code: {younger-than: 1h}}\n"})
	c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer c.Close()
	x := s.cat(c)
	run := func() error {
		sess, err := c.NewSession()
		check(t, err)
		defer sess.Close()
		return sess.Run("true")
	}
	check(t, run())
	ahead.Store(int64(time.Hour + time.Second))
	if run() == nil {
		t.Error("a new channel was opened with an old code")
	}
	check(t, s.Server.Recheck(context.Background(), true))
	check(t, x.echo("still here"))
}

// The directory is read again while people are connected: who is gone, disabled or out of the login group is
// ended, a group that was left counts, and nobody is ended because it does not answer.
func TestDirectoryRecheck(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := testenv.Slapd(t)
	cfg := identity.LDAPConfig{Servers: []string{d.LDAPSURL}, CAFile: d.CAFile, BindDN: d.BindDN, BindPassword: identity.Password(d.BindPassword),
		Base: d.PeopleDN, GroupBase: d.GroupsDN, LoginGroup: "ssh-users", Timeout: time.Minute}
	directory, err := identity.NewLDAP(cfg)
	check(t, err)
	t.Cleanup(directory.Close)
	s := newSystem(t, options{directory: directory, enrol: true, rules: `version: 1
rules:
  - {name: ops, users: ["group:special"], targets: [web1]}
  - {name: rest, users: [dis, gone, out, stays], targets: [web1]}
`})
	open := map[string]*shell{}
	for _, login := range []string{"dis", "gone", "out", "leaves", "stays"} {
		d.AddUser(login, "secret of "+login, "ssh-users")
		if login == "leaves" {
			d.AddGroup("special", d.UserDN(login))
		}
		_, err := s.Store.Users.SeenInDirectory(ctx, entryUUID(t, directory, login), login, "", "", nil)
		check(t, err)
		c, err := s.dial(login+"@web1", answers("secret of "+login, s.code(login), nil))
		check(t, err)
		t.Cleanup(func() { c.Close() })
		open[login] = s.cat(c)
		check(t, open[login].echo("here"))
	}
	d.Stop()
	if err := s.Server.Recheck(ctx, true); err == nil {
		t.Error("a directory that is away was not noticed")
	}
	for _, x := range open {
		check(t, x.echo("the directory is away"))
	}
	d.Start()
	check(t, s.Server.Recheck(ctx, true))
	for _, x := range open {
		check(t, x.echo("nothing has changed"))
	}
	d.Disable("dis")
	d.Delete(d.UserDN("gone"))
	d.Leave("ssh-users", d.UserDN("out"))
	d.Leave("special", d.UserDN("leaves"))
	testenv.WaitFor(t, "the directory to be up to date", func() bool { return s.Server.Recheck(ctx, true) == nil })
	for login, why := range map[string]string{
		"dis":    "your account is disabled or has expired in the directory",
		"gone":   "your account is no longer in the directory, or no longer in the group that may sign in",
		"out":    "your account is no longer in the directory, or no longer in the group that may sign in",
		"leaves": "access to web1 is no longer allowed by any rule",
	} {
		x := open[login]
		if err := x.sess.Wait(); err == nil || !strings.Contains(x.errs.String(), "session ended: "+why+".") {
			t.Errorf("%s: %v, %q; want %q", login, err, x.errs, why)
		}
		if row := s.ends(login); row.Reason != why {
			t.Errorf("%s: reason %q, want %q", login, row.Reason, why)
		}
	}
	check(t, open["stays"].echo("still here"))
}

func entryUUID(t *testing.T, l *identity.LDAP, login string) string {
	t.Helper()
	p, err := l.Lookup(context.Background(), login)
	check(t, err)
	return p.ID
}

// Whoever sits in the menu sees at once what changes, and is put out when locked; so is a connection on which
// nothing runs at all.
func TestMenuFollowsRights(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := menuSystem(t, options{})
	term := s.menu()
	idle, err := s.dial("alice", answers(alicePassword, s.code("alice"), nil))
	check(t, err)
	defer idle.Close()
	_, err = s.Store.Rules.Put(ctx, "version: 1\nrules:\n  - {name: one, users: ['*'], targets: [web2]}\n", "test", 1)
	check(t, err)
	term.Expect("What is open to you has changed.")
	u, err := s.Store.Users.ByLogin(ctx, "alice")
	check(t, err)
	check(t, s.Store.Users.Lock(ctx, u.ID, "left", time.Now().Add(time.Hour)))
	term.Expect("your account was locked; ask an operator.")
	if status := term.Wait(); status != 255 {
		t.Errorf("status %d", status)
	}
	if err := idle.Wait(); err == nil {
		t.Error("the connection on which nothing ran ended well")
	}
	testenv.WaitFor(t, "both ends to be audited", func() bool { return len(s.events("connection.ended")) == 2 })
}

// A session from the menu ends like any other, and the person with it when they may do nothing any more.
func TestMenuSessionWithdrawn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := menuSystem(t, options{})
	term := s.menu()
	term.Type("web1 " + s.SSHD.Account + "\r")
	term.Type("echo ready-$((1+1))\n")
	term.Expect("ready-2")
	_, err := s.Store.Rules.Put(ctx, "version: 1\nrules:\n  - {name: one, users: ['*'], targets: [web2]}\n", "test", 1)
	check(t, err)
	term.Expect("session ended: access to web1 is no longer allowed by any rule.")
	term.Expect("Ctrl-C leaves")
	u, err := s.Store.Users.ByLogin(ctx, "alice")
	check(t, err)
	check(t, s.Store.Users.Lock(ctx, u.ID, "left", time.Time{}))
	term.Expect("your account was locked; ask an operator.")
	if status := term.Wait(); status != 255 {
		t.Errorf("status %d", status)
	}
}

// What is decided while a right goes does not survive it, however the two fall: sessions, commands and forwards
// are opened all the while, and when the rule is gone so is everything.
func TestWithdrawalRacesWithOpening(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: forwardKeyRules})
	to := echo(t, listen(t, "tcp", "127.0.0.1:0")).Addr().String()
	_, key := s.person("racer")
	for round := range 6 {
		if round > 0 {
			s.rules(forwardKeyRules)
		}
		var clients []*ssh.Client
		for range 6 {
			c, err := s.dial("racer@web1", ssh.PublicKeys(key))
			check(t, err)
			clients = append(clients, c)
		}
		stop := make(chan struct{})
		var busy atomic.Int64
		for i, c := range clients {
			busy.Add(1)
			go func() {
				defer busy.Add(-1)
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					if i%2 == 0 {
						if sess, err := c.NewSession(); err == nil {
							_ = sess.Start("cat") // stays open
						} else {
							return
						}
					} else if _, err := c.Dial("tcp", to); err != nil { // stays open
						return
					}
					if n == 5 {
						return
					}
				}
			}()
		}
		testenv.WaitFor(t, "something to be open", func() bool { return len(s.Sessions.Live()) > round%4 })
		s.rules("version: 1\nrules: []\n")
		close(stop)
		// An open that the library begins while its connection ends never returns, so that this has to end too.
		for deadline := time.Now().Add(3 * time.Second); busy.Load() > 0 && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		testenv.WaitFor(t, "what was opened meanwhile to be closed", func() bool { return len(s.Sessions.Live()) == 0 })
		for _, c := range clients {
			c.Close()
		}
	}
}

var forwardKeyRules = strings.Replace(forwardRules, "targets: [\"*\"]", "targets: [\"*\"]\n    from: [127.0.0.1]\n    code: none", 1)

// A node that misses the message notices by itself that there are other rules.
func TestMissedMessage(t *testing.T) {
	t.Parallel()
	near := newSystem(t, options{postgres: true, rules: keyRules})
	far := newSystem(t, options{join: near, noWatch: true})
	far.Server.LookEvery(50 * time.Millisecond)
	_, key := near.person("mia")
	c, err := far.dial("mia@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	x := far.cat(c)
	check(t, x.echo("here"))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go far.Server.Watch(ctx)
	db, err := sql.Open("postgres", near.dsn)
	check(t, err)
	defer db.Close()
	// Below the store, so that nobody is told.
	_, err = db.Exec("INSERT INTO rule_sets (version, document, author, created) VALUES (2, $1, 'test', 0)", "version: 1\nrules: []\n")
	check(t, err)
	if err := x.sess.Wait(); err == nil || !strings.Contains(x.errs.String(), "no longer allowed") {
		t.Errorf("%v, %q", err, x.errs)
	}
}

// A change of rules ends neither a robot's command nor what a certificate opened: both are held to a command, which
// is asked for again with everything else. Disabling the robot, or taking the certificate back, ends it.
func TestRobotAndCertificateWithdrawn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const command = "echo on; cat"
	s := newSystem(t, options{rules: keyRules})
	robot, err := ssh.Dial("tcp", s.Addr, &ssh.ClientConfig{User: "deploy-bot@web1", HostKeyCallback: ssh.FixedHostKey(s.HostKey),
		Auth: []ssh.AuthMethod{ssh.PublicKeys(rawSigner(t, s.robot(command)))}})
	check(t, err)
	t.Cleanup(func() { robot.Close() })
	s.person("wilma")
	ca := s.userCA("people")
	file := ca.issue("-n", "wilma", "-O", "force-command="+command)
	person, err := s.dial("wilma@web1", ssh.PublicKeys(signer(t, file)))
	check(t, err)
	t.Cleanup(func() { person.Close() })
	start := func(c *ssh.Client) (said *bytes.Buffer, over chan struct{}) {
		t.Helper()
		se, err := c.NewSession()
		check(t, err)
		_, err = se.StdinPipe()
		check(t, err)
		out, err := se.StdoutPipe()
		check(t, err)
		said, over = &bytes.Buffer{}, make(chan struct{})
		errs, err := se.StderrPipe()
		check(t, err)
		check(t, se.Start(command))
		_, err = io.ReadFull(out, make([]byte, 3))
		check(t, err)
		go func() {
			defer close(over)
			_, _ = io.Copy(said, errs)
		}()
		return said, over
	}
	robotSaid, robotOver := start(robot)
	personSaid, personOver := start(person)
	s.rule(`{name: more, users: [nobody], targets: ["*"]}`)
	check(t, s.Server.Recheck(ctx, true))
	for _, login := range []string{"deploy-bot", "wilma"} {
		list, err := s.Store.Sessions.List(ctx, store.SessionFilter{User: login, Limit: 1})
		check(t, err)
		if len(list) != 1 || list[0].State != store.Live {
			t.Fatalf("%s: after a change that does not concern them: %+v", login, list)
		}
	}
	s.changeRobot(func(r *store.Robot) { r.Enabled = false })
	<-robotOver
	cas, err := s.Store.UserCAs.List(ctx)
	check(t, err)
	check(t, s.Store.UserCAs.Delete(ctx, cas[0].ID))
	<-personOver
	if !strings.Contains(robotSaid.String(), "this robot was disabled") || !strings.Contains(personSaid.String(), "certificate that you signed in with is no longer accepted") {
		t.Errorf("robot: %q, person: %q", robotSaid.String(), personSaid.String())
	}
}
