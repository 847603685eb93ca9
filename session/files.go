package session

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/ledger"
	"sallyport/store"
)

// Files are the paths to which a rule holds the file transfers of a channel.
type Files struct {
	Policy ledger.Policy
	Rule   string
	Text   string // the paths as the rule has them: another text is another policy
}

func (f *Files) text() string {
	if f == nil {
		return ""
	}
	return f.Text
}

// parser is one of the three that package ledger has.
type parser interface {
	Client(time.Time, []byte) []byte // what is to go on; under a policy not always what came
	Server(time.Time, []byte) []byte
	Pending() bool   // there are answers of the parser itself, for the client
	Answers() []byte // those, if the client can take them now
	Fatal() string   // why the channel must end
	Open(before time.Time) []ledger.Entry
	End(time.Time)
	Take() []ledger.Entry
	Summary() ledger.Summary
	Fail(time.Time, string)
}

// Lines of the ledger wait for each other: at most filesEvery, or until filesBatch have come together. Beyond
// filesMost whoever sends has to wait until the database has taken some.
const (
	filesEvery = time.Second
	filesBatch = 256
	filesMost  = 4096
)

// files keeps the ledger of one channel.
type files struct {
	c       *channel
	p       parser
	guarded bool // a policy decides on what goes on
	keep    bool // the rule wants it in the database

	down sync.Mutex // held while something is written to the client, where guarded

	wake chan struct{} // of one place
	stop chan struct{}
	done chan struct{} // closed when the goroutine that writes has ended

	mu     sync.Mutex // guards the fields below
	room   *sync.Cond
	queue  []store.Transfer
	failed bool // the database does not take them just now
	lost   int
	ended  bool
}

// transfers tells that paths of a rule concern a channel.
func transfers(kind, command string) bool {
	if kind == kindSFTP {
		return true
	}
	_, ok := ledger.ParseCommand(command)
	return ok
}

