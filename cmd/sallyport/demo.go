package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport/audit"
	"sallyport/internal/config"
	"sallyport/internal/seal"
)

const (
	demoDrain      = 2 * time.Second
	demoReserve    = 100 << 20 // bytes
	maxDemoUsers   = 100_000
	demoPortTries  = 100
	demoTargetName = "demo"
	demoVPNName    = "vpn"
	demoTargetKey  = "demo-target-key/ed25519"
)

// demoOptions are the flags of demo.
type demoOptions struct {
	json, reset                bool
	ssh, web, radius, database string
	users                      int
}

func newDemoCommand(g *globals) *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run a bastion on this machine only, with users and targets, and say what to type",
		Long: "Run the real server on loopback, with users alice (password and token) and bob (password, enrols at the first login),\n" +
			"targets demo (your own shell), down (cannot be reached) and vault (refused by the rules), and vpn, which asks by RADIUS.\n" +
			"State, with random passwords, is kept in ${XDG_STATE_HOME:-~/.local/state}/sallyport/demo or in --state DIR.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), g, o) },
	}
	f := c.Flags()
	f.BoolVar(&o.json, "json", false, "when ready, print one line of JSON, and nothing else")
	f.BoolVar(&o.reset, "reset", false, "begin anew: delete the state folder's contents first")
	f.StringVar(&o.ssh, "ssh", "", "address of the SSH door, on loopback; port 0: a free one (default 127.0.0.1:2222 or the next free port)")
	f.StringVar(&o.web, "web", "", "address of the operators' pages, on loopback; port 0: a free one (default 127.0.0.1:8080 or the next free port)")
	f.StringVar(&o.radius, "radius", "", "address of the RADIUS door (UDP), on loopback; port 0: a free one (default 127.0.0.1:1812 or the next free port)")
	f.IntVar(&o.users, "users", 0, "also make users u1 to uN, with alice's password and tokens of their own")
	f.StringVar(&o.database, "database", "", "PostgreSQL database, such as postgres://localhost/demo?sslmode=disable (default SQLite in the state folder)")
	c.AddCommand(newDemoOTPCommand(g))
	return c
}

// demo is one run of it.
type demo struct {
	g       *globals
	o       demoOptions
	dir     string
	person  person
	secrets *demoSecrets
	node    *node
	link    string // for the administrator

	listeners demoListeners
}

type demoListeners struct {
	socket           *socketListener
	ssh, web, target net.Listener
	radius           *net.UDPConn
}

func (l *demoListeners) close() {
	for _, c := range []net.Listener{l.ssh, l.web, l.target} {
		if c != nil {
			_ = c.Close()
		}
	}
	if l.radius != nil {
		_ = l.radius.Close()
	}
	if l.socket != nil {
		_ = l.socket.Close()
	}
}

func runDemo(ctx context.Context, g *globals, o demoOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	dir, err := g.demoState()
	if err != nil {
		return err
	}
	if err := prepareState(dir, o.reset); err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	d := &demo{g: g, o: o, dir: dir, person: whoStarted()}
	defer d.listeners.close()
	if err := d.listen(ctx); err != nil {
		return err
	}
	if d.secrets, err = loadSecrets(dir, o.users); err != nil {
		return err
	}
	show, err := d.newConsole()
	if err != nil {
		return err
	}
	defer show.close()
	if err := d.open(ctx, show); err != nil {
		return err
	}
	target, err := d.startTarget(ctx)
	if err != nil {
		return errors.Join(err, d.node.Close())
	}
	defer target.Close()
	return d.node.Run(ctx, func() { show.ready(ctx, d) })
}

// check refuses what would let others in.
func (o *demoOptions) check() error {
	for _, f := range []struct{ flag, value string }{{"--ssh", o.ssh}, {"--web", o.web}, {"--radius", o.radius}} {
		if f.value == "" {
			continue
		}
		l, err := config.ParseListen(f.value)
		if err != nil {
			return usageErrorf("%s %w", f.flag, err)
		}
		if !l.Loopback() {
			return usageErrorf("%s %s: the demo gives away a shell and listens on loopback only, such as 127.0.0.1:0; for others run 'sallyport init' and 'sallyport serve'", f.flag, f.value)
		}
	}
	if o.users < 0 || o.users > maxDemoUsers {
		return usageErrorf("--users %d: want 0 to %d", o.users, maxDemoUsers)
	}
	return nil
}

