package bastion

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/replay"
	"sallyport/session"
	"sallyport/store"
)

// Times of a session that is watched from here.
const (
	watchLook    = 5 * time.Second  // how often the right to watch is looked at again
	watchDoubt   = 15 * time.Second // for how long it may not be known
	watchEntry   = 10 * time.Second // how often the directory is asked whether a moderator still is one
	watchUnsure  = 15 * time.Minute // for how long it may not answer
	watchGrace   = 5 * time.Second  // for a client that reads nothing, once it is over
	watchLongest = 12 * time.Hour   // as one is signed in to the pages
)

// operator tells whether the person may do what the pages are for, an administrator's or auditor's: by their role,
// and a code of theirs, as the pages ask for one whatever the rules say. The role is "" if they have none.
func (r *reception) operator(ctx context.Context, purpose string) (role string, status uint32) {
	role, err := r.c.s.cfg.Store.Admins.Role(ctx, r.c.id.UserID)
	if err != nil {
		return "", r.failed("reading the role of a person", err)
	}
	if role == "" || r.c.s.cfg.Engine.FreshCode(r.c.id) {
		return role, statusOK
	}
	timer := time.AfterFunc(resyncTime, func() { _ = r.ch.Close() })
	defer timer.Stop()
	code, err := r.asker()("A fresh code of yours: ")
	if err != nil || code == "" {
		return "", r.fail(statusUsage, "a code is needed: operators prove who they are each time.")
	}
	if err := r.c.s.cfg.Engine.ProveCode(context.Background(), r.c.id, code, purpose); err != nil {
		return "", r.failed("proving a code", err)
	}
	return role, statusOK
}

// watchCommand shows a live session to an administrator or auditor until it is over or they leave. They only look.
func (r *reception) watchCommand(ctx context.Context, args []string, _ bool) uint32 {
	channel := 0
	if len(args) > 1 {
		var err error
		if channel, err = strconv.Atoi(args[1]); err != nil || channel < 1 || channel > 9999 {
			return r.fail(statusUsage, "%s is no number of a channel.", shorten(args[1]))
		}
	}
	role, status := r.operator(ctx, "session.watch")
	switch {
	case status != statusOK:
		return status
	case role == "":
		return r.fail(statusNo, "administrators and auditors watch sessions, and you have no such role.")
	}
	v, err := r.view(args[0], channel)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return r.fail(statusNo, "there is no session %s. Those that are open: ssh %s@bastion sessions", shorten(args[0]), audit.Escape(r.c.id.Login))
	case errors.Is(err, session.ErrNotWatchable):
		return r.fail(statusNo, "%s.", err)
	case err != nil:
		return r.failed("watching a session", err)
	}
	defer v.Close()
	return r.look(v)
}

// view begins to watch.
func (r *reception) view(id string, channel int) (*session.View, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	x, err := r.c.s.cfg.Store.Sessions.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	who := session.Watcher{Name: r.c.id.Login, Began: r.watched(x, "began"), Ended: r.watched(x, "ended")}
	switch u, err := r.c.s.cfg.Engine.Present(ctx, r.c.id.UserID); { // their groups decide whether they moderate: those of now
	case err == nil:
		who.UserID, who.Login, who.Groups = u.ID, u.Login, u.Groups
	case errors.Is(err, auth.ErrUnavailable):
		who.Note = "whether you may moderate cannot be told just now: the directory does not answer. You only watch"
	default:
		return nil, err
	}
	return r.c.s.cfg.Sessions.Watch(ctx, x.ID, channel, who)
}

// watched is the event of the beginning or the end of a watch, as of one on the pages.
func (r *reception) watched(x store.Session, what string) audit.Event {
	return audit.Event{
		Type: audit.SessionWatched, Result: audit.OK, Door: audit.DoorSSH, Actor: r.c.id.Login, Source: r.c.source.String(),
		User: x.User, Target: x.Target, Account: x.Account, Session: x.ID, Rule: x.Rule, Detail: map[string]string{"watch": what},
	}
}

// look shows v. Nothing that is typed reaches the session: q, Ctrl-C and Ctrl-D end the watching, and so does the end of
// the channel.
func (r *reception) look(v *session.View) uint32 {
	ctx, leave := context.WithTimeout(context.Background(), watchLongest)
	defer leave()
	go r.leaveByKey(leave)
	go func() {
		select {
		case <-ctx.Done():
		case <-r.left:
			leave()
		case <-r.c.s.stopping:
			v.End("this bastion stops")
		}
	}()
	go r.guardView(ctx, v)
	why, err := r.show(ctx, v)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return r.fail(statusNo, "you have watched for %s; begin anew to go on.", watchLongest)
	case ctx.Err() != nil:
		return r.fail(statusOK, "you watch no longer.")
	case err != nil:
		return r.failed("watching a session", err)
	}
	return r.fail(statusOK, "%s.", why)
}

// show writes what happens in v until it is over, and returns why it is.
func (r *reception) show(ctx context.Context, v *session.View) (why string, err error) {
	screen, sized := &replay.Filter{}, false
	defer func() { _, _ = io.WriteString(r.ch, replay.Reset) }() // the client may be gone
	for {
		e, err := v.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return why, nil
		case err != nil:
			return why, err
		}
		switch e.Code {
		case "r":
			var cols, rows uint32
			if _, err := fmt.Sscanf(e.Text, "%dx%d", &cols, &rows); err == nil && r.term && !sized && (r.pty.Cols < cols || r.pty.Rows < rows) {
				r.fail(statusOK, "this terminal is %dx%d, the session's is %dx%d: make the window larger to see it as it is.", r.pty.Cols, r.pty.Rows, cols, rows)
			}
			sized = true
		case "o":
			if _, err := r.ch.Write(screen.Append(nil, e.Text)); err != nil {
				return why, err
			}
		case "m":
			if why = e.Text; !sized && v.Watcher().Note != "" { // before anything else; the last one says why it is over
				r.fail(statusOK, "%s.", why)
			}
		}
	}
}

