package bastion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sallyport/audit"
	"sallyport/auth"
)

// commandHelp is what help prints.
const commandHelp = `ssh USER@BASTION                       a menu of what you may reach (on a terminal)
ssh USER@TARGET@BASTION                straight to a target
ssh USER@ACCOUNT@TARGET@BASTION        as a certain account
ssh USER@BASTION targets [--json]      what you may reach
ssh USER@BASTION whoami [--json]       who you are here, and how you proved it
ssh USER@BASTION explain TARGET [ACCOUNT] [--json]
                                       whether you may reach a target, and under which conditions
ssh USER@BASTION forget                trust no place any more: ask for a code at the next login
ssh USER@BASTION resync [TOKEN]        type two codes in a row of a token whose codes are refused; get in by a
                                       recovery code, an operator's code or another token
ssh USER@BASTION assign SERIAL         take a hardware token that belongs to nobody yet, by two codes in a row of it;
                                       get in by a code first
ssh USER@BASTION approvals [--json]    who waits for you to approve a session
ssh USER@BASTION approve CODE [REASON] let somebody's session start; asks for a code of yours, unless you just typed one
ssh USER@BASTION refuse CODE [REASON]  or refuse it
ssh USER@BASTION sessions [--json]     your sessions that are open; for administrators and auditors all of them
ssh -t USER@BASTION watch ID [CHANNEL] watch a live session, as an administrator or auditor; q or Ctrl-C leaves
ssh USER@BASTION help [COMMAND]        this text, or what it says of one

Exit status: 0 yes, 1 no or not now, 2 wrong usage.
`

// command answers a command of somebody who named no target. Data goes to stdout, words to people to
// stderr.
func (r *reception) command(line string) uint32 {
	words := strings.Fields(line)
	asJSON := slices.Contains(words, "--json")
	words = slices.DeleteFunc(words, func(w string) bool { return w == "--json" })
	if len(words) == 0 {
		words = []string{""}
	}
	name, args := words[0], words[1:]
	if len(args) > 0 && isHelp(args[0]) {
		args = []string{name}
		name = "help"
	}
	run, least, most := r.helpCommand, 0, 0
	switch name {
	case "targets":
		run = r.targetsCommand
	case "whoami":
		run = r.whoamiCommand
	case "explain":
		run, least, most = r.explainCommand, 1, 2
	case "forget":
		run = r.forgetCommand
	case "resync":
		run, most = r.resyncCommand, 1
	case "assign":
		run, least, most = r.assignCommand, 1, 1
	case "approvals":
		run = r.approvalsCommand
	case "approve":
		run, least, most = r.approveCommand, 1, 100
	case "refuse":
		run, least, most = r.refuseCommand, 1, 100
	case "sessions":
		run = r.sessionsCommand
	case "watch":
		run, least, most = r.watchCommand, 1, 2
	case "help", "-h", "--help", "?":
		name, most = "help", 1
		run = r.helpCommand
	default:
		user := audit.Escape(r.c.id.Login)
		return r.fail(statusUsage, "no target was named, and %s is no command of the bastion. Type: ssh %s@TARGET@bastion COMMAND, or: ssh %s@bastion help",
			shorten(name), user, user)
	}
	if len(args) < least || len(args) > most || (asJSON && slices.Contains([]string{"help", "forget", "resync", "assign", "approve", "refuse", "watch"}, name)) {
		user := audit.Escape(r.c.id.Login)
		return r.fail(statusUsage, "usage of %s: %s; all commands: ssh %s@bastion help", name, usageOf(name, user), user)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := r.c.s.cfg.Audit.Emit(ctx, r.opened(name)); err != nil {
		return r.fail(statusNo, "the audit log cannot be written; try again in a minute.")
	}
	return run(ctx, args, asJSON)
}

// shorten keeps what a stranger typed on one short line.
func shorten(s string) string {
	if s = audit.Escape(s); len([]rune(s)) > 40 {
		s = string([]rune(s)[:40]) + "..."
	}
	return s
}

// helpColumn is where commandHelp begins to say what a command does.
const helpColumn = len("ssh USER@BASTION targets [--json]      ")

// isHelp tells whether somebody who types word after a command wants to know how it is used.
func isHelp(word string) bool { return slices.Contains([]string{"-h", "--help", "help"}, word) }

// helpCommand prints how all commands are used, or one.
func (r *reception) helpCommand(_ context.Context, args []string, _ bool) uint32 {
	text := commandHelp
	if len(args) > 0 {
		if text = helpOf(args[0]); text == "" {
			return r.fail(statusUsage, "%s is no command of the bastion; all commands: ssh %s@bastion help", shorten(args[0]), audit.Escape(r.c.id.Login))
		}
	}
	r.print(text)
	return statusOK
}

// helpOf gives the lines of commandHelp about a command; "" if there is none of that name.
func helpOf(name string) string {
	found := ""
	for line := range strings.Lines(commandHelp) {
		switch {
		case strings.HasPrefix(line, "ssh USER@BASTION "+name+" "), strings.HasPrefix(line, "ssh -t USER@BASTION "+name+" "):
			found = line
		case found != "" && strings.HasPrefix(line, "  "):
			found += line
		case found != "":
			return found
		}
	}
	return found
}

// usageOf is how somebody types a command, in one line.
func usageOf(name, user string) string {
	line, _, _ := strings.Cut(helpOf(name), "\n")
	if len(line) > helpColumn && line[helpColumn-1] == ' ' {
		line = strings.TrimSpace(line[:helpColumn])
	}
	return strings.NewReplacer("USER", user, "BASTION", "bastion").Replace(line)
}

// print writes data; a terminal wants its lines ended by CR LF.
func (r *reception) print(text string) {
	if r.term {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	_, _ = r.ch.Write([]byte(text))
}

func (r *reception) printJSON(v any) uint32 {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return r.fail(statusNo, "the answer cannot be written.")
	}
	r.print(string(b) + "\n")
	return statusOK
}

// table prints rows in columns; empty cells are "-".
func (r *reception) table(rows ...[]string) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if row[i] = audit.Escape(cell); cell == "" {
				row[i] = "-"
			}
		}
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
	r.print(b.String())
}

