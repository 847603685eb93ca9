package policy

import "github.com/goccy/go-yaml/token"

// nesting follows the tokens of a document: how deep they nest, how many keys the mappings around them
// have, and whether every key and list entry has a value. The parser recurses with depth and with the keys
// of a mapping, and takes time in the square of the number of missing values, which are errors of every
// field in any case.
type nesting struct {
	last    *token.Token // before this one, comments left out
	name    *token.Token // what stood before the last colon
	flow    []bracket
	block   []blockMapping
	entries int // "- " signs in a row on one line
}

// bracket is an open bracket or brace.
type bracket struct {
	brace  bool
	commas int
	colon  bool // since the last comma
}

// blockMapping is a mapping without braces and its keys so far.
type blockMapping struct{ column, keys int }

const (
	tooDeep   = "lists and mappings are nested too deep"
	tooMany   = "the mapping has too many keys"
	noEntry   = "the list entry has no value"
	noValue   = " has no value: give one or leave the key out"
	justBrace = " has no value; text with { } needs quotes"
)

// next looks at one token. It gives what is wrong and where, or nothing.
func (n *nesting) next(t *token.Token) (where *token.Token, why string) {
	if n.valueMissing(t) {
		return n.name, quote(n.name.Value) + noValue
	}
	if n.last != nil && n.last.Type == token.SequenceEntryType && n.last.Position.Line != t.Position.Line &&
		t.Position.Column <= n.last.Position.Column {
		return n.last, noEntry
	}
	if t.Type != token.SequenceEntryType {
		n.entries = 0
	}
	switch t.Type {
	case token.SequenceEntryType:
		n.leave(t.Position.Column)
		if n.entries++; n.entries > maxDepth && n.last.Position.Line == t.Position.Line {
			return t, tooDeep
		}
	case token.SequenceStartType, token.MappingStartType:
		n.flow = append(n.flow, bracket{brace: t.Type == token.MappingStartType})
		if len(n.flow) > maxDepth {
			return t, tooDeep
		}
	case token.MappingValueType:
		return t, n.colon()
	case token.CollectEntryType, token.SequenceEndType, token.MappingEndType:
		return n.last, n.part(t)
	}
	return nil, ""
}

// valueMissing reports whether t comes where the value of the last key should have begun.
func (n *nesting) valueMissing(t *token.Token) bool {
	if n.name == nil || n.last.Type != token.MappingValueType {
		return false
	}
	if len(n.flow) > 0 {
		return t.Type == token.CollectEntryType || t.Type == token.SequenceEndType || t.Type == token.MappingEndType
	}
	if t.Position.Line == n.last.Position.Line {
		return false
	}
	column := n.name.Position.Column
	return t.Position.Column < column || t.Position.Column == column && t.Type != token.SequenceEntryType
}

// colon counts the key before it.
func (n *nesting) colon() string {
	n.name = n.last
	if inner := len(n.flow) - 1; inner >= 0 {
		n.flow[inner].colon = true
		return ""
	}
	if n.name == nil {
		return ""
	}
	column := n.name.Position.Column
	n.leave(column)
	if len(n.block) == 0 || n.block[len(n.block)-1].column < column {
		n.block = append(n.block, blockMapping{column: column})
	}
	top := &n.block[len(n.block)-1]
	if top.keys++; top.keys > maxKeys {
		return tooMany
	}
	return ""
}

// part ends one part of a list or mapping in brackets, and with a closing sign all of it.
func (n *nesting) part(t *token.Token) string {
	inner := len(n.flow) - 1
	if inner < 0 {
		return ""
	}
	b := &n.flow[inner]
	empty := n.last.Type == token.MappingStartType || n.last.Type == token.CollectEntryType
	if b.brace && !b.colon && !empty {
		return quote(n.last.Value) + justBrace
	}
	if t.Type != token.CollectEntryType {
		n.flow = n.flow[:inner]
		return ""
	}
	b.colon = false
	if b.commas++; b.brace && b.commas >= maxKeys {
		return tooMany
	}
	return ""
}

// leave forgets block mappings that end at column.
func (n *nesting) leave(column int) {
	for len(n.block) > 0 && n.block[len(n.block)-1].column > column {
		n.block = n.block[:len(n.block)-1]
	}
}
