package radius

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"sallyport/store"
)

// A request may come to another node than the one that works on it, or has answered it: a balancer sends what is repeated
// elsewhere, an address moves, a VPN server asks its second server because the answer of the first was lost. Judged twice,
// a right code would be refused as used. So nodes tell each other, by the database, what they answer.
const (
	nodesEvery  = 5 * time.Second // how often it is looked whether there are others
	verdictWait = 4 * time.Second // for the verdict of another node
	verdictLook = 40 * time.Millisecond
)

// verdictOf is what is kept of an answer. The answer itself is made anew, for whoever asks.
type verdictOf struct {
	Code       codec.Code
	Attributes []attributeOf
}

type attributeOf struct {
	Type  codec.Type
	Value []byte
}

// together is access, judged by one node for all that are asked the same.
func (s *Server) together(ctx context.Context, c *client, r *request, d datagram) (code codec.Code, attributes codec.Attributes, err error) {
	if !s.several.Load() {
		return s.access(ctx, c, r, d)
	}
	verdicts, digest := s.cfg.Store.RadiusVerdicts, s.digest(c, r)
	owner, known, err := verdicts.Claim(ctx, digest)
	for end := time.Now().Add(verdictWait); err == nil && owner == "" && known == nil && time.Now().Before(end); {
		time.Sleep(verdictLook)
		known, err = verdicts.Find(ctx, digest)
	}
	switch {
	case err != nil:
		return 0, nil, err
	case owner == "":
		s.counts.add(c.ID, countRetransmit, d.from.String(), s.cfg.Now())
		return readVerdict(known)
	}
	settled := false
	defer func() { // also when something panics
		if !settled {
			_ = verdicts.Release(ctx, digest, owner) // else it ends by time
		}
	}()
	if code, attributes, err = s.access(ctx, c, r, d); err != nil {
		return code, attributes, err
	}
	kept, err := writeVerdict(code, attributes)
	if err == nil {
		err = verdicts.Settle(ctx, digest, owner, kept)
	}
	if settled = true; err != nil { // this client is answered all the same: the verdict has fallen
		s.cfg.Log.Warn("telling other nodes what was answered to a RADIUS request; one that is asked the same refuses", "client", c.Name, "error", err)
	}
	return code, attributes, nil
}

// digest is by what a request is known that comes to another node: the whole packet, whose authenticator is random, so
// that it is the same request; or that it answers the same challenge in the same way, whose State is random and known to
// the client alone. Somebody else's request, with the same code, has another one.
func (s *Server) digest(c *client, r *request) string {
	parts := []string{"packet", c.ID, string(r.raw)}
	if state, ok := r.Lookup(rfc2865.State_Type); ok && c.Mode == store.RadiusChallenge {
		if sent, ok := r.Lookup(rfc2865.UserPassword_Type); ok {
			if typed, err := codec.UserPassword(sent, r.Secret, r.Authenticator[:]); err == nil {
				parts = []string{"answer", c.ID, string(state), rfc2865.UserName_GetString(r.Packet), station(r), string(typed)}
			}
		}
	}
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%s:%s", strconv.Itoa(len(p)), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func writeVerdict(code codec.Code, attributes codec.Attributes) ([]byte, error) {
	v := verdictOf{Code: code}
	for _, a := range attributes {
		v.Attributes = append(v.Attributes, attributeOf{a.Type, a.Attribute})
	}
	return json.Marshal(v)
}

// readVerdict reads what [writeVerdict] wrote. Without a verdict nothing is answered, as while this node itself works on
// a request that is repeated.
func readVerdict(kept []byte) (codec.Code, codec.Attributes, error) {
	if kept == nil {
		return 0, nil, errInWork
	}
	var v verdictOf
	if err := json.Unmarshal(kept, &v); err != nil {
		return 0, nil, fmt.Errorf("reading the verdict of another node: %w", err)
	}
	var attributes codec.Attributes
	for _, a := range v.Attributes {
		attributes.Add(a.Type, a.Value)
	}
	return v.Code, attributes, nil
}

// watchNodes keeps count of whether there are other nodes. Until that is known there are.
func (s *Server) watchNodes() {
	tick := time.NewTicker(nodesEvery)
	defer tick.Stop()
	for {
		if several, err := s.cfg.Store.Sessions.Several(s.ctx); err == nil {
			s.several.Store(several)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
	}
}
