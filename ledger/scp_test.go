package ledger

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// scpTalk feeds lines: those that begin with > are what the sending side says, those with < the other.
func scpTalk(s *SCP, turns []string, cut func(int) int) []Entry {
	for _, turn := range turns {
		sends := turn[0] == '>'
		for p := []byte(turn[1:]); len(p) > 0; {
			n := cut(len(p))
			if sends == s.fromClient {
				s.Client(at, p[:n])
			} else {
				s.Server(at, p[:n])
			}
			p = p[n:]
		}
	}
	s.End(at)
	return s.Take()
}

func TestSCP(t *testing.T) {
	content := strings.Repeat("abc\x00\n", 5000)
	hash := sum([]byte(content))
	c := ">C0644 25000 f\n"
	for _, test := range []struct {
		name       string
		fromClient bool
		path       string
		turns      []string
		want       []Entry
	}{
		{"a file up", true, "/tmp/f", []string{"<\x00", ">T1 0 2 0\n", "<\x00", c, "<\x00", ">" + content, ">\x00", "<\x00"},
			[]Entry{{Seq: 1, Op: OpWrite, Path: "/tmp/f", Bytes: 25000, SHA256: hash, InOrder: true, Result: ResultOK}}},
		{"a file down", false, "/tmp/f", []string{"<\x00", c, "<\x00", ">" + content + "\x00", "<\x00"},
			[]Entry{{Seq: 1, Op: OpRead, Path: "/tmp/f", Bytes: 25000, SHA256: hash, InOrder: true, Result: ResultOK}}},
		{"under another name", true, "/tmp/g", []string{"<\x00", c, "<\x00", ">" + content, ">\x00", "<\x00"},
			[]Entry{{Seq: 1, Op: OpWrite, Path: "/tmp/g", Bytes: 25000, SHA256: hash, InOrder: true, Result: ResultOK,
				Detail: "sent as f; of that name in it, if the path is a folder"}}},
		{"folders", true, "/tmp/", []string{"<\x00", ">D0755 0 d\n", "<\x00", ">C0644 0 empty\n", "<\x00", ">\x00", "<\x00",
			">D0755 0 e\n", "<\x00", ">C0600 1 x\n", "<\x00", ">x\x00", "<\x00", ">E\n", "<\x00", ">E\n", "<\x00", ">C0644 1 y\n", "<\x00", ">y\x00", "<\x00"},
			[]Entry{
				{Seq: 1, Op: OpWrite, Path: "/tmp/d/empty", SHA256: emptySHA256, InOrder: true, Result: ResultOK},
				{Seq: 2, Op: OpWrite, Path: "/tmp/d/e/x", Bytes: 1, SHA256: sum([]byte("x")), InOrder: true, Result: ResultOK},
				{Seq: 3, Op: OpWrite, Path: "/tmp/y", Bytes: 1, SHA256: sum([]byte("y")), InOrder: true, Result: ResultOK},
			}},
		{"a folder down", false, "/srv/d", []string{"<\x00", ">D0755 0 d\n", "<\x00", ">C0644 1 x\n", "<\x00", ">x\x00", "<\x00", ">E\n", "<\x00"},
			[]Entry{{Seq: 1, Op: OpRead, Path: "/srv/d/x", Bytes: 1, SHA256: sum([]byte("x")), InOrder: true, Result: ResultOK}}},
		{"by a glob", false, "/srv/*.txt", []string{"<\x00", ">C0644 1 a.txt\n", "<\x00", ">x\x00", "<\x00"},
			[]Entry{{Seq: 1, Op: OpRead, Path: "/srv/a.txt", Bytes: 1, SHA256: sum([]byte("x")), InOrder: true, Result: ResultOK}}},
		{"there is none", false, "/srv/no", []string{"<\x00", ">\x01scp: /srv/no: No such file or directory\n"},
			[]Entry{{Seq: 1, Op: OpRead, Path: "/srv/no", Result: ResultFailed, Detail: "scp: /srv/no: No such file or directory"}}},
		{"not wanted there", true, "/etc/f", []string{"<\x00", c, "<\x01scp: /etc/f: Permission denied\n", ">C0644 1 g\n", "<\x00", ">y\x00", "<\x00"},
			[]Entry{
				{Seq: 1, Op: OpWrite, Path: "/etc/f", InOrder: true, Result: ResultFailed, Detail: "25000 bytes were announced; scp: /etc/f: Permission denied"},
				{Seq: 2, Op: OpWrite, Path: "/etc/f", Bytes: 1, SHA256: sum([]byte("y")), InOrder: true, Result: ResultOK, Detail: "sent as g; of that name in it, if the path is a folder"},
			}},
		{"a disk that is full in the end", true, "/tmp/f", []string{"<\x00", c, "<\x00", ">" + content, ">\x00", "<\x01scp: No space left\n"},
			[]Entry{{Seq: 1, Op: OpWrite, Path: "/tmp/f", Bytes: 25000, SHA256: hash, InOrder: true, Result: ResultFailed, Detail: "scp: No space left"}}},
		{"killed half way", true, "/tmp/f", []string{"<\x00", c, "<\x00", ">" + content[:1000]},
			[]Entry{{Seq: 1, Op: OpWrite, Path: "/tmp/f", Bytes: 1000, SHA256: sum([]byte(content[:1000])), InOrder: true, Result: ResultAborted, Detail: "25000 bytes were announced"}}},
		{"read errors half way", false, "/tmp/f", []string{"<\x00", c, "<\x00", ">" + content, ">\x01scp: I/O error\n", "<\x00"},
			[]Entry{{Seq: 1, Op: OpRead, Path: "/tmp/f", Bytes: 25000, SHA256: hash, InOrder: true, Result: ResultFailed, Detail: "scp: I/O error"}}},
		{"answers in advance, and in other words", false, "/srv/*", []string{"<\x00\x00\x00", ">C0644 1 a\n", ">x\x00", ">C0644 1 b\n", "<no thanks\n", ">C0644 1 c\n", "<\x00", ">x\x00", "<\x00"},
			[]Entry{
				{Seq: 1, Op: OpRead, Path: "/srv/a", Bytes: 1, SHA256: sum([]byte("x")), InOrder: true, Result: ResultOK},
				{Seq: 2, Op: OpRead, Path: "/srv/b", InOrder: true, Result: ResultFailed, Detail: "1 bytes were announced; no thanks"},
				{Seq: 3, Op: OpRead, Path: "/srv/c", Bytes: 1, SHA256: sum([]byte("x")), InOrder: true, Result: ResultOK},
			}},
		{"no NUL, no size, a line that is too long", true, "/d/", []string{"<\x00", ">C0644 1 a\n", "<\x00", ">xgone\n", "<\x00", ">C0644  e\n", "<\x00", ">\x00", "<\x00",
			">C0644 5 " + strings.Repeat("n", 2047-8) + "C0644 1 real\n", "<\x01too long\n", "<\x00", ">x\x00", "<\x00"},
			[]Entry{
				{Seq: 1, Op: OpWrite, Path: "/d/a", Bytes: 1, SHA256: sum([]byte("x")), InOrder: true, Result: ResultFailed, Detail: "gone"},
				{Seq: 2, Op: OpWrite, Path: "/d/e", SHA256: emptySHA256, InOrder: true, Result: ResultOK},
				{Seq: 3, Op: OpWrite, Path: "/d/" + strings.Repeat("n", 2047-8), InOrder: true, Result: ResultFailed, Detail: "5 bytes were announced; too long"},
				{Seq: 4, Op: OpWrite, Path: "/d/real", Bytes: 1, SHA256: sum([]byte("x")), InOrder: true, Result: ResultOK},
			}},
		{"something else", true, "/tmp/f", []string{"<\x00", ">SSH-2.0-x\r\n"},
			[]Entry{{Seq: 1, Op: OpNote, Result: ResultUnknown, Detail: "not understood from here on: a line that begins with 'S'"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, cut := range []func(int) int{all, func(int) int { return 1 }} {
				got := scpTalk(NewSCP(Command{FromClient: test.fromClient, Folder: strings.HasSuffix(test.path, "/"), Paths: []string{test.path}}), test.turns, cut)
				for i := range got {
					got[i].Started, got[i].Ended = time.Time{}, time.Time{}
				}
				if !reflect.DeepEqual(got, test.want) {
					t.Errorf("\n got %.3000v\nwant %.3000v", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", test.want))
				}
			}
		})
	}
}

// The ledger of a copy is the same wherever the stream is cut.
func TestSCPChunks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		turns := []string{"<\x00"}
		for range 20 {
			turns = append(turns, []string{">C0644 3 f\n", ">abc", ">\x00", "<\x00", "<\x01no\n", ">D0755 0 d\n", ">E\n", ">\x01gone\n"}[r.IntN(8)])
		}
		want := scpTalk(NewSCP(Command{FromClient: true, Paths: []string{"/d/f"}}), turns, all)
		got := scpTalk(NewSCP(Command{FromClient: true, Paths: []string{"/d/f"}}), turns, func(n int) int { return 1 + r.IntN(n) })
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q:\n got %+v\nwant %+v", turns, got, want)
		}
	})
}

