package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/admin"
	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/store"
)

func targetCommand(g *globals) *cobra.Command {
	return group("target", "Hosts behind the bastion",
		targetAddCommand(g), targetListCommand(g), targetShowCommand(g), targetUpdateCommand(g), targetDeleteCommand(g),
		targetOnboardCommand(g), targetCheckCommand(g), targetSSHConfigCommand(g))
}

func targetAddCommand(g *globals) *cobra.Command {
	var in admin.NewTarget
	var labels []string
	var password string
	var tofu, yes bool
	c := action(g, "add NAME", "Put a host behind the bastion", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		in.Name = args[0]
		var err error
		if in.Labels, err = parseLabels(labels); err != nil {
			return err
		}
		if in.Password, err = g.targetPassword(password, &in.Credential); err != nil {
			return err
		}
		if len(in.HostCAs) > 0 {
			in.HostKeyMode = store.HostCA
		}
		switch {
		case len(in.HostCAs) > 0 && (tofu || len(in.HostKeys) > 0):
			return usage("Give one of them.", "--host-ca excludes --tofu and --host-key")
		case in.Address == "":
			return usage("Give it: --address 10.0.0.5:22", "the address of %s is missing", audit.Escape(in.Name))
		case tofu && len(in.HostKeys) > 0:
			return usage("Give one of them.", "--tofu and --host-key exclude each other")
		case tofu:
			if in.HostKeys, err = g.scanHostKeys(c, api, in, yes); err != nil {
				return err
			}
		}
		var t admin.Target
		if err := api.call(c.Context(), http.MethodPost, "/targets", in, &t); err != nil {
			return err
		}
		return g.done(t, "added target %s; next: sallyport target onboard %s", t.Name, t.Name)
	})
	f := c.Flags()
	f.StringVar(&in.Address, "address", "", "host:port (port 22 when absent)")
	f.StringVar(&in.Via, "via", "", "jump host: another target, or account@target (default: its first account); the address is as that host sees it")
	f.StringArrayVar(&in.Accounts, "account", nil, "account on the target, may be repeated; the first is the default")
	f.StringArrayVar(&in.HostKeys, "host-key", nil, "host key, such as 'ssh-ed25519 AAAA…', may be repeated")
	f.StringArrayVar(&in.HostCAs, "host-ca", nil, "key that signs the host's certificate, such as 'ssh-ed25519 AAAA…', may be repeated; nothing else is taken then")
	credentialFlags(c, &in.Credential, &password)
	f.BoolVar(&tofu, "tofu", false, "ask the host for its key now, show the fingerprint, and trust it after a yes")
	f.BoolVar(&yes, "yes", false, "with --tofu: trust the key without asking")
	f.StringArrayVar(&labels, "label", nil, "key=value that rules can speak of, may be repeated")
	f.IntVar(&in.Lockout, "lockout", 0, "failures until a lock at this target, if stricter than the general setting")
	f.StringVar(&in.Note, "note", "", "note for operators")
	return c
}

func parseLabels(labels []string) (map[string]string, error) {
	parsed := map[string]string{}
	for _, l := range labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" || v == "" {
			return nil, usage("Write --label env=prod", "%s is not a label", audit.Quote(l))
		}
		if _, twice := parsed[k]; twice {
			return nil, usage("Give each label once.", "label %s is given twice", audit.Escape(k))
		}
		parsed[k] = v
	}
	return parsed, nil
}

