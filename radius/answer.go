package radius

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/audit"
	"sallyport/auth"
	"sallyport/identity"
	"sallyport/policy"
	"sallyport/store"
)

// What people read. One Reply-Message of ASCII, since some clients take no more.
const (
	textChallenge = "Code: "
	textRefused   = "Permission denied."
)

// Causes of a refusal of this door.
var (
	errState  = errors.New("State is not known here, or used, or expired, or was made for another client, person or station")
	errMethod = errors.New("the request has no User-Password, nor anything else that this client may send")
)

// answer works on a request and returns what is sent back; nil: nothing.
func (s *Server) answer(c *client, r *request, d datagram) []byte {
	// What was begun is ended, also while this stops: a code may have been used up.
	code, attributes, err := s.together(context.WithoutCancel(s.ctx), c, r, d)
	now := s.cfg.Now()
	switch {
	case errors.Is(err, auth.ErrUnavailable), errors.Is(err, store.ErrUnavailable):
		s.counts.add(c.ID, countAway, audit.Escape(err.Error()), now)
		return nil // the client asks another server
	case errors.Is(err, errInWork):
		return nil
	case errors.Is(err, errSecret):
		s.counts.add(c.ID, countSecret, d.from.String(), now)
		s.cfg.Log.Warn("a RADIUS client sends a password that nobody can type: its shared secret is probably wrong", "client", c.Name, "from", d.from.String())
		return nil
	case errors.Is(err, errMalformed):
		s.counts.add(c.ID, countMalformed, audit.Escape(err.Error()), now)
		return nil
	case err != nil:
		s.counts.add(c.ID, countPanic, d.from.String(), now)
		s.cfg.Log.Error("judging a RADIUS request, which is not answered", "client", c.Name, "from", d.from.String(), "error", err)
		return nil
	}
	what := map[codec.Code]string{codec.CodeAccessAccept: countAccept, codec.CodeAccessReject: countReject, codec.CodeAccessChallenge: countChallenge}[code]
	s.counts.add(c.ID, what, audit.Escape(rfc2865.UserName_GetString(r.Packet)), now)
	reply, err := r.answer(code, c.SendsAuthenticator, attributes)
	if err != nil {
		s.cfg.Log.Error("making a RADIUS answer", "client", c.Name, "error", err)
		return nil
	}
	return reply
}

var (
	errSecret    = errors.New("the password cannot be read")
	errMalformed = errors.New("malformed request")
	errInWork    = errors.New("another node works on the same request")
)

// access comes to a verdict on an Access-Request. An error is no verdict: nothing is answered.
func (s *Server) access(ctx context.Context, c *client, r *request, d datagram) (codec.Code, codec.Attributes, error) {
	code, attributes, err := s.verdict(ctx, c, r, d)
	if err != nil || r.ms == nil {
		return code, attributes, err
	}
	more, err := r.ms.attributes(code)
	return code, append(attributes, more...), err
}

func (s *Server) verdict(ctx context.Context, c *client, r *request, d datagram) (codec.Code, codec.Attributes, error) {
	login := rfc2865.UserName_GetString(r.Packet)
	if login == "" {
		return 0, nil, fmt.Errorf("%w: no User-Name", errMalformed)
	}
	a := s.attempt(c, r, d, login)
	answers, err := s.answers(c, r)
	switch {
	case errors.Is(err, errMethod):
		s.counts.add(c.ID, countMethod, d.from.String(), s.cfg.Now())
		return s.refuse(s.cfg.Engine.Begin(a).Refuse(ctx, err))
	case err != nil:
		return 0, nil, err
	}
	talk := s.cfg.Engine.Begin(a)
	var id *auth.Identity
	var pending *auth.Pending
	if answers.Both != nil {
		id, pending, err = s.step(ctx, r, c, talk, answers)
	} else {
		id, err = talk.RunAnswers(ctx, answers)
	}
	switch {
	case err != nil:
		return s.refuse(err)
	case pending != nil:
		return s.challenge(ctx, c, r, pending)
	}
	decision, err := talk.Decide(ctx, *id)
	if err != nil {
		return 0, nil, err
	}
	if !decision.Allow {
		return s.refuse(auth.ErrDenied)
	}
	if slices.Contains(id.Factors, "code") {
		s.counts.add(c.ID, countDrift, fmt.Sprintf("%+d", id.CodeAhead), s.cfg.Now())
	}
	reply := replyOf(decision.Reply, id.Login)
	if id.Notice != "" {
		reply.Add(rfc2865.ReplyMessage_Type, message(id.Notice))
	}
	return codec.CodeAccessAccept, reply, nil
}

// replyOf is what the rule wants the client to know.
func replyOf(list []policy.ReplyAttribute, login string) codec.Attributes {
	var out codec.Attributes
	for _, a := range list {
		value := a.Value
		if a.HasUser {
			value = bytes.ReplaceAll(value, []byte("{user}"), []byte(login))
			value = value[:min(len(value), 245)]
		}
		if a.Vendor == 0 {
			out.Add(codec.Type(a.Type), value)
			continue
		}
		v, err := codec.NewVendorSpecific(a.Vendor, append([]byte{a.Type, byte(len(value) + 2)}, value...)) // RFC 2865, section 5.26
		if err == nil {
			out.Add(rfc2865.VendorSpecific_Type, v)
		}
	}
	return out
}

