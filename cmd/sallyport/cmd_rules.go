package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
)

func applyCommand(g *globals) *cobra.Command {
	var file string
	var dry bool
	var version int64
	c := action(g, "apply -f FILE", "Put the rules of a file in force", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		if file == "" {
			return usage("Give it: sallyport apply -f rules.yaml (- for standard input). Begin with: sallyport export > rules.yaml", "the file with the rules is missing")
		}
		text, err := g.readInput(file)
		if err != nil {
			return err
		}
		in := admin.NewRules{Text: string(text)}
		if c.Flags().Changed("if-version") {
			in.Version = &version
		}
		change, err := api.applyRules(c.Context(), in, dry)
		if err != nil {
			return atPlace(err, file)
		}
		return g.showChange(change)
	})
	f := c.Flags()
	f.StringVarP(&file, "file", "f", "", "file with the rules (- for standard input)")
	f.BoolVar(&dry, "dry-run", false, "check the file and show what it would change, and change nothing")
	f.Int64Var(&version, "if-version", 0, "apply only if this version of the rules is in force (export tells it)")
	return c
}

// applyRules asks first what would change and then puts exactly that in force, so that a change made
// by somebody else in between is not overwritten unseen.
func (c *client) applyRules(ctx context.Context, in admin.NewRules, dry bool) (admin.RulesChange, error) {
	in.DryRun = true
	var change admin.RulesChange
	if err := c.call(ctx, http.MethodPut, "/rules", in, &change); err != nil || dry || !change.Changed {
		return change, err
	}
	in.DryRun, in.Version = false, &change.Version
	err := c.call(ctx, http.MethodPut, "/rules", in, &change)
	return change, err
}

// atPlace puts file, line and column before what is wrong with the rules.
func atPlace(err error, file string) error {
	var e *refusedError
	if !errors.As(err, &e) || e.Line == 0 {
		return err
	}
	if file == "-" {
		file = "standard input"
	}
	at := *e
	at.Detail = fmt.Sprintf("%s:%d:%d: %s", file, e.Line, e.Column, e.Detail)
	return &exitError{exitUsage, &at}
}

func (g *globals) showChange(change admin.RulesChange) error {
	if g.json() {
		return g.printJSON(change)
	}
	if !change.Changed {
		g.say("nothing changed: these rules are in force already (version %d)", change.Version)
		return nil
	}
	if err := printText(g.Out, change.Diff); err != nil {
		return err
	}
	if change.Applied {
		g.say("applied: version %d of the rules is in force", change.Version)
	} else {
		g.say("this was a dry run: version %d of the rules stays in force", change.Version)
	}
	return nil
}