// reachable is a line of targets.
type reachable struct {
	Login    string            `json:"login"` // what to put before @bastion
	Target   string            `json:"target"`
	Account  string            `json:"account"`
	Channels []string          `json:"channels"`
	Labels   map[string]string `json:"labels"`
}

func (r *reception) targetsCommand(ctx context.Context, _ []string, asJSON bool) uint32 {
	reach, err := r.c.s.cfg.Engine.Reach(ctx, r.c.id, r.c.source)
	if err != nil {
		return r.failed("listing what a person may reach", err)
	}
	list, rows := []reachable{}, [][]string{{"TARGET", "ACCOUNT", "CHANNELS", "LABELS"}}
	for _, d := range reach {
		list = append(list, reachable{
			Login:  Login{User: r.c.id.Login, Account: d.Account, Target: d.Target.Name}.String(),
			Target: d.Target.Name, Account: d.Account, Channels: d.Channels, Labels: d.Target.Labels,
		})
		rows = append(rows, []string{d.Target.Name, d.Account, strings.Join(d.Channels, ","), labels(d.Target.Labels)})
	}
	switch {
	case asJSON:
		return r.printJSON(list)
	case len(list) == 0:
		return r.fail(statusOK, "no target is open to you from here. Ask an operator, who can see why with: sallyport explain --user %s --target NAME",
			audit.Escape(r.c.id.Login))
	}
	r.table(rows...)
	return statusOK
}

// failed notes what did not work and tells the person so.
func (r *reception) failed(what string, err error) uint32 {
	var refused *auth.Refused
	if errors.As(err, &refused) {
		return r.fail(statusNo, "%s", refused.Public)
	}
	r.c.s.cfg.Log.Error(what, "user", r.c.id.Login, "error", err)
	return r.fail(statusNo, "the rules cannot be read just now; try again in a minute.")
}