func FuzzSCP(f *testing.F) {
	f.Add([]byte("T1 0 2 0\nC0644 3 f\nabc\x00D0755 0 d\nE\n"), []byte{0, 0, 0, 0, 1, 'x', '\n'}, uint8(3), true)
	f.Add([]byte("\x01no\nC0644 999999999999 f\nabc"), []byte{0, 2, 0}, uint8(1), false)
	f.Fuzz(func(t *testing.T, sent, answers []byte, step uint8, up bool) {
		s := NewSCP(Command{FromClient: up, Paths: []string{"/d/f"}})
		n := int(step) + 1
		for len(sent)+len(answers) > 0 {
			feed, back := s.Client, s.Server
			if !up {
				feed, back = back, feed
			}
			k := min(n, len(sent))
			if out := feed(at, sent[:k]); !bytes.Equal(out, sent[:k]) {
				t.Fatal("the stream was changed")
			}
			sent = sent[k:]
			k = min(n, len(answers))
			back(at, answers[:k])
			answers = answers[k:]
			_ = s.Open(at.Add(time.Hour))
		}
		s.End(at)
		for i, e := range s.Take() {
			if e.Result == "" || e.Op == "" || e.Ended.IsZero() || len(e.Detail) > maxDetail {
				t.Fatalf("entry %d: %+v", i, e)
			}
		}
	})
}

