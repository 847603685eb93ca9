package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"sallyport/internal/config"
)

// defaultConfig is where init and the packages put the configuration.
const defaultConfig = "/etc/sallyport/sallyport.yaml"

func newServeCommand(g *globals) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Run the bastion",
		Long: "Run the bastion until SIGTERM or SIGINT. Then nobody is let in any more, open sessions are told and end\n" +
			"after the time that drain: gives them. A second signal ends at once; recordings are whole either way.\n\n" +
			"Sockets that systemd passes by the names ssh, web, radius, radius-accounting and radsec are taken in place of what the configuration says.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), g, file) },
	}
	c.Flags().StringVarP(&file, "config", "c", defaultConfig, "configuration file")
	return c
}

func serve(ctx context.Context, g *globals, file string) error {
	cfg, err := loadConfig(file)
	if err != nil {
		return err
	}
	sockets, err := inheritListeners()
	if err != nil {
		return err
	}
	if err := sockets.use(cfg); err != nil {
		return errors.Join(err, sockets.Close())
	}
	log, auditLog := newLogs(g.Err, cfg.Log)
	slog.SetDefault(log)
	tuneMemory(log)
	ctx, stop := untilSignal(ctx)
	defer stop()
	n, err := newNode(ctx, cfg, nodeOptions{Log: log, AuditLog: auditLog, Sockets: sockets})
	if err != nil {
		return err
	}
	if err := n.Listen(ctx); err != nil {
		return errors.Join(err, n.Close())
	}
	return n.Run(ctx, func() {
		web := "none"
		if n.web != nil {
			cfg.Web.Listen = config.Listen(n.web.Addr().String()) // tells the port where 0 was asked for
			web = webURL(cfg)
		}
		log.Info("ready", "version", version, "node", cfg.Node.String(), "ssh", n.ssh.Addr().String(), "web", web, "socket", cfg.Socket.String())
	})
}

// loadConfig reads the configuration; whatever is wrong with it is exit status 2.
func loadConfig(file string) (*config.Config, error) {
	cfg, err := config.Load(file)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w; name it with -c FILE, or make one: sallyport init --dir DIR", err)
	}
	if err != nil {
		return nil, &exitError{Code: exitUsage, Err: err}
	}
	return cfg, nil
}

// untilSignal ends the context at the first SIGTERM or SIGINT. After that a signal has its ordinary effect,
// so that a second one ends the process at once.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// newLogs returns the log of the server and that of audit events, which no level holds back.
func newLogs(w io.Writer, cfg config.Log) (server, auditing *slog.Logger) {
	handler := func(level slog.Level) slog.Handler {
		options := &slog.HandlerOptions{Level: level}
		if cfg.Format == "text" {
			return slog.NewTextHandler(w, options)
		}
		return slog.NewJSONHandler(w, options)
	}
	return slog.New(handler(slog.Level(cfg.Level))), slog.New(handler(slog.LevelInfo))
}

// tuneMemory trades memory for CPU where that pays. The limit keeps it from filling the machine.
// Who sets GOGC or GOMEMLIMIT knows better.
func tuneMemory(log *slog.Logger) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent := collectAt(8 << 20) // until it has been looked at
	debug.SetGCPercent(percent)
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := availableMemory() / 2
	if limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	log.Debug("garbage collection tuned", "percent", percent, "limit", limit)
}

// pooledPackets tells whether this binary was built with the SSH library of hack/patchssh.
var pooledPackets = sync.OnceValue(func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Deps, func(m *debug.Module) bool {
		return m.Path == "golang.org/x/crypto" && m.Replace != nil
	})
})

// availableMemory is how much memory this process may use at most: that of its control group or of the
// machine, 0 if neither can be read.
func availableMemory() int64 {
	least := int64(math.MaxInt64)
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			least = min(least, n)
		}
	}
	if f, err := os.Open("/proc/meminfo"); err == nil {
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			var kib int64
			if n, _ := fmt.Sscanf(lines.Text(), "MemTotal: %d kB", &kib); n == 1 {
				least = min(least, kib<<10)
			}
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}
