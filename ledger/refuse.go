package ledger

import (
	"encoding/binary"
	"strings"
	"time"
)

// judge asks the policy whether a request may go on; the result says what it does not allow.
//
// Read are the content of files and the names in folders; write is whatever changes something. Attributes
// may be looked at of what may be read or written and of the folders on the way there. A name that moves
// must not become readable by that, and a link is as good as what it points to.
func (s *SFTP) judge(r *request) string {
	allows := func(a Access, p string) bool { return Exact(p) && s.policy.Allows(a, p) }
	needs := func(a Access, p, what string) string {
		if allows(a, p) {
			return ""
		}
		if hasDots(p) {
			return what + " a path with dots, " + p
		}
		return what + " " + p
	}
	switch r.typ {
	case fxpOpen:
		return s.judgeOpen(r, needs)
	case fxpOpendir:
		return needs(Read, r.path, "listing")
	case fxpLstat, fxpStat, fxpReadlink:
		return needs(Look, r.path, "looking at")
	case fxpRealpath:
		return s.judgeRealpath(r, needs)
	case fxpRemove, fxpMkdir, fxpRmdir, fxpSetstat:
		return needs(Write, r.path, "changing")
	case fxpClose, fxpFstat, fxpReaddir:
		return known(r)
	case fxpRead:
		if r.file != nil && r.file.flags&(flagWrite|1) == flagWrite {
			return "reading from a file that is not open for it"
		}
		return known(r)
	case fxpFsetstat:
		return s.judgeHandle(r, needs)
	case fxpRename:
		return judgeMove(r, allows)
	case fxpSymlink:
		if !strings.HasPrefix(r.path, "/") {
			return "a symbolic link to a relative path,"
		}
		clean, exact := absolute(r.path, s.home)
		if !exact {
			return "a symbolic link to a path with dots,"
		}
		return judgeLink(clean, r.newPath, allows)
	}
	return s.judgeExtended(r, allows)
}

func (s *SFTP) judgeOpen(r *request, needs func(Access, string, string) string) string {
	writes := r.flags&(flagWrite|flagAppend|flagCreate|flagTrunc) != 0
	if writes {
		if why := needs(Write, r.path, "writing"); why != "" {
			return why
		}
	}
	// A server opens for reading whatever is not for writing alone.
	if r.flags&flagWrite == 0 || r.flags&1 != 0 {
		if why := needs(Read, r.path, "reading"); why != "" {
			return why
		}
	}
	if len(s.files) >= maxOpen {
		return "more files open at once,"
	}
	return ""
}

// judgeRealpath lets the start folder pass: every client asks for it.
func (s *SFTP) judgeRealpath(r *request, needs func(Access, string, string) string) string {
	if r.path == s.home || s.home == "" && (r.path == "." || r.path == "") {
		return ""
	}
	return needs(Look, r.path, "looking at")
}

func (s *SFTP) judgeHandle(r *request, needs func(Access, string, string) string) string {
	if why := known(r); why != "" {
		return why
	}
	return needs(Write, r.file.path, "changing")
}

func (s *SFTP) judgeExtended(r *request, allows func(Access, string) bool) string {
	switch r.ext {
	case "posix-rename@openssh.com":
		return judgeMove(r, allows)
	case "hardlink@openssh.com":
		return judgeLink(r.path, r.newPath, allows)
	case "lsetstat@openssh.com":
		if !allows(Write, r.path) {
			return "changing " + r.path
		}
		return ""
	case "fsync@openssh.com", "fstatvfs@openssh.com", "copy-data":
		return known(r) // copy-data reads from and writes to what the server has opened for that
	case "statvfs@openssh.com":
		if !allows(Look, r.path) {
			return "looking at " + r.path
		}
		return ""
	case "expand-path@openssh.com":
		return s.judgeExpand(r, allows)
	case "limits@openssh.com", "users-groups-by-id@openssh.com":
		return ""
	}
	return "the extension " + cut(r.ext, 64)
}

// judgeExpand takes a path that may begin with "~/", which is the start folder.
func (s *SFTP) judgeExpand(r *request, allows func(Access, string) bool) string {
	p := r.path
	if i := strings.LastIndex(p, "/~"); i >= 0 { // absolute has put the start folder before it
		if p[:i] != s.home && s.home != "/" || i+2 < len(p) && p[i+2] != '/' {
			return "looking at the folder of somebody else"
		}
		p, _ = absolute(s.home+"/"+p[i+2:], s.home)
	}
	if p == s.home || allows(Look, p) {
		return ""
	}
	return "looking at " + p
}

func judgeMove(r *request, allows func(Access, string) bool) string {
	for _, p := range []string{r.path, r.newPath} {
		if !allows(Write, p) {
			return "renaming to or from " + p
		}
	}
	if allows(Read, r.newPath) && !allows(Read, r.path) {
		return "making readable by a new name " + r.path
	}
	return ""
}

func judgeLink(target, link string, allows func(Access, string) bool) string {
	for _, p := range []string{target, link} {
		if !allows(Write, p) || !allows(Read, p) {
			return "a link to or at " + p
		}
	}
	return ""
}

func known(r *request) string {
	if r.file == nil || r.file.closing {
		return "the use of a handle that is not open"
	}
	return ""
}

func hasDots(p string) bool { return strings.Contains("/"+p+"/", "/../") }

// refuse answers the request whose head d has in the place of the server, and keeps it from going on.
func (s *SFTP) refuse(d *side, now time.Time, op, what string, r *request) {
	text := cut("Permission denied: rule "+s.rule+" does not allow "+what, maxDetail)
	id := binary.BigEndian.Uint32(d.head[5:])
	a := binary.BigEndian.AppendUint32(s.answers, uint32(4+len(text)+4+9))
	a = binary.BigEndian.AppendUint32(append(a, fxpStatus), id)
	a = binary.BigEndian.AppendUint32(a, statusDenied)
	a = append(binary.BigEndian.AppendUint32(a, uint32(len(text))), text...)
	s.answers = binary.BigEndian.AppendUint32(a, 0) // no language
	if len(s.answers) > maxAnswers {
		s.misunderstand(now, "too many requests that are refused, and no answer is read")
	}
	looks := r != nil && (r.typ == fxpLstat || r.typ == fxpStat) && s.looked(r.path)
	if r != nil && (op != "" || r.typ == fxpOpendir || looks) {
		s.add(Entry{Started: now, Ended: now, Op: opOf(r), Path: r.path, NewPath: r.newPath, Result: ResultRefused,
			Detail: cut("rule "+s.rule+" does not allow "+what, maxDetail)})
	} else {
		s.sum.Refused++
	}
	d.drop = true
	s.pass(d)
}

// maxLooks is how many of the refused looks at attributes have a line of their own.
const maxLooks = 64

// looked tells whether a refused look at a path gets a line. Clients ask for attributes before they open, and go no further
// when that is refused: without the line nobody would see what they were after.
func (s *SFTP) looked(path string) bool {
	if len(s.looks) >= maxLooks || s.looks[path] {
		return false
	}
	if s.looks == nil {
		s.looks = map[string]bool{}
	}
	s.looks[path] = true
	return true
}
