package main

import (
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
)

func searchCommand(g *globals) *cobra.Command {
	var who, target, session, since, until, before string
	var limit int
	c := action(g, "search TEXT", "Search what was on the screens of recorded sessions", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		q := url.Values{"text": {args[0]}, "limit": {itoa(limit)}}
		for name, value := range map[string]string{"user": who, "target": target, "session": session, "before": before} {
			if value != "" {
				q.Set(name, value)
			}
		}
		if err := setTimes(q, since, until); err != nil {
			return err
		}
		var found admin.SearchResult
		if err := api.get(c.Context(), "/search", q, &found); err != nil {
			return err
		}
		if g.json() {
			return g.printJSON(found)
		}
		none := "No line has this text. Words must be whole, or end with *."
		if found.Next != "" {
			none = "No hit so far."
		}
		err := printList(g, found.Hits, none, []string{"TIME", "USER", "TARGET", "SESSION", "SECOND", "LINE"}, func(h admin.SearchHit) []string {
			return []string{clock(h.Time), h.User, h.Target, recordingName(h.Session, h.Channel), strconv.FormatFloat(h.Second, 'f', 1, 64), around(h)}
		})
		if err != nil {
			return err
		}
		if found.SearchedDown != nil {
			g.say("searched back to %s; for older ones: --before %s", clock(found.SearchedDown), audit.Escape(found.Next))
		} else if found.Next != "" {
			g.say("there is more: --before %s", audit.Escape(found.Next))
		}
		return nil
	})
	c.Long = "Search what was on the screens of recorded sessions, newest first. TEXT stands on one line with all its punctuation; its words are\n" +
		"whole, but for a * at the end; upper and lower case are alike. What was typed and not shown, such as a password, is not searched.\n" +
		"Each search leaves an audit event. To see the moment: sallyport session play SESSION --at TIME"
	f := c.Flags()
	f.StringVar(&who, "user", "", "login")
	f.StringVar(&target, "target", "", "target")
	f.StringVar(&session, "session", "", "id of one session")
	f.StringVar(&since, "since", "", "seen from this time on: a time, or a time ago such as 2h")
	f.StringVar(&until, "until", "", "seen before this time")
	f.StringVar(&before, "before", "", "go on with older ones from here")
	f.IntVar(&limit, "limit", 50, "how many, at most 1000")
	return c
}

// recordingName is a session, with the channel if it is not the first.
func recordingName(session string, channel int) string {
	if channel == 1 {
		return session
	}
	return fmt.Sprintf("%s/%d", session, channel)
}

// around is the line of a hit, cut around the text if it is long.
func around(h admin.SearchHit) string {
	if h.From < 0 || h.From > h.To || h.To > len(h.Line) {
		return h.Line
	}
	before, after := []rune(h.Line[:h.From]), []rune(h.Line[h.To:])
	if len(before) > 60 {
		before = append([]rune("…"), before[len(before)-50:]...)
	}
	if len(after) > 80 {
		after = append(after[:80:80], '…')
	}
	return string(before) + h.Line[h.From:h.To] + string(after)
}

func sessionCommandsCommand(g *globals) *cobra.Command {
	c := action(g, "commands ID", "List the commands of a session", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var list []admin.SessionCommand
		if err := api.get(c.Context(), route("sessions", args[0], "commands"), nil, &list); err != nil {
			return err
		}
		return printList(g, list, "No commands were found.", []string{"TIME", "CHANNEL", "SECOND", "FOUND BY", "COMMAND"}, func(x admin.SessionCommand) []string {
			return []string{clock(x.Time), itoa(x.Channel), strconv.FormatFloat(x.Second, 'f', 1, 64), x.FoundBy, x.Command}
		})
	})
	c.Long = "List the commands of a session: what clients asked to run, in full (request), and what was found on the screens of shells. The\n" +
		"latter is an aid: it was echoed behind what looks like a prompt (prompt), or between the shell's own marks (marks). The recording counts."
	return c
}
