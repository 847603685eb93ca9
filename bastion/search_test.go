package bastion_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/search"
	"sallyport/store"
)

// console is a terminal on a shell behind the bastion, as a person has it.
type console struct {
	s    *system
	in   io.WriteCloser
	out  io.Reader
	seen string // since it was asked last
}

func (s *system) console(c *ssh.Client) (*console, *ssh.Session) {
	s.t.Helper()
	sess, err := c.NewSession()
	check(s.t, err)
	check(s.t, sess.RequestPty("xterm", 24, 80, nil))
	t := &console{s: s}
	t.in, err = sess.StdinPipe()
	check(s.t, err)
	t.out, err = sess.StdoutPipe()
	check(s.t, err)
	check(s.t, sess.Shell())
	return t, sess
}

// types sends keys and waits until want was shown.
func (t *console) types(keys, want string) {
	t.s.t.Helper()
	_, err := io.WriteString(t.in, keys)
	check(t.s.t, err)
	buf := make([]byte, 4096)
	for !strings.Contains(t.seen, want) {
		n, err := t.out.Read(buf)
		t.seen += string(buf[:n])
		if err != nil {
			t.s.t.Fatalf("waiting for %q: %v after %q", want, err, t.seen)
		}
	}
	_, t.seen, _ = strings.Cut(t.seen, want)
}

func (s *system) index() {
	s.t.Helper()
	check(s.t, search.NewIndexer(search.Config{Store: s.Store, Recorder: s.Recorder, Node: "test"}).Once(context.Background()))
}

func (s *system) find(text string) []store.SearchHit {
	s.t.Helper()
	page, err := s.Store.Search.Find(context.Background(), store.SearchFilter{Text: text})
	check(s.t, err)
	return page.Hits
}

// What a real shell, less and vi show through the bastion is found, at the second at which it was there; what was
// typed unseen is not. Both databases.
func TestSearchFindsWhatWasOnTheScreen(t *testing.T) {
	t.Parallel()
	for name, postgres := range map[string]bool{"sqlite": false, "postgres": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{postgres: postgres})
			c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
			check(t, err)
			defer c.Close()
			opened := time.Now()
			term, sess := s.console(c)
			// Nothing that is waited for stands in what is typed.
			term.types("PS1='we''b$ ' exec bash --norc --noprofile -i\n", "web$ ")
			term.types("printf 'dele\\033[31mted /s\\033[1mrv\\033[0m; %s -%s done\\n' rm rf\n", "done")
			term.types("", "web$ ")
			term.types("read -rsp Pass''word: secret\n", "Password:")
			term.types("hunter2\n", "web$ ")
			middle := time.Now()
			term.types("printf 'page %d of the ''manual\\n' 1 2 3 > $HOME/manual; less $HOME/manual\n", "page 3 of the manual")
			term.types("q", "web$ ")
			term.types("vi $HOME/manual\n", "page 3 of the manual")
			term.types("Gothe last ''sentence", "the last ''sentence")
			term.types("\x1b:q!\n", "web$ ")
			term.types("for i in $(seq 50); do echo filler $i; done; clear; exit\n", "exit")
			_ = sess.Wait()
			c.Close()
			x := s.session()
			s.index()

			hits := s.find("deleted /srv; rm -rf done")
			if len(hits) != 1 || hits[0].Session != x.ID || hits[0].User != "alice" || hits[0].Target != "web1" {
				t.Fatalf("hits %+v", hits)
			}
			if at := hits[0].Time; at.Before(opened.Add(-time.Second)) || at.After(middle.Add(time.Second)) {
				t.Errorf("seen at %s, not between %s and %s", at, opened, middle)
			}
			pages := s.find("page 3 of the manual")
			if len(pages) == 0 {
				t.Fatal("nothing of less and vi is found")
			}
			for _, h := range pages {
				if h.Time.Before(middle) {
					t.Errorf("seen at %s, before %s", h.Time, middle)
				}
			}
			for text, want := range map[string]bool{"the last ''sentence": true, "filler 7": true, "filler 50": true, "hunter2": false, "[31mted /srv": false} {
				if got := len(s.find(text)) > 0; got != want {
					t.Errorf("%q is found: %v", text, got)
				}
			}
			commands, err := s.Store.Search.Commands(context.Background(), x.ID)
			check(t, err)
			var texts []string
			for _, c := range commands {
				texts = append(texts, c.Text)
			}
			for _, want := range []string{"vi $HOME/manual", "read -rsp Pass''word: secret"} {
				if !slices.Contains(texts, want) {
					t.Errorf("the command %q is not among %q", want, texts)
				}
			}
		})
	}
}

// A rule can keep its sessions out of the search; commands without a terminal are found.
func TestSearchOffByRule(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: `version: 1
rules:
  - name: quiet
    users: [bob]
    targets: [web1]
    search: off
  - name: others
    users: ["*"]
    targets: [web1]
`})
	s.addUser("bob", alicePassword)
	ids := map[string]string{}
	for _, login := range []string{"alice", "bob"} {
		c, err := s.dial(login+"@web1", answers(alicePassword, s.code(login), nil))
		check(t, err)
		sess, err := c.NewSession()
		check(t, err)
		_, err = sess.Output("echo needle of " + login)
		check(t, err)
		c.Close()
		ids[login] = s.session().ID
	}
	s.index()
	if hits := s.find("needle"); len(hits) != 1 || hits[0].Session != ids["alice"] {
		t.Errorf("hits %+v", hits)
	}
	states, err := s.Store.Search.States(context.Background(), ids["bob"])
	check(t, err)
	if len(states) != 1 || states[0].State != store.SearchOff || states[0].Note == "" {
		t.Errorf("states %+v", states)
	}
	x, err := s.Store.Sessions.Get(context.Background(), ids["bob"])
	check(t, err)
	if len(x.Channels) != 1 || !strings.Contains(s.recorded(x.Channels[0].Recording), "needle of bob") {
		t.Errorf("it is not recorded: %+v", x.Channels)
	}
}
