package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
)

func approvalCommand(g *globals) *cobra.Command {
	return group("approval", "Sessions that others have to agree to before they start", approvalListCommand(g), approvalShowCommand(g), approvalRefuseCommand(g))
}

func approvalListCommand(g *globals) *cobra.Command {
	var only, login, target, session string
	limit := 100
	c := action(g, "list", "List requests for approval, newest first", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		q := url.Values{"limit": {itoa(limit)}}
		for name, value := range map[string]string{"state": only, "user": login, "target": target, "session": session} {
			if value != "" {
				q.Set(name, value)
			}
		}
		var list []admin.Approval
		if err := api.get(c.Context(), "/approvals", q, &list); err != nil {
			return err
		}
		return printList(g, list, "There are no such requests.", []string{"CODE", "STATE", "USER", "ACCOUNT", "TARGET", "ASKED", "GIVEN", "DECIDED BY", "REQUESTED", "ID"},
			func(a admin.Approval) []string {
				return []string{a.Code, a.State, a.User, a.Account, a.Target, a.Asked, itoa(a.Given) + "/" + itoa(a.Needed), decidedBy(a), clock(a.Requested), a.ID}
			})
	})
	c.Flags().StringVar(&only, "only", "", "pending, approved, refused, withdrawn, expired or used")
	c.Flags().StringVar(&login, "user", "", "login: of this user only")
	c.Flags().StringVar(&target, "target", "", "for this target only")
	c.Flags().StringVar(&session, "session", "", "id: of this session only")
	c.Flags().IntVar(&limit, "limit", limit, "at most so many")
	return c
}

func decidedBy(a admin.Approval) string {
	var words []string
	for _, d := range a.Decisions {
		words = append(words, map[string]string{"approve": "+", "refuse": "-"}[d.Verdict]+d.User)
	}
	return strings.Join(words, " ")
}

func approvalShowCommand(g *globals) *cobra.Command {
	return action(g, "show ID|CODE", "Show a request for approval, by its id or the code of a pending one", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var a admin.Approval
		if err := api.get(c.Context(), route("approvals", args[0]), nil, &a); err != nil {
			return err
		}
		lists := make([]string, len(a.Approvers))
		for i, words := range a.Approvers {
			lists[i] = joined(words)
		}
		err := g.printFields(a, "id", a.ID, "code", a.Code, "state", a.State, "why", a.Why, "user", a.User, "target", a.Target, "account", a.Account,
			"source", a.Source, "came with", a.Asked, "reason", a.Reason, "rule", a.Rule, "approvers", strings.Join(lists, " and "), "approved", itoa(a.Given)+" of "+itoa(a.Needed),
			"session", a.Session, "node", a.Node, "requested", clock(a.Requested), "expires", clock(a.Expires), "settled", clock(a.Settled))
		if err != nil || g.json() {
			return err
		}
		fmt.Fprintln(g.Out)
		return printList(g, a.Decisions, "Nobody has decided.", []string{"WHO", "VERDICT", "WHEN", "FROM", "DOOR", "REASON"}, func(d admin.ApprovalDecision) []string {
			return []string{d.User, d.Verdict, clock(d.At), d.Source, d.Door, d.Reason}
		})
	})
}

func approvalRefuseCommand(g *globals) *cobra.Command {
	var in admin.Refusal
	c := action(g, "refuse ID|CODE", "Refuse a request for approval; only those whom the rule names can approve one", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			var a admin.Approval
			if err := api.call(c.Context(), http.MethodPost, route("approvals", args[0], "refuse"), in, &a); err != nil {
				return err
			}
			return g.done(a, "refused %s of %s", a.Code, audit.Escape(a.User))
		})
	c.Flags().StringVar(&in.Reason, "reason", "", "text that the person reads")
	return c
}
