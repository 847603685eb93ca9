package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sallyport/audit"
	"sallyport/internal/auditlog"
	"sallyport/internal/config"
	"sallyport/internal/notify"
	"sallyport/internal/seal"
	"sallyport/store"
	"sallyport/upstream"
)

const (
	maxClockOffset = 10 * time.Second    // between this node and the database
	renewBefore    = 14 * 24 * time.Hour // rest of a certificate's life that is worth a complaint
)

// finding is one line of check: what was looked at, what was seen, and what to do. One that is OK and has
// something to do all the same is a note: it may be right here, and is worth a look.
type finding struct {
	ID     string `json:"id"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

// checker examines an installation part by part.
type checker struct {
	cfg      *config.Config
	findings []finding
	tell     func(finding) // called for each finding at once; may be nil
}

func newCheckCommand(g *globals) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Examine configuration, database, directory, mail, storage, clock, listeners and targets",
		Long: "Examine configuration, file modes, database, directory, mail servers, storage, clock, listeners and each target.\n" +
			"Each complaint ends with what to do. Exit status 1 if there was any.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return check(cmd.Context(), g, file) },
	}
	c.Flags().StringVarP(&file, "config", "c", defaultConfig, "configuration file")
	return c
}

func check(ctx context.Context, g *globals, file string) error {
	cfg, err := loadConfig(file)
	if err != nil {
		return err
	}
	c := &checker{cfg: cfg, findings: []finding{}}
	if !g.json() {
		c.tell = func(f finding) { printFinding(g, f) }
	}
	c.all(ctx, file)
	if g.json() {
		if err := g.printJSON(c.findings); err != nil {
			return err
		}
	}
	bad := 0
	for _, f := range c.findings {
		if !f.OK {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d checks failed", bad, len(c.findings))
	}
	return nil
}

func printFinding(g *globals, f finding) {
	word := "ok  "
	switch {
	case !f.OK:
		word = "FAIL"
	case f.Fix != "":
		word = "note"
	}
	fmt.Fprintf(g.Out, "%s  %-26s %s\n", word, audit.Escape(f.ID), audit.Escape(f.Detail))
	if f.Fix != "" {
		fmt.Fprintf(g.Out, "      %-26s -> %s\n", "", audit.Escape(f.Fix))
	}
}

func (c *checker) add(f finding) {
	c.findings = append(c.findings, f)
	if c.tell != nil {
		c.tell(f)
	}
}

func (c *checker) ok(id, format string, args ...any) {
	c.add(finding{ID: id, OK: true, Detail: fmt.Sprintf(format, args...)})
}

func (c *checker) fail(id, fix, format string, args ...any) {
	c.add(finding{ID: id, Detail: fmt.Sprintf(format, args...), Fix: fix})
}

func (c *checker) note(id, fix, format string, args ...any) {
	c.add(finding{ID: id, OK: true, Detail: fmt.Sprintf(format, args...), Fix: fix})
}

func (c *checker) all(ctx context.Context, file string) {
	c.ok("configuration", "%s", file)
	c.files(file)
	c.certificate()
	st := c.database(ctx)
	if st != nil {
		defer st.Close()
	}
	c.directory(ctx)
	c.messages(ctx)
	c.storage()
	c.bucket(ctx)
	c.clock(ctx, st)
	c.listeners(ctx)
	c.targets(ctx, st)
}

// files looks at who can reach what only the server should.
func (c *checker) files(file string) {
	type want struct {
		id, path string
		forbid   fs.FileMode
		needed   bool
	}
	wants := []want{
		{"file/configuration", file, 0o022, true},
		{"file/data", string(c.cfg.Data), 0o077, true},
		{"file/signing-key", string(c.cfg.Keys.Signing), 0o077, false},
		{"file/recordings", string(c.cfg.Recordings.Local), 0o077, false},
		{"file/database-password", string(c.cfg.DatabasePasswordFile), 0o007, true},
		{"file/web-key", string(c.cfg.Web.Key), 0o007, true},
	}
	if ring := string(c.cfg.Keys.Ring); seal.IsFile(ring) {
		wants = append(wants, want{"file/keyring", ring, 0o077, true})
	}
	if s3 := c.cfg.Recordings.S3; s3 != nil {
		wants = append(wants, want{"file/s3-access-key", string(s3.AccessKeyFile), 0o007, true}, want{"file/s3-secret-key", string(s3.SecretKeyFile), 0o007, true})
	}
	if c.cfg.Directory != nil {
		wants = append(wants, want{"file/directory-password", string(c.cfg.Directory.BindPasswordFile), 0o007, true})
	}
	for _, w := range wants {
		if w.path == "" {
			continue
		}
		info, err := os.Stat(w.path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !w.needed:
			c.ok(w.id, "%s: made at the first start", w.path)
		case errors.Is(err, fs.ErrNotExist):
			c.fail(w.id, "make it (sallyport init), or bring it back from its backup", "%s does not exist", w.path)
		case err != nil:
			c.fail(w.id, "run this as the user that runs the server", "%v", err)
		case info.Mode().Perm()&w.forbid != 0:
			c.fail(w.id, fmt.Sprintf("chmod %04o %s", info.Mode().Perm()&^w.forbid, w.path), "%s has mode %04o", w.path, info.Mode().Perm())
		default:
			c.ok(w.id, "%s has mode %04o", w.path, info.Mode().Perm())
		}
	}
}

func (c *checker) certificate() {
	if c.cfg.Web.Certificate == "" {
		return
	}
	const id = "web/certificate"
	pair, err := tls.LoadX509KeyPair(string(c.cfg.Web.Certificate), string(c.cfg.Web.Key))
	if err != nil {
		c.fail(id, "name a certificate and its key, both in PEM form", "%v", err)
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		c.fail(id, "replace the certificate", "%v", err)
		return
	}
	const renew = "renew it; the server reads the new one by itself"
	switch rest, end := time.Until(leaf.NotAfter), leaf.NotAfter.Format(time.DateOnly); {
	case rest < 0:
		c.fail(id, renew, "%s: was good until %s", c.cfg.Web.Certificate, end)
	case rest < renewBefore:
		c.note(id, renew, "%s: good until %s", c.cfg.Web.Certificate, end)
	default:
		c.ok(id, "%s: good until %s", c.cfg.Web.Certificate, end)
	}
}

// database opens the database; the caller closes it.
func (c *checker) database(ctx context.Context) *store.Store {
	ring, err := seal.Load(string(c.cfg.Keys.Ring))
	if err != nil {
		c.fail("keyring", "for a new installation run 'sallyport init'; otherwise bring the key ring back from its backup or from another node", "%v", err)
		return nil
	}
	if file, ok := strings.CutPrefix(string(c.cfg.Database), "sqlite:"); ok {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) { // opening would make one
			c.fail("database", "run 'sallyport init', or name the right file in database:", "%s does not exist", file)
			return nil
		}
	}
	st, err := openStore(ctx, c.cfg, ring)
	if err != nil {
		c.fail("database", "see that the database runs, and that database: and database-password-file: are right", "%v", err)
		return nil
	}
	schema, err := st.SchemaVersion(ctx)
	if err != nil {
		c.fail("database", "see the database's own log", "%v", err)
		return st
	}
	c.ok("database", "%s, schema %d", st.Engine(), schema)
	if err := checkDemo(ctx, st, false); err != nil {
		c.fail("database/demo", "name another database, or remove this one", "%v", err)
	}
	if _, err := sharedSigner(ctx, st, hostKeyName); err != nil {
		c.fail("keyring", "bring back the key ring that this database was made with", "%v", err)
	} else {
		c.ok("keyring", "opens the host key in the database")
	}
	return st
}

func (c *checker) directory(ctx context.Context) {
	if c.cfg.Directory == nil {
		c.ok("directory", "none: local users only")
		return
	}
	l, err := newDirectory(c.cfg.Directory)
	if err != nil {
		c.fail("directory", "set directory: right", "%v", err)
		return
	}
	defer l.Close()
	for _, s := range l.Check(ctx) {
		if s.Err != nil {
			c.fail("directory/"+s.Name, s.Fix, "%v", s.Err)
			continue
		}
		c.ok("directory/"+s.Name, "%s", s.Detail)
	}
}

// messages looks at what sends mail and SMS. Mail servers are connected to; a short message costs money, so that
// none is sent.
func (c *checker) messages(ctx context.Context) {
	m, err := newMessages(c.cfg)
	if err != nil {
		c.fail("messages", "set mail:, sms: and sent-codes: right", "%v", err)
		return
	}
	if c.cfg.Mail != nil {
		for _, s := range c.cfg.Mail.Servers {
			id := "mail/" + string(s.Server)
			mc, err := mailConfig(c.cfg, s)
			if err == nil {
				err = notify.ProbeMail(ctx, mc)
			}
			if err != nil {
				c.fail(id, "see that the server runs, takes mail from this host, and that tls:, user: and password-file: are right", "%s", audit.Escape(err.Error()))
				continue
			}
			c.ok(id, "answers with %s", s.TLS)
		}
	}
	if m.sms != nil {
		c.ok("sms", "%s (nothing was sent)", m.sms.Name())
	}
}

// storage writes, syncs and reads where recordings go, and looks how much is free there.
func (c *checker) storage() {
	dir := string(c.cfg.Recordings.Local)
	fix := "make the folder writable for the user that runs the server"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		c.fail("storage", fix, "%v", err)
		return
	}
	took, err := tryFile(dir)
	if err != nil {
		c.fail("storage", fix, "%v", err)
		return
	}
	c.ok("storage", "%s: written, synced and read in %s", dir, took.Round(10*time.Microsecond))
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		c.fail("storage/space", "see that the file system is in order", "%s: %v", dir, err)
		return
	}
	free := int64(stat.Bavail) * stat.Bsize
	if reserve := int64(c.cfg.Recordings.Reserve); free < reserve {
		c.fail("storage/space", "make room, or lower recordings.reserve; until then no session that must be recorded begins",
			"%d MiB free, %d MiB must stay free", free>>20, reserve>>20)
		return
	}
	c.ok("storage/space", "%d MiB free, %s must stay free", free>>20, c.cfg.Recordings.Reserve)
}

func tryFile(dir string) (took time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".check-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	begun := time.Now()
	text := []byte(begun.Format(time.RFC3339Nano))
	if _, err := f.Write(text); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	back := make([]byte, len(text))
	if _, err := f.ReadAt(back, 0); err != nil {
		return 0, err
	}
	if string(back) != string(text) {
		return 0, fmt.Errorf("%s: other bytes came back than were written", filepath.Dir(f.Name()))
	}
	return time.Since(begun), nil
}

// clock compares with the database's clock, and asks the kernel whether anybody keeps this one right.
// Codes are good for seconds.
func (c *checker) clock(ctx context.Context, st *store.Store) {
	if st != nil {
		begun := time.Now()
		there, err := st.Clock(ctx)
		here := begun.Add(time.Since(begun) / 2)
		offset := here.Sub(there).Abs()
		switch {
		case err != nil:
			c.fail("clock/database", "see the database's own log", "%v", err)
		case offset > maxClockOffset:
			c.fail("clock/database", "set both clocks by NTP: codes are good for seconds", "%s apart from the database's", offset.Round(time.Millisecond))
		default:
			c.ok("clock/database", "%s apart from the database's", offset.Round(time.Millisecond))
		}
	}
	c.tokens(ctx, st)
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		c.ok("clock/kernel", "not told here (%v)", err)
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		// In a container or virtual machine the host may see to it: nothing to fail for.
		c.note("clock/kernel", "unless the host sees to it, run an NTP client, such as: apt install systemd-timesyncd (codes are good for seconds)",
			"nothing here synchronises the clock")
	default:
		c.ok("clock/kernel", "synchronised, off by at most %s", (time.Duration(t.Maxerror) * time.Microsecond).Round(time.Millisecond))
	}
}

// tokens asks what the people's own clocks say of this one.
func (c *checker) tokens(ctx context.Context, st *store.Store) {
	if st == nil {
		return
	}
	d, err := st.Tokens.Drifting(ctx, time.Now().Add(-24*time.Hour))
	switch {
	case err != nil:
		c.fail("clock/tokens", "see the database's own log", "%v", err)
	case d.Together() != 0:
		c.fail("clock/tokens", "set the clocks of all nodes by NTP", "%s", d)
	default:
		c.ok("clock/tokens", "%s", d)
	}
}

// listeners sees whether the addresses are free, or taken by the server itself.
func (c *checker) listeners(ctx context.Context) {
	ours := false
	if conn, err := dialSocket(ctx, string(c.cfg.Socket)); err == nil {
		ours = true
		_ = conn.Close()
	}
	for _, l := range []struct {
		id      string
		address config.Listen
	}{{"listener/ssh", c.cfg.SSH.Listen}, {"listener/web", c.cfg.Web.Listen}} {
		if l.address == "" {
			continue
		}
		_, port, _ := net.SplitHostPort(string(l.address))
		listener, err := listenTCP(ctx, l.address, strings.TrimPrefix(l.id, "listener/")+".listen")
		switch {
		case err == nil:
			_ = listener.Close()
			c.ok(l.id, "%s is free", l.address)
		case errors.Is(err, syscall.EADDRINUSE) && ours:
			c.ok(l.id, "%s is taken, and the server of this configuration runs", l.address)
		case errors.Is(err, syscall.EADDRINUSE):
			c.fail(l.id, fmt.Sprintf("see who has it: ss -ltnp 'sport = :%s'; end that, or choose another port. If systemd has it for the server (sallyport-%s.socket), all is well", port, strings.TrimPrefix(l.id, "listener/")), "%v", err)
		case errors.Is(err, syscall.EACCES):
			c.fail(l.id, "use a port above 1023, or give the service CAP_NET_BIND_SERVICE as the packaged unit does, or let systemd listen: see docs/install.md", "%v", err)
		default:
			c.fail(l.id, "name an address that this machine has", "%v", err)
		}
	}
}

// targets proves that each target works.
func (c *checker) targets(ctx context.Context, st *store.Store) {
	if st == nil {
		return
	}
	list, err := st.Targets.List(ctx)
	if err != nil {
		c.fail("targets", "see the database's own log", "%v", err)
		return
	}
	if len(list) == 0 {
		c.ok("targets", "none yet")
		return
	}
	quiet := slog.New(slog.DiscardHandler) // the rows are written all the same
	log := auditlog.New(auditlog.Config{Sink: st.Audit, Logger: quiet, Node: string(c.cfg.Node)})
	dialer, err := newDialer(ctx, c.cfg, upstream.Config{Store: st, Audit: log, Log: quiet})
	if err != nil {
		c.fail("targets", "bring back the key ring that this database was made with", "%v", err)
		return
	}
	for _, t := range list {
		account := "root"
		if len(t.Accounts) > 0 {
			account = t.Accounts[0]
		}
		for _, s := range dialer.Check(ctx, t, account) {
			c.add(finding{ID: "target/" + t.Name + "/" + strings.NewReplacer(": ", "/", " ", "-").Replace(s.Name), OK: s.OK, Detail: s.Detail, Fix: s.Fix})
		}
	}
}