// printText prints lines that an operator wrote, with what could move a cursor escaped.
func printText(w io.Writer, text string) error {
	for line := range strings.Lines(text) {
		if _, err := fmt.Fprintln(w, escapeLine(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

// escapeLine keeps tabs and has no limit of length.
func escapeLine(line string) string {
	parts := strings.Split(line, "\t")
	for i, p := range parts {
		var b strings.Builder
		for len(p) > 0 {
			n := min(len(p), 1024)
			for n < len(p) && n > 1020 && p[n]&0xc0 == 0x80 { // not in the middle of a character
				n--
			}
			b.WriteString(audit.Escape(p[:n]))
			p = p[n:]
		}
		parts[i] = b.String()
	}
	return strings.Join(parts, "\t")
}

func exportCommand(g *globals) *cobra.Command {
	return action(g, "export", "Print the rules in force", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var r admin.Rules
		if err := api.get(c.Context(), "/rules", nil, &r); err != nil {
			return err
		}
		if g.json() {
			return g.printJSON(r)
		}
		if r.Version == 0 {
			g.say("there are no rules yet, and so everything is refused; write some and put them in force: sallyport apply -f rules.yaml")
			return nil
		}
		g.say("version %d, by %s at %s", r.Version, audit.Escape(r.By), clock(r.At))
		_, err := io.WriteString(g.Out, r.Text)
		return err
	})
}

func explainCommand(g *globals) *cobra.Command {
	var who, target, account, from, channel, to, at string
	c := action(g, "explain --user LOGIN --target NAME", "Tell what the rules decide, and why", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		if who == "" || target == "" {
			return usage("Usage: "+c.UseLine()+" [--account NAME] [--from ADDRESS] [--channel WORD [--to HOST:PORT]] [--at TIME]", "say who wants to go where: --user and --target")
		}
		q := url.Values{"user": {who}, "target": {target}}
		for name, value := range map[string]string{"account": account, "from": from, "channel": channel, "to": to} {
			if value != "" {
				q.Set(name, value)
			}
		}
		if at != "" {
			t, err := parseTime(at, time.Now())
			if err != nil {
				return err
			}
			q.Set("at", t.UTC().Format(time.RFC3339))
		}
		var e admin.Explanation
		if err := api.get(c.Context(), "/explain", q, &e); err != nil {
			return err
		}
		if err := g.showExplanation(e, from); err != nil {
			return err
		}
		if !e.Allow {
			return &exitError{Code: exitFailed, Err: errors.New("")}
		}
		return nil
	})
	f := c.Flags()
	f.StringVar(&who, "user", "", "login of the person")
	f.StringVar(&target, "target", "", "name of the target")
	f.StringVar(&account, "account", "", "account on the target (default: the first that is allowed)")
	f.StringVar(&from, "from", "", "address that the person comes from (default: unknown)")
	f.StringVar(&channel, "channel", "", "channel word, such as shell or sftp (default: any)")
	f.StringVar(&to, "to", "", "where a forward goes, such as db.example:5432")
	f.StringVar(&at, "at", "", "time (default: now)")
	return c
}

func (g *globals) showExplanation(e admin.Explanation, from string) error {
	if g.json() {
		return g.printJSON(e)
	}
	t := newTable(g.Out, "RULE", "MATCHES", "WHY")
	for _, v := range e.Verdicts {
		t.row(v.Rule, yesNo(v.Matched), v.Why)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if from == "" {
		from = "an unknown address"
	}
	what := fmt.Sprintf("%s as %s on %s from %s", e.User, orNone(e.Account), e.Target, from)
	switch {
	case e.Allow:
		_, err := fmt.Fprintf(g.Out, "\nallowed: %s, by rule %s\nchannels: %s\ncode: %s\nrecording: %s\nobserved: %s\nmoderator: %s\napproval: %s\nlimits: %s\nenvironment: %s\n%s",
			audit.Escape(what), audit.Escape(e.Rule), joined(e.Channels), codeWords(e), recordingWords(e), e.Observed, audit.Escape(orNone(e.Moderator)), orNone(e.Approval), orNone(e.Limits), e.Env, filesLine(e))
		return err
	case e.Rule == "":
		_, err := fmt.Fprintf(g.Out, "\nrefused: %s, because no rule allows it\n", audit.Escape(what))
		return err
	}
	_, err := fmt.Fprintf(g.Out, "\nrefused: %s, by rule %s\n%s\n", audit.Escape(what), audit.Escape(e.Rule), audit.Escape(e.Message))
	return err
}

func recordingWords(e admin.Explanation) string {
	words := e.Recording
	if e.RecordInput {
		words += ", with what is typed and shown"
	}
	if e.BreakGlass {
		words += "; goes on without one in an emergency (break-glass)"
	}
	return words
}

// filesLine tells what file transfers are held to.
func filesLine(e admin.Explanation) string {
	if e.SFTP == "" {
		return ""
	}
	return "files: " + audit.Escape(e.SFTP) + "\n"
}

func codeWords(e admin.Explanation) string {
	words := e.Code
	if e.CodeMaxAge > 0 {
		words += " " + (time.Duration(e.CodeMaxAge) * time.Second).String()
	}
	if e.TokenOnly {
		words += ", of a token only"
	}
	if e.PasswordCode {
		words += ", or in the password field (password,code)"
	}
	switch {
	case e.SentBy != "":
		words += fmt.Sprintf("; sent by %s once the password was verified, since %s has no token", e.SentBy, audit.Escape(e.User))
	case e.Enrols:
		words += fmt.Sprintf("; a token is enrolled once the password was verified, since %s has none", audit.Escape(e.User))
	}
	return words
}
