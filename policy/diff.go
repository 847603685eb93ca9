package policy

import (
	"fmt"
	"strings"
)

// diffContext is how many unchanged lines surround a change.
const diffContext = 3

// maxDiffCells bounds the table of the comparison; what is larger is shown as replaced as a whole.
const maxDiffCells = 4 << 20

// Diff gives the difference of two texts line by line in unified form, and nothing when they are equal.
func Diff(old, new string) string {
	if old == new {
		return ""
	}
	edits := diffLines(splitLines(old), splitLines(new))
	var b strings.Builder
	b.WriteString("--- current\n+++ new\n")
	for start := 0; start < len(edits); {
		start = nextChange(edits, start)
		if start == len(edits) {
			break
		}
		end := hunkEnd(edits, start)
		writeHunk(&b, edits, max(start-diffContext, 0), min(end+diffContext, len(edits)))
		start = end
	}
	return b.String()
}

// edit is one line of the difference: ' ' kept, '-' gone, '+' added.
type edit struct {
	sign byte
	line string
}

// splitLines keeps a note on a last line without its newline, so that such a change is seen.
func splitLines(s string) []string {
	lines := strings.SplitAfter(s, "\n")
	last := len(lines) - 1
	if lines[last] == "" {
		return lines[:last]
	}
	lines[last] += "\n\\ No newline at end of file\n"
	return lines
}

// diffLines leaves aside what is equal at both ends and compares the rest by longest common subsequence.
func diffLines(old, new []string) []edit {
	var edits, tail []edit
	for len(old) > 0 && len(new) > 0 && old[0] == new[0] {
		edits = append(edits, edit{' ', old[0]})
		old, new = old[1:], new[1:]
	}
	same := 0
	for same < len(old) && same < len(new) && old[len(old)-1-same] == new[len(new)-1-same] {
		same++
	}
	for _, line := range old[len(old)-same:] {
		tail = append(tail, edit{' ', line})
	}
	old, new = old[:len(old)-same], new[:len(new)-same]

	common := commonLengths(old, new)
	i, j := 0, 0
	for i < len(old) || j < len(new) {
		switch {
		case i < len(old) && j < len(new) && common != nil && old[i] == new[j]:
			edits = append(edits, edit{' ', old[i]})
			i, j = i+1, j+1
		case i < len(old) && (j == len(new) || common == nil || common[i+1][j] >= common[i][j+1]):
			edits = append(edits, edit{'-', old[i]})
			i++
		default:
			edits = append(edits, edit{'+', new[j]})
			j++
		}
	}
	return append(edits, tail...)
}

// commonLengths gives for each pair of places how many lines the rests have in common, or nil when the
// table would be too large.
func commonLengths(old, new []string) [][]int32 {
	if (len(old)+1)*(len(new)+1) > maxDiffCells {
		return nil
	}
	table := make([][]int32, len(old)+1)
	for i := range table {
		table[i] = make([]int32, len(new)+1)
	}
	for i := len(old) - 1; i >= 0; i-- {
		for j := len(new) - 1; j >= 0; j-- {
			if old[i] == new[j] {
				table[i][j] = table[i+1][j+1] + 1
			} else {
				table[i][j] = max(table[i+1][j], table[i][j+1])
			}
		}
	}
	return table
}

func nextChange(edits []edit, from int) int {
	for from < len(edits) && edits[from].sign == ' ' {
		from++
	}
	return from
}

// hunkEnd gives the end of the last change that shares its context with the one at start.
func hunkEnd(edits []edit, start int) int {
	end := start
	for {
		for end < len(edits) && edits[end].sign != ' ' {
			end++
		}
		next := nextChange(edits, end)
		if next == len(edits) || next-end > 2*diffContext {
			return end
		}
		end = next
	}
}

func writeHunk(b *strings.Builder, edits []edit, start, end int) {
	count := func(edits []edit, sign byte) int {
		n := 0
		for _, e := range edits {
			if e.sign == ' ' || e.sign == sign {
				n++
			}
		}
		return n
	}
	hunk := edits[start:end]
	fmt.Fprintf(b, "@@ -%s +%s @@\n",
		hunkRange(count(edits[:start], '-'), count(hunk, '-')),
		hunkRange(count(edits[:start], '+'), count(hunk, '+')))
	for _, e := range hunk {
		b.WriteByte(e.sign)
		b.WriteString(e.line)
	}
}

// hunkRange writes first line and number of lines; an empty range names the line before it.
func hunkRange(before, lines int) string {
	if lines > 0 {
		before++
	}
	return fmt.Sprintf("%d,%d", before, lines)
}
