package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/otp"
)

func tokenCommand(g *globals) *cobra.Command {
	return group("token", "Devices and apps that make one-time codes",
		tokenAddCommand(g), tokenListCommand(g), tokenShowCommand(g), tokenRenameCommand(g),
		tokenStateCommand(g, "enable", "Accept a token's codes again", "enabled"),
		tokenStateCommand(g, "disable", "Refuse a token's codes until it is enabled", "disabled"),
		tokenStateCommand(g, "lost", "Mark a token as lost: its codes are refused", "lost"),
		tokenApproveCommand(g), tokenWaitingCommand(g), tokenResyncCommand(g), tokenRemoveCommand(g),
		tokenAssignCommand(g), tokenDiscardCommand(g), tokenImportCommand(g), tokenExportCommand(g))
}

func tokenAddCommand(g *globals) *cobra.Command {
	var in admin.NewToken
	var file, life string
	c := action(g, "add LOGIN", "Give a user a token, and print its secret once", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			if file != "" {
				var err error
				if in.Secret, err = g.readSecret(file); err != nil {
					return err
				}
			}
			if life != "" {
				expires, err := parseExpiry(life, time.Now())
				if err != nil {
					return err
				}
				in.Expires = &expires
			}
			var t admin.IssuedToken
			if err := api.call(c.Context(), http.MethodPost, route("users", args[0], "tokens"), in, &t); err != nil {
				return err
			}
			if !g.json() && in.Serial == "" {
				g.showQR(t)
			}
			return g.printFields(t, "id", t.ID, "secret", t.Secret, "uri", t.URI)
		})
	f := c.Flags()
	f.StringVar(&in.Name, "name", "", "name, such as 'phone'")
	f.StringVar(&in.Kind, "type", "totp", "totp, which goes by time, or hotp, which goes by a counter")
	f.StringVar(&file, "secret-file", "", "file with a secret in base32 to import (- for standard input)")
	f.StringVar(&in.Algorithm, "algorithm", "SHA1", "SHA1, SHA256 or SHA512; many apps know SHA1 only")
	f.IntVar(&in.Digits, "digits", 6, "length of a code: 6 or 8")
	f.IntVar(&in.Period, "period", 0, "seconds between codes of a totp token: 30 (default) or 60")
	f.Int64Var(&in.Counter, "counter", 0, "next counter of a hotp token that was used elsewhere")
	f.StringVar(&in.Serial, "serial", "", "serial number of a hardware token")
	f.StringVar(&life, "expires", "", "when its codes are refused for good: a date, or a time from now such as 90d")
	return c
}

// parseExpiry understands what parseTime does, but a duration is one from now.
func parseExpiry(text string, now time.Time) (time.Time, error) {
	if d, err := parseDuration(text); err == nil {
		return now.Add(d), nil
	}
	t, err := parseTime(text, now)
	if err != nil {
		return t, usage("Write 2027-01-31, 2027-01-31T15:04:05Z, or a time from now such as 8h or 90d.", "%s is not a time", audit.Quote(text))
	}
	return t, nil
}

// showQR draws the token for a telephone's camera, for people.
func (g *globals) showQR(t admin.IssuedToken) {
	g.say("Scan this with an authenticator app. It is shown this once.\n")
	if qr, err := otp.TerminalQR(t.URI); err == nil {
		g.say("%s", qr)
	}
}

func tokenListCommand(g *globals) *cobra.Command {
	stock := false
	c := action(g, "list [LOGIN | --unassigned]", "List a user's tokens, or those that belong to nobody yet", cobra.MaximumNArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var tokens []admin.Token
		var path, words string
		switch {
		case stock == (len(args) == 1):
			return usage("Name a login, or write --unassigned.", "whose tokens?")
		case stock:
			path, words = "/stock", "No tokens wait for anybody. Import a list: sallyport token import FILE"
		default:
			path, words = route("users", args[0], "tokens"), "No tokens. Add one: sallyport token add "+args[0]
		}
		if err := api.get(c.Context(), path, nil, &tokens); err != nil {
			return err
		}
		return printList(g, tokens, words,
			[]string{"ID", "NAME", "KIND", "SERIAL", "STATE", "DRIFT", "CREATED", "LAST USED"},
			func(t admin.Token) []string {
				state := t.State
				if stock {
					state = "unassigned"
				}
				return []string{t.ID, t.Name, tokenKind(t), t.Serial, state, driftOf(t), clock(t.Created), clock(t.LastUsed)}
			})
	})
	c.Flags().BoolVar(&stock, "unassigned", false, "tokens that belong to nobody yet")
	return c
}

