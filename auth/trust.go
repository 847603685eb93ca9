package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sallyport/audit"
	"sallyport/policy"
	"sallyport/store"
)

// Trusted is a remembered code that stood in for one, or was written after one.
type Trusted struct {
	ID        string
	CodeAt    time.Time // when the code was accepted
	Assurance string    // store.FromToken or store.FromSent
	Until     time.Time // the rule that was asked lets it live until then, if it is used no more
	Uses      int       // logins it has spared the code so far, this one included
	MaxUses   int       // by that rule; 0: not counted

	spared bool           // it stood in for the code of this login
	found  policy.Granted // as it was then
	at     time.Time      // when
}

// errGrantGone: a remembered code was used up or revoked while the first factor was looked at.
var errGrantGone = errors.New("the remembered code is no longer there")

// grantTries is how often a login looks again at a grant that others use at the same moment.
const grantTries = 100

// recall looks for a remembered code that stands in for the one that is needed. On any doubt one is asked for, and
// inside of another connection: what was remembered has counted for that one.
func (c *Conversation) recall(ctx context.Context, k *known) {
	s := k.subject
	if !k.needCode || s.err != nil || c.a.Door != audit.DoorSSH || c.outer != nil {
		return
	}
	k.remembers = c.remembering(ctx, k)
	if len(k.remembers) == 0 || s.user == nil {
		return
	}
	key, err := c.grantKey(ctx, s, s.user.ID)
	if err != nil {
		return
	}
	g, err := c.e.cfg.Store.Grants.Find(ctx, key)
	if err != nil {
		return
	}
	if c.spares(ctx, k, g) {
		k.grant, k.needCode = &g, false
	}
}

// remembering gives what the rules decide for the target named, or for all that the person may reach if none
// was, as far as they remember codes.
func (c *Conversation) remembering(ctx context.Context, k *known) []Decision {
	keep := func(d Decision) bool {
		return d.Allow && d.Trust != nil && d.Code.Kind != policy.CodeNone && !d.Code.Fresh
	}
	if c.a.Target != "" {
		if k.decision != nil && keep(*k.decision) {
			return []Decision{*k.decision}
		}
		return nil
	}
	reach, err := c.e.reach(ctx, person{login: k.subject.login, groups: k.subject.groups()}, c.a.Source, c.e.cfg.Now())
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(reach, func(d Decision) bool { return !keep(d) })
}

// spares tells whether g stands in for a code now. Without a target it is enough that one of those in reach takes
// it: [Engine.Authorize] is asked again for each.
func (c *Conversation) spares(ctx context.Context, k *known, g store.Grant) bool {
	doc, _, err := c.e.Rules(ctx)
	if err != nil || doc.RuleHash(g.Rule) != g.RuleHash {
		return false // the rule that let it be written says something else now
	}
	now := c.e.cfg.Now()
	return slices.ContainsFunc(k.remembers, func(d Decision) bool {
		if c.key == "" && !d.Trust.Covers(c.a.Source) {
			return false // a password is easily taken along
		}
		if d.TokenOnly && g.Assurance != store.FromToken {
			return false
		}
		return takes(d, granted(g), now, now)
	})
}

// takes tells whether d takes a remembered code that was looked at at some time, now.
func takes(d Decision, g policy.Granted, at, now time.Time) bool {
	ok, _ := d.Trust.Spares(g, d.Target.Name, at)
	return ok && !d.Code.Fresh && (d.Code.Kind != policy.CodeYoungerThan || now.Sub(g.CodeAt) <= d.Code.YoungerThan)
}

func granted(g store.Grant) policy.Granted {
	return policy.Granted{CodeAt: g.CodeAt, LastUsed: g.LastUsed, Uses: g.Uses, Targets: g.Targets}
}

// grantKey is what has to be proved again for a code to be spared: who, through which door, from where, by which
// first factor, with which client. With another password, at the directory or here, it is another key.
func (c *Conversation) grantKey(ctx context.Context, s subject, userID string) (store.GrantKey, error) {
	mark := ""
	if s.person != nil {
		mark = s.person.PasswordChanged
	} else {
		hash, err := c.e.cfg.Store.Users.PasswordHash(ctx, userID)
		if err != nil {
			return store.GrantKey{}, err
		}
		mark = hash
	}
	sum := sha256.Sum256([]byte(mark))
	first := "password"
	if c.key != "" {
		first = "key " + c.key
	}
	return store.GrantKey{
		UserID: userID, Door: c.a.Door, Network: c.e.network(c.a.Source), Evidence: first + " " + hex.EncodeToString(sum[:8]),
		Client: audit.Escape(c.a.Client[:min(len(c.a.Client), 255)]),
	}, nil
}

