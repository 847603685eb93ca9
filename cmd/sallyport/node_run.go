package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"sallyport/audit"
	"sallyport/internal/config"
	"sallyport/internal/notify"
	"sallyport/search"
)

const (
	housekeepingEvery = 5 * time.Second
	purgeEvery        = time.Minute
	sealTime          = 10 * time.Second // for recordings and last answers, once all sessions were ended
)

func publicKey(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// Listen opens the listeners. Connections wait until Run answers them.
func (n *node) Listen(ctx context.Context) (err error) {
	// First the socket: it finds out whether a server runs already, which says more than a port in use.
	socket, err := listenSocket(ctx, string(n.cfg.Socket))
	if err != nil {
		return err
	}
	n.socket = socket
	if n.ssh == nil {
		if n.ssh, err = listenTCP(ctx, n.cfg.SSH.Listen, "ssh.listen"); err != nil {
			return err
		}
	}
	if err := n.radius.Listen(n.cfg.RADIUS); err != nil {
		return err
	}
	if n.cfg.Web.Listen == "" {
		return nil
	}
	if n.web == nil {
		if n.web, err = listenTCP(ctx, n.cfg.Web.Listen, "web.listen"); err != nil {
			return err
		}
	}
	if n.cfg.Web.Certificate == "" {
		return nil
	}
	pair, err := newCertificate(string(n.cfg.Web.Certificate), string(n.cfg.Web.Key))
	if err != nil {
		return err
	}
	n.served = pair
	n.web = tls.NewListener(n.web, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get, NextProtos: []string{"h2", "http/1.1"}})
	return nil
}

func listenTCP(ctx context.Context, address config.Listen, key string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", string(address))
	if errors.Is(err, syscall.EACCES) {
		return nil, fmt.Errorf("%s: %w; a port below 1024 needs CAP_NET_BIND_SERVICE, or a socket from systemd: see docs/install.md", key, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return l, nil
}

// certificate is the web's certificate. It is read again when its file changes, so that a renewal needs
// no restart.
type certificate struct {
	file, key string

	mu     sync.Mutex // guards the fields below
	pair   *tls.Certificate
	read   time.Time // change time of the file that pair came from
	looked time.Time
}

func newCertificate(file, key string) (*certificate, error) {
	c := &certificate{file: file, key: key}
	if _, err := c.get(nil); err != nil {
		return nil, err
	}
	return c, nil
}

// get implements tls.Config.GetCertificate. A pair that cannot be read leaves the one before in place.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.pair == nil || now.Sub(c.looked) > 10*time.Second {
		c.looked = now
		if err := c.renew(); err != nil && c.pair == nil {
			return nil, err
		}
	}
	return c.pair, nil
}

// certificates tells when those that are served expire, by their use.
func (n *node) certificates() map[string]time.Time {
	found := map[string]time.Time{}
	note := func(use string, pair *tls.Certificate, err error) {
		if err == nil && pair.Leaf != nil {
			found[use] = pair.Leaf.NotAfter
		}
	}
	if n.served != nil {
		pair, err := n.served.get(nil)
		note("web", pair, err)
	}
	if n.radius != nil && n.radius.show != nil {
		pair, err := n.radius.show(nil)
		note("radsec", pair, err)
	}
	return found
}

func (c *certificate) renew() error {
	info, err := os.Stat(c.file)
	if err != nil {
		return fmt.Errorf("reading web.certificate: %w", err)
	}
	if c.pair != nil && info.ModTime().Equal(c.read) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.file, c.key)
	if err != nil {
		return fmt.Errorf("reading web.certificate and web.key: %w", err)
	}
	c.pair, c.read = &pair, info.ModTime()
	return nil
}