func tokenKind(t admin.Token) string {
	kind := t.Kind + " " + t.Algorithm + " " + itoa(t.Digits) + " digits"
	if t.Period > 0 {
		kind += " " + itoa(t.Period) + " s"
	}
	return kind
}

// driftOf tells how far a token's clock is off, and which way it goes.
func driftOf(t admin.Token) string {
	if t.Kind == string(otp.HOTP) {
		return ""
	}
	return fmt.Sprintf("%+d steps (%+d s), %s", t.Drift, t.Drift*t.Period, t.Trend)
}

func tokenShowCommand(g *globals) *cobra.Command {
	return action(g, "show LOGIN TOKEN", "Show a token (id, name or serial) with its drift and last uses", cobra.ExactArgs(2),
		func(c *cobra.Command, api *client, args []string) error {
			var t admin.TokenDetail
			if err := api.get(c.Context(), route("users", args[0], "tokens", args[1]), nil, &t); err != nil {
				return err
			}
			pairs := []string{"id", t.ID, "name", t.Name, "kind", tokenKind(t.Token), "serial", t.Serial, "state", t.State,
				"expires", clock(t.Expires), "created", clock(t.Created), "last used", clock(t.LastUsed)}
			if t.Kind == string(otp.HOTP) {
				pairs = append(pairs, "next counter", fmt.Sprint(t.Counter))
			} else {
				pairs = append(pairs, "drift", driftOf(t.Token), "drift moved", clock(t.DriftMoved))
			}
			for _, u := range t.Uses {
				pairs = append(pairs, "used", strings.Join([]string{clock(u.At), u.Door, u.Source}, " "))
			}
			return g.printFields(t, pairs...)
		})
}

func tokenRenameCommand(g *globals) *cobra.Command {
	return action(g, "rename LOGIN TOKEN NAME", "Give a token another name", cobra.ExactArgs(3),
		func(c *cobra.Command, api *client, args []string) error {
			var t admin.Token
			path := route("users", args[0], "tokens", args[1], "name")
			if err := api.call(c.Context(), http.MethodPut, path, admin.NewTokenName{Name: args[2]}, &t); err != nil {
				return err
			}
			return g.done(t, "the token is called %s now", t.Name)
		})
}

func tokenStateCommand(g *globals, use, short, state string) *cobra.Command {
	return action(g, use+" LOGIN TOKEN", short, cobra.ExactArgs(2), func(c *cobra.Command, api *client, args []string) error {
		var t admin.Token
		path := route("users", args[0], "tokens", args[1], "state")
		if err := api.call(c.Context(), http.MethodPut, path, admin.NewTokenState{State: state}, &t); err != nil {
			return err
		}
		return g.done(t, "token %s is %s", t.Name, t.State)
	})
}

func tokenResyncCommand(g *globals) *cobra.Command {
	c := action(g, "resync LOGIN TOKEN", "Find out where a token is, by two codes that it shows one after the other", cobra.ExactArgs(2),
		func(c *cobra.Command, api *client, args []string) error {
			var in admin.TokenCodes
			var err error
			if in.First, in.Second, err = g.twoCodes(); err != nil {
				return err
			}
			var t admin.Token
			if err := api.call(c.Context(), http.MethodPost, route("users", args[0], "tokens", args[1], "resync"), in, &t); err != nil {
				return err
			}
			if t.Kind == string(otp.HOTP) {
				return g.done(t, "found token %s: its next counter is %d", t.Name, t.Counter)
			}
			return g.done(t, "found token %s: its clock is %+d s off", t.Name, t.Drift*t.Period)
		})
	c.Long = c.Short + ".\nThe two codes are asked for, or read from standard input, one a line."
	return c
}

// twoCodes reads two lines, and asks for them if a person sits there.
func (g *globals) twoCodes() (first, second string, err error) {
	in := bufio.NewScanner(io.LimitReader(g.In, 200))
	_, asks := g.terminal()
	var codes [2]string
	for i, prompt := range []string{"Code: ", "The next code: "} {
		if asks {
			fmt.Fprint(g.Err, prompt)
		}
		if in.Scan() {
			codes[i] = strings.TrimSpace(in.Text())
		}
		if codes[i] == "" {
			return "", "", usage("Write two codes, one a line, as the device shows them one after the other.", "no code was given")
		}
	}
	return codes[0], codes[1], nil
}

