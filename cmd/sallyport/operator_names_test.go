package main

import (
	"strings"
	"testing"
)

// A name that cannot be is refused with what was given, escaped, and with what is allowed.
func TestOperatorNames(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.ok("user", "add", "alice", "--generate")
	key := o.file("id.pub", testHostKey+"\n")
	long := strings.Repeat("n", 300)
	bad := map[string]string{ // as it is repeated
		long: `"` + strings.Repeat("n", 100) + `…"`, "a b": `"a b"`, "": `""`, "a\x1b[2J\nb": `"a\u{1b}[2J\nb"`, "a@b": `"a@b"`, "..": `".."`, "é\u202e": `"é\u{202e}"`,
	}
	added := [][]string{ // NAME is what is refused
		{"target", "add", "NAME", "--address", "192.0.2.5", "--host-key", testHostKey},
		{"target", "add", "x", "--address", "192.0.2.5", "--host-key", testHostKey, "--account", "NAME"},
		{"target", "add", "x", "--address", "192.0.2.5", "--host-key", testHostKey, "--label", "NAME"},
		{"user", "add", "NAME", "--generate"},
		{"user", "show", "NAME"},
		{"robot", "add", "NAME", "--key-file", key, "--from", "192.0.2.7", "--target", "web1", "--account", "root", "--command", "true"},
		{"radius", "client", "add", "NAME", "--network", "192.0.2.9"},
		{"user-ca", "add", "NAME", "--key-file", key},
		{"lockout", "add", "NAME", "--reason", "x"},
	}
	found := [][]string{{"target", "show", "NAME"}, {"target", "check", "NAME"}, {"target", "delete", "NAME"}, {"token", "show", "alice", "NAME"}, {"session", "end", "NAME"}, {"admin", "add", "NAME"}}
	for name, shown := range bad {
		for _, words := range added {
			o.namesIt(name, shown, words)
		}
		for _, words := range found { // any other name may be that of something that is not there
			if name == "" || name == ".." {
				o.namesIt(name, shown, words)
			}
		}
	}
	for _, text := range []string{"a\nb", strings.Repeat("n", 300)} {
		for _, words := range [][]string{{"api-token", "add", text}, {"api-key", "add", text, "--scope", "validate"}, {"token", "add", "alice", "--name", text}, {"user", "add", "x", "--generate", "--name", text}} {
			if err := o.fails(2, words...); !strings.Contains(err, "name") || !strings.Contains(err, `"a\nb" `) && !strings.Contains(err, "…\" has 300 characters; at most ") {
				t.Errorf("sallyport %.100q: %s", words, err)
			}
		}
	}
	if err := o.fails(2, "target", "add", "--address", "192.0.2.5", "--host-key", testHostKey, strings.Repeat("n", 64)); err != `sallyport: name: "`+strings.Repeat("n", 64)+`" has 64 characters; at most 63 are allowed`+"\nUse 1 to 63 of A-Z a-z 0-9 . _ - and begin with a letter or a digit\n" {
		t.Error(err)
	}
}

// namesIt types words with name in the place of NAME, and expects shown in what people read.
func (o *operated) namesIt(name, shown string, words []string) {
	o.t.Helper()
	typed := make([]string, len(words))
	for i, w := range words {
		if typed[i] = w; w == "NAME" {
			typed[i] = name
		}
	}
	err := o.fails(2, typed...)
	if !strings.Contains(err, shown) && (name != "" || !strings.Contains(err, "it is empty")) || strings.ContainsAny(err, "\x1b\u202e") || strings.Contains(err, "openapi") {
		o.t.Errorf("sallyport %q of %.20q: %s", words, name, err)
	}
}

// One of a thing is not several.
func TestOperatorOne(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	o.ok("lockout", "add", "192.0.2.1", "--reason", "scans us")
	if r := o.run("lockout", "clear", "source:192.0.2.1"); r.code != 0 || !strings.Contains(r.err, "lifted 1 lock\n") {
		t.Errorf("lockout clear: %+v", r)
	}
	o.ok("user", "add", "alice", "--generate")
	o.ok("user", "lockout", "alice", "--failures", "1")
	if out := o.ok("user", "show", "alice"); !strings.Contains(out, "1 failure") || strings.Contains(out, "1 failures") {
		t.Errorf("user show: %s", out)
	}
	csv := o.file("one.csv", "login\nbob\n")
	if r := o.run("user", "import", csv); r.code != 0 || !strings.Contains(r.err, "1 row: 1 added.") {
		t.Errorf("user import: %+v", r)
	}
	if r := o.run("user", "import", o.file("bad.csv", "login\nbo b\n")); !strings.Contains(r.err, "1 of 1 row is refused") {
		t.Errorf("user import of what is wrong: %+v", r)
	}
}
