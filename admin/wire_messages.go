package admin

import (
	"time"

	"sallyport/store"
)

// OutboxMessage is a mail or short message, without what is in it.
type OutboxMessage struct {
	ID        string     `json:"id"`
	Channel   string     `json:"channel" enum:"mail,sms"`
	Kind      string     `json:"kind" doc:"code, or the event that it tells of"`
	User      string     `json:"user" doc:"login of the person it is about; may be empty"`
	Recipient string     `json:"recipient"`
	State     string     `json:"state" enum:"waiting,sent,failed" doc:"failed: given up"`
	Tries     int        `json:"tries"`
	Error     string     `json:"error" doc:"why the last try failed"`
	Created   *time.Time `json:"created"`
	Due       *time.Time `json:"due" doc:"when it is tried again; null unless it waits"`
	Done      *time.Time `json:"done" doc:"when it was sent or given up"`
}

// NewContact changes where a user's messages and codes go. What is absent stays as it is.
type NewContact struct {
	Email  *string `json:"email,omitempty" maxLength:"255" doc:"of a local user; empty: none"`
	Phone  *string `json:"phone,omitempty" maxLength:"40" doc:"of a local user, such as +49 151 12345678; empty: none"`
	CodeBy *string `json:"code_by,omitempty" maxLength:"10" doc:"how one-time codes are sent while the user has no token: mail, sms or off; empty: as the configuration says"`
}

func wireMessage(m store.OutMessage) OutboxMessage {
	w := OutboxMessage{
		ID: m.ID, Channel: m.Channel, Kind: m.Kind, User: m.User, Recipient: m.Recipient, State: m.State, Tries: m.Tries, Error: m.Error,
		Created: timeOf(m.Created), Done: timeOf(m.Done),
	}
	if m.State == store.MessageWaiting {
		w.Due = timeOf(m.Due)
	}
	return w
}