// Run answers until ctx ends, then drains: nobody is let in any more, sessions are told and ended after
// the time that the configuration gives them, and their recordings are sealed. It returns nil then.
// ready is called once everything answers; it may be nil.
func (n *node) Run(ctx context.Context, ready func()) error {
	if err := n.Engine.WithdrawLeftApprovals(ctx, string(n.cfg.Node)); err != nil {
		return err
	}
	if err := n.Sessions.Begin(ctx); err != nil {
		return err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 8)
	var tasks sync.WaitGroup
	work := func(what string, do func() error) {
		tasks.Go(func() {
			if err := do(); err != nil {
				failed <- fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	web, socket := n.httpServer(n.webHandler()), n.httpServer(n.admin.SocketHandler())
	work("sessions", func() error { return n.Sessions.Run(background) })
	work("rights", func() error { return n.bastion.Watch(background) })
	work("housekeeping", func() error { n.housekeeping(background); return nil })
	work("recordings", func() error { n.keeper.Load().Run(background); return nil })
	work("outbox", func() error {
		notify.NewWorker(notify.WorkerConfig{Store: n.Store, Mail: n.messages.mail, SMS: n.messages.sms, Emit: n.Audit.Emit, Log: n.log}).Run(background)
		return nil
	})
	if n.cfg.Recordings.Search {
		work("search", func() error {
			search.NewIndexer(search.Config{Store: n.Store, Recorder: n.Recorder, Node: string(n.cfg.Node), Log: n.log}).Run(background)
			return nil
		})
	}
	work("signing keys", func() error { n.watchSigning(background); return nil })
	work("audit chain", func() error { n.chain.Run(background); return nil })
	work("ssh", func() error { return n.bastion.Serve(n.ssh) })
	work("socket", func() error { return serveHTTP(socket, n.socket) })
	n.radius.Serve(work)
	if n.web != nil {
		work("web", func() error { return serveHTTP(web, n.web) })
	}
	n.event(ctx, audit.NodeStarted, "")
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		n.log.Warn("telling systemd", "error", err)
	}
	if ready != nil {
		ready()
	}
	var broken error
	select {
	case <-ctx.Done():
	case broken = <-failed:
		n.log.Error("stopping", "error", broken)
	}
	n.drain(background, web, socket)
	stop()
	tasks.Wait()
	return errors.Join(broken, n.Close())
}

// drain ends what runs, from the doors inwards.
func (n *node) drain(ctx context.Context, servers ...*http.Server) {
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	n.log.Info("stopping", "sessions", len(n.Sessions.Live()), "drain", n.cfg.Drain.String())
	within, cancel := context.WithTimeout(ctx, n.cfg.Drain.Std()+sealTime)
	defer cancel()
	var doors sync.WaitGroup
	doors.Go(func() {
		if err := n.bastion.Shutdown(within); err != nil {
			n.log.Warn("cutting connections that did not end", "error", err)
		}
	})
	doors.Go(func() { n.radius.Shutdown(within, n.log) })
	n.letFinish(within)
	const why = "this bastion stops; connect again in a moment"
	n.Sessions.Drain(within, why)
	n.bastion.Dismiss(why)
	doors.Wait()
	n.event(within, audit.NodeStopped, "")
	if err := n.Audit.Flush(within); err != nil {
		n.log.Error("audit events are in the log only, the database does not take them", "waiting", n.Audit.Pending(), "error", err)
	}
	if err := n.chain.All(within); err != nil {
		n.log.Warn("the last audit events are not chained yet; the next start does it", "error", err)
	}
	for _, s := range servers {
		brief, cancel := context.WithTimeout(ctx, time.Second)
		if err := s.Shutdown(brief); err != nil {
			_ = s.Close() // live pages hold on to their connection
		}
		cancel()
	}
}

// letFinish tells everybody that the end is near and waits until all have left or the time is up.
func (n *node) letFinish(ctx context.Context) {
	limit := n.cfg.Drain.Std()
	if limit == 0 || len(n.Sessions.Live()) == 0 {
		return
	}
	n.Sessions.Announce(fmt.Sprintf("this bastion stops: this session ends in %s", limit))
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for len(n.Sessions.Live()) > 0 {
		select {
		case <-end.C:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// housekeeping does what must be done again and again, and says once when it begins to fail.
func (n *node) housekeeping(ctx context.Context) {
	often, seldom := time.NewTicker(housekeepingEvery), time.NewTicker(purgeEvery)
	defer often.Stop()
	defer seldom.Stop()
	failing := false
	var memory memoryWatch
	var ring watchRing
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-often.C:
			memory.look()
			err = errors.Join(n.Engine.Housekeeping(ctx), ring.look(ctx, n))
		case <-seldom.C:
			err = n.Store.Purge(ctx)
		}
		if err != nil && !failing && ctx.Err() == nil {
			n.log.Error("housekeeping", "error", err)
		}
		failing = err != nil
	}
}

func (n *node) event(ctx context.Context, kind, reason string) {
	err := n.Audit.Emit(ctx, audit.Event{Type: kind, Result: audit.OK, Door: audit.DoorNode, Reason: reason, Detail: map[string]string{"version": version}})
	if err != nil {
		n.log.Error("writing audit event", "type", kind, "error", err)
	}
}

// httpServer has limits against clients that send slowly; answers may take long, since pages stay live.
func (n *node) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: bodyInTime(h), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
	}
}

// bodyInTime bounds how long a body may take. http.Server.ReadTimeout would end live pages too.
func bodyInTime(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			// Every connection of net/http can do this; if one could not, the limit is all that is lost.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Minute))
		}
		h.ServeHTTP(w, r)
	})
}

func serveHTTP(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
