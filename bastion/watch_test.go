package bastion_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/screen"
	"sallyport/session"
	"sallyport/store"
)

// lookout is somebody who watches, with a terminal of their own.
type lookout struct {
	t    *testing.T
	view *session.View
	stop context.CancelFunc
	done chan struct{} // closed when it is over

	mu     sync.Mutex // guards the fields below
	screen *screen.Screen
	tail   string // of what was printed; all that there is without a screen
	marks  []string
	over   bool
	why    error // it is over
}

// watch begins to watch a session at this node; see reads it.
func (s *system) watch(t *testing.T, id, name string, groups ...string) *lookout {
	t.Helper()
	return s.watchChannel(t, id, 0, name, groups...)
}

func (s *system) watchChannel(t *testing.T, id string, channel int, name string, groups ...string) *lookout {
	t.Helper()
	event := func(what string) audit.Event {
		return audit.Event{Type: audit.SessionWatched, Result: audit.OK, Door: audit.DoorWeb, Actor: name, Session: id, Reason: what}
	}
	userID := "somebody called " + name
	if u, err := s.Store.Users.ByLogin(t.Context(), name); err == nil {
		userID = u.ID
	}
	v, err := s.Sessions.Watch(t.Context(), id, channel, session.Watcher{Name: name, UserID: userID, Login: name, Groups: groups, Began: event("began"), Ended: event("ended")})
	check(t, err)
	ctx, stop := context.WithCancel(context.Background())
	e := &lookout{t: t, view: v, stop: stop, done: make(chan struct{}), screen: screen.New(80, 24)}
	t.Cleanup(e.leave)
	go e.look(ctx)
	return e
}

func (e *lookout) look(ctx context.Context) {
	defer close(e.done)
	defer e.view.Close()
	for {
		event, err := e.view.Next(ctx)
		e.mu.Lock()
		if err != nil {
			e.over, e.why = true, err
			e.mu.Unlock()
			return
		}
		switch event.Code {
		case "r":
			var cols, rows int
			_, _ = fmt.Sscanf(event.Text, "%dx%d", &cols, &rows)
			if e.screen != nil {
				e.screen.Resize(cols, rows)
			}
		case "o":
			if e.screen == nil {
				e.tail = (e.tail + event.Text)[max(0, len(e.tail)+len(event.Text)-4096):]
				break
			}
			_, _ = e.screen.Write([]byte(event.Text))
		case "m":
			e.marks = append(e.marks, event.Text)
		}
		e.mu.Unlock()
	}
}

func (e *lookout) leave() {
	e.stop()
	testenv.WaitFor(e.t, "the end of the watch", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.over })
}

func (e *lookout) lines() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.screen == nil {
		return e.tail
	}
	return strings.Join(e.screen.Lines(), "\n")
}

// sees waits until the screen of e holds text.
func (e *lookout) sees(text string) {
	e.t.Helper()
	testenv.WaitFor(e.t, fmt.Sprintf("%q before the eyes of the watcher", text), func() bool {
		e.mu.Lock()
		over, why, marks := e.over, e.why, e.marks
		e.mu.Unlock() // what was shown before the end is there by now
		if strings.Contains(e.lines(), text) {
			return true
		}
		if over {
			e.t.Fatalf("the view of %s ended without %q: %v, marks %q; last seen:\n%s", e.view.Watcher().Name, text, why, marks, e.lines())
		}
		return false
	})
}

// ended waits for the end and returns what was said of it.
func (e *lookout) ended() string {
	e.t.Helper()
	testenv.WaitFor(e.t, "the end of what is watched", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.over })
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.marks) == 0 {
		e.t.Fatal("nobody said why the watch ended")
	}
	return e.marks[len(e.marks)-1]
}

// liveID is the id of the only session that is open here.
func (s *system) liveID() string {
	s.t.Helper()
	var id string
	testenv.WaitFor(s.t, "an open session", func() bool {
		list := s.Sessions.Live()
		if len(list) == 1 {
			id = list[0].ID
		}
		return id != ""
	})
	return id
}

