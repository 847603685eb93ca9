package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/identity"
	"sallyport/internal/notify"
	"sallyport/otp"
	"sallyport/store"
)

// FactorSent is the factor of [Identity] that stands for a code sent by mail or SMS: somebody who reads the
// person's mail has it too, so that it does not do where a rule demands a token.
const FactorSent = "sent"

// SentCodes is how codes are sent to people who have no token. The zero value sends none.
type SentCodes struct {
	By        string // unless an operator says otherwise for a person: store.ByMail, store.BySMS; else nobody
	Mail, SMS bool   // such messages can be sent at all
	Limits    store.SendLimits
	Mailboxes notify.Mailboxes
	Numbers   notify.Numbers
	Book      *identity.AddressBook // nil: none
}

const (
	sentDigits  = 6
	maxResends  = 4                // answers of one prompt that ask for another code
	sendingTime = 10 * time.Second // for address book and database; the person waits for none of it
)

// cannotAsk is an Asker that can ask nothing: it finds out whether there is something to ask.
type cannotAsk interface{ CannotAsk() }

// sending is a code on its way to the person of a conversation.
type sending struct {
	userID string
	by     string
	done   chan struct{} // closed once the code is in the outbox, or will never be
}

// sendsCodes tells whether anybody at all is sent codes. Then everybody meets the same pauses and prompts.
func (e *Engine) sendsCodes() bool { return e.cfg.Sent.Mail || e.cfg.Sent.SMS }

// CanSend tells whether codes can be sent by a channel, such as [store.ByMail].
func (e *Engine) CanSend(by string) bool {
	return by == store.ByMail && e.cfg.Sent.Mail || by == store.BySMS && e.cfg.Sent.SMS
}

// sendsBy tells how s is sent codes; "": not at all. Whoever has a token types its codes.
func (e *Engine) sendsBy(s subject) string {
	if s.err != nil || s.user != nil && s.user.Tokens > 0 {
		return ""
	}
	by := e.cfg.Sent.By
	if s.user != nil && s.user.CodeBy != "" {
		by = s.user.CodeBy
	}
	if !e.CanSend(by) {
		return ""
	}
	return by
}

// sendsHere tells whether anybody is sent codes at this door. That is for SSH, and machines that ask for the code after the
// password: operators' pages take both answers at once, and demand a token.
func (c *Conversation) sendsHere() bool {
	return c.e.sendsCodes() && (c.a.Door == audit.DoorSSH || c.steps)
}

// sends tells how the person of this conversation is sent a code, once the first factor was verified; "": not at all.
func (c *Conversation) sends(k *known) string {
	if !k.needCode || k.tokenOnly || !c.sendsHere() {
		return ""
	}
	if c.a.Channel != "" && (k.decision == nil || !k.decision.Allow) {
		return "" // no code would help
	}
	return c.e.sendsBy(k.subject)
}

// sendAfterFirst verifies the first factor alone, counts a failure, and has a code sent if it is right. An
// error other than ErrUnavailable is for the log: the person goes on to the same prompt as everybody.
func (c *Conversation) sendAfterFirst(ctx context.Context, k *known, by string) error {
	id, err := c.proveFirst(ctx, k)
	if err != nil {
		c.reportRefusal(ctx, k.subject, err)
		return err
	}
	if k.subject.user == nil { // the row was made just now
		u, err := c.e.cfg.Store.Users.ByID(ctx, id.UserID)
		if err != nil {
			err = fmt.Errorf("%w: reading the user: %w", ErrUnavailable, err)
			c.reportRefusal(ctx, k.subject, err)
			return err
		}
		k.subject.user = &u
	}
	now := &sending{userID: id.UserID, by: by, done: make(chan struct{})}
	c.sending = now
	go func() {
		defer close(now.done)
		ctx, cancel := context.WithTimeout(ctx, sendingTime)
		defer cancel()
		waiting, err := c.e.cfg.Store.SentCodes.Outstanding(ctx, id.UserID, c.a.ID, c.codeSource())
		if err == nil && waiting {
			return // sent in an earlier try of this connection, and still good
		}
		c.send(ctx, k, id.UserID, by)
	}()
	return nil
}

