package ledger

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// paths is a policy of prefixes.
type paths struct{ read, write []string }

func (p paths) Allows(a Access, path string) bool {
	lists := map[Access][][]string{Read: {p.read}, ReadAll: {p.read}, Write: {p.write}, WriteAll: {p.write}, Look: {p.read, p.write}}[a]
	for _, list := range lists {
		for _, prefix := range list {
			if strings.HasPrefix(path+"/", prefix) {
				return true
			}
		}
	}
	return false
}

// guarded is a channel under a policy whose target answers nothing by itself.
type guarded struct {
	*SFTP
	t        *testing.T
	up, down []byte // what went on
}

func newGuarded(t *testing.T) *guarded {
	g := &guarded{SFTP: NewSFTP(paths{read: []string{"/pub/", "/both/"}, write: []string{"/drop/", "/both/"}}, "files"), t: t}
	g.client(pkt(fxpInit, 3))
	if want := append(pkt(fxpInit, 3), pkt(fxpRealpath, ownID, ".")...); !bytes.Equal(g.up, want) {
		t.Fatalf("the target gets %q", g.up)
	}
	g.server(pkt(fxpVersion, 3, "posix-rename@openssh.com", "1"))
	if len(g.down) != 0 {
		t.Fatal("the client may begin before the start folder is known")
	}
	g.server(pkt(fxpName, ownID, 1, "/both/alice", "", 0))
	if want := pkt(fxpVersion, 3, "posix-rename@openssh.com", "1"); !bytes.Equal(g.down, want) {
		t.Fatalf("the client gets %q", g.down)
	}
	g.up, g.down = nil, nil
	return g
}

func (g *guarded) client(p []byte) {
	g.up = append(g.up, g.Client(at, p)...)
	g.down = append(g.down, g.Answers()...)
}

func (g *guarded) server(p []byte) { g.down = append(g.down, g.Server(at, p)...) }

func denied(id int, what string) []byte {
	return pkt(fxpStatus, id, statusDenied, "Permission denied: rule files does not allow "+what, "")
}

// Whoever tries "get /etc/shadow" with sftp asks for the attributes first, and hears no: the ledger had no line of it, only a count.
func TestRefusedLooks(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.client(pkt(fxpLstat, 1, "/etc/shadow"))
	g.client(pkt(fxpStat, 2, "/etc/shadow"))
	g.client(pkt(fxpLstat, 3, "/pub/f"))
	for i := range 100 {
		g.client(pkt(fxpLstat, 4+i, fmt.Sprintf("/etc/%d", i)))
	}
	list := g.Take()
	if len(list) != maxLooks || list[0].Op != OpList || list[0].Path != "/etc/shadow" || list[0].Result != ResultRefused || list[0].Detail != "rule files does not allow looking at /etc/shadow" || list[1].Path != "/etc/0" {
		t.Errorf("%d lines: %+v", len(list), list[:min(len(list), 2)])
	}
	if sum := g.Summary(); sum.Refused != 102 {
		t.Errorf("%+v", sum)
	}
}

