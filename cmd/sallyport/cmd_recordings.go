package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/internal/web"
)

func sessionHoldCommand(g *globals) *cobra.Command {
	var in admin.NewHold
	c := action(g, "hold ID", "Keep the recordings of a session from being deleted", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if err := api.call(c.Context(), http.MethodPost, route("sessions", args[0], "hold"), in, nil); err != nil {
			return err
		}
		held := struct {
			ID   string `json:"id"`
			Held bool   `json:"held"`
		}{args[0], true}
		return g.done(held, "the recordings of session %s are held", audit.Escape(args[0]))
	})
	c.Flags().StringVar(&in.Reason, "reason", "", "why, such as the number of a case")
	return c
}

func sessionReleaseCommand(g *globals) *cobra.Command {
	return action(g, "release ID", "End the hold of a session", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if err := api.call(c.Context(), http.MethodDelete, route("sessions", args[0], "hold"), nil, nil); err != nil {
			return err
		}
		held := struct {
			ID   string `json:"id"`
			Held bool   `json:"held"`
		}{args[0], false}
		return g.done(held, "session %s is released", audit.Escape(args[0]))
	})
}

func sessionGiveUpCommand(g *globals) *cobra.Command {
	var in admin.GiveUp
	c := action(g, "give-up ID", "Wait no longer for what a lost node has of the recordings of a session", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var found admin.GivenUp
		if err := api.call(c.Context(), http.MethodPost, route("sessions", args[0], "give-up"), in, &found); err != nil {
			return err
		}
		return g.done(found, "the tail of %s of session %s is not waited for any more", web.Plural(found.Recordings, "recording", "recordings"), audit.Escape(args[0]))
	})
	c.Flags().StringVar(&in.Reason, "reason", "", "why, such as that the disk is destroyed")
	c.Long = c.Short + ".\nWhat other nodes have sealed counts as sealed, and is deleted when its time is over; what was on the disk of the node\nalone counts as deleted. If the node comes back after all, its recordings are there again."
	return c
}

func sessionStorageCommand(g *globals) *cobra.Command {
	return action(g, "storage", "Tell how it stands with recordings: kept, waiting for the bucket, space", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var s admin.RecordingStatus
		if err := api.get(c.Context(), "/recordings", nil, &s); err != nil {
			return err
		}
		bucket := "none"
		if s.Store {
			bucket = web.Plural(s.Stored, "recording was", "recordings were") + " stored since the start, " + web.Plural(s.Failures, "request", "requests") + " failed"
		}
		waiting := "nothing"
		if s.Waiting > 0 {
			waiting = fmt.Sprintf("%s, %s, since %s", web.Plural(s.Waiting, "recording", "recordings"), byteCount(s.WaitingBytes), clock(s.WaitingSince))
		}
		bound := func(n int64) string {
			if n == 0 {
				return "none"
			}
			return byteCount(n)
		}
		return g.printFields(s, "node", s.Node, "kept", fmt.Sprintf("%s, %s sealed", web.Plural(s.Kept, "recording", "recordings"), byteCount(s.KeptBytes)), "quota", bound(s.QuotaBytes), "on nodes", itoa(s.OnNodes),
			"tail pending", itoa(s.TailPending), "held sessions", itoa(s.HeldSessions), "free here", byteCount(s.FreeBytes), "reserve", bound(s.ReserveBytes), "refusing", s.Refusing, "bucket", bucket, "waiting here", waiting, "problem", s.Problem)
	})
}

// recordingsOf are the lines of session show about recordings.
func recordingsOf(c *cobra.Command, api *client, id string) (admin.SessionRecordings, error) {
	var found admin.SessionRecordings
	return found, api.get(c.Context(), route("sessions", id, "recordings"), nil, &found)
}

func (g *globals) printRecordings(found admin.SessionRecordings) error {
	if len(found.Recordings) > 0 {
		fmt.Fprintln(g.Out)
	}
	for _, r := range found.Recordings {
		if err := printLine(g.Out, fmt.Sprintf("recording of channel %d: %s", r.Channel, admin.RecordingInWords(r, found.Hold != nil))); err != nil {
			return err
		}
	}
	if h := found.Hold; h != nil {
		return printLine(g.Out, fmt.Sprintf("held by %s since %s: %s", audit.Escape(h.By), clock(h.Since), audit.Escape(h.Reason)))
	}
	return nil
}
