// Command sallyport is the bastion and the tool of those who operate it.
//
// Exit status: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3 server not reachable.
// What people read goes to standard error, data to standard output.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker (-X main.version=…).
var version = "development"

// Exit statuses that scripts rely on.
const (
	exitFailed      = 1 // refused or failed
	exitUsage       = 2 // wrong usage or configuration
	exitUnreachable = 3 // server not reachable
)

// exitError is an error with the exit status it leads to. Any other error that a command returns
// leads to exitFailed, and one found before the command ran (flags, arguments) to exitUsage.
type exitError struct {
	Code int
	Err  error
}

func (e *exitError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *exitError) Unwrap() error { return e.Err }

// usageErrorf is an error of exit status 2.
func usageErrorf(format string, args ...any) error {
	return &exitError{Code: exitUsage, Err: fmt.Errorf(format, args...)}
}

// globals are the flags that every command understands, and where it reads and writes.
type globals struct {
	Output    string // "table" or "json"
	Socket    string // path of a server's Unix socket
	State     string // state folder of a demo
	Server    string // URL of a server; needs TokenFile
	TokenFile string // file with an API token, "-" for In

	In  io.Reader
	Out io.Writer // data
	Err io.Writer // what people read
}

// json tells whether data is to be printed as one JSON value.
func (g *globals) json() bool { return g.Output == "json" }

// printJSON prints v as the one JSON value of a command.
func (g *globals) printJSON(v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	if err == nil {
		_, err = g.Out.Write(asciiControls(text.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("printing JSON: %w", err)
	}
	return nil
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program but for the process around it; tests call it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	g := &globals{In: stdin, Out: stdout, Err: stderr}
	root, started := newRoot(g)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(stderr, "sallyport: %s\n", text)
	}
	var coded *exitError
	switch {
	case errors.As(err, &coded):
		return coded.Code
	case *started:
		return exitFailed
	default: // cobra found fault with flags or arguments
		fmt.Fprintln(stderr, "Try: sallyport --help")
		return exitUsage
	}
}

// newRoot builds the tree of commands. The bool becomes true once a command's own work has begun.
func newRoot(g *globals) (root *cobra.Command, started *bool) {
	root = &cobra.Command{
		Use:           "sallyport",
		Short:         "A bastion for SSH: two doors, of which only one is open at a time",
		Long:          "Sallyport stands in front of SSH hosts: password, then one-time code, then a recorded connection.\nTo see it at work on this machine: sallyport demo",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if g.Output != "table" && g.Output != "json" {
				return usageErrorf("--output %q: the formats are table and json", g.Output)
			}
			return nil
		},
	}
	root.SetIn(g.In)
	root.SetOut(g.Out)
	root.SetErr(g.Err)
	flags := root.PersistentFlags()
	flags.StringVarP(&g.Output, "output", "o", "table", "format of data: table or json")
	flags.StringVar(&g.Socket, "socket", "", "Unix socket of the running server")
	flags.StringVar(&g.State, "state", "", "state folder of a demo")
	flags.StringVar(&g.Server, "server", "", "URL of the running server, with --token-file")
	flags.StringVar(&g.TokenFile, "token-file", "", "file with an API token (- for standard input)")

	root.AddCommand(newDemoCommand(g), newInitCommand(g), newServeCommand(g), newCheckCommand(g), keysCommand(g), newVersionCommand(g))
	root.AddCommand(operatorCommands(g)...)
	started = new(bool)
	finish(root, started)
	return root, started
}

// finish makes every command note that it has begun, and makes a group of commands that is called
// without one of them, or with an unknown one, a usage error instead of a success with help.
func finish(c *cobra.Command, started *bool) {
	for _, sub := range c.Commands() {
		finish(sub, started)
	}
	if c.RunE != nil {
		runE := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return runE(cmd, args)
		}
		return
	}
	if c.Run != nil || !c.HasSubCommands() {
		return
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			fmt.Fprint(cmd.ErrOrStderr(), cmd.UsageString())
			return usageErrorf("%s needs a command", cmd.CommandPath())
		}
		hint := ""
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf(" Did you mean %q?", near[0])
		}
		return usageErrorf("unknown command %q for %q.%s Try: %s --help", args[0], cmd.CommandPath(), hint, cmd.CommandPath())
	}
	if c.SuggestionsMinimumDistance <= 0 {
		c.SuggestionsMinimumDistance = 2
	}
}

func newVersionCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version  string `json:"version"`
				Revision string `json:"revision,omitempty"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version, revision(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if g.json() {
				return g.printJSON(v)
			}
			_, err := fmt.Fprintf(g.Out, "sallyport %s %s %s\n", v.Version, v.Go, v.Platform)
			return err
		},
	}
}

// revision is the commit the binary was built from, "" if the build did not record it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
