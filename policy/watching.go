package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// DefaultModeratorWithin is how long a session waits for a moderator when the rule does not say.
const DefaultModeratorWithin = 15 * time.Minute

// Moderator is the demand that somebody else watches a session for as long as it runs.
type Moderator struct {
	By     []string      // words as in users
	Pause  bool          // without a moderator the session stands still; false: it ends
	Within time.Duration // how long it waits for one; zero means DefaultModeratorWithin

	all []moderators // what May asks; every one must know the person
}

// moderators are the words of one rule.
type moderators struct {
	words []string
	who   principals
}

// May tells whether somebody may moderate. Only the Moderator of a [Decision] knows its people; that of a [Rule]
// says no.
func (m *Moderator) May(login string, groups []string) bool {
	if m == nil || len(m.all) == 0 || login == "" {
		return false
	}
	q := query{user: fold(login), groups: map[string]bool{}}
	for _, g := range groups {
		q.groups[fold(g)] = true
	}
	for i := range m.all {
		if !m.all[i].who.match(&q) {
			return false
		}
	}
	return true
}

// Covers tells whether whoever may moderate under m may do so under other, by the words of both. Both are of decisions.
func (m *Moderator) Covers(other *Moderator) bool {
	switch {
	case other == nil:
		return true
	case m == nil || len(m.all) > 0 && len(other.all) == 0:
		return false
	}
	return !slices.ContainsFunc(other.all, func(one moderators) bool {
		return !slices.ContainsFunc(m.all, func(mine moderators) bool { return slices.Equal(mine.words, one.words) })
	})
}

// Who says in words who may moderate: "group auditors, carol".
func (m *Moderator) Who() string {
	var all []string
	for _, one := range m.all {
		var words []string
		for _, w := range one.words {
			if w == "*" {
				w = "anybody else who may watch"
			}
			words = append(words, strings.Replace(w, "group:", "group ", 1))
		}
		all = append(all, strings.Join(words, ", "))
	}
	return strings.Join(all, "; who is also one of ")
}

// decided is the moderator of a rule in a decision.
func (m *Moderator) decided() *Moderator {
	if m == nil {
		return nil
	}
	d := &Moderator{By: m.By, Pause: m.Pause, Within: m.Within}
	if d.Within == 0 {
		d.Within = DefaultModeratorWithin
	}
	one := moderators{words: m.By}
	for _, word := range m.By {
		if one.who.add(word) != nil {
			return d // nobody; checkModerator has said so
		}
	}
	d.all = []moderators{one}
	return d
}

// tighten gives a demand that meets both. nil asks for nothing.
func (m *Moderator) tighten(other *Moderator) *Moderator {
	if m == nil {
		return other
	}
	if other == nil {
		return m
	}
	both := &Moderator{By: append(append([]string{}, m.By...), other.By...), Pause: m.Pause && other.Pause, Within: min(m.Within, other.Within)}
	if len(m.all) > 0 && len(other.all) > 0 { // else nobody may
		both.all = append(append(both.all, m.all...), other.all...)
	}
	return both
}

func checkModerator(m *Moderator) *ruleError {
	if m == nil {
		return nil
	}
	if len(m.By) == 0 {
		return wrong("moderator", errors.New("names nobody: write {by: [group:auditors]}"))
	}
	var who principals
	if err := eachWord("moderator.by", m.By, who.add); err != nil {
		return err
	}
	if m.Within != 0 {
		if err := checkDuration(m.Within); err != nil {
			return wrong("moderator.within", err)
		}
	}
	return nil
}

func (m *Moderator) format() string {
	if m == nil {
		return ""
	}
	parts := []string{"by: " + formatWords(m.By)}
	if m.Pause {
		parts = append(parts, "leaving: pause")
	}
	if m.Within != 0 {
		parts = append(parts, "within: "+formatDuration(m.Within))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

var moderatorFields = []field[Moderator]{
	put("by", (*reader).words, func(m *Moderator, v []string) { m.By = v }),
	put("leaving", (*reader).leaving, func(m *Moderator, v bool) { m.Pause = v }),
	put("within", (*reader).duration, func(m *Moderator, v time.Duration) { m.Within = v }),
}

func (r *reader) moderator(n ast.Node) (*Moderator, error) {
	m := &Moderator{}
	values, err := readFields(r, n, "moderator", moderatorFields, m)
	if err == nil && values["by"] == nil {
		err = r.atNode(n, "moderator needs by, such as {by: [group:auditors], leaving: pause}")
	}
	return m, err
}

// leaving is what happens when the last moderator leaves; true: the session stands still.
func (r *reader) leaving(n ast.Node) (bool, error) { return r.either(n, "leaving", "end", "pause") }

// observed tells whether people are not told who watches them.
func (r *reader) observed(n ast.Node) (silent bool, err error) {
	return r.either(n, "observed", "tell", "silent")
}

// either reads one of two words; true is the second.
func (r *reader) either(n ast.Node, what, first, second string) (bool, error) {
	word, err := r.text(n)
	if err == nil && word != first && word != second {
		err = r.atNode(n, "%s", fmt.Sprintf("%s is either %s or %s, and not %s", what, first, second, quote(word)))
	}
	return word == second, err
}
