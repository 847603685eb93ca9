package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sallyport/internal/config"
	"sallyport/internal/seal"
	"sallyport/signin"
	"sallyport/store"
)

// firstAdminTime is how long the link for the first administrator is good.
const firstAdminTime = 24 * time.Hour

// initOptions are the flags of init.
type initOptions struct {
	dir, data, database, passwordFile, ssh, web string
}

func newInitCommand(g *globals) *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use:   "init --dir DIR",
		Short: "Write configuration and keys, and print the link for the first administrator",
		Long: "Write an annotated configuration, the key ring and this node's signing key (all for the owner only), create the\n" +
			"database, and print a one-time link by which the first administrator signs up. Nothing is ever overwritten:\n" +
			"keys and a database that exist already, such as those of other nodes, are used as they are.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return initialise(cmd.Context(), g, o) },
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", filepath.Dir(defaultConfig), "folder for the configuration, and for data unless --data names another")
	f.StringVar(&o.data, "data", "", "folder for keys, database and recordings")
	f.StringVar(&o.database, "database", "sqlite", "sqlite, or postgres://user@host/name?sslmode=verify-full")
	f.StringVar(&o.passwordFile, "database-password-file", "", "file with the password for PostgreSQL")
	f.StringVar(&o.ssh, "ssh", ":2222", "address and port of the SSH door")
	f.StringVar(&o.web, "web", "127.0.0.1:8080", "address and port of the operators' pages")
	return c
}

// initialised is what init tells.
type initialised struct {
	Config    string     `json:"config"`
	Socket    string     `json:"socket"`
	AdminLink string     `json:"admin_link"` // empty: there is an administrator
	Expires   *time.Time `json:"expires"`
}

func initialise(ctx context.Context, g *globals, o initOptions) error {
	file, text, cfg, err := planConfig(o)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s is there already, and init overwrites nothing; use it, or give another --dir", file)
	}
	if err := makeFolders(filepath.Dir(file), string(cfg.Data)); err != nil {
		return err
	}
	out, err := createInstallation(ctx, cfg)
	if err != nil {
		return err
	}
	out.Config = file
	// The configuration comes last: with it, everything else is there.
	if err := writeNew(file, []byte(text)); err != nil {
		return fmt.Errorf("writing configuration: %w", err)
	}
	if g.json() {
		return g.printJSON(out)
	}
	link := "This installation has an administrator already."
	if out.AdminLink != "" {
		if _, err := fmt.Fprintln(g.Out, out.AdminLink); err != nil {
			return err
		}
		link = fmt.Sprintf("The link above makes the first administrator, once, until %s.", out.Expires.Local().Format("2006-01-02 15:04"))
	}
	fmt.Fprintf(g.Err, nextSteps, link, file, cfg.Socket, cfg.Keys.Ring, os.Args[0])
	return nil
}

const nextSteps = `
%[1]s What to do now:
  1  read and adjust      %[2]s
  2  examine it           %[5]s check -c %[2]s
  3  run it               %[5]s serve -c %[2]s
  4  add users, targets and rules in the browser, or by
                          %[5]s --socket %[3]s user add NAME
  5  keep a copy of       %[4]s
     apart from the database: without it the secrets in there cannot be opened
`

// planConfig decides what the configuration will say, and reads it back as serve will.
func planConfig(o initOptions) (file, text string, cfg *config.Config, err error) {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return "", "", nil, fmt.Errorf("finding %s: %w", o.dir, err)
	}
	file = filepath.Join(dir, filepath.Base(defaultConfig))
	if o.data == "" {
		o.data = dir
		if file == defaultConfig {
			o.data = string(config.Default().Data)
		}
	}
	plan := config.Default()
	if o.data, err = filepath.Abs(o.data); err != nil {
		return "", "", nil, fmt.Errorf("finding %s: %w", o.data, err)
	}
	plan.Data = config.Path(o.data)
	plan.Database = config.Database(o.database)
	plan.DatabasePasswordFile = config.Path(o.passwordFile)
	plan.SSH.Listen, plan.Web.Listen = config.Listen(o.ssh), config.Listen(o.web)
	if text, err = config.Render(plan); err != nil {
		return "", "", nil, err
	}
	if cfg, err = config.Parse(file, []byte(text)); err != nil {
		return "", "", nil, &exitError{Code: exitUsage, Err: err}
	}
	return file, text, cfg, nil
}

// makeFolders makes folders that only their owner can enter. Ones that exist stay as they are, except
// that others must not be able to write there.
func makeFolders(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making folder: %w", err)
		}
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("looking at folder: %w", err)
		}
		if mode := info.Mode().Perm(); mode&0o022 != 0 {
			return fmt.Errorf("others can write in %s (mode %04o) and could replace keys; run: chmod 700 %[1]s", dir, mode)
		}
	}
	return nil
}

// createInstallation makes keys and database, and the ticket of the first administrator.
func createInstallation(ctx context.Context, cfg *config.Config) (out initialised, err error) {
	ring, err := seal.LoadOrCreate(string(cfg.Keys.Ring))
	if err != nil {
		return out, err
	}
	if _, err := loadSigningKey(string(cfg.Keys.Signing)); err != nil {
		return out, err
	}
	st, err := openStore(ctx, cfg, ring)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := checkDemo(ctx, st, false); err != nil {
		return out, err
	}
	for _, name := range []string{hostKeyName, upstreamKeyName} {
		if _, err := sharedSigner(ctx, st, name); err != nil {
			return out, err
		}
	}
	out.Socket = string(cfg.Socket)
	admins, err := st.Admins.Count(ctx)
	if err != nil || admins > 0 {
		return out, err
	}
	expires := time.Now().Add(firstAdminTime).UTC().Truncate(time.Second)
	out.Expires = &expires
	out.AdminLink, err = firstAdminLink(ctx, st, webURL(cfg))
	return out, err
}

// firstAdminLink makes the one-time link of the first administrator; an older one is no longer good.
func firstAdminLink(ctx context.Context, st *store.Store, base string) (string, error) {
	const subject = "first administrator"
	if err := st.Tickets.Drop(ctx, signin.PurposeFirstAdmin, subject); err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", fmt.Errorf("withdrawing the link before: %w", err)
	}
	ticket, err := st.Tickets.Create(ctx, signin.PurposeFirstAdmin, subject, nil, firstAdminTime)
	if err != nil {
		return "", fmt.Errorf("making the link for the first administrator: %w", err)
	}
	return base + "/setup?" + url.Values{"ticket": {ticket}}.Encode(), nil
}
