package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var at = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// turn is what one side sends.
type turn struct {
	client bool
	data   []byte
}

// talk is a conversation that is put together packet by packet.
type talk struct{ turns []turn }

func pkt(typ byte, parts ...any) []byte {
	b := []byte{typ}
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		case int64:
			b = binary.BigEndian.AppendUint64(b, uint64(p))
		case string:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
		case []byte:
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
		}
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func (t *talk) c(typ byte, parts ...any) { t.turns = append(t.turns, turn{true, pkt(typ, parts...)}) }
func (t *talk) s(typ byte, parts ...any) { t.turns = append(t.turns, turn{false, pkt(typ, parts...)}) }

func (t *talk) begin() {
	t.c(fxpInit, 3)
	t.s(fxpVersion, 3, "posix-rename@openssh.com", "1")
	t.c(fxpRealpath, 0, ".")
	t.s(fxpName, 0, 1, "/home/alice", "/home/alice", 0)
}

// run feeds the conversation in pieces that cut decides on, and returns the ledger.
func (t *talk) run(tb interface {
	Helper()
	Fatalf(string, ...any)
}, s *SFTP, cut func(n int) int) []Entry {
	tb.Helper()
	for _, turn := range t.turns {
		for p := turn.data; len(p) > 0; {
			n := cut(len(p))
			feed := s.Server
			if turn.client {
				feed = s.Client
			}
			if out := feed(at, p[:n]); !bytes.Equal(out, p[:n]) {
				tb.Fatalf("%q went on as %q", p[:n], out)
			}
			p = p[n:]
		}
	}
	s.End(at)
	return s.Take()
}

func all(n int) int { return n }

func sum(p []byte) string {
	h := sha256.Sum256(p)
	return hex.EncodeToString(h[:])
}

