package admin

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sallyport/auth"
	"sallyport/identity"
	"sallyport/internal/web"
	"sallyport/otp"
	"sallyport/store"
)

// Compat says which calls of other products are answered, so that plug-ins made for these go on working. The zero
// value answers none.
type Compat struct {
	TOTPRadius   bool     // GET /api, /createuser and /validate
	PrivacyIDEA  bool     // /validate/check
	WithPassword bool     // what privacyIDEA's clients send as pass is the password and the code after it; else the code alone
	Suffixes     []string // such as "example.org", cut off login names as at the SSH door
}

// compat adds the routes that are switched on. They take an API key as those products do, TOTPRadius in the address
// too; an address is logged nowhere here, but a proxy may do so.
func (s *Server) compat(mux *http.ServeMux) {
	add := func(path string, methods []string, answer func(*compatCall)) {
		for _, m := range methods {
			mux.Handle(m+" "+path, web.Headers(s.cfg.Secure, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead { // which a mux takes for GET: nothing is made for an answer that nobody reads
					http.Error(w, "", http.StatusMethodNotAllowed)
					return
				}
				answer(&compatCall{s: s, w: w, r: r})
			})))
		}
	}
	both := []string{http.MethodGet, http.MethodPost}
	if s.cfg.Compat.TOTPRadius {
		add("/api", both[:1], (*compatCall).totpradiusSecret)
		add("/createuser", both, (*compatCall).totpradiusCreate)
		add("/validate", both, (*compatCall).totpradiusValidate)
	}
	if s.cfg.Compat.PrivacyIDEA {
		add("/validate/check", both, (*compatCall).privacyIDEACheck)
	}
}

// compatCall is one call of another product's client.
type compatCall struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	form url.Values
	by   Caller
}

// open reads the parameters and finds the caller, whose key is in a header or in one of the parameters keyNames.
func (c *compatCall) open(keyNames ...string) error {
	if !c.private() {
		return &Problem{
			Status: http.StatusForbidden, Detail: "this call came over plain HTTP, and with it the key in clear",
			Hint: "use https, and make a new key; a proxy in front says X-Forwarded-Proto: https",
		}
	}
	if err := c.r.ParseForm(); err != nil {
		return &Problem{Status: http.StatusBadRequest, Detail: "the parameters cannot be read", Hint: "send them in the query, or as application/x-www-form-urlencoded"}
	}
	c.form = c.r.Form
	for _, values := range c.form {
		if len(values) > 1 {
			return &Problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("a parameter stands there %d times", len(values)), Hint: "send each once"}
		}
	}
	secret := c.headerKey()
	for _, name := range keyNames {
		if v := c.form.Get(name); v != "" && secret == "" {
			secret = v
		}
	}
	source := web.Source(c.r, c.s.cfg.Proxies)
	by, err := c.s.program(c.r.Context(), secret, source, c.r.URL.Path)
	c.by = by
	return err
}

// private tells whether nobody on the way could read the request: it came by TLS, from this machine, or through a
// listed proxy that says so.
func (c *compatCall) private() bool {
	peer, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap()
	for _, p := range c.s.cfg.Proxies {
		if p.Contains(addr) {
			return c.r.Header.Get("X-Forwarded-Proto") == "https"
		}
	}
	return c.r.TLS != nil || addr.IsLoopback()
}

// headerKey is the API key that a header brings: as Bearer, as the password of HTTP Basic, or by itself, as
// privacyIDEA's clients send theirs.
func (c *compatCall) headerKey() string {
	if _, password, ok := c.r.BasicAuth(); ok {
		return password
	}
	for _, name := range []string{"Authorization", "PI-Authorization"} {
		v := strings.TrimSpace(c.r.Header.Get(name))
		if scheme, secret, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "Bearer") {
			v = strings.TrimSpace(secret)
		}
		if v != "" {
			return v
		}
	}
	return ""
}

