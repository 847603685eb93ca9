package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/admin"
	"sallyport/auth"
	"sallyport/bastion"
	"sallyport/identity"
	"sallyport/internal/auditlog"
	"sallyport/internal/config"
	"sallyport/internal/custody"
	"sallyport/internal/metrics"
	"sallyport/internal/seal"
	"sallyport/otp"
	"sallyport/policy"
	"sallyport/portal"
	"sallyport/recorder"
	"sallyport/replay"
	"sallyport/session"
	"sallyport/store"
	"sallyport/upstream"
)

// demoSetting marks a database that belongs to a demo: its secrets lie about in files, and its target
// gives away a shell. serve refuses it.
const demoSetting = "demo"

// nodeOptions are what serve and demo do differently.
type nodeOptions struct {
	Demo     bool
	Log      *slog.Logger
	AuditLog *slog.Logger // receives audit events, whatever the level of Log
	Sockets  inherited    // taken instead of opening them
}

// node is the whole server, wired from a configuration. serve, demo and tests use it.
type node struct {
	cfg  *config.Config
	opts nodeOptions
	log  *slog.Logger
	ring *seal.Ring

	Store     *store.Store
	Audit     *auditlog.Log
	Recorder  *recorder.Recorder
	replays   *replay.Library
	Engine    *auth.Engine
	Sessions  *session.Manager
	Dialer    *upstream.Dialer
	HostKey   ssh.Signer
	HostCA    *hostCA
	Directory *identity.LDAP // nil: local users only
	keeper    atomic.Pointer[custody.Keeper]
	metrics   *metrics.Metrics

	messages messages
	chain    *auditlog.Chainer
	heads    *headKeeper
	bastion  *bastion.Server
	admin    *admin.Server
	portal   *portal.Server
	radius   *radiusDoor // nil: there is none

	served *certificate // of the web; nil: there is none, or a proxy in front has it

	ssh, web, socket net.Listener // opened by Listen; web is nil if there is none
}

// newNode opens everything that a node needs, and starts nothing yet. Close it if Run is not called.
func newNode(ctx context.Context, cfg *config.Config, opts nodeOptions) (n *node, err error) {
	n = &node{
		cfg: cfg, opts: opts, log: opts.Log, ssh: opts.Sockets.ssh, web: opts.Sockets.web, metrics: metrics.New(string(cfg.Node), version),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
			n = nil
		}
	}()
	if err := os.MkdirAll(string(cfg.Data), 0o700); err != nil {
		return n, fmt.Errorf("making data folder: %w", err)
	}
	if n.ring, err = loadRing(cfg); err != nil {
		return n, err
	}
	if name, ok := strings.CutPrefix(string(cfg.Keys.Ring), "env:"); ok {
		_ = os.Unsetenv(name) // programs that the server starts need not know it
	}
	if n.Store, err = openStore(ctx, cfg, n.ring); err != nil {
		return n, err
	}
	if err := checkDemo(ctx, n.Store, opts.Demo); err != nil {
		return n, err
	}
	if err := n.openRecorder(ctx); err != nil {
		return n, err
	}
	if n.messages, err = newMessages(cfg); err != nil {
		return n, err
	}
	sink, err := auditSink(cfg, n.Store, opts)
	if err != nil {
		return n, err
	}
	n.Audit = auditlog.New(auditlog.Config{Sink: sink, Logger: opts.AuditLog, Node: string(cfg.Node), Seen: n.metrics.Event})
	if err := n.openHeads(); err != nil {
		return n, err
	}
	n.chain = auditlog.NewChainer(auditlog.ChainConfig{Keeper: n.Store.Audit, Sign: n.Recorder.Sign, Node: string(cfg.Node), Logger: n.log,
		Heads: n.heads.file, Last: n.heads.last, Away: n.heads.away})
	if n.Directory, err = newDirectory(cfg.Directory); err != nil {
		return n, err
	}
	if err := n.openEngines(ctx); err != nil {
		return n, err
	}
	return n, n.openDoors()
}

// loadRing reads the key ring. serve never makes one: with a new ring in the place of a lost one,
// nothing in the database could be opened.
func loadRing(cfg *config.Config) (*seal.Ring, error) {
	ring, err := seal.Load(string(cfg.Keys.Ring))
	if errors.Is(err, os.ErrNotExist) && seal.IsFile(string(cfg.Keys.Ring)) {
		return nil, &exitError{Code: exitUsage, Err: fmt.Errorf("%w; for a new installation run 'sallyport init', otherwise bring the key ring back from its backup or from another node", err)}
	}
	return ring, err
}

