package admin

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"sallyport/internal/web"
	"sallyport/store"
)

// radiusTyped is the form of a RADIUS client: what was typed, and as JSON in a hidden field what it began with.
type radiusTyped struct {
	Name, Networks, NAS, Certificate, CertificateName, Mode, Separator, Signed, Attribute, Hours, Note string
	Sends, Asserts, CHAP, MSCHAP                                                                       bool
}

type radiusEditData struct {
	Typed   radiusTyped
	Was     string // radiusTyped as JSON, of what is changed; "": a new one is made
	Action  string
	Button  string
	NewOnly bool
}

// typedOf is a client as the form shows it.
func typedOf(c RadiusClient) radiusTyped {
	return radiusTyped{
		Name: c.Name, Networks: strings.Join(c.Networks, ", "), NAS: c.NASIdentifier, Certificate: c.Certificate, CertificateName: c.CertificateName, Mode: c.Mode, Separator: c.Separator,
		Signed: c.MessageAuthenticator, Attribute: c.SourceAttribute, Hours: hours(c.Remember), Note: c.Note,
		Sends: c.SendsMessageAuthenticator, Asserts: c.AssertsSource, CHAP: c.CHAP, MSCHAP: c.LegacyMSCHAPv2,
	}
}

// hours writes seconds as hours, without what is 0 behind the point.
func hours(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(seconds)/3600, 'f', -1, 64)
}

// typedRadius is what the form has sent.
func typedRadius(v *visit) radiusTyped {
	on := func(name string) bool { return v.typed(name) != "" }
	return radiusTyped{
		Name: v.typed("name"), Networks: v.typed("networks"), NAS: v.typed("nas"), Certificate: v.typed("certificate"), CertificateName: v.typed("certificate_name"), Mode: v.typed("mode"),
		Separator: v.r.PostFormValue("separator"), Signed: v.typed("signed"), Attribute: v.typed("attribute"), Hours: v.typed("hours"), Note: v.typed("note"),
		Sends: on("sends"), Asserts: on("asserts"), CHAP: on("chap"), MSCHAP: on("mschap"),
	}
}

// change is what was typed that was not there before, so that what somebody else changes meanwhile stays.
func (f radiusTyped) change(was radiusTyped) (RadiusClientChange, error) {
	n := RadiusClientChange{}
	if f.Networks != was.Networks {
		if n.Networks = listOf(f.Networks); len(n.Networks) == 0 {
			return n, invalid("name the addresses that it asks from", "the addresses are missing")
		}
	}
	for _, w := range []struct {
		now, before string
		to          **string
	}{{f.NAS, was.NAS, &n.NASIdentifier}, {f.Certificate, was.Certificate, &n.Certificate}, {f.CertificateName, was.CertificateName, &n.CertificateName},
		{f.Separator, was.Separator, &n.Separator}, {f.Note, was.Note, &n.Note}} {
		if w.now != w.before {
			*w.to = &w.now
		}
	}
	for _, w := range []struct {
		what, now, before string
		words             []string
		to                *string
	}{
		{"mode", f.Mode, was.Mode, []string{store.RadiusCode, store.RadiusPasswordCode, store.RadiusChallenge}, &n.Mode},
		{"Message-Authenticator", f.Signed, was.Signed, []string{store.AuthenticatorYes, store.AuthenticatorNo, store.AuthenticatorAuto}, &n.MessageAuthenticator},
	} {
		if w.now == w.before {
			continue
		}
		if *w.to = w.now; oneOfWords(w.now, w.words) != nil {
			return n, invalid("choose one of the list", "%s cannot be that", w.what)
		}
	}
	if f.Attribute != was.Attribute {
		n.SourceAttribute = f.Attribute
	}
	for _, w := range []struct {
		now, before bool
		to          **bool
	}{{f.Sends, was.Sends, &n.SendsMessageAuthenticator}, {f.Asserts, was.Asserts, &n.AssertsSource}, {f.CHAP, was.CHAP, &n.CHAP}, {f.MSCHAP, was.MSCHAP, &n.LegacyMSCHAPv2}} {
		if w.now != w.before {
			*w.to = &w.now
		}
	}
	if f.Hours != was.Hours {
		h := 0.0
		if f.Hours != "" {
			var err error
			if h, err = strconv.ParseFloat(f.Hours, 64); err != nil || !(h >= 0 && h <= 720) {
				return n, invalid("write a number of hours up to 720, or nothing", "the time without another code is not a number of hours")
			}
		}
		seconds := int64(h * 3600)
		n.Remember = &seconds
	}
	return n, nil
}

