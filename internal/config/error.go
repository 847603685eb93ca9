package config

import (
	"fmt"
	"regexp"
	"strings"
)

// Error is a fault in the file, with the place where it is.
type Error struct {
	File   string
	Line   int    // from 1; 0: the fault has no place of its own, such as a missing key
	Column int    // from 1, in characters
	Msg    string // what is wrong and what would be right
	Text   string // the line as it stands in the file
}

// passwordInURL matches the password of a URL, which must not reach a terminal or a log.
var passwordInURL = regexp.MustCompile(`(://[^/\s:@"']*:)[^/\s"']*@`)

// Error gives "FILE: line L, column C: MSG" and below it the line with a caret under the fault.
func (e *Error) Error() string {
	msg := passwordInURL.ReplaceAllString(e.Msg, "$1…@")
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, msg)
	}
	text := passwordInURL.ReplaceAllString(e.Text, "$1…@")
	gutter := fmt.Sprintf("%5d | ", e.Line)
	return fmt.Sprintf("%s: line %d, column %d: %s\n%s%s\n%s%s^", e.File, e.Line, e.Column, msg,
		gutter, printable(text), strings.Repeat(" ", len(gutter)-2)+"| ", indentTo(e.Text, e.Column))
}

// indentTo gives the blank that puts a caret under a column: tabs stay tabs, so that it lines up.
func indentTo(line string, column int) string {
	var b strings.Builder
	for i, r := range []rune(line) {
		if i >= column-1 {
			break
		}
		if r == '\t' {
			b.WriteRune('\t')
		} else {
			b.WriteRune(' ')
		}
	}
	return b.String()
}

// printable replaces control characters but for the tab: the file may come from anywhere.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			return '\uFFFD'
		}
		return r
	}, line)
}

// place is a position in the file.
type place struct{ line, column int }

// source is the text of a file, for errors about it.
type source struct {
	file  string
	lines []string
}

func newSource(file string, text []byte) *source {
	return &source{file: file, lines: strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")}
}

func (s *source) errorf(at place, format string, args ...any) *Error {
	e := &Error{File: s.file, Line: at.line, Column: at.column, Msg: fmt.Sprintf(format, args...)}
	if at.line >= 1 && at.line <= len(s.lines) {
		e.Text = s.lines[at.line-1]
	}
	return e
}