// attempt is what is known before anything is evaluated.
func (s *Server) attempt(c *client, r *request, d datagram, login string) auth.Attempt {
	a := auth.Attempt{
		ID:   "radius " + c.ID + " " + station(r), // a code that was sent is good for the same person at the same place
		Door: audit.DoorRADIUS, Login: s.withoutSuffix(login), Target: c.Name, Client: c.Name, Channel: policy.RADIUS, Peer: c.Name, PeerID: c.ID,
		Detail: map[string]string{"nas": d.from.Addr().String(), "attributes": r.describe()},
	}
	if c.AssertsSource { // never the client's own address: that is not where the person is
		a.Source = r.addressIn(codec.Type(c.SourceAttribute))
	}
	return a
}

func (s *Server) withoutSuffix(login string) string {
	for _, suffix := range s.cfg.Suffixes {
		if at := len(login) - len(suffix) - 1; at > 0 && login[at] == '@' && strings.EqualFold(login[at+1:], suffix) {
			return login[:at]
		}
	}
	return login
}

// answers finds out what the person has typed.
func (s *Server) answers(c *client, r *request) (auth.Answers, error) {
	sent, ok := r.Lookup(rfc2865.UserPassword_Type)
	response, err := r.microsoft(msCHAP2Response)
	switch {
	case err != nil:
		return auth.Answers{}, err
	case ok && (response != nil || r.has(rfc2865.CHAPPassword_Type)), response != nil && r.has(rfc2865.CHAPPassword_Type): // RFC 2865, section 4.1
		return auth.Answers{}, fmt.Errorf("%w: more than one of User-Password, CHAP-Password and MS-CHAP2-Response", errMalformed)
	case response != nil && c.LegacyMSCHAPv2 && c.Mode == store.RadiusCode:
		if r.ms, err = r.msCHAP(); err != nil {
			return auth.Answers{}, err
		}
		return auth.Answers{Elsewhere: true, Matches: r.ms.matches}, nil
	case !ok && c.CHAP && c.Mode == store.RadiusCode && r.has(rfc2865.CHAPPassword_Type):
		matches, err := r.chap()
		return auth.Answers{Elsewhere: true, Matches: matches}, err
	case !ok:
		return auth.Answers{}, errMethod
	}
	typed, err := codec.UserPassword(sent, r.Secret, r.Authenticator[:])
	switch {
	case err != nil:
		return auth.Answers{}, fmt.Errorf("%w: User-Password: %w", errMalformed, err)
	case r.authenticator == 0 && !printable(typed):
		return auth.Answers{}, errSecret // RFC 2865, section 5.2: a wrong secret shows as this, and as nothing else
	}
	remember := auth.Answers{Remember: c.Remember, Station: station(r)}
	switch c.Mode {
	case store.RadiusCode:
		return auth.Answers{Elsewhere: true, Code: string(typed)}, nil
	case store.RadiusPasswordCode:
		remember.Joined, remember.Separator = identity.Password(typed), c.Separator
		return remember, nil
	}
	remember.Both = &auth.Both{Password: identity.Password(typed)} // or the code, if there is a State
	return remember, nil
}

// chap is what tells whether the person has typed a code (RFC 2865, section 5.3).
func (r *request) chap() (matches func(code string) bool, err error) {
	sent := r.Get(rfc2865.CHAPPassword_Type)
	if len(sent) != 1+md5.Size {
		return nil, fmt.Errorf("%w: CHAP-Password has %d octets", errMalformed, len(sent))
	}
	challenge, ok := r.Lookup(rfc2865.CHAPChallenge_Type)
	if !ok {
		challenge = r.Authenticator[:]
	}
	return func(code string) bool {
		sum := md5.Sum(slices.Concat(sent[:1], []byte(code), challenge))
		return subtle.ConstantTimeCompare(sum[:], sent[1:]) == 1
	}, nil
}

// station is Calling-Station-Id, in a form that any database takes; "" if there is none.
func station(r *request) string {
	if s := rfc2865.CallingStationID_GetString(r.Packet); s != "" {
		return strconv.Quote(s)
	}
	return ""
}

// refuse is one answer for everything that was refused. What could not be judged is not answered. Only who has proved a
// password, and has to set up a token, reads something else.
func (s *Server) refuse(err error) (codec.Code, codec.Attributes, error) {
	text := textRefused
	var refused *auth.Refused
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return 0, nil, err
	case errors.As(err, &refused):
		text = refused.Public
	case !errors.Is(err, auth.ErrDenied):
		return 0, nil, err // something is wrong here, and not with the person
	}
	return codec.CodeAccessReject, codec.Attributes{{Type: rfc2865.ReplyMessage_Type, Attribute: message(text)}}, nil
}

// message is a text as an attribute takes it.
func message(text string) codec.Attribute {
	return codec.Attribute(text[:min(len(text), 253)])
}
