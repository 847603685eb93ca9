package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sallyport/admin"
)

func radiusCommand(g *globals) *cobra.Command {
	return group("radius", "VPNs and gateways that ask by RADIUS",
		group("client", "The machines that may ask",
			radiusAddCommand(g), radiusListCommand(g), radiusShowCommand(g), radiusUpdateCommand(g),
			radiusSwitchCommand(g, "enable", "Answer a client again", true), radiusSwitchCommand(g, "disable", "Answer a client no more", false),
			radiusRemoveCommand(g)),
		radiusDoctorCommand(g), radiusStrangersCommand(g))
}

// radiusFlags are what a client is.
type radiusFlags struct {
	networks                                 []string
	secretFile, nas, mode, separator, signed string
	attribute, remember, note, certificate   string
	certificateName                          string
	generate, sends, asserts, chap, mschap   bool
}

func (r *radiusFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&r.networks, "network", nil, "address or network that it asks from, may be repeated")
	f.StringVar(&r.secretFile, "secret-file", "", "file with the shared secret, at least 16 characters (- for standard input)")
	f.StringVar(&r.nas, "nas-identifier", "", "NAS-Identifier that tells it from others at the same addresses")
	f.StringVar(&r.certificate, "certificate", "", "SHA-256 fingerprint of the certificate by which it comes by TLS (RadSec); then it is not answered by UDP")
	f.StringVar(&r.certificateName, "certificate-name", "", "in the place of it: name in its certificate, which an authority of radius.radsec.client-ca-file has signed, such as dns:vpn.example.org")
	f.StringVar(&r.mode, "mode", "", "what it sends as the password: code, password+code or challenge (the default of a new one)")
	f.StringVar(&r.separator, "separator", "", "sign between password and code, such as a comma; without one the code is as long as those of the person's tokens")
	f.StringVar(&r.signed, "message-authenticator", "", "whether it must send Message-Authenticator: yes (the default of a new one), no, or auto: from the first one on")
	f.BoolVar(&r.sends, "send-message-authenticator", true, "answers carry Message-Authenticator; =false for old machines that discard such answers")
	f.BoolVar(&r.asserts, "asserts-source", false, "believe what it says about the person's address")
	f.StringVar(&r.attribute, "source-attribute", "", "attribute with that address: Calling-Station-Id or Tunnel-Client-Endpoint")
	f.StringVar(&r.remember, "remember", "", "time in which a person at the same Calling-Station-Id need not type another code, such as 8h, or never")
	f.BoolVar(&r.chap, "chap", false, "answer CHAP too; only with mode code")
	f.BoolVar(&r.mschap, "legacy-mschapv2", false, "answer MS-CHAPv2 too, which protects nothing any more; only with mode code")
	f.StringVar(&r.note, "note", "", "note for operators")
}

// change is what the flags that were named say.
func (r *radiusFlags) change(g *globals, c *cobra.Command) (admin.RadiusClientChange, error) {
	in := admin.RadiusClientChange{Networks: r.networks, Mode: r.mode, MessageAuthenticator: r.signed, SourceAttribute: r.attribute, GenerateSecret: r.generate}
	named := func(name string) bool { return c.Flags().Changed(name) }
	for name, to := range map[string]**string{"nas-identifier": &in.NASIdentifier, "certificate": &in.Certificate, "certificate-name": &in.CertificateName, "separator": &in.Separator, "note": &in.Note} {
		if named(name) {
			*to = map[string]*string{"nas-identifier": &r.nas, "certificate": &r.certificate, "certificate-name": &r.certificateName, "separator": &r.separator, "note": &r.note}[name]
		}
	}
	if named("send-message-authenticator") {
		in.SendsMessageAuthenticator = &r.sends
	}
	if named("asserts-source") {
		in.AssertsSource = &r.asserts
	}
	if named("chap") {
		in.CHAP = &r.chap
	}
	if named("legacy-mschapv2") {
		in.LegacyMSCHAPv2 = &r.mschap
	}
	if r.remember != "" {
		var seconds int64
		if r.remember != "never" {
			d, err := parseDuration(r.remember)
			if err != nil {
				return in, err
			}
			seconds = int64(d / time.Second)
		}
		in.Remember = &seconds
	}
	if r.secretFile != "" {
		text, err := g.readInput(r.secretFile)
		if err != nil {
			return in, err
		}
		in.Secret = strings.TrimRight(string(text), "\r\n")
	}
	return in, nil
}

// showSecret prints what was made. The secret is all there is on standard output, so that a script can take it.
func (g *globals) showSecret(r admin.RadiusClientSecret, what string) error {
	if g.json() {
		return g.printJSON(r)
	}
	g.say("%s RADIUS client %s", what, r.Client.Name)
	if r.Secret == "" {
		return nil
	}
	g.say("Its shared secret, which is shown this once:")
	_, err := fmt.Fprintln(g.Out, r.Secret)
	return err
}

func radiusAddCommand(g *globals) *cobra.Command {
	var flags radiusFlags
	c := action(g, "add NAME --network ADDRESS", "Let a VPN or gateway ask; a secret is made unless one is given", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			change, err := flags.change(g, c)
			if err != nil {
				return err
			}
			var r admin.RadiusClientSecret
			if err := api.call(c.Context(), http.MethodPost, "/radius-clients", admin.NewRadiusClient{Name: args[0], RadiusClientChange: change}, &r); err != nil {
				return err
			}
			if err := g.showSecret(r, "added"); err != nil {
				return err
			}
			if !g.json() {
				g.say("People get through it by a rule with targets: [%s] and channels: [radius]", r.Client.Name)
			}
			return nil
		})
	flags.register(c)
	return c
}

