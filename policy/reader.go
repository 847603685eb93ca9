package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// reader makes a Document from the YAML tree and remembers where its parts stand.
type reader struct {
	*source
	places []rulePlace
}

// rulePlace is where a rule and its fields stand; fields of trust and limits as "trust.idle".
type rulePlace struct {
	rule   ast.Node
	fields map[string]ast.Node
}

// field says how the value of one key is read into a T.
type field[T any] struct {
	key  string
	read func(r *reader, n ast.Node, to *T) error
}

// put makes a field from a function that reads one value and one that stores it.
func put[T, V any](key string, read func(*reader, ast.Node) (V, error), store func(*T, V)) field[T] {
	return field[T]{key, func(r *reader, n ast.Node, to *T) error {
		v, err := read(r, n)
		if err == nil {
			store(to, v)
		}
		return err
	}}
}

var documentFields = []field[Document]{
	{"version", func(r *reader, n ast.Node, to *Document) error {
		if t := n.GetToken(); t.Type != token.IntegerType || t.Value != "1" {
			return r.atNode(n, "the version must be 1")
		}
		to.Version = 1
		return nil
	}},
	put("networks", (*reader).networks, func(d *Document, v map[string][]netip.Prefix) { d.Networks = v }),
	put("rules", (*reader).rules, func(d *Document, v []Rule) { d.Rules = v }),
}

var ruleFields = []field[Rule]{
	put("name", (*reader).text, func(r *Rule, v string) { r.Name = v }),
	put("deny", (*reader).boolean, func(r *Rule, v bool) {
		if v {
			r.Effect = Deny
		}
	}),
	put("message", (*reader).text, func(r *Rule, v string) { r.Message = v }),
	put("users", (*reader).words, func(r *Rule, v []string) { r.Users = v }),
	put("targets", (*reader).words, func(r *Rule, v []string) { r.Targets = v }),
	put("accounts", (*reader).words, func(r *Rule, v []string) { r.Accounts = v }),
	put("from", (*reader).words, func(r *Rule, v []string) { r.From = v }),
	put("not-from", (*reader).words, func(r *Rule, v []string) { r.NotFrom = v }),
	put("channels", (*reader).channels, func(r *Rule, v []Channel) { r.Channels = v }),
	put("env", (*reader).words, func(r *Rule, v []string) { r.Env = v }),
	put("observed", (*reader).observed, func(r *Rule, v bool) { r.Silent = v }),
	put("moderator", (*reader).moderator, func(r *Rule, v *Moderator) { r.Moderator = v }),
	put("code", (*reader).code, func(r *Rule, v Code) { r.Code = v }),
	put("token-only", (*reader).boolean, func(r *Rule, v bool) { r.TokenOnly = v }),
	put("password-code", (*reader).boolean, func(r *Rule, v bool) { r.PasswordCode = v }),
	put("reply", (*reader).words, func(r *Rule, v []string) { r.Reply = v }),
	put("trust", (*reader).trust, func(r *Rule, v *Trust) { r.Trust = v }),
	put("recording", (*reader).mode, func(r *Rule, v Mode) { r.Recording = v }),
	put("record-limit", (*reader).size, func(r *Rule, v int64) { r.RecordLimit = v }),
	put("search", (*reader).onOff, func(r *Rule, v bool) { r.Unsearched = !v }),
	put("retention", (*reader).retention, func(r *Rule, v time.Duration) { r.Retention = v }),
	put("record-input", (*reader).boolean, func(r *Rule, v bool) { r.RecordInput = v }),
	put("break-glass", (*reader).boolean, func(r *Rule, v bool) { r.BreakGlass = v }),
	put("sftp", (*reader).files, func(r *Rule, v *Files) { r.SFTP = v }),
	put("relay", (*reader).boolean, func(r *Rule, v bool) { r.Relay = v }),
	put("approval", (*reader).approval, func(r *Rule, v *Approval) { r.Approval = v }),
	put("limits", (*reader).limits, func(r *Rule, v Limits) { r.Limits = v }),
	put("lockout", (*reader).lockout, func(r *Rule, v Limit) { r.Lockout = v }),
}

