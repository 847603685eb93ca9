package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/internal/web"
)

func tokenImportCommand(g *globals) *cobra.Command {
	o := importFlags{fields: map[string]string{}}
	c := action(g, "import FILE", "Import a list of tokens (- for standard input)", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if o.keyFile != "" {
			key, err := g.readInput(o.keyFile)
			if err != nil {
				return err
			}
			o.fields["key"] = string(key)
		}
		if o.passwordFile != "" {
			var err error
			if o.fields["password"], err = g.readSecret(o.passwordFile); err != nil {
				return err
			}
		}
		return g.importFile(c, api, "/imports/tokens", o, args[0])
	})
	c.Long = c.Short + ".\nNothing is written if any row is refused, unless --skip-bad. The formats: docs/import-export.md."
	f := c.Flags()
	o.common(c)
	f.StringVar(&o.format, "format", "", "csv, entra, oath, feitian, yubico, pskc, otpauth, google or users.oath (default: found out)")
	f.StringVar(&o.user, "user", "", "login of rows that name none, such as of a ~/.google_authenticator")
	f.StringVar(&o.mapUsers, "map-users", "login", "what rows name their user by: login, email, or upn (the part before @ is the login)")
	f.StringVar(&o.keyFile, "key-file", "", "file with the bytes of the pre-shared key of a PSKC file")
	f.StringVar(&o.passwordFile, "password-file", "", "file with the password of a PSKC file (- for standard input)")
	f.BoolVar(&o.createUsers, "create-users", false, "make local users without a password of those who are not there")
	f.BoolVar(&o.unassigned, "unassigned", false, "keep all tokens for whoever takes them later, whatever the file says")
	return c
}

func userImportCommand(g *globals) *cobra.Command {
	o := importFlags{fields: map[string]string{}}
	c := action(g, "import FILE", "Import local users from CSV (- for standard input)", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		return g.importFile(c, api, "/imports/users", o, args[0])
	})
	c.Long = c.Short + ".\nThe first line names the columns, in any order: login, name, email, phone, groups (by semicolon).\n" +
		"Nothing is written if any row is refused, unless --skip-bad."
	o.common(c)
	c.Flags().BoolVar(&o.update, "update", false, "change users who are there already")
	return c
}

// importFlags are what an import is told by.
type importFlags struct {
	dryRun, skipBad, createUsers, unassigned, update bool
	format, user, mapUsers, keyFile, passwordFile    string
	fields                                           map[string]string
}

func (o *importFlags) common(c *cobra.Command) {
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would become of each row, and write nothing")
	c.Flags().BoolVar(&o.skipBad, "skip-bad", false, "write the good rows although others are refused")
}

func (o *importFlags) form() map[string]string {
	for name, text := range map[string]string{"format": o.format, "user": o.user, "map_users": o.mapUsers} {
		if text != "" {
			o.fields[name] = text
		}
	}
	for name, on := range map[string]bool{
		"dry_run": o.dryRun, "skip_bad": o.skipBad, "create_users": o.createUsers, "unassigned": o.unassigned, "update": o.update,
	} {
		if on {
			o.fields[name] = "true"
		}
	}
	return o.fields
}

// imported is what an import prints as JSON.
type imported struct {
	admin.ImportSummary
	Report []admin.ImportRow `json:"report"`
}

// importFile sends a file and prints what became of its rows: all of them on a dry run, else those about which
// there is something to know.
func (g *globals) importFile(c *cobra.Command, api *client, path string, o importFlags, file string) error {
	in := g.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return usage("Give a file that can be read, or - for standard input.", "%s", audit.Escape(err.Error()))
		}
		defer f.Close()
		in = f
	} else if o.passwordFile == "-" {
		return usage("Write the password into a file.", "standard input cannot be both the list and its password")
	}
	resp, err := api.upload(c.Context(), path, o.form(), in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	all := imported{Report: []admin.ImportRow{}}
	t := newTable(g.Out, "PLACE", "USER", "SERIAL", "RESULT", "DETAIL")
	rows, ended := 0, false
	for d := json.NewDecoder(resp.Body); ; {
		var l admin.ImportLine
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return failed("See what is there: sallyport audit list --query import", "the report of the import broke off: %w", err)
		}
		if l.Summary != nil {
			all.ImportSummary, ended = *l.Summary, true
		}
		switch r := l.Row; {
		case r == nil:
		case g.json():
			all.Report = append(all.Report, *r)
		case o.dryRun || r.Result == "refused" || r.Detail != "":
			rows++
			t.row(r.Place, r.User, r.Serial, r.Result, r.Detail)
		}
	}
	if !ended {
		return failed("See what is there: sallyport audit list --query import", "the report of the import broke off")
	}
	if g.json() {
		err = g.printJSON(all)
	} else if rows > 0 {
		err = t.flush()
	}
	if err != nil {
		return err
	}
	return g.importEnd(all.ImportSummary)
}