func tokenRemoveCommand(g *globals) *cobra.Command {
	c := action(g, "remove LOGIN TOKEN", "Take a token from a user", cobra.ExactArgs(2), func(c *cobra.Command, api *client, args []string) error {
		if err := api.call(c.Context(), http.MethodDelete, route("users", args[0], "tokens", args[1]), nil, nil); err != nil {
			return err
		}
		return g.done(gone{args[1], true}, "removed the token; give %s another one: sallyport token add %s", args[0], args[0])
	})
	c.Aliases = []string{"delete"}
	return c
}

func recoveryCodesCommand(g *globals) *cobra.Command {
	return group("recovery-codes", "Codes on paper for a person whose token is not at hand",
		action(g, "new LOGIN", "Make ten recovery codes in the place of any before, and print them once", cobra.ExactArgs(1),
			func(c *cobra.Command, api *client, args []string) error {
				var made admin.IssuedRecoveryCodes
				if err := api.call(c.Context(), http.MethodPost, route("users", args[0], "recovery-codes"), nil, &made); err != nil {
					return err
				}
				if g.json() {
					return g.printJSON(made)
				}
				g.say("Each is good once, in the place of a code. They are shown this once:")
				_, err := fmt.Fprintln(g.Out, strings.Join(made.Codes, "\n"))
				return err
			}),
		action(g, "count LOGIN", "Count the recovery codes that a person has left", cobra.ExactArgs(1),
			func(c *cobra.Command, api *client, args []string) error {
				var n admin.RecoveryCodes
				if err := api.get(c.Context(), route("users", args[0], "recovery-codes"), nil, &n); err != nil {
					return err
				}
				return g.printFields(n, "left", itoa(n.Left))
			}),
		action(g, "remove LOGIN", "Make all recovery codes of a person worthless", cobra.ExactArgs(1),
			func(c *cobra.Command, api *client, args []string) error {
				if err := api.call(c.Context(), http.MethodDelete, route("users", args[0], "recovery-codes"), nil, nil); err != nil {
					return err
				}
				return g.done(gone{args[0], true}, "the recovery codes of %s are worthless now", args[0])
			}))
}

func userBypassCommand(g *globals) *cobra.Command {
	var in admin.NewBypassCode
	var life string
	c := action(g, "bypass-code LOGIN --reason TEXT", "Make a code that stands for one code of a token, and print it once", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			d, err := parseDuration(life)
			if err != nil {
				return err
			}
			in.Life = int64(d / time.Second)
			var made admin.IssuedBypassCode
			if err := api.call(c.Context(), http.MethodPost, route("users", args[0], "bypass-codes"), in, &made); err != nil {
				return err
			}
			if !g.json() {
				g.say("Good once, until %s. It is shown this once:", clock(made.Expires))
			}
			return g.printFields(made, "code", made.Code)
		})
	c.Flags().StringVar(&in.Reason, "reason", "", "why, for the audit log; needed")
	c.Flags().StringVar(&life, "expires", "1h", "how long it is good, up to 7d")
	return c
}

func userBypassListCommand(g *globals) *cobra.Command {
	return action(g, "bypass-codes LOGIN", "List the unused bypass codes of a person, without the codes themselves", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			var codes []admin.BypassCode
			if err := api.get(c.Context(), route("users", args[0], "bypass-codes"), nil, &codes); err != nil {
				return err
			}
			return printList(g, codes, "No bypass codes.", []string{"REASON", "MADE BY", "CREATED", "EXPIRES"},
				func(b admin.BypassCode) []string {
					return []string{b.Reason, b.Issuer, clock(b.Created), clock(b.Expires)}
				})
		})
}

func userBypassRemoveCommand(g *globals) *cobra.Command {
	return action(g, "bypass-remove LOGIN", "Make all unused bypass codes of a person worthless", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			if err := api.call(c.Context(), http.MethodDelete, route("users", args[0], "bypass-codes"), nil, nil); err != nil {
				return err
			}
			return g.done(gone{args[0], true}, "the bypass codes of %s are worthless now", args[0])
		})
}
