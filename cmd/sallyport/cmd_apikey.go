package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sallyport/admin"
)

func apiKeyCommand(g *globals) *cobra.Command {
	return group("api-key", "Keys by which programs enrol people, have codes validated or read metrics", apiKeyAddCommand(g), apiKeyListCommand(g), apiKeyRevokeCommand(g))
}

func apiKeyAddCommand(g *globals) *cobra.Command {
	var in admin.NewAPIKey
	var length string
	c := action(g, "add NAME", "Make an API key, and print it once", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		in.Name = args[0]
		if len(in.Scopes) == 0 {
			return usage("Give one or more of enrolments:create, users:create, validate and metrics.", "a key needs --scope")
		}
		if length != "" && length != "never" {
			d, err := parseDuration(length)
			if err != nil {
				return err
			}
			expires := time.Now().Add(d)
			in.Expires = &expires
		}
		var k admin.IssuedAPIKey
		if err := api.call(c.Context(), http.MethodPost, "/api-keys", in, &k); err != nil {
			return err
		}
		if g.json() {
			return g.printJSON(k)
		}
		from := "anywhere"
		if len(k.Sources) > 0 {
			from = joined(k.Sources)
		}
		g.say("added API key %s for %s, from %s; it is shown this once:", k.Name, joined(k.Scopes), from)
		return printLine(g.Out, k.Secret)
	})
	f := c.Flags()
	f.StringArrayVar(&in.Scopes, "scope", nil, "what it opens: enrolments:create, users:create, validate or metrics, may be repeated")
	f.StringArrayVar(&in.Sources, "source", nil, "address or network it may be used from, may be repeated (default: anywhere)")
	f.StringVar(&length, "expires", "", "length of time until it expires, such as 90d (default: never)")
	f.IntVar(&in.PerMinute, "per-minute", 60, "calls a minute; as many may come at once")
	f.BoolVar(&in.AssertsSource, "asserts-source", false, "believe what it says about a person's address")
	return c
}

func apiKeyListCommand(g *globals) *cobra.Command {
	return action(g, "list", "List API keys", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var keys []admin.APIKey
		if err := api.get(c.Context(), "/api-keys", nil, &keys); err != nil {
			return err
		}
		return printList(g, keys, "No API keys. Make one: sallyport api-key add NAME --scope SCOPE",
			[]string{"ID", "NAME", "SCOPES", "SOURCES", "PER MINUTE", "LAST USED", "LAST FROM", "EXPIRES"},
			func(k admin.APIKey) []string {
				return []string{k.ID, k.Name, joined(k.Scopes), joined(k.Sources), strconv.Itoa(k.PerMinute), clock(k.LastUsed), k.LastSource, clock(k.Expires)}
			})
	})
}

func apiKeyRevokeCommand(g *globals) *cobra.Command {
	return action(g, "revoke ID", "Make an API key worthless", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if err := api.call(c.Context(), http.MethodDelete, route("api-keys", args[0]), nil, nil); err != nil {
			return err
		}
		return g.done(gone{args[0], true}, "revoked the API key; it opens nothing any more")
	})
}
