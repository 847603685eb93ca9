package main

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/store"
)

// credentialFlags are how the bastion logs in to a target.
func credentialFlags(c *cobra.Command, credential, passwordFile *string) {
	c.Flags().StringVar(credential, "credential", "", "how the bastion logs in: key (its one key), own-key (a key made for this target), certificate (of its CA, made for each connection), password, or relayed (what each person answers to the target's own prompts, where a rule says relay: true)")
	c.Flags().StringVar(passwordFile, "password-file", "", "file with the password in one line, - for standard input; means --credential password")
}

// targetPassword reads the file of a password, which also says what the credential is.
func (g *globals) targetPassword(file string, credential *string) (string, error) {
	if file == "" {
		return "", nil
	}
	if *credential == "" {
		*credential = store.CredentialPassword
	}
	if *credential != store.CredentialPassword {
		return "", usage("Leave one out.", "--password-file and --credential %s exclude each other", audit.Escape(*credential))
	}
	return g.readSecret(file)
}

func targetUpdateCommand(g *globals) *cobra.Command {
	var in admin.TargetChange
	var labels []string
	var password string
	c := action(g, "update NAME", "Change a target; what is not named stays", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var err error
		if in.Labels, err = parseLabels(labels); err != nil {
			return err
		}
		if in.Password, err = g.targetPassword(password, &in.Credential); err != nil {
			return err
		}
		named := false
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { named = named || f.Changed })
		if !named {
			return usage("See: sallyport target update --help", "nothing to change was named")
		}
		var t admin.Target
		if err := api.call(c.Context(), http.MethodPatch, route("targets", args[0]), in, &t); err != nil {
			return err
		}
		return g.done(t, "changed target %s; see that it works: sallyport target check %s", t.Name, t.Name)
	})
	f := c.Flags()
	f.StringVar(&in.Address, "address", "", "host:port (port 22 when absent)")
	f.StringVar(&in.Via, "via", "", "jump host: another target, or account@target; - for none any more")
	f.StringArrayVar(&in.Accounts, "account", nil, "account on the target, may be repeated; in the place of those before")
	f.StringArrayVar(&in.HostKeys, "host-key", nil, "host key, may be repeated; in the place of those before")
	f.StringArrayVar(&in.HostCAs, "host-ca", nil, "key that signs the host's certificate, may be repeated; in the place of those before")
	f.StringVar(&in.HostKeyMode, "host-key-mode", "", "pinned, tofu or ca (default: what --host-key or --host-ca need)")
	credentialFlags(c, &in.Credential, &password)
	f.StringArrayVar(&labels, "label", nil, "key=value that rules can speak of, may be repeated; in the place of those before")
	f.StringVar(&in.Note, "note", "", "note for operators")
	return c
}

// indented is lines as a block within text for people.
func indented(lines []string) string {
	return "  " + strings.Join(lines, "\n  ")
}