var lockoutFields = []field[Limit]{
	put("failures", (*reader).count, func(l *Limit, v int) { l.Failures = v }),
	put("window", (*reader).duration, func(l *Limit, v time.Duration) { l.Window = v }),
	put("lock", (*reader).duration, func(l *Limit, v time.Duration) { l.Lock = v }),
}

var filesFields = []field[Files]{
	put("read", (*reader).words, func(f *Files, v []string) { f.Read = v }),
	put("write", (*reader).words, func(f *Files, v []string) { f.Write = v }),
}

var trustFields = []field[Trust]{
	put("idle", (*reader).duration, func(t *Trust, v time.Duration) { t.Idle = v }),
	put("max", (*reader).duration, func(t *Trust, v time.Duration) { t.Max = v }),
	put("uses", (*reader).count, func(t *Trust, v int) { t.Uses = v }),
	put("targets", (*reader).count, func(t *Trust, v int) { t.Targets = v }),
	put("grow", (*reader).grow, func(t *Trust, v *Grow) { t.Grow = v }),
	put("sources", (*reader).words, func(t *Trust, v []string) { t.Sources = v }),
}

var growFields = []field[Grow]{
	put("after", (*reader).count, func(g *Grow, v int) { g.After = v }),
	put("max", (*reader).duration, func(g *Grow, v time.Duration) { g.Max = v }),
}

var limitsFields = []field[Limits]{
	put("idle", (*reader).duration, func(l *Limits, v time.Duration) { l.Idle = v }),
	put("keyboard-idle", (*reader).duration, func(l *Limits, v time.Duration) { l.KeyboardIdle = v }),
	put("max", (*reader).duration, func(l *Limits, v time.Duration) { l.Max = v }),
	put("sessions", (*reader).count, func(l *Limits, v int) { l.Sessions = v }),
	put("user-sessions", (*reader).count, func(l *Limits, v int) { l.UserSessions = v }),
	put("rule-sessions", (*reader).count, func(l *Limits, v int) { l.RuleSessions = v }),
	put("target-sessions", (*reader).count, func(l *Limits, v int) { l.TargetSessions = v }),
	put("connection-sessions", (*reader).count, func(l *Limits, v int) { l.ConnectionSessions = v }),
	put("channels", (*reader).count, func(l *Limits, v int) { l.Channels = v }),
}

var codeFields = []field[Code]{
	put("younger-than", (*reader).duration, func(c *Code, v time.Duration) {
		*c = Code{Kind: CodeYoungerThan, YoungerThan: v}
	}),
}

// readFields reads a mapping whose keys are all known, and gives the nodes of the values by key.
func readFields[T any](r *reader, n ast.Node, what string, fields []field[T], to *T) (map[string]ast.Node, error) {
	pairs, err := r.pairs(n, what)
	if err != nil {
		return nil, err
	}
	values := make(map[string]ast.Node, len(pairs))
next:
	for _, p := range pairs {
		values[p.key] = p.value
		for _, f := range fields {
			if f.key != p.key {
				continue
			}
			if err := f.read(r, p.value, to); err != nil {
				return nil, err
			}
			continue next
		}
		known := make([]string, len(fields))
		for i, f := range fields {
			known[i] = f.key
		}
		return nil, r.atNode(p.keyNode, "unknown key %s; %s may have: %s", quote(p.key), what, strings.Join(known, ", "))
	}
	return values, nil
}

// pair is one entry of a mapping.
type pair struct {
	key            string
	keyNode, value ast.Node
}

func (r *reader) pairs(n ast.Node, what string) ([]pair, error) {
	m, isMapping := n.(*ast.MappingNode)
	if !isMapping {
		return nil, r.wrongType(n, what+" must be a mapping with keys")
	}
	pairs := make([]pair, len(m.Values))
	seen := make(map[string]bool, len(m.Values))
	for i, v := range m.Values {
		key, isText := v.Key.(*ast.StringNode)
		if !isText {
			return nil, r.atNode(v.Key, "a key must be plain text")
		}
		if seen[key.Value] {
			return nil, r.atNode(key, "the key %s is repeated", quote(key.Value))
		}
		seen[key.Value] = true
		if v.Value == nil || v.Value.Type() == ast.NullType {
			return nil, r.atNode(key, "%s has no value: give one or leave the key out", quote(key.Value))
		}
		pairs[i] = pair{key.Value, key, v.Value}
	}
	return pairs, nil
}