// One entry from open to close, for every way in which a file passes.
func TestSFTP(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 5000) // 80 000 bytes
	a, b := content[:32768], content[32768:65536]
	for _, c := range []struct {
		name string
		talk func(*talk)
		want []Entry
	}{
		{"read in pipelined requests", func(t *talk) {
			t.c(fxpOpen, 1, "f", 1, 0)
			t.s(fxpHandle, 1, "h1")
			t.c(fxpRead, 2, "h1", int64(0), 32768)
			t.c(fxpRead, 3, "h1", int64(32768), 32768)
			t.c(fxpRead, 4, "h1", int64(65536), 32768)
			t.s(fxpData, 2, a)
			t.s(fxpData, 3, b)
			t.s(fxpData, 4, content[65536:])
			t.c(fxpRead, 5, "h1", int64(80000), 32768)
			t.s(fxpStatus, 5, 1, "End of file", "")
			t.c(fxpClose, 6, "h1")
			t.s(fxpStatus, 6, 0, "", "")
		}, []Entry{{Seq: 1, Op: OpRead, Path: "/home/alice/f", Bytes: 80000, SHA256: sum(content), InOrder: true, Result: ResultOK}}},
		{"read from the middle on, and not to the end", func(t *talk) {
			t.c(fxpOpen, 1, "/x/../y", 1, 0)
			t.s(fxpHandle, 1, "h1")
			t.c(fxpRead, 2, "h1", int64(32768), 32768)
			t.s(fxpData, 2, b)
			t.c(fxpClose, 6, "h1")
			t.s(fxpStatus, 6, 0, "", "")
		}, []Entry{{Seq: 1, Op: OpRead, Path: "/y", Bytes: 32768, Offset: 32768, SHA256: sum(b), InOrder: true, Result: ResultOK,
			Detail: "from byte 32768 on; not read to its end"}}},
		{"read out of order", func(t *talk) {
			t.c(fxpOpen, 1, "f", 1, 0)
			t.s(fxpHandle, 1, "h1")
			t.c(fxpRead, 2, "h1", int64(32768), 32768)
			t.c(fxpRead, 3, "h1", int64(0), 32768)
			t.s(fxpData, 3, a)
			t.s(fxpData, 2, b)
			t.c(fxpRead, 4, "h1", int64(0), 32768)
			t.s(fxpData, 4, a)
			t.c(fxpClose, 6, "h1")
			t.s(fxpStatus, 6, 0, "", "")
		}, []Entry{{Seq: 1, Op: OpRead, Path: "/home/alice/f", Bytes: 98304, Result: ResultOK, Detail: "not in order, so without a SHA-256"}}},
		{"write, with attributes, then rename", func(t *talk) {
			t.c(fxpOpen, 1, "f.part", flagWrite|flagCreate|flagTrunc, 0)
			t.s(fxpHandle, 1, "h1")
			t.c(fxpWrite, 2, "h1", int64(0), a)
			t.c(fxpWrite, 3, "h1", int64(32768), b)
			t.s(fxpStatus, 2, 0, "", "")
			t.s(fxpStatus, 3, 0, "", "")
			t.c(fxpFsetstat, 4, "h1", 4, 0o644)
			t.s(fxpStatus, 4, 0, "", "")
			t.c(fxpClose, 5, "h1")
			t.s(fxpStatus, 5, 0, "", "")
			t.c(fxpExtended, 6, "posix-rename@openssh.com", "f.part", "f")
			t.s(fxpStatus, 6, 0, "", "")
		}, []Entry{
			{Seq: 1, Op: OpWrite, Path: "/home/alice/f.part", Bytes: 65536, SHA256: sum(content[:65536]), InOrder: true, Result: ResultOK, Detail: "mode 0644"},
			{Seq: 2, Op: OpRename, Path: "/home/alice/f.part", NewPath: "/home/alice/f", Result: ResultOK},
		}},
		{"a full disk", func(t *talk) {
			t.c(fxpOpen, 1, "f", flagWrite|flagCreate|flagTrunc, 0)
			t.s(fxpHandle, 1, "h1")
			t.c(fxpWrite, 2, "h1", int64(0), a)
			t.c(fxpWrite, 3, "h1", int64(32768), b)
			t.s(fxpStatus, 2, 0, "", "")
			t.s(fxpStatus, 3, 4, "No space left", "")
			t.c(fxpClose, 5, "h1")
			t.s(fxpStatus, 5, 0, "", "")
		}, []Entry{{Seq: 1, Op: OpWrite, Path: "/home/alice/f", Bytes: 32768, Result: ResultFailed,
			Detail: "not in order, so without a SHA-256; writing: failure: No space left"}}},
		{"the channel ends in the middle", func(t *talk) {
			t.c(fxpOpen, 1, "up", flagWrite|flagCreate|flagTrunc, 0)
			t.s(fxpHandle, 1, "h1")
			t.c(fxpOpen, 2, "down", 1, 0)
			t.s(fxpHandle, 2, "h2")
			t.c(fxpWrite, 3, "h1", int64(0), a)
			t.s(fxpStatus, 3, 0, "", "")
			t.c(fxpWrite, 4, "h1", int64(32768), b)
			t.c(fxpRead, 5, "h2", int64(0), 32768)
			t.s(fxpData, 5, a)
			t.c(fxpRemove, 6, "old")
		}, []Entry{
			{Seq: 1, Op: OpWrite, Path: "/home/alice/up", Bytes: 32768, InOrder: true, Result: ResultAborted, Detail: "the target had not confirmed all of it"},
			{Seq: 2, Op: OpRead, Path: "/home/alice/down", Bytes: 32768, SHA256: sum(a), InOrder: true, Result: ResultAborted, Detail: "not read to its end"},
			{Seq: 3, Op: OpRemove, Path: "/home/alice/old", Result: ResultAborted, Detail: "the target had not answered"},
		}},
		{"what concerns no content", func(t *talk) {
			t.c(fxpOpen, 1, "secret", 1, 0)
			t.s(fxpStatus, 1, 3, "Permission denied", "")
			t.c(fxpMkdir, 2, "d", 0)
			t.s(fxpStatus, 2, 0, "", "")
			t.c(fxpRmdir, 3, "d")
			t.s(fxpStatus, 3, 4, "Failure", "")
			t.c(fxpSymlink, 4, "../t", "l")
			t.s(fxpStatus, 4, 0, "", "")
			t.c(fxpExtended, 5, "hardlink@openssh.com", "a", "b")
			t.s(fxpStatus, 5, 0, "", "")
			t.c(fxpSetstat, 6, "a", 2|4|8, 0, 5, 0o100600, 7, 1)
			t.s(fxpStatus, 6, 0, "", "")
			t.c(fxpExtended, 7, "lsetstat@openssh.com", "a\xff", 1, int64(5))
			t.s(fxpStatus, 7, 0, "", "")
			t.c(fxpOpendir, 8, ".")
			t.s(fxpHandle, 8, "d1")
			t.c(fxpReaddir, 9, "d1")
			t.s(fxpName, 9, 1, "a", "a", 0)
			t.c(fxpClose, 10, "d1")
			t.s(fxpStatus, 10, 0, "", "")
			t.c(fxpExtended, 11, "limits@openssh.com")
			t.s(fxpExtReply, 11, int64(1), int64(2), int64(3), int64(4))
			t.c(fxpStat, 12, "/")
			t.s(fxpAttrs, 12, 0)
		}, []Entry{
			{Seq: 1, Op: OpRead, Path: "/home/alice/secret", Result: ResultFailed, Detail: "permission denied"},
			{Seq: 2, Op: OpMkdir, Path: "/home/alice/d", Result: ResultOK},
			{Seq: 3, Op: OpRmdir, Path: "/home/alice/d", Result: ResultFailed, Detail: "failure"},
			{Seq: 4, Op: OpSymlink, Path: "../t", NewPath: "/home/alice/l", Result: ResultOK},
			{Seq: 5, Op: OpLink, Path: "/home/alice/a", NewPath: "/home/alice/b", Result: ResultOK},
			{Seq: 6, Op: OpSetstat, Path: "/home/alice/a", Result: ResultOK, Detail: "owner 0:5, mode 0600, modified 1970-01-01T00:00:01Z"},
			{Seq: 7, Op: OpSetstat, Path: "/home/alice/a\xff", Result: ResultOK, Detail: "size 5"},
		}},
		{"empty files, both ways", func(t *talk) {
			t.c(fxpOpen, 1, "/a", flagWrite|flagCreate|flagTrunc, 0)
			t.s(fxpHandle, 1, "h")
			t.c(fxpClose, 2, "h")
			t.c(fxpOpen, 3, "/b", 1, 0)
			t.s(fxpStatus, 2, 0, "", "")
			t.s(fxpHandle, 3, "h") // the same handle
			t.c(fxpRead, 4, "h", int64(0), 100)
			t.s(fxpStatus, 4, 1, "", "")
			t.c(fxpClose, 5, "h")
			t.s(fxpStatus, 5, 0, "", "")
		}, []Entry{
			{Seq: 1, Op: OpWrite, Path: "/a", SHA256: emptySHA256, InOrder: true, Result: ResultOK},
			{Seq: 2, Op: OpRead, Path: "/b", SHA256: emptySHA256, InOrder: true, Result: ResultOK},
		}},
		// scp opens without truncating, and sets the size behind that: an empty file had no SHA-256.
		{"an empty file as scp sends it", func(t *talk) {
			t.c(fxpOpen, 1, "/a", flagWrite|flagCreate, 0)
			t.s(fxpHandle, 1, "h")
			t.c(fxpFsetstat, 2, "h", 1, int64(0))
			t.s(fxpStatus, 2, 0, "", "")
			t.c(fxpClose, 3, "h")
			t.s(fxpStatus, 3, 0, "", "")
		}, []Entry{{Seq: 1, Op: OpWrite, Path: "/a", SHA256: emptySHA256, InOrder: true, Result: ResultOK, Detail: "size 0"}}},
		{"what servers pass over, so that nobody can hide behind it", func(t *talk) {
			t.c(99, 7, "x") // no answer
			t.c(98, 8, "x") // … or one
			t.s(fxpStatus, 8, 8, "", "")
			t.c(fxpInit, 3) // once more
			t.s(fxpVersion, 3)
			t.c(fxpWrite, 9, strings.Repeat("h", 300), int64(0), []byte("abc"))
			t.s(fxpStatus, 9, 4, "", "")
			t.c(fxpOpen, 1, "/a", flagWrite|flagCreate|flagTrunc, 0)
			t.s(fxpHandle, 1, "h")
			t.c(fxpWrite, 2, "h", int64(0), []byte("abc"), "more", 7) // behind the data
			t.s(fxpStatus, 2, 0, "", "")
			t.c(fxpClose, 3, "h", "more")
			t.s(fxpStatus, 3, 0, "", "")
		}, []Entry{{Seq: 1, Op: OpWrite, Path: "/a", Bytes: 3, SHA256: sum([]byte("abc")), InOrder: true, Result: ResultOK}}},
		{"handles that are guessed before they are given", func(t *talk) {
			t.c(fxpOpen, 1, "/a", 1, 0)
			t.c(fxpRead, 2, "0", int64(0), 100)
			t.c(fxpRead, 3, "0", int64(3), 100)
			t.c(fxpClose, 4, "0")
			t.c(fxpOpen, 5, "/b", flagWrite|flagCreate|flagTrunc, 0)
			t.c(fxpWrite, 6, "0", int64(0), []byte("abc"))
			t.c(fxpClose, 7, "0")
			t.c(fxpOpen, 8, "/c", 1, 0)
			t.c(fxpRead, 9, "0", int64(0), 100)
			t.s(fxpHandle, 1, "0")
			t.s(fxpData, 2, []byte("abc"))
			t.s(fxpStatus, 3, 1, "", "")
			t.s(fxpStatus, 4, 0, "", "")
			t.s(fxpHandle, 5, "0")
			t.s(fxpStatus, 6, 0, "", "")
			t.s(fxpStatus, 7, 0, "", "")
			t.s(fxpHandle, 8, "0")
			t.s(fxpData, 9, []byte("abc"))
		}, []Entry{
			{Seq: 1, Op: OpRead, Path: "/a", Bytes: 3, SHA256: sum([]byte("abc")), InOrder: true, Result: ResultOK},
			{Seq: 2, Op: OpWrite, Path: "/b", Bytes: 3, Result: ResultOK, Detail: "not in order, so without a SHA-256"},
			{Seq: 3, Op: OpRead, Path: "/c", Bytes: 3, SHA256: sum([]byte("abc")), InOrder: true, Result: ResultAborted, Detail: "not read to its end"},
		}},
		{"garbage ends the ledger, and nothing else", func(t *talk) {
			t.c(fxpOpen, 1, "/a", 1, 0)
			t.s(fxpHandle, 1, "h")
			t.turns = append(t.turns, turn{false, []byte("Welcome to web1!\n")}, turn{true, bytes.Repeat([]byte{0xff}, 100)})
		}, []Entry{
			{Seq: 2, Op: OpNote, Result: ResultUnknown, Detail: "not understood from here on: a packet of 1466264675 bytes"},
			{Seq: 1, Op: OpRead, Path: "/a", InOrder: true, Result: ResultUnknown},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var conversation talk
			conversation.begin()
			c.talk(&conversation)
			for _, cut := range []func(int) int{all, func(int) int { return 1 }} {
				got := conversation.run(t, NewSFTP(nil, ""), cut)
				for i := range got {
					if got[i].Op != OpNote && !got[i].Started.Equal(at) || !got[i].Ended.Equal(at) {
						t.Errorf("times: %+v", got[i])
					}
					got[i].Started, got[i].Ended = time.Time{}, time.Time{}
					if got[i].Bytes == 0 && (got[i].Op != OpRead && got[i].Op != OpWrite) {
						got[i].InOrder = false
					}
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Errorf("\n got %+v\nwant %+v", got, c.want)
				}
			}
		})
	}
}

