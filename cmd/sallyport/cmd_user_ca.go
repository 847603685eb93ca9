package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/internal/web"
)

func userCACommand(g *globals) *cobra.Command {
	return group("user-ca", "Authorities whose certificates stand for the password of people",
		userCAAddCommand(g), userCAListCommand(g), userCARevokeCommand(g),
		userCASwitchCommand(g, "enable", "Let the certificates of an authority count again", true),
		userCASwitchCommand(g, "disable", "Refuse the certificates of an authority, and keep what was revoked", false),
		userCARemoveCommand(g))
}

func userCAAddCommand(g *globals) *cobra.Command {
	var file string
	c := action(g, "add NAME --key-file FILE", "Let the certificates of an authority stand for the password of the people they name", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			if file == "" {
				return usage("Give it: --key-file ca.pub (- for standard input)", "the authority's public key is missing")
			}
			text, err := g.readInput(file)
			if err != nil {
				return err
			}
			var ca admin.LoginCA
			if err := api.call(c.Context(), http.MethodPost, "/user-cas", admin.NewLoginCA{Name: args[0], PublicKey: string(text)}, &ca); err != nil {
				return err
			}
			return g.done(ca, "added user CA %s (%s)", ca.Name, ca.Fingerprint)
		})
	c.Flags().StringVar(&file, "key-file", "", "file with the authority's public key (- for standard input)")
	return c
}

func userCAListCommand(g *globals) *cobra.Command {
	return action(g, "list", "List the authorities, newest first; -o json shows what was revoked", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var cas []admin.LoginCA
		if err := api.get(c.Context(), "/user-cas", nil, &cas); err != nil {
			return err
		}
		return printList(g, cas, "No user CAs: certificates of people are refused. Add one: sallyport user-ca add NAME --key-file ca.pub",
			[]string{"NAME", "FINGERPRINT", "STATE", "REVOKED", "CREATED", "LAST USED"},
			func(ca admin.LoginCA) []string {
				state := "ok"
				if !ca.Enabled {
					state = "disabled"
				}
				return []string{ca.Name, ca.Fingerprint, state, itoa(len(ca.Revoked)), clock(ca.Created), clock(ca.LastUsed)}
			})
	})
}

func userCARevokeCommand(g *globals) *cobra.Command {
	var in admin.NewRevocation
	c := action(g, "revoke NAME", "Refuse certificates of an authority from now on, by serial number or key id", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			if (in.Serial == "") == (in.KeyID == "") {
				return usage("ssh-keygen -L -f id-cert.pub shows both.", "say what to revoke by --serial N or by --key-id ID")
			}
			var ca admin.LoginCA
			if err := api.call(c.Context(), http.MethodPost, route("user-cas", args[0], "revocations"), in, &ca); err != nil {
				return err
			}
			return g.done(ca, "revoked; user CA %s has %s", ca.Name, web.Plural(len(ca.Revoked), "revocation", "revocations"))
		})
	c.Flags().StringVar(&in.Serial, "serial", "", "serial number of one certificate")
	c.Flags().StringVar(&in.KeyID, "key-id", "", "key id of all certificates that have it")
	return c
}

func userCASwitchCommand(g *globals, verb, short string, enabled bool) *cobra.Command {
	return action(g, verb+" NAME", short, cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var ca admin.LoginCA
		if err := api.call(c.Context(), http.MethodPatch, route("user-cas", args[0]), admin.LoginCAChange{Enabled: enabled}, &ca); err != nil {
			return err
		}
		return g.done(ca, "%sd user CA %s", verb, ca.Name)
	})
}

func userCARemoveCommand(g *globals) *cobra.Command {
	var yes bool
	c := action(g, "remove NAME", "Remove an authority, and what it has revoked", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if !yes && !g.confirm("Remove user CA "+args[0]+", and forget what was revoked of it?", true) {
			return failed("Answer y, or use --yes.", "nothing was removed")
		}
		if err := api.call(c.Context(), http.MethodDelete, route("user-cas", args[0]), nil, nil); err != nil {
			return err
		}
		return g.done(gone{args[0], true}, "removed user CA %s", args[0])
	})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