// wrongType tells what was expected and what stands there.
func (r *reader) wrongType(n ast.Node, expected string) error {
	found := "something else"
	switch n.Type() {
	case ast.MappingType:
		found = "a mapping"
	case ast.SequenceType:
		found = "a list"
	case ast.NullType:
		found = "nothing"
	case ast.BoolType:
		found = "true or false"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		found = "a number; text that looks like one needs quotes"
	case ast.StringType, ast.LiteralType:
		found = "text"
	}
	return r.atNode(n, "%s, here is %s", expected, found)
}

func (r *reader) document(n ast.Node) (*Document, error) {
	d := &Document{}
	values, err := readFields(r, n, "a document", documentFields, d)
	if err != nil {
		return nil, err
	}
	if values["version"] == nil {
		return nil, r.atNode(n, "the version is missing: begin with version: 1")
	}
	if values["rules"] == nil {
		return nil, r.atNode(n, "there are no rules: to deny everything, write rules: []")
	}
	return d, nil
}

func (r *reader) networks(n ast.Node) (map[string][]netip.Prefix, error) {
	pairs, err := r.pairs(n, "networks")
	if err != nil {
		return nil, err
	}
	networks := make(map[string][]netip.Prefix, len(pairs))
	for _, p := range pairs {
		if err := checkNetworkName(p.key); err != nil {
			return nil, r.atNode(p.keyNode, "%s", err)
		}
		words, err := r.words(p.value)
		if err != nil {
			return nil, err
		}
		for i, word := range words {
			prefix, err := addrWord(word)
			if err != nil {
				return nil, r.atNode(p.value.(*ast.SequenceNode).Values[i], "%s", err)
			}
			networks[p.key] = append(networks[p.key], prefix)
		}
	}
	return networks, nil
}

func (r *reader) rules(n ast.Node) ([]Rule, error) {
	list, isList := n.(*ast.SequenceNode)
	if !isList {
		return nil, r.wrongType(n, "rules must be a list")
	}
	rules := make([]Rule, len(list.Values))
	r.places = make([]rulePlace, len(list.Values))
	for i, n := range list.Values {
		rules[i].Effect = Allow
		values, err := readFields(r, n, "a rule", ruleFields, &rules[i])
		if err != nil {
			return nil, err
		}
		if values["name"] == nil {
			return nil, r.atNode(n, "the rule has no name")
		}
		r.places[i] = rulePlace{n, values}
	}
	return rules, nil
}

// list gives the entries of a list that is not empty.
func (r *reader) list(n ast.Node) ([]ast.Node, error) {
	list, isList := n.(*ast.SequenceNode)
	if !isList {
		return nil, r.wrongType(n, "this must be a list, such as [a, b]")
	}
	if len(list.Values) == 0 {
		return nil, r.atNode(n, "the list is empty: name something or leave the key out")
	}
	return list.Values, nil
}

// words reads a list of texts.
func (r *reader) words(n ast.Node) ([]string, error) {
	nodes, err := r.list(n)
	if err != nil {
		return nil, err
	}
	words := make([]string, len(nodes))
	for i, n := range nodes {
		if words[i], err = r.text(n); err != nil {
			return nil, err
		}
	}
	return words, nil
}

func (r *reader) code(n ast.Node) (Code, error) {
	if n.Type() == ast.MappingType {
		var c Code
		values, err := readFields(r, n, "code", codeFields, &c)
		if err == nil && len(values) == 0 {
			err = r.atNode(n, "write {younger-than: 30m}")
		}
		return c, err
	}
	word, err := r.text(n)
	if err != nil {
		return Code{}, err
	}
	switch word {
	case "always":
		return Code{}, nil
	case "fresh":
		return Code{Fresh: true}, nil
	case "none":
		return Code{Kind: CodeNone}, nil
	}
	return Code{}, r.atNode(n, "%s is not a demand for a code; these are: always, fresh, {younger-than: 30m}, none", quote(word))
}

