package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"sallyport/admin"
)

func userEnrolLinkCommand(g *globals) *cobra.Command {
	var in admin.NewEnrolLink
	var yes bool
	c := action(g, "enrol-link LOGIN", "Make a one-time link by which a user sets up a token, and print it once", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			if in.Reset && !yes && !g.confirm("Take all tokens and recovery codes of "+args[0]+" away?", true) {
				return failed("Answer y, or use --yes.", "nothing was changed")
			}
			var made admin.EnrolLink
			if err := api.call(c.Context(), http.MethodPost, route("users", args[0], "enrol-link"), in, &made); err != nil {
				return err
			}
			if !g.json() {
				g.say("Good once, until %s, in the first browser that opens it, with the password of %s. It is shown this once:", clock(made.Expires), made.Login)
			}
			return g.printFields(made, "link", made.URL)
		})
	c.Flags().BoolVar(&in.Reset, "reset", false, "take all tokens and recovery codes away first")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func userSendEnrolmentCommand(g *globals) *cobra.Command {
	var in admin.SendEnrolments
	c := action(g, "send-enrolment [LOGIN…]", "Mail users a one-time link by which they set up a token", cobra.ArbitraryArgs,
		func(c *cobra.Command, api *client, args []string) error {
			in.Logins = args
			var out []admin.SentEnrolment
			if err := api.call(c.Context(), http.MethodPost, "/enrolments/links", in, &out); err != nil {
				return err
			}
			return printList(g, out, "There is nobody to send a link to.", []string{"LOGIN", "SENT", "WHY NOT"},
				func(s admin.SentEnrolment) []string { return []string{s.Login, yesNo(s.Sent), s.Reason} })
		})
	c.Flags().StringVar(&in.Group, "group", "", "to everybody in this group")
	c.Flags().BoolVar(&in.AllWithoutToken, "all-without-token", false, "to everybody who has no token")
	return c
}

func userWithoutTokenCommand(g *globals) *cobra.Command {
	return action(g, "without-token LOGIN", "Grant a user the configured logins without a code anew", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			var u admin.User
			if err := api.call(c.Context(), http.MethodPost, route("users", args[0], "without-token"), nil, &u); err != nil {
				return err
			}
			return g.done(u, "%s may log in without a code again, as often as the configuration says", u.Login)
		})
}

func tokenApproveCommand(g *globals) *cobra.Command {
	return action(g, "approve LOGIN TOKEN", "Approve a token that a user has enrolled", cobra.ExactArgs(2),
		func(c *cobra.Command, api *client, args []string) error {
			var t admin.Token
			if err := api.call(c.Context(), http.MethodPost, route("users", args[0], "tokens", args[1], "approve"), nil, &t); err != nil {
				return err
			}
			return g.done(t, "the token %s of %s is %s", t.Name, args[0], t.State)
		})
}

func tokenWaitingCommand(g *globals) *cobra.Command {
	return action(g, "waiting", "List tokens that wait for approval, oldest first", cobra.NoArgs,
		func(c *cobra.Command, api *client, _ []string) error {
			var list []admin.WaitingToken
			if err := api.get(c.Context(), "/enrolments/waiting", nil, &list); err != nil {
				return err
			}
			return printList(g, list, "No token waits.", []string{"USER", "ID", "NAME", "CREATED"},
				func(w admin.WaitingToken) []string {
					return []string{w.User, w.Token.ID, w.Token.Name, clock(w.Token.Created)}
				})
		})
}