// A person's shell is watched: the person reads by whom, who comes late has the present screen, the end is told, and
// the recording and the audit log know of it.
func TestWatch(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: trustHere})
	term := testenv.StartTerminal(t, s.withKey().Interactive(), 90, 30)
	term.Type("PS1='ready> '; echo first-$((40+2))\n")
	term.Expect("first-42")
	id := s.liveID()
	carol := s.watch(t, id, "carol")
	carol.sees("first-42")
	term.Expect("sallyport: observed by carol.")
	term.Type("echo second-$((40+2))\n")
	carol.sees("second-42")
	if strings.Count(carol.lines(), "\n") != 29 {
		t.Errorf("the watcher's screen has %d lines, want 30", strings.Count(carol.lines(), "\n")+1)
	}
	testenv.Resize(t, term, 60, 20)
	testenv.WaitFor(t, "the new size", func() bool { return strings.Count(carol.lines(), "\n") == 19 })

	// A full-screen program: whoever comes late sees what is on the screen, and nothing of what was before.
	term.Type("printf '\\033[?1049h\\033[2J\\033[5;10Halt-%s' screen; read x; printf '\\033[?1049l'\n")
	carol.sees("alt-screen")
	dave := s.watch(t, id, "dave")
	dave.sees("alt-screen")
	if strings.Contains(dave.lines(), "second-42") {
		t.Errorf("the late one sees what is not on the screen:\n%s", dave.lines())
	}
	if lines := strings.Split(dave.lines(), "\n"); len(lines) < 5 || !strings.HasPrefix(lines[4], "         alt-screen") {
		t.Errorf("not in its place:\n%s", dave.lines())
	}
	term.Expect("observed by dave.")
	dave.leave()
	carol.leave()
	term.Expect("no longer observed.")

	erin := s.watch(t, id, "er\x1bin")
	term.Expect(`observed by er\u{1b}in.`)
	check(t, s.Sessions.End(context.Background(), id, "carol", "go home"))
	term.Expect("session ended: ended by carol: go home.")
	if why := erin.ended(); why != "the session has ended: ended by carol: go home" {
		t.Errorf("the watcher reads %q", why)
	}
	row := s.session()
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
		if e.Code == "m" {
			marks = append(marks, e.Text)
		}
		if e.Code == "o" && strings.Contains(e.Text, "observed by") {
			t.Errorf("recorded as output of the target: %q", e.Text)
		}
	}
	if got := strings.Join(marks, "; "); !strings.HasPrefix(got, "observed by carol; observed by dave; no longer observed by ") || !strings.Contains(got, "session ended: ended by carol") {
		t.Errorf("marks %q", got)
	}
	if got := s.events(audit.SessionWatched); len(got) != 6 {
		t.Errorf("events %q, want the beginning and the end of three watches", got)
	}
	_, err = s.Sessions.Watch(context.Background(), id, 0, session.Watcher{Name: "late"})
	if !errors.Is(err, session.ErrNotWatchable) {
		t.Errorf("watching what is over: %v", err)
	}
	_, err = s.Sessions.Watch(context.Background(), "none", 0, session.Watcher{Name: "late"})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("watching nothing: %v", err)
	}
}

// Who watches under observed: silent is marked in the recording and said to nobody; what is not recorded is seen from
// the moment on at which one begins to watch, in a command without a terminal too.
func TestWatchSilently(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: strings.Replace(trustHere, "code: none", "code: none, observed: silent, recording: off", 1)})
	term := testenv.StartTerminal(t, s.withKey().Interactive(), 80, 24)
	term.Type("echo before-$((40+2))\n")
	term.Expect("before-42")
	carol := s.watch(t, s.liveID(), "carol")
	carol.sees("this session is not recorded")
	term.Type("echo grüße-$((40+2)); sleep 0.1; exit\n")
	term.Expect("grüße-42")
	carol.sees("grüße-42")
	if why := carol.ended(); why != "channel 1 has ended" && why != "the session has ended: the client closed the connection" {
		t.Errorf("the watcher reads %q", why)
	}
	term.Wait()
	if got := term.Screen(); strings.Contains(got, "observed") {
		t.Errorf("the person was told: %q", got)
	}
	testenv.WaitFor(t, "the end", func() bool { return len(s.Sessions.Live()) == 0 })

	cmd := s.withKey().SSH(t, "echo one; echo two; read x")
	in, err := cmd.StdinPipe()
	check(t, err)
	s.rules(trustHere)
	check(t, cmd.Start())
	dave := s.watch(t, s.liveID(), "dave")
	dave.sees("one\ntwo")
	check(t, in.Close())
	dave.ended()
	_ = cmd.Wait()
}

