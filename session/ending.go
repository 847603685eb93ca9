package session

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/audit"
	"sallyport/internal/shift"
	"sallyport/recorder"
	"sallyport/store"
)

// fromTarget begins to pass on the target's requests in their order, and takes the channel down when the target
// has closed it. Close of the client's side, and EOF where [channel.streamOver] does not tell it, are held back
// until the exit status went out: x/crypto/ssh answers the client's close at once, and a status after that would be lost.
func (c *channel) fromTarget(reqs <-chan *ssh.Request, over func()) {
	shift.Each(reqs, shift.Requests(c.up), c.targetRequest, func() {
		c.answered()
		c.drained(0)
		if !c.exited {
			c.tellLost()
		}
		c.receipt()
		c.endOutput()
		c.s.vacate(c)
		_ = c.down.Close()
		c.closed(over)
	})
}

func (c *channel) targetRequest(r *ssh.Request) {
	switch r.Type {
	case "exit-status", "exit-signal":
		if c.exited { // a program ends once, and each would wait for output anew
			break
		}
		c.exited = true
		c.answered()
		c.drained(exitGrace)
		if c.noteExit(r) { // a client may die of a malformed one, and lose output it has not shown yet
			_, _ = c.down.SendRequest(r.Type, false, r.Payload)
		}
	case "xon-xoff", "eow@openssh.com":
		c.answered()
		_, _ = c.down.SendRequest(r.Type, false, r.Payload)
	}
	if r.WantReply {
		_ = r.Reply(false, nil)
	}
}

// closed is called once for each side that has closed the channel.
func (c *channel) closed(over func()) {
	if c.sides.Add(1) == 2 {
		c.close()
		over()
	}
}

// tellLost tells the person that the connection to the target was lost, if that is why the channel has ended before the
// program did: the client knows nothing of that connection, and would end without a word.
func (c *channel) tellLost() {
	select {
	case <-c.started:
	default:
		return
	}
	select {
	case <-c.left: // by itself
		return
	case <-c.s.closing: // the person reads why
		return
	default:
	}
	if !c.s.upstreamLost() {
		return
	}
	if c.rec != nil {
		_ = c.rec.Mark("session ended: " + upstreamClosed)
	}
	say(c.down, c.term != nil, "session ended: "+upstreamClosed+".")
	_, _ = c.down.SendRequest("exit-status", false, ssh.Marshal(exitStatus{255}))
}

// halfClosing is the part of an edited library's channel that tells an end of data from the end of the channel, and can leave
// the answer to a client's close to Close.
type halfClosing interface {
	PeerEOF() bool
	HoldClose()
}

// streamOver is called when stdout or stderr of the target has been passed on. When both have, and the program goes on, the
// client hears so at once. It may then close the channel, which must not keep the exit status from it: without the edited
// library that end comes with the status. On a terminal there are last words of ours to come, and a half has no meaning.
func (c *channel) streamOver() {
	defer c.fromUp.Done()
	if c.streams.Add(-1) > 0 || c.cut.Load() || c.term != nil {
		return
	}
	down, ok := c.down.(halfClosing)
	if !ok {
		return
	}
	if up, ok := c.up.(halfClosing); ok && up.PeerEOF() {
		down.HoldClose()
		c.endOutput()
	}
}

// endOutput tells the client that nothing follows. A refusal and the target's close can want to at once, for
// which x/crypto/ssh is not made.
func (c *channel) endOutput() { c.eof.Do(func() { _ = c.down.CloseWrite() }) }

// answered returns when the client has the answer to the request that made the target run something:
// a fast program's exit status and close must not overtake it.
func (c *channel) answered() {
	c.starting.Lock()
	defer c.starting.Unlock()
}

// exitGrace is how long an exit status waits for output that came before it. A program that left
// others running with its output open would otherwise hold it back for as long as they run.
const exitGrace = 100 * time.Millisecond

// drained returns when all that the target sent has been passed on, or after limit unless it is 0.
func (c *channel) drained(limit time.Duration) {
	select {
	case <-c.started:
	default:
		return
	}
	done := make(chan struct{})
	go func() { c.fromUp.Wait(); close(done) }()
	var timeout <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-done:
	case <-timeout:
	}
}

