package auth_test

import (
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/otp"
	"sallyport/store"
)

// stocked puts a token into the stock.
func (w *world) stocked(serial string, secret otp.Secret) {
	w.t.Helper()
	ctx := w.t.Context()
	i, err := w.Store.Imports.Begin(ctx, store.ImportTokens, "console")
	check(w.t, err)
	check(w.t, w.Store.Imports.AddTokens(ctx, i.ID, []store.ImportedToken{{Token: store.Token{Name: "box", Serial: serial}, Secret: secret}}))
	check(w.t, w.Store.Imports.Commit(ctx, i.ID))
}

func TestAssignBySerial(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	u := w.local("dave", davesPassword)
	secret := otp.NewSecret()
	w.stocked("SN1", secret)
	p := otp.DefaultParams()
	shown := func(ahead int64) string { return p.Code(secret, p.StepAt(w.now)+ahead) }
	codes, err := w.Engine.NewRecoveryCodes(t.Context(), u, "root")
	check(t, err)
	id, _, err := w.enter(auth.Attempt{}, codes[0])
	check(t, err)

	var told []string
	for _, try := range [][3]string{
		{"SN2", shown(0), shown(1)}, {"SN1", shown(1), shown(0)}, {"SN1", shown(0), shown(0)}, {"", shown(0), shown(1)},
	} {
		_, err := w.Engine.AssignBySerial(t.Context(), *id, try[0], try[1], try[2])
		told = append(told, err.Error())
		if r, ok := err.(*auth.Refused); !ok || r.Public == "" {
			t.Fatalf("%v: %v", try, err)
		} else if told = append(told[:len(told)-1], r.Public); told[0] != r.Public {
			t.Errorf("%v is told apart: %q", try, r.Public)
		}
	}
	_, err = w.Engine.AssignBySerial(t.Context(), *id, "SN9", "000000", "000000")
	w.refused(err, auth.ErrNoToken)
	_, err = w.Engine.AssignBySerial(t.Context(), *id, "SN1", shown(0), shown(1))
	w.refused(err, auth.ErrLocked) // with the fifth failure nothing is looked at, not even what is right
	w.now = w.now.Add(16 * time.Minute)

	uncoded := *id
	uncoded.CodeAt = time.Time{}
	if _, err = w.Engine.AssignBySerial(t.Context(), uncoded, "SN1", shown(0), shown(1)); err == nil || !strings.Contains(err.(*auth.Refused).Public, "code first") {
		t.Errorf("a login without a code: %v", err)
	}
	token, err := w.Engine.AssignBySerial(t.Context(), *id, "SN1", shown(-6), shown(-5))
	check(t, err)
	if token.UserID != u.ID || !token.Hardware || token.Drift != -5 || token.LastStep != p.StepAt(w.now)-5 {
		t.Errorf("token %+v", token)
	}
	_, err = w.Engine.AssignBySerial(t.Context(), *id, "SN1", shown(-4), shown(-3))
	w.refused(err, auth.ErrNoToken)
	_, _, err = w.enter(auth.Attempt{}, shown(-5))
	w.refused(err, auth.ErrReplay)
	if _, _, err = w.enter(auth.Attempt{}, shown(-4)); err != nil {
		t.Errorf("the next code: %v", err)
	}
	if e := w.eventsOf(audit.TokenEnrolled); len(e) != 1 || e[0].Result != audit.OK || e[0].Detail["serial"] != "SN1" {
		t.Errorf("events %+v", e)
	}
	if e := w.eventsOf(audit.TokenNotTaken); len(e) != 8 || e[0].Result != audit.Refused {
		t.Errorf("%d events of refusals", len(e))
	}
}

// Where enrolments need an operator's approval, nobody takes a token out of the stock by themselves.
func TestAssignBySerialNeedsApproval(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "", func(c *auth.Config) { c.ApproveEnrolments = true })
	u := w.local("dave", davesPassword)
	secret := otp.NewSecret()
	w.stocked("SN1", secret)
	codes, err := w.Engine.NewRecoveryCodes(t.Context(), u, "root")
	check(t, err)
	id, _, err := w.enter(auth.Attempt{}, codes[0])
	check(t, err)
	p := otp.DefaultParams()
	_, err = w.Engine.AssignBySerial(t.Context(), *id, "SN1", p.Code(secret, p.StepAt(w.now)), p.Code(secret, p.StepAt(w.now)+1))
	if r, ok := err.(*auth.Refused); !ok || !strings.Contains(r.Public, "operator has to approve") {
		t.Errorf("got %v", err)
	}
}