// The ledger is the same wherever the stream is cut.
func TestSFTPChunks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var c talk
		c.begin()
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for id := 1; id < 40; {
			f := fmt.Sprintf("h%d", r.IntN(3))
			switch r.IntN(7) {
			case 0:
				c.c(fxpOpen, id, f, []int{1, 2, 3, 26}[r.IntN(4)], 0)
				c.s(fxpHandle, id, f)
			case 1:
				c.c(fxpClose, id, f)
				c.s(fxpStatus, id, r.IntN(5), "x", "")
			case 2:
				c.c(fxpRead, id, f, int64(r.IntN(3)*100), 100)
				c.s(fxpData, id, make([]byte, r.IntN(300)))
			case 3:
				c.c(fxpWrite, id, f, int64(r.IntN(3)*100), make([]byte, r.IntN(300)))
				c.s(fxpStatus, id, r.IntN(2)*4, "", "")
			case 4:
				c.c(fxpRename, id, f, "new")
				c.s(fxpStatus, id, r.IntN(5), "", "")
			case 5:
				c.c(fxpExtended, id, "copy-data", f, int64(0), int64(0), "h1", int64(0))
				c.s(fxpStatus, id, 0, "", "")
			case 6:
				if r.IntN(10) == 0 {
					c.turns = append(c.turns, turn{r.IntN(2) == 0, make([]byte, r.IntN(20))})
				}
			}
			id++
		}
		want := c.run(t, NewSFTP(nil, ""), all)
		got := c.run(t, NewSFTP(nil, ""), func(n int) int { return 1 + r.IntN(min(n, 40)) })
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("\n got %+v\nwant %+v", got, want)
		}
	})
}