func radiusListCommand(g *globals) *cobra.Command {
	return action(g, "list", "List RADIUS clients, newest first", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var clients []admin.RadiusClient
		if err := api.get(c.Context(), "/radius-clients", nil, &clients); err != nil {
			return err
		}
		return printList(g, clients, "No RADIUS clients. Add one: sallyport radius client add --help",
			[]string{"NAME", "STATE", "NETWORKS", "NAS-IDENTIFIER", "MODE", "MESSAGE-AUTHENTICATOR", "ASSERTS SOURCE", "NOTE"},
			func(r admin.RadiusClient) []string {
				return []string{r.Name, r.State, joined(r.Networks), r.NASIdentifier, r.Mode, r.MessageAuthenticator, yesNo(r.AssertsSource), r.Note}
			})
	})
}

func radiusShowCommand(g *globals) *cobra.Command {
	return action(g, "show NAME", "Show a RADIUS client", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var r admin.RadiusClient
		if err := api.get(c.Context(), route("radius-clients", args[0]), nil, &r); err != nil {
			return err
		}
		return g.printFields(r, "id", r.ID, "name", r.Name, "state", r.State, "networks", joined(r.Networks), "nas-identifier", r.NASIdentifier, "certificate", r.Certificate,
			"certificate name", r.CertificateName,
			"mode", r.Mode, "separator", r.Separator, "message-authenticator", r.MessageAuthenticator, "demanded since", clock(r.MessageAuthenticatorSince),
			"sends message-authenticator", yesNo(r.SendsMessageAuthenticator), "asserts source", yesNo(r.AssertsSource), "source attribute", r.SourceAttribute,
			"remember", (time.Duration(r.Remember) * time.Second).String(), "chap", yesNo(r.CHAP), "legacy mschapv2", yesNo(r.LegacyMSCHAPv2), "note", r.Note, "created", clock(r.Created))
	})
}

func radiusUpdateCommand(g *globals) *cobra.Command {
	var flags radiusFlags
	c := action(g, "update NAME", "Change a RADIUS client; what is not named stays", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			named := false
			c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { named = named || f.Changed })
			if !named {
				return usage("See: sallyport radius client update --help", "nothing to change was named")
			}
			in, err := flags.change(g, c)
			if err != nil {
				return err
			}
			return g.changeRadiusClient(c, api, args[0], in, "changed")
		})
	flags.register(c)
	c.Flags().BoolVar(&flags.generate, "generate-secret", false, "make a new secret, which is shown once")
	return c
}

func radiusSwitchCommand(g *globals, verb, short string, enabled bool) *cobra.Command {
	return action(g, verb+" NAME", short, cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		return g.changeRadiusClient(c, api, args[0], admin.RadiusClientChange{Enabled: &enabled}, verb+"d")
	})
}

func (g *globals) changeRadiusClient(c *cobra.Command, api *client, name string, in admin.RadiusClientChange, what string) error {
	var r admin.RadiusClientSecret
	if err := api.call(c.Context(), http.MethodPatch, route("radius-clients", name), in, &r); err != nil {
		return err
	}
	return g.showSecret(r, what)
}

func radiusRemoveCommand(g *globals) *cobra.Command {
	var yes bool
	c := action(g, "remove NAME", "Remove a RADIUS client", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if !yes && !g.confirm("Remove RADIUS client "+args[0]+"?", true) {
			return failed("Answer y, or use --yes.", "nothing was removed")
		}
		if err := api.call(c.Context(), http.MethodDelete, route("radius-clients", args[0]), nil, nil); err != nil {
			return err
		}
		return g.done(gone{args[0], true}, "removed RADIUS client %s", args[0])
	})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func radiusDoctorCommand(g *globals) *cobra.Command {
	return action(g, "doctor CLIENT", "Tell how a RADIUS client does, from what was heard of it", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var d admin.RadiusDoctor
		if err := api.get(c.Context(), route("radius-clients", args[0], "doctor"), nil, &d); err != nil {
			return err
		}
		if g.json() {
			return g.printJSON(d)
		}
		for _, f := range d.Findings {
			fmt.Fprintf(g.Out, "%-7s  %s\n", f.Level, f.Text)
			if f.Hint != "" {
				fmt.Fprintf(g.Out, "         %s\n", f.Hint)
			}
		}
		fmt.Fprintln(g.Out)
		return g.printRadiusCounts(d.Counts)
	})
}

func (g *globals) printRadiusCounts(counts []admin.RadiusCount) error {
	return printList(g, counts, "Nothing was heard.", []string{"COUNTED", "TIMES", "LAST", "DETAIL"}, func(n admin.RadiusCount) []string {
		return []string{n.Kind, fmt.Sprint(n.Times), clock(n.Last), n.Detail}
	})
}

func radiusStrangersCommand(g *globals) *cobra.Command {
	return action(g, "strangers", "Tell how often addresses have asked that are no client's", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var counts []admin.RadiusCount
		if err := api.get(c.Context(), "/radius-strangers", nil, &counts); err != nil {
			return err
		}
		return g.printRadiusCounts(counts)
	})
}
