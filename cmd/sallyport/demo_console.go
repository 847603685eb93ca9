package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"

	"sallyport/audit"
	"sallyport/otp"
)

// console is where the demo says what to type and what happens. On a terminal its last line is alice's code,
// drawn again every second; elsewhere everything is printed once.
type console struct {
	out           io.Writer
	terminal      bool
	json          bool
	log, auditLog *slog.Logger
	file          *os.File // the log, unless it goes to standard error

	mu     sync.Mutex // guards the fields below
	begun  bool       // what to type was printed; events may follow
	status string     // last line of a terminal
	stop   func()
	ended  chan struct{} // closed when the last line is drawn no more
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ready prints what to type.
func (c *console) ready(ctx context.Context, d *demo) {
	if c.json {
		if err := printReady(c.out, d.readyLine()); err != nil {
			c.log.Error("printing that the demo is ready", "error", err)
		}
		return
	}
	secret, err := otp.ParseSecret(d.secrets.Seeds["alice"])
	if err != nil {
		c.log.Error("reading alice's seed", "error", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprint(c.out, d.instructions())
	c.begun = true
	if !c.terminal {
		fmt.Fprintln(c.out, codeLine(secret, time.Now())+"\n")
		return
	}
	ctx, c.stop = context.WithCancel(ctx)
	c.ended = make(chan struct{})
	go c.redraw(ctx, secret)
}

// instructions is what people read first.
func (d *demo) instructions() string {
	host, port, _ := net.SplitHostPort(d.listeners.ssh.Addr().String())
	if host == "127.0.0.1" {
		host = "localhost"
	}
	codes := os.Args[0] + " demo otp alice"
	if d.g.State != "" {
		codes += " --state " + d.dir
	}
	admin := d.link
	if strings.Contains(admin, "ticket=") {
		admin += "  (good once)"
	}
	return fmt.Sprintf(`The Sallyport demo is running, for this machine only. Ctrl-C ends it.

  ssh -p %[1]s alice@demo@%[2]s     password %[3]s, then the code below
  ssh -p %[1]s alice@%[2]s          the same, and a menu of what she may reach
  ssh -J alice@%[2]s:%[1]s demo     the same, as ssh names hosts (ProxyJump)
  sftp -P %[1]s alice@demo@%[2]s    the same; files in a scratch folder
  ssh -p %[1]s bob@demo@%[2]s       password %[4]s; enrols a token in the terminal
  ssh -p %[1]s alice@down@%[2]s     a host that cannot be reached
  ssh -p %[1]s alice@vault@%[2]s    a host that the rules refuse

  By RADIUS, as a VPN server asks (radclient is in freeradius-utils):
  %[9]s

  administrator   %[5]s
  codes           %[6]s
  host key        %[7]s
  state and log   %[8]s

`, port, host, d.secrets.Passwords["alice"], d.secrets.Passwords["bob"], admin, codes, ssh.FingerprintSHA256(d.node.HostKey.PublicKey()), d.dir, d.radclient(codes))
}

// codeLine is alice's code at now.
func codeLine(secret otp.Secret, now time.Time) string {
	p := otp.DefaultParams()
	step := p.StepAt(now)
	code := p.Code(secret, step)
	rest := int(p.StepEnd(step).Sub(now).Seconds()) + 1
	return fmt.Sprintf("alice's code: %s  (%d s left)", code, min(rest, p.Period))
}

// redraw draws the last line until ctx ends.
func (c *console) redraw(ctx context.Context, secret otp.Secret) {
	defer close(c.ended)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for now := time.Now(); ; {
		c.mu.Lock()
		c.status = codeLine(secret, now)
		fmt.Fprint(c.out, "\r\x1b[K"+c.status)
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			c.mu.Lock()
			c.status = ""
			fmt.Fprint(c.out, "\r\x1b[K")
			c.mu.Unlock()
			return
		case now = <-tick.C:
		}
	}
}

// event prints one line about an audit event that is worth seeing.
func (c *console) event(e audit.Event) {
	text := eventText(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if text == "" || !c.begun {
		return
	}
	line := fmt.Sprintf("%s  %s\n", e.Time.Local().Format("15:04:05"), text)
	if c.status != "" {
		line = "\r\x1b[K" + line + c.status
	}
	fmt.Fprint(c.out, line)
}

// eventText tells an event in words, "" if it is not worth telling. The event is escaped already.
func eventText(e audit.Event) string {
	who := join(" ", e.User, e.Source)
	door := e.Door
	if e.Detail["inner"] != "" {
		door += " -J"
	}
	what := map[string]string{
		audit.LoginAccepted: "signed in (" + door + ")", audit.LoginRefused: "was not let in (" + door + ")",
		audit.CodeReplayed: "used a code a second time", audit.TokenEnrolled: "enrolled a token", audit.LockoutSet: "is locked out",
		audit.SessionStarted: "-> " + e.Target, audit.SessionEnded: "-- " + e.Target,
		audit.HostKeyRefused: "host key refused", audit.RecordFailed: "recording failed", audit.RecordSealed: "recording of a dead process completed",
		audit.ConnRefused: "connection refused",
	}[e.Type]
	switch {
	case e.Type == audit.OperatorChange:
		who, what = join(" ", e.Actor, e.Source), join(" ", "changed something:", e.Detail["change"])
	case e.Type == audit.AccessDecided && e.Result != audit.OK:
		what = "refused: " + e.Target
	}
	if what == "" {
		return ""
	}
	rule := ""
	if e.Rule != "" {
		rule = "rule " + e.Rule
	}
	return join("  ", who, what, rule, e.Reason)
}

// join joins the parts that are not empty.
func join(between string, parts ...string) string {
	kept := parts[:0:0]
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, between)
}

// close ends the last line and the log.
func (c *console) close() {
	c.mu.Lock()
	stop, ended := c.stop, c.ended
	c.mu.Unlock()
	if stop != nil {
		stop()
		<-ended
	}
	if c.file != nil {
		_ = c.file.Close() // every line was written when it was made
	}
}