// whoami is the answer to whoami.
type whoami struct {
	User    string     `json:"user"`
	Name    string     `json:"name,omitempty"`
	Groups  []string   `json:"groups"`
	Source  string     `json:"source"`
	Factors []string   `json:"factors"`
	CodeAt  *time.Time `json:"code_at"` // null: no code was asked for

	TrustedUntil  *time.Time `json:"trusted_until"`  // from here, if it is not used meanwhile; null: not trusted
	RecoveryCodes int        `json:"recovery_codes"` // left
}

func (r *reception) whoamiCommand(ctx context.Context, _ []string, asJSON bool) uint32 {
	id := r.c.id
	me := whoami{User: id.Login, Name: id.Name, Groups: append([]string{}, id.Groups...), Source: r.c.source.String(), Factors: append([]string{}, id.Factors...)}
	var err error
	if me.RecoveryCodes, err = r.c.s.cfg.Store.SpareCodes.Left(ctx, id.UserID); err != nil {
		return r.failed("counting recovery codes", err)
	}
	code := ""
	if !id.CodeAt.IsZero() {
		at := id.CodeAt.UTC().Truncate(time.Second)
		me.CodeAt, code = &at, at.Format(time.RFC3339)
	}
	trusted := ""
	if t := id.Trusted; t != nil && !t.Until.IsZero() {
		until := t.Until.UTC().Truncate(time.Second)
		me.TrustedUntil, trusted = &until, until.Format(time.RFC3339)
	}
	if asJSON {
		return r.printJSON(me)
	}
	r.table([]string{"user", me.User}, []string{"name", me.Name}, []string{"groups", strings.Join(me.Groups, " ")},
		[]string{"source", me.Source}, []string{"proved", strings.Join(me.Factors, " ")}, []string{"code at", code}, []string{"trusted until", trusted},
		[]string{"recovery", audit.Counted(me.RecoveryCodes, "code", "codes") + " left"})
	return statusOK
}

// explanation is the answer to explain.
type explanation struct {
	Allow     bool     `json:"allow"`
	Reason    string   `json:"reason,omitempty"` // why not
	Target    string   `json:"target"`
	Account   string   `json:"account,omitempty"`
	Rule      string   `json:"rule,omitempty"`
	Channels  []string `json:"channels,omitempty"`
	Code      string   `json:"code,omitempty"`
	Recording string   `json:"recording,omitempty"`
	Approval  string   `json:"approval,omitempty"`
	Limits    string   `json:"limits,omitempty"`
	Env       string   `json:"env,omitempty"` // environment variables that pass
}

func (r *reception) explainCommand(ctx context.Context, args []string, asJSON bool) uint32 {
	q := auth.Request{Target: args[0], Source: r.c.source}
	if len(args) > 1 {
		q.Account = args[1]
	}
	d, err := r.c.s.cfg.Engine.Preview(ctx, r.c.id, q)
	if err != nil {
		return r.failed("asking the rules", err)
	}
	// Of a refusal nothing is told but its text: it does not show which targets there are.
	x, status := explanation{Target: q.Target, Account: q.Account, Reason: d.Refusal}, uint32(statusNo)
	if d.Allow {
		x = explanation{Allow: true, Target: d.Target.Name, Account: d.Account, Rule: d.Rule, Channels: d.Channels,
			Code: d.Code.String(), Recording: d.Recording.String(), Limits: d.Limits.String(), Env: d.Env.String()}
		if d.Approval != nil {
			x.Approval = d.Approval.String()
		}
		status = statusOK
	}
	switch {
	case asJSON:
		if failed := r.printJSON(x); failed != statusOK {
			return failed
		}
	case !x.Allow:
		r.table([]string{"allowed", "no"}, []string{"reason", x.Reason})
	default:
		rows := [][]string{{"allowed", "yes"}, {"target", x.Target}, {"account", x.Account}, {"rule", x.Rule},
			{"channels", strings.Join(x.Channels, " ")}, {"code", x.Code}, {"recording", x.Recording}, {"env", x.Env}, {"limits", x.Limits}}
		if x.Approval != "" {
			rows = append(rows, []string{"approval", x.Approval})
		}
		r.table(rows...)
	}
	return status
}
