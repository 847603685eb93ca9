package main

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"sallyport/admin"
)

func adminCommand(g *globals) *cobra.Command {
	return group("admin", "People who may operate the bastion", adminAddCommand(g), adminListCommand(g), adminRemoveCommand(g))
}

func adminAddCommand(g *globals) *cobra.Command {
	var role string
	c := action(g, "add LOGIN", "Make a user administrator or auditor", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var a admin.Admin
		if err := api.call(c.Context(), http.MethodPut, route("admins", args[0]), admin.NewRole{Role: admin.Role(role)}, &a); err != nil {
			return err
		}
		return g.done(a, "%s is now %s", a.Login, a.Role)
	})
	c.Flags().StringVar(&role, "role", string(admin.RoleAdmin), "admin (everything) or auditor (reads, replays, exports)")
	return c
}

func adminListCommand(g *globals) *cobra.Command {
	return action(g, "list", "List administrators and auditors", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var admins []admin.Admin
		if err := api.get(c.Context(), "/admins", nil, &admins); err != nil {
			return err
		}
		return printList(g, admins, "No administrators. Make a user one: sallyport admin add LOGIN", []string{"LOGIN", "ROLE", "SINCE"},
			func(a admin.Admin) []string { return []string{a.Login, string(a.Role), clock(a.Created)} })
	})
}

func adminRemoveCommand(g *globals) *cobra.Command {
	return action(g, "remove LOGIN", "Take a user's role", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if err := api.call(c.Context(), http.MethodDelete, route("admins", args[0]), nil, nil); err != nil {
			return err
		}
		return g.done(gone{args[0], true}, "%s has no role any more", args[0])
	})
}

func apiTokenCommand(g *globals) *cobra.Command {
	return group("api-token", "Tokens that open the API to programs", apiTokenAddCommand(g), apiTokenListCommand(g), apiTokenDeleteCommand(g))
}

func apiTokenAddCommand(g *globals) *cobra.Command {
	var role, length string
	c := action(g, "add NAME", "Make an API token, and print it once", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		in := admin.NewAPIToken{Name: args[0], Role: admin.Role(role)}
		if length != "" {
			d, err := parseDuration(length)
			if err != nil {
				return err
			}
			expires := time.Now().Add(d)
			in.Expires = &expires
		}
		var t admin.IssuedAPIToken
		if err := api.call(c.Context(), http.MethodPost, "/api-tokens", in, &t); err != nil {
			return err
		}
		if g.json() {
			return g.printJSON(t)
		}
		g.say("added API token %s with role %s; it is shown this once:", t.Name, t.Role)
		return printLine(g.Out, t.Secret)
	})
	c.Flags().StringVar(&role, "role", string(admin.RoleAuditor), "admin (everything) or auditor (reads, replays, exports)")
	c.Flags().StringVar(&length, "for", "", "length of time until it expires, such as 90d (default: never)")
	return c
}

func apiTokenListCommand(g *globals) *cobra.Command {
	return action(g, "list", "List API tokens", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var tokens []admin.APIToken
		if err := api.get(c.Context(), "/api-tokens", nil, &tokens); err != nil {
			return err
		}
		return printList(g, tokens, "No API tokens. Make one: sallyport api-token add NAME", []string{"ID", "NAME", "ROLE", "CREATED", "LAST USED", "EXPIRES"},
			func(t admin.APIToken) []string {
				return []string{t.ID, t.Name, string(t.Role), clock(t.Created), clock(t.LastUsed), clock(t.Expires)}
			})
	})
}

func apiTokenDeleteCommand(g *globals) *cobra.Command {
	return action(g, "delete ID", "Delete an API token", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if err := api.call(c.Context(), http.MethodDelete, route("api-tokens", args[0]), nil, nil); err != nil {
			return err
		}
		return g.done(gone{args[0], true}, "deleted the API token; it opens nothing any more")
	})
}