// Each request is judged by its paths, and by nothing that the client says besides.
func TestPolicy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		request []byte
		refused string // what the rule does not allow; "" passes
	}{
		{"read", pkt(fxpOpen, 1, "/pub/f", 1, 0), ""},
		{"read elsewhere", pkt(fxpOpen, 1, "/etc/passwd", 1, 0), "reading /etc/passwd"},
		{"read where only writing is allowed", pkt(fxpOpen, 1, "/drop/f", 1, 0), "reading /drop/f"},
		{"open for nothing is reading", pkt(fxpOpen, 1, "/drop/f", 0, 0), "reading /drop/f"},
		{"create without writing", pkt(fxpOpen, 1, "/pub/f", flagCreate, 0), "writing /pub/f"},
		{"truncate by a read", pkt(fxpOpen, 1, "/pub/f", 1|flagTrunc, 0), "writing /pub/f"},
		{"write", pkt(fxpOpen, 1, "/drop/f", flagWrite|flagCreate|flagTrunc, 0), ""},
		{"read and write", pkt(fxpOpen, 1, "/drop/f", 3, 0), "reading /drop/f"},
		{"relative to the start folder", pkt(fxpOpen, 1, "f", 3, 0), ""},
		{"dots that the start folder explains", pkt(fxpOpen, 1, "../bob/f", 3, 0), ""},
		{"dots out of what is allowed", pkt(fxpOpen, 1, "../../etc/passwd", 1, 0), "reading /etc/passwd"},
		{"dots behind what may be a link", pkt(fxpOpen, 1, "/pub/l/../f", 1, 0), "reading a path with dots, /pub/l/../f"},
		{"NUL", pkt(fxpOpen, 1, "/etc/passwd\x00/../../pub/f", 1, 0), "reading a path with dots, /etc/passwd\x00/../../pub/f"},
		{"NUL within", pkt(fxpOpen, 1, "/pub/f\x00g", 1, 0), "reading /pub/f\x00g"},
		{"backslash", pkt(fxpOpen, 1, `/pub/..\..\etc`, 1, 0), `reading /pub/..\..\etc`},
		{"list", pkt(fxpOpendir, 1, "/pub/"), ""},
		{"list elsewhere", pkt(fxpOpendir, 1, "/"), "listing /"},
		{"stat of what may be written", pkt(fxpStat, 1, "/drop/f"), ""},
		{"stat elsewhere", pkt(fxpLstat, 1, "/etc/shadow"), "looking at /etc/shadow"},
		{"realpath", pkt(fxpRealpath, 1, "."), ""},
		{"realpath with dots", pkt(fxpRealpath, 1, "/pub/a/.."), ""},
		{"realpath elsewhere", pkt(fxpRealpath, 1, "/root"), "looking at /root"},
		{"readlink", pkt(fxpReadlink, 1, "/root/l"), "looking at /root/l"},
		{"remove", pkt(fxpRemove, 1, "/drop/f"), ""},
		{"remove elsewhere", pkt(fxpRemove, 1, "/pub/f"), "changing /pub/f"},
		{"mkdir", pkt(fxpMkdir, 1, "/pub/d", 0), "changing /pub/d"},
		{"rmdir", pkt(fxpRmdir, 1, "/pub/d"), "changing /pub/d"},
		{"setstat", pkt(fxpSetstat, 1, "/pub/d", 0), "changing /pub/d"},
		{"lsetstat", pkt(fxpExtended, 1, "lsetstat@openssh.com", "/pub/d", 0), "changing /pub/d"},
		{"rename", pkt(fxpRename, 1, "/drop/a", "/drop/b"), ""},
		{"rename away", pkt(fxpRename, 1, "/drop/a", "/tmp/b"), "renaming to or from /tmp/b"},
		{"rename of something else", pkt(fxpExtended, 1, "posix-rename@openssh.com", "/etc/passwd", "/drop/b"), "renaming to or from /etc/passwd"},
		{"rename into what may be read", pkt(fxpRename, 1, "/drop/a", "/both/b"), "making readable by a new name /drop/a"},
		{"symlink", pkt(fxpSymlink, 1, "/both/a", "/both/l"), ""},
		{"symlink out", pkt(fxpSymlink, 1, "/etc/passwd", "/both/l"), "a link to or at /etc/passwd"},
		{"symlink with dots", pkt(fxpSymlink, 1, "/both/x/../../etc", "/both/l"), "a symbolic link to a path with dots,"},
		{"relative symlink", pkt(fxpSymlink, 1, "a", "/both/l"), "a symbolic link to a relative path,"},
		{"hard link", pkt(fxpExtended, 1, "hardlink@openssh.com", "/drop/a", "/both/b"), "a link to or at /drop/a"},
		{"statvfs", pkt(fxpExtended, 1, "statvfs@openssh.com", "/root"), "looking at /root"},
		{"limits", pkt(fxpExtended, 1, "limits@openssh.com"), ""},
		{"expand-path", pkt(fxpExtended, 1, "expand-path@openssh.com", "~/x"), ""},
		{"expand-path of others", pkt(fxpExtended, 1, "expand-path@openssh.com", "~root/x"), "looking at the folder of somebody else"},
		{"an extension that nobody knows", pkt(fxpExtended, 1, "run@example.com", "rm"), "the extension run@example.com"},
		{"a handle that nobody gave", pkt(fxpRead, 1, "h", int64(0), 100), "the use of a handle that is not open"},
		{"writing to it", pkt(fxpWrite, 1, "h", int64(0), []byte("abc")), "writing to a file that is not open for it"},
		{"copy-data to it", pkt(fxpExtended, 1, "copy-data", "a", int64(0), int64(0), "b", int64(0)), "the use of a handle that is not open"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t)
			for _, b := range c.request {
				g.client([]byte{b})
			}
			switch {
			case c.refused == "" && (!bytes.Equal(g.up, c.request) || len(g.down) > 0):
				t.Errorf("%q went on, the answer is %q", g.up, g.down)
			case c.refused != "" && len(g.up) > 0:
				t.Errorf("%q went on", g.up)
			case c.refused != "" && !bytes.Equal(g.down, denied(1, c.refused)):
				t.Errorf("the answer is %q, want %q", g.down, denied(1, c.refused))
			}
			if g.Fatal() != "" {
				t.Error(g.Fatal())
			}
		})
	}
}

// A refusal waits until the server has ended its packet, and disturbs no other request.
func TestPolicyMerge(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.client(pkt(fxpOpen, 1, "/pub/f", 1, 0))
	g.server(pkt(fxpHandle, 1, "h"))
	g.client(pkt(fxpRead, 2, "h", int64(0), 100))
	g.down = nil
	data := pkt(fxpData, 2, []byte("0123456789"))
	g.server(data[:15])
	g.client(pkt(fxpRemove, 3, "/pub/f"))
	if !bytes.Equal(g.down, data[:15]) {
		t.Fatalf("in the middle of a packet came %q", g.down)
	}
	g.server(data[15:])
	if want := append(data[:len(data):len(data)], denied(3, "changing /pub/f")...); !bytes.Equal(g.down, want) {
		t.Errorf("got %q, want %q", g.down, want)
	}
	// While the head of an answer is held back the client is between two packets.
	g.down = nil
	g.client(pkt(fxpRead, 4, "h", int64(10), 100))
	g.server(data[:6])
	g.client(pkt(fxpRemove, 5, "/pub/f"))
	if !bytes.Equal(g.down, denied(5, "changing /pub/f")) {
		t.Errorf("got %q", g.down)
	}
}

