package ledger

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// What becomes of an answer: the lines of the ledger.

// status is how most requests end.
func (s *SFTP) status(r *request, code uint32, message string, now time.Time) {
	f := s.late(r)
	switch {
	case r.typ == fxpWrite && f != nil && r.file == nil: // its content has passed unseen
		if code == statusOK {
			f.acked += int64(r.length)
			f.written.began = true
			f.written.spoil()
		}
	case r.typ == fxpClose:
		if f != nil {
			if code != statusOK {
				f.fail("closing", code, message)
			}
			s.drop(f, now, ResultOK)
		}
	case r.typ == fxpRead && f != nil && code == statusEOF:
		// The end is where reading has come to, unless it was looked for elsewhere.
		f.eof = true
		if !f.read.began {
			f.read.seek(uint64(r.flags)<<32 | uint64(r.length))
		}
	case r.typ == fxpWrite && f != nil:
		f.pending--
		if code == statusOK {
			f.acked += int64(r.length)
		} else {
			f.fail("writing", code, message)
			f.written.spoil()
		}
	case r.typ == fxpFsetstat && f != nil && code == statusOK:
		f.detail = append(f.detail[:min(len(f.detail), 3)], r.detail)
		if size, ok := strings.CutPrefix(r.detail, "size "); ok {
			size, _, _ = strings.Cut(size, ",")
			if f.empty = size == "0"; f.written.began && size != uitoa(f.written.next) {
				f.written.spoil()
			}
		}
	case r.ext == "copy-data" && f != nil && code == statusOK:
		f.written.began = true
		f.written.spoil()
		f.detail = append(f.detail[:min(len(f.detail), 3)], "copied on the target from "+r.detail)
	case f != nil && code != statusOK && r.typ == fxpRead:
		f.fail("reading", code, message)
	case f != nil && code != statusOK && r.typ == fxpFsetstat:
		f.fail("setting attributes", code, message)
	case f != nil && code != statusOK && r.ext != "":
		f.fail(r.ext, code, message)
	case r.seq > 0:
		s.add(s.entry(r, code, message, now))
	}
}

// entry is the one of a request that stands for itself.
func (s *SFTP) entry(r *request, code uint32, message string, now time.Time) Entry {
	e := Entry{Seq: r.seq, Started: r.began, Ended: now, Op: opOf(r), Path: r.path, NewPath: r.newPath, Result: ResultOK, Detail: r.detail}
	if code != statusOK {
		e.Result = ResultFailed
		e.note(statusText(code, message))
	}
	return e
}

func opOf(r *request) string {
	switch r.typ {
	case fxpOpen:
		if r.flags&(flagWrite|flagCreate|flagTrunc|flagAppend) != 0 {
			return OpWrite
		}
		return OpRead
	case fxpSetstat, fxpFsetstat:
		return OpSetstat
	case fxpRemove:
		return OpRemove
	case fxpMkdir:
		return OpMkdir
	case fxpRmdir:
		return OpRmdir
	case fxpRename:
		return OpRename
	case fxpSymlink:
		return OpSymlink
	case fxpOpendir, fxpLstat, fxpStat:
		return OpList
	}
	switch r.ext {
	case "posix-rename@openssh.com":
		return OpRename
	case "hardlink@openssh.com":
		return OpLink
	case "lsetstat@openssh.com":
		return OpSetstat
	}
	return OpNote
}

func statusText(code uint32, message string) string {
	names := [...]string{"ok", "end of file", "no such file", "permission denied", "failure", "bad message", "no connection", "connection lost", "not supported"}
	text := "status " + uitoa(uint64(code))
	if int(code) < len(names) {
		text = names[code]
	}
	if message = cut(message, 200); message != "" && !strings.EqualFold(message, text) {
		text += ": " + message
	}
	return text
}

func (f *openFile) op() string {
	if f.written.began || f.flags&(flagWrite|flagCreate|flagTrunc|flagAppend) != 0 && !f.read.began {
		return OpWrite
	}
	return OpRead
}

func (f *openFile) fail(doing string, code uint32, message string) {
	if f.failed == "" {
		f.failed = doing + ": " + statusText(code, message)
	}
}

// entry says what is known of a file now.
func (f *openFile) entry(now time.Time, result string) Entry {
	e := Entry{Seq: f.seq, Started: f.began, Ended: now, Op: f.op(), Path: f.path, Result: result}
	if e.Op == OpWrite {
		f.written.fill(&e)
		e.Bytes = f.acked
		if f.pending > 0 {
			e.SHA256 = ""
			e.note("the target had not confirmed all of it")
		}
		if !f.written.began && (f.flags&flagTrunc != 0 || f.empty) && result == ResultOK {
			e.SHA256, e.InOrder = emptySHA256, true
		}
		if f.read.began {
			e.note(uitoa(uint64(f.read.bytes)) + " bytes were read, too")
		}
	} else {
		f.read.fill(&e)
		if f.read.began && !f.eof && !f.read.disorder {
			e.note("not read to its end")
		}
	}
	for _, d := range f.detail {
		e.note(d)
	}
	if f.failed != "" {
		e.note(f.failed)
		if e.Result == ResultOK {
			e.Result = ResultFailed
		}
	}
	return e
}

// Open returns an entry for each file that has been open since before then and was not returned yet:
// so that it is known of should the end of it never be told.
func (s *SFTP) Open(before time.Time) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Entry
	for _, f := range bySeq(s.files) {
		if !f.told && !f.folder && f.began.Before(before) {
			f.told = true
			list = append(list, Entry{Seq: f.seq, Started: f.began, Op: f.op(), Path: f.path, Result: ResultOpen})
		}
	}
	return list
}

// End tells that the channel is over: what is still open was aborted.
func (s *SFTP) End(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	result := ResultAborted
	if s.stopped != "" {
		result = ResultUnknown
	}
	for _, f := range bySeq(s.files) {
		s.drop(f, now, result)
	}
	for id := range s.requests {
		for r := s.answered(id); r != nil; r = s.answered(id) {
			if r.seq > 0 {
				s.add(Entry{Seq: r.seq, Started: r.began, Ended: now, Op: opOf(r), Path: r.path, NewPath: r.newPath, Result: result,
					Detail: "the target had not answered"})
			}
		}
	}
}

func bySeq(files map[string]*openFile) []*openFile {
	return slices.SortedFunc(maps.Values(files), func(a, b *openFile) int { return a.seq - b.seq })
}