// Command lines as the clients write them, and those that do something besides.
func TestParseCommand(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]*Command{
		"/usr/lib/openssh/sftp-server": {Program: ProgramSFTP, Exact: true},
		"scp -t /tmp/x":                {Program: ProgramSCP, FromClient: true, Paths: []string{"/tmp/x"}, Exact: true},
		"scp -r -p -f -- '/tmp/a b'":   {Program: ProgramSCP, Recursive: true, Paths: []string{"/tmp/a b"}, Exact: true},
		"scp -f /tmp/*.txt":            {Program: ProgramSCP, Paths: []string{"/tmp/*.txt"}},
		"scp -t ~/x":                   {Program: ProgramSCP, FromClient: true, Paths: []string{"~/x"}},
		"scp -S sh -t x":               nil,
		"scp -t x; sh":                 nil,
		"scp -t $(sh)":                 nil,
		"scp -t `sh`":                  nil,
		`scp -t "$(sh)"`:               nil,
		"scp x y":                      nil,
		"sftp-server | sh":             nil,
		"":                             nil,
		"ls":                           nil,
		"rsync --server -logDtprze.iLsfxCIvu . /tmp/x/":               {Program: ProgramRsync, FromClient: true, Recursive: true, Paths: []string{"/tmp/x/"}, Options: "-logDtprze.iLsfxCIvu", Exact: true},
		`rsync --server --sender -vlogDtpre.iLsfxCIvu . /a\ b /tmp/c`: {Program: ProgramRsync, Recursive: true, Paths: []string{"/a b", "/tmp/c"}, Options: "-vlogDtpre.iLsfxCIvu", Exact: true},
		"rsync -e sh x:": nil,
	} {
		got, ok := ParseCommand(line)
		if want == nil && ok || want != nil && !reflect.DeepEqual(got, *want) {
			t.Errorf("%s: %+v, %v, want %+v", line, got, ok, want)
		}
	}
}

func FuzzParseCommand(f *testing.F) {
	f.Add("scp -t '/tmp/a b'")
	f.Add(`rsync --server . a\`)
	f.Fuzz(func(t *testing.T, line string) {
		c, ok := ParseCommand(line)
		if ok && strings.ContainsAny(strings.Join(c.Paths, ""), "`") && !strings.ContainsAny(line, `'"\`) {
			t.Errorf("%q: %+v", line, c)
		}
	})
}

func TestRsync(t *testing.T) {
	t.Parallel()
	c, _ := ParseCommand("rsync --server --sender -a . /srv/d")
	r := NewRsync(c, at)
	r.Client(at, make([]byte, 10))
	r.Server(at, make([]byte, 1000))
	r.Exited(23)
	r.End(at.Add(time.Second))
	want := []Entry{{Seq: 1, Started: at, Ended: at.Add(time.Second), Op: OpRead, Path: "/srv/d", Bytes: 1000, Result: ResultFailed,
		Detail: "rsync: all of its files together, bytes as they were sent; options -a; exit status 23"}}
	if got := r.Take(); !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
}