func (g *globals) importEnd(s admin.ImportSummary) error {
	made := "users made"
	if s.UsersCreated == 1 {
		made = "user made"
	}
	var parts []string
	for _, p := range []struct {
		n    int
		word string
	}{{s.Added, "added"}, {s.Stock, "kept without a user"}, {s.Updated, "changed"}, {s.Same, "as they are"}, {s.Refused, "refused"}, {s.UsersCreated, made}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	counts := web.Plural(s.Rows, "row", "rows") + ": " + strings.Join(parts, ", ")
	switch {
	case s.Error != "":
		return failed("Mend the file, or write what is good with --skip-bad if only rows were refused.", "nothing was written: %s", audit.Escape(s.Error))
	case s.DryRun:
		g.say("A dry run, nothing was written. %s.", counts)
	case !s.Written:
		g.say("There was nothing to write. %s.", counts)
	default:
		g.say("Written. %s.", counts)
	}
	return nil
}

func tokenExportCommand(g *globals) *cobra.Command {
	var in admin.NewExport
	var file string
	var plain, yes bool
	c := action(g, "export (--recipient age1... | --no-secrets)", "Write tokens to standard output, with their secrets only encrypted by age", cobra.NoArgs,
		func(c *cobra.Command, api *client, args []string) error {
			if plain {
				if len(in.Recipients) > 0 || file != "" || len(in.Users) > 0 || in.Format != "csv" {
					return usage("Leave the other flags out.", "--no-secrets is a list of all tokens, as CSV")
				}
				return api.stream(c.Context(), "/exports/tokens", nil, g.Out)
			}
			if file != "" {
				text, err := g.readInput(file)
				if err != nil {
					return err
				}
				for line := range strings.Lines(string(text)) {
					if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
						in.Recipients = append(in.Recipients, line)
					}
				}
			}
			if len(in.Recipients) == 0 {
				return usage("Make a key with age-keygen, and give its public half: --recipient age1...", "secrets leave only encrypted")
			}
			if !yes && !g.confirm("Whoever has the key of a recipient can make the codes of these people. Export?", false) {
				return usage("Add --yes.", "this writes the secrets of tokens, encrypted")
			}
			resp, err := api.send(c.Context(), http.MethodPost, "/exports/tokens", in)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if _, err := io.Copy(g.Out, resp.Body); err != nil {
				return failed("What was written is not whole. See the server's log, and try again.", "the export broke off: %w", err)
			}
			return nil
		})
	f := c.Flags()
	f.StringArrayVar(&in.Recipients, "recipient", nil, "recipient of age (age1...), may be repeated")
	f.StringVar(&file, "recipients-file", "", "file with recipients, one a line")
	f.StringVar(&in.Format, "format", "csv", "csv, pskc or otpauth")
	f.StringArrayVar(&in.Users, "user", nil, "only of this login, may be repeated")
	f.BoolVar(&plain, "no-secrets", false, "a list as CSV, in clear, without secrets")
	f.BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func userExportCommand(g *globals) *cobra.Command {
	return action(g, "export", "Write all users to standard output, as CSV", cobra.NoArgs, func(c *cobra.Command, api *client, args []string) error {
		return api.stream(c.Context(), "/exports/users", nil, g.Out)
	})
}

func tokenAssignCommand(g *globals) *cobra.Command {
	var in admin.TokenAssignment
	var unproved bool
	c := action(g, "assign LOGIN --serial SERIAL", "Give a user a hardware token that belongs to nobody yet, by two codes that it shows one after the other", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			if in.Serial == "" {
				return usage("See: sallyport token list --unassigned", "--serial says which token")
			}
			if !unproved {
				var err error
				if in.First, in.Second, err = g.twoCodes(); err != nil {
					return err
				}
			}
			var t admin.Token
			if err := api.call(c.Context(), http.MethodPost, route("users", args[0], "tokens", "assign"), in, &t); err != nil {
				return err
			}
			return g.done(t, "token %s is %s's now", t.Serial, args[0])
		})
	c.Long = c.Short + ".\nThe two codes are asked for, or read from standard input, one a line."
	c.Flags().StringVar(&in.Serial, "serial", "", "serial number of the token")
	c.Flags().BoolVar(&unproved, "no-codes", false, "without proof that it is the token in the person's hands")
	return c
}

func tokenDiscardCommand(g *globals) *cobra.Command {
	return action(g, "discard SERIAL", "Delete a token that belongs to nobody", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if err := api.call(c.Context(), http.MethodDelete, route("stock", args[0]), nil, nil); err != nil {
			return err
		}
		return g.done(gone{args[0], true}, "deleted the token %s", args[0])
	})
}

// multipartOf writes fields and then a file as a form.
func multipartOf(w *multipart.Writer, fields map[string]string, file io.Reader) error {
	for name, value := range fields {
		if err := w.WriteField(name, value); err != nil {
			return err
		}
	}
	part, err := w.CreateFormFile("file", "list")
	if err != nil {
		return err
	}
	if _, err := io.Copy(part, file); err != nil {
		return err
	}
	return w.Close()
}