// Twenty watch a session that prints without end, one of them reads nothing at all: the session is as fast as
// without, and whoever reads again gets the present screen.
func TestWatchersHoldNothingUp(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: strings.Replace(trustHere, "code: none", "code: none, record-limit: 1GiB", 1)})
	_, key := s.person("mia")
	c, err := s.dial("mia@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	run := func(watch func(id string)) time.Duration {
		ch, err := c.NewSession()
		check(t, err)
		defer ch.Close()
		check(t, ch.RequestPty("xterm", 24, 80, nil))
		out, err := ch.StdoutPipe()
		check(t, err)
		in, err := ch.StdinPipe()
		check(t, err)
		check(t, ch.Start("stty -echo; echo go; read x; seq 1 100000; echo last-line; read x"))
		buf := make([]byte, 64<<10)
		_, err = io.ReadAtLeast(out, buf, 2)
		check(t, err)
		watch(s.liveID())
		begun := time.Now()
		_, err = io.WriteString(in, "\n")
		check(t, err)
		for tail := ""; !strings.Contains(tail, "last-line"); {
			n, err := out.Read(buf)
			check(t, err)
			tail = (tail + string(buf[:n]))[max(0, len(tail)+n-200):]
		}
		return time.Since(begun)
	}
	alone := run(func(string) {})
	var all []*lookout
	var stuck *session.View
	watched := run(func(id string) {
		var err error
		stuck, err = s.Sessions.Watch(t.Context(), id, 2, session.Watcher{Name: "stuck"})
		check(t, err)
		first, err := stuck.Next(t.Context())
		if err != nil || first.Code != "r" {
			t.Errorf("first event %+v %v", first, err)
		}
		for i := range 19 {
			e := s.watchChannel(t, id, 2, fmt.Sprint("eyes-", i)) // the first may not be over yet

			if i > 0 { // emulating twenty terminals would be what takes the time
				e.mu.Lock()
				e.screen = nil
				e.mu.Unlock()
			}
			all = append(all, e)
		}
	})
	t.Logf("alone %v, watched by twenty %v", alone, watched)
	if watched > 10*alone+30*time.Second { // held up by the one who reads nothing it would never end
		t.Errorf("with watchers it takes %v, without %v", watched, alone)
	}
	for _, e := range all { // for as long as it takes: how fast they see it is not what is asked here
		<-e.done
		e.sees("last-line")
	}
	// What waits for the one who reads nothing is bounded; then the screen comes anew.
	late := screen.New(80, 24)
	for n, size := 0, 0; ; n++ {
		e, err := stuck.Next(t.Context())
		check(t, err)
		if size += len(e.Text); size > 1<<20 {
			t.Fatalf("%d events, %d bytes were kept for a watcher who read nothing", n, size)
		}
		if e.Code == "o" {
			_, _ = late.Write([]byte(e.Text))
		}
		if strings.Contains(strings.Join(late.Lines(), "\n"), "last-line") {
			break
		}
	}
	stuck.Close()
}

