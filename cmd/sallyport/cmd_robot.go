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

func robotCommand(g *globals) *cobra.Command {
	return group("robot", "Programs that run listed commands by a key of their own",
		robotAddCommand(g), robotListCommand(g), robotShowCommand(g), robotUpdateCommand(g),
		robotSwitchCommand(g, "enable", "Let a robot work again", true), robotSwitchCommand(g, "disable", "Refuse a robot from now on, and end its sessions", false),
		robotRemoveCommand(g))
}

// robotFlags are what a robot is held to.
type robotFlags struct {
	keyFile, expires, note            string
	from, targets, accounts, commands []string
}

func (r *robotFlags) register(c *cobra.Command, instead string) {
	f := c.Flags()
	f.StringVar(&r.keyFile, "key-file", "", "file with the robot's public key (- for standard input)")
	f.StringArrayVar(&r.from, "from", nil, "address or network that it comes from, may be repeated"+instead)
	f.StringArrayVar(&r.targets, "target", nil, "target: a name, a glob or label=value, as in rules, may be repeated"+instead)
	f.StringArrayVar(&r.accounts, "account", nil, "account on the targets, may be repeated"+instead)
	f.StringArrayVar(&r.commands, "command", nil, "command, exactly as it is sent, may be repeated"+instead)
	f.StringVar(&r.note, "note", "", "note for operators")
}

// expiry is the time that --expires says; nil if it says none.
func (r *robotFlags) expiry() (*time.Time, error) {
	if r.expires == "" || r.expires == "never" {
		return nil, nil
	}
	d, err := parseDuration(r.expires)
	if err != nil {
		return nil, err
	}
	at := time.Now().Add(d)
	return &at, nil
}

func (r *robotFlags) key(g *globals) (string, error) {
	if r.keyFile == "" {
		return "", nil
	}
	text, err := g.readInput(r.keyFile)
	return string(text), err
}

func robotAddCommand(g *globals) *cobra.Command {
	var flags robotFlags
	c := action(g, "add NAME", "Let a program run the commands listed, and nothing else", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			if flags.keyFile == "" {
				return usage("Make one: ssh-keygen -t ed25519 -f robot, and give --key-file robot.pub", "the robot's public key is missing")
			}
			in := admin.NewRobot{
				Name: args[0], Sources: flags.from, Targets: flags.targets, Accounts: flags.accounts, Commands: flags.commands, Note: flags.note,
			}
			var err error
			if in.PublicKey, err = flags.key(g); err != nil {
				return err
			}
			if in.Expires, err = flags.expiry(); err != nil {
				return err
			}
			var r admin.Robot
			if err := api.call(c.Context(), http.MethodPost, "/robots", in, &r); err != nil {
				return err
			}
			return g.done(r, "added robot %s; it comes by: ssh %s@TARGET@bastion COMMAND", r.Name, r.Name)
		})
	flags.register(c, "")
	c.Flags().StringVar(&flags.expires, "expires", "", "length of time until it expires, such as 90d (default: never)")
	return c
}

func robotListCommand(g *globals) *cobra.Command {
	return action(g, "list", "List robots, newest first", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var robots []admin.Robot
		if err := api.get(c.Context(), "/robots", nil, &robots); err != nil {
			return err
		}
		return printList(g, robots, "No robots. Add one: sallyport robot add --help",
			[]string{"NAME", "STATE", "TARGETS", "ACCOUNTS", "COMMANDS", "FROM", "LAST USED", "LAST FROM", "EXPIRES"},
			func(r admin.Robot) []string {
				return []string{r.Name, r.State, joined(r.Targets), joined(r.Accounts), fmt.Sprint(len(r.Commands)), joined(r.Sources), clock(r.LastUsed), r.LastSource, clock(r.Expires)}
			})
	})
}

func robotShowCommand(g *globals) *cobra.Command {
	return action(g, "show NAME", "Show a robot with its commands", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var r admin.Robot
		if err := api.get(c.Context(), route("robots", args[0]), nil, &r); err != nil {
			return err
		}
		return g.printFields(r, "id", r.ID, "name", r.Name, "state", r.State, "key", r.Fingerprint, "from", joined(r.Sources), "targets", joined(r.Targets),
			"accounts", joined(r.Accounts), "commands", strings.Join(r.Commands, "\n"), "note", r.Note, "created", clock(r.Created),
			"last used", clock(r.LastUsed), "last from", r.LastSource, "expires", clock(r.Expires))
	})
}

func robotUpdateCommand(g *globals) *cobra.Command {
	var flags robotFlags
	c := action(g, "update NAME", "Change a robot; what is not named stays, and sessions end if that takes anything away", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			named := false
			c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { named = named || f.Changed })
			if !named {
				return usage("See: sallyport robot update --help", "nothing to change was named")
			}
			in := admin.RobotChange{
				Sources: flags.from, Targets: flags.targets, Accounts: flags.accounts, Commands: flags.commands, NeverExpires: flags.expires == "never",
			}
			if c.Flags().Changed("note") {
				in.Note = &flags.note
			}
			var err error
			if in.PublicKey, err = flags.key(g); err != nil {
				return err
			}
			if in.Expires, err = flags.expiry(); err != nil {
				return err
			}
			return g.changeRobot(c, api, args[0], in, "changed")
		})
	flags.register(c, "; in the place of those before")
	c.Flags().StringVar(&flags.expires, "expires", "", "length of time from now until it expires, such as 90d, or never")
	return c
}

func robotSwitchCommand(g *globals, verb, short string, enabled bool) *cobra.Command {
	return action(g, verb+" NAME", short, cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		return g.changeRobot(c, api, args[0], admin.RobotChange{Enabled: &enabled}, verb+"d")
	})
}

func (g *globals) changeRobot(c *cobra.Command, api *client, name string, in admin.RobotChange, what string) error {
	var r admin.Robot
	if err := api.call(c.Context(), http.MethodPatch, route("robots", name), in, &r); err != nil {
		return err
	}
	return g.done(r, "%s robot %s", what, r.Name)
}

func robotRemoveCommand(g *globals) *cobra.Command {
	var yes bool
	c := action(g, "remove NAME", "Remove a robot, and end its sessions", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		if !yes && !g.confirm("Remove robot "+args[0]+", and end its sessions?", true) {
			return failed("Answer y, or use --yes.", "nothing was removed")
		}
		if err := api.call(c.Context(), http.MethodDelete, route("robots", args[0]), nil, nil); err != nil {
			return err
		}
		return g.done(gone{args[0], true}, "removed robot %s", args[0])
	})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
