// Package ledger reads from the bytes of a channel which files passed through it. It is fed with what
// each side sends, in pieces of any size, and answers with one [Entry] for each file from open to close,
// and one for each rename, removal, link and change of attributes.
//
// [SFTP] understands the SSH File Transfer Protocol, version 3 (draft-ietf-secsh-filexfer-02) with the
// extensions of OpenSSH (PROTOCOL, section 4 of its sources); [SCP] the protocol of scp before OpenSSH 9,
// and [Rsync] what the command line of rsync tells. None of them changes what passes, but an SFTP with a
// [Policy], which answers in the place of the target what may not be done. What is not understood ends
// the ledger and nothing else; under a Policy it ends the channel.
//
// Payloads are hashed as they pass and never kept, so that the memory of a channel is bounded whatever
// the two sides send. Nothing here does I/O or reads a clock.
package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// What was done to a file.
const (
	OpRead    = "read"    // from open to close; bytes went to the person
	OpWrite   = "write"   // from open to close; bytes came from the person
	OpRename  = "rename"  // Path became NewPath
	OpRemove  = "remove"  // a file
	OpMkdir   = "mkdir"   //
	OpRmdir   = "rmdir"   //
	OpSymlink = "symlink" // NewPath points to Path from now on
	OpLink    = "link"    // NewPath is another name of Path
	OpSetstat = "setstat" // attributes, see Detail
	OpList    = "list"    // a folder, or a look at attributes; only where it was refused
	OpNote    = "note"    // about the ledger itself, such as what it did not understand
)

// How it ended.
const (
	ResultOK      = "ok"
	ResultFailed  = "failed"  // the target said no
	ResultRefused = "refused" // the rule said no, and the target was not asked
	ResultAborted = "aborted" // the channel ended before
	ResultOpen    = "open"    // not over yet
	ResultUnknown = "unknown" // nobody said
)

// Entry is one line of the ledger.
type Entry struct {
	Seq            int // from 1, in the order in which they began
	Started, Ended time.Time
	Op             string
	Path, NewPath  string // exact bytes, absolute where the channel told the start folder
	Bytes          int64  // of content that passed, of a write those that the target confirmed
	Offset         int64  // where in the file the first of them stands
	SHA256         string // of these bytes, lower-case hexadecimal; "" where InOrder is false or nothing is known
	InOrder        bool   // they passed without gap, repetition or jump
	Result         string
	Detail         string
}

// Summary counts what a channel transferred.
type Summary struct {
	Read, Written           int // files of which the transfer is over, whatever its result
	BytesRead, BytesWritten int64
	Changed                 int // renames, removals, links, folders, attributes
	Failed, Refused         int
}

// Access is what a Policy is asked for.
type Access uint8

// Kinds of access.
const (
	Read     Access = iota // content of a file, names in a folder
	Write                  // anything that changes something
	Look                   // attributes, as clients need them on their way to a file
	ReadAll                // Read of the path and of all beneath it
	WriteAll               // Write of the same
)

// Policy says what may be done to an absolute path without dots.
type Policy interface {
	Allows(a Access, path string) bool
}

// Bounds of what both sides can make an entry of.
const (
	maxRefusals = 1000    // entries for refusals of one channel; further ones are only counted
	maxPath     = 8 << 10 // bytes; Linux takes 4096
)

// book collects entries.
type book struct {
	mu      sync.Mutex // guards everything of the parser
	seq     int
	done    []Entry
	sum     Summary
	stopped string // why nothing is understood any more
}

// next gives the number of an entry that begins.
func (b *book) next() int {
	b.seq++
	return b.seq
}

func (b *book) add(e Entry) {
	for _, p := range []*string{&e.Path, &e.NewPath} {
		if n := len(*p); n > maxPath {
			*p = strings.Clone((*p)[:maxPath]) // the rest would stay in memory with it
			e.note("a path of " + uitoa(uint64(n)) + " bytes is cut")
		}
	}
	if e.Seq == 0 {
		e.Seq = b.next()
	}
	switch {
	case e.Result == ResultRefused:
		if b.sum.Refused++; b.sum.Refused > maxRefusals {
			return
		}
		if b.sum.Refused == maxRefusals {
			e.Detail += " (further refusals of this channel are only counted)"
		}
	case e.Op == OpRead:
		b.sum.Read++
		b.sum.BytesRead += e.Bytes
	case e.Op == OpWrite:
		b.sum.Written++
		b.sum.BytesWritten += e.Bytes
	case e.Op != OpNote:
		b.sum.Changed++
	}
	if e.Result == ResultFailed {
		b.sum.Failed++
	}
	b.done = append(b.done, e)
}

