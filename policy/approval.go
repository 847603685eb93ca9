package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Approval demands that others agree before a session starts.
type Approval struct {
	By     []string      // words as in users: who may agree; of a decision, those of all rules
	Count  int           // how many of them must
	Within time.Duration // how long they have
	Reason bool          // the person must say what for

	sets []Approvers // of a decision: an approver must be in each
}

// Bounds of a demand for approval.
const (
	defaultApprovalWithin = 15 * time.Minute
	maxApprovalWithin     = 24 * time.Hour
	maxApprovals          = 10
)

// Approvers tells who may agree, by words of users.
type Approvers struct {
	words []string
	in    principals
}

// ParseApprovers reads the words of [Approval.Approvers] again.
func ParseApprovers(words []string) (Approvers, error) {
	a := Approvers{words: words}
	if len(words) == 0 {
		return a, errors.New("names nobody")
	}
	for _, word := range words {
		if err := checkText(word); err != nil {
			return a, err
		}
		if err := a.in.add(word); err != nil {
			return a, err
		}
	}
	return a, nil
}

// Has tells whether somebody is among them. The zero Approvers has nobody.
func (a Approvers) Has(user string, groups []string) bool {
	q := query{user: fold(user), groups: make(map[string]bool, len(groups))}
	for _, g := range groups {
		q.groups[fold(g)] = true
	}
	return user != "" && a.in.match(&q)
}

// Approvers lists the words of each rule that asks: whoever agrees must be named by each of the lists. Only the
// Approval of a [Decision] knows them.
func (a *Approval) Approvers() [][]string {
	if a == nil {
		return nil
	}
	lists := make([][]string, len(a.sets))
	for i, s := range a.sets {
		lists[i] = s.words
	}
	return lists
}

// Covers tells whether what was agreed to under a is enough for other: as many have agreed, who are in all of the lists
// of other. Both are of decisions.
func (a *Approval) Covers(other *Approval) bool {
	switch {
	case other == nil:
		return true
	case a == nil || a.Count < other.Count || other.Reason && !a.Reason:
		return false
	}
	return !slices.ContainsFunc(other.sets, func(s Approvers) bool {
		return !slices.ContainsFunc(a.sets, func(mine Approvers) bool { return slices.Equal(mine.words, s.words) })
	})
}

// String gives the demand in words for people: "1 of group:dba within 15m", "none".
func (a *Approval) String() string {
	if a == nil {
		return "none"
	}
	lists := make([]string, 0, len(a.sets))
	for _, s := range a.sets {
		lists = append(lists, strings.Join(s.words, ", "))
	}
	if len(lists) == 0 {
		lists = append(lists, strings.Join(a.By, ", "))
	}
	text := fmt.Sprintf("%d of %s within %s", a.Count, strings.Join(lists, " who is also in "), formatDuration(a.Within))
	if a.Reason {
		text += ", with a reason"
	}
	return text
}

// tighten gives an approval with which both are content.
func (a *Approval) tighten(other *Approval) *Approval {
	switch {
	case a == nil:
		return other
	case other == nil:
		return a
	}
	both := &Approval{Count: max(a.Count, other.Count), Within: min(a.Within, other.Within), Reason: a.Reason || other.Reason}
	both.By = append(append(both.By, a.By...), other.By...)
	both.sets = append(append(both.sets, a.sets...), other.sets...)
	return both
}

// compileApproval gives the approval of the rule as decisions have it.
func (m *matcher) compileApproval() *ruleError {
	a := m.rule.Approval
	if a == nil {
		return nil
	}
	if len(a.By) == 0 {
		return wrong("approval", errors.New("needs by: who may approve, such as [group:dba]"))
	}
	set := Approvers{words: a.By}
	if err := eachWord("approval.by", a.By, set.in.add); err != nil {
		return err
	}
	compiled := *a
	compiled.sets = []Approvers{set}
	m.approval = &compiled
	return nil
}

func checkApproval(a *Approval) *ruleError {
	if a == nil {
		return nil
	}
	if a.Count < 1 || a.Count > maxApprovals {
		return wrong("approval.count", fmt.Errorf("must lie between 1 and %d", maxApprovals))
	}
	if err := checkDuration(a.Within); err != nil {
		return wrong("approval.within", err)
	}
	if a.Within > maxApprovalWithin {
		return wrong("approval.within", fmt.Errorf("is longer than %s: nobody waits at a terminal for that long", formatDuration(maxApprovalWithin)))
	}
	return nil
}

func (a *Approval) format() string {
	if a == nil {
		return ""
	}
	parts := []string{"by: " + formatWords(a.By), fmt.Sprintf("count: %d", a.Count), "within: " + formatDuration(a.Within)}
	if a.Reason {
		parts = append(parts, "reason: required")
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

var approvalFields = []field[Approval]{
	put("by", (*reader).approvers, func(a *Approval, v []string) { a.By = v }),
	put("count", (*reader).count, func(a *Approval, v int) { a.Count = v }),
	put("within", (*reader).duration, func(a *Approval, v time.Duration) { a.Within = v }),
	put("reason", (*reader).reasonDemand, func(a *Approval, v bool) { a.Reason = v }),
}

func (r *reader) approval(n ast.Node) (*Approval, error) {
	a := &Approval{Count: 1, Within: defaultApprovalWithin}
	values, err := readFields(r, n, "approval", approvalFields, a)
	if err == nil && values["by"] == nil {
		err = r.atNode(n, "approval needs by: who may approve, such as {by: [group:dba]}")
	}
	return a, err
}

// approvers reads a list of words, or one word alone.
func (r *reader) approvers(n ast.Node) ([]string, error) {
	if _, isList := n.(*ast.SequenceNode); isList {
		return r.words(n)
	}
	word, err := r.text(n)
	return []string{word}, err
}

func (r *reader) reasonDemand(n ast.Node) (bool, error) {
	word, err := r.text(n)
	if err == nil && word != "required" {
		err = r.atNode(n, "%s: write reason: required, or leave the key out", quote(word))
	}
	return err == nil, err
}
