package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/internal/web"
)

func itoa(n int) string { return strconv.Itoa(n) }

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

func auditCommand(g *globals) *cobra.Command {
	return group("audit", "What happened", auditListCommand(g), auditTailCommand(g), auditVerifyCommand(g), auditAcceptRestoreCommand(g), auditExportCommand(g))
}

// auditFlags narrow a list of events down.
type auditFlags struct {
	kind, user, target, result, session, query, since, until string
	limit                                                    int
}

func (a *auditFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.kind, "type", "", "type, such as login.refused")
	f.StringVar(&a.user, "user", "", "login")
	f.StringVar(&a.target, "target", "", "target")
	f.StringVar(&a.result, "result", "", "ok, refused or error")
	f.StringVar(&a.session, "session", "", "id of a session")
	f.StringVar(&a.query, "query", "", "part of any text")
}

func (a *auditFlags) values() (url.Values, error) {
	q := url.Values{"limit": {itoa(a.limit)}}
	for name, value := range map[string]string{
		"type": a.kind, "user": a.user, "target": a.target, "result": a.result, "session": a.session, "query": a.query,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q, setTimes(q, a.since, a.until)
}

// setTimes adds the times that people typed to a query.
func setTimes(q url.Values, since, until string) error {
	for name, text := range map[string]string{"since": since, "until": until} {
		if text == "" {
			continue
		}
		t, err := parseTime(text, time.Now())
		if err != nil {
			return err
		}
		q.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
	return nil
}

var auditHead = []string{"TIME", "TYPE", "RESULT", "USER", "SOURCE", "TARGET", "ACTOR", "WHAT"}

func auditRow(e admin.AuditEvent) []string {
	var words []string
	d := e.Detail
	for _, w := range []string{d["change"], d["channel"], d["kind"], d["channel-type"], d["request"], d["destination"], d["to"], e.Reason} {
		if w != "" {
			words = append(words, w)
		}
	}
	if e.Rule != "" {
		words = append(words, "(rule "+e.Rule+")")
	}
	what := strings.Join(words, " ")
	return []string{clock(e.Time), e.Type, e.Result, e.User, e.Source, e.Target, e.Actor, what}
}

func auditListCommand(g *globals) *cobra.Command {
	var flags auditFlags
	c := action(g, "list", "List events, newest first", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		q, err := flags.values()
		if err != nil {
			return err
		}
		var events []admin.AuditEvent
		if err := api.get(c.Context(), "/audit", q, &events); err != nil {
			return err
		}
		return printList(g, events, "No events that match.", auditHead, auditRow)
	})
	flags.register(c)
	c.Flags().StringVar(&flags.since, "since", "", "from this time on: a time, or a time ago such as 2h")
	c.Flags().StringVar(&flags.until, "until", "", "up to this time")
	c.Flags().IntVar(&flags.limit, "limit", 100, "how many, at most 1000")
	return c
}

// tailEvery is how often tail asks for new events.
const tailEvery = time.Second

func auditTailCommand(g *globals) *cobra.Command {
	var flags auditFlags
	c := action(g, "tail", "Print events as they happen, until Ctrl-C", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt)
		defer stop()
		return g.tail(ctx, api, &flags)
	})
	c.Long = "Print events as they happen, oldest first, beginning with the last few, until Ctrl-C.\nWith -o json each event is one line of JSON."
	flags.register(c)
	c.Flags().IntVar(&flags.limit, "last", 10, "how many past events to begin with")
	return c
}

