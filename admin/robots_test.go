package admin

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	robotKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
	otherKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJm"
)

func deployBot() NewRobot {
	return NewRobot{
		Name: "Deploy-Bot", PublicKey: robotKey + " deploy", Sources: []string{"192.0.2.7", "2001:db8::1/64"}, Targets: []string{"web1", "env=prod"},
		Accounts: []string{"deploy"}, Commands: []string{"systemctl restart app", "uptime"}, Note: "from the build server",
	}
}

func TestRobotsAPI(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := do[Robot](f, 200, "POST", "/robots", deployBot())
	if r.Name != "deploy-bot" || r.State != "ok" || r.PublicKey != robotKey || r.Expires != nil || !slices.Equal(r.Sources, []string{"192.0.2.7/32", "2001:db8::/64"}) {
		t.Errorf("new robot %+v", r)
	}
	f.refused(409, "POST", "/robots", deployBot())
	f.addUser("dave")
	for what, c := range map[string]struct {
		status int
		change func(*NewRobot)
		detail string
	}{
		"a user's name":     {409, func(n *NewRobot) { n.Name = "DAVE" }, "dave"},
		"the same key":      {409, func(n *NewRobot) { n.PublicKey = robotKey }, "belongs to"},
		"no name":           {422, func(n *NewRobot) { n.Name = "a b" }, "login"},
		"options":           {422, func(n *NewRobot) { n.PublicKey = `from="192.0.2.1" ` + otherKey }, "options"},
		"no key":            {422, func(n *NewRobot) { n.PublicKey = "x" }, "public key"},
		"no sources":        {422, func(n *NewRobot) { n.Sources = nil }, "sources"},
		"the whole world":   {422, func(n *NewRobot) { n.Sources = []string{"0.0.0.0/0"} }, "covers all of IPv4"},
		"half and half":     {422, func(n *NewRobot) { n.Sources = []string{"0.0.0.0/1", "128.0.0.0/1"} }, "covers all of IPv4"},
		"a name as source":  {422, func(n *NewRobot) { n.Sources = []string{"office"} }, "neither"},
		"mapped":            {422, func(n *NewRobot) { n.Sources = []string{"::ffff:192.0.2.0/120"} }, "IPv4"},
		"no targets":        {422, func(n *NewRobot) { n.Targets = []string{} }, "targets"},
		"a broken target":   {422, func(n *NewRobot) { n.Targets = []string{"[a-z]"} }, "glob"},
		"no accounts":       {422, func(n *NewRobot) { n.Accounts = nil }, "accounts"},
		"no commands":       {422, func(n *NewRobot) { n.Commands = nil }, "commands"},
		"an empty command":  {422, func(n *NewRobot) { n.Commands = []string{""} }, "command"},
		"a trailing blank":  {422, func(n *NewRobot) { n.Commands = []string{"id "} }, "blank"},
		"two lines":         {422, func(n *NewRobot) { n.Commands = []string{"id\nid"} }, "command"},
		"the same twice":    {422, func(n *NewRobot) { n.Commands = []string{"id", "id"} }, "twice"},
		"expired":           {422, func(n *NewRobot) { at := time.Now().Add(-time.Hour); n.Expires = &at }, "expired"},
		"a note to be seen": {422, func(n *NewRobot) { n.Note = "x\x1b[2J" }, "note"},
	} {
		n := deployBot()
		n.Name, n.PublicKey = "other-bot", otherKey
		c.change(&n)
		if p := f.refused(c.status, "POST", "/robots", n); !strings.Contains(p.Detail, c.detail) {
			t.Errorf("%s: %+v, want %q", what, p, c.detail)
		}
	}
	if p := f.refused(409, "POST", "/users", NewUser{Login: "deploy-bot"}); !strings.Contains(p.Detail, "robot") {
		t.Errorf("a user of its name: %+v", p)
	}
	if p := f.refused(409, "POST", "/users/dave/keys", NewUserKey{PublicKey: robotKey}); !strings.Contains(p.Detail, "robot") {
		t.Errorf("its key for a user: %+v", p)
	}

	off, note := false, "moved"
	at := time.Now().Add(90 * 24 * time.Hour).UTC().Truncate(time.Millisecond)
	r = do[Robot](f, 200, "PATCH", "/robots/DEPLOY-bot", RobotChange{Enabled: &off, Note: &note, Expires: &at, Commands: []string{"id"}})
	if r.State != "disabled" || r.Note != "moved" || r.Expires == nil || !r.Expires.Equal(at) || !slices.Equal(r.Commands, []string{"id"}) || len(r.Targets) != 2 {
		t.Errorf("changed robot %+v", r)
	}
	f.refused(422, "PATCH", "/robots/deploy-bot", RobotChange{Sources: []string{"::/0"}})
	f.refused(404, "PATCH", "/robots/nobody", RobotChange{Note: &note})
	if got := do[Robot](f, 200, "GET", "/robots/deploy-bot", nil); got.ID != r.ID || got.Sources[0] != "192.0.2.7/32" {
		t.Errorf("shown %+v", got)
	}
	if got := do[Robot](f, 200, "PATCH", "/robots/deploy-bot", RobotChange{NeverExpires: true}); got.Expires != nil {
		t.Errorf("expires %v", got.Expires)
	}
	if all := do[[]Robot](f, 200, "GET", "/robots", nil); len(all) != 1 {
		t.Errorf("list %+v", all)
	}
	do[any](f, 204, "DELETE", "/robots/deploy-bot", nil)
	f.refused(404, "DELETE", "/robots/deploy-bot", nil)
	want := []string{"robot.remove api-token robot api deploy-bot ", "robot.update api-token robot api deploy-bot ", "robot.update api-token robot api deploy-bot ",
		"user.add api-token robot api dave ", "robot.add api-token robot api deploy-bot "}
	got := f.changes()
	if got = slices.DeleteFunc(got, func(c string) bool { return strings.HasPrefix(c, "user.add") }); !slices.Equal(got, slices.DeleteFunc(want, func(c string) bool { return strings.HasPrefix(c, "user.add") })) {
		t.Errorf("changes %q", got)
	}
}

