package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/otp"
)

func tokenCommand(g *globals) *cobra.Command {
	return group("token", "Devices and apps that make one-time codes", tokenAddCommand(g), tokenListCommand(g), tokenDeleteCommand(g))
}

func tokenAddCommand(g *globals) *cobra.Command {
	var in admin.NewToken
	var file string
	c := action(g, "add LOGIN", "Give a user a token, and print its secret once", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			if file != "" {
				var err error
				if in.Secret, err = g.readSecret(file); err != nil {
					return err
				}
			}
			var t admin.IssuedToken
			if err := api.call(c.Context(), http.MethodPost, route("users", args[0], "tokens"), in, &t); err != nil {
				return err
			}
			if !g.json() {
				g.showQR(t)
			}
			return g.printFields(t, "id", t.ID, "secret", t.Secret, "uri", t.URI)
		})
	f := c.Flags()
	f.StringVar(&in.Name, "name", "", "name, such as 'phone'")
	f.StringVar(&file, "secret-file", "", "file with a secret in base32 to import (- for standard input)")
	f.StringVar(&in.Algorithm, "algorithm", "SHA1", "SHA1, SHA256 or SHA512; many apps know SHA1 only")
	f.IntVar(&in.Digits, "digits", 6, "length of a code: 6 or 8")
	f.IntVar(&in.Period, "period", 30, "seconds between codes: 30 or 60")
	return c
}

// showQR draws the token for a telephone's camera, for people.
func (g *globals) showQR(t admin.IssuedToken) {
	g.say("Scan this with an authenticator app. It is shown this once.\n")
	if qr, err := otp.TerminalQR(t.URI); err == nil {
		g.say("%s", qr)
	}
}

func tokenListCommand(g *globals) *cobra.Command {
	return action(g, "list LOGIN", "List a user's tokens", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var tokens []admin.Token
		if err := api.get(c.Context(), route("users", args[0], "tokens"), nil, &tokens); err != nil {
			return err
		}
		return printList(g, tokens, "No tokens. Add one: sallyport token add "+args[0],
			[]string{"ID", "NAME", "KIND", "STATE", "CREATED", "LAST USED"},
			func(t admin.Token) []string {
				state := "ok"
				if !t.Enabled {
					state = "disabled"
				}
				kind := t.Kind + " " + t.Algorithm + " " + itoa(t.Digits) + " digits " + itoa(t.Period) + " s"
				return []string{t.ID, t.Name, kind, state, clock(t.Created), clock(t.LastUsed)}
			})
	})
}

func tokenDeleteCommand(g *globals) *cobra.Command {
	return action(g, "delete LOGIN ID", "Take a token from a user", cobra.ExactArgs(2), func(c *cobra.Command, api *client, args []string) error {
		if err := api.call(c.Context(), http.MethodDelete, route("users", args[0], "tokens", args[1]), nil, nil); err != nil {
			return err
		}
		return g.done(gone{args[1], true}, "deleted the token; give %s another one: sallyport token add %s", args[0], args[0])
	})
}