// login is the name in a parameter without a suffix that is not part of names here.
func (c *compatCall) login(name string) string {
	login := c.form.Get(name)
	if at := strings.LastIndexByte(login, '@'); at > 0 && slices.ContainsFunc(c.s.cfg.Compat.Suffixes, func(s string) bool { return strings.EqualFold(s, login[at+1:]) }) {
		return login[:at]
	}
	return login
}

// problem is why a call is refused.
func (c *compatCall) problem(err error) *Problem {
	p := c.s.problemOf(c.r.Context(), err)
	if p.retry > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(int(p.retry.Seconds())))
	}
	return p
}

func (c *compatCall) json(status int, v any) {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	_ = json.NewEncoder(c.w).Encode(v) // the caller went away
}

// The names of the key in TOTPRadius's addresses.
var totpradiusKey = []string{"api_key", "api-key", "api"}

// totpradiusSecret answers GET /api?username=&api-key= with a first token of the person. With a key that may make users,
// somebody who is not known becomes one.
func (c *compatCall) totpradiusSecret() {
	err := c.open(totpradiusKey...)
	var made IssuedEnrolment
	if err == nil {
		n := NewEnrolment{Login: c.login("username"), Name: "TOTPRadius call"}
		if c.by.may(store.ScopeAddUsers) == nil {
			n.CreateUser = &NewPerson{}
		}
		made, err = c.s.enrolForProgram(c.r.Context(), c.by, n, "")
	}
	if err != nil {
		p := c.problem(err)
		c.json(p.Status, map[string]string{"success": "false", "response": p.Detail})
		return
	}
	c.json(http.StatusOK, map[string]string{
		"success": "true", "username": made.Login, "secret": made.Secret, "qr": pngURI(made.QRPNG), "otpauth": made.URI,
	})
}

// pngURI is a picture as an address of its own: one that had to be fetched would bring the secret into logs.
func pngURI(png []byte) string {
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(png)
}

// totpradiusCreate answers /createuser: it makes a new person under a name of ours, and their token. Nobody who is
// known gets a token here, whatever address a stranger has given to the caller's shop.
func (c *compatCall) totpradiusCreate() {
	err := c.open(totpradiusKey...)
	var made IssuedEnrolment
	if err == nil {
		person := NewPerson{Email: c.form.Get("email"), Phone: c.form.Get("phone")}
		if t := c.form.Get("type"); t != "" && t != "0" {
			err = invalid("use type=0, a mobile application", "there are no other types of token")
		} else {
			made, err = c.s.enrolForProgram(c.r.Context(), c.by, NewEnrolment{Login: newUserID(), Name: "TOTPRadius call", CreateUser: &person}, "")
		}
	}
	if err != nil {
		p := c.problem(err)
		c.totpradius(p.Status, "false", []pair{{"response", p.Detail}, {"userid", ""}, {"success", "false"}, {"hash", ""}, {"hashqr", ""}})
		return
	}
	c.totpradius(http.StatusOK, "true", []pair{
		{"response", "user created"}, {"userid", made.Login}, {"success", "true"}, {"hash", made.Secret}, {"hashqr", pngURI(made.QRPNG)},
	})
}

// newUserID is a login that nobody has: 80 random bits.
func newUserID() string {
	return "u-" + strings.ToLower(otp.NewSecret().Base32())[:16]
}

// totpradiusValidate answers /validate.
func (c *compatCall) totpradiusValidate() {
	err := c.open(totpradiusKey...)
	ok := false
	if err == nil {
		ok, err = c.s.validate(c.r.Context(), c.by, c.login("userid"), "", auth.Answers{Elsewhere: true, Code: c.form.Get("token")})
	}
	status, text := http.StatusOK, "OTP is not valid"
	switch {
	case err != nil:
		p := c.problem(err)
		status, text = p.Status, p.Detail
	case ok:
		text = "OTP is valid"
	}
	verdict := strconv.FormatBool(ok)
	c.totpradius(status, verdict, []pair{{"response", text}, {"userid", c.form.Get("userid")}, {"siteid", "1"}, {"validation", verdict}})
}

