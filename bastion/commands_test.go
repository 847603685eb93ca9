package bastion_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// Ensure the commands of somebody who names no target answer on stdout, speak to people on stderr, and
// end with 0 for yes, 1 for no and 2 for wrong usage.
func TestCommandsWithoutTarget(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{noSSHD: true})
	for _, x := range []struct {
		command     string
		out, errs   string // must be in it; "": must be empty
		status      int
		outMustLack string
	}{
		{"targets", "web2    root     shell,exec,sftp,scp  env=test", "", 0, "vault"},
		{"whoami", "password code", "", 0, ""},
		{"explain web2", "everybody", "", 0, "no"},
		{"explain web10 deploy", "deploy", "", 0, ""},
		{"explain vault", "no rule lets you in from here", "", 1, "127.0.0.1:1"},
		{"explain web10 nobody", "no rule lets you in from here", "", 1, ""},
		{"help", "explain TARGET", "", 0, ""},
		{"explain", "", "usage of explain: ssh alice@bastion explain TARGET [ACCOUNT] [--json]; all commands: ssh alice@bastion help", 2, ""},
		{"targets web1", "", "usage of targets: ssh alice@bastion targets [--json]; all", 2, ""},
		{"approve", "", "usage of approve: ssh alice@bastion approve CODE [REASON]; all", 2, ""},
		{"watch", "", "usage of watch: ssh -t alice@bastion watch ID [CHANNEL]; all", 2, ""},
		{"help a b", "", "usage of help: ssh alice@bastion help [COMMAND]; all", 2, ""},
		{"help nothing", "", "nothing is no command of the bastion; all commands: ssh alice@bastion help", 2, ""},
		{"help explain", "explain TARGET [ACCOUNT] [--json]\n                                       whether", "", 0, "forget"},
		{"targets --help", "targets [--json]", "", 0, "whoami"},
		{"?", "explain TARGET", "", 0, ""},
		{"uname -a", "", "uname is no command of the bastion", 2, ""},
		{"$'\x1b]0;x\x07'", "", "is no command of the bastion", 2, ""},
		{strings.Repeat("x", 10000), "", "xxx...", 2, ""},
	} {
		c := s.ssh()
		c.Login = "alice"
		out, errs, status := c.Output(t, x.command)
		if !contains(out, x.out) || !contains(errs, x.errs) || status != x.status || x.outMustLack != "" && strings.Contains(out, x.outMustLack) {
			t.Errorf("%.40s: stdout %q, stderr %.200q, status %d", x.command, out, errs, status)
		}
		if strings.Count(errs, "\n") > 1 || strings.Contains(errs, "\x1b") {
			t.Errorf("%.40s: stderr %q", x.command, errs)
		}
	}
	if got := s.events("menu.opened"); len(got) != 11 {
		t.Errorf("events: %q", got)
	}
}

func contains(s, part string) bool {
	if part == "" {
		return s == ""
	}
	return strings.Contains(s, part)
}

// Ensure --json gives what scripts can read.
func TestCommandsJSON(t *testing.T) {
	t.Parallel()
	s := menuSystem(t, options{noSSHD: true})
	ask := func(command string, v any) int {
		t.Helper()
		c := s.ssh()
		c.Login = "alice"
		out, errs, status := c.Output(t, command)
		if err := json.Unmarshal([]byte(out), v); err != nil || errs != "" {
			t.Errorf("%s: %v, stdout %q, stderr %q", command, err, out, errs)
		}
		return status
	}
	var targets []struct {
		Login, Target, Account string
		Channels               []string
		Labels                 map[string]string
	}
	if status := ask("targets --json", &targets); status != 0 || len(targets) != 4 {
		t.Fatalf("status %d, %+v", status, targets)
	}
	if x := targets[3]; x.Login != "alice@deploy@web10" || x.Target != "web10" || x.Account != "deploy" || x.Labels["env"] != "prod" || len(x.Channels) != 4 {
		t.Errorf("got %+v", x)
	}
	var me struct {
		User, Source string
		Factors      []string
		CodeAt       string `json:"code_at"`
	}
	if status := ask("whoami --json", &me); status != 0 || me.User != "alice" || me.Source != "127.0.0.1" || len(me.Factors) != 2 || me.CodeAt == "" {
		t.Errorf("status %d, %+v", status, me)
	}
	var answer struct {
		Allow                                      bool
		Reason, Target, Rule, Code, Recording, Env string
	}
	if status := ask("explain --json web2", &answer); status != 0 || !answer.Allow || answer.Rule != "everybody" || answer.Code != "always" || answer.Recording != "required" || answer.Env != "LANG LC_* TERM" {
		t.Errorf("status %d, %+v", status, answer)
	}
	if status := ask("explain vault --json", &answer); status != 1 || answer.Allow || answer.Reason == "" {
		t.Errorf("status %d, %+v", status, answer)
	}
}
