package notify

import (
	"fmt"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/store"
)

// CodeMessage is the message that carries a one-time code to a person.
func CodeMessage(channel, name, login, source, code string) (subject, text string) {
	minutes := int(store.SentCodeLife.Minutes())
	if channel == store.BySMS {
		return "", fmt.Sprintf("%s is your code for %s, good for %d minutes, for a login from %s. Not you? Somebody knows your password: tell an operator.",
			code, name, minutes, source)
	}
	// The subject can be read on a locked screen, so that the code is not in it.
	return "Your code for " + name, fmt.Sprintf(`Your code is

    %s

Type it where you were asked for it. It is good for %d minutes, once, and only there.

  for     %s
  from    %s
  asked   %s

If you did not just try to log in, somebody knows your password: change it, and tell an operator. Give the code to
nobody; no operator needs it.
`, code, minutes, login, source, time.Now().UTC().Format("2006-01-02 15:04:05 UTC"))
}

// Decision is what others have decided about a session that somebody waited for.
type Decision struct {
	Code, Where, Asked string    // the request
	At                 time.Time // when it was made
	Approved           bool
	By                 string // who agreed
	Reason             string // why it was refused, with who did
}

// DecisionMessage is the mail to somebody who was gone when others had decided about their session.
func DecisionMessage(name, login string, d Decision) (subject, text string) {
	what, next := "refused", "It was refused: "+audit.Escape(d.Reason)
	if d.Approved {
		what = "approved, but you were gone"
		next = "It was approved by " + audit.Escape(d.By) + ". But you were not connected any more, and an approval is good for that one connection: connect again, and ask anew."
	}
	return fmt.Sprintf("[%s] %s: %s", name, audit.Escape(d.Where), what), fmt.Sprintf("Hello %s,\n\nyour request %s was decided.\n\n  %-12s %s\n  %-12s %s\n  %-12s %s\n\n%s\n\n"+
		"If you did not ask, somebody has your password and your code: tell an operator.\n\n-- \n%s, sent by a program: answers are not read.\n",
		audit.Escape(login), d.Code, "when", d.At.UTC().Format("2006-01-02 15:04:05 UTC"), "where", audit.Escape(d.Where), "came with", audit.Escape(d.Asked), next, name)
}

// EnrolmentMessage is the mail with the one-time link by which a person sets up a token.
func EnrolmentMessage(name, login, url string, expires time.Time) (subject, text string) {
	return "Set up your one-time codes for " + name, fmt.Sprintf(`Hello %s,

from now on %s asks you for a one-time code. Open this link in a browser to set up a token, such as an app on your
telephone:

  %s

It is good once, until %s, for the first browser that opens it, and asks for your password. Do not pass it on.

If you do not know what this is about, ask an operator.

-- 
%s, sent by a program: answers are not read.
`, audit.Escape(login), name, url, expires.UTC().Format("2006-01-02 15:04 UTC"), name)
}

// told is what a person is told of an event about them.
type told struct {
	subject, what, next string
}

const (
	notYou   = "If you know of it, there is nothing to do. If not, tell an operator at once: somebody else may be able to log in as you."
	notKnown = "If that was not you, somebody has your password or your code: change the password, and tell an operator."
)

