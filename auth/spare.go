package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"sallyport/audit"
	"sallyport/otp"
	"sallyport/store"
)

const (
	recoveryCodes = 10 // that a person gets
	fewCodes      = 3  // with fewer left the person is told at each login
)

// NewRecoveryCodes gives a user ten recovery codes in the place of any before, and returns them as the
// person must write them down: they cannot be shown again. by is who asked for them. Whoever calls it
// leaves the audit event.
func (e *Engine) NewRecoveryCodes(ctx context.Context, user store.User, by string) ([]string, error) {
	var shown, kept []string
	for range recoveryCodes {
		code, canonical, err := newSpare()
		if err != nil {
			return nil, err
		}
		shown, kept = append(shown, code), append(kept, canonical)
	}
	if err := e.cfg.Store.SpareCodes.ReplaceRecovery(ctx, user.ID, by, kept); err != nil {
		return nil, fmt.Errorf("making recovery codes for %s: %w", user.Login, err)
	}
	return shown, nil
}

// NewBypassCode gives a user a code that stands for one code of a token until it expires, and returns it
// as it is read out to the person: it cannot be shown again. Whoever calls it leaves the audit event.
func (e *Engine) NewBypassCode(ctx context.Context, user store.User, by, reason string, life time.Duration) (code string, expires time.Time, err error) {
	code, canonical, err := newSpare()
	if err != nil {
		return "", time.Time{}, err
	}
	expires = e.cfg.Now().Add(life).UTC().Truncate(time.Millisecond)
	err = e.cfg.Store.SpareCodes.AddBypass(ctx, store.SpareCode{UserID: user.ID, Reason: reason, Issuer: by, Expires: expires}, canonical)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("making a bypass code for %s: %w", user.Login, err)
	}
	return code, expires, nil
}

func newSpare() (code, canonical string, err error) {
	code = otp.NewSpareCode()
	canonical, err = otp.NormaliseSpare(code)
	return code, canonical, err
}

// takeSpare takes a recovery or bypass code, at once and whatever becomes of the attempt. The event says
// that it is gone; whether the person got in is another one.
func (c *Conversation) takeSpare(ctx context.Context, s subject, code string, v *verdict) error {
	if s.user == nil {
		return ErrNoToken
	}
	spare, err := c.e.cfg.Store.SpareCodes.Take(ctx, s.user.ID, code)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrCode
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	v.factor = spare.Kind
	ev := audit.Event{
		Type: audit.RecoveryUsed, Result: audit.OK, Door: c.a.Door, User: s.login, Source: sourceText(c.a.Source), Target: c.a.Target,
		Account: c.a.Account, Detail: map[string]string{"client": c.a.Client, "made_by": spare.Issuer},
	}
	if spare.Kind == store.BypassCode {
		ev.Type, ev.Reason = audit.BypassUsed, spare.Reason
	} else if left, err := c.e.cfg.Store.SpareCodes.Left(ctx, s.user.ID); err == nil {
		ev.Detail["left"] = strconv.Itoa(left)
	}
	_ = c.e.cfg.Audit.Emit(ctx, ev) // kept in memory and flushed later if the database is away
	return nil
}

// remind tells a person who got in by a recovery code, or has few of them, how many are left. Nothing
// depends on whether that can be told.
func (c *Conversation) remind(ctx context.Context, ask Asker, id *Identity) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.e.cfg.Budget)
	defer cancel()
	left, err := c.e.cfg.Store.SpareCodes.Left(ctx, id.UserID)
	used := slices.Contains(id.Factors, store.RecoveryCode)
	if err != nil || !used && (left == 0 || left >= fewCodes) {
		return
	}
	text := fmt.Sprintf("You have %d recovery codes left.", left)
	switch left {
	case 0:
		text = "That was your last recovery code."
	case 1:
		text = "You have one recovery code left."
	}
	switch {
	case left < fewCodes && c.e.cfg.URL != "":
		text += " Make new ones here: " + c.e.cfg.URL + "/me"
	case left < fewCodes:
		text += " Ask an operator for new ones."
	}
	_ = ask.Show(ctx, text+"\n")
}

// isSpare tells whether what was typed is written as a recovery or bypass code.
func isSpare(code string) bool {
	_, err := otp.NormaliseSpare(code)
	return err == nil
}
