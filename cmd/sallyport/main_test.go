package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestExitStatusOfProgram(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		args   []string
		status int
		say    string // on standard error
	}{
		{"version", []string{"version"}, 0, ""},
		{"version as JSON", []string{"version", "-o", "json"}, 0, ""},
		{"flag before the command", []string{"-o", "json", "version"}, 0, ""},
		{"help", []string{"--help"}, 0, ""},
		{"completion", []string{"completion", "bash"}, 0, ""},
		{"nothing", nil, exitUsage, "needs a command"},
		{"unknown command", []string{"frobnicate"}, exitUsage, "unknown command"},
		{"misspelt command", []string{"demp"}, exitUsage, "demo"},
		{"group alone", []string{"user"}, exitUsage, "needs a command"},
		{"unknown command of a group", []string{"user", "lst"}, exitUsage, "list"},
		{"unknown flag", []string{"version", "--loud"}, exitUsage, "unknown flag"},
		{"argument too many", []string{"version", "now"}, exitUsage, "now"},
		{"argument missing", []string{"demo", "otp"}, exitUsage, "arg"},
		{"format", []string{"version", "-o", "xml"}, exitUsage, "table and json"},
		{"configuration missing", []string{"serve", "-c", "/nonexistent/sallyport.yaml"}, exitUsage, "sallyport init"},
		{"configuration missing for check", []string{"check", "-c", "/nonexistent/sallyport.yaml"}, exitUsage, "sallyport init"},
		{"server not reachable", []string{"session", "list", "--socket", "/nonexistent/sallyport.sock"}, exitUnreachable, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, errs, status := program(t, tt.args...)
			if status != tt.status || !strings.Contains(errs, tt.say) {
				t.Errorf("status %d, %q; want %d, %q", status, errs, tt.status, tt.say)
			}
			if status != 0 && out != "" {
				t.Errorf("data of a failure: %q", out)
			}
		})
	}
}

// A flag of a command that hid a global one would make --state, --socket or -o mean something else there.
func TestNoCommandHidesAGlobalFlag(t *testing.T) {
	t.Parallel()
	root, _ := newRoot(&globals{})
	global, short := map[string]bool{}, map[string]bool{}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { global[f.Name], short[f.Shorthand] = true, true })
	delete(short, "")
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			sub.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
				if global[f.Name] && root.PersistentFlags().Lookup(f.Name) != f || short[f.Shorthand] && !global[f.Name] {
					t.Errorf("%s has a --%s of its own", sub.CommandPath(), f.Name)
				}
			})
			walk(sub)
		}
	}
	walk(root)
}

func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	root, _ := newRoot(&globals{})
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help is %q", c.CommandPath(), c.Short)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}
