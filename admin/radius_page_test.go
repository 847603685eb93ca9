package admin

import "testing"

// What the command line is told to type, the page does by a link.
func TestRadiusFindingsOnPage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		hint, want string
		change     bool
	}{
		{"compare the secrets; a new one: sallyport radius client update vpn --generate-secret", "Compare the secrets; a new one:", true},
		{"switch it on there, then: sallyport radius client update vpn --message-authenticator yes", "Switch it on there:", true},
		{"sallyport radius client enable vpn", "", false},
		{"look at its address and port, at firewalls on the way, and at: sallyport radius strangers", "Look at its address and port, at firewalls on the way, and at the strangers below.", false},
		{"have it send PAP", "Have it send PAP.", false},
		{"", "", false},
	} {
		got := onPage([]RadiusFinding{{"error", "text", c.hint}})[0]
		if got.Hint != c.want || got.Change != c.change {
			t.Errorf("%q becomes %q, %v; want %q, %v", c.hint, got.Hint, got.Change, c.want, c.change)
		}
	}
}