// listen opens all listeners. The socket comes first: it tells a demo that runs from a port that is taken.
func (d *demo) listen(ctx context.Context) (err error) {
	l := &d.listeners
	if l.socket, err = listenSocket(ctx, filepath.Join(d.dir, socketName)); err != nil {
		return err
	}
	if l.ssh, err = listenDemo(ctx, d.o.ssh, 2222); err != nil {
		return fmt.Errorf("--ssh: %w", err)
	}
	if l.web, err = listenDemo(ctx, d.o.web, 8080); err != nil {
		return fmt.Errorf("--web: %w", err)
	}
	if l.radius, err = listenDemoRADIUS(d.o.radius); err != nil {
		return fmt.Errorf("--radius: %w", err)
	}
	l.target, err = listenLoopback(ctx)
	return err
}

// listenDemo listens on the address, or on the first free port from first on.
func listenDemo(ctx context.Context, address string, first int) (net.Listener, error) {
	var lc net.ListenConfig
	if address != "" {
		return lc.Listen(ctx, "tcp", address)
	}
	var err error
	for port := first; port < first+demoPortTries; port++ {
		var l net.Listener
		if l, err = lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
	}
	return nil, err
}

// config is that of serve, with a demo's values.
func (d *demo) config() *config.Config {
	in := func(name string) config.Path { return config.Path(filepath.Join(d.dir, name)) }
	c := config.Default()
	c.Node, c.Data, c.Socket = "demo", config.Path(d.dir), in(socketName)
	c.Database = config.Database("sqlite:" + filepath.Join(d.dir, "sallyport.db"))
	if d.o.database != "" {
		c.Database = config.Database(d.o.database)
	}
	c.Keys = config.Keys{Ring: in("keyring"), Signing: in("signing.key")}
	c.Recordings.Local, c.Recordings.Reserve = in("recordings"), demoReserve
	c.SSH.Listen, c.Web.Listen = config.Listen(d.listeners.ssh.Addr().String()), config.Listen(d.listeners.web.Addr().String())
	c.RADIUS.Listen = config.Listen(d.listeners.radius.LocalAddr().String())
	c.OTP.EnrolmentAtLogin, c.OTP.Issuer = true, "Sallyport demo"
	c.Drain = config.Duration(demoDrain)
	return c
}

// open wires the node and fills its database.
func (d *demo) open(ctx context.Context, show *console) error {
	cfg := d.config()
	if _, err := seal.LoadOrCreate(string(cfg.Keys.Ring)); err != nil {
		return err
	}
	tuneMemory(show.log)
	var err error
	d.node, err = newNode(ctx, cfg, nodeOptions{Demo: true, Log: show.log, AuditLog: show.auditLog, Sockets: inherited{radius: d.listeners.radius}})
	if err != nil {
		return d.explain(err)
	}
	d.node.socket, d.node.ssh, d.node.web = d.listeners.socket, d.listeners.ssh, d.listeners.web
	if err := d.seed(ctx); err != nil {
		return errors.Join(fmt.Errorf("filling the demo: %w", err), d.node.Close())
	}
	return nil
}

// explain says what to do about a database whose keys were in a state folder that is gone.
func (d *demo) explain(err error) error {
	if d.o.database != "" && strings.Contains(err.Error(), hostKeyName) {
		return fmt.Errorf("%w\nThe database belongs to a demo with another state folder. Empty it (dropdb, createdb), or name that folder with --state", err)
	}
	return err
}

