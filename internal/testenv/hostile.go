package testenv

import (
	"fmt"
	"strings"
)

// Hostile is something that a target prints to reach whoever looks at the recording.
type Hostile struct {
	Name   string
	Output string // what it prints
	Sizes  []Size // what the terminal's size becomes afterwards, one after the other
}

// Size is a terminal's columns and rows.
type Size struct{ Cols, Rows int }

// HostileEnd is printed after each of them: it ends what was begun and clears the screen, so that
// what follows can be seen.
const HostileEnd = "\x18\x1b\\\x1bc\x1b[0m\x1b(B\x0f\x1b[r\x1b[?1049l\x1b[?25h\x1b[H\x1b[2J"

// HostileRecordings are attacks by what a terminal is sent: every kind that has had a CVE in a
// terminal, a player or a log, and what is only large.
func HostileRecordings() []Hostile {
	list := []Hostile{
		{Name: "titles", Output: "\x1b]0;owned\x07\x1b]1;owned\x1b\\\x1b]2;<img src=x onerror=alert(1)>\x07\x1bkowned\x1b\\\x1b[22;0t\x1b[21t\x1b[20t"},
		{Name: "links", Output: "\x1b]8;;javascript:alert(1)\x07click here\x1b]8;;\x07 \x1b]8;id=1;https://evil.example/\x1b\\or here\x1b]8;;\x1b\\ \x1b]8;;data:text/html,<script>alert(1)</script>\x07x\x1b]8;;\x07 \x1b]8;;file:///etc/passwd\x07y\x1b]8;;\x07 https://evil.example/"},
		{Name: "clipboard", Output: "\x1b]52;c;ZXZpbA==\x07\x1b]52;c;?\x07\x1b]52;p;?\x1b\\\u009d52;c;ZXZpbA==\u009c\x1b]5522;type=read\x1b\\"},
		{Name: "questions", Output: "\x1b[c\x1b[0c\x1b[>c\x1b[=c\x1bZ\x1b[5n\x1b[6n\x1b[?6n\x1b[?15n\x1b[?996n\x1b[x\x1b[1x\x1b[>q\x1b[?2026$p\x1b[4$p\x1b[18t\x1b[14t\x1b[16t\x1b[19t\x1b[13t\x1b[11t\x05\x1b[1;1;1;1;24;80*y\x1b[?u\x1b[?4m"},
		{Name: "questions by strings", Output: "\x1b]4;1;?\x07\x1b]10;?\x07\x1b]11;?\x1b\\\x1b]12;?\x07\x1b]17;?\x07\x1b]50;?\x07\x1b]60\x07\x1b]104\x07\x1bP+q544e\x1b\\\x1bP$qm\x1b\\\x1bP$q\"p\x1b\\\x1bP1$t\x1b\\"},
		{Name: "tunnels", Output: "\x1bPtmux;\x1b\x1b]52;c;ZXZpbA==\x07\x1b\\\x1bP\x1b]52;c;ZXZpbA==\x07\x1b\\\x1bP1000p%begin 1 1\r\n%exit\r\n\x1b\\"},
		{Name: "keys", Output: "\x1bP0;1|17/726d202d7266202a0d\x1b\\\x1b]1337;SetKeyLabel=F1=x\x07\x1b[>4;2m\x1b[>31u\x1b[=31;1u\x1b[?1h\x1b=\x1b[?66h\x1b[?9001h"},
		{Name: "mouse and paste", Output: "\x1b[?9h\x1b[?1000h\x1b[?1001h\x1b[?1002h\x1b[?1003h\x1b[?1004h\x1b[?1005h\x1b[?1006h\x1b[?1015h\x1b[?1016h\x1b[?2004h\x1b[?2031h\x1b[?25;1003h"},
		{Name: "windows and printer", Output: "\x1b[2t\x1b[3;0;0t\x1b[8;1;1t\x1b[9;1t\x1b[10;1t\x1b[5i printed \x1b[4i\x1b[?5i\x1b[i\x1b#3\x1b#6\x1b#8\x1b[?3h\x1b[?40h\x1b[?3l"},
		{Name: "pictures", Output: "\x1b]1337;File=name=eA==;inline=1:aGVsbG8=\x07\x1b_Ga=T,f=100,t=f;L2V0Yy9wYXNzd2Q=\x1b\\\x1bPq#0;2;0;0;0#0!99999999~-\x1b\\\x1bP0;0;0q\"1;1;65535;65535#1~\x1b\\\x1bP0pS(E)P[0,0]V[100,100]\x1b\\"},
		{Name: "programs", Output: "\x1b]9;owned\x07\x1b]777;notify;owned;owned\x07\x1b]99;;owned\x1b\\\x1b]133;C\x07\x1b]7;file://evil.example/\x07\x1b]1337;OpenURL=:aHR0cHM6Ly9ldmlsLmV4YW1wbGUv\x07\x1b]1337;RunApplet=x\x07\x1b]66;s=7;big\x07\x1bPhook;{\"hook\":\"x\"}\x1b\\"},
		{Name: "markup", Output: "</script><script>alert(1)</script><img src=https://evil.example/x.png onerror=alert(1)><svg onload=alert(1)>\"'`]]>--><style>*{display:none}</style>{{.}}${alert(1)}&lt;b&gt;\r\n</pre></textarea></title><iframe srcdoc='<script>parent.alert(1)</script>'></iframe>"},
		{Name: "in another order", Output: "\u202egnp.exe\u202c \u2066a\u2067b\u2068c\u2069 \u061cx\u200ey\u200fz\u2028line\u2029paragraph \U000e0001\U000e0041 \ufeff\u200b\u200d\u00ad"},
		{Name: "controls", Output: "\x00\x00a\x00\x01\x02\x03\x04\x05\x06\x07\x0e\x10\x11\x13\x14\x15\x16\x17\x19\x1c\x1d\x1e\x1f\x7fb\x0f" + strings.Repeat("\x00", 1000)},
		{Name: "eight bits", Output: "\x9b31mraw\x9b6n\x9d0;owned\x07\x90q\x9c\u009b31mutf8\u009b6n\u009d0;owned\u009c\u0090q\u009c\u0098x\u009c\u009ex\u009c\u009fx\u009c\u0085\u008d\u0084"},
		{Name: "no UTF-8", Output: "\xff\xfe\xc0\x80\xe0\x80\x80\xf8\x88\x80\x80\x80\xed\xa0\x80\xf4\x90\x80\x80\xc3(\xe2\x82\xf0\x9f\x98"},
		{Name: "huge numbers", Output: "\x1b[99999999999999999999C\x1b[2147483648B\x1b[-1A\x1b[4294967296;4294967296Hx\x1b[1;99999999r\x1b[99999999S\x1b[99999999T\x1b[99999999L\x1b[99999999M\x1b[99999999@\x1b[99999999P\x1b[99999999X\x1b[99999999I\x1b[99999999Z"},
		{Name: "without end", Output: "x\x1b[999999999b\x1b[65535b" + strings.Repeat("\x1b[9999b", 200) + strings.Repeat("\x1b[9999L\x1b[9999S", 200)},
		{Name: "many numbers", Output: "\x1b[" + strings.Repeat("1;", 20_000) + "mx\x1b[" + strings.Repeat("38:2:", 20_000) + "my\x1b[?" + strings.Repeat("1049;", 10_000) + "h"},
		{Name: "odd regions", Output: "\x1b[5;2r\x1b[0;0r\x1b[?6h\x1b[999;999H\x1b[3;5r\x1bM\x1bM\x1bM\x1b[r\x1b[?69h\x1b[5;3s\x1b[?7lxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},
		{Name: "screens in turn", Output: strings.Repeat("\x1b[?1049hA\x1b[?1049l\x1b[?47hB\x1b[?47l\x1b[?1047h\x1b[?1048h", 100) + strings.Repeat("\x1bc", 500)},
		{Name: "cut sequences", Output: "\x1b[1\n;31\rmred\x1b[\x1b]0;x\x1b[6n\x07\x1b[3\x181m \x1b\x1b\x1b[32mgreen\x1b]0;\x1b\x1b\\\x1bP\x1bP\x1b\\ \x1b[?\x1b[31"},
		{Name: "a string without end", Output: "\x1b]0;" + strings.Repeat("owned ", 200_000)},
		{Name: "a picture without end", Output: "\x1bPq" + strings.Repeat("#1~-", 200_000)},
		{Name: "a long line", Output: strings.Repeat("long ", 200_000)},
		{Name: "marks on marks", Output: "e" + strings.Repeat("\u0301\u0323", 100_000) + "x" + strings.Repeat("a\u0300\u0301\u0302\u0303", 5000)},
		{Name: "wide and joined", Output: strings.Repeat("\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466\U0001f1e9\U0001f1ea\uac00\u1100\u1161\u0e33\ufdfd", 500)},
		{Name: "tabs and backspaces", Output: strings.Repeat("\t", 10_000) + strings.Repeat("\b", 10_000) + strings.Repeat("\x1bH\t\x1b[g", 2000) + strings.Repeat("\v\f", 1000)},
		{Name: "sizes", Output: "before", Sizes: []Size{{1, 1}, {1000, 1000}, {65535, 65535}, {2, 1000}, {1000, 2}, {-5, 0}, {80, 24}}},
	}
	flips := Hostile{Name: "many sizes", Output: "\x1b[1;5;7mcolours\x1b[?1049halternate"}
	for i := range 60 {
		flips.Sizes = append(flips.Sizes, Size{20 + i*37%200, 5 + i*13%60})
	}
	flips.Sizes = append(flips.Sizes, Size{80, 24})
	list = append(list, flips)
	var lines strings.Builder
	for i := range 5_000 {
		fmt.Fprintf(&lines, "\x1b[%dm%d\r\n", 30+i%8, i)
	}
	return append(list, Hostile{Name: "many lines", Output: lines.String()})
}
