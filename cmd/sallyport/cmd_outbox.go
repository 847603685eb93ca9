package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/internal/web"
)

func outboxCommand(g *globals) *cobra.Command {
	return group("outbox", "Mails and short messages that wait, were sent or were given up", outboxListCommand(g), outboxRetryCommand(g), outboxDropCommand(g))
}

func outboxListCommand(g *globals) *cobra.Command {
	var state string
	var limit int
	c := action(g, "list", "List messages of the last week, newest first", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		q := url.Values{}
		if state != "" {
			q.Set("state", state)
		}
		if limit != 0 {
			q.Set("limit", itoa(limit))
		}
		var messages []admin.OutboxMessage
		if err := api.get(c.Context(), "/outbox", q, &messages); err != nil {
			return err
		}
		return printList(g, messages, "No messages.", []string{"ID", "KIND", "TO", "STATE", "TRIES", "CREATED", "NEXT", "ERROR"},
			func(m admin.OutboxMessage) []string {
				return []string{m.ID, m.Kind, m.Recipient, m.State, itoa(m.Tries), clock(m.Created), clock(m.Due), m.Error}
			})
	})
	c.Flags().StringVar(&state, "only", "", "waiting, sent or failed")
	c.Flags().IntVar(&limit, "limit", 0, "so many (default 100)")
	return c
}

func outboxRetryCommand(g *globals) *cobra.Command {
	return action(g, "retry ID…", "Send messages now, also those that were given up", cobra.MinimumNArgs(1), func(c *cobra.Command, api *client, ids []string) error {
		due := []admin.OutboxMessage{}
		for _, id := range ids {
			var m admin.OutboxMessage
			if err := api.call(c.Context(), http.MethodPost, route("outbox", id, "retry"), nil, &m); err != nil {
				return err
			}
			due = append(due, m)
		}
		return g.done(due, "%s sent now; see: sallyport outbox list", web.Plural(len(due), "message is", "messages are"))
	})
}

func outboxDropCommand(g *globals) *cobra.Command {
	return action(g, "drop ID…", "Delete messages", cobra.MinimumNArgs(1), func(c *cobra.Command, api *client, ids []string) error {
		dropped := []gone{}
		for _, id := range ids {
			if err := api.call(c.Context(), http.MethodDelete, route("outbox", id), nil, nil); err != nil {
				return err
			}
			dropped = append(dropped, gone{id, true})
		}
		return g.done(dropped, "deleted %s", web.Plural(len(dropped), "message", "messages"))
	})
}

func userContactCommand(g *globals) *cobra.Command {
	var email, phone, codes string
	c := action(g, "contact LOGIN", "Change where a user's messages and codes go", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var in admin.NewContact
		for flag, set := range map[string]func(){
			"email": func() { in.Email = &email },
			"phone": func() { in.Phone = &phone },
			"codes": func() {
				if codes == "default" {
					codes = ""
				}
				in.CodeBy = &codes
			},
		} {
			if c.Flags().Changed(flag) {
				set()
			}
		}
		if in == (admin.NewContact{}) {
			return usage("Give --email, --phone or --codes.", "say what to change")
		}
		var u admin.User
		if err := api.call(c.Context(), http.MethodPut, route("users", args[0], "contact"), in, &u); err != nil {
			return err
		}
		return g.done(u, "%s: e-mail %s, telephone %s, codes by %s", u.Login, orNone(u.Email), orNone(u.Phone), codesBy(u))
	})
	f := c.Flags()
	f.StringVar(&email, "email", "", "e-mail address of a local user; empty: none")
	f.StringVar(&phone, "phone", "", "telephone number of a local user; empty: none")
	f.StringVar(&codes, "codes", "", "how one-time codes are sent while the user has no token: mail, sms, off or default")
	return c
}

func codesBy(u admin.User) string {
	if u.CodeBy == "" {
		return "default"
	}
	return u.CodeBy
}
