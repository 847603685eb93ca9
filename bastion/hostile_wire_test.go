package bastion_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/bastion"
	"sallyport/internal/testenv"
)

// breaker runs a scenario of testdata/hostile.py: a client that breaks the protocol where Go's and OpenSSH's keep to it.
func (s *system) breaker(scenario string, given map[string]any, result any) {
	s.t.Helper()
	_, port, _ := strings.Cut(s.Addr, ":")
	text, err := json.Marshal(given)
	check(s.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-W", "ignore", "testdata/hostile.py", port, scenario, string(text))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", scenario, err, errs.String())
	}
	check(s.t, json.Unmarshal(out, result))
}

// No answer at all, a thousand for one prompt and a megabyte: each ends in a refusal or in the end of the connection, three
// conversations at most, and nothing is evaluated that was not asked for. A door that indexes the answers without counting
// them dies at the first of these.
func TestWrongNumberOfAnswers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, guard: bastion.Guard{Exempt: loopback()}})
	s.token("alice")
	for name, given := range map[string]map[string]any{
		"none":     {"count": 0, "size": 0},
		"two":      {"count": 2, "size": 6},
		"thousand": {"count": 1000, "size": 6},
		"megabyte": {"count": 1, "size": 1 << 20},
		"many":     {"count": 60_000, "size": 0},
	} {
		given["user"] = "alice@down"
		var got struct {
			Rounds int
			End    string
		}
		s.breaker("answers", given, &got)
		if got.End != "cut" || got.Rounds > 3 {
			t.Errorf("%s: %d rounds, then %s", name, got.Rounds, got.End)
		}
	}
	if got := s.events("login.accepted"); len(got) != 0 {
		t.Errorf("accepted: %q", got)
	}
	c, err := s.dial("alice@down", answers(alicePassword, s.code("alice"), nil))
	if err != nil {
		t.Fatalf("an honest login afterwards: %v", err)
	}
	c.Close()
}

// The user name changes between two steps: alice's password, then carol's code, as it would be if the door kept what the
// first step brought for whoever comes next. RFC 4252, section 5, lets a server end the connection, which is what happens.
func TestUserNameChangesAfterPartialSuccess(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true, guard: bastion.Guard{Exempt: loopback()}})
	s.addUser("carol", alicePassword) // even the same password
	for _, names := range [][2]string{{"alice@down", "carol@down"}, {"carol@down", "alice@down"}, {"alice@down", "alice@web1"}} {
		first, _, _ := strings.Cut(names[0], "@")
		second, _, _ := strings.Cut(names[1], "@")
		for _, whose := range []string{first, second} {
			var got struct{ In bool }
			s.breaker("rename", map[string]any{"first": names[0], "second": names[1], "password": alicePassword, "code": s.code(whose)}, &got)
			if got.In {
				t.Errorf("%v with a code of %s got in", names, whose)
			}
		}
	}
	var got struct {
		In    bool
		Error string
	}
	s.breaker("rename", map[string]any{"first": "carol@down", "second": "carol@down", "password": alicePassword, "code": s.code("carol")}, &got)
	if !got.In {
		t.Errorf("the same without a change of name does not get in (%s), so that nothing was shown", got.Error)
	}
}

// Method password always answers partial success. A client that asks for it again and again would keep its place, and in a
// door that counts failures only could go on for ever.
func TestPartialSuccessLoop(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	var got struct {
		N       int
		In, Cut bool
	}
	s.breaker("passwords", map[string]any{"user": "alice@down"}, &got)
	if got.In || !got.Cut || got.N > 30 {
		t.Errorf("%+v, want an end after at most 20 failures", got)
	}
	if refused := s.events("login.refused"); len(refused) != 0 {
		t.Errorf("passwords without codes were evaluated: %q", refused)
	}
}

// Asking whether a key would do costs a search and is no failure, so that the twenty failures do not bound it. Two other bounds
// do: the library's own of attempts, and the bytes before authentication.
func TestKeyQuerySpam(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{noSSHD: true})
	key, err := os.ReadFile(s.userKey("alice") + ".pub")
	check(t, err)
	var got struct {
		N  int
		In bool
	}
	s.breaker("keyquery", map[string]any{"user": "alice@down", "key": string(key)}, &got)
	// More may have been written into the socket than was read.
	if got.In || got.N > 5000 {
		t.Errorf("%d queries, in: %v", got.N, got.In)
	}
	testenv.WaitFor(t, "a place for everybody", func() bool {
		c, err := s.dial("alice@down", answers(alicePassword, s.code("alice"), nil))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// Global requests that were sent in one go are answered in their order (RFC 4254, section 4), those that nobody knows among
// those that a target has to answer first.
func TestGlobalRequestsInOrder(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{rules: forwardRules})
	s.permit("restrict,port-forwarding")
	var requests, want []string
	var ports []int
	for i := range 8 {
		_, port, _ := net.SplitHostPort(testenv.FreeAddr(t))
		n, _ := strconv.Atoi(port)
		ports = append(ports, n)
		requests = append(requests, "tcpip-forward", "no-such-"+strconv.Itoa(i)+"@example.org", "keepalive@openssh.com")
		want = append(want, "yes", "no", "no")
	}
	var got struct{ Got []string }
	s.breaker("order", map[string]any{"user": "alice@web1", "password": alicePassword, "code": s.code("alice"), "requests": requests, "ports": ports}, &got)
	if !slices.Equal(got.Got, want) {
		t.Errorf("answers: %q\nwant     %q", got.Got, want)
	}
}

// A client sends its input before it sends the command, and both before the target has said anything: rsync and Ansible do,
// and elsewhere the first bytes were lost. Every byte arrives, in order, and so does the end.
func TestEarlyInput(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	for _, size := range []int{1024, 1 << 20, 8 << 20} {
		var got struct {
			Out, Want string
			Status    int
		}
		s.breaker("burst", map[string]any{"user": "alice@web1", "password": alicePassword, "code": s.code("alice"), "size": size, "command": "sha256sum; exit 9"}, &got)
		if sum, _, _ := strings.Cut(got.Out, " "); sum != got.Want || got.Status != 9 {
			t.Errorf("%d bytes: %+v", size, got)
		}
	}
}
