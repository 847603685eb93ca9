package bastion

import (
	"strings"
	"testing"
)

func TestParseLogin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		want Login
		ok   bool
	}{
		{"alice", Login{User: "alice"}, true},
		{"alice@web1", Login{User: "alice", Target: "web1"}, true},
		{"alice@root@web1", Login{User: "alice", Account: "root", Target: "web1"}, true},
		{"alice%web1", Login{User: "alice", Target: "web1"}, true},
		{"alice+root+web1", Login{User: "alice", Account: "root", Target: "web1"}, true},
		{"alice@example.org", Login{User: "alice"}, true},
		{"alice@EXAMPLE.org@web1", Login{User: "alice", Target: "web1"}, true},
		{"alice@example.org@root@web1", Login{User: "alice", Account: "root", Target: "web1"}, true},
		{"alice%example.org%web1", Login{User: "alice", Target: "web1"}, true},
		{"alice@other.org@web1", Login{User: "alice", Account: "other.org", Target: "web1"}, true},
		{"alice%root@web1", Login{User: "alice%root", Target: "web1"}, true}, // one separator only: nobody is called that
		{"", Login{}, false},
		{"@", Login{User: "@"}, false},
		{"alice@", Login{User: "alice@"}, false},
		{"@web1", Login{User: "@web1"}, false},
		{"alice@@web1", Login{User: "alice@@web1"}, false},
		{"a@b@c@d", Login{User: "a@b@c@d"}, false},
	} {
		got, ok := ParseLogin(c.name, []string{"example.org"})
		if got != c.want || ok != c.ok {
			t.Errorf("ParseLogin(%q) = %+v, %v; want %+v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

func FuzzParseLogin(f *testing.F) {
	for _, s := range []string{"alice@root@web1", "a%b", "a+b+c+d", "@@", "\x00", "[::1]@x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		l, ok := ParseLogin(name, nil)
		if !ok {
			if l != (Login{User: name}) {
				t.Errorf("refused %q still gave %+v", name, l)
			}
			return
		}
		// What was understood reads the same again in its canonical form, unless a part holds
		// another separator, which no user, account or target may.
		if strings.ContainsAny(l.User+l.Account+l.Target, "@%+") {
			return
		}
		if again, ok := ParseLogin(l.String(), nil); !ok || again != l {
			t.Errorf("%q: %+v is written %q and read as %+v", name, l, l.String(), again)
		}
	})
}
