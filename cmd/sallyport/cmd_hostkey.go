package main

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
)

func hostKeyCommand(g *globals) *cobra.Command {
	return group("hostkey", "Host keys of targets that were refused, and known_hosts",
		hostKeyListCommand(g), hostKeyApproveCommand(g), hostKeyRejectCommand(g), hostKeyImportCommand(g))
}

// waitingKeys are the keys that wait, of targets with all of these labels.
func waitingKeys(c *cobra.Command, api *client, labels []string) ([]admin.WaitingHostKey, error) {
	if _, err := parseLabels(labels); err != nil {
		return nil, err
	}
	q := url.Values{}
	for _, l := range labels {
		q.Add("label", l)
	}
	var waiting []admin.WaitingHostKey
	err := api.get(c.Context(), "/hostkeys", q, &waiting)
	return waiting, err
}

func hostKeyListCommand(g *globals) *cobra.Command {
	var labels []string
	c := action(g, "list", "List host keys that were refused and wait, newest first", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		waiting, err := waitingKeys(c, api, labels)
		if err != nil {
			return err
		}
		return printList(g, waiting, "No host key waits.", []string{"ID", "TARGET", "ADDRESS", "SHOWN", "KNOWN", "SEEN", "LAST"},
			func(w admin.WaitingHostKey) []string {
				var known []string
				for _, k := range w.Known {
					known = append(known, k.Fingerprint)
				}
				return []string{w.ID, w.Target, w.Address, w.Fingerprint, joined(known), itoa(w.Seen), clock(w.Last)}
			})
	})
	c.Flags().StringArrayVar(&labels, "label", nil, "of targets with this label only (key=value), may be repeated")
	return c
}

// chosenKeys are the waiting keys that arguments name: by id, fingerprint or target. A target for
// which several wait is refused: only one of them can be its key.
func chosenKeys(waiting []admin.WaitingHostKey, names []string, labels bool) ([]admin.WaitingHostKey, error) {
	const see = "See: sallyport hostkey list"
	var chosen []admin.WaitingHostKey
	for _, name := range names {
		n := len(chosen)
		for _, w := range waiting {
			if name == w.ID || name == w.Fingerprint || name == w.Target {
				chosen = append(chosen, w)
			}
		}
		if len(chosen) == n {
			return nil, failed(see, "no host key waits under %s", audit.Escape(name))
		}
	}
	if labels && len(names) == 0 {
		chosen = waiting
	}
	if len(chosen) == 0 {
		return nil, failed(see, "no host key waits that was named")
	}
	for i, w := range chosen {
		if slices.ContainsFunc(chosen[:i], func(o admin.WaitingHostKey) bool { return o.Target == w.Target }) {
			return nil, failed("Name one of them by its id. "+see, "several host keys wait for %s", audit.Escape(w.Target))
		}
	}
	return chosen, nil
}

func hostKeyApproveCommand(g *globals) *cobra.Command {
	return hostKeyDecision(g, "approve", "Make waiting keys the host keys of their targets", "approved")
}

func hostKeyRejectCommand(g *globals) *cobra.Command {
	return hostKeyDecision(g, "reject", "Never accept waiting keys for their targets", "rejected")
}

// hostKeyDecision is a command that decides about keys that wait, after showing what they are.
func hostKeyDecision(g *globals, verb, short, done string) *cobra.Command {
	var labels []string
	var add, yes bool
	c := action(g, verb+" [ID|FINGERPRINT|TARGET…]", short, cobra.ArbitraryArgs, func(c *cobra.Command, api *client, args []string) error {
		if len(args) == 0 && len(labels) == 0 {
			return usage("Name keys by id, fingerprint or target, or give --label key=value.", "no host key was named")
		}
		waiting, err := waitingKeys(c, api, labels)
		if err != nil {
			return err
		}
		chosen, err := chosenKeys(waiting, args, len(labels) > 0)
		if err != nil {
			return err
		}
		for _, w := range chosen {
			kind, _, _ := strings.Cut(w.Key, " ")
			g.say("%s at %s shows %s %s", audit.Escape(w.Target), audit.Escape(w.Address), audit.Escape(kind), audit.Escape(w.Fingerprint))
		}
		if !yes && !g.confirm(fmt.Sprintf("Compare with ssh-keygen -lf on the host itself. %s%s?", strings.ToUpper(verb[:1]), verb[1:]), false) {
			return failed("Answer y at a terminal, or use --yes if you have compared.", "nothing was %s", done)
		}
		decided := []admin.WaitingHostKey{}
		for _, w := range chosen {
			var in any
			if verb == "approve" {
				in = admin.NewApproval{Add: add}
			}
			if err := api.call(c.Context(), http.MethodPost, route("hostkeys", w.ID, verb), in, &w); err != nil {
				return err
			}
			decided = append(decided, w)
		}
		return g.done(decided, "%s %d of %d", done, len(decided), len(chosen))
	})
	f := c.Flags()
	f.StringArrayVar(&labels, "label", nil, "of targets with this label only (key=value), may be repeated; alone: all of them")
	f.BoolVar(&yes, "yes", false, "do not ask")
	if verb == "approve" {
		f.BoolVar(&add, "add", false, "keep the keys known so far beside it")
	}
	return c
}

func hostKeyImportCommand(g *globals) *cobra.Command {
	return action(g, "import FILE", "Take lines of known_hosts for the targets there are", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		text, err := g.readInput(args[0])
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(text)) == "" {
			return usage("Is it the right file?", "%s is empty", audit.Escape(args[0]))
		}
		var report []admin.ImportedKey
		if err := api.call(c.Context(), http.MethodPost, "/hostkeys/import", admin.NewImport{Text: string(text)}, &report); err != nil {
			return err
		}
		return printList(g, report, "Nothing but comments.", []string{"LINE", "TARGET", "RESULT", "FINGERPRINT", "DETAIL"},
			func(r admin.ImportedKey) []string {
				return []string{itoa(r.Line), r.Target, r.Result, r.Fingerprint, r.Detail}
			})
	})
}
