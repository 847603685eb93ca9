package bastion_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// story is what the audit log tells of one user, oldest first: type and result.
func (s *system) story(login string) (story []string) {
	s.t.Helper()
	list, err := s.Store.Audit.List(context.Background(), store.AuditFilter{User: login, Limit: 1000})
	check(s.t, err)
	for _, e := range slices.Backward(list) {
		story = append(story, fmt.Sprint(e.Type, " ", e.Result))
	}
	return story
}

// Decisions and ends share transactions with what follows from them. What people read in the audit log is the same as if each
// had one of its own: in the order in which it happened, each once, and a decision also when nothing came of it.
func TestStoryOfLogin(t *testing.T) {
	t.Parallel()
	for _, postgres := range []bool{false, true} {
		t.Run(fmt.Sprint("postgres=", postgres), func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{postgres: postgres, rules: limited("limits: {user-sessions: 1}")})
			run := func(login string) string {
				_, key := s.person(login)
				c, err := s.dial(login+"@web1", ssh.PublicKeys(key))
				check(t, err)
				defer c.Close()
				return attempt(c)
			}
			if text := run("ann"); text != "" {
				t.Fatal(text)
			}
			want := []string{"login.accepted ok", "access.decided ok", "session.started ok", "access.decided ok", "channel.started ok", "channel.ended ok", "session.ended ok"}
			var got []string
			testenv.WaitFor(t, "the end of the session", func() bool {
				got = s.story("ann")
				return slices.Contains(got, "session.ended ok")
			})
			if !slices.Equal(got, want) {
				t.Errorf("story %q, want %q", got, want)
			}

			// A place that is taken.
			_, key := s.person("ben")
			first, err := s.dial("ben@web1", ssh.PublicKeys(key))
			check(t, err)
			defer first.Close()
			if text := attempt(first); text != "" {
				t.Fatal(text)
			}
			second, err := s.dial("ben@web1", ssh.PublicKeys(key))
			check(t, err)
			defer second.Close()
			if text := attempt(second); !strings.Contains(text, "user-sessions") {
				t.Errorf("a second session: %q", text)
			}
			if got := s.story("ben"); !slices.Equal(got[len(got)-3:], []string{"login.accepted ok", "access.decided ok", "session.started refused"}) {
				t.Errorf("story of a session without a place %q", got)
			}

			// A target that is down.
			_, key = s.person("cid")
			c, err := s.dial("cid@down", ssh.PublicKeys(key))
			check(t, err)
			defer c.Close()
			if text := attempt(c); !strings.Contains(text, "cannot reach down") {
				t.Errorf("a target that is down: %q", text)
			}
			if got, want := s.story("cid"), []string{"login.accepted ok", "access.decided ok", "session.started error"}; !slices.Equal(got, want) {
				t.Errorf("story of a target that is down %q, want %q", got, want)
			}
		})
	}
}

// Many channels that end at the same time in a connection that stays are noted soon, each once, and the session goes on; its
// own end comes last.
func TestManyEnds(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: limited("limits: {channels: 40}")})
	_, key := s.person("ann")
	c, err := s.dial("ann@web1", ssh.PublicKeys(key))
	check(t, err)
	defer c.Close()
	const many = 30
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			sess, err := c.NewSession()
			if err != nil {
				t.Error(err)
				return
			}
			if err := sess.Run(fmt.Sprint("exit ", i)); err == nil != (i == 0) {
				t.Errorf("exit %d: %v", i, err)
			}
		})
	}
	all.Wait()
	var row store.Session
	testenv.WaitFor(t, "the ends of all channels", func() bool {
		row = s.newest()
		return len(row.Channels) == many && !slices.ContainsFunc(row.Channels, func(c store.Channel) bool { return c.Ended.IsZero() })
	})
	if row.State != store.Live {
		t.Errorf("the session is %s", row.State)
	}
	var statuses []int
	for _, ch := range row.Channels {
		statuses = append(statuses, *ch.ExitStatus)
	}
	if slices.Sort(statuses); statuses[0] != 0 || statuses[many-1] != many-1 || len(slices.Compact(statuses)) != many {
		t.Errorf("statuses %v", statuses)
	}
	c.Close()
	var got []string
	testenv.WaitFor(t, "the end of the session", func() bool {
		got = s.story("ann")
		return got[len(got)-1] == audit.SessionEnded+" ok"
	})
	count := map[string]int{}
	for _, line := range got {
		count[line]++
	}
	if count["channel.started ok"] != many || count["channel.ended ok"] != many || count["access.decided ok"] != many+1 || count["session.ended ok"] != 1 {
		t.Errorf("events %v", count)
	}
}
