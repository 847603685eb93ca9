package session

import (
	"strings"
	"unicode"
)

// Channel kinds of the rules that a session channel can be.
const (
	kindShell = "shell"
	kindExec  = "exec"
	kindSFTP  = "sftp"

	kindSubsystem = "subsystem" // another one; the command is its name
)

// shortcut names the kind of a command that is one of the well-known file transfer programs and
// nothing else: "scp", "rsync", "git" or "". The whole command is looked at to its end; any shell
// metacharacter makes it an ordinary exec. It is a label for rules and lists, not a confinement:
// whoever may exec may do all of this too.
func shortcut(command string) string {
	words := strings.Fields(command)
	if len(words) < 2 || strings.ContainsAny(command, "\n\r;&|<>`$(){}!\\\"") || strings.ContainsFunc(command, strangeSpace) {
		return ""
	}
	// One pair of single quotes around the last word is how scp and git quote a path.
	if n := strings.Count(command, "'"); n != 0 && (n != 2 || !strings.HasSuffix(command, "'") || !strings.Contains(command, " '")) {
		return ""
	}
	switch words[0] {
	case "scp":
		if isSCP(command) {
			return "scp"
		}
	case "rsync":
		if isRsync(words[1:]) {
			return "rsync"
		}
	case "git-upload-pack", "git-receive-pack", "git-upload-archive":
		if isGit(strings.TrimLeft(strings.TrimPrefix(command, words[0]), " \t")) {
			return "git"
		}
	}
	return ""
}

// strangeSpace tells that r separates words here and not in a shell, or ends a command where C is spoken: sshd takes
// a NUL at its end.
func strangeSpace(r rune) bool { return r == 0 || r != ' ' && r != '\t' && unicode.IsSpace(r) }

// isGit tells that what stands behind the program is one path, as clients send it, and no option: --help opens a manual in a
// pager, and that a shell.
func isGit(path string) bool {
	if quoted, ok := strings.CutPrefix(path, "'"); ok {
		return !strings.HasPrefix(quoted, "-")
	}
	return len(strings.Fields(path)) == 1 && !strings.ContainsAny(path, "'*?[") && !strings.HasPrefix(path, "-")
}

// isSCP tells that command is the far end of a copy: flags that only say how, one of them which way, and one path. Programs
// write them apart or together (-p -t, -pt). Any other flag, such as -S and -o, names a program or an option of ssh.
func isSCP(command string) bool {
	flags, _, quoted := strings.Cut(command, " '")
	words := strings.Fields(flags)[1:]
	if !quoted {
		words = words[:len(words)-1] // the path
	}
	ways := 0
	for i, w := range words {
		switch letters, isFlag := strings.CutPrefix(w, "-"); {
		case letters == "-" && i == len(words)-1:
		case !isFlag || letters == "" || strings.Trim(letters, "vrpdqtf") != "":
			return false
		default:
			ways += strings.Count(letters, "t") + strings.Count(letters, "f")
		}
	}
	return ways == 1
}

// otherRsync are options that make something else of `rsync --server`: a daemon, whose configuration runs any command before a
// transfer, or a program to connect with.
var otherRsync = []string{"--daemon", "--config", "--dparam", "--detach", "--no-detach", "--rsh", "--rsync-path"}

// isRsync tells that the words behind rsync are the far end of a copy. Options stand anywhere among them, so that the name of a
// file that the shell on the target would put in the place of a pattern may be one.
func isRsync(words []string) bool {
	for _, w := range words[1:] {
		w = strings.Trim(w, "'")
		if strings.HasPrefix(w, "-") && strings.ContainsAny(w, "*?[") || strings.HasPrefix(w, "*") || strings.HasPrefix(w, "?") || strings.HasPrefix(w, "[") {
			return false
		}
		for _, option := range otherRsync {
			if strings.HasPrefix(w, option) {
				return false
			}
		}
	}
	return words[0] == "--server"
}

// noUDP is what the person reads instead of a mosh that never connects.
const noUDP = "mosh needs UDP between you and the target, and only SSH passes through here. Use ssh with ServerAliveInterval=15, and tmux or screen on the target " +
	"to find your work again after a break"

// isMosh tells that a command is what mosh(1) runs over ssh. Its server would wait on the target for packets that
// cannot come. Whoever starts it in another way gains nothing, so that only the plain form is looked for.
func isMosh(command string) bool {
	program, _, _ := strings.Cut(strings.TrimSpace(command), " ")
	return program == "mosh-server" || strings.HasSuffix(program, "/mosh-server")
}
