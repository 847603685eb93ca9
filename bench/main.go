// Command bench puts Sallyport beside OpenSSH on this machine and prints one table.
//
// It starts on free loopback ports a real sshd as target, a second sshd that runs `ssh` to the target for
// everybody (how bastions made of processes work), the real sallyport with rules and recording on, and
// a calibrator: the least work that a proxy which reads the traffic can do, alone and with the hashes of one that keeps
// a ledger. With -stock there is a second sallyport, built with Go's SSH library as it is published, and transfers are
// measured there too, with recording and without. The
// RADIUS door stands beside FreeRADIUS, which answers from a file. All
// are measured in turns, round by round, so that a busy minute of the machine is shared by all. The main
// figure is the CPU time of the proxy, since client, proxy and target share the same cores here. Nothing
// is left behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are the flags.
type settings struct {
	sallyport string // path of the binary
	stock     string // path of one with the library as it is published; empty: none
	rounds    int
	size      size // bytes of one transfer
	sessions  int  // open at once while memory is measured
	commands  int  // `true` in all rounds together
	keys      int  // typed per round and peer
	logins    int  // per round at Sallyport; relay and direct do half of them
	requests  int  // Access-Requests per round at Sallyport; FreeRADIUS gets more
	limit     time.Duration
	cool      time.Duration // between the last login and the look at memory
	quick     bool
	only      string // parts to measure, separated by commas; empty: all
}

// parts are what -only chooses from.
var parts = []string{"idle", "exec", "print", "sftp", "login", "echo", "commands", "radius"}

// measures tells whether a part is to be measured.
func (s *settings) measures(part string) bool {
	return s.only == "" || slices.Contains(strings.Split(s.only, ","), part)
}

// quickly are the flags that -quick changes, unless they are given.
var quickly = map[string]string{"rounds": "3", "size": "96MiB", "sessions": "40", "commands": "480", "keys": "400", "logins": "16", "requests": "480"}

func parse(args []string, stderr io.Writer) (settings, error) {
	s := settings{size: 256 << 20, cool: 10 * time.Second}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&s.sallyport, "sallyport", "bin/sallyport", "the binary to measure")
	f.StringVar(&s.stock, "stock", "", "a binary of a plain go build, whose transfers are measured beside")
	f.IntVar(&s.rounds, "rounds", 5, "times that everything is measured; the table shows medians")
	f.Var(&s.size, "size", "length of one transfer, such as 256MiB")
	f.IntVar(&s.sessions, "sessions", 500, "idle sessions for the memory figure")
	f.IntVar(&s.commands, "commands", 10000, "times that `true` runs, in all rounds together (a 25th of it at the relay)")
	f.IntVar(&s.keys, "keys", 1000, "keys typed in a round")
	f.IntVar(&s.logins, "logins", 40, "logins in a round (half of it direct and at the relay)")
	f.IntVar(&s.requests, "requests", 1920, "Access-Requests in a round (twenty times as many at FreeRADIUS)")
	f.DurationVar(&s.limit, "limit", 30*time.Minute, "give up after this time")
	f.StringVar(&s.only, "only", "", "parts to measure, of: "+strings.Join(parts, ","))
	f.BoolVar(&s.quick, "quick", false, "a first impression in a minute and a half")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	given := map[string]bool{}
	f.Visit(func(g *flag.Flag) { given[g.Name] = true })
	for name, value := range quickly {
		if s.quick && !given[name] {
			if err := f.Set(name, value); err != nil {
				return s, fmt.Errorf("setting -%s: %w", name, err)
			}
		}
	}
	if s.rounds < 1 || s.size < 1<<20 || s.sessions < 1 || s.commands < s.rounds*relayShare || s.keys < turns || s.logins < 2 || s.requests < radiusWorkers || f.NArg() > 0 {
		return s, fmt.Errorf("these flags leave nothing to measure: %q", args)
	}
	for part := range strings.SplitSeq(s.only, ",") {
		if s.only != "" && !slices.Contains(parts, part) {
			return s, fmt.Errorf("-only %q: the parts are %s", part, strings.Join(parts, ", "))
		}
	}
	var err error
	for _, bin := range []*string{&s.sallyport, &s.stock} {
		if *bin == "" {
			continue
		}
		if *bin, err = filepath.Abs(*bin); err != nil {
			return s, fmt.Errorf("finding %s: %w", *bin, err)
		}
	}
	return s, nil
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 4 && args[0] == calibratorWord {
		return status(calibrator(args[1], args[2], args[3]), stderr)
	}
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	return status(measureAll(ctx, s, stdout, stderr), stderr)
}

func status(err error, stderr io.Writer) int {
	if err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// measureAll sets everything up, measures, prints and clears away.
func measureAll(ctx context.Context, s settings, stdout, stderr io.Writer) (err error) {
	b, err := setUp(ctx, s, stderr)
	defer func() { err = errors.Join(err, b.close()) }()
	if err == nil {
		err = b.measure(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	if err != nil {
		return err
	}
	r := b.report(time.Now())
	if err := r.print(stdout); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	if path := os.Getenv("BENCH_JSON"); path != "" {
		if err := r.writeJSON(path); err != nil {
			return err
		}
	}
	return b.failures()
}

// measure does all rounds. Memory comes first, while the processes are fresh.
func (b *bench) measure(ctx context.Context) error {
	if b.measures("idle") {
		b.say("memory of %d idle sessions", b.sessions)
		if err := each(b.peers, "idle sessions", func(p *peer) error { return b.idle(ctx, p) }); err != nil {
			return err
		}
	}
	for round := range b.rounds {
		b.say("round %d of %d", round+1, b.rounds)
		if err := b.calibrate(ctx); err != nil {
			return fmt.Errorf("calibrator: %w", err)
		}
		if err := b.round(ctx, round); err != nil {
			return err
		}
	}
	if b.measures("idle") || b.measures("echo") {
		return b.product.proveRecorded(ctx)
	}
	return nil
}

// turned begins the list with another peer in each round.
func turned(peers []*peer, round int) []*peer {
	first := round % len(peers)
	return slices.Concat(peers[first:], peers[:first])
}

// round measures each thing once at each peer.
func (b *bench) round(ctx context.Context, round int) error {
	for _, t := range b.transfers() {
		if !b.measures(t.part) {
			continue
		}
		if err := each(turned(b.carriers, round), t.metric, func(p *peer) error { return b.transfer(ctx, p, t) }); err != nil {
			return err
		}
	}
	peers := turned(b.peers, round)
	if b.measures("login") {
		if err := each(peers, "logins", func(p *peer) error { return b.logIn(ctx, p) }); err != nil {
			return err
		}
	}
	if b.measures("echo") {
		if err := b.echo(ctx, peers); err != nil {
			return fmt.Errorf("echo: %w", err)
		}
	}
	if b.measures("commands") {
		if err := each(peers, "commands", func(p *peer) error { return b.runCommands(ctx, p) }); err != nil {
			return err
		}
	}
	return b.measureRADIUS(ctx, round)
}

// each does something with the peers in turn.
func each(peers []*peer, what string, do func(*peer) error) error {
	for _, p := range peers {
		if err := do(p); err != nil {
			return fmt.Errorf("%s, %s: %w", what, p.name, err)
		}
	}
	return nil
}
