package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"sallyport/admin"
	"sallyport/internal/testenv"
	"sallyport/store/storetest"
)

// curl runs the real curl, and returns status, headers and body.
func curl(t *testing.T, args ...string) (status int, head, body string) {
	t.Helper()
	cmd := exec.Command("curl", append([]string{"-q", "-sS", "--max-time", "30", "-i"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Errorf("curl: %v %s", err, errs.String())
		return 0, "", ""
	}
	head, body, _ = strings.Cut(out.String(), "\r\n\r\n")
	status, err := strconv.Atoi(strings.Fields(head)[1])
	noError(t, err)
	return status, head, body
}

func (o *operated) site() string { return "http://" + o.node.web.Addr().String() }

// key makes an API key by the command line.
func (o *operated) key(name string, args ...string) string {
	o.t.Helper()
	return strings.TrimSpace(o.ok(append([]string{"api-key", "add", name}, args...)...))
}

// post sends JSON with an API key.
func (o *operated) post(key, path, in string, more ...string) (status int, head, body string) {
	o.t.Helper()
	args := append([]string{"-H", "Authorization: Bearer " + key, "-H", "Content-Type: application/json", "-d", in}, more...)
	return curl(o.t, append(args, o.site()+"/api/v1"+path)...)
}

// scan reads a picture in which there is nothing but a code. Where in a picture a code is, this reader does not find for 6 of
// 1000 codes, whose picture is right all the same.
func scan(t *testing.T, img image.Image) string {
	t.Helper()
	bits, err := gozxing.NewBinaryBitmapFromImage(img)
	noError(t, err)
	found, err := qrcode.NewQRCodeReader().Decode(bits, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_PURE_BARCODE: true})
	noError(t, err)
	return found.GetText()
}

func scanPNG(t *testing.T, data []byte) string {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	noError(t, err)
	return scan(t, img)
}

// drawSVG draws the rectangles of our SVG, eight pixels a module.
func drawSVG(t *testing.T, svg string) image.Image {
	t.Helper()
	number := func(text string) int { n, err := strconv.Atoi(text); noError(t, err); return n }
	side := number(found(t, `viewBox="0 0 (\d+) `, svg))
	img := image.NewGray(image.Rect(0, 0, 8*side, 8*side))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	for _, m := range regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1`).FindAllStringSubmatch(svg, -1) {
		for x := 8 * number(m[1]); x < 8*(number(m[1])+number(m[3])); x++ {
			for y := 8 * number(m[2]); y < 8*number(m[2])+8; y++ {
				img.SetGray(x, y, color.Gray{})
			}
		}
	}
	return img
}

// A program makes a person and their token by curl; a telephone reads the picture; the code is good once (T3).
func TestEnrolmentCall(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	all := o.key("shop", "--scope", "enrolments:create", "--scope", "users:create", "--scope", "validate", "--source", "127.0.0.0/8", "--expires", "90d")
	enrol, check := o.key("enrol", "--scope", "enrolments:create"), o.key("check", "--scope", "validate")

	status, head, body := o.post(all, "/enrolments", `{"login":"Dora","name":"telephone","create_user":{"name":"Dora","email":"dora@example.org","phone":"+4915112345678"}}`)
	if status != http.StatusCreated || !strings.Contains(head, "Cache-Control: no-store") {
		t.Fatalf("%s\n%s", head, body)
	}
	made := decode[admin.IssuedEnrolment](t, body)
	if made.Login != "dora" || made.State != "enabled" || !strings.Contains(made.URI, "otpauth://totp/Sallyport:dora?secret="+made.Secret) {
		t.Errorf("made %+v", made)
	}
	if got := scanPNG(t, made.QRPNG); got != made.URI {
		t.Errorf("the picture says %q", got)
	}
	if got := scan(t, drawSVG(t, made.QRSVG)); got != made.URI {
		t.Errorf("the SVG says %q", got)
	}
	if u := object[admin.User](o, "user", "show", "dora"); u.Email != "dora@example.org" || u.Tokens != 1 || u.HasPassword {
		t.Errorf("dora is %+v", u)
	}

	code := testenv.Oathtool(t, made.Secret, time.Now())
	in := fmt.Sprintf(`{"login":"dora","code":%q}`, code)
	for i, want := range []string{"true", "false"} { // once
		if status, _, body := o.post(check, "/validate", in); status != 200 || strings.TrimSpace(body) != `{"valid":`+want+`}` {
			t.Errorf("validation %d: %d %s", i+1, status, body)
		}
	}
	if events := o.ok("audit", "list", "-o", "json"); !strings.Contains(events, "code.replayed") || !strings.Contains(events, `"actor": "api-key shop"`) || !strings.Contains(events, "api-key check") {
		t.Errorf("events %s", events)
	}

	o.ok("user", "add", "carl", "--generate")
	o.ok("user", "lock", "carl")
	o.ok("user", "add", "boss", "--generate")
	o.ok("admin", "add", "boss", "--role", "auditor")
	for _, x := range []struct {
		key, path, in string
		status        int
		say           string
	}{
		{all, "/enrolments", `{"login":"dora"}`, 409, "dora has a token already"},
		{all, "/enrolments", `{"login":"carl"}`, 409, "carl is locked"},
		{all, "/enrolments", `{"login":"boss"}`, 409, "boss has a role here"},
		{all, "/enrolments", `{"login":"nobody"}`, 404, "there is no user nobody"},
		{all, "/enrolments", `{"login":"a b"}`, 422, "login name"},
		{all, "/enrolments", `{"login":"x","digits":7}`, 422, ""},
		{all, "/enrolments", `{"login":"x","login":"y"}`, 400, ""},
		{enrol, "/enrolments", `{"login":"eve","create_user":{}}`, 403, "users:create"},
		{check, "/enrolments", `{"login":"carl"}`, 403, "enrolments:create"},
		{enrol, "/validate", `{"login":"dora","code":"1"}`, 403, "validate"},
		{all, "/users", `{"login":"eve"}`, 403, "API keys do not open this"},
		{all, "/api-keys", `{"name":"x","scopes":["validate"]}`, 403, "API keys do not open this"},
		{check, "/validate", `{"login":"dora","code":"1","source":"192.0.2.9"}`, 403, "not believed"},
	} {
		status, _, body := o.post(x.key, x.path, x.in)
		if status != x.status || !strings.Contains(body, x.say) || strings.Contains(body, "otpauth") {
			t.Errorf("%s %s: %d %s", x.path, x.in, status, body)
		}
	}
	// Nobody without a key, and no key in the address.
	if status, _, _ := curl(t, "-d", `{}`, o.site()+"/api/v1/enrolments?api_key="+all); status != 401 {
		t.Errorf("with the key in the address: %d", status)
	}

	// What is said about a person's address is believed of one key alone; wrong codes lock that person there.
	o.ok("user", "add", "finn", "--generate")
	trusted := o.key("trusted", "--scope", "validate", "--asserts-source")
	var wrong sync.WaitGroup
	for i := range 5 {
		wrong.Go(func() {
			if status, _, body := o.post(trusted, "/validate", fmt.Sprintf(`{"login":"finn","code":"00000%d","source":"203.0.113.7"}`, i)); status != 200 || !strings.Contains(body, "false") {
				t.Errorf("wrong code: %d %s", status, body)
			}
		})
	}
	wrong.Wait()
	if locks := o.ok("lockout", "list"); !strings.Contains(locks, "203.0.113.7") {
		t.Errorf("locks:\n%s", locks)
	}
}

// A token that a program makes waits for an operator where those of people do; its person is told.
func TestEnrolmentCallWaits(t *testing.T) {
	t.Parallel()
	sink := testenv.StartSMTP(t, testenv.SMTPConfig{Plain: true})
	o := startOperatedWith(t, "192.0.2.10", fmt.Sprintf(`
otp: {approve-enrolments: true}
mail: {from: sallyport@example.org, servers: [{server: %q, tls: none}]}
notify: {people: true}
`, sink.Addr))
	o.ok("user", "add", "ann", "--email", "ann@example.org", "--generate")
	key := o.key("shop", "--scope", "enrolments:create", "--scope", "validate")
	status, _, body := o.post(key, "/enrolments", `{"login":"ann"}`, "-H", "Idempotency-Key: 17")
	made := decode[admin.IssuedEnrolment](t, body)
	if status != 201 || made.State != "waiting" {
		t.Fatalf("%d %s", status, body)
	}
	// The answer was lost, and is asked for again.
	status, _, body = o.post(key, "/enrolments", `{"login":"ann"}`, "-H", "Idempotency-Key: 17")
	if again := decode[admin.IssuedEnrolment](t, body); status != 201 || again.Secret != made.Secret || again.ID != made.ID || scanPNG(t, again.QRPNG) != made.URI {
		t.Errorf("again: %d %s", status, body)
	}
	for header, want := range map[string]int{"17": 422, "18": 409} {
		if status, _, body := o.post(key, "/enrolments", `{"login":"ann","digits":8}`, "-H", "Idempotency-Key: "+header); status != want || strings.Contains(body, made.Secret) {
			t.Errorf("another request, key %s: %d %s", header, status, body)
		}
	}
	in := fmt.Sprintf(`{"login":"ann","code":%q}`, testenv.Oathtool(t, made.Secret, time.Now()))
	if _, _, body := o.post(key, "/validate", in); !strings.Contains(body, "false") {
		t.Errorf("before the approval: %s", body)
	}
	o.ok("token", "approve", "ann", made.ID)
	if _, _, body := o.post(key, "/validate", in); !strings.Contains(body, "true") {
		t.Errorf("after the approval: %s", body)
	}
	testenv.WaitFor(t, "the mail", func() bool {
		for _, m := range sink.Mails("ann@example.org") {
			if strings.Contains(m.Text, "A program that may do so has set up a token") && strings.Contains(m.Text, "api-key shop") && !strings.Contains(m.Text, made.Secret) {
				return true
			}
		}
		return false
	})
}

// A hundred calls at once at two nodes make one person and one token.
func TestEnrolmentCallOnce(t *testing.T) {
	t.Parallel()
	database := fmt.Sprintf("database: %q\n", storetest.Postgres(t))
	one := startOperatedWith(t, "192.0.2.10", database)
	two := startOperatedWith(t, "192.0.2.10", database+fmt.Sprintf("keys: {ring: %q, signing: %q}\n", string(one.cfg.Keys.Ring), string(one.cfg.Keys.Signing)))
	key := one.key("shop", "--scope", "enrolments:create", "--scope", "users:create", "--per-minute", "200")
	var made, refused atomic.Int64
	var running sync.WaitGroup
	for i := range 100 {
		running.Go(func() {
			r, err := http.NewRequest(http.MethodPost, []*operated{one, two}[i%2].site()+"/api/v1/enrolments", strings.NewReader(`{"login":"dora","create_user":{"name":"Dora"}}`))
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("Authorization", "Bearer "+key)
			r.Header.Set("Content-Type", "application/json")
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer answer.Body.Close()
			switch answer.StatusCode {
			case http.StatusCreated:
				made.Add(1)
			case http.StatusConflict:
				refused.Add(1)
			default:
				t.Errorf("status %d", answer.StatusCode)
			}
		})
	}
	running.Wait()
	if made.Load() != 1 || refused.Load() != 99 {
		t.Errorf("%d made a token and %d were refused", made.Load(), refused.Load())
	}
	if list := object[[]admin.Token](two, "token", "list", "dora"); len(list) != 1 {
		t.Errorf("tokens: %+v", list)
	}
}

// Whatever is wrong with a key, the answer is the same and takes the same; wrong ones lock their source, a right one is
// slowed down, and a revoked one ends.
func TestAPIKeyRefusals(t *testing.T) {
	t.Parallel()
	o := startOperated(t)
	good := o.key("good", "--scope", "validate", "--per-minute", "5")
	away := o.key("away", "--scope", "validate", "--source", "192.0.2.0/24")
	const in = `{"login":"nobody","code":""}`
	gone := object[admin.IssuedAPIKey](o, "api-key", "add", "gone", "--scope", "validate")
	o.ok("api-key", "revoke", gone.ID)
	o.fails(exitFailed, "api-key", "revoke", gone.ID)
	o.fails(exitUsage, "api-key", "add", "none")
	o.fails(exitUsage, "api-key", "add", "none", "--scope", "all")
	o.fails(exitUsage, "api-key", "add", "none", "--scope", "validate", "--source", "192.0.2.7/24")
	o.fails(exitUsage, "api-key", "add", "none", "--scope", "users:create")
	o.fails(exitFailed, "api-key", "add", "good", "--scope", "validate")

	answers := make(chan string, 10)
	var running sync.WaitGroup
	for _, key := range []string{"sk_wrong", away, gone.Secret, good + "x", "sk_", "sk_1", "sk_2", "sk_3", "sk_4", "sk_5"} {
		running.Go(func() {
			begun := time.Now()
			status, _, body := o.post(key, "/validate", in)
			if took := time.Since(begun); took < 500*time.Millisecond {
				t.Errorf("refused after %s", took)
			}
			answers <- fmt.Sprint(status, body)
		})
	}
	running.Wait()
	close(answers)
	first := <-answers
	for a := range answers {
		if a != first || !strings.HasPrefix(a, "401") {
			t.Errorf("answers differ: %s and %s", first, a)
		}
	}
	// The lock holds for right keys too, at this source, and is an operator's to clear.
	if status, head, _ := o.post(good, "/validate", in); status != 429 || !strings.Contains(head, "Retry-After: ") {
		t.Errorf("while locked: %s", head)
	}
	if locks := o.ok("lockout", "list"); !strings.Contains(locks, "api-key:127.0.0.1") {
		t.Errorf("locks:\n%s", locks)
	}
	if locks := object[[]admin.Lockout](o, "lockout", "list"); len(locks) != 1 || locks[0].Source != "127.0.0.1" || locks[0].Kind != "api-key" {
		t.Errorf("locks: %+v", locks)
	}
	o.ok("lockout", "clear", "api-key:127.0.0.1")
	status, _, _ := o.post(good, "/validate", in)
	if status != 200 {
		t.Errorf("after the lock: %d", status)
	}
	limited := 0
	for range 6 {
		if status, head, _ := o.post(good, "/enrolments", `{"login":"x"}`); status == 429 && strings.Contains(head, "Retry-After: 12") {
			limited++
		}
	}
	if limited == 0 {
		t.Error("seven calls with a key for five a minute")
	}
	if list := o.ok("api-key", "list"); strings.Contains(list, "sk_") || !strings.Contains(list, "127.0.0.1") {
		t.Errorf("list:\n%s", list)
	}
	events := o.ok("audit", "list", "-o", "json")
	if !strings.Contains(events, "may not be used from here") || strings.Contains(events, "sk_") {
		t.Errorf("events: %s", events)
	}
}

// Other products' calls exist where the configuration says so, and leave no key in any log.
func TestCompat(t *testing.T) {
	t.Parallel()
	off := startOperated(t)
	for _, path := range []string{"/api?username=x", "/createuser", "/validate", "/validate/check"} {
		if status, _, _ := curl(t, off.site()+path); status != 404 {
			t.Errorf("%s is answered without compat: %d", path, status)
		}
	}
	log := &lockedBuffer{}
	o := startOperatedLogging(t, "192.0.2.10", "compat: {totpradius: true, privacyidea: true}\n", log)
	o.ok("user", "add", "ann", "--generate")
	key := o.key("plug-in", "--scope", "enrolments:create", "--scope", "users:create", "--scope", "validate")
	enrol := o.key("enrol", "--scope", "enrolments:create")
	get := func(path string, pairs ...string) (int, string) {
		t.Helper()
		q := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
		status, _, body := curl(t, o.site()+path+"?"+q.Encode())
		return status, body
	}
	if status, _, _ := curl(t, "-I", o.site()+"/api?username=ann&api-key="+key); status != 405 {
		t.Errorf("HEAD is answered: %d", status)
	}
	status, body := get("/api", "username", "ann", "api-key", key)
	secret := decode[map[string]string](t, body)
	if status != 200 || !strings.HasPrefix(secret["qr"], "data:image/png;base64,") || secret["secret"] == "" {
		t.Fatalf("GET /api: %d %s", status, body)
	}
	var picture []byte
	noError(t, json.Unmarshal([]byte(`"`+strings.TrimPrefix(secret["qr"], "data:image/png;base64,")+`"`), &picture))
	if got := scanPNG(t, picture); got != secret["otpauth"] || !strings.Contains(got, secret["secret"]) {
		t.Errorf("the picture says %q", got)
	}
	for _, x := range []struct {
		name, key string
		status    int
	}{{"ann", key, 409}, {"zoe", enrol, 404}, {"zoe", key, 200}} { // a key that may makes people on the fly
		if status, body := get("/api", "username", x.name, "api-key", x.key); status != x.status {
			t.Errorf("GET /api for %s: %d %s", x.name, status, body)
		}
	}

	status, body = get("/createuser", "api_key", key, "phone", "+4915112345678", "email", "ann@elsewhere.example", "type", "0", "format", "1")
	user := decode[map[string]string](t, body)
	if status != 200 || user["success"] != "true" || user["userid"] == "" || user["userid"] == "ann" || user["hash"] == secret["secret"] {
		t.Fatalf("createuser: %d %s", status, body)
	}
	code := testenv.Oathtool(t, user["hash"], time.Now())
	for format, want := range map[string]string{ // wrong ones, in each format
		"":  `a:4:{s:8:"response";s:16:"OTP is not valid";s:6:"userid";s:` + strconv.Itoa(len(user["userid"])) + `:"` + user["userid"] + `";s:6:"siteid";s:1:"1";s:10:"validation";s:5:"false";}`,
		"2": "<validation>false</validation>", "3": "false",
	} {
		if status, body := get("/validate", "api_key", key, "userid", user["userid"], "token", "000000", "format", format); status != 200 || !strings.Contains(body, want) {
			t.Errorf("validate, format %q: %d %s", format, status, body)
		}
	}
	if status, body := get("/validate", "api_key", key, "userid", user["userid"], "token", code, "format", "3"); status != 200 || body != "true" {
		t.Errorf("validate: %d %s", status, body)
	}
	if status, body := get("/createuser", "api_key", enrol, "email", "x@example.org", "format", "3"); status != 403 || body != "false" {
		t.Errorf("createuser with a key that makes nobody: %d %s", status, body)
	}

	// privacyIDEA's form, by each way in which its clients send a key.
	check := func(args ...string) (int, map[string]any) {
		t.Helper()
		status, _, body := curl(t, append(args, o.site()+"/validate/check")...)
		return status, decode[map[string]any](t, body)
	}
	code = testenv.Oathtool(t, secret["secret"], time.Now())
	status, got := check("-H", "Authorization: "+key, "--data-urlencode", "user=ann", "-d", "realm=people", "-d", "pass="+code)
	result, _ := got["result"].(map[string]any)
	if detail, _ := got["detail"].(map[string]any); status != 200 || result["status"] != true || result["value"] != true || result["authentication"] != "ACCEPT" || detail["message"] != "matching 1 tokens" {
		t.Errorf("check: %d %v", status, got)
	}
	for _, args := range [][]string{
		{"-H", "PI-Authorization: " + key, "-d", "user=ann&pass=" + code}, // used
		{"-u", "key:" + key, "-d", "user=nobody&pass=123456"},
		{"-G", "-H", "Authorization: Bearer " + key, "-d", "user=ann&pass="},
	} {
		status, got := check(args...)
		result, _ := got["result"].(map[string]any)
		if detail, _ := got["detail"].(map[string]any); status != 200 || result["status"] != true || result["value"] != false || detail["message"] != "wrong otp value" {
			t.Errorf("check %q: %d %v", args[0], status, got)
		}
	}
	for _, x := range []struct {
		status int
		args   []string
	}{
		{401, []string{"-d", "user=ann&pass=1"}}, {401, []string{"-d", "user=ann&pass=1&api_key=" + key}},
		{400, []string{"-H", "Authorization: " + key, "-d", "user=ann"}}, {400, []string{"-H", "Authorization: " + key, "-d", "user=ann&user=bob&pass=1"}},
		{400, []string{"-H", "Authorization: " + key, "-d", "serial=T1&user=ann&pass=1"}}, {403, []string{"-H", "Authorization: " + enrol, "-d", "user=ann&pass=1"}},
	} {
		status, got := check(x.args...)
		if result, _ := got["result"].(map[string]any); status != x.status || result["status"] != false || result["error"] == nil || result["value"] != nil {
			t.Errorf("check %q: %d %v", x.args, status, got)
		}
	}
	for _, text := range []string{key, enrol, secret["secret"], user["hash"], code} {
		if strings.Contains(log.String(), text) {
			t.Errorf("the log holds %q", text)
		}
	}
	if !strings.Contains(log.String(), "enrolment.create") {
		t.Error("the log holds nothing at all")
	}
}

// With the password in front, as privacyIDEA's PIN: a code that is right is used up, whatever the password was.
func TestCompatPassword(t *testing.T) {
	t.Parallel()
	o := startOperatedWith(t, "192.0.2.10", "compat: {privacyidea: true, privacyidea-with-password: true}\n")
	const password = "correct horse battery"
	o.ok("user", "add", "ann", "--password-file", o.file("pass", password+"\n"))
	key := o.key("plug-in", "--scope", "enrolments:create", "--scope", "validate")
	_, _, body := o.post(key, "/enrolments", `{"login":"ann"}`)
	secret := decode[admin.IssuedEnrolment](t, body).Secret
	now := time.Now()
	code, next := testenv.Oathtool(t, secret, now), testenv.Oathtool(t, secret, now.Add(30*time.Second))
	for _, x := range []struct {
		pass string
		want bool
	}{
		{code, false}, {"", false}, {password, false}, {"wrong horse" + code, false},
		{password + code, false}, // used up by the line before
		{password + next, true}, {password + next, false},
	} {
		status, _, body := curl(t, "-H", "Authorization: "+key, "-d", "user=ann", "--data-urlencode", "pass="+x.pass, o.site()+"/validate/check")
		if status != 200 || !strings.Contains(body, fmt.Sprintf(`"value":%t`, x.want)) {
			t.Errorf("pass %q: %d %s", x.pass, status, body)
		}
		o.run("lockout", "clear", "--all") // it is not what this is about
	}
}

// The lines of docs/api-enrolment.md, typed as they stand there, but for the address of the server.
func TestEnrolmentGuide(t *testing.T) {
	t.Parallel()
	o := startOperatedWith(t, "192.0.2.10", "compat: {totpradius: true, privacyidea: true}\n")
	o.ok("user", "add", "alice", "--generate")
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "api-enrolment.md"))
	noError(t, err)
	exe, err := os.Executable()
	noError(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 4 {
		t.Fatalf("%d blocks", len(blocks))
	}
	script := fmt.Sprintf("set -eu\ncode() { oathtool --base32 --totp \"$1\"; }\nsallyport() { %s=1 %q --socket %q \"$@\"; }\n", asProgram, exe, string(o.cfg.Socket))
	for _, b := range blocks {
		script += b[1]
	}
	script = strings.NewReplacer("https://bastion.example.org", o.site(), "--source 192.0.2.0/24", "--source 127.0.0.1").Replace(script)
	cmd := exec.Command("sh", "-x", "-c", script)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`"login":"dora"`, `{"valid":true}`, `"value":true`, `"success":"true"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the lines do not print %s:\n%s", want, out)
		}
	}
}