// network is the place from which a remembered code counts.
func (e *Engine) network(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := e.cfg.TrustIPv6
	if a.Is4() {
		bits = e.cfg.TrustIPv4
	}
	p, err := a.Prefix(bits)
	if err != nil || p.IsSingleIP() {
		return a.String()
	}
	return p.String()
}

// spare makes the grant that was found part of the verdict.
func (c *Conversation) spare(k *known, v *verdict) {
	g := *k.grant
	v.Use = &store.GrantUse{ID: g.ID, Uses: g.Uses, CodeAt: g.CodeAt, Source: c.a.Source.Unmap(), Target: c.targetName(k), Known: g.Targets}
	v.id.Factors = append(v.id.Factors, "remembered-code")
	t := c.trusted(k, g.ID, g.Assurance, granted(g))
	t.spared, t.Uses = true, g.Uses+1
	v.id.Trusted = t
}

// targetName is the target named, as the inventory calls it.
func (c *Conversation) targetName(k *known) string {
	if k.target == nil {
		return ""
	}
	return k.target.Name
}

// trusted says how long what is remembered lives: by the most generous of the rules that were asked.
func (c *Conversation) trusted(k *known, id, assurance string, g policy.Granted) *Trusted {
	now := c.e.cfg.Now()
	t := &Trusted{ID: id, CodeAt: g.CodeAt, Assurance: assurance, Uses: g.Uses, found: g, at: now}
	for _, d := range k.remembers {
		if until, _ := d.Trust.Left(g, now); until.After(t.Until) {
			t.Until, t.MaxUses = until, d.Trust.Uses
		}
	}
	return t
}

// lookAgain finds the grant as it is after somebody else has used it. It is false if it is worth nothing now.
func (c *Conversation) lookAgain(ctx context.Context, k *known, v *verdict) bool {
	g, err := c.e.cfg.Store.Grants.Find(ctx, k.grant.GrantKey)
	if err != nil || !c.spares(ctx, k, g) {
		return false
	}
	k.grant, v.id.Factors = &g, v.id.Factors[:len(v.id.Factors)-1]
	c.spare(k, v)
	return true
}

// keep lets a code that was typed be remembered where a rule says so. Codes that stand for a lost token are
// not: they are for once.
func (c *Conversation) keep(ctx context.Context, k *known, v *verdict) error {
	assurance := store.FromToken
	if v.id.onlySent() {
		assurance = store.FromSent
	}
	if k.subject.err != nil || assurance == store.FromToken && !slices.Contains(v.id.Factors, "code") {
		return nil
	}
	list := k.remembers
	if assurance == store.FromSent {
		list = slices.DeleteFunc(slices.Clone(list), func(d Decision) bool { return d.TokenOnly })
	}
	if c.key == "" { // after a password only where the rule also spares it
		list = slices.DeleteFunc(slices.Clone(list), func(d Decision) bool { return !d.Trust.Covers(c.a.Source) })
	}
	if len(list) == 0 {
		return nil
	}
	best := slices.MaxFunc(list, func(a, b Decision) int { return int(a.Trust.Longest() - b.Trust.Longest()) })
	doc, _, err := c.e.Rules(ctx)
	if err != nil {
		return err
	}
	key, err := c.grantKey(ctx, k.subject, v.UserID)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	now := c.e.cfg.Now()
	v.Remember = &store.Grant{GrantKey: key, Source: c.a.Source.Unmap(), Assurance: assurance, Rule: best.Rule,
		RuleHash: doc.RuleHash(best.Rule), Expires: now.Add(best.Trust.Longest())}
	if name := c.targetName(k); name != "" {
		v.Remember.Targets = []string{name}
	}
	v.id.Trusted = c.trusted(&known{remembers: list}, "", assurance, policy.Granted{CodeAt: now, LastUsed: now})
	return nil
}

// Forget ends all that is remembered of a person's codes and tells how much that was.
func (e *Engine) Forget(ctx context.Context, id Identity) (int, error) {
	n, err := e.cfg.Store.Grants.RevokeAll(ctx, id.UserID)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return n, e.cfg.Audit.Emit(ctx, audit.Event{
		Type: audit.GrantsRevoked, Result: audit.OK, Door: id.Door, User: id.Login, Source: id.Source.String(),
		Reason: "by the person", Detail: map[string]string{"grants": fmt.Sprint(n)},
	})
}

// takesRemembered tells whether the code that was remembered for this connection is good for d too, and
// notes the target with it.
func (e *Engine) takesRemembered(ctx context.Context, d Decision, id Identity, now time.Time, note bool) (bool, error) {
	t := id.Trusted
	if t == nil || !t.spared || d.Trust == nil || d.TokenOnly && t.Assurance != store.FromToken || !takes(d, t.found, t.at, now) {
		return false, nil
	}
	err := e.cfg.Store.Grants.Take(ctx, t.ID, d.Target.Name, d.Trust.Targets, note)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil // revoked meanwhile, or used for as many targets as it may
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return true, nil
}
