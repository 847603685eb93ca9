package policy

import (
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// text reads one line of text.
func (r *reader) text(n ast.Node) (string, error) {
	var s string
	switch n := n.(type) {
	case *ast.StringNode:
		s = n.Value
	case *ast.LiteralNode:
		s = strings.TrimSuffix(n.Value.Value, "\n")
	case *ast.MappingNode:
		joined, ok := r.colonText(n)
		if !ok {
			return "", r.atNode(n, "this must be text, here is a mapping; text with { } or a colon may need quotes")
		}
		s = joined
	default:
		return "", r.wrongType(n, "this must be text")
	}
	if err := checkText(s); err != nil {
		return "", r.atNode(n, "the text %s", err)
	}
	return s, nil
}

// colonText puts text such as group:ops or 10.0.0.1:22 together again. YAML 1.2.2, section 7.3.3, has it as
// text wherever no blank follows the colon, but in a list within braces the library makes a mapping of it.
func (r *reader) colonText(n *ast.MappingNode) (string, bool) {
	if n.IsFlowStyle || len(n.Values) != 1 {
		return "", false
	}
	if _, plain := n.Values[0].Value.(ast.ScalarNode); !plain {
		return "", false
	}
	key, colon, value := n.Values[0].Key.GetToken(), n.Values[0].Start, n.Values[0].Value.GetToken()
	if key.Position.Line != value.Position.Line || key.Position.Line > len(r.lines) {
		return "", false
	}
	line := []rune(r.lines[key.Position.Line-1])
	from, to := key.Position.Column-1, value.Position.Column-1
	if from < 0 || from >= to || to > len(line) || value.Position.Column != colon.Position.Column+1 {
		return "", false
	}
	s := key.Value + ":" + value.Value
	return s, strings.HasPrefix(string(line[from:]), s)
}

func (r *reader) boolean(n ast.Node) (bool, error) {
	b, isBool := n.(*ast.BoolNode)
	if !isBool {
		return false, r.wrongType(n, "this must be true or false")
	}
	return b.Value, nil
}

func (r *reader) duration(n ast.Node) (time.Duration, error) {
	s, isText := n.(*ast.StringNode)
	if !isText {
		return 0, r.wrongType(n, "this must be a duration with a unit, such as 30m")
	}
	d, err := parseDuration(s.Value)
	if err != nil {
		return 0, r.atNode(n, "%s", err)
	}
	return d, nil
}

// retention reads how long something is kept: a duration, or forever.
func (r *reader) retention(n ast.Node) (time.Duration, error) {
	if s, isText := n.(*ast.StringNode); isText && s.Value == foreverWord {
		return Forever, nil
	}
	return r.duration(n)
}

func (r *reader) size(n ast.Node) (int64, error) {
	s, isText := n.(*ast.StringNode)
	if !isText {
		return 0, r.wrongType(n, "this must be a size with a unit, such as 16MiB")
	}
	size, err := parseSize(s.Value)
	if err != nil {
		return 0, r.atNode(n, "%s", err)
	}
	return size, nil
}

func (r *reader) count(n ast.Node) (int, error) {
	t := n.GetToken()
	if t.Type != token.IntegerType {
		return 0, r.wrongType(n, "this must be a whole number")
	}
	count, err := strconv.Atoi(t.Value)
	if err != nil || count < 1 || count > maxCount {
		return 0, r.atNode(n, "this must be a whole number between 1 and %d", maxCount)
	}
	return count, nil
}

func (r *reader) onOff(n ast.Node) (bool, error) {
	word, err := r.text(n)
	if err == nil && word != "on" && word != "off" {
		err = r.atNode(n, "%s is neither on nor off", quote(word))
	}
	return word == "on", err
}

func (r *reader) mode(n ast.Node) (Mode, error) {
	word, err := r.text(n)
	if err != nil {
		return 0, err
	}
	for _, m := range []Mode{RecordRequired, RecordBestEffort, RecordOff} {
		if word == m.String() {
			return m, nil
		}
	}
	return 0, r.atNode(n, "%s is not a mode of recording; these are: required, best-effort, off", quote(word))
}
