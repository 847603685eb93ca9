package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a document, far above any list of rules that people can keep in their heads. They keep the
// time and the stack that reading takes small, whatever is in the file.
const (
	maxBytes  = 1 << 20
	maxTokens = 300_000
	maxDepth  = 16   // lists and mappings inside each other on one line
	maxKeys   = 2000 // keys of one mapping
)

// ParseError is every error of [Parse]: where in the document it is and what is wrong.
type ParseError struct {
	Line, Column int    // from 1; columns count characters
	Msg          string // one line
	Excerpt      string // the line and a caret below the place
}

// Error gives all of it: "line 3, column 7: …" and the excerpt on lines of its own.
func (e *ParseError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s\n%s", e.Line, e.Column, e.Msg, e.Excerpt)
}

// Parse reads a document of at most 1 MiB. Every error is a *ParseError. YAML is read strictly: unknown
// and repeated keys, values of another type, anchors, aliases, tags and a second document are errors.
func Parse(src []byte) (*Document, error) {
	s, err := newSource(src)
	if err != nil {
		return nil, err
	}
	root, err := s.tree()
	if err != nil {
		return nil, err
	}
	r := &reader{source: s}
	d, err := r.document(root)
	if err != nil {
		return nil, err
	}
	if err := d.compile(); err != nil {
		return nil, r.locate(err)
	}
	return d, nil
}

// source is the text of a document, for excerpts.
type source struct {
	text  string // lines end in \n
	lines []string
}

// newSource refuses text that no YAML parser needs to see.
func newSource(src []byte) (*source, error) {
	tooLong := len(src) > maxBytes
	if tooLong {
		src = src[:maxBytes]
	}
	text := strings.TrimPrefix(string(src), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	s := &source{text: text, lines: strings.Split(text, "\n")}
	if tooLong {
		return nil, s.atOffset(len(text), "the document is longer than %d bytes", maxBytes)
	}
	for i, c := range text {
		switch {
		case c == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd"):
			return nil, s.atOffset(i, "not UTF-8")
		case c == '\n' || c == '\t':
		case unicode.IsControl(c) || c == '\u2028' || c == '\u2029' || c == '\ufeff':
			return nil, s.atOffset(i, "control character %U", c)
		}
	}
	return s, nil
}

// atOffset makes an error at a byte of the text.
func (s *source) atOffset(offset int, format string, args ...any) *ParseError {
	before := s.text[:offset]
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return s.at(line, column, format, args...)
}

// at makes an error at a line and column, both from 1.
func (s *source) at(line, column int, format string, args ...any) *ParseError {
	line = min(max(line, 1), len(s.lines))
	column = min(max(column, 1), utf8.RuneCountInString(s.lines[line-1])+1)
	return &ParseError{
		Line:    line,
		Column:  column,
		Msg:     printable(fmt.Sprintf(format, args...)),
		Excerpt: excerpt(s.lines[line-1], line, column),
	}
}

// printable replaces what could break the line: the library's messages quote the document as it is.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return utf8.RuneError
	}, s)
}

// excerpt shows at most 100 characters of the line, with the column among them.
func excerpt(text string, line, column int) string {
	const width, before = 100, 60
	runes := []rune(text)
	caret := column - 1
	if start := caret - before; len(runes) > width && start > 0 {
		runes, caret = runes[start:], before
	}
	if len(runes) > width {
		runes = runes[:width]
	}
	pad := make([]rune, caret)
	for i, c := range runes {
		if !unicode.IsPrint(c) && c != '\t' {
			runes[i] = utf8.RuneError
		}
		if i < caret {
			pad[i] = ' '
			if c == '\t' {
				pad[i] = '\t'
			}
		}
	}
	number := fmt.Sprintf("%4d", line)
	return fmt.Sprintf("%s | %s\n%s | %s^", number, string(runes), strings.Repeat(" ", len(number)), string(pad))
}

// tree parses the YAML. The library has been seen to panic on hostile input; that becomes an error too.
func (s *source) tree() (root ast.Node, err error) {
	defer func() {
		if recover() != nil {
			root, err = nil, s.at(1, 1, "cannot be read as YAML")
		}
	}()
	tokens := lexer.Tokenize(s.text)
	if err := s.checkTokens(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	var syntax yaml.Error
	switch {
	case errors.As(err, &syntax):
		return nil, s.atToken(syntax.GetToken(), "%s", syntax.GetMessage())
	case err != nil:
		return nil, s.at(1, 1, "%s", quote(err.Error()))
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		return nil, s.at(1, 1, "the document is empty: write at least version: 1 and rules: []")
	case len(file.Docs) > 1:
		return nil, s.atNode(file.Docs[1].Body, "a second document begins here; there must be one")
	}
	return file.Docs[0].Body, nil
}

func (s *source) atToken(t *token.Token, format string, args ...any) *ParseError {
	if t == nil || t.Position == nil {
		return s.at(1, 1, format, args...)
	}
	return s.at(t.Position.Line, t.Position.Column, format, args...)
}

func (s *source) atNode(n ast.Node, format string, args ...any) *ParseError {
	return s.atToken(firstToken(n), format, args...)
}

// firstToken finds where a node begins; the token of a mapping is the colon after its first key.
func firstToken(n ast.Node) *token.Token {
	if m, isMapping := n.(*ast.MappingNode); isMapping && !m.IsFlowStyle && len(m.Values) > 0 {
		return m.Values[0].Key.GetToken()
	}
	return n.GetToken()
}

// refusedTokens are the parts of YAML that a document has no use for.
var refusedTokens = map[token.Type]string{
	token.AnchorType:     "anchors (&) are not supported; put text that begins with & in quotes",
	token.AliasType:      `aliases (*) are not supported; put text that begins with * in quotes, as in "*"`,
	token.TagType:        "tags (!) are not supported; put text that begins with ! in quotes",
	token.DirectiveType:  "directives (%) are not supported",
	token.MergeKeyType:   "merge keys (<<) are not supported",
	token.MappingKeyType: "keys that begin with ? are not supported",
}

// checkTokens refuses what a document has no use for before the parser builds a tree, because the parser
// recurses as deep as the text nests and takes time in the square of the number of some of these.
func (s *source) checkTokens(tokens token.Tokens) error {
	if len(tokens) > maxTokens {
		return s.atToken(tokens[maxTokens], "the document has more than %d words and signs", maxTokens)
	}
	if t := tokens.InvalidToken(); t != nil {
		return s.atToken(t, "%s", t.Error)
	}
	var n nesting
	var header, ended, content bool
	for _, t := range tokens {
		if why, refused := refusedTokens[t.Type]; refused {
			return s.atToken(t, "%s", why)
		}
		switch t.Type {
		case token.CommentType:
			continue
		case token.DocumentHeaderType:
			if header || content || ended {
				return s.atToken(t, "a second document begins here; there must be one")
			}
			header = true
			continue
		case token.DocumentEndType:
			ended = true
			continue
		}
		if ended {
			return s.atToken(t, "a second document begins here; there must be one")
		}
		content = true
		if where, why := n.next(t); why != "" {
			return s.atToken(where, "%s", why)
		}
		n.last = t
	}
	return nil
}
