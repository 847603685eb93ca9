package portal_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/otp"
	"sallyport/store"
)

var findTicket = regexp.MustCompile(`name="ticket" value="([^"]+)"`)

func enrolsAtLogin(c *auth.Config) { c.EnrolAtLogin = true }

// Where enrolment at login is on, a person without a token sets one up with login and password, in a real browser.
func TestEnrolByPasswordInChromium(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enrolsAtLogin)
	w.bare("bob")
	c := newChromium(t, w.URL)
	c.do(chromedp.EmulateViewport(390, 844))
	c.open("/signin")
	c.good("signin-enrols-phone-light")
	c.do(chromedp.SendKeys("#login", "bob"), chromedp.SendKeys("#password", password), chromedp.SendKeys("#code", "000000"))
	c.press("form.card button") // as somebody does who does not know better
	c.mu.Lock()
	c.complaints = nil // of the status 403
	c.mu.Unlock()
	c.good("signin-without-token-phone-light")
	c.press(`form.card a[href="` + auth.EnrolHere + `"]`)
	c.good("enrol-begin-phone-light")
	c.do(chromedp.SendKeys("#login", "bob"), chromedp.SendKeys("#password", "wrong horse"))
	c.press("form.card button")
	c.mu.Lock()
	c.complaints = nil // of the status 403
	c.mu.Unlock()
	c.good("enrol-begin-wrong-phone-light")
	c.do(chromedp.SendKeys("#password", password))
	c.press("form.card button")
	c.do(chromedp.Click("summary"))
	secret, err := otp.ParseSecret(strings.ReplaceAll(ask[string](c, `document.querySelector(".secret").textContent`), " ", ""))
	must(t, err)
	c.do(chromedp.SendKeys("#code", w.codeOf(secret)))
	c.press("form.card button")
	if n := ask[int](c, `document.querySelectorAll(".secret").length`); n != 10 {
		t.Errorf("%d recovery codes are shown", n)
	}
	w.secrets["bob"] = secret
	w.signedIn("bob").get("/me").want(t, "his pages", http.StatusOK, "enrolled by link")
}

// The page is there only where enrolment at login is on. Whoever has a token, is sent codes or is unknown reads the same as
// somebody with a wrong password, whose tries count; nobody sees a secret.
func TestEnrolByPasswordIsForFew(t *testing.T) {
	t.Parallel()
	off := newWorld(t)
	off.bare("bob")
	off.browser().get(auth.EnrolHere).want(t, "switched off", http.StatusGone)
	if page := off.browser().get("/signin").want(t, "sign-in", http.StatusOK, "No token yet, or lost it? Ask an administrator"); strings.Contains(page.body, auth.EnrolHere) {
		t.Error("the sign-in leads to a page that is switched off")
	}
	off.browser().post("/enrol/begin", "login", "bob", "password", password).want(t, "switched off", http.StatusForbidden, "That did not work.")

	w := newWorld(t, enrolsAtLogin, func(c *auth.Config) { c.Sent = auth.SentCodes{Mail: true} })
	w.person("alice")
	bob := w.bare("bob")
	carol := w.bare("carol")
	must(t, w.Store.Users.SetCodeBy(t.Context(), carol.ID, store.ByMail))
	var texts []string
	for _, who := range [][2]string{{"alice", password}, {"alice", "wrong"}, {"carol", password}, {"nobody", password}, {"bob", "wrong"}} {
		a := w.browser().post("/enrol/begin", "login", who[0], "password", who[1]).want(t, who[0], http.StatusForbidden, "That did not work.")
		if findSecret.MatchString(a.body) || len(a.Cookies()) > 0 {
			t.Errorf("%s got a secret, or a cookie", who[0])
		}
		texts = append(texts, strings.ReplaceAll(a.body, `value="`+who[0]+`"`, ""))
	}
	for _, text := range texts[1:] {
		if text != texts[0] {
			t.Errorf("the pages differ:\n%s\n%s", texts[0], text)
		}
	}
	for range 4 {
		w.browser().post("/enrol/begin", "login", "bob", "password", "wrong")
	}
	w.browser().post("/enrol/begin", "login", "bob", "password", password).want(t, "locked out", http.StatusForbidden)
	w.ahead.Add(int64(16 * time.Minute))

	// What one browser has begun is not another's, and of many that begin at once one at the most makes a token: those that
	// are overtaken begin anew.
	var all sync.WaitGroup
	var mu sync.Mutex
	made := 0
	begin := func() {
		all.Go(func() {
			b := w.browser()
			a := b.post("/enrol/begin", "login", "bob", "password", password)
			pending, ticket := findPending.FindStringSubmatch(a.body), findTicket.FindStringSubmatch(a.body)
			if pending == nil || ticket == nil {
				return // another one was quicker
			}
			secret, _ := a.scanned(t)
			a = w.browser().post("/enrol/code", "ticket", ticket[1], "pending", pending[1], "code", w.codeOf(secret))
			if a.StatusCode != http.StatusForbidden && a.StatusCode != http.StatusGone {
				t.Errorf("another browser went on: %d", a.StatusCode)
			}
			if a = b.post("/enrol/code", "ticket", ticket[1], "pending", pending[1], "code", w.codeOf(secret)); a.StatusCode == http.StatusOK {
				mu.Lock()
				made++
				mu.Unlock()
			}
		})
	}
	for range 8 {
		begin()
	}
	if all.Wait(); made == 0 {
		begin()
		all.Wait()
	}
	tokens, err := w.Store.Tokens.List(t.Context(), bob.ID)
	must(t, err)
	if made != 1 || len(tokens) != 1 || len(w.events(audit.TokenEnrolled)) != 1 {
		t.Errorf("%d forms were taken, and there are %d tokens", made, len(tokens))
	}
	w.browser().post("/enrol/begin", "login", "bob", "password", password).want(t, "afterwards", http.StatusForbidden)

	// A page of another site begins nothing.
	r, err := http.NewRequest(http.MethodPost, w.URL+"/enrol/begin", strings.NewReader(url.Values{"login": {"bob"}, "password": {password}}.Encode()))
	must(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://elsewhere.example")
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("another site: %d", resp.StatusCode)
	}
}
