package ledger

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// What a server answers: versions, handles, names, data and attributes.

func (s *SFTP) lookServer(d *side, now time.Time) string {
	typ, id := d.head[4], binary.BigEndian.Uint32(d.head[5:])
	if typ == fxpVersion {
		if !s.asked || s.version && s.policy != nil {
			return "a version that nobody asked for"
		}
		if id != 3 {
			return fmt.Sprintf("version %d of the protocol", id)
		}
		return s.collect(d, now)
	}
	if typ < fxpStatus || typ > fxpAttrs && typ != fxpExtReply {
		return fmt.Sprintf("a packet of type %d from the server", typ)
	}
	r := s.requests[id]
	if own := s.own && id == ownID; r == nil && !own {
		if s.policy != nil {
			return "an answer to no request"
		}
		s.pass(d)
		return ""
	}
	switch typ {
	case fxpData:
		if d.length < 9 {
			return "data that is cut short"
		}
		d.want = 13
		return ""
	case fxpStatus, fxpHandle:
		return s.collect(d, now)
	case fxpName:
		if r == nil || r.typ == fxpRealpath {
			return s.collect(d, now)
		}
	}
	if r == nil {
		return "an answer of another kind"
	}
	s.recycle(s.answered(id))
	s.pass(d)
	return ""
}

// data is the content of a file on its way to the client.
func (s *SFTP) data(d *side) string {
	id, n := binary.BigEndian.Uint32(d.head[5:]), binary.BigEndian.Uint32(d.head[9:])
	r := s.requests[id]
	if r == nil || uint64(n)+9 > uint64(d.length) {
		return "data whose length does not fit its packet"
	}
	if f := s.late(r); r.typ == fxpRead && f != nil {
		f.read.seek(uint64(r.flags)<<32 | uint64(r.length))
		d.sink, d.content = &f.read, n
	}
	s.recycle(s.answered(id))
	s.pass(d)
	return ""
}

// serverPacket understands an answer that is there as a whole.
func (s *SFTP) serverPacket(d *side, now time.Time) string {
	typ, id := d.head[4], binary.BigEndian.Uint32(d.head[5:])
	in := reader{p: d.head[9:]}
	if typ == fxpVersion {
		s.version = true
		if s.own {
			s.version3 = append([]byte(nil), d.head...)
			d.drop = true
		}
		s.pass(d)
		return ""
	}
	r := s.requests[id]
	if r == nil { // our own
		return s.homeKnown(d, typ, &in)
	}
	r = s.answered(id)
	switch typ {
	case fxpHandle:
		handle := in.text()
		if in.bad || len(handle) > maxHandle {
			return "a handle that is cut short"
		}
		if why := s.opened(r, handle, now); why != "" {
			return why
		}
	case fxpName:
		if count := in.uint32(); count == 1 {
			name := in.text()
			s.learnHome(r, name)
		}
	case fxpStatus:
		code := in.uint32()
		message := in.text()
		s.status(r, code, message, now)
	}
	s.recycle(r)
	s.pass(d)
	return ""
}

// homeKnown takes the answer to our own request, which the client never sees, and then lets the client begin.
func (s *SFTP) homeKnown(d *side, typ byte, in *reader) string {
	if typ == fxpName && in.uint32() == 1 {
		if name := in.text(); strings.HasPrefix(name, "/") && !in.bad {
			s.home, _ = absolute(name, "")
		}
	}
	s.own, d.drop = false, true
	d.out = append(d.out, s.version3...)
	s.version3 = nil
	s.pass(d)
	return ""
}

// learnHome takes the start folder from an answer to a request that the client made.
func (s *SFTP) learnHome(r *request, name string) {
	if s.policy == nil && s.home == "" && r.typ == fxpRealpath && (r.path == "." || r.path == "") && strings.HasPrefix(name, "/") {
		s.home, _ = absolute(name, "")
	}
}

// opened notes a file that the server has opened. The result says why the channel must end.
func (s *SFTP) opened(r *request, handle string, now time.Time) string {
	if r.typ != fxpOpen && r.typ != fxpOpendir {
		return ""
	}
	f := &openFile{handle: handle, path: r.path, flags: r.flags, folder: r.typ == fxpOpendir, began: r.began, seq: r.seq}
	if f.folder && s.policy == nil {
		return "" // a listing leaves no entry, so there is nothing to remember
	}
	if len(s.files) >= maxOpen {
		if !f.folder {
			s.add(Entry{Seq: r.seq, Started: r.began, Ended: now, Op: f.op(), Path: f.path, Result: ResultUnknown,
				Detail: fmt.Sprintf("opened, and not followed any further: more than %d files are open", maxOpen)})
		}
		return ""
	}
	if before := s.files[handle]; before != nil { // the server has closed it without being asked
		s.drop(before, now, ResultUnknown)
	}
	s.files[handle] = f
	if s.names += len(f.path); s.names > maxHeld {
		s.fatal = fmt.Sprintf("%d open files with %d bytes of names", len(s.files), s.names)
	}
	return s.fatal
}

// drop ends the entry of a file.
func (s *SFTP) drop(f *openFile, now time.Time, result string) {
	if s.files[f.handle] == f {
		delete(s.files, f.handle)
		s.names -= len(f.path)
	}
	if !f.folder {
		s.add(f.entry(now, result))
	}
}

// late is the file of a request, also of one that was sent before the file was open: servers answer in their
// order, so that its handle is known by now.
func (s *SFTP) late(r *request) *openFile {
	if r.file == nil && r.handle != "" {
		return s.files[r.handle]
	}
	return r.file
}