// What goes on, and what is answered, is the same wherever the client's stream is cut; what goes on is whole
// packets of those that were sent, and of none that the policy does not allow.
func TestPolicyChunks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		names := []string{"/pub/a", "/drop/a", "/both/a", "/etc/a", "a", "../../etc/a", "/both/../etc/a", "/both/a\x00"}
		var stream, allowed []byte
		g := newGuarded(t)
		for id := 1; id < 30; id++ {
			name := names[r.IntN(len(names))]
			var p []byte
			ok := false
			switch r.IntN(4) {
			case 0:
				p, ok = pkt(fxpOpen, id, name, 1, 0), name == "/pub/a" || name == "/both/a" || name == "a"
			case 1:
				p, ok = pkt(fxpRemove, id, name), name == "/drop/a" || name == "/both/a" || name == "a"
			case 2:
				p = pkt(fxpWrite, id, name, int64(0), make([]byte, r.IntN(100)))
			case 3:
				p = pkt(fxpExtended, id, name, "/both/a")
			}
			if stream = append(stream, p...); ok {
				allowed = append(allowed, p...)
			}
		}
		for p := stream; len(p) > 0; {
			n := 1 + r.IntN(min(len(p), 50))
			g.client(p[:n])
			p = p[n:]
		}
		whole := newGuarded(t)
		whole.client(stream)
		if !bytes.Equal(g.up, allowed) || !bytes.Equal(whole.up, allowed) || !bytes.Equal(g.down, whole.down) {
			rt.Fatalf("went on: %q and %q, want %q", g.up, whole.up, allowed)
		}
	})
}

// What is closed is not open any more, even if its handle may be another file's by then.
func TestPolicyStaleHandle(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.client(pkt(fxpOpen, 1, "/both/f", 3, 0))
	g.server(pkt(fxpHandle, 1, "h"))
	g.client(pkt(fxpFsetstat, 2, "h", 4, 0o777))
	g.client(pkt(fxpClose, 3, "h"))
	g.client(pkt(fxpOpen, 4, "/pub/f", 1, 0))
	g.up, g.down = nil, nil
	g.client(pkt(fxpFsetstat, 5, "h", 4, 0o777))
	if len(g.up) > 0 || !bytes.Equal(g.down, denied(5, "the use of a handle that is not open")) {
		t.Errorf("%q went on, the answer is %q", g.up, g.down)
	}
	g.server(pkt(fxpStatus, 2, 0, "", ""))
	g.server(pkt(fxpStatus, 3, 0, "", ""))
	g.server(pkt(fxpHandle, 4, "h"))
	g.down = nil
	g.client(pkt(fxpFsetstat, 6, "h", 4, 0o777))
	if !bytes.Equal(g.down, denied(6, "changing /pub/f")) {
		t.Errorf("the answer is %q", g.down)
	}
}

// What is not understood ends the channel where a policy holds: nothing of it passes.
func TestPolicyFatal(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(*guarded){
		"garbage of the client":  func(g *guarded) { g.client(bytes.Repeat([]byte{0xff}, 20)) },
		"garbage of the server":  func(g *guarded) { g.server([]byte("Welcome!\n")) },
		"a type nobody knows":    func(g *guarded) { g.client(pkt(99, 1)) },
		"one id for two":         func(g *guarded) { g.client(pkt(fxpStat, 1, "/pub")); g.client(pkt(fxpStat, 1, "/pub")) },
		"a write of two lengths": func(g *guarded) { p := pkt(fxpWrite, 1, "h", int64(0), []byte("abc")); p[3]--; g.client(p) },
		"a second beginning":     func(g *guarded) { g.client(pkt(fxpInit, 3)) },
		"no one reads refusals": func(g *guarded) {
			g.client(pkt(fxpStat, 1, "/pub"))
			g.client(pkt(fxpOpendir, 2, "/pub"))
			g.server(pkt(fxpHandle, 2, "d"))
			g.client(pkt(fxpReaddir, 3, "d"))
			g.server(pkt(fxpName, 3, 2, "abcdefghij", "", 0)[:20])
			for i := range 10000 {
				g.client(pkt(fxpStat, 10+i, "/root"))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t)
			f(g)
			if g.Fatal() == "" {
				t.Error("the channel goes on")
			}
			if out := g.Client(at, pkt(fxpRealpath, 7, ".")); len(out) > 0 {
				t.Errorf("%q went on", out)
			}
		})
	}
}
