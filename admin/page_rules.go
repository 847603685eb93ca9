package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/internal/web"
	"sallyport/policy"
	"sallyport/store"
)

// firstRules is what the editor offers when there are no rules yet.
const firstRules = `version: 1
networks:
  office: [192.0.2.0/24]
rules:
  # The first rule that matches decides; what no rule matches is refused.
  - name: ops
    users: [group:ops]
    targets: ["*"]
    channels: [shell, exec, sftp, scp]
`

// rulesData is the dot of the editor.
type rulesData struct {
	Rules  store.RuleSet
	Text   string // what the editor holds
	Expect int64  // version that the text was made from
	Diff   []diffLine
	Same   bool // checked, and nothing would change
	Wrong  *Problem
	New    bool  // there are no rules yet
	Draft  int64 // past version that Text is; 0: none
}

// diffLine is one line of a comparison with the class it is shown in.
type diffLine struct{ Class, Text string }

func (s *Server) rulesPage(v *visit) error {
	now, err := s.cfg.Store.Rules.Current(v.ctx())
	if err != nil {
		return err
	}
	d := rulesData{Rules: now, Text: now.Text, Expect: now.Version, New: now.Version == 0}
	if d.New {
		d.Text = firstRules
	}
	if from := v.query("from"); from != "" && v.canWrite() {
		old, err := s.rulesVersion(v, from)
		if err != nil {
			return err
		}
		d.Text, d.Draft = old.Text, old.Version
		d.Diff = diffLines(policy.Diff(now.Text, old.Text))
	}
	v.show("rules", web.Page{Title: "Rules", Section: "rules", Data: d})
	return nil
}

// putRulesForm checks the rules that were typed or, with the button "apply", puts them in force.
func (s *Server) putRulesForm(v *visit) error {
	// Browsers send the line breaks of a text area as CR LF.
	text := strings.ReplaceAll(v.r.PostFormValue("text"), "\r\n", "\n")
	expect, err := strconv.ParseInt(v.r.PostFormValue("version"), 10, 64)
	if err != nil {
		return invalid("", "the form has lost the version it was made from")
	}
	change, err := s.putRules(v.ctx(), v.by, NewRules{Text: text, Version: &expect, DryRun: !v.pressed("apply")})
	if err == nil && change.Applied {
		return v.done("/rules", "Version %d of the rules is in force.", change.Version)
	}
	now, readErr := s.cfg.Store.Rules.Current(v.ctx())
	if readErr != nil {
		return readErr
	}
	d := rulesData{Rules: now, Text: text, Expect: expect, New: now.Version == 0}
	p := web.Page{Title: "Rules", Section: "rules", Data: &d}
	var parse *policy.ParseError
	switch {
	case errors.As(err, &parse):
		d.Wrong = v.problem(err)
		p.Notice = &web.Notice{Kind: "bad", Text: fmt.Sprintf("These rules cannot be read: line %d, column %d.", parse.Line, parse.Column)}
		v.render(http.StatusUnprocessableEntity, "rules", p)
	case err != nil:
		d.Diff = diffLines(policy.Diff(now.Text, text))
		v.again(err, "rules", p)
	default:
		d.Same, d.Diff = !change.Changed, diffLines(change.Diff)
		v.show("rules", p)
	}
	return nil
}

// diffLines gives each line of a unified diff its class; the two lines that name the texts are left out.
func diffLines(diff string) []diffLine {
	var out []diffLine
	if _, changes, ok := strings.Cut(diff, "\n@@"); ok {
		diff = "@@" + changes
	}
	for line := range strings.Lines(diff) {
		line = strings.TrimSuffix(line, "\n")
		class := ""
		switch {
		case strings.HasPrefix(line, "@@"):
			class = "at"
		case strings.HasPrefix(line, "+"):
			class = "add"
		case strings.HasPrefix(line, "-"):
			class = "del"
		}
		out = append(out, diffLine{class, line})
	}
	return out
}

func (s *Server) rulesHistoryPage(v *visit) error {
	history, err := s.cfg.Store.Rules.History(v.ctx())
	if err != nil {
		return err
	}
	v.show("rules_history", web.Page{Title: "History of the rules", Section: "rules", Data: history})
	return nil
}

// rulesVersionData is the dot of one past version.
type rulesVersionData struct {
	store.RuleSet
	InForce bool
	Diff    []diffLine // from the version before
}

func (s *Server) rulesVersionPage(v *visit) error {
	set, err := s.rulesVersion(v, v.path("version"))
	if err != nil {
		return err
	}
	now, err := s.cfg.Store.Rules.Version(v.ctx())
	if err != nil {
		return err
	}
	d := rulesVersionData{RuleSet: set, InForce: set.Version == now}
	if before, err := s.rulesVersion(v, strconv.FormatInt(set.Version-1, 10)); err == nil {
		d.Diff = diffLines(policy.Diff(before.Text, set.Text))
	}
	v.show("rules_version", web.Page{Title: fmt.Sprintf("Rules, version %d", set.Version), Section: "rules", Data: d})
	return nil
}

func (s *Server) rulesVersion(v *visit, version string) (store.RuleSet, error) {
	history, err := s.cfg.Store.Rules.History(v.ctx())
	if err != nil {
		return store.RuleSet{}, err
	}
	for _, set := range history {
		if strconv.FormatInt(set.Version, 10) == version {
			return set, nil
		}
	}
	return store.RuleSet{}, notFound("", "there is no version %s of the rules", audit.Escape(version))
}

// explainData is the dot of the page that asks the rules.
type explainData struct {
	User, Target, Account, From, Channel, At string
	Kinds                                    []string
	Targets                                  []Target
	Answer                                   *Explanation
}

func (s *Server) explainPage(v *visit) error {
	d := explainData{
		User: v.query("user"), Target: v.query("target"), Account: v.query("account"), From: v.query("from"),
		Channel: v.query("channel"), At: v.query("at"), Kinds: policy.Kinds(),
	}
	targets, err := s.cfg.Store.Targets.List(v.ctx())
	if err != nil {
		return err
	}
	d.Targets = list(targets, wireTarget)
	p := web.Page{Title: "Explain a decision", Section: "rules", Data: &d}
	if d.User == "" || d.Target == "" {
		v.show("explain", p)
		return nil
	}
	var at time.Time
	if at, _, err = moment(d.At); err == nil {
		var answer Explanation
		answer, err = s.explain(v.ctx(), explainQuery{User: d.User, Target: d.Target, Account: d.Account, From: d.From, Channel: d.Channel, At: at})
		d.Answer = &answer
	}
	if err != nil {
		d.Answer = nil
		v.again(err, "explain", p)
		return nil
	}
	v.show("explain", p)
	return nil
}
