package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/internal/notify"
	"sallyport/store"
)

// enrolLink makes the one-time link by which login sets up a token. With reset all their tokens and recovery codes
// are taken away first (T8); without, there is none for somebody who has a usable token.
func (s *Server) enrolLink(ctx context.Context, by Caller, login string, reset bool) (url string, expires time.Time, err error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return "", time.Time{}, err
	}
	if err := s.canEnrol(u); err != nil {
		return "", time.Time{}, err
	}
	if reset {
		if err := s.resetTokens(ctx, by, u); err != nil {
			return "", time.Time{}, err
		}
	}
	return s.newLink(ctx, by, u, "user.enrol-link")
}

// canEnrol refuses a link that could not be used.
func (s *Server) canEnrol(u store.User) error {
	switch {
	case s.cfg.URL == "":
		return conflict("set web: listen, or web: url", "there is no web for a link to lead to")
	case u.Source == store.Local && !u.HasPassword:
		return conflict("set one: sallyport user password "+u.Login, "%s has no password, which the link asks for", u.Login)
	}
	return nil
}

// resetTokens takes all tokens and recovery codes from a person, and signs their browsers out, so that they start anew.
func (s *Server) resetTokens(ctx context.Context, by Caller, u store.User) error {
	n, err := s.cfg.Store.Tokens.Clear(ctx, u.ID)
	if err != nil {
		return err
	}
	s.changed(ctx, by, "token.reset", audit.Event{User: u.Login, Detail: map[string]string{"tokens": strconv.Itoa(n)}})
	_, err = s.cfg.Store.WebSessions.EndAll(ctx, u.ID) // they were opened by a code of what is gone
	return err
}

func (s *Server) newLink(ctx context.Context, by Caller, u store.User, change string) (string, time.Time, error) {
	ticket, expires, err := s.cfg.Engine.NewEnrolLink(ctx, u)
	if errors.Is(err, auth.ErrHasToken) {
		return "", time.Time{}, conflict("they add another one on their own pages; if theirs is lost, take it away with --reset", "%s has a token whose codes are accepted", u.Login)
	}
	if err != nil {
		return "", time.Time{}, err
	}
	s.changed(ctx, by, change, audit.Event{User: u.Login, Detail: map[string]string{"expires": expires.Format(time.RFC3339)}})
	return s.cfg.URL + auth.EnrolPath(ticket), expires, nil
}

// sendEnrolments mails a link to each person that in names. It goes on after one for whom it cannot be done, and says why.
func (s *Server) sendEnrolments(ctx context.Context, by Caller, in SendEnrolments) ([]SentEnrolment, error) {
	if !s.cfg.Mail {
		return nil, conflict("configure mail:, or give out a link yourself: sallyport user enrol-link", "no mail is sent here")
	}
	people, err := s.enrolees(ctx, in)
	if err != nil {
		return nil, err
	}
	var out []SentEnrolment
	sent := false
	for _, u := range people {
		err := s.sendEnrolment(ctx, by, u)
		var p *Problem
		switch {
		case err == nil:
			out, sent = append(out, SentEnrolment{Login: u.Login, Sent: true}), true
		case errors.As(err, &p) && p.Status != http.StatusServiceUnavailable:
			out = append(out, SentEnrolment{Login: u.Login, Reason: p.Detail})
		default:
			return out, err
		}
	}
	if sent {
		_ = s.cfg.Store.Bus.Publish(ctx, store.TopicOutbox, "") // else they leave a little later
	}
	return out, nil
}