// openStore connects to the database that cfg names and migrates it.
func openStore(ctx context.Context, cfg *config.Config, ring *seal.Ring) (*store.Store, error) {
	dsn := string(cfg.Database)
	if cfg.DatabasePasswordFile != "" {
		password, err := config.ReadSecret(string(cfg.DatabasePasswordFile))
		if err != nil {
			return nil, &exitError{Code: exitUsage, Err: err}
		}
		u, err := url.Parse(dsn)
		if err != nil {
			return nil, fmt.Errorf("reading the address of the database: %w", errors.Unwrap(err))
		}
		u.User = url.UserPassword(u.User.Username(), string(password))
		dsn = u.String()
	}
	return store.Open(ctx, store.Config{DSN: dsn, Ring: ring})
}

// checkDemo keeps demos and real installations apart. A demo takes a database without users or targets and
// marks it.
func checkDemo(ctx context.Context, st *store.Store, demo bool) error {
	_, marked, err := st.Settings.Get(ctx, demoSetting)
	switch {
	case err != nil:
		return fmt.Errorf("looking whether the database belongs to a demo: %w", err)
	case marked == demo:
		return nil
	case marked:
		return usageErrorf("this database belongs to a demo, which gives away a shell; name another in database:")
	}
	users, err := st.Users.List(ctx, store.UserFilter{Limit: 1})
	if err != nil {
		return err
	}
	targets, err := st.Targets.List(ctx)
	if err != nil {
		return err
	}
	if len(users) > 0 || len(targets) > 0 {
		return usageErrorf("this database has users or targets and is no demo's; name an empty one with --database")
	}
	return st.Settings.Set(ctx, demoSetting, "yes")
}

func (n *node) openRecorder(ctx context.Context) error {
	key, err := loadSigningKey(string(n.cfg.Keys.Signing))
	if err != nil {
		return err
	}
	keys, err := publishSigningKey(ctx, n.Store, string(n.cfg.Node), publicKey(key))
	if err != nil {
		return err
	}
	recipients, err := config.AgeRecipients(n.cfg.Recordings.Recipients)
	if err != nil {
		return err
	}
	bucket, err := newBucket(n.cfg.Recordings.S3)
	if err != nil {
		return err
	}
	cfg := recorder.Config{
		Dir: string(n.cfg.Recordings.Local), SigningKey: key, Keys: keys, Recipients: recipients, Node: string(n.cfg.Node), Reserve: int64(n.cfg.Recordings.Reserve),
		OnError:  func(path string, err error) { n.log.Error("recording", "path", path, "error", err) },
		OnSealed: func(s recorder.Summary) { n.metrics.Sealed(); n.replays.Prepare(s.Path, s.Kept) },
		OnStored: func(string) {
			if k := n.keeper.Load(); k != nil {
				k.Left()
			}
		},
		Pending: n.Store.Recordings.Pending,
	}
	if bucket != nil { // a nil *blob.S3 in the interface would not be nil
		cfg.Store = bucket
	}
	if n.Recorder, err = recorder.New(cfg); err != nil {
		return err
	}
	n.replays, err = replay.NewLibrary(n.Recorder, n.log)
	return err
}

// newDirectory returns the directory that the configuration names, nil if it names none.
func newDirectory(d *config.Directory) (*identity.LDAP, error) {
	if d == nil {
		return nil, nil
	}
	cfg := identity.LDAPConfig{
		StartTLS: d.StartTLS, CAFile: string(d.CAFile), ServerName: string(d.ServerName), InsecurePlaintext: d.InsecurePlaintext,
		BindDN: d.BindDN, Base: d.Base, Filter: d.Filter, LoginAttribute: string(d.LoginAttribute), KeyAttribute: string(d.KeyAttribute),
		MailAttribute: string(d.MailAttribute), MobileAttribute: string(d.MobileAttribute), LoginGroup: d.LoginGroup,
		LockDuration: d.LockDuration.Std(), Timeout: d.Timeout.Std(),
	}
	for _, s := range d.Servers {
		cfg.Servers = append(cfg.Servers, string(s))
	}
	if d.Groups != nil {
		cfg.GroupBase, cfg.GroupFilter = d.Groups.Base, d.Groups.Filter
	}
	if d.BindPasswordFile != "" {
		password, err := config.ReadSecret(string(d.BindPasswordFile))
		if err != nil {
			return nil, &exitError{Code: exitUsage, Err: fmt.Errorf("directory.bind-password-file: %w", err)}
		}
		cfg.BindPassword = identity.Password(password)
	}
	l, err := identity.NewLDAP(cfg)
	if err != nil {
		return nil, &exitError{Code: exitUsage, Err: fmt.Errorf("directory: %w", err)}
	}
	return l, nil
}

