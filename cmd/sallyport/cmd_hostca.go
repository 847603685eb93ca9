package main

import (
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
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
			what := "this line"
			if ca.Next != nil {
				what = "both lines, of the key of now and of the one that 'sallyport hostca activate' changes to,"
			}
			g.say("Put %s into /etc/ssh/ssh_known_hosts or ~/.ssh/known_hosts of people who use ssh -J:\n", what)
			if err := printLine(g.Out, ca.KnownHosts); err != nil || ca.Next == nil {
				return err
			}
			return printLine(g.Out, ca.Next.KnownHosts)
		})
	c.Flags().StringVar(&hosts, "hosts", "", "patterns such as '*.example.org,web*' (default: names and hosts of all targets)")
	c.AddCommand(action(g, "rotate", "Make the key that is to vouch next; the one of now goes on", cobra.NoArgs,
		func(c *cobra.Command, api *client, _ []string) error {
			var ca admin.HostCA
			if err := api.call(c.Context(), http.MethodPost, "/hostca/rotate", nil, &ca); err != nil {
				return err
			}
			return g.done(ca, "made the next key. Have clients know both (sallyport hostca); when all do: sallyport hostca activate (or, to do without it: sallyport hostca drop)")
		}), hostCAActivateCommand(g), hostCADropCommand(g))
	return c
}

func hostCAActivateCommand(g *globals) *cobra.Command {
	var in admin.ActivateHostCA
	c := action(g, "activate", "Have the next key vouch from now on, on all nodes, and remove the one of now for ever", cobra.NoArgs,
		func(c *cobra.Command, api *client, _ []string) error {
			var ca admin.HostCA
			if err := api.call(c.Context(), http.MethodPost, "/hostca/activate", in, &ca); err != nil {
				return err
			}
			if g.json() {
				return g.printJSON(ca)
			}
			g.say("the next key vouches now. Take the line of the one before from known_hosts; if somebody may have that key, put this there instead:\n")
			return printLine(g.Out, ca.Revoked)
		})
	c.Flags().BoolVar(&in.HostKeys, "host-keys", false, "have other host keys too: for when somebody may know them. Clients without the line are warned of a changed key")
	return c
}

func hostCADropCommand(g *globals) *cobra.Command {
	var yes bool
	c := action(g, "drop", "Remove the next key before it vouches; the one of now goes on", cobra.NoArgs,
		func(c *cobra.Command, api *client, _ []string) error {
			var ca admin.HostCA
			if err := api.get(c.Context(), "/hostca", nil, &ca); err != nil {
				return err
			}
			var in admin.DropKey
			if ca.Next != nil { // else the server says so
				in.Fingerprint = ca.Next.Fingerprint
				if !yes && !g.confirm("Drop the next key of the host CA, "+audit.Escape(in.Fingerprint)+"?", true) {
					return failed("Answer y, or use --yes.", "nothing was dropped")
				}
			}
			if err := api.call(c.Context(), http.MethodPost, "/hostca/drop", in, &ca); err != nil {
				return err
			}
			if g.json() {
				return g.printJSON(ca)
			}
			g.say("the next key is gone, and %s goes on. Take the line of the one that is gone from known_hosts; if somebody may have that key, put this there instead:\n", audit.Escape(ca.Fingerprint))
			return printLine(g.Out, ca.Revoked)
		})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