func TestUserCAsAPI(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := do[LoginCA](f, 200, "POST", "/user-cas", NewLoginCA{Name: "people", PublicKey: robotKey + " ca"})
	if c.Name != "people" || !c.Enabled || c.PublicKey != robotKey || len(c.Revoked) != 0 {
		t.Errorf("new CA %+v", c)
	}
	f.refused(409, "POST", "/user-cas", NewLoginCA{Name: "people", PublicKey: otherKey})
	f.refused(409, "POST", "/user-cas", NewLoginCA{Name: "others", PublicKey: robotKey})
	f.refused(422, "POST", "/user-cas", NewLoginCA{Name: "a b", PublicKey: otherKey})
	for _, key := range []string{"x", "cert-authority " + otherKey, "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7", robotKey + "\n" + otherKey} {
		f.refused(422, "POST", "/user-cas", NewLoginCA{Name: "others", PublicKey: key})
	}
	for _, n := range []NewRevocation{{}, {Serial: "1", KeyID: "x"}, {Serial: "-1"}, {Serial: "x"}, {Serial: "99999999999999999999"}} {
		f.refused(422, "POST", "/user-cas/people/revocations", n)
	}
	do[LoginCA](f, 200, "POST", "/user-cas/people/revocations", NewRevocation{Serial: "0042"})
	c = do[LoginCA](f, 200, "POST", "/user-cas/people/revocations", NewRevocation{KeyID: "lost \x1b laptop"})
	if len(c.Revoked) != 2 || !slices.ContainsFunc(c.Revoked, func(r Revocation) bool { return r.Kind == "serial" && r.Value == "42" }) ||
		slices.ContainsFunc(c.Revoked, func(r Revocation) bool { return strings.Contains(r.Value, "\x1b") }) {
		t.Errorf("revoked %+v", c.Revoked)
	}
	if c = do[LoginCA](f, 200, "PATCH", "/user-cas/people", LoginCAChange{Enabled: false}); c.Enabled || len(c.Revoked) != 2 {
		t.Errorf("disabled %+v", c)
	}
	if all := do[[]LoginCA](f, 200, "GET", "/user-cas", nil); len(all) != 1 || all[0].Enabled {
		t.Errorf("list %+v", all)
	}
	f.refused(404, "PATCH", "/user-cas/others", LoginCAChange{Enabled: true})
	f.refused(404, "POST", "/user-cas/others/revocations", NewRevocation{Serial: "1"})
	do[any](f, 204, "DELETE", "/user-cas/people", nil)
	f.refused(404, "DELETE", "/user-cas/people", nil)
}

// The pages do the same: what was typed comes back with the reason, and what was added is shown.
func TestRobotPages(t *testing.T) {
	t.Parallel()
	w := newPageWorld(t)
	w.furnish()
	ada := w.signedIn("ada")
	form := func(name, key, days string) []string {
		return []string{"name", name, "key", key, "sources", "192.0.2.9, 2001:db8::/48", "targets", "db1", "accounts", "backup",
			"commands", "pg_dump --format=c,x\r\n\r\nuptime\r\n", "days", days}
	}
	if status, _, _ := ada.post("/robots", form("backup-bot", robotKey, "30")...); status != http.StatusSeeOther {
		t.Fatalf("adding: status %d", status)
	}
	r, err := w.Store.Robots.ByName(t.Context(), "backup-bot")
	must(t, err)
	if !slices.Equal(r.Commands, []string{"pg_dump --format=c,x", "uptime"}) || len(r.Sources) != 2 || r.Expires.Sub(w.now()) < 29*24*time.Hour {
		t.Errorf("robot %+v", r)
	}
	if _, body, _ := ada.get("/robots"); !strings.Contains(body, "backup-bot") || !strings.Contains(body, "pg_dump --format=c,x") || !strings.Contains(body, "never") {
		t.Errorf("the page says\n%s", body)
	}
	if status, body, _ := ada.post("/robots", form("x-bot", otherKey, "soon")...); status != 422 || !strings.Contains(body, `value="x-bot"`) || !strings.Contains(body, "number of days") {
		t.Errorf("a broken form: status %d\n%s", status, body)
	}
	if status, _, _ := ada.post("/robots/backup-bot/disable"); status != http.StatusSeeOther {
		t.Errorf("disabling: status %d", status)
	}
	if r, err := w.Store.Robots.ByName(t.Context(), "backup-bot"); err != nil || r.Enabled {
		t.Errorf("after disabling: %+v, %v", r, err)
	}
	if _, body, _ := ada.get("/user-cas"); !strings.Contains(body, "people") || strings.Contains(body, "\x1b") {
		t.Errorf("the authorities:\n%s", body)
	}
	if status, _, _ := ada.post("/user-cas/people/revoke", "serial", "7"); status != http.StatusSeeOther {
		t.Errorf("revoking: status %d", status)
	}
	ca, err := w.Store.UserCAs.ByName(t.Context(), "people")
	must(t, err)
	if revoked, err := w.Store.UserCAs.Revoked(t.Context(), ca.ID, 7, ""); err != nil || !revoked {
		t.Errorf("revoked %v, %v", revoked, err)
	}
}
