package recorder

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Header is what is known when a recording begins.
type Header struct {
	Session string    // id of the session: 1 to 64 of 0-9 a-z A-Z -
	Channel int       // number of the channel in its session, from 0 to 9999
	Started time.Time // zero = now
	Width   int       // columns; 0 = 80, at most 1000
	Height  int       // rows; 0 = 24, at most 1000
	Term    string    // value of TERM, if there is a terminal
	Title   string    // what players show
	Command string    // command line of an exec, in full
	Kind    string    // kind of channel: shell, exec, sftp, …
	Tags    []string
	Limit   int64 // bytes of channel data that are kept; the rest is counted and hashed; 0 = no limit
}

// Terminal sizes. A player keeps a cell for every place of the screen, and the size comes from a
// stranger.
const (
	defaultCols = 80
	defaultRows = 24
	maxSide     = 1000
)

// maxLine is the longest line that is written or read. The longest SSH packet of x/crypto is
// 256 KiB, and a control character takes six bytes in JSON.
const maxLine = 2 << 20

// castHeader is the first line of a recording in asciicast v3. Players ignore what they do not
// know, so our own fields go into an object of our own.
type castHeader struct {
	Version   int       `json:"version"`
	Term      castTerm  `json:"term"`
	Timestamp int64     `json:"timestamp"` // s since 1970
	Command   string    `json:"command,omitempty"`
	Title     string    `json:"title,omitempty"`
	Tags      []string  `json:"tags,omitempty"`
	Own       ownHeader `json:"sallyport"`
}

type castTerm struct {
	Cols int    `json:"cols"`
	Rows int    `json:"rows"`
	Type string `json:"type,omitempty"`
}

type ownHeader struct {
	Session string    `json:"session"`
	Channel int       `json:"channel"`
	Node    string    `json:"node,omitempty"`
	Kind    string    `json:"kind,omitempty"`
	Started time.Time `json:"started"`
	Limit   int64     `json:"limit,omitempty"`
	Command []byte    `json:"command,omitempty"` // exact bytes of a command that is not UTF-8
}

// headerLine is the first line of the file for h, with its newline.
func headerLine(h Header, node string) ([]byte, error) {
	c := castHeader{
		Version:   3,
		Term:      castTerm{Cols: h.Width, Rows: h.Height, Type: h.Term},
		Timestamp: h.Started.Unix(),
		Command:   h.Command,
		Title:     h.Title,
		Tags:      h.Tags,
		Own: ownHeader{
			Session: h.Session, Channel: h.Channel, Node: node, Kind: h.Kind,
			Started: h.Started.UTC().Round(time.Microsecond), Limit: h.Limit,
		},
	}
	if !utf8.ValidString(h.Command) {
		c.Own.Command = []byte(h.Command)
	}
	line, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encoding the header of a recording: %w", err)
	}
	if line = escapeControls(line); len(line) >= maxLine {
		return nil, fmt.Errorf("the header of a recording would have %d bytes", len(line))
	}
	return append(line, '\n'), nil
}

// parseHeader reads the first line of a recording; it also returns the name of the node.
func parseHeader(line []byte) (Header, string, error) {
	var c castHeader
	if err := json.Unmarshal(line, &c); err != nil {
		return Header{}, "", fmt.Errorf("%w: its header is not JSON: %w", ErrDamaged, err)
	}
	if c.Version != 3 {
		return Header{}, "", fmt.Errorf("%w: asciicast version %d, not 3", ErrDamaged, c.Version)
	}
	h := Header{
		Session: c.Own.Session, Channel: c.Own.Channel, Started: c.Own.Started,
		Width: c.Term.Cols, Height: c.Term.Rows, Term: c.Term.Type,
		Title: c.Title, Command: c.Command, Kind: c.Own.Kind, Tags: c.Tags, Limit: c.Own.Limit,
	}
	if c.Own.Command != nil {
		h.Command = string(c.Own.Command)
	}
	return h, c.Own.Node, nil
}

// side is a terminal's width or height as it is recorded.
func side(n, whenZero int) int {
	if n <= 0 {
		return whenZero
	}
	return min(n, maxSide)
}

// appendEvent appends one line of the file: an event that comes the given number of microseconds
// after the one before. The text may hold any bytes.
func appendEvent(dst []byte, micros int64, code byte, text []byte) []byte {
	dst = appendEventStart(dst, micros, code)
	dst = appendText(dst, text)
	return append(dst, '"', ']', '\n')
}

// appendExact appends the event that announces the exact bytes of the next one.
func appendExact(dst []byte, micros int64, exact []byte) []byte {
	dst = appendEventStart(dst, micros, codeExact)
	dst = base64.StdEncoding.AppendEncode(dst, exact)
	return append(dst, '"', ']', '\n')
}

