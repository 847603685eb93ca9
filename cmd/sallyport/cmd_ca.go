package main

import (
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
)

func caCommand(g *globals) *cobra.Command {
	step := func(use, short, next string, args ...any) *cobra.Command {
		return action(g, use, short, cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
			var ca admin.UserCA
			if err := api.call(c.Context(), http.MethodPost, "/ca/"+use, nil, &ca); err != nil {
				return err
			}
			return g.done(ca, next, args...)
		})
	}
	return group("ca", "The key by whose certificates the bastion logs in to targets",
		action(g, "show", "Print the lines for TrustedUserCAKeys, and what belongs into sshd_config", cobra.NoArgs,
			func(c *cobra.Command, api *client, _ []string) error {
				var ca admin.UserCA
				if err := api.get(c.Context(), "/ca", nil, &ca); err != nil {
					return err
				}
				if g.json() {
					return g.printJSON(ca)
				}
				g.say("Put this into /etc/ssh/sallyport-user-ca.pub of each target with --credential certificate, and into its sshd_config:\n\n%s\n", indented(ca.Config))
				for _, k := range ca.Keys {
					g.say("%s %s: %s", k.State, audit.Escape(k.Fingerprint), caStates[k.State])
				}
				return g.printCA(ca)
			}),
		step("rotate", "Make the key that is to sign next; the one of now goes on signing",
			"made the next key. Put both keys on the targets (sallyport ca show); when all have them: sallyport ca activate"),
		step("activate", "Have the next key sign from now on, on all nodes",
			"the next key signs now. When all works (sallyport target check NAME): sallyport ca retire"),
		step("retire", "Remove the old key for ever",
			"removed the old key. Take its line off the targets too: sallyport ca show prints what should be there"),
		caDropCommand(g))
}

func caDropCommand(g *globals) *cobra.Command {
	var yes bool
	c := action(g, "drop", "Remove the next key before it signs; the one of now goes on", cobra.NoArgs,
		func(c *cobra.Command, api *client, _ []string) error {
			var ca admin.UserCA
			if err := api.get(c.Context(), "/ca", nil, &ca); err != nil {
				return err
			}
			var in admin.DropKey
			if i := slices.IndexFunc(ca.Keys, func(k admin.CAKey) bool { return k.State == "next" }); i >= 0 { // else the server says so
				in.Fingerprint = ca.Keys[i].Fingerprint
				if !yes && !g.confirm("Drop the next key of the CA, "+audit.Escape(in.Fingerprint)+"?", true) {
					return failed("Answer y, or use --yes.", "nothing was dropped")
				}
			}
			if err := api.call(c.Context(), http.MethodPost, "/ca/drop", in, &ca); err != nil {
				return err
			}
			return g.done(ca, "the next key is gone, and %s goes on signing. Take the line of the one that is gone off the targets", audit.Escape(ca.Fingerprint))
		})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// caStates say what a key is for.
var caStates = map[string]string{
	"active": "signs now",
	"next":   "will sign after 'sallyport ca activate'",
	"old":    "has signed; goes with 'sallyport ca retire'",
}

// printCA prints one line for each key that targets should trust.
func (g *globals) printCA(ca admin.UserCA) error {
	for _, k := range ca.Keys {
		if err := printLine(g.Out, audit.Escape(k.PublicKey)); err != nil {
			return err
		}
	}
	return nil
}