// noteExit keeps how the program ended. It is false if the target's request is malformed.
func (c *channel) noteExit(r *ssh.Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Type == "exit-status" {
		var p exitStatus
		if ssh.Unmarshal(r.Payload, &p) != nil {
			return false
		}
		n := int(p.Status)
		c.row.ExitStatus = &n
		return true
	}
	var p exitSignal
	if ssh.Unmarshal(r.Payload, &p) != nil {
		return false
	}
	c.row.ExitSignal = audit.Escape(p.Signal)
	return true
}

// exitSignal is the payload of an exit-signal request (RFC 4254, section 6.10).
type exitSignal struct {
	Signal     string
	CoreDumped bool
	Message    string
	Language   string
}

// receipt is the last line of a shell: it tells the person that they were recorded, and an id to quote.
func (c *channel) receipt() {
	select {
	case <-c.started:
	default:
		return // a start that is under way may still give the recording up
	}
	if c.rec != nil && c.term != nil && c.row.Kind == kindShell {
		// Not through the recorder: it is no output of the target.
		say(c.down, true, fmt.Sprintf("session %s was recorded.", c.s.row.ID))
	}
}

// end tells the person on this channel that the session is over.
func (c *channel) end(reason string) {
	select {
	case <-c.started:
		if c.rec != nil {
			_ = c.rec.Mark("session ended: " + audit.Escape(reason))
		}
		say(c.down, c.term != nil, "session ended: "+audit.Escape(reason)+".")
		_, _ = c.down.SendRequest("exit-status", false, ssh.Marshal(exitStatus{255}))
	default:
		if holding := c.holding.Load(); holding != nil {
			say(c.down, *holding, "session ended: "+audit.Escape(reason)+".")
			_, _ = c.down.SendRequest("exit-status", false, ssh.Marshal(exitStatus{255}))
		}
	}
	_ = c.down.Close()
	_ = c.up.Close()
}

// close seals the recording and writes the end of the channel.
func (c *channel) close() {
	close(c.over)
	c.untap()
	if c.running && c.term != nil {
		c.s.terminalClosed()
	}
	_ = c.up.Close()
	_ = c.down.Close()
	if !c.written {
		return // it never became anything
	}
	row := c.snapshot()
	row.Ended = time.Now()
	detail := map[string]string{"kind": row.Kind, "bytes-in": fmt.Sprint(row.BytesIn), "bytes-out": fmt.Sprint(row.BytesOut)}
	if c.files != nil && c.running {
		sum := c.files.finish(row.ExitStatus)
		row.FilesRead, row.FilesWritten = sum.Read, sum.Written
		filesDetail(sum, detail)
		c.s.transferred(sum)
	}
	if row.ExitStatus != nil {
		detail["exit-status"] = fmt.Sprint(*row.ExitStatus)
	}
	if c.rec != nil {
		if row.ExitStatus != nil {
			_ = c.rec.ExitStatus(*row.ExitStatus)
		} else if row.ExitSignal != "" {
			_ = c.rec.ExitSignal(row.ExitSignal)
		}
		sum, err := c.rec.Close()
		if err != nil {
			_ = c.s.m.emit(context.Background(), c.event(audit.RecordFailed, audit.Error, err.Error(), nil))
		}
		c.endGap(sum)
		row.Recording, row.SHA256, row.Truncated = sum.Path, sum.SHA256, sum.Truncated
		if err == nil {
			row.Sealed = sealedRow(sum)
		}
		detail["recording"], detail["root"], detail["sha256"] = sum.Path, sum.Root, sum.SHA256
		c.s.sealed(row.ID, sum.Root)
		if sum.BLAKE3 != "" {
			detail["blake3"] = sum.BLAKE3
		}
	}
	if c.rec == nil && row.Sealed != nil { // of something that never ran
		detail["recording"], detail["root"] = row.Sealed.Path, row.Sealed.Root
		c.s.sealed(row.ID, row.Sealed.Root)
	}
	c.s.noteChannelEnd(row, c.event(audit.ChannelEnded, audit.OK, "", detail))
}

// sealedRow is a sealed recording as its row tells of it.
func sealedRow(sum recorder.Summary) *store.SealedRecording {
	return &store.SealedRecording{Path: sum.Path, Root: sum.Root, Bytes: sum.Bytes, Packed: sum.Packed, Parts: sum.Parts}
}
