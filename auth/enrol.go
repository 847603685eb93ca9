package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/otp"
	"sallyport/store"
)

// enrolGrid is the time grid between password and next prompt where enrolment at login is on.
const enrolGrid = 250 * time.Millisecond

// enrolTries is how many codes a person may type to prove a new token before starting over.
const enrolTries = 3

// errAskCode says: the password was refused, and counted; ask for a code as from anybody, and refuse.
var errAskCode = errors.New("before enrolment")

// Enrolment is a secret that a person has been shown and has not yet proved.
type Enrolment struct {
	Secret otp.Secret
	Params otp.Params
	URI    string // otpauth://…, holds the secret
	Waits  bool   // the token is good once an operator approves it
}

// token is the token that en becomes.
func (en Enrolment) token(user store.User, name string) store.Token {
	return store.Token{
		UserID: user.ID, Name: name, Kind: "totp", Algorithm: string(en.Params.Algorithm),
		Digits: en.Params.Digits, Period: en.Params.Period, Enabled: !en.Waits, Waiting: en.Waits,
	}
}

// NewEnrolment makes a secret for login.
func (e *Engine) NewEnrolment(login string) Enrolment {
	return e.EnrolmentOf(login, otp.NewSecret())
}

// ConfirmEnrolment makes en the first token of user once code proves that the person has it. The
// code's step is consumed with it. ErrCode if the code is wrong, store.ErrExists if the user has a
// token by now.
func (e *Engine) ConfirmEnrolment(ctx context.Context, user store.User, en Enrolment, name, code string) (store.Token, error) {
	step, err := e.proveEnrolment(en, code)
	if err != nil {
		return store.Token{}, err
	}
	t, err := e.cfg.Store.Tokens.AddFirst(ctx, en.token(user, name), en.Secret, step)
	if err != nil {
		return store.Token{}, fmt.Errorf("storing the first token of %s: %w", user.Login, err)
	}
	return t, nil
}

func (e *Engine) proveEnrolment(en Enrolment, code string) (step int64, err error) {
	digits, err := otp.Normalise(code, en.Params.Digits)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrCode, err)
	}
	m := en.Params.Match(en.Secret, digits, en.Params.StepAt(e.cfg.Now()), 0, e.cfg.Window)
	if !m.OK {
		return 0, ErrCode
	}
	return m.Step, nil
}

// mayEnrol tells whether s is a person who has nothing to type as a code yet, and is sent none: where codes are sent,
// whoever has the password alone must not get a token by it, also where a sent code does not do.
func (c *Conversation) mayEnrol(s subject) bool {
	return s.err == nil && s.robot == nil && (s.user == nil || s.user.Tokens == 0) && c.e.sendsBy(s) == ""
}

// enrol checks the password first, because a secret is shown only to the person, then shows the
// secret and asks a code back. errAskCode: the password was wrong.
func (c *Conversation) enrol(ctx context.Context, ask Asker, k *known) (*Identity, error) {
	hard, s := context.WithoutCancel(ctx), k.subject
	id, err := c.evaluate(hard, &known{subject: s, target: k.target, lockout: k.lockout}, "", nil)
	switch {
	case errors.Is(err, ErrUnavailable):
		c.reportRefusal(hard, s, err)
		return nil, refused(err)
	case err != nil:
		c.reportRefusal(hard, s, err)
		return nil, fmt.Errorf("%w: %w", errAskCode, err)
	}
	en := c.e.NewEnrolment(id.Login)
	if err := ask.Show(ctx, enrolmentText(en)); err != nil {
		return nil, fmt.Errorf("showing the enrolment: %w", err)
	}
	for range enrolTries {
		code, err := askOne(ctx, ask, Prompt{Text: PromptNewCode, Echo: true})
		if err != nil {
			return nil, err
		}
		user := store.User{ID: id.UserID, Login: id.Login}
		_, err = c.e.ConfirmEnrolment(hard, user, en, "enrolled by SSH", code)
		switch {
		case errors.Is(err, ErrCode):
			if err := ask.Show(ctx, "That code does not fit. Wait for the next one on your device, check that its clock is right, and type it.\n"); err != nil {
				return nil, err
			}
			continue
		case err != nil:
			return nil, c.refuseEnrolment(hard, s, err)
		}
		if en.Waits {
			return nil, c.enrolledAndWaits(ctx, ask, id)
		}
		id.Factors, id.CodeAt = append(id.Factors, "enrolment"), c.e.cfg.Now()
		if err := c.reportEnrolment(hard, id); err != nil {
			return nil, c.refuseEnrolment(hard, s, err)
		}
		c.firstRecoveryCodes(ctx, ask, user)
		return id, nil
	}
	return nil, c.refuseEnrolment(hard, s, ErrCode)
}

