package policy

import (
	"errors"
	"fmt"
	"strings"
)

// defaultEnv is what passes when a rule has no env: language and terminal, as sshd_config(5) AcceptEnv is
// shipped by distributions.
var defaultEnv = []string{"LANG", "LC_*", "TERM"}

// neverEnv are variables by which a person would choose what code a program on the target loads or runs
// before its own. No list of a rule lets them pass. A star stands at the end only.
var neverEnv = []string{
	"LD_*", "DYLD_*", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "HOSTALIASES", "MALLOC_*",
	"PATH", "IFS", "ENV", "BASH_ENV", "BASH_FUNC_*", "SHELLOPTS", "BASHOPTS", "PS4", "PROMPT_COMMAND", "ZDOTDIR", "FPATH",
	"PYTHON*", "PERL5*", "PERLLIB", "RUBYLIB", "RUBYOPT", "NODE_OPTIONS", "NODE_PATH", "LUA_*", "TCLLIBPATH", "PHPRC", "PHP_INI_SCAN_DIR",
	"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH", "GIT_CONFIG*", "GIT_EXEC_PATH", "GIT_SSH*",
}

// Env tells which environment variables a client may set on the target. The zero Env is that of a rule
// without env: LANG, LC_* and TERM.
type Env struct {
	lists [][]string // each must allow a name; nil entries stand for the default
}

// Allows tells whether a variable of this name may pass. Names with other characters than ASCII letters,
// digits and the underscore never do, and nor does what could make a program load code, see neverEnv.
func (e Env) Allows(name string) bool {
	if name == "" || len(name) > 128 || !isEnvText(name) || matchesEnv(neverEnv, name) {
		return false
	}
	if len(e.lists) == 0 {
		return matchesEnv(defaultEnv, name)
	}
	for _, list := range e.lists {
		if list == nil {
			list = defaultEnv
		}
		if !matchesEnv(list, name) {
			return false
		}
	}
	return true
}

// String lists the words as a rule has them; several rules' lists are joined by "and".
func (e Env) String() string {
	if len(e.lists) == 0 {
		return strings.Join(defaultEnv, " ")
	}
	var shown []string
	for _, list := range e.lists {
		if list == nil {
			list = defaultEnv
		}
		if s := strings.Join(list, " "); len(shown) == 0 || shown[len(shown)-1] != s {
			shown = append(shown, s)
		}
	}
	return strings.Join(shown, " and ")
}

// tighten gives the names that both allow.
func (e Env) tighten(other Env) Env {
	return Env{lists: append(append([][]string{}, e.lists...), other.lists...)}
}

func matchesEnv(words []string, name string) bool {
	for _, w := range words {
		if g, err := parseGlob(w); err == nil && g.match(name) {
			return true
		}
	}
	return false
}

func isEnvText(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// checkEnvWord refuses what is no name, and names that never pass: a rule must not seem to allow them.
func checkEnvWord(word string) error {
	switch plain := strings.ReplaceAll(word, "*", ""); {
	case word == "":
		return errors.New("a name is empty")
	case !isEnvText(plain):
		return fmt.Errorf("%s is not the name of an environment variable; * stands for any text", quote(word))
	}
	for _, never := range neverEnv {
		start, open := strings.CutSuffix(never, "*")
		if word == never || open && strings.HasPrefix(word, start) {
			return fmt.Errorf("%s never passes: it tells programs on the target what to load or run", quote(word))
		}
	}
	return nil
}