func oneOfWords(word string, words []string) error {
	for _, w := range words {
		if w == word {
			return nil
		}
	}
	return invalid("choose one of the list", "this is none of the words")
}

func (s *Server) newRadiusPage(v *visit) error {
	typed := radiusTyped{Mode: store.RadiusChallenge, Signed: store.AuthenticatorYes, Attribute: radiusAttributes[31], Sends: true}
	v.show("radius_edit", web.Page{Title: "New RADIUS client", Section: "radius", Data: radiusEdit(typed, "", "")})
	return nil
}

func radiusEdit(typed radiusTyped, name, was string) radiusEditData {
	if was == "" {
		return radiusEditData{Typed: typed, Action: "/radius", Button: "Add the client", NewOnly: true}
	}
	return radiusEditData{Typed: typed, Was: was, Action: within("radius", name, "edit"), Button: "Change " + name}
}

func (s *Server) addRadiusForm(v *visit) error {
	typed := typedRadius(v)
	made, err := s.makeRadiusClient(v, typed)
	if err != nil {
		v.again(err, "radius_edit", web.Page{Title: "New RADIUS client", Section: "radius", Data: radiusEdit(typed, "", "")})
		return nil
	}
	return v.radiusDone(made, "added")
}

func (s *Server) makeRadiusClient(v *visit, typed radiusTyped) (RadiusClientSecret, error) {
	change, err := typed.change(radiusTyped{Sends: true})
	if err != nil {
		return RadiusClientSecret{}, err
	}
	change.Secret = v.r.PostFormValue("secret")
	n := NewRadiusClient{Name: typed.Name, RadiusClientChange: change}
	if _, _, _, err := s.readyRadiusClient(v.ctx(), n); err != nil {
		return RadiusClientSecret{}, err
	}
	if err := v.prove("radius-client.add"); err != nil {
		return RadiusClientSecret{}, err
	}
	return s.addRadiusClient(v.ctx(), v.by, n)
}

// radiusDone shows the secret that was made, or leads on.
func (v *visit) radiusDone(made RadiusClientSecret, what string) error {
	if made.Secret == "" {
		return v.done("/radius", "%s was %s.", made.Client.Name, what)
	}
	v.showSecret("radius", issuedSecret{
		Title: "Shared secret", Name: made.Client.Name, Secret: made.Secret, Path: "/radius",
		Text: "Put it into the machine beside the address of every node. People get through it by a rule with targets: [" + made.Client.Name + "] and channels: [radius].",
	})
	return nil
}

func (s *Server) editRadiusPage(v *visit) error {
	c, err := s.radiusClient(v.ctx(), v.path("name"))
	if err != nil {
		return err
	}
	typed := typedOf(wireRadiusClient(c))
	was, err := json.Marshal(typed)
	if err != nil {
		return err
	}
	v.show("radius_edit", web.Page{Title: "RADIUS client " + c.Name, Section: "radius", Data: radiusEdit(typed, c.Name, string(was))})
	return nil
}

func (s *Server) changeRadiusForm(v *visit) error {
	c, err := s.radiusClient(v.ctx(), v.path("name"))
	if err != nil {
		return err
	}
	typed := typedRadius(v)
	made, err := s.alterRadiusClient(v, c.Name, typed)
	if err != nil {
		v.again(err, "radius_edit", web.Page{Title: "RADIUS client " + c.Name, Section: "radius", Data: radiusEdit(typed, c.Name, v.typed("was"))})
		return nil
	}
	return v.radiusDone(made, "changed")
}

func (s *Server) alterRadiusClient(v *visit, name string, typed radiusTyped) (RadiusClientSecret, error) {
	var was radiusTyped
	if err := json.Unmarshal([]byte(v.r.PostFormValue("was")), &was); err != nil {
		return RadiusClientSecret{}, invalid("open the page once more", "the form is broken")
	}
	change, err := typed.change(was)
	if err != nil {
		return RadiusClientSecret{}, err
	}
	change.Secret, change.GenerateSecret = v.r.PostFormValue("secret"), v.typed("generate") != ""
	if reflect.DeepEqual(change, RadiusClientChange{}) {
		return RadiusClientSecret{}, invalid("", "nothing was changed")
	}
	if err := s.checkRadiusChange(v.ctx(), name, change); err != nil {
		return RadiusClientSecret{}, err
	}
	if err := v.prove("radius-client.update"); err != nil {
		return RadiusClientSecret{}, err
	}
	return s.changeRadiusClient(v.ctx(), v.by, name, change)
}
