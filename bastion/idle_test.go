package bastion_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"sallyport/internal/shift"
	"sallyport/internal/testenv"
)

// A session that does nothing holds two goroutines with the edited library, those that read its connections, and all that
// is asked of it goes on as before.
func TestIdleSession(t *testing.T) { // alone: it counts the goroutines of the process
	s := newSystem(t, options{})
	before := ours()
	var cats []*shell
	for range 3 {
		c, err := s.dial("alice@web1", answers(alicePassword, s.code("alice"), nil))
		check(t, err)
		defer c.Close()
		cats = append(cats, s.cat(c))
		most := 12 * len(cats)
		if shift.Requests(c.Conn) != nil {
			most = 2 * len(cats)
		}
		for round := range 3 {
			testenv.WaitFor(t, "the goroutines to rest", func() bool { return ours()-before <= most })
			for i, x := range cats {
				check(t, x.echo(fmt.Sprint("line ", round, " ", i)))
			}
			if _, _, err := c.SendRequest("no-such@example.org", true, nil); err != nil {
				t.Error(err)
			}
			if out, err := output(c, "echo beside"); err != nil || out != "beside\n" {
				t.Errorf("a command beside: %q %v", out, err)
			}
		}
	}
	for _, x := range cats {
		check(t, x.in.Close())
		check(t, x.sess.Wait())
	}
}

// ours counts the goroutines that run code of the door and of what it calls.
func ours() (n int) {
	buf := make([]byte, 4<<20)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, pkg := range []string{"bastion", "session", "upstream", "internal/shift", "internal/readahead"} {
			if strings.Contains(stack, "\nsallyport/"+pkg+".") {
				n++
				break
			}
		}
	}
	return n
}