func (r *reader) trust(n ast.Node) (*Trust, error) {
	t := &Trust{}
	values, err := readFields(r, n, "trust", trustFields, t)
	switch {
	case err != nil:
		return nil, err
	case t.Idle == 0 && t.Max == 0:
		return nil, r.atNode(n, "trust needs idle or max, such as {idle: 8h, max: 24h}")
	case t.Max == 0:
		t.Max = max(defaultTrustMax, t.Idle)
	case t.Idle == 0:
		t.Idle = t.Max
	case t.Idle > t.Max:
		return nil, r.atNode(values["idle"], "idle is longer than max")
	}
	return t, nil
}

func (r *reader) files(n ast.Node) (*Files, error) {
	f := &Files{}
	values, err := readFields(r, n, "sftp", filesFields, f)
	if err == nil && len(values) == 0 {
		err = r.atNode(n, "sftp needs read or write, such as {read: [/srv/**]}")
	}
	return f, err
}

func (r *reader) lockout(n ast.Node) (Limit, error) {
	var l Limit
	values, err := readFields(r, n, "lockout", lockoutFields, &l)
	if err == nil && len(values) == 0 {
		err = r.atNode(n, "lockout needs failures, window or lock")
	}
	return l, err
}

func (r *reader) grow(n ast.Node) (*Grow, error) {
	g := &Grow{}
	values, err := readFields(r, n, "grow", growFields, g)
	if err == nil && len(values) < len(growFields) {
		err = r.atNode(n, "write {after: 10, max: 7d}")
	}
	return g, err
}

func (r *reader) limits(n ast.Node) (Limits, error) {
	var l Limits
	values, err := readFields(r, n, "limits", limitsFields, &l)
	if err == nil && len(values) == 0 {
		err = r.atNode(n, "limits needs a limit, such as {idle: 15m, max: 8h}")
	}
	return l, err
}

// channels reads words and mappings such as {local-forward: [DEST]}.
func (r *reader) channels(n ast.Node) ([]Channel, error) {
	nodes, err := r.list(n)
	if err != nil {
		return nil, err
	}
	channels := make([]Channel, len(nodes))
	for i, n := range nodes {
		if n.Type() == ast.MappingType {
			channels[i], err = r.forward(n)
		} else {
			channels[i].Kind, err = r.text(n)
		}
		if err != nil {
			return nil, err
		}
	}
	return channels, nil
}

// forward reads a kind with its destinations.
func (r *reader) forward(n ast.Node) (Channel, error) {
	pairs, err := r.pairs(n, "a channel")
	if err != nil {
		return Channel{}, err
	}
	if len(pairs) != 1 {
		return Channel{}, r.atNode(n, "write one kind in each pair of braces, such as {local-forward: [\"10.0.0.1:22\"]}")
	}
	to, err := r.words(pairs[0].value)
	return Channel{Kind: pairs[0].key, To: to}, err
}

// locate turns an error of compiling into one with the place in the file.
func (r *reader) locate(err error) error {
	var e *ruleError
	if !errors.As(err, &e) || e.index >= len(r.places) {
		return r.at(1, 1, "%s", err)
	}
	place := r.places[e.index]
	msg := fmt.Sprintf("%s: %s", e.field, e.err)
	switch e.field {
	case "":
		msg = fmt.Sprintf("the rule %s", e.err)
	case "name":
		msg = e.err.Error()
	}
	name, inner, _ := strings.Cut(e.field, ".")
	n := place.fields[name]
	if n == nil {
		return r.atNode(place.rule, "%s", msg)
	}
	return r.atNode(r.inside(n, inner, e.item, e.sub), "%s", msg)
}

// inside follows a key, then an index, then the index of a destination, as far as they lead.
func (r *reader) inside(n ast.Node, key string, item, sub int) ast.Node {
	if key != "" {
		if pairs, err := r.pairs(n, ""); err == nil {
			for _, p := range pairs {
				if p.key == key {
					n = p.value
				}
			}
		}
	}
	list, isList := n.(*ast.SequenceNode)
	if !isList || item < 0 || item >= len(list.Values) {
		return n
	}
	n = list.Values[item]
	if sub < 0 {
		return n
	}
	if pairs, err := r.pairs(n, ""); err == nil && len(pairs) == 1 {
		return r.inside(pairs[0].value, "", sub, -1)
	}
	return n
}