func (d *demo) seed(ctx context.Context) error {
	hostKey, err := sharedSigner(ctx, d.node.Store, demoTargetKey)
	if err != nil {
		return err
	}
	s := &demoSeed{
		store: d.node.Store, secrets: d.secrets, users: d.o.users, accounts: d.accounts(),
		target: d.listeners.target.Addr().String(), hostKey: hostKey.PublicKey(),
	}
	if err := s.run(ctx); err != nil {
		return err
	}
	if err := d.secrets.save(d.dir); err != nil {
		return err
	}
	d.link = webURL(d.node.cfg) + "/"
	admins, err := d.node.Store.Admins.Count(ctx)
	if err != nil || admins > 0 {
		return err
	}
	d.link, err = firstAdminLink(ctx, d.node.Store, webURL(d.node.cfg))
	return err
}

// accounts are those of target demo: whoever started the demo, by name and as default.
func (d *demo) accounts() []string {
	if d.person.Name == "default" {
		return []string{"default"}
	}
	return []string{d.person.Name, "default"}
}

func (d *demo) startTarget(ctx context.Context) (*demoTarget, error) {
	files := filepath.Join(d.dir, "files")
	if err := os.MkdirAll(files, 0o700); err != nil {
		return nil, fmt.Errorf("making the scratch folder: %w", err)
	}
	hostKey, err := sharedSigner(ctx, d.node.Store, demoTargetKey)
	if err != nil {
		return nil, err
	}
	t := newDemoTarget(d.person, d.accounts(), hostKey, d.node.Dialer.PublicKey(), files)
	go func() {
		if err := t.Serve(d.listeners.target); err != nil {
			d.node.log.Error("target demo", "error", err)
		}
	}()
	return t, nil
}

// readyLine is what --json prints.
type readyLine struct {
	SSH       string   `json:"ssh"`
	Web       string   `json:"web"`
	AdminLink string   `json:"admin_link"`
	APIToken  string   `json:"api_token"`
	Socket    string   `json:"socket"`
	State     string   `json:"state"`
	PID       int      `json:"pid"`
	User      string   `json:"user"`
	Password  string   `json:"password"`
	Target    string   `json:"target"`
	Accounts  []string `json:"accounts"`

	RADIUS       string `json:"radius"`
	RADIUSSecret string `json:"radius_secret"`
}

func (d *demo) readyLine() readyLine {
	return readyLine{
		SSH: d.listeners.ssh.Addr().String(), Web: webURL(d.node.cfg), AdminLink: d.link, APIToken: d.secrets.APIToken,
		Socket: string(d.node.cfg.Socket), State: d.dir, PID: os.Getpid(), User: "alice", Password: d.secrets.Passwords["alice"],
		Target: demoTargetName, Accounts: []string{d.person.Name}, RADIUS: d.listeners.radius.LocalAddr().String(), RADIUSSecret: d.secrets.RADIUSSecret,
	}
}

// newConsole returns what the demo shows itself with. With --json the log goes to standard error, as that of
// serve does; else it goes to a file, and the console shows what is worth seeing.
func (d *demo) newConsole() (*console, error) {
	c := &console{out: d.g.Out, terminal: isTerminal(d.g.Out), json: d.o.json}
	var log io.Writer = d.g.Err
	if !d.o.json {
		f, err := os.OpenFile(filepath.Join(d.dir, "demo.log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening the demo's log: %w", err)
		}
		log, c.file = f, f
	}
	c.log, c.auditLog = newLogs(log, config.Log{Level: config.Level(slog.LevelInfo), Format: "json"})
	if !d.o.json {
		c.auditLog = slog.New(&eventHandler{Handler: c.auditLog.Handler(), show: c.event})
	}
	return c, nil
}

// eventHandler passes audit events on to the console besides the log.
type eventHandler struct {
	slog.Handler
	show func(audit.Event)
}

// Handle implements slog.Handler.
func (h *eventHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if e, ok := a.Value.Any().(audit.Event); ok {
			h.show(e)
		}
		return true
	})
	return h.Handler.Handle(ctx, r)
}

func printReady(w io.Writer, l readyLine) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // the link is for people too
	return enc.Encode(l)
}