func (g *globals) tail(ctx context.Context, api *client, flags *auditFlags) error {
	q, err := flags.values()
	if err != nil {
		return err
	}
	if flags.limit == 0 {
		q.Set("limit", "1") // where to begin
	}
	first := true
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for {
		var events []admin.AuditEvent
		if err := api.get(ctx, "/audit", q, &events); err != nil {
			if ctx.Err() != nil {
				return nil // Ctrl-C is how a tail ends
			}
			return err
		}
		if len(events) > 0 {
			q.Set("after", events[0].ID)
		}
		if !first || flags.limit > 0 {
			slices.Reverse(events)
			if err := g.printEvents(events); err != nil {
				return err
			}
		}
		if first {
			q.Set("limit", "1000")
			first = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// printEvents prints one event a line, without a table: the next ones are not known yet.
func (g *globals) printEvents(events []admin.AuditEvent) error {
	for _, e := range events {
		if g.json() {
			text, err := json.Marshal(e)
			if err != nil {
				return err
			}
			if err := printLine(g.Out, string(asciiControls(text))); err != nil {
				return err
			}
			continue
		}
		line := clock(e.Time) + "  " + e.Type + " " + e.Result
		for _, field := range [][2]string{{"user", e.User}, {"source", e.Source}, {"target", e.Target}, {"actor", e.Actor}, {"change", e.Detail["change"]}, {"reason", e.Reason}} {
			if field[1] != "" {
				line += "  " + field[0] + "=" + field[1]
			}
		}
		if err := printLine(g.Out, audit.Escape(line)); err != nil {
			return err
		}
	}
	return nil
}

func lockoutCommand(g *globals) *cobra.Command {
	return group("lockout", "Locks after too many failures", lockoutListCommand(g), lockoutAddCommand(g), lockoutClearCommand(g))
}

func lockoutListCommand(g *globals) *cobra.Command {
	return action(g, "list", "List locks in force, newest first", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var locks []admin.Lockout
		if err := api.get(c.Context(), "/lockouts", nil, &locks); err != nil {
			return err
		}
		return printList(g, locks, "No locks are in force.", []string{"ID", "USER", "SOURCE", "TARGET", "WHY", "SINCE", "UNTIL"},
			func(l admin.Lockout) []string {
				until := clock(l.Until)
				if until == "" {
					until = "cleared"
				}
				why := web.Plural(l.Failures, "failure", "failures")
				if l.Author != "" {
					why = l.Reason + " (" + l.Author + ")"
				}
				return []string{l.ID, l.User, l.Source, l.Target, why, clock(l.Since), until}
			})
	})
}

func lockoutAddCommand(g *globals) *cobra.Command {
	var in admin.NewLockout
	var length string
	c := action(g, "add ADDRESS --reason TEXT", "Lock an address, for everybody or for one user", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			in.Source = args[0]
			if in.Reason == "" {
				return usage("Use --reason, such as --reason 'scans us'.", "the reason is missing")
			}
			if length != "" {
				d, err := parseDuration(length)
				if err != nil {
					return err
				}
				until := time.Now().Add(d)
				in.Until = &until
			}
			var l admin.Lockout
			if err := api.call(c.Context(), http.MethodPost, "/lockouts", in, &l); err != nil {
				return err
			}
			return g.done(l, "locked %s; lift it with: sallyport lockout clear '%s'", args[0], l.ID)
		})
	c.Flags().StringVar(&in.User, "user", "", "login: only this user is locked there")
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for whoever finds the lock later")
	c.Flags().StringVar(&length, "for", "", "length of time, such as 8h or 7d (default: until it is cleared)")
	return c
}

func lockoutClearCommand(g *globals) *cobra.Command {
	var login, source string
	var all bool
	c := action(g, "clear [ID…]", "Lift locks and forget their failures", cobra.ArbitraryArgs, func(c *cobra.Command, api *client, ids []string) error {
		if (len(ids) > 0) == (login != "" || source != "" || all) {
			return usage("Give ids (sallyport lockout list), or --user LOGIN, or --source ADDRESS, or --all.", "say which locks to lift")
		}
		if len(ids) == 0 {
			var locks []admin.Lockout
			if err := api.get(c.Context(), "/lockouts", nil, &locks); err != nil {
				return err
			}
			for _, l := range locks {
				if all || (login == "" || l.User == login) && (source == "" || l.Source == source) {
					ids = append(ids, l.ID)
				}
			}
		}
		cleared := []gone{}
		for _, id := range ids {
			if err := api.call(c.Context(), http.MethodDelete, route("lockouts", id), nil, nil); err != nil {
				return err
			}
			cleared = append(cleared, gone{id, true})
		}
		return g.done(cleared, "lifted %s", web.Plural(len(cleared), "lock", "locks"))
	})
	c.Flags().StringVar(&login, "user", "", "those that hold this user")
	c.Flags().StringVar(&source, "source", "", "those that hold this address or network")
	c.Flags().BoolVar(&all, "all", false, "all of them")
	return c
}
