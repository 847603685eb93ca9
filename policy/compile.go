package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// ruleError says which field of which rule is wrong. Parse finds the place of it in the file.
type ruleError struct {
	index     int    // of the rule
	name      string // of the rule
	field     string // key of the document, such as "from" or "trust.sources"; empty for the rule itself
	item, sub int    // index in a list, index in the list of destinations; -1 when it is not about one
	err       error
}

func (e *ruleError) Error() string {
	if e.field == "" {
		return fmt.Sprintf("rule %s %s", quote(e.name), e.err)
	}
	return fmt.Sprintf("rule %s: %s: %s", quote(e.name), e.field, e.err)
}

func compileRules(rules []Rule, networks map[string][]netip.Prefix) ([]matcher, error) {
	compiled := make([]matcher, len(rules))
	seen := make(map[string]bool, len(rules))
	for i := range rules {
		r := &rules[i]
		m, err := compileRule(r, networks)
		if err == nil && seen[r.Name] {
			err = wrong("name", fmt.Errorf("there is another rule %s above", quote(r.Name)))
		}
		if err != nil {
			err.index, err.name = i, r.Name
			return nil, err
		}
		seen[r.Name] = true
		compiled[i] = *m
	}
	return compiled, nil
}

// wrong makes the error of a whole field.
func wrong(field string, err error) *ruleError {
	return &ruleError{field: field, item: -1, sub: -1, err: err}
}

func compileRule(r *Rule, networks map[string][]netip.Prefix) (*matcher, *ruleError) {
	if err := checkRule(r); err != nil {
		return nil, err
	}
	m := &matcher{rule: r, allow: r.Effect == Allow}
	if err := m.compileWords(networks); err != nil {
		return nil, err
	}
	if err := m.compileChannels(); err != nil {
		return nil, err
	}
	if err := m.compileReply(); err != nil {
		return nil, err
	}
	if err := m.compileTrust(networks); err != nil {
		return nil, err
	}
	if err := m.compileApproval(); err != nil {
		return nil, err
	}
	if r.Code.Kind == CodeNone {
		if err := checkCodeNone(r, m.from); err != nil {
			return nil, err
		}
	}
	m.inUsers, m.inTargets, m.inAccounts = showList(r.Users), showList(r.Targets), showList(r.Accounts)
	m.inFrom, m.inNotFrom = showList(r.From), showList(r.NotFrom)
	m.inChannels = showChannels(r.Channels, m.kinds)
	return m, nil
}

// compileWords parses the lists of words.
func (m *matcher) compileWords(networks map[string][]netip.Prefix) *ruleError {
	r := m.rule
	sources := func(to *[]netip.Prefix) func(string) error {
		return func(word string) error {
			prefixes, err := sourceWord(word, networks)
			*to = append(*to, prefixes...)
			return err
		}
	}
	for _, list := range []struct {
		field string
		words []string
		add   func(word string) error
	}{
		{"users", r.Users, m.users.add},
		{"targets", r.Targets, func(word string) error {
			w, err := parseTargetWord(word)
			m.targets = append(m.targets, w)
			return err
		}},
		{"accounts", r.Accounts, func(word string) error {
			w, err := parseAccountWord(word)
			m.accounts = append(m.accounts, w)
			return err
		}},
		{"env", r.Env, checkEnvWord},
		{"from", r.From, sources(&m.from)},
		{"not-from", r.NotFrom, sources(&m.notFrom)},
	} {
		if err := eachWord(list.field, list.words, list.add); err != nil {
			return err
		}
	}
	return nil
}

// eachWord checks the words of one list and hands them on.
func eachWord(field string, words []string, add func(string) error) *ruleError {
	for i, word := range words {
		err := checkText(word)
		if err == nil {
			err = add(word)
		}
		if err != nil {
			return &ruleError{field: field, item: i, sub: -1, err: err}
		}
	}
	return nil
}

func (m *matcher) compileChannels() *ruleError {
	channels := m.rule.Channels
	if len(channels) == 0 {
		m.kinds = allKinds
		if m.allow {
			m.kinds = defaultKinds
			if m.rule.SFTP != nil {
				m.kinds = fileKinds
			}
		}
		return nil
	}
	for i, c := range channels {
		kind, known := kindOf(c.Kind)
		err := &ruleError{field: "channels", item: i, sub: -1}
		switch {
		case !known:
			err.err = fmt.Errorf("%s is not a channel word; these are: %s", quote(c.Kind), allKinds)
			return err
		case m.kinds&kind != 0:
			err.err = fmt.Errorf("%s is listed twice", c.Kind)
			return err
		case len(c.To) > 0 && !takesDestinations(c.Kind):
			err.err = fmt.Errorf("%s takes no destinations", c.Kind)
			return err
		}
		m.kinds |= kind
		for j, word := range c.To {
			d, bad := parseDestination(word)
			if bad != nil {
				err.sub, err.err = j, bad
				return err
			}
			if m.to == nil {
				m.to = make(map[kindSet][]destination)
			}
			m.to[kind] = append(m.to[kind], d)
		}
	}
	return nil
}

func (m *matcher) compileTrust(networks map[string][]netip.Prefix) *ruleError {
	if m.rule.Trust == nil {
		return nil
	}
	trust := *m.rule.Trust
	trust.sets = nil
	var set []netip.Prefix
	err := eachWord("trust.sources", trust.Sources, func(word string) error {
		prefixes, err := sourceWord(word, networks)
		set = append(set, prefixes...)
		return err
	})
	if err != nil {
		return err
	}
	if len(set) > 0 {
		trust.sets = [][]netip.Prefix{set}
	}
	m.trust = &trust
	return nil
}

// showChannels prints channels for the trace.
func showChannels(channels []Channel, kinds kindSet) string {
	if len(channels) == 0 {
		return "[" + kinds.String() + "], the default"
	}
	words := make([]string, len(channels))
	for i, c := range channels {
		words[i] = c.Kind
		if len(c.To) > 0 {
			words[i] += " to " + showList(c.To)
		}
	}
	return "[" + strings.Join(words, ", ") + "]"
}