// The stream is the same byte for byte, whatever comes, and memory stays bounded.
func FuzzSFTP(f *testing.F) {
	var c talk
	c.begin()
	c.c(fxpOpen, 1, "f", 3, 0)
	c.s(fxpHandle, 1, "h1")
	c.c(fxpWrite, 2, "h1", int64(0), []byte("abc"))
	c.s(fxpStatus, 2, 0, "", "")
	c.c(fxpRead, 3, "h1", int64(0), 5)
	c.s(fxpData, 3, []byte("abc"))
	var up, down []byte
	for _, t := range c.turns {
		if t.client {
			up = append(up, t.data...)
		} else {
			down = append(down, t.data...)
		}
	}
	f.Add(up, down, uint8(7))
	f.Add([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3, 255, 255, 255, 255}, []byte("SSH"), uint8(1))
	f.Add(pkt(fxpInit, 3), pkt(fxpVersion, 6), uint8(3))
	f.Fuzz(func(t *testing.T, up, down []byte, step uint8) {
		n := int(step) + 1
		for _, s := range []*SFTP{NewSFTP(nil, ""), NewSFTP(paths{read: []string{"/home/"}, write: []string{"/home/"}}, "r")} {
			u, d := up, down
			var on, back []byte
			for len(u)+len(d) > 0 {
				k := min(n, len(u))
				on = append(on, s.Client(at, u[:k])...)
				u = u[k:]
				k = min(n, len(d))
				back = append(back, s.Server(at, d[:k])...)
				d = d[k:]
				back = append(back, s.Answers()...)
				_ = s.Open(at.Add(time.Hour))
			}
			s.End(at)
			if s.policy == nil && (!bytes.Equal(on, up) || !bytes.Equal(back, down)) {
				t.Fatal("the stream was changed")
			}
			if cap(s.client.head) > maxWhole+100 || cap(s.server.head) > maxWhole+100 {
				t.Fatalf("heads of %d and %d bytes", cap(s.client.head), cap(s.server.head))
			}
			for i, e := range s.Take() {
				if e.Result == "" || e.Op == "" || e.Ended.IsZero() || len(e.Detail) > maxDetail {
					t.Fatalf("entry %d: %+v", i, e)
				}
			}
		}
	})
}