// stop ends the ledger with an entry that says why.
func (b *book) stop(now time.Time, why string) {
	if b.stopped == "" {
		b.stopped = why
		b.add(Entry{Started: now, Ended: now, Op: OpNote, Result: ResultUnknown, Detail: "not understood from here on: " + why})
	}
}

// Take returns the entries that are complete since the last call.
func (b *book) Take() []Entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	done := b.done
	b.done = nil
	return done
}

// Summary counts what has been transferred so far.
func (b *book) Summary() Summary {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sum
}

// Stopped says why the ledger ended before its channel, "" if it did not.
func (b *book) Stopped() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stopped
}

// Fail ends the ledger for a reason from outside, such as a panic of its parser.
func (b *book) Fail(now time.Time, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop(now, why)
}

// flow is the content of a file in one direction.
type flow struct {
	bytes       int64
	first, next uint64
	began       bool
	disorder    bool
	h           hash.Hash
}

// seek tells that bytes from offset on follow.
func (f *flow) seek(offset uint64) {
	switch {
	case !f.began:
		f.began, f.first, f.next = true, offset, offset
		f.h = sha256.New()
	case offset != f.next:
		f.disorder, f.h = true, nil
	}
}

// pass hashes bytes that follow the last ones.
func (f *flow) pass(p []byte) {
	f.bytes += int64(len(p))
	f.next += uint64(len(p))
	if f.h != nil {
		f.h.Write(p)
	}
}

func (f *flow) spoil() { f.disorder, f.h = true, nil }

// fill puts what is known of the content into e.
func (f *flow) fill(e *Entry) {
	e.Bytes, e.InOrder, e.Offset = f.bytes, !f.disorder, int64(f.first)
	switch {
	case f.disorder:
		e.note("not in order, so without a SHA-256")
	case f.h != nil:
		e.SHA256 = hex.EncodeToString(f.h.Sum(nil))
	}
	if f.first > 0 && !f.disorder {
		e.note("from byte " + uitoa(f.first) + " on")
	}
}

// emptySHA256 is that of no bytes.
var emptySHA256 = hex.EncodeToString(sha256.New().Sum(nil))

// maxDetail bounds the detail of an entry in bytes; both sides have a say in it.
const maxDetail = 1000

func (e *Entry) note(text string) {
	if e.Detail != "" {
		e.Detail += "; "
	}
	e.Detail = cut(e.Detail+text, maxDetail)
}

func cut(s string, most int) string {
	if len(s) > most {
		return s[:most]
	}
	return s
}

func uitoa(n uint64) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// absolute makes p absolute by the folder home ("" if that is not known) and takes dots out of it. It is
// exact if no symbolic link on the target could make the result wrong: dots that lead up are safe only
// inside of home, which the target has resolved.
func absolute(p, home string) (clean string, exact bool) {
	exact = true
	start := ""
	if !strings.HasPrefix(p, "/") {
		if home == "" {
			return p, false
		}
		start = home
	}
	homeParts := strings.FieldsFunc(home, isSlash)
	parts := strings.FieldsFunc(start, isSlash)
	for part := range bytes.FieldsFuncSeq([]byte(p), isSlash) {
		switch string(part) {
		case ".":
		case "..":
			if home == "" || len(parts) > len(homeParts) || !slices.Equal(parts, homeParts[:len(parts)]) {
				exact = false
			}
			parts = parts[:max(len(parts)-1, 0)]
		default:
			parts = append(parts, string(part))
		}
	}
	return "/" + strings.Join(parts, "/"), exact
}

func isSlash(r rune) bool { return r == '/' }

// under joins names of a copy to the folder they are in.
func under(folder, name string) string {
	if folder == "" {
		return name
	}
	return path.Join(folder, name)
}

// Exact tells that p is absolute and can be judged by its text: no dots lead up in it, and no server takes
// another part of it than this one, as C and Windows do at NUL and backslash.
func Exact(p string) bool {
	return strings.HasPrefix(p, "/") && !strings.ContainsAny(p, "\x00\\") && !hasDots(p)
}

// Clean is an absolute path without needless slashes and dots.
func Clean(p string) string {
	clean, _ := absolute(p, "")
	return clean
}