// A session of one node is watched at another, and ended from there; the person reads who watches and why it ends.
func TestWatchFromAnotherNode(t *testing.T) {
	t.Parallel()
	near := newSystem(t, options{postgres: true, rules: trustHere})
	far := newSystem(t, options{join: near})
	term := testenv.StartTerminal(t, near.withKey().Interactive(), 70, 20)
	term.Type("echo first-$((40+2))\n")
	term.Expect("first-42")
	id := near.liveID()
	carol := far.watch(t, id, "carol")
	carol.sees("first-42")
	term.Expect("observed by carol.")
	if n := strings.Count(carol.lines(), "\n") + 1; n != 20 {
		t.Errorf("the screen has %d lines, want 20", n)
	}
	dave := far.watch(t, id, "dave")
	dave.sees("first-42")
	term.Type("seq 1 5000; echo sum-$((40+2))\n")
	carol.sees("sum-42")
	dave.sees("sum-42")
	list, err := near.Store.Watching.Streams(context.Background(), "test")
	check(t, err)
	if len(list) != 1 {
		t.Errorf("%d streams for two who watch at one node", len(list))
	}
	dave.leave()
	check(t, far.Sessions.End(context.Background(), id, "carol", "maintenance"))
	term.Expect("session ended: ended by carol: maintenance.")
	if why := carol.ended(); why != "the session has ended: ended by carol: maintenance" {
		t.Errorf("the watcher reads %q", why)
	}
	// A node that stops takes leave of those who watch there.
	testenv.WaitFor(t, "the first session to be gone", func() bool { return len(near.Sessions.Live()) == 0 })
	term = testenv.StartTerminal(t, near.withKey().Interactive(), 70, 20)
	term.Type("echo third-$((40+2))\n")
	carol = far.watch(t, near.liveID(), "carol")
	carol.sees("third-42")
	far.Sessions.Drain(context.Background(), "this bastion stops")
	if why := carol.ended(); why != "this bastion stops" {
		t.Errorf("the watcher reads %q", why)
	}
	term.Expect("no longer observed.")
	testenv.WaitFor(t, "nothing to be left", func() bool {
		list, err := near.Store.Watching.Watches(context.Background(), id)
		return err == nil && len(list) == 0
	})
}

