package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Files are the paths that a rule holds file transfers to: globs of whole paths, in which * stands for any text
// without a slash, ? for one character, ** as a part of its own for any number of parts, none included, and
// {user} for the person's login. A nil *Files holds to nothing.
type Files struct {
	Read  []string // content and names in folders
	Write []string // whatever changes something
}

// Access is what is to be done to a path.
type Access uint8

// Kinds of access.
const (
	ReadFile     Access = iota // its content, or the names in the folder
	WriteFile                  // anything that changes something
	LookAt                     // its attributes
	ReadBeneath                // ReadFile for the path and all beneath it
	WriteBeneath               // WriteFile for the same
)

// Paths are the [Files] of a rule made ready for one person. A nil *Paths allows everything.
type Paths struct {
	rule        string
	files       Files
	user        string
	read, write []pathGlob
}

// Rule is the name of the rule.
func (p *Paths) Rule() string { return p.rule }

// Same tells that p and other allow the same to the same person.
func (p *Paths) Same(other *Paths) bool {
	if p == nil || other == nil {
		return p == other
	}
	return p.user == other.user && p.files.format() == other.files.format()
}

// String gives the paths as the rule has them.
func (p *Paths) String() string {
	if p == nil {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(p.files.format(), "{"), "}")
}

// Allows decides on a path that is absolute and without dots. Attributes may be looked at of what may be read
// or written, and of every folder that a client has to pass on the way to it.
func (p *Paths) Allows(a Access, path string) bool {
	if p == nil {
		return true
	}
	parts := splitPath(path)
	any := func(globs []pathGlob, match func(pathGlob) bool) bool {
		for _, g := range globs {
			if match(g) {
				return true
			}
		}
		return false
	}
	whole := func(g pathGlob) bool { return g.match(parts) }
	beneath := func(g pathGlob) bool { return g.beneath(parts) }
	near := func(g pathGlob) bool { return g.match(parts) || g.above(parts) }
	switch a {
	case ReadFile:
		return any(p.read, whole)
	case WriteFile:
		return any(p.write, whole)
	case LookAt:
		return any(p.read, near) || any(p.write, near)
	case ReadBeneath:
		return any(p.read, beneath)
	case WriteBeneath:
		return any(p.write, beneath)
	}
	return false
}

// pathGlob is a glob, part by part.
type pathGlob []pathPart

// pathPart is what one part of a path must look like.
type pathPart struct {
	any  bool // **
	glob glob
}

func splitPath(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// checkPathGlob refuses what could never match, or not what its author means.
func checkPathGlob(word string) error {
	switch {
	case !strings.HasPrefix(word, "/"):
		return fmt.Errorf("%s: a path begins with /", quote(word))
	case word != "/" && strings.HasSuffix(word, "/"):
		return fmt.Errorf("%s ends in /: write %s for the folder, %s** for it and all beneath it", quote(word), strings.TrimRight(word, "/"), word)
	case strings.Contains(word, "//"):
		return fmt.Errorf("%s has a part without a name", quote(word))
	}
	for _, part := range splitPath(word) {
		plain := strings.ReplaceAll(part, "{user}", "u")
		switch {
		case part == "." || part == "..":
			return fmt.Errorf("%s: dots have no place in it", quote(word))
		case part != "**" && strings.Contains(part, "**"):
			return fmt.Errorf("%s: ** stands alone between two slashes", quote(word))
		case strings.Contains(plain, `\`):
			return errors.New("a path with a backslash never passes")
		}
		if _, err := parseGlob(plain); err != nil {
			return err
		}
	}
	return nil
}

// compilePath puts a person's login into a glob that was checked. It is false if the login is no name of a file.
func compilePath(word, user string) (pathGlob, bool) {
	g := pathGlob{}
	for _, part := range splitPath(word) {
		if part == "**" {
			g = append(g, pathPart{any: true})
			continue
		}
		if strings.Contains(part, "{user}") {
			if user == "" || user == "." || user == ".." || strings.ContainsAny(user, "/\\\x00*?") {
				return nil, false
			}
			part = strings.ReplaceAll(part, "{user}", user)
		}
		star := strings.ContainsAny(part, "*?")
		p := pathPart{glob: glob{part, globExact}}
		if star {
			p.glob.kind = globMixed
		}
		g = append(g, p)
	}
	return g, true
}

// match tells that the glob stands for exactly this path.
func (g pathGlob) match(parts []string) bool {
	i, j := 0, 0
	star, retry := -1, 0
	for j < len(parts) {
		switch {
		case i < len(g) && g[i].any:
			star, retry = i, j
			i++
		case i < len(g) && g[i].glob.match(parts[j]):
			i++
			j++
		case star >= 0:
			retry++
			i, j = star+1, retry
		default:
			return false
		}
	}
	for i < len(g) && g[i].any {
		i++
	}
	return i == len(g)
}

// beneath tells that the glob stands for this path and everything that could ever be beneath it.
func (g pathGlob) beneath(parts []string) bool {
	return len(g) > 0 && g[len(g)-1].any && g.match(parts)
}

// above tells that something beneath this path could match.
func (g pathGlob) above(parts []string) bool {
	for i, part := range parts {
		if i >= len(g) {
			return false
		}
		if g[i].any {
			return true
		}
		if !g[i].glob.match(part) {
			return false
		}
	}
	return len(parts) < len(g)
}

// paths makes the rule's files ready for a person.
func (m *matcher) paths(user string) *Paths {
	f := m.rule.SFTP
	if f == nil {
		return nil
	}
	p := &Paths{rule: m.rule.Name, files: *f, user: user}
	for _, list := range []struct {
		words []string
		to    *[]pathGlob
	}{{f.Read, &p.read}, {f.Write, &p.write}} {
		for _, w := range list.words {
			if g, ok := compilePath(w, user); ok {
				*list.to = append(*list.to, g)
			}
		}
	}
	return p
}

func (f *Files) format() string {
	if f == nil {
		return ""
	}
	var parts []string
	if len(f.Read) > 0 {
		parts = append(parts, "read: "+formatWords(f.Read))
	}
	if len(f.Write) > 0 {
		parts = append(parts, "write: "+formatWords(f.Write))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// checkFiles refuses what the words of a rule's sftp cannot mean.
func checkFiles(r *Rule) *ruleError {
	f := r.SFTP
	if f == nil {
		return nil
	}
	if len(f.Read)+len(f.Write) == 0 {
		return wrong("sftp", errors.New("needs read or write, such as {read: [/srv/**]}"))
	}
	for _, list := range []struct {
		field string
		words []string
	}{{"sftp.read", f.Read}, {"sftp.write", f.Write}} {
		if err := eachWord(list.field, list.words, checkPathGlob); err != nil {
			return err
		}
	}
	for i, c := range r.Channels {
		if c.Kind == Rsync {
			return &ruleError{field: "channels", item: i, sub: -1, err: errors.New("rsync cannot be held to the paths of sftp: allow it by another rule, or leave it out")}
		}
	}
	return nil
}