// proveFirst evaluates the first factor alone. A failure counts; a success is no login yet, and forgets no
// failures: whoever has the password could guess at codes for ever.
func (c *Conversation) proveFirst(ctx context.Context, k *known) (*Identity, error) {
	r, err := c.reserve(ctx, k)
	if err != nil {
		return nil, err
	}
	judging, cancel := context.WithTimeout(ctx, c.e.cfg.Budget)
	defer cancel()
	var v verdict
	if err := c.judge(judging, &known{subject: k.subject, decision: k.decision}, "", &v); err != nil {
		return nil, c.settle(ctx, r, k.subject, err, "")
	}
	if err := c.e.cfg.Store.Attempts.Cancel(ctx, r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return v.id, nil
}

// askCode asks for the code. Where codes are sent, an empty answer or "r" asks for another one; everybody gets
// the same prompt again, whether one is sent or not.
func (c *Conversation) askCode(ctx context.Context, ask Asker, k *known) (string, error) {
	for resends := 0; ; resends++ {
		code, err := askOne(ctx, ask, Prompt{Text: PromptCode})
		if err != nil || !c.sendsHere() || resends >= maxResends || !asksAgain(code) {
			return code, err
		}
		if c.sending != nil {
			c.sendAgain(context.WithoutCancel(ctx), k)
		}
	}
}

func asksAgain(answer string) bool {
	answer = strings.TrimSpace(answer)
	return answer == "" || strings.EqualFold(answer, "r")
}

// sendAgain has another code sent, after the one that is on its way.
func (c *Conversation) sendAgain(ctx context.Context, k *known) {
	before := c.sending
	now := &sending{userID: before.userID, by: before.by, done: make(chan struct{})}
	c.sending = now
	go func() {
		defer close(now.done)
		<-before.done
		ctx, cancel := context.WithTimeout(ctx, sendingTime)
		defer cancel()
		c.send(ctx, k, now.userID, now.by)
	}()
}

// send makes a code and puts it into the outbox. Whatever comes of it is told to operators alone.
func (c *Conversation) send(ctx context.Context, k *known, userID, by string) {
	s := k.subject
	e := audit.Event{
		Type: audit.CodeSent, Result: audit.OK, Door: c.a.Door, User: s.login, Source: sourceText(c.a.Source), Target: c.a.Target, Account: c.a.Account,
		Detail: map[string]string{"by": by},
	}
	to, err := c.e.recipient(ctx, s, by)
	if err == nil {
		e.Detail["to"] = masked(to)
		code := otp.NewSentCode(sentDigits)
		m := store.OutMessage{Channel: by, User: s.login, Recipient: to}
		m.Subject, m.Text = notify.CodeMessage(by, c.e.cfg.Issuer, s.login, c.from(), code)
		err = c.e.cfg.Store.SentCodes.Issue(ctx, store.NewSentCode{
			UserID: userID, Attempt: c.a.ID, Source: c.codeSource(), Network: c.codeNetwork(), Code: code, Message: m, Limits: c.e.cfg.Sent.Limits,
		})
	}
	switch {
	case errors.Is(err, errNoRecipient) || errors.Is(err, notify.ErrRejected) || errors.Is(err, store.ErrSendLimit):
		e.Result, e.Reason = audit.Refused, err.Error()
	case err != nil:
		e.Result, e.Reason = audit.Error, err.Error()
	default:
		_ = c.e.cfg.Store.Bus.Publish(ctx, store.TopicOutbox, "") // else it leaves a little later
	}
	_ = c.e.cfg.Audit.Emit(ctx, e) // kept in memory and written later if the database is away
}

// codeSource is the address that a sent code is good for. Where a machine asks for a person of whom nobody knows where
// they are, the code is bound by the attempt alone.
func (c *Conversation) codeSource() netip.Addr {
	if c.a.Peer != "" && !c.a.Source.IsValid() {
		return netip.IPv6Unspecified()
	}
	return c.a.Source
}

// codeNetwork is what the source counts as for the limits; "": it is not known.
func (c *Conversation) codeNetwork() string {
	if !c.a.Source.IsValid() {
		return ""
	}
	return counterSource(c.a.Source)
}

// from says to the person where they are, as far as that is known.
func (c *Conversation) from() string {
	switch from := sourceText(c.a.Source.Unmap()); {
	case c.a.Peer == "":
		return from
	case from == "":
		return c.a.Peer
	default:
		return from + " by " + c.a.Peer
	}
}

// errNoRecipient is why there is nowhere to send a code to.
var errNoRecipient = errors.New("neither the directory nor the address book nor the database has an address for codes")

// recipient is where codes for s go: what the directory says, for local users what an operator wrote down, for
// a telephone number else the address book. Nobody is ever asked.
func (e *Engine) recipient(ctx context.Context, s subject, by string) (string, error) {
	email, phone := "", ""
	switch {
	case s.person != nil:
		email, phone = s.person.Email, s.person.Phone
	case s.user != nil:
		email, phone = s.user.Email, s.user.Phone
	}
	if by == store.ByMail {
		if email == "" {
			return "", errNoRecipient
		}
		return email, e.cfg.Sent.Mailboxes.AllowDomain(email)
	}
	if phone == "" && e.cfg.Sent.Book != nil {
		var err error
		if phone, err = e.cfg.Sent.Book.Phone(ctx, s.login); err != nil {
			return "", err
		}
	}
	if phone == "" {
		return "", errNoRecipient
	}
	number, err := e.cfg.Sent.Numbers.Normalise(phone)
	if err != nil {
		return "", fmt.Errorf("%w: %w", notify.ErrRejected, err)
	}
	return number, e.cfg.Sent.Numbers.Allow(number)
}

// masked shows enough of a recipient to tell it from others.
func masked(to string) string {
	if name, domain, isMail := strings.Cut(to, "@"); isMail {
		first := []rune(name)
		return string(first[:min(len(first), 1)]) + "***@" + domain
	}
	if len(to) < 8 {
		return "***"
	}
	return to[:4] + "***" + to[len(to)-2:]
}

// judgeSent takes the code that was sent in this attempt. It is consumed when it matches, whatever becomes of
// the first factor. Nothing waits for a code that is not sent yet: nobody can have it, and the wait would tell
// that the first factor was right.
func (c *Conversation) judgeSent(ctx context.Context, code string) error {
	digits, err := otp.Normalise(code, sentDigits)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCode, err)
	}
	switch ok, err := c.e.cfg.Store.SentCodes.Take(ctx, c.sending.userID, c.a.ID, c.codeSource(), digits); {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case !ok:
		return fmt.Errorf("%w: not the one that was sent, or its time or tries were over", ErrCode)
	}
	return nil
}

// onlySent tells whether what id proved besides the first factor was a code by mail or SMS.
func (id Identity) onlySent() bool { return slices.Contains(id.Factors, FactorSent) }