// pair is one field of an answer; their order is kept.
type pair struct{ name, value string }

// totpradius writes an answer in the format that was asked for: 0 PHP's serialize (as if none was), 1 JSON, 2 XML, 3 the
// verdict alone.
func (c *compatCall) totpradius(status int, verdict string, fields []pair) {
	var b strings.Builder
	kind := "text/plain; charset=utf-8"
	switch c.form.Get("format") {
	case "1":
		m := map[string]string{}
		for _, f := range fields {
			m[f.name] = f.value
		}
		c.json(status, m)
		return
	case "2":
		kind = "application/xml"
		b.WriteString(xml.Header + "<result>")
		for _, f := range fields {
			b.WriteString("<" + f.name + ">")
			_ = xml.EscapeText(&b, []byte(f.value))
			b.WriteString("</" + f.name + ">")
		}
		b.WriteString("</result>\n")
	case "3":
		b.WriteString(verdict)
	default:
		fmt.Fprintf(&b, "a:%d:{", len(fields))
		for _, f := range fields {
			fmt.Fprintf(&b, `s:%d:"%s";s:%d:"%s";`, len(f.name), f.name, len(f.value), f.value)
		}
		b.WriteString("}")
	}
	c.w.Header().Set("Content-Type", kind)
	c.w.WriteHeader(status)
	_, _ = c.w.Write([]byte(b.String()))
}

// Parts of an answer of privacyIDEA.
type (
	piAnswer struct {
		Detail  *piDetail `json:"detail"`
		ID      int       `json:"id"`
		JSONRPC string    `json:"jsonrpc"`
		Result  piResult  `json:"result"`
		Version string    `json:"version"`
	}
	piDetail struct {
		Message string `json:"message"`
	}
	piResult struct {
		Authentication string   `json:"authentication,omitempty"`
		Status         bool     `json:"status"`
		Value          *bool    `json:"value,omitempty"`
		Error          *piError `json:"error,omitempty"`
	}
	piError struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
)

// privacyIDEACheck answers /validate/check: user, pass, and a realm that says nothing here. The message is one of two,
// whatever was wrong.
func (c *compatCall) privacyIDEACheck() {
	err := c.open()
	ok := false
	if err == nil {
		ok, err = c.check()
	}
	out := piAnswer{ID: 1, JSONRPC: "2.0", Version: "privacyIDEA compatible"}
	if err != nil {
		p := c.problem(err)
		out.Result.Error = &piError{Code: p.Status, Message: p.Detail}
		c.json(p.Status, out)
		return
	}
	out.Result = piResult{Authentication: "REJECT", Status: true, Value: &ok}
	out.Detail = &piDetail{"wrong otp value"}
	if ok {
		out.Result.Authentication, out.Detail.Message = "ACCEPT", "matching 1 tokens"
	}
	c.json(http.StatusOK, out)
}

func (c *compatCall) check() (bool, error) {
	for _, name := range []string{"serial", "transaction_id"} {
		if c.form.Get(name) != "" {
			return false, &Problem{Status: http.StatusBadRequest, Detail: "the parameter " + name + " is not supported", Hint: "send user and pass"}
		}
	}
	if !c.form.Has("user") || !c.form.Has("pass") {
		return false, &Problem{Status: http.StatusBadRequest, Detail: "user or pass is missing", Hint: "send both"}
	}
	in := auth.Answers{Elsewhere: true, Code: c.form.Get("pass")}
	if c.s.cfg.Compat.WithPassword {
		in = auth.Answers{Joined: identity.Password(c.form.Get("pass"))}
	}
	source := ""
	if c.by.Key != nil && c.by.Key.AssertsSource {
		source = c.form.Get("client") // where the person is; from others it says nothing
	}
	return c.s.validate(c.r.Context(), c.by, c.login("user"), source, in)
}