// leaveByKey leaves with q, Ctrl-C or Ctrl-D; on a terminal also when nothing can be typed any more.
func (r *reception) leaveByKey(leave func()) {
	key := make([]byte, 64)
	for {
		n, err := r.ch.Read(key)
		if slices.ContainsFunc(key[:n], func(b byte) bool { return b == 'q' || b == 0x03 || b == 0x04 }) {
			leave()
			return
		}
		if err != nil {
			if r.term {
				leave()
			}
			return
		}
	}
}

// guardView ends v when its watcher may not watch any more.
func (r *reception) guardView(ctx context.Context, v *session.View) {
	tick := time.NewTicker(watchLook)
	defer tick.Stop()
	last, asked, answered := time.Now(), time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		why, err := r.mayWatch(ctx, v)
		if moderates := v.Watcher().UserID != ""; err == nil && why == "" && moderates && time.Since(asked) >= watchEntry {
			asked = time.Now()
			if why, err = r.stillPresent(ctx, v); err == nil {
				answered = asked
			} else if err = nil; asked.Sub(answered) > watchUnsure {
				why = "the directory does not answer, so that nobody can tell whether you may still moderate"
			}
		}
		switch {
		case err == nil && why == "":
			last = time.Now()
			continue
		case err == nil:
			v.End(why)
		case time.Since(last) > watchDoubt:
			v.End("it cannot be told any more whether you may watch")
		default:
			continue
		}
		time.AfterFunc(watchGrace, func() { _ = r.ch.Close() }) // a client that reads nothing is not waited for
		return
	}
}

// mayWatch tells why the person may not watch any more; "" if they may.
func (r *reception) mayWatch(ctx context.Context, v *session.View) (why string, err error) {
	if why := r.c.ended(); why != "" {
		return why, nil
	}
	u, err := r.c.s.cfg.Store.Users.ByID(ctx, r.c.id.UserID)
	if errors.Is(err, store.ErrNotFound) {
		return "you may not watch any more", nil
	}
	if err != nil {
		return "", err
	}
	role, err := r.c.s.cfg.Store.Admins.Role(ctx, u.ID)
	switch {
	case err != nil:
		return "", err
	case role == "" || u.LockedNow(time.Now()):
		return "you may not watch any more", nil
	case v.Watcher().UserID != "" && !slices.Equal(u.Groups, v.Watcher().Groups): // by which they may moderate, or do not any more
		return "your groups have changed; watch again", nil
	}
	return "", nil
}

// stillPresent asks the directory too: why the person does not count any more, "" if they do, and an error while that
// cannot be told.
func (r *reception) stillPresent(ctx context.Context, v *session.View) (why string, err error) {
	u, err := r.c.s.cfg.Engine.Present(ctx, r.c.id.UserID)
	var refused *auth.Refused
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return "", err
	case errors.As(err, &refused):
		return strings.TrimSuffix(refused.Public, "."), nil
	case err != nil:
		return "", err
	case !slices.Equal(u.Groups, v.Watcher().Groups):
		return "your groups have changed; watch again", nil
	}
	return "", nil
}

// openSession is a line of sessions.
type openSession struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	Account string    `json:"account"`
	Target  string    `json:"target"`
	Source  string    `json:"source"`
	Node    string    `json:"node"`
	What    []string  `json:"what"`
	Waits   string    `json:"waits"`
	Started time.Time `json:"started"`
}

// maxOpen bounds the list of sessions.
const maxOpen = 1000

// sessionsCommand lists the sessions that are open: those of the person, or for administrators and auditors all.
func (r *reception) sessionsCommand(ctx context.Context, _ []string, asJSON bool) uint32 {
	role, status := r.operator(ctx, "session.list")
	if status != statusOK {
		return status
	}
	f := store.SessionFilter{State: store.Live, Limit: maxOpen}
	if role == "" {
		f.User = r.c.id.Login
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // a code may have been typed meanwhile
	defer cancel()
	found, err := r.c.s.cfg.Store.Sessions.List(ctx, f)
	if err != nil {
		return r.failed("listing sessions", err)
	}
	list, rows := []openSession{}, [][]string{{"ID", "WHO", "WHERE", "FROM", "WHAT", "SINCE", "WAITS FOR"}}
	for _, x := range found {
		if role == "" && x.UserID != r.c.id.UserID { // an earlier user of the same name
			continue
		}
		o := openSession{ID: x.ID, User: x.User, Account: x.Account, Target: x.Target, Source: x.Source, Node: x.Node, What: []string{}, Waits: x.Waits, Started: x.Started.UTC().Truncate(time.Second)}
		what := ""
		for _, c := range x.Channels {
			if c.Ended.IsZero() {
				o.What = append(o.What, c.Kind)
				if what != "" {
					what += ","
				}
				what += c.Kind
			}
		}
		list = append(list, o)
		rows = append(rows, []string{o.ID, o.User, o.Account + "@" + o.Target, o.Source, what, o.Started.Format("01-02 15:04 UTC"), o.Waits})
	}
	switch {
	case asJSON:
		return r.printJSON(list)
	case len(list) == 0 && role == "":
		return r.fail(statusOK, "you have no session open.")
	case len(list) == 0:
		return r.fail(statusOK, "no session is open.")
	}
	r.table(rows...)
	return statusOK
}