// A moderated session runs nothing before somebody who may moderate watches, stands still when they leave and goes on
// when one is back; what nobody could watch is refused.
func TestModerated(t *testing.T) {
	t.Parallel()
	rules := strings.Replace(trustHere, "code: none", "code: none, channels: [shell, exec, sftp, local-forward], moderator: {by: [carol, group:auditors], leaving: pause}", 1)
	s := newSystem(t, options{rules: rules})
	term := testenv.StartTerminal(t, s.withKey().Interactive("cat"), 80, 24)
	term.Expect("waiting for a moderator: one of carol, group auditors has to watch this session")
	id := s.liveID()
	s.watch(t, id, "alice", "auditors") // the person themselves
	nosy := s.watch(t, id, "nosy")
	nosy.sees("Nothing runs in this session yet")
	patient, err := s.Sessions.Watch(t.Context(), id, 0, session.Watcher{Name: "patient"})
	check(t, err)
	for _, want := range []string{"r", "o", ""} {
		wait := time.Minute
		if want == "" {
			wait = 50 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		if e, err := patient.Next(ctx); e.Code != want || want == "" && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while nothing runs: %+v %v, want %q", e, err, want)
		}
	}
	patient.Close()
	testenv.WaitFor(t, "both to watch", func() bool {
		list, err := s.Store.Watching.Watches(context.Background(), id)
		return err == nil && len(list) == 2
	})
	if got := s.events(audit.ChannelStarted); len(got) != 0 {
		t.Fatalf("it began without a moderator: %q", got)
	}
	waits := func(want string) {
		t.Helper()
		testenv.WaitFor(t, "the row to say what the session waits for", func() bool {
			x, err := s.Store.Sessions.Get(context.Background(), id)
			return err == nil && x.Waits == want
		})
	}
	waits(store.WaitsModerator)
	carol := s.watch(t, id, "carol")
	term.Expect("a moderator watches; the session begins.")
	term.Type("one\n")
	term.Expect("one\r\none")
	carol.sees("one\none")
	waits("")

	carol.leave()
	term.Expect("the moderator has left. The session stands still until one watches again")
	waits(store.WaitsModerator)
	if open, paused := s.Sessions.Count(); open != 1 || paused != 1 {
		t.Errorf("%d sessions are open, and %d stand still", open, paused)
	}
	term.Type("two\n")
	term.Type("three\n")
	dave := s.watch(t, id, "dave", "auditors")
	dave.sees("one\none")
	if before := term.Expect("a moderator watches; the session goes on."); strings.Count(before, "three") > 0 {
		t.Errorf("something passed while the session stood still: %q", before)
	}
	dave.sees("three")
	nosy.sees("three")
	waits("")
	term.Type("\x04")
	term.Wait()
	testenv.WaitFor(t, "the end", func() bool { return len(s.Sessions.Live()) == 0 })
	if got := s.events(audit.Moderation); len(got) < 3 || !strings.HasSuffix(got[0], "goes on: carol moderates") ||
		!strings.HasSuffix(got[1], "stands still: no moderator watches") || !strings.HasSuffix(got[2], "goes on: dave moderates") {
		t.Errorf("events %q", got)
	}
	if _, errs, status := testenv.Finish(t, s.withKey().SFTP(t, "ls\n")); status == 0 || !strings.Contains(errs, "only what can be watched") {
		t.Errorf("sftp: status %d, %q", status, errs)
	}

	// Where leaving ends it, it ends; and nobody waits for ever.
	s.rules(strings.Replace(rules, "leaving: pause", "within: 1s", 1))
	term = testenv.StartTerminal(t, s.withKey().Interactive(), 80, 24)
	term.Expect("waiting for a moderator")
	term.Expect("session ended: no moderator came within 1s.")
	if status := term.Wait(); status != 255 {
		t.Errorf("status %d", status)
	}
	testenv.WaitFor(t, "the end", func() bool { return len(s.Sessions.Live()) == 0 })
	s.rules(strings.Replace(rules, "leaving: pause", "within: 2m", 1))
	term = testenv.StartTerminal(t, s.withKey().Interactive(), 80, 24)
	term.Expect("waiting for a moderator")
	carol = s.watch(t, s.liveID(), "carol")
	term.Expect("the session begins.")
	term.Expect("observed by carol.") // it has begun
	carol.leave()
	term.Expect("and ends in 10s.")
	carol = s.watch(t, s.liveID(), "carol") // a page that was loaded again
	term.Expect("the session goes on.")
	carol.leave()
	term.Expect("session ended: its moderator has left.")
}

// A moderator who watched one shell was enough for any number of others in the same connection, which nobody saw; and
// one who still looked at what had ended was enough for what began after it.
func TestModeratedOneAtATime(t *testing.T) {
	t.Parallel()
	rules := strings.Replace(trustHere, "code: none", "code: none, moderator: {by: [carol], leaving: pause}", 1)
	s := newSystem(t, options{rules: rules})
	_, key := s.person("mia")
	c, err := s.dial("mia@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	begin := func(command string) (in io.WriteCloser, out io.Reader, end func() error) {
		ch, err := c.NewSession()
		check(t, err)
		t.Cleanup(func() { _ = ch.Close() })
		in, err = ch.StdinPipe()
		check(t, err)
		out, err = ch.StdoutPipe()
		check(t, err)
		check(t, ch.Start(command))
		return in, out, ch.Wait
	}
	one := make([]byte, 4)
	in, out, end := begin("echo one; read x")
	id := s.liveID()
	watch := func() *session.View { // somebody who does not leave when it is over
		event := audit.Event{Type: audit.SessionWatched, Result: audit.OK, Door: audit.DoorWeb, Actor: "carol", Session: id}
		v, err := s.Sessions.Watch(t.Context(), id, 0, session.Watcher{Name: "carol", UserID: "somebody called carol", Login: "carol", Began: event, Ended: event})
		check(t, err)
		t.Cleanup(v.Close)
		return v
	}
	for v := watch(); v.Channel() == 0; {
		_, err := v.Next(t.Context())
		check(t, err)
	}
	_, err = io.ReadFull(out, one)
	check(t, err)
	beside, err := c.NewSession()
	check(t, err)
	if text, err := beside.CombinedOutput("echo unseen"); err == nil || !strings.Contains(string(text), "one shell or command at a time") {
		t.Errorf("beside what is watched: %v, %q", err, text)
	}
	_, err = in.Write([]byte("\n"))
	check(t, err)
	check(t, end())

	_, out, end = begin("echo two")
	testenv.WaitFor(t, "the session to stand still", func() bool {
		got := s.events(audit.Moderation)
		return len(got) > 0 && strings.HasSuffix(got[len(got)-1], "stands still: no moderator watches")
	})
	if list, err := s.Store.Watching.Watches(context.Background(), id); err != nil || len(list) != 1 || list[0].Channel != 1 {
		t.Errorf("who looks at what has ended is not there any more: %+v %v", list, err)
	}
	if got := s.events(audit.ChannelStarted); len(got) != 1 {
		t.Errorf("it began before the eyes of somebody who looks elsewhere: %q", got)
	}
	// Whoever comes now sees what waits for them, though the recording of the other may still be sealed.
	s.watch(t, id, "carol").sees("two")
	two, err := io.ReadAll(out)
	check(t, err)
	if check(t, end()); string(two) != "two\n" {
		t.Errorf("got %q", two)
	}
}