// beginFiles begins the ledger of a channel on which files are transferred. It returns why the rule does not
// allow the command, if so.
func (c *channel) beginFiles(kind, command string) (refusal string) {
	held := c.grant.Files
	if kind == kindShell || !c.grant.Record && held == nil {
		return ""
	}
	cmd := ledger.Command{Program: ledger.ProgramSFTP}
	if kind != kindSFTP {
		var ok bool
		if cmd, ok = ledger.ParseCommand(command); !ok {
			return ""
		}
	}
	var p parser
	switch cmd.Program {
	case ledger.ProgramSFTP:
		var policy ledger.Policy
		rule := ""
		if held != nil {
			policy, rule = held.Policy, held.Rule
		}
		p = ledger.NewSFTP(policy, rule)
	case ledger.ProgramSCP:
		if refusal := held.refuseSCP(cmd); refusal != "" {
			return refusal
		}
		p = ledger.NewSCP(cmd)
	case ledger.ProgramRsync:
		if held != nil {
			return "rsync cannot be held to the paths of rule " + held.Rule + ". Use sftp or scp"
		}
		p = ledger.NewRsync(cmd, time.Now())
	}
	f := &files{
		c: c, p: p, guarded: held != nil && cmd.Program == ledger.ProgramSFTP, keep: c.grant.Record,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	f.room = sync.NewCond(&f.mu)
	c.files = f
	c.mu.Lock()
	c.row.Retention = c.grant.Retention // of the ledger, if there is no recording
	c.mu.Unlock()
	return ""
}

// refuseSCP says why a command of the old protocol is not allowed. What it is sent to may be a folder or a
// file, so that all beneath the path has to be allowed, too.
func (f *Files) refuseSCP(cmd ledger.Command) string {
	if f == nil {
		return ""
	}
	access, doing := ledger.Read, "reading"
	switch {
	case cmd.FromClient:
		access, doing = ledger.WriteAll, "writing to all of"
	case cmd.Recursive:
		access, doing = ledger.ReadAll, "reading all of"
	}
	if !cmd.Exact || !ledger.Exact(cmd.Paths[0]) {
		return "rule " + f.Rule + " holds files to paths: write the whole path, beginning with / and without any of * ? ~ .., or use scp without -O"
	}
	if !f.Policy.Allows(access, ledger.Clean(cmd.Paths[0])) {
		return "Permission denied: rule " + f.Rule + " does not allow " + doing + " " + audit.Escape(cmd.Paths[0])
	}
	return ""
}

// refuseSCPStart answers in scp's own words, which it prints whichever way the files were to go.
func (c *channel) refuseSCPStart(r *ssh.Request, text string) bool {
	c.answer(r, true)
	c.refusal = text
	_, _ = c.down.Write([]byte("\x01scp: " + text + "\n"))
	_, _ = c.down.SendRequest("exit-status", false, ssh.Marshal(exitStatus{1}))
	c.endOutput()
	_ = c.down.Close()
	_ = c.up.Close()
	return true
}

// refuseFiles ends a start that the rule's paths do not allow.
func (c *channel) refuseFiles(r *ssh.Request, command, text string) bool {
	c.refused(r.Type, text)
	if cmd, ok := ledger.ParseCommand(command); ok && cmd.Program == ledger.ProgramSCP {
		return c.refuseSCPStart(r, text)
	}
	return c.refuseStart(r, text)
}

// fromClient looks at what the client sends and returns what is to go on. It is false when the channel must end.
func (f *files) fromClient(p []byte) ([]byte, bool) {
	if f == nil {
		return p, true
	}
	out, ok := f.feed(f.p.Client, p)
	if ok && f.guarded && f.p.Pending() { // else it must not wait for a client that reads nothing
		f.down.Lock()
		if a := f.p.Answers(); len(a) > 0 {
			f.c.out.Add(int64(len(a)))
			_, _ = f.c.down.Write(a)
		}
		f.down.Unlock()
	}
	f.collect()
	return out, ok
}

// toClient looks at what the target sends, and writes what the client is to have of it.
func (f *files) toClient(p []byte, dst io.Writer) (err error, ok bool) {
	if f.guarded {
		f.down.Lock()
		defer f.down.Unlock()
	}
	out, ok := f.feed(f.p.Server, p)
	f.collect()
	if ok && len(out) > 0 {
		_, err = dst.Write(out)
	}
	return err, ok
}

// feed hands p to the parser, and ends the channel if that says so.
func (f *files) feed(feed func(time.Time, []byte) []byte, p []byte) ([]byte, bool) {
	out, ok := f.parse(feed, p)
	if !ok {
		f.c.cutFiles(f.p.Fatal())
	}
	return out, ok
}

// parse is what can go wrong of feed: that never ends more than the ledger, unless a policy has to hold.
func (f *files) parse(feed func(time.Time, []byte) []byte, p []byte) (out []byte, ok bool) {
	defer func() {
		if r := recover(); r != nil {
			f.c.s.m.cfg.Log.Error("reading a transfer of files", "session", f.c.s.row.ID, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			f.p.Fail(time.Now(), "an error of the bastion itself")
			out, ok = p, !f.guarded
		}
	}()
	out = feed(time.Now(), p)
	return out, f.p.Fatal() == ""
}

// cutFiles ends a channel on which something passes that the rule's paths cannot be held against.
func (c *channel) cutFiles(why string) {
	text := "the transfer of files was ended: " + audit.Escape(why)
	c.refused("sftp", text)
	told := make(chan struct{})
	go func() {
		defer close(told)
		say(c.down, c.term != nil, text)
		_, _ = c.down.SendRequest("exit-status", false, ssh.Marshal(exitStatus{255}))
	}()
	select {
	case <-told:
	case <-time.After(500 * time.Millisecond): // a client that reads nothing does not delay its end
	}
	_ = c.down.Close()
	_ = c.up.Close()
}

// collect takes what the parser has finished. It waits while too much does not fit into the database.
func (f *files) collect() {
	entries := f.p.Take()
	if len(entries) == 0 || !f.keep {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue) >= filesMost && !f.failed && !f.ended {
		f.room.Wait()
	}
	if len(f.queue) >= filesMost && !f.c.grant.Required { // a gap; else the session is about to end
		f.lost += len(entries)
		return
	}
	f.queue = append(f.queue, f.rows(entries)...)
	if len(f.queue) >= filesBatch {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

func (f *files) rows(entries []ledger.Entry) []store.Transfer {
	list := make([]store.Transfer, len(entries))
	for i, e := range entries {
		list[i] = store.Transfer{
			SessionID: f.c.s.row.ID, Channel: f.c.row.ID, Seq: e.Seq, Op: e.Op, Path: e.Path, NewPath: e.NewPath, Bytes: e.Bytes, First: e.Offset,
			SHA256: e.SHA256, InOrder: e.InOrder, Result: e.Result, Detail: audit.Escape(e.Detail), Started: e.Started, Ended: e.Ended,
		}
	}
	return list
}

// run writes lines until the channel is over. What is open for a while is noted, too: should this node die, it
// is known at least.
func (f *files) run() {
	defer close(f.done)
	tick := time.NewTicker(filesEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-f.wake:
		case now := <-tick.C:
			if open := f.p.Open(now.Add(-filesEvery)); len(open) > 0 && f.keep {
				f.mu.Lock()
				f.queue = append(f.queue, f.rows(open)...)
				f.mu.Unlock()
			}
		}
		f.write()
	}
}

// write puts what waits into the database. It is false if that was not possible; then it still waits.
func (f *files) write() bool {
	for {
		f.mu.Lock()
		batch := f.queue[:min(len(f.queue), filesMost/4)]
		f.mu.Unlock()
		if len(batch) == 0 {
			return true
		}
		err := f.c.s.m.cfg.Store.Transfers.Put(context.Background(), f.c.s.row.ID, f.c.row.ID, batch)
		f.mu.Lock()
		first := err != nil && !f.failed
		back := err == nil && f.failed
		if f.failed = err != nil; err == nil {
			f.queue = f.queue[len(batch):]
		}
		lost := f.lost
		if back {
			f.lost = 0
		}
		f.room.Broadcast()
		f.mu.Unlock()
		switch {
		case first:
			f.c.filesFailed(err)
		case back:
			_ = f.c.s.m.emit(context.Background(), f.c.event(audit.RecordFailed, audit.OK, "the ledger of files goes on", map[string]string{"lost": fmt.Sprint(lost)}))
		}
		if err != nil {
			return false
		}
	}
}

// filesFailed raises the alarm, and ends the session if the rule requires a recording.
func (c *channel) filesFailed(err error) {
	_ = c.s.m.emit(context.Background(), c.event(audit.RecordFailed, audit.Error, "the ledger of files: "+err.Error(), nil))
	if c.grant.Required {
		go c.s.End("its transfers of files could not be noted")
	}
}

// finish ends the ledger. What the database does not take now is written when it is back.
func (f *files) finish(exit *int) ledger.Summary {
	if r, ok := f.p.(*ledger.Rsync); ok && exit != nil {
		r.Exited(*exit)
	}
	func() {
		defer func() {
			if r := recover(); r != nil {
				f.p.Fail(time.Now(), "an error of the bastion itself")
			}
		}()
		f.p.End(time.Now())
	}()
	f.mu.Lock()
	f.ended = true
	f.room.Broadcast()
	f.mu.Unlock()
	f.collect()
	close(f.stop)
	<-f.done
	if !f.write() {
		f.mu.Lock()
		rest := f.queue
		f.mu.Unlock()
		f.c.s.m.later(func(ctx context.Context) error {
			return f.c.s.m.cfg.Store.Transfers.Put(ctx, f.c.s.row.ID, f.c.row.ID, rest)
		})
	}
	return f.p.Summary()
}

// transferred adds what one channel transferred to the sum of the session.
func (s *Session) transferred(sum ledger.Summary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files.Read += sum.Read
	s.files.Written += sum.Written
	s.files.BytesRead += sum.BytesRead
	s.files.BytesWritten += sum.BytesWritten
	s.files.Changed += sum.Changed
	s.files.Failed += sum.Failed
	s.files.Refused += sum.Refused
}

// filesDetail is what the event of an end says of files.
func filesDetail(sum ledger.Summary, detail map[string]string) {
	for key, n := range map[string]int64{
		"files-read": int64(sum.Read), "files-written": int64(sum.Written), "files-changed": int64(sum.Changed), "files-failed": int64(sum.Failed),
		"files-refused": int64(sum.Refused), "files-bytes-read": sum.BytesRead, "files-bytes-written": sum.BytesWritten,
	} {
		if n > 0 {
			detail[key] = fmt.Sprint(n)
		}
	}
}
