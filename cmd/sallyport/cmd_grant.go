package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/internal/web"
)

func grantCommand(g *globals) *cobra.Command {
	return group("grant", "Codes that are remembered, and where they are not asked for again", grantListCommand(g), grantRevokeCommand(g))
}

func grantListCommand(g *globals) *cobra.Command {
	var login string
	c := action(g, "list", "List remembered codes, the last used first", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var grants []admin.Grant
		q := url.Values{}
		if login != "" {
			q.Set("user", login)
		}
		if err := api.get(c.Context(), "/grants", q, &grants); err != nil {
			return err
		}
		return printList(g, grants, "No codes are remembered.", []string{"ID", "USER", "FROM", "FIRST FACTOR", "CLIENT", "RULE", "CODE AT", "USES", "LAST USED"},
			func(r admin.Grant) []string {
				return []string{r.ID, r.User, r.Network, r.FirstFactor, r.Client, r.Rule, clock(r.CodeAt), itoa(r.Uses), clock(r.LastUsed)}
			})
	})
	c.Flags().StringVar(&login, "user", "", "login: of this user only")
	return c
}

func grantRevokeCommand(g *globals) *cobra.Command {
	var all bool
	c := action(g, "revoke LOGIN [ID…]", "End remembered codes of a user, so that they are asked for again", cobra.MinimumNArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			login, ids := args[0], args[1:]
			if all == (len(ids) > 0) {
				return usage("Give ids (sallyport grant list --user "+login+") or --all.", "say which grants to end")
			}
			if all {
				var r admin.Revoked
				if err := api.call(c.Context(), http.MethodPost, route("users", login, "grants", "revoke"), nil, &r); err != nil {
					return err
				}
				return g.done(r, "ended %s of %s", web.Plural(r.Revoked, "grant", "grants"), login)
			}
			ended := []gone{}
			for _, id := range ids {
				if err := api.call(c.Context(), http.MethodDelete, route("users", login, "grants", id), nil, nil); err != nil {
					return err
				}
				ended = append(ended, gone{id, true})
			}
			return g.done(ended, "ended %s of %s", web.Plural(len(ended), "grant", "grants"), login)
		})
	c.Flags().BoolVar(&all, "all", false, "all of them")
	return c
}