// A command that was over before anybody looked ran unseen under the eyes of a moderator, and so did those after it.
func TestModeratedShortCommands(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: strings.Replace(trustHere, "code: none", "code: none, moderator: {by: [carol], leaving: pause}", 1)})
	_, key := s.person("mia")
	c, err := s.dial("mia@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	refused, err := c.NewSession()
	check(t, err)
	id := s.liveID()
	carol := s.watch(t, id, "carol")
	text, err := refused.StdoutPipe()
	check(t, err)
	check(t, refused.RequestSubsystem("sftp")) // the answer is yes, and then why not
	if out, err := io.ReadAll(text); err != nil || len(out) > 0 {
		t.Errorf("sftp in a moderated session: %q %v", out, err)
	}
	_ = refused.Close()
	ran := make(chan string, 3)
	go func() {
		for n := range 3 {
			ch, err := c.NewSession()
			if err != nil {
				return
			}
			text, _ := ch.Output(fmt.Sprint("echo short-", n))
			ran <- string(text)
		}
	}()
	for n := range 3 { // the refused one has not used up carol's watch
		if got, want := <-ran, fmt.Sprintf("short-%d\n", n); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		carol.sees(fmt.Sprint("short-", n))
		if why, want := carol.ended(), fmt.Sprintf("channel %d has ended", n+2); why != want {
			t.Errorf("it ended with %q, want %q", why, want)
		}
		testenv.WaitFor(t, "the next to wait", func() bool { return n == 2 || len(s.events(audit.Moderation)) == 2*n+2 })
		if got := s.events(audit.ChannelStarted); len(got) != n+1 {
			t.Errorf("%d have begun, of %d that were watched", len(got), n+1)
		}
		carol.leave()
		if n < 2 {
			carol = s.watch(t, id, "carol")
		}
	}

	// The session is over with its only command.
	cmd := s.withKey().SSH(t, "echo short-3")
	check(t, c.Close())
	testenv.WaitFor(t, "the end", func() bool { return len(s.Sessions.Live()) == 0 })
	check(t, cmd.Start())
	carol = s.watch(t, s.liveID(), "carol")
	carol.sees("short-3")
	if why := carol.ended(); !strings.HasPrefix(why, "the session has ended: ") {
		t.Errorf("it ended with %q", why)
	}
	check(t, cmd.Wait())
}