// Requests beyond all measure end the ledger, not the memory.
func TestSFTPBounds(t *testing.T) {
	t.Parallel()
	s := NewSFTP(nil, "")
	var c talk
	c.begin()
	for _, turn := range c.turns {
		s.Client(at, nil)
		if turn.client {
			s.Client(at, turn.data)
		} else {
			s.Server(at, turn.data)
		}
	}
	for i := range maxRequests + 1 {
		s.Client(at, pkt(fxpStat, i, "/"))
	}
	if got := s.Stopped(); !strings.Contains(got, "65537 requests") {
		t.Errorf("stopped: %q", got)
	}
	if s.Fatal() == "" {
		t.Error("the channel goes on without its ledger")
	}

	s = NewSFTP(nil, "")
	s.Client(at, pkt(fxpInit, 3))
	for i := range 200 {
		s.Client(at, pkt(fxpOpen, i, strings.Repeat("a", 200<<10), 1, 0))
	}
	if s.Fatal() == "" {
		t.Error("names take any amount of memory")
	}

	// The names of files that are open were not counted: a target that opens whatever it is asked for let them take a
	// gigabyte for one channel.
	s = NewSFTP(nil, "")
	s.Client(at, pkt(fxpInit, 3))
	for i := range 200 {
		s.Client(at, pkt(fxpOpen, 1, strings.Repeat("a", 200<<10), 1, 0))
		s.Server(at, pkt(fxpHandle, 1, fmt.Sprint(i)))
	}
	if s.Fatal() == "" {
		t.Error("names of open files take any amount of memory")
	}

	s = NewSFTP(nil, "")
	s.Client(at, pkt(fxpInit, 3))
	for i := range maxOpen + 3 {
		s.Client(at, pkt(fxpOpen, 1, fmt.Sprint("/f", i), 1, 0))
		s.Server(at, pkt(fxpHandle, 1, fmt.Sprint(i)))
	}
	if list := s.Take(); len(list) != 3 || list[0].Path != fmt.Sprint("/f", maxOpen) || list[0].Result != ResultUnknown {
		t.Errorf("files beyond the limit: %+v", list)
	}
	s.End(at)
	if n := len(s.Take()); n != maxOpen {
		t.Errorf("%d lines of open files", n)
	}
	s.Client(at, pkt(fxpRemove, 2, strings.Repeat("a", 100<<10)))
	s.Server(at, pkt(fxpStatus, 2, 4, "", ""))
	if list := s.Take(); len(list) != 1 || len(list[0].Path) != maxPath {
		t.Errorf("a long path: %d lines", len(list))
	}
}

func BenchmarkSFTPRead(b *testing.B) {
	s := NewSFTP(nil, "")
	s.Client(at, pkt(fxpInit, 3))
	s.Server(at, pkt(fxpVersion, 3))
	s.Client(at, pkt(fxpOpen, 1, "/f", 1, 0))
	s.Server(at, pkt(fxpHandle, 1, "h"))
	const n = 32 << 10
	request, answer := pkt(fxpRead, 2, "h", int64(0), n), pkt(fxpData, 2, make([]byte, n))
	b.SetBytes(n)
	b.ReportAllocs()
	for i := range b.N {
		binary.BigEndian.PutUint64(request[14:], uint64(i)*n)
		s.Client(at, request)
		s.Server(at, answer)
	}
}

func BenchmarkSHA256(b *testing.B) {
	p, h := make([]byte, 32<<10), sha256.New()
	b.SetBytes(int64(len(p)))
	for range b.N {
		h.Write(p)
	}
}