func (n *node) openEngines(ctx context.Context) error {
	cfg := auth.Config{
		Store: n.Store, Audit: n.Audit, Lockout: lockout(n.cfg.Lockout), EnrolAtLogin: n.cfg.OTP.EnrolmentAtLogin,
		Issuer: n.cfg.OTP.Issuer, Sent: n.messages.sent, Window: otp.Window{Behind: n.cfg.OTP.Window, Ahead: n.cfg.OTP.Window},
		TrustIPv4: n.cfg.Trust.IPv4, TrustIPv6: n.cfg.Trust.IPv6, ApproveEnrolments: n.cfg.OTP.ApproveEnrolments,
		WithoutToken: auth.WithoutToken{
			Logins: n.cfg.OTP.WithoutToken.Logins, Within: n.cfg.OTP.WithoutToken.Within.Std(), Sources: config.Prefixes(n.cfg.OTP.WithoutToken.Sources),
		},
	}
	if p := n.cfg.Places; p.Alarm > 0 {
		cfg.Places = &store.PlacesAlarm{More: p.Alarm, Within: p.Within.Std(), Lock: p.Lock}
	}
	cfg.URL = linkURL(n.cfg)
	cfg.TellAbsent = n.messages.mail != nil && n.cfg.Notify != nil && n.cfg.Notify.People
	if n.Directory != nil { // a nil *LDAP in the interface would not be nil
		cfg.Directory = n.metrics.Directory(n.Directory)
	}
	var err error
	if n.Engine, err = auth.New(cfg); err != nil {
		return err
	}
	n.Sessions = session.NewManager(session.Config{Store: n.Store, Recorder: n.Recorder, Audit: n.Audit, Node: string(n.cfg.Node), Log: n.log, AliveEvery: aliveEvery})
	n.keeper.Store(n.newKeeper())
	if n.HostKey, err = sharedSigner(ctx, n.Store, hostKeyName); err != nil {
		return err
	}
	if n.HostCA, err = newHostCA(ctx, n.Store); err != nil {
		return err
	}
	n.Dialer, err = newDialer(ctx, n.cfg, upstream.Config{Store: n.Store, Audit: n.Audit, Log: n.log, Listeners: n.listeners, CertificateMade: n.metrics.Certificate})
	return err
}

// newDialer completes c with the keys that all nodes share, and the bastion's addresses.
func newDialer(ctx context.Context, cfg *config.Config, c upstream.Config) (*upstream.Dialer, error) {
	var err error
	if c.Signer, err = sharedSigner(ctx, c.Store, upstreamKeyName); err != nil {
		return nil, err
	}
	if err := beginUserCA(ctx, c.Store); err != nil {
		return nil, err
	}
	c.Addresses, c.Reach = addressList(cfg), config.Prefixes(cfg.SSH.MayDial)
	return upstream.New(c), nil
}

// addressList is the bastion's addresses as targets see them.
func addressList(cfg *config.Config) []string {
	var list []string
	for _, a := range cfg.SSH.Addresses {
		list = append(list, a.String())
	}
	return list
}

// listeners are the addresses at which this node itself answers.
func (n *node) listeners() []net.Addr {
	var list []net.Addr
	for _, l := range []net.Listener{n.ssh, n.web} {
		if l != nil {
			list = append(list, l.Addr())
		}
	}
	return list
}

func lockout(l config.Lockout) policy.Lockout {
	limit := func(l config.Limit) policy.Limit {
		set := policy.Limit{Failures: l.Failures, Window: l.Window.Std(), Lock: l.Lock.Std()}
		if !l.Enabled {
			return set.Off()
		}
		return set
	}
	return policy.Lockout{Pair: limit(l.Pair), Source: limit(l.Source), User: l.User, Longest: l.Longest.Std()}
}

