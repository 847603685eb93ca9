package admin

import (
	"context"
	"errors"

	"sallyport/audit"
	"sallyport/internal/notify"
	"sallyport/store"
)

const seeOutbox = "see: sallyport outbox list"

// setContact changes where a person's messages and codes go: addresses of local users, and how anybody is sent
// codes. What is nil stays as it is. The person is told at the address before, too.
func (s *Server) setContact(ctx context.Context, by Caller, login string, n NewContact) (store.User, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return store.User{}, err
	}
	email, phone := u.Email, u.Phone
	if n.Email != nil {
		email = *n.Email
	}
	if n.Phone != nil {
		if phone, err = s.checkPhone(*n.Phone); err != nil {
			return store.User{}, err
		}
	}
	if n.CodeBy != nil {
		if err := s.checkCodeBy(*n.CodeBy); err != nil {
			return store.User{}, err
		}
	}
	if email != u.Email || phone != u.Phone {
		if u.Source != store.Local {
			return store.User{}, conflict("change it in the directory", "%s comes from the directory", u.Login)
		}
		if err := checkEmail(email); err != nil {
			return store.User{}, err
		}
		if err := s.cfg.Store.Users.SetContact(ctx, u, email, phone); err != nil {
			return store.User{}, err
		}
		detail := map[string]string{}
		if email != u.Email && u.Email != "" {
			detail["was"] = u.Email
		}
		s.changed(ctx, by, "user.contact", audit.Event{User: u.Login, Detail: detail})
	}
	if n.CodeBy != nil && *n.CodeBy != u.CodeBy {
		if err := s.cfg.Store.Users.SetCodeBy(ctx, u.ID, *n.CodeBy); err != nil {
			return store.User{}, err
		}
		s.changed(ctx, by, "user.code-by", audit.Event{User: u.Login, Detail: map[string]string{"by": *n.CodeBy}})
	}
	return s.user(ctx, login)
}

// checkPhone returns a telephone number in E.164; an empty one takes it away.
func (s *Server) checkPhone(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	number, err := s.cfg.Numbers.Normalise(text)
	if err != nil {
		return "", invalid("give it with its country, such as +49 151 12345678", "%s is no telephone number", audit.Escape(text))
	}
	return number, nil
}

func checkEmail(text string) error {
	if text == "" {
		return nil
	}
	if _, _, err := notify.ParseAddress(text); err != nil {
		return invalid("give it as alice@example.org", "%s is no e-mail address", audit.Escape(text))
	}
	return nil
}

func (s *Server) checkCodeBy(by string) error {
	switch {
	case by == "" || by == "off":
		return nil
	case by != store.ByMail && by != store.BySMS:
		return invalid("use mail, sms, off or nothing", "codes cannot be sent by %s", audit.Escape(by))
	case !s.cfg.Engine.CanSend(by):
		return conflict("the configuration needs the sections sent-codes: and "+by+":", "this server sends no codes by %s", by)
	}
	return nil
}

// outbox lists mails and short messages, newest first, without what is in them.
func (s *Server) outbox(ctx context.Context, state string, limit int) ([]store.OutMessage, error) {
	return s.cfg.Store.Outbox.List(ctx, state, limit)
}

// retryMessage has a message sent now, also one that was given up.
func (s *Server) retryMessage(ctx context.Context, by Caller, id string) (store.OutMessage, error) {
	err := s.cfg.Store.Outbox.Retry(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		if _, err := s.cfg.Store.Outbox.Get(ctx, id); err == nil {
			return store.OutMessage{}, conflict(seeOutbox, "this message is being sent, was sent, or is a code whose time is over")
		}
	}
	if err := ifNotFound(err, seeOutbox, "there is no message of that id"); err != nil {
		return store.OutMessage{}, err
	}
	s.changed(ctx, by, "outbox.retry", audit.Event{Detail: map[string]string{"id": id}})
	_ = s.cfg.Store.Bus.Publish(ctx, store.TopicOutbox, "") // else it leaves a little later
	return s.cfg.Store.Outbox.Get(ctx, id)
}

// dropMessage deletes a message. One that is just being sent may leave all the same.
func (s *Server) dropMessage(ctx context.Context, by Caller, id string) error {
	m, err := s.cfg.Store.Outbox.Get(ctx, id)
	if err == nil {
		err = s.cfg.Store.Outbox.Drop(ctx, id)
	}
	if err := ifNotFound(err, seeOutbox, "there is no message of that id"); err != nil {
		return err
	}
	s.changed(ctx, by, "outbox.drop", audit.Event{User: m.User, Detail: map[string]string{"id": id, "kind": m.Kind, "state": m.State}})
	return nil
}
