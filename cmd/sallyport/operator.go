package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// operatorCommands are the commands that speak to a running server.
func operatorCommands(g *globals) []*cobra.Command {
	return []*cobra.Command{
		userCommand(g), userCACommand(g), robotCommand(g), tokenCommand(g), recoveryCodesCommand(g), grantCommand(g), adminCommand(g), apiTokenCommand(g), apiKeyCommand(g),
		targetCommand(g), hostKeyCommand(g), caCommand(g), hostCACommand(g),
		applyCommand(g), exportCommand(g), explainCommand(g),
		sessionCommand(g), searchCommand(g), approvalCommand(g), auditCommand(g), lockoutCommand(g), outboxCommand(g), radiusCommand(g),
	}
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	c.AddCommand(commands...)
	return c
}

// action is a command that speaks to the server.
func action(g *globals, use, short string, args cobra.PositionalArgs, do func(c *cobra.Command, api *client, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: usageArgs(args),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := g.client()
			if err != nil {
				return err
			}
			return do(c, api, args)
		},
	}
}

// usageArgs adds to what cobra says about arguments how the command is used.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usage("Usage: "+c.UseLine(), "%w", err)
		}
		return nil
	}
}

// say tells people on standard error what was done.
func (g *globals) say(format string, args ...any) {
	fmt.Fprintf(g.Err, format+"\n", args...)
}

// done prints what a change made: the object as JSON, or words for people.
func (g *globals) done(v any, format string, args ...any) error {
	if g.json() {
		return g.printJSON(v)
	}
	g.say(format, args...)
	return nil
}

// gone is what the deletion of something prints as JSON.
type gone struct {
	ID      string `json:"id"`
	Deleted bool   `json:"deleted"`
}

func joined(list []string) string { return strings.Join(list, ",") }
