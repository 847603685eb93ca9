package radius

import (
	"context"
	"errors"
	"strconv"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"sallyport/auth"
	"sallyport/store"
)

// step goes on with a conversation of a client that asks for the code by a challenge. Without State it begins with the
// password. With a Pending the person is to be asked for the code.
func (s *Server) step(ctx context.Context, r *request, c *client, talk *auth.Conversation, in auth.Answers) (*auth.Identity, *auth.Pending, error) {
	state, answered := r.Lookup(rfc2865.State_Type)
	if !answered {
		return talk.RunPassword(ctx, in)
	}
	in.Code, in.Both = string(in.Both.Password), nil
	before, err := s.cfg.Store.RadiusStates.Take(ctx, state, c.ID, strconv.Quote(rfc2865.UserName_GetString(r.Packet)), station(r))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil, talk.Refuse(ctx, errState)
	case err != nil:
		return nil, nil, err
	}
	pending, err := auth.PendingOf(before.Password)
	if err != nil {
		return nil, nil, err
	}
	return talk.RunCode(ctx, pending, in)
}

// challenge asks for the code: everybody, whether the password is right, or there is such a person, or not.
func (s *Server) challenge(ctx context.Context, c *client, r *request, p *auth.Pending) (codec.Code, codec.Attributes, error) {
	state, err := s.cfg.Store.RadiusStates.Issue(ctx, store.RadiusState{
		ClientID: c.ID, Login: strconv.Quote(rfc2865.UserName_GetString(r.Packet)), Station: station(r), Password: p.Secret(),
	})
	if err != nil {
		return 0, nil, err
	}
	return codec.CodeAccessChallenge, codec.Attributes{
		{Type: rfc2865.State_Type, Attribute: state},
		{Type: rfc2865.ReplyMessage_Type, Attribute: codec.Attribute(textChallenge)},
		{Type: rfc2869.Prompt_Type, Attribute: codec.NewInteger(uint32(rfc2869.Prompt_Value_NoEcho))},
	}, nil
}
