package auth_test

import (
	"errors"
	"testing"

	"sallyport/auth"
	"sallyport/internal/testenv"
	"sallyport/store"
)

// A name that anybody has is no robot's, and while that cannot be told neither.
func TestVacant(t *testing.T) {
	t.Parallel()
	d := testenv.Slapd(t)
	w := newWorld(t, "", withDirectory(d))
	w.local("dave", "pw")
	d.AddUser("outside", "pw") // not in the login group
	_, err := w.Store.Robots.Add(t.Context(), store.Robot{
		Name: "deploy-bot", PublicKey: "k", Fingerprint: "SHA256:k", Enabled: true,
		Sources: []string{"192.0.2.1"}, Targets: []string{"web1"}, Accounts: []string{"root"}, Commands: []string{"id"},
	})
	check(t, err)
	for name, vacant := range map[string]bool{"dave": false, "alice": false, "outside": false, "deploy-bot": false, "backup-bot": true, "no name": true} {
		if got, err := w.Engine.Vacant(t.Context(), name); err != nil || got != vacant {
			t.Errorf("%s: vacant %v, %v", name, got, err)
		}
	}
	d.Stop()
	if got, err := w.Engine.Vacant(t.Context(), "backup-bot"); got || !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("without the directory: vacant %v, %v", got, err)
	}
}

// To whoever types answers a robot is as unknown as a name that nobody has: the same prompts, the same words, the
// same counting, also of a code that comes twice.
func TestRobotIsUnknownToStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	_, err := w.Store.Robots.Add(t.Context(), store.Robot{
		Name: "deploy-bot", PublicKey: "k", Fingerprint: "SHA256:k", Enabled: true,
		Sources: []string{"192.0.2.1"}, Targets: []string{"web1"}, Accounts: []string{"root"}, Commands: []string{"id"},
	})
	check(t, err)
	seen := map[string]string{}
	for _, login := range []string{"deploy-bot", "nobody-bot"} {
		for _, code := range []string{"111111", "111111", "111111", "", "222222", "x"} {
			s := &script{answers: map[string]string{auth.PromptPassword: "p", auth.PromptCode: code}}
			_, err := w.Engine.Begin(auth.Attempt{Door: "ssh", Login: login, Source: source, Target: "web1"}).Run(t.Context(), s)
			var r *auth.Refused
			if !errors.As(err, &r) {
				t.Fatalf("%s: %v", login, err)
			}
			seen[login] += r.Public
			for _, a := range s.asked {
				seen[login] += a
			}
		}
		locks, err := w.Store.Attempts.Locks(t.Context())
		check(t, err)
		seen[login] += string(rune('0' + len(locks)))
		for _, l := range locks {
			check(t, w.Store.Attempts.Clear(t.Context(), l.ID))
		}
	}
	if seen["deploy-bot"] != seen["nobody-bot"] {
		t.Errorf("a robot is told apart:\n%s\n%s", seen["deploy-bot"], seen["nobody-bot"])
	}
}
