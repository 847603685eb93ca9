package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/store"
)

// asksServer is a target that asks rounds of questions and takes what right says.
func asksServer(t *testing.T, rounds [][]string, echo bool, right func(answers []string) bool) (addr, hostKey string) {
	t.Helper()
	return passwordServer(t, func(c *ssh.ServerConfig) {
		c.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			var all []string
			for _, questions := range rounds {
				echos := make([]bool, len(questions))
				for i := range echos {
					echos[i] = echo
				}
				answers, err := ask("", "", questions, echos)
				if err != nil {
					return nil, err
				}
				all = append(all, answers...)
			}
			if !right(all) {
				return nil, errors.New("wrong")
			}
			return nil, nil
		}
	})
}

func (w *world) relayed(addr, hostKey string) store.Target {
	return w.target(store.Target{Name: "web1", Address: addr, HostKeys: []string{hostKey}, Credential: store.CredentialRelayed}, nil)
}

// The person's answers reach the target, whose prompts are safe to show.
func TestRelayedAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hostile := "Pass\x1b[2J\nword\u202e: "
	addr, key := asksServer(t, [][]string{{hostile, "Token: "}, {strings.Repeat("x", 5000)}}, true,
		func(a []string) bool { return strings.Join(a, ",") == "a1,a2,a3" })
	x := w.relayed(addr, key)
	n, shown := 0, []Prompt(nil)
	ask := func(_ context.Context, _ string, prompts []Prompt) (answers []Answer, _ error) {
		for _, p := range prompts {
			n++
			shown = append(shown, p)
			answers = append(answers, Answer(fmt.Sprint("a", n)))
		}
		return answers, nil
	}
	u, err := w.d.Dial(t.Context(), x, "root", Who{User: "alice", Ask: ask})
	noError(t, err)
	noError(t, u.Close())
	if len(shown) != 3 || shown[0] != (Prompt{`web1: Pass\u{1b}[2J\nword\u{202e}: `, true}) || len(shown[2].Text) > 250 {
		t.Errorf("shown: %+v", shown)
	}
	for _, p := range shown {
		if strings.ContainsFunc(p.Text, func(r rune) bool { return r < ' ' || r > '~' }) || !strings.HasPrefix(p.Text, "web1: ") {
			t.Errorf("%q is not safe to show", p.Text)
		}
	}
}

func TestRelayRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr, key := asksServer(t, [][]string{{"Password: "}}, false, func([]string) bool { return false })
	x := w.relayed(addr, key)
	asked := 0
	answer := func(_ context.Context, _ string, p []Prompt) ([]Answer, error) {
		asked += len(p)
		return []Answer{"wrong"}, nil
	}
	refused := func(x store.Target, ask Ask, want string) {
		t.Helper()
		_, err := w.d.Dial(t.Context(), x, "root", Who{User: "alice", Ask: ask})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	refused(x, answer, "refuses the answers to its prompts for account root")
	if asked == 0 || asked > maxRounds {
		t.Errorf("the person was asked %d times", asked)
	}
	refused(x, nil, "there is no way to show them here")
	refused(x, func(context.Context, string, []Prompt) ([]Answer, error) { return nil, errors.New("gone") }, "its prompts were not answered")

	asked = 0
	unknown := x
	unknown.HostKeys, unknown.HostKeyMode = nil, store.TOFU
	refused(unknown, answer, "before its host key is known")
	other := x
	other.HostKeys = []string{keyLine(newSigner(t).PublicKey())}
	refused(other, answer, "HOST KEY OF web1")
	if asked != 0 {
		t.Error("the person was asked by a host that did not prove itself")
	}

	var many [][]string
	for range 50 {
		many = append(many, []string{"Again: "})
	}
	addr, key = asksServer(t, many, false, func([]string) bool { return true })
	x.Address, x.HostKeys = addr, []string{key}
	refused(x, answer, "it asks more than 6 times")
	if asked != maxRounds {
		t.Errorf("the person was asked %d times", asked)
	}
	asked = 0
	addr, key = asksServer(t, [][]string{make([]string, 9)}, false, func([]string) bool { return true })
	x.Address, x.HostKeys = addr, []string{key}
	refused(x, answer, "it asks 9 questions at once")
	if asked != 0 {
		t.Error("the person was asked")
	}
}

// Targets that know only the method password get what the person types at the bastion's prompt for it.
func TestRelayedPasswordMethod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr, key := passwordServer(t, func(c *ssh.ServerConfig) {
		c.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			if string(p) != "right" {
				return nil, errors.New("wrong")
			}
			return nil, nil
		}
	})
	u, err := w.d.Dial(t.Context(), w.relayed(addr, key), "root", Who{Ask: func(_ context.Context, _ string, p []Prompt) ([]Answer, error) {
		if len(p) != 1 || p[0] != (Prompt{"web1: Password: ", false}) {
			t.Errorf("asked %+v", p)
		}
		return []Answer{"right"}, nil
	}})
	noError(t, err)
	noError(t, u.Close())
}

func TestAnswerPrintsNothing(t *testing.T) {
	t.Parallel()
	a := Answer("hunter2")
	text, err := json.Marshal(map[string]any{"a": a, "b": []Answer{a}})
	noError(t, err)
	for _, got := range []string{fmt.Sprint(a), fmt.Sprintf("%q %x %v %#v %+v", a, a, []Answer{a}, a, struct{ A Answer }{a}), string(text)} {
		if strings.Contains(got, "hunter2") || strings.Contains(got, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("it prints %s", got)
		}
	}
}
