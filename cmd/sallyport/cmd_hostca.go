package main

import (
	"net/url"

	"github.com/spf13/cobra"

	"sallyport/admin"
)

func hostCACommand(g *globals) *cobra.Command {
	var hosts string
	c := action(g, "hostca", "Print the line of known_hosts by which ssh -J trusts the bastion in the place of targets", cobra.NoArgs,
		func(c *cobra.Command, api *client, _ []string) error {
			q := url.Values{}
			if hosts != "" {
				q.Set("hosts", hosts)
			}
			var ca admin.HostCA
			if err := api.get(c.Context(), "/hostca", q, &ca); err != nil {
				return err
			}
			switch {
			case g.json():
				return g.printJSON(ca)
			case ca.KnownHosts == "":
				return failed("Add targets first, or give --hosts PATTERNS.", "there is no target to trust the bastion for")
			}
			g.say("Put this line into /etc/ssh/ssh_known_hosts or ~/.ssh/known_hosts of people who use ssh -J:\n")
			return printLine(g.Out, ca.KnownHosts)
		})
	c.Flags().StringVar(&hosts, "hosts", "", "patterns such as '*.example.org,web*' (default: names and hosts of all targets)")
	return c
}