// scanHostKeys has the server ask the host for its keys, and a person whether they are the right ones.
func (g *globals) scanHostKeys(c *cobra.Command, api *client, in admin.NewTarget, yes bool) ([]string, error) {
	name, address := in.Name, in.Address
	var keys []admin.HostKey
	if err := api.call(c.Context(), http.MethodPost, "/scan", admin.NewScan{Address: address, Via: in.Via}, &keys); err != nil {
		return nil, err
	}
	g.say("%s at %s shows:", audit.Escape(name), audit.Escape(address))
	var lines []string
	for _, k := range keys {
		kind, _, _ := strings.Cut(k.Key, " ")
		g.say("  %s %s", audit.Escape(kind), audit.Escape(k.Fingerprint))
		lines = append(lines, k.Key)
	}
	g.say("Compare with what the host itself says: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
	if !yes && !g.confirm("Trust this from now on?", false) {
		return nil, failed("Answer y at a terminal, use --yes if you have compared, or give --host-key.", "the host key was not trusted, and %s was not added", audit.Escape(name))
	}
	return lines, nil
}

func targetListCommand(g *globals) *cobra.Command {
	return action(g, "list", "List targets, newest first", cobra.NoArgs, func(c *cobra.Command, api *client, _ []string) error {
		var targets []admin.Target
		if err := api.get(c.Context(), "/targets", nil, &targets); err != nil {
			return err
		}
		return printList(g, targets, "No targets. Add one: sallyport target add NAME --address HOST:PORT --account root --tofu",
			[]string{"NAME", "ADDRESS", "ACCOUNTS", "LABELS", "HOST KEY", "NOTE"},
			func(t admin.Target) []string {
				address := t.Address
				if t.Via != "" {
					address += " through " + t.Via
				}
				return []string{t.Name, address, joined(t.Accounts), labelList(t.Labels), hostKeyState(t), t.Note}
			})
	})
}

func hostKeyState(t admin.Target) string {
	switch {
	case t.HostKeyMode == store.HostCA:
		return "certificate"
	case len(t.HostKeys) == 0:
		return "not seen yet"
	}
	return t.HostKeys[0].Fingerprint
}

func labelList(labels map[string]string) string {
	var list []string
	for k, v := range labels {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return joined(list)
}

func targetShowCommand(g *globals) *cobra.Command {
	return action(g, "show NAME", "Show a target", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var t admin.Target
		if err := api.get(c.Context(), route("targets", args[0]), nil, &t); err != nil {
			return err
		}
		pairs := []string{"id", t.ID, "name", t.Name, "address", t.Address, "via", t.Via, "accounts", joined(t.Accounts), "labels", labelList(t.Labels),
			"host key mode", t.HostKeyMode}
		for _, k := range t.HostKeys {
			kind, _, _ := strings.Cut(k.Key, " ")
			pairs = append(pairs, "host key", kind+" "+k.Fingerprint)
		}
		for _, k := range t.HostCAs {
			pairs = append(pairs, "host CA", k.Fingerprint)
		}
		for _, k := range t.RevokedKeys {
			pairs = append(pairs, "revoked key", k.Fingerprint)
		}
		pairs = append(pairs, "credential", t.Credential)
		lockout := "the general setting"
		if t.Lockout > 0 {
			lockout = web.Plural(t.Lockout, "failure", "failures")
		}
		return g.printFields(t, append(pairs, "lockout", lockout, "note", t.Note, "created", clock(t.Created))...)
	})
}

func targetDeleteCommand(g *globals) *cobra.Command {
	var yes bool
	c := action(g, "delete NAME", "Delete a target and end the sessions on it", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			if !yes && !g.confirm("Delete target "+args[0]+" and end the sessions on it?", true) {
				return failed("Answer y, or use --yes.", "nothing was deleted")
			}
			if err := api.call(c.Context(), http.MethodDelete, route("targets", args[0]), nil, nil); err != nil {
				return err
			}
			return g.done(gone{args[0], true}, "deleted target %s; its authorized_keys still hold the bastion's key", args[0])
		})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func targetOnboardCommand(g *globals) *cobra.Command {
	var account string
	c := action(g, "onboard NAME", "Print what lets the bastion in: a line of authorized_keys, or the CA of its certificates", cobra.ExactArgs(1),
		func(c *cobra.Command, api *client, args []string) error {
			q := url.Values{}
			if account != "" {
				q.Set("account", account)
			}
			var o admin.Onboarding
			if err := api.get(c.Context(), route("targets", args[0], "onboarding"), q, &o); err != nil {
				return err
			}
			if g.json() {
				return g.printJSON(o)
			}
			return g.showOnboarding(o)
		})
	c.Flags().StringVar(&account, "account", "", "one account only (default: all of the target)")
	return c
}

// showOnboarding prints the line, which is the same for all accounts, as data, and how to install it
// for people.
func (g *globals) showOnboarding(o admin.Onboarding) error {
	if o.Warning != "" {
		defer g.say("\nWarning: %s", audit.Escape(o.Warning))
	}
	switch {
	case o.UserCA != nil:
		g.say("On %s (%s), put what is printed below into /etc/ssh/sallyport-user-ca.pub, these into sshd_config, and reload sshd:\n\n%s\n\nThen see that it works: sallyport target check %s",
			o.Target, o.Address, indented(o.UserCA.Config), o.Target)
		return g.printCA(*o.UserCA)
	case o.Credential == store.CredentialRelayed:
		g.say("Each person answers the prompts of %s (%s): nothing has to be put there. The rule that lets them in needs relay: true", o.Target, o.Address)
		return nil
	case o.Credential == store.CredentialPassword:
		g.say("The bastion logs in to %s (%s) with a password: nothing has to be put there. See that it works: sallyport target check %s", o.Target, o.Address, o.Target)
		return nil
	case len(o.AuthorizedKeys) == 0:
		return failed("Name one: --account NAME", "target %s has no accounts", audit.Escape(o.Target))
	}
	line := o.AuthorizedKeys[0].Line
	for _, k := range o.AuthorizedKeys {
		g.say("On %s (%s), as %s, paste this:\n\n  %s\n", o.Target, o.Address, k.Account, installCommand(k.Line))
	}
	g.say("It adds this line to ~/.ssh/authorized_keys. Then see that it works: sallyport target check %s", o.Target)
	return printLine(g.Out, audit.Escape(line))
}

// installCommand is one line of shell that adds a line to authorized_keys. The line has no quote of
// the kind it is put in: the server makes it of addresses, words and base64.
func installCommand(line string) string {
	return "mkdir -p -m 700 ~/.ssh && echo '" + strings.ReplaceAll(audit.Escape(line), "'", "") + "' >> ~/.ssh/authorized_keys && chmod 600 ~/.ssh/authorized_keys"
}

func targetCheckCommand(g *globals) *cobra.Command {
	var in admin.NewCheck
	c := action(g, "check NAME", "Try a target as a session would", cobra.ExactArgs(1), func(c *cobra.Command, api *client, args []string) error {
		var found admin.Check
		if err := api.call(c.Context(), http.MethodPost, route("targets", args[0], "check"), in, &found); err != nil {
			return err
		}
		if err := g.showCheck(found); err != nil {
			return err
		}
		if !found.OK {
			return &exitError{exitFailed, fmt.Errorf("target %s does not work for account %s", audit.Escape(found.Target), audit.Escape(found.Account))}
		}
		return nil
	})
	c.Flags().StringVar(&in.Account, "account", "", "account to try (default: the target's first)")
	return c
}

func (g *globals) showCheck(found admin.Check) error {
	if g.json() {
		return g.printJSON(found)
	}
	t := newTable(g.Out, "STEP", "RESULT", "DETAIL")
	for _, s := range found.Steps {
		result := "ok"
		if !s.OK {
			result = "FAILED"
		}
		t.row(s.Name, result, s.Detail)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, s := range found.Steps {
		if !s.OK && s.Fix != "" {
			g.say("%s: %s", audit.Escape(s.Name), audit.Escape(s.Fix))
		}
	}
	return nil
}

// sshHost is one block of ~/.ssh/config.
type sshHost struct {
	ID       string `json:"id"`
	Host     string `json:"host"`
	HostName string `json:"host_name"`
	Port     int    `json:"port"`
	User     string `json:"user"`
}

func targetSSHConfigCommand(g *globals) *cobra.Command {
	var login, account string
	c := action(g, "ssh-config [NAME…]", "Print blocks for ~/.ssh/config", cobra.ArbitraryArgs, func(c *cobra.Command, api *client, args []string) error {
		if login == "" {
			login = currentLogin()
		}
		if !plainName.MatchString(login) || account != "" && !plainName.MatchString(account) {
			return usage("Give your login at the bastion: --user LOGIN", "%s cannot stand in ~/.ssh/config", audit.Quote(login+"@"+account))
		}
		var door admin.Door
		if err := api.get(c.Context(), "/door", nil, &door); err != nil {
			return err
		}
		var targets []admin.Target
		if err := api.get(c.Context(), "/targets", nil, &targets); err != nil {
			return err
		}
		hosts, err := sshHosts(door, targets, args, login, account)
		if err != nil {
			return err
		}
		if g.json() {
			return g.printJSON(hosts)
		}
		return g.showSSHConfig(hosts)
	})
	c.Flags().StringVar(&login, "user", "", "your login at the bastion (default: the name you have here)")
	c.Flags().StringVar(&account, "account", "", "account on the targets (default: each target's first)")
	return c
}

// plainName is what a login or an account may look like in a file that ssh reads.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

func currentLogin() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

func sshHosts(door admin.Door, targets []admin.Target, names []string, login, account string) ([]sshHost, error) {
	hosts := []sshHost{}
	for _, n := range names {
		if !slices.ContainsFunc(targets, func(t admin.Target) bool { return t.Name == n }) {
			return nil, failed("See: sallyport target list", "there is no target %s", audit.Escape(n))
		}
	}
	who := login
	if account != "" {
		who += "@" + account
	}
	for _, t := range targets {
		if len(names) == 0 || slices.Contains(names, t.Name) {
			hosts = append(hosts, sshHost{ID: t.ID, Host: t.Name, HostName: door.Host, Port: door.Port, User: who + "@" + t.Name})
		}
	}
	return hosts, nil
}

func (g *globals) showSSHConfig(hosts []sshHost) error {
	if len(hosts) == 0 {
		g.say("No targets. Add one: sallyport target add NAME --address HOST:PORT --account root --tofu")
		return nil
	}
	g.say("Put this into ~/.ssh/config; then type: ssh %s", hosts[0].Host)
	for _, h := range hosts {
		_, err := fmt.Fprintf(g.Out, "Host %s\n    HostName %s\n    Port %d\n    User %s\n\n", audit.Escape(h.Host), audit.Escape(h.HostName), h.Port, audit.Escape(h.User))
		if err != nil {
			return err
		}
	}
	return nil
}

func printLine(w io.Writer, line string) error {
	_, err := fmt.Fprintln(w, line)
	return err
}