func appendEventStart(dst []byte, micros int64, code byte) []byte {
	dst = append(dst, '[')
	dst = appendSeconds(dst, micros)
	return append(dst, ',', '"', code, '"', ',', '"')
}

// appendSeconds writes microseconds as seconds, without exponent and without zeros at the end.
func appendSeconds(dst []byte, micros int64) []byte {
	dst = strconv.AppendInt(dst, micros/1e6, 10)
	rest := micros % 1e6
	if rest == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit := int64(1e5); rest > 0; unit /= 10 {
		dst = append(dst, byte('0'+rest/unit))
		rest %= unit
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// asIs marks the bytes that are an ASCII character standing for itself in a JSON string.
var asIs = func() (t [256]bool) {
	for c := byte(' '); c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendText appends p as the inside of a JSON string. Bytes that are not UTF-8 become U+FFFD.
// Control characters, C1 ones included, are escaped so that the file itself is harmless in a
// terminal, and U+2028 and U+2029 so that it is in JavaScript.
func appendText(dst, p []byte) []byte {
	done := 0
	for i := 0; i < len(p); {
		for i < len(p) && asIs[p[i]] {
			i++
		}
		if i == len(p) {
			break
		}
		if p[i] < utf8.RuneSelf {
			dst = append(dst, p[done:i]...)
			dst = appendEscape(dst, p[i])
			i++
			done = i
			continue
		}
		r, size := utf8.DecodeRune(p[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, p[done:i]...)
			dst = append(dst, "\uFFFD"...)
			done = i + size
		case r < 0xa0 || r == '\u2028' || r == '\u2029':
			dst = append(dst, p[done:i]...)
			dst = append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
			done = i + size
		}
		i += size
	}
	return append(dst, p[done:]...)
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// rawEvent is one line of the file.
type rawEvent struct {
	micros int64 // since the event before
	code   byte
	text   string
}

// errNotEvent is the cause of a line that cannot be read; the caller says which line.
var errNotEvent = errors.New("not an event of asciicast v3")

// maxMicros bounds one interval, so that sums cannot overflow: 30 years.
const maxMicros = 30 * 365 * 24 * 3600 * 1e6

// parseEvent reads one line of the file, without its newline.
func parseEvent(line []byte) (rawEvent, error) {
	rest, ok := bytes.CutPrefix(line, []byte("["))
	if !ok {
		return rawEvent{}, errNotEvent
	}
	number, rest, ok := bytes.Cut(rest, []byte(","))
	if !ok {
		return rawEvent{}, errNotEvent
	}
	micros, ok := parseSeconds(bytes.TrimSpace(number))
	if !ok {
		return rawEvent{}, errNotEvent
	}
	rest = bytes.TrimLeft(rest, " ")
	if len(rest) < 4 || rest[0] != '"' || rest[1] < 'a' || rest[1] > 'z' || rest[2] != '"' || rest[3] != ',' {
		return rawEvent{}, errNotEvent
	}
	code := rest[1]
	rest, ok = bytes.CutSuffix(bytes.TrimLeft(rest[4:], " "), []byte("]"))
	if !ok || len(rest) < 2 || rest[0] != '"' {
		return rawEvent{}, errNotEvent
	}
	text, ok := parseText(rest)
	if !ok {
		return rawEvent{}, errNotEvent
	}
	return rawEvent{micros: micros, code: code, text: text}, nil
}

// parseText reads a JSON string with its quotation marks.
func parseText(quoted []byte) (string, bool) {
	inside := quoted[1 : len(quoted)-1]
	if quoted[len(quoted)-1] == '"' && bytes.IndexByte(inside, '\\') < 0 && bytes.IndexByte(inside, '"') < 0 &&
		bytes.IndexFunc(inside, func(r rune) bool { return r < ' ' || r == utf8.RuneError }) < 0 {
		return string(inside), true
	}
	var text string
	if json.Unmarshal(quoted, &text) != nil {
		return "", false
	}
	return text, true
}

// parseSeconds reads a number of seconds with up to six decimals as microseconds.
func parseSeconds(number []byte) (int64, bool) {
	whole, decimals, dot := bytes.Cut(number, []byte("."))
	if len(whole) == 0 || len(whole) > 10 || len(whole) > 1 && whole[0] == '0' || dot && len(decimals) == 0 || len(decimals) > 6 {
		return 0, false
	}
	var micros int64
	for _, c := range whole {
		if c < '0' || c > '9' {
			return 0, false
		}
		micros = micros*10 + int64(c-'0')
	}
	for i := range 6 {
		micros *= 10
		if i < len(decimals) {
			if decimals[i] < '0' || decimals[i] > '9' {
				return 0, false
			}
			micros += int64(decimals[i] - '0')
		}
	}
	return micros, micros <= maxMicros
}

// addMicros adds an interval to a time without overflow.
func addMicros(at, interval int64) int64 {
	return at + min(interval, math.MaxInt64/1000-at)
}