func (n *node) openDoors() (err error) {
	g := n.cfg.Guard
	var suffixes []string
	for _, s := range n.cfg.SSH.LoginSuffixes {
		suffixes = append(suffixes, string(s))
	}
	n.bastion, err = bastion.New(bastion.Config{
		Engine: n.Engine, Store: n.Store, Sessions: n.Sessions, Dialer: n.Dialer, Audit: n.Audit, HostKeys: []ssh.Signer{n.HostKey}, HostCA: n.HostCA.now,
		Guard: bastion.Guard{
			PerSource: g.PerSource, Total: g.Total, Handshake: g.Handshake.Std(), Prompt: g.Prompt.Std(), Enrolment: g.Enrolment.Std(),
			Bytes: int64(g.Bytes), Exempt: config.Prefixes(g.Exempt),
		},
		Suffixes: suffixes, Retention: time.Duration(n.cfg.Recordings.Retention), ProxyProtocolFrom: config.Prefixes(n.cfg.SSH.ProxyProtocolFrom), Log: n.log,
		Refused: n.metrics.Refused,
	})
	if err != nil {
		return err
	}
	n.metrics.Read(metrics.Sources{
		Store: n.Store, Recorder: n.Recorder, Sessions: n.Sessions, Audit: n.Audit, Chain: n.chain, Unauthenticated: n.bastion.Unauthenticated, Certificates: n.certificates,
		Reserve: int64(n.cfg.Recordings.Reserve), Quota: int64(n.cfg.Recordings.Quota), Log: n.log,
	})
	n.admin, err = admin.New(admin.Config{
		Reserve: int64(n.cfg.Recordings.Reserve), Quota: int64(n.cfg.Recordings.Quota),
		Metrics: n.metrics, MetricsFrom: config.Prefixes(n.cfg.Web.MetricsFrom),
		Compat: admin.Compat{
			TOTPRadius: n.cfg.Compat.TOTPRadius, PrivacyIDEA: n.cfg.Compat.PrivacyIDEA, WithPassword: n.cfg.Compat.WithPassword, Suffixes: suffixes,
		},
		Store: n.Store, Engine: n.Engine, Sessions: n.Sessions, Dialer: n.Dialer, Recorder: n.Recorder, Replays: n.replays, Audit: n.Audit, Search: bool(n.cfg.Recordings.Search),
		Chain: n.chain, Heads: n.heads.all, Addresses: addressList(n.cfg), SSHAddress: sshAddress(n.cfg), Secure: n.cfg.Web.Certificate != "" || len(n.cfg.Web.Proxies) > 0,
		Proxies: config.Prefixes(n.cfg.Web.Proxies), Demo: n.opts.Demo, Numbers: n.messages.sent.Numbers,
		Messages: n.messages.mail != nil || n.messages.sms != nil, Version: version, Node: string(n.cfg.Node), Log: n.log,
		Mail: n.messages.mail != nil, Name: n.cfg.OTP.Issuer, URL: linkURL(n.cfg), WithoutToken: n.cfg.OTP.WithoutToken.Logins,
	})
	if err != nil {
		return err
	}
	if n.radius, err = newRadiusDoor(n, suffixes); err != nil {
		return err
	}
	site, signIn := n.admin.Web()
	n.portal, err = portal.New(portal.Config{
		Store: n.Store, Engine: n.Engine, Sessions: n.Sessions, Audit: n.Audit, Site: site, SignIn: signIn,
		Secure: n.cfg.Web.Certificate != "" || len(n.cfg.Web.Proxies) > 0, Proxies: config.Prefixes(n.cfg.Web.Proxies), Log: n.log,
	})
	return err
}

// webHandler serves everything on the web listener.
func (n *node) webHandler() http.Handler {
	mux := http.NewServeMux()
	n.portal.Routes(mux)
	mux.Handle("/", n.admin.Handler())
	return mux
}

// sshAddress is host:port of the SSH door as people reach it.
func sshAddress(cfg *config.Config) string {
	host, port, _ := net.SplitHostPort(string(cfg.SSH.Listen))
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = string(cfg.Node)
		if len(cfg.SSH.Addresses) > 0 {
			host = cfg.SSH.Addresses[0].String()
		}
	}
	return net.JoinHostPort(host, port)
}

// webURL is the address of the pages, without a slash at its end.
func webURL(cfg *config.Config) string {
	if cfg.Web.URL != "" {
		return string(cfg.Web.URL)
	}
	scheme := "http"
	if cfg.Web.Certificate != "" || len(cfg.Web.Proxies) > 0 {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(string(cfg.Web.Listen))
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = string(cfg.Node)
	}
	return scheme + "://" + strings.TrimSuffix(net.JoinHostPort(host, port), map[string]string{"http": ":80", "https": ":443"}[scheme])
}

// linkURL is [webURL] for links that people get; "" if there is no web.
func linkURL(cfg *config.Config) string {
	if cfg.Web.Listen == "" {
		return ""
	}
	return strings.TrimSuffix(webURL(cfg), "/")
}

// Close lets go of everything that newNode and Listen have opened. Run does it at its end.
func (n *node) Close() error {
	var errs []error
	for _, l := range []net.Listener{n.ssh, n.web, n.socket} {
		if l != nil {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	errs = append(errs, n.radius.Close())
	if n.replays != nil {
		n.replays.Close()
	}
	if n.Recorder != nil {
		errs = append(errs, n.Recorder.Close())
	}
	if n.Directory != nil {
		n.Directory.Close()
	}
	if n.Store != nil {
		errs = append(errs, n.Store.Close())
	}
	return errors.Join(errs...)
}