func (c *Conversation) refuseEnrolment(ctx context.Context, s subject, cause error) error {
	if !errors.Is(cause, ErrCode) && !errors.Is(cause, store.ErrExists) {
		cause = fmt.Errorf("%w: %w", ErrUnavailable, cause)
	}
	cause = fmt.Errorf("enrolment: %w", cause)
	c.reportRefusal(ctx, s, cause)
	return refused(cause)
}

// enrolledAndWaits tells a person that their token is not good yet, and refuses.
func (c *Conversation) enrolledAndWaits(ctx context.Context, ask Asker, id *Identity) error {
	hard := context.WithoutCancel(ctx)
	_ = c.e.cfg.Audit.Emit(hard, audit.Event{
		Type: audit.TokenEnrolled, Result: audit.OK, Door: c.a.Door, User: id.Login, Source: c.a.Source.String(), Detail: map[string]string{"state": store.TokenWaiting},
	})
	_ = ask.Show(ctx, "Your token is set up. An operator has to approve it before its codes are accepted; then log in again.\n")
	return refused(fmt.Errorf("%w that is approved: the new one waits for an operator", ErrNoToken))
}

// firstRecoveryCodes shows a person who has just enrolled ten recovery codes. Without them the login goes on: the
// portal makes others.
func (c *Conversation) firstRecoveryCodes(ctx context.Context, ask Asker, user store.User) {
	hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.e.cfg.Budget)
	defer cancel()
	if left, err := c.e.cfg.Store.SpareCodes.Left(hard, user.ID); err != nil || left > 0 {
		return
	}
	codes, err := c.e.NewRecoveryCodes(hard, user, user.Login)
	if err != nil {
		return
	}
	_ = c.e.cfg.Audit.Emit(hard, audit.Event{
		Type: audit.AccountChanged, Result: audit.OK, Door: c.a.Door, User: user.Login, Source: c.a.Source.String(),
		Detail: map[string]string{"change": "recovery-codes.new"},
	})
	_ = ask.Show(ctx, "\nYour recovery codes. Each is good once in the place of a code, should the token be lost. They are shown this once; write them down:\n\n  "+
		strings.Join(codes, "\n  ")+"\n\n")
}

func (c *Conversation) reportEnrolment(ctx context.Context, id *Identity) error {
	err := c.e.cfg.Audit.Emit(ctx, audit.Event{
		Type: audit.TokenEnrolled, Result: audit.OK, Door: c.a.Door, User: id.Login, Source: c.a.Source.String(),
	})
	if err != nil {
		return err
	}
	if err := c.e.cfg.Audit.Emit(ctx, c.accepted(id)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// enrolmentText is what the person sees once: the QR code, and the secret for those who cannot scan.
func enrolmentText(en Enrolment) string {
	var b strings.Builder
	b.WriteString("\nYou have no token yet. Scan this with an authenticator app:\n\n")
	if qr, err := otp.TerminalQR(en.URI); err == nil {
		b.WriteString(qr)
	}
	b.WriteString("\nCannot scan it? Type this key into the app (time-based, 6 digits):\n  ")
	b.WriteString(groupsOfFour(en.Secret.Base32()))
	b.WriteString("\nThen type the code that the app shows.\n")
	return b.String()
}

func groupsOfFour(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i += 4 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s[i:min(i+4, len(s))])
	}
	return b.String()
}