// So it was with a moderator at another node, who sees it even when the session is over with it.
func TestModeratedShortCommandElsewhere(t *testing.T) {
	t.Parallel()
	near := newSystem(t, options{postgres: true, rules: strings.Replace(trustHere, "code: none", "code: none, moderator: {by: [carol], leaving: pause}", 1)})
	far := newSystem(t, options{join: near})
	cmd := near.withKey().SSH(t, "echo short")
	check(t, cmd.Start())
	carol := far.watch(t, near.liveID(), "carol")
	carol.sees("short")
	if why := carol.ended(); !strings.HasPrefix(why, "the session has ended: ") && why != "channel 1 has ended" {
		t.Errorf("it ended with %q", why)
	}
	check(t, cmd.Wait())
}

// A connection that was open when the rules began to ask for a moderator went on to open shells that nobody watched.
func TestModeratedByNow(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: trustHere})
	_, key := s.person("mia")
	c, err := s.dial("mia@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	run := func() (string, error) {
		ch, err := c.NewSession()
		check(t, err)
		defer ch.Close()
		text, err := ch.CombinedOutput("echo ran")
		return string(text), err
	}
	if text, err := run(); err != nil || text != "ran\n" {
		t.Fatalf("before: %q %v", text, err)
	}
	s.rules(strings.Replace(trustHere, "code: none", "code: none, moderator: {by: [carol]}", 1))
	if text, err := run(); err == nil || !strings.Contains(text, "the rules ask for a moderator of this by now; connect again") {
		t.Errorf("%q %v", text, err)
	}
}

// A moderated session that is chosen from the menu waits there, and begins or is given up like any other.
func TestModeratedFromMenu(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: strings.Replace(trustHere, "code: none", "code: none, moderator: {by: [carol], within: 10s}", 1)})
	c := s.withKey()
	c.Login = "alice"
	term := testenv.StartTerminal(t, c.Interactive(), 80, 24)
	term.Expect("Code: ")
	term.Type(s.code("alice") + "\n")
	term.Expect("Ctrl-C leaves")
	term.Type("web1\r")
	term.Expect("waiting for a moderator: one of carol")
	carol := s.watch(t, s.liveID(), "carol")
	term.Expect("the session begins.")
	testenv.Resize(t, term, 90, 30)
	term.Type("trap 'stty size' WINCH; sleep 0.2; echo one-$((40+2)); stty size\n")
	carol.sees("one-42")
	term.Expect("30 90")
	term.Type("exit\n")
	term.Expect("web1: the session is over, exit status 0.")
	carol.ended()
	term.Type("\r")
	term.Expect("waiting for a moderator")
	term.Expect("no moderator came within 10s")
	term.Expect("Ctrl-C leaves") // back in the menu
	term.Type("\x03")
	term.Wait()
}

// A watcher whose node died without a word is forgotten: what they moderated stands still. And whoever cannot say any
// more that they watch, sees no more. A terminal as large as a client likes costs no more than a large one.
func TestWatcherIsForgotten(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: strings.Replace(trustHere, "code: none", "code: none, moderator: {by: [carol], leaving: pause}", 1)})
	term := testenv.StartTerminal(t, s.withKey().Interactive(), 5000, 5000)
	term.Expect("waiting for a moderator")
	id := s.liveID()
	carol := s.watch(t, id, "carol")
	term.Expect("the session begins.")
	term.Type("echo one-$((40+2))\n")
	carol.sees("one-42")
	carol.mu.Lock()
	if cols, rows := carol.screen.Size(); cols != 500 || rows != 200 {
		t.Errorf("the screen is %dx%d", cols, rows)
	}
	carol.mu.Unlock()
	db, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(s.dsn, "sqlite:")+"?_pragma=busy_timeout(60000)")
	check(t, err)
	defer db.Close()
	_, err = db.Exec("UPDATE live_watches SET expires = 1")
	check(t, err)
	if why := carol.ended(); why != "the database cannot be told any more who watches" {
		t.Errorf("the watcher reads %q", why)
	}
	term.Expect("The session stands still until one watches again (carol), and ends in 15m.")
	check(t, s.Sessions.End(context.Background(), id, "ada", ""))
	term.Expect("session ended: ended by ada.")
}
