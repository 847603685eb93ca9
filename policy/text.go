package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxWord is how long a name, a word of a list or a message may be, in bytes.
const maxWord = 512

// fold brings names of people and groups into the form in which they are compared: NFC, ASCII letters
// lower case. Other letters keep their case, so that no two different people ever become one.
func fold(name string) string {
	ascii := true
	for i := 0; i < len(name) && ascii; i++ {
		ascii = name[i] < utf8.RuneSelf
	}
	if !ascii {
		name = norm.NFC.String(name)
	}
	return lowerASCII(name)
}

func lowerASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// checkText refuses what could not be printed on one line.
func checkText(s string) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len(s) > maxWord:
		return fmt.Errorf("is longer than %d bytes", maxWord)
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	case strings.TrimSpace(s) != s:
		return fmt.Errorf("%s has blanks at its ends", quote(s))
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return fmt.Errorf("%s has a character that cannot be printed", quote(s))
		}
	}
	return nil
}

// quote makes s safe for a message: quoted, escaped and cut.
func quote(s string) string {
	const most = 64
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return strconv.QuoteToGraphic(s)
}

// show is quote for a trace: plain when nothing in s needs escaping.
func show(s string) string {
	for _, c := range s {
		if !unicode.IsPrint(c) || c == utf8.RuneError {
			return quote(s)
		}
	}
	if s == "" || len(s) > 64 {
		return quote(s)
	}
	return s
}

// showList prints a list of words as the document has it, cut after eight.
func showList(words []string) string {
	const most = 8
	more := ""
	if len(words) > most {
		more = fmt.Sprintf(", and %d more", len(words)-most)
		words = words[:most]
	}
	shown := make([]string, len(words))
	for i, w := range words {
		shown[i] = show(w)
	}
	return "[" + strings.Join(shown, ", ") + more + "]"
}

const maxDuration = 3650 * 24 * time.Hour

// durationUnits are the units of a duration, largest first; they must be written in this order.
var durationUnits = []struct {
	letter byte
	value  time.Duration
}{{'d', 24 * time.Hour}, {'h', time.Hour}, {'m', time.Minute}, {'s', time.Second}}

// parseDuration reads whole numbers with units, such as 30m, 1h30m or 7d. Zero is refused.
func parseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%s is not a duration: write whole numbers with d, h, m or s, such as 30m or 1h30m", quote(s))
	var total time.Duration
	rest, unit := s, 0
	for rest != "" {
		digits := 0
		for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
			digits++
		}
		if digits == 0 || digits > 9 || digits == len(rest) {
			return 0, bad
		}
		for unit < len(durationUnits) && durationUnits[unit].letter != rest[digits] {
			unit++
		}
		if unit == len(durationUnits) {
			return 0, bad
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil {
			return 0, bad
		}
		if n > int64(maxDuration/durationUnits[unit].value) {
			return 0, fmt.Errorf("%s is longer than ten years", quote(s))
		}
		total += time.Duration(n) * durationUnits[unit].value
		rest, unit = rest[digits+1:], unit+1
	}
	if s == "" {
		return 0, bad
	}
	return total, checkDuration(total)
}

// checkDuration refuses what parseDuration could not have read.
func checkDuration(d time.Duration) error {
	switch {
	case d <= 0:
		return errors.New("a duration must be above zero: leave the key out instead")
	case d > maxDuration:
		return errors.New("a duration must not be longer than ten years")
	case d%time.Second != 0:
		return errors.New("a duration must be whole seconds")
	}
	return nil
}

// formatDuration writes a duration so that parseDuration reads it back: 8h, 1h30m.
func formatDuration(d time.Duration) string {
	var b strings.Builder
	for _, u := range durationUnits[1:] {
		if n := d / u.value; n > 0 {
			fmt.Fprintf(&b, "%d%c", n, u.letter)
			d -= n * u.value
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

// maxSize bounds sizes, in bytes.
const maxSize = 1 << 40

// sizeUnits are the units of a size, largest first.
var sizeUnits = []struct {
	name  string
	value int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// parseSize reads a whole number with a unit, such as 16MiB.
func parseSize(s string) (int64, error) {
	for _, u := range sizeUnits {
		digits, found := strings.CutSuffix(s, u.name)
		if !found {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 40)
		if err != nil {
			break
		}
		if int64(n) > maxSize/u.value {
			return 0, fmt.Errorf("%s is more than 1024GiB", quote(s))
		}
		return int64(n) * u.value, checkSize(int64(n) * u.value)
	}
	return 0, fmt.Errorf("%s is not a size: write a whole number with B, KiB, MiB or GiB, such as 16MiB", quote(s))
}

func checkSize(n int64) error {
	switch {
	case n <= 0:
		return errors.New("a size must be above zero: to record nothing, write recording: off")
	case n > maxSize:
		return errors.New("a size must not be more than 1024GiB")
	}
	return nil
}

// formatSize writes a size so that parseSize reads it back, in the largest unit that fits evenly.
func formatSize(n int64) string {
	for _, u := range sizeUnits {
		if n%u.value == 0 {
			return fmt.Sprintf("%d%s", n/u.value, u.name)
		}
	}
	return fmt.Sprintf("%dB", n)
}