// personal are the events of which the person is told, by type, for changes by operators with what was changed.
var personal = map[string]told{
	audit.TokenEnrolled:                          {"A token was added to your account", "A new token was added. Its codes open your account together with your password.", notYou},
	audit.OperatorChange + " token.add":          {"A token was added to your account", "An operator has added a token. Its codes open your account together with your password.", notYou},
	audit.OperatorChange + " enrolment.create":   {"A token was added to your account", "A program that may do so has set up a token for you. Its codes open your account together with your password; if the state below is waiting, an operator has to approve it first.", notYou},
	audit.OperatorChange + " token.assign":       {"A token was added to your account", "An operator has given you a token. Its codes open your account together with your password.", notYou},
	audit.OperatorChange + " token.delete":       {"A token was removed from your account", "An operator has removed one of your tokens. Its codes are not accepted any more.", notYou},
	audit.OperatorChange + " user.password":      {"Your password was changed", "An operator has changed your password.", notYou},
	audit.OperatorChange + " user.key.add":       {"A key was added to your account", "An operator has added a public key that stands for your password.", notYou},
	audit.OperatorChange + " user.contact":       {"Your addresses were changed", "An operator has changed your e-mail address or telephone number. Messages about your account go to the new ones from now on.", notYou},
	audit.OperatorChange + " user.code-by":       {"How you get codes was changed", "An operator has changed how one-time codes are sent to you.", notYou},
	audit.OperatorChange + " user.lock":          {"Your account was locked", "An operator has locked your account. You cannot log in, and your sessions were ended.", "If you do not know why, ask an operator."},
	audit.RecoveryUsed:                           {"A recovery code of yours was used", "A recovery code was used in the place of a code of your token. It is used up.", notYou},
	audit.BypassUsed:                             {"A code from an operator was used", "The code that an operator gave out for you was used. It is used up.", notYou},
	audit.TokenEnrolled + " waiting":             {"A token was set up for your account", "A new token was set up. An operator has to approve it before its codes are accepted.", notYou},
	audit.OperatorChange + " token.approve":      {"Your token was approved", "An operator has approved your new token. Its codes open your account together with your password.", notYou},
	audit.OperatorChange + " token.reset":        {"Your tokens were removed", "An operator has removed all your tokens and recovery codes, so that you can set up a new one.", notYou},
	audit.OperatorChange + " user.enrol-link":    {"A link to set up a token was made", "An operator has made a one-time link by which you set up a token with your password.", notYou},
	audit.AccountChanged + " enrol-link":         {"You logged in without a code", "You have no token yet and were let in without a code. A link to set one up was shown.", notYou},
	audit.AccountChanged + " token.delete":       {"A token was removed from your account", "One of your tokens was removed on your own pages. Its codes are not accepted any more.", notYou},
	audit.AccountChanged + " token.lost":         {"A token of yours was marked as lost", "One of your tokens was marked as lost on your own pages. Its codes are not accepted any more.", notYou},
	audit.AccountChanged + " token.rename":       {"A token of yours was renamed", "One of your tokens has another name now.", notYou},
	audit.AccountChanged + " recovery-codes.new": {"New recovery codes were made for you", "New recovery codes were made for your account. Those from before are not accepted any more.", notYou},
	audit.AccountChanged + " key.add":            {"A key was added to your account", "A public key that stands for your password was added on your own pages.", notYou},
	audit.AccountChanged + " key.delete":         {"A key was removed from your account", "A public key was removed on your own pages.", notYou},
	audit.AccountAlarm:                           {"Your account was locked: you said it was not you", "On your own pages somebody said that another person has signed in as you. Your account is locked, and all your sessions were ended.", "An operator unlocks it once it is clear what happened: call one. Change your password first if you can."},
	audit.TokenResynced:                          {"A token of yours was resynchronised", "Two codes in a row told where your token is.", notYou},
	audit.GrantsRevoked:                          {"A code is asked for again", "Places were forgotten from which no code was asked for.", notYou},
	audit.OperatorChange + " bypass-code.new":    {"An operator gave out a code for you", "An operator has made a code that opens your account once, together with your password.", notYou},
	audit.OperatorChange + " recovery-codes.new": {"New recovery codes were made for you", "New recovery codes were made for your account. Those from before are not accepted any more.", notYou},
	audit.OperatorChange + " lockout.add":        {"Logins to your account are refused", "An operator has set a lock on logins with your name.", "If you do not know why, ask an operator."},
	audit.LockoutSet:                             {"Logins to your account are refused for a while", "There were too many wrong passwords or codes. Logins with your name are refused there for a while, with right answers too.", "If that was you, wait, or ask an operator to clear it. " + notKnown},
	audit.PlacesMany:                             {"Your account is used from many addresses", "Within a short time your account was signed in to from several addresses that it was never used from before. Where it says so below, it was locked, and your sessions were ended.", "If you were travelling, all is well; if your account is locked, ask an operator. " + notKnown},
	audit.CodeReplayed:                           {"A code of yours was used a second time", "A code was typed that had been used already. It was refused.", "You may have typed it twice yourself, in which case all is well. " + notKnown},
}

// detailNames are the details of events that people understand, in their order.
var detailNames = []struct{ key, name string }{
	{"name", "token"}, {"token_name", "token"}, {"used_at", "first used"}, {"used_source", "first from"}, {"used_door", "first at"},
	{"left", "codes left"}, {"key", "key"}, {"until", "until"}, {"fingerprint", "fingerprint"}, {"known", "known"}, {"shown", "shown"},
	{"networks", "addresses"}, {"locked", "locked"}, {"lock", "lock"}, {"recording", "recording"}, {"channel", "channel"}, {"path", "path"},
	{"asked", "came with"}, {"expires", "expires"}, {"state", "state"},
}

// facts says in lines what an event holds. Its fields are escaped, so that each stays on its line.
func facts(e audit.Event) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "  %-12s %s\n", name, value)
		}
	}
	line("when", e.Time.UTC().Format("2006-01-02 15:04:05 UTC"))
	line("from", e.Source)
	line("user", e.User)
	line("target", e.Target)
	line("account", e.Account)
	line("by", e.Actor)
	line("reason", e.Reason)
	for _, d := range detailNames {
		if v := e.Detail[d.key]; !strings.HasPrefix(v, "9999-") { // until an operator clears it
			line(d.name, v)
		}
	}
	line("session", e.Session)
	line("node", e.Node)
	line("event", e.ID)
	return b.String()
}

// footer ends every message.
func footer(name string, perHour int) string {
	return fmt.Sprintf("\n-- \n%s, sent by a program: answers are not read. At most %d messages of this kind are sent in an hour.\n", name, perHour)
}
