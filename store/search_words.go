package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"unicode"
)

// ErrNoWords refuses a search for punctuation alone, which no index helps with.
var ErrNoWords = errors.New("nothing to search for: give at least one letter or digit")

// maxWord is how many runes of a word are told apart.
const maxWord = 40

// minBeginning is how much of a word must stand before a "*".
const minBeginning = 2

// isWord tells whether a word goes on with c. Everything else divides words, so that "passwd" finds /etc/passwd
// and "limit" finds max_limit.
func isWord(c rune) bool {
	return c < 0x80 && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z') ||
		c >= 0x80 && (unicode.IsLetter(c) || unicode.IsNumber(c) || unicode.IsMark(c))
}

// fold is text as it is compared: in lower case, rune by rune, so that places in it are places in text.
func fold(text string) []rune {
	runes := []rune(text)
	for i, c := range runes {
		runes[i] = unicode.ToLower(c)
	}
	return runes
}

// eachWord calls f with the words of a folded text, each no longer than maxWord.
func eachWord(folded []rune, f func(word string)) {
	begin := -1
	for i := 0; i <= len(folded); i++ {
		in := i < len(folded) && isWord(folded[i])
		switch {
		case in && begin < 0:
			begin = i
		case !in && begin >= 0:
			f(string(folded[begin:min(i, begin+maxWord)]))
			begin = -1
		}
	}
}

// subject is a word that no text has, for the index to choose by session, user and target.
func subject(kind, name string) string {
	sum := sha256.Sum256([]byte(plain(name)))
	return kind + ":" + hex.EncodeToString(sum[:8])
}

// searched is what is looked for.
type searched struct {
	text   []rune // folded
	plain  string // text
	words  []string
	prefix bool // the last word may go on
}

// parseSearched reads what was typed: a text that stands on one line, at whose ends words end too, but for a "*"
// after the last one.
func parseSearched(typed string) (searched, error) {
	typed = strings.TrimSpace(plain(typed))
	if typed == "" {
		return searched{}, ErrNoWords
	}
	var q searched
	q.text = fold(typed)
	if n := len(q.text); n > minBeginning && q.text[n-1] == '*' && !slices.ContainsFunc(q.text[n-1-minBeginning:n-1], func(c rune) bool { return !isWord(c) }) {
		q.text, q.prefix = q.text[:n-1], true
	}
	q.plain = string(q.text)
	eachWord(q.text, func(word string) { q.words = append(q.words, word) })
	if len(q.words) == 0 {
		return searched{}, ErrNoWords
	}
	return q, nil
}

// find returns where in line the text stands first, in bytes, or -1.
func (q searched) find(line string) (from, to int) {
	folded := fold(line)
	n := len(q.text)
	for i := 0; i+n <= len(folded); i++ {
		if folded[i] != q.text[0] || !slices.Equal(folded[i:i+n], q.text) {
			continue
		}
		if i > 0 && isWord(q.text[0]) && isWord(folded[i-1]) {
			continue
		}
		if i+n < len(folded) && !q.prefix && isWord(q.text[n-1]) && isWord(folded[i+n]) {
			continue
		}
		original := []rune(line)
		return len(string(original[:i])), len(string(original[:i+n]))
	}
	return -1, -1
}

// beginning is the last word, if others that begin with it are meant too; else "".
func (q searched) beginning() string {
	if !q.prefix {
		return ""
	}
	return q.words[len(q.words)-1]
}

// others is q for the index without the word that may go on.
func (q searched) others() searched {
	if q.prefix {
		q.words, q.prefix = q.words[:len(q.words)-1], false
	}
	return q
}

// match is the text of the query for the index: all words, and all subjects. It is "" if there is none of either.
func (q searched) match(postgres bool, subjects []string) string {
	var terms []string
	last := len(q.words) - 1
	for i, word := range q.words {
		beginning := q.prefix && i == last
		switch {
		case postgres && beginning:
			terms = append(terms, "'"+word+"':*")
		case postgres:
			terms = append(terms, "'"+word+"'")
		case beginning:
			terms = append(terms, `"`+word+`"*`)
		default:
			terms = append(terms, `"`+word+`"`)
		}
	}
	quote, and := `"`, " AND "
	if postgres {
		quote, and = "'", " & "
	}
	for _, s := range subjects {
		terms = append(terms, quote+s+quote)
	}
	slices.Sort(terms)
	return strings.Join(slices.Compact(terms), and)
}

// blockWords are the words of some lines, each once, and the subjects, as the index takes them.
func blockWords(lines []SearchLine, subjects []string) []string {
	seen := map[string]bool{}
	for _, l := range lines {
		eachWord(fold(l.Text), func(word string) { seen[word] = true })
	}
	words := slices.Clone(subjects)
	for word := range seen {
		words = append(words, word)
	}
	slices.Sort(words)
	return words
}
