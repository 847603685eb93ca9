package policy

import "testing"

func TestEnv(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		lines   string
		allowed []string
		refused []string
	}{
		{"channels: [shell]", []string{"LANG", "LC_ALL", "TERM"}, []string{"", "LANGUAGE", "lang", "APP", "LC_A=B", "LC_\x00", "PATH"}},
		{`env: [APP_MODE, "X_*", "*_SAFE"]`, []string{"APP_MODE", "X_", "X_1", "MY_SAFE"}, []string{"LANG", "TERM", "APP_MODES", "LD_SAFE", "PYTHON_SAFE"}},
		{`env: ["*"]`, []string{"LANG", "A", "a1_"}, []string{
			"LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "BASH_ENV", "ENV", "SHELLOPTS", "IFS", "PYTHONPATH", "PERL5LIB", "PERL5OPT", "RUBYOPT",
			"NODE_OPTIONS", "GIT_SSH_COMMAND", "BASH_FUNC_ls", "BASH_FUNC_ls%%", "A B", "A=B", "\u00c4",
		}},
	} {
		env := mustParse(t, rule(tc.lines)).Decide(request(nil)).Env
		for _, name := range tc.allowed {
			if !env.Allows(name) {
				t.Errorf("%s: %q does not pass", tc.lines, name)
			}
		}
		for _, name := range tc.refused {
			if env.Allows(name) {
				t.Errorf("%s: %q passes", tc.lines, name)
			}
		}
	}
}