// enrolees are the people whom in names: by login, by group, or all without a usable token.
func (s *Server) enrolees(ctx context.Context, in SendEnrolments) ([]store.User, error) {
	if (len(in.Logins) > 0) == (in.Group != "" || in.AllWithoutToken) || in.Group != "" && in.AllWithoutToken {
		return nil, invalid("name people, or a group, or all without a token", "it is not clear whom to send a link to")
	}
	var people []store.User
	for _, login := range tidy(in.Logins) {
		u, err := s.user(ctx, login)
		if err != nil {
			return nil, err
		}
		people = append(people, u)
	}
	if len(in.Logins) > 0 {
		return people, nil
	}
	all, err := s.cfg.Store.Users.List(ctx, store.UserFilter{})
	if err != nil {
		return nil, err
	}
	for _, u := range all {
		if u.LockedNow(s.cfg.Now()) || in.Group != "" && !slices.Contains(u.Groups, in.Group) {
			continue
		}
		if in.AllWithoutToken && u.Tokens > 0 {
			continue
		}
		people = append(people, u)
	}
	return people, nil
}

func (s *Server) sendEnrolment(ctx context.Context, by Caller, u store.User) error {
	if err := s.canEnrol(u); err != nil {
		return err
	}
	if _, _, err := notify.ParseAddress(u.Email); err != nil {
		return conflict("set it: sallyport user contact "+u.Login+" --email …", "%s has no e-mail address on file", u.Login)
	}
	url, expires, err := s.newLink(ctx, by, u, "user.send-enrolment")
	if err != nil {
		return err
	}
	m := store.OutMessage{Channel: store.ByMail, Kind: store.KindEnrolment, User: u.Login, Recipient: u.Email, Expires: expires}
	m.Subject, m.Text = notify.EnrolmentMessage(s.cfg.Name, u.Login, url, expires)
	err = s.cfg.Store.Outbox.Add(ctx, m)
	if errors.Is(err, store.ErrOutboxFull) {
		return conflict("look why they wait: sallyport outbox list", "too many messages wait already")
	}
	return err
}

// approveToken lets the codes of a token be accepted that a person has enrolled.
func (s *Server) approveToken(ctx context.Context, by Caller, login, ref string) (store.Token, error) {
	u, t, err := s.token(ctx, login, ref)
	if err != nil {
		return t, err
	}
	if u.ID == by.UserID {
		return t, conflict("let another administrator do it", "you cannot approve your own token")
	}
	err = s.cfg.Store.Tokens.Approve(ctx, t.ID)
	if errors.Is(err, store.ErrNotFound) {
		return t, conflict("see: sallyport token list "+u.Login, "this token does not wait for approval")
	}
	if err != nil {
		return t, err
	}
	s.changedToken(ctx, by, u, "token.approve", t, nil)
	return s.cfg.Store.Tokens.Get(ctx, t.ID)
}

// waitingTokens are those that wait for approval, oldest first.
func (s *Server) waitingTokens(ctx context.Context) ([]WaitingToken, error) {
	list, err := s.cfg.Store.Tokens.Waiting(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]WaitingToken, 0, len(list))
	for _, t := range list {
		u, err := s.cfg.Store.Users.ByID(ctx, t.UserID)
		if errors.Is(err, store.ErrNotFound) {
			continue // deleted just now
		}
		if err != nil {
			return nil, err
		}
		out = append(out, WaitingToken{User: u.Login, Token: s.wireToken(t)})
	}
	return out, nil
}

// grantWithoutToken gives a person all logins without a code anew.
func (s *Server) grantWithoutToken(ctx context.Context, by Caller, login string) (store.User, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return u, err
	}
	switch {
	case s.cfg.WithoutToken <= 0:
		return u, conflict("set otp: without-token: logins", "nobody may log in without a code here")
	case u.Tokens > 0:
		return u, conflict("make a link instead: sallyport user enrol-link --reset", "%s has a token", u.Login)
	}
	if err := s.cfg.Store.Users.GrantFree(ctx, u.ID); err != nil {
		return u, err
	}
	s.changed(ctx, by, "user.without-token", audit.Event{User: u.Login, Detail: map[string]string{"logins": strconv.Itoa(s.cfg.WithoutToken)}})
	return s.cfg.Store.Users.ByID(ctx, u.ID)
}
